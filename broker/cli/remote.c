/* remote.c -- the arguments of a verb, read by its row; who asks; help. */
#include "broker/cli/remote.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define OPTION_FIRST 256 /* of getopt's numbers */
#define HELP_INDENT 28

const struct remote_option remote_common_options[] = {
    {"url", "URL", NULL, "admin port of a node (TERNCTL_URL, else http://127.0.0.1:18083)"},
    {"user", "NAME", NULL, "who asks; the password is TERNCTL_PASSWORD, or asked for on the terminal"},
    {"password-file", "FILE", NULL, "the password is its first line"},
    {"token-file", "FILE", NULL, "a token is its first line (TERNCTL_TOKEN: the token itself)"},
    {"cacert", "FILE", NULL, "PEM file of who signs the node's certificate, instead of the system's"},
    {"insecure", NULL, NULL, "believe any certificate, and send the password in the clear if the URL is http"},
    {"json", NULL, NULL, "print JSON as the node sends it"},
    {"node", "NAME", "node", "ask this node of the cluster only"},
    {0},
};

/* ---- what was given ---- */

const char *remote_value(const struct remote_call *call, const char *name)
{
    const char *value = NULL;

    for (unsigned i = 0; i < call->given_count; i++) {
        value = strcmp(call->given[i].option->name, name) == 0 ? call->given[i].value : value;
    }
    return value;
}

static bool read_seconds(const char *text, uint32_t *ret_seconds)
{
    static const struct {
        char unit;
        uint32_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    char digits[16], *unit;
    uint32_t count, factor = 1;

    if (snprintf(digits, sizeof(digits), "%s", text) >= (int)sizeof(digits) || !*digits) {
        return false;
    }
    unit = &digits[strlen(digits) - 1];
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (*unit == units[i].unit) {
            factor = units[i].seconds;
            *unit = '\0';
            break;
        }
    }
    if (!cli_number(digits, 0, UINT32_MAX / factor, &count)) {
        return false;
    }
    *ret_seconds = count * factor;
    return true;
}

uint32_t remote_seconds(const struct remote_call *call, const char *name)
{
    const char *value = remote_value(call, name);
    uint32_t seconds = 0;

    return value && read_seconds(value, &seconds) ? seconds : 0;
}

/* Whether text is one of "a|b|c". */
static bool is_one_of(const char *text, const char *words)
{
    size_t len = strlen(text);

    for (const char *at = words; *at; at += strcspn(at, "|"), at += *at == '|') {
        if (strcspn(at, "|") == len && memcmp(at, text, len) == 0) {
            return true;
        }
    }
    return false;
}

static int check_value(const struct remote_option *option, const char *value)
{
    uint32_t number;

    if (!option->value) {
        return CLI_DONE;
    }
    if (strcmp(option->value, "N") == 0 && !cli_number(value, 0, UINT32_MAX, &number)) {
        return cli_fail(CLI_ARGUMENTS, "--%s %s: must be a number", option->name, value);
    }
    if (strcmp(option->value, "DURATION") == 0 && !read_seconds(value, &number)) {
        return cli_fail(CLI_ARGUMENTS, "--%s %s: must be a number of seconds, or like 90s, 10m, 2h, 7d", option->name,
                        value);
    }
    if (strchr(option->value, '|') && !is_one_of(value, option->value)) {
        return cli_fail(CLI_ARGUMENTS, "--%s %s: must be one of %s", option->name, value, option->value);
    }
    return CLI_DONE;
}

/* The options of a verb and those of all, for getopt; val is OPTION_FIRST and the place in ret_rows. */
static void list_options(const struct remote_verb *verb, struct option *options, const struct remote_option **ret_rows)
{
    const struct remote_option *const lists[] = {verb->options, remote_common_options};
    int count = 0;

    for (unsigned list = 0; list < COUNT_OF(lists); list++) {
        for (const struct remote_option *o = lists[list]; o && o->name && count < (int)REMOTE_OPTIONS_MAX; o++) {
            options[count] =
                (struct option){o->name, o->value ? required_argument : no_argument, NULL, OPTION_FIRST + count};
            ret_rows[count++] = o;
        }
    }
    options[count] = (struct option){0};
}

/* How many operands the words stand for: "AS WHO": 2 and 2; "[ID]": 0 and 1; "ID...": 1 and any. */
static void count_operands(const char *words, unsigned *ret_least, unsigned *ret_most)
{
    *ret_least = *ret_most = 0;
    for (const char *at = words; *at; at += strcspn(at, " "), at += *at == ' ') {
        size_t len = strcspn(at, " ");
        *ret_least += *at != '[';
        *ret_most = len > 3 && memcmp(at + len - 3, "...", 3) == 0 ? UINT32_MAX : *ret_most + 1;
    }
}

static int take_arguments(struct remote_call *call, int argc, char **argv)
{
    const struct remote_option *rows[REMOTE_OPTIONS_MAX];
    struct option options[REMOTE_OPTIONS_MAX + 1];
    const char *operands = call->verb->operands ? call->verb->operands : "";
    unsigned least, most;
    int option;

    list_options(call->verb, options, rows);
    while ((option = cli_option(argc, argv, options)) != -1) {
        if (option < OPTION_FIRST) {
            return CLI_ARGUMENTS;
        }
        if (call->given_count == REMOTE_GIVEN_MAX) {
            return cli_fail(CLI_ARGUMENTS, "more than %u options", REMOTE_GIVEN_MAX);
        }
        const struct remote_option *row = rows[option - OPTION_FIRST];
        const char *value = row->value ? optarg : "";
        if (check_value(row, value) != CLI_DONE) {
            return CLI_ARGUMENTS;
        }
        call->given[call->given_count].option = row;
        call->given[call->given_count++].value = value;
    }
    call->operands = argv + optind;
    call->operand_count = (unsigned)(argc - optind);
    count_operands(operands, &least, &most);
    if (call->operand_count < least || call->operand_count > most) {
        return *operands ? cli_fail(CLI_ARGUMENTS, "needs %s (ternctl %s --help)", operands, call->verb->name)
                         : cli_fail(CLI_ARGUMENTS, "%s is too much", call->operands[0]);
    }
    for (unsigned i = 0; i < call->operand_count; i++) {
        if (!*call->operands[i] && i == 0) {
            return cli_fail(CLI_ARGUMENTS, "%s cannot be empty", operands);
        }
    }
    return CLI_DONE;
}

/* ---- who asks ---- */

/* The first line of a file, in a buffer of REMOTE_SECRET_MAX + 2. */
static int read_secret(const char *path, const char *what, char *secret)
{
    FILE *in = fopen(path, "re");
    const char *line = in ? fgets(secret, REMOTE_SECRET_MAX + 2, in) : NULL;
    int error = errno;

    if (in) {
        fclose(in);
    }
    if (!in) {
        return cli_fail(CLI_FAILED, "%s: %s", path, strerror(error));
    }
    size_t len = line ? strcspn(secret, "\r\n") : 0;
    if (len == 0 || (secret[len] == '\0' && len > REMOTE_SECRET_MAX)) {
        return cli_fail(CLI_FAILED, "%s: its first line is no %s", path, what);
    }
    secret[len] = '\0';
    return CLI_DONE;
}

static int take_environment(const char *name, char *secret)
{
    const char *value = getenv(name);

    if (value && snprintf(secret, REMOTE_SECRET_MAX + 1, "%s", value) > (int)REMOTE_SECRET_MAX) {
        return cli_fail(CLI_FAILED, "%s is longer than %u bytes", name, REMOTE_SECRET_MAX);
    }
    return CLI_DONE;
}

static int take_identity(struct remote_call *call)
{
    const char *file = remote_value(call, "token-file"), *user = remote_value(call, "user");
    const char *password_file = remote_value(call, "password-file");

    if (file && user) {
        return cli_fail(CLI_ARGUMENTS, "either --user or --token-file");
    }
    if (password_file && !user) {
        return cli_fail(CLI_ARGUMENTS, "--password-file is for --user");
    }
    if (file) {
        return read_secret(file, "token", call->token);
    }
    if (!user) {
        return take_environment("TERNCTL_TOKEN", call->token);
    }
    if (password_file) {
        return read_secret(password_file, "password", call->password);
    }
    if (getenv("TERNCTL_PASSWORD")) {
        return take_environment("TERNCTL_PASSWORD", call->password);
    }
    if (!isatty(STDIN_FILENO)) {
        return cli_fail(CLI_ARGUMENTS, "--user needs a password: TERNCTL_PASSWORD, --password-file, or a terminal");
    }
    int rc = EVP_read_pw_string_min(call->password, 1, (int)REMOTE_SECRET_MAX, "Password: ", 0);
    return rc == 0 ? CLI_DONE : cli_fail(CLI_FAILED, "no password was given");
}

/* ---- help ---- */

void remote_usage_option(const struct remote_option *option, struct buf *out)
{
    cli_put(out, "--%s%s%s", option->name, option->value ? " " : "", option->value ? option->value : "");
}

void remote_usage(const struct remote_verb *verb, struct buf *out)
{
    cli_put(out, "%s%s%s", verb->name, verb->operands ? " " : "", verb->operands ? verb->operands : "");
    for (const struct remote_option *o = verb->options; o && o->name; o++) {
        buf_put(out, slice_str(" ["));
        remote_usage_option(o, out);
        buf_put(out, slice_str("]"));
    }
}

static void put_help_of_options(const struct remote_option *options, struct buf *out)
{
    for (const struct remote_option *o = options; o && o->name; o++) {
        uint32_t before = out->len;
        buf_put(out, slice_str("  "));
        remote_usage_option(o, out);
        if (out->len - before > HELP_INDENT - 2) {
            cli_put(out, "\n%*s%s\n", HELP_INDENT, "", o->help);
        } else {
            cli_put(out, "%*s%s\n", HELP_INDENT - (int)(out->len - before), "", o->help);
        }
    }
}

static int print_help(const struct remote_verb *verb)
{
    struct buf out = {0};

    cli_put(&out, "usage: ternctl %s%s%s%s\n\n%s\n\n", verb->name, verb->operands ? " " : "",
            verb->operands ? verb->operands : "", verb->options ? " [options]" : "", verb->help);
    put_help_of_options(verb->options, &out);
    buf_put(&out, slice_str(verb->options ? "\n" : ""));
    put_help_of_options(remote_common_options, &out);
    const char *text = remote_text(&out);
    if (text) {
        fputs(text, stdout);
    }
    buf_deinit(&out);
    return text ? CLI_DONE : CLI_FAILED;
}

/* ---- which verb ---- */

/* How many of argv, from argv[1] on, are options that all verbs have, with their values. */
static int count_front(int argc, char **argv)
{
    int at = 1;

    while (at < argc && strncmp(argv[at], "--", 2) == 0) {
        const struct remote_option *o = remote_common_options;
        size_t len = strcspn(argv[at] + 2, "=");
        while (o->name && (strlen(o->name) != len || memcmp(o->name, argv[at] + 2, len) != 0)) {
            o++;
        }
        if (!o->name) {
            break;
        }
        at += o->value && argv[at][2 + len] != '=' ? 2 : 1;
    }
    return at - 1;
}

/* The verb whose words are first among these; *ret_words: how many they are. */
static const struct remote_verb *find_verb(int argc, char **argv, int *ret_words)
{
    for (size_t i = 0; i < remote_verb_count; i++) {
        const char *name = remote_verbs[i].name, *blank = strchr(name, ' ');
        size_t noun = blank ? (size_t)(blank - name) : strlen(name);
        bool same = argc > 0 && strlen(argv[0]) == noun && memcmp(argv[0], name, noun) == 0;
        if (same && (!blank || (argc > 1 && strcmp(argv[1], blank + 1) == 0))) {
            *ret_words = blank ? 2 : 1;
            return &remote_verbs[i];
        }
    }
    return NULL;
}

/* A noun without its verb: which there are. */
static int tell_verbs(const char *noun)
{
    struct buf verbs = {0};
    size_t len = strlen(noun);

    for (size_t i = 0; i < remote_verb_count; i++) {
        const char *name = remote_verbs[i].name;
        if (strncmp(name, noun, len) == 0 && name[len] == ' ') {
            cli_put(&verbs, "%s%s", verbs.len ? ", " : "", name + len + 1);
        }
    }
    const char *text = remote_text(&verbs);
    int status = CLI_FAILED;
    if (text) {
        status = *text ? cli_fail(CLI_ARGUMENTS, "%s: one of %s must follow", noun, text)
                       : cli_fail(CLI_ARGUMENTS, "%s is no command that asks a node (ternctl --help)", noun);
    }
    buf_deinit(&verbs);
    return status;
}

bool remote_is_verb(int argc, char **argv)
{
    int front = count_front(argc, argv);

    if (front + 1 >= argc) {
        return front > 0;
    }
    for (size_t i = 0; i < remote_verb_count; i++) {
        size_t noun = strcspn(remote_verbs[i].name, " ");
        if (strlen(argv[front + 1]) == noun && memcmp(argv[front + 1], remote_verbs[i].name, noun) == 0) {
            return true;
        }
    }
    return front > 0;
}

static bool asks_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            return true;
        }
    }
    return false;
}

/* The arguments without the verb's words, which may stand behind options: those first, as getopt wants them. */
static int run_verb(struct remote_call *call, int front, int words, int argc, char **argv)
{
    char **rest = calloc((size_t)argc + 1, sizeof(*rest));
    int count = 0;

    if (!rest) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    rest[count++] = (char *)call->verb->name;
    for (int i = 1; i < argc; i++) {
        if (i <= front || i > front + words) {
            rest[count++] = argv[i];
        }
    }
    int status = take_arguments(call, count, rest);
    status = status ? status : take_identity(call);
    if (status == CLI_DONE) {
        status = curl_global_init(CURL_GLOBAL_DEFAULT) == 0 ? call->verb->run(call)
                                                            : cli_fail(CLI_FAILED, "libcurl does not start");
        remote_hang_up(call);
        curl_global_cleanup();
    }
    free(rest);
    return status;
}

int remote_run(int argc, char **argv)
{
    static struct remote_call call; /* too large for the stack */
    int front = count_front(argc, argv), words = 0;

    if (front + 1 >= argc) {
        return cli_fail(CLI_ARGUMENTS, "a command must follow (ternctl --help)");
    }
    call.verb = find_verb(argc - front - 1, argv + front + 1, &words);
    if (!call.verb && !asks_help(argc, argv) && front + 2 < argc && argv[front + 2][0] != '-') {
        return cli_fail(CLI_ARGUMENTS, "%s %s is no command (ternctl --help)", argv[front + 1], argv[front + 2]);
    }
    if (!call.verb) {
        return tell_verbs(argv[front + 1]);
    }
    cli_command = call.verb->name;
    if (asks_help(argc, argv)) {
        return print_help(call.verb);
    }
    int status = run_verb(&call, front, words, argc, argv);
    OPENSSL_cleanse(call.password, sizeof(call.password));
    OPENSSL_cleanse(call.token, sizeof(call.token));
    return status;
}
