/* queue_test.c -- one sequence of messages to one client: sent in order, acknowledged in any, sent again from the
 * front. */
#include "broker/session/queue.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

/* Put a message in that says its own number. */
static void push(struct queue *q, unsigned number, uint8_t qos)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", number);
    struct message *m = make_message(SLICE("t"), slice_str(text), MESSAGE_NEVER);
    CHECK(queue_push(q, &(struct queue_item){.message = m, .qos = qos}) == 0);
    message_unref(m); /* the queue has its own */
}

/* Send what may be sent next, and say which it is; 0: none may. */
static unsigned send_next(struct queue *q, uint32_t window, uint16_t *ret_packet_id)
{
    uint64_t number;
    struct queue_entry *e = queue_next(q, window, &number);
    if (!e) {
        return 0;
    }
    char text[16] = "";
    memcpy(text, message_payload(e->message).ptr, message_payload(e->message).len);
    *ret_packet_id = queue_packet_id(number);
    queue_mark_sent(q, number);
    CHECK(e->state == QUEUE_SENT && e->sent_before);
    return (unsigned)strtoul(text, NULL, 10);
}

static bool ack(struct queue *q, uint16_t packet_id)
{
    uint64_t number;
    if (!queue_find(q, packet_id, &number)) {
        return false;
    }
    CHECK(queue_packet_id(number) == packet_id);
    queue_finish(q, number);
    return true;
}

static bool release(struct queue *q, uint16_t packet_id)
{
    uint64_t number;
    struct queue_entry *e = queue_find(q, packet_id, &number);
    if (e) {
        queue_release(q, e);
    }
    return e != NULL;
}

static void test_empty(void)
{
    struct queue *q = queue_new();
    uint64_t number = 77;
    uint16_t ids[] = {0, 1, 2, 65535};

    CHECK(queue_empty(q));
    CHECK(queue_next(q, 65535, &number) == NULL);
    CHECK(!queue_oldest_waiting(q, &number));
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        CHECK(queue_find(q, ids[i], &number) == NULL);
    }
    CHECK(number == 77); /* outputs keep their value on failure */
    queue_rewind(q);
    CHECK(queue_empty(q) && q->inflight == 0 && q->waiting == 0 && q->bytes == 0);
    queue_free(q);
    queue_free(NULL);
}

static void test_order_and_window(void)
{
    struct queue *q = queue_new();
    uint16_t ids[8];

    for (unsigned i = 1; i <= 20; i++) {
        push(q, i, 1);
        CHECK(q->waiting == i);
    }
    for (unsigned i = 1; i <= 3; i++) {
        CHECK(send_next(q, 3, &ids[i]) == i); /* [MQTT-4.6.0-2] */
    }
    CHECK(ids[1] != ids[2] && ids[2] != ids[3] && ids[1] != ids[3] && ids[1] && ids[2] && ids[3]);
    CHECK(send_next(q, 3, &ids[4]) == 0); /* [MQTT-3.3.4-9] */
    CHECK(q->inflight == 3 && q->waiting == 17);
    CHECK(ack(q, ids[2]));
    CHECK(!ack(q, ids[2])); /* a second time */
    CHECK(q->inflight == 2);
    CHECK(send_next(q, 3, &ids[4]) == 4);
    CHECK(ids[4] != ids[1] && ids[4] != ids[3]); /* [MQTT-2.2.1-4] */
    CHECK(send_next(q, 3, &ids[5]) == 0);
    CHECK(send_next(q, 4, &ids[5]) == 5); /* a wider window */
    CHECK(send_next(q, 1, &ids[6]) == 0); /* and a narrower one */
    CHECK(ack(q, ids[1]) && ack(q, ids[3]) && ack(q, ids[4]) && ack(q, ids[5]));
    CHECK(q->inflight == 0 && q->waiting == 15);
    CHECK(send_next(q, 0, &ids[6]) == 0);
    CHECK(send_next(q, 1, &ids[6]) == 6);
    queue_free(q); /* with messages in every state */
}

/* QoS 2: PUBREC lets the message go and keeps the identifier; PUBCOMP lets that go [MQTT-4.3.3-5]. */
static void test_release(void)
{
    struct queue *q = queue_new();
    uint16_t id;
    uint64_t number;
    struct message *m = make_message(SLICE("t"), SLICE("1"), MESSAGE_NEVER);

    CHECK(queue_push(q, &(struct queue_item){.message = m, .qos = 2}) == 0);
    CHECK(atomic_load(&m->refs) == 2 && q->bytes == message_size(m));
    CHECK(send_next(q, 1, &id) == 1);
    CHECK(release(q, id));
    CHECK(atomic_load(&m->refs) == 1 && q->bytes == 0);
    CHECK(q->inflight == 1); /* counts until PUBCOMP (4.9) */
    struct queue_entry *e = queue_find(q, id, &number);
    CHECK(e && e->state == QUEUE_RELEASED && e->message == NULL);
    push(q, 2, 2);
    CHECK(send_next(q, 1, &id) == 0);
    CHECK(ack(q, queue_packet_id(number)));
    CHECK(q->inflight == 0);
    CHECK(send_next(q, 1, &id) == 2);
    message_unref(m);
    queue_free(q);
}

/* A connection ends with messages in every state; the next one gets PUBLISH with DUP, PUBREL, and then what is new, in
 * the order of first sending and with the same identifiers [MQTT-4.4.0-1] [MQTT-4.6.0-1]. */
static void test_rewind(void)
{
    struct queue *q = queue_new();
    uint16_t ids[8];

    for (unsigned i = 1; i <= 7; i++) {
        push(q, i, 2);
    }
    for (unsigned i = 1; i <= 5; i++) {
        CHECK(send_next(q, 10, &ids[i]) == i);
    }
    CHECK(ack(q, ids[1]) && release(q, ids[3]) && ack(q, ids[4]));
    queue_rewind(q);
    CHECK(q->inflight == 0 && q->waiting == 2);
    CHECK(!ack(q, ids[2])); /* acknowledgements of the earlier connection are void until it is sent again */

    static const struct {
        unsigned index;
        enum queue_state state;
        bool sent_before;
    } want[] = {{2, QUEUE_SENT, true},
                {3, QUEUE_RELEASED, true},
                {5, QUEUE_SENT, true},
                {6, QUEUE_WAITING, false},
                {7, QUEUE_WAITING, false}};
    for (unsigned i = 0; i < COUNT_OF(want); i++) {
        uint64_t number;
        struct queue_entry *e = queue_next(q, 10, &number);
        CHECK(e && e->state == (uint8_t)want[i].state && e->sent_before == want[i].sent_before);
        CHECK(want[i].index > 5 || queue_packet_id(number) == ids[want[i].index]);
        CHECK((e->message == NULL) == (want[i].state == QUEUE_RELEASED));
        queue_mark_sent(q, number);
        CHECK(e->state == (want[i].state == QUEUE_RELEASED ? QUEUE_RELEASED : QUEUE_SENT));
        CHECK(q->inflight == i + 1);
    }
    CHECK(q->waiting == 0);
    CHECK(ack(q, ids[3]) && ack(q, ids[2]) && ack(q, ids[5]));
    queue_rewind(q);
    queue_rewind(q); /* twice is once */
    CHECK(send_next(q, 10, &ids[6]) == 6);
    queue_free(q);
}

/* Giving up: what waits, what has just been looked at, what was rewound and not yet sent again. */
static void test_give_up(void)
{
    struct queue *q = queue_new();
    uint64_t number;
    uint16_t id;

    for (unsigned i = 1; i <= 6; i++) {
        push(q, i, 1);
    }
    CHECK(queue_oldest_waiting(q, &number));
    queue_finish(q, number); /* 1 */
    CHECK(q->waiting == 5 && q->inflight == 0);
    CHECK(queue_next(q, 9, &number) != NULL);
    queue_finish(q, number); /* 2 */
    CHECK(send_next(q, 9, &id) == 3);
    CHECK(send_next(q, 9, &id) == 4);
    CHECK(queue_oldest_waiting(q, &number));
    queue_finish(q, number); /* 5, behind what is in flight */
    CHECK(q->waiting == 1 && q->inflight == 2);
    CHECK(send_next(q, 9, &id) == 6);
    CHECK(!queue_oldest_waiting(q, &number));
    queue_rewind(q);
    CHECK(!queue_oldest_waiting(q, &number)); /* rewound is not waiting: it was sent once */
    CHECK(queue_next(q, 9, &number) != NULL);
    queue_finish(q, number); /* 3 */
    CHECK(q->inflight == 0);
    CHECK(send_next(q, 9, &id) == 4);
    CHECK(ack(q, id));
    CHECK(send_next(q, 9, &id) == 6);
    CHECK(ack(q, id));
    CHECK(queue_empty(q) && q->bytes == 0 && q->waiting == 0 && q->inflight == 0);
    queue_free(q);
}

static void test_extra(void)
{
    static const struct {
        const char *name, *ids;
        uint64_t share;
        bool want;
    } extras[] = {
        {"neither", "", 0, false},
        {"identifiers", "0b 01 0b ff7f", 0, true},
        {"share", "", 1, true},
        {"both", "0b 05", UINT64_MAX, true},
    };
    struct queue *q = queue_new();
    struct message *m = make_message(SLICE("t"), SLICE("x"), MESSAGE_NEVER);

    for (size_t i = 0; i < COUNT_OF(extras); i++) {
        struct slice ids = unit_hex(extras[i].ids);
        CHECK(queue_push(q, &(struct queue_item){
                                .message = m, .qos = 1, .ids = ids, .share = extras[i].share, .retain = i % 2}) == 0);
        const struct queue_entry *e = queue_at(q, i);
        CHECK_CASE(extras[i].name, (e->extra != NULL) == extras[i].want);
        CHECK_CASE(extras[i].name, !e->extra || e->extra->share == extras[i].share);
        CHECK_CASE(extras[i].name, !e->extra || (slice_eq(slice_of(e->extra->ids, e->extra->ids_len), ids) &&
                                                 e->extra->ids != ids.ptr));
        CHECK_CASE(extras[i].name, e->qos == 1 && e->retain == (i % 2 == 1) && !e->sent_before);
        free((void *)ids.ptr);
    }
    CHECK(q->bytes == COUNT_OF(extras) * message_size(m)); /* one message, counted as often as it is queued */
    CHECK(atomic_load(&m->refs) == 1 + COUNT_OF(extras));
    queue_free(q);
    CHECK(atomic_load(&m->refs) == 1);
    message_unref(m);
}

/* Identifiers go round: 65535 numbers, 0 never, none twice at a time. */
static void test_identifiers_go_round(void)
{
    struct queue *q = queue_new();
    unsigned wrong = 0;
    uint16_t id = 0, before = 0;

    for (unsigned i = 1; i <= 140000; i++) {
        push(q, i, 1);
        wrong += send_next(q, 1, &id) != i;
        wrong += id == 0 || (before && id != before % 65535 + 1);
        wrong += !ack(q, id);
        before = id;
    }
    CHECK(wrong == 0);
    CHECK(queue_empty(q) && q->mask < 64); /* never more than one at a time: no memory is taken */
    queue_free(q);
}

static bool open_ids[65536];   /* by our own account */
static struct message *letter; /* what the following tests push, again and again */

static void push_letter(struct queue *q)
{
    CHECK(queue_push(q, &(struct queue_item){.message = letter, .qos = 1}) == 0);
}

/* Send what may be sent, at most `count`; the first `stuck` stay open, the others are acknowledged at once. Returns how
 * many were sent, or UINT32_MAX when an identifier was 0 or in use [MQTT-2.2.1-4]. */
static unsigned send_all(struct queue *q, unsigned count, unsigned stuck)
{
    unsigned sent = 0;
    uint16_t id;

    while (sent < count && send_next(q, UINT32_MAX, &id)) {
        if (id == 0 || open_ids[id]) {
            return UINT32_MAX;
        }
        open_ids[id] = sent < stuck;
        if (sent++ >= stuck && !ack(q, id)) {
            return UINT32_MAX;
        }
    }
    return sent;
}

static struct queue *stuck_queue(unsigned stuck)
{
    struct queue *q = queue_new();

    memset(open_ids, 0, sizeof(open_ids));
    letter = make_message(SLICE("t"), SLICE("1"), MESSAGE_NEVER);
    for (unsigned i = 0; i < stuck; i++) {
        push_letter(q);
    }
    CHECK(send_all(q, stuck, stuck) == stuck);
    CHECK(q->inflight == stuck);
    return q;
}

/* Some are never acknowledged: the others go by, with identifiers that are free, until the span is used up. */
static void test_stuck(void)
{
    static const unsigned stuck[] = {1, 2, 100, 1024};

    for (size_t i = 0; i < COUNT_OF(stuck); i++) {
        struct queue *q = stuck_queue(stuck[i]);
        unsigned went = 0, sent;
        do {
            push_letter(q);
            sent = send_all(q, 1, 0);
            went += sent;
        } while (sent == 1 && went < 10 * QUEUE_IDS);
        CHECK(sent == 0);
        CHECK(went == QUEUE_SPAN_MAX - 4 * stuck[i]);
        CHECK(q->inflight == stuck[i] && q->waiting == 1);
        for (unsigned k = 0; k < stuck[i]; k++) { /* they answer at last, in their order */
            CHECK(ack(q, (uint16_t)(1 + k)));
            open_ids[1 + k] = false;
        }
        CHECK(send_all(q, UINT32_MAX, 0) == 1);
        CHECK(queue_empty(q) && q->bytes == 0);
        queue_free(q);
        message_unref(letter);
    }
}

/* Far more wait than there are identifiers: to push ends, and each is sent in its turn. */
static void test_many_waiting(void)
{
    struct queue *q = stuck_queue(0);
    const unsigned count = 3 * QUEUE_IDS + 17;

    for (unsigned i = 0; i < count; i++) {
        push_letter(q);
    }
    CHECK(q->waiting == count && q->tail - q->head == count); /* none was passed over */
    CHECK(send_all(q, UINT32_MAX, 1) == QUEUE_IDS);           /* the next one's identifier is that of the first */
    CHECK(q->waiting == count - QUEUE_IDS && q->inflight == 1);
    CHECK(send_all(q, UINT32_MAX, 0) == 0);
    CHECK(ack(q, 1));
    open_ids[1] = false;
    CHECK(send_all(q, UINT32_MAX, 0) == count - QUEUE_IDS);
    CHECK(queue_empty(q));
    queue_free(q);
    message_unref(letter);
}

/* Every identifier is open: to push still ends, nothing more is sent, and one answer makes room for one. */
static void test_all_open(void)
{
    struct queue *q = stuck_queue(QUEUE_IDS);

    for (unsigned i = 0; i < 1000; i++) {
        push_letter(q);
    }
    CHECK(q->mask + 1 <= 2 * 2 * QUEUE_SPAN_MAX); /* holes are bounded */
    CHECK(send_all(q, UINT32_MAX, 0) == 0);
    queue_rewind(q);
    memset(open_ids, 0, sizeof(open_ids));
    CHECK(send_all(q, UINT32_MAX, UINT32_MAX) == QUEUE_IDS); /* all again, and no more than these */
    CHECK(q->waiting == 1000);
    for (unsigned k = 0; k < QUEUE_IDS; k++) {
        CHECK(ack(q, (uint16_t)(1 + k)));
    }
    memset(open_ids, 0, sizeof(open_ids));
    CHECK(send_all(q, UINT32_MAX, UINT32_MAX) == 1000);
    queue_free(q);
    message_unref(letter);
}

UNIT_MAIN("broker/session/queue", {"empty", test_empty}, {"order and window", test_order_and_window},
          {"release", test_release}, {"rewind", test_rewind}, {"give up", test_give_up}, {"extra", test_extra},
          {"identifiers go round", test_identifiers_go_round}, {"stuck", test_stuck},
          {"many waiting", test_many_waiting}, {"all open", test_all_open})
