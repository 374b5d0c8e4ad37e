/* mem_store.h -- the store as a model in memory: one thread, stepped by hand, and a disk that fails when it is told to.
 *
 * Why: the broker's core can then be crashed between any two of its steps, with any part of what it has not yet been
 * told to be durable, some thousand times a second, and the same input gives the same history. It keeps the promises of
 * storage/store.h, and asserts what that demands of its caller; what a disk leaves to chance (when a commit is done,
 * how much of one is on the medium after a power cut, when it is full) the test decides.
 *
 *     mem_store_new --> mem_store_open --> recover, store_start, turns and mem_store_... steps --> store_close --+
 *                            ^                                              \--> mem_store_crash --> (free node) --+
 *                            +---------------------------- the medium is still there ------------------------------+
 *
 * After a crash the dead node may still be freed: what it hands over is dropped. Touched by: the test's thread. */
#ifndef TERN_TESTS_LIB_MEM_STORE_H
#define TERN_TESTS_LIB_MEM_STORE_H

#include "storage/store.h"

struct mem_store;

struct mem_store *mem_store_new(uint64_t seed); /* the same seed: the same identity. All memory must be there */
void mem_store_free(struct mem_store *m);

/* The next start of the node. Owned by m; store_close does not free it. */
struct store *mem_store_open(struct mem_store *m);

/* ---- steps; each returns whether anything was done ---- */

/* The writer: make up to so many waiting batches durable in one commit, and remove some of the log that the state has.
 */
bool mem_store_commit(struct mem_store *m, size_t batches_max);
/* The state's thread: finish its next checkpoint. Waits for the log as it must. */
bool mem_store_checkpoint(struct mem_store *m);
/* The reading thread: finish its next task. */
bool mem_store_read(struct mem_store *m);
/* All of them, until nothing is left that can be done. */
void mem_store_settle(struct mem_store *m);

/* ---- faults ---- */

/* The node is gone. Of the batches that were not yet told to be durable the first `keep` are found all the same. */
void mem_store_crash(struct mem_store *m, size_t keep);
size_t mem_store_waiting(const struct mem_store *m); /* batches not yet durable */

/* The next commit fails: STORE_FAILED. Until the crash nothing becomes durable any more. */
void mem_store_fail(struct mem_store *m);

enum mem_room {
    MEM_ROOM,    /* as it should be */
    MEM_RESERVE, /* STORE_FULL, but commits still find room */
    MEM_NO_ROOM, /* STORE_FULL: batches stay queued, checkpoints end with -ENOSPC */
};
void mem_store_set_room(struct mem_store *m, enum mem_room room);

/* Damage a durable batch, a row: the one at this index modulo their number. False: there is none. */
bool mem_store_damage_batch(struct mem_store *m, uint64_t index);
bool mem_store_damage_row(struct mem_store *m, uint64_t index);

/* ---- looking ---- */

struct mem_store_counts {
    uint64_t commits, batches, trimmed, checkpoints, reads, crashes, lost; /* lost: batches, in crashes */
    uint64_t quarantined; /* damaged rows and batches that were found */
};
const struct mem_store_counts *mem_store_counts(const struct mem_store *m);
const struct store_identity *mem_store_identity(const struct mem_store *m);
size_t mem_store_log_count(const struct mem_store *m); /* batches on the medium */
size_t mem_store_row_count(const struct mem_store *m);

#endif
