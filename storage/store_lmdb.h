/* store_lmdb.h -- the store on LMDB: two environments in one directory.
 *
 *   data/LOCK            flock: one process at a time (closing a descriptor of LMDB's own file would drop its locks)
 *   data/identity        node id, hash key, format version, checksum; written once, renamed into place
 *   data/log/            environment: lsn (u64, big endian) -> checksum, batch        MDB_APPEND
 *   data/state/          environment: key -> checksum, value
 *   data/ballast         space kept back so that deletions can be committed when the disk is full
 *   data/quarantine-N    damaged records as they were found: one JSON line each
 *
 * Each value begins with a keyed checksum of key and value. Neither environment is ever opened with MDB_NOSYNC,
 * MDB_NOMETASYNC or MDB_WRITEMAP. The maps grow before they are full. */
#ifndef TERN_STORAGE_STORE_LMDB_H
#define TERN_STORAGE_STORE_LMDB_H

#include "storage/store.h"

#define STORE_FORMAT 1u

/* Exit status when a mapped file of the store cannot be read any more (SIGBUS; EX_IOERR). */
#define STORE_LOST_STATUS 74

struct store_config {
    const char *dir; /* made, one level deep, when it is not there */
    uint64_t
        reserve_bytes; /* STORE_FULL when the file system has less than this left; 0: 64 MiB or 2 % of it, the less */
    uint64_t log_map_bytes, state_map_bytes; /* size at the start, grown by doubling; 0: 1 GiB */
};

/* What kept a store from being opened, as the user is told. */
struct store_refusal {
    int error; /* negative errno: -EBUSY another process; -EPROTONOSUPPORT newer format; -EROFS, -EACCES, -ENOSPC;
                  -EUCLEAN damaged beyond use; ... */
    char sentence[400]; /* names the directory and what to do */
};

/* Open or make the store. The caller ends it with store_close. */
int store_lmdb_open(const struct store_config *config, struct store **ret_store, struct store_refusal *ret_refusal);

/* The same without its lock, for reading beside a running node: only scan, replay, read and close. */
int store_lmdb_open_readonly(const char *dir, struct store **ret_store, struct store_refusal *ret_refusal);

/* Damaged records that scan, replay and read have passed over since it was opened. */
uint64_t store_lmdb_damaged(struct store *store);

/* A consistent copy of a store, whether a node has it open or not, into an empty or missing directory. */
int store_lmdb_copy(const char *from, const char *to, struct store_refusal *ret_refusal);

#endif
