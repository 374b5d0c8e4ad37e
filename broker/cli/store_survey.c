/* store_survey.c -- every record of a store read and decoded: what there is, and whether it is all as it should be. */
#include "broker/cli/store_command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/group/snapshot.h"
#include "proto/mqtt/topic.h"

/* ---- names ---- */

static bool is_name(const void *value, const void *key)
{
    const struct store_name *n = value;
    return slice_eq(slice_of(n->text, n->len), *(const struct slice *)key);
}

/* The name as it is kept, NULL when memory is out. */
static const struct store_name *keep_name(struct store_survey *v, struct map *names, struct slice name)
{
    uint64_t hash = hash_keyed(&v->store->identity.hash_key, name);
    struct store_name *n = map_find(names, hash, is_name, &name);

    if (n) {
        return n;
    }
    n = calloc(1, sizeof(*n) + name.len + 1);
    if (!n || map_add(names, hash, n) != 0) {
        free(n);
        v->error = -ENOMEM;
        return NULL;
    }
    n->len = (uint32_t)name.len;
    if (name.len > 0) {
        memcpy(n->text, name.ptr, name.len);
    }
    return n;
}

static void free_names(struct map *names)
{
    void *n;

    for (size_t i = 0; (n = map_next(names, &i)) != NULL;) {
        free(n);
    }
    map_deinit(names);
}

static const char *listener_name(void *arg, struct slice name)
{
    struct store_survey *v = arg;
    const struct store_name *n = name.len > 0 ? keep_name(v, &v->listeners, name) : NULL;

    return n ? n->text : "";
}

/* ---- rows ---- */

/* Another group begins: messages of the last one whose session did not come are nobody's. */
static void end_group(struct store_survey *v)
{
    for (; v->queue_at < v->queue_count; v->queue_at++) {
        v->counts.orphans += v->queues[v->queue_at].rows;
    }
    v->queue_at = v->queue_count = 0;
}

static int count_entry(struct store_survey *v, uint64_t uid)
{
    v->counts.queued++;
    if (v->queue_count > 0 && v->queues[v->queue_count - 1].uid == uid) {
        v->queues[v->queue_count - 1].rows++;
        return 0;
    }
    if (v->queue_count == v->queue_capacity) {
        size_t capacity = v->queue_capacity ? v->queue_capacity * 2 : 64;
        struct store_queue *more = realloc(v->queues, capacity * sizeof(*more));
        if (!more) {
            return -ENOMEM;
        }
        v->queues = more;
        v->queue_capacity = capacity;
    }
    v->queues[v->queue_count++] = (struct store_queue){.uid = uid, .rows = 1};
    return 0;
}

/* Sessions come in the order of their queues. */
static void match_queue(struct store_survey *v, const struct snapshot_session *row)
{
    uint64_t wanted = (uint64_t)row->queue_waiting + row->queue_inflight, found = 0;

    for (; v->queue_at < v->queue_count && v->queues[v->queue_at].uid <= row->uid; v->queue_at++) {
        if (v->queues[v->queue_at].uid == row->uid) {
            found = v->queues[v->queue_at].rows;
        } else {
            v->counts.orphans += v->queues[v->queue_at].rows;
        }
    }
    v->counts.missing += wanted > found ? wanted - found : 0;
}

static int see_session(struct store_survey *v, const struct record_world *world, struct slice key, struct slice value)
{
    struct snapshot_session row;
    uint8_t own[SNAPSHOT_KEY_MAX];
    int rc = snapshot_get_session(value, world, &row);

    if (rc) {
        return rc;
    }
    v->counts.sessions++;
    v->counts.subscriptions += row.subscription_count + row.share_count;
    match_queue(v, &row);
    will_free(row.will);
    principal_unref(row.principal);
    uint16_t group = (uint16_t)group_of(hash_keyed(world->key, row.client_id));
    return slice_eq(key, snapshot_key_session(own, group, row.uid)) ? 0 : -EBADMSG;
}

static int see_retained(struct store_survey *v, const struct record_world *world, struct slice key, struct slice value)
{
    struct message *m;
    uint8_t own[SNAPSHOT_KEY_MAX];
    int rc = snapshot_get_retained(value, world, &m);

    if (rc) {
        return rc;
    }
    struct slice topic = message_topic(m);
    if (!slice_eq(key, snapshot_key_retained(own, (uint16_t)group_of(m->topic_hash), world->key, topic))) {
        rc = -EBADMSG;
    } else {
        v->counts.retained += m->payload_len > 0; /* else: that it was deleted */
        rc = keep_name(v, &v->topics, topic) ? 0 : -ENOMEM;
    }
    message_unref(m);
    return rc;
}

static int see_entry(struct store_survey *v, const struct record_world *world, struct slice key, struct slice value)
{
    struct queue_entry entry;
    struct cursor c = cursor_at(slice_drop(key, 3));
    uint64_t number, uid = cursor_u64(&c);
    int rc = snapshot_get_number(key, &number);

    rc = rc ? rc : snapshot_get_entry(value, world, &entry);
    if (rc == 0) {
        message_unref(entry.message);
        free(entry.extra);
        rc = count_entry(v, uid);
    }
    return rc;
}

static bool go_on(struct store_survey *v, int rc)
{
    if (rc == -ENOMEM || rc == -EPROTONOSUPPORT) {
        v->error = rc;
    } else if (rc) {
        v->counts.damaged++;
    }
    return v->error == 0;
}

static struct record_world world_of(struct store_survey *v)
{
    return (struct record_world){
        .rates = v->rates, .listener = listener_name, .arg = v, .key = &v->store->identity.hash_key};
}

static bool see_row(void *arg, struct slice key, struct slice value)
{
    struct store_survey *v = arg;
    const struct record_world world = world_of(v);
    uint64_t lsn, digest;

    if (key.len == 3 && key.ptr[0] == 0xff && key.ptr[1] == 0xff && key.ptr[2] == SNAPSHOT_CLUSTER) {
        int rc = snapshot_get_cluster(value, v->cluster_id);
        v->has_cluster = rc == 0;
        return go_on(v, rc);
    }
    if (key.len < 3 || key.ptr[0] != 0 || key.ptr[1] >= GROUPS) {
        return go_on(v, -EBADMSG);
    }
    if (key.ptr[1] != v->group) {
        end_group(v);
        v->group = key.ptr[1];
    }
    switch (key.ptr[2]) {
    case SNAPSHOT_APPLIED:
        return go_on(v, snapshot_get_applied(value, &lsn, &digest));
    case SNAPSHOT_QUEUE:
        return go_on(v, see_entry(v, &world, key, value));
    case SNAPSHOT_RETAINED:
        return go_on(v, see_retained(v, &world, key, value));
    case SNAPSHOT_SESSION:
        return go_on(v, see_session(v, &world, key, value));
    default:
        return go_on(v, -EBADMSG);
    }
}

/* ---- the log ---- */

static int see_command(struct store_survey *v, const struct record *rec)
{
    v->counts.commands++;
    if (rec->command.type == COMMAND_CLAIM) {
        will_free(rec->command.claim.will);
    }
    if (rec->group >= GROUPS) {
        return -EBADMSG;
    }
    if (rec->command.type == COMMAND_RETAIN && !keep_name(v, &v->topics, message_topic(rec->command.retain))) {
        return -ENOMEM;
    }
    return 0;
}

static bool see_batch(void *arg, uint64_t lsn, struct slice bytes)
{
    struct store_survey *v = arg;
    const struct record_world world = world_of(v);
    struct record_reader reader;
    struct record rec;
    int rc = record_open(&reader, bytes, &world), more = 0;

    v->counts.batches++;
    v->first_lsn = v->first_lsn ? v->first_lsn : lsn;
    v->last_lsn = lsn;
    while (rc == 0 && (more = record_next(&reader, &rec)) > 0) {
        rc = see_command(v, &rec);
    }
    record_close(&reader);
    return go_on(v, rc ? rc : more);
}

/* ---- all of it ---- */

int store_survey(struct store *store, struct store_survey *ret_survey)
{
    struct store_survey *v = ret_survey;
    uint64_t before = store_lmdb_damaged(store);

    *v = (struct store_survey){.store = store};
    int rc = user_rates_new(&v->rates);
    /* The log first: beside a running node it changes the faster. */
    rc = rc ? rc : store_replay(store, see_batch, v);
    rc = rc ? rc : v->error;
    uint64_t bad = store_lmdb_damaged(store) - before, gone = v->last_lsn - v->first_lsn + 1 - v->counts.batches;
    if (v->counts.batches > 0) {
        v->counts.missing_batches = gone > bad ? gone - bad : 0;
    }
    rc = rc ? rc : store_scan(store, SLICE(""), see_row, v);
    end_group(v);
    v->counts.damaged += store_lmdb_damaged(store) - before;
    return rc ? rc : v->error;
}

void store_survey_deinit(struct store_survey *v)
{
    free_names(&v->listeners);
    free_names(&v->topics);
    free(v->queues);
    user_rates_free(v->rates);
}

uint64_t store_survey_wrong(const struct store_counts *c)
{
    return c->damaged + c->missing + c->missing_batches + c->orphans;
}

/* ---- verify ---- */

static void print_id(const char *name, const uint8_t id[16])
{
    printf("%-20s", name);
    for (unsigned i = 0; i < 16; i++) {
        printf("%02x", id[i]);
    }
    printf("\n");
}

static void print_counts(const struct store_survey *v)
{
    const struct store_counts *c = &v->counts;

    print_id("node id", v->store->identity.node_id);
    printf("start number        %" PRIu64 "\n", v->store->identity.boot);
    if (v->has_cluster) {
        print_id("cluster id", v->cluster_id);
    } else {
        printf("cluster id          none yet\n");
    }
    printf("sessions            %" PRIu64 ", at the last checkpoint\n", c->sessions);
    printf("subscriptions       %" PRIu64 "\n", c->subscriptions);
    printf("queued messages     %" PRIu64 "\n", c->queued);
    printf("retained messages   %" PRIu64 "\n", c->retained);
    printf("log                 %" PRIu64 " batches, %" PRIu64 " to %" PRIu64 ", of %" PRIu64 " commands since\n",
           c->batches, v->first_lsn, v->last_lsn, c->commands);
}

/* One sentence about all that is not as it should be. */
static int tell_wrong(const char *dir, const struct store_counts *c)
{
    const struct {
        uint64_t n;
        const char *what;
    } parts[] = {
        {c->damaged, "records are damaged"},
        {c->missing_batches, "batches of the log are missing"},
        {c->missing, "queued messages are missing"},
        {c->orphans, "queued messages have no session"},
    };
    struct buf text = {0};

    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        if (parts[i].n > 0) {
            cli_put(&text, "%s%" PRIu64 " %s", text.len > 0 ? ", " : "", parts[i].n, parts[i].what);
        }
    }
    int status = cli_fail(CLI_FAILED, "%s: %.*s", dir, (int)text.len, (const char *)text.ptr);
    buf_deinit(&text);
    return status;
}

int store_verify(const char *dir)
{
    struct store_refusal refusal;
    struct store_survey survey;
    struct store *store;

    if (store_lmdb_open_readonly(dir, &store, &refusal) != 0) {
        return cli_fail(CLI_FAILED, "%s", refusal.sentence);
    }
    int rc = store_survey(store, &survey), status = CLI_DONE;
    print_counts(&survey);
    if (rc == -EPROTONOSUPPORT) {
        status = cli_fail(CLI_FAILED, "%s holds records of a later Tern", dir);
    } else if (rc) {
        status = cli_fail(CLI_FAILED, "%s cannot be read to its end: %s", dir, strerror(-rc));
    } else if (store_survey_wrong(&survey.counts) > 0) {
        status = tell_wrong(dir, &survey.counts);
    } else {
        puts("every record is whole");
    }
    store_survey_deinit(&survey);
    store_close(store);
    return status;
}
