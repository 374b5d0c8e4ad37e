/* store_copy.c -- a copy of a store as it was at one moment, made beside a node that goes on writing. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "storage/store_inside.h"

#define TRIES 100u
#define COPY_STEP (16u << 20) /* bytes a transaction */

static int empty_dir(const char *dir, struct store_refusal *r)
{
    if (mkdir(dir, 0700) == 0) {
        return 0;
    }
    DIR *d = errno == EEXIST ? opendir(dir) : NULL;
    if (!d) {
        return refuse(r, -errno, "%s cannot be made: %s", dir, strerror(errno));
    }
    const struct dirent *e;
    int rc = 0;
    while (rc == 0 && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            rc = refuse(r, -ENOTEMPTY, "%s is not empty", dir);
        }
    }
    closedir(d);
    return rc;
}

/* Read transactions of both tables that belong together: no checkpoint has ended between them, and so nothing that the
 * one lacks was trimmed from the other. */
static int begin_both(struct lmdb_store *from, MDB_txn **ret_state, MDB_txn **ret_log)
{
    for (unsigned i = 0; i < TRIES; i++) {
        MDB_envinfo info;
        int rc = mdb_txn_begin(from->state.env, NULL, MDB_RDONLY, ret_state);
        if (rc) {
            return rc;
        }
        rc = mdb_txn_begin(from->log.env, NULL, MDB_RDONLY, ret_log);
        if (rc) {
            mdb_txn_abort(*ret_state);
            return rc;
        }
        mdb_env_info(from->state.env, &info);
        if (info.me_last_txnid == mdb_txn_id(*ret_state)) {
            return 0;
        }
        mdb_txn_abort(*ret_log);
        mdb_txn_abort(*ret_state);
    }
    return EBUSY;
}

static int copy_table(struct lmdb_store *to, struct table *out, MDB_txn *in, MDB_dbi in_dbi)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    MDB_txn *txn = NULL;
    size_t bytes = 0;
    int rc = mdb_cursor_open(in, in_dbi, &cursor);

    if (rc) {
        return rc;
    }
    while (rc == 0 && (rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
        if (!txn) {
            rc =
                table_make_room(to, out, COPY_STEP + v.mv_size) ? MDB_MAP_FULL : mdb_txn_begin(out->env, NULL, 0, &txn);
        }
        rc = rc ? rc : mdb_put(txn, out->dbi, &k, &v, MDB_APPEND);
        bytes += k.mv_size + v.mv_size;
        if (rc == 0 && bytes > COPY_STEP) {
            rc = mdb_txn_commit(txn);
            txn = NULL;
            bytes = 0;
        }
    }
    rc = rc == MDB_NOTFOUND ? 0 : rc;
    if (txn) {
        if (rc) {
            mdb_txn_abort(txn);
        } else {
            rc = mdb_txn_commit(txn);
        }
    }
    mdb_cursor_close(cursor);
    return rc;
}

static int copy_all(struct lmdb_store *from, struct lmdb_store *to, struct store_refusal *r)
{
    MDB_txn *state, *log;
    int rc = begin_both(from, &state, &log);

    if (rc) {
        return refuse(r, -EBUSY, "%s cannot be read: %s", from->dir, mdb_strerror(rc));
    }
    rc = copy_table(to, &to->state, state, from->state.dbi);
    rc = rc ? rc : copy_table(to, &to->log, log, from->log.dbi);
    mdb_txn_abort(log);
    mdb_txn_abort(state);
    return rc ? refuse(r, rc > 0 ? -rc : -EIO, "%s cannot be written: %s", to->dir, mdb_strerror(rc)) : 0;
}

int store_lmdb_copy(const char *from_dir, const char *to_dir, struct store_refusal *r)
{
    const struct store_config config = {.dir = to_dir};
    struct store *from, *to;
    int rc = store_lmdb_open_readonly(from_dir, &from, r);

    if (rc) {
        return rc;
    }
    struct store_identity identity = from->identity;
    rc = empty_dir(to_dir, r);
    rc = rc ? rc : store_lmdb_open(&config, &to, r);
    if (rc == 0) {
        rc = copy_all(lmdb_store_of(from), lmdb_store_of(to), r);
        rc = rc ? rc : identity_save(to_dir, &identity, r); /* last: without it the copy is none */
        space_give_ballast(lmdb_store_of(to));
        store_close(to);
    }
    store_close(from);
    return rc;
}
