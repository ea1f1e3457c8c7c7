/* container.c - see container.h.
 *
 * Docker, containerd, CRI-O and Podman name a container's cgroup after its id ("/docker/ID", "docker-ID.scope", "cri-containerd-ID.scope",
 * "crio-ID.scope", "libpod-ID.scope"). Seen from inside with a cgroup namespace of its own the path is only "/"; then the files that the
 * runtime mounts over /etc/hostname and the like come from a directory named after the container. */
#include "trace/container.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

#define ID_LEN (CONTAINER_ID_TEXT - 1)

/* The last run of exactly 64 lower-case hexadecimal digits. */
static bool find_id(const char *text, char out[CONTAINER_ID_TEXT])
{
    bool found = false;
    for (const char *p = text; *p != '\0';) {
        size_t run = strspn(p, "0123456789abcdef");
        if (run == ID_LEN && (p == text || !isalnum((unsigned char)p[-1])) && !isalnum((unsigned char)p[run])) {
            memcpy(out, p, ID_LEN);
            out[ID_LEN] = '\0';
            found = true;
        }
        p += run + (p[run] != '\0');
    }
    return found;
}

bool container_id_from_cgroup(FILE *cgroup, char out[CONTAINER_ID_TEXT])
{
    char line[PATH_MAX];
    while (fgets(line, sizeof line, cgroup) != NULL)
        if (find_id(line, out))
            return true;
    return false;
}

/* Fields: id, parent, device, root, mount point. A Kubernetes pod's hostname file belongs to its sandbox, which is no container of ours. */
bool container_id_from_mountinfo(FILE *mountinfo, char out[CONTAINER_ID_TEXT])
{
    char line[2 * PATH_MAX], root[PATH_MAX], point[PATH_MAX];
    while (fgets(line, sizeof line, mountinfo) != NULL) {
        if (sscanf(line, "%*s %*s %*s %4095s %4095s", root, point) != 2)
            continue;
        bool runtime_file =
            strcmp(point, "/etc/hostname") == 0 || strcmp(point, "/etc/hosts") == 0 || strcmp(point, "/etc/resolv.conf") == 0;
        if (runtime_file && strstr(root, "/sandboxes/") == NULL && find_id(root, out))
            return true;
    }
    return false;
}

static bool from_file(int pid, const char *name, bool (*read)(FILE *, char *), char out[CONTAINER_ID_TEXT])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    FILE *file = fopen(path, "re");
    bool found = file != NULL && read(file, out);
    if (file != NULL)
        fclose(file);
    return found;
}

bool container_id(int pid, char out[CONTAINER_ID_TEXT])
{
    return pid > 0 && (from_file(pid, "cgroup", container_id_from_cgroup, out) ||
                       from_file(pid, "mountinfo", container_id_from_mountinfo, out));
}
