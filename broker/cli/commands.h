/* commands.h -- the table of all that ternctl does. Help, completion and the tests of the manual page come from it.
 *
 * A command works on files by itself, and then has a function with arguments of its own; or it asks a node over the
 * admin port, and then is a row of remote.h. */
#ifndef TERN_BROKER_CLI_COMMANDS_H
#define TERN_BROKER_CLI_COMMANDS_H

#include "broker/cli/cli.h"

struct remote_verb;

struct cli_command {
    const char *name; /* one word */
    /* As the usage shows them: --NAME is an option, the word behind it its value. */
    const char *arguments;
    int (*run)(int argc, char **argv);
    const char *help;
};

extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;

/* Append all commands with their arguments, a line each, then the options that go with every verb. */
void commands_usage(struct buf *out);

/* ternctl completion bash: a script for bash on standard output. */
int completion_main(int argc, char **argv);

#endif
