/* The model of a store: what it promises, and that its faults do what they say. */
#include "tests/lib/mem_store.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

static struct mem_store *model;
static struct store *store;
static unsigned woken[4];

static void wake(void *arg, unsigned owner)
{
    (void)arg;
    woken[owner]++;
}

static void open_again(void)
{
    store = mem_store_open(model);
}

static void start(void)
{
    memset(woken, 0, sizeof(woken));
    CHECK(store_start(store, 2, wake, NULL) == 0);
}

static void begin(void)
{
    model = mem_store_new(7);
    open_again();
    start();
}

static uint64_t append(unsigned owner, const char *text)
{
    struct store_batch *batch = store_batch_new(owner, 100);

    batch->len = (uint32_t)strlen(text);
    memcpy(batch->bytes, text, batch->len);
    return store_append(store, batch);
}

struct found {
    char text[200];
    uint64_t lsn[20];
    unsigned count, limit;
};

static bool take_batch(void *arg, uint64_t lsn, struct slice bytes)
{
    struct found *f = arg;

    strncat(f->text, (const char *)bytes.ptr, bytes.len);
    f->lsn[f->count++] = lsn;
    return f->count != f->limit;
}

static bool take_row(void *arg, struct slice key, struct slice value)
{
    struct found *f = arg;

    strncat(f->text, (const char *)key.ptr, key.len);
    strcat(f->text, "=");
    strncat(f->text, (const char *)value.ptr, value.len);
    strcat(f->text, " ");
    f->count++;
    return f->count != f->limit;
}

static bool log_is(const char *text)
{
    struct found f = {0};
    return store_replay(store, take_batch, &f) == 0 && strcmp(f.text, text) == 0;
}

static bool rows_are(const char *prefix, const char *text)
{
    struct found f = {0};
    return store_scan(store, slice_str(prefix), take_row, &f) == 0 && strcmp(f.text, text) == 0;
}

static struct store_task *checkpoint_task(uint16_t group, uint64_t lsn)
{
    struct store_task *task = calloc(1, sizeof(*task));

    task->type = STORE_CHECKPOINT;
    task->owner = 1;
    task->group = group;
    task->lsn = lsn;
    return task;
}

static void put(struct store_task *task, const char *key, const char *value)
{
    CHECK(store_task_put(task, slice_str(key), slice_str(value)) == 0);
}

static int collected(void)
{
    struct store_task *task = store_collect(store, 1);
    int error = task ? task->error : 1;

    CHECK(!task || !task->next);
    if (task) {
        store_task_deinit(task);
        free(task);
    }
    return error;
}

static int checkpoint(uint16_t group, uint64_t lsn, const char *key, const char *value)
{
    struct store_task *task = checkpoint_task(group, lsn);

    if (key) {
        put(task, key, value);
    }
    store_submit(store, task);
    mem_store_checkpoint(model);
    return collected();
}

static void test_commit(void)
{
    begin();
    CHECK(append(0, "a") == 1 && append(1, "b") == 2 && append(0, "c") == 3);
    CHECK(store_durable(store) == 0 && mem_store_waiting(model) == 3 && store_log_bytes(store) == 3);
    CHECK(mem_store_commit(model, 2) && store_durable(store) == 2 && woken[0] == 1 && woken[1] == 1);
    CHECK(mem_store_commit(model, 2) && store_durable(store) == 3 && woken[0] == 2 && woken[1] == 1);
    CHECK(!mem_store_commit(model, 2));
    store_close(store);
    open_again();
    CHECK(store->identity.boot == 2 && log_is("abc"));
    mem_store_free(model);
}

static void test_identity(void)
{
    struct mem_store *other = mem_store_new(8);
    struct store_identity before;

    begin();
    before = store->identity;
    CHECK(memcmp(&before.hash_key, &mem_store_open(other)->identity.hash_key, sizeof(before.hash_key)) != 0);
    mem_store_crash(model, 0);
    open_again();
    CHECK(store->identity.boot == 2 && memcmp(before.node_id, store->identity.node_id, 16) == 0);
    CHECK(memcmp(&before.hash_key, &store->identity.hash_key, sizeof(before.hash_key)) == 0);
    mem_store_free(model);
    mem_store_free(other);
}

static void test_crash(void)
{
    static const struct {
        const char *name;
        size_t keep;
        const char *log;
        uint64_t next;
    } cases[] = {{"nothing", 0, "a", 2}, {"a part", 1, "ab", 3}, {"all", 2, "abc", 4}, {"more than all", 9, "abc", 4}};

    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        begin();
        append(0, "a");
        mem_store_commit(model, 1);
        append(0, "b");
        append(1, "c");
        mem_store_crash(model, cases[i].keep);
        append(0, "of a dead node");
        store_submit(store, checkpoint_task(0, 99));
        CHECK(!store_collect(store, 1));
        store_close(store);
        open_again();
        CHECK_CASE(cases[i].name, log_is(cases[i].log));
        start();
        CHECK_CASE(cases[i].name, append(0, "d") == cases[i].next && store_durable(store) == cases[i].next - 1);
        store_close(store);
        mem_store_free(model);
    }
}

static void test_checkpoint(void)
{
    begin();
    append(0, "a");
    struct store_task *task = checkpoint_task(3, 1);
    put(task, "k1", "v1");
    put(task, "k2", "v2");
    store_submit(store, task);
    CHECK(!mem_store_checkpoint(model)); /* the log is not that far */
    mem_store_commit(model, 1);
    CHECK(mem_store_checkpoint(model) && woken[1] == 1 && collected() == 0);
    task = checkpoint_task(3, 1);
    put(task, "k3", "");
    put(task, "k1", "w");
    CHECK(store_task_delete(task, SLICE("k2")) == 0 && store_task_delete(task, SLICE("none")) == 0);
    put(task, "q1", "x");
    put(task, "q2", "y");
    put(task, "q3", "z");
    CHECK(store_task_erase(task, SLICE("q1"), SLICE("q3")) == 0);
    store_submit(store, task);
    mem_store_settle(model);
    CHECK(collected() == 0 && mem_store_row_count(model) == 3);
    task = checkpoint_task(4, 1);
    put(task, "lost", "");
    store_submit(store, task);
    mem_store_crash(model, 0);
    open_again();
    CHECK(rows_are("k", "k1=w k3= ") && rows_are("", "k1=w k3= q3=z ") && rows_are("none", ""));
    mem_store_free(model);
}

static void test_trim(void)
{
    begin();
    append(0, "a");
    append(0, "b");
    append(0, "cc");
    mem_store_settle(model);
    for (uint16_t g = 0; g < STORE_GROUPS; g++) {
        CHECK(mem_store_log_count(model) == 3 && store_log_bytes(store) == 4);
        CHECK(checkpoint(g, g == 9 ? 2 : 3, NULL, NULL) == 0);
    }
    CHECK(store_log_bytes(store) == 2 && mem_store_commit(model, 1));
    CHECK(mem_store_log_count(model) == 1 && !mem_store_commit(model, 1));
    CHECK(checkpoint(9, 3, NULL, NULL) == 0 && store_log_bytes(store) == 0);
    mem_store_settle(model);
    CHECK(mem_store_log_count(model) == 0);
    mem_store_crash(model, 0);
    open_again();
    CHECK(log_is("") && store_durable(store) == 3);
    start();
    CHECK(append(0, "d") == 4);
    mem_store_settle(model);
    CHECK(checkpoint(9, 4, NULL, NULL) == 0);
    mem_store_settle(model);
    CHECK(mem_store_log_count(model) == 1); /* the other groups have not said yet, since this start, what they need */
    mem_store_free(model);
}

static void test_read(void)
{
    static const struct {
        const char *name, *key;
        uint16_t prefix_len;
        uint32_t max_bytes;
        unsigned rows;
        bool more;
    } cases[] = {{"all", "q", 1, 9999, 3, false},
                 {"one at least", "q", 1, 1, 1, true},
                 {"from a key", "q2", 1, 9999, 2, false},
                 {"behind all", "q4", 1, 9999, 0, false},
                 {"its prefix only", "q2", 2, 1, 1, false}};
    struct store_operation op;

    begin();
    append(0, "a");
    mem_store_settle(model);
    checkpoint(0, 1, "p", "");
    checkpoint(0, 1, "q1", "one");
    checkpoint(0, 1, "q2", "two");
    checkpoint(0, 1, "q3", "three");
    checkpoint(0, 1, "r", "");
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct store_task *task = checkpoint_task(0, 0), *same;
        size_t at = 0;
        unsigned rows = 0;
        task->type = STORE_READ;
        task->key_len = (uint16_t)strlen(cases[i].key);
        memcpy(task->key, cases[i].key, task->key_len);
        task->prefix_len = cases[i].prefix_len;
        task->max_bytes = cases[i].max_bytes;
        store_submit(store, task);
        CHECK(!store_collect(store, 1) && mem_store_read(model));
        same = store_collect(store, 1);
        CHECK(same == task);
        while (store_task_next(task, &at, &op)) {
            rows++;
            CHECK_CASE(cases[i].name, op.type == STORE_PUT && op.key.ptr[0] == 'q' && op.value.len >= 3);
        }
        CHECK_CASE(cases[i].name, rows == cases[i].rows && task->more == cases[i].more && task->error == 0);
        store_task_deinit(task);
        free(task);
    }
    mem_store_free(model);
}

static void test_full(void)
{
    begin();
    append(0, "a");
    mem_store_set_room(model, MEM_NO_ROOM);
    CHECK(store_status(store) == STORE_FULL && woken[0] == 1 && woken[1] == 1);
    CHECK(!mem_store_commit(model, 1) && store_durable(store) == 0);
    CHECK(checkpoint(0, 0, "k", "v") == -ENOSPC);
    mem_store_set_room(model, MEM_RESERVE);
    CHECK(store_status(store) == STORE_FULL && mem_store_commit(model, 1) && store_durable(store) == 1);
    CHECK(checkpoint(0, 1, "k", "v") == 0);
    mem_store_set_room(model, MEM_ROOM);
    CHECK(store_status(store) == STORE_OPEN);
    mem_store_set_room(model, MEM_NO_ROOM);
    append(0, "b");
    store_close(store); /* it cannot be written */
    open_again();
    CHECK(store_status(store) == STORE_FULL && log_is("a") && rows_are("", "k=v "));
    mem_store_free(model);
}

static void test_failed(void)
{
    begin();
    append(0, "a");
    mem_store_commit(model, 1);
    mem_store_fail(model);
    append(1, "b");
    CHECK(store_status(store) == STORE_OPEN && mem_store_commit(model, 1));
    CHECK(store_status(store) == STORE_FAILED && store_durable(store) == 1 && woken[0] == 2 && woken[1] == 1);
    CHECK(!mem_store_commit(model, 1));
    CHECK(checkpoint(0, 1, "k", "v") == -EIO);
    mem_store_set_room(model, MEM_ROOM);
    CHECK(store_status(store) == STORE_FAILED);
    mem_store_crash(model, 1); /* it was written after all */
    open_again();
    CHECK(store_status(store) == STORE_OPEN && log_is("ab") && rows_are("", ""));
    mem_store_free(model);
}

static void test_damage(void)
{
    begin();
    CHECK(!mem_store_damage_batch(model, 5) && !mem_store_damage_row(model, 5));
    append(0, "a");
    append(0, "b");
    append(0, "c");
    mem_store_settle(model);
    checkpoint(0, 1, "k1", "v");
    checkpoint(0, 1, "k2", "v");
    checkpoint(0, 1, "k3", "v");
    append(0, "not durable");
    CHECK(mem_store_damage_batch(model, 4) && mem_store_damage_row(model, 3));
    store_close(store);
    open_again();
    CHECK(log_is("acnot durable") && rows_are("", "k2=v k3=v ") && mem_store_counts(model)->quarantined == 2);
    CHECK(rows_are("", "k2=v k3=v ") && mem_store_counts(model)->quarantined == 2); /* set aside once */
    CHECK(mem_store_damage_row(model, 0));
    struct store_task *task = checkpoint_task(0, 0);
    task->type = STORE_READ;
    task->key_len = task->prefix_len = 2;
    memcpy(task->key, "k2", 2);
    CHECK(store_read(store, task) == -EBADMSG && task->len == 0);
    CHECK(store_read(store, task) == 0 && task->len == 0);
    store_task_deinit(task);
    free(task);
    mem_store_free(model);
}

static void test_stop(void)
{
    struct found f = {.limit = 1};

    begin();
    append(0, "a");
    append(0, "b");
    mem_store_settle(model);
    checkpoint(0, 1, "k1", "v");
    checkpoint(0, 1, "k2", "v");
    store_close(store);
    open_again();
    CHECK(store_replay(store, take_batch, &f) == 0 && f.count == 1 && f.lsn[0] == 1);
    f.count = 0;
    CHECK(store_scan(store, SLICE(""), take_row, &f) == 0 && f.count == 1);
    mem_store_free(model);
}

UNIT_MAIN("sim/mem_store", {"commits in order, wakes who waits", test_commit}, {"one identity", test_identity},
          {"any part of what was not durable survives", test_crash}, {"checkpoints", test_checkpoint},
          {"trims what all groups have", test_trim}, {"reads by pages", test_read}, {"full disk", test_full},
          {"failed commit", test_failed}, {"damage is passed over and counted", test_damage},
          {"visitors may stop", test_stop})
