/* payload.h -- what stands at the front of every message that the load tool publishes: who, which one, when.
 *
 *     0        1     2         6        10            16
 *     | magic  | run | stream  | place  | time in us  | filler ...
 *
 * Why: a broker that drops messages is fast, and one that holds them back looks fast to who asks late. So each message
 * says which stream it belongs to (one topic of one publisher), its place in it, counted from 0, and the moment it was
 * *due*: its place in the schedule when there is one, else when it was written. `run` is a number that this run has
 * taken at random, so that what an earlier run left behind is known for what it is. Time is CLOCK_MONOTONIC, the same
 * for every process of a machine, cut to 48 bits. */
#ifndef TERN_BENCH_PAYLOAD_H
#define TERN_BENCH_PAYLOAD_H

#include "proto/base/slice.h"

#define PAYLOAD_HEAD_BYTES 16u
#define PAYLOAD_BYTES_MAX (256u << 10)
#define PAYLOAD_MAGIC 0xB7

struct payload_head {
    uint8_t run;
    uint32_t stream, place;
    uint64_t time_us;
};

static inline void payload_put(uint8_t *at, const struct payload_head *head)
{
    uint64_t time = __builtin_bswap64(head->time_us << 16);
    uint32_t stream = __builtin_bswap32(head->stream), place = __builtin_bswap32(head->place);

    at[0] = PAYLOAD_MAGIC;
    at[1] = head->run;
    memcpy(at + 2, &stream, sizeof(stream));
    memcpy(at + 6, &place, sizeof(place));
    memcpy(at + 10, &time, 6);
}

/* Returns false when it is none of ours. */
static inline bool payload_get(struct slice payload, struct payload_head *ret_head)
{
    uint32_t stream, place;
    uint64_t time = 0;

    if (payload.len < PAYLOAD_HEAD_BYTES || payload.ptr[0] != PAYLOAD_MAGIC) {
        return false;
    }
    memcpy(&stream, payload.ptr + 2, sizeof(stream));
    memcpy(&place, payload.ptr + 6, sizeof(place));
    memcpy(&time, payload.ptr + 10, 6);
    ret_head->run = payload.ptr[1];
    ret_head->stream = __builtin_bswap32(stream);
    ret_head->place = __builtin_bswap32(place);
    ret_head->time_us = __builtin_bswap64(time) >> 16;
    return true;
}

#endif
