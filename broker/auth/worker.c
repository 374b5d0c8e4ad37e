/* worker.c -- one queue in, one list out for each shard.
 *
 *     worker_submit --> waiting --> a worker: run --> back[work.shard] --> worker_collect: done
 *                                  worker_finish ------^
 *
 * Locks are held for a few pointers and never while run or done is called. A shard is woken under the lock of its list,
 * so that after worker_leave nobody is about to. */
#include "broker/auth/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What has come back for one shard. */
struct worker_back {
    pthread_mutex_t lock;
    struct list list; /* struct work.link; under the lock */
    bool left;        /* the shard is not to be woken any more; under the lock */
    atomic_bool any;  /* the list is not empty, or was not just now: collecting nothing costs one load */
};

struct worker_pool {
    pthread_mutex_t lock;
    pthread_cond_t ready; /* something waits, or the pool ends */
    pthread_cond_t idle;  /* nothing waits and nothing is in hand */
    struct list waiting;  /* struct work.link */
    unsigned waiting_count, waiting_max;
    atomic_uint count; /* waiting or in hand; changed under the lock, read without */
    bool ending;
    pthread_t *threads; /* owned */
    unsigned thread_count;
    struct worker_back *backs; /* owned; one a shard */
    unsigned shard_count;
    void (*wake)(void *context, unsigned shard);
    void *context;
};

/* The next work for a worker, waiting for it; NULL: the pool ends. */
static struct work *pool_take(struct worker_pool *pool)
{
    struct list *node = NULL;

    pthread_mutex_lock(&pool->lock);
    while (!pool->ending && (node = list_pop(&pool->waiting)) == NULL) {
        pthread_cond_wait(&pool->ready, &pool->lock);
    }
    pool->waiting_count -= node != NULL;
    pthread_mutex_unlock(&pool->lock);
    return node ? CONTAINER_OF(node, struct work, link) : NULL;
}

static void *worker_main(void *argument)
{
    struct worker_pool *pool = argument;
    struct work *work;

    pthread_setname_np(pthread_self(), "worker");
    while ((work = pool_take(pool)) != NULL) {
        work->run(work);
        worker_finish(pool, work);
        pthread_mutex_lock(&pool->lock);
        if (--pool->count == 0) {
            pthread_cond_broadcast(&pool->idle);
        }
        pthread_mutex_unlock(&pool->lock);
    }
    return NULL;
}

/* Start the threads with all signals blocked: they are for the main thread. */
static int pool_start(struct worker_pool *pool, unsigned threads)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->thread_count < threads && rc == 0) {
        rc = pthread_create(&pool->threads[pool->thread_count], NULL, worker_main, pool);
        pool->thread_count += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

int worker_pool_new(unsigned threads, unsigned waiting_max, unsigned shard_count,
                    void (*wake)(void *context, unsigned shard), void *context, struct worker_pool **ret_pool)
{
    assert(threads > 0 && waiting_max > 0 && shard_count > 0);
    struct worker_pool *pool = calloc(1, sizeof(*pool));
    if (!pool) {
        return -ENOMEM;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->ready, NULL);
    pthread_cond_init(&pool->idle, NULL);
    list_init(&pool->waiting);
    pool->waiting_max = waiting_max;
    pool->wake = wake;
    pool->context = context;
    pool->threads = calloc(threads, sizeof(*pool->threads));
    pool->backs = calloc(shard_count, sizeof(*pool->backs));
    int rc = -ENOMEM;
    if (!pool->threads || !pool->backs) {
        goto fail;
    }
    for (; pool->shard_count < shard_count; pool->shard_count++) {
        pthread_mutex_init(&pool->backs[pool->shard_count].lock, NULL);
        list_init(&pool->backs[pool->shard_count].list);
    }
    rc = pool_start(pool, threads);
    if (rc) {
        goto fail;
    }
    *ret_pool = pool;
    return 0;

fail:
    worker_pool_free(pool); /* takes a half-made pool */
    return rc;
}

void worker_pool_free(struct worker_pool *pool)
{
    if (!pool) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->ready);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    for (unsigned i = 0; i < pool->shard_count; i++) {
        pthread_mutex_destroy(&pool->backs[i].lock);
    }
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->ready);
    pthread_cond_destroy(&pool->idle);
    free(pool->backs);
    free(pool->threads);
    free(pool);
}

int worker_submit(struct worker_pool *pool, struct work *work)
{
    assert(work->shard < pool->shard_count);
    int rc = -EBUSY;

    pthread_mutex_lock(&pool->lock);
    assert(!pool->ending);
    if (pool->waiting_count < pool->waiting_max) {
        list_append(&pool->waiting, &work->link);
        pool->waiting_count++;
        pool->count++;
        pthread_cond_signal(&pool->ready);
        rc = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

void worker_finish(struct worker_pool *pool, struct work *work)
{
    unsigned shard = work->shard; /* the work may be gone once the lock is released */
    assert(shard < pool->shard_count);
    struct worker_back *back = &pool->backs[shard];

    pthread_mutex_lock(&back->lock);
    bool first = list_empty(&back->list);
    list_append(&back->list, &work->link);
    back->any = true;
    if (first && !back->left) {
        pool->wake(pool->context, shard);
    }
    pthread_mutex_unlock(&back->lock);
}

void worker_leave(struct worker_pool *pool, unsigned shard)
{
    struct worker_back *back = &pool->backs[shard];

    pthread_mutex_lock(&back->lock);
    back->left = true;
    pthread_mutex_unlock(&back->lock);
}

void worker_collect(struct worker_pool *pool, unsigned shard)
{
    assert(shard < pool->shard_count);
    struct worker_back *back = &pool->backs[shard];
    struct list come, *node;

    if (!back->any) {
        return;
    }
    list_init(&come);
    pthread_mutex_lock(&back->lock);
    list_splice(&come, &back->list);
    back->any = false;
    pthread_mutex_unlock(&back->lock);
    while ((node = list_pop(&come)) != NULL) {
        struct work *work = CONTAINER_OF(node, struct work, link);
        work->done(work);
    }
}

unsigned worker_count(const struct worker_pool *pool)
{
    return pool->count;
}

void worker_pool_drain(struct worker_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->count > 0) {
        pthread_cond_wait(&pool->idle, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->shard_count; i++) {
        worker_collect(pool, i);
    }
}
