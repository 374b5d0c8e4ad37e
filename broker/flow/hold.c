/* Back pressure. When a message has one receiver and that one is far behind, its publisher's acknowledgement waits until the receiver
 * has caught up, so that a publisher with a bounded window slows down to the pace of its subscriber instead of overflowing the queue.
 * Others are not touched: a message with several receivers is never held, and no hold lasts longer than limits.backpressure. */
#include <stdlib.h>

#include "broker/flow/flow.h"

struct hold {
    struct list in_broker;
    uint64_t session; /* uid */
    uint64_t until_ms;
    struct receipt_ref ref;
};

bool hold_wanted(const struct broker *b, const struct session *session)
{
    return session->front && b->config->limits.backpressure_ms > 0 &&
           session_waiting(session) > b->config->limits.max_queued_messages / 2;
}

void hold_add(struct broker *b, struct session *session, struct receipt_ref ref)
{
    struct hold *hold = malloc(sizeof(*hold));
    if (!hold) { /* without it nothing is lost, only less patient */
        receipt_answer(b, ref);
        return;
    }
    hold->session = session->uid;
    hold->until_ms = b->shard->now_ms + b->config->limits.backpressure_ms;
    hold->ref = ref;
    list_append(&b->holds, &hold->in_broker);
}

static void let_go(struct broker *b, struct hold *hold)
{
    list_remove(&hold->in_broker);
    receipt_answer(b, hold->ref);
    free(hold);
}

void hold_release(struct broker *b, const struct session *session)
{
    if (list_empty(&b->holds) || hold_wanted(b, session)) {
        return;
    }
    for (struct list *at = b->holds.next, *next; at != &b->holds; at = next) {
        struct hold *hold = CONTAINER_OF(at, struct hold, in_broker);
        next = at->next;
        if (hold->session == session->uid) {
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
        let_go(b, hold);
    }
}
