/* A hybrid clock (Kulkarni, Demirbas et al., 2014): wall time, but later than every stamp that was seen. So what is
 * done when something else is known is newer than that, whatever the clocks of two nodes say. Claims and retained
 * messages have such stamps; a node that is alone gives them as well, for it may join others one day. */
#include "broker/flow/cluster.h"

#define STAMP_END (1ull << 62) /* of the year 4199: no clock says that */

uint64_t stamp_origin(const uint8_t *node_id)
{
    uint64_t origin = 0;

    for (unsigned i = 0; i < sizeof(origin); i++) {
        origin = origin << 8 | node_id[i];
    }
    return origin;
}

void stamp_start(struct node_tables *node)
{
    const uint8_t *id = node->cluster ? node->cluster->terms.node_id.bytes
                        : node->store ? node->store->identity.node_id
                                      : NULL;

    node->origin = id ? stamp_origin(id) : 0;
}

uint64_t stamp_next(struct broker *b)
{
    atomic_uint_least64_t *clock = &b->node->stamp;
    uint64_t wall = b->shard->wall_ms << MESSAGE_STAMP_SHIFT, last = atomic_load(clock), next;

    do {
        next = last + 1 > wall ? last + 1 : wall;
    } while (!atomic_compare_exchange_weak(clock, &last, next));
    return next;
}

bool stamp_possible(uint64_t stamp)
{
    return stamp < STAMP_END;
}

void stamp_seen(struct broker *b, uint64_t stamp)
{
    atomic_uint_least64_t *clock = &b->node->stamp;
    uint64_t last = atomic_load(clock);

    while (stamp_possible(stamp) && last < stamp && !atomic_compare_exchange_weak(clock, &last, stamp)) {
    }
}
