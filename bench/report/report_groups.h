/* report_groups.h -- which results stand beside each other.
 *
 * Why: results may be compared only when they measure the same thing. That is what their field "group" says, or else
 * scenario and options. Within a group the results of one label are runs of one entry: of several runs the tables show
 * the median and the range, and the curves are those of the run in the middle. Groups and entries keep the order of the
 * file: the first entry is what the others are compared with. Everything borrows from the results. Touched by: one
 * thread. */
#ifndef TERN_BENCH_REPORT_GROUPS_H
#define TERN_BENCH_REPORT_GROUPS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "bench/report/figures.h"

#define REPORT_RESULTS_MAX 1000

struct report_entry {
    const char *label;
    const json_t **runs; /* owned array of borrowed results */
    size_t run_count;
    const json_t *middle; /* of the runs */
};

struct report_group {
    char *key;   /* owned: the field "group", or what was measured */
    char *about; /* owned: what was measured, in words */
    struct report_entry *entries;
    size_t entry_count;
    struct figures_column judged; /* what the scenario is judged by */
    char judged_name[96];
};

struct report_groups {
    struct report_group *groups;
    size_t count;
    size_t run_count;
    size_t left_out; /* results beyond REPORT_RESULTS_MAX, and what is no object */
};

/* Returns 0 or -ENOMEM. */
int report_groups_init(struct report_groups *groups, const json_t *results);
void report_groups_deinit(struct report_groups *groups);

/* What a result measured: "pair, 100 clients, QoS 0, MQTT 3.1.1 ...". NULL when memory is out; free() it. */
char *report_about(const json_t *result);

/* The key of its group. NULL when memory is out; free() it. */
char *report_key(const json_t *result);

/* The median over the runs that have the figure, NAN when none has; and the range. */
struct report_spread {
    double median, low, high;
};
struct report_spread report_spread_of(const struct report_entry *entry, const struct figures_column *column);

/* The best median of a column; NAN where there is nothing to choose: one entry, no better side, or all as good. */
double report_best_of(const struct report_group *group, const struct figures_column *column);

/* The best, or within 1 % of it. */
bool report_is_best(double value, double best);

#endif
