/* snapshot_test.c -- rows of the state: their keys in order, their bytes, and sessions made again from them; and bytes
 * that no writer wrote. */
#include "tests/lib/alloc_fail.h"

/* Compiled here once more, so that their allocations can be made to fail. */
#include "proto/base/buf.c"

#include "broker/auth/principal.c"
#include "broker/group/group_restore.c"
#include "broker/group/record_read.c"
#include "broker/group/snapshot.c"
#include "broker/session/packet_ids.c"
#include "broker/session/session.c"
#include "broker/topic/message.c"
#include "proto/base/map.c"

#include "tests/unit/broker/group/group_fixture.h"
#include "tests/unit/broker/group/written.h"
#include "tests/unit/broker/group/written_vectors.h"

static struct user_rates *rates;
static struct record_world world;

static void begin(void)
{
    int rc = user_rates_new(&rates);
    assert(rc == 0);
    world = written_world(rates);
}

static void finish(void)
{
    user_rates_free(rates); /* asserts that nobody holds one */
}

/* ---- keys ---- */

static void test_keys(void)
{
    uint8_t key[SNAPSHOT_KEY_MAX];
    static const struct {
        const char *name, *hex;
    } want[] = {
        {"group", "0102 61"},
        {"session", "0102 73 1112131415161718"},
        {"queue", "0102 71 1112131415161718 2122232425262728"},
    };
    struct slice got[] = {
        snapshot_key_group((uint8_t[SNAPSHOT_KEY_MAX]){0}, 0x0102, SNAPSHOT_APPLIED),
        snapshot_key_session((uint8_t[SNAPSHOT_KEY_MAX]){0}, 0x0102, 0x1112131415161718),
        snapshot_key_queue((uint8_t[SNAPSHOT_KEY_MAX]){0}, 0x0102, 0x1112131415161718, 0x2122232425262728)};

    for (size_t i = 0; i < COUNT_OF(want); i++) {
        struct slice bytes = unit_hex(want[i].hex);
        CHECK_CASE(want[i].name, slice_eq(got[i], bytes));
        free((void *)bytes.ptr);
    }
    struct slice retained = snapshot_key_retained(key, 5, &test_key, SLICE("a/b"));
    CHECK(retained.len == SNAPSHOT_KEY_MAX && slice_eq(slice_of(key, 3), SLICE("\0\5r")));
    uint8_t other[SNAPSHOT_KEY_MAX];
    CHECK(slice_eq(retained, snapshot_key_retained(other, 5, &test_key, SLICE("a/b"))));
    CHECK(!slice_eq(retained, snapshot_key_retained(other, 5, &test_key, SLICE("a/c"))));
    CHECK(memcmp(key + 3, key + 11, 8) != 0); /* two hashes, not one twice */
}

/* The rows of a queue lie in its order, all of one session together, all of one kind together. */
static void test_key_order(void)
{
    static const uint64_t numbers[] = {0, 1, 255, 256, 65535, 65536, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX};
    uint8_t last[SNAPSHOT_KEY_MAX] = {0}, key[SNAPSHOT_KEY_MAX];
    uint64_t number;

    for (unsigned group = 0; group < 3; group++) {
        for (size_t u = 0; u < COUNT_OF(numbers); u++) {
            for (size_t n = 0; n < COUNT_OF(numbers); n++) {
                struct slice k = snapshot_key_queue(key, (uint16_t)(group * 127), numbers[u], numbers[n]);
                CHECK(k.len == SNAPSHOT_KEY_MAX && memcmp(last, key, sizeof(key)) < 0);
                CHECK(snapshot_get_number(k, &number) == 0 && number == numbers[n]);
                memcpy(last, key, sizeof(key));
            }
        }
    }
    number = 7;
    CHECK(snapshot_get_number(slice_of(key, SNAPSHOT_KEY_MAX - 1), &number) == -EBADMSG);
    CHECK(snapshot_get_number(SLICE(""), &number) == -EBADMSG);
    CHECK(snapshot_get_number(snapshot_key_retained(key, 1, &test_key, SLICE("t")), &number) == -EBADMSG);
    CHECK(number == 7);
}

/* ---- values, one at a time ---- */

enum kind { SESSION, ENTRY, RETAINED, APPLIED };
static const char *const kind_names[] = {"session", "entry", "retained", "applied"};

/* Read one row from an exact-size copy, and let go of what came. */
static int read_row(enum kind kind, struct slice value)
{
    struct snapshot_session row;
    struct queue_entry entry;
    struct message *message = NULL;
    uint64_t lsn, digest;
    unsigned fail_at = alloc_fail_at;

    alloc_fail_at = 0;
    uint8_t *bytes = malloc(value.len + 1);
    assert(bytes);
    memcpy(bytes + 1, value.ptr, value.len);
    alloc_fail_at = fail_at;
    struct slice copy = slice_of(bytes + 1, value.len);
    int rc = 0;
    switch (kind) {
    case SESSION:
        rc = snapshot_get_session(copy, &world, &row);
        if (rc == 0) {
            will_free(row.will);
            principal_unref(row.principal);
        }
        break;
    case ENTRY:
        rc = snapshot_get_entry(copy, &world, &entry);
        CHECK(rc == 0 || !entry.extra);
        if (rc == 0) {
            message_unref(entry.message);
            free(entry.extra);
        }
        break;
    case RETAINED:
        rc = snapshot_get_retained(copy, &world, &message);
        message_unref(message);
        break;
    case APPLIED:
        rc = snapshot_get_applied(copy, &lsn, &digest);
        break;
    }
    free(bytes);
    return rc;
}

/* What holds for every row: it has the bytes of version 1; shorter or longer by anything it is none; a later version is
 * told from damage; changed anywhere it does no harm; and memory may run out. */
static void check_row(enum kind kind, const char *name, struct buf *row)
{
    struct slice value = buf_slice(row);

    CHECK_CASE(name, !row->failed);
    vectors_check(kind_names[kind], name, value);
    CHECK_CASE(name, read_row(kind, value) == 0);
    for (size_t len = 0; len < value.len; len++) {
        CHECK_CASE(name, read_row(kind, slice_of(value.ptr, len)) == -EBADMSG);
    }
    buf_u8(row, 0);
    CHECK_CASE(name, read_row(kind, buf_slice(row)) == -EBADMSG);
    row->len--;
    for (size_t bit = 0; bit < value.len * 8; bit++) {
        row->ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int rc = read_row(kind, value);
        CHECK_CASE(name, rc == (bit < 8 ? -EPROTONOSUPPORT : 0) || (bit >= 8 && rc == -EBADMSG));
        row->ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    int rc = -ENOMEM;
    for (unsigned n = 1; rc == -ENOMEM && n < 1000; n++) {
        message_pool_trim(0);
        alloc_fail_at = n;
        rc = read_row(kind, value);
    }
    CHECK_CASE(name, rc == 0 && alloc_fail_at > 0); /* the one that failed was noticed */
    alloc_fail_at = 0;
    buf_deinit(row);
}

static void check_entry(const char *name, const struct queue_entry *e)
{
    struct buf row = {0}, again = {0};
    struct queue_entry got;

    snapshot_put_entry(&row, e);
    CHECK_CASE(name, snapshot_get_entry(buf_slice(&row), &world, &got) == 0);
    CHECK_CASE(name, got.state == e->state && got.qos == e->qos && got.retain == e->retain);
    CHECK_CASE(name, got.sent_before == e->sent_before && !got.changed);
    CHECK_CASE(name, (got.message != NULL) == (e->message != NULL) && (got.extra != NULL) == (e->extra != NULL));
    if (got.extra && e->extra) {
        CHECK_CASE(name, got.extra->share == e->extra->share);
        CHECK_CASE(name,
                   slice_eq(slice_of(got.extra->ids, got.extra->ids_len), slice_of(e->extra->ids, e->extra->ids_len)));
    }
    if (got.message && e->message) {
        CHECK_CASE(name, got.message->topic_hash == e->message->topic_hash);
    }
    snapshot_put_entry(&again, &got);
    CHECK_CASE(name, slice_eq(buf_slice(&row), buf_slice(&again)));
    message_unref(got.message);
    free(got.extra);
    buf_deinit(&again);
    check_row(ENTRY, name, &row);
}

static void test_entries(void)
{
    begin();
    struct message *m = written_message("a/b", "hello");
    struct message *stamped = written_stamped("a/b", "hello", WRITTEN_STAMP);
    struct queue_extra *ids = calloc(1, sizeof(*ids) + 4), *share = calloc(1, sizeof(*share));
    assert(ids && share);
    ids->ids_len = 4;
    memcpy(ids->ids, "\x0b\x05\x0b\x06", 4);
    share->share = 0x1122334455667788;
    const struct {
        const char *name;
        struct queue_entry entry;
    } entries[] = {
        {"waiting", {.message = m, .state = QUEUE_WAITING, .qos = 1}},
        {"waiting with identifiers", {.message = m, .extra = ids, .state = QUEUE_WAITING, .qos = 2, .retain = true}},
        {"sent", {.message = m, .extra = share, .state = QUEUE_SENT, .qos = 2, .sent_before = true}},
        {"released", {.state = QUEUE_RELEASED, .qos = 2, .sent_before = true}},
        {"released, of a share", {.extra = share, .state = QUEUE_RELEASED, .qos = 2}},
        {"waiting, with a stamp", {.message = stamped, .state = QUEUE_WAITING, .qos = 1}},
    };

    for (size_t i = 0; i < COUNT_OF(entries); i++) {
        check_entry(entries[i].name, &entries[i].entry);
    }
    CHECK(vectors_count("entry") == COUNT_OF(entries));
    free(ids);
    free(share);
    message_unref(stamped);
    CHECK(atomic_load(&m->refs) == 1);
    message_unref(m);
    finish();
}

/* A row from before there were stamps: as old as can be, and this node's. */
static void test_unstamped(void)
{
    struct buf row = {0};
    struct message *m = written_message("a/b", "hello"), *got = NULL;

    begin();
    world.origin = 7;
    snapshot_put_retained(&row, m);
    CHECK(snapshot_get_retained(buf_slice(&row), &world, &got) == 0);
    CHECK(got && message_stamp_cmp(message_stamp(got), (struct message_stamp){0, 7}) == 0);
    world.origin = 0;
    message_unref(got);
    message_unref(m);
    buf_deinit(&row);
    finish();
}

static void test_the_rest(void)
{
    struct buf row = {0};
    struct message *m = written_message("a/b", "hello"), *got = NULL;
    uint64_t lsn = 0, digest = 0;

    begin();
    snapshot_put_retained(&row, m);
    CHECK(snapshot_get_retained(buf_slice(&row), &world, &got) == 0);
    CHECK(got && slice_eq(message_payload(got), SLICE("hello")) && got->topic_hash == m->topic_hash);
    message_unref(got);
    message_unref(m);
    check_row(RETAINED, "retained", &row);
    m = written_stamped("a/b", "hello", WRITTEN_STAMP);
    snapshot_put_retained(&row, m);
    CHECK(snapshot_get_retained(buf_slice(&row), &world, &got) == 0);
    CHECK(got && message_stamp_cmp(message_stamp(got), WRITTEN_STAMP) == 0);
    message_unref(got);
    message_unref(m);
    check_row(RETAINED, "retained with its stamp", &row);
    snapshot_put_applied(&row, 0x0102030405060708, 0x1112131415161718);
    CHECK(snapshot_get_applied(buf_slice(&row), &lsn, &digest) == 0);
    CHECK(lsn == 0x0102030405060708 && digest == 0x1112131415161718);
    check_row(APPLIED, "applied", &row);
    finish();
}

/* What the bytes of an entry cannot be, though they have the right length. The message: topic `t`, nothing else. */
#define MESSAGE " ffffffffffffffff 0000000000000000 01 0000 0001 00000000 00000000 74"
#define PLAIN " 0000000000000000 00000000"
static const struct {
    const char *name, *hex;
    int want;
} bad_entries[] = {
    {"nothing", "", -EBADMSG},
    {"waiting", "01 00 01" PLAIN MESSAGE, 0},
    {"sent", "01 01 02" PLAIN MESSAGE, 0},
    {"done", "01 03 01" PLAIN MESSAGE, -EBADMSG},
    {"a state that is none", "01 ff 01" PLAIN MESSAGE, -EBADMSG},
    {"QoS 0", "01 00 00" PLAIN MESSAGE, -EBADMSG},
    {"QoS 3", "01 00 03" PLAIN MESSAGE, -EBADMSG},
    {"released", "01 02 02" PLAIN, 0},
    {"released at QoS 1", "01 02 01" PLAIN, -EBADMSG},
    {"released with a message", "01 02 02" PLAIN MESSAGE, -EBADMSG},
    {"waiting without a message", "01 00 01" PLAIN, -EBADMSG},
    {"4 GiB of identifiers", "01 00 01 0000000000000000 ffffffff" MESSAGE, -EBADMSG},
    {"of version 0", "00 00 01" PLAIN MESSAGE, -EPROTONOSUPPORT},
};

static void test_bad_entries(void)
{
    begin();
    for (size_t i = 0; i < COUNT_OF(bad_entries); i++) {
        struct slice row = unit_hex(bad_entries[i].hex);
        CHECK_CASE(bad_entries[i].name, read_row(ENTRY, row) == bad_entries[i].want);
        free((void *)row.ptr);
    }
    finish();
}

/* ---- sessions ---- */

static void share_join(struct fixture *f, struct session *s, struct slice name, struct slice filter)
{
    struct command c = {.type = COMMAND_SHARE_JOIN, .session = s, .share = {name, filter, {.id = 8, .qos = 2}}};
    CHECK(fixture_apply(f, &c).error == 0);
}

/* A session with some of everything; its queue: 0 acknowledged, 1 sent, 2 given up, 3 and 4 waiting. */
static struct session *full_session(struct fixture *f)
{
    struct session *s = claim(f, "c-01", false, 3600, written_will(rates)).session;
    struct command c = {
        .type = COMMAND_SUBSCRIBE, .session = s, .subscribe = {SLICE("a/+/b"), {268435455, 2, 2, true, true}}};

    s->durable = true;
    s->principal = written_principal(rates);
    CHECK(fixture_apply(f, &c).error == 0);
    subscribe(f, s, "#", 1);
    share_join(f, s, SLICE("group"), SLICE("a/#"));
    for (unsigned i = 0; i < 5; i++) {
        CHECK(publish(f, s, SLICE("hello"), 1 + i % 2, i == 3 ? 9 : 0).error == 0);
    }
    CHECK(acknowledge(f, s, COMMAND_ACK, send_next(s)).error == 0);
    CHECK(send_next(s) == 2);
    CHECK(fixture_apply(f, &(struct command){.type = COMMAND_DISCARD, .session = s, .number = 2}).error == 0);
    CHECK(acknowledge(f, s, COMMAND_QOS2_IN, 513).error == 0);
    return s;
}

static void check_queue_of_full(const struct snapshot_session *row, const struct queue *q, bool attached)
{
    CHECK(row->has_queue && row->queue_head == 1 && row->queue_tail == 5 && row->queue_bytes == q->bytes);
    CHECK(row->queue_waiting == 2 && row->queue_inflight == 1);
    CHECK(row->queue_sent ==
          (attached ? 5u : 2u)); /* who is connected may be sent all of it before it is written again */
}

static void check_lists_of_full(struct snapshot_session *row)
{
    struct slice name, filter;
    struct subscription_options o;

    CHECK(row->qos2_count == 1 && slice_eq(row->qos2, SLICE("\x02\x01")));
    CHECK(row->subscription_count == 2 && row->share_count == 1);
    CHECK(snapshot_next_subscription(&row->subscriptions, &filter, &o) == 0 && slice_eq(filter, SLICE("a/+/b")));
    CHECK(o.id == 268435455 && o.qos == 2 && o.retain_handling == 2 && o.no_local && o.retain_as_published);
    CHECK(snapshot_next_subscription(&row->subscriptions, &filter, &o) == 0 && slice_eq(filter, SLICE("#")));
    CHECK(o.id == 0 && o.qos == 1 && o.retain_handling == 0 && !o.no_local && !o.retain_as_published);
    CHECK(snapshot_next_subscription(&row->subscriptions, &filter, &o) == -EBADMSG);
    CHECK(snapshot_next_share(&row->shares, &name, &filter, &o) == 0);
    CHECK(slice_eq(name, SLICE("group")) && slice_eq(filter, SLICE("a/#")) && o.id == 8 && o.qos == 2);
}

/* The rows of a queue, each written and read. */
static void load(struct queue *to, const struct queue *from)
{
    struct queue_page_entry page[8];
    uint32_t count = 0;

    for (uint64_t n = from->head; n != from->tail; n++) {
        struct buf row = {0};
        if (queue_at(from, n)->state == QUEUE_DONE) {
            continue;
        }
        assert(count < COUNT_OF(page));
        snapshot_put_entry(&row, queue_at(from, n));
        page[count].number = n;
        CHECK(snapshot_get_entry(buf_slice(&row), &world, &page[count++].entry) == 0);
        buf_deinit(&row);
    }
    CHECK(queue_load(to, page, count, from->tail) == 0);
    CHECK(to->bytes == from->bytes);
}

/* The row makes the session again, in another group, and that has the same row. */
static void check_restored(const char *name, struct slice value, const struct session *original)
{
    struct fixture copy;
    struct snapshot_session row;
    struct session *s = NULL;
    struct buf again = {0};

    fixture_init(&copy);
    CHECK_CASE(name, snapshot_get_session(value, &world, &row) == 0);
    CHECK_CASE(name, group_restore(&copy.group, &test_key, &row, &s) == 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    CHECK_CASE(name, !row.will && !row.principal && s->durable && copy.sessions.count == 1);
    CHECK_CASE(name, group_find(&copy.group, row.client_id, test_hash(row.client_id)) == s);
    CHECK_CASE(name, (s->queue != NULL) == (original->queue != NULL));
    if (s->queue && original->queue) {
        load(s->queue, original->queue); /* as long as it is cold nobody knows which of it was sent */
    }
    snapshot_put_session(&again, s);
    CHECK_CASE(name, slice_eq(buf_slice(&again), value));
    struct session *twice = NULL;
    CHECK_CASE(name, snapshot_get_session(value, &world, &row) == 0);
    CHECK_CASE(name, group_restore(&copy.group, &test_key, &row, &twice) == -EBADMSG && !twice);
    will_free(row.will);
    principal_unref(row.principal);
    buf_deinit(&again);
    fixture_deinit(&copy);
}

static void test_sessions(void)
{
    struct fixture f;
    struct snapshot_session row;
    struct buf bytes = {0};

    begin();
    fixture_init(&f);
    struct session *s = claim(&f, "c", false, 0, NULL).session;
    s->durable = true;
    snapshot_put_session(&bytes, s);
    CHECK(snapshot_get_session(buf_slice(&bytes), &world, &row) == 0);
    CHECK(slice_eq(row.client_id, SLICE("c")) && row.uid == s->uid && row.attached && !row.has_queue);
    CHECK(!row.will && !row.principal && row.qos2_count + row.share_count + row.subscription_count == 0);
    check_restored("new", buf_slice(&bytes), s);
    check_row(SESSION, "new", &bytes);

    s = full_session(&f);
    snapshot_put_session(&bytes, s);
    CHECK(snapshot_get_session(buf_slice(&bytes), &world, &row) == 0);
    CHECK(row.attached && row.expiry_s == 3600 && row.receive_max == 10 && row.due_ms == UINT64_MAX);
    check_queue_of_full(&row, s->queue, true);
    check_lists_of_full(&row);
    CHECK(row.will && row.will->delay_s == 30 && row.principal && slice_eq(row.principal->user, SLICE("alice")));
    will_free(row.will);
    principal_unref(row.principal);
    check_restored("attached", buf_slice(&bytes), s);
    check_row(SESSION, "attached", &bytes);

    detach(&f, s);
    snapshot_put_session(&bytes, s);
    CHECK(snapshot_get_session(buf_slice(&bytes), &world, &row) == 0);
    CHECK(!row.attached && row.expires_at_ms == f.now_ms + 3600000 && row.due_ms == f.now_ms + 30000);
    check_queue_of_full(&row, s->queue, false);
    will_free(row.will);
    principal_unref(row.principal);
    check_restored("away", buf_slice(&bytes), s);
    check_row(SESSION, "away", &bytes);
    CHECK(vectors_count("session") == 3);
    fixture_deinit(&f);
    finish();
}

/* Memory runs out at each allocation of making a session again: the caller gets what could be had of it, and nothing is
 * lost that it does not know of. */
static void test_restore_memory(void)
{
    struct fixture f, copy;
    struct buf bytes = {0};
    unsigned failures = 0;
    int rc = -ENOMEM;

    begin();
    fixture_init(&f);
    snapshot_put_session(&bytes, full_session(&f));
    for (unsigned n = 1; rc == -ENOMEM; n++) {
        struct snapshot_session row;
        struct session *s = NULL;
        fixture_init(&copy);
        CHECK(snapshot_get_session(buf_slice(&bytes), &world, &row) == 0);
        alloc_fail_at = n;
        rc = group_restore(&copy.group, &test_key, &row, &s);
        failures += rc == -ENOMEM;
        CHECK(rc == 0 ? alloc_fail_at > 0 : rc == -ENOMEM);
        alloc_fail_at = 0;
        CHECK((s != NULL) == (copy.group.sessions.count == 1) && copy.sessions.count == copy.group.sessions.count);
        will_free(row.will);
        principal_unref(row.principal);
        fixture_deinit(&copy);
    }
    CHECK(failures > 3);
    buf_deinit(&bytes);
    fixture_deinit(&f);
    finish();
}

/* Counts that the queue cannot have: nothing that is made from them would hold. */
static void test_bad_queues(void)
{
    static const struct {
        const char *name;
        uint64_t head, tail;
        uint32_t waiting, inflight;
        int want;
    } rows[] = {
        {"empty", 7, 7, 0, 0, 0},
        {"both", 7, 12, 3, 2, 0},
        {"some are done", 7, 12, 1, 1, 0},
        {"tail before head", 7, 6, 0, 0, -EBADMSG},
        {"more wait than there are", 7, 12, 6, 0, -EBADMSG},
        {"more were sent than there are", 7, 12, 0, 6, -EBADMSG},
        {"both together are too many", 7, 12, 3, 3, -EBADMSG},
        {"too many to count", 7, 12, UINT32_MAX, 6, -EBADMSG},
    };
    static const uint8_t nothing[4 + 8 + 8 + 2 + 1 + 1], lists[4 + 4 + 4];

    begin();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf b = {0};
        buf_u8(&b, SNAPSHOT_VERSION);
        buf_u8(&b, 2); /* has a queue */
        buf_u64(&b, 1);
        buf_string(&b, SLICE("c"));
        buf_put(&b, slice_of(nothing, sizeof(nothing)));
        buf_u64(&b, rows[i].head);
        buf_u64(&b, rows[i].tail);
        buf_u64(&b, 1000);
        buf_u64(&b, rows[i].head);
        buf_u32(&b, rows[i].waiting);
        buf_u32(&b, rows[i].inflight);
        buf_put(&b, slice_of(lists, sizeof(lists)));
        CHECK_CASE(rows[i].name, read_row(SESSION, buf_slice(&b)) == rows[i].want);
        buf_deinit(&b);
    }
    finish();
}

/* A session that is due before it expires, and has no will that could be due. */
static void test_due_for_nothing(void)
{
    struct fixture f;
    struct session *s = NULL;
    struct snapshot_session row = {
        .client_id = SLICE("c"), .uid = 7, .expiry_s = 60, .expires_at_ms = 2000, .due_ms = 1999, .receive_max = 10};

    fixture_init(&f);
    CHECK(group_restore(&f.group, &test_key, &row, &s) == -EBADMSG && s && group_due_ms(&f.group) == UINT64_MAX);
    fixture_deinit(&f);
    fixture_init(&f);
    row.due_ms = 2000;
    CHECK(group_restore(&f.group, &test_key, &row, &s) == 0 && group_due_ms(&f.group) == 2000);
    fixture_deinit(&f);
}

static void test_cluster(void)
{
    static const struct {
        const char *name;
        unsigned len, version;
        int want;
    } rows[] = {
        {"as written", 17, SNAPSHOT_VERSION, 0},
        {"empty", 0, 0, -EBADMSG},
        {"no id", 1, SNAPSHOT_VERSION, -EBADMSG},
        {"cut", 16, SNAPSHOT_VERSION, -EBADMSG},
        {"too long", 18, SNAPSHOT_VERSION, -EBADMSG},
        {"of a later version", 17, SNAPSHOT_VERSION + 1, -EPROTONOSUPPORT},
    };
    uint8_t key[SNAPSHOT_KEY_MAX], id[SNAPSHOT_CLUSTER_ID], got[SNAPSHOT_CLUSTER_ID];
    struct buf b = {0};

    CHECK(slice_eq(snapshot_key_group(key, SNAPSHOT_NODE, SNAPSHOT_CLUSTER), SLICE("\xff\xff"
                                                                                   "c")));
    memset(id, 7, sizeof(id));
    snapshot_put_cluster(&b, id);
    CHECK(b.len == 17);
    buf_u8(&b, 0);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        b.ptr[0] = (uint8_t)rows[i].version;
        memset(got, 0, sizeof(got));
        CHECK_CASE(rows[i].name, snapshot_get_cluster(slice_of(b.ptr, rows[i].len), got) == rows[i].want);
        CHECK_CASE(rows[i].name, (memcmp(got, id, sizeof(id)) == 0) == (rows[i].want == 0));
    }
    buf_deinit(&b);
}

UNIT_MAIN("broker/group/snapshot", {"keys", test_keys}, {"order of keys", test_key_order}, {"entries", test_entries},
          {"retained messages and what is applied", test_the_rest}, {"no stamp", test_unstamped},
          {"bad entries", test_bad_entries}, {"sessions", test_sessions}, {"memory runs out", test_restore_memory},
          {"bad queues", test_bad_queues}, {"due for nothing", test_due_for_nothing}, {"the cluster", test_cluster})
