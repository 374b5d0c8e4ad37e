/* sequence.h -- finds what was lost, delivered twice or out of order.
 *
 * Why: on a lane -- one stream as one receiver sees it -- the places must come as 0, 1, 2 ... What is passed over
 * becomes a hole; if it comes later it was out of order, if not it is lost; any other repetition is a duplicate. The
 * good case is one comparison. A hole is a range, so that a broker which drops a million messages in a row costs one
 * entry.
 *
 * Where a message goes to one of several receivers (shared subscriptions) nobody sees a whole stream: a tally says
 * which places have come anywhere, and is the one thing that threads write together. */
#ifndef TERN_BENCH_SEQUENCE_H
#define TERN_BENCH_SEQUENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LANE_HOLES_MAX \
    4096u /* beyond it the oldest hole is given up: its messages are lost, and duplicates if they come */

struct hole {
    uint32_t from, to; /* places from <= p < to are missing */
};

struct lane {
    uint32_t next;       /* the place that is due */
    uint32_t hole_count; /* in the order of their places */
    struct hole *holes;  /* owned; NULL while there never was one */
    uint32_t missing;    /* places before `next` that have not come: in holes, or given up */
};

enum arrival { ARRIVAL_FIRST, ARRIVAL_LATE, ARRIVAL_DUPLICATE };

struct sequence_counts {
    uint64_t duplicate, reordered;
    uint64_t missing; /* of all lanes */
};

/* A place that is not the one due. */
enum arrival lane_odd(struct lane *lane, uint32_t place, struct sequence_counts *counts);

/* A message came. ARRIVAL_FIRST and ARRIVAL_LATE: for the first time. */
static inline enum arrival lane_take(struct lane *lane, uint32_t place, struct sequence_counts *counts)
{
    if (lane->next == place) {
        lane->next++;
        return ARRIVAL_FIRST;
    }
    return lane_odd(lane, place, counts);
}

void lane_deinit(struct lane *lane);

/* Which places of a stream have come to anybody: a bit each, in chunks that appear as they are needed. */
#define TALLY_CHUNK_BITS 65536u
#define TALLY_CHUNKS 4096u /* 2^28 places; those beyond are taken as new */

struct tally {
    _Atomic(_Atomic uint64_t *) chunks[TALLY_CHUNKS]; /* owned */
};

/* From any thread. Returns whether the place has come before; false also when memory is out. */
bool tally_take(struct tally *tally, uint32_t place);
void tally_deinit(struct tally *tally);

#endif
