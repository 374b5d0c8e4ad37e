/* scenario.h -- one run: connect, subscribe, warm up, measure, drain, judge.
 *
 * Why: every scenario goes through the same phases, so that their numbers can be compared. Only the phase `measure`
 * counts for speed; what was lost, repeated or out of order is judged over the whole run.
 *
 *   CONNECT -> SUBSCRIBE -> WARMUP -> MEASURE -> DRAIN -> QUIET -> over       idle: CONNECT -> SETTLE -> MEASURE ->
 * over
 *
 * DRAIN waits until nothing is outstanding; QUIET waits a little longer, for a duplicate may come after the last
 * message. A run in which nothing moves for stall_ms is ended; what is outstanding then is lost. */
#ifndef TERN_BENCH_SCENARIO_H
#define TERN_BENCH_SCENARIO_H

#include "bench/client.h"
#include "bench/process.h"

enum scenario_kind { SCENARIO_PAIR, SCENARIO_FANOUT, SCENARIO_WILDCARD, SCENARIO_IDLE };

struct scenario_options {
    enum scenario_kind kind;
    struct client_target target;
    uint8_t qos;
    uint32_t count;         /* pairs; subscribers of the fanout; connections with subscriptions; idle clients */
    uint32_t publishers;    /* wildcard only */
    uint32_t subscriptions; /* wildcard only */
    uint32_t topics;        /* wildcard only: different topics published to; 0 is one for each subscription */
    uint32_t payload_bytes, batch, window;
    uint32_t warmup_ms, measure_ms, stall_ms;
    pid_t pid; /* of the broker; 0 when its use of the processor is not wanted */
};

#define SCENARIO_WHY_MAX 160

struct scenario_result {
    uint32_t clients;
    uint64_t setup_us, measured_us;
    uint64_t sent, received;                                         /* PUBLISH packets within the measured part */
    uint64_t sent_total, received_total;                             /* in the whole run; duplicates not counted */
    uint64_t lost, duplicated, reordered, misdelivered;              /* deliveries */
    uint64_t unacknowledged, misacknowledged, refused, disconnected; /* the rest of what must not be */
    uint64_t own_cpu_us;                                             /* this process, in the measured part */
    struct process_usage before, from, to; /* of pid: before the first connection, around the measured part */
    char why[SCENARIO_WHY_MAX];            /* what went wrong first; empty when nothing did */
};

const char *scenario_name(enum scenario_kind kind);

/* Run it. Returns 0 when the measured part was reached, whatever the broker did in it; else a negative errno, and
 * ret_result->why says more. ret_result is written in both cases. */
int scenario_run(const struct scenario_options *options, struct scenario_result *ret_result);

/* Whether every message came once, in order, to the right client, and nobody was thrown out. */
bool scenario_clean(const struct scenario_result *result);

#endif
