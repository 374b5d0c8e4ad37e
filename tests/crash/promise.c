#include "tests/crash/promise.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/hash.h"
#include "storage/store_lmdb.h"

static const struct hash_key plain = {0x63726173, 0x68}; /* any */

void content_fill(uint8_t *bytes, size_t size, uint64_t seed)
{
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = hash_mix(seed + at * 0x9e3779b97f4a7c15u + 1);
        memcpy(bytes + at, &word, size - at < 8 ? size - at : 8);
    }
}

uint64_t rows_hash(uint64_t hash, struct slice key, struct slice value)
{
    return hash_mix(hash + hash_keyed(&plain, key)) ^ hash_keyed(&plain, value);
}

uint64_t identity_hash(const struct store_identity *identity)
{
    return hash_keyed(&plain, slice_of(identity->node_id, sizeof(identity->node_id))) ^
           hash_mix(hash_keyed(&plain, slice_of(&identity->hash_key, sizeof(identity->hash_key))));
}

/* ---- what was promised ---- */

void promises_init(struct promises *p, const struct record *record)
{
    *p = (struct promises){.record = record};
    p->batches =
        calloc(record->count + 8, sizeof(p->batches[0])); /* no more than events, and what a judge goes on with */
    for (unsigned g = 0; g < STORY_GROUPS; g++) {
        p->groups[g].checkpoints = calloc(record->count + 8, sizeof(p->groups[g].checkpoints[0]));
        if (!p->batches || !p->groups[g].checkpoints) {
            abort();
        }
    }
}

void promises_deinit(struct promises *p)
{
    free(p->batches);
    for (unsigned g = 0; g < STORY_GROUPS; g++) {
        free(p->groups[g].checkpoints);
    }
}

static void forward(struct promises *p, const struct event *e)
{
    struct group_promise *group = &p->groups[e->file % STORY_GROUPS];

    switch (e->type) {
    case EVENT_OPENED:
        p->boot = e->offset;
        p->identity = e->about;
        break;
    case EVENT_APPEND:
        p->batches[p->batch_count++] = (struct batch_promise){e->offset, e->size};
        break;
    case EVENT_DURABLE:
        p->durable = e->about > p->durable ? e->about : p->durable;
        break;
    case EVENT_SUBMIT:
        group->checkpoints[group->count++] = (struct checkpoint_promise){e->offset, e->hash};
        break;
    case EVENT_FINISHED:
        group->finished = e->about;
        break;
    default: /* operations on files: disk.h */
        break;
    }
}

void promises_forward(struct promises *p, size_t cut)
{
    for (; p->at < cut; p->at++) {
        forward(p, &p->record->events[p->at]);
    }
}

/* ---- whether it is kept ---- */

static void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void broken(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    _exit(1);
}

#define U(number) ((unsigned long long)(number))

struct judge {
    struct promises *promises;
    uint64_t first, last; /* lsn of the log; 0: it is empty */
    unsigned group;       /* the one whose rows are read */
    struct mark marks[STORY_GROUPS];
    uint64_t rows;
    uint8_t *expected;
};

static bool judge_batch(void *arg, uint64_t lsn, struct slice bytes)
{
    struct judge *j = arg;

    if (j->last != 0 && lsn != j->last + 1) {
        broken("the log goes from %llu to %llu", U(j->last), U(lsn));
    }
    if (lsn == 0 || lsn > j->promises->batch_count) {
        broken("the log has %llu, and only %zu were appended", U(lsn), j->promises->batch_count);
    }
    const struct batch_promise *batch = &j->promises->batches[lsn - 1];
    uint8_t *expected = malloc(batch->size + 1u);
    content_fill(expected, batch->size, batch->seed);
    if (!slice_eq(bytes, slice_of(expected, batch->size))) {
        broken("batch %llu is another: %zu bytes of %u", U(lsn), bytes.len, batch->size);
    }
    free(expected);
    j->first = j->first ? j->first : lsn;
    j->last = lsn;
    return true;
}

static bool judge_row(void *arg, struct slice key, struct slice value)
{
    struct judge *j = arg;

    if (key.len == 2 && key.ptr[1] == '!' && value.len == sizeof(struct mark)) {
        memcpy(&j->marks[j->group], value.ptr, sizeof(struct mark));
    } else {
        j->rows = rows_hash(j->rows, key, value);
    }
    return true;
}

static void judge_group(struct judge *j, struct store *store, unsigned group)
{
    const struct group_promise *promise = &j->promises->groups[group];
    const uint8_t prefix = (uint8_t)group;

    j->group = group;
    j->rows = 0;
    int rc = store_scan(store, slice_of(&prefix, 1), judge_row, j);
    if (rc) {
        broken("the rows of group %u cannot be read: %s", group, strerror(-rc));
    }
    const struct mark *mark = &j->marks[group];
    if (mark->number < promise->finished) {
        broken("group %u is at checkpoint %llu, and %llu was finished", group, U(mark->number), U(promise->finished));
    }
    if (mark->number > promise->count) {
        broken("group %u is at checkpoint %llu, and only %zu were submitted", group, U(mark->number), promise->count);
    }
    uint64_t hash = mark->number ? promise->checkpoints[mark->number - 1].hash : 0;
    if (j->rows != hash) {
        broken("the rows of group %u are not those of its checkpoint %llu", group, U(mark->number));
    }
    if (mark->lsn > j->last) {
        broken("the state of group %u has %llu, the log ends with %llu", group, U(mark->lsn), U(j->last));
    }
}

static void judge_log(const struct judge *j)
{
    uint64_t covered = UINT64_MAX;

    for (unsigned g = 0; g < STORY_GROUPS; g++) {
        covered = j->marks[g].lsn < covered ? j->marks[g].lsn : covered;
    }
    if (j->last < j->promises->durable) {
        broken("the log ends with %llu, and %llu was durable", U(j->last), U(j->promises->durable));
    }
    if (j->first > covered + 1) {
        broken("the log begins with %llu, and the state has up to %llu", U(j->first), U(covered));
    }
}

static struct store *open_store(const struct promises *p, const char *dir)
{
    const struct store_config config = {
        .dir = dir, .reserve_bytes = 1 << 16, .log_map_bytes = STORY_LOG_MAP, .state_map_bytes = STORY_STATE_MAP};
    struct store_refusal refusal;
    struct store *store;

    if (store_lmdb_open(&config, &store, &refusal) != 0) {
        broken("the store is refused: %s", refusal.sentence);
    }
    if (p->boot && (store->identity.boot <= p->boot || identity_hash(&store->identity) != p->identity)) {
        broken("another identity, or start %llu after start %llu", U(store->identity.boot), U(p->boot));
    }
    return store;
}

static struct judge judge(struct promises *p, struct store *store)
{
    struct judge j = {.promises = p};

    int rc = store_replay(store, judge_batch, &j);
    if (rc) {
        broken("the log cannot be read: %s", strerror(-rc));
    }
    for (unsigned g = 0; g < STORY_GROUPS; g++) {
        judge_group(&j, store, g);
    }
    judge_log(&j);
    if (store_lmdb_damaged(store) > 0) {
        broken("%llu damaged records", U(store_lmdb_damaged(store)));
    }
    return j;
}

/* ---- going on ---- */

static void no_wake(void *arg, unsigned owner)
{
    (void)arg;
    (void)owner;
}

/* What is promised now is what is there. */
static void take_as_is(struct promises *p, const struct judge *j, const struct store *store)
{
    p->batch_count = p->durable = j->last;
    p->boot = store->identity.boot;
    p->identity = identity_hash(&store->identity);
    for (unsigned g = 0; g < STORY_GROUPS; g++) {
        p->groups[g].count = p->groups[g].finished = j->marks[g].number;
    }
}

static void go_on_append(struct promises *p, struct store *store)
{
    struct batch_promise promise = {.seed = p->batch_count * 77 + 1, .size = (uint32_t)(p->batch_count * 997 % 20000)};
    struct store_batch *batch = store_batch_new(0, promise.size);

    content_fill(batch->bytes, promise.size, promise.seed);
    batch->len = promise.size;
    p->batches[p->batch_count++] = promise;
    if (store_append(store, batch) != p->batch_count) {
        broken("the numbers do not go on from %zu", p->batch_count);
    }
}

/* Group 0 gets one new row and loses all others. */
static void go_on_checkpoint(struct promises *p, struct store *store)
{
    const uint8_t mark_key[] = MARK_KEY(0), row_key[] = ROW_KEY(0, 1), end[] = {1};
    struct group_promise *group = &p->groups[0];
    struct store_task *task = calloc(1, sizeof(*task));
    struct mark mark = {group->count + 1, p->batch_count};

    *task = (struct store_task){.type = STORE_CHECKPOINT, .lsn = mark.lsn};
    if (store_task_erase(task, slice_of(row_key, 1), slice_of(end, 1)) != 0 ||
        store_task_put(task, slice_of(mark_key, 2), slice_of(&mark, sizeof(mark))) != 0 ||
        store_task_put(task, slice_of(row_key, 3), SLICE("new")) != 0) {
        broken("no memory");
    }
    group->checkpoints[group->count++] =
        (struct checkpoint_promise){mark.lsn, rows_hash(0, slice_of(row_key, 3), SLICE("new"))};
    group->finished = mark.number;
    store_submit(store, task);
    struct store_task *done;
    while (!(done = store_collect(store, 0))) {
        usleep(100);
    }
    if (done->error) {
        broken("a checkpoint after the power cut: %s", strerror(-done->error));
    }
    store_task_deinit(done);
    free(done);
}

static void go_on(struct promises *p, struct store *store)
{
    int rc = store_start(store, 1, no_wake, NULL);

    if (rc) {
        broken("the store does not start: %s", strerror(-rc));
    }
    for (unsigned i = 0; i < 3; i++) {
        go_on_append(p, store);
    }
    go_on_checkpoint(p, store);
    p->durable = store_durable(store);
}

void promises_judge(struct promises *p, const char *dir, bool going_on)
{
    struct store *store = open_store(p, dir);
    struct judge j = judge(p, store);

    if (going_on) {
        take_as_is(p, &j, store);
        go_on(p, store);
        store_close(store);
        store = open_store(p, dir);
        j = judge(p, store);
    }
    store_close(store);
}
