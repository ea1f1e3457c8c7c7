/* script.c - adapter.js and, as what it calls sites, sites.js: as they are, in the library. Both are expressions. */
#include "context/node/node.h"

__asm__(".pushsection .rodata\n"
        ".globl node_script\n"
        ".hidden node_script\n"
        "node_script:\n"
        ".ascii \"((sites) => \"\n"
        ".incbin \"preload/context/node/adapter.js\"\n"
        ".ascii \")(\"\n"
        ".incbin \"preload/context/node/sites.js\"\n"
        ".asciz \")\"\n"
        ".popsection\n");
