/* shard.c -- the turn of a shard, and the thread that makes it. */
#include "broker/loop/shard.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* What one turn takes on at most. Large enough that a system call is spread over much work, small enough that the last
 * of a batch does not wait long for its answer: some 2 ms at 2 us each. */
#define REAP_BUDGET 512
#define MAIL_BUDGET 1024
#define TIMER_BUDGET 512
#define CONGESTED_RETRY_MS 1 /* when to look again whether a full ring has room */
#define IDLE_MS 1000         /* after a sleep this long the spare memory is cut down */
#define IDLE_SPARE 64
#define NS_PER_MS 1000000u

/* A shard as allocated: what only this file needs, around what all see. */
struct shard_body {
    struct shard shard;
    bool slept; /* the next turn begins with `awake` */
    uint64_t slept_at_ms;
    pthread_t thread;
    /* The parent's word to the thread, and its answer. */
    struct shard_options options;
    sem_t started;
    int start_result;
};

static struct shard_body *body_of(struct shard *shard)
{
    return CONTAINER_OF(shard, struct shard_body, shard);
}

/* Undo body_make. Takes a half-made body. */
static void body_free(struct shard_body *body)
{
    io_close(body->shard.io);
    timer_wheel_free(body->shard.timers);
    buf_pool_trim(&body->shard.spare, 0);
    free(body->shard.metrics);
    free(body);
}

static void now_take(struct shard *shard)
{
    shard->now_ns = clock_mono_ns();
    shard->now_ms = shard->now_ns / 1000000;
    shard->wall_ms = clock_wall_ms();
}

static int body_make(const struct shard_options *options, struct shard_body **ret_body)
{
    struct shard_body *body = calloc(1, sizeof(*body));
    if (!body) {
        return -ENOMEM;
    }
    body->options = *options;
    body->slept = true;
    body->shard = (struct shard){
        .index = options->index,
        .count = options->count,
        .office = options->office,
        .peers = options->peers,
        .handler = options->handler,
        .broker = options->broker,
        .wake_at_ns = UINT64_MAX,
        .metrics = calloc(1, sizeof(struct metrics)),
    };
    if (!body->shard.metrics) {
        body_free(body);
        return -ENOMEM;
    }
    *ret_body = body;
    return 0;
}

/* Open what belongs to the thread that turns the shard. */
static int shard_open(struct shard *shard, const struct shard_options *options)
{
    now_take(shard);
    int rc = timer_wheel_new(shard->now_ms, &shard->timers);
    if (rc) {
        return rc;
    }
    rc = io_open(&options->io, &shard->io);
    if (rc) {
        return rc;
    }
    /* Before the first sleep: from then on others look here to wake this shard. */
    shard->peers[shard->index] = shard;
    rc = shard->handler->start(shard);
    if (rc) {
        shard->peers[shard->index] = NULL;
    }
    return rc;
}

int shard_new(const struct shard_options *options, struct shard **ret_shard)
{
    struct shard_body *body;
    int rc = body_make(options, &body);
    if (rc) {
        return rc;
    }
    rc = shard_open(&body->shard, options);
    if (rc) {
        body_free(body);
        return rc;
    }
    *ret_shard = &body->shard;
    return 0;
}

static void mail_take(void *context, const struct mail *mail)
{
    struct shard *shard = context;
    shard->handler->mail(shard, mail);
}

/* Publish this turn's mail and wake who sleeps over it. */
static void mail_send(struct shard *shard)
{
    uint64_t wake = mail_flush(shard->office, shard->index);
    if (!wake) {
        return;
    }
    for (; wake; wake &= wake - 1) {
        io_wake(shard->peers[__builtin_ctzll(wake)]->io);
    }
    mail_woken(shard->office, shard->index);
}

/* No turn comes any more. */
static void shard_end(struct shard *shard)
{
    shard->handler->stop(shard);
    mail_send(shard);
    mail_leave(shard->office, shard->index);
}

void shard_free(struct shard *shard)
{
    if (!shard) {
        return;
    }
    shard_end(shard);
    body_free(body_of(shard));
}

static void turn_begin(struct shard_body *body)
{
    struct shard *shard = &body->shard;

    now_take(shard);
    shard->busy = false;
    if (body->slept) {
        body->slept = false;
        shard->handler->awake(shard);
        if (shard->now_ms - body->slept_at_ms >= IDLE_MS) {
            buf_pool_trim(&shard->spare, IDLE_SPARE);
        }
    }
}

/* When the coming sleep has to end. */
static uint64_t deadline_of(const struct shard *shard)
{
    uint64_t deadline_ms = timer_next_ms(shard->timers);

    if (mail_congested(shard->office, shard->index) && deadline_ms > shard->now_ms + CONGESTED_RETRY_MS) {
        deadline_ms = shard->now_ms + CONGESTED_RETRY_MS;
    }
    uint64_t deadline_ns = deadline_ms > UINT64_MAX / NS_PER_MS ? UINT64_MAX : deadline_ms * NS_PER_MS;
    return deadline_ns < shard->wake_at_ns ? deadline_ns : shard->wake_at_ns;
}

/* Submit, and sleep if nothing is left to do. */
static void turn_wait(struct shard_body *body, bool nowait)
{
    struct shard *shard = &body->shard;
    uint64_t deadline_ns = deadline_of(shard);

    if (nowait || shard->busy || shard->stopping || deadline_ns <= shard->now_ns ||
        !mail_may_sleep(shard->office, shard->index)) {
        io_submit_wait(shard->io, true, 0);
        return;
    }
    body->slept = true;
    body->slept_at_ms = shard->now_ms;
    shard->handler->asleep(shard);
    io_submit_wait(shard->io, false, deadline_ns);
    mail_awake(shard->office, shard->index);
}

void shard_turn(struct shard *shard, bool nowait)
{
    struct shard_body *body = body_of(shard);

    turn_begin(body);
    metric_inc(shard->metrics, METRIC_TURNS);
    unsigned done = io_reap(shard->io, REAP_BUDGET);
    done += mail_drain(shard->office, shard->index, MAIL_BUDGET, mail_take, shard);
    done += timer_run(shard->timers, shard->now_ms, TIMER_BUDGET);
    shard->handler->turn_end(shard);
    mail_send(shard);
    if (done) { /* a turn without work would only make the others look short */
        metric_observe(shard->metrics, METRIC_HISTOGRAM_TURN, clock_mono_ns() - shard->now_ns);
    }
    turn_wait(body, nowait);
}

/* Stay on CPU index % CPUs of those that this process may use. Only a preference: failure changes nothing but speed. */
static void thread_pin(unsigned index)
{
    cpu_set_t allowed, one;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) == 0) {
        return;
    }
    unsigned skip = index % (unsigned)CPU_COUNT(&allowed), cpu = 0;
    while (!CPU_ISSET(cpu, &allowed) || skip-- > 0) {
        cpu++;
    }
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    int rc = pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
    if (rc) {
        log_event(LOG_WARN, "shard_not_pinned", {"shard", LOG_INT(index)}, {"errno", LOG_INT(rc)});
    }
}

static void *shard_main(void *context)
{
    struct shard_body *body = context;
    struct shard *shard = &body->shard;
    char name[16];

    snprintf(name, sizeof(name), "shard-%u", shard->index);
    pthread_setname_np(pthread_self(), name);
    if (body->options.pin) {
        thread_pin(shard->index);
    }
    int rc = shard_open(shard, &body->options);
    body->start_result = rc;
    sem_post(&body->started);
    if (rc) {
        return NULL;
    }
    while (!shard->stopping) {
        shard_turn(shard, false);
    }
    shard_end(shard);
    return NULL;
}

/* Start the thread with all signals blocked: they are for the main thread. */
static int thread_start(struct shard_body *body)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&body->thread, NULL, shard_main, body);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

int shard_launch(const struct shard_options *options, struct shard **ret_shard)
{
    struct shard_body *body;
    int rc = body_make(options, &body);
    if (rc) {
        return rc;
    }
    sem_init(&body->started, 0, 0);
    rc = thread_start(body);
    if (rc == 0) {
        while (sem_wait(&body->started) != 0) {
            assert(errno == EINTR);
        }
        rc = body->start_result;
        if (rc) {
            pthread_join(body->thread, NULL);
        }
    }
    sem_destroy(&body->started);
    if (rc) {
        body_free(body);
        return rc;
    }
    /* The thread has written its place in peers already, and others may be reading it. */
    if (ret_shard != &options->peers[options->index]) {
        *ret_shard = &body->shard;
    }
    return 0;
}

void shard_join(struct shard *shard)
{
    struct shard_body *body = body_of(shard);

    pthread_join(body->thread, NULL);
    body_free(body);
}
