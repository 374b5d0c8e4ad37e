/* enter.c -- how this node gets into its cluster.
 *
 *     BEGUN --> ASKING --> SEEKING --> STORING --> DONE        what its disk says already is passed over
 *
 * A data directory that was copied must not live twice: so a node that has been started before asks its seeds to ping
 * its own id (SWIM's ASK), and gives no sign of itself until none of them gets an answer. Whose id was taken asks again
 * and again, and serves its own clients meanwhile. Then it seeks a cluster, or founds one (cluster/bootstrap.h); its id
 * is used when it is on the disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/flow/driver_inside.h"
#include "broker/flow/flow.h"
#include "broker/group/snapshot.h"
#include "broker/peer/peer_address.h"
#include "cluster/swim_message.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define ASK_MS 700u        /* longer than who was asked waits for an answer (SWIM) */
#define ASK_AGAIN_MS 5000u /* while the id is taken */
#define STORE_AGAIN_MS 1000u

static uint64_t now_of(const struct driver *d)
{
    return d->broker->shard->now_ms;
}

static struct node_cluster *cluster_of(const struct driver *d)
{
    return d->broker->node->cluster;
}

void cluster_id_text(const uint8_t id[MEMBER_CLUSTER_ID_SIZE], char ret_text[CLUSTER_ID_TEXT])
{
    for (unsigned i = 0; i < MEMBER_CLUSTER_ID_SIZE; i++) {
        snprintf(ret_text + 2 * i, 3, "%02x", id[i]);
    }
}

static bool is_self(const struct driver *d, const struct member_address *address)
{
    return member_address_eq(address, &cluster_of(d)->address);
}

/* ---- does somebody live under this id? ---- */

static void ask(struct driver *d)
{
    const struct peer_terms *terms = &cluster_of(d)->terms;
    struct entry *e = &d->entry;
    struct buf question = {0};
    struct swim_message head = {.kind = SWIM_ASK,
                                .sender = terms->node_id,
                                .boot = terms->boot,
                                .seq = ++e->question,
                                .subject = terms->node_id};

    e->stage = ENTER_ASKING;
    e->asked = e->denied = 0;
    e->refused_now = false;
    e->due_ms = now_of(d) + ASK_MS;
    swim_head_encode(&head, &question);
    for (unsigned i = 0; i < e->seeds->count && !question.failed; i++) {
        if (!is_self(d, &e->seeds->seeds[i])) {
            driver_send(d, &e->seeds->seeds[i], buf_slice(&question));
            e->asked++;
        }
    }
    buf_deinit(&question);
}

static void name_double(struct driver *d, const struct member_address *from, const struct swim_message *m)
{
    struct swim_rumour r = {.member = {.address = *from, .boot = m->boot}};
    struct slice rumours = m->rumours;
    char address[PEER_ADDRESS_TEXT];

    while (swim_rumour_next(&rumours, &r) && !node_id_eq(&r.member.id, &m->subject)) {
    }
    peer_address_text(&r.member.address, address);
    log_event(LOG_ERROR, "node_refused", {"node", LOG_STR(d->broker->config->node_name)}, {"address", LOG_STR(address)},
              {"boot", LOG_INT((int64_t)r.member.boot)},
              {"reason", LOG_STR("a node with the same node id lives there: is its data directory used twice?")},
              {"next", LOG_STR("this one stays out, and tries again")});
}

bool enter_received(struct driver *d, const struct member_address *from, struct slice plain)
{
    struct entry *e = &d->entry;
    struct swim_message m;

    if (e->stage > ENTER_ASKING) {
        return false;
    }
    if (swim_message_decode(plain, &m) != 0 || m.seq != e->question ||
        !node_id_eq(&m.subject, &cluster_of(d)->terms.node_id)) {
        return true;
    }
    if (m.kind == SWIM_ACK) {
        if (!e->refused) {
            name_double(d, from, &m);
        }
        e->refused = e->refused_now = true;
        cluster_of(d)->ready_stale = true;
        e->due_ms = now_of(d) + ASK_AGAIN_MS;
    }
    e->denied += m.kind == SWIM_NACK;
    enter_step(d);
    return true;
}

/* ---- which cluster? ---- */

static void join_seeds(struct driver *d)
{
    struct seed_list *seeds = d->entry.seeds;

    for (unsigned i = 0; i < seeds->count; i++) {
        if (!is_self(d, &seeds->seeds[i])) {
            swim_join(d->swim, now_of(d), &seeds->seeds[i]);
        }
    }
}

unsigned enter_expected(const struct driver *d)
{
    unsigned configured = d->broker->config->cluster.bootstrap_expect;

    return configured ? configured : d->entry.seeds->others + 1;
}

static void belong(struct driver *d)
{
    struct entry *e = &d->entry;
    struct peer_terms *terms = &cluster_of(d)->terms;
    char id[CLUSTER_ID_TEXT];
    struct member self;

    e->stage = ENTER_DONE;
    e->due_ms = UINT64_MAX;
    cluster_of(d)->ready_stale = true;
    memcpy(terms->cluster_id, e->id, sizeof(e->id));
    atomic_store(&terms->has_id, true);
    cluster_id_text(e->id, id);
    log_event(LOG_INFO, e->founding ? "cluster_founded" : "cluster_joined", {"cluster", LOG_STR(terms->cluster)},
              {"id", LOG_STR(id)});
    driver_self(d->broker, &self);
    swim_self(d->swim, now_of(d), &self);
    driver_count_all(d);
}

static void store_id(struct driver *d)
{
    struct store_task *task = d->broker->node->store ? calloc(1, sizeof(*task)) : NULL;
    struct entry *e = &d->entry;
    struct buf value = {0};
    uint8_t key[SNAPSHOT_KEY_MAX];

    e->stage = ENTER_STORING;
    e->due_ms = UINT64_MAX;
    if (!d->broker->node->store) {
        belong(d);
        return;
    }
    struct slice name = snapshot_key_group(key, SNAPSHOT_NODE, SNAPSHOT_CLUSTER);
    snapshot_put_cluster(&value, e->id);
    if (!task || value.failed || store_task_put(task, name, buf_slice(&value)) != 0) {
        e->stage = ENTER_SEEKING;
        e->due_ms = now_of(d) + STORE_AGAIN_MS;
        if (task) {
            store_task_deinit(task);
        }
        free(task);
    } else {
        task->type = STORE_CHECKPOINT;
        task->owner = d->broker->shard->index;
        task->key_len = (uint16_t)name.len; /* says whose it is: cluster_stored */
        store_submit(d->broker->node->store, task);
    }
    buf_deinit(&value);
}

void cluster_load_id(struct peer_terms *terms, struct store *store)
{
    struct store_task task = {.type = STORE_READ, .max_bytes = 256};
    struct store_operation row;
    size_t at = 0;

    if (!store) {
        return;
    }
    struct slice key = snapshot_key_group(task.key, SNAPSHOT_NODE, SNAPSHOT_CLUSTER);
    task.key_len = task.prefix_len = (uint16_t)key.len;
    if (store_read(store, &task) == 0 && store_task_next(&task, &at, &row)) {
        atomic_store(&terms->has_id, snapshot_get_cluster(row.value, terms->cluster_id) == 0);
    }
    store_task_deinit(&task);
}

bool cluster_stored(struct broker *b, struct store_task *task)
{
    if (task->key_len == 0) {
        return false;
    }
    struct driver *d = b->node->cluster ? driver_of(b) : NULL;
    if (d && task->error) {
        log_event(LOG_ERROR, "cluster_id_not_stored", {"error", LOG_STR(strerror(-task->error))});
        d->entry.stage = ENTER_SEEKING;
        d->entry.due_ms = now_of(d) + STORE_AGAIN_MS;
    } else if (d) {
        belong(d);
    }
    if (d) {
        driver_rearm(d);
    }
    store_task_deinit(task);
    free(task);
    return true;
}

static void seek(struct driver *d)
{
    struct entry *e = &d->entry;
    const struct node_id *self = &cluster_of(d)->terms.node_id;
    enum bootstrap_verdict verdict = bootstrap_look(&e->bootstrap, d->swim, self, enter_expected(d), now_of(d), e->id);

    e->due_ms = e->bootstrap.due_ms;
    if (verdict != BOOTSTRAP_WAIT) {
        e->founding = verdict == BOOTSTRAP_MAKE;
        if (e->founding) {
            clock_random(e->id, sizeof(e->id));
        }
        store_id(d);
    } else if (e->bootstrap.seen != e->told_seen) {
        e->told_seen = e->bootstrap.seen;
        log_event(LOG_INFO, "cluster_awaited", {"empty_nodes", LOG_INT(e->told_seen)},
                  {"bootstrap_expect", LOG_INT(enter_expected(d))});
    }
}

/* ---- both ---- */

/* Nobody else has this id: from now on it may be heard of. */
static void show(struct driver *d)
{
    struct entry *e = &d->entry;

    e->stage = atomic_load(&cluster_of(d)->terms.has_id) ? ENTER_DONE : ENTER_SEEKING;
    e->due_ms = UINT64_MAX;
    join_seeds(d);
}

void enter_step(struct driver *d)
{
    struct entry *e = &d->entry;
    enum enter_stage before = e->stage;

    if (e->stage == ENTER_ASKING && now_of(d) >= e->due_ms && e->refused_now) {
        ask(d);
    } else if (e->stage == ENTER_ASKING && !e->refused_now && (now_of(d) >= e->due_ms || e->denied >= e->asked)) {
        show(d);
    }
    if (e->stage == ENTER_SEEKING) {
        seek(d);
    }
    cluster_of(d)->ready_stale |= e->stage != before;
}

void enter_seeds(struct driver *d, struct seed_list *seeds)
{
    struct entry *e = &d->entry;
    bool first = !e->seeds;

    free(e->seeds);
    e->seeds = seeds;
    if (first && cluster_of(d)->terms.boot > 1) {
        ask(d);
    } else if (first) {
        show(d);
    } else if (e->stage > ENTER_ASKING) {
        join_seeds(d);
    }
    enter_step(d);
}

void enter_deinit(struct driver *d)
{
    free(d->entry.seeds);
}
