#include "tests/lib/unit.h"

#include "broker/base/metrics.h"

#include <pthread.h>
#include <stdlib.h>

static void test_counters(void)
{
    struct metrics a = {0}, b = {0}, sum = {0};

    metric_inc(&a, METRIC_CONNECTS);
    metric_add(&a, METRIC_BYTES_SENT, 1 << 20);
    metric_add(&a, METRIC_SESSIONS, 3);
    metric_add(&b, METRIC_SESSIONS, -2); /* a session made on one shard may end on another */
    metrics_sum(&sum, &a);
    metrics_sum(&sum, &b);
    CHECK(sum.values[METRIC_CONNECTS] == 1);
    CHECK(sum.values[METRIC_BYTES_SENT] == 1 << 20);
    CHECK(sum.values[METRIC_SESSIONS] == 1);
    CHECK(sum.values[METRIC_QUEUED] == 0);
}

/* Which bucket a latency falls into. */
static const struct {
    const char *name;
    uint64_t ns;
    unsigned bucket;
} bucket_rows[] = {
    {"nothing", 0, 0},
    {"bound of the first", 1024, 0},
    {"just above it", 1025, 1},
    {"bound of the second", 1280, 1},
    {"just above that", 1281, 2},
    {"bound of a power of two", 2048, 4},
    {"just above it, parts are wider", 2049, 5},
    {"still there", 2560, 5},
    {"bound of the last but one", 206158430208, 110},
    {"bound of the last", 240518168576, 111},
    {"longer than all", UINT64_MAX, METRIC_BUCKETS - 1},
};

static void test_buckets(void)
{
    for (size_t i = 0; i < COUNT_OF(bucket_rows); i++) {
        struct metrics m = {0};
        metric_observe(&m, METRIC_HISTOGRAM_TURN, bucket_rows[i].ns);
        CHECK_CASE(bucket_rows[i].name, m.buckets[METRIC_HISTOGRAM_TURN][bucket_rows[i].bucket] == 1);
        CHECK_CASE(bucket_rows[i].name, m.sum_ns[METRIC_HISTOGRAM_TURN] == bucket_rows[i].ns);
        CHECK_CASE(bucket_rows[i].name, m.buckets[METRIC_HISTOGRAM_CONNECT][bucket_rows[i].bucket] == 0);
    }
}

/* Bounds rise, by at most a quarter, and each is in its own bucket while one more is in the next. */
static void test_bounds(void)
{
    for (unsigned b = 0; b + 1 < METRIC_BUCKETS; b++) {
        struct metrics m = {0};
        uint64_t bound = metric_bucket_ns(b), next = metric_bucket_ns(b + 1);

        CHECK(next > bound && next - bound <= bound / 4);
        metric_observe(&m, METRIC_HISTOGRAM_CONNECT, bound);
        metric_observe(&m, METRIC_HISTOGRAM_CONNECT, bound + 1);
        CHECK(m.buckets[METRIC_HISTOGRAM_CONNECT][b] == 1);
        CHECK(m.buckets[METRIC_HISTOGRAM_CONNECT][b + 1] == 1);
    }
    CHECK(metric_bucket_ns(0) == 1024);
    CHECK(metric_bucket_ns(METRIC_BUCKETS - 1) > 100000000000u); /* 100 s and more have a bucket of their own */
}

static void test_quantiles(void)
{
    struct metrics m = {0};

    CHECK(metrics_quantile(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 0.5) == 0);
    metric_observe(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 500);
    CHECK(metrics_quantile(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 0) == 1024);
    CHECK(metrics_quantile(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 1) == 1024);
    for (int i = 0; i < 98; i++) {
        metric_observe(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 2000);
    }
    metric_observe(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 1000000);
    CHECK(metrics_quantile(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 0.01) == 1024);
    CHECK(metrics_quantile(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 0.011) == 2048);
    CHECK(metrics_quantile(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 0.5) == 2048);
    CHECK(metrics_quantile(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 0.99) == 2048);
    CHECK(metrics_quantile(&m, METRIC_HISTOGRAM_PUBLISH_ACK, 0.995) == 1048576);
    CHECK(metrics_quantile(&m, METRIC_HISTOGRAM_TURN, 0.5) == 0);
}

#define ROUNDS 100000

static void *count_up(void *m)
{
    for (int i = 0; i < ROUNDS; i++) {
        metric_inc(m, METRIC_PACKETS_SENT);
        metric_observe(m, METRIC_HISTOGRAM_TURN, 5000);
    }
    return NULL;
}

/* A reader of a running shard sees a number that was true at some moment, and never a smaller one later. */
static void test_read_while_written(void)
{
    struct metrics *shard = calloc(1, sizeof(*shard));
    uint64_t before = 0;
    pthread_t writer;

    CU_ASSERT_EQUAL_FATAL(pthread_create(&writer, NULL, count_up, shard), 0);
    for (int i = 0; i < 1000; i++) {
        struct metrics sum = {0};
        metrics_sum(&sum, shard);
        CHECK(sum.values[METRIC_PACKETS_SENT] >= before && sum.values[METRIC_PACKETS_SENT] <= ROUNDS);
        before = sum.values[METRIC_PACKETS_SENT];
    }
    pthread_join(writer, NULL);
    struct metrics sum = {0};
    metrics_sum(&sum, shard);
    CHECK(sum.values[METRIC_PACKETS_SENT] == ROUNDS);
    CHECK(sum.sum_ns[METRIC_HISTOGRAM_TURN] == ROUNDS * 5000ull);
    free(shard);
}

/* Prometheus' own rules for names, so that no row of the table breaks them. */
static void test_names(void)
{
#define KIND_COUNTER true
#define KIND_GAUGE false
#define ROW(identifier, kind, name, help) {KIND_##kind, METRIC_##identifier},
    static const struct {
        bool counter;
        enum metric metric;
    } rows[] = {METRICS_TABLE(ROW)};

    CHECK(COUNT_OF(rows) == METRIC_COUNT);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *name = metric_name(rows[i].metric), *help = metric_help(rows[i].metric);
        size_t len = strlen(name);
        bool total = len > 6 && strcmp(name + len - 6, "_total") == 0;

        CHECK_CASE(name, strncmp(name, "tern_", 5) == 0);
        CHECK_CASE(name, total == rows[i].counter);
        CHECK_CASE(name, strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len);
        CHECK_CASE(name, strlen(help) > 10 && help[strlen(help) - 1] == '.');
        for (size_t j = 0; j < i; j++) {
            CHECK_CASE(name, strcmp(name, metric_name(rows[j].metric)) != 0);
        }
    }
}

UNIT_MAIN("broker/base/metrics", {"counters", test_counters}, {"buckets", test_buckets}, {"bounds", test_bounds},
          {"quantiles", test_quantiles}, {"read while written", test_read_while_written}, {"names", test_names})
