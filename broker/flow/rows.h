/* rows.h -- rows of a list that is gathered from many shards: the best so many of them, in an order, and how many there
 * were.
 *
 * Why: a list of a million clients is asked for by page. Whoever has part of it keeps no more than what may stand on
 * this page or before it, and hands that on; who asks does the same with what all have handed on. So no list needs
 * memory for all of its rows.
 *
 * A row is a number and a name, by which it is sorted, and a text, which is what is shown (opaque here). Shape: a heap
 * with the last row on top. Pure. */
#ifndef TERN_BROKER_FLOW_ROWS_H
#define TERN_BROKER_FLOW_ROWS_H

#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/base/hash.h"
#include "proto/base/map.h"

#define ROWS_NODES 192u /* numbers of nodes that a row may come from */

struct row {
    uint64_t number;
    struct slice name, text;
    unsigned from; /* number of the node */
};

struct rows_order {
    uint32_t keep;   /* so many at most */
    bool by_number;  /* and by name where that is equal; false: by name alone */
    bool descending; /* of what comes first in the comparison; names of equal numbers rise */
    bool combine; /* rows of one name are one row: their numbers are added up, its text is the first one's. By name */
    const struct hash_key *key; /* with combine: clients choose the names */
};

/* A row that is kept. */
struct rows_kept {
    struct row row;                  /* its slices are in bytes */
    uint64_t nodes[ROWS_NODES / 64]; /* that it came from */
    uint32_t at;                     /* place in the heap */
    uint8_t bytes[];
};

struct rows {
    struct rows_order order;
    struct rows_kept **kept; /* owned; a heap until rows_sort */
    uint32_t count, cap;
    struct map by_name; /* with combine */
    bool has_lo, has_hi;
    struct row lo, hi; /* only what lies between counts to be kept, both included; borrowed */
};

void rows_init(struct rows *rows, const struct rows_order *order);
void rows_deinit(struct rows *rows);

/* Below, at or above zero: a stands before, at or behind b. */
int rows_compare(const struct rows_order *order, const struct row *a, const struct row *b);

/* Whether a row with this number and name would be kept now: who has to make a text asks first. */
bool rows_wants(const struct rows *rows, const struct row *row);

/* Keep it, if it is among the best; copied. Returns 0 or -ENOMEM. */
int rows_offer(struct rows *rows, const struct row *row);

/* In order from now on: kept[0] is the first. Nothing may be offered any more. */
void rows_sort(struct rows *rows);

/* In bytes, to another shard or node. */
void rows_write(struct buf *out, const struct row *row);
/* The next row, borrowed from bytes, which are consumed; -ENOENT: there is none; -EPROTO. */
int rows_read(struct slice *bytes, struct row *ret_row);

#endif
