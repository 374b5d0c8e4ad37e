#include "broker/base/metrics.h"

#include <assert.h>

/* Buckets: 0 takes all up to 1 us; then each power of two above 1024 ns is cut into PER_POWER equal parts, so that a
 * quantile is off by a quarter of its value at most; the last bucket takes whatever is longer.
 *
 *   bucket   0      1      2      3      4     5 ...  111
 *   up to    1024   1280   1536   1792   2048  2560   1024 << 27.75 */
#define FIRST_NS_LOG2 10u
#define PER_POWER_LOG2 2u
#define PER_POWER (1u << PER_POWER_LOG2)

static const char *const names[METRIC_COUNT] = {
#define METRICS_NAME(identifier, kind, name, help) [METRIC_##identifier] = name,
    METRICS_TABLE(METRICS_NAME)
#undef METRICS_NAME
};
static const char *const helps[METRIC_COUNT] = {
#define METRICS_HELP(identifier, kind, name, help) [METRIC_##identifier] = help,
    METRICS_TABLE(METRICS_HELP)
#undef METRICS_HELP
};

static const char *const histogram_names[METRIC_HISTOGRAM_COUNT] = {
#define METRICS_NAME(identifier, name, help) [METRIC_HISTOGRAM_##identifier] = name,
    METRICS_HISTOGRAMS(METRICS_NAME)
#undef METRICS_NAME
};
static const char *const histogram_helps[METRIC_HISTOGRAM_COUNT] = {
#define METRICS_HELP(identifier, name, help) [METRIC_HISTOGRAM_##identifier] = help,
    METRICS_HISTOGRAMS(METRICS_HELP)
#undef METRICS_HELP
};
static const struct metric_family_terms families[METRIC_FAMILY_COUNT] = {
#define METRICS_FAMILY(identifier, count, label, name, help) \
    [METRIC_FAMILY_##identifier] = {name, label, help, METRIC_CELL_##identifier, count},
    METRICS_FAMILIES(METRICS_FAMILY)
#undef METRICS_FAMILY
};

#define COUNTER false
#define GAUGE true
static const bool gauges[METRIC_COUNT] = {
#define METRICS_KIND(identifier, kind, name, help) [METRIC_##identifier] = (kind),
    METRICS_TABLE(METRICS_KIND)
#undef METRICS_KIND
};

static uint64_t load(const uint64_t *from)
{
    return __atomic_load_n(from, __ATOMIC_RELAXED);
}

static void add(uint64_t *to, uint64_t n)
{
    __atomic_store_n(to, load(to) + n, __ATOMIC_RELAXED);
}

static unsigned bucket_of(uint64_t ns)
{
    if (ns <= 1u << FIRST_NS_LOG2) {
        return 0;
    }
    /* Bounds are inclusive, so look at ns - 1: what is above its leading bit's PER_POWER_LOG2 bits does not matter. */
    uint64_t below = ns - 1;
    unsigned power = 63 - (unsigned)__builtin_clzll(below);
    unsigned part = (unsigned)(below >> (power - PER_POWER_LOG2)) & (PER_POWER - 1);
    unsigned bucket = (power - FIRST_NS_LOG2) * PER_POWER + part + 1;
    return bucket < METRIC_BUCKETS ? bucket : METRIC_BUCKETS - 1;
}

uint64_t metric_bucket_ns(unsigned bucket)
{
    assert(bucket < METRIC_BUCKETS);
    unsigned power = FIRST_NS_LOG2 + bucket / PER_POWER, part = bucket % PER_POWER;
    return (1ull << power) + ((uint64_t)part << (power - PER_POWER_LOG2));
}

void metric_observe(struct metrics *m, enum metric_histogram histogram, uint64_t ns)
{
    add(&m->buckets[histogram][bucket_of(ns)], 1);
    add(&m->sum_ns[histogram], ns);
}

void metrics_sum(struct metrics *sum, const struct metrics *from)
{
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        add(&sum->values[i], load(&from->values[i]));
    }
    for (unsigned i = 0; i < METRIC_CELL_COUNT; i++) {
        add(&sum->cells[i], load(&from->cells[i]));
    }
    for (unsigned h = 0; h < METRIC_HISTOGRAM_COUNT; h++) {
        for (unsigned b = 0; b < METRIC_BUCKETS; b++) {
            add(&sum->buckets[h][b], load(&from->buckets[h][b]));
        }
        add(&sum->sum_ns[h], load(&from->sum_ns[h]));
    }
}

uint64_t metrics_quantile(const struct metrics *m, enum metric_histogram histogram, double q)
{
    uint64_t count = 0, seen = 0;

    assert(q >= 0 && q <= 1);
    for (unsigned b = 0; b < METRIC_BUCKETS; b++) {
        count += load(&m->buckets[histogram][b]);
    }
    if (count == 0) {
        return 0;
    }
    /* The rank-th smallest, counted from 1; rounded up, so that q = 0.5 of two is the first. */
    uint64_t rank = (uint64_t)(q * (double)count);
    rank += (double)rank < q * (double)count || rank == 0;
    for (unsigned b = 0; b < METRIC_BUCKETS - 1; b++) {
        seen += load(&m->buckets[histogram][b]);
        if (seen >= rank) {
            return metric_bucket_ns(b);
        }
    }
    return metric_bucket_ns(METRIC_BUCKETS - 1);
}

const char *metric_name(enum metric metric)
{
    assert(metric < METRIC_COUNT);
    return names[metric];
}

const char *metric_help(enum metric metric)
{
    assert(metric < METRIC_COUNT);
    return helps[metric];
}

bool metric_is_gauge(enum metric metric)
{
    assert(metric < METRIC_COUNT);
    return gauges[metric];
}

const struct metric_family_terms *metric_family_terms(enum metric_family family)
{
    assert(family < METRIC_FAMILY_COUNT);
    return &families[family];
}

const char *metric_histogram_name(enum metric_histogram histogram)
{
    assert(histogram < METRIC_HISTOGRAM_COUNT);
    return histogram_names[histogram];
}

const char *metric_histogram_help(enum metric_histogram histogram)
{
    assert(histogram < METRIC_HISTOGRAM_COUNT);
    return histogram_helps[histogram];
}
