/* ready.c -- whether this node should be sent clients: what /readyz, load balancers and people ask.
 *
 * Ready is who belongs to a cluster, sees another member of it (unless it is meant to be alone), and has been told of
 * all members, and by all that live of all their filters: so nothing that is published here misses a subscriber
 * elsewhere. Who is ready stays so when another comes or starts again, for a SUBACK there waits for this node; else one
 * restart would close all doors. Who is not ready takes connections all the same: better alone than not at all. The
 * control shard decides, anybody may ask. */
#include "broker/flow/driver_inside.h"
#include "broker/flow/feed_inside.h"
#include "proto/base/log.h"

const char *node_unready(const struct node_tables *node)
{
    if (atomic_load_explicit(&node->stop_by_ms, memory_order_relaxed) != 0) {
        return "it is about to stop";
    }
    if (atomic_load_explicit(&node->drain.from_ms, memory_order_relaxed) != 0) {
        return "it is being drained";
    }
    return node->cluster ? atomic_load(&node->cluster->unready) : NULL;
}

/* Whether it knows of everybody: another node has told, and those who have no cluster yet are about to have it. */
static bool members_complete(const struct driver *d)
{
    const struct member *m;
    bool all = d->told || atomic_load(&d->broker->node->cluster->neighbour_count) == 0;

    for (unsigned at = 0; all && (m = swim_next(d->swim, &at)) != NULL;) {
        all = !member_living(m) || bootstrap_has_id(m);
    }
    return all;
}

static bool routes_complete(const struct broker *b)
{
    const struct node_cluster *cluster = b->node->cluster;

    for (unsigned i = 0; i < NEIGHBOURS_MAX; i++) {
        const struct feed_peer *p = &cluster->feed->peers[i];
        if (cluster->neighbours[i].alive && (!p->used || p->slot == NO_SLOT)) {
            return false;
        }
    }
    return true;
}

static const char *judge(const struct broker *b, bool was_ready)
{
    const struct driver *d = driver_of(b);

    if (d->entry.stage <= ENTER_ASKING && d->entry.refused) {
        return "another node has its node id";
    }
    if (d->entry.stage != ENTER_DONE) {
        return "it does not belong to a cluster yet";
    }
    if (atomic_load(&b->node->cluster->neighbour_count) == 0 && enter_expected(d) > 1) {
        return "it sees no other node of its cluster";
    }
    if (!was_ready && !members_complete(d)) {
        return "it has not been told of all members yet";
    }
    return was_ready || routes_complete(b) ? NULL : "it has not been told all filters yet";
}

void ready_turn(struct broker *b)
{
    struct node_cluster *cluster = b->node->cluster;

    if (!cluster->ready_stale) {
        return;
    }
    cluster->ready_stale = false;
    const char *before = atomic_load(&cluster->unready), *why = judge(b, before == NULL);
    atomic_store(&cluster->unready, why);
    if (why == before) {
        return;
    }
    if (why) {
        log_event(before ? LOG_INFO : LOG_WARN, "node_not_ready", {"reason", LOG_STR(why)});
    } else {
        log_event(LOG_INFO, "node_ready", {"nodes", LOG_INT(1 + (int64_t)atomic_load(&cluster->neighbour_count))});
    }
}
