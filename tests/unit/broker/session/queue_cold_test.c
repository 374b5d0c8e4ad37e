/* Queues whose middle is on the disk: whatever is pushed, sent, acknowledged, dropped, stored, given up and read back,
 * in any order, a plain table of all messages says what the queue must be. */
#include <errno.h>
#include <stdlib.h>

#include "broker/session/queue.h"
#include "proto/base/prng.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#define NUMBERS_MAX 1200
#define WINDOW 8u
#define SEEDS 60u
#define STEPS 2000u

struct row {
    bool there;
    uint8_t state;
    bool sent_before;
};

/* What there should be. */
struct model {
    struct message *message[NUMBERS_MAX]; /* NULL: a number without one */
    uint8_t state[NUMBERS_MAX];
    struct row row[NUMBERS_MAX];
    struct queue *q;
    struct prng prng;
    bool away; /* nobody is connected, the queue is rewound */
};

static uint64_t chance(struct model *m, uint64_t below)
{
    return prng_next(&m->prng) % below;
}

static void push(struct model *m)
{
    static const char payload[] = "some bytes, now more, now less";

    if (m->q->tail >= NUMBERS_MAX - 1) {
        return;
    }
    struct message *msg = message_new(&(struct message_source){
        .topic = SLICE("t"), .payload = slice_of(payload, chance(m, sizeof(payload))), .qos = 2});
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    CHECK(queue_push(m->q, &(struct queue_item){.message = msg, .qos = 2}) == 0);
    m->message[m->q->tail - 1] = msg;
    m->state[m->q->tail - 1] = QUEUE_WAITING;
}

static void read_page(struct model *m)
{
    struct queue_page_entry page[20];
    uint64_t upto = m->q->cold, limit = 1 + chance(m, COUNT_OF(page));
    uint32_t count = 0;

    for (; upto < m->q->cold_end && count < limit; upto++) {
        const struct row *row = &m->row[upto];
        if (row->there) {
            CHECK(row->state == m->state[upto]);
            page[count++] = (struct queue_page_entry){
                upto,
                {.message = row->state == QUEUE_RELEASED ? NULL : message_ref(m->message[upto]),
                 .state = row->state,
                 .qos = 2,
                 .sent_before = row->sent_before}};
        }
    }
    CHECK(queue_load(m->q, page, count, upto) == 0);
}

static void send_next(struct model *m)
{
    uint64_t number;
    struct queue_entry *e = queue_next(m->q, WINDOW, &number);

    if (!e) {
        if (queue_wants_page(m->q)) {
            read_page(m);
        }
        return;
    }
    CHECK(e->state == m->state[number]);
    CHECK(e->message == (e->state == QUEUE_RELEASED ? NULL : m->message[number]));
    m->state[number] = e->state == QUEUE_WAITING ? QUEUE_SENT : e->state;
    queue_mark_sent(m->q, number);
}

static void acknowledge(struct model *m)
{
    uint64_t number;
    struct queue_entry *e = queue_find(m->q, (uint16_t)(1 + chance(m, 300)), &number);

    if (e && e->state == QUEUE_SENT && chance(m, 2)) {
        queue_release(m->q, e);
        m->state[number] = QUEUE_RELEASED;
    } else if (e) {
        queue_finish(m->q, number);
        m->state[number] = QUEUE_DONE;
    }
}

static void drop_oldest(struct model *m)
{
    uint64_t number, expected = m->q->sent;

    if (!queue_oldest_waiting(m->q, &number)) {
        return;
    }
    while (m->state[expected] != QUEUE_WAITING) {
        expected++;
    }
    CHECK(number == expected);
    queue_finish(m->q, number);
    m->state[number] = QUEUE_DONE;
}

static void checkpoint(struct model *m)
{
    const struct queue_entry *e;

    for (uint64_t n = m->q->stored_head; n < m->q->head; n++) {
        m->row[n].there = false;
    }
    for (uint64_t n = 0; queue_next_changed(m->q, &n, &e); n++) {
        m->row[n] = e ? (struct row){true, e->state, e->sent_before} : (struct row){0};
    }
    queue_stored(m->q);
    for (uint64_t n = m->q->head; n < m->q->tail; n++) {
        CHECK(m->row[n].there == (m->message[n] && m->state[n] != QUEUE_DONE));
    }
    if (m->away) {
        queue_evict(m->q, m->q->tail);
    }
}

static void compare(struct model *m)
{
    const struct queue *q = m->q;
    uint64_t bytes = 0, waiting = 0, count = 0;
    bool same = true;

    for (uint64_t n = 0; n < q->tail; n++) {
        uint8_t state = m->message[n] ? m->state[n] : QUEUE_DONE;
        bytes += state == QUEUE_WAITING || state == QUEUE_SENT ? message_size(m->message[n]) : 0;
        waiting += state == QUEUE_WAITING;
        count += state != QUEUE_DONE;
        same &= n < q->head           ? state == QUEUE_DONE
                : queue_is_cold(q, n) ? state == QUEUE_WAITING
                                      : queue_at(q, n)->state == state;
    }
    CHECK(same);
    CHECK(q->waiting == waiting);
    CHECK(queue_count(q) == count);
    CHECK(q->cold != q->cold_end || q->bytes == bytes);
}

static void step(struct model *m)
{
    uint64_t what = chance(m, 100);

    if (what < 40) {
        push(m);
    } else if (what < 55 && !m->away) {
        send_next(m);
    } else if (what < 65 && !m->away) {
        acknowledge(m);
    } else if (what < 72) {
        drop_oldest(m);
    } else if (what < 78) {
        m->away = !m->away;
        if (m->away) {
            queue_rewind(m->q);
        }
    } else if (what < 90) {
        checkpoint(m);
    }
    compare(m);
}

static void test_against_a_table(void)
{
    struct model *m = calloc(1, sizeof(*m));

    CU_ASSERT_PTR_NOT_NULL_FATAL(m);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        *m = (struct model){.q = queue_new(), .away = true};
        CU_ASSERT_PTR_NOT_NULL_FATAL(m->q);
        prng_seed(&m->prng, seed);
        for (unsigned i = 0; i < STEPS; i++) {
            step(m);
        }
        queue_free(m->q);
        for (unsigned n = 0; n < NUMBERS_MAX; n++) {
            message_unref(m->message[n]);
        }
    }
    free(m);
}

/* What the log says of a queue whose entries are in rows, or not there yet. */
static void test_from_the_log(void)
{
    struct message *msg = message_new(&(struct message_source){.topic = SLICE("t"), .payload = SLICE("x"), .qos = 1});
    struct queue_item item = {.message = msg, .qos = 1};
    struct queue *q = queue_new();

    CHECK(queue_push_at(q, &item, 70000) == 0); /* an empty one begins anywhere */
    CHECK(q->head == 70000 && q->tail == 70001);
    CHECK(queue_push_at(q, &item, 70003) == 0); /* two numbers were passed over */
    CHECK(queue_push_at(q, &item, 70003) == -EBADMSG);
    CHECK(queue_push_at(q, &item, 70003 + 5 * QUEUE_SPAN_MAX) == -EBADMSG);
    CHECK(!queue_was_sent(q, 70001) && !queue_was_sent(q, 69999) && !queue_was_sent(q, 70004));
    CHECK(queue_was_sent(q, 70003)); /* and so the one before it */
    CHECK(q->inflight == 2 && q->waiting == 0);
    queue_finish(q, 70003);
    queue_finish(q, 70000);
    CHECK(queue_empty(q) && q->bytes == 0);
    queue_free(q);
    message_unref(msg);
}

/* From a row: nothing is in memory, and what may have been sent is sent again as such. */
static void test_restored(void)
{
    struct message *msg = message_new(&(struct message_source){.topic = SLICE("t"), .payload = SLICE("x"), .qos = 1});
    struct queue_page_entry page[] = {
        {10, {.message = message_ref(msg), .state = QUEUE_WAITING, .qos = 1}},
        {12, {.message = message_ref(msg), .state = QUEUE_WAITING, .qos = 1}},
    };
    struct queue *q = queue_new();
    uint64_t number;

    CHECK(queue_restore(q, 10, 13, 2, 2 * message_size(msg), 11) == 0);
    CHECK(queue_next(q, 100, &number) == NULL && queue_wants_page(q));
    CHECK(queue_load(q, page, 2, 13) == 0);
    struct queue_entry *e = queue_next(q, 100, &number);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e);
    CHECK(number == 10 && e->sent_before);
    queue_mark_sent(q, number);
    e = queue_next(q, 100, &number);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e);
    CHECK(number == 12 && !e->sent_before);
    queue_free(q);
    message_unref(msg);
}

UNIT_MAIN("broker/session/queue_cold", {"against a table", test_against_a_table}, {"from the log", test_from_the_log},
          {"restored", test_restored})
