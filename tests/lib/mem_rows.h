/* mem_rows.h -- a table of rows in the order of their keys, in memory: the state of mem_store.
 *
 * Nothing is fast about it but finding; a simulated node has some thousand rows. All memory must be there: asserted. */
#ifndef TERN_TESTS_LIB_MEM_ROWS_H
#define TERN_TESTS_LIB_MEM_ROWS_H

#include <stdbool.h>

#include "proto/base/slice.h"

struct mem_row {
    struct slice key, value; /* owned, in one allocation that begins at key.ptr */
    bool damaged;
};

struct mem_rows {
    struct mem_row *row; /* owned; by key */
    size_t count, cap;
};

void mem_rows_deinit(struct mem_rows *t); /* empty and usable again */

void mem_rows_put(struct mem_rows *t, struct slice key, struct slice value); /* in place of what was there */
void mem_rows_delete(struct mem_rows *t, struct slice key);
void mem_rows_erase(struct mem_rows *t, struct slice from, struct slice to); /* from <= key < to */

/* Index of the first row whose key is not less than this one; count when there is none. */
size_t mem_rows_find(const struct mem_rows *t, struct slice key);

void mem_rows_remove(struct mem_rows *t, size_t index);

#endif
