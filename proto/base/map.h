/* map.h -- a table from 64-bit hashes to objects, open addressing with linear probing.
 *
 * Why: one small table for client ids, filters, topics and addresses. It stores hash and pointer
 * only; equality of hashes is settled by the caller's match function, for the key lives in the
 * object. Deletion shifts back, so there are no tombstones. Grows at 3/4, shrinks at 1/8.
 * Not safe for concurrent use. Iteration order is unspecified: decide nothing by it. */
#ifndef TERN_PROTO_BASE_MAP_H
#define TERN_PROTO_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot {
    uint64_t hash;
    void *value; /* NULL: free */
};

struct map {
    struct map_slot *slots; /* owned; NULL while the map is empty */
    uint32_t mask;          /* slots - 1 */
    uint32_t count;
};

typedef bool map_match(const void *value, const void *key);

/* The value whose hash is equal and for which match(value, key) holds, or NULL. */
void *map_find(const struct map *m, uint64_t hash, map_match *match, const void *key);

/* Add value, which must not be there yet. Returns 0 or -ENOMEM with nothing changed. */
int map_add(struct map *m, uint64_t hash, void *value);

/* Take out this very value. Returns whether it was there. Never fails for lack of memory. */
bool map_remove(struct map *m, uint64_t hash, const void *value);

/* Walk: for (size_t i = 0; (value = map_next(m, &i)) != NULL;). The map must not change. */
void *map_next(const struct map *m, size_t *index);

void map_deinit(struct map *m); /* frees the table, not the values */

#endif
