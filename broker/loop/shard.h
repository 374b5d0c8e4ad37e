/* shard.h -- one thread with its own door, wheel and mail, and the turn it makes over and over (DESIGN: one turn of a
 * shard).
 *
 *     now -> io_reap -> mail_drain -> timer_run -> handler->turn_end -> mail_flush + wakes -> io_submit_wait
 *
 * Work reacts to events but runs at our pace: each station has a budget, and nothing inside a turn waits. */
#ifndef TERN_BROKER_LOOP_SHARD_H
#define TERN_BROKER_LOOP_SHARD_H

#include "broker/base/metrics.h"
#include "broker/loop/io.h"
#include "broker/loop/mailbox.h"
#include "broker/loop/timer.h"
#include "proto/base/buf.h"

#define SHARDS_MAX 64

struct shard;

/* Filled once in broker/node.c: control goes up only here. All run on the shard's thread. */
struct shard_handler {
    int (*start)(struct shard *shard); /* the door is open; build tables, start listeners. 0 or a negative errno */
    void (*mail)(struct shard *shard, const struct mail *mail);
    void (*turn_end)(struct shard *shard); /* flush what the turn has gathered */
    void (*awake)(struct shard *shard);    /* a turn begins after a sleep (or the first) */
    void (*asleep)(struct shard *shard);   /* nothing is held; about to sleep */
    void (*stop)(struct shard *shard);     /* the last turn is over; free the tables. The door still exists */
};

struct shard {
    unsigned index, count;
    struct io *io;
    struct timer_wheel *timers;
    struct mail_office *office; /* borrowed from the node */
    struct shard **peers;       /* borrowed: all shards by index, to wake them */
    struct metrics *metrics;    /* owned; written by this shard, read by all */
    struct buf_pool spare;
    uint64_t now_ms; /* monotonic, of this turn */
    uint64_t now_ns;
    uint64_t wall_ms; /* wall clock, of this turn */
    const struct shard_handler *handler;
    void *broker;        /* the handler's own: struct broker */
    bool stopping;       /* set by shard_stop: the thread ends after this turn */
    bool busy;           /* set inside a turn by who has more to do at once: do not sleep */
    uint64_t wake_at_ns; /* the handler's own deadline, finer than a timer: no sleep goes beyond it. UINT64_MAX: none */
};

struct shard_options {
    unsigned index, count;
    struct io_options io;
    bool pin; /* to CPU index % CPUs */
    struct mail_office *office;
    struct shard **peers;
    const struct shard_handler *handler;
    void *broker;
};

/* Make a shard without a thread: the simulator and the tests turn it themselves. Calls handler->start last, and sets
 * peers[index] before. shard_free calls handler->stop first. Every handler is given. */
int shard_new(const struct shard_options *options, struct shard **ret_shard);
void shard_free(struct shard *shard);

/* One turn; with nowait it never sleeps. */
void shard_turn(struct shard *shard, bool nowait);

/* Make a shard in a new thread, which opens its own door (an io_uring has a single issuer), calls handler->start, turns
 * until shard_stop and calls handler->stop. ret_shard may be &peers[index]. Waits for start's answer: returns 0, or its
 * error with the thread ended. */
int shard_launch(const struct shard_options *options, struct shard **ret_shard);

/* From the shard's own thread: end after this turn. */
static inline void shard_stop(struct shard *shard)
{
    shard->stopping = true;
}

/* Wait for the thread's end and free the shard. */
void shard_join(struct shard *shard);

/* Post a mail to another shard (or to itself); see mail_post. */
static inline int shard_post(struct shard *shard, unsigned to, const struct mail *mail)
{
    return mail_post(shard->office, shard->index, to, mail);
}

/* The same for an answer; see mail_post_answer. */
static inline int shard_post_answer(struct shard *shard, unsigned to, const struct mail *mail)
{
    return mail_post_answer(shard->office, shard->index, to, mail);
}

#endif
