/* tls_library.h - the TLS libraries that a program uses, found by their files and seen through the import slots of those who depend on them.
 *
 * Nothing of such a library is exported by us, linked or loaded: a program that asks whether there is an SSL_read must get the answer that it
 * would get without us. Instead the import slots of the objects that depend on it - the program, a library, an extension module - are
 * pointed at wrappers of ours (slots.h), whenever something was loaded.
 *
 * Each kind of library is a room of its own (openssl.c, gnutls.c): what its functions are called and what they mean. What it tells is conn/tls.h.
 * This file is what the rooms share: when to look, which file is of which kind, which object depends on which of several. */
#ifndef OTSHIM_TLS_LIBRARY_H
#define OTSHIM_TLS_LIBRARY_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>

#define TLS_LIBRARIES 3u /* different ones of a kind in one process, at most */
#define TLS_FUNCTIONS 40u

struct tls_function {
    const char *name;
    bool optional;
};

struct tls_room {
    const char *file;     /* how the library's file name begins */
    unsigned sets;        /* of wrappers: so many different libraries are told apart */
    const char *unknown;  /* the log's words for one without these functions, */
    const char *too_many; /* and for one more than .sets */
    const struct tls_function *functions;
    size_t count;
    /* The library of number n, whose functions (in the order of .functions) these are. */
    void (*found)(unsigned n, void *const *functions);
    /* Before every round of redirecting: other things that the room wants. NULL: nothing. */
    void (*look)(void);
    /* This object depends on the library of number n. */
    void (*redirect)(const struct dl_phdr_info *info, unsigned n);
};

extern const struct tls_room openssl_room, gnutls_room;

/* Before a connection may speak TLS (connect, accept): have libraries come? Two loads when dlopen was not called. errno is
 * preserved; not async-signal-safe. */
void tls_library_look(void);

#endif
