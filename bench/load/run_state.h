/* run_state.h -- the machinery under the scripts of run.c: orders, waiting, phases and what they cost. For run.c and
 * run_state.c alone.
 *
 * Why: the main thread does nothing but look and wait. It looks every few milliseconds, so that the workers never have
 * to tell it anything. */
#ifndef TERN_BENCH_RUN_STATE_H
#define TERN_BENCH_RUN_STATE_H

#include "bench/load/live.h"
#include "bench/load/result.h"
#include "bench/load/worker.h"

struct run {
    struct options options;
    struct plan plan;
    struct bench bench;
    struct result *result;  /* borrowed */
    struct worker *workers; /* owned */
    struct shard *shards[THREADS_MAX];
    unsigned launched;
    struct shown now;       /* of all workers, as last seen */
    struct shown step_from; /* the same when the last order was given */
    uint64_t wanted;        /* what a condition compares with */
    enum roles roles;
    uint64_t began_ns;
    uint64_t moved, moved_ns; /* what had come from the broker when something last did */
    bool interrupted;         /* by a signal: everything is brought to its end */
    bool failed;              /* result->why says so */
    /* The phase under way. */
    struct phase_result *phase; /* borrowed from the result; NULL: none */
    struct shown phase_from;
    uint64_t phase_began_ns, phase_cpu_ns;
    /* The measured part. */
    bool measuring;
    struct shown measure_from;
    uint64_t measure_began_ns, own_cpu_ns;
    /* The last second, for the live line and the series. */
    struct live live;
    struct shown second_from;
    uint64_t second_began_ns;
    struct histogram *second_delivery, *scratch; /* owned */
    double progress_total;
};

typedef bool run_condition(const struct run *run);

/* Make the plan, start the workers. Returns 0 or a negative errno; run_close follows in both cases. */
int run_open(struct run *run, struct options *options, struct result *result);

/* End the workers, judge, write what is left of the result. */
void run_close(struct run *run, int rc);

/* Note why a run could not be done, unless something was noted before. Returns rc. */
int run_fail(struct run *run, int rc, const char *why);

/* Give an order and wait until every worker has taken it up. */
void run_order(struct run *run, enum order order, enum roles roles, bool fresh);

/* Wait for a condition. Returns 0, -ETIMEDOUT when nothing has moved for the timeout, or -EINTR. */
int run_wait(struct run *run, run_condition *condition);

/* Wait for so long, or until the condition (NULL: none). Returns 0 or -EINTR. */
int run_sleep(struct run *run, double seconds, run_condition *condition);

/* Whether nothing has come from the broker for the timeout. */
bool run_stuck(const struct run *run);

/* The same, and a signal only ends it: what was measured until then is the result. */
void run_until_signal(struct run *run, double seconds, run_condition *condition);

/* each: what the cost is divided by, or NULL. */
void phase_begin(struct run *run, const char *name, const char *each);
void phase_end(struct run *run);

/* The measured part, which is a phase too. */
void measure_begin(struct run *run, const char *name);
void measure_end(struct run *run);

uint32_t run_clients(const struct run *run, enum roles roles);
uint64_t run_filters(const struct run *run); /* subscriptions that will be made */
uint64_t run_limit(const struct run *run);   /* messages that will be sent; 0: no limit */

#endif
