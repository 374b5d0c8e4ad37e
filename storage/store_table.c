#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/log.h"
#include "storage/store_inside.h"

int table_error(const struct lmdb_store *s, const struct table *t, const char *doing, int rc)
{
    if (rc == 0) {
        return 0;
    }
    log_event(LOG_ERROR, "store_error", {"store", LOG_STR(s->dir)}, {"table", LOG_STR(t->name)},
              {"doing", LOG_STR(doing)}, {"error", LOG_STR(mdb_strerror(rc))});
    switch (rc) {
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
        return -EUCLEAN;
    case ENOMEM:
        return -ENOMEM;
    default:
        return rc > 0 ? -rc : -EIO;
    }
}

static sigjmp_buf not_there;

static void on_missing_page(int number)
{
    siglongjmp(not_there, number);
}

/* Whether the table of free pages (0, as in mdb_stat) has all of first..last. Not when it is itself not there. */
static bool free_has(MDB_txn *txn, uint64_t first, uint64_t last)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    uint64_t found = 0;

    if (mdb_cursor_open(txn, 0, &cursor) != 0) {
        return false;
    }
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        const size_t *pages = v.mv_data; /* how many, then their numbers */
        for (size_t i = 1; i <= pages[0] && i < v.mv_size / sizeof(*pages); i++) {
            found += pages[i] >= first && pages[i] <= last;
        }
    }
    mdb_cursor_close(cursor);
    return found == last - first + 1;
}

/* A transaction that takes pages at the end and gives them back never writes them: a file may well end before its last
 * page, when what is missing is free. Only while it is being opened, by one thread. */
static bool missing_is_free(const struct table *t, uint64_t first, uint64_t last)
{
    struct sigaction action = {.sa_handler = on_missing_page}, before;
    MDB_txn *txn;

    if (mdb_txn_begin(t->env, NULL, MDB_RDONLY, &txn) != 0) {
        return false;
    }
    sigaction(SIGBUS, &action, &before);
    bool all_free = sigsetjmp(not_there, 1) == 0 && free_has(txn, first, last);
    sigaction(SIGBUS, &before, NULL);
    mdb_txn_abort(txn);
    return all_free;
}

/* A file that ends before a page that is in use: LMDB would find out by a SIGBUS. */
static int check_length(const struct lmdb_store *s, const struct table *t)
{
    char path[4096];
    struct stat st;
    MDB_envinfo info;
    MDB_stat pages;

    snprintf(path, sizeof(path), "%s/%s/data.mdb", s->dir, t->name);
    if (stat(path, &st) != 0 || mdb_env_info(t->env, &info) != 0 || mdb_env_stat(t->env, &pages) != 0) {
        return 0;
    }
    uint64_t need = ((uint64_t)info.me_last_pgno + 1) * pages.ms_psize;
    if ((uint64_t)st.st_size < need && info.me_last_txnid > 0 &&
        !missing_is_free(t, (uint64_t)st.st_size / pages.ms_psize, info.me_last_pgno)) {
        log_event(LOG_ERROR, "store_error", {"file", LOG_STR(path)}, {"bytes", LOG_INT(st.st_size)},
                  {"needed", LOG_INT(need)}, {"error", LOG_STR("the file was cut short")});
        return -EUCLEAN;
    }
    return 0;
}

static int open_dbi(struct lmdb_store *s, struct table *t)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(t->env, NULL, s->readonly ? MDB_RDONLY : 0, &txn);

    if (rc == 0) {
        rc = mdb_dbi_open(txn, NULL, 0, &t->dbi);
        if (rc) {
            mdb_txn_abort(txn);
        } else {
            rc = mdb_txn_commit(txn);
        }
    }
    return rc;
}

int table_open(struct lmdb_store *s, struct table *t, const char *name, size_t map_bytes)
{
    char path[4096];
    int dead;

    t->name = name;
    snprintf(path, sizeof(path), "%s/%s", s->dir, name);
    if (!s->readonly && mkdir(path, 0700) != 0 && errno != EEXIST) {
        return -errno;
    }
    pthread_rwlock_init(&t->grow, NULL);
    int rc = mdb_env_create(&t->env);
    if (rc) {
        t->env = NULL;
        return table_error(s, t, "create", rc);
    }
    t->map_bytes = map_bytes;
    rc = mdb_env_set_mapsize(t->env, map_bytes);
    rc = rc ? rc : mdb_env_open(t->env, path, MDB_NOTLS | MDB_NORDAHEAD | (s->readonly ? MDB_RDONLY : 0), 0600);
    if (rc == 0) {
        MDB_envinfo info;
        mdb_env_info(t->env, &info);
        t->map_bytes = info.me_mapsize; /* LMDB takes the larger one of ours and the file's */
        mdb_reader_check(t->env, &dead);
        rc = check_length(s, t) ? MDB_CORRUPTED : open_dbi(s, t);
    }
    return table_error(s, t, "open", rc);
}

void table_close(struct table *t)
{
    if (t->env) {
        mdb_env_close(t->env);
        t->env = NULL;
        pthread_rwlock_destroy(&t->grow);
    }
}

int table_grow(struct lmdb_store *s, struct table *t)
{
    pthread_rwlock_wrlock(&t->grow);
    int rc = mdb_env_set_mapsize(t->env, t->map_bytes * 2);
    if (rc == 0) {
        t->map_bytes *= 2;
    }
    pthread_rwlock_unlock(&t->grow);
    return table_error(s, t, "grow the map", rc);
}

int table_make_room(struct lmdb_store *s, struct table *t, size_t bytes)
{
    MDB_envinfo info;
    MDB_stat pages;
    int rc = mdb_env_info(t->env, &info);

    rc = rc ? rc : mdb_env_stat(t->env, &pages);
    while (rc == 0 && (uint64_t)info.me_last_pgno * pages.ms_psize + 2 * (uint64_t)bytes > t->map_bytes / 10 * 7) {
        rc = table_grow(s, t);
    }
    return rc;
}

/* A commit that met a full disk has made the file longer and then not used it: nothing there is of any transaction, but
 * the other file may need the room. */
void table_give_back(struct table *t)
{
    MDB_envinfo info;
    MDB_stat pages;
    struct stat st;
    mdb_filehandle_t fd;
    MDB_txn *txn;

    if (mdb_txn_begin(t->env, NULL, MDB_RDONLY, &txn) != 0) {
        return; /* the meta page failed: which one is valid is not known */
    }
    mdb_txn_abort(txn);
    if (mdb_env_info(t->env, &info) != 0 || mdb_env_stat(t->env, &pages) != 0 || mdb_env_get_fd(t->env, &fd) != 0) {
        return;
    }
    uint64_t used = ((uint64_t)info.me_last_pgno + 1) * pages.ms_psize;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size > used && ftruncate(fd, (off_t)used) != 0) {
        log_event(LOG_WARN, "store_error", {"table", LOG_STR(t->name)}, {"error", LOG_STR(strerror(errno))},
                  {"while", LOG_STR("giving back what a commit did not use")});
    }
}

static uint64_t checksum(const struct lmdb_store *s, struct slice key, struct slice value)
{
    return hash_mix(hash_keyed(&s->store.identity.hash_key, key)) ^ hash_keyed(&s->store.identity.hash_key, value);
}

int table_put(const struct lmdb_store *s, struct table *t, MDB_txn *txn, struct slice key, struct slice value,
              unsigned flags)
{
    uint64_t sum = checksum(s, key, value);
    MDB_val k = {key.len, (void *)(uintptr_t)key.ptr}, v = {CHECKSUM_BYTES + value.len, NULL};
    int rc = mdb_put(txn, t->dbi, &k, &v, flags | MDB_RESERVE);

    if (rc == 0) {
        memcpy(v.mv_data, &sum, CHECKSUM_BYTES);
        if (value.len > 0) {
            memcpy((uint8_t *)v.mv_data + CHECKSUM_BYTES, value.ptr, value.len);
        }
    }
    return rc;
}

bool table_check(const struct lmdb_store *s, const MDB_val *key, const MDB_val *value, struct slice *ret_value)
{
    uint64_t sum;

    if (value->mv_size < CHECKSUM_BYTES) {
        return false;
    }
    memcpy(&sum, value->mv_data, CHECKSUM_BYTES);
    *ret_value = slice_of((uint8_t *)value->mv_data + CHECKSUM_BYTES, value->mv_size - CHECKSUM_BYTES);
    return sum == checksum(s, slice_of(key->mv_data, key->mv_size), *ret_value);
}

static void write_hex(FILE *out, const MDB_val *v)
{
    for (size_t i = 0; i < v->mv_size; i++) {
        fprintf(out, "%02x", ((const uint8_t *)v->mv_data)[i]);
    }
}

void quarantine(struct lmdb_store *s, const struct table *t, const MDB_val *key, const MDB_val *value)
{
    char path[4096];

    atomic_fetch_add(&s->damaged_count, 1);
    snprintf(path, sizeof(path), "%s/quarantine-%llu", s->dir, (unsigned long long)s->store.identity.boot);
    log_event(LOG_ERROR, "record_damaged", {"store", LOG_STR(s->dir)}, {"table", LOG_STR(t->name)},
              {"bytes", LOG_INT(value->mv_size)}, {"set_aside_in", LOG_STR(s->readonly ? "" : path)});
    FILE *out = s->readonly ? NULL : fopen(path, "ae");
    if (out) {
        fprintf(out, "{\"table\":\"%s\",\"key\":\"", t->name);
        write_hex(out, key);
        fputs("\",\"value\":\"", out);
        write_hex(out, value);
        fputs("\"}\n", out);
        fclose(out);
    }
    if (s->damaged && t == &s->state && s->damaged->count < 256 && key->mv_size <= STORE_KEY_MAX) {
        memcpy(s->damaged->keys[s->damaged->count], key->mv_data, key->mv_size);
        s->damaged->lens[s->damaged->count++] = (uint16_t)key->mv_size;
    }
}
