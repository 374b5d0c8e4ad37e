/* fuzz_queue.c -- the queue of one session against a plain array of its messages, over many connections.
 *
 * What the specification asks is checked at each sending: an identifier that is not 0 and not in use [MQTT-2.2.1-4], no
 * more in flight than the window [MQTT-3.3.4-9], after a lost connection everything open again, in the order of first
 * sending and with its identifier [MQTT-4.4.0-1] [MQTT-4.6.0-1], PUBREL and not PUBLISH for what was received
 * [MQTT-4.3.3-6], then new messages in their order. */
#include "broker/session/queue.h"
#include "tests/fuzz/ops.h"

#define MESSAGES_MAX 2000
#define BURSTS_MAX 5 /* an input: they take long */

struct item {
    struct message *message;
    enum queue_state state;
    uint8_t qos;
    bool sent_now; /* on this connection */
    uint16_t packet_id;
};

struct model {
    struct queue *q;
    struct item items[MESSAGES_MAX]; /* in the order of coming; DONE ones stay */
    unsigned count, bursts;
};

static struct message *message_of_size(unsigned bytes)
{
    static const uint8_t payload[256];
    struct message *m =
        message_new(&(struct message_source){.topic = SLICE("t"), .payload = slice_of(payload, bytes), .qos = 2});
    require(m != NULL);
    return m;
}

static bool holds_message(const struct item *item)
{
    return item->state == QUEUE_WAITING || item->state == QUEUE_SENT;
}

static void check_counters(const struct model *m)
{
    uint32_t inflight = 0, waiting = 0;
    uint64_t bytes = 0, number;
    bool open = false;

    for (unsigned i = 0; i < m->count; i++) {
        const struct item *item = &m->items[i];
        inflight += item->sent_now && item->state != QUEUE_DONE;
        waiting += item->state == QUEUE_WAITING;
        bytes += holds_message(item) ? message_size(item->message) : 0;
        open |= item->state != QUEUE_DONE;
        require(atomic_load(&item->message->refs) == 1u + holds_message(item));
    }
    require(m->q->inflight == inflight && m->q->waiting == waiting && m->q->bytes == bytes);
    require(queue_empty(m->q) == !open);
    require(queue_oldest_waiting(m->q, &number) == (waiting > 0));
}

static void op_push(struct model *m, uint8_t how)
{
    if (m->count == MESSAGES_MAX) {
        return;
    }
    struct item *item = &m->items[m->count];
    *item = (struct item){.message = message_of_size(how), .state = QUEUE_WAITING, .qos = (uint8_t)(1 + how % 2)};
    struct queue_item push = {.message = item->message, .qos = item->qos, .retain = how & 4};
    if (how & 8) {
        push.share = 7;
        push.ids = SLICE("\x0b\x05");
    }
    require(queue_push(m->q, &push) == 0);
    m->count++;
}

/* What is to be sent next: the first that is open and not yet sent on this connection. */
static struct item *due_item(struct model *m)
{
    for (unsigned i = 0; i < m->count; i++) {
        if (m->items[i].state != QUEUE_DONE && !m->items[i].sent_now) {
            return &m->items[i];
        }
    }
    return NULL;
}

static void check_entry(const struct model *m, const struct item *item, const struct queue_entry *e, uint16_t id)
{
    bool sent_before = item->packet_id != 0;

    require(e->state == (uint8_t)item->state && e->qos == item->qos);
    require(e->message == (holds_message(item) ? item->message : NULL));
    require(e->sent_before == sent_before);
    require(id != 0 && (!sent_before || item->packet_id == id));
    for (unsigned i = 0; i < m->count; i++) {
        const struct item *other = &m->items[i];
        require(other == item || other->state == QUEUE_DONE || other->packet_id != id);
    }
}

static void op_send(struct model *m, uint32_t window, bool give_up)
{
    struct item *item = due_item(m);
    uint32_t inflight = m->q->inflight;
    uint64_t number;
    struct queue_entry *e = queue_next(m->q, window, &number);

    bool span_left = m->q->sent - m->q->head < QUEUE_SPAN_MAX;
    require((e != NULL) == (item != NULL && inflight < window && span_left));
    if (!e) {
        return;
    }
    uint16_t id = queue_packet_id(number);
    check_entry(m, item, e, id);
    require(queue_next(m->q, window, &number) == e); /* looking changes nothing */
    if (give_up) {
        queue_finish(m->q, number);
        item->state = QUEUE_DONE;
        return;
    }
    queue_mark_sent(m->q, number);
    item->packet_id = id;
    item->sent_now = true;
    item->state = item->state == QUEUE_WAITING ? QUEUE_SENT : item->state;
    require(m->q->inflight <= window);
}

/* An acknowledgement of some identifier: it is found exactly if the message was sent on this connection and is open. */
static void op_ack(struct model *m, uint8_t pick, uint8_t how)
{
    unsigned index = m->count > 0 ? m->count - 1 - pick % m->count : 0;
    uint16_t id = m->count > 0 && how % 8 ? m->items[index].packet_id : (uint16_t)(how << 8 | pick);
    struct item *item = NULL;
    uint64_t number;

    for (unsigned i = 0; i < m->count; i++) {
        if (id != 0 && m->items[i].packet_id == id && m->items[i].state != QUEUE_DONE && m->items[i].sent_now) {
            item = &m->items[i];
        }
    }
    struct queue_entry *e = queue_find(m->q, id, &number);
    require((e != NULL) == (item != NULL));
    if (!e) {
        return;
    }
    require(queue_packet_id(number) == id && e == queue_at(m->q, number));
    if (item->qos == 2 && item->state == QUEUE_SENT && how & 16) {
        queue_release(m->q, e);
        item->state = QUEUE_RELEASED;
    } else {
        queue_finish(m->q, number);
        item->state = QUEUE_DONE;
    }
}

static void op_drop_oldest(struct model *m)
{
    uint64_t number;
    if (!queue_oldest_waiting(m->q, &number)) {
        return;
    }
    for (unsigned i = 0; i < m->count; i++) {
        if (m->items[i].state == QUEUE_WAITING) {
            require(queue_at(m->q, number)->message == m->items[i].message);
            m->items[i].state = QUEUE_DONE;
            break;
        }
    }
    queue_finish(m->q, number);
}

static void op_rewind(struct model *m)
{
    queue_rewind(m->q);
    for (unsigned i = 0; i < m->count; i++) {
        m->items[i].sent_now = false;
    }
}

/* Nearly a round of identifiers goes by, sent and acknowledged one by one, while the others are as they are: open ones
 * are passed over. */
static void op_burst(struct model *m, uint8_t less)
{
    static bool in_use[QUEUE_IDS + 1];
    if (due_item(m) || m->bursts++ >= BURSTS_MAX) {
        return;
    }
    memset(in_use, 0, sizeof(in_use));
    for (unsigned i = 0; i < m->count; i++) {
        in_use[m->items[i].packet_id] |= m->items[i].state != QUEUE_DONE;
    }
    struct message *message = message_of_size(1);
    for (unsigned n = less; n < QUEUE_IDS; n++) {
        uint64_t number;
        require(queue_push(m->q, &(struct queue_item){.message = message, .qos = 1}) == 0);
        if (queue_next(m->q, UINT32_MAX, &number)) {
            require(!in_use[queue_packet_id(number)] && queue_packet_id(number) != 0);
            queue_mark_sent(m->q, number);
        } else {
            require(m->q->sent - m->q->head >= QUEUE_SPAN_MAX && queue_oldest_waiting(m->q, &number));
        }
        queue_finish(m->q, number);
    }
    require(atomic_load(&message->refs) == 1);
    message_unref(message);
}

/* Begin near the end of the round of identifiers, or of a multiple of it: where numbers and identifiers part. */
static struct queue *queue_at_number(uint8_t where)
{
    static const uint64_t numbers[] = {0, QUEUE_IDS - 5, QUEUE_IDS, 4 * (uint64_t)QUEUE_IDS - 9, UINT64_C(1) << 40};
    struct queue *q = queue_new();

    require(q != NULL);
    q->head = q->sent = q->tail = numbers[where % COUNT_OF(numbers)];
    return q;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model m;
    struct slice in = slice_of(data, size);

    memset(&m, 0, sizeof(m));
    uint8_t beginning = ops_byte(&in);
    m.q = queue_at_number(beginning);
    m.bursts = beginning < 240 ? BURSTS_MAX : 0; /* few inputs are slow ones */
    while (in.len > 0) {
        uint8_t op = ops_byte(&in);
        switch (op % 8) {
        case 0:
        case 1:
            op_push(&m, ops_byte(&in));
            break;
        case 2:
        case 3:
            op_send(&m, ops_byte(&in) % 20, false);
            break;
        case 4:
            op_ack(&m, ops_byte(&in), op >> 3);
            break;
        case 5:
            if (op >= 248) {
                op_burst(&m, ops_byte(&in));
            } else {
                op_drop_oldest(&m);
            }
            break;
        case 6:
            op_send(&m, 1 + ops_byte(&in) % 20, true);
            break;
        default:
            op_rewind(&m);
            break;
        }
        check_counters(&m);
    }
    queue_free(m.q);
    for (unsigned i = 0; i < m.count; i++) {
        require(atomic_load(&m.items[i].message->refs) == 1);
        message_unref(m.items[i].message);
    }
    return 0;
}
