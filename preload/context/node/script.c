/* script.c - adapter.js, as it is, in the library. */
#include "context/node/node.h"

__asm__(".pushsection .rodata\n"
        ".globl node_script\n"
        ".hidden node_script\n"
        "node_script:\n"
        ".incbin \"preload/context/node/adapter.js\"\n"
        ".byte 0\n"
        ".popsection\n");
