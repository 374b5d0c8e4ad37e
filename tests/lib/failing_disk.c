/* failing_disk.c -- a disk that fails when a test says so, under a broker that runs.
 *
 * Why: what a node does when a commit fails has to be seen on the whole program, with the real LMDB. Preloaded
 * (LD_PRELOAD). It knows the files of a store by their names below data/. The file named by FAILING_DISK is shared with
 * the test, eight bytes a field, little end first:
 *
 *     what      set by the test: which operations count, bits of enum operation
 *     fail_in   set by the test: 1 fails the next of them, n the n-th from now; counts down to 0, which is off
 *     lasting   set by the test: 0 fails one, 1 also all that follow, until fail_in is set to 0
 *     error     set by the test: the errno; 0: the write is cut short
 *     failed    how many have failed
 *     counted   how many there were of each operation, failed ones included
 *
 * Touched by: all threads of the broker and the test, at once. */
#undef _FORTIFY_SOURCE /* its headers define some of what is defined here */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 4096

enum operation {
    LOG_WRITE,
    LOG_SYNC,
    LOG_META,
    STATE_WRITE,
    STATE_SYNC,
    STATE_META,
    OTHER_WRITE,
    OTHER_SYNC,
    OPERATIONS
};

enum file { NONE, LOG_FILE, LOG_META_FILE, STATE_FILE, STATE_META_FILE, OTHER_FILE };

static const struct {
    enum operation write, sync;
} operations[] = {
    [LOG_FILE] = {LOG_WRITE, LOG_SYNC},       [LOG_META_FILE] = {LOG_META, LOG_SYNC},
    [STATE_FILE] = {STATE_WRITE, STATE_SYNC}, [STATE_META_FILE] = {STATE_META, STATE_SYNC},
    [OTHER_FILE] = {OTHER_WRITE, OTHER_SYNC},
};

static struct control {
    atomic_int_least64_t what, fail_in, lasting, error;
    atomic_uint_least64_t failed, counted[OPERATIONS];
} * control; /* NULL: nothing fails */

static atomic_uchar files[DESCRIPTORS]; /* enum file */

__attribute__((constructor)) static void control_open(void)
{
    const char *path = getenv("FAILING_DISK");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;

    if (fd >= 0) {
        void *at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        syscall(SYS_close, fd);
        control = at != MAP_FAILED ? at : NULL;
    }
}

static enum file file_of(const char *path, int flags)
{
    const char *data = strstr(path, "/data");

    if (!data || (data[5] != '/' && data[5] != '\0') || strstr(data, "lock.mdb")) {
        return NONE;
    }
    if (strcmp(data, "/data/log/data.mdb") == 0) {
        return flags & O_DSYNC ? LOG_META_FILE : LOG_FILE;
    }
    if (strcmp(data, "/data/state/data.mdb") == 0) {
        return flags & O_DSYNC ? STATE_META_FILE : STATE_FILE;
    }
    return OTHER_FILE;
}

static bool fails(enum operation operation)
{
    atomic_fetch_add(&control->counted[operation], 1);
    if (!(atomic_load(&control->what) >> operation & 1)) {
        return false;
    }
    int_least64_t left = atomic_load(&control->fail_in);
    while (left > 0) {
        int_least64_t next = left > 1 ? left - 1 : atomic_load(&control->lasting);
        if (atomic_compare_exchange_weak(&control->fail_in, &left, next)) {
            if (left == 1) {
                atomic_fetch_add(&control->failed, 1);
                errno = (int)atomic_load(&control->error);
            }
            return left == 1;
        }
    }
    return false;
}

static enum file file_at(int fd)
{
    return control && fd >= 0 && fd < DESCRIPTORS ? atomic_load(&files[fd]) : NONE;
}

static bool write_fails(int fd)
{
    enum file file = file_at(fd);
    return file != NONE && fails(operations[file].write);
}

/* What a write that has failed has done: nothing, or a part. */
static ssize_t part_of(int fd, const void *bytes, size_t size, off_t offset)
{
    return errno        ? -1
           : offset < 0 ? syscall(SYS_write, fd, bytes, size / 2)
                        : syscall(SYS_pwrite64, fd, bytes, size / 2, offset);
}

int open(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && fd < DESCRIPTORS) {
        atomic_store(&files[fd], file_of(path, flags));
    }
    return fd;
}

int close(int fd)
{
    if (fd >= 0 && fd < DESCRIPTORS) {
        atomic_store(&files[fd], NONE);
    }
    return (int)syscall(SYS_close, fd);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    return write_fails(fd) ? part_of(fd, bytes, size, -1) : syscall(SYS_write, fd, bytes, size);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    return write_fails(fd) ? part_of(fd, iov[0].iov_base, iov[0].iov_len, -1) : syscall(SYS_writev, fd, iov, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    return write_fails(fd) ? part_of(fd, bytes, size, offset) : syscall(SYS_pwrite64, fd, bytes, size, offset);
}

static int sync_file(long call, int fd)
{
    enum file file = file_at(fd);
    return file != NONE && fails(operations[file].sync) ? -1 : (int)syscall(call, fd);
}

int fdatasync(int fd)
{
    return sync_file(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return sync_file(SYS_fsync, fd);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) __attribute__((alias("pwrite")));
