/* fuzz_snapshot.c -- rows of the state: any bytes are read without harm, and what was read is written and read the
 * same.
 *
 * The first byte says which kind of row, by the letter in its key; the rest is its value. A session whose filters are
 * valid, as a checksum would vouch for, is also made again in a group. */
#include <errno.h>

#include "broker/group/snapshot.h"
#include "proto/mqtt/topic.h"
#include "tests/fuzz/ops.h"
#include "tests/unit/broker/group/written.h"

#define LEVELS_MAX 200

static struct record_world world;

static void check_entry(struct slice value)
{
    struct queue_entry e, again;
    struct buf row = {0}, twice = {0};

    if (snapshot_get_entry(value, &world, &e) != 0) {
        require(!e.message && !e.extra);
        return;
    }
    require(e.state < QUEUE_DONE && (e.qos == 1 || e.qos == 2));
    require((e.message != NULL) == (e.state != QUEUE_RELEASED));
    snapshot_put_entry(&row, &e);
    require(snapshot_get_entry(buf_slice(&row), &world, &again) == 0);
    snapshot_put_entry(&twice, &again);
    require(slice_eq(buf_slice(&row), buf_slice(&twice)));
    message_unref(e.message);
    message_unref(again.message);
    free(e.extra);
    free(again.extra);
    buf_deinit(&row);
    buf_deinit(&twice);
}

static void check_retained(struct slice value)
{
    struct message *m = NULL;
    struct buf row = {0};

    if (snapshot_get_retained(value, &world, &m) != 0) {
        require(!m);
        return;
    }
    require(m->topic_len > 0 && m->qos <= 2);
    snapshot_put_retained(&row, m);
    require(row.len == value.len);
    message_unref(m);
    buf_deinit(&row);
}

static void check_applied(struct slice value)
{
    uint64_t lsn, digest;
    struct buf row = {0};

    if (snapshot_get_applied(value, &lsn, &digest) == 0) {
        snapshot_put_applied(&row, lsn, digest);
        require(slice_eq(buf_slice(&row), value));
        buf_deinit(&row);
    }
}

struct place {
    struct group group;
    struct group_context context;
    struct session_quota sessions;
    struct retained_quota retained;
};

static void place_init(struct place *p)
{
    *p = (struct place){.retained = {.count_max = 10, .bytes_max = UINT64_MAX}};
    p->context.session_quota = &p->sessions;
    require(topic_tree_new(&test_key, &p->context.tree) == 0);
    require(retained_new(&test_key, &p->retained, &p->context.retained) == 0);
    group_init(&p->group, 3, &p->context);
}

static void place_deinit(struct place *p, struct session *s)
{
    struct outcome out;
    struct list *at;

    group_apply(&p->group, &(struct command){.type = COMMAND_END, .session = s}, &out);
    require(out.error == 0 && out.ended == s);
    will_free(out.will);
    while ((at = list_pop(&s->subscriptions)) != NULL) {
        topic_tree_unsubscribe(p->context.tree, CONTAINER_OF(at, struct subscription, in_owner));
    }
    while ((at = list_pop(&s->shares)) != NULL) {
        free(CONTAINER_OF(at, struct session_share, in_session));
    }
    session_free(s);
    group_deinit(&p->group);
    topic_tree_free(p->context.tree);
    retained_free(p->context.retained);
    require(p->sessions.count == 0);
}

/* The row that the session of a row has; what was in flight is cold and no longer counted. */
static void restore(struct snapshot_session *row, struct buf *ret_row)
{
    struct place p;
    struct session *s = NULL;

    place_init(&p);
    int rc = group_restore(&p.group, &test_key, row, &s);
    require(s && (rc == 0 || rc == -EBADMSG));
    require(!row->will && !row->principal);
    require(rc != 0 || s->subscription_count <= row->subscription_count + row->share_count);
    if (rc == 0) {
        snapshot_put_session(ret_row, s);
        require(!ret_row->failed);
    }
    place_deinit(&p, s);
}

/* Look through both lists: as many as the counts say. Whether every filter is one. */
static bool lists_valid(const struct snapshot_session *row)
{
    struct cursor subscriptions = row->subscriptions, shares = row->shares;
    struct subscription_options o;
    struct slice name, filter;
    bool valid = true;

    for (uint32_t i = 0; i < row->subscription_count; i++) {
        require(snapshot_next_subscription(&subscriptions, &filter, &o) == 0);
        require(filter.len > 0 && o.qos <= 2 && o.retain_handling <= 2 && o.id <= 268435455);
        valid = valid && mqtt_filter_valid(filter, LEVELS_MAX);
    }
    for (uint32_t i = 0; i < row->share_count; i++) {
        require(snapshot_next_share(&shares, &name, &filter, &o) == 0);
        require(filter.len > 0 && o.qos <= 2 && o.retain_handling <= 2 && o.id <= 268435455);
        valid = valid && mqtt_filter_valid(filter, LEVELS_MAX);
    }
    return valid;
}

static void check_session(struct slice value)
{
    struct snapshot_session row;
    struct buf first = {0}, second = {0};

    if (snapshot_get_session(value, &world, &row) != 0) {
        require(!row.will && !row.principal);
        return;
    }
    require(row.client_id.len > 0 && row.uid != 0 && row.qos2.len == (size_t)row.qos2_count * 2);
    require(row.queue_head <= row.queue_tail);
    if (lists_valid(&row)) {
        restore(&row, &first);
        if (first.len > 0) {
            require(snapshot_get_session(buf_slice(&first), &world, &row) == 0 && lists_valid(&row));
            restore(&row, &second);
            /* Packet identifiers stand in the order of a hash table, which depends on the order they came in. */
            require(row.qos2_count > 1 ? first.len == second.len : slice_eq(buf_slice(&first), buf_slice(&second)));
        }
    }
    will_free(row.will);
    principal_unref(row.principal);
    buf_deinit(&first);
    buf_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct user_rates *rates;

    require(user_rates_new(&rates) == 0);
    world = written_world(rates);
    switch (ops_byte(&in)) {
    case SNAPSHOT_SESSION:
        check_session(in);
        break;
    case SNAPSHOT_QUEUE:
        check_entry(in);
        break;
    case SNAPSHOT_RETAINED:
        check_retained(in);
        break;
    case SNAPSHOT_APPLIED:
        check_applied(in);
        break;
    }
    user_rates_free(rates); /* asserts that no principal is left */
    return 0;
}
