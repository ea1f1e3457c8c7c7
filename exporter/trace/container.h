/* container.h - which container a process runs in, from what its runtime left in /proc. */
#ifndef OTSHIM_EXPORTER_CONTAINER_H
#define OTSHIM_EXPORTER_CONTAINER_H

#include <stdbool.h>
#include <stdio.h>

#define CONTAINER_ID_TEXT 65

/* 64 hexadecimal digits; false: in none, or unknown. */
bool container_id_from_cgroup(FILE *cgroup, char out[CONTAINER_ID_TEXT]);
bool container_id_from_mountinfo(FILE *mountinfo, char out[CONTAINER_ID_TEXT]);
bool container_id(int pid, char out[CONTAINER_ID_TEXT]);

#endif
