/* figures.c -- fields of untrusted results, and numbers with units. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/figures.h"
#include "proto/base/slice.h"

#define PATH_PART_MAX 64
#define EXACT_MAX 1e15 /* doubles are whole up to some 9e15; what is larger is nothing that was measured */

const json_t *figures_at(const json_t *object, const char *path)
{
    while (object) {
        size_t len = strcspn(path, "/");
        char part[PATH_PART_MAX];

        if (len >= sizeof(part)) {
            return NULL;
        }
        memcpy(part, path, len);
        part[len] = '\0';
        object = json_object_get(object, part); /* NULL for what is no object */
        if (path[len] == '\0') {
            break;
        }
        path += len + 1;
    }
    return object;
}

double figures_number(const json_t *object, const char *path)
{
    const json_t *value = figures_at(object, path);

    if (!json_is_number(value)) {
        return NAN;
    }
    double number = json_number_value(value);
    return isfinite(number) && fabs(number) < EXACT_MAX ? number : NAN;
}

const char *figures_string(const json_t *object, const char *path)
{
    const char *text = json_string_value(figures_at(object, path));

    return text ? text : "";
}

int figures_clip(const char *text, size_t most)
{
    size_t len = strnlen(text, most + 1);

    if (len > most) {
        len = most;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    return (int)len;
}

/* Three digits that count, but never less than the whole number. */
static int decimals_of(double value)
{
    value = fabs(value);
    if (value == 0 || value >= 99.95) {
        return 0;
    }
    if (value >= 9.995) {
        return 1;
    }
    if (value >= 0.9995) {
        return 2;
    }
    return value >= 0.001 ? 3 : 6;
}

struct scale {
    double factor;
    const char *suffix;
};

static const struct scale scales_us[] = {{1, " us"}, {1e3, " ms"}, {1e6, " s"}};
static const struct scale scales_seconds[] = {{1, " s"}};
static const struct scale scales_rate[] = {{1, " /s"}, {1e3, " k/s"}, {1e6, " M/s"}, {1e9, " G/s"}};
static const struct scale scales_bytes[] = {{1, " B"}, {1024, " KiB"}, {1048576, " MiB"}, {1073741824, " GiB"}};
static const struct scale scales_none[] = {{1, ""}};

static const struct {
    const struct scale *scales;
    size_t count;
} units[] = {
    [FIGURES_PLAIN] = {scales_none, COUNT_OF(scales_none)},
    [FIGURES_COUNT] = {scales_none, COUNT_OF(scales_none)},
    [FIGURES_US] = {scales_us, COUNT_OF(scales_us)},
    [FIGURES_SECONDS] = {scales_seconds, COUNT_OF(scales_seconds)},
    [FIGURES_RATE] = {scales_rate, COUNT_OF(scales_rate)},
    [FIGURES_BYTES] = {scales_bytes, COUNT_OF(scales_bytes)},
};

void figures_text(char out[FIGURES_TEXT_MAX], enum figures_unit unit, double value)
{
    if (isnan(value)) {
        snprintf(out, FIGURES_TEXT_MAX, "-");
        return;
    }
    const struct scale *scale = units[unit].scales;
    for (size_t i = 1; i < units[unit].count; i++) {
        if (fabs(value) >= 0.9995 * units[unit].scales[i].factor) {
            scale = &units[unit].scales[i];
        }
    }
    bool whole = unit == FIGURES_COUNT || (scale->factor == 1 && value == floor(value));
    double scaled = value / scale->factor;
    snprintf(out, FIGURES_TEXT_MAX, "%.*f%s", whole ? 0 : decimals_of(scaled), scaled, scale->suffix);
}

void figures_exact(char out[FIGURES_TEXT_MAX], enum figures_unit unit, double value)
{
    if (isnan(value)) {
        snprintf(out, FIGURES_TEXT_MAX, "-");
        return;
    }
    snprintf(out, FIGURES_TEXT_MAX, "%.*f%s", value == floor(value) ? 0 : decimals_of(value), value,
             units[unit].scales[0].suffix);
}

const char *figures_latency_kind(const json_t *result)
{
    static const char *const kinds[] = {"delivery", "acknowledge", "connect", "subscribe"};
    const json_t *latency = figures_at(result, "latency_us");

    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (json_is_object(figures_at(latency, kinds[i]))) {
            return kinds[i];
        }
    }
    return NULL;
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

double figures_median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

const struct figures_column figures_columns[] = {
    {"Received", "messages received a second", FIGURES_RATE, FIGURES_MORE, NULL, false},
    {"p50", "half of the messages were this fast or faster", FIGURES_US, FIGURES_LESS, "p50", true},
    {"p90", "90 % were this fast or faster", FIGURES_US, FIGURES_LESS, "p90", true},
    {"p99", "99 % were this fast or faster", FIGURES_US, FIGURES_LESS, "p99", true},
    {"p99.9", "99.9 % were this fast or faster", FIGURES_US, FIGURES_LESS, "p99.9", true},
    {"p99.99", "99.99 % were this fast or faster", FIGURES_US, FIGURES_LESS, "p99.99", true},
    {"Max", "the slowest of all", FIGURES_US, FIGURES_LESS, "max", true},
    {"Lost", "messages that never came", FIGURES_COUNT, FIGURES_NEITHER, "check/lost", false},
    {"Duplicate", "messages that came twice", FIGURES_COUNT, FIGURES_NEITHER, "check/duplicate", false},
    {"Reordered", "messages behind a later one of the same publisher", FIGURES_COUNT, FIGURES_NEITHER,
     "check/reordered", false},
    {"CPU/msg", "processor time of the broker for each message in or out", FIGURES_US, FIGURES_LESS,
     "cost/cpu_us_per_message", false},
    {"Gen. late", "how late the generator itself was, 99th percentile", FIGURES_US, FIGURES_NEITHER,
     "generator/late_us/p99", false},
    {"CPU/conn.", "processor time of the broker for each connection made", FIGURES_US, FIGURES_LESS,
     "cost/cpu_us_per_connection", false},
    {"CPU/sub.", "processor time of the broker for each subscription", FIGURES_US, FIGURES_LESS,
     "cost/cpu_us_per_subscription", false},
    {"RSS/client", "memory of the broker for each client", FIGURES_BYTES, FIGURES_LESS, "cost/rss_bytes_per_client",
     false},
    {"Kernel/client", "socket memory of the kernel for each client, both ends", FIGURES_BYTES, FIGURES_NEITHER,
     "cost/kernel_bytes_per_client", false},
};
const size_t figures_markdown_column_count = COUNT_OF(figures_columns) - 4;
const size_t figures_column_count = COUNT_OF(figures_columns);

double figures_column_value(const struct figures_column *column, const json_t *result)
{
    if (!column->path) {
        double seconds = figures_number(result, "seconds");
        return seconds > 0 ? figures_number(result, "received") / seconds : NAN;
    }
    if (!column->latency) {
        return figures_number(result, column->path);
    }
    const char *kind = figures_latency_kind(result);
    char path[PATH_PART_MAX];
    snprintf(path, sizeof(path), "latency_us/%s/%s", kind ? kind : "none", column->path);
    return figures_number(result, path);
}
