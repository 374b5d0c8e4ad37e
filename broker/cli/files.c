/* files.c -- reading files whole, and writing them so that they are there whole or not at all. */
#include "broker/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES 65536

static int read_all(int fd, size_t size_max, struct buf *out)
{
    for (;;) {
        size_t before = out->len;
        uint8_t *at = buf_extend(out, READ_BYTES);
        if (!at) {
            return -ENOMEM;
        }
        ssize_t got = read(fd, at, READ_BYTES);
        out->len = (uint32_t)(before + (got > 0 ? (size_t)got : 0));
        if (got < 0 && errno != EINTR) {
            return -errno;
        }
        if (got == 0 || out->len > size_max) {
            return got == 0 ? 0 : -EFBIG;
        }
    }
}

int cli_read_file(const char *path, size_t size_max, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    int rc = read_all(fd, size_max, out);
    close(fd);
    return rc;
}

static int write_all(int fd, struct slice text)
{
    while (text.len > 0) {
        ssize_t put = write(fd, text.ptr, text.len);
        if (put < 0 && errno != EINTR) {
            return -errno;
        }
        text = slice_drop(text, put > 0 ? (size_t)put : 0);
    }
    return 0;
}

/* The file with its contents, mode and owner, under a name of its own in the same folder. */
static int stage(struct cli_file *file)
{
    char *temporary;

    if (asprintf(&temporary, "%s.XXXXXX", file->path) < 0) {
        return -ENOMEM;
    }
    int fd = mkostemp(temporary, O_CLOEXEC); /* 0600 */
    if (fd < 0) {
        int rc = -errno;
        free(temporary);
        return rc;
    }
    file->temporary = temporary;
    int rc = write_all(fd, file->text);
    if (rc == 0 && file->owned && fchown(fd, file->owner, file->group) != 0) {
        rc = -errno;
    }
    if (rc == 0 && (fchmod(fd, file->mode) != 0 || fsync(fd) != 0)) {
        rc = -errno;
    }
    if (close(fd) != 0 && rc == 0) {
        rc = -errno;
    }
    return rc;
}

static int place(struct cli_file *file, bool replace)
{
    int rc = replace ? rename(file->temporary, file->path) : link(file->temporary, file->path);

    if (rc != 0) {
        return -errno;
    }
    file->placed = true;
    if (!replace) {
        unlink(file->temporary);
    }
    free(file->temporary);
    file->temporary = NULL;
    return 0;
}

/* The names themselves are durable only when their folder is. */
static int sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path + 1)) : strdup(".");

    if (!folder) {
        return -ENOMEM;
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    free(folder);
    if (fd < 0 || fsync(fd) != 0) {
        rc = -errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

int cli_write_files(struct cli_file *files, size_t count, bool replace, const struct cli_file **ret_failed)
{
    size_t i = 0;
    int rc = 0;

    for (; rc == 0 && i < count; i++) {
        rc = stage(&files[i]);
    }
    for (i = rc ? i : 0; rc == 0 && i < count; i++) {
        rc = place(&files[i], replace);
    }
    rc = rc ? rc : sync_folder(files[0].path);
    if (rc == 0) {
        return 0;
    }
    *ret_failed = &files[i - 1];
    for (i = 0; i < count; i++) {
        if (files[i].temporary) {
            unlink(files[i].temporary);
            free(files[i].temporary);
            files[i].temporary = NULL;
        } else if (files[i].placed && !replace) {
            unlink(files[i].path);
        }
    }
    return rc;
}
