/* record_test.c -- what one group writes down makes another the same, whatever the other's limits; and no bytes at all
 * do harm to the reader. */
#include <errno.h>

#include "broker/group/record.h"
#include "broker/group/snapshot.h"
#include "tests/unit/broker/group/group_fixture.h"

static struct fixture live, copy;
static struct record_writer writer;
static struct record_world world = {.key = &test_key};

/* Apply a command to the live group and write it down, as flow/journal does. */
static struct outcome logged(struct command *c)
{
    size_t room = record_bytes_max(c);
    struct outcome out = fixture_apply(&live, c);
    struct session *s = c->type == COMMAND_CLAIM || c->type == COMMAND_TICK ? out.session : c->session;

    CHECK(out.error == 0);
    if (writer.bytes.len == 0) {
        record_begin(&writer, live.now_ms);
    }
    uint32_t before = writer.bytes.len;
    group_digest(&live.group, record_put(&writer, live.group.id, c->type == COMMAND_RETAIN ? 0 : s->uid, c, &out));
    CHECK(writer.bytes.len - before <= room);
    if (c->type == COMMAND_CLAIM) {
        s->front = s;
    }
    return out;
}

static struct session *by_uid(struct group *g, uint64_t uid)
{
    struct session *s;

    for (size_t i = 0; (s = map_next(&g->sessions, &i)) != NULL;) {
        if (s->uid == uid) {
            return s;
        }
    }
    return NULL;
}

/* What the caller of a command does, on either side. */
static void settle(struct fixture *f, const struct command *c, struct outcome *out)
{
    if (c->type == COMMAND_UNSUBSCRIBE && out->subscription) {
        topic_tree_unsubscribe(f->context.tree, out->subscription);
    }
    if (c->type == COMMAND_SHARE_LEAVE) {
        free(c->share_leave);
    }
    will_free(out->will);
    if (out->ended) {
        fixture_free_session(f, out->ended);
    }
}

static void replay(struct slice batch)
{
    struct record_reader reader;
    struct record rec;
    struct outcome out;

    CHECK(record_open(&reader, batch, &world) == 0);
    while (record_next(&reader, &rec) > 0) {
        CHECK(rec.group == copy.group.id);
        rec.command.session = rec.command.type == COMMAND_CLAIM ? NULL : by_uid(&copy.group, rec.uid);
        CHECK(rec.command.session || rec.command.type == COMMAND_CLAIM || rec.command.type == COMMAND_RETAIN);
        if (rec.command.type == COMMAND_SHARE_LEAVE) {
            struct list *first = rec.command.session->shares.next;
            rec.command.share_leave = CONTAINER_OF(first, struct session_share, in_session);
            CHECK(slice_eq(session_share_name(rec.command.share_leave), rec.share_name));
            CHECK(slice_eq(session_share_filter(rec.command.share_leave), rec.share_filter));
        }
        group_apply(&copy.group, &rec.command, &out);
        CHECK(out.error == 0);
        group_digest(&copy.group, rec.body);
        settle(&copy, &rec.command, &out);
    }
    record_close(&reader);
}

/* The rows that a session and its queue would have. */
static struct buf rows_of(struct session *s)
{
    struct buf rows = {0};
    bool attached = s->attached_before;

    s->attached_before = false; /* only the one that is read back is marked */
    snapshot_put_session(&rows, s);
    s->attached_before = attached;
    for (uint64_t n = s->queue ? s->queue->head : 0; s->queue && n != s->queue->tail; n++) {
        if (queue_at(s->queue, n)->state != QUEUE_DONE) {
            struct queue_entry e = *queue_at(s->queue, n);
            e.sent_before = false; /* not known to the log, but for resend_below */
            snapshot_put_entry(&rows, &e);
        }
    }
    CHECK(!rows.failed);
    return rows;
}

static void compare(void)
{
    struct session *s;

    CHECK(copy.group.sessions.count == live.group.sessions.count);
    CHECK(copy.group.digest == live.group.digest);
    for (size_t i = 0; (s = map_next(&live.group.sessions, &i)) != NULL;) {
        struct session *other = by_uid(&copy.group, s->uid);
        CU_ASSERT_PTR_NOT_NULL_FATAL(other);
        struct buf a = rows_of(s), b = rows_of(other);
        CHECK(slice_eq(buf_slice(&a), buf_slice(&b)));
        buf_deinit(&a);
        buf_deinit(&b);
    }
    CHECK(retained_count(copy.context.retained) == retained_count(live.context.retained));
}

static struct session *claimed(const char *client_id, bool clean, struct will *will)
{
    struct slice id = slice_str(client_id);
    struct command c = {.type = COMMAND_CLAIM,
                        .claim = {.client_id = id,
                                  .hash = test_hash(id),
                                  .clean_start = clean,
                                  .expiry_s = 100,
                                  .receive_max = 10,
                                  .durable = true,
                                  .will = will}};
    struct outcome out = logged(&c);
    settle(&live, &c, &out);
    return out.session;
}

static void simple(enum command_type type, struct session *s, uint16_t packet_id)
{
    struct command c = {.type = type, .session = s, .packet_id = packet_id};
    struct outcome out = logged(&c);
    settle(&live, &c, &out);
}

static void published(struct session *s, struct message *m, uint8_t qos, uint64_t share, const char *ids)
{
    struct command c = {.type = COMMAND_PUBLISH,
                        .session = s,
                        .publish = {.message = m, .qos = qos, .share = share, .ids = slice_str(ids), .retain = true}};
    logged(&c);
}

static void tell_of_queues(struct session *a, struct session *b)
{
    struct message *one = make_message(SLICE("t/one"), SLICE("first"), 5000000);
    struct message *two = make_message(SLICE("t/two"), SLICE(""), MESSAGE_NEVER);

    published(a, one, 1, 0, "");
    published(b, one, 2, 77, "\x0b\x07");
    published(a, two, 2, 0, "");
    published(a, two, 1, 0, "");
    uint16_t first = send_next(a), second = send_next(a);
    simple(COMMAND_RECEIVED, a, second);
    simple(COMMAND_ACK, a, first);
    simple(COMMAND_COMPLETE, a, second);
    published(a, one, 2, 0, "");
    first = send_next(a);
    simple(COMMAND_ACK, a, first);
    simple(COMMAND_REJECTED, a, send_next(a));
    published(b, two, 1, 0, "");
    logged(&(struct command){.type = COMMAND_DISCARD, .session = b, .number = b->queue->head});
    live.context.drop_oldest = true;
    live.context.waiting_max = 1;
    published(b, one, 1, 0, ""); /* in place of the older one */
    live.context.waiting_max = 100;
    message_unref(one);
    message_unref(two);
}

static void tell_of_subscriptions(struct session *a)
{
    struct command c = {.type = COMMAND_SUBSCRIBE,
                        .session = a,
                        .subscribe = {SLICE("a/+"), {.id = 9, .qos = 2, .no_local = true, .retain_handling = 2}}};

    logged(&c);
    c.subscribe.filter = SLICE("b/#");
    logged(&c);
    c = (struct command){.type = COMMAND_UNSUBSCRIBE, .session = a, .unsubscribe = SLICE("a/+")};
    struct outcome out = logged(&c);
    settle(&live, &c, &out);
    c = (struct command){.type = COMMAND_SHARE_JOIN,
                         .session = a,
                         .share = {SLICE("group"), SLICE("s/1"), {.qos = 1, .retain_as_published = true}}};
    out = logged(&c);
    c.share.filter = SLICE("s/2");
    logged(&c);
    c = (struct command){.type = COMMAND_SHARE_LEAVE, .session = a, .share_leave = out.share};
    out = logged(&c);
    settle(&live, &c, &out);
}

static void tell_of_the_rest(struct session *a, struct session *b)
{
    struct message *m = make_message(SLICE("kept"), SLICE("x"), MESSAGE_NEVER);
    struct message *gone = make_message(SLICE("kept"), SLICE(""), MESSAGE_NEVER);
    struct message *other = make_message(SLICE("other"), SLICE("y"), MESSAGE_NEVER);

    logged(&(struct command){.type = COMMAND_RETAIN, .retain = m});
    logged(&(struct command){.type = COMMAND_RETAIN, .retain = other});
    logged(&(struct command){.type = COMMAND_RETAIN, .retain = gone});
    simple(COMMAND_QOS2_IN, a, 5);
    simple(COMMAND_QOS2_IN, a, 6);
    simple(COMMAND_QOS2_RELEASE, a, 5);
    simple(COMMAND_DETACH, b, 0);
    live.now_ms += 2500; /* its will's delay, then its expiry */
    simple(COMMAND_TICK, NULL, 0);
    simple(COMMAND_DETACH, claimed("c", false, NULL), 0);
    struct session *d = claimed("d", true, NULL);
    simple(COMMAND_END, d, 0);
    claimed("c", true, will_make(9)); /* in place of the earlier one */
    message_unref(m);
    message_unref(gone);
    message_unref(other);
}

static void tell(void)
{
    fixture_init(&live);
    struct session *a = claimed("a", false, NULL), *b = claimed("b", false, will_make(2));
    tell_of_subscriptions(a);
    tell_of_queues(a, b);
    tell_of_the_rest(a, b);
}

static void forget(struct fixture *f)
{
    fixture_deinit(f);
}

static void test_same_again(void)
{
    tell();
    fixture_init(&copy);
    copy.context.subscriptions_max = 0; /* what was allowed then is not asked again */
    copy.context.waiting_max = 0;
    copy.sessions.max = 1;
    replay(buf_slice(&writer.bytes));
    /* Whoever was attached then is not now, and has not been sent anything since: make them alike. */
    struct session *s;
    for (size_t i = 0; (s = map_next(&live.group.sessions, &i)) != NULL;) {
        s->front = NULL;
        if (s->queue) {
            queue_rewind(s->queue);
        }
    }
    for (size_t i = 0; (s = map_next(&copy.group.sessions, &i)) != NULL;) {
        if (s->queue) {
            queue_rewind(s->queue);
            s->queue->resend_below = by_uid(&live.group, s->uid)->queue->resend_below;
        }
    }
    compare();
    forget(&copy);
    forget(&live);
    record_end(&writer);
    buf_deinit(&writer.bytes);
}

/* Read a piece of a batch to where it ends. */
static int read_all(struct slice batch)
{
    struct record_reader reader;
    struct record rec;
    int rc = record_open(&reader, batch, &world);

    while (rc == 0 && (rc = record_next(&reader, &rec)) > 0) {
        will_free(rec.command.type == COMMAND_CLAIM ? rec.command.claim.will : NULL);
        rc = 0;
        if (cursor_left(&reader.at) == 0) {
            break;
        }
    }
    record_close(&reader);
    return rc;
}

static void test_any_bytes(void)
{
    tell();
    struct slice whole = buf_slice(&writer.bytes);
    unsigned cut_found = 0;

    for (size_t len = 0; len < whole.len; len++) {
        uint8_t *exact = malloc(len + 1);
        memcpy(exact, whole.ptr, len);
        cut_found += read_all(slice_of(exact, len)) == -EBADMSG;
        free(exact);
    }
    CHECK(cut_found > whole.len / 2); /* but for cuts between two entries */
    for (size_t at = 0; at < whole.len; at++) {
        writer.bytes.ptr[at] ^= 0xff;
        (void)read_all(whole);
        writer.bytes.ptr[at] ^= 0xff;
    }
    writer.bytes.ptr[0] = RECORD_VERSION + 1;
    CHECK(read_all(whole) == -EPROTONOSUPPORT);
    forget(&live);
    record_end(&writer);
    buf_deinit(&writer.bytes);
}

UNIT_MAIN("broker/group/record", {"same again", test_same_again}, {"any bytes", test_any_bytes})
