/* modules.h - which file lies where in a process: the executable mappings of /proc/PID/maps, copied while it lives. */
#ifndef OTSHIM_EXPORTER_MODULES_H
#define OTSHIM_EXPORTER_MODULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MODULES_MAX 512 /* executable mappings of files, a process */

struct module {
    uint64_t start, end; /* addresses in the process */
    uint64_t offset;     /* of start, in the file */
    uint64_t inode;
    char device[16]; /* as in maps, "fd:01": with the inode a name for the file */
    char *path;      /* in the process's mount namespace, without " (deleted)" */
    bool is_main;    /* the executable */
    bool is_system;  /* a library of the system's directories */
};

struct modules {
    struct module *list; /* by address */
    size_t count;
    bool same_mounts; /* the process sees our file system */
};

/* Replaces *modules by what the process has now; false (and *modules as it was) when that cannot be read. */
bool modules_read(struct modules *modules, pid_t pid);
void modules_free(struct modules *modules);
const struct module *modules_find(const struct modules *modules, uint64_t address);

/* The file behind a module, for reading, or -1: the very file if the kernel allows (map_files), else by its path. */
int modules_open(const struct modules *modules, const struct module *module, pid_t pid, bool alive);

#endif
