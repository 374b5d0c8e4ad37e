#include "broker/session/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define RING_START 8u

struct queue *queue_new(void)
{
    struct queue *q = calloc(1, sizeof(*q));
    if (!q) {
        return NULL;
    }
    q->ring = calloc(RING_START, sizeof(*q->ring));
    if (!q->ring) {
        free(q);
        return NULL;
    }
    q->mask = RING_START - 1;
    return q;
}

/* The message leaves the entry, whatever becomes of the packet identifier. */
static void entry_drop_message(struct queue *q, struct queue_entry *e)
{
    if (e->message) {
        q->bytes -= message_size(e->message);
        message_unref(e->message);
        e->message = NULL;
    }
}

void queue_free(struct queue *q)
{
    if (!q) {
        return;
    }
    for (uint64_t n = q->head; n != q->tail; n++) {
        struct queue_entry *e = queue_at(q, n);
        entry_drop_message(q, e);
        free(e->extra);
    }
    assert(q->bytes == 0);
    free(q->ring);
    free(q);
}

static int ring_grow(struct queue *q)
{
    uint32_t slots = (q->mask + 1) * 2;
    struct queue_entry *ring = calloc(slots, sizeof(*ring));
    if (!ring) {
        return -ENOMEM;
    }
    for (uint64_t n = q->head; n != q->tail; n++) {
        ring[n & (slots - 1)] = *queue_at(q, n);
    }
    free(q->ring);
    q->ring = ring;
    q->mask = slots - 1;
    return 0;
}

/* Whether an earlier entry that was sent and is not done has the packet identifier of this number. */
static bool id_taken(const struct queue *q, uint64_t number)
{
    for (uint64_t back = QUEUE_IDS; back <= number - q->head; back += QUEUE_IDS) {
        uint8_t state = queue_at(q, number - back)->state;
        if (state == QUEUE_SENT || state == QUEUE_RELEASED) {
            return true;
        }
    }
    return false;
}

static int ring_room(struct queue *q)
{
    return q->tail - q->head > q->mask ? ring_grow(q) : 0;
}

int queue_push(struct queue *q, const struct queue_item *item)
{
    assert(item->qos == 1 || item->qos == 2);
    struct queue_extra *extra = NULL;

    if (item->ids.len > 0 || item->share != 0) {
        extra = malloc(sizeof(*extra) + item->ids.len);
        if (!extra) {
            return -ENOMEM;
        }
        extra->share = item->share;
        extra->ids_len = (uint32_t)item->ids.len;
        if (item->ids.len > 0) {
            memcpy(extra->ids, item->ids.ptr, item->ids.len);
        }
    }
    int rc = ring_room(q);
    while (rc == 0 && q->tail - q->head < QUEUE_SPAN_MAX && id_taken(q, q->tail)) { /* a hole in its place */
        *queue_at(q, q->tail++) = (struct queue_entry){.state = QUEUE_DONE};
        rc = ring_room(q);
    }
    if (rc) {
        free(extra);
        return rc;
    }
    *queue_at(q, q->tail) = (struct queue_entry){
        .message = message_ref(item->message),
        .extra = extra,
        .state = QUEUE_WAITING,
        .qos = item->qos,
        .retain = item->retain,
    };
    q->bytes += message_size(item->message);
    q->tail++;
    q->waiting++;
    return 0;
}

struct queue_entry *queue_next(struct queue *q, uint32_t window, uint64_t *ret_number)
{
    while (q->sent != q->tail && queue_at(q, q->sent)->state == QUEUE_DONE) {
        q->sent++; /* dropped while it waited, or acknowledged before a rewind */
    }
    if (q->sent == q->tail || q->sent - q->head >= QUEUE_SPAN_MAX || id_taken(q, q->sent)) {
        return NULL; /* the last: it was sent after this entry had come, so that there is no hole */
    }
    struct queue_entry *e = queue_at(q, q->sent);
    if (q->inflight >= window) {
        return NULL; /* [MQTT-3.3.4-9] */
    }
    *ret_number = q->sent;
    return e;
}

void queue_mark_sent(struct queue *q, uint64_t number)
{
    struct queue_entry *e = queue_at(q, number);

    assert(number == q->sent);
    if (e->state == QUEUE_WAITING) {
        e->state = QUEUE_SENT;
        q->waiting--;
    }
    e->sent_before = true;
    q->inflight++;
    q->sent++;
}

struct queue_entry *queue_find(const struct queue *q, uint16_t packet_id, uint64_t *ret_number)
{
    uint64_t number = q->head + (packet_id + QUEUE_IDS - queue_packet_id(q->head)) % QUEUE_IDS;

    for (; packet_id != 0 && number < q->sent; number += QUEUE_IDS) {
        struct queue_entry *e = queue_at(q, number);
        if (e->state == QUEUE_SENT || e->state == QUEUE_RELEASED) { /* at most one of them is open */
            *ret_number = number;
            return e;
        }
    }
    return NULL;
}

void queue_release(struct queue *q, struct queue_entry *e)
{
    assert(e->qos == 2);
    entry_drop_message(q, e);
    e->state = QUEUE_RELEASED;
}

void queue_finish(struct queue *q, uint64_t number)
{
    struct queue_entry *e = queue_at(q, number);

    assert(e->state != QUEUE_DONE);
    if (e->state == QUEUE_WAITING) {
        q->waiting--;
    } else if (number < q->sent) {
        q->inflight--;
    }
    entry_drop_message(q, e);
    free(e->extra);
    e->extra = NULL;
    e->state = QUEUE_DONE;
    while (q->head != q->tail && queue_at(q, q->head)->state == QUEUE_DONE) {
        q->head++;
    }
    if (q->sent < q->head) {
        q->sent = q->head;
    }
}

bool queue_oldest_waiting(const struct queue *q, uint64_t *ret_number)
{
    for (uint64_t n = q->sent; n != q->tail; n++) {
        if (queue_at(q, n)->state == QUEUE_WAITING) {
            *ret_number = n;
            return true;
        }
    }
    return false;
}

void queue_rewind(struct queue *q)
{
    q->sent = q->head;
    q->inflight = 0;
}
