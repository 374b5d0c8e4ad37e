/* rate.h -- how much may come in a second: a leaky bucket in one number (GCRA, ITU-T I.371).
 *
 * Why: the bucket of a user or a listener is used by all shards at once; one atomic number needs no lock, and a
 * connection's own costs eight bytes. A bucket holds one second's worth. */
#ifndef TERN_BROKER_BASE_RATE_H
#define TERN_BROKER_BASE_RATE_H

#include <stdatomic.h>
#include <stdint.h>

struct rate {
    atomic_uint_least64_t full_at_ns; /* monotonic: when all that was taken will have been paid */
};

/* Take n units at now_ns from a bucket of per_second (> 0). They are taken in any case: what has been read cannot be
 * sent back. Returns how long to wait before taking more, in nanoseconds; 0: go on. */
uint64_t rate_take(struct rate *rate, uint64_t per_second, uint64_t n, uint64_t now_ns);

#endif
