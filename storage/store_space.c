/* store_space.c -- the disk before it is full: a reserve below which nothing new is taken, and a file of nothing that
 * is given up so that what frees space can still be committed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "proto/base/log.h"
#include "storage/store_inside.h"

#define RESERVE_MAX (64ull << 20)

static void ballast_path(const struct lmdb_store *s, char path[4096])
{
    snprintf(path, 4096, "%s/ballast", s->dir);
}

int space_reserve(struct lmdb_store *s, uint64_t wanted)
{
    struct statvfs fs;

    if (statvfs(s->dir, &fs) != 0) {
        return -1;
    }
    uint64_t part = (uint64_t)fs.f_blocks * fs.f_frsize / 50;
    s->reserve_bytes = wanted ? wanted : part < RESERVE_MAX ? part : RESERVE_MAX;
    s->ballast_bytes = s->reserve_bytes / 4;
    return 0;
}

static uint64_t bytes_left(const struct lmdb_store *s)
{
    struct statvfs fs;
    return statvfs(s->dir, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : UINT64_MAX;
}

bool space_is_out(struct lmdb_store *s, int error, size_t bytes)
{
    return error == ENOSPC || error == EDQUOT || (error == EIO && bytes_left(s) < 2 * bytes + (1u << 20));
}

void space_make_ballast(struct lmdb_store *s)
{
    char path[4096];

    ballast_path(s, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return;
    }
    s->ballast = fallocate(fd, 0, 0, (off_t)s->ballast_bytes) == 0;
    if (!s->ballast) { /* the file system cannot, or has no room */
        unlink(path);
    }
    close(fd);
}

void space_give_ballast(struct lmdb_store *s)
{
    char path[4096];

    if (s->ballast) {
        ballast_path(s, path);
        unlink(path);
        s->ballast = false;
    }
}

void space_look(struct lmdb_store *s)
{
    uint64_t left = bytes_left(s);
    enum store_status now = (enum store_status)atomic_load(&s->status);
    if (now == STORE_OPEN && left < s->reserve_bytes) {
        log_event(LOG_ERROR, "disk_full", {"store", LOG_STR(s->dir)}, {"left", LOG_INT(left)},
                  {"reserve", LOG_INT(s->reserve_bytes)}, {"refused", LOG_STR("what would make it grow")});
        set_status(s, STORE_FULL);
    } else if (now == STORE_FULL &&
               left > s->reserve_bytes + s->reserve_bytes / 2 + (s->ballast ? 0 : s->ballast_bytes)) {
        if (!s->ballast) {
            space_make_ballast(s);
        }
        log_event(LOG_WARN, "disk_has_room", {"store", LOG_STR(s->dir)}, {"left", LOG_INT(left)});
        set_status(s, STORE_OPEN);
    }
}
