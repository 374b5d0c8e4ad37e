/* record.h -- everything that a store did to its files, and what it promised meanwhile, in one order.
 *
 * Why: what is on a disk after a power cut follows from the writes, the syncs that had returned, and luck. The record
 * has the first two; disk.h deals out the third. The functions by which LMDB and our storage room change files (pwrite,
 * writev, fdatasync, rename ...) are defined in this program and so stand in front of the C library's, for liblmdb.so
 * too. An operation is noted before it is done, its sync when it has returned, a promise after it was heard: a cut
 * between any two events is one that could have happened.
 *
 *   [NAME data/] [NAME log/] [NAME log/data.mdb] [WRITE 8192 @0] ... [WRITE] [WRITE] [SYNC log/data.mdb]
 *   [WRITE, O_DSYNC] [WRITTEN] [DURABLE up to 7] ...
 *
 * Touched by: all threads of the store and the one that drives it; under one lock. */
#ifndef TERN_TESTS_CRASH_RECORD_H
#define TERN_TESTS_CRASH_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_FILES 48u /* files and directories, numbered as they were made. 0 is none */
#define RECORD_ROOT 1u
#define RECORD_NAME 32u
#define RECORD_ENTRIES 16u /* names in one directory */

enum event_type {
    EVENT_WRITE,   /* file; offset; bytes; dsync: a WRITTEN follows */
    EVENT_WRITTEN, /* the write with number `about` is on the medium */
    EVENT_SIZE,    /* file; offset: its new size */
    EVENT_SYNC,    /* file or directory; what was noted before number `about` is on the medium */
    EVENT_NAME,    /* directory; about: the file; bytes: its name */
    EVENT_RENAME,  /* directory; about: the file; bytes: the old name, NUL, the new one */
    EVENT_UNLINK,  /* directory; bytes: the name */
    EVENT_OPENED,  /* the store is open. offset: its boot; about: a hash of its identity */
    EVENT_APPEND,  /* about: lsn; offset: what its content is made from; size */
    EVENT_DURABLE, /* about: lsn */
    EVENT_SUBMIT, /* file: group; about: number of its checkpoint; offset: lsn; hash: of all its rows when it is done */
    EVENT_FINISHED, /* file: group; about: number of its checkpoint */
};

struct event {
    enum event_type type;
    uint32_t file;
    uint64_t about, offset, hash;
    uint64_t at; /* where its bytes begin in record.bytes */
    uint32_t size;
    bool dsync;
};

struct record_file {
    bool directory;
    bool shared; /* lock.mdb: changed through a mapping, of no worth after a power cut */
};

struct record {
    struct event *events;
    size_t count, capacity;
    uint8_t *bytes;
    size_t len, bytes_capacity;
    struct record_file files[RECORD_FILES];
    uint32_t file_count;
};

/* The names of one directory at some moment. */
struct names {
    struct name {
        char name[RECORD_NAME];
        uint32_t file;
    } entries[RECORD_ENTRIES];
    unsigned count;
};

/* Do to the names what a NAME, RENAME or UNLINK says. */
void names_apply(struct names *names, const struct record *record, const struct event *event);

/* From here on note what happens below the directory root (which must be empty), into a record of its own; until
 * record_end, which returns it. The caller frees it. */
void record_begin(const char *root);
struct record *record_end(void);

/* Note a promise, or what is about to be asked of the store. Without effect outside of a record. */
void record_note(const struct event *note);

/* Keep a record in a file; read one. false: errno says why. */
bool record_save(const struct record *record, const char *path);
struct record *record_load(const char *path);
void record_free(struct record *record);

#endif
