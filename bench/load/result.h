/* result.h -- everything that is known of a run when it is over, and its two forms: JSON and a table for people.
 *
 * Touched by: the main thread. */
#ifndef TERN_BENCH_RESULT_H
#define TERN_BENCH_RESULT_H

#include <jansson.h>

#include "bench/load/flow.h"
#include "bench/load/options.h"
#include "bench/load/process.h"

#define PHASES_MAX 16
#define SECONDS_MAX 100000u
#define RESULT_WHY_MAX 200

/* A part of a run with a cost of its own. */
struct phase_result {
    const char *name;
    double seconds;
    uint64_t sent, received, connections, subscriptions;
    uint64_t cpu_ns;  /* of the broker; 0 without --pid */
    const char *each; /* what the cost is divided by: "message", "connection", "subscription", or NULL */
    uint64_t count;   /* how many of those */
};

struct second_result {
    double t; /* since the measured part began */
    uint64_t sent, received, p50_us, p99_us, max_us;
};

/* What must not be, over the whole run. */
struct check_result {
    uint64_t sent, expected, received, lost, duplicate, reordered, misdelivered, unacknowledged, misacknowledged,
        refused, disconnected;
    uint64_t slow_lost; /* by subscribers that read slowly: told, not judged */
};

struct result {
    const struct options *options; /* borrowed; with the objectives judged */
    const char *io;
    char started[32]; /* UTC */
    uint64_t clients;
    double seconds;                                      /* of the measured part */
    uint64_t sent, received, bytes_sent, bytes_received; /* in it */
    struct check_result check;
    struct figures *figures; /* owned; of all workers */
    uint64_t unsent;         /* open loop: messages that were due and not sent even in the time after */
    uint64_t own_cpu_ns;
    bool slower;
    char slower_why[RESULT_WHY_MAX];
    struct process_usage used[PROCESSES_MAX]; /* in the measured part */
    uint64_t rss_before[PROCESSES_MAX], rss_after[PROCESSES_MAX];
    uint64_t kernel_before, kernel_after; /* bytes of all sockets of the machine: both ends of a connection */
    struct phase_result phases[PHASES_MAX];
    uint32_t phase_count;
    const char *figure_phase;           /* whose cost the scenario is judged by */
    struct second_result *seconds_list; /* owned */
    uint32_t second_count;
    char why[RESULT_WHY_MAX];
};

void result_deinit(struct result *r);

/* Whether every message came once, in order, to the right client, and nobody was thrown out. */
bool result_clean(const struct result *r);

/* Figures by name, for --expect. */
bool result_lookup(void *context, const char *name, double *ret_value);

/* The cost of a phase in microseconds of the broker's processor time. Returns false when it is not known. */
bool result_phase_cost(const struct phase_result *phase, double *ret_us);
const struct phase_result *result_phase(const struct result *r, const char *name);

json_t *result_json(const struct result *r); /* NULL when memory is out */
void result_print(const struct result *r, FILE *out);

#endif
