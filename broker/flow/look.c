#include "broker/flow/look.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/flow/durable.h"

/* ---- the walk ---- */

static int take_hashes(struct look_walk *walk, const struct group *group)
{
    const struct session *session;
    size_t i = 0;

    walk->count = walk->at = 0;
    if (group->sessions.count == 0) {
        return 0;
    }
    walk->hashes = malloc(group->sessions.count * sizeof(*walk->hashes));
    if (!walk->hashes) {
        return -1;
    }
    while ((session = map_next(&group->sessions, &i)) != NULL) {
        walk->hashes[walk->count++] = session->hash;
    }
    return 0;
}

static bool any(const void *value, const void *key)
{
    (void)value;
    (void)key;
    return true; /* two ids of one hash, in 64 bits with a key: nobody will see it */
}

enum look_progress look_sessions(struct broker *b, struct look_walk *walk, unsigned budget, look_visit *visit,
                                 void *arg)
{
    recover_turn(b); /* it may come in the very first turn */
    while (budget > 0) {
        if (walk->at == walk->count) {
            look_walk_end(walk);
            if (walk->group >= GROUPS) {
                return LOOK_DONE;
            }
            if (take_hashes(walk, &b->groups[walk->group]) != 0) {
                return LOOK_NO_MEMORY;
            }
            walk->group += b->shard->count;
            budget--; /* the hashes have cost something */
            continue;
        }
        const struct group *group = &b->groups[walk->group - b->shard->count];
        uint64_t hash = walk->hashes[walk->at++];
        struct session *session = map_find(&group->sessions, hash, any, NULL);
        budget--;
        if (session && !visit(arg, session)) {
            return LOOK_MORE;
        }
    }
    return LOOK_MORE;
}

void look_walk_end(struct look_walk *walk)
{
    free(walk->hashes);
    walk->hashes = NULL;
    walk->count = walk->at = 0;
}

struct session *look_find(struct broker *b, struct slice client_id)
{
    uint64_t hash = broker_hash(b, client_id);

    recover_turn(b);
    return broker_home(b, hash) == b->shard->index ? group_find(&b->groups[group_of(hash)], client_id, hash) : NULL;
}

/* ---- one client ---- */

void look_address(const struct in6_addr *address, char text[LOOK_ADDRESS])
{
    if (IN6_IS_ADDR_UNSPECIFIED(address)) {
        snprintf(text, LOOK_ADDRESS, "unix");
    } else if (IN6_IS_ADDR_V4MAPPED(address)) {
        inet_ntop(AF_INET, &address->s6_addr[12], text, LOOK_ADDRESS);
    } else {
        inet_ntop(AF_INET6, address, text, LOOK_ADDRESS);
    }
}

static void look_conn(const struct conn *conn, struct look_client *c)
{
    c->port = conn->peer_port;
    c->listener = conn->listener->name;
    c->version = conn->version;
    c->clean = conn->clean;
    c->keep_alive_s = conn->keep_alive_s;
    c->received = conn->recv_msg;
    c->sent = conn->send_msg;
    c->outbox_bytes = conn_out_bytes(conn);
    c->paused = conn->paused;
    look_address(&conn->peer, c->address);
}

void look_client(const struct broker *b, const struct session *s, struct look_client *c)
{
    const struct principal *p = s->principal;

    *c = (struct look_client){
        .client_id = session_client_id(s),
        .user = p ? p->user : SLICE(""),
        .listener = p && p->listener ? p->listener : "",
        .connected = s->front != NULL,
        .durable = s->durable,
        .will = s->will != NULL,
        .expiry_s = s->expiry_s,
        .since_ms = (uint64_t)s->since_s * 1000,
        .subscriptions = s->subscription_count,
        .inflight = s->queue ? s->queue->inflight : 0,
        .inflight_max = s->receive_max,
        .waiting = session_waiting(s),
        .waiting_max = b->config->limits.max_queued_messages,
        .queue_bytes = s->queue ? s->queue->bytes : 0,
        .queue_bytes_max = b->config->limits.max_queued_bytes,
        .dropped = s->dropped,
        .qos2_in = s->qos2.count,
        .outbox_bytes_max = b->config->limits.max_outbox_bytes,
    };
    if (s->front) {
        look_conn(s->front, c);
    } else if (p) {
        look_address(&p->address, c->address);
    }
}

const char *look_pause_name(unsigned bit)
{
    switch ((enum conn_pause)bit) {
    case PAUSE_BUSY:
        return "a packet of it is being answered elsewhere";
    case PAUSE_OUTBOX:
        return "it does not read what is sent to it";
    case PAUSE_RATE:
        return "it publishes faster than the configured rate";
    case PAUSE_CONGESTION:
        return "the broker is backed up";
    case PAUSE_RECEIPTS:
        return "too many of its messages wait for their acknowledgement";
    case PAUSE_HOLD:
        return "a subscriber of what it publishes is far behind";
    case PAUSE_LOGIN:
        return "it is being found out who it is";
    case PAUSE_SEND:
        return "something has still to be sent";
    }
    return NULL;
}

void look_subscriptions(const struct session *session,
                        void (*visit)(void *arg, const struct look_subscription *subscription), void *arg)
{
    for (const struct list *at = session->subscriptions.next; at != &session->subscriptions; at = at->next) {
        const struct subscription *s = CONTAINER_OF(at, struct subscription, in_owner);
        visit(arg, &(struct look_subscription){subscription_filter(s), SLICE(""), s->options});
    }
    for (const struct list *at = session->shares.next; at != &session->shares; at = at->next) {
        const struct session_share *s = CONTAINER_OF(at, struct session_share, in_session);
        visit(arg, &(struct look_subscription){session_share_filter(s), session_share_name(s), s->options});
    }
}
