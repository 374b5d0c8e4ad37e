/* histogram.c -- reading, adding up and subtracting histograms; counting is inline in the header. */
#include "bench/load/histogram.h"

#include <math.h>

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void store(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* A copy may have been taken between two stores of the owner, so that one counter of it is ahead of its neighbours. */
static uint64_t grown(uint64_t now, uint64_t before)
{
    return now > before ? now - before : 0;
}

uint64_t histogram_bucket_top(uint32_t bucket)
{
    if (bucket < 1u << HISTOGRAM_SUB_BITS) {
        return bucket;
    }
    uint32_t shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t lead =
        (1u << HISTOGRAM_SUB_BITS) + (bucket & ((1u << HISTOGRAM_SUB_BITS) - 1)); /* the bits that are kept */
    return ((lead + 1) << shift) - 1;
}

void histogram_merge(struct histogram *h, const struct histogram *from)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t count = load(&from->counts[i]);
        if (count > 0) {
            store(&h->counts[i], load(&h->counts[i]) + count);
        }
    }
    store(&h->sum, load(&h->sum) + load(&from->sum));
    uint64_t max = load(&from->max);
    if (max > load(&h->max)) {
        store(&h->max, max);
    }
}

void histogram_since(const struct histogram *now, const struct histogram *before, struct histogram *ret_since)
{
    uint64_t now_max = load(&now->max), max = 0;

    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t count = grown(load(&now->counts[i]), load(&before->counts[i]));
        if (count > 0) {
            max = histogram_bucket(now_max) == i ? now_max : histogram_bucket_top(i); /* exact where it can be */
        }
        store(&ret_since->counts[i], count);
    }
    store(&ret_since->sum, grown(load(&now->sum), load(&before->sum)));
    store(&ret_since->max, max);
}

void histogram_clear(struct histogram *h)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        store(&h->counts[i], 0);
    }
    store(&h->sum, 0);
    store(&h->max, 0);
}

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        count += load(&h->counts[i]);
    }
    return count;
}

double histogram_mean(const struct histogram *h)
{
    uint64_t count = histogram_count(h);
    return count ? (double)load(&h->sum) / (double)count : 0;
}

/* Tops are rounded up: no value was larger than the maximum. */
static uint64_t value_of(const struct histogram *h, uint32_t bucket)
{
    uint64_t top = histogram_bucket_top(bucket), max = load(&h->max);
    return top < max ? top : max;
}

uint64_t histogram_min(const struct histogram *h)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (load(&h->counts[i]) > 0) {
            return value_of(h, i);
        }
    }
    return 0;
}

uint64_t histogram_max(const struct histogram *h)
{
    return load(&h->max);
}

/* Which of `count` values in order, from 1 on, is the percentile: the first that `percent` of them do not exceed. */
static uint64_t percentile_rank(double percent, uint64_t count)
{
    /* 99.9 is a little more than 99.9 in binary, and must not push the rank of a round count one up. */
    double rank = ceil(percent / 100 * (double)count * (1 - 1e-12));
    if (!(rank >= 1)) {
        return 1;
    }
    return rank < (double)count ? (uint64_t)rank : count;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
    uint64_t count = histogram_count(h);
    if (count == 0) {
        return 0;
    }
    uint64_t rank = percentile_rank(percent, count), passed = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        passed += load(&h->counts[i]);
        if (passed >= rank) {
            return value_of(h, i);
        }
    }
    return load(&h->max); /* only when it was cleared meanwhile */
}
