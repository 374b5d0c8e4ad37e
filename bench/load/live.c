/* live.c -- one line from a sample, the important parts first. A part that does not fit is left out as a whole: a
 * figure cut in the middle would be a wrong figure. */
#include "bench/load/live.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench/report/figures.h"

#define LINE_MAX_BYTES 512
#define WIDTH_USUAL 80 /* of a terminal that does not tell */
#define BAR_MIN 10
#define BAR_MAX 30
#define LATE_SHOWN_US 1000

/* --- the line ---------------------------------------------------------------------------------------------------- */

/* A line that grows to the right, up to its width. */
struct line {
    char *out;
    unsigned len, room; /* bytes: nothing in here takes more than one a column */
    bool full;          /* a part did not fit: later ones, which matter less, do not take its place */
};

/* Append one part, parted from what stands before; all of it or nothing. */
__attribute__((format(printf, 2, 3))) static void line_put(struct line *line, const char *format, ...)
{
    char part[LINE_MAX_BYTES];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(part, sizeof(part), format, args);
    va_end(args);
    unsigned gap = line->len > 0 ? 2 : 0;
    line->full = line->full || len <= 0 || (size_t)len >= sizeof(part) || line->len + gap + (unsigned)len > line->room;
    if (line->full) {
        return;
    }
    memcpy(line->out + line->len, "  ", gap);
    memcpy(line->out + line->len + gap, part, (size_t)len + 1);
    line->len += gap + (unsigned)len;
}

/* How many of `steps` are done: all of them only when all of the phase is. */
static unsigned steps_done(const struct live_sample *sample, unsigned steps)
{
    double done = sample->done * steps / sample->total;

    if (!(done > 0)) {
        return 0;
    }
    return done < steps ? (unsigned)done : steps; /* a phase may end late */
}

/* The bar takes a fifth of the line; where there is no terminal, or too narrow a one, the percentage stands alone. */
static void bar_put(struct line *line, const struct live_sample *sample, unsigned width)
{
    char bar[BAR_MAX + 1];

    if (!(sample->total > 0)) {
        return;
    }
    unsigned cells = width / 5 < BAR_MIN ? BAR_MIN : width / 5 > BAR_MAX ? BAR_MAX : width / 5;
    unsigned full = steps_done(sample, cells), percent = steps_done(sample, 100);
    memset(bar, '#', full);
    memset(bar + full, '.', cells - full);
    bar[cells] = 0;
    if (width > 0 && line->len + strlen("  [] 100%") + cells <= line->room) {
        line_put(line, "[%s] %3u%%", bar, percent);
    } else {
        line_put(line, "%3u%%", percent);
    }
}

static void fault_put(struct line *line, const char *name, uint64_t count)
{
    if (count > 0) {
        line_put(line, "%s %" PRIu64, name, count);
    }
}

static void rates_put(struct line *line, const struct live_sample *sample)
{
    char sent[FIGURES_TEXT_MAX], received[FIGURES_TEXT_MAX];

    figures_text(sent, FIGURES_RATE, (double)sample->sent);
    figures_text(received, FIGURES_RATE, (double)sample->received);
    line_put(line, "out %8s", sent);
    line_put(line, "in %8s", received);
}

static void latency_put(struct line *line, const char *name, uint64_t value_us)
{
    char text[FIGURES_TEXT_MAX];

    figures_text(text, FIGURES_US, (double)value_us);
    line_put(line, "%s %7s", name, text);
}

unsigned live_format(char *out, unsigned size, const struct live_sample *sample, unsigned width)
{
    if (size == 0) {
        return 0;
    }
    struct line line = {.out = out, .room = size - 1};
    if (width > 0 && width < line.room) {
        line.room = width;
    }
    out[0] = 0;
    line_put(&line, "%4.0fs %-8s", sample->elapsed_s, sample->phase);
    bar_put(&line, sample, width);
    fault_put(&line, "LOST", sample->lost);
    fault_put(&line, "DUPLICATE", sample->duplicate);
    fault_put(&line, "REORDERED", sample->reordered);
    rates_put(&line, sample);
    if (sample->p50_us > 0 || sample->p99_us > 0 || sample->max_us > 0) {
        latency_put(&line, "p99", sample->p99_us);
        latency_put(&line, "p50", sample->p50_us);
        latency_put(&line, "max", sample->max_us);
    }
    if (sample->late_us >= LATE_SHOWN_US) {
        latency_put(&line, "late", sample->late_us);
    }
    line_put(&line, "%" PRIu64 " clients", sample->clients_up);
    return line.len;
}

/* --- the terminal ------------------------------------------------------------------------------------------------ */

/* Columns that may be written: in the last one many terminals go on to the next line. */
static unsigned terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 2) {
        return WIDTH_USUAL - 1;
    }
    return size.ws_col - 1;
}

void live_init(struct live *live, bool enabled)
{
    *live = (struct live){.enabled = enabled, .terminal = enabled && isatty(STDERR_FILENO)};
    if (live->terminal) {
        live->width = terminal_width();
    }
}

/* Over the line that stands there, what is done of the bar in green. */
static void terminal_write(const char *line)
{
    const char *bar = strchr(line, '['), *plain = getenv("NO_COLOR"); /* no-color.org: set and not empty */
    size_t full = bar ? strspn(bar + 1, "#") : 0;

    if (full == 0 || (plain && plain[0])) {
        fprintf(stderr, "\r%s\033[K", line);
    } else {
        fprintf(stderr, "\r%.*s\033[32m%.*s\033[0m%s\033[K", (int)(bar + 1 - line), line, (int)full, bar + 1,
                bar + 1 + full);
    }
}

void live_show(struct live *live, const struct live_sample *sample)
{
    char line[LINE_MAX_BYTES];

    if (!live->enabled) {
        return;
    }
    if (live->terminal) {
        live->width = terminal_width(); /* it may have been drawn wider or narrower */
    }
    live_format(line, sizeof(line), sample, live->width);
    if (live->terminal) {
        terminal_write(line);
        live->open = true;
    } else {
        fprintf(stderr, "%s\n", line);
    }
}

void live_end(struct live *live)
{
    if (live->open) {
        fputs("\n", stderr);
        live->open = false;
    }
}
