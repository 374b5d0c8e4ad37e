#include "tests/lib/mem_store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/base/prng.h"
#include "tests/lib/mem_rows.h"

#define TRIM_MAX 16u /* batches removed in one commit: the log is often longer than it need be */
#define OWNERS_MAX 64u

enum phase {
    CLOSED, /* nobody has it open */
    OPENED, /* it may be read: recovery */
    STARTED,
    CRASHED, /* its user is dead and being freed */
};

struct entry {
    struct store_batch *batch; /* owned */
    bool damaged;
};

struct tasks {
    struct store_task *head, *tail; /* linked by next; owned */
};

struct mem_store {
    struct store store;
    enum phase phase;

    /* What a power cut leaves, but for the batches behind `durable`. */
    struct mem_rows rows;
    struct entry *log; /* owned; the first has first_lsn, and so on without gaps */
    size_t count, cap;
    uint64_t first_lsn, durable;

    enum store_status status;
    enum mem_room room;
    bool fail_next;
    uint64_t floor[STORE_GROUPS]; /* of this start */
    uint64_t log_bytes;           /* of batches above the least floor */
    struct tasks checkpoints, reads, finished[OWNERS_MAX];
    unsigned owners;
    store_wake *wake;
    void *wake_arg;
    struct mem_store_counts counts;
};

static struct mem_store *model_of(struct store *store)
{
    return (struct mem_store *)((uint8_t *)store - offsetof(struct mem_store, store));
}

/* ---- lists of tasks ---- */

static void push(struct tasks *list, struct store_task *task)
{
    task->next = NULL;
    if (list->tail) {
        list->tail->next = task;
    } else {
        list->head = task;
    }
    list->tail = task;
}

static struct store_task *pop(struct tasks *list)
{
    struct store_task *task = list->head;

    if (task) {
        list->head = task->next;
        list->tail = list->head ? list->tail : NULL;
        task->next = NULL;
    }
    return task;
}

static void free_tasks(struct tasks *list)
{
    struct store_task *task;

    while ((task = pop(list)) != NULL) {
        store_task_deinit(task);
        free(task);
    }
}

static void free_all_tasks(struct mem_store *m)
{
    free_tasks(&m->checkpoints);
    free_tasks(&m->reads);
    for (unsigned i = 0; i < OWNERS_MAX; i++) {
        free_tasks(&m->finished[i]);
    }
}

static void finish(struct mem_store *m, struct store_task *task, int error)
{
    task->error = error;
    push(&m->finished[task->owner], task);
    m->wake(m->wake_arg, task->owner);
}

/* ---- the log ---- */

static uint64_t last_lsn(const struct mem_store *m)
{
    return m->first_lsn + m->count - 1;
}

static uint64_t least_floor(const struct mem_store *m)
{
    uint64_t least = UINT64_MAX;

    for (unsigned g = 0; g < STORE_GROUPS; g++) {
        least = m->floor[g] < least ? m->floor[g] : least;
    }
    return least;
}

static void count_log_bytes(struct mem_store *m)
{
    uint64_t floor = least_floor(m);

    m->log_bytes = 0;
    for (size_t i = 0; i < m->count; i++) {
        m->log_bytes += m->log[i].batch->lsn > floor ? m->log[i].batch->len : 0;
    }
}

static bool trim(struct mem_store *m)
{
    uint64_t floor = least_floor(m);
    size_t n = 0;

    assert(floor <= m->durable);
    while (n < TRIM_MAX && n < m->count && m->log[n].batch->lsn <= floor) {
        free(m->log[n++].batch);
    }
    m->count -= n;
    m->first_lsn += n;
    m->counts.trimmed += n;
    if (n > 0) {
        memmove(m->log, m->log + n, m->count * sizeof(*m->log));
    }
    return n > 0;
}

static void wake_all(struct mem_store *m)
{
    for (unsigned i = 0; i < m->owners; i++) {
        m->wake(m->wake_arg, i);
    }
}

static void set_status(struct mem_store *m, enum store_status status)
{
    if (m->status != status && m->status != STORE_FAILED) {
        m->status = status;
        wake_all(m);
    }
}

bool mem_store_commit(struct mem_store *m, size_t batches_max)
{
    size_t waiting = mem_store_waiting(m), n = waiting < batches_max ? waiting : batches_max;
    uint64_t woken = 0;

    if (m->phase != STARTED || m->status == STORE_FAILED || m->room == MEM_NO_ROOM) {
        return false;
    }
    if (n == 0) {
        return trim(m);
    }
    if (m->fail_next) {
        m->fail_next = false;
        set_status(m, STORE_FAILED);
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        m->durable++;
        woken |= UINT64_C(1) << m->log[m->durable - m->first_lsn].batch->owner;
    }
    m->counts.commits++;
    m->counts.batches += n;
    trim(m);
    for (; woken; woken &= woken - 1) {
        m->wake(m->wake_arg, (unsigned)__builtin_ctzll(woken));
    }
    return true;
}

/* ---- the state ---- */

static void apply(struct mem_store *m, const struct store_task *task)
{
    struct store_operation op;
    size_t at = 0;

    while (store_task_next(task, &at, &op)) {
        assert(op.key.len > 0 && op.key.len <= STORE_KEY_MAX);
        switch (op.type) {
        case STORE_PUT:
            mem_rows_put(&m->rows, op.key, op.value);
            break;
        case STORE_DELETE:
            mem_rows_delete(&m->rows, op.key);
            break;
        case STORE_ERASE:
            assert(op.value.len > 0 && op.value.len <= STORE_KEY_MAX);
            mem_rows_erase(&m->rows, op.key, op.value);
            break;
        }
    }
    assert(at == task->len);
}

bool mem_store_checkpoint(struct mem_store *m)
{
    struct store_task *task = m->checkpoints.head;

    if (!task) {
        return false;
    }
    if (m->status == STORE_FAILED || m->room == MEM_NO_ROOM) {
        finish(m, pop(&m->checkpoints), m->status == STORE_FAILED ? -EIO : -ENOSPC);
        return true;
    }
    if (m->durable < task->lsn) { /* or the state would be ahead of the log */
        return false;
    }
    assert(task->lsn == 0 || task->lsn >= m->floor[task->group]);
    apply(m, task);
    m->floor[task->group] = task->lsn ? task->lsn : m->floor[task->group];
    m->counts.checkpoints++;
    count_log_bytes(m);
    finish(m, pop(&m->checkpoints), 0);
    return true;
}

static bool has_prefix(struct slice key, struct slice prefix)
{
    return key.len >= prefix.len && memcmp(key.ptr, prefix.ptr, prefix.len) == 0;
}

/* The row at index, or the first behind it that is not damaged; NULL: none with this prefix. Damaged ones leave. */
static const struct mem_row *sound_row(struct mem_store *m, size_t index, struct slice prefix, bool *io_damaged)
{
    while (index < m->rows.count && has_prefix(m->rows.row[index].key, prefix)) {
        if (!m->rows.row[index].damaged) {
            return &m->rows.row[index];
        }
        mem_rows_remove(&m->rows, index);
        m->counts.quarantined++;
        *io_damaged = true;
    }
    return NULL;
}

static int read_rows(struct mem_store *m, struct store_task *task)
{
    struct slice prefix = slice_of(task->key, task->prefix_len);
    size_t at = mem_rows_find(&m->rows, slice_of(task->key, task->key_len));
    bool damaged = false;
    const struct mem_row *row;
    unsigned found = 0;

    assert(task->type == STORE_READ && task->prefix_len <= task->key_len && task->key_len <= STORE_KEY_MAX);
    task->len = 0;
    task->more = false;
    while ((row = sound_row(m, at, prefix, &damaged)) != NULL) {
        size_t before = task->len;
        if (store_task_put(task, row->key, row->value) != 0) {
            return -ENOMEM;
        }
        if (found > 0 && task->len > task->max_bytes) {
            task->len = before;
            task->more = true;
            break;
        }
        found++;
        at++;
    }
    m->counts.reads++;
    return damaged && found == 0 ? -EBADMSG : 0;
}

bool mem_store_read(struct mem_store *m)
{
    struct store_task *task = pop(&m->reads);

    if (task) {
        finish(m, task, read_rows(m, task));
    }
    return task != NULL;
}

void mem_store_settle(struct mem_store *m)
{
    while (mem_store_commit(m, SIZE_MAX) || mem_store_checkpoint(m) || mem_store_read(m)) {
    }
}

/* ---- storage/store.h ---- */

static int model_scan(struct store *store, struct slice prefix, store_row_visitor *visit, void *arg)
{
    struct mem_store *m = model_of(store);
    size_t at = mem_rows_find(&m->rows, prefix);
    bool damaged = false;
    const struct mem_row *row;

    assert(m->phase == OPENED);
    while ((row = sound_row(m, at++, prefix, &damaged)) != NULL && visit(arg, row->key, row->value)) {
    }
    return 0;
}

static int model_replay(struct store *store, store_batch_visitor *visit, void *arg)
{
    struct mem_store *m = model_of(store);

    assert(m->phase == OPENED);
    for (size_t i = 0; i < m->count; i++) {
        const struct store_batch *batch = m->log[i].batch;
        if (m->log[i].damaged) {
            m->counts.quarantined++;
        } else if (!visit(arg, batch->lsn, slice_of(batch->bytes, batch->len))) {
            break;
        }
    }
    return 0;
}

static int model_read(struct store *store, struct store_task *task)
{
    struct mem_store *m = model_of(store);

    assert(m->phase == OPENED);
    task->error = read_rows(m, task);
    return task->error;
}

static int model_start(struct store *store, unsigned owners, store_wake *wake, void *wake_arg)
{
    struct mem_store *m = model_of(store);

    assert(m->phase == OPENED && wake && owners > 0 && owners <= OWNERS_MAX);
    m->phase = STARTED;
    m->owners = owners;
    m->wake = wake;
    m->wake_arg = wake_arg;
    return 0;
}

static uint64_t model_append(struct store *store, struct store_batch *batch)
{
    struct mem_store *m = model_of(store);

    if (m->phase == CRASHED) {
        free(batch);
        return last_lsn(m) + 1;
    }
    assert(m->phase == STARTED && batch->owner < m->owners);
    assert(batch->len > 0 && batch->len <= batch->capacity && batch->len <= STORE_BATCH_MAX);
    if (m->count == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 256;
        m->log = realloc(m->log, m->cap * sizeof(*m->log));
        assert(m->log);
    }
    batch->next = NULL;
    batch->lsn = last_lsn(m) + 1;
    m->log[m->count++] = (struct entry){.batch = batch};
    m->log_bytes += batch->len;
    return batch->lsn;
}

static uint64_t model_durable(struct store *store)
{
    return model_of(store)->durable;
}

static enum store_status model_status(struct store *store)
{
    return model_of(store)->status;
}

static void model_submit(struct store *store, struct store_task *task)
{
    struct mem_store *m = model_of(store);

    if (m->phase == CRASHED) {
        store_task_deinit(task);
        free(task);
        return;
    }
    assert(m->phase == STARTED && task->owner < m->owners);
    if (task->type == STORE_READ) {
        push(&m->reads, task);
        return;
    }
    assert(task->type == STORE_CHECKPOINT && task->group < STORE_GROUPS);
    assert(task->lsn <= last_lsn(m)); /* it was appended before */
    push(&m->checkpoints, task);
}

static struct store_task *model_collect(struct store *store, unsigned owner)
{
    struct mem_store *m = model_of(store);
    struct store_task *tasks = m->finished[owner].head;

    assert(m->phase != CRASHED || !tasks);
    m->finished[owner] = (struct tasks){0};
    return tasks;
}

static uint64_t model_log_bytes(struct store *store)
{
    return model_of(store)->log_bytes;
}

static void model_close(struct store *store)
{
    struct mem_store *m = model_of(store);
    bool unwritten = m->status == STORE_FAILED || m->room == MEM_NO_ROOM;

    if (m->phase == CRASHED) {
        return;
    }
    assert(m->phase == OPENED || m->phase == STARTED);
    mem_store_settle(m);
    assert(unwritten || m->status == STORE_FAILED || mem_store_waiting(m) == 0);
    mem_store_crash(m, 0); /* what is still in memory goes */
    m->counts.crashes--;
    m->phase = CLOSED;
}

static const struct store_operations model_operations = {
    .scan = model_scan,
    .replay = model_replay,
    .read = model_read,
    .start = model_start,
    .append = model_append,
    .durable = model_durable,
    .status = model_status,
    .submit = model_submit,
    .collect = model_collect,
    .log_bytes = model_log_bytes,
    .close = model_close,
};

/* ---- lives ---- */

struct mem_store *mem_store_new(uint64_t seed)
{
    struct mem_store *m = calloc(1, sizeof(*m));
    struct prng prng;

    assert(m);
    prng_seed(&prng, seed);
    m->store.operations = &model_operations;
    for (unsigned i = 0; i < sizeof(m->store.identity.node_id); i++) {
        m->store.identity.node_id[i] = (uint8_t)prng_next(&prng);
    }
    m->store.identity.hash_key = (struct hash_key){prng_next(&prng), prng_next(&prng)};
    m->first_lsn = 1;
    return m;
}

static void drop_log(struct mem_store *m, size_t keep)
{
    while (m->count > keep) {
        free(m->log[--m->count].batch);
    }
}

void mem_store_free(struct mem_store *m)
{
    if (!m) {
        return;
    }
    free_all_tasks(m);
    drop_log(m, 0);
    free(m->log);
    mem_rows_deinit(&m->rows);
    free(m);
}

struct store *mem_store_open(struct mem_store *m)
{
    assert(m->phase == CLOSED || m->phase == CRASHED);
    m->phase = OPENED;
    m->store.identity.boot++;
    m->status = m->room == MEM_ROOM ? STORE_OPEN : STORE_FULL;
    memset(m->floor, 0, sizeof(m->floor));
    count_log_bytes(m);
    return &m->store;
}

void mem_store_crash(struct mem_store *m, size_t keep)
{
    size_t waiting = mem_store_waiting(m), kept = keep < waiting ? keep : waiting;

    assert(m->phase == OPENED || m->phase == STARTED);
    m->counts.crashes++;
    m->counts.lost += waiting - kept;
    drop_log(m, m->count - (waiting - kept));
    m->durable += kept;
    m->fail_next = false;
    m->owners = 0;
    free_all_tasks(m);
    m->phase = CRASHED;
}

/* ---- faults ---- */

size_t mem_store_waiting(const struct mem_store *m)
{
    return (size_t)(last_lsn(m) - m->durable);
}

void mem_store_fail(struct mem_store *m)
{
    m->fail_next = true;
}

void mem_store_set_room(struct mem_store *m, enum mem_room room)
{
    m->room = room;
    set_status(m, room == MEM_ROOM ? STORE_OPEN : STORE_FULL);
}

bool mem_store_damage_batch(struct mem_store *m, uint64_t index)
{
    size_t durable = m->count - mem_store_waiting(m);

    if (durable == 0) {
        return false;
    }
    m->log[index % durable].damaged = true;
    return true;
}

bool mem_store_damage_row(struct mem_store *m, uint64_t index)
{
    if (m->rows.count == 0) {
        return false;
    }
    m->rows.row[index % m->rows.count].damaged = true;
    return true;
}

/* ---- looking ---- */

const struct mem_store_counts *mem_store_counts(const struct mem_store *m)
{
    return &m->counts;
}

const struct store_identity *mem_store_identity(const struct mem_store *m)
{
    return &m->store.identity;
}

size_t mem_store_log_count(const struct mem_store *m)
{
    return m->count;
}

size_t mem_store_row_count(const struct mem_store *m)
{
    return m->rows.count;
}
