/* test_exporter_symbolize.c - addresses of real processes (this one, a child that is dead by then, a stripped copy) to names. */
#include "trace/elf_file.h"
#include "trace/modules.h"
#include "trace/symbolize.h"

#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a stack to look at ---------------------------------------------------------------------------------------------------------- */

static uint64_t stack[64];
static size_t depth;
static int inner_line, outer_line;

static int outer(const void *a, const void *b);

static inline __attribute__((always_inline)) void inner(void)
{
    void *frames[64];
    int count = backtrace(frames, 64);
    inner_line = __LINE__ - 1;
    depth = 0;
    for (int i = 0; i < count; i++) /* from here on; a sanitizer's own frames may come before it */
        if (depth > 0 || (uint64_t)((char *)frames[i] - (char *)outer) < 4096)
            stack[depth++] = (uint64_t)(uintptr_t)frames[i];
}

static __attribute__((noinline)) int outer(const void *a, const void *b)
{
    (void)a, (void)b;
    inner(), outer_line = __LINE__;
    __asm__ volatile(""); /* no tail call */
    return 0;
}

__attribute__((noinline)) void through_libc(void);
__attribute__((noinline)) void through_libc(void)
{
    int two[2] = {2, 1};
    qsort(two, 2, sizeof two[0], outer);
    __asm__ volatile("");
}

__attribute__((noinline)) int compare_nothing(void);
__attribute__((noinline)) int compare_nothing(void)
{
    return depth > 100;
}

static struct symbolizer *symbolizer;
static struct call_site site;
static int key;

static bool look(pid_t pid, bool alive)
{
    return symbolizer_call_site(symbolizer, &key, pid, alive, stack, depth, &site);
}

static void expect_line(const char *format, ...)
{
    char wanted[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(wanted, sizeof wanted, format, ap);
    va_end(ap);
    if (strstr(site.stack, wanted) == NULL)
        fail_msg("not in the stack: %s\n%s", wanted, site.stack);
}

static void test_self(void **unused)
{
    (void)unused;
    through_libc();
    symbolizer_seen(symbolizer, &key, getpid());
    assert_true(look(getpid(), true));
    assert_string_equal(site.function, "inner");
    assert_non_null(strstr(site.file, "tests/unit/test_exporter_symbolize.c"));
    assert_int_equal(site.line, inner_line);
    expect_line("#0 inner at ");
    expect_line("#1 outer at ");
    expect_line("test_exporter_symbolize.c:%d\n#2 ", outer_line); /* where inner was inlined */
    expect_line(" through_libc at ");
    expect_line("qsort"); /* of the C library */
    expect_line(" main at ");
}

/* The call site is the program's, even if the innermost frames are libraries of the system. */
static void test_skips_system_libraries(void **unused)
{
    (void)unused;
    through_libc();
    memmove(stack, stack + 1, --depth * sizeof stack[0]); /* now a libc frame is the first */
    symbolizer_seen(symbolizer, &key, getpid());
    assert_true(look(getpid(), true));
    assert_string_equal(site.function, "through_libc");
    expect_line("#0 ");
    assert_true(strncmp(site.stack, "#0 through_libc", 15) != 0);
}

/* Noted while it lived, asked about when it is dead; a child of fork has the same addresses as we. */
static void test_dead_process(void **unused)
{
    (void)unused;
    through_libc();
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    symbolizer_seen(symbolizer, &key, pid);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_true(look(pid, false));
    assert_string_equal(site.function, "inner");
    symbolizer_gone(symbolizer, &key);
    assert_true(look(pid, false)); /* forgotten: numbers */
    assert_string_equal(site.function, "");
    assert_true(strncmp(site.stack, "#0 0x", 5) == 0);
}

static void test_never_seen(void **unused)
{
    (void)unused;
    through_libc();
    symbolizer_gone(symbolizer, &key);
    assert_true(look(getpid(), true)); /* looked at on the spot */
    assert_string_equal(site.function, "inner");
    depth = 0;
    assert_false(look(getpid(), true));
}

static void test_nonsense_addresses(void **unused)
{
    (void)unused;
    static const uint64_t nonsense[] = {0, 1, UINT64_MAX, 0x7fffffffffff, (uint64_t)1 << 63};
    memcpy(stack, nonsense, sizeof nonsense);
    depth = sizeof nonsense / sizeof nonsense[0];
    assert_true(look(getpid(), true));
    assert_string_equal(site.function, "");
    expect_line("#2 0xffffffffffffffff");
    for (depth = 0; depth < 64; depth++)
        stack[depth] = (uint64_t)(uintptr_t)test_self + depth; /* the text is bounded: whole lines */
    assert_true(look(getpid(), true));
    assert_true(strlen(site.stack) <= SYMBOLIZE_STACK_TEXT);
    assert_non_null(strstr(strrchr(site.stack, '\n'), "test_exporter_symbolize.c:"));
}

/* Without time left, new addresses are shown as they are; what was found before is still known. */
static void test_budget(void **unused)
{
    (void)unused;
    through_libc();
    symbolizer_seen(symbolizer, &key, getpid());
    assert_true(look(getpid(), true));
    assert_string_equal(site.function, "inner");
    symbolizer_set_budget(symbolizer, 0);
    assert_true(look(getpid(), true));
    assert_string_equal(site.function, "inner");
    stack[0] = (uint64_t)(uintptr_t)compare_nothing + 2;
    assert_true(look(getpid(), true));
    assert_string_equal(site.function, ""); /* and not the next one that has a name: that is another place */
    expect_line("#0 ?? in ");
    expect_line(" through_libc at ");
    symbolizer_set_budget(symbolizer, UINT64_MAX);
    assert_true(look(getpid(), true));
    assert_string_equal(site.function, "compare_nothing");
}

/* ---- files ------------------------------------------------------------------------------------------------------------------------- */

static char directory[] = "/tmp/otshim-symbolize-XXXXXX";

static char *in_directory(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

/* The offset of a function in our own file. */
static uint64_t offset_of(const void *function)
{
    struct modules modules = {0};
    assert_true(modules_read(&modules, getpid()));
    const struct module *module = modules_find(&modules, (uint64_t)(uintptr_t)function);
    assert_non_null(module);
    assert_true(module->is_main);
    uint64_t offset = (uint64_t)(uintptr_t)function - module->start + module->offset;
    modules_free(&modules);
    return offset;
}

static int lookup(const char *path, uint64_t offset, struct elf_frame frames[ELF_FILE_FRAMES])
{
    uint64_t address;
    struct elf_file *file = elf_file_open(open(path, O_RDONLY | O_CLOEXEC), path);
    if (file == NULL)
        return -1;
    int count = elf_file_lookup(file, offset, frames, &address);
    elf_file_close(file);
    return count;
}

/* Without debug information the symbol table has the name, and without that nothing does. */
static void test_stripped(void **unused)
{
    (void)unused;
    struct elf_frame frames[ELF_FILE_FRAMES];
    char command[PATH_MAX + 64];
    uint64_t offset = offset_of((const void *)through_libc) + 4;
    assert_int_equal(lookup("/proc/self/exe", offset, frames), 1);
    assert_string_equal(frames[0].function, "through_libc");
    assert_true(frames[0].line > 0);
    snprintf(command, sizeof command, "objcopy --strip-debug /proc/%d/exe %s", (int)getpid(), in_directory("no-debug"));
    assert_int_equal(system(command), 0);
    assert_int_equal(lookup(in_directory("no-debug"), offset, frames), 1);
    assert_string_equal(frames[0].function, "through_libc");
    assert_string_equal(frames[0].source, "");
    snprintf(command, sizeof command, "objcopy --strip-all /proc/%d/exe %s", (int)getpid(), in_directory("bare"));
    assert_int_equal(system(command), 0);
    assert_int_equal(lookup(in_directory("bare"), offset, frames), 0);
}

static void write_file(const char *path, const char *bytes, size_t len)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    fclose(file);
}

/* Files that are no ELF, are cut anywhere, or were tampered with: an answer or none, no crash. */
static void test_damaged(void **unused)
{
    (void)unused;
    struct elf_frame frames[ELF_FILE_FRAMES];
    uint64_t offset = offset_of((const void *)through_libc) + 4;
    FILE *self = fopen("/proc/self/exe", "r");
    static char bytes[8 * 1024 * 1024];
    size_t len = fread(bytes, 1, sizeof bytes, self);
    fclose(self);
    assert_int_equal(lookup("/etc/passwd", offset, frames), -1);
    assert_int_equal(lookup("/dev/null", offset, frames), -1);
    assert_int_equal(lookup("/nonexistent", offset, frames), -1);
    for (size_t cut = 0; cut < len; cut = cut * 2 + 7) {
        write_file(in_directory("cut"), bytes, cut);
        lookup(in_directory("cut"), offset, frames);
    }
    srand(1);
    for (int round = 0; round < 40; round++) {
        char saved[64];
        size_t at[64];
        for (int i = 0; i < 64; i++) { /* headers and section headers are hit more often */
            at[i] = (size_t)rand() % (i < 8 ? 1024 : len);
            at[i] = i >= 8 && i < 16 ? len - 1 - at[i] % (len < 4096 ? len : 4096) : at[i];
            saved[i] = bytes[at[i]];
            bytes[at[i]] = (char)rand();
        }
        write_file(in_directory("damaged"), bytes, len);
        lookup(in_directory("damaged"), offset, frames);
        for (int i = 64; i-- > 0;)
            bytes[at[i]] = saved[i];
    }
}

/* A path that is another file by now is not used. */
static void test_replaced(void **unused)
{
    (void)unused;
    struct modules modules = {0};
    assert_true(modules_read(&modules, getpid()));
    const struct module *mine = modules_find(&modules, (uint64_t)(uintptr_t)test_self);
    struct module other = *mine;
    int fd = modules_open(&modules, mine, getpid(), false);
    assert_true(fd >= 0);
    close(fd);
    other.inode++;
    assert_int_equal(modules_open(&modules, &other, 0, false), -1);
    assert_int_equal(mkfifo(in_directory("fifo"), 0600), 0); /* a path that blocks who opens it */
    other.path = in_directory("fifo");
    assert_int_equal(modules_open(&modules, &other, 0, false), -1);
    modules_free(&modules);
}

static int setup(void **unused)
{
    (void)unused;
    symbolizer = symbolizer_new();
    if (symbolizer != NULL)
        symbolizer_set_budget(symbolizer, UINT64_MAX); /* a slow machine is no reason to fail */
    return symbolizer == NULL || mkdtemp(directory) == NULL;
}

static int teardown(void **unused)
{
    (void)unused;
    static const char *const files[] = {"no-debug", "bare", "cut", "damaged", "fifo"};
    symbolizer_free(symbolizer);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        unlink(in_directory(files[i]));
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self),
        cmocka_unit_test(test_skips_system_libraries),
        cmocka_unit_test(test_dead_process),
        cmocka_unit_test(test_never_seen),
        cmocka_unit_test(test_nonsense_addresses),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_stripped),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_replaced),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
