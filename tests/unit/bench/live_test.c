/* live_test.c -- the line of a second, on wide and narrow terminals, and what really arrives on one. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench/load/live.h"
#include "tests/lib/unit.h"

#define WIDTH_MAX 250

static const struct live_sample quiet = {
    .phase = "connect", .elapsed_s = 1, .done = 50, .total = 200, .clients_up = 50};
static const struct live_sample busy = {.phase = "measure",
                                        .elapsed_s = 12.4,
                                        .done = 5,
                                        .total = 10,
                                        .sent = 1234567,
                                        .received = 999499,
                                        .clients_up = 200,
                                        .p50_us = 120,
                                        .p99_us = 1500,
                                        .max_us = 2100000};
static const struct live_sample broken = {.phase = "measure",
                                          .elapsed_s = 86400,
                                          .done = 9,
                                          .total = 10,
                                          .sent = 5,
                                          .received = 0,
                                          .clients_up = 1000000,
                                          .lost = 3,
                                          .duplicate = 14,
                                          .reordered = 15,
                                          .late_us = 1000};
static const struct live_sample huge = {.phase = "a phase with a long name",
                                        .elapsed_s = 1e18,
                                        .done = 1e300,
                                        .total = 1,
                                        .sent = UINT64_MAX,
                                        .received = UINT64_MAX,
                                        .clients_up = UINT64_MAX,
                                        .lost = UINT64_MAX,
                                        .duplicate = UINT64_MAX,
                                        .reordered = UINT64_MAX,
                                        .p50_us = UINT64_MAX,
                                        .p99_us = UINT64_MAX,
                                        .max_us = UINT64_MAX,
                                        .late_us = UINT64_MAX};

/* --- the line ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    const struct live_sample *sample;
    unsigned width;
    const char *line;
} lines[] = {
    {"connecting", &quiet, 100, "   1s connect   [#####...............]  25%  out     0 /s  in     0 /s  50 clients"},
    {"connecting, no terminal", &quiet, 0, "   1s connect    25%  out     0 /s  in     0 /s  50 clients"},
    {"measuring, wide", &busy, 150,
     "  12s measure   [###############...............]  50%  out 1.23 M/s  in  999 k/s  p99 1.50 ms  p50  120 us"
     "  max  2.10 s  200 clients"},
    {"measuring, 80 columns", &busy, 79,
     "  12s measure   [#######........]  50%  out 1.23 M/s  in  999 k/s  p99 1.50 ms"},
    {"measuring, no terminal", &busy, 0,
     "  12s measure    50%  out 1.23 M/s  in  999 k/s  p99 1.50 ms  p50  120 us  max  2.10 s  200 clients"},
    {"room for the percentage alone", &busy, 22, "  12s measure    50%"},
    {"room for time and phase alone", &busy, 14, "  12s measure "},
    {"room for nothing", &busy, 5, ""},
    {"a part that ends in the last column", &busy, 62,
     "  12s measure   [######......]  50%  out 1.23 M/s  in  999 k/s"},
    {"and a column less", &busy, 61, "  12s measure   [######......]  50%  out 1.23 M/s"},
    {"faults come first", &broken, 79, "86400s measure   [#############..]  90%  LOST 3  DUPLICATE 14  REORDERED 15"},
    {"all there is to complain about", &broken, 0,
     "86400s measure    90%  LOST 3  DUPLICATE 14  REORDERED 15  out     5 /s  in     0 /s  late 1.00 ms"
     "  1000000 clients"},
};

static void test_lines(void)
{
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        char out[512];
        unsigned len = live_format(out, sizeof(out), lines[i].sample, lines[i].width);

        CHECK_CASE(lines[i].name, strcmp(out, lines[i].line) == 0);
        CHECK_CASE(lines[i].name, len == strlen(lines[i].line));
        if (strcmp(out, lines[i].line) != 0) {
            fprintf(stderr, "%s: \"%s\"\n", lines[i].name, out);
        }
    }
}

/* Every width and every size of buffer; the copy on the heap lets ASan see a byte too much. */
static void test_never_longer_than_the_width(void)
{
    const struct live_sample *samples[] = {&quiet, &busy, &broken, &huge};
    bool narrow = true, fits = true, empty = true;

    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        for (unsigned width = 1; width <= WIDTH_MAX; width++) {
            char out[512];
            unsigned len = live_format(out, sizeof(out), samples[i], width);
            narrow = narrow && len <= width && len == strlen(out);
        }
        for (unsigned size = 1; size <= WIDTH_MAX; size++) {
            char *out = malloc(size);
            unsigned len = live_format(out, size, samples[i], size % 2 ? 0 : WIDTH_MAX);
            fits = fits && len < size && len == strlen(out);
            free(out);
        }
        char untouched = 'x';
        empty = empty && live_format(&untouched, 0, samples[i], 80) == 0 && untouched == 'x';
    }
    CHECK(narrow);
    CHECK(fits);
    CHECK(empty);
}

static const struct {
    const char *name;
    double done, total;
    const char *bar; /* NULL: none */
} bars[] = {
    {"nothing", 0, 10, "[....................]   0%"},
    {"less than a cell", 0.4, 10, "[....................]   4%"},
    {"half", 5, 10, "[##########..........]  50%"},
    {"57 of 100 is 57 %", 57, 100, "[###########.........]  57%"},
    {"29 of 100 is 29 %", 29, 100, "[#####...............]  29%"},
    {"not quite all", 9.999, 10, "[###################.]  99%"},
    {"all", 10, 10, "[####################] 100%"},
    {"more than all", 12, 10, "[####################] 100%"},
    {"less than nothing", -3, 10, "[....................]   0%"},
    {"a part of a second", 0.25, 0.5, "[##########..........]  50%"},
    {"many", 5e17, 1e18, "[##########..........]  50%"},
    {"total unknown", 7, 0, NULL},
    {"total negative", 7, -1, NULL},
};

static void test_bars(void)
{
    for (size_t i = 0; i < COUNT_OF(bars); i++) {
        struct live_sample sample = {.phase = "ramp", .done = bars[i].done, .total = bars[i].total};
        char out[200];

        live_format(out, sizeof(out), &sample, 100);
        if (bars[i].bar) {
            CHECK_CASE(bars[i].name, strstr(out, bars[i].bar) != NULL);
        } else {
            CHECK_CASE(bars[i].name, !strpbrk(out, "[]#%"));
        }
    }
}

static const struct {
    const char *name;
    struct live_sample sample;
    const char *shown, *hidden;
} parts[] = {
    {"no latency without one", {.sent = 1}, "out", "p99"},
    {"latency below a microsecond, but a maximum", {.max_us = 1}, "p99    0 us", "late"},
    {"lateness below a millisecond is no news", {.late_us = 999}, "out", "late"},
    {"lateness from a millisecond on is", {.late_us = 1000}, "late 1.00 ms", "p99"},
    {"lost", {.lost = 1}, "LOST 1", "DUPLICATE"},
    {"duplicate", {.duplicate = 2}, "DUPLICATE 2", "LOST"},
    {"reordered", {.reordered = 3}, "REORDERED 3", "LOST"},
    {"nothing wrong", {.clients_up = 1}, "1 clients", "LOST"},
};

static void test_parts(void)
{
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        struct live_sample sample = parts[i].sample;
        char out[300];

        sample.phase = "measure";
        live_format(out, sizeof(out), &sample, 0);
        CHECK_CASE(parts[i].name, strstr(out, parts[i].shown) != NULL);
        CHECK_CASE(parts[i].name, strstr(out, parts[i].hidden) == NULL);
    }
}

/* --- what is written --------------------------------------------------------------------------------------------- */

/* Standard error goes to another file until detour_end(). */
struct detour {
    int saved;
};

static struct detour detour_start(int fd)
{
    struct detour detour = {.saved = dup(STDERR_FILENO)};
    dup2(fd, STDERR_FILENO);
    return detour;
}

static void detour_end(struct detour *detour)
{
    dup2(detour->saved, STDERR_FILENO);
    close(detour->saved);
}

/* All that is there now; fd does not block. */
static void read_all(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t got;

    while (len < size - 1 && (got = read(fd, out + len, size - 1 - len)) > 0) {
        len += (size_t)got;
    }
    out[len] = 0;
}

static void show_two(bool enabled, struct live *live)
{
    live_init(live, enabled);
    live_show(live, &quiet);
    live_show(live, &busy);
}

static void test_a_line_each_without_a_terminal(void)
{
    int pipes[2];
    char got[1024], want[1024];
    struct live live;

    CHECK(pipe2(pipes, O_NONBLOCK) == 0);
    struct detour detour = detour_start(pipes[1]);
    show_two(true, &live);
    live_end(&live);
    detour_end(&detour);
    read_all(pipes[0], got, sizeof(got));
    snprintf(want, sizeof(want), "%s\n%s\n", lines[1].line, lines[4].line);
    CHECK(strcmp(got, want) == 0);
    CHECK(!live.terminal && live.width == 0 && !live.open);
    close(pipes[0]);
    close(pipes[1]);
}

static void test_nothing_when_not_enabled(void)
{
    int pipes[2];
    char got[64];
    struct live live;

    CHECK(pipe2(pipes, O_NONBLOCK) == 0);
    struct detour detour = detour_start(pipes[1]);
    show_two(false, &live);
    live_end(&live);
    detour_end(&detour);
    read_all(pipes[0], got, sizeof(got));
    CHECK(got[0] == 0);
    close(pipes[0]);
    close(pipes[1]);
}

/* A terminal of so many columns. Returns its far side, which we read, and the near one that the program writes to. */
static int terminal_open(unsigned short columns, int *ret_near)
{
    struct winsize size = {.ws_col = columns, .ws_row = 24};
    int far = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);

    if (far < 0 || grantpt(far) != 0 || unlockpt(far) != 0) {
        return -1;
    }
    *ret_near = open(ptsname(far), O_RDWR | O_NOCTTY);
    return *ret_near >= 0 && ioctl(far, TIOCSWINSZ, &size) == 0 ? far : -1;
}

static const struct {
    const char *name, *no_color;
    unsigned short columns;
    unsigned width;
    const char *written; /* by two samples and the end */
} terminals[] = {
    {"in colour", NULL, 51, 50,
     "\r   1s connect   [\033[32m##\033[0m........]  25%  out     0 /s\033[K"
     "\r  12s measure   [\033[32m#####\033[0m.....]  50%  out 1.23 M/s\033[K\r\n"},
    {"NO_COLOR", "1", 51, 50,
     "\r   1s connect   [##........]  25%  out     0 /s\033[K\r  12s measure   [#####.....]  50%  out 1.23 "
     "M/s\033[K\r\n"},
    {"NO_COLOR that is empty", "", 51, 50,
     "\r   1s connect   [\033[32m##\033[0m........]  25%  out     0 /s\033[K"
     "\r  12s measure   [\033[32m#####\033[0m.....]  50%  out 1.23 M/s\033[K\r\n"},
    {"narrow", NULL, 21, 20, "\r   1s connect    25%\033[K\r  12s measure    50%\033[K\r\n"},
    {"does not tell its width", "1", 0, 79,
     "\r   1s connect   [###............]  25%  out     0 /s  in     0 /s  50 clients\033[K"
     "\r  12s measure   [#######........]  50%  out 1.23 M/s  in  999 k/s  p99 1.50 ms\033[K\r\n"},
};

static void test_terminal(void)
{
    for (size_t i = 0; i < COUNT_OF(terminals); i++) {
        char got[1024];
        struct live live;
        int near = -1, far = terminal_open(terminals[i].columns, &near);

        CHECK_CASE(terminals[i].name, far >= 0);
        unsetenv("NO_COLOR");
        if (terminals[i].no_color) {
            setenv("NO_COLOR", terminals[i].no_color, 1);
        }
        struct detour detour = detour_start(near);
        show_two(true, &live);
        bool open = live.open;
        live_end(&live);
        live_end(&live); /* a second end has nothing to finish */
        detour_end(&detour);
        read_all(far, got, sizeof(got));
        CHECK_CASE(terminals[i].name, live.terminal && open && !live.open);
        CHECK_CASE(terminals[i].name, live.width == terminals[i].width);
        CHECK_CASE(terminals[i].name, strcmp(got, terminals[i].written) == 0);
        close(near);
        close(far);
    }
}

/* Drawn narrower in the middle of a run. */
static void test_terminal_changes_its_width(void)
{
    struct winsize size = {.ws_col = 40, .ws_row = 24};
    char got[1024];
    struct live live;
    int near = -1, far = terminal_open(100, &near);

    CHECK(far >= 0);
    struct detour detour = detour_start(near);
    live_init(&live, true);
    live_show(&live, &busy);
    CHECK(live.width == 99);
    read_all(far, got, sizeof(got));
    CHECK(ioctl(far, TIOCSWINSZ, &size) == 0);
    live_show(&live, &busy);
    detour_end(&detour);
    read_all(far, got, sizeof(got));
    CHECK(live.width == 39);
    CHECK(strlen(got) <= 39 + strlen("\r\033[32m\033[0m\033[K"));
    close(near);
    close(far);
}

UNIT_MAIN("bench/live", {"lines", test_lines}, {"never longer than the width", test_never_longer_than_the_width},
          {"bars", test_bars}, {"parts", test_parts},
          {"a line each without a terminal", test_a_line_each_without_a_terminal},
          {"nothing when not enabled", test_nothing_when_not_enabled}, {"terminal", test_terminal},
          {"terminal changes its width", test_terminal_changes_its_width})
