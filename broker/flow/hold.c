/* Back pressure. When a message has one receiver and that one is far behind, its publisher's acknowledgement waits
 * until the receiver has caught up, and nothing more is read from the publisher: it slows down to the pace of its
 * subscriber instead of overflowing the queue. What it may have on the way then, mqtt.receive_maximum, fits into the
 * rest of the queue. Others are hardly touched: a message with several receivers is never held, no hold lasts longer
 * than limits.backpressure, and a receiver that let one run out holds nobody until it acknowledges something again. */
#include <stdlib.h>

#include "broker/flow/flow.h"

/* Parts of limits.max_queued_messages: above the one a receiver is far behind, below the other it has caught up. */
#define HOLD_PART 4
#define RELEASE_PART 8

struct hold {
    struct list in_broker;
    struct session *holder; /* alive: hold_release is called before it ends */
    uint64_t until_ms;
    struct receipt_ref ref;
};

bool hold_wanted(const struct broker *b, const struct session *session)
{
    return session->front && !session->stalled && b->config->limits.backpressure_ms > 0 &&
           session_waiting(session) > b->config->limits.max_queued_messages / HOLD_PART;
}

void hold_add(struct broker *b, struct session *session, struct receipt_ref ref)
{
    struct hold *hold = malloc(sizeof(*hold));
    if (!hold) { /* without it nothing is lost, only less patient */
        receipt_answer(b, ref);
        return;
    }
    hold->holder = session;
    hold->until_ms = b->shard->now_ms + b->config->limits.backpressure_ms;
    hold->ref = ref;
    list_append(&b->holds, &hold->in_broker);
    session->hold_count++;
}

static void let_go(struct broker *b, struct hold *hold)
{
    list_remove(&hold->in_broker);
    hold->holder->hold_count--;
    receipt_answer(b, hold->ref);
    free(hold);
}

void hold_release(struct broker *b, const struct session *session)
{
    if (session->hold_count == 0 ||
        (session->front && session_waiting(session) > b->config->limits.max_queued_messages / RELEASE_PART)) {
        return;
    }
    for (struct list *at = b->holds.next, *next; at != &b->holds; at = next) {
        struct hold *hold = CONTAINER_OF(at, struct hold, in_broker);
        next = at->next;
        if (hold->holder == session) {
            let_go(b, hold);
        }
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
