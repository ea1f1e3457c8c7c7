/* script.c - adapter.js, as it is, in the library. */
#include "context/node/node.h"

__asm__(".pushsection .rodata\n"
        ".globl node_script\n"
        ".hidden node_script\n"
        "node_script:\n"
        ".incbin \"preload/context/node/adapter.js\"\n"
        "node_script_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const char node_script_end[];

size_t node_script_len(void)
{
    return (size_t)(node_script_end - node_script);
}
