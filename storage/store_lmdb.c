#include "storage/store_lmdb.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/log.h"
#include "storage/store_inside.h"

#define MAP_START (1ull << 30)

/* ---- a file of the store that is gone under our feet ---- */

static char guarded[4096];

/* A mapped page cannot be read: the file was cut short, or the disk fails. Only async-signal-safe calls. */
static void on_sigbus(int number)
{
    static const char before[] = "tern: a file in ", after[] = " was cut short or cannot be read: the node ends\n";

    (void)number;
    if (write(STDERR_FILENO, before, sizeof(before) - 1) < 0 || write(STDERR_FILENO, guarded, strlen(guarded)) < 0 ||
        write(STDERR_FILENO, after, sizeof(after) - 1) < 0) {
        _exit(STORE_LOST_STATUS);
    }
    _exit(STORE_LOST_STATUS);
}

static void guard(const struct lmdb_store *s)
{
    struct sigaction action = {.sa_handler = on_sigbus};

    snprintf(guarded, sizeof(guarded), "%s", s->dir);
    sigaction(SIGBUS, &action, NULL);
}

/* ---- running ---- */

static uint64_t durable(struct store *store)
{
    return atomic_load_explicit(&lmdb_store_of(store)->durable, memory_order_acquire);
}

static void notify(struct store *store, unsigned owner)
{
    atomic_fetch_or(&lmdb_store_of(store)->notify, 1ull << owner);
}

static void leave(struct store *store, unsigned owner)
{
    struct lmdb_store *s = lmdb_store_of(store);

    pthread_mutex_lock(&s->waking);
    s->gone |= 1ull << owner;
    pthread_mutex_unlock(&s->waking);
}

static enum store_status status(struct store *store)
{
    return (enum store_status)atomic_load_explicit(&lmdb_store_of(store)->status, memory_order_acquire);
}

static uint64_t log_bytes(struct store *store)
{
    return atomic_load(&lmdb_store_of(store)->log_bytes);
}

uint64_t store_lmdb_damaged(struct store *store)
{
    return atomic_load(&lmdb_store_of(store)->damaged_count);
}

static int start(struct store *store, unsigned owners, store_wake *wake, void *wake_arg)
{
    struct lmdb_store *s = lmdb_store_of(store);
    sigset_t all, before;

    if (s->readonly || owners > OWNERS_MAX) {
        return -EINVAL;
    }
    state_delete_damaged(s);
    s->owners = owners;
    s->wake = wake;
    s->wake_arg = wake_arg;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&s->writer, NULL, log_thread, s);
    if (rc == 0 && (rc = pthread_create(&s->checkpointer, NULL, state_thread, s)) == 0 &&
        (rc = pthread_create(&s->reader, NULL, read_thread, s)) == 0) {
        s->started = true;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc; /* after a failure the process ends: what was started ends with it */
}

static void free_tasks(struct task_queue *queue)
{
    struct store_task *task;

    while ((task = task_pop(queue)) != NULL) {
        store_task_deinit(task);
        free(task);
    }
}

static void end_threads(struct lmdb_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_broadcast(&s->appended);
    pthread_cond_broadcast(&s->tasked);
    pthread_cond_broadcast(&s->wanted);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->writer, NULL);
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->tasked);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->checkpointer, NULL);
    pthread_join(s->reader, NULL);
}

static void close_store(struct store *store)
{
    struct lmdb_store *s = lmdb_store_of(store);

    if (s->started) {
        end_threads(s);
    }
    free_tasks(&s->checkpoints);
    free_tasks(&s->reads);
    for (unsigned i = 0; i < OWNERS_MAX; i++) {
        free_tasks(&s->finished[i]);
    }
    while (s->head) { /* it was never started, or has failed */
        struct store_batch *next = s->head->next;
        free(s->head);
        s->head = next;
    }
    table_close(&s->log);
    table_close(&s->state);
    if (s->lock_fd >= 0) {
        close(s->lock_fd);
    }
    pthread_mutex_destroy(&s->waking);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->appended);
    pthread_cond_destroy(&s->tasked);
    pthread_cond_destroy(&s->wanted);
    free(s->damaged);
    free(s);
}

static const struct store_operations operations = {
    .scan = state_scan,
    .replay = log_replay,
    .read = state_read,
    .start = start,
    .append = log_append,
    .durable = durable,
    .notify = notify,
    .leave = leave,
    .status = status,
    .submit = state_submit,
    .collect = state_collect,
    .log_bytes = log_bytes,
    .close = close_store,
};

/* ---- opening ---- */

static int take_lock(struct lmdb_store *s, struct store_refusal *r)
{
    char path[4096];

    if (mkdir(s->dir, 0700) != 0 && errno != EEXIST) {
        return refuse(r, -errno, "the directory %s cannot be made: %s", s->dir, strerror(errno));
    }
    snprintf(path, sizeof(path), "%s/LOCK", s->dir);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) {
        return refuse(r, -errno, "the directory %s cannot be written: %s", s->dir, strerror(errno));
    }
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return refuse(r, -EBUSY, "another process uses the store in %s: one node, one directory", s->dir);
    }
    return 0;
}

static bool file_there(const struct lmdb_store *s, const char *name)
{
    char path[4096];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s/data.mdb", s->dir, name);
    return stat(path, &st) == 0 && st.st_size > 0;
}

/* Before there is an identity a file of LMDB's two first pages, or of a part of them, is what a power cut has left of
 * the very first start. Nothing was ever stored in it, and LMDB would refuse it. */
static void remove_unborn(const struct lmdb_store *s, const char *name)
{
    char path[4096];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s/data.mdb", s->dir, name);
    if (stat(path, &st) == 0 && st.st_size <= 2 * sysconf(_SC_PAGESIZE)) {
        unlink(path);
    }
}

/* The files of a store that is new, and their names: they survive a power cut before the identity says that they are
 * there. LMDB would sync them with their first commit, and the state has its first only at a checkpoint. */
static int sync_new(struct lmdb_store *s, struct store_refusal *r)
{
    static const char *const places[] = {"log", "state", ".."};
    char path[4096];
    int rc = mdb_env_sync(s->log.env, 1);

    rc = rc ? rc : mdb_env_sync(s->state.env, 1);
    rc = rc > 0 ? -rc : rc;
    for (size_t i = 0; i < COUNT_OF(places) && rc == 0; i++) {
        snprintf(path, sizeof(path), "%s/%s", s->dir, places[i]);
        rc = directory_sync(path);
    }
    return rc ? refuse(r, rc, "the store in %s cannot be written: %s", s->dir, strerror(-rc)) : 0;
}

static int open_tables(struct lmdb_store *s, const struct store_config *config, bool fresh, struct store_refusal *r)
{
    size_t log_map = config->log_map_bytes ? config->log_map_bytes : MAP_START;
    size_t state_map = config->state_map_bytes ? config->state_map_bytes : MAP_START;

    if (!fresh && (!file_there(s, "log") || !file_there(s, "state"))) {
        return refuse(r, -EUCLEAN, "the store in %s has lost its %s/data.mdb: restore it from a backup", s->dir,
                      file_there(s, "log") ? "state" : "log");
    }
    if (fresh) {
        remove_unborn(s, "log");
        remove_unborn(s, "state");
    }
    int rc = table_open(s, &s->log, "log", log_map);
    rc = rc ? rc : table_open(s, &s->state, "state", state_map);
    if (rc == -EUCLEAN) {
        return refuse(r, rc, "the store in %s is damaged (see the line before): restore it from a backup", s->dir);
    }
    return rc ? refuse(r, rc, "the store in %s cannot be opened: %s", s->dir, strerror(-rc)) : 0;
}

static struct lmdb_store *store_new(const char *dir)
{
    struct lmdb_store *s = calloc(1, sizeof(*s));

    if (s) {
        s->store.operations = &operations;
        snprintf(s->dir, sizeof(s->dir), "%s", dir);
        s->lock_fd = -1;
        s->tail = &s->head;
        pthread_mutex_init(&s->waking, NULL);
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->appended, NULL);
        pthread_cond_init(&s->tasked, NULL);
        pthread_cond_init(&s->wanted, NULL);
    }
    return s;
}

static int find_end(struct lmdb_store *s, struct store_refusal *r)
{
    uint64_t last;
    int rc = log_last(s, &last);

    if (rc) {
        return refuse(r, rc, "the log in %s cannot be read: %s", s->dir, strerror(-rc));
    }
    s->next_lsn = last + 1;
    atomic_store(&s->durable, last);
    return 0;
}

static int open_all(struct lmdb_store *s, const struct store_config *config, struct store_refusal *r)
{
    int rc = take_lock(s, r);
    if (rc) {
        return rc;
    }
    rc = identity_load(s->dir, &s->store.identity, r);
    bool fresh = rc == -ENOENT;
    if (fresh) {
        if (getrandom(s->store.identity.node_id, sizeof(s->store.identity.node_id), 0) < 0 ||
            getrandom(&s->store.identity.hash_key, sizeof(s->store.identity.hash_key), 0) < 0) {
            return refuse(r, -errno, "no randomness: %s", strerror(errno));
        }
    } else if (rc) {
        return rc;
    }
    rc = open_tables(s, config, fresh, r);
    rc = rc ? rc : find_end(s, r);
    if (rc == 0 && fresh && s->next_lsn > 1) {
        return refuse(r, -EUCLEAN, "%s/identity is missing beside a log that is not empty: restore %s from a backup",
                      s->dir, s->dir);
    }
    s->store.identity.boot++;
    if (rc == 0 && fresh) {
        rc = sync_new(s, r);
    }
    rc = rc ? rc : identity_save(s->dir, &s->store.identity, r);
    if (rc) {
        return rc;
    }
    if (space_reserve(s, config->reserve_bytes) != 0) {
        return refuse(r, -errno, "the file system of %s cannot be asked for its room: %s", s->dir, strerror(errno));
    }
    space_make_ballast(s);
    guard(s);
    return 0;
}

int store_lmdb_open(const struct store_config *config, struct store **ret_store, struct store_refusal *ret_refusal)
{
    struct lmdb_store *s = store_new(config->dir);

    *ret_refusal = (struct store_refusal){0};
    if (!s || !(s->damaged = calloc(1, sizeof(*s->damaged)))) {
        if (s) {
            close_store(&s->store);
        }
        return refuse(ret_refusal, -ENOMEM, "out of memory");
    }
    if (strlen(config->dir) >= sizeof(s->dir)) {
        close_store(&s->store);
        return refuse(ret_refusal, -ENAMETOOLONG, "the path of the data directory is too long");
    }
    int rc = open_all(s, config, ret_refusal);
    if (rc) {
        close_store(&s->store);
        return rc;
    }
    *ret_store = &s->store;
    return 0;
}

int store_lmdb_open_readonly(const char *dir, struct store **ret_store, struct store_refusal *ret_refusal)
{
    const struct store_config config = {.dir = dir};
    struct lmdb_store *s = store_new(dir);

    *ret_refusal = (struct store_refusal){0};
    if (!s) {
        return refuse(ret_refusal, -ENOMEM, "out of memory");
    }
    s->readonly = true;
    int rc = identity_load(dir, &s->store.identity, ret_refusal);
    if (rc == -ENOENT) {
        rc = refuse(ret_refusal, rc, "there is no store in %s", dir);
    }
    rc = rc ? rc : open_tables(s, &config, false, ret_refusal);
    rc = rc ? rc : find_end(s, ret_refusal);
    if (rc) {
        close_store(&s->store);
        return rc;
    }
    *ret_store = &s->store;
    return 0;
}
