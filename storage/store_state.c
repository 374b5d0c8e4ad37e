/* store_state.c -- the state: checkpoints in, rows out. */
#include <errno.h>
#include <stdlib.h>

#include "proto/base/log.h"
#include "storage/store_inside.h"

/* ---- tasks ---- */

void task_push(struct task_queue *queue, struct store_task *task)
{
    task->next = NULL;
    if (!queue->head) {
        queue->tail = &queue->head;
    }
    *queue->tail = task;
    queue->tail = &task->next;
}

struct store_task *task_pop(struct task_queue *queue)
{
    struct store_task *task = queue->head;

    if (task) {
        queue->head = task->next;
        task->next = NULL;
    }
    return task;
}

void state_submit(struct store *store, struct store_task *task)
{
    struct lmdb_store *s = lmdb_store_of(store);

    task->error = 0;
    pthread_mutex_lock(&s->lock);
    if (task->type == STORE_CHECKPOINT) {
        task_push(&s->checkpoints, task);
        pthread_cond_signal(&s->tasked);
    } else {
        task_push(&s->reads, task);
        pthread_cond_signal(&s->wanted);
    }
    pthread_mutex_unlock(&s->lock);
}

struct store_task *state_collect(struct store *store, unsigned owner)
{
    struct lmdb_store *s = lmdb_store_of(store);

    pthread_mutex_lock(&s->lock);
    struct store_task *tasks = s->finished[owner].head;
    s->finished[owner].head = NULL;
    pthread_mutex_unlock(&s->lock);
    return tasks;
}

static void finish(struct lmdb_store *s, struct store_task *task)
{
    unsigned owner = task->owner;

    pthread_mutex_lock(&s->lock);
    if (task->type == STORE_CHECKPOINT && task->error == 0 && task->lsn > s->floor[task->group]) {
        s->floor[task->group] = task->lsn;
    }
    task_push(&s->finished[owner], task);
    pthread_mutex_unlock(&s->lock);
    wake_owners(s, 1ull << owner);
}

/* ---- checkpoints ---- */

static int erase(struct lmdb_store *s, MDB_txn *txn, struct slice from, struct slice to)
{
    MDB_val end = {to.len, (void *)(uintptr_t)to.ptr}, k = {from.len, (void *)(uintptr_t)from.ptr}, v;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, s->state.dbi, &cursor);

    if (rc) {
        return rc;
    }
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && mdb_cmp(txn, s->state.dbi, &k, &end) < 0) {
        rc = mdb_cursor_del(cursor, 0);
        if (rc == 0) { /* does not pass over the one behind the deleted one */
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
        }
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int operate(struct lmdb_store *s, MDB_txn *txn, const struct store_task *task)
{
    struct store_operation op;
    int rc = 0;

    for (size_t at = 0; rc == 0 && store_task_next(task, &at, &op);) {
        MDB_val k = {op.key.len, (void *)(uintptr_t)op.key.ptr};
        switch (op.type) {
        case STORE_PUT:
            rc = table_put(s, &s->state, txn, op.key, op.value, 0);
            break;
        case STORE_DELETE:
            rc = mdb_del(txn, s->state.dbi, &k, NULL);
            rc = rc == MDB_NOTFOUND ? 0 : rc;
            break;
        case STORE_ERASE:
            rc = erase(s, txn, op.key, op.value);
            break;
        }
    }
    return rc;
}

static int checkpoint(struct lmdb_store *s, const struct store_task *task)
{
    MDB_txn *txn;
    int rc;
    bool committing = false;

    if (task->len == 0) {
        return 0;
    }
    if (table_make_room(s, &s->state, task->len) != 0) {
        return -EIO;
    }
    do {
        rc = mdb_txn_begin(s->state.env, NULL, 0, &txn);
        if (rc) {
            break;
        }
        rc = operate(s, txn, task);
        committing = rc == 0;
        if (rc) {
            mdb_txn_abort(txn);
        } else {
            rc = mdb_txn_commit(txn);
        }
    } while (rc == MDB_MAP_FULL && table_grow(s, &s->state) == 0);
    if (space_is_out(s, rc, task->len)) {
        table_give_back(&s->state);
        return -ENOSPC;
    }
    int error = table_error(s, &s->state, "checkpoint", rc);
    if (rc == MDB_PANIC || (committing && rc != 0 && rc != ENOMEM && rc != MDB_MAP_FULL)) {
        set_status(s, STORE_FAILED); /* what is on the disk is not known; and LMDB may not even read any more */
    }
    return error;
}

void *state_thread(void *arg)
{
    struct lmdb_store *s = arg;

    pthread_setname_np(pthread_self(), "tern-state");
    for (;;) {
        struct store_task *task;
        pthread_mutex_lock(&s->lock);
        while (!(task = task_pop(&s->checkpoints)) && !s->closing) {
            pthread_cond_wait(&s->tasked, &s->lock);
        }
        /* The state is never ahead of the log. */
        while (task && atomic_load(&s->durable) < task->lsn && atomic_load(&s->status) != STORE_FAILED && !s->closing) {
            pthread_cond_wait(&s->tasked, &s->lock);
        }
        pthread_mutex_unlock(&s->lock);
        if (!task) {
            return NULL;
        }
        task->error = atomic_load(&s->durable) < task->lsn ? -EIO : checkpoint(s, task);
        finish(s, task);
    }
}

/* ---- reading ---- */

static bool has_prefix(const MDB_val *k, struct slice prefix)
{
    return k->mv_size >= prefix.len && memcmp(k->mv_data, prefix.ptr, prefix.len) == 0;
}

/* Visit rows from a key on while they have the prefix. Returns LMDB's error, 0 at the end or when the visitor stopped.
 */
static int walk(struct lmdb_store *s, struct slice from, struct slice prefix, store_row_visitor *visit, void *arg,
                unsigned *ret_damaged)
{
    MDB_val k = {from.len, (void *)(uintptr_t)from.ptr}, v;
    MDB_txn *txn;
    MDB_cursor *cursor;
    int rc = mdb_txn_begin(s->state.env, NULL, MDB_RDONLY, &txn);

    *ret_damaged = 0;
    if (rc) {
        return rc;
    }
    rc = mdb_cursor_open(txn, s->state.dbi, &cursor);
    if (rc == 0) {
        rc = from.len ? mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) : mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
        for (; rc == 0 && has_prefix(&k, prefix); rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
            struct slice value;
            if (!table_check(s, &k, &v, &value)) {
                ++*ret_damaged;
                quarantine(s, &s->state, &k, &v);
            } else if (!visit(arg, slice_of(k.mv_data, k.mv_size), value)) {
                break;
            }
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int state_scan(struct store *store, struct slice prefix, store_row_visitor *visit, void *arg)
{
    struct lmdb_store *s = lmdb_store_of(store);
    unsigned damaged;

    return table_error(s, &s->state, "scan", walk(s, prefix, prefix, visit, arg, &damaged));
}

/* A row into the task, unless it is full. */
static bool take_row(void *arg, struct slice key, struct slice value)
{
    struct store_task *task = arg;

    if (task->len > 0 && task->len + value.len > task->max_bytes) {
        task->more = true;
        return false;
    }
    task->error = store_task_put(task, key, value);
    return task->error == 0;
}

int state_read(struct store *store, struct store_task *task)
{
    struct lmdb_store *s = lmdb_store_of(store);
    struct slice key = slice_of(task->key, task->key_len);
    unsigned damaged;

    task->more = false;
    task->error = 0;
    task->len = 0;
    pthread_rwlock_rdlock(&s->state.grow);
    int rc = walk(s, key, slice_of(task->key, task->prefix_len), take_row, task, &damaged);
    pthread_rwlock_unlock(&s->state.grow);
    if (rc) {
        task->error = table_error(s, &s->state, "read", rc);
    } else if (task->error == 0 && damaged > 0 && task->len == 0) {
        task->error = -EBADMSG;
    }
    return task->error;
}

void *read_thread(void *arg)
{
    struct lmdb_store *s = arg;

    pthread_setname_np(pthread_self(), "tern-read");
    for (;;) {
        struct store_task *task;
        pthread_mutex_lock(&s->lock);
        while (!(task = task_pop(&s->reads)) && !s->closing) {
            pthread_cond_wait(&s->wanted, &s->lock);
        }
        pthread_mutex_unlock(&s->lock);
        if (!task) {
            return NULL;
        }
        state_read(&s->store, task);
        finish(s, task);
    }
}

void state_delete_damaged(struct lmdb_store *s)
{
    MDB_txn *txn;

    if (!s->damaged || s->damaged->count == 0 || mdb_txn_begin(s->state.env, NULL, 0, &txn) != 0) {
        return;
    }
    for (unsigned i = 0; i < s->damaged->count; i++) {
        MDB_val k = {s->damaged->lens[i], s->damaged->keys[i]};
        mdb_del(txn, s->state.dbi, &k, NULL);
    }
    table_error(s, &s->state, "delete damaged rows", mdb_txn_commit(txn));
    s->damaged->count = 0;
}
