/* disk.h -- what may be on a disk when the power goes: made from a record (record.h) and luck.
 *
 * What was synced is there. Of the rest, file by file, anything: nothing, everything, what came first, or any of the
 * writes, whole or in pieces of 4 KiB or 512 bytes; a file may have grown though what made it grow is not there. Names
 * too are there only when their directory was synced; of later changes of one directory the first few are there, for
 * that is how journals keep them. What a write with O_DSYNC wrote is there once the call has returned.
 *
 * Goes only forward through a record: images are made in the order of their cuts. */
#ifndef TERN_TESTS_CRASH_DISK_H
#define TERN_TESTS_CRASH_DISK_H

#include "proto/base/prng.h"
#include "tests/crash/record.h"

struct disk;

struct disk *disk_new(const struct record *record); /* before its first event */
void disk_free(struct disk *disk);

/* Let the events before number `cut` happen. */
void disk_forward(struct disk *disk, size_t cut);

/* Write what is there after a power cut into the directory at path, which is made. false: errno says why. */
bool disk_write(const struct disk *disk, struct prng *luck, const char *path);

/* Whether the files below path are what the record says if nothing is lost. NULL, or the name of the first that is
 * not: the record has missed something then. The disk is at its end afterwards. */
const char *disk_differs(struct disk *disk, const char *path);

#endif
