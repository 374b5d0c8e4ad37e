/* grace.h -- when memory that readers without locks may still see can be freed (QSBR: McKenney and Slingwine 1998).
 *
 * The one writer takes an object out of the structure and retires it. Each reader says once a turn that it holds no
 * pointer (quiescent), and when it will not look for a while (asleep). What was retired before the oldest such word of
 * all awake readers, nobody can see any more. Reading itself costs nothing. Retire and reclaim: the writer's thread.
 * The others: the reader's. */
#ifndef TERN_BROKER_TOPIC_GRACE_H
#define TERN_BROKER_TOPIC_GRACE_H

#include <stdatomic.h>
#include <stdint.h>

#define GRACE_READERS_MAX 64

/* Embedded, first, in what is retired; allocated by malloc. */
struct grace_item {
    struct grace_item *next;
    uint64_t epoch;
};

struct grace_reader {
    _Alignas(64) atomic_uint_least64_t seen; /* epoch of its last quiet moment; 0: asleep */
};

struct grace {
    struct grace_reader readers[GRACE_READERS_MAX];
    atomic_uint_least64_t epoch; /* grows with each retirement and each waking; begins at 1 */
    unsigned reader_count;
    struct grace_item *oldest, *newest; /* retired, in order */
};

void grace_init(struct grace *grace, unsigned reader_count);
void grace_deinit(struct grace *grace); /* no readers any more: frees everything */

/* item is out of the structure: free it when no reader can see it. */
void grace_retire(struct grace *grace, struct grace_item *item);
void grace_reclaim(struct grace *grace);

void grace_quiescent(struct grace *grace, unsigned reader);
void grace_asleep(struct grace *grace, unsigned reader);
void grace_awake(struct grace *grace, unsigned reader);

#endif
