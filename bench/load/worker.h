/* worker.h -- one thread of the generator: a shard of the broker's own loop, with clients instead of a broker on it.
 *
 * Why: the generator is to be as fast as what it measures, so it runs on the same loop. The main thread gives orders,
 * one at a time (run.c); every worker carries each of them out for its own clients, and says how far it is through
 * counters that it alone writes, once a turn. Nothing else is shared but what flow.h names. Touched by: its own thread;
 * the main thread reads `shown`, `figures` and `seen`, and all when the thread has ended. */
#ifndef TERN_BENCH_WORKER_H
#define TERN_BENCH_WORKER_H

#include "bench/load/flow.h"

#define WORKER_WHY_MAX 160

enum order {
    ORDER_NONE,
    ORDER_CONNECT,    /* those of `roles` that are not connected, as fast as the plan says */
    ORDER_SUBSCRIBE,  /* every receiver */
    ORDER_PUBLISH,    /* look at the flows: publishing has begun */
    ORDER_DISCONNECT, /* those of `roles`, with a DISCONNECT */
    ORDER_CUT,        /* those of `roles`, with a reset */
    ORDER_END,        /* cut what is left and end the thread */
};

enum roles { ROLE_RECEIVERS = 1, ROLE_PUBLISHERS = 2, ROLE_ALL = 3 };

/* The order in force. Written by the main thread when every worker has seen the one before; number last. */
struct orders {
    _Atomic uint32_t number;
    enum order order;
    enum roles roles;
    bool fresh;        /* CONNECT: with Clean Start, leaving no session behind */
    uint64_t since_ns; /* CONNECT: when the schedule of --connrate begins */
    uint32_t clients;  /* CONNECT: of that role, at all workers together */
};

/* What every worker knows. */
struct bench {
    const struct plan *plan;
    struct flow_shared flows[FLOWS_MAX];
    struct measured measured;
    struct orders orders;
    uint32_t workers;
    struct mail_office *office;
};

/* The counters as the main thread sees them; the same as struct counts, and the state of the connections. */
struct shown {
    struct counts counts;
    uint64_t up, connecting, idle[2]; /* clients; idle: receivers, publishers */
};

struct worker {
    struct bench *bench; /* borrowed */
    struct shard *shard; /* set by the launch */
    uint32_t index;
    struct client_pool pool;
    struct client *clients; /* owned */
    uint32_t client_count;
    struct flow flows[FLOWS_MAX];
    struct figures *figures; /* owned */
    struct counts counts;
    uint32_t seen_number;
    uint32_t up, connecting,
        idle[2]; /* clients in these states, one that leaves is in none; idle: receivers, publishers */
    /* CONNECT under way: the next client to look at, and how many of the role have been started. */
    bool to_connect;
    uint32_t connect_at, connect_started;
    struct timer forgive;
    _Atomic uint32_t seen;        /* number of the last order that was taken up */
    _Atomic uint64_t show_number; /* odd while `shown` is being written (a seqlock) */
    _Atomic uint64_t shown[sizeof(struct shown) / sizeof(uint64_t)];
    _Atomic bool has_why;
    char why[WORKER_WHY_MAX]; /* what went wrong first */
};

extern const struct shard_handler worker_handler; /* shard->broker is the worker */

/* Make what the thread needs before it starts. Returns 0 or a negative errno; worker_deinit takes a half-made one. */
int worker_init(struct worker *w, struct bench *bench, uint32_t index);
void worker_deinit(struct worker *w);

/* A consistent copy of what the worker shows. From the main thread. */
void worker_look(struct worker *w, struct shown *ret_shown);

#endif
