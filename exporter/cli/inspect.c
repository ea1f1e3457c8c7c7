/* inspect.c - what a program is, read from its file: see inspect.h.
 *
 * The file may be anything. libelf checks what it reads; lengths and strings from it are checked here once more. */
#include "cli/inspect.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPTS_DEEP 5           /* the kernel follows as many */
#define SEARCH_MAX (512ul << 20) /* of the file, for names of TLS libraries */

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#else
#error "otshim is for x86-64 and aarch64"
#endif

static const char *machine_name(unsigned machine)
{
    switch (machine) {
    case EM_X86_64: return "x86-64";
    case EM_AARCH64: return "aarch64";
    case EM_386: return "i386";
    case EM_ARM: return "arm";
    case EM_RISCV: return "riscv";
    case EM_PPC64: return "ppc64";
    case EM_S390: return "s390";
    default: return "another architecture";
    }
}

const char *inspect_own_machine(void)
{
    return machine_name(OWN_MACHINE);
}

/* ---- finding it -------------------------------------------------------------------------------------------------------------- */

/* As execvp(3): a name without a slash is looked for in PATH; the first that may be executed. */
static int find_in_path(const char *name, char *out, size_t out_size)
{
    const char *path = getenv("PATH");
    int error = ENOENT;
    if (name[0] == 0)
        return ENOENT;
    if (strchr(name, '/') != NULL) {
        snprintf(out, out_size, "%s", name);
        return access(out, F_OK) == 0 ? 0 : errno;
    }
    if (path == NULL)
        path = "/bin:/usr/bin";
    while (true) {
        const char *end = strchrnul(path, ':');
        struct stat st;
        int len = snprintf(out, out_size, "%.*s%s%s", (int)(end - path), path, end > path ? "/" : "", name);
        if (len > 0 && (size_t)len < out_size && stat(out, &st) == 0 && S_ISREG(st.st_mode)) {
            if (access(out, X_OK) == 0)
                return 0;
            error = EACCES;
        }
        if (*end == 0)
            break;
        path = end + 1;
    }
    snprintf(out, out_size, "%s", name);
    return error;
}

/* "#!/usr/bin/env -S python3 -u" -> the interpreter, and env's program where it is env. False: it is no script. */
static bool read_shebang(const char *path, char *interpreter, char *argument, size_t size)
{
    char line[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t len = fd >= 0 ? read(fd, line, sizeof(line) - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (len < 3 || line[0] != '#' || line[1] != '!')
        return false;
    line[len] = 0;
    line[strcspn(line, "\n")] = 0;
    char *at = line + 2;
    at += strspn(at, " \t");
    size_t word = strcspn(at, " \t\r");
    snprintf(interpreter, size, "%.*s", (int)word, at);
    at += word;
    at += strspn(at, " \t");
    at[strcspn(at, "\r")] = 0;
    snprintf(argument, size, "%s", at);
    return true;
}

/* What env(1) would start: the first word that is neither an option nor NAME=VALUE. */
static void env_program(const char *arguments, char *out, size_t size)
{
    const char *at = arguments;
    out[0] = 0;
    while (*at != 0) {
        size_t word = strcspn(at, " \t");
        if (at[0] != '-' && memchr(at, '=', word) == NULL) {
            snprintf(out, size, "%.*s", (int)word, at);
            return;
        }
        at += word;
        at += strspn(at, " \t");
    }
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Follows scripts to the program that the kernel starts in the end. */
static void resolve(const char *program, struct inspection *in)
{
    char interpreter[512], argument[512], wanted[PATH_MAX];
    snprintf(wanted, sizeof(wanted), "%s", program);
    for (int depth = 0; depth <= SCRIPTS_DEEP; depth++) {
        int error = find_in_path(wanted, in->path, sizeof(in->path));
        struct stat st;
        if (error == 0 && stat(in->path, &st) != 0)
            error = errno;
        if (error != 0 && depth > 0) {
            snprintf(in->broken, sizeof(in->broken), "its interpreter %s cannot be found", wanted);
            error = ENOENT;
        }
        in->error = error;
        if (error != 0)
            return;
        in->not_executable = !S_ISREG(st.st_mode) || access(in->path, X_OK) != 0;
        if (in->not_executable || !read_shebang(in->path, interpreter, argument, sizeof(interpreter)))
            return;
        if (depth == 0)
            snprintf(in->script, sizeof(in->script), "%s", in->path);
        snprintf(wanted, sizeof(wanted), "%s", interpreter);
        if (strcmp(base_name(interpreter), "env") == 0) {
            env_program(argument, wanted, sizeof(wanted));
            if (wanted[0] == 0)
                snprintf(wanted, sizeof(wanted), "%s", interpreter);
        }
    }
    in->error = ELOOP;
}

/* ---- what the kernel makes of it --------------------------------------------------------------------------------------------- */

/* ld.so(8), secure-execution mode: the kernel sets AT_SECURE where a program gains something by being started. */
static void inspect_privileges(const char *path, struct inspection *in)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return;
    bool uid = (st.st_mode & S_ISUID) != 0, gid = (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
    bool capabilities = getxattr(path, "security.capability", NULL, 0) > 0;
    if (!uid && !gid && !capabilities)
        return;
    in->secure_for_others = true;
    in->secure_why = uid ? "setuid" : gid ? "setgid" : "file capabilities";
    in->secure_for_us = (uid && st.st_uid != getuid()) || (gid && st.st_gid != getgid()) || (capabilities && getuid() != 0);
}

/* ---- ELF --------------------------------------------------------------------------------------------------------------------- */

static void read_loader(Elf *elf, const GElf_Phdr *header, struct inspection *in)
{
    size_t size;
    const char *file = elf_rawfile(elf, &size);
    if (file == NULL || header->p_offset >= size || header->p_filesz > size - header->p_offset || header->p_filesz == 0)
        return;
    in->has_loader = true;
    snprintf(in->loader, sizeof(in->loader), "%.*s", (int)strnlen(file + header->p_offset, header->p_filesz),
             file + header->p_offset);
    in->libc = strstr(in->loader, "ld-musl") != NULL    ? LIBC_MUSL
               : strstr(in->loader, "ld-linux") != NULL ? LIBC_GLIBC
                                                        : LIBC_UNKNOWN;
}

static void read_program_headers(Elf *elf, struct inspection *in)
{
    size_t count = 0;
    GElf_Phdr header;
    elf_getphdrnum(elf, &count);
    for (size_t i = 0; i < count && i < 1000; i++)
        if (gelf_getphdr(elf, (int)i, &header) != NULL && header.p_type == PT_INTERP)
            read_loader(elf, &header, in);
}

static void read_needed(Elf *elf, Elf_Scn *section, const GElf_Shdr *header, struct inspection *in)
{
    static const char *const libraries[] = {"libssl.so",     "libgnutls.so",  "libnss3.so",
                                            "libmbedtls.so", "libwolfssl.so", "libtls.so"};
    Elf_Data *data = elf_getdata(section, NULL);
    GElf_Dyn entry;
    for (int i = 0; data != NULL && gelf_getdyn(data, i, &entry) != NULL && entry.d_tag != DT_NULL; i++) {
        const char *name = entry.d_tag == DT_NEEDED ? elf_strptr(elf, header->sh_link, entry.d_un.d_val) : NULL;
        for (size_t j = 0; name != NULL && j < sizeof(libraries) / sizeof(libraries[0]); j++)
            if (strncmp(name, libraries[j], strlen(libraries[j])) == 0)
                snprintf(in->tls_needed, sizeof(in->tls_needed), "%s", name);
    }
}

static void read_sections(Elf *elf, struct inspection *in)
{
    size_t names;
    Elf_Scn *section = NULL;
    GElf_Shdr header;
    if (elf_getshdrstrndx(elf, &names) != 0)
        return;
    while ((section = elf_nextscn(elf, section)) != NULL) {
        if (gelf_getshdr(section, &header) == NULL)
            continue;
        const char *name = elf_strptr(elf, names, header.sh_name);
        if (header.sh_type == SHT_DYNAMIC)
            read_needed(elf, section, &header, in);
        if (name != NULL && (strcmp(name, ".go.buildinfo") == 0 || strcmp(name, ".note.go.buildid") == 0))
            in->is_go = true;
    }
}

/* A TLS library that was compiled in leaves its version or its name in the read-only data. Programs that are linked with a shared
 * libssl often carry the version that they were built with; those are left aside by the caller. */
static void search_tls(Elf *elf, struct inspection *in)
{
    static const struct {
        const char *bytes, *name;
    } marks[] = {{"OpenSSL 3.", "OpenSSL 3"},
                 {"OpenSSL 1.1.", "OpenSSL 1.1"},
                 {"BoringSSL", "BoringSSL"},
                 {"/rustls-", "rustls"},
                 {"Mbed TLS ", "Mbed TLS"}};
    size_t size;
    const char *file = elf_rawfile(elf, &size);
    if (file == NULL)
        return;
    if (size > SEARCH_MAX)
        size = SEARCH_MAX;
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]) && in->tls_inside[0] == 0; i++)
        if (memmem(file, size, marks[i].bytes, strlen(marks[i].bytes)) != NULL)
            snprintf(in->tls_inside, sizeof(in->tls_inside), "%s", marks[i].name);
}

static void inspect_elf(const char *path, struct inspection *in)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        in->error = errno;
        return;
    }
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    GElf_Ehdr header;
    if (elf != NULL && elf_kind(elf) == ELF_K_ELF && gelf_getehdr(elf, &header) != NULL) {
        in->is_elf = true;
        /* x32 programs are EM_X86_64 in 32-bit files. */
        in->other_machine = header.e_machine != OWN_MACHINE || gelf_getclass(elf) != ELFCLASS64;
        snprintf(in->machine, sizeof(in->machine), "%s", machine_name(header.e_machine));
        read_program_headers(elf, in);
        read_sections(elf, in);
        if (in->tls_needed[0] == 0)
            search_tls(elf, in);
    }
    if (elf != NULL)
        elf_end(elf);
    close(fd);
}

void inspect_file(const char *open_path, const char *shown_path, struct inspection *in)
{
    memset(in, 0, sizeof(*in));
    snprintf(in->path, sizeof(in->path), "%s", shown_path);
    inspect_privileges(open_path, in);
    inspect_elf(open_path, in);
}

void inspect_program(const char *program, struct inspection *in)
{
    memset(in, 0, sizeof(*in));
    resolve(program, in);
    if (in->error != 0 || in->not_executable)
        return;
    inspect_privileges(in->path, in);
    inspect_elf(in->path, in);
}

/* ---- runtimes ---------------------------------------------------------------------------------------------------------------- */

static const struct runtime runtimes[] = {
    {"python", "CPython", false,
     "worker processes and threads (gunicorn, http.server, Flask, Django under WSGI) are exact, and so are asyncio, uvloop and "
     "gevent by the "
     "interpreter's own contexts (3.8 to 3.14); calls made in executors become the roots of their own traces"},
    {"pypy", "PyPy", false,
     "worker processes and threads are exact; under asyncio a call whose request is not certain becomes a root"},
    {"node", "Node.js", false,
     "each call's request is exact by AsyncLocalStorage (18 to 26), in threads that serve requests; in other worker threads "
     "calls become the roots of their own traces"},
    {"bun", "Bun", true, "it makes many raw system calls, which cannot be seen"},
    {"deno", "Deno", true,
     "many requests share its threads: a call whose request is not certain becomes the root of its own trace"},
    {"java", "the Java virtual machine", false,
     "a thread per request is exact; virtual threads and reactive frameworks (Netty, WebFlux) share threads, and a call whose "
     "request is not "
     "certain becomes the root of its own trace"},
    {"ruby", "Ruby", false,
     "a thread or process per request (Puma, WEBrick, Unicorn) is exact; fiber schedulers (Falcon) share threads, and a call whose "
     "request is "
     "not certain becomes the root of its own trace, and so does one made by a thread that a handler has started"},
    {"php-fpm", "PHP-FPM", false,
     "a request per process is exact, and so is what a script does after fastcgi_finish_request(); requests arrive by FastCGI"},
    {"php", "PHP", false, "a request per process is exact"},
    {"perl", "Perl", false, "a request per process is exact; event loops (Mojolicious, AnyEvent) share it"},
    {"dotnet", ".NET", true,
     "requests move between pool threads: a call whose request is not certain becomes the root of its own trace"},
    {"beam.smp", "the Erlang virtual machine", true,
     "its processes move between scheduler threads: a call whose request is not certain becomes the root of its own trace"},
};

const struct runtime *inspect_runtime(const char *path)
{
    const char *name = base_name(path);
    for (size_t i = 0; i < sizeof(runtimes) / sizeof(runtimes[0]); i++) {
        size_t len = strlen(runtimes[i].prefix);
        if (strncmp(name, runtimes[i].prefix, len) == 0 && strspn(name + len, "0123456789.dmt") == strlen(name + len))
            return &runtimes[i];
    }
    return NULL;
}

const char *inspect_python(const char *path)
{
    char real[PATH_MAX];
    int minor = 0, len = 0;
    if (realpath(path, real) == NULL)
        snprintf(real, sizeof(real), "%s", path);
    const char *name = base_name(real);
    if (sscanf(name, "python3.%d%n", &minor, &len) != 1)
        return NULL;
    if (strchr(name + len, 't') != NULL)
        return "it is a free-threaded build, whose contexts are not read";
    return minor < 8 || minor > 14 ? "the contexts of this version are not read (those of 3.8 to 3.14 are)" : NULL;
}
