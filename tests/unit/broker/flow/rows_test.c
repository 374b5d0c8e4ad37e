/* Rows that are gathered from many: merging, sorting, paging. */
#include "broker/flow/rows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/prng.h"
#include "tests/lib/unit.h"

#define ROWS 5000u
#define SOURCES 6u

static const struct hash_key key = {.k0 = 1, .k1 = 2};

struct sample {
    uint64_t number;
    char name[16];
    unsigned from;
};

static struct sample samples[ROWS];
static struct rows_order order_now;

static struct row row_of(const struct sample *s)
{
    return (struct row){s->number, slice_str(s->name), SLICE("{}"), s->from};
}

static int by_order(const void *a, const void *b)
{
    struct row x = row_of(a), y = row_of(b);
    return rows_compare(&order_now, &x, &y);
}

/* Numbers repeat, so that names decide; each name is on two nodes. */
static void make_samples(uint64_t seed)
{
    struct prng prng;

    prng_seed(&prng, seed);
    for (unsigned i = 0; i < ROWS; i++) {
        samples[i].number = prng_below(&prng, 50);
        unsigned one = i * 7919 % ROWS;
        snprintf(samples[i].name, sizeof(samples[i].name), "c%u", one / 2);
        samples[i].from = 2 * prng_below(&prng, SOURCES / 2) + one % 2;
    }
}

static bool same(const struct rows_kept *kept, const struct sample *want)
{
    return kept->row.number == want->number && slice_eq(kept->row.name, slice_str(want->name)) &&
           kept->row.from == want->from;
}

/* As in life: each source keeps its best, in bytes they go to who asks, who keeps the best of those. */
static void gather(struct rows *all, const struct rows_order *order)
{
    struct rows part[SOURCES];
    struct buf bytes = {0};
    struct row row;

    rows_init(all, order);
    for (unsigned i = 0; i < SOURCES; i++) {
        rows_init(&part[i], order);
    }
    for (unsigned i = 0; i < ROWS; i++) {
        row = row_of(&samples[i]);
        CHECK(rows_offer(&part[samples[i].from], &row) == 0);
    }
    for (unsigned i = 0; i < SOURCES; i++) {
        bytes.len = 0;
        CHECK(part[i].count <= order->keep);
        for (uint32_t at = 0; at < part[i].count; at++) { /* in any order */
            rows_write(&bytes, &part[i].kept[at]->row);
        }
        struct slice left = buf_slice(&bytes);
        while (rows_read(&left, &row) == 0) {
            row.from = i;
            CHECK(slice_eq(row.text, SLICE("{}")));
            CHECK(rows_offer(all, &row) == 0);
        }
        CHECK(left.len == 0);
        rows_deinit(&part[i]);
    }
    rows_sort(all);
    buf_deinit(&bytes);
}

static void test_best_of_all(void)
{
    static const struct rows_order orders[] = {
        {.keep = 1},
        {.keep = 100},
        {.keep = 100, .descending = true},
        {.keep = 777, .by_number = true},
        {.keep = 777, .by_number = true, .descending = true},
        {.keep = ROWS + 1, .by_number = true, .descending = true},
    };

    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        struct rows all;
        make_samples(i + 1);
        gather(&all, &orders[i]);
        order_now = orders[i];
        qsort(samples, ROWS, sizeof(samples[0]), by_order);
        uint32_t want = orders[i].keep < ROWS ? orders[i].keep : ROWS, bad = 0;
        CHECK(all.count == want);
        for (uint32_t at = 0; at < all.count && at < want; at++) {
            bad += !same(all.kept[at], &samples[at]);
        }
        CHECK(bad == 0);
        rows_deinit(&all);
    }
}

/* The second question for a page far down: only what lies between its first and last row. */
static void test_between(void)
{
    struct rows_order order = {.keep = 300, .by_number = true, .descending = true};
    struct rows all, page;

    make_samples(9);
    gather(&all, &order);
    order.keep = 100;
    rows_init(&page, &order);
    page.has_lo = page.has_hi = true;
    page.lo = all.kept[200]->row;
    page.hi = all.kept[299]->row;
    for (unsigned i = 0; i < ROWS; i++) {
        struct row row = row_of(&samples[i]);
        CHECK(rows_offer(&page, &row) == 0);
    }
    rows_sort(&page);
    CHECK(page.count == 100);
    for (uint32_t i = 0; i < page.count; i++) {
        CHECK(rows_compare(&order, &page.kept[i]->row, &all.kept[200 + i]->row) == 0);
    }
    rows_deinit(&page);
    rows_deinit(&all);
}

static void test_combine(void)
{
    static const struct {
        const char *name;
        uint64_t number;
        unsigned from;
    } in[] = {{"b", 2, 1}, {"a", 1, 0}, {"c", 9, 0}, {"b", 3, 128}, {"a", 1, 0}, {"d", 1, 1}};
    struct rows rows;

    rows_init(&rows, &(struct rows_order){.keep = 2, .combine = true, .key = &key});
    for (size_t i = 0; i < COUNT_OF(in); i++) {
        struct row row = {in[i].number, slice_str(in[i].name), SLICE(""), in[i].from};
        CHECK(rows_offer(&rows, &row) == 0);
    }
    rows_sort(&rows);
    CHECK(rows.count == 2);
    CHECK(slice_eq(rows.kept[0]->row.name, SLICE("a")) && rows.kept[0]->row.number == 2);
    CHECK(slice_eq(rows.kept[1]->row.name, SLICE("b")) && rows.kept[1]->row.number == 5);
    CHECK(rows.kept[0]->nodes[0] == 1 && rows.kept[0]->nodes[2] == 0);
    CHECK(rows.kept[1]->nodes[0] == 2 && rows.kept[1]->nodes[2] == 1);
    rows_deinit(&rows);
}

static void test_bad_bytes(void)
{
    static const char *const cases[] = {
        "00",
        "0000000000000001 0002 61",
        "0000000000000001 0001 61",
        "0000000000000001 0001 61 00000002 62",
        "0000000000000001 ffff 61 00000000",
    };
    struct row row;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice bytes = unit_hex(cases[i]), left = bytes;
        CHECK_CASE(cases[i], rows_read(&left, &row) == -EPROTO);
        free((void *)bytes.ptr);
    }
    struct slice none = SLICE("");
    CHECK(rows_read(&none, &row) == -ENOENT);
}

UNIT_MAIN("broker/flow/rows", {"the best of all sources, in order", test_best_of_all},
          {"what lies between two rows", test_between}, {"rows of one name are one", test_combine},
          {"ill-formed bytes", test_bad_bytes})
