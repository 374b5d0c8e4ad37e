/* store_log.c -- the log: batches in, one commit for all that waits, and what the state has is trimmed. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "proto/base/log.h"
#include "storage/store_inside.h"

#define COMMIT_BYTES (16u << 20) /* batches of one commit, about */
#define TRIM_STEP 4096u          /* records a commit */
#define PAUSE_MS 200u
#define SHORT_PAUSE_MS 5u /* memory comes back sooner than room on a disk */
#define LOOK_MS 20u       /* between two looks at the room that is left */

static void key_of(uint64_t lsn, uint8_t key[8])
{
    for (int i = 7; i >= 0; i--, lsn >>= 8) {
        key[i] = (uint8_t)lsn;
    }
}

static uint64_t lsn_of(const MDB_val *key)
{
    uint64_t lsn = 0;

    for (size_t i = 0; i < key->mv_size && i < 8; i++) {
        lsn = lsn << 8 | ((const uint8_t *)key->mv_data)[i];
    }
    return lsn;
}

/* ---- before the start ---- */

int log_last(struct lmdb_store *s, uint64_t *ret_lsn)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = mdb_txn_begin(s->log.env, NULL, MDB_RDONLY, &txn);

    *ret_lsn = 0;
    if (rc) {
        return table_error(s, &s->log, "look for the end", rc);
    }
    rc = mdb_cursor_open(txn, s->log.dbi, &cursor);
    if (rc == 0) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
        *ret_lsn = rc == 0 ? lsn_of(&k) : 0;
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? 0 : table_error(s, &s->log, "look for the end", rc);
}

int log_replay(struct store *store, store_batch_visitor *visit, void *arg)
{
    struct lmdb_store *s = lmdb_store_of(store);
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    uint64_t expected = 0;
    int rc = mdb_txn_begin(s->log.env, NULL, MDB_RDONLY, &txn);

    if (rc) {
        return table_error(s, &s->log, "replay", rc);
    }
    rc = mdb_cursor_open(txn, s->log.dbi, &cursor);
    if (rc == 0) {
        while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
            struct slice value;
            uint64_t lsn = lsn_of(&k);
            if (expected != 0 && lsn != expected) {
                log_event(LOG_ERROR, "log_gap", {"store", LOG_STR(s->dir)}, {"from", LOG_INT(expected)},
                          {"to", LOG_INT(lsn - 1)});
            }
            expected = lsn + 1;
            atomic_fetch_add(&s->log_bytes, v.mv_size);
            if (k.mv_size != 8 || !table_check(s, &k, &v, &value)) {
                quarantine(s, &s->log, &k, &v);
            } else if (!visit(arg, lsn, value)) {
                break;
            }
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? 0 : table_error(s, &s->log, "replay", rc);
}

/* ---- appending ---- */

uint64_t log_append(struct store *store, struct store_batch *batch)
{
    struct lmdb_store *s = lmdb_store_of(store);

    batch->next = NULL;
    pthread_mutex_lock(&s->lock);
    uint64_t lsn = batch->lsn = s->next_lsn++;
    bool first = s->head == NULL;
    *s->tail = batch;
    s->tail = &batch->next;
    if (first) {
        pthread_cond_signal(&s->appended);
    }
    pthread_mutex_unlock(&s->lock);
    return lsn;
}

void wake_owners(struct lmdb_store *s, uint64_t owners)
{
    pthread_mutex_lock(&s->waking);
    for (unsigned i = 0; i < s->owners; i++) {
        if ((owners & ~s->gone) >> i & 1) {
            s->wake(s->wake_arg, i);
        }
    }
    pthread_mutex_unlock(&s->waking);
}

void set_status(struct lmdb_store *s, enum store_status status)
{
    if (atomic_exchange(&s->status, (int)status) != (int)status) {
        pthread_mutex_lock(&s->lock);
        pthread_cond_broadcast(&s->tasked); /* a checkpoint may wait for a log that will not come */
        pthread_mutex_unlock(&s->lock);
        wake_owners(s, UINT64_MAX);
    }
}

/* ---- the writer ---- */

/* Up to here every group is in the state. */
static uint64_t trim_floor(struct lmdb_store *s)
{
    uint64_t least = UINT64_MAX;

    pthread_mutex_lock(&s->lock);
    for (unsigned g = 0; g < STORE_GROUPS; g++) {
        least = s->floor[g] < least ? s->floor[g] : least;
    }
    pthread_mutex_unlock(&s->lock);
    uint64_t durable = atomic_load(&s->durable);
    return least < durable ? least : durable;
}

/* Remove the oldest records up to floor, but never the last of all: it holds the number that the next start goes on
 * from. *ret_more: there are more. */
static int trim(struct lmdb_store *s, MDB_txn *txn, uint64_t floor, uint64_t *ret_bytes, bool *ret_more)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    unsigned steps = 0;
    int rc = mdb_cursor_open(txn, s->log.dbi, &cursor);

    *ret_bytes = 0;
    *ret_more = false;
    if (rc) {
        return rc;
    }
    while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST)) == 0 && lsn_of(&k) < floor) {
        if (steps++ == TRIM_STEP) {
            *ret_more = true;
            break;
        }
        *ret_bytes += v.mv_size;
        rc = mdb_cursor_del(cursor, 0);
        if (rc) {
            break;
        }
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int put_batches(struct lmdb_store *s, MDB_txn *txn, const struct store_batch *batch, uint64_t *ret_bytes)
{
    int rc = 0;

    *ret_bytes = 0;
    for (; batch && rc == 0; batch = batch->next) {
        uint8_t key[8];
        key_of(batch->lsn, key);
        rc = table_put(s, &s->log, txn, slice_of(key, 8), slice_of(batch->bytes, batch->len), MDB_APPEND);
        *ret_bytes += CHECKSUM_BYTES + batch->len;
    }
    return rc;
}

/* One commit of these batches, and of some trimming. Returns LMDB's error. */
static int commit(struct lmdb_store *s, const struct store_batch *batches, size_t bytes, bool *ret_more)
{
    uint64_t put = 0, trimmed = 0;
    MDB_txn *txn;
    int rc;

    if (table_make_room(s, &s->log, bytes) != 0) {
        return ENOMEM;
    }
    do {
        rc = mdb_txn_begin(s->log.env, NULL, 0, &txn);
        if (rc) {
            return rc;
        }
        rc = put_batches(s, txn, batches, &put);
        if (rc == 0) {
            rc = trim(s, txn, trim_floor(s), &trimmed, ret_more);
        }
        if (rc) {
            mdb_txn_abort(txn);
        } else {
            rc = mdb_txn_commit(txn);
        }
    } while (rc == MDB_MAP_FULL && table_grow(s, &s->log) == 0);
    if (rc == 0) {
        atomic_fetch_add(&s->log_bytes, put - trimmed);
    }
    return rc;
}

/* Take what waits, a commit's worth. Called with the lock. */
static struct store_batch *take(struct lmdb_store *s, size_t *ret_bytes)
{
    struct store_batch *first = s->head, **end = &s->head;

    for (*ret_bytes = 0; *end && *ret_bytes < COMMIT_BYTES; end = &(*end)->next) {
        *ret_bytes += (*end)->len;
    }
    s->head = *end;
    *end = NULL;
    if (!s->head) {
        s->tail = &s->head;
    }
    return first;
}

/* They are on the disk: free them, tell who waits. */
static void told(struct lmdb_store *s, struct store_batch *batch)
{
    while (batch) {
        struct store_batch *next = batch->next;
        if (!next) {
            atomic_store(&s->durable, batch->lsn);
        }
        free(batch);
        batch = next;
    }
    pthread_mutex_lock(&s->lock);
    pthread_cond_signal(&s->tasked);
    pthread_mutex_unlock(&s->lock);
    wake_owners(s, atomic_exchange(&s->notify, 0)); /* behind the store of durable: who asks later sees that */
}

static void pause_writer(unsigned ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000L};
    nanosleep(&t, NULL);
}

/* Whether the commit can be done again: nothing of it is valid yet. LMDB takes its memory before it writes. */
static bool again_later(struct lmdb_store *s, int rc, size_t bytes, bool first)
{
    if (rc == ENOMEM && !first) {
        return true;
    }
    if (rc == ENOMEM) {
        log_event(LOG_ERROR, "commit_delayed", {"store", LOG_STR(s->dir)}, {"reason", LOG_STR("no memory")});
        return true;
    }
    if (!space_is_out(s, rc, bytes)) {
        return false;
    }
    table_give_back(&s->log);
    space_give_ballast(s);
    if (atomic_load(&s->status) == STORE_OPEN) {
        log_event(LOG_ERROR, "disk_full", {"store", LOG_STR(s->dir)}, {"waiting", LOG_INT(bytes)},
                  {"refused", LOG_STR("what would make it grow")});
    }
    set_status(s, STORE_FULL);
    return true;
}

/* Until they are written, or nothing can be written any more, or the store is closed on a full disk. */
static void write_batches(struct lmdb_store *s, struct store_batch *batches, size_t bytes, bool *ret_more)
{
    int rc;
    bool later, first = true;

    while ((later = again_later(s, rc = commit(s, batches, bytes, ret_more), bytes, first))) {
        first = false;
        pthread_mutex_lock(&s->lock);
        bool closing = s->closing;
        pthread_mutex_unlock(&s->lock);
        if (closing) {
            break;
        }
        pause_writer(rc == ENOMEM ? SHORT_PAUSE_MS : PAUSE_MS);
    }
    if (rc == 0) {
        if (batches) {
            told(s, batches);
        }
        return;
    }
    if (!later) {
        table_error(s, &s->log, "commit", rc);
        set_status(s, STORE_FAILED);
    }
    while (batches) {
        struct store_batch *next = batches->next;
        free(batches);
        batches = next;
    }
}

/* Wait for batches, for trimming, or for the time to look at the disk. Called with the lock. */
static void wait_for_work(struct lmdb_store *s)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PAUSE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_cond_timedwait(&s->appended, &s->lock, &until);
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void *log_thread(void *arg)
{
    struct lmdb_store *s = arg;
    uint64_t trimmed = 0, looked_ms = 0;
    bool more = false;

    pthread_setname_np(pthread_self(), "tern-log");
    for (;;) {
        size_t bytes;
        if (now_ms() - looked_ms >= LOOK_MS && atomic_load(&s->status) != STORE_FAILED) {
            space_look(s);
            looked_ms = now_ms();
        }
        uint64_t floor = trim_floor(s);
        pthread_mutex_lock(&s->lock);
        if (!s->head && !s->closing && !more && floor == trimmed) {
            wait_for_work(s);
        }
        bool closing = s->closing && !s->head;
        struct store_batch *batches = take(s, &bytes);
        pthread_mutex_unlock(&s->lock);
        if (closing) {
            return NULL;
        }
        if (atomic_load(&s->status) == STORE_FAILED) {
            more = false;
            trimmed = floor;
            while (batches) {
                struct store_batch *next = batches->next;
                free(batches);
                batches = next;
            }
        } else if (batches || more || floor != trimmed) {
            more = false;
            trimmed = floor;
            write_batches(s, batches, bytes, &more);
        }
    }
}
