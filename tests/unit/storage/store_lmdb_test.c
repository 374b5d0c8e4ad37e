/* store_lmdb_test.c -- the store on real files: what is told to be durable is there, in order, whatever else happens.
 */
#include "storage/store_lmdb.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/log.h"
#include "storage/store_inside.h"
#include "tests/lib/unit.h"

static char dir[64];

static void make_dir(void)
{
    snprintf(dir, sizeof(dir), "/tmp/tern-store-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
    log_setup(STDERR_FILENO, LOG_ERROR, LOG_TEXT);
}

static void remove_dir(void)
{
    char command[256];
    snprintf(command, sizeof(command), "rm -rf %s %s.copy", dir, dir);
    CHECK(system(command) == 0);
}

static void no_wake(void *arg, unsigned owner)
{
    (void)arg;
    (void)owner;
}

static struct store *open_store(size_t map_bytes, bool start)
{
    struct store_config config = {.dir = dir, .log_map_bytes = map_bytes, .state_map_bytes = map_bytes};
    struct store_refusal refusal;
    struct store *store = NULL;

    CHECK(store_lmdb_open(&config, &store, &refusal) == 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(store);
    if (start) {
        CHECK(store_start(store, 2, no_wake, NULL) == 0);
    }
    return store;
}

static uint64_t append(struct store *store, const void *bytes, uint32_t len)
{
    struct store_batch *batch = store_batch_new(1, len);

    CU_ASSERT_PTR_NOT_NULL_FATAL(batch);
    memcpy(batch->bytes, bytes, len);
    batch->len = len;
    return store_append(store, batch);
}

static void pause_ms(void)
{
    struct timespec t = {.tv_nsec = 1000000};
    nanosleep(&t, NULL);
}

static void wait_durable(struct store *store, uint64_t lsn)
{
    while (store_durable(store) < lsn && store_status(store) != STORE_FAILED) {
        pause_ms();
    }
    CHECK(store_durable(store) >= lsn);
}

/* Submit and wait; the task is freed. Returns its error. */
static int finish(struct store *store, struct store_task *task)
{
    struct store_task *done;

    store_submit(store, task);
    while ((done = store_collect(store, task->owner)) == NULL) {
        pause_ms();
    }
    CHECK(done == task && done->next == NULL);
    return task->error;
}

static struct store_task *new_task(enum store_task_type type)
{
    struct store_task *task = calloc(1, sizeof(*task));

    CU_ASSERT_PTR_NOT_NULL_FATAL(task);
    task->type = type;
    task->owner = 1;
    return task;
}

static void free_task(struct store_task *task)
{
    store_task_deinit(task);
    free(task);
}

static void checkpoint(struct store *store, uint16_t group, uint64_t lsn, const char *key, const char *value)
{
    struct store_task *task = new_task(STORE_CHECKPOINT);

    task->group = group;
    task->lsn = lsn;
    if (key) {
        CHECK(store_task_put(task, slice_str(key), slice_str(value)) == 0);
    }
    CHECK(finish(store, task) == 0);
    free_task(task);
}

struct found {
    uint64_t first, last, count;
    bool whole; /* each batch is as it was written */
    char text[256];
};

static bool see_batch(void *arg, uint64_t lsn, struct slice bytes)
{
    struct found *f = arg;
    uint64_t number;

    memcpy(&number, bytes.ptr, sizeof(number));
    f->whole = (f->count == 0 || f->whole) && number == lsn;
    f->first = f->count == 0 ? lsn : f->first;
    f->last = lsn;
    f->count++;
    return true;
}

static bool see_row(void *arg, struct slice key, struct slice value)
{
    struct found *f = arg;
    size_t len = strlen(f->text);

    snprintf(f->text + len, sizeof(f->text) - len, "%.*s=%.*s ", (int)key.len, (const char *)key.ptr, (int)value.len,
             (const char *)value.ptr);
    return true;
}

static struct found replay(struct store *store)
{
    struct found f = {0};
    CHECK(store_replay(store, see_batch, &f) == 0);
    return f;
}

static uint64_t append_numbers(struct store *store, uint64_t from, uint64_t count, uint32_t bytes)
{
    uint8_t *data = calloc(1, bytes);
    uint64_t lsn = 0;

    for (uint64_t n = from; n < from + count; n++) {
        memcpy(data, &n, sizeof(n));
        lsn = append(store, data, bytes);
        CHECK(lsn == n);
    }
    free(data);
    return lsn;
}

static void test_log(void)
{
    make_dir();
    struct store *store = open_store(0, true);
    struct store_identity identity = store->identity;
    CHECK(identity.boot == 1);
    wait_durable(store, append_numbers(store, 1, 500, 100));
    store_close(store);

    store = open_store(0, true);
    CHECK(store->identity.boot == 2);
    CHECK(memcmp(store->identity.node_id, identity.node_id, sizeof(identity.node_id)) == 0);
    CHECK(store->identity.hash_key.k0 == identity.hash_key.k0);
    append_numbers(store, 501, 10, 8);
    store_close(store); /* what waits is committed */

    store = open_store(0, false);
    struct found f = replay(store);
    CHECK(f.first == 1 && f.last == 510 && f.count == 510 && f.whole);
    store_close(store);
    remove_dir();
}

static void test_map_grows(void)
{
    make_dir();
    struct store *store = open_store(1u << 20, true);
    wait_durable(store, append_numbers(store, 1, 400, 20000)); /* 8 MB */
    store_close(store);
    store = open_store(1u << 20, false);
    struct found f = replay(store);
    CHECK(f.count == 400 && f.whole);
    store_close(store);
    remove_dir();
}

static void test_trim(void)
{
    make_dir();
    struct store *store = open_store(0, true);
    wait_durable(store, append_numbers(store, 1, 100, 8));
    for (uint16_t g = 1; g < STORE_GROUPS; g++) {
        checkpoint(store, g, 90, NULL, NULL);
    }
    CHECK(store_log_bytes(store) > 0);
    checkpoint(store, 0, 40, NULL, NULL); /* the slowest group decides */
    append_numbers(store, 101, 1, 8);
    store_close(store);
    store = open_store(0, true);
    struct found f = replay(store);
    CHECK(f.first == 40 && f.last == 101 && f.whole);
    for (uint16_t g = 0; g < STORE_GROUPS; g++) {
        checkpoint(store, g, 101, NULL, NULL);
    }
    store_close(store);
    store = open_store(0, true);
    f = replay(store);
    CHECK(f.last == 101 && f.count >= 1); /* the last one stays: the next number follows from it */
    CHECK(append_numbers(store, 102, 1, 8) == 102);
    store_close(store);
    remove_dir();
}

static void test_rows(void)
{
    struct found f = {0};

    make_dir();
    struct store *store = open_store(0, true);
    struct store_task *task = new_task(STORE_CHECKPOINT);
    static const char *const keys[] = {"a1", "a2", "a3", "b1", "b2", "b3", "b4", "c1"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        CHECK(store_task_put(task, slice_str(keys[i]), slice_str("old")) == 0);
    }
    CHECK(finish(store, task) == 0);
    free_task(task);
    task = new_task(STORE_CHECKPOINT);
    CHECK(store_task_erase(task, SLICE("a2"), SLICE("b3")) == 0);
    CHECK(store_task_delete(task, SLICE("none")) == 0);
    CHECK(store_task_delete(task, SLICE("c1")) == 0);
    CHECK(store_task_put(task, SLICE("b3"), SLICE("new")) == 0);
    CHECK(store_task_put(task, slice_of(f.text, STORE_KEY_MAX + 1), SLICE("")) == -EINVAL);
    CHECK(finish(store, task) == 0);
    free_task(task);

    task = new_task(STORE_READ);
    memcpy(task->key, "b1", 2);
    task->key_len = 2;
    task->prefix_len = 1;
    task->max_bytes = 3;
    CHECK(finish(store, task) == 0);
    struct store_operation row;
    size_t at = 0;
    CHECK(store_task_next(task, &at, &row) && slice_eq(row.key, SLICE("b3")) && slice_eq(row.value, SLICE("new")));
    CHECK(!store_task_next(task, &at, &row) && task->more);
    free_task(task);
    store_close(store);

    store = open_store(0, false);
    CHECK(store_scan(store, SLICE(""), see_row, &f) == 0);
    CHECK(strcmp(f.text, "a1=old b3=new b4=old ") == 0);
    store_close(store);
    remove_dir();
}

/* Change the last byte of a value behind the store's back. */
static void damage(const char *table, const void *key, size_t key_len)
{
    char path[128];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi = 0;
    MDB_val k = {key_len, (void *)(uintptr_t)key}, v;
    uint8_t copy[512];

    snprintf(path, sizeof(path), "%s/%s", dir, table);
    CHECK(mdb_env_create(&env) == 0 && mdb_env_open(env, path, 0, 0600) == 0);
    CHECK(mdb_txn_begin(env, NULL, 0, &txn) == 0 && mdb_dbi_open(txn, NULL, 0, &dbi) == 0);
    CU_ASSERT_FATAL(mdb_get(txn, dbi, &k, &v) == 0 && v.mv_size <= sizeof(copy));
    memcpy(copy, v.mv_data, v.mv_size);
    copy[v.mv_size - 1] ^= 1;
    v.mv_data = copy;
    CHECK(mdb_put(txn, dbi, &k, &v, 0) == 0 && mdb_txn_commit(txn) == 0);
    mdb_env_close(env);
}

static void test_damage(void)
{
    static const uint8_t second[8] = {0, 0, 0, 0, 0, 0, 0, 2};
    struct found f = {0};
    char path[128];

    make_dir();
    struct store *store = open_store(0, true);
    wait_durable(store, append_numbers(store, 1, 3, 8));
    checkpoint(store, 1, 3, "k1", "one");
    checkpoint(store, 2, 3, "k2", "two");
    store_close(store);
    damage("log", second, sizeof(second));
    damage("state", "k1", 2);

    store = open_store(0, false);
    CHECK(store_scan(store, SLICE(""), see_row, &f) == 0);
    CHECK(strcmp(f.text, "k2=two ") == 0);
    f = replay(store);
    CHECK(f.count == 2 && f.first == 1 && f.last == 3 && f.whole);
    snprintf(path, sizeof(path), "%s/quarantine-2", dir);
    FILE *in = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(in);
    char line[256];
    unsigned lines = 0;
    while (fgets(line, sizeof(line), in)) {
        lines++;
    }
    fclose(in);
    CHECK(lines == 2);
    store_close(store);
    remove_dir();
}

static void test_one_process(void)
{
    struct store_config config = {.dir = dir};
    struct store_refusal refusal;
    struct store *second = NULL;

    make_dir();
    struct store *store = open_store(0, true);
    CHECK(store_lmdb_open(&config, &second, &refusal) == -EBUSY);
    CHECK(second == NULL && strstr(refusal.sentence, "another process") && strstr(refusal.sentence, dir));
    store_close(store);
    remove_dir();
}

/* What a power cut leaves of a very first start, before there was an identity: it begins anew. */
static void test_cut_first_start(void)
{
    static const struct {
        const char *name;
        off_t log, state; /* bytes of their data.mdb, zeros; -1: there is none */
    } cases[] = {{"half of the log", 4096, -1}, {"empty files", 0, 0}, {"both, of nothing", 8192, 8192}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char command[400];
        make_dir();
        snprintf(command, sizeof(command),
                 "cd %s; mkdir log state; [ %ld = -1 ] || truncate -s %ld log/data.mdb; "
                 "[ %ld = -1 ] || truncate -s %ld state/data.mdb",
                 dir, cases[i].log, cases[i].log, cases[i].state, cases[i].state);
        CHECK(system(command) == 0);
        struct store *store = open_store(0, true);
        CHECK_CASE(cases[i].name, append_numbers(store, 1, 2, 100) == 2);
        store_close(store);
        remove_dir();
    }
}

/* A file ends before its last page when the last transaction took that page and gave it back: nothing is missing. */
static void test_free_pages_at_the_end(void)
{
    struct found f = {0};
    char path[128], *large = malloc(40001);
    struct stat st;
    MDB_envinfo info;

    make_dir();
    memset(large, 'x', 40000);
    large[40000] = '\0';
    struct store *store = open_store(0, true);
    for (unsigned i = 0; i < 5; i++) {
        checkpoint(store, 0, 0, "a", "1"); /* pages of its own that LMDB may use again: now it gives back at once */
    }
    struct store_task *task = new_task(STORE_CHECKPOINT);
    CHECK(store_task_put(task, SLICE("b"), slice_str(large)) == 0);
    CHECK(store_task_delete(task, SLICE("b")) == 0);
    CHECK(finish(store, task) == 0);
    free_task(task);
    mdb_env_info(lmdb_store_of(store)->state.env, &info);
    snprintf(path, sizeof(path), "%s/state/data.mdb", dir);
    CHECK(stat(path, &st) == 0 && (size_t)st.st_size < (info.me_last_pgno + 1) * 4096);
    store_close(store);
    store = open_store(0, false);
    CHECK(store_scan(store, SLICE(""), see_row, &f) == 0);
    CHECK(strcmp(f.text, "a=1 ") == 0);
    store_close(store);
    free(large);
    remove_dir();
}

/* A copy beside a store that goes on: everything up to some moment, and nothing behind a gap. */
static void test_copy(void)
{
    char copy[80];
    struct store_refusal refusal;
    struct store *other = NULL;
    struct found f = {0};

    make_dir();
    snprintf(copy, sizeof(copy), "%s.copy", dir);
    struct store *store = open_store(0, true);
    wait_durable(store, append_numbers(store, 1, 200, 100));
    checkpoint(store, 7, 100, "row", "there");
    append_numbers(store, 201, 300, 100); /* being written meanwhile */
    CHECK(store_lmdb_copy(dir, copy, &refusal) == 0);
    CHECK(store_lmdb_copy(dir, copy, &refusal) == -ENOTEMPTY);
    CHECK(store_lmdb_open_readonly(copy, &other, &refusal) == 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(other);
    CHECK(memcmp(other->identity.node_id, store->identity.node_id, 16) == 0);
    f = replay(other);
    CHECK(f.first == 1 && f.last >= 200 && f.count == f.last && f.whole);
    CHECK(store_scan(other, SLICE("r"), see_row, &f) == 0);
    CHECK(strcmp(f.text, "row=there ") == 0);
    store_close(other);
    store_close(store);
    remove_dir();
}

UNIT_MAIN("storage/store_lmdb", {"log", test_log}, {"map grows", test_map_grows}, {"trim", test_trim},
          {"rows", test_rows}, {"damage", test_damage}, {"one process", test_one_process}, {"copy", test_copy},
          {"cut first start", test_cut_first_start}, {"free pages at the end", test_free_pages_at_the_end})
