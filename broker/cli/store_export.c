/* store_export.c -- a store as JSON lines: recovered into the tables of a broker, which is what a node would go on
 * from, then printed. One shard, no thread, no client; nothing is written. Clients and topics come in the order of
 * their bytes, so that equal contents give equal lines whatever the store's hash key. */
#include "broker/cli/store_command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "broker/flow/broker.h"
#include "broker/flow/durable.h"
#include "broker/group/snapshot.h"
#include "broker/topic/route_table.h"
#include "proto/base/clock.h"

#define PAGE_BYTES (1u << 20)

struct export
{
    struct store *store;
    struct store_survey survey;
    struct node_tables tables;
    struct auth auth;
    struct config config; /* its limits are not asked: what is in the store was allowed */
    struct broker broker;
    bool begun;               /* broker is to be freed */
    struct session **clients; /* owned; sorted */
    size_t client_count;
    struct map by_uid; /* struct session */
    struct store_writer writer;
    int lock;
};

/* ---- in memory ---- */

static bool has_uid(const void *value, const void *key)
{
    return ((const struct session *)value)->uid == *(const uint64_t *)key;
}

static struct slice client_of(void *arg, uint64_t uid)
{
    const struct export *x = arg;
    const struct session *s = map_find(&x->by_uid, hash_mix(uid), has_uid, &uid);

    return s ? session_client_id(s) : SLICE("");
}

/* Names of listeners stand in no configuration here, but principals are to keep them. A store that has seen more of
 * them than there can be at a time keeps some of the old ones. */
static void know_listeners(struct export *x)
{
    const struct store_name *n;

    for (size_t i = 0;
         x->tables.listener_count < CONFIG_LISTENERS_MAX && (n = map_next(&x->survey.listeners, &i)) != NULL;) {
        x->tables.listeners[x->tables.listener_count++].name = n->text;
    }
}

static int load(struct export *x)
{
    struct node_tables *t = &x->tables;
    struct broker *const brokers[] = {&x->broker};

    t->store = x->store;
    t->key = x->store->identity.hash_key;
    t->shard_count = 1;
    t->auth = &x->auth;
    x->auth.rates = x->survey.rates;
    atomic_init(&t->config, &x->config);
    know_listeners(x);
    int rc = route_table_new(&t->key, 1, &t->routes);
    if (rc) {
        return rc;
    }
    route_table_asleep(t->routes, 0);
    x->begun = true;
    rc = broker_init(&x->broker, t, 0, 1);
    return rc ? rc : recover(t, brokers, 1);
}

static int compare_slices(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int order = memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);

    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int compare_clients(const void *a, const void *b)
{
    const struct slice x = session_client_id(*(struct session *const *)a);
    const struct slice y = session_client_id(*(struct session *const *)b);

    return compare_slices(&x, &y);
}

static int sort_clients(struct export *x)
{
    size_t count = 0;
    struct session *s;

    for (unsigned g = 0; g < GROUPS; g++) {
        count += x->broker.groups[g].sessions.count;
    }
    x->clients = calloc(count + 1, sizeof(struct session *));
    if (!x->clients) {
        return -ENOMEM;
    }
    for (unsigned g = 0; g < GROUPS; g++) {
        for (size_t i = 0; (s = map_next(&x->broker.groups[g].sessions, &i)) != NULL;) {
            x->clients[x->client_count++] = s;
            if (map_add(&x->by_uid, hash_mix(s->uid), s) != 0) {
                return -ENOMEM;
            }
        }
    }
    qsort(x->clients, x->client_count, sizeof(struct session *), compare_clients);
    return 0;
}

static void unload(struct export *x)
{
    free(x->clients);
    map_deinit(&x->by_uid);
    if (x->begun) {
        broker_release(&x->broker);
        broker_deinit(&x->broker);
    }
    route_table_free(x->tables.routes);
}

/* ---- lines ---- */

/* Takes the object. Returns 0, -ENOMEM, -EILSEQ for text that is not UTF-8, or the error of standard output. */
static int print(json_t *object)
{
    if (!object) {
        return errno == ENOMEM ? -ENOMEM : -EILSEQ;
    }
    errno = 0;
    int rc = json_dumpf(object, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF ? 0 : errno ? -errno : -ENOMEM;
    json_decref(object);
    errno = 0; /* for the next object */
    return rc;
}

static size_t list_length(const struct list *list)
{
    size_t n = 0;

    for (const struct list *at = list->next; at != list; at = at->next) {
        n++;
    }
    return n;
}

/* Both kinds lie in their lists in the order in which they were made; that is not part of them. */
struct sorted_filter {
    struct slice filter; /* first: what compare_slices compares */
    struct slice share;
    const struct subscription_options *options;
};

static int compare_filters(const void *a, const void *b)
{
    int order = compare_slices(&((const struct sorted_filter *)a)->share, &((const struct sorted_filter *)b)->share);
    return order ? order : compare_slices(a, b);
}

static int print_subscriptions(const struct session *s)
{
    size_t count = 0;
    struct sorted_filter *sorted =
        calloc(list_length(&s->subscriptions) + list_length(&s->shares) + 1, sizeof(*sorted));
    int rc = 0;

    if (!sorted) {
        return -ENOMEM;
    }
    for (const struct list *at = s->subscriptions.next; at != &s->subscriptions; at = at->next) {
        const struct subscription *sub = CONTAINER_OF(at, const struct subscription, in_owner);
        sorted[count++] = (struct sorted_filter){subscription_filter(sub), SLICE(""), &sub->options};
    }
    for (const struct list *at = s->shares.next; at != &s->shares; at = at->next) {
        const struct session_share *share = CONTAINER_OF(at, const struct session_share, in_session);
        sorted[count++] =
            (struct sorted_filter){session_share_filter(share), session_share_name(share), &share->options};
    }
    qsort(sorted, count, sizeof(*sorted), compare_filters);
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = print(store_write_subscription(s, sorted[i].share, sorted[i].filter, sorted[i].options));
    }
    free(sorted);
    return rc;
}

static const struct session_share *share_of(const struct session *s, const struct queue_entry *e)
{
    for (const struct list *at = s->shares.next; e->extra && e->extra->share && at != &s->shares; at = at->next) {
        const struct session_share *share = CONTAINER_OF(at, const struct session_share, in_session);
        if (share->share == e->extra->share) {
            return share;
        }
    }
    return NULL;
}

/* Bring all of a queue into memory. */
static int warm_queue(struct export *x, struct session *s)
{
    const struct record_world world = {.rates = x->survey.rates, .key = &x->tables.key};
    int rc = 0;

    while (rc == 0 && s->queue->cold < s->queue->cold_end) {
        struct store_task task = {.type = STORE_READ, .max_bytes = PAGE_BYTES};
        struct slice from = snapshot_key_queue(task.key, s->group, s->uid, s->queue->cold);
        task.key_len = (uint16_t)from.len;
        task.prefix_len = (uint16_t)(from.len - sizeof(uint64_t));
        rc = store_read(x->store, &task);
        rc = rc && rc != -EBADMSG ? rc : page_load(&task, s, &world);
        store_task_deinit(&task);
    }
    return rc;
}

/* What has a lower number may have been sent. */
static uint64_t sent_below(const struct session *s)
{
    const struct queue *q = s->queue;
    uint64_t below = q->resend_below;

    if (s->attached_before) { /* it may have gone on to the end */
        return q->tail;
    }
    for (uint64_t n = q->head; n < q->tail; n++) {
        const struct queue_entry *e = queue_at(q, n);
        if (e->state == QUEUE_SENT || e->state == QUEUE_RELEASED || (e->state != QUEUE_DONE && e->sent_before)) {
            below = n >= below ? n + 1 : below;
        }
    }
    return below;
}

static int print_queue(struct export *x, struct session *s)
{
    int rc = warm_queue(x, s);
    uint64_t below = rc ? 0 : sent_below(s);

    for (uint64_t n = s->queue->head; n < s->queue->tail && rc == 0; n++) {
        const struct queue_entry *e = queue_at(s->queue, n);
        if (e->state != QUEUE_DONE) {
            rc = print(store_write_message(&x->writer, s, n, e, n < below, share_of(s, e)));
        }
    }
    queue_free(s->queue); /* one queue in memory is enough */
    s->queue = NULL;
    return rc;
}

static int print_retained(struct export *x)
{
    size_t count = 0;
    struct slice *topics = calloc(x->survey.topics.count + 1u, sizeof(*topics));
    const struct store_name *n;
    int rc = 0;

    if (!topics) {
        return -ENOMEM;
    }
    for (size_t i = 0; (n = map_next(&x->survey.topics, &i)) != NULL;) {
        topics[count++] = slice_of(n->text, n->len);
    }
    qsort(topics, count, sizeof(*topics), compare_slices);
    for (size_t i = 0; i < count && rc == 0; i++) {
        const struct message *m =
            retained_get(x->broker.retained, topics[i], hash_keyed(&x->tables.key, topics[i]), clock_wall_ms());
        rc = m ? print(store_write_retained(&x->writer, m)) : 0;
    }
    free(topics);
    return rc;
}

static int print_all(struct export *x)
{
    errno = 0;
    int rc = print(store_write_head());

    for (size_t i = 0; i < x->client_count && rc == 0; i++) {
        struct session *s = x->clients[i];
        rc = print(store_write_session(s));
        rc = rc ? rc : print_subscriptions(s);
        rc = rc || !s->queue ? rc : print_queue(x, s);
    }
    return rc ? rc : print_retained(x);
}

/* ---- all of it ---- */

/* A node that writes meanwhile would change the log under our hands: its lock says whether there is one, and keeps it
 * from starting. A copy on a medium that is not writable may have no such file. */
static int lock_store(struct export *x, const char *dir)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/LOCK", dir);
    x->lock = open(path, O_RDONLY | O_CLOEXEC);
    if (x->lock >= 0 && flock(x->lock, LOCK_SH | LOCK_NB) != 0) {
        return cli_fail(CLI_FAILED, "a node runs on %s: make a copy with \"ternctl store backup\", and export that one",
                        dir);
    }
    return CLI_DONE;
}

static int export_store(struct export *x, const char *dir)
{
    int rc = store_survey(x->store, &x->survey), status = CLI_DONE;
    uint64_t wrong = store_survey_wrong(&x->survey.counts);

    rc = rc ? rc : load(x);
    rc = rc ? rc : sort_clients(x);
    rc = rc ? rc : print_all(x);
    if (rc) {
        status = cli_fail(CLI_FAILED, "the export of %s is not complete: %s", dir, strerror(-rc));
    } else if (wrong > 0) { /* all that can be had is there: but whoever keeps only this copy must know */
        status = cli_fail(CLI_FAILED, "%s has damage that is not in the export: see \"ternctl store verify\"", dir);
    }
    unload(x);
    store_survey_deinit(&x->survey);
    return status;
}

int store_export(const char *dir)
{
    struct export *x = calloc(1, sizeof(*x));
    struct store_refusal refusal;

    if (!x) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    x->writer = (struct store_writer){.client_of = client_of, .arg = x};
    int status = lock_store(x, dir);
    if (status == CLI_DONE && store_lmdb_open_readonly(dir, &x->store, &refusal) != 0) {
        status = cli_fail(CLI_FAILED, "%s", refusal.sentence);
    }
    if (x->store) {
        status = export_store(x, dir);
        store_close(x->store);
    }
    if (x->lock >= 0) {
        close(x->lock);
    }
    free(x);
    return status;
}
