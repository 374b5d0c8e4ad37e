/* expect.h -- objectives of a run: `p99<5ms,lost=0,cpu<1us`.
 *
 * Why: a measurement in a script should fail by itself. An objective is a name, one of < <= > >= = and a number with an
 * optional unit (ns us ms s, k M). The names are those of the result: p50 p90 p99 p99.9 p99.99 max mean (delivery
 * latency), the same with `ack-`, `connect-` or `late-` in front; lost duplicate reordered misdelivered unacknowledged
 * misacknowledged refused disconnected sent received; rate (messages received a second); cpu (broker CPU time per
 * message in plus out), connection-cpu, subscription-cpu, rss (bytes a client). Touched by: the main thread. */
#ifndef TERN_BENCH_EXPECT_H
#define TERN_BENCH_EXPECT_H

#include <stdbool.h>
#include <stddef.h>

#define EXPECT_MAX 32
#define EXPECT_TEXT_MAX 64

enum expect_relation { EXPECT_LESS, EXPECT_AT_MOST, EXPECT_MORE, EXPECT_AT_LEAST, EXPECT_EQUAL };

struct expectation {
    char text[EXPECT_TEXT_MAX]; /* as it was written */
    char name[EXPECT_TEXT_MAX];
    enum expect_relation relation;
    double limit; /* in the unit of the name: times in us, bytes, counts, messages a second */
    bool known;   /* set by expect_judge: the run has such a figure */
    double value;
    bool met; /* an unknown figure is never met */
};

struct expect_list {
    size_t count;
    struct expectation items[EXPECT_MAX];
};

/* Append what text says. Returns NULL, or a sentence that names the mistake (static, or in a buffer that the next call
 * overwrites), with the list unchanged. */
const char *expect_parse(struct expect_list *list, const char *text);

/* Look each figure up and judge. lookup returns whether there is a figure of that name. Returns whether all are met. */
typedef bool expect_lookup(void *context, const char *name, double *ret_value);
bool expect_judge(struct expect_list *list, expect_lookup *lookup, void *context);

/* Whether expect_parse knows the name. */
bool expect_name_known(const char *name);

#endif
