/* ternctl -- what an operator needs beside the broker: on files, certificates, passwords, a configuration taken over
 * from mosquitto; over the admin port of a node, all that runs. */
#include "broker/cli/commands.h"
#include "broker/cli/remote.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/base/version.h"

static int usage(FILE *out, int status)
{
    fputs("usage: ternctl COMMAND ...\n\nOn files:\n", out);
    for (size_t i = 0; i < cli_command_count; i++) {
        fprintf(out, "\n  %s %s\n      %s\n", cli_commands[i].name, cli_commands[i].arguments, cli_commands[i].help);
    }
    fputs("\nOver the admin port of a node (ternctl COMMAND --help lists the options):\n\n", out);
    for (size_t i = 0; i < remote_verb_count; i++) {
        fprintf(out, "  %-16s %-16s %s\n", remote_verbs[i].name,
                remote_verbs[i].operands ? remote_verbs[i].operands : "", remote_verbs[i].help);
    }
    fputs("\nand with each of them:\n\n", out);
    for (const struct remote_option *o = remote_common_options; o->name; o++) {
        fprintf(out, "  --%s%s%-*s %s\n", o->name, o->value ? " " : "",
                (int)(24 - strlen(o->name) - (o->value ? 1 : 0)), o->value ? o->value : "", o->help);
    }
    fputs("\n  --help, --version\n\n"
          "Exit status: 0 done, 1 not done, 2 wrong arguments, 3 no node answers.\n",
          out);
    return status;
}

/* What was printed may be all that was asked for: a full disk is a failure. */
static int finish(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        return cli_fail(CLI_FAILED, "standard output cannot be written: %s", strerror(errno));
    }
    return status;
}

static bool asks_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    setlocale(LC_CTYPE, ""); /* how wide characters are */
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        return finish(usage(stdout, CLI_DONE));
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        puts("ternctl " TERN_VERSION);
        return finish(CLI_DONE);
    }
    for (size_t i = 0; i < cli_command_count; i++) {
        if (strcmp(name, cli_commands[i].name) == 0) {
            cli_command = cli_commands[i].name;
            if (asks_help(argc - 1, argv + 1)) {
                printf("usage: ternctl %s %s\n      %s\n", name, cli_commands[i].arguments, cli_commands[i].help);
                return finish(CLI_DONE);
            }
            return finish(cli_commands[i].run(argc - 1, argv + 1));
        }
    }
    if (remote_is_verb(argc, argv)) {
        return finish(remote_run(argc, argv));
    }
    if (*name) {
        return cli_fail(CLI_ARGUMENTS, "%s is no command (ternctl --help)", name);
    }
    return usage(stderr, CLI_ARGUMENTS);
}
