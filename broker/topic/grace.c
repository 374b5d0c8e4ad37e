#include "broker/topic/grace.h"

#include <assert.h>
#include <stdlib.h>

void grace_init(struct grace *g, unsigned reader_count)
{
    assert(reader_count <= GRACE_READERS_MAX);
    for (unsigned i = 0; i < GRACE_READERS_MAX; i++) {
        atomic_init(&g->readers[i].seen, 0);
    }
    atomic_init(&g->epoch, 1);
    g->reader_count = reader_count;
    g->oldest = g->newest = NULL;
}

static void free_before(struct grace *g, uint64_t epoch)
{
    while (g->oldest && g->oldest->epoch <= epoch) {
        struct grace_item *item = g->oldest;
        g->oldest = item->next;
        free(item);
    }
    if (!g->oldest) {
        g->newest = NULL;
    }
}

void grace_deinit(struct grace *g)
{
    free_before(g, UINT64_MAX);
}

void grace_retire(struct grace *g, struct grace_item *item)
{
    /* A reader that sees this epoch, or a later one, also sees that the item is gone. */
    item->epoch = atomic_fetch_add_explicit(&g->epoch, 1, memory_order_seq_cst) + 1;
    item->next = NULL;
    if (g->newest) {
        g->newest->next = item;
    } else {
        g->oldest = item;
    }
    g->newest = item;
}

void grace_reclaim(struct grace *g)
{
    uint64_t safe = UINT64_MAX;

    if (!g->oldest) {
        return;
    }
    for (unsigned i = 0; i < g->reader_count; i++) {
        uint64_t seen = atomic_load_explicit(&g->readers[i].seen, memory_order_seq_cst);
        safe = seen != 0 && seen < safe ? seen : safe;
    }
    free_before(g, safe);
}

void grace_quiescent(struct grace *g, unsigned reader)
{
    uint64_t epoch = atomic_load_explicit(&g->epoch, memory_order_acquire);
    atomic_store_explicit(&g->readers[reader].seen, epoch, memory_order_release);
}

void grace_asleep(struct grace *g, unsigned reader)
{
    atomic_store_explicit(&g->readers[reader].seen, 0, memory_order_release);
}

void grace_awake(struct grace *g, unsigned reader)
{
    uint64_t seen = atomic_load_explicit(&g->epoch, memory_order_acquire);

    atomic_store_explicit(&g->readers[reader].seen, seen, memory_order_release);
    /* Both sides change the epoch, so one comes first. A retirement before this: the reader sees that the item is gone.
     * One after it: the writer sees that the reader is awake. A mere load here could come before the store, and neither
     * might see the other. */
    atomic_fetch_add_explicit(&g->epoch, 1, memory_order_acq_rel);
}
