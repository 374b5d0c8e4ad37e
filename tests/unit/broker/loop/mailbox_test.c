/* mailbox_test.c -- order, bounds, fairness and sleep of the mail, alone and between threads. */
#include "broker/loop/mailbox.h"
#include "tests/lib/unit.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct reader {
    uint64_t next[8]; /* expected, by sender */
    unsigned count;
    bool orderly;
    uint16_t order[256]; /* senders of the first mails */
};

static void take(void *context, const struct mail *mail)
{
    struct reader *r = context;

    r->orderly = r->orderly && mail->a == r->next[mail->from] && mail->kind == 7;
    r->next[mail->from]++;
    if (r->count < COUNT_OF(r->order)) {
        r->order[r->count] = mail->from;
    }
    r->count++;
}

static struct mail_office *office_of(unsigned shards)
{
    struct mail_office *office = NULL;
    CHECK(mail_office_new(shards, &office) == 0);
    return office;
}

static void post(struct mail_office *office, unsigned from, unsigned to, uint64_t first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct mail mail = {.kind = 7, .from = 99, .a = first + i};
        CHECK(mail_post(office, from, to, &mail) == 0);
    }
}

static void test_visible_after_flush(void)
{
    struct mail_office *office = office_of(2);
    struct reader r = {.orderly = true};

    post(office, 0, 1, 0, 3);
    CHECK(mail_drain(office, 1, 100, take, &r) == 0);
    CHECK(mail_flush(office, 0) == 0); /* nobody sleeps */
    CHECK(mail_drain(office, 0, 100, take, &r) == 0);
    CHECK(mail_drain(office, 1, 100, take, &r) == 3);
    CHECK(mail_drain(office, 1, 100, take, &r) == 0);
    CHECK(r.orderly);

    r = (struct reader){.orderly = true};
    post(office, 1, 1, 0, 2); /* to itself */
    CHECK(mail_drain(office, 1, 100, take, &r) == 0);
    mail_flush(office, 1);
    CHECK(mail_drain(office, 1, 100, take, &r) == 2);
    CHECK(r.orderly);
    mail_office_free(office);
    mail_office_free(NULL);
}

static void test_overflow(void)
{
    static const struct {
        const char *name;
        unsigned count;
        bool congested;
    } cases[] = {
        {"one less than the ring", MAIL_RING_SLOTS - 1, false},
        {"the ring", MAIL_RING_SLOTS, false},
        {"one more", MAIL_RING_SLOTS + 1, true},
        {"three rings", 3 * MAIL_RING_SLOTS, true},
        {"many rings", 20 * MAIL_RING_SLOTS + 5, true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct mail_office *office = office_of(2);
        struct reader r = {.orderly = true};
        unsigned rounds = 0;
        post(office, 0, 1, 0, cases[i].count);
        mail_flush(office, 0);
        CHECK_CASE(cases[i].name, mail_congested(office, 0) == cases[i].congested);
        CHECK_CASE(cases[i].name, !mail_congested(office, 1));
        while (r.count < cases[i].count && rounds++ < 100) {
            mail_drain(office, 1, MAIL_RING_SLOTS / 2, take, &r);
            mail_flush(office, 0); /* refills without a post */
        }
        CHECK_CASE(cases[i].name, r.count == cases[i].count);
        CHECK_CASE(cases[i].name, r.orderly);
        CHECK_CASE(cases[i].name, !mail_congested(office, 0));
        post(office, 0, 1, r.count, 10); /* goes through the ring again */
        mail_flush(office, 0);
        CHECK_CASE(cases[i].name, mail_drain(office, 1, 100, take, &r) == 10 && r.orderly);
        mail_office_free(office);
    }
}

/* What is posted while the overflow is not empty does not overtake it, though the ring has room. */
static void test_overflow_keeps_order(void)
{
    struct mail_office *office = office_of(2);
    struct reader r = {.orderly = true};

    post(office, 0, 1, 0, MAIL_RING_SLOTS + 10);
    mail_flush(office, 0);
    mail_drain(office, 1, 100, take, &r);
    post(office, 0, 1, MAIL_RING_SLOTS + 10, 10);
    while (mail_flush(office, 0), mail_drain(office, 1, 1000, take, &r) > 0) {
    }
    CHECK(r.count == MAIL_RING_SLOTS + 20);
    CHECK(r.orderly);
    mail_office_free(office);
}

static void test_fairness(void)
{
    struct mail_office *office = office_of(4);
    struct reader r = {.orderly = true};

    for (unsigned from = 0; from < 4; from++) {
        post(office, from, 2, 0, from == 1 ? 5000 : 10);
        mail_flush(office, from);
    }
    CHECK(mail_drain(office, 2, 128, take, &r) == 128); /* exactly the budget */
    CHECK(r.next[0] == 10);
    CHECK(r.next[2] == 10);
    CHECK(r.next[3] == 10);
    CHECK(r.next[1] == 98);
    CHECK(!mail_may_sleep(office, 2)); /* the rest is waiting */
    while (mail_drain(office, 2, 999, take, &r)) {
    }
    CHECK(r.count == 5030);
    CHECK(r.orderly);
    CHECK(mail_may_sleep(office, 2));
    mail_office_free(office);
}

static void test_sleep(void)
{
    struct mail_office *office = office_of(64);
    struct reader r = {.orderly = true};

    CHECK(mail_may_sleep(office, 63));
    CHECK(mail_may_sleep(office, 5));
    post(office, 0, 63, 0, 2);
    CHECK(mail_flush(office, 0) == UINT64_C(1) << 63);
    mail_woken(office, 0);
    CHECK(mail_flush(office, 0) == 0); /* nothing new */
    post(office, 0, 63, 2, 2);
    CHECK(mail_flush(office, 0) == 0); /* the wake is on its way */
    mail_awake(office, 63);
    CHECK(mail_drain(office, 63, 10, take, &r) == 4);
    post(office, 0, 63, 4, 1);
    CHECK(mail_flush(office, 0) == 0); /* awake */
    CHECK(!mail_may_sleep(office, 63));
    CHECK(mail_drain(office, 63, 10, take, &r) == 1);
    CHECK(mail_may_sleep(office, 63));
    mail_leave(office, 63);
    post(office, 0, 63, 5, 1);
    post(office, 0, 5, 0, 1);
    CHECK(mail_flush(office, 0) == UINT64_C(1) << 5); /* who has left is not woken */
    mail_woken(office, 0);
    mail_office_free(office);
}

/* Four threads mail each other; a sleeper blocks on a pipe until it is woken. A lost wake-up hangs, so an alarm ends
 * it. */
enum { THREADS = 4, EACH = 40000 };

struct player {
    struct mail_office *office;
    unsigned index;
    struct reader reader;
    struct player *all;
    int wake[2];
    unsigned sleeps;
};

static void wake_all(struct player *p, uint64_t mask)
{
    if (!mask) {
        return;
    }
    for (; mask; mask &= mask - 1) {
        ssize_t n = write(p->all[__builtin_ctzll(mask)].wake[1], "w", 1);
        assert(n == 1);
    }
    mail_woken(p->office, p->index);
}

static void *play(void *context)
{
    struct player *p = context;
    uint64_t sent = 0;

    while (sent < EACH || p->reader.count < THREADS * EACH || mail_congested(p->office, p->index)) {
        for (unsigned i = 0; i < 1 + (sent + p->index) % 40 && sent < EACH; i++, sent++) {
            for (unsigned to = 0; to < THREADS; to++) {
                struct mail mail = {.kind = 7, .a = sent};
                mail_post(p->office, p->index, to, &mail);
            }
        }
        wake_all(p, mail_flush(p->office, p->index));
        bool idle = mail_drain(p->office, p->index, 100, take, &p->reader) == 0;
        if (idle && sent == EACH && !mail_congested(p->office, p->index) && p->reader.count < THREADS * EACH &&
            mail_may_sleep(p->office, p->index)) {
            char byte;
            ssize_t n = read(p->wake[0], &byte, 1);
            assert(n == 1);
            mail_awake(p->office, p->index);
            p->sleeps++;
        }
    }
    mail_leave(p->office, p->index);
    close(p->wake[1]); /* who would wake us now gets EBADF */
    return NULL;
}

static void test_threads(void)
{
    struct mail_office *office = office_of(THREADS);
    struct player players[THREADS];
    pthread_t threads[THREADS];

    alarm(60);
    for (unsigned i = 0; i < THREADS; i++) {
        players[i] = (struct player){.office = office, .index = i, .reader.orderly = true, .all = players};
        CHECK(pipe(players[i].wake) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, play, &players[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(players[i].reader.count == THREADS * EACH);
        CHECK(players[i].reader.orderly);
        close(players[i].wake[0]);
    }
    alarm(0);
    mail_office_free(office);
}

/* Ping-pong at full sleep: each side sleeps before each mail comes. */
static struct mail_office *table;
static int bats[2][2];

static void *bounce(void *context)
{
    unsigned me = *(unsigned *)context;
    struct reader r = {.orderly = true};

    for (unsigned i = 0; i < 5000; i++) {
        if (i > 0 || me == 1) {
            while (mail_drain(table, me, 10, take, &r) == 0) {
                char byte;
                if (mail_may_sleep(table, me)) {
                    ssize_t n = read(bats[me][0], &byte, 1);
                    assert(n == 1);
                    mail_awake(table, me);
                }
            }
        }
        struct mail mail = {.kind = 7, .a = i};
        mail_post(table, me, 1 - me, &mail);
        if (mail_flush(table, me)) {
            ssize_t n = write(bats[1 - me][1], "w", 1);
            assert(n == 1);
            mail_woken(table, me);
        }
    }
    mail_leave(table, me);
    return r.orderly ? context : NULL;
}

static void test_ping_pong(void)
{
    static unsigned sides[] = {0, 1};
    pthread_t threads[2];

    alarm(60);
    table = office_of(2);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(pipe(bats[i]) == 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, bounce, &sides[i]) == 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        void *orderly;
        pthread_join(threads[i], &orderly);
        CHECK(orderly != NULL);
        close(bats[i][0]);
        close(bats[i][1]);
    }
    alarm(0);
    mail_office_free(table);
}

UNIT_MAIN("broker/loop/mailbox", {"visible after flush", test_visible_after_flush}, {"overflow", test_overflow},
          {"overflow keeps order", test_overflow_keeps_order}, {"fairness", test_fairness}, {"sleep", test_sleep},
          {"threads", test_threads}, {"ping-pong", test_ping_pong})
