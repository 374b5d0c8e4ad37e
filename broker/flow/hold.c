/* Back pressure. When a message has one receiver and that one is far behind, its publisher's acknowledgement waits
 * until the receiver has caught up, and nothing more is read from the publisher: it slows down to the pace of its
 * subscriber instead of overflowing the queue. What it may have on the way then, mqtt.receive_maximum, fits into the
 * rest of the queue. A thousand publishers may fill that rest with a few messages each: what they bring beyond it is
 * parked, message and acknowledgement, and enters the queue in its turn. Others are hardly touched: a message with
 * several receivers is never held, no hold lasts longer than limits.backpressure, and a receiver that let one run out
 * holds nobody until it acknowledges something again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/flow/flow.h"

/* Parts of limits.max_queued_messages: above the one a receiver is far behind, below the other it has caught up. */
#define HOLD_PART 4
#define RELEASE_PART 8
#define PARKED_MAX 262144u           /* messages parked for one receiver; some 32 of each publisher that has stopped */
#define PARKED_BYTES_MAX (64u << 20) /* of all messages parked on a shard */

struct hold {
    struct list in_broker;
    struct session *holder; /* alive: hold_release is called before it ends */
    uint64_t until_ms;
    struct receipt_ref ref;
    struct message *message; /* counted: parked; NULL: only the acknowledgement waits */
    uint8_t qos;
    bool retain;
    uint32_t ids_len;
    uint8_t ids[]; /* encoded subscription identifiers */
};

static bool may_hold(const struct broker *b, const struct session *session)
{
    return session->front && !session->stalled && b->config->limits.backpressure_ms > 0;
}

bool hold_wanted(const struct broker *b, const struct session *session)
{
    return may_hold(b, session) && session_waiting(session) > b->config->limits.max_queued_messages / HOLD_PART;
}

static bool queue_full(const struct broker *b, const struct session *session, size_t message_bytes)
{
    const struct queue *q = session->queue;

    return q && (q->waiting >= b->config->limits.max_queued_messages ||
                 (q->bytes > 0 && q->bytes + message_bytes > b->config->limits.max_queued_bytes));
}

bool hold_park_wanted(const struct broker *b, const struct session *session, size_t message_bytes)
{
    return may_hold(b, session) && session->parked_count < PARKED_MAX &&
           b->parked_bytes + message_bytes < PARKED_BYTES_MAX &&
           (session->parked_count > 0 || queue_full(b, session, message_bytes));
}

static void put(struct broker *b, struct session *session, struct receipt_ref ref, struct hold *hold)
{
    hold->holder = session;
    hold->until_ms = b->shard->now_ms + b->config->limits.backpressure_ms;
    hold->ref = ref;
    list_append(&b->holds, &hold->in_broker);
    session->hold_count++;
    if (hold->message) {
        session->parked_count++;
        b->parked_bytes += message_size(hold->message);
    }
}

void hold_add(struct broker *b, struct session *session, struct receipt_ref ref)
{
    struct hold *hold = calloc(1, sizeof(*hold));
    if (!hold) { /* without it nothing is lost, only less patient */
        receipt_answer(b, ref);
        return;
    }
    put(b, session, ref, hold);
}

/* Put a message into the queue after all, or tell its publisher that there was no room. */
static void deliver_late(struct broker *b, struct session *session, struct receipt_ref ref, struct publication *pub,
                         const struct delivery *how)
{
    int rc = deliver(b, session, pub, how);

    if (rc == -ENOBUFS || rc == -ENOMEM || rc == -ENOSPC) {
        receipt_reason(b, ref,
                       rc == -ENOBUFS  ? MQTT_QUOTA_EXCEEDED
                       : rc == -ENOMEM ? RECEIPT_NO_MEMORY
                                       : RECEIPT_NO_SPACE);
    }
}

void hold_park(struct broker *b, struct session *session, struct receipt_ref ref, struct publication *pub,
               const struct delivery *how)
{
    struct message *message = publication_message(pub);
    struct hold *hold = message ? malloc(sizeof(*hold) + how->ids.len) : NULL;

    if (!hold) {
        deliver_late(b, session, ref, pub, how);
        receipt_answer(b, ref);
        return;
    }
    *hold = (struct hold){
        .message = message_ref(message), .qos = how->qos, .retain = how->retain, .ids_len = (uint32_t)how->ids.len};
    if (how->ids.len > 0) {
        memcpy(hold->ids, how->ids.ptr, how->ids.len);
    }
    put(b, session, ref, hold);
}

static void let_go(struct broker *b, struct hold *hold)
{
    list_remove(&hold->in_broker);
    hold->holder->hold_count--;
    if (hold->message) {
        struct publication pub;
        struct delivery how = {.ids = slice_of(hold->ids, hold->ids_len), .qos = hold->qos, .retain = hold->retain};
        hold->holder->parked_count--;
        b->parked_bytes -= message_size(hold->message);
        publication_of_message(&pub, hold->message);
        deliver_late(b, hold->holder, hold->ref, &pub, &how);
        message_unref(hold->message);
    }
    receipt_answer(b, hold->ref);
    free(hold);
}

/* Whether the session has no room for this one yet, nor for those that came behind it. */
static bool still_waits(const struct broker *b, const struct session *session, const struct hold *hold)
{
    return session->front && hold->message &&
           (session_waiting(session) > b->config->limits.max_queued_messages / HOLD_PART ||
            queue_full(b, session, message_size(hold->message)));
}

void hold_release(struct broker *b, const struct session *session)
{
    if (session->hold_count == 0 ||
        (session->front && session_waiting(session) > b->config->limits.max_queued_messages / RELEASE_PART)) {
        return;
    }
    for (struct list *at = b->holds.next, *next; at != &b->holds && session->hold_count > 0; at = next) {
        struct hold *hold = CONTAINER_OF(at, struct hold, in_broker);
        next = at->next;
        if (hold->holder != session) {
            continue;
        }
        if (still_waits(b, session, hold)) {
            return;
        }
        let_go(b, hold);
    }
}

void hold_run(struct broker *b)
{
    while (!list_empty(&b->holds)) {
        struct hold *hold = CONTAINER_OF(b->holds.next, struct hold, in_broker);
        if (hold->until_ms > b->shard->now_ms && !b->stopping) {
            return; /* the oldest is in front, all last equally long */
        }
        hold->holder->stalled = true;
        let_go(b, hold);
    }
}
