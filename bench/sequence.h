/* sequence.h -- finds what was lost, delivered twice or out of order.
 *
 * Why: a broker that drops messages is fast. Every message carries the number of its stream and its place in it; a lane
 * is one stream as one receiver sees it, and on each lane the places must come as 0, 1, 2 ... A place that is passed
 * over is remembered as missing: if it comes later it was out of order, if not it is lost; any other repetition is a
 * duplicate. The good case is one comparison. */
#ifndef TERN_BENCH_SEQUENCE_H
#define TERN_BENCH_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>

#define SEQUENCE_MISSING_MAX 65536 /* beyond it a missing place is given up at once, and its return is a duplicate */

struct sequence_missing {
    uint32_t lane, place;
};

struct sequence {
    uint32_t *next; /* owned; per lane the place that is due */
    uint32_t lane_count, missing_count;
    struct sequence_missing *missing; /* owned; NULL until the first gap */
    uint64_t given_up, duplicated, reordered;
};

/* Returns 0 or -ENOMEM. */
int sequence_init(struct sequence *s, uint32_t lane_count);
void sequence_deinit(struct sequence *s);

/* A place that is not the one due. Returns whether it was missing until now, or is new. */
bool sequence_odd(struct sequence *s, uint32_t lane, uint32_t place);

/* A message came. Returns whether it is the first time. */
static inline bool sequence_take(struct sequence *s, uint32_t lane, uint32_t place)
{
    if (s->next[lane] == place) {
        s->next[lane]++;
        return true;
    }
    return sequence_odd(s, lane, place);
}

/* Messages passed over so far that have not come since. */
static inline uint64_t sequence_missing(const struct sequence *s)
{
    return s->given_up + s->missing_count;
}

/* Messages at the end of a lane that have not come: sent is how many its stream has had. */
static inline uint64_t sequence_tail(const struct sequence *s, uint32_t lane, uint32_t sent)
{
    return sent - s->next[lane];
}

#endif
