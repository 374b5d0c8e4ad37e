#include "broker/session/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define RING_START 8u
#define RING_MAX (1u << 26) /* 1.5 GiB: what would need more is damaged, or never answers */

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

/* Entries in memory. */
static uint64_t hot_count(const struct queue *q)
{
    return q->tail - q->head - (q->cold_end - q->cold);
}

/* The number behind this one in memory. */
static uint64_t hot_next(const struct queue *q, uint64_t number)
{
    return number + 1 == q->cold && q->cold != q->cold_end ? q->cold_end : number + 1;
}

static uint64_t hot_first(const struct queue *q)
{
    return q->head == q->cold && q->cold != q->cold_end ? q->cold_end : q->head;
}

void queue_free(struct queue *q)
{
    if (!q) {
        return;
    }
    for (uint64_t n = hot_first(q); n != q->tail; n = hot_next(q, n)) {
        struct queue_entry *e = queue_at(q, n);
        entry_drop_message(q, e);
        free(e->extra);
    }
    assert(q->bytes == q->cold_bytes);
    free(q->ring);
    free(q);
}

static int ring_resize(struct queue *q, uint32_t slots)
{
    struct queue_entry *ring = calloc(slots, sizeof(*ring));
    if (!ring) {
        return -ENOMEM;
    }
    for (uint64_t n = hot_first(q); n != q->tail; n = hot_next(q, n)) {
        ring[(n < q->cold ? n + (q->cold_end - q->cold) : n) & (slots - 1)] = *queue_at(q, n);
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
        if (queue_is_cold(q, number - back)) {
            continue; /* waiting */
        }
        uint8_t state = queue_at(q, number - back)->state;
        if (state == QUEUE_SENT || state == QUEUE_RELEASED) {
            return true;
        }
    }
    return false;
}

/* Slots for so many more entries. Returns 0 or -ENOMEM. */
static int ring_room(struct queue *q, uint64_t count)
{
    uint64_t wanted = hot_count(q) + count;
    uint32_t slots = q->mask + 1;

    if (count > RING_MAX || wanted > RING_MAX) {
        return -ENOMEM;
    }
    while (wanted > slots) {
        slots *= 2;
    }
    return slots > q->mask + 1 ? ring_resize(q, slots) : 0;
}

/* What an item has beyond its message. Returns 0 or -ENOMEM. */
static int extra_new(const struct queue_item *item, struct queue_extra **ret_extra)
{
    *ret_extra = NULL;
    if (item->ids.len > 0 || item->share != 0) {
        struct queue_extra *extra = malloc(sizeof(*extra) + item->ids.len);
        if (!extra) {
            return -ENOMEM;
        }
        extra->share = item->share;
        extra->ids_len = (uint32_t)item->ids.len;
        if (item->ids.len > 0) {
            memcpy(extra->ids, item->ids.ptr, item->ids.len);
        }
        *ret_extra = extra;
    }
    return 0;
}

/* A number that no message gets. There is room for it. */
static void put_hole(struct queue *q)
{
    *queue_at(q, q->tail++) = (struct queue_entry){.state = QUEUE_DONE};
    if (q->head + 1 == q->tail) {
        q->head = q->tail;
        q->sent = q->sent < q->head ? q->head : q->sent;
    }
}

static void put_item(struct queue *q, const struct queue_item *item, struct queue_extra *extra)
{
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
}

int queue_push(struct queue *q, const struct queue_item *item)
{
    assert(item->qos == 1 || item->qos == 2);
    struct queue_extra *extra;

    if (extra_new(item, &extra) != 0) {
        return -ENOMEM;
    }
    int rc = ring_room(q, 1);
    while (rc == 0 && q->tail - q->head < QUEUE_SPAN_MAX && id_taken(q, q->tail)) { /* a hole in its place */
        put_hole(q);
        rc = ring_room(q, 1);
    }
    if (rc) {
        free(extra);
        return rc;
    }
    put_item(q, item, extra);
    return 0;
}

struct queue_entry *queue_next(struct queue *q, uint32_t window, uint64_t *ret_number)
{
    while (q->sent != q->tail && !queue_is_cold(q, q->sent) && queue_at(q, q->sent)->state == QUEUE_DONE) {
        q->sent++; /* dropped while it waited, or acknowledged before a rewind */
    }
    if (q->sent == q->tail || queue_is_cold(q, q->sent) || q->sent - q->head >= QUEUE_SPAN_MAX ||
        id_taken(q, q->sent)) {
        return NULL; /* the last: it was sent after this entry had come, so that there is no hole */
    }
    struct queue_entry *e = queue_at(q, q->sent);
    if (q->inflight >= window) {
        return NULL; /* [MQTT-3.3.4-9] */
    }
    e->sent_before |= q->sent < q->resend_below;
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
    e->changed = true;
}

size_t queue_count(const struct queue *q)
{
    size_t count = q->waiting;
    uint64_t end = q->cold != q->cold_end ? q->cold : q->tail;

    for (uint64_t n = q->head; n < end; n++) { /* what was ever sent lies in front of the gap */
        uint8_t state = queue_at(q, n)->state;
        count += state == QUEUE_SENT || state == QUEUE_RELEASED;
    }
    return count;
}

/* Move head over what is done. */
static void advance(struct queue *q)
{
    while (q->head != q->tail && !queue_is_cold(q, q->head) && queue_at(q, q->head)->state == QUEUE_DONE) {
        q->head++;
    }
    if (q->sent < q->head) {
        q->sent = q->head;
    }
    if (q->cold == q->cold_end && q->cold < q->head) {
        q->cold = q->cold_end = q->head;
    }
}

/* The first `count` numbers of the gap come into memory: there is room, and their entries are to be set. */
static void narrow_gap(struct queue *q, uint64_t count)
{
    uint64_t gap = q->cold_end - q->cold;

    for (uint64_t n = q->head; n != q->cold; n++) {
        q->ring[(n + gap - count) & q->mask] = q->ring[(n + gap) & q->mask];
    }
    q->cold += count;
}

uint64_t queue_entry_bytes(const struct queue *q, uint64_t number)
{
    if (queue_is_cold(q, number)) {
        return q->cold_bytes / (q->cold_end - q->cold);
    }
    return message_size(queue_at(q, number)->message);
}

/* When nothing is cold any more, what was wrongly guessed of single cold ones is known. */
static void settle(struct queue *q)
{
    if (q->cold == q->cold_end) {
        q->bytes -= q->cold_bytes;
        q->waiting -= q->cold_waiting;
        q->cold_bytes = q->cold_waiting = 0;
    }
}

/* An entry has come out of the gap: the accounts of what is in memory are exact, those of the gap may be off, by what
 * was guessed of others and by what was sent and acknowledged since its row was written. */
static void count_read(struct queue *q, const struct queue_entry *e)
{
    uint64_t bytes = e->message ? message_size(e->message) : 0;
    uint64_t counted = bytes < q->cold_bytes ? bytes : q->cold_bytes;

    q->cold_bytes -= counted;
    q->bytes += bytes - counted;
    if (e->state == QUEUE_WAITING && q->cold_waiting > 0) {
        q->cold_waiting--;
    } else if (e->state == QUEUE_WAITING) {
        q->waiting++;
    }
}

/* The first of the cold ones is given up; that its row is to go is remembered by a done entry in front of the gap. */
static void drop_first_cold(struct queue *q)
{
    uint64_t number = q->cold;
    uint64_t bytes = queue_entry_bytes(q, number);

    if (q->head == number) {
        q->head = ++q->cold;
    } else if (ring_room(q, 1) == 0) {
        narrow_gap(q, 1);
        *queue_at(q, number) = (struct queue_entry){.state = QUEUE_DONE, .changed = true};
    } else {
        return; /* no memory to give memory back: it stays, above the limit */
    }
    q->cold_bytes -= bytes;
    q->bytes -= bytes;
    if (q->cold_waiting > 0) { /* else it was a number without a message */
        q->cold_waiting--;
        q->waiting--;
    }
    settle(q);
    advance(q);
}

void queue_finish(struct queue *q, uint64_t number)
{
    if (queue_is_cold(q, number)) {
        assert(number == q->cold);
        drop_first_cold(q);
        return;
    }
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
    e->changed = true;
    advance(q);
}

bool queue_oldest_waiting(const struct queue *q, uint64_t *ret_number)
{
    for (uint64_t n = q->sent; n != q->tail; n++) {
        if (queue_is_cold(q, n) || queue_at(q, n)->state == QUEUE_WAITING) {
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

/* ---- from the log ---- */

int queue_push_at(struct queue *q, const struct queue_item *item, uint64_t number)
{
    struct queue_extra *extra;

    if (queue_empty(q) && number > q->tail) {
        q->head = q->sent = q->cold = q->cold_end = q->tail = number;
    }
    if (number < q->tail || number - q->tail > QUEUE_SPAN_MAX || (item->qos != 1 && item->qos != 2)) {
        return -EBADMSG;
    }
    if (ring_room(q, number - q->tail + 1) != 0 || extra_new(item, &extra) != 0) {
        return -ENOMEM;
    }
    while (q->tail != number) {
        put_hole(q);
    }
    put_item(q, item, extra);
    return 0;
}

bool queue_was_sent(struct queue *q, uint64_t number)
{
    if (number < q->head || number >= q->tail || (number >= q->cold && q->cold != q->cold_end) ||
        queue_at(q, number)->state == QUEUE_DONE) {
        return false;
    }
    for (; q->sent <= number; q->sent++) {
        struct queue_entry *e = queue_at(q, q->sent);
        if (e->state == QUEUE_DONE) {
            continue;
        }
        if (e->state == QUEUE_WAITING) {
            e->state = QUEUE_SENT;
            q->waiting--;
        }
        e->sent_before = true;
        q->inflight++;
    }
    return true;
}

/* ---- in the store ---- */

bool queue_next_changed(const struct queue *q, uint64_t *io_number, const struct queue_entry **ret_entry)
{
    uint64_t n = *io_number > q->head ? *io_number : q->head;

    for (; n < q->tail; n++) {
        if (queue_is_cold(q, n)) {
            n = q->cold_end - 1;
            continue;
        }
        const struct queue_entry *e = queue_at(q, n);
        bool stored = n >= q->stored_head && n < q->stored_tail;
        if (stored ? e->changed : e->state != QUEUE_DONE) {
            *io_number = n;
            *ret_entry = e->state == QUEUE_DONE ? NULL : e;
            return true;
        }
    }
    return false;
}

void queue_stored(struct queue *q)
{
    for (uint64_t n = hot_first(q); n != q->tail; n = hot_next(q, n)) {
        queue_at(q, n)->changed = false;
    }
    q->stored_head = q->head;
    q->stored_tail = q->tail;
}

void queue_not_stored(struct queue *q)
{
    for (uint64_t n = hot_first(q); n != q->tail; n = hot_next(q, n)) {
        queue_at(q, n)->changed = true;
    }
    q->stored_head = 0; /* rows in front of head that were to be deleted may be there still */
}

/* Where a gap may begin: behind what was sent before, or is not as it is in its row. */
static uint64_t gap_begin(const struct queue *q, uint64_t then)
{
    uint64_t begin = q->head;

    for (uint64_t n = q->head; n < then && n < q->tail; n++) {
        const struct queue_entry *e = queue_at(q, n);
        begin = e->state != QUEUE_WAITING || e->sent_before || e->changed ? n + 1 : begin;
    }
    return begin;
}

static void ring_shrink(struct queue *q)
{
    uint32_t slots = q->mask + 1;

    while (slots > RING_START && hot_count(q) <= slots / 4) {
        slots /= 2;
    }
    if (slots <= q->mask) {
        (void)ring_resize(q, slots); /* it may fail: then the ring stays large */
    }
}

uint64_t queue_evict(struct queue *q, uint64_t then)
{
    uint64_t from = q->cold != q->cold_end ? q->cold_end : gap_begin(q, then), end, bytes = 0;

    for (end = from; end < then && end < q->tail; end++) {
        struct queue_entry *e = queue_at(q, end);
        if (e->state != QUEUE_WAITING || e->changed) {
            break;
        }
        bytes += message_size(e->message);
        message_unref(e->message);
        free(e->extra);
        *e = (struct queue_entry){.state = QUEUE_DONE};
    }
    if (end == from) {
        return 0;
    }
    uint64_t gap = q->cold_end - q->cold;
    if (gap == 0) {
        q->cold = from;
    }
    for (uint64_t n = q->cold; n-- > q->head;) { /* what is in front of the gap follows its end */
        q->ring[(n + gap + (end - from)) & q->mask] = q->ring[(n + gap) & q->mask];
    }
    q->cold_end = end;
    q->cold_bytes += bytes;
    q->cold_waiting += (uint32_t)(end - from);
    ring_shrink(q);
    return bytes;
}

int queue_restore(struct queue *q, uint64_t head, uint64_t tail, uint32_t waiting, uint64_t bytes,
                  uint64_t resend_below)
{
    assert(queue_empty(q));
    if (tail < head) {
        return -EBADMSG;
    }
    q->head = q->sent = q->cold = q->stored_head = head;
    q->tail = q->cold_end = q->stored_tail = tail;
    q->waiting = q->cold_waiting = waiting < tail - head ? waiting : (uint32_t)(tail - head);
    q->bytes = q->cold_bytes = head == tail ? 0 : bytes;
    q->resend_below = resend_below;
    return 0;
}

bool queue_wants_page(const struct queue *q)
{
    return queue_is_cold(q, q->sent);
}

int queue_load(struct queue *q, struct queue_page_entry *entries, uint32_t count, uint64_t upto)
{
    uint64_t first = q->cold, numbers = upto - first;

    assert(upto >= first && upto <= q->cold_end);
    if (ring_room(q, numbers) != 0) {
        return -ENOMEM;
    }
    narrow_gap(q, numbers);
    for (uint64_t n = first; n != upto; n++) {
        *queue_at(q, n) = (struct queue_entry){.state = QUEUE_DONE};
    }
    for (uint32_t i = 0; i < count; i++) {
        *queue_at(q, entries[i].number) = entries[i].entry;
        count_read(q, &entries[i].entry);
    }
    settle(q);
    advance(q);
    return 0;
}
