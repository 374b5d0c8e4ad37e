/* plan.h -- a scenario as data: flows of messages, and the clients at their ends.
 *
 * Why: every scenario is one or several flows through the same phases, so that one engine runs and one checker judges
 * all of them. A flow has `streams`, each one topic with messages numbered from 0; `publishers`, each owning the
 * streams s with s % publishers == its number and publishing them in turn; and `receivers`, subscribed to some filters.
 * Its spread says who must get a message:
 *
 *   ONE     one receiver: the holder of the filter that is made for the stream           pair, wildcard, session
 *   ALL     every receiver                                                               fan-in, fan-out, retain
 *   SHARED  exactly one of all receivers, whichever                                      share
 *   NONE    nobody here                                                                  pub
 *   OPEN    unknown publishers send; each stream is checked as it comes                  sub
 *
 * Clients are numbered through: flow after flow, receivers before publishers. Worker w of n serves a flow's receiver
 * (and publisher) number i when i % n == w, so that both ends of a pair are on one thread. Touched by: made by the main
 * thread, read by the workers. */
#ifndef TERN_BENCH_PLAN_H
#define TERN_BENCH_PLAN_H

#include "bench/load/options.h"

#define FLOWS_MAX 8
#define TOPIC_BYTES_MAX 256u

enum spread { SPREAD_ONE, SPREAD_ALL, SPREAD_SHARED, SPREAD_NONE, SPREAD_OPEN };

struct flow_plan {
    enum spread spread;
    char topic[TOPIC_BYTES_MAX];  /* %i stands for the number of the subscription that the stream is for */
    char filter[TOPIC_BYTES_MAX]; /* %i stands for the number of the subscription */
    uint32_t publishers, receivers, streams;
    uint32_t filters; /* ONE: filter n is held by receiver n % receivers; else: each receiver has all of them */
    uint32_t slow;    /* receivers from 0 on that read slowly: nobody waits for them, nothing is lost by them */
    uint32_t first_receiver, first_publisher; /* numbers of clients */
    uint8_t qos;
    bool retain;
    bool stored; /* nobody receives while it is published: only acknowledgements are waited for */
    uint32_t batch, inflight;
    double rate;    /* messages a second of all publishers; 0: closed loop */
    uint64_t limit; /* messages of each publisher; 0: none */
};

struct plan {
    const struct options *options; /* borrowed */
    struct flow_plan flows[FLOWS_MAX];
    uint32_t flow_count, client_count;
    bool publishes, subscribes;
};

/* Make the plan. Returns false after a sentence on standard error. */
bool plan_make(const struct options *options, struct plan *ret_plan);

/* The subscription that a stream's topic is for: fewer topics than subscriptions are spread evenly over them. */
static inline uint32_t plan_filter_of(const struct flow_plan *flow, uint32_t stream)
{
    return flow->spread == SPREAD_ONE ? stream * (flow->filters / flow->streams) : stream;
}

/* Client numbers go to client identifiers. Returns the length; out has room for TOPIC_BYTES_MAX. */
size_t plan_client_id(const struct options *options, uint32_t number, char *out);

/* Fill in a template: %i is `number`, %c the identifier of client number `client`, %u the user name, %% a %. Returns
 * the length, at most TOPIC_BYTES_MAX - 1. */
size_t plan_topic(const struct options *options, const char *pattern, uint32_t number, uint32_t client, char *out);

#endif
