/* memory.c - see memory.h. */
#include "ingest/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

int memory_identify(struct memory *memory, int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return -errno;
    memory->device = st.st_dev;
    memory->inode = st.st_ino;
    return 0;
}

/* [off, off + len) inside [0, bytes), behind the header page's fields, aligned. Written so that nothing can overflow. */
static int memory_area_ok(uint64_t off, uint64_t len, uint64_t bytes, uint64_t align)
{
    return off >= sizeof(struct otshim_shm) && off % align == 0 && off <= bytes && len <= bytes - off;
}

const char *memory_check_layout(const struct otshim_shm *layout, uint64_t bytes)
{
    uint64_t inflight_bytes = (uint64_t)layout->inflight_slots * sizeof(struct otshim_inflight);

    if (layout->magic != OTSHIM_SHM_MAGIC)
        return "its memory does not begin with the magic number";
    if (layout->abi_version != OTSHIM_ABI_VERSION)
        return "its memory is of another version";
    if (layout->total_bytes != bytes)
        return "its memory is not as large as it says";
    if (layout->inflight_slots > OTSHIM_INFLIGHT_SLOTS)
        return "it has too many in-flight slots";
    if (!memory_area_ok(layout->inflight_off, inflight_bytes, bytes, 8))
        return "its in-flight table lies outside its memory";
    if (layout->data_bytes < OTSHIM_RING_MIN_BYTES || layout->data_bytes > OTSHIM_RING_MAX_BYTES ||
        (layout->data_bytes & (layout->data_bytes - 1)) != 0)
        return "its data area has an impossible size";
    if (!memory_area_ok(layout->data_off, layout->data_bytes, bytes, 8))
        return "its data area lies outside its memory";
    /* Tails would be written into the table, heads read from payloads: nothing dangerous, but nothing that means anything. */
    if (layout->inflight_off < layout->data_off + layout->data_bytes && layout->data_off < layout->inflight_off + inflight_bytes)
        return "its in-flight table overlaps its data area";
    return NULL;
}

/* A sealed file of the kernel's own shmem. F_GET_SEALS also works on hugetlbfs, whose pages can be missing at the first touch (SIGBUS). */
static const char *memory_check_file(int fd, uint64_t *bytes)
{
    struct statfs fs;
    struct stat st;
    int seals;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || fstatfs(fd, &fs) != 0 || fs.f_type != TMPFS_MAGIC)
        return "it did not send a memfd";
    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
        return "its memfd is not sealed against shrinking and growing";
    if (st.st_size < (off_t)(sizeof(struct otshim_shm) + OTSHIM_RING_MIN_BYTES) ||
        st.st_size > (off_t)OTSHIM_RING_MAX_BYTES + 16 * 1024 * 1024)
        return "its memory has an impossible size";
    *bytes = (uint64_t)st.st_size;
    return NULL;
}

int memory_map(struct memory *memory, int fd, const char **why)
{
    struct otshim_shm layout;
    uint64_t bytes = 0;
    void *map;
    int error = memory_identify(memory, fd);

    if (error != 0) {
        *why = "its descriptor cannot be looked at";
        return error;
    }
    *why = memory_check_file(fd, &bytes);
    if (*why != NULL)
        return -EINVAL;
    map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        *why = errno == EPERM ? "its memfd is sealed against writing" : "its memory cannot be mapped";
        return -errno;
    }
    memcpy(&layout, map, sizeof layout);
    *why = memory_check_layout(&layout, bytes);
    if (*why != NULL) {
        munmap(map, bytes);
        return -EINVAL;
    }
    memory->shm = map;
    memory->bytes = bytes;
    memory->inflight = (const struct otshim_inflight *)((const char *)map + layout.inflight_off);
    memory->inflight_slots = layout.inflight_slots;
    memory->data = (const uint8_t *)map + layout.data_off;
    memory->data_bytes = layout.data_bytes;
    return 0;
}

void memory_unmap(struct memory *memory)
{
    if (memory->shm != NULL)
        munmap(memory->shm, memory->bytes);
    memory->shm = NULL;
}
