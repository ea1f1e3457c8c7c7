/* load.c - loads a library as told and has it talk. usage: load MODE LIBRARY PORT, MODE: lazy, now, deep (lazy), deepnow.
 * LIBRARY without a slash is found by this program's own RUNPATH ($ORIGIN/lib): only if the caller of dlopen is known to libc as this program. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int mode = strstr(argv[1], "now") != NULL ? RTLD_NOW : RTLD_LAZY;
    if (strncmp(argv[1], "deep", 4) == 0)
        mode |= RTLD_DEEPBIND;
    void *library = dlopen(argv[2], mode);
    if (library == NULL) {
        printf("dlopen: %s\n", dlerror());
        return 1;
    }
    int (*talk)(int) = (int (*)(int))dlsym(library, "talk");
    printf("talked: %s\n", talk != NULL && talk(atoi(argv[3])) > 0 ? "yes" : "no");
    return 0;
}
