/* cli.c -- options, mistakes, and text: what the subcommands share. */
#include "broker/cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *cli_command = "";

int cli_fail(int status, const char *format, ...)
{
    va_list args;

    fflush(stdout); /* what was said before stands before it */
    fprintf(stderr, "ternctl%s%s: ", *cli_command ? " " : "", cli_command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return status;
}

int cli_option(int argc, char **argv, const struct option *options)
{
    opterr = 0;
    int option = getopt_long(argc, argv, ":", options, NULL);

    if (option == ':') {
        cli_fail(CLI_ARGUMENTS, "%s needs a value", argv[optind - 1]);
        return 0;
    }
    if (option == '?') {
        cli_fail(CLI_ARGUMENTS, "%s is no option of it, or takes no value (ternctl --help)", argv[optind - 1]);
        return 0;
    }
    return option;
}

bool cli_number(const char *text, uint32_t least, uint32_t most, uint32_t *ret_number)
{
    char *end;

    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || number < least || number > most) {
        return false;
    }
    *ret_number = (uint32_t)number;
    return true;
}

void cli_put(struct buf *out, const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0) {
        out->failed = 1;
        return;
    }
    buf_put(out, slice_of(text, (size_t)len));
    free(text);
}
