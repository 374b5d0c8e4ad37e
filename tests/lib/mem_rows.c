#include "tests/lib/mem_rows.h"

#include <assert.h>
#include <stdlib.h>

void mem_rows_deinit(struct mem_rows *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free((void *)t->row[i].key.ptr);
    }
    free(t->row);
    *t = (struct mem_rows){0};
}

static int compare(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int difference = len ? memcmp(a.ptr, b.ptr, len) : 0;

    return difference ? difference : (a.len > b.len) - (a.len < b.len);
}

size_t mem_rows_find(const struct mem_rows *t, struct slice key)
{
    size_t low = 0, high = t->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(t->row[middle].key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct mem_row make_row(struct slice key, struct slice value)
{
    uint8_t *bytes = malloc(key.len + value.len + 1);

    assert(bytes);
    memcpy(bytes, key.ptr, key.len);
    if (value.len > 0) {
        memcpy(bytes + key.len, value.ptr, value.len);
    }
    return (struct mem_row){.key = slice_of(bytes, key.len), .value = slice_of(bytes + key.len, value.len)};
}

void mem_rows_remove(struct mem_rows *t, size_t index)
{
    free((void *)t->row[index].key.ptr);
    t->count--;
    memmove(&t->row[index], &t->row[index + 1], (t->count - index) * sizeof(*t->row));
}

void mem_rows_put(struct mem_rows *t, struct slice key, struct slice value)
{
    struct mem_row made = make_row(key, value);
    size_t at = mem_rows_find(t, key);

    if (at < t->count && slice_eq(t->row[at].key, key)) {
        free((void *)t->row[at].key.ptr);
        t->row[at] = made;
        return;
    }
    if (t->count == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->row = realloc(t->row, t->cap * sizeof(*t->row));
        assert(t->row);
    }
    memmove(&t->row[at + 1], &t->row[at], (t->count - at) * sizeof(*t->row));
    t->row[at] = made;
    t->count++;
}

void mem_rows_delete(struct mem_rows *t, struct slice key)
{
    size_t at = mem_rows_find(t, key);

    if (at < t->count && slice_eq(t->row[at].key, key)) {
        mem_rows_remove(t, at);
    }
}

void mem_rows_erase(struct mem_rows *t, struct slice from, struct slice to)
{
    size_t first = mem_rows_find(t, from), end = mem_rows_find(t, to);

    if (first >= end) {
        return;
    }
    for (size_t i = first; i < end; i++) {
        free((void *)t->row[i].key.ptr);
    }
    memmove(&t->row[first], &t->row[end], (t->count - end) * sizeof(*t->row));
    t->count -= end - first;
}
