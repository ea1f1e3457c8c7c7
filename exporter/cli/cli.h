/* cli.h - the subcommands of otshim: one file each, one function each, called by main.c with argv[0] the subcommand's name.
 *
 * They return the exit status: 0 done, 1 it failed or there is no such thing, 2 wrong usage or configuration. `run` returns its program's. */
#ifndef OTSHIM_EXPORTER_CLI_H
#define OTSHIM_EXPORTER_CLI_H

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int cli_exporter(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_traces(int argc, char **argv);
int cli_trace(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_doctor(int argc, char **argv);

#endif
