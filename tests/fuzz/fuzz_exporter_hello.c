/* The hello of a hostile process: any bytes. */
#include "ingest/hello.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hello hello;
    const char *why = NULL;

    switch (hello_parse(&hello, data, size, &why)) {
    case HELLO_OK:
        if (hello.head.total_bytes != size || strlen(hello.executable) > OTSHIM_ENV_MAX || hello.cmdline_len > OTSHIM_CMDLINE_MAX ||
            strlen(hello.note) >= sizeof hello.note || hello.cmdline[hello.cmdline_len] != '\0')
            abort();
        hello_free(&hello);
        break;
    case HELLO_BAD:
        if (why == NULL)
            abort();
        break;
    case HELLO_VERSION:
    case HELLO_NO_MEMORY: break;
    }
    return 0;
}
