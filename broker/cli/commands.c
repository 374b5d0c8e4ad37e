/* commands.c -- the commands that work on files, and the list of all. */
#include "broker/cli/commands.h"

#include "broker/cli/remote.h"

const struct cli_command cli_commands[] = {
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
    {"passwd",
     "FILE USER [--role viewer|operator] [--kind argon2id|pbkdf2|scram] [--iterations N] "
     "[--password-stdin | --delete | --check]",
     passwd_main,
     "Add a user to a password file or give one a new password, asked for on the terminal, else read as one line\n"
     "      from standard input. --role: the file is that of the admin port (admin.users_file), whose users have one.\n"
     "      --delete: take the user out; --check: say whether the password is right."},
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
    {"token", "NAME ROLE [--file FILE]", token_main,
     "Make a token for the admin port and print it, once. ROLE: viewer or operator. --file: append its line to this\n"
     "      file (admin.tokens_file), which is made if it is not there; without it the line is printed too."},
    {"completion", "bash", completion_main,
     "Print a script for bash that completes commands, options and words: source <(ternctl completion bash)"},
};

const size_t cli_command_count = COUNT_OF(cli_commands);

void commands_usage(struct buf *out)
{
    for (size_t i = 0; i < cli_command_count; i++) {
        cli_put(out, "%s %s\n", cli_commands[i].name, cli_commands[i].arguments);
    }
    for (size_t i = 0; i < remote_verb_count; i++) {
        remote_usage(&remote_verbs[i], out);
        buf_u8(out, '\n');
    }
}
