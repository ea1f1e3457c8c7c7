/* symbolize.c - see symbolize.h. Three memories, each bounded: processes (their modules), files, and answers for single addresses. */
#include "trace/symbolize.h"
#include "trace/elf_file.h"
#include "trace/modules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ANSWERS 4096

struct known_process {
    const void *key; /* NULL: free */
    struct modules modules;
    uint64_t used;    /* the larger, the later */
    time_t refreshed; /* CLOCK_MONOTONIC, seconds */
};

/* A file is known by where maps says that it is, so that it need not be opened to be recognised. */
struct known_file {
    struct elf_file *file; /* NULL in a used slot: not readable, or no ELF */
    char *path;            /* NULL: free */
    char device[16];
    uint64_t inode;
    uint32_t serial; /* never the same twice: answers of a file that was dropped are nobody's */
    uint64_t used;
    time_t failed; /* file NULL: when it was tried */
};

struct answer {
    uint32_t serial; /* 0: empty */
    int count;
    uint64_t offset, address;
    struct elf_frame *frames; /* count of them */
};

struct symbolizer {
    struct known_process processes[SYMBOLIZE_PROCESSES];
    struct known_file files[SYMBOLIZE_FILES];
    struct answer answers[ANSWERS];
    uint64_t clock;
    uint32_t serial;
    uint64_t budget_ns;
    time_t budget_second; /* CLOCK_MONOTONIC */
    uint64_t budget_used_ns;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static time_t now_seconds(void)
{
    return (time_t)(now_ns() / 1000000000u);
}

struct symbolizer *symbolizer_new(void)
{
    unsetenv("DEBUGINFOD_URLS"); /* elfutils would fetch debug information over the network, in our event loop */
    struct symbolizer *symbolizer = calloc(1, sizeof *symbolizer);
    if (symbolizer != NULL)
        symbolizer->budget_ns = SYMBOLIZE_BUDGET_NS;
    return symbolizer;
}

void symbolizer_set_budget(struct symbolizer *symbolizer, uint64_t ns)
{
    symbolizer->budget_ns = ns;
}

static void forget_file(struct known_file *known)
{
    if (known->file != NULL)
        elf_file_close(known->file);
    free(known->path);
    *known = (struct known_file){0};
}

void symbolizer_free(struct symbolizer *symbolizer)
{
    if (symbolizer == NULL)
        return;
    for (size_t i = 0; i < SYMBOLIZE_PROCESSES; i++)
        modules_free(&symbolizer->processes[i].modules);
    for (size_t i = 0; i < SYMBOLIZE_FILES; i++)
        forget_file(&symbolizer->files[i]);
    for (size_t i = 0; i < ANSWERS; i++)
        free(symbolizer->answers[i].frames);
    free(symbolizer);
}

/* ---- processes --------------------------------------------------------------------------------------------------------------------- */

static struct known_process *find_process(struct symbolizer *symbolizer, const void *key)
{
    for (size_t i = 0; i < SYMBOLIZE_PROCESSES; i++)
        if (symbolizer->processes[i].key == key)
            return &symbolizer->processes[i];
    return NULL;
}

/* A slot for a process: its own, a free one, or that of the one not asked about for longest. */
static struct known_process *process_slot(struct symbolizer *symbolizer, const void *key)
{
    struct known_process *found = find_process(symbolizer, key), *oldest = &symbolizer->processes[0];
    for (size_t i = 1; i < SYMBOLIZE_PROCESSES; i++)
        if (symbolizer->processes[i].used < oldest->used)
            oldest = &symbolizer->processes[i];
    if (found == NULL) {
        found = oldest;
        modules_free(&found->modules);
        *found = (struct known_process){.key = key};
    }
    found->used = ++symbolizer->clock;
    return found;
}

void symbolizer_seen(struct symbolizer *symbolizer, const void *key, pid_t pid)
{
    struct known_process *known = process_slot(symbolizer, key);
    modules_free(&known->modules); /* whatever was known under this key was another process */
    modules_read(&known->modules, pid);
    known->refreshed = now_seconds();
}

void symbolizer_gone(struct symbolizer *symbolizer, const void *key)
{
    struct known_process *known = find_process(symbolizer, key);
    if (known == NULL)
        return;
    modules_free(&known->modules);
    *known = (struct known_process){0};
}

/* The module of an address. One that is in none may have come by dlopen since: looked for once a second. */
static const struct module *module_of(struct known_process *known, uint64_t address, pid_t pid, bool alive)
{
    const struct module *module = modules_find(&known->modules, address);
    time_t now;
    if (module != NULL || !alive || pid <= 0 || (now = now_seconds()) == known->refreshed)
        return module;
    known->refreshed = now;
    modules_read(&known->modules, pid);
    return modules_find(&known->modules, address);
}

/* ---- files -------------------------------------------------------------------------------------------------------------------------- */

static bool is_file(const struct known_file *known, const struct module *module)
{
    return known->path != NULL && known->inode == module->inode && strcmp(known->device, module->device) == 0 &&
           strcmp(known->path, module->path) == 0;
}

static struct known_file *file_slot(struct symbolizer *symbolizer, const struct module *module)
{
    struct known_file *oldest = &symbolizer->files[0];
    for (size_t i = 0; i < SYMBOLIZE_FILES; i++) {
        struct known_file *known = &symbolizer->files[i];
        if (is_file(known, module)) {
            known->used = ++symbolizer->clock;
            return known;
        }
        if (known->used < oldest->used)
            oldest = known;
    }
    forget_file(oldest);
    oldest->path = strdup(module->path);
    oldest->inode = module->inode;
    memcpy(oldest->device, module->device, sizeof oldest->device);
    oldest->serial = ++symbolizer->serial != 0 ? symbolizer->serial : ++symbolizer->serial;
    oldest->used = ++symbolizer->clock;
    return oldest;
}

static struct known_file *file_of(struct symbolizer *symbolizer, const struct known_process *process, const struct module *module,
                                  pid_t pid, bool alive)
{
    struct known_file *known = file_slot(symbolizer, module);
    struct stat st;
    time_t now = now_seconds();
    if (known->file != NULL || (known->failed != 0 && known->failed + 10 > now))
        return known;
    known->failed = now;
    int fd = modules_open(&process->modules, module, pid, alive);
    if (fd >= 0 && (fstat(fd, &st) != 0 || st.st_size > SYMBOLIZE_FILE_MAX)) {
        close(fd);
        fd = -1;
    }
    if (fd >= 0)
        known->file = elf_file_open(fd, module->path);
    return known;
}

/* ---- answers -------------------------------------------------------------------------------------------------------------------------- */

static bool budget_left(struct symbolizer *symbolizer)
{
    time_t now = now_seconds();
    if (now != symbolizer->budget_second)
        symbolizer->budget_used_ns = 0;
    symbolizer->budget_second = now;
    return symbolizer->budget_used_ns < symbolizer->budget_ns;
}

/* NULL: no time for it. */
static const struct answer *answer_of(struct symbolizer *symbolizer, struct known_file *known, uint64_t offset)
{
    uint64_t hash = (offset ^ (uint64_t)known->serial << 40) * 0x9e3779b97f4a7c15ull;
    struct answer *answer = &symbolizer->answers[hash >> 32 & (ANSWERS - 1)];
    if (answer->serial == known->serial && answer->offset == offset)
        return answer;
    if (!budget_left(symbolizer))
        return NULL;
    struct elf_frame frames[ELF_FILE_FRAMES];
    uint64_t start = now_ns();
    free(answer->frames);
    *answer = (struct answer){.serial = known->serial, .offset = offset};
    answer->count = elf_file_lookup(known->file, offset, frames, &answer->address);
    symbolizer->budget_used_ns += now_ns() - start;
    if (answer->count == 0)
        return answer;
    answer->frames = malloc((size_t)answer->count * sizeof frames[0]);
    if (answer->frames == NULL)
        *answer = (struct answer){0};
    else
        memcpy(answer->frames, frames, (size_t)answer->count * sizeof frames[0]);
    return answer;
}

/* ---- a call site in words ----------------------------------------------------------------------------------------------------------- */

struct writer {
    struct call_site *out;
    size_t len;
    int number;
    bool full;
    bool program_found; /* the call site is a frame of the program */
    bool named;         /* ... or so far the innermost one of the system that has a name */
};

static void write_line(struct writer *w, const struct elf_frame *frame, const char *base, uint64_t where)
{
    char line[1200], place[620] = "", module[300] = "";
    if (frame != NULL && frame->source[0] != '\0')
        snprintf(place, sizeof place, " at %s:%d", frame->source, frame->line);
    else if (base != NULL && where != 0)
        snprintf(module, sizeof module, " in %.255s+0x%llx", base, (unsigned long long)where);
    else if (base != NULL)
        snprintf(module, sizeof module, " in %.255s", base);
    int n = snprintf(line, sizeof line, "%s#%d %s%s%s", w->number > 0 ? "\n" : "", w->number,
                     frame != NULL && frame->function[0] != '\0' ? frame->function : "??", place, module);
    if (n < 0 || w->len + (size_t)n > SYMBOLIZE_STACK_TEXT)
        w->full = true;
    if (w->full)
        return;
    memcpy(w->out->stack + w->len, line, (size_t)n + 1);
    w->len += (size_t)n;
    w->number++;
}

/* frame NULL: an address without a name. The innermost frame of the program is the call site, with a name or without: one further out that
 * happens to have a name is another place. A library of the system only stands in where there is no frame of the program at all. */
static void consider(struct writer *w, const struct elf_frame *frame, const struct module *module)
{
    if (w->program_found || (module->is_system && (w->named || frame == NULL)))
        return;
    w->named = frame != NULL;
    w->program_found = !module->is_system;
    w->out->function[0] = w->out->file[0] = '\0';
    w->out->line = 0;
    if (frame == NULL)
        return;
    memcpy(w->out->function, frame->function, sizeof w->out->function);
    memcpy(w->out->file, frame->source, sizeof w->out->file);
    w->out->line = frame->line;
}

static void write_address(struct symbolizer *symbolizer, struct writer *w, struct known_process *process, pid_t pid, bool alive,
                          uint64_t address)
{
    /* A return address is the instruction after the call, which may be the next line's, or the next function's. */
    const struct module *module = module_of(process, address - 1, pid, alive);
    if (module == NULL) { /* code that was made at run time, or a module that nobody saw */
        struct elf_frame unknown = {0};
        snprintf(unknown.function, sizeof unknown.function, "0x%llx", (unsigned long long)address);
        write_line(w, &unknown, NULL, 0);
        return;
    }
    const char *slash = strrchr(module->path, '/'), *base = slash != NULL ? slash + 1 : module->path;
    uint64_t offset = address - 1 - module->start + module->offset;
    struct known_file *known = file_of(symbolizer, process, module, pid, alive);
    const struct answer *answer = known->file != NULL ? answer_of(symbolizer, known, offset) : NULL;
    if (answer == NULL || answer->count == 0) {
        write_line(w, NULL, base, offset);
        consider(w, NULL, module);
    }
    for (int i = 0; answer != NULL && i < answer->count; i++) {
        write_line(w, &answer->frames[i], base, 0);
        consider(w, &answer->frames[i], module);
    }
}

bool symbolizer_call_site(struct symbolizer *symbolizer, const void *key, pid_t pid, bool alive, const uint64_t *addresses,
                          size_t count, struct call_site *out)
{
    out->stack[0] = out->function[0] = out->file[0] = '\0';
    out->line = 0;
    struct known_process *process = find_process(symbolizer, key);
    if (process == NULL) {
        symbolizer_seen(symbolizer, key, alive ? pid : 0);
        process = find_process(symbolizer, key);
    }
    process->used = ++symbolizer->clock;
    struct writer w = {.out = out};
    for (size_t i = 0; i < count; i++)
        write_address(symbolizer, &w, process, pid, alive, addresses[i]);
    return w.number > 0;
}
