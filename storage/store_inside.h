/* store_inside.h -- the LMDB store's parts. Inside the room. */
#ifndef TERN_STORAGE_STORE_INSIDE_H
#define TERN_STORAGE_STORE_INSIDE_H

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "storage/store_lmdb.h"

#define OWNERS_MAX 64u
#define CHECKSUM_BYTES 8u

/* One LMDB environment with one table. */
struct table {
    MDB_env *env;
    MDB_dbi dbi;
    const char *name;      /* "log", "state" */
    size_t map_bytes;      /* as set; grown by the one thread that writes */
    pthread_rwlock_t grow; /* held for writing while the map is exchanged, for reading while this process reads */
};

struct task_queue {
    struct store_task *head, **tail;
};

struct lmdb_store {
    struct store store; /* first */
    char dir[4096 - 64];
    int lock_fd, quarantine_fd; /* -1: none */
    bool readonly, started, ballast;
    uint64_t reserve_bytes, ballast_bytes;
    struct table log, state;
    struct slice_list { /* keys of damaged rows, to be deleted when the threads start */
        uint8_t keys[256][STORE_KEY_MAX];
        uint16_t lens[256];
        unsigned count;
    } * damaged;

    unsigned owners;
    pthread_mutex_t waking; /* held while somebody is woken */
    uint64_t gone;          /* under it: bits of the owners that have left */
    store_wake *wake;
    void *wake_arg;
    pthread_t writer, checkpointer, reader;
    atomic_uint_least64_t durable, log_bytes;
    atomic_uint_least64_t notify;        /* bits of the shards to be woken at the next commit */
    atomic_int status;                   /* enum store_status */
    atomic_uint_least64_t damaged_count; /* records passed over */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t appended, tasked, wanted;
    struct store_batch *head, **tail;
    uint64_t next_lsn;
    struct task_queue checkpoints, reads, finished[OWNERS_MAX];
    uint64_t floor[STORE_GROUPS]; /* up to here a group is in the state */
    bool closing;
};

static inline struct lmdb_store *lmdb_store_of(struct store *store)
{
    return (struct lmdb_store *)store;
}

/* store_table.c: 0 or a negative errno; LMDB's own errors are logged and become -EIO, a damaged file -EUCLEAN. */
int table_error(const struct lmdb_store *s, const struct table *t, const char *doing, int mdb_error);
int table_open(struct lmdb_store *s, struct table *t, const char *name, size_t map_bytes);
void table_close(struct table *t);
int table_make_room(struct lmdb_store *s, struct table *t, size_t bytes); /* before a write transaction */
void table_give_back(struct table *t); /* behind one that found the disk full, on the thread that writes t */
int table_grow(struct lmdb_store *s, struct table *t); /* MDB_MAP_FULL */
int table_put(const struct lmdb_store *s, struct table *t, MDB_txn *txn, struct slice key, struct slice value,
              unsigned flags); /* returns LMDB's error */
/* The value behind its checksum; false: damaged. */
bool table_check(const struct lmdb_store *s, const MDB_val *key, const MDB_val *value, struct slice *ret_value);
void quarantine(struct lmdb_store *s, const struct table *t, const MDB_val *key, const MDB_val *value);

/* store_log.c */
void *log_thread(void *arg);
uint64_t log_append(struct store *store, struct store_batch *batch);
int log_replay(struct store *store, store_batch_visitor *visit, void *arg);
int log_last(struct lmdb_store *s, uint64_t *ret_lsn); /* before the start; 0: the log is empty */
void set_status(struct lmdb_store *s, enum store_status status);
void wake_owners(struct lmdb_store *s, uint64_t owners); /* bits */

/* store_space.c */
void space_make_ballast(struct lmdb_store *s);
void space_give_ballast(struct lmdb_store *s);
void space_look(struct lmdb_store *s);
int space_reserve(struct lmdb_store *s, uint64_t wanted);
/* Whether this error of a commit comes of a full disk: LMDB calls a write that was cut short EIO. Its pages are written
 * before the page that makes them valid, and so the transaction can be done again. */
bool space_is_out(struct lmdb_store *s, int error, size_t bytes);

/* store_state.c */
void *state_thread(void *arg);
void *read_thread(void *arg);
int state_scan(struct store *store, struct slice prefix, store_row_visitor *visit, void *arg);
int state_read(struct store *store, struct store_task *task);
void state_submit(struct store *store, struct store_task *task);
struct store_task *state_collect(struct store *store, unsigned owner);
void state_delete_damaged(struct lmdb_store *s);
void task_push(struct task_queue *queue, struct store_task *task);
struct store_task *task_pop(struct task_queue *queue);

/* store_identity.c: 0, -ENOENT, or an errno with the sentence set */
int identity_load(const char *dir, struct store_identity *ret_identity, struct store_refusal *ret_refusal);
int identity_save(const char *dir, const struct store_identity *identity, struct store_refusal *ret_refusal);
int directory_sync(const char *path); /* the names in it: 0 or a negative errno */
int refuse(struct store_refusal *refusal, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
