/* test_exporter_doctor.c - what the doctor reads from files: programs, scripts, and files that are broken on purpose. */
#include "cli/doctor.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/otshim-doctor-XXXXXX");
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    return system(command);
}

/* A file in the directory; valid until the next call. */
static const char *file_of(const char *name, const void *bytes, size_t len, mode_t mode)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    fchmod(fd, mode);
    close(fd);
    return path;
}

static const char *script_of(const char *name, const char *text)
{
    return file_of(name, text, strlen(text), 0755);
}

static struct report examined(const char *program)
{
    struct report report = {.count = 0};
    inspect_program(program, &report.program);
    doctor_program(&report);
    return report;
}

static bool has(const struct report *report, const char *code)
{
    for (int i = 0; i < report->count; i++)
        if (strcmp(report->findings[i].code, code) == 0)
            return true;
    return false;
}

static void dynamic_program(void **state)
{
    (void)state;
    setenv("OTSHIM_EXCLUDE", "", 1); /* the small tools that serve as examples here are left out by default */
    struct report report = examined("/bin/true");
    assert_int_equal(report_verdict(&report), FINDING_GOOD);
    assert_true(report.program.is_elf);
    assert_true(report.program.has_loader);
    assert_int_equal(report.program.libc, LIBC_GLIBC);
    unsetenv("OTSHIM_EXCLUDE");
    report = examined("/bin/true");
    assert_int_equal(report_verdict(&report), FINDING_PARTLY);
}

static void found_in_path(void **state)
{
    (void)state;
    struct report report = examined("true");
    assert_int_equal(report.program.error, 0);
    assert_non_null(strchr(report.program.path, '/'));
    report = examined("no-such-program-anywhere");
    assert_int_equal(report.program.error, ENOENT);
    assert_true(has(&report, "not-found"));
    assert_int_equal(report_verdict(&report), FINDING_BAD);
    report = examined("");
    assert_int_equal(report.program.error, ENOENT);
}

static void not_executable(void **state)
{
    (void)state;
    struct report report = examined(file_of("plain", "x", 1, 0644));
    assert_true(has(&report, "not-executable"));
    report = examined(directory);
    assert_true(has(&report, "not-executable"));
}

static void scripts(void **state)
{
    (void)state;
    struct report report = examined(script_of("sh", "#!/bin/sh\necho\n"));
    assert_true(has(&report, "script"));
    assert_string_equal(report.program.path, "/bin/sh");
    report = examined(script_of("env", "#!/usr/bin/env -S A=1 true -x\n"));
    assert_non_null(strstr(report.program.path, "/true"));
    report = examined(script_of("crlf", "#! /bin/sh\r\n"));
    assert_string_equal(report.program.path, "/bin/sh");
    report = examined(script_of("gone", "#!/no/such/interpreter\n"));
    assert_true(has(&report, "interpreter"));
    assert_int_equal(report_verdict(&report), FINDING_BAD);
    report = examined(script_of("empty", "#!\n"));
    assert_int_not_equal(report.program.error, 0);
    report = examined(script_of("text", "echo no interpreter line\n"));
    assert_true(has(&report, "no-elf"));
}

/* A script that is its own interpreter. */
static void ring_of_scripts(void **state)
{
    (void)state;
    char text[128];
    snprintf(text, sizeof(text), "#!%s/ring\n", directory);
    struct report report = examined(script_of("ring", text));
    assert_int_equal(report.program.error, ELOOP);
    assert_int_equal(report_verdict(&report), FINDING_BAD);
}

static void setuid_of_another(void **state)
{
    (void)state;
    char *bytes = malloc(1 << 20);
    FILE *in = fopen("/bin/true", "r");
    size_t len = fread(bytes, 1, 1 << 20, in);
    fclose(in);
    const char *path = file_of("setuid", bytes, len, 0755);
    free(bytes);
    assert_int_equal(chmod(path, 04755), 0);
    struct report report = examined(path);
    /* Ours: it gains nothing when we start it. */
    assert_int_equal(report_verdict(&report), FINDING_PARTLY);
    if (getuid() != 0)
        return;
    assert_int_equal(chown(path, 65534, 65534), 0);
    assert_int_equal(chmod(path, 04755), 0);
    report = examined(path);
    assert_true(has(&report, "setuid"));
    assert_int_equal(report_verdict(&report), FINDING_BAD);
}

static void other_machines(void **state)
{
    (void)state;
    Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                         .e_type = ET_EXEC,
                         .e_machine = EM_RISCV,
                         .e_version = EV_CURRENT,
                         .e_ehsize = sizeof(header)};
    struct report report = examined(file_of("riscv", &header, sizeof(header), 0755));
    assert_true(has(&report, "machine"));
    assert_int_equal(report_verdict(&report), FINDING_BAD);
    /* No program headers at all: no loader. */
    header.e_machine = strcmp(inspect_own_machine(), "x86-64") == 0 ? EM_X86_64 : EM_AARCH64;
    report = examined(file_of("bare", &header, sizeof(header), 0755));
    assert_true(has(&report, "static"));
}

/* Every byte of the headers of a real program broken in turn: no crash, some verdict. */
static void broken_headers(void **state)
{
    (void)state;
    char *bytes = malloc(1 << 20);
    FILE *in = fopen("/bin/true", "r");
    size_t len = fread(bytes, 1, 1 << 20, in);
    fclose(in);
    for (size_t at = 4; at < 1024 && at < len; at += 3) {
        static const unsigned char values[] = {0x00, 0x7f, 0xff};
        char before = bytes[at];
        bytes[at] = (char)values[at % 3];
        struct report report = examined(file_of("broken", bytes, len, 0755));
        assert_true(report.count > 0);
        bytes[at] = before;
    }
    for (size_t cut = 1; cut < 4096 && cut < len; cut = cut * 3 / 2 + 1) {
        struct report report = examined(file_of("cut", bytes, cut, 0755));
        assert_true(report.count > 0);
    }
    free(bytes);
}

static void runtimes(void **state)
{
    (void)state;
    assert_string_equal(inspect_runtime("/usr/bin/python3.11")->name, "CPython");
    assert_string_equal(inspect_runtime("python3.13t")->name, "CPython");
    assert_string_equal(inspect_runtime("/usr/bin/node")->name, "Node.js");
    assert_string_equal(inspect_runtime("/usr/sbin/php-fpm8.2")->name, "PHP-FPM");
    assert_false(inspect_runtime("/usr/sbin/php-fpm8.2")->partly);
    assert_string_equal(inspect_runtime("php8.2")->name, "PHP");
    assert_string_equal(inspect_runtime("/usr/lib/jvm/bin/java")->name, "the Java virtual machine");
    assert_null(inspect_runtime("/usr/bin/nodejs-thing"));
    assert_null(inspect_runtime("/usr/sbin/nginx"));
    assert_null(inspect_runtime("javac"));
    assert_null(inspect_runtime(""));
    assert_null(inspect_python("/nowhere/python3.8"));
    assert_null(inspect_python("/nowhere/python3.14"));
    assert_null(inspect_python("/nowhere/python3"));
    assert_null(inspect_python(""));
    assert_non_null(strstr(inspect_python("/nowhere/python3.7"), "3.8"));
    assert_non_null(strstr(inspect_python("/nowhere/python3.99"), "3.8"));
    assert_non_null(strstr(inspect_python("/nowhere/python3.13t"), "free-threaded"));
}

static void a_process_without_the_library(void **state)
{
    (void)state;
    struct report report = {.count = 0};
    assert_int_equal(doctor_process(&report, getpid()), 0);
    assert_int_equal(report.pid, getpid());
    assert_true(has(&report, "not-loaded"));
    assert_int_equal(report_verdict(&report), FINDING_BAD);
    assert_true(doctor_process(&report, 0x3fffffff) < 0);
}

/* More findings than there is room for. */
static void many_findings(void **state)
{
    (void)state;
    struct report report = {.count = 0};
    for (int i = 0; i < 100; i++)
        finding_remedy(report_add(&report, FINDING_NOTE, "x", "%d", i), "%d", i);
    assert_int_equal(report.count, FINDINGS_MAX);
    assert_string_equal(report.findings[FINDINGS_MAX - 1].text, "99");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dynamic_program),
        cmocka_unit_test(found_in_path),
        cmocka_unit_test(not_executable),
        cmocka_unit_test(scripts),
        cmocka_unit_test(ring_of_scripts),
        cmocka_unit_test(setuid_of_another),
        cmocka_unit_test(other_machines),
        cmocka_unit_test(broken_headers),
        cmocka_unit_test(runtimes),
        cmocka_unit_test(many_findings),
        cmocka_unit_test(a_process_without_the_library),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
