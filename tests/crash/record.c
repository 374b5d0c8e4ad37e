#undef _FORTIFY_SOURCE /* its headers define some of what is defined here */
#include "tests/crash/record.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct record *recording; /* NULL: nothing is noted */
static char root[256];
static struct names directories[RECORD_FILES];
static struct {
    uint32_t file; /* 0: not ours */
    bool dsync;
} descriptors[DESCRIPTORS];

/* Something happened that this record cannot tell: a test that goes on would be worth nothing. */
static void give_up(const char *what, const char *name)
{
    fprintf(stderr, "tern-crash: the record has no word for this: %s %s\n", what, name);
    abort();
}

/* ---- the record itself ---- */

static void *grown(void *old, size_t *io_capacity, size_t need, size_t item)
{
    if (need <= *io_capacity) {
        return old;
    }
    *io_capacity = need * 2;
    void *grown_to = realloc(old, *io_capacity * item);
    if (!grown_to) {
        give_up("no memory", "");
    }
    return grown_to;
}

static uint8_t *room(struct record *r, size_t size)
{
    r->bytes = grown(r->bytes, &r->bytes_capacity, r->len + size, 1);
    r->len += size;
    return r->bytes + r->len - size;
}

/* Under the lock. The event's bytes are the last event.size ones of the record. */
static size_t add(struct event event)
{
    struct record *r = recording;

    r->events = grown(r->events, &r->capacity, r->count + 1, sizeof(event));
    r->events[r->count] = event;
    return r->count++;
}

static size_t add_bytes(struct event event, const void *bytes, size_t size)
{
    event.at = recording->len;
    event.size = (uint32_t)size;
    memcpy(room(recording, size), bytes, size);
    return add(event);
}

void record_note(const struct event *note)
{
    pthread_mutex_lock(&lock);
    if (recording) {
        add(*note);
    }
    pthread_mutex_unlock(&lock);
}

void record_begin(const char *path)
{
    pthread_mutex_lock(&lock);
    recording = calloc(1, sizeof(*recording));
    if (!recording) {
        give_up("no memory", "");
    }
    snprintf(root, sizeof(root), "%s/", path);
    memset(directories, 0, sizeof(directories));
    memset(descriptors, 0, sizeof(descriptors));
    recording->files[RECORD_ROOT].directory = true;
    recording->file_count = RECORD_ROOT + 1;
    pthread_mutex_unlock(&lock);
}

struct record *record_end(void)
{
    pthread_mutex_lock(&lock);
    struct record *r = recording;
    recording = NULL;
    pthread_mutex_unlock(&lock);
    return r;
}

void record_free(struct record *r)
{
    if (r) {
        free(r->events);
        free(r->bytes);
        free(r);
    }
}

/* ---- in a file: the same build reads it that wrote it ---- */

bool record_save(const struct record *r, const char *path)
{
    FILE *out = fopen(path, "we");

    if (!out) {
        return false;
    }
    bool good = fwrite(r, sizeof(*r), 1, out) == 1 &&
                fwrite(r->events, sizeof(struct event), r->count, out) == r->count &&
                fwrite(r->bytes, 1, r->len, out) == r->len;
    return fclose(out) == 0 && good;
}

struct record *record_load(const char *path)
{
    FILE *in = fopen(path, "re");
    struct record *r = calloc(1, sizeof(*r));
    bool good = in && r && fread(r, sizeof(*r), 1, in) == 1;

    if (good) {
        r->events = calloc(r->count, sizeof(struct event));
        r->bytes = malloc(r->len + 1);
        good = r->events && r->bytes && fread(r->events, sizeof(struct event), r->count, in) == r->count &&
               fread(r->bytes, 1, r->len, in) == r->len;
    }
    if (in) {
        fclose(in);
    }
    if (!good) {
        free(r);
        return NULL;
    }
    return r;
}

/* ---- names ---- */

static struct name *name_find(struct names *names, const char *name)
{
    for (unsigned i = 0; i < names->count; i++) {
        if (strcmp(names->entries[i].name, name) == 0) {
            return &names->entries[i];
        }
    }
    return NULL;
}

static void name_remove(struct names *names, const char *name)
{
    struct name *found = name_find(names, name);

    if (found) {
        *found = names->entries[--names->count];
    }
}

static void name_set(struct names *names, const char *name, uint32_t file)
{
    name_remove(names, name);
    if (names->count == RECORD_ENTRIES || strlen(name) >= RECORD_NAME) {
        give_up("too many names, or too long", name);
    }
    struct name *fresh = &names->entries[names->count++];
    snprintf(fresh->name, sizeof(fresh->name), "%s", name);
    fresh->file = file;
}

void names_apply(struct names *names, const struct record *record, const struct event *event)
{
    const char *name = (const char *)record->bytes + event->at;

    if (event->type == EVENT_RENAME) {
        name_remove(names, name);
        name_set(names, name + strlen(name) + 1, (uint32_t)event->about);
    } else if (event->type == EVENT_NAME) {
        name_set(names, name, (uint32_t)event->about);
    } else {
        name_remove(names, name);
    }
}

/* The directory of a path below the root, and the path's last name. false: not ours. Under the lock. */
static bool look_up(const char *path, uint32_t *ret_directory, const char **ret_name)
{
    char part[RECORD_NAME];

    if (!recording || strncmp(path, root, strlen(root)) != 0) {
        return false;
    }
    *ret_directory = RECORD_ROOT;
    for (*ret_name = path + strlen(root);;) {
        const char *slash = strchr(*ret_name, '/');
        if (!slash) {
            return true;
        }
        snprintf(part, sizeof(part), "%.*s", (int)(slash - *ret_name), *ret_name);
        const struct name *found = name_find(&directories[*ret_directory], part);
        if (!found) {
            return false; /* the call will fail by itself */
        }
        *ret_directory = found->file;
        *ret_name = slash + 1;
    }
}

/* A new file or directory and its name. Under the lock. */
static uint32_t name_made(uint32_t directory, const char *name, bool is_directory)
{
    uint32_t file = recording->file_count++;

    if (file == RECORD_FILES) {
        give_up("too many files", name);
    }
    recording->files[file] = (struct record_file){is_directory, strcmp(name, "lock.mdb") == 0};
    add_bytes((struct event){.type = EVENT_NAME, .file = directory, .about = file}, name, strlen(name) + 1);
    name_set(&directories[directory], name, file);
    return file;
}

/* What a path is: 0 for nothing of ours. Made when `make` and it is not there. Under the lock. */
static uint32_t file_of_path(const char *path, bool make)
{
    uint32_t directory;
    const char *name;
    size_t len = strlen(path);

    if (len > 3 && strcmp(path + len - 3, "/..") == 0) { /* the directory that it is in */
        return look_up(strndupa(path, len - 3), &directory, &name) ? directory : 0;
    }
    if (!look_up(path, &directory, &name)) {
        return recording && strncmp(path, root, strlen(root) - 1) == 0 && path[strlen(root) - 1] == '\0' ? RECORD_ROOT
                                                                                                         : 0;
    }
    const struct name *found = name_find(&directories[directory], name);
    return found ? found->file : make ? name_made(directory, name, false) : 0;
}

static uint32_t file_of(int fd)
{
    return recording && fd >= 0 && fd < DESCRIPTORS ? descriptors[fd].file : 0;
}

/* ---- what stands in front of the C library ---- */

int open(const char *path, int flags, ...);
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int open(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    pthread_mutex_lock(&lock);
    uint32_t file = file_of_path(path, flags & O_CREAT);
    if (file && flags & O_TRUNC) {
        add((struct event){.type = EVENT_SIZE, .file = file});
    }
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && fd < DESCRIPTORS) {
        descriptors[fd].file = file;
        descriptors[fd].dsync = flags & O_DSYNC;
    } else if (file) {
        give_up("open", path);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

int close(int fd)
{
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < DESCRIPTORS) {
        descriptors[fd].file = 0;
    }
    int rc = (int)syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return rc;
}

/* The number of the write, and 1 more: 0 is none. */
static size_t write_noted(int fd, const struct iovec *iov, int count, off_t offset)
{
    size_t number = 0;

    pthread_mutex_lock(&lock);
    uint32_t file = file_of(fd);
    if (file) {
        struct event e = {.type = EVENT_WRITE, .file = file, .dsync = descriptors[fd].dsync, .at = recording->len};
        e.offset = (uint64_t)(offset >= 0 ? offset : syscall(SYS_lseek, fd, 0, SEEK_CUR));
        for (int i = 0; i < count; i++) {
            memcpy(room(recording, iov[i].iov_len), iov[i].iov_base, iov[i].iov_len);
            e.size += (uint32_t)iov[i].iov_len;
        }
        number = add(e) + 1;
    }
    pthread_mutex_unlock(&lock);
    return number;
}

static ssize_t write_done(size_t number, ssize_t written)
{
    if (number == 0) {
        return written;
    }
    pthread_mutex_lock(&lock);
    const struct event *e = &recording->events[number - 1];
    if (written != (ssize_t)e->size) {
        give_up("a write that failed, or was cut short", "");
    }
    if (e->dsync) {
        add((struct event){.type = EVENT_WRITTEN, .file = e->file, .about = number - 1});
    }
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    size_t number = write_noted(fd, &(struct iovec){(void *)(uintptr_t)bytes, size}, 1, -1);
    return write_done(number, syscall(SYS_write, fd, bytes, size));
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    size_t number = write_noted(fd, iov, count, -1);
    return write_done(number, syscall(SYS_writev, fd, iov, count));
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    size_t number = write_noted(fd, &(struct iovec){(void *)(uintptr_t)bytes, size}, 1, offset);
    return write_done(number, syscall(SYS_pwrite64, fd, bytes, size, offset));
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    size_t number = write_noted(fd, iov, count, offset);
    return write_done(number, syscall(SYS_pwritev, fd, iov, count, offset, 0));
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) __attribute__((alias("pwrite")));
ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset) __attribute__((alias("pwritev")));

static int sync_file(long call, int fd)
{
    pthread_mutex_lock(&lock);
    uint32_t file = file_of(fd);
    size_t before = recording ? recording->count : 0;
    pthread_mutex_unlock(&lock);
    int rc = (int)syscall(call, fd);
    if (file && rc == 0) {
        record_note(&(struct event){.type = EVENT_SYNC, .file = file, .about = before});
    }
    return rc;
}

int fdatasync(int fd)
{
    return sync_file(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return sync_file(SYS_fsync, fd);
}

/* Only a mapping that is written to needs it: the store promises to have none (MDB_WRITEMAP). */
int msync(void *at, size_t size, int flags)
{
    pthread_mutex_lock(&lock);
    if (recording) {
        give_up("msync", "");
    }
    pthread_mutex_unlock(&lock);
    return (int)syscall(SYS_msync, at, size, flags);
}

static void size_noted(int fd, uint64_t size)
{
    pthread_mutex_lock(&lock);
    uint32_t file = file_of(fd);
    if (file) {
        add((struct event){.type = EVENT_SIZE, .file = file, .offset = size});
    }
    pthread_mutex_unlock(&lock);
}

int ftruncate(int fd, off_t size)
{
    size_noted(fd, (uint64_t)size);
    return (int)syscall(SYS_ftruncate, fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    struct stat st;

    if (file_of(fd) && (mode != 0 || fstat(fd, &st) != 0)) {
        give_up("fallocate with a mode", "");
    }
    if (file_of(fd) && offset + size > st.st_size) {
        size_noted(fd, (uint64_t)(offset + size));
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

int ftruncate64(int fd, off64_t size) __attribute__((alias("ftruncate")));
int fallocate64(int fd, int mode, off64_t offset, off64_t size) __attribute__((alias("fallocate")));

int truncate(const char *path, off_t size)
{
    pthread_mutex_lock(&lock);
    uint32_t file = file_of_path(path, false);
    if (file) {
        add((struct event){.type = EVENT_SIZE, .file = file, .offset = (uint64_t)size});
    }
    pthread_mutex_unlock(&lock);
    return (int)syscall(SYS_truncate, path, size);
}

int mkdir(const char *path, mode_t mode)
{
    uint32_t directory;
    const char *name;

    pthread_mutex_lock(&lock);
    int rc = (int)syscall(SYS_mkdir, path, mode);
    if (rc == 0 && look_up(path, &directory, &name)) {
        name_made(directory, name, true);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

int unlink(const char *path)
{
    uint32_t directory;
    const char *name;

    pthread_mutex_lock(&lock);
    if (look_up(path, &directory, &name) && name_find(&directories[directory], name)) {
        add_bytes((struct event){.type = EVENT_UNLINK, .file = directory}, name, strlen(name) + 1);
        name_remove(&directories[directory], name);
    }
    pthread_mutex_unlock(&lock);
    return (int)syscall(SYS_unlink, path);
}

static void rename_noted(uint32_t directory, const char *from, const char *to)
{
    char both[2 * RECORD_NAME];
    const struct name *found = name_find(&directories[directory], from);

    if (!found) {
        return; /* the call will fail by itself */
    }
    uint32_t file = found->file;
    int size = snprintf(both, sizeof(both), "%s%c%s", from, 0, to) + 1;
    add_bytes((struct event){.type = EVENT_RENAME, .file = directory, .about = file}, both, (size_t)size);
    name_remove(&directories[directory], from);
    name_set(&directories[directory], to, file);
}

int rename(const char *from, const char *to)
{
    uint32_t directory, other;
    const char *name, *new_name;

    pthread_mutex_lock(&lock);
    if (look_up(from, &directory, &name)) {
        if (!look_up(to, &other, &new_name) || other != directory) {
            give_up("rename into another directory", to);
        }
        rename_noted(directory, name, new_name);
    }
    pthread_mutex_unlock(&lock);
    return (int)syscall(SYS_rename, from, to);
}
