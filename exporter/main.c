/* main.c - otshim: one executable, a table of subcommands. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

struct subcommand {
    const char *name;
    const char *help;
    int (*run)(int argc, char **argv);
};

static const struct subcommand subcommands[] = {
    {"run", "run a program, traced, and show each of its traces", cli_run},
    {"exporter", "the daemon: takes spans from traced programs and sends them on", cli_exporter},
    {"traces", "list recent traces, newest first", cli_traces},
    {"trace", "show one trace as a waterfall", cli_trace},
    {"status", "connected programs, rates, queue, drops, the last export error", cli_status},
    {"doctor", "whether and how far a program can be traced, and why not", cli_doctor},
};

static void usage(FILE *out)
{
    fputs("usage: otshim SUBCOMMAND [OPTIONS] ...\n\n"
          "Traces of unmodified programs: every inbound request with its outbound calls under it.\n\n",
          out);
    for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
        fprintf(out, "  %-9s %s\n", subcommands[i].name, subcommands[i].help);
    fputs("\n  otshim run -- ./server          try it\n"
          "  otshim SUBCOMMAND --help        the options of each\n"
          "  otshim --version\n",
          out);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return EXIT_OK;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        puts("otshim " OTSHIM_VERSION);
        return EXIT_OK;
    }
    for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
        if (strcmp(name, subcommands[i].name) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "otshim: there is no subcommand \"%s\"; otshim --help lists them (to run a program: otshim run -- %s)\n", name,
            name);
    return EXIT_USAGE;
}
