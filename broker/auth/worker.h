/* worker.h -- a few threads for what would block a shard: hashing passwords, checking signatures.
 *
 * Why: a password hash takes milliseconds by design, and a shard serves thousands of clients meanwhile. Work is queued
 * (bounded), done by a worker, and handed back to the shard that asked, which is woken. Whoever waits elsewhere (the
 * HTTP client's thread) hands its results back the same way. */
#ifndef TERN_BROKER_AUTH_WORKER_H
#define TERN_BROKER_AUTH_WORKER_H

#include <stdbool.h>

#include "proto/base/list.h"

struct worker_pool;

/* Embedded in what the work is about. */
struct work {
    struct list link;                /* the pool's while it has the work */
    unsigned shard;                  /* who asked */
    void (*run)(struct work *work);  /* on a worker's thread */
    void (*done)(struct work *work); /* on the shard's thread, inside worker_collect; may free the work */
};

/* wake is called, from any thread, when a shard has something to collect that had nothing before. waiting_max: how much
 * work may be queued. Returns 0, -ENOMEM or the error of making a thread. */
int worker_pool_new(unsigned threads, unsigned waiting_max, unsigned shard_count,
                    void (*wake)(void *context, unsigned shard), void *context, struct worker_pool **ret_pool);

/* End the threads after the work they have in hand. Work that was not collected is forgotten: every `done` has been
 * called or never will be, as worker_pool_drain decided. NULL is allowed. */
void worker_pool_free(struct worker_pool *pool);

/* Queue work. Returns 0 or -EBUSY (the queue is full): not taken. */
int worker_submit(struct worker_pool *pool, struct work *work);

/* Hand work back that was done elsewhere; any thread. */
void worker_finish(struct worker_pool *pool, struct work *work);

/* On the shard's thread, each turn: call `done` for what has come back. Cheap when there is nothing. */
void worker_collect(struct worker_pool *pool, unsigned shard);

/* The shard ends: it is not woken any more once this returns. */
void worker_leave(struct worker_pool *pool, unsigned shard);

/* How much is queued or in hand. */
unsigned worker_count(const struct worker_pool *pool);

/* All shards have ended: let the workers finish and call `done` for everything, on the calling thread. Nothing may be
 * submitted any more; wake may still be called until this returns. */
void worker_pool_drain(struct worker_pool *pool);

#endif
