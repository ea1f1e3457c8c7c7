/* file_cost.c - nanoseconds of a one-byte read and write on descriptors that are no sockets. Prints "read NS write NS". */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    long calls = argc > 1 ? atol(argv[1]) : 2000000;
    int in = open("/dev/zero", O_RDONLY), out = open("/dev/null", O_WRONLY);
    char byte;
    if (in < 0 || out < 0)
        return 1;
    double start = seconds();
    for (long i = 0; i < calls; i++)
        if (read(in, &byte, 1) != 1)
            return 1;
    double middle = seconds();
    for (long i = 0; i < calls; i++)
        if (write(out, &byte, 1) != 1)
            return 1;
    double end = seconds();
    printf("read %.2f write %.2f\n", (middle - start) * 1e9 / (double)calls, (end - middle) * 1e9 / (double)calls);
    return 0;
}
