/* ternctl -- what an operator needs beside the broker: certificates, passwords, a configuration taken over from
 * mosquitto. Exit status: 0 done, 1 not done, 2 wrong arguments. */
#include "broker/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/base/version.h"

static const struct command {
    const char *name, *arguments;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"certs",
     "[DIRECTORY] [--host NAME]... [--client ID]... [--node NAME]... [--cluster NAME] [--days N] [--rsa] [--force]",
     certs_main,
     "Make an authority of your own (kept if it is there), a certificate of the broker for this host and each\n"
     "      --host, a name or an address, and one of a client for each --client (client1). Tells each step, and which\n"
     "      file goes where. With --node: instead, certificates of nodes for the links between them, made out to the\n"
     "      --cluster (tern) and the node, by an authority that signs nobody else, and the key of their gossip.\n"
     "      DIRECTORY: ./certs, or ./certs-nodes; --days: 365; --rsa: RSA keys instead of ECDSA; --force: replaces "
     "the\n"
     "      files of the broker, the clients and the nodes, not the authority and not the key of the gossip."},
    {"passwd", "FILE USER [--kind argon2id|pbkdf2|scram] [--iterations N] [--password-stdin | --delete | --check]",
     passwd_main,
     "Add a user to a password file or give one a new password, asked for on the terminal, else read as one line\n"
     "      from standard input. --delete: take the user out; --check: say whether the password is right."},
    {"import", "MOSQUITTO.CONF [--out DIRECTORY] [--force]", import_main,
     "Translate mosquitto's configuration and access rules into tern.yaml and acl.yaml. What has no counterpart is\n"
     "      named with file and line, and nothing is left out silently. DIRECTORY: the present one; --force: replaces\n"
     "      files that are there."},
    {"store", "verify DIRECTORY | backup DIRECTORY TO | restore FROM DIRECTORY | export DIRECTORY | import DIRECTORY",
     store_main,
     "verify: read every record of a data directory and count what is there. backup: a copy as of one moment, while\n"
     "      the node runs. restore: such a copy into an empty or missing directory, for a node that does not run yet.\n"
     "      export: sessions, subscriptions, queued and retained messages of a copy, or of a node that does not run, "
     "on\n"
     "      standard output, a JSON object a line. import: such lines from standard input into a missing or empty\n"
     "      directory, or beside what is there: each session and retained message replaces its namesake."},
};

static int usage(FILE *out, int status)
{
    fputs("usage: ternctl COMMAND ...\n", out);
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        fprintf(out, "\n  %s %s\n      %s\n", commands[i].name, commands[i].arguments, commands[i].help);
    }
    fputs("\n  --help, --version\n\nExit status: 0 done, 1 not done, 2 wrong arguments.\n", out);
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

    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        return finish(usage(stdout, CLI_DONE));
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        puts("ternctl " TERN_VERSION);
        return finish(CLI_DONE);
    }
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            cli_command = commands[i].name;
            if (asks_help(argc - 1, argv + 1)) {
                printf("usage: ternctl %s %s\n      %s\n", name, commands[i].arguments, commands[i].help);
                return finish(CLI_DONE);
            }
            return finish(commands[i].run(argc - 1, argv + 1));
        }
    }
    if (*name) {
        return cli_fail(CLI_ARGUMENTS, "%s is no command (ternctl --help)", name);
    }
    return usage(stderr, CLI_ARGUMENTS);
}
