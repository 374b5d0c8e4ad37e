/* Queues whose middle is on the disk: whatever is pushed, sent, acknowledged, dropped, stored, given up and read back,
 * in any order, with memory that is out now and then and a node that is started again, a plain table of all messages
 * says what the queue must be. */
#include <errno.h>

#include "tests/lib/alloc_fail.h"

#include "broker/session/queue.c"
#include "proto/base/prng.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#define NUMBERS_MAX 1200
#define WINDOW 8u
#define SEEDS 80u
#define STEPS 2000u
#define PAGE_MAX 20u

struct row {
    bool there;
    uint8_t state;
    bool sent_before;
};

/* What there should be. */
struct model {
    struct message *message[NUMBERS_MAX]; /* NULL: a number without one */
    uint8_t state[NUMBERS_MAX];
    bool sent[NUMBERS_MAX]; /* at least once */
    struct row row[NUMBERS_MAX];
    struct row next[NUMBERS_MAX]; /* the rows when the checkpoint is there */
    struct queue *q;
    struct prng prng;
    uint64_t then;   /* the tail when the checkpoint was begun */
    bool checkpoint; /* one is under way */
    bool away;       /* nobody is connected, the queue is rewound */
    bool restored;   /* then there may be numbers without a message in the gap */
};

static uint64_t chance(struct model *m, uint64_t below)
{
    return prng_next(&m->prng) % below;
}

/* Every third is from a share. */
static uint64_t share_of(uint64_t number)
{
    return number % 3 == 0 ? number + 1 : 0;
}

static void push(struct model *m)
{
    static const char payload[3000];
    uint64_t tail = m->q->tail;

    if (tail >= NUMBERS_MAX - 1) {
        return;
    }
    struct message *msg = message_new(&(struct message_source){
        .topic = SLICE("t"), .payload = slice_of(payload, chance(m, chance(m, 2) ? 3000 : 10)), .qos = 2});
    CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
    if (queue_push(m->q, &(struct queue_item){.message = msg, .qos = 2, .share = share_of(tail)}) != 0) {
        CHECK(m->q->tail == tail);
        message_unref(msg);
        return;
    }
    CHECK(m->q->tail == tail + 1);
    m->message[tail] = msg;
    m->state[tail] = QUEUE_WAITING;
}

static struct queue_entry from_row(const struct model *m, uint64_t number)
{
    const struct row *row = &m->row[number];
    struct queue_entry e = {.state = row->state, .qos = 2, .sent_before = row->sent_before};

    if (row->state != QUEUE_RELEASED) {
        e.message = message_ref(m->message[number]);
    }
    if (share_of(number)) {
        e.extra = calloc(1, sizeof(*e.extra));
        CU_ASSERT_PTR_NOT_NULL_FATAL(e.extra);
        e.extra->share = share_of(number);
    }
    return e;
}

static void read_page(struct model *m)
{
    struct queue_page_entry page[PAGE_MAX];
    uint64_t upto = m->q->cold, limit = 1 + chance(m, PAGE_MAX);
    uint32_t count = 0;
    unsigned fail_at = alloc_fail_at;

    alloc_fail_at = 0;
    for (; upto < m->q->cold_end && count < limit; upto++) {
        const struct row *row = &m->row[upto];
        CHECK(row->there == (m->state[upto] != QUEUE_DONE));
        if (row->there) {
            CHECK(row->state == m->state[upto]);
            page[count++] = (struct queue_page_entry){upto, from_row(m, upto)};
        }
    }
    alloc_fail_at = fail_at;
    if (queue_load(m->q, page, count, upto) != 0) {
        while (count-- > 0) {
            message_unref(page[count].entry.message);
            free(page[count].entry.extra);
        }
    }
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
    CHECK((e->extra ? e->extra->share : 0) == share_of(number));
    CHECK(m->sent[number] ? e->sent_before : !e->sent_before || number < m->q->resend_below);
    m->state[number] = e->state == QUEUE_WAITING ? QUEUE_SENT : e->state;
    m->sent[number] = true;
    queue_mark_sent(m->q, number);
}

static void acknowledge(struct model *m)
{
    uint64_t number;
    struct queue_entry *e = queue_find(m->q, (uint16_t)(1 + chance(m, NUMBERS_MAX)), &number);

    for (unsigned tries = 0; !e && tries < 50; tries++) {
        e = queue_find(m->q, queue_packet_id(m->q->head + chance(m, 2 * WINDOW)), &number);
    }
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

    while (expected < m->q->tail && m->state[expected] != QUEUE_WAITING && !queue_is_cold(m->q, expected)) {
        expected++;
    }
    if (!queue_oldest_waiting(m->q, &number)) {
        CHECK(expected == m->q->tail);
        return;
    }
    CHECK(number == expected);
    queue_finish(m->q, number);
    if (!queue_is_cold(m->q, number)) { /* else there was no memory to give it up */
        m->state[number] = QUEUE_DONE;
    }
}

/* A waiting one in the middle goes, as one of a share does that another member gets. */
static void discard(struct model *m)
{
    uint64_t number = m->q->head + chance(m, m->q->tail - m->q->head + 1);

    if (number < m->q->tail && !queue_is_cold(m->q, number) && m->state[number] == QUEUE_WAITING) {
        queue_finish(m->q, number);
        m->state[number] = QUEUE_DONE;
    }
}

static void checkpoint_begin(struct model *m)
{
    const struct queue_entry *e;

    memcpy(m->next, m->row, sizeof(m->row));
    for (uint64_t n = m->q->stored_head; n < m->q->head; n++) {
        m->next[n].there = false;
    }
    for (uint64_t n = 0; queue_next_changed(m->q, &n, &e); n++) {
        m->next[n] = e ? (struct row){true, e->state, e->sent_before} : (struct row){0};
    }
    queue_stored(m->q);
    uint64_t first = 0;
    CHECK(!queue_next_changed(m->q, &first, &e) && m->q->stored_head == m->q->head);
    for (uint64_t n = 0; n < m->q->tail; n++) {
        CHECK(m->next[n].there == (m->state[n] != QUEUE_DONE));
        CHECK(!m->next[n].there || m->next[n].state == m->state[n] ||
              (m->next[n].state == QUEUE_WAITING && m->state[n] == QUEUE_SENT));
    }
    m->then = m->q->tail;
    m->checkpoint = true;
}

static void checkpoint_end(struct model *m)
{
    m->checkpoint = false;
    if (chance(m, 4) == 0) {
        queue_not_stored(m->q);
        return;
    }
    memcpy(m->row, m->next, sizeof(m->row));
    if (m->away) {
        uint64_t bytes = m->q->bytes, cold = m->q->cold_bytes;
        CHECK(queue_evict(m->q, m->then) == m->q->cold_bytes - cold);
        CHECK(m->q->bytes == bytes);
    }
}

/* The node is started again, from the rows alone: nothing came after the checkpoint. */
static void restart(struct model *m)
{
    struct queue *old = m->q, *q = queue_new();
    uint64_t inflight = 0;

    CU_ASSERT_PTR_NOT_NULL_FATAL(q);
    CHECK(queue_restore(q, old->head, old->tail, old->waiting, old->bytes, m->away ? old->resend_below : old->tail) ==
          0);
    m->q = q;
    for (uint64_t n = q->head; n < q->tail; n++) {
        m->state[n] = m->row[n].there ? m->row[n].state : QUEUE_DONE;
        inflight += m->state[n] == QUEUE_SENT || m->state[n] == QUEUE_RELEASED;
    }
    queue_free(old);
    while (queue_count(q) - q->waiting < inflight) { /* what was in flight is not cold */
        read_page(m);
    }
    m->away = m->restored = true;
}

static void checkpoint(struct model *m)
{
    unsigned fail_at = alloc_fail_at;

    alloc_fail_at = 0; /* the checkpoint needs none, a start that fails is another story */
    if (m->checkpoint) {
        checkpoint_end(m);
    } else {
        checkpoint_begin(m);
        if (chance(m, 12) == 0) {
            memcpy(m->row, m->next, sizeof(m->row));
            m->checkpoint = false;
            restart(m);
        }
    }
    alloc_fail_at = fail_at;
}

static void compare(struct model *m)
{
    const struct queue *q = m->q;
    uint64_t bytes = 0, waiting = 0, count = 0;
    bool same = true;

    m->restored &= q->cold != q->cold_end;
    for (uint64_t n = 0; n < q->tail; n++) {
        uint8_t state = m->state[n];
        if (n < q->head) {
            same &= state == QUEUE_DONE;
        } else if (queue_is_cold(q, n)) {
            same &= state == QUEUE_WAITING || (m->restored && state == QUEUE_DONE);
        } else {
            same &= queue_at(q, n)->state == state;
            bytes += state == QUEUE_WAITING || state == QUEUE_SENT ? message_size(m->message[n]) : 0;
            waiting += state == QUEUE_WAITING;
            count += state != QUEUE_DONE;
        }
    }
    CHECK(same);
    CHECK(q->waiting == waiting + q->cold_waiting); /* what is in memory is counted exactly */
    CHECK(q->bytes == bytes + q->cold_bytes);
    CHECK(queue_count(q) == count + q->cold_waiting);
    CHECK(m->restored || q->cold_waiting == q->cold_end - q->cold);
    CHECK(q->cold != q->cold_end || q->cold_bytes == 0);
}

static void step(struct model *m)
{
    uint64_t what = chance(m, 100);

    alloc_fail_at = chance(m, 4) == 0 ? 1 + (unsigned)chance(m, 2) : 0;
    if (what < 40) {
        push(m);
    } else if (what < 55 && !m->away) {
        send_next(m);
    } else if (what < 65 && !m->away) {
        acknowledge(m);
    } else if (what < 70) {
        drop_oldest(m);
    } else if (what < 73) {
        discard(m);
    } else if (what < 79) {
        m->away = !m->away;
        if (m->away) {
            m->q->resend_below = m->q->sent > m->q->resend_below ? m->q->sent : m->q->resend_below;
            queue_rewind(m->q);
        }
    } else if (what < 92) {
        checkpoint(m);
    }
    alloc_fail_at = 0;
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

/* The small ones in front are dropped at the average size: what is left must not be counted below what it is. */
static void test_sizes_differ(void)
{
    static const char payload[3000];
    struct message *msg[2] = {make_message(SLICE("t"), SLICE("x"), 0),
                              make_message(SLICE("t"), slice_of(payload, sizeof(payload)), 0)};
    struct queue *q = queue_new();
    uint64_t number;

    for (unsigned i = 0; i < 20; i++) {
        CHECK(queue_push(q, &(struct queue_item){.message = msg[i / 10], .qos = 1}) == 0);
    }
    queue_stored(q);
    uint64_t all = 10 * (message_size(msg[0]) + message_size(msg[1]));
    CHECK(queue_evict(q, q->tail) == all && q->bytes == all);
    for (unsigned i = 0; i < 9; i++) {
        CHECK(queue_oldest_waiting(q, &number) && number == i && queue_entry_bytes(q, number) == all / 20);
        queue_finish(q, number);
    }
    for (unsigned i = 9; i < 19; i++) {
        struct queue_page_entry page = {i, {.message = message_ref(msg[i / 10]), .qos = 1}};
        CHECK(queue_load(q, &page, 1, i + 1) == 0);
        CHECK(q->bytes - q->cold_bytes == message_size(msg[i / 10]) && q->bytes <= all);
        queue_finish(q, i);
    }
    queue_free(q);
    message_unref(msg[0]);
    message_unref(msg[1]);
}

/* Sent since their rows were written, so that the account of the session's row knows of fewer that wait. */
static void test_sent_since_stored(void)
{
    struct message *msg = make_message(SLICE("t"), SLICE("x"), 0);
    struct queue *q = queue_new();
    uint64_t number;

    CHECK(queue_restore(q, 5, 4, 0, 0, 0) == -EBADMSG);
    CHECK(queue_restore(q, 0, 3, 1, 3 * message_size(msg), 2) == 0);
    for (unsigned i = 0; i < 2; i++) {
        struct queue_page_entry page = {i, {.message = message_ref(msg), .qos = 1}};
        CHECK(queue_load(q, &page, 1, i + 1) == 0);
        CHECK(queue_next(q, 9, &number) != NULL && number == i);
        queue_mark_sent(q, number);
        CHECK(q->waiting <= 1);
    }
    queue_free(q);
    message_unref(msg);
}

/* One is in flight for ever, more than the span of identifiers have been dropped behind it: it can be read back. */
static void test_far_apart(void)
{
    struct message *msg = make_message(SLICE("t"), SLICE("x"), 0);
    uint64_t last = QUEUE_SPAN_MAX + 1000;
    struct queue_page_entry page[] = {{0, {.message = message_ref(msg), .qos = 1, .state = QUEUE_SENT}},
                                      {last, {.message = message_ref(msg), .qos = 1}}};
    struct queue *q = queue_new();
    uint64_t number;

    CHECK(queue_restore(q, 0, last + 1, 1, 2 * message_size(msg), 1) == 0);
    CHECK(queue_load(q, page, 2, last + 1) == 0);
    CHECK(q->waiting == 1 && queue_count(q) == 2);
    CHECK(queue_oldest_waiting(q, &number) && number == last);
    queue_free(q);
    message_unref(msg);
}

/* A number that no memory suffices for is refused, not tried. */
static void test_beyond_memory(void)
{
    struct queue *q = queue_new();

    CHECK(queue_restore(q, 0, UINT64_MAX, 0, 0, 0) == 0);
    CHECK(queue_load(q, NULL, 0, UINT64_MAX) == -ENOMEM);
    CHECK(q->cold == 0 && q->cold_end == UINT64_MAX);
    queue_free(q);
}

/* A damaged row is left out of its page: it was counted, and is no more when the gap is at its end. */
static void test_row_missing(void)
{
    struct message *msg = make_message(SLICE("t"), SLICE("x"), 0);
    struct queue_page_entry page = {1, {.message = message_ref(msg), .qos = 1}};
    struct queue *q = queue_new();

    CHECK(queue_restore(q, 0, 3, 3, 3 * message_size(msg), 0) == 0);
    CHECK(queue_load(q, &page, 1, 3) == 0);
    CHECK(q->waiting == 1 && q->bytes == message_size(msg) && q->head == 1);
    queue_free(q);
    message_unref(msg);
}

/* What could not be stored stays in memory, also behind a gap. */
static void test_not_stored(void)
{
    struct message *msg = make_message(SLICE("t"), SLICE("x"), 0);
    struct queue_item item = {.message = msg, .qos = 1};
    struct queue *q = queue_new();

    CHECK(queue_push(q, &item) == 0);
    queue_stored(q);
    CHECK(queue_evict(q, 1) == message_size(msg));
    CHECK(queue_push(q, &item) == 0);
    queue_stored(q);
    queue_not_stored(q);
    CHECK(queue_evict(q, 2) == 0 && q->cold_end == 1);
    queue_stored(q);
    CHECK(queue_evict(q, 2) == message_size(msg) && q->cold_end == 2);
    queue_free(q);
    message_unref(msg);
}

/* The identifiers go round while one is open and all behind it are cold: only the open one's is passed over. */
static void test_identifiers_over_a_gap(void)
{
    struct message *msg = make_message(SLICE("t"), SLICE("x"), 0);
    struct queue_item item = {.message = msg, .qos = 1};
    struct queue *q = queue_new();
    uint64_t number;

    while (q->tail < QUEUE_IDS) {
        CHECK(queue_push(q, &item) == 0);
    }
    CHECK(queue_next(q, 1, &number) != NULL);
    queue_mark_sent(q, number);
    queue_rewind(q);
    queue_stored(q);
    CHECK(queue_evict(q, q->tail) == (QUEUE_IDS - 1) * message_size(msg));
    for (uint64_t expected = QUEUE_IDS + 1; expected < QUEUE_IDS + 20; expected++) {
        CHECK(queue_push(q, &item) == 0 && q->tail == expected + 1);
    }
    CHECK(q->waiting == QUEUE_IDS - 1 + 19);
    queue_free(q);
    message_unref(msg);
}

UNIT_MAIN("broker/session/queue_cold", {"against a table", test_against_a_table}, {"from the log", test_from_the_log},
          {"restored", test_restored}, {"sizes differ", test_sizes_differ},
          {"sent since stored", test_sent_since_stored}, {"far apart", test_far_apart},
          {"beyond memory", test_beyond_memory}, {"row missing", test_row_missing}, {"not stored", test_not_stored},
          {"identifiers over a gap", test_identifiers_over_a_gap})
