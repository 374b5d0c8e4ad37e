/* map.c -- linear probing, deletion by shifting back.
 *
 * The hashes are keyed or mixed already, or plain numbers; but all in one map may have the same low bits, as those of a
 * group of sessions have: a multiplication brings every bit to the place that is looked at. Many maps are one client's
 * and hold a handful, hence the small least size, and the table given back with the last entry. */
#include "proto/base/map.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define MAP_SLOTS_MIN 4u
#define MAP_SLOTS_MAX (1u << 31)

/* Fibonacci hashing: Knuth, The Art of Computer Programming, 6.4. */
static uint32_t first_slot(uint64_t hash, uint32_t mask)
{
    return (uint32_t)((hash * 0x9E3779B97F4A7C15u) >> 32) & mask;
}

static void map_place(struct map_slot *slots, uint32_t mask, uint64_t hash, void *value)
{
    uint32_t i = first_slot(hash, mask);
    while (slots[i].value) {
        i = (i + 1) & mask;
    }
    slots[i] = (struct map_slot){hash, value};
}

static int map_resize(struct map *m, uint32_t slot_count)
{
    assert(m->count < slot_count);
    struct map_slot *slots = calloc(slot_count, sizeof(*slots));
    if (!slots) {
        return -ENOMEM;
    }
    uint32_t mask = slot_count - 1;
    for (uint32_t i = 0; m->slots && i <= m->mask; i++) {
        if (m->slots[i].value) {
            map_place(slots, mask, m->slots[i].hash, m->slots[i].value);
        }
    }
    free(m->slots);
    m->slots = slots;
    m->mask = mask;
    return 0;
}

void *map_find(const struct map *m, uint64_t hash, map_match *match, const void *key)
{
    if (!m->slots) {
        return NULL;
    }
    for (uint32_t i = first_slot(hash, m->mask); m->slots[i].value; i = (i + 1) & m->mask) {
        if (m->slots[i].hash == hash && match(m->slots[i].value, key)) {
            return m->slots[i].value;
        }
    }
    return NULL;
}

int map_add(struct map *m, uint64_t hash, void *value)
{
    assert(value);
    uint64_t slot_count = m->slots ? (uint64_t)m->mask + 1 : 0;
    if (((uint64_t)m->count + 1) * 4 > slot_count * 3) {
        if (slot_count >= MAP_SLOTS_MAX) {
            return -ENOMEM;
        }
        int rc = map_resize(m, slot_count ? (uint32_t)slot_count * 2 : MAP_SLOTS_MIN);
        if (rc) {
            return rc;
        }
    }
    map_place(m->slots, m->mask, hash, value);
    m->count++;
    return 0;
}

/* Close the gap at slot `gap`: an entry behind it moves in unless its own place lies between the gap and it. */
static void map_close_gap(struct map *m, uint32_t gap)
{
    uint32_t i = gap;
    for (;;) {
        i = (i + 1) & m->mask;
        if (!m->slots[i].value) {
            break;
        }
        uint32_t home = first_slot(m->slots[i].hash, m->mask);
        if (((i - home) & m->mask) >= ((i - gap) & m->mask)) {
            m->slots[gap] = m->slots[i];
            gap = i;
        }
    }
    m->slots[gap] = (struct map_slot){0, NULL};
}

bool map_remove(struct map *m, uint64_t hash, const void *value)
{
    assert(value);
    if (!m->slots) {
        return false;
    }
    uint32_t i = first_slot(hash, m->mask);
    while (m->slots[i].value != value) {
        if (!m->slots[i].value) {
            return false;
        }
        i = (i + 1) & m->mask;
    }
    assert(m->slots[i].hash == hash);
    map_close_gap(m, i);
    m->count--;
    if (m->count == 0) {
        map_deinit(m);
    } else if (m->mask >= MAP_SLOTS_MIN && m->count < (m->mask + 1) / 8) {
        (void)map_resize(m, (m->mask + 1) / 2); /* without memory the table stays as large as it is */
    }
    return true;
}

void *map_next(const struct map *m, size_t *index)
{
    while (m->slots && *index <= m->mask) {
        void *value = m->slots[(*index)++].value;
        if (value) {
            return value;
        }
    }
    return NULL;
}

void map_deinit(struct map *m)
{
    free(m->slots);
    *m = (struct map){0};
}
