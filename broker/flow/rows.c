#include "broker/flow/rows.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/base/cursor.h"

void rows_init(struct rows *rows, const struct rows_order *order)
{
    *rows = (struct rows){.order = *order};
    assert(!order->combine || (!order->by_number && order->key));
}

void rows_deinit(struct rows *rows)
{
    for (uint32_t i = 0; i < rows->count; i++) {
        free(rows->kept[i]);
    }
    free(rows->kept);
    map_deinit(&rows->by_name);
    *rows = (struct rows){.order = rows->order};
}

static int compare_names(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int c = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;

    return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}

int rows_compare(const struct rows_order *order, const struct row *a, const struct row *b)
{
    int numbers = order->by_number ? (a->number > b->number) - (a->number < b->number) : 0;
    int names = compare_names(a->name, b->name);
    int nodes = order->combine ? 0 : (a->from > b->from) - (a->from < b->from);

    if (order->by_number) {
        numbers = order->descending ? -numbers : numbers;
    } else {
        names = order->descending ? -names : names;
    }
    return numbers ? numbers : names ? names : nodes;
}

/* ---- the heap: no row stands behind the one above it ---- */

static bool is_behind(const struct rows *rows, uint32_t a, uint32_t b)
{
    return rows_compare(&rows->order, &rows->kept[a]->row, &rows->kept[b]->row) > 0;
}

static void swap(struct rows *rows, uint32_t a, uint32_t b)
{
    struct rows_kept *kept = rows->kept[a];

    rows->kept[a] = rows->kept[b];
    rows->kept[b] = kept;
}

static void sift_up(struct rows *rows, uint32_t at)
{
    while (at > 0 && is_behind(rows, at, (at - 1) / 2)) {
        swap(rows, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static void sift_down(struct rows *rows, uint32_t at)
{
    for (;;) {
        uint32_t last = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < rows->count; child++) {
            last = is_behind(rows, child, last) ? child : last;
        }
        if (last == at) {
            return;
        }
        swap(rows, at, last);
        at = last;
    }
}

/* ---- by name ---- */

static uint64_t name_hash(const struct rows *rows, struct slice name)
{
    return hash_keyed(rows->order.key, name);
}

static bool has_name(const void *value, const void *key)
{
    return slice_eq(((const struct rows_kept *)value)->row.name, *(const struct slice *)key);
}

static void mark(struct rows_kept *kept, unsigned from)
{
    if (from < ROWS_NODES) {
        kept->nodes[from / 64] |= 1ull << from % 64;
    }
}

bool rows_wants(const struct rows *rows, const struct row *row)
{
    if ((rows->has_lo && rows_compare(&rows->order, row, &rows->lo) < 0) ||
        (rows->has_hi && rows_compare(&rows->order, row, &rows->hi) > 0) || rows->order.keep == 0) {
        return false;
    }
    return rows->count < rows->order.keep || rows_compare(&rows->order, row, &rows->kept[0]->row) <= 0;
}

static struct rows_kept *keep(const struct row *row)
{
    struct rows_kept *kept = calloc(1, sizeof(*kept) + row->name.len + row->text.len);

    if (kept) {
        kept->row = *row;
        kept->row.name = slice_of(kept->bytes, row->name.len);
        kept->row.text = slice_of(kept->bytes + row->name.len, row->text.len);
        if (row->name.len > 0) {
            memcpy(kept->bytes, row->name.ptr, row->name.len);
        }
        if (row->text.len > 0) {
            memcpy(kept->bytes + row->name.len, row->text.ptr, row->text.len);
        }
        mark(kept, row->from);
    }
    return kept;
}

static int make_room(struct rows *rows)
{
    uint32_t cap = rows->cap ? rows->cap * 2 : 64;

    if (rows->count < rows->cap) {
        return 0;
    }
    struct rows_kept **more = realloc(rows->kept, cap * sizeof(*more));
    if (!more) {
        return -ENOMEM;
    }
    rows->kept = more;
    rows->cap = cap;
    return 0;
}

int rows_offer(struct rows *rows, const struct row *row)
{
    uint64_t hash = rows->order.combine ? name_hash(rows, row->name) : 0;
    struct rows_kept *same = rows->order.combine ? map_find(&rows->by_name, hash, has_name, &row->name) : NULL;

    if (same) {
        same->row.number += row->number;
        mark(same, row->from);
        return 0;
    }
    if (!rows_wants(rows, row)) {
        return 0;
    }
    struct rows_kept *kept = make_room(rows) == 0 ? keep(row) : NULL;
    if (!kept || (rows->order.combine && map_add(&rows->by_name, hash, kept) != 0)) {
        free(kept);
        return -ENOMEM;
    }
    if (rows->count == rows->order.keep) { /* it is better than the last one, which goes */
        if (rows->order.combine) {
            map_remove(&rows->by_name, name_hash(rows, rows->kept[0]->row.name), rows->kept[0]);
        }
        free(rows->kept[0]);
        rows->kept[0] = kept;
        sift_down(rows, 0);
    } else {
        rows->kept[rows->count++] = kept;
        sift_up(rows, rows->count - 1);
    }
    return 0;
}

void rows_sort(struct rows *rows)
{
    uint32_t count = rows->count;

    while (rows->count > 1) {
        swap(rows, 0, --rows->count);
        sift_down(rows, 0);
    }
    rows->count = count;
}

/* ---- bytes ---- */

void rows_write(struct buf *out, const struct row *row)
{
    buf_u64(out, row->number);
    buf_u16(out, (uint16_t)row->name.len);
    buf_put(out, row->name);
    buf_u32(out, (uint32_t)row->text.len);
    buf_put(out, row->text);
}

int rows_read(struct slice *bytes, struct row *ret_row)
{
    struct cursor c = cursor_at(*bytes);

    if (bytes->len == 0) {
        return -ENOENT;
    }
    struct row row = {.number = cursor_u64(&c)};
    row.name = cursor_take(&c, cursor_u16(&c));
    row.text = cursor_take(&c, cursor_u32(&c));
    if (c.failed) {
        return -EPROTO;
    }
    *bytes = cursor_rest(&c);
    *ret_row = row;
    return 0;
}
