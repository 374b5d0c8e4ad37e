/* shard_test.c -- the turn of a shard, and shards in threads that mail each other, on both doors. */
#include "broker/loop/shard.h"
#include "proto/base/clock.h"
#include "tests/lib/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAIL_BALL = 1, MAIL_STOP, MAIL_LAST };

/* What the handlers of one shard note down. */
struct court {
    char calls[64]; /* one letter a call */
    unsigned length, mails, bounces;
    int start_answer;
    struct timer timer;
    unsigned fired;
    uint64_t fired_at_ms;
    bool finished;
};

static void note(struct shard *shard, char letter)
{
    struct court *c = shard->broker;
    if (c->length < sizeof(c->calls) - 1) {
        c->calls[c->length++] = letter;
    }
}

static int on_start(struct shard *shard)
{
    struct court *c = shard->broker;
    note(shard, 'S');
    return c->start_answer;
}

/* A ball goes on to the next shard until n is used up; then everybody is told to stop. */
static void on_mail(struct shard *shard, const struct mail *mail)
{
    struct court *c = shard->broker;
    struct mail next = *mail;

    note(shard, 'm');
    c->mails++;
    if (mail->kind == MAIL_STOP) {
        shard_stop(shard);
    } else if (mail->kind == MAIL_BALL && mail->n > 0) {
        next.n--;
        c->bounces++;
        CHECK(shard_post(shard, (shard->index + 1) % shard->count, &next) == 0);
    } else if (mail->kind == MAIL_BALL) {
        next.kind = MAIL_STOP;
        for (unsigned to = 0; to < shard->count; to++) {
            CHECK(shard_post(shard, to, &next) == 0);
        }
    }
}

static void on_turn_end(struct shard *shard)
{
    note(shard, 'e');
}

static void on_awake(struct shard *shard)
{
    note(shard, 'a');
}

static void on_asleep(struct shard *shard)
{
    note(shard, 'z');
}

static void on_stop(struct shard *shard)
{
    struct court *c = shard->broker;
    struct mail last = {.kind = MAIL_LAST};

    note(shard, 'X');
    c->finished = true;
    for (unsigned to = 0; to < shard->count; to++) {
        shard_post(shard, to, &last); /* some of them sleep, and have to be woken, or have left */
    }
}

static const struct shard_handler handler = {on_start, on_mail, on_turn_end, on_awake, on_asleep, on_stop};

static struct shard_options options_of(enum io_backend backend, unsigned index, unsigned count,
                                       struct mail_office *office, struct shard **peers, struct court *court)
{
    return (struct shard_options){
        .index = index,
        .count = count,
        .io = {.backend = backend},
        .pin = index % 2,
        .office = office,
        .peers = peers,
        .handler = &handler,
        .broker = court,
    };
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct court *c = CONTAINER_OF(timer, struct court, timer);
    c->fired++;
    c->fired_at_ms = now_ms;
}

static void test_turn(void)
{
    struct mail_office *office;
    struct shard *peers[1] = {NULL}, *shard = NULL;
    struct court c = {0};
    struct mail ball = {.kind = MAIL_BALL, .n = 1};

    alarm(60);
    CHECK(mail_office_new(1, &office) == 0);
    struct shard_options o = options_of(IO_AUTO, 0, 1, office, peers, &c);
    CHECK(shard_new(&o, &shard) == 0);
    CHECK(peers[0] == shard);
    CHECK(shard->now_ms > 0);
    shard_turn(shard, true);
    CHECK(strcmp(c.calls, "Sae") == 0);
    shard_post(shard, 0, &ball);
    shard_turn(shard, true);
    CHECK(strcmp(c.calls, "Saee") == 0); /* posted outside a turn: flushed by this one */
    shard_turn(shard, false);
    CHECK(strcmp(c.calls, "Saeeme") == 0); /* the ball is in the air: no sleep */
    shard_turn(shard, true);
    CHECK(c.bounces == 1);
    CHECK(c.mails == 2);
    while (!shard->stopping) {
        shard_turn(shard, false);
    }
    CHECK(strchr(c.calls, 'z') == NULL);

    /* A sleep ends with the timer. */
    c.length = 0;
    memset(c.calls, 0, sizeof(c.calls));
    shard->stopping = false;
    timer_init(&c.timer, on_timer);
    uint64_t due_ms = clock_mono_ns() / 1000000 + 30;
    timer_set(shard->timers, &c.timer, due_ms);
    for (int turns = 0; turns < 20 && !c.fired; turns++) {
        shard_turn(shard, false); /* sleeps at its end */
        shard_turn(shard, true);  /* fires */
    }
    CHECK(c.fired == 1);
    CHECK(c.fired_at_ms >= due_ms);
    CHECK(strncmp(c.calls, "ezae", 4) == 0);

    /* busy: no sleep, for one turn. */
    timer_set(shard->timers, &c.timer, shard->now_ms + 5000);
    io_wake(shard->io);
    c.length = 0;
    memset(c.calls, 0, sizeof(c.calls));
    shard->busy = true;
    shard_turn(shard, true);
    CHECK(!shard->busy);
    shard_free(shard);
    shard_free(NULL);
    CHECK(c.finished);
    CHECK(!mail_may_sleep(office, 0)); /* the last mail of stop is in the office */
    mail_office_free(office);
}

static void test_start_fails(void)
{
    struct mail_office *office;
    struct shard *peers[1] = {NULL}, *shard = NULL;
    struct court c = {.start_answer = -EADDRINUSE};

    CHECK(mail_office_new(1, &office) == 0);
    struct shard_options o = options_of(IO_EPOLL, 0, 1, office, peers, &c);
    CHECK(shard_new(&o, &shard) == -EADDRINUSE);
    CHECK(shard_launch(&o, &shard) == -EADDRINUSE);
    CHECK(shard == NULL);
    CHECK(peers[0] == NULL);
    CHECK(!c.finished);
    mail_office_free(office);
}

/* Many balls run around four sleeping shards; the first that lands stops all of them, in any order. */
static void ring_around(enum io_backend backend, unsigned balls)
{
    enum { SHARDS = 4 };
    struct mail_office *office;
    struct shard *peers[SHARDS] = {NULL};
    static struct court c[SHARDS];
    unsigned bounces = 0;

    memset(c, 0, sizeof(c));
    CHECK(mail_office_new(SHARDS, &office) == 0);
    struct shard_options o = options_of(backend, 0, SHARDS, office, peers, &c[0]);
    struct shard *first;
    int rc = shard_new(&o, &first);
    if (rc && backend == IO_URING) {
        mail_office_free(office); /* forbidden here */
        return;
    }
    CHECK(rc == 0);
    for (unsigned i = 1; i < SHARDS; i++) {
        o = options_of(backend, i, SHARDS, office, peers, &c[i]);
        CHECK(shard_launch(&o, &peers[i]) == 0);
        CHECK(peers[i] != NULL);
    }
    usleep(10000); /* let them fall asleep */
    for (unsigned i = 0; i < balls; i++) {
        struct mail ball = {.kind = MAIL_BALL, .n = 2000};
        CHECK(shard_post(first, 1 + i % 3, &ball) == 0);
    }
    while (!first->stopping) {
        shard_turn(first, false);
    }
    for (unsigned i = 1; i < SHARDS; i++) {
        shard_join(peers[i]);
    }
    shard_free(first);
    for (unsigned i = 0; i < SHARDS; i++) {
        bounces += c[i].bounces;
        CHECK(c[i].finished);
        CHECK(c[i].calls[0] == 'S');
    }
    CHECK(bounces >= 2000);
    mail_office_free(office);
}

static void test_ring_epoll(void)
{
    alarm(60);
    ring_around(IO_EPOLL, 1);
    ring_around(IO_EPOLL, 60);
    alarm(0);
}

static void test_ring_uring(void)
{
    alarm(60);
    ring_around(IO_URING, 1);
    ring_around(IO_URING, 60);
    alarm(0);
}

UNIT_MAIN("broker/loop/shard", {"turn", test_turn}, {"start fails", test_start_fails}, {"ring, epoll", test_ring_epoll},
          {"ring, io_uring", test_ring_uring})
