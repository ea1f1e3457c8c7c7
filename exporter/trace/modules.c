/* modules.c - see modules.h. */
#include "trace/modules.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define BTRFS_SUPER_MAGIC 0x9123683e

static bool same_mounts(pid_t pid)
{
    char path[64], theirs[64], ours[64];
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)pid);
    ssize_t n = readlink(path, theirs, sizeof theirs), m = readlink("/proc/self/ns/mnt", ours, sizeof ours);
    return n > 0 && n == m && memcmp(theirs, ours, (size_t)n) == 0;
}

/* lib*.so* and ld-* below /lib, /usr/lib and their kin: what every program has, and nobody looks for in his own code. */
static bool is_system(const char *path)
{
    static const char *const directories[] = {"/lib/", "/lib32/", "/lib64/", "/libx32/"};
    const char *base = strrchr(path, '/'), *top = strncmp(path, "/usr/", 5) == 0 ? path + 4 : path;
    if (base == NULL || strstr(base, ".so") == NULL || (strncmp(base, "/lib", 4) != 0 && strncmp(base, "/ld", 3) != 0))
        return false;
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++)
        if (strncmp(top, directories[i], strlen(directories[i])) == 0)
            return true;
    return false;
}

static void cut_deleted(char *path)
{
    static const char suffix[] = " (deleted)";
    size_t len = strlen(path);
    if (len > sizeof suffix && strcmp(path + len - (sizeof suffix - 1), suffix) == 0)
        path[len - (sizeof suffix - 1)] = '\0';
}

static bool parse_line(char *line, struct module *out)
{
    char permissions[8];
    int path_at = 0;
    *out = (struct module){0};
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %15s %" SCNu64 " %n", &out->start, &out->end, permissions,
               &out->offset, out->device, &out->inode, &path_at) != 6 ||
        path_at == 0)
        return false;
    char *path = line + path_at;
    path[strcspn(path, "\n")] = '\0';
    if (permissions[2] != 'x' || path[0] != '/' || out->start >= out->end)
        return false;
    cut_deleted(path);
    out->path = strdup(path);
    out->is_system = is_system(path);
    return out->path != NULL;
}

static void mark_main(struct modules *modules, pid_t pid)
{
    char link[64], exe[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
    ssize_t n = readlink(link, exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    cut_deleted(exe);
    for (size_t i = 0; i < modules->count; i++) {
        struct module *module = &modules->list[i];
        module->is_main = strcmp(module->path, exe) == 0;
        module->is_system = module->is_system && !module->is_main;
    }
}

bool modules_read(struct modules *modules, pid_t pid)
{
    char path[64], line[PATH_MAX + 256];
    struct modules fresh = {0};
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = pid > 0 ? fopen(path, "re") : NULL;
    if (maps == NULL)
        return false;
    fresh.list = calloc(MODULES_MAX, sizeof *fresh.list);
    while (fresh.list != NULL && fresh.count < MODULES_MAX && fgets(line, sizeof line, maps) != NULL)
        fresh.count += parse_line(line, &fresh.list[fresh.count]);
    fclose(maps);
    if (fresh.count == 0) { /* it has ended, or we may not look */
        modules_free(&fresh);
        return false;
    }
    struct module *fitted = realloc(fresh.list, fresh.count * sizeof *fitted);
    if (fitted != NULL)
        fresh.list = fitted;
    mark_main(&fresh, pid);
    fresh.same_mounts = same_mounts(pid);
    modules_free(modules);
    *modules = fresh;
    return true;
}

void modules_free(struct modules *modules)
{
    for (size_t i = 0; i < modules->count; i++)
        free(modules->list[i].path);
    free(modules->list);
    *modules = (struct modules){0};
}

const struct module *modules_find(const struct modules *modules, uint64_t address)
{
    size_t low = 0, high = modules->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (modules->list[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < modules->count && modules->list[low].start <= address ? &modules->list[low] : NULL;
}

/* maps shows the inode of the layer below on these, so that a comparison says nothing. */
static bool inode_tells(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type != OVERLAYFS_SUPER_MAGIC && fs.f_type != BTRFS_SUPER_MAGIC;
}

/* O_NONBLOCK: the path may have become a FIFO. */
static int open_checked(const char *path, uint64_t inode)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_ino == inode || !inode_tells(fd)))
        return fd;
    close(fd); /* another file by now: an upgrade, a new build */
    return -1;
}

int modules_open(const struct modules *modules, const struct module *module, pid_t pid, bool alive)
{
    char path[PATH_MAX + 64];
    int fd = -1;
    if (alive && pid > 0) {
        snprintf(path, sizeof path, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid, module->start, module->end);
        fd = open_checked(path, module->inode);
        snprintf(path, sizeof path, "/proc/%d/root%s", (int)pid, module->path);
        if (fd < 0)
            fd = open_checked(path, module->inode);
        snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
        if (fd < 0 && module->is_main)
            fd = open_checked(path, module->inode);
    }
    return fd >= 0 || !modules->same_mounts ? fd : open_checked(module->path, module->inode);
}
