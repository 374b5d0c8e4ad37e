/* sequence.c -- the odd cases; the good one is in the header. */
#include "bench/load/sequence.h"

#include <stdlib.h>
#include <string.h>

static bool hole_add(struct lane *lane, uint32_t from, uint32_t to)
{
    if (lane->hole_count == LANE_HOLES_MAX) {
        memmove(lane->holes, lane->holes + 1, (lane->hole_count - 1) * sizeof(struct hole));
        lane->hole_count--;
    }
    if ((lane->hole_count & (lane->hole_count - 1)) == 0) { /* it doubles at each power of two */
        uint32_t room = lane->hole_count ? lane->hole_count * 2 : 1;
        struct hole *grown = realloc(lane->holes, room * sizeof(struct hole));
        if (!grown) {
            return false;
        }
        lane->holes = grown;
    }
    lane->holes[lane->hole_count++] = (struct hole){from, to};
    return true;
}

/* The hole that place lies in, or -1. */
static int64_t hole_find(const struct lane *lane, uint32_t place)
{
    uint32_t low = 0, high = lane->hole_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (place < lane->holes[middle].from) {
            high = middle;
        } else if (place >= lane->holes[middle].to) {
            low = middle + 1;
        } else {
            return middle;
        }
    }
    return -1;
}

/* Take one place out of a hole: it shrinks, vanishes, or becomes two. */
static void hole_fill(struct lane *lane, uint32_t at, uint32_t place)
{
    struct hole *hole = &lane->holes[at];

    if (hole->from == place) {
        hole->from++;
    } else if (hole->to == place + 1) {
        hole->to--;
    } else {
        struct hole rest = {place + 1, hole->to};
        hole->to = place;
        if (!hole_add(lane, rest.from, rest.to)) {
            return; /* the rest is given up */
        }
        /* The last entry is the rest: bring it to its place. The oldest may have gone, which moves `at`. */
        uint32_t i = lane->hole_count - 1;
        for (; i > 0 && lane->holes[i - 1].from > rest.from; i--) {
            lane->holes[i] = lane->holes[i - 1];
        }
        lane->holes[i] = rest;
        return;
    }
    if (hole->from == hole->to) {
        memmove(hole, hole + 1, (lane->hole_count - at - 1) * sizeof(struct hole));
        lane->hole_count--;
    }
}

enum arrival lane_odd(struct lane *lane, uint32_t place, struct sequence_counts *counts)
{
    if (place > lane->next) {
        counts->missing += place - lane->next;
        lane->missing += place - lane->next;
        (void)hole_add(lane, lane->next, place); /* without memory for it they are given up */
        lane->next = place + 1;
        return ARRIVAL_FIRST;
    }
    int64_t at = hole_find(lane, place);
    if (at < 0) {
        counts->duplicate++;
        return ARRIVAL_DUPLICATE;
    }
    hole_fill(lane, (uint32_t)at, place);
    counts->missing--;
    lane->missing--;
    counts->reordered++;
    return ARRIVAL_LATE;
}

void lane_deinit(struct lane *lane)
{
    free(lane->holes);
    *lane = (struct lane){0};
}

/* The chunk at index, made if it is not there: whoever comes second frees his own. */
static _Atomic uint64_t *chunk_get(struct tally *tally, uint32_t index)
{
    _Atomic uint64_t *chunk = atomic_load_explicit(&tally->chunks[index], memory_order_acquire), *none = NULL;

    if (chunk) {
        return chunk;
    }
    chunk = calloc(TALLY_CHUNK_BITS / 64, sizeof(*chunk));
    if (chunk && !atomic_compare_exchange_strong(&tally->chunks[index], &none, chunk)) {
        free((void *)chunk);
        return none;
    }
    return chunk;
}

bool tally_take(struct tally *tally, uint32_t place)
{
    uint32_t index = place / TALLY_CHUNK_BITS, bit = place % TALLY_CHUNK_BITS;
    _Atomic uint64_t *chunk = index < TALLY_CHUNKS ? chunk_get(tally, index) : NULL;

    if (!chunk) {
        return false;
    }
    uint64_t mask = 1ull << (bit % 64);
    return atomic_fetch_or_explicit(&chunk[bit / 64], mask, memory_order_relaxed) & mask;
}

void tally_deinit(struct tally *tally)
{
    for (uint32_t i = 0; i < TALLY_CHUNKS; i++) {
        free((void *)atomic_load(&tally->chunks[i]));
        atomic_store(&tally->chunks[i], NULL);
    }
}
