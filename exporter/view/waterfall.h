/* waterfall.h - a trace as a picture in the terminal: the tree on the left, time to scale on the right.
 *
 *     trace 4bf92f3577b34da6a3ce929d0e0e4736  1.24 s  5 spans, 2 services, 1 error
 *     app-a  GET /chain                              200  ██████████████████████████████  1.24 s
 *     app-a  ├─ GET http://app-b:8002/io_task        200   ██████████████▌                 620 ms
 *     app-b  │  └─ GET /io_task                      200   ▐█████████████▌                 610 ms
 *     app-a  └─ connect app-c:8003                    ✗                  ▐                 210 µs
 *               ✗ connection refused (ECONNREFUSED)
 *
 * Used by `otshim run`, `otshim trace` and the demo. */
#ifndef OTSHIM_EXPORTER_WATERFALL_H
#define OTSHIM_EXPORTER_WATERFALL_H

#include "view/forest.h"
#include "view/text.h"
#include <stdio.h>

struct waterfall_options {
    struct terminal terminal;
    int max_rows;    /* spans shown at most; 0: 200, and 50 of one parent */
    bool attributes; /* every attribute and event under its span */
};

void waterfall_print(FILE *out, const struct forest *forest, const struct waterfall_options *options);

#endif
