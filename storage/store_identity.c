#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "storage/store_inside.h"

struct identity_file {
    char magic[8];
    uint32_t format, unused;
    struct store_identity identity;
    uint64_t checksum; /* of all before */
};

static const char magic[8] = "TERN-ST";

int refuse(struct store_refusal *r, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(r->sentence, sizeof(r->sentence), format, args);
    va_end(args);
    r->error = error;
    return error;
}

static uint64_t checksum(const struct identity_file *f)
{
    static const struct hash_key key = {0x7465726e, 0x73746f7265};
    return hash_keyed(&key, slice_of(f, offsetof(struct identity_file, checksum)));
}

int identity_load(const char *dir, struct store_identity *ret_identity, struct store_refusal *r)
{
    char path[4096];
    struct identity_file f;

    snprintf(path, sizeof(path), "%s/identity", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? -ENOENT : refuse(r, -errno, "%s cannot be read: %s", path, strerror(errno));
    }
    ssize_t n = read(fd, &f, sizeof(f));
    close(fd);
    if (n < (ssize_t)offsetof(struct identity_file, identity) || memcmp(f.magic, magic, sizeof(magic)) != 0) {
        return refuse(r, -EUCLEAN, "%s is not the identity of a Tern store, or is damaged: restore %s from a backup",
                      path, dir);
    }
    if (f.format > STORE_FORMAT) {
        return refuse(r, -EPROTONOSUPPORT,
                      "the store in %s has format %u, written by a later Tern: this one reads up to %u", dir, f.format,
                      STORE_FORMAT);
    }
    if (n != (ssize_t)sizeof(f) || f.checksum != checksum(&f)) {
        return refuse(r, -EUCLEAN, "%s is damaged: restore %s from a backup", path, dir);
    }
    *ret_identity = f.identity;
    return 0;
}

static int write_file(const char *path, const struct identity_file *f)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    ssize_t n = write(fd, f, sizeof(*f));
    int rc = n == (ssize_t)sizeof(*f) && fsync(fd) == 0 ? 0 : errno ? -errno : -EIO;
    close(fd);
    return rc;
}

int directory_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

int identity_save(const char *dir, const struct store_identity *identity, struct store_refusal *r)
{
    char path[4096], fresh[4096 + 8];
    struct identity_file f;

    memset(&f, 0, sizeof(f)); /* the padding is in the checksum */
    memcpy(f.magic, magic, sizeof(magic));
    f.format = STORE_FORMAT;
    f.identity = *identity;
    f.checksum = checksum(&f);
    snprintf(path, sizeof(path), "%s/identity", dir);
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    int rc = write_file(fresh, &f);
    if (rc == 0 && rename(fresh, path) != 0) {
        rc = -errno;
    }
    rc = rc ? rc : directory_sync(dir);
    return rc ? refuse(r, rc, "%s cannot be written: %s", path, strerror(-rc)) : 0;
}
