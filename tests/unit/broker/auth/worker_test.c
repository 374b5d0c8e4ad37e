/* worker_test.c -- work goes out, is done elsewhere and comes back to who asked, once; its bound; its end. */
#include "broker/auth/worker.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

#define SHARDS 3

/* What a shard sleeps on. */
static struct bell {
    sem_t rung;
    atomic_uint count;
} bells[SHARDS];

/* Called from any thread, so it checks nothing: CUnit counts for one thread only. */
static void ring(void *context, unsigned shard)
{
    struct bell *bell = &((struct bell *)context)[shard];
    atomic_fetch_add(&bell->count, 1);
    sem_post(&bell->rung);
}

static struct worker_pool *pool_of(unsigned threads, unsigned waiting_max)
{
    struct worker_pool *pool = NULL;

    for (unsigned i = 0; i < SHARDS; i++) {
        sem_init(&bells[i].rung, 0, 0);
        bells[i].count = 0;
    }
    CU_ASSERT_FATAL(worker_pool_new(threads, waiting_max, SHARDS, ring, bells, &pool) == 0);
    return pool;
}

/* Work that counts how often each of its halves was called, and by whom. */
struct job {
    struct work work;
    sem_t *gate; /* run waits here first; NULL: no gate */
    atomic_uint run_count;
    unsigned done_count;
    pthread_t runner, doer;
};

static void job_run(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    if (job->gate) {
        sem_wait(job->gate);
    }
    job->runner = pthread_self();
    atomic_fetch_add(&job->run_count, 1);
}

static void job_done(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    job->doer = pthread_self();
    job->done_count++;
}

static struct work job_work(unsigned shard)
{
    return (struct work){.shard = shard, .run = job_run, .done = job_done};
}

static void test_there_and_back(void)
{
    struct worker_pool *pool = pool_of(1, 4);
    struct job job = {.work = job_work(1)};

    worker_collect(pool, 1);
    CHECK(worker_count(pool) == 0);
    CHECK(worker_submit(pool, &job.work) == 0);
    sem_wait(&bells[1].rung);
    CHECK(job.done_count == 0); /* not before it is collected */
    worker_collect(pool, 0);
    CHECK(job.done_count == 0); /* nor by another shard */
    worker_collect(pool, 1);
    worker_collect(pool, 1);
    CHECK(job.run_count == 1 && job.done_count == 1);
    CHECK(!pthread_equal(job.runner, pthread_self()) && pthread_equal(job.doer, pthread_self()));
    CHECK(bells[0].count == 0 && bells[1].count == 1 && bells[2].count == 0);
    worker_pool_free(pool);
}

/* One in hand, two in the queue: the fourth is refused, and taken when there is room again. */
static void test_bound(void)
{
    struct worker_pool *pool = pool_of(1, 2);
    sem_t gate;
    struct job jobs[4];

    sem_init(&gate, 0, 0);
    for (unsigned i = 0; i < COUNT_OF(jobs); i++) {
        jobs[i] = (struct job){.work = job_work(0), .gate = &gate};
    }
    CHECK(worker_submit(pool, &jobs[0].work) == 0);
    CHECK(worker_submit(pool, &jobs[1].work) == 0);
    while (worker_submit(pool, &jobs[2].work) == -EBUSY) {
        sched_yield(); /* until the worker has the first in hand */
    }
    CHECK(worker_submit(pool, &jobs[3].work) == -EBUSY);
    CHECK(worker_count(pool) == 3);
    sem_post(&gate);
    while (worker_submit(pool, &jobs[3].work) == -EBUSY) {
        sched_yield();
    }
    for (unsigned i = 0; i < 3; i++) {
        sem_post(&gate);
    }
    worker_pool_drain(pool);
    CHECK(worker_count(pool) == 0);
    for (unsigned i = 0; i < COUNT_OF(jobs); i++) {
        CHECK(jobs[i].run_count == 1 && jobs[i].done_count == 1);
    }
    worker_pool_free(pool);
    sem_destroy(&gate);
}

/* What was finished elsewhere comes back the same way; the shard is woken for the first of a heap only. */
static void test_finish(void)
{
    struct worker_pool *pool = pool_of(1, 4);
    struct job jobs[3] = {{.work = job_work(2)}, {.work = job_work(2)}, {.work = job_work(2)}};

    worker_finish(pool, &jobs[0].work);
    worker_finish(pool, &jobs[1].work);
    CHECK(bells[2].count == 1);
    worker_collect(pool, 2);
    worker_finish(pool, &jobs[2].work);
    CHECK(bells[2].count == 2);
    worker_collect(pool, 2);
    for (unsigned i = 0; i < COUNT_OF(jobs); i++) {
        CHECK(jobs[i].run_count == 0 && jobs[i].done_count == 1);
    }
    worker_pool_free(pool);
}

/* A done that frees its work, and one that asks for more. */
static unsigned freed;
static void freeing_done(struct work *work)
{
    freed++;
    free(CONTAINER_OF(work, struct job, work));
}

static struct worker_pool *asked;
static void asking_done(struct work *work)
{
    work->done = freeing_done;
    CHECK(worker_submit(asked, work) == 0);
}

static void test_done_frees_and_asks(void)
{
    struct worker_pool *pool = asked = pool_of(2, 64);
    freed = 0;

    for (unsigned i = 0; i < 32; i++) {
        struct job *job = calloc(1, sizeof(*job));
        CU_ASSERT_FATAL(job != NULL);
        job->work = (struct work){.run = job_run, .done = i % 2 ? freeing_done : asking_done};
        CHECK(worker_submit(pool, &job->work) == 0);
    }
    while (freed < 32) { /* the second round is asked for in here */
        sem_wait(&bells[0].rung);
        worker_collect(pool, 0);
    }
    worker_pool_drain(pool);
    worker_pool_free(pool); /* the address sanitizer tells what was not freed */
}

/* The end without a drain: what is in hand is run to its end, what waits is never run. */
static void test_free_forgets(void)
{
    struct worker_pool *pool = pool_of(1, 4);
    struct job jobs[3] = {{.work = job_work(0)}, {.work = job_work(0)}, {.work = job_work(0)}};

    for (unsigned i = 0; i < COUNT_OF(jobs); i++) {
        CHECK(worker_submit(pool, &jobs[i].work) == 0);
    }
    worker_pool_free(pool);
    for (unsigned i = 0; i < COUNT_OF(jobs); i++) {
        CHECK(jobs[i].run_count <= 1 && jobs[i].done_count == 0);
    }
    worker_pool_free(NULL);
}

/* Each shard is a thread that keeps some work under way and sleeps until it is woken: a lost wake-up hangs. */
#define ROUNDS 3000
#define UNDERWAY 8

struct shard {
    struct worker_pool *pool;
    unsigned index, done;
};

static void *shard_main(void *context)
{
    struct shard *s = context;
    struct job jobs[ROUNDS] = {0};
    unsigned sent = 0, done = 0;

    while (done < ROUNDS) {
        for (; sent < ROUNDS && sent - done < UNDERWAY; sent++) {
            jobs[sent].work = job_work(s->index);
            if (worker_submit(s->pool, &jobs[sent].work) == -EBUSY) {
                break;
            }
        }
        if (sent > done) {
            sem_wait(&bells[s->index].rung);
        } else {
            sched_yield(); /* the others fill the queue */
        }
        worker_collect(s->pool, s->index);
        for (done = 0; done < sent && jobs[done].done_count == 1;) {
            done++;
        }
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        s->done += jobs[i].done_count == 1 && jobs[i].run_count == 1 && pthread_equal(jobs[i].doer, pthread_self());
    }
    return NULL;
}

static void test_threads(void)
{
    struct worker_pool *pool = pool_of(3, SHARDS * UNDERWAY / 2);
    struct shard shards[SHARDS];
    pthread_t threads[SHARDS];

    for (unsigned i = 0; i < SHARDS; i++) {
        shards[i] = (struct shard){.pool = pool, .index = i};
        CU_ASSERT_FATAL(pthread_create(&threads[i], NULL, shard_main, &shards[i]) == 0);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(shards[i].done == ROUNDS);
        CHECK(bells[i].count <= ROUNDS);
    }
    worker_pool_drain(pool);
    CHECK(worker_count(pool) == 0);
    worker_pool_free(pool);
}

UNIT_MAIN("broker/auth/worker", {"there and back", test_there_and_back}, {"bound", test_bound}, {"finish", test_finish},
          {"done frees and asks", test_done_frees_and_asks}, {"free forgets", test_free_forgets},
          {"threads", test_threads})
