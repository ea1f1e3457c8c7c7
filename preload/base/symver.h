/* symver.h - which version of a libc symbol we ask for. Included before every file of the library (Makefile: -include).
 *
 * The linker binds a reference to the newest version that the building machine has: built on glibc 2.36, dlsym becomes
 * dlsym@GLIBC_2.34, and a program on an older system would not even start with us preloaded. What glibc 2.34 moved from libdl into libc is
 * therefore asked for by its first version, which every glibc has (musl's loader ignores versions).
 *
 * It is also asked for weakly: before 2.34 these live in libdl, which we do not drag into every process (opening one more
 * library costs more than all the rest of our start). There the address is NULL unless the program itself has libdl: test it before
 * use (interpose/lookup.c, which then finds symbols without it).
 *
 * Nothing else newer than 2.17 may be used: no stat family (2.33), no pthread_* or sem_* function except through the table of real
 * functions. tests/host/dynamic.sh reads the result and fails on anything new. */
#ifndef OTSHIM_SYMVER_H
#define OTSHIM_SYMVER_H

#if defined(__x86_64__)
#define OTSHIM_SYMVER_FIRST "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define OTSHIM_SYMVER_FIRST "GLIBC_2.17"
#endif

#if defined(OTSHIM_SYMVER_FIRST) && defined(__PIC__)
__asm__(".symver dlsym, dlsym@" OTSHIM_SYMVER_FIRST);
__asm__(".symver dlvsym, dlvsym@" OTSHIM_SYMVER_FIRST);
#ifndef OTSHIM_DEFINES_DLOPEN /* interpose/load.c: a reference and a definition cannot share the name */
__asm__(".symver dlopen, dlopen@" OTSHIM_SYMVER_FIRST);
#endif
__asm__(".symver dlclose, dlclose@" OTSHIM_SYMVER_FIRST);
__asm__(".symver dlerror, dlerror@" OTSHIM_SYMVER_FIRST);
__asm__(".symver dladdr, dladdr@" OTSHIM_SYMVER_FIRST);
#pragma weak dlsym
#pragma weak dlvsym
#ifndef OTSHIM_DEFINES_DLOPEN
#pragma weak dlopen
#endif
#pragma weak dlclose
#pragma weak dlerror
#pragma weak dladdr
#endif

#endif
