/* What other nodes tell of their filters: each node's set has a slot of the route table. A set that is told anew gets a
 * slot of its own, which takes the old one's place when it is complete; the old one is swept a part each turn. */
#include <errno.h>

#include "broker/flow/feed_inside.h"
#include "proto/base/log.h"
#include "proto/mqtt/topic.h"

#define SWEEP_AT_ONCE 4096u

void feed_bury(struct feed *f, uint32_t *slot)
{
    if (*slot != NO_SLOT) {
        route_table_slot_live(f->broker->node->routes, *slot, false);
        f->dead[*slot] = true;
        f->dead_count++;
        *slot = NO_SLOT;
    }
}

static uint32_t free_slot(struct feed *f)
{
    for (uint32_t s = 0; s < ROUTE_SLOTS; s++) {
        if (atomic_load(&f->broker->node->cluster->slots[s]) == 0 && !f->dead[s]) {
            return s;
        }
    }
    return NO_SLOT;
}

static int apply_one(struct feed *f, const struct route_filter *filter, bool remove, uint32_t slot)
{
    if (remove) {
        route_table_remove_remote(f->broker->node->routes, filter, slot);
        return 0;
    }
    int rc = route_table_add_remote(f->broker->node->routes, filter, slot);
    return rc < 0 ? rc : 0;
}

static int apply_ops(struct feed *f, const Tern__Routes *m, uint32_t slot)
{
    struct route_filter filter = {0};
    int rc = 0;

    for (size_t i = 0; i < m->n_added && rc == 0; i++) {
        filter.hash = m->added[i];
        rc = apply_one(f, &filter, false, slot);
    }
    for (size_t i = 0; i < m->n_removed; i++) {
        filter.hash = m->removed[i];
        apply_one(f, &filter, true, slot);
    }
    for (size_t i = 0; i < m->n_ops && rc == 0; i++) {
        const Tern__RouteOp *op = m->ops[i];
        filter = (struct route_filter){op->hash, slice_of(op->filter.data, op->filter.len), op->share};
        if (filter.text.len > 0 &&
            (!mqtt_filter_valid(filter.text, UINT16_MAX) || !mqtt_filter_has_wildcard(filter.text))) {
            return -EPROTO;
        }
        rc = apply_one(f, &filter, op->remove, slot);
    }
    return rc;
}

static int answer(struct peer_link *link, uint64_t barrier, bool again)
{
    Tern__RoutesDone done = TERN__ROUTES_DONE__INIT;

    done.barrier = barrier;
    done.again = again;
    return peer_put_message(link, LINK_CONTROL, FRAME_ROUTES_DONE, &done.base) == 0 ? 0 : -ENOMEM;
}

/* A whole set has been told: it takes the place of the one before. */
static void put_in_force(struct feed *f, unsigned n)
{
    struct feed_peer *p = &f->peers[n];

    route_table_slot_live(f->broker->node->routes, p->building, true);
    feed_bury(f, &p->slot);
    p->slot = p->building;
    p->building = NO_SLOT;
    f->broker->node->cluster->ready_stale = true;
    log_event(LOG_INFO, "routes_complete", {"node", LOG_STR(f->broker->node->cluster->neighbours[n].name)},
              {"filters", LOG_INT((int64_t)route_table_slot_digest(f->broker->node->routes, p->slot).count)});
}

int feed_take(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct feed *f = feed_of(b);
    int n = neighbour_find(b->node->cluster, &link->id);
    ProtobufCMessage *decoded;

    int rc = n < 0 ? -EPROTO : wire_decode(&tern__routes__descriptor, body, &link->room->arena, &decoded);
    if (rc) {
        return rc;
    }
    const Tern__Routes *m = (const Tern__Routes *)decoded;
    struct feed_peer *p = &f->peers[n];
    if (m->begin) {
        feed_bury(f, &p->building);
        p->building = free_slot(f);
        if (p->building == NO_SLOT) {
            return -ENOMEM;
        }
        atomic_store(&b->node->cluster->slots[p->building], (uint8_t)(n + 1));
    }
    uint32_t slot = p->building != NO_SLOT ? p->building : p->slot;
    if (slot == NO_SLOT) {
        return -EPROTO;
    }
    rc = apply_ops(f, m, slot);
    if (rc) {
        return rc;
    }
    if (m->end && p->building != NO_SLOT) {
        put_in_force(f, (unsigned)n);
    }
    struct route_digest d = route_table_slot_digest(b->node->routes, slot);
    bool again = m->has_digest && p->building == NO_SLOT && (d.count != m->count || d.sum != m->sum);
    if (again) {
        log_event(LOG_WARN, "routes_differ", {"node", LOG_STR(b->node->cluster->neighbours[n].name)},
                  {"filters", LOG_INT((int64_t)d.count)}, {"told", LOG_INT((int64_t)m->count)});
    }
    return m->barrier || again ? answer(link, m->barrier, again) : 0;
}

void feed_sweep(struct feed *f)
{
    for (uint32_t s = 0; s < ROUTE_SLOTS && f->dead_count > 0; s++) {
        if (!f->dead[s]) {
            continue;
        }
        if (route_table_slot_sweep(f->broker->node->routes, s, SWEEP_AT_ONCE)) {
            f->dead[s] = false;
            f->dead_count--;
            atomic_store(&f->broker->node->cluster->slots[s], 0);
        }
        f->broker->shard->busy |= f->dead_count > 0;
        return;
    }
}
