/* figures.h -- what a result says, field by field, and how people read it.
 *
 * Why: result files come from anywhere: by hand, from an older tool, from a run that was cut. Each look at them goes
 * through here, where a field that is missing, of the wrong type or not a number is simply no figure (NAN, "" or NULL),
 * and where a number gets its unit. Paths are names with slashes between them: "latency_us/delivery/p99.9". Touched by:
 * one thread. */
#ifndef TERN_BENCH_FIGURES_H
#define TERN_BENCH_FIGURES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define FIGURES_TEXT_MAX 48

enum figures_unit { FIGURES_PLAIN, FIGURES_COUNT, FIGURES_US, FIGURES_SECONDS, FIGURES_RATE, FIGURES_BYTES };
enum figures_better { FIGURES_NEITHER, FIGURES_LESS, FIGURES_MORE };

/* The value at path, NULL when there is none. Borrowed from object. */
const json_t *figures_at(const json_t *object, const char *path);

/* A number that is finite, else NAN; a text, else "". */
double figures_number(const json_t *object, const char *path);
const char *figures_string(const json_t *object, const char *path);

/* How many bytes of a text to show so that there are at most `most` and no character is cut. For "%.*s". */
int figures_clip(const char *text, size_t most);

/* "1.23 ms", "950 k/s", "3.1 KiB", three digits that count; "-" for NAN. */
void figures_text(char out[FIGURES_TEXT_MAX], enum figures_unit unit, double value);

/* The same to the last digit: "1234 us". */
void figures_exact(char out[FIGURES_TEXT_MAX], enum figures_unit unit, double value);

/* Which latency stands for a result: the first of delivery, acknowledge, connect, subscribe that it has; NULL: none. */
const char *figures_latency_kind(const json_t *result);

/* The middle of count > 0 values, which are sorted by it. */
double figures_median(double *values, size_t count);

/* The columns of the tables. The Markdown table has the first figures_markdown_column_count of them, the page all. */
struct figures_column {
    const char *name;
    const char *hint; /* a sentence that explains it */
    enum figures_unit unit;
    enum figures_better better;
    const char *path; /* NULL: messages received a second */
    bool latency;     /* path is a member of the latency that stands for the result */
};
extern const struct figures_column figures_columns[];
extern const size_t figures_column_count, figures_markdown_column_count;

double figures_column_value(const struct figures_column *column, const json_t *result);

#endif
