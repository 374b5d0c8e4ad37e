#include "tests/crash/story.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/prng.h"
#include "storage/store_lmdb.h"
#include "tests/crash/plants.h"
#include "tests/crash/promise.h"

#define OWNER 0u
#define LIVES_MAX 3u
#define STEPS_MAX 60u /* of a life */
#define PAUSE_US 50u

struct row {
    bool there;
    uint32_t size;
    uint64_t seed;
};

struct story {
    struct prng dice;
    struct store *store;
    uint64_t lsn; /* of the last batch */
    unsigned open_tasks;
    bool trimmed; /* a start has found its log without a beginning */
    struct group {
        uint64_t number; /* of its last checkpoint */
        struct row rows[STORY_ROWS];
    } groups[STORY_GROUPS];
};

enum plant plant;

/* ---- the planted LMDB ---- */

int __real_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode);
int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode);

int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
    flags |= plant == PLANT_ENV_NOSYNC ? MDB_NOSYNC : plant == PLANT_ENV_NOMETASYNC ? MDB_NOMETASYNC : 0;
    return __real_mdb_env_open(env, path, flags, mode);
}

/* ---- what the store tells ---- */

/* On one of its threads, behind each commit: the promise is noted at once, before the next one begins. */
static void wake(void *arg, unsigned owner)
{
    struct story *s = arg;

    record_note(&(struct event){.type = EVENT_DURABLE, .about = store_durable(s->store)});
    store_notify(s->store, owner);
}

static void note_finished(const struct store_task *task)
{
    struct mark mark;
    struct store_operation op;
    size_t at = 0;

    if (task->error) {
        fprintf(stderr, "tern-crash: a checkpoint failed while the story was told: %s\n", strerror(-task->error));
        abort();
    }
    while (store_task_next(task, &at, &op)) { /* its mark is the last */
        if (op.type == STORE_PUT && op.key.len == 2) {
            memcpy(&mark, op.value.ptr, sizeof(mark));
            record_note(&(struct event){.type = EVENT_FINISHED, .file = task->group, .about = mark.number});
        }
    }
}

static void collect(struct story *s)
{
    struct store_task *next;

    for (struct store_task *task = store_collect(s->store, OWNER); task; task = next) {
        next = task->next;
        note_finished(task);
        s->open_tasks--;
        store_task_deinit(task);
        free(task);
    }
}

static void collect_all(struct story *s)
{
    for (collect(s); s->open_tasks > 0; collect(s)) {
        usleep(PAUSE_US);
    }
}

static void wait_durable(const struct story *s)
{
    while (store_durable(s->store) < s->lsn) {
        usleep(PAUSE_US);
    }
    record_note(&(struct event){.type = EVENT_DURABLE, .about = s->lsn});
}

/* ---- what is asked of it ---- */

static uint32_t draw_size(struct prng *dice)
{
    switch (prng_below(dice, 12)) {
    case 0:
        return 0;
    case 1:
        return 20000 + prng_below(dice, 80000);
    case 2:
    case 3:
    case 4:
        return 1000 + prng_below(dice, 8000); /* around a page, where LMDB begins to chain pages */
    default:
        return prng_below(dice, 400);
    }
}

static void append(struct story *s)
{
    struct event e = {
        .type = EVENT_APPEND, .about = s->lsn + 1, .offset = prng_next(&s->dice), .size = draw_size(&s->dice)};
    struct store_batch *batch = store_batch_new(OWNER, e.size);

    content_fill(batch->bytes, e.size, e.offset);
    batch->len = e.size;
    record_note(&e);
    s->lsn = store_append(s->store, batch);
    if (s->lsn != e.about) {
        fprintf(stderr, "tern-crash: batch %llu was given another number\n", (unsigned long long)e.about);
        abort();
    }
    if (plant == PLANT_EARLY_DURABLE) {
        record_note(&(struct event){.type = EVENT_DURABLE, .about = s->lsn});
    }
}

static struct store_task *new_task(const struct story *s, unsigned group)
{
    struct store_task *task = calloc(1, sizeof(*task));

    *task = (struct store_task){.type = STORE_CHECKPOINT, .owner = OWNER, .group = (uint16_t)group, .lsn = s->lsn};
    return task;
}

static void submit(struct story *s, struct store_task *task)
{
    s->open_tasks++;
    store_submit(s->store, task);
}

static void change_row(struct story *s, struct store_task *task, unsigned at)
{
    const uint8_t key[] = ROW_KEY(task->group, at);
    struct row *row = &s->groups[task->group].rows[at];
    uint8_t value[16384];

    row->there = prng_below(&s->dice, 3) > 0;
    if (!row->there) {
        store_task_delete(task, slice_of(key, sizeof(key)));
        return;
    }
    row->seed = prng_next(&s->dice);
    row->size = prng_below(&s->dice, 10) == 0 ? 3000 + prng_below(&s->dice, 13000) : prng_below(&s->dice, 300);
    content_fill(value, row->size, row->seed);
    store_task_put(task, slice_of(key, sizeof(key)), slice_of(value, row->size));
}

static void erase_rows(struct story *s, struct store_task *task)
{
    unsigned from = prng_below(&s->dice, STORY_ROWS), to = from + prng_below(&s->dice, STORY_ROWS - from) + 1;
    const uint8_t first[] = ROW_KEY(task->group, from), end[] = ROW_KEY(task->group, to);

    store_task_erase(task, slice_of(first, sizeof(first)), slice_of(end, sizeof(end)));
    for (unsigned i = from; i < to; i++) {
        s->groups[task->group].rows[i].there = false;
    }
}

static uint64_t group_hash(const struct story *s, unsigned group)
{
    uint64_t hash = 0;
    uint8_t value[16384];

    for (unsigned i = 0; i < STORY_ROWS; i++) {
        const struct row *row = &s->groups[group].rows[i];
        const uint8_t key[] = ROW_KEY(group, i);
        if (row->there) {
            content_fill(value, row->size, row->seed);
            hash = rows_hash(hash, slice_of(key, sizeof(key)), slice_of(value, row->size));
        }
    }
    return hash;
}

static void checkpoint(struct story *s, unsigned group)
{
    const uint8_t mark_key[] = MARK_KEY(group);
    struct mark mark = {++s->groups[group].number, s->lsn};

    struct store_task *task = new_task(s, group);
    for (unsigned n = prng_below(&s->dice, 12); n > 0; n--) {
        change_row(s, task, prng_below(&s->dice, STORY_ROWS));
    }
    if (prng_below(&s->dice, 8) == 0) {
        erase_rows(s, task);
    }
    store_task_put(task, slice_of(mark_key, sizeof(mark_key)), slice_of(&mark, sizeof(mark)));
    record_note(&(struct event){
        .type = EVENT_SUBMIT, .file = group, .about = mark.number, .offset = mark.lsn, .hash = group_hash(s, group)});
    if (plant == PLANT_EARLY_STATE) {
        record_note(&(struct event){.type = EVENT_FINISHED, .file = group, .about = mark.number});
    }
    submit(s, task);
}

/* Every group is in the state up to here: the log can be trimmed. */
static void checkpoint_all(struct story *s)
{
    for (unsigned g = 0; g < STORE_GROUPS; g++) {
        if (g < STORY_GROUPS && plant != PLANT_EARLY_TRIM) {
            checkpoint(s, g);
        } else {
            submit(s, new_task(s, g)); /* only the note: it has nothing, or the plant says so */
        }
    }
}

static void step(struct story *s)
{
    switch (prng_below(&s->dice, 12)) {
    case 0:
        wait_durable(s);
        break;
    case 1:
        checkpoint_all(s);
        break;
    case 2:
    case 3:
        checkpoint(s, prng_below(&s->dice, STORY_GROUPS));
        break;
    case 4:
        collect_all(s);
        break;
    case 5:
        usleep(prng_below(&s->dice, 1000));
        break;
    default:
        for (unsigned n = 1 + prng_below(&s->dice, 6); n > 0; n--) {
            append(s);
        }
    }
    collect(s);
}

/* ---- lives ---- */

static bool visit_first(void *arg, uint64_t lsn, struct slice bytes)
{
    (void)bytes;
    *(uint64_t *)arg = lsn;
    return false;
}

static void open_store(struct story *s, const char *dir)
{
    uint64_t first = 0;

    const struct store_config config = {
        .dir = dir, .reserve_bytes = 1 << 16, .log_map_bytes = STORY_LOG_MAP, .state_map_bytes = STORY_STATE_MAP};
    struct store_refusal refusal;

    if (store_lmdb_open(&config, &s->store, &refusal) != 0) {
        fprintf(stderr, "tern-crash: the store is refused while the story is told: %s\n", refusal.sentence);
        abort();
    }
    record_note(&(struct event){
        .type = EVENT_OPENED, .offset = s->store->identity.boot, .about = identity_hash(&s->store->identity)});
    if (store_replay(s->store, visit_first, &first) != 0 || store_start(s->store, 1, wake, s) != 0) {
        abort();
    }
    s->trimmed |= first > 1;
    store_notify(s->store, OWNER);
}

static void live(struct story *s, const char *dir)
{
    open_store(s, dir);
    for (unsigned n = prng_below(&s->dice, STEPS_MAX); n > 0; n--) {
        step(s);
    }
    collect_all(s);
    store_close(s->store); /* commits what waits */
    record_note(&(struct event){.type = EVENT_DURABLE, .about = s->lsn});
}

struct record *story_run(uint64_t seed, const char *root, bool *ret_trimmed)
{
    struct story s = {0};
    char dir[256];

    snprintf(dir, sizeof(dir), "%s/data", root);
    prng_seed(&s.dice, seed);
    record_begin(root);
    for (unsigned lives = 1 + prng_below(&s.dice, LIVES_MAX); lives > 0; lives--) {
        live(&s, dir);
    }
    *ret_trimmed = s.trimmed;
    return record_end();
}
