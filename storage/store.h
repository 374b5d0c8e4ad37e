/* store.h -- what a node keeps on disk: a log of what has changed, and the state that the log is folded into.
 *
 * Why two: a change must be on the medium before it is acknowledged, and an append with one sync for all that waits is
 * the cheapest way there (group commit). Finding a session again needs a table instead. So each change goes to the log
 * at once, and from time to time the objects that have changed are written to the state (a checkpoint), after which
 * their part of the log is trimmed. A message that is acknowledged between two checkpoints never reaches the state.
 *
 * A store is a table of functions, as the io door is, so that the simulator puts a model in its place
 * (tests/lib/mem_store). The real one is LMDB, in store_lmdb.h. To the store all records are opaque bytes.
 *
 *   shard --store_append--> queue --writer thread, one commit--> log      "durable up to N" -> wake(owner)
 *   shard --store_submit--> queue --state thread,  one commit--> state    task finished     -> wake(owner)
 *                                 --reading thread-------------> rows     task finished     -> wake(owner)
 *
 * Threads: store_append, store_submit and store_collect from any thread; store_scan, store_replay and store_read only
 * before store_start. Nothing here waits for the disk but these three, store_start and store_close. */
#ifndef TERN_STORAGE_STORE_H
#define TERN_STORAGE_STORE_H

#include <stdbool.h>

#include "proto/base/hash.h"
#include "proto/base/slice.h"

#define STORE_KEY_MAX 500u         /* bytes; LMDB's own limit is 511 */
#define STORE_BATCH_MAX (1u << 29) /* bytes of one batch. A shard ends one at 256 KiB, but a message may be larger */
#define STORE_GROUPS 128u

/* What belongs to this store and no other. Made with it, the same at each start; only `boot` grows. */
struct store_identity {
    uint8_t node_id[16];
    struct hash_key hash_key; /* of client ids and topics: which group they are in */
    uint64_t boot;            /* number of this start, from 1 */
};

/* One record of the log: what one turn of a shard has changed. Made by store_batch_new, handed over by store_append. */
struct store_batch {
    struct store_batch *next; /* the store's */
    uint64_t lsn;             /* log sequence number, from 1, without gaps; set by store_append */
    unsigned owner;           /* shard */
    uint32_t len, capacity;
    uint8_t bytes[];
};

struct store_batch *store_batch_new(unsigned owner, uint32_t capacity); /* NULL when memory is out; free with free() */

enum store_task_type {
    STORE_CHECKPOINT, /* write `bytes` (operations) as one transaction, then note that `group` is in the state up to
                         `lsn` */
    STORE_READ,       /* rows whose keys begin with key[0..prefix_len), from `key` on, into `bytes` */
};

/* Work for the state's or the reading thread. The caller owns it again when store_collect has returned it. */
struct store_task {
    struct store_task *next; /* the store's while it has the task */
    enum store_task_type type;
    unsigned owner; /* shard */
    int error;      /* 0; -ENOSPC; -EIO; -ENOMEM; -EBADMSG: a row that was to be read is damaged (and set aside) */

    /* CHECKPOINT: begun only when the log is durable up to lsn, so that the state is never ahead of it. Without
     * operations only the note is made; with lsn 0 none is, for rows of the node's own. READ: the rows found, each as a
     * put operation. */
    uint16_t group;
    uint64_t lsn;
    uint8_t *bytes; /* owned by the task: malloc */
    size_t len, capacity;

    /* READ: at least one row if there is one, then as many as fit into max_bytes. */
    uint16_t key_len, prefix_len;
    uint32_t max_bytes;
    bool more; /* out: further rows follow */
    uint8_t key[STORE_KEY_MAX];
};

/* Append an operation to a task's bytes. 0 or -ENOMEM with nothing changed. A delete of a row that is not there is
 * none. store_task_erase deletes all rows from <= key < to. */
int store_task_put(struct store_task *task, struct slice key, struct slice value);
int store_task_delete(struct store_task *task, struct slice key);
int store_task_erase(struct store_task *task, struct slice from, struct slice to);

enum store_operation_type { STORE_PUT, STORE_DELETE, STORE_ERASE };

struct store_operation {
    enum store_operation_type type;
    struct slice key;
    struct slice value; /* PUT: the value. ERASE: the key where it ends */
};

/* The next operation of a task's bytes from *io_at on; false at the end. Slices point into the task. */
bool store_task_next(const struct store_task *task, size_t *io_at, struct store_operation *ret_operation);

void store_task_deinit(struct store_task *task); /* frees bytes, not the task */

enum store_status {
    STORE_OPEN,
    STORE_FULL,   /* the reserve is reached: refuse what makes it grow. What makes it shrink is still taken */
    STORE_FAILED, /* a commit has failed, its outcome is not known: nothing becomes durable any more. End the process */
};

/* Return false to stop. The slices are valid during the call. */
typedef bool store_row_visitor(void *arg, struct slice key, struct slice value);
typedef bool store_batch_visitor(void *arg, uint64_t lsn, struct slice bytes);

/* Called on one of the store's threads: more has become durable and this shard has asked to be told (store_notify), or
 * a task of it is finished, or the status has changed. */
typedef void store_wake(void *arg, unsigned owner);

struct store;

struct store_operations {
    int (*scan)(struct store *store, struct slice prefix, store_row_visitor *visit, void *arg);
    int (*replay)(struct store *store, store_batch_visitor *visit, void *arg);
    int (*read)(struct store *store, struct store_task *task);
    int (*start)(struct store *store, unsigned owners, store_wake *wake, void *wake_arg);
    uint64_t (*append)(struct store *store, struct store_batch *batch);
    uint64_t (*durable)(struct store *store);
    void (*notify)(struct store *store, unsigned owner); /* NULL: it wakes everybody at each commit */
    void (*leave)(struct store *store, unsigned owner);  /* NULL: it has no threads */
    enum store_status (*status)(struct store *store);
    void (*submit)(struct store *store, struct store_task *task);
    struct store_task *(*collect)(struct store *store, unsigned owner);
    uint64_t (*log_bytes)(struct store *store);
    void (*close)(struct store *store);
};

struct store {
    const struct store_operations *operations;
    struct store_identity identity;
};

/* ---- before store_start ---- */

/* Visit the rows of the state whose keys begin with prefix, in the order of their keys. A damaged row is set aside in
 * the quarantine file, named in the system log, and passed over. Returns 0 or a negative errno. */
static inline int store_scan(struct store *s, struct slice prefix, store_row_visitor *visit, void *arg)
{
    return s->operations->scan(s, prefix, visit, arg);
}

/* Visit the batches of the log in order; damaged ones as above. */
static inline int store_replay(struct store *s, store_batch_visitor *visit, void *arg)
{
    return s->operations->replay(s, visit, arg);
}

/* A STORE_READ at once, on this thread. Returns task->error. */
static inline int store_read(struct store *s, struct store_task *task)
{
    return s->operations->read(s, task);
}

/* Start the threads. wake is called for owners below `owners`. Returns 0 or a negative errno. */
static inline int store_start(struct store *s, unsigned owners, store_wake *wake, void *wake_arg)
{
    return s->operations->start(s, owners, wake, wake_arg);
}

/* ---- from then on ---- */

/* Take over a batch and give it the next number. Never fails, never waits: what cannot be written is told by
 * store_status. Batches of one thread become durable in the order of their numbers, all batches do. */
static inline uint64_t store_append(struct store *s, struct store_batch *batch)
{
    return s->operations->append(s, batch);
}

/* All batches up to this number survive a power cut. One atomic load. */
static inline uint64_t store_durable(struct store *s)
{
    return s->operations->durable(s);
}

/* Wake this shard when the next commit is done. What has become durable before it asked it sees by store_durable. */
static inline void store_notify(struct store *s, unsigned owner)
{
    if (s->operations->notify) {
        s->operations->notify(s, owner);
    }
}

/* This shard ends: when this returns it is not being woken and will not be again. */
static inline void store_leave(struct store *s, unsigned owner)
{
    if (s->operations->leave) {
        s->operations->leave(s, owner);
    }
}

static inline enum store_status store_status(struct store *s)
{
    return s->operations->status(s);
}

static inline void store_submit(struct store *s, struct store_task *task)
{
    s->operations->submit(s, task);
}

/* The finished tasks of a shard, linked by next; NULL: none. */
static inline struct store_task *store_collect(struct store *s, unsigned owner)
{
    return s->operations->collect(s, owner);
}

/* Bytes of the batches in the log that no checkpoint has covered yet. */
static inline uint64_t store_log_bytes(struct store *s)
{
    return s->operations->log_bytes(s);
}

/* Commit what waits, finish the tasks, end the threads, free the store. Tasks not collected are freed with free(). */
static inline void store_close(struct store *s)
{
    s->operations->close(s);
}

#endif
