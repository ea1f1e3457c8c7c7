/* hello.h (ingest) - what a process says of itself (include/otshim/hello.h), checked. A pure function over bytes. */
#ifndef OTSHIM_INGEST_HELLO_H
#define OTSHIM_INGEST_HELLO_H

#include <otshim/hello.h>
#include <stddef.h>

struct hello {
    struct otshim_hello head;
    /* Owned, NUL-terminated, never NULL ("" if not said); NULs inside are cut away, except in cmdline. */
    char *executable;
    char *cmdline;
    size_t cmdline_len;
    char *service_name;
    char *resource_attributes;
    char *library_version;
    char note[160]; /* the last one */
    unsigned notes;
};

enum hello_result {
    HELLO_OK,
    HELLO_BAD,     /* *why says what is wrong; static text */
    HELLO_VERSION, /* well-formed as far as can be told, of another ABI version: hello->head.abi_version */
    HELLO_NO_MEMORY
};

/* `bytes` is private memory that nobody else writes. Only HELLO_OK leaves something to free. */
enum hello_result hello_parse(struct hello *hello, const void *bytes, size_t len, const char **why);
void hello_free(struct hello *hello);

#endif
