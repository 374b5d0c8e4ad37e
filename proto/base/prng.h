/* prng.h -- small, fast, seeded random numbers (xoshiro256++, Blackman and Vigna 2018). Not for secrets. */
#ifndef TERN_PROTO_BASE_PRNG_H
#define TERN_PROTO_BASE_PRNG_H

#include <stdint.h>

struct prng {
    uint64_t s[4];
};

void prng_seed(struct prng *p, uint64_t seed);
uint64_t prng_next(struct prng *p);
uint32_t prng_below(struct prng *p, uint32_t bound); /* 0 .. bound - 1; bound > 0 */

#endif
