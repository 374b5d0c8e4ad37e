/* compare_run.h -- the runs of a comparison: which is next, how it is started, and what is taken from its result. */
#ifndef TERN_BENCH_COMPARE_RUN_H
#define TERN_BENCH_COMPARE_RUN_H

#include "bench/compare/compare_table.h"

#define COMPARE_DURATION_S "1" /* of a scenario that does not say how long it measures */

struct compare_run {
    const struct cases *cases; /* borrowed */
    const char *program;       /* borrowed; the path of tern-bench */
    const char *duration;      /* borrowed; NULL: what the scenario says, or COMPARE_DURATION_S */
    struct compare_table *table;
    json_t *results;  /* owned; every result, with "group", "label" and "round"; NULL: they are not kept */
    uint32_t unclean; /* runs in which a broker did not keep what is checked */
    uint32_t failed;  /* runs without a figure */
};

/* Do all runs of what the table has switched on; a line for each on stderr. Returns 0, also when runs failed; -EINVAL
 * when tern-bench does not take the arguments of a scenario (told on stderr); or -EINTR. Nothing is left running. */
int compare_run_all(struct compare_run *run);

/* The number at a path of a result: names parted by dots ("latency_us.delivery.p99.9", where "p99.9" is one name); in a
 * list a name is that of the item whose "name" it is ("phases.drain.cpu_s"). NAN when there is none. */
double compare_figure_at(const json_t *result, const char *path);

#endif
