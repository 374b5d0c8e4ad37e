#include "broker/session/packet_ids.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define SLOTS_START 8u

/* Identifiers are handed out in sequence by most clients, so their own low bits spread them well. No attack lives here:
 * the set is bounded by Receive Maximum and lies behind one client's own connection. */
static uint32_t slot_of(const struct packet_ids *ids, uint16_t id)
{
    uint32_t i = id & ids->mask;
    while (ids->slots[i] != 0 && ids->slots[i] != id) {
        i = (i + 1) & ids->mask;
    }
    return i;
}

bool packet_ids_has(const struct packet_ids *ids, uint16_t id)
{
    assert(id != 0);
    return ids->slots && ids->slots[slot_of(ids, id)] == id;
}

static int grow(struct packet_ids *ids)
{
    uint32_t slots = ids->slots ? (ids->mask + 1) * 2 : SLOTS_START;
    struct packet_ids next = {.slots = calloc(slots, sizeof(uint16_t)), .mask = slots - 1, .count = ids->count};

    if (!next.slots) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; ids->slots && i <= ids->mask; i++) {
        if (ids->slots[i] != 0) {
            next.slots[slot_of(&next, ids->slots[i])] = ids->slots[i];
        }
    }
    free(ids->slots);
    *ids = next;
    return 0;
}

int packet_ids_add(struct packet_ids *ids, uint16_t id)
{
    assert(!packet_ids_has(ids, id));
    if (!ids->slots || (ids->count + 1) * 2 > ids->mask + 1) {
        int rc = grow(ids);
        if (rc) {
            return rc;
        }
    }
    ids->slots[slot_of(ids, id)] = id;
    ids->count++;
    return 0;
}

bool packet_ids_remove(struct packet_ids *ids, uint16_t id)
{
    if (!packet_ids_has(ids, id)) {
        return false;
    }
    uint32_t hole = slot_of(ids, id);
    ids->slots[hole] = 0;
    ids->count--;
    /* Shift back what was pushed over the hole, so that no probe ends too early. */
    for (uint32_t i = (hole + 1) & ids->mask; ids->slots[i] != 0; i = (i + 1) & ids->mask) {
        uint32_t ideal = ids->slots[i] & ids->mask;
        if (((i - ideal) & ids->mask) >= ((i - hole) & ids->mask)) {
            ids->slots[hole] = ids->slots[i];
            ids->slots[i] = 0;
            hole = i;
        }
    }
    return true;
}

void packet_ids_deinit(struct packet_ids *ids)
{
    free(ids->slots);
    *ids = (struct packet_ids){0};
}
