/* compare_table.h -- the figures of a comparison: what the rounds of one broker say together, and beside another
 * broker.
 *
 * Why medians: the machine is busy with other things as well. One run that was disturbed moves a mean, and not a median
 * of three. Why a ratio is the median of the ratios of each round, and not the ratio of the medians: the runs of one
 * round are neighbours in time, so that what slows the machine for a while slows both. Only computes. */
#ifndef TERN_BENCH_COMPARE_TABLE_H
#define TERN_BENCH_COMPARE_TABLE_H

#include <jansson.h>
#include <stdio.h>

#include "bench/compare/cases.h"

#define COMPARE_ROUNDS_MAX 20
#define COMPARE_UNIT_MAX 64

/* One broker on one scenario. NAN where nothing was measured. */
struct compare_cell {
    double figures[COMPARE_ROUNDS_MAX];
};

struct compare_table {
    const struct cases *cases; /* borrowed */
    uint32_t round_count;
    bool scenario_on[CASES_SCENARIOS_MAX], broker_on[CASES_BROKERS_MAX]; /* what is measured, of the cases */
    char units[CASES_SCENARIOS_MAX][COMPARE_UNIT_MAX];                   /* what the figure is, for its column */
    struct compare_cell cells[CASES_SCENARIOS_MAX][CASES_BROKERS_MAX];
};

struct compare_spread {
    double median, min, max; /* NAN when count is 0 */
    uint32_t count;
};

/* A table in which nothing is switched on and nothing is measured. */
void compare_table_init(struct compare_table *table, const struct cases *cases, uint32_t round_count);

/* What count figures say together; those that are NAN do not count. */
struct compare_spread compare_spread_of(const double *figures, uint32_t count);

/* The median of the ratios of each round in which both were measured: broker to reference, by their places in the
 * cases. NAN when there is no such round. 0 to 0 is 1: neither needed anything. */
double compare_ratio(const struct compare_table *table, uint32_t scenario, uint32_t broker, uint32_t reference);

/* The place of the reference among the brokers, when it is measured; else -1. */
int compare_reference(const struct compare_table *table);

enum compare_verdict {
    COMPARE_UNASKED, /* the bound is not about this broker, or the broker is not measured now */
    COMPARE_UNKNOWN, /* it is, and a figure is missing */
    COMPARE_MET,
    COMPARE_MISSED,
};

/* Whether a broker keeps a bound of a scenario; *ret_value is what was held against bound->most, NAN when there is
 * none. */
enum compare_verdict compare_judge(const struct compare_table *table, uint32_t scenario, const struct case_bound *bound,
                                   uint32_t broker, double *ret_value);

/* The number of bounds missed, each broker by itself. */
uint32_t compare_missed(const struct compare_table *table);

/* A table in Markdown with a line for each scenario that is switched on. */
void compare_table_print(const struct compare_table *table, FILE *out);

/* The same as a list of objects, one a scenario and broker. NULL when memory is out. */
json_t *compare_table_json(const struct compare_table *table);

#endif
