/* cli.h -- what the subcommands of ternctl share: exit statuses, how a mistake is told, and files that appear whole.
 *
 * Each subcommand is one function with the arguments behind `ternctl`, its own name first; it returns the exit status.
 * Touched by: the main thread, the only one. */
#ifndef TERN_BROKER_CLI_CLI_H
#define TERN_BROKER_CLI_CLI_H

#include "proto/base/buf.h"

#include <getopt.h>
#include <sys/types.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_ARGUMENTS = 2, CLI_UNREACHED = 3 };

int certs_main(int argc, char **argv);
int passwd_main(int argc, char **argv);
int import_main(int argc, char **argv);
int store_main(int argc, char **argv);
int token_main(int argc, char **argv);

extern const char *cli_command; /* the one that runs; "": none yet */

/* Tell in one sentence on standard error what is wrong, as "ternctl NAME: ..." for the running subcommand. Returns
 * status. */
__attribute__((format(printf, 2, 3))) int cli_fail(int status, const char *format, ...);

/* getopt_long with long options alone, whose mistakes are told by cli_fail. Returns the option's val, -1 at the end
 * (the rest begins at optind), or 0 after a mistake: no option has val 0. */
int cli_option(int argc, char **argv, const struct option *options);

/* A whole number from least to most; false otherwise. */
bool cli_number(const char *text, uint32_t least, uint32_t most, uint32_t *ret_number);

/* Append text as printf would. */
__attribute__((format(printf, 2, 3))) void cli_put(struct buf *out, const char *format, ...);

/* ---- files ---- */

/* Append a whole regular file to out. Returns 0, -EFBIG above size_max, or another negative errno. */
int cli_read_file(const char *path, size_t size_max, struct buf *out);

/* A file that is to be. */
struct cli_file {
    const char *path;  /* borrowed */
    struct slice text; /* borrowed */
    mode_t mode;
    bool owned; /* give it this owner and group */
    uid_t owner;
    gid_t group;
    char *temporary; /* owned by cli_write_files */
    bool placed;
};

/* Write all files of one folder: first completely and durably beside their places, then each is moved there. With
 * replace false a file that is there already is -EEXIST, and after any failure none of the new files remains; with
 * replace true files moved before the failure stay. Returns 0 or a negative errno; *ret_failed then names the file that
 * it is about. */
int cli_write_files(struct cli_file *files, size_t count, bool replace, const struct cli_file **ret_failed);

#endif
