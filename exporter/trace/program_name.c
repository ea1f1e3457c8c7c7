/* program_name.c - what a process is called when nobody gave it a name: see resource.h, rule 3.
 *
 * An interpreter's command line is read as the interpreter reads it: its options (some take a word of their own) up to the script. */
#include "trace/resource.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define ARGS_MAX 128

struct command {
    const char *args[ARGS_MAX]; /* args[0] the program */
    size_t count;
};

struct name {
    char *out;
    size_t size;
};

/* ---- words --------------------------------------------------------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static bool in_list(const char *word, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(word, *list) == 0)
            return true;
    return false;
}

static bool put(struct name name, const char *text, size_t len)
{
    if (len == 0)
        return false;
    len = len < name.size - 1 ? len : name.size - 1;
    memcpy(name.out, text, len);
    name.out[len] = '\0';
    return true;
}

/* "/srv/shop/main.py" -> "main"; "shop/__main__.py", "shop/index.js" -> "shop". */
static bool put_script(struct name name, const char *path)
{
    static const char *const extensions[] = {".py",  ".pyc",  ".pyz", ".pyw", ".js",  ".mjs",  ".cjs", ".ts", ".rb",   ".ru",
                                             ".php", ".phar", ".pl",  ".lua", ".jar", ".java", ".war", ".sh", ".psgi", NULL};
    static const char *const say_nothing[] = {"__main__", "__init__", "index", NULL};
    char word[256];
    const char *base = base_name(path), *dot = strrchr(base, '.');
    size_t len = dot != NULL && dot != base && in_list(dot, extensions) ? (size_t)(dot - base) : strlen(base);
    snprintf(word, sizeof word, "%.*s", (int)(len < 255 ? len : 255), base);
    if (!in_list(word, say_nothing) || base == path)
        return put(name, word, strlen(word));
    const char *end = base - 1; /* the slash before it */
    while (end > path && end[-1] == '/')
        end--;
    const char *start = end;
    while (start > path && start[-1] != '/')
        start--;
    bool here = end - start == 1 && *start == '.';
    return here || !put(name, start, (size_t)(end - start)) ? put(name, word, strlen(word)) : true;
}

/* ---- servers that are told an application ------------------------------------------------------------------------------------------- */

static const char *identifier(const char *p)
{
    if (!isalpha((unsigned char)*p) && *p != '_')
        return NULL;
    while (isalnum((unsigned char)*p) || *p == '_')
        p++;
    return p;
}

/* "pkg.module:app", also "module:make_app()": the length of the module, 0 if it is something else ("127.0.0.1:80", "unix:/run/x"). */
static size_t module_of_application(const char *word)
{
    const char *p = identifier(word);
    while (p != NULL && *p == '.')
        p = identifier(p + 1);
    if (p == NULL || *p != ':')
        return 0;
    const char *attribute = identifier(p + 1);
    return attribute != NULL && (*attribute == '\0' || *attribute == '(' || *attribute == '.') ? (size_t)(p - word) : 0;
}

static bool is_server(const char *word)
{
    static const char *const servers[] = {"gunicorn",       "uvicorn", "hypercorn",  "daphne",   "granian",
                                          "waitress-serve", "uwsgi",   "uwsgi-core", "waitress", NULL};
    return in_list(word, servers);
}

/* args from `first` on are the server's. */
static bool put_server(struct name name, const char *server, const struct command *command, size_t first)
{
    char text[512];
    for (size_t i = first; i < command->count; i++) {
        const char *word = command->args[i];
        size_t module = module_of_application(word);
        if (module == 0 && i > first &&
            (strcmp(command->args[i - 1], "-w") == 0 || strcmp(command->args[i - 1], "--module") == 0) &&
            strncmp(server, "uwsgi", 5) == 0)
            module = strcspn(word, ":");
        if (module > 0) {
            snprintf(text, sizeof text, "%s:%.*s", server, (int)(module < 255 ? module : 255), word);
            return put(name, text, strlen(text));
        }
    }
    return put(name, server, strlen(server));
}

/* ---- interpreters -------------------------------------------------------------------------------------------------------------------- */

struct interpreter {
    const char *name;         /* of the executable, without a version behind it */
    const char *with_word;    /* one-letter options that take a word ("-Xdev" or "-X dev") */
    const char *code;         /* those whose word is the program itself: no script follows */
    const char *long_options; /* long options that take the next word, each between spaces */
};

static const struct interpreter interpreters[] = {
    {"python", "WXmc", "c", " --check-hash-based-pycs "},
    {"pypy", "WXmc", "c", ""},
    {"ruby", "rICEKxTe", "e", " --encoding --external-encoding --internal-encoding "},
    {"jruby", "rICEKxTe", "e", ""},
    {"node", "repC", "ep",
     " --require --import --loader --experimental-loader --eval --print --conditions --env-file --inspect-port --title "},
    {"nodejs", "rep", "ep", " --require --import --loader --eval --print "},
    {"deno", "cA", "", " --config --import-map --lock --env "},
    {"bun", "r", "", " --preload --cwd "},
    {"php", "cdfrStzBRFE", "rSBRFE", ""},
    {"perl", "IMmeEC", "eE", ""},
    {"lua", "el", "e", ""},
    {"bash", "cOo", "c", " --rcfile --init-file "},
    {"dash", "co", "c", ""},
    {"sh", "co", "c", ""},
};

/* The interpreter of this executable's name: "python3.11", "php8.2", "ruby" - but not "php-fpm8.2". */
static const struct interpreter *interpreter_of(const char *program)
{
    for (size_t i = 0; i < sizeof interpreters / sizeof interpreters[0]; i++) {
        size_t len = strlen(interpreters[i].name);
        if (strncmp(program, interpreters[i].name, len) == 0 && strspn(program + len, "0123456789.") == strlen(program + len))
            return &interpreters[i];
    }
    return NULL;
}

/* What a script is: a server, or itself. args[at] is its path or module. */
static bool put_program(struct name name, const struct command *command, size_t at, const char *word, bool module)
{
    const char *server = module ? word : base_name(word);
    if (is_server(server))
        return put_server(name, server, command, at + 1);
    if (module) /* "python -m http.server", "python -m shop.main" */
        return put(name, word, strlen(word));
    return put_script(name, word);
}

/* Cluster of one-letter options "-Bum": false: no program name can come of it. *at moves over the words that were used. */
static bool short_options(struct name name, const struct interpreter *in, const struct command *command, size_t *at, bool *done)
{
    for (const char *letter = command->args[*at] + 1; *letter != '\0'; letter++) {
        if (strchr(in->with_word, *letter) == NULL)
            continue;
        bool inside = letter[1] != '\0';
        const char *word = inside ? letter + 1 : *at + 1 < command->count ? command->args[*at + 1] : NULL;
        if (word == NULL || strchr(in->code, *letter) != NULL)
            return false;
        *at += !inside;
        bool python_module = *letter == 'm' && in->name[0] == 'p' && in->name[1] == 'y';
        bool php_file = *letter == 'f' && strcmp(in->name, "php") == 0;
        if (python_module || php_file)
            *done = put_program(name, command, *at, word, python_module);
        return true;
    }
    return true;
}

static bool put_interpreted(struct name name, const struct interpreter *in, const struct command *command)
{
    char spaced[64];
    for (size_t at = 1; at < command->count; at++) {
        const char *word = command->args[at];
        bool done = false;
        if (strcmp(word, "--") == 0 && at + 1 < command->count)
            return put_program(name, command, at + 1, command->args[at + 1], false);
        if (word[0] == '-' && word[1] == '-') {
            snprintf(spaced, sizeof spaced, " %.60s ", word);
            if (strncmp(word, "--eval", 6) == 0 || strncmp(word, "--print", 7) == 0)
                return false;
            at += strstr(in->long_options, spaced) != NULL;
        } else if (word[0] == '-' && word[1] != '\0') {
            if (!short_options(name, in, command, &at, &done))
                return false;
            if (done)
                return true;
        } else if (strcmp(word, "run") == 0 && (in->name[0] == 'd' || in->name[0] == 'b')) {
            continue; /* "deno run", "bun run" */
        } else if (word[0] != '-') {
            return put_program(name, command, at, word, false);
        }
    }
    return false;
}

/* java [options] -jar FILE | -m MODULE[/CLASS] | CLASS | FILE.java */
static bool put_java(struct name name, const struct command *command)
{
    static const char *const with_word[] = {"-cp",
                                            "-classpath",
                                            "--class-path",
                                            "-p",
                                            "--module-path",
                                            "--add-modules",
                                            "--add-opens",
                                            "--add-exports",
                                            "--add-reads",
                                            "--patch-module",
                                            "--source",
                                            "--limit-modules",
                                            "--upgrade-module-path",
                                            "--enable-native-access",
                                            NULL};
    for (size_t at = 1; at < command->count; at++) {
        const char *word = command->args[at], *next = at + 1 < command->count ? command->args[at + 1] : NULL;
        if (strcmp(word, "-jar") == 0)
            return next != NULL && put_script(name, next);
        if (strcmp(word, "-m") == 0 || strcmp(word, "--module") == 0)
            return next != NULL && put(name, next, strcspn(next, "/"));
        if (in_list(word, with_word))
            at++;
        else if (word[0] != '-' && word[0] != '@')
            return put_script(name, word);
    }
    return false;
}

/* ---- all together ---------------------------------------------------------------------------------------------------------------------- */

static void split(struct command *command, const char *cmdline, size_t len)
{
    size_t at = 0;
    command->count = 0;
    while (at < len && command->count < ARGS_MAX) {
        const char *end = memchr(cmdline + at, '\0', len - at);
        if (end == NULL)
            return; /* the last word was cut: half a name is none */
        command->args[command->count++] = cmdline + at;
        at = (size_t)(end - cmdline) + 1;
    }
}

/* The file name of the executable, "/usr/bin/prog (deleted)" included; else argv[0]'s ("-bash" is a login shell's). */
static void program_of(const char *executable, const struct command *command, char out[256])
{
    const char *base = executable != NULL ? base_name(executable) : "";
    size_t len = strlen(base);
    static const char deleted[] = " (deleted)";
    if (len > sizeof deleted && strcmp(base + len - (sizeof deleted - 1), deleted) == 0)
        len -= sizeof deleted - 1;
    if ((len == 0 || strncmp(base, "busybox", len) == 0) && command->count > 0) {
        base = base_name(command->args[0]);
        base += *base == '-';
        len = strlen(base);
    }
    snprintf(out, 256, "%.*s", (int)(len < 255 ? len : 255), base);
}

size_t resource_program_name(const char *executable, const char *cmdline, size_t cmdline_len, char *out, size_t out_size)
{
    struct command command;
    struct name name = {out, out_size};
    char program[256];
    split(&command, cmdline != NULL ? cmdline : "", cmdline != NULL ? cmdline_len : 0);
    program_of(executable, &command, program);
    const struct interpreter *in = interpreter_of(program);
    bool done = false;
    if (in != NULL)
        done = put_interpreted(name, in, &command) || put(name, in->name, strlen(in->name));
    else if (strcmp(program, "java") == 0)
        done = put_java(name, &command);
    else if (is_server(program))
        done = put_server(name, program, &command, 1);
    if (!done && !put(name, program, strlen(program)))
        put(name, "unknown_service", strlen("unknown_service"));
    return strlen(out);
}
