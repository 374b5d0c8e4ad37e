#include <assert.h>
#include <stdlib.h>

#include "tests/sim/plant.h"

static const struct store_operations *sound; /* of the model */
static struct store_operations broken;

static uint64_t appended; /* in this start */
static uint64_t covered;  /* the greatest lsn of a checkpoint of any group */

/* All but the last: each is handed on when the next has come. */
struct late {
    store_batch_visitor *visit_batch;
    store_row_visitor *visit_row;
    void *arg;
    bool any;
    uint64_t lsn;
    struct slice key, value;
};

static bool late_batch(void *arg, uint64_t lsn, struct slice bytes)
{
    struct late *late = arg;
    bool go_on = !late->any || late->visit_batch(late->arg, late->lsn, late->value);

    late->any = true;
    late->lsn = lsn;
    late->value = bytes; /* the model's own: valid until the replay is over */
    return go_on;
}

static bool late_row(void *arg, struct slice key, struct slice value)
{
    struct late *late = arg;
    bool go_on = !late->any || late->visit_row(late->arg, late->key, late->value);

    late->any = true;
    late->key = key;
    late->value = value;
    return go_on;
}

/* As if the others had been trimmed. */
static bool uncovered_batch(void *arg, uint64_t lsn, struct slice bytes)
{
    struct late *late = arg;
    return lsn <= covered || late->visit_batch(late->arg, lsn, bytes);
}

static int broken_replay(struct store *store, store_batch_visitor *visit, void *arg)
{
    struct late late = {.visit_batch = visit, .arg = arg};

    if (planted(PLANT_TRIM_EARLY)) {
        return sound->replay(store, uncovered_batch, &late);
    }
    return sound->replay(store, planted(PLANT_REPLAY_SHORT) ? late_batch : visit,
                         planted(PLANT_REPLAY_SHORT) ? &late : arg);
}

static int broken_scan(struct store *store, struct slice prefix, store_row_visitor *visit, void *arg)
{
    struct late late = {.visit_row = visit, .arg = arg};
    return sound->scan(store, prefix, planted(PLANT_SCAN_SHORT) ? late_row : visit,
                       planted(PLANT_SCAN_SHORT) ? &late : arg);
}

static uint64_t broken_append(struct store *store, struct store_batch *batch)
{
    appended = sound->append(store, batch);
    return appended;
}

static uint64_t broken_durable(struct store *store)
{
    uint64_t durable = sound->durable(store);
    return planted(PLANT_DURABLE_EARLY) && appended > durable ? appended : durable;
}

static bool lost(const struct store_operation *op)
{
    return op->type == STORE_PUT ? planted_once_in(PLANT_ROW_LOST, 5) : planted(PLANT_DELETE_LOST);
}

/* The task's operations without those that are lost. */
static void thin(struct store_task *task)
{
    struct store_task kept = *task;
    struct store_operation op;
    size_t at = 0;
    int rc = 0;

    kept.bytes = NULL;
    kept.len = kept.capacity = 0;
    while (rc == 0 && store_task_next(task, &at, &op)) {
        if (lost(&op)) {
            continue;
        }
        rc = op.type == STORE_PUT      ? store_task_put(&kept, op.key, op.value)
             : op.type == STORE_DELETE ? store_task_delete(&kept, op.key)
                                       : store_task_erase(&kept, op.key, op.value);
    }
    assert(rc == 0);
    store_task_deinit(task);
    *task = kept;
}

static void broken_submit(struct store *store, struct store_task *task)
{
    if (task->type == STORE_CHECKPOINT && (planted(PLANT_ROW_LOST) || planted(PLANT_DELETE_LOST))) {
        thin(task);
    }
    sound->submit(store, task);
}

static struct store_task *broken_collect(struct store *store, unsigned owner)
{
    struct store_task *tasks = sound->collect(store, owner);

    for (struct store_task *t = tasks; t; t = t->next) {
        if (t->type == STORE_CHECKPOINT && t->error == 0 && t->lsn > covered) {
            covered = t->lsn;
        }
    }
    return tasks;
}

void plant_store(struct store *store)
{
    if (store->operations != &broken) { /* a new one */
        covered = 0;
        sound = store->operations;
        broken = *sound;
        broken.replay = broken_replay;
        broken.scan = broken_scan;
        broken.append = broken_append;
        broken.durable = broken_durable;
        broken.submit = broken_submit;
        broken.collect = broken_collect;
        store->operations = &broken;
    }
    appended = 0;
}
