/* hash.h -- the keyed hash for every table whose keys a client can choose.
 *
 * SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): who does not
 * know the key cannot find keys that collide. */
#ifndef TERN_PROTO_BASE_HASH_H
#define TERN_PROTO_BASE_HASH_H

#include "proto/base/slice.h"

struct hash_key {
    uint64_t k0, k1;
};

uint64_t hash_keyed(const struct hash_key *key, struct slice s);

/* Not keyed: spread an integer or a pointer that no client chooses over 64 bits. */
static inline uint64_t hash_mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

#endif
