/* histogram.h -- how often each value came, to within a hundredth of the value.
 *
 * Why: a mean hides the stall and a list of all values does not fit. Buckets are linear within each power of two
 * (HdrHistogram, Gil Tene): 128 of them, so a value is told to better than 1 %, from 1 to 2^36 in 30 KiB and in
 * constant time. Values below 128 are exact. Unit: microseconds by convention; the histogram does not care.
 *
 * Touched by: written by one thread, read by others at any time: every count is a relaxed atomic, so that a reader sees
 * each count whole, though not all of one moment. */
#ifndef TERN_BENCH_HISTOGRAM_H
#define TERN_BENCH_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7u
#define HISTOGRAM_VALUE_BITS 36u /* values beyond are counted as the largest */
#define HISTOGRAM_BUCKETS ((HISTOGRAM_VALUE_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    _Atomic uint64_t sum, max;
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS];
};

/* The bucket of a value, and the largest value of a bucket. */
static inline uint32_t histogram_bucket(uint64_t value)
{
    if (value >> HISTOGRAM_VALUE_BITS) {
        return HISTOGRAM_BUCKETS - 1;
    }
    if (value < 1u << HISTOGRAM_SUB_BITS) {
        return (uint32_t)value;
    }
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return ((shift + 1) << HISTOGRAM_SUB_BITS) + (uint32_t)(value >> shift) - (1u << HISTOGRAM_SUB_BITS);
}
uint64_t histogram_bucket_top(uint32_t bucket);

/* Count a value `times` times. By the owner only. */
static inline void histogram_add(struct histogram *h, uint64_t value, uint64_t times)
{
    _Atomic uint64_t *count = &h->counts[histogram_bucket(value)];

    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + times, memory_order_relaxed);
    atomic_store_explicit(&h->sum, atomic_load_explicit(&h->sum, memory_order_relaxed) + value * times,
                          memory_order_relaxed);
    if (value > atomic_load_explicit(&h->max, memory_order_relaxed)) {
        atomic_store_explicit(&h->max, value, memory_order_relaxed);
    }
}

/* Add all of `from` to `h`. */
void histogram_merge(struct histogram *h, const struct histogram *from);

/* What has come to `now` since `before`, an earlier copy of it, into *ret_since, which need not be empty. The maximum
 * is that of the highest bucket that grew. */
void histogram_since(const struct histogram *now, const struct histogram *before, struct histogram *ret_since);

void histogram_clear(struct histogram *h);

uint64_t histogram_count(const struct histogram *h);
double histogram_mean(const struct histogram *h);  /* 0 when empty */
uint64_t histogram_min(const struct histogram *h); /* top of the lowest bucket; 0 when empty */
uint64_t histogram_max(const struct histogram *h); /* exact */

/* The value that `percent` (0..100) of all values do not exceed, as the top of its bucket but never above the maximum;
 * 0 when empty. */
uint64_t histogram_percentile(const struct histogram *h, double percent);

#endif
