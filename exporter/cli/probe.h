/* probe.h - is somebody listening on an exporter's socket? */
#ifndef OTSHIM_EXPORTER_PROBE_H
#define OTSHIM_EXPORTER_PROBE_H

/* 0: yes; -ENOENT: there is no such file; -ECONNREFUSED: nobody listens; -EACCES; ... The connection is closed without a word, which an
 * exporter takes as what it is. */
int probe_socket(const char *path);

#endif
