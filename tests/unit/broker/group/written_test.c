/* written_test.c -- the bytes of each command, field by field; and bytes that no writer wrote.
 *
 * tests/vectors/written.hex has what version 1 writes: a broker must read it as long as it says that it can. */
#include "tests/lib/alloc_fail.h"

/* Compiled here once more, so that their allocations can be made to fail. */
#include "proto/base/buf.c"

#include "broker/auth/acl_read.c"
#include "broker/auth/principal.c"
#include "broker/group/record_read.c"
#include "broker/topic/message.c"
#include "proto/base/map.c"

#include "tests/unit/broker/group/written.h"
#include "tests/unit/broker/group/written_vectors.h"

static struct user_rates *rates;
static struct record_world world;
static struct written made;

static void begin(void)
{
    int rc = user_rates_new(&rates);
    assert(rc == 0);
    world = written_world(rates);
    written_init(&made, rates);
}

static void finish(void)
{
    written_deinit(&made);
    user_rates_free(rates); /* asserts that nobody holds one */
}

/* ---- what is read is what was written ---- */

static bool same_principal(const struct principal *a, const struct principal *b)
{
    if (!a || !b) {
        return a == b;
    }
    bool same = a->method == b->method && a->expires_at_ms == b->expires_at_ms && a->credential == b->credential &&
                memcmp(&a->address, &b->address, sizeof(a->address)) == 0 && slice_eq(a->user, b->user) &&
                strcmp(a->listener, b->listener) == 0 && a->rate == b->rate && a->role_count == b->role_count &&
                slice_eq(acl_claim(a->rules), acl_claim(b->rules));
    for (unsigned i = 0; same && i < a->role_count; i++) {
        same = slice_eq(a->roles[i], b->roles[i]);
    }
    return same;
}

static bool same_message(const struct message *a, const struct message *b)
{
    return slice_eq(message_topic(a), message_topic(b)) && slice_eq(message_properties(a), message_properties(b)) &&
           slice_eq(message_payload(a), message_payload(b)) && a->qos == b->qos && a->retain == b->retain &&
           a->packet_id == b->packet_id && a->expires_at_ms == b->expires_at_ms && a->publisher == b->publisher &&
           a->topic_hash == b->topic_hash && message_stamp_cmp(message_stamp(a), message_stamp(b)) == 0;
}

static bool same_will(const struct will *a, const struct will *b)
{
    if (!a || !b) {
        return a == b;
    }
    return a->delay_s == b->delay_s && a->has_expiry == b->has_expiry && a->expiry_s == b->expiry_s &&
           slice_eq(slice_of(a->client_id, a->client_id_len), slice_of(b->client_id, b->client_id_len)) &&
           same_principal(a->principal, b->principal) && same_message(a->message, b->message);
}

static bool same_options(const struct subscription_options *a, const struct subscription_options *b)
{
    return a->id == b->id && a->qos == b->qos && a->retain_handling == b->retain_handling &&
           a->no_local == b->no_local && a->retain_as_published == b->retain_as_published;
}

static bool same_claim(const struct written_step *step, const struct record *r)
{
    const struct command_claim *a = &step->command.claim, *b = &r->command.claim;

    return slice_eq(a->client_id, b->client_id) && a->hash == b->hash && a->clean_start == b->clean_start &&
           a->expiry_s == b->expiry_s && a->receive_max == b->receive_max && a->durable == b->durable &&
           r->decided.ended == (step->outcome.ended != NULL) && same_principal(a->principal, b->principal) &&
           same_will(a->will, b->will);
}

static bool same_publish(const struct written_step *step, const struct record *r)
{
    const struct queue_item *a = &step->command.publish, *b = &r->command.publish;

    return same_message(a->message, b->message) && slice_eq(a->ids, b->ids) && a->share == b->share &&
           a->qos == b->qos && a->retain == b->retain && r->decided.number == step->outcome.number &&
           r->decided.dropped == step->outcome.dropped;
}

static bool same_command(const struct written_step *step, const struct record *r)
{
    const struct command *a = &step->command, *b = &r->command;

    switch (a->type) {
    case COMMAND_CLAIM:
        return same_claim(step, r);
    case COMMAND_DETACH:
        return a->detach.discard_will == b->detach.discard_will && a->detach.set_expiry == b->detach.set_expiry &&
               a->detach.expiry_s == b->detach.expiry_s && r->decided.sent == step->outcome.number;
    case COMMAND_END:
        return true;
    case COMMAND_SUBSCRIBE:
        return slice_eq(a->subscribe.filter, b->subscribe.filter) &&
               same_options(&a->subscribe.options, &b->subscribe.options);
    case COMMAND_UNSUBSCRIBE:
        return slice_eq(a->unsubscribe, b->unsubscribe);
    case COMMAND_SHARE_JOIN:
        return slice_eq(a->share.name, b->share.name) && slice_eq(a->share.filter, b->share.filter) &&
               same_options(&a->share.options, &b->share.options);
    case COMMAND_SHARE_LEAVE:
        return slice_eq(session_share_name(a->share_leave), r->share_name) &&
               slice_eq(session_share_filter(a->share_leave), r->share_filter);
    case COMMAND_PUBLISH:
        return same_publish(step, r);
    case COMMAND_ACK:
    case COMMAND_REJECTED:
    case COMMAND_RECEIVED:
    case COMMAND_COMPLETE:
        return r->decided.number == step->outcome.number;
    case COMMAND_DISCARD:
        return a->number == b->number;
    case COMMAND_QOS2_IN:
    case COMMAND_QOS2_RELEASE:
        return a->packet_id == b->packet_id;
    case COMMAND_TICK:
        return r->decided.ended == (step->outcome.ended != NULL);
    case COMMAND_RETAIN:
        return same_message(a->retain, b->retain);
    }
    return false;
}

static void let_go(const struct record *r)
{
    will_free(r->command.type == COMMAND_CLAIM ? r->command.claim.will : NULL);
}

/* All steps in one batch, with the number of MESSAGE entries in it. */
static struct record_writer write_all(void)
{
    struct record_writer writer = {0};

    written_begin(&writer);
    for (unsigned i = 0; i < made.count; i++) {
        struct written_step *step = &made.steps[i];
        struct slice body = written_put(&writer, (uint16_t)(i * 257), step->uid, &step->command, &step->outcome);
        CHECK_CASE(step->name, body.ptr + body.len == writer.bytes.ptr + writer.bytes.len);
    }
    record_end(&writer);
    return writer;
}

static void test_round_trip(void)
{
    struct record_reader reader;
    struct record r;
    struct record_writer again = {0};

    begin();
    struct record_writer writer = write_all();
    CHECK(record_open(&reader, buf_slice(&writer.bytes), &world) == 0);
    CHECK(reader.wall_ms == WRITTEN_MS);
    written_begin(&again);
    for (unsigned i = 0; i < made.count; i++) {
        struct written_step *step = &made.steps[i];
        CU_ASSERT_FATAL(record_next(&reader, &r) == 1);
        CHECK_CASE(step->name, r.command.type == step->command.type && r.command.wall_ms == WRITTEN_MS);
        CHECK_CASE(step->name, r.command.session == NULL && r.command.decided == &r.decided);
        CHECK_CASE(step->name, r.group == i * 257 && r.uid == step->uid && r.decided.uid == step->uid);
        CHECK_CASE(step->name, same_command(step, &r));
        written_again(&again, &r);
        let_go(&r);
    }
    CHECK(record_next(&reader, &r) == 0);
    CHECK(record_next(&reader, &r) == 0); /* the end stays the end */
    CHECK(slice_eq(buf_slice(&again.bytes), buf_slice(&writer.bytes)));
    record_close(&reader);
    record_end(&again);
    buf_deinit(&again.bytes);
    buf_deinit(&writer.bytes);
    finish();
}

static unsigned message_entries(struct slice batch)
{
    struct cursor c = cursor_at(slice_drop(batch, RECORD_HEAD_BYTES));
    unsigned count = 0;

    while (cursor_left(&c) > 0 && !c.failed) {
        count += cursor_u8(&c) == RECORD_MESSAGE;
        cursor_take(&c, cursor_u32(&c));
    }
    CHECK(!c.failed);
    return count;
}

/* A thousand sessions get one message: it is written once a batch, and again in the next. */
static void test_message_once(void)
{
    struct record_writer writer = {0};
    struct message *m = written_message("a/b", "a message that nobody wants to have twice");
    struct command c = {.type = COMMAND_PUBLISH, .publish = {.message = m, .qos = 1}};
    struct outcome out = {.dropped = UINT64_MAX};

    for (unsigned batch = 0; batch < 2; batch++) {
        written_begin(&writer);
        for (unsigned i = 0; i < 1000; i++) {
            written_put(&writer, 1, 1 + i, &c, &out);
        }
        CHECK(message_entries(buf_slice(&writer.bytes)) == 1);
        CHECK(atomic_load(&m->refs) == 2);
        record_end(&writer);
        CHECK(atomic_load(&m->refs) == 1);
    }
    message_unref(m);
    buf_deinit(&writer.bytes);
}

/* ---- the bytes of version 1 ---- */

static void test_golden(void)
{
    begin();
    for (unsigned i = 0; i < made.count; i++) {
        struct written_step *step = &made.steps[i];
        struct record_writer writer = {0};
        written_begin(&writer);
        written_put(&writer, 0x0102, step->uid, &step->command, &step->outcome);
        record_end(&writer);
        vectors_check("batch", step->name, buf_slice(&writer.bytes));
        buf_deinit(&writer.bytes);
    }
    CHECK(vectors_count("batch") == made.count);
    finish();
}

/* ---- bytes that no writer wrote ---- */

/* Read to the end: 0, or what record_open or record_next said. From an exact-size copy: ASan sees one byte over. */
static int read_all(struct slice batch, unsigned *ret_records)
{
    struct record_reader reader;
    struct record r;
    unsigned fail_at = alloc_fail_at;
    alloc_fail_at = 0;
    uint8_t *bytes = malloc(batch.len + 1);
    assert(bytes);
    memcpy(bytes + 1, batch.ptr, batch.len);
    alloc_fail_at = fail_at;
    int rc = record_open(&reader, slice_of(bytes + 1, batch.len), &world);

    *ret_records = 0;
    while (rc == 0 && (rc = record_next(&reader, &r)) == 1) {
        let_go(&r);
        ++*ret_records;
        rc = 0;
        if (cursor_left(&reader.at) == 0) {
            break;
        }
    }
    record_close(&reader);
    free(bytes);
    return rc;
}

/* Every text longer than any slack: written_put asserts that record_bytes_max has room for it. */
static void test_room(void)
{
    static uint8_t text[UINT16_MAX];
    struct slice longest = slice_of(text, sizeof(text));
    struct record_writer writer = {0};
    unsigned records;

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = 0; /* ends the name of a role */
    begin();
    struct session_share *share = written_share(longest, longest);
    struct principal *p =
        principal_new(&(struct principal_source){.user = longest, .roles = longest, .role_count = 1, .rates = rates});
    assert(p);
    p->listener = (const char *)text;
    written_begin(&writer);
    for (unsigned i = 0; i < made.count; i++) {
        struct command c = made.steps[i].command;
        if (c.type == COMMAND_CLAIM) {
            c.claim.client_id = longest;
            c.claim.principal = p;
        } else if (c.type == COMMAND_SUBSCRIBE) {
            c.subscribe.filter = longest;
        } else if (c.type == COMMAND_UNSUBSCRIBE) {
            c.unsubscribe = longest;
        } else if (c.type == COMMAND_SHARE_JOIN) {
            c.share.name = c.share.filter = longest;
        } else if (c.type == COMMAND_SHARE_LEAVE) {
            c.share_leave = share;
        } else if (c.type == COMMAND_PUBLISH) {
            c.publish.ids = longest;
        }
        written_put(&writer, 1, 1, &c, &made.steps[i].outcome);
    }
    record_end(&writer);
    CHECK(read_all(buf_slice(&writer.bytes), &records) == 0 && records == made.count);
    principal_unref(p);
    free(share);
    buf_deinit(&writer.bytes);
    finish();
}

static void test_cut_anywhere(void)
{
    unsigned records, ends = 0;

    begin();
    struct record_writer writer = write_all();
    struct slice batch = buf_slice(&writer.bytes);
    for (size_t len = 0; len < batch.len; len++) {
        int rc = read_all(slice_of(batch.ptr, len), &records);
        CHECK(rc == 0 || rc == -EBADMSG);
        ends += rc == 0;
    }
    /* The cuts that nobody can see: behind the head, each entry but the last, and each MESSAGE. */
    CHECK(ends == 1 + made.count - 1 + message_entries(batch));
    CHECK(read_all(batch, &records) == 0 && records == made.count);
    buf_deinit(&writer.bytes);
    finish();
}

/* One entry whose length says less, or more, than its fields take. */
static void test_body_of_wrong_length(void)
{
    unsigned records;

    begin();
    for (unsigned i = 0; i < made.count; i++) {
        struct written_step *step = &made.steps[i];
        struct record_writer writer = {0};
        written_begin(&writer);
        struct slice body = written_put(&writer, 1, step->uid, &step->command, &step->outcome);
        size_t begun = (size_t)(body.ptr - writer.bytes.ptr), full = body.len;
        size_t fixed = full - (step->command.type == COMMAND_PUBLISH ? step->command.publish.ids.len : 0);
        buf_u8(&writer.bytes, 0);
        for (size_t len = 0; len <= full + 1; len++) {
            uint8_t *at = writer.bytes.ptr + begun - 2; /* all are shorter than 64 KiB */
            at[0] = (uint8_t)(len >> 8);
            at[1] = (uint8_t)len;
            int rc = read_all(slice_of(writer.bytes.ptr, begun + len), &records);
            /* Subscription Identifiers go to the end of the entry, however long. */
            bool good = len == full || (step->command.type == COMMAND_PUBLISH && len >= fixed);
            CHECK_CASE(step->name, rc == (good ? 0 : -EBADMSG));
        }
        record_end(&writer);
        buf_deinit(&writer.bytes);
    }
    finish();
}

#define HEAD "01 0000018bcfe56800 " /* version 1, some time */
#define TO "0001 0000000000000007 " /* group, uid */
#define TIMES "ffffffffffffffff 0000000000000000 "

static const struct {
    const char *name, *hex;
    int want;
} cases[] = {
    {"nothing", "", -EBADMSG},
    {"half a head", "01 0000018bcfe5", -EBADMSG},
    {"a batch of nothing", HEAD, 0},
    {"of version 2, a batch of nothing", "02 0000018bcfe56800", 0},
    {"of a later version", "03 0000018bcfe56800", -EPROTONOSUPPORT},
    {"of a later version, with another head", "03 00", -EPROTONOSUPPORT},
    {"a stamp of nothing",
     HEAD "ff 0000002e " TIMES "0a 0000 0001 00000000 00000000 61 0000000000000000 0000000000000000", -EBADMSG},
    {"a stamp", HEAD "ff 0000002e " TIMES "0a 0000 0001 00000000 00000000 61 0000000000000000 0000000000000001", 0},
    {"a stamp cut off", HEAD "ff 00000026 " TIMES "0a 0000 0001 00000000 00000000 61 0000000000000001", -EBADMSG},
    {"of no version", "00 0000018bcfe56800", -EPROTONOSUPPORT},
    {"type 17", HEAD "11 0000000a " TO, -EBADMSG},
    {"type 254", HEAD "fe 0000000a " TO, -EBADMSG},
    {"an entry of 4 GiB", HEAD "02 ffffffff " TO, -EBADMSG},
    {"a message", HEAD "ff 0000001e " TIMES "02 0000 0001 00000000 00000000 61", 0},
    {"a message of QoS 3", HEAD "ff 0000001e " TIMES "03 0000 0001 00000000 00000000 61", -EBADMSG},
    {"a message without topic", HEAD "ff 0000001e " TIMES "02 0000 0000 00000000 00000001 61", -EBADMSG},
    {"properties of 4 GiB", HEAD "ff 0000001e " TIMES "02 0000 0001 ffffffff 00000000 61", -EBADMSG},
    {"a payload of 4 GiB", HEAD "ff 0000001e " TIMES "02 0000 0001 00000000 ffffffff 61", -EBADMSG},
    {"a message and a byte", HEAD "ff 0000001f " TIMES "02 0000 0001 00000000 00000000 6100", -EBADMSG},
    {"a publish of no message", HEAD "07 00000013 " TO "0000000000000001 01", -EBADMSG},
    {"a publish of QoS 0",
     HEAD "ff 0000001e " TIMES "02 0000 0001 00000000 00000000 61 07 00000013 " TO "0000000000000001 00", -EBADMSG},
    {"a publish of QoS 3",
     HEAD "ff 0000001e " TIMES "02 0000 0001 00000000 00000000 61 07 00000013 " TO "0000000000000001 03", -EBADMSG},
    {"a publish of QoS 1",
     HEAD "ff 0000001e " TIMES "02 0000 0001 00000000 00000000 61 07 00000013 " TO "0000000000000001 01", 0},
    {"a client without id", HEAD "00 00000015 " TO "0000 00 00000000 0001 00 00", -EBADMSG},
    {"a client", HEAD "00 00000016 " TO "0001 63 00 00000000 0001 00 00", 0},
    {"a subscription to nothing", HEAD "03 00000011 " TO "0000 00000000 00", -EBADMSG},
    {"a subscription", HEAD "03 00000012 " TO "0001 23 00000000 00", 0},
    {"a subscription of QoS 3", HEAD "03 00000012 " TO "0001 23 00000000 03", -EBADMSG},
    {"Retain Handling 3 [MQTT-3.8.3-4]", HEAD "03 00000012 " TO "0001 23 00000000 0c", -EBADMSG},
    {"an unknown option", HEAD "03 00000012 " TO "0001 23 00000000 40", -EBADMSG},
    {"the largest Subscription Identifier", HEAD "03 00000012 " TO "0001 23 0fffffff 00", 0},
    {"one larger", HEAD "03 00000012 " TO "0001 23 10000000 00", -EBADMSG},
    {"an end of no subscription", HEAD "04 0000000c " TO "0000", -EBADMSG},
    {"a share of nothing", HEAD "05 00000014 " TO "0001 67 0000 00000000 00", -EBADMSG},
    {"packet identifier 0 in", HEAD "0d 0000000c " TO "0000", -EBADMSG},
    {"packet identifier 0 released", HEAD "0e 0000000c " TO "0000", -EBADMSG},
};

static void test_bad_bytes(void)
{
    unsigned records;

    begin();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice batch = unit_hex(cases[i].hex);
        CHECK_CASE(cases[i].name, read_all(batch, &records) == cases[i].want);
        free((void *)batch.ptr);
    }
    finish();
}

/* A principal as record_put_principal writes it, but for what the row says. */
static const struct {
    const char *name, *user, *role, *rules;
    size_t role_len;
    int want;
} principals[] = {
    {"plain", "u", "r", "", 1, 0},
    {"no user", "", "r", "", 1, 0},
    {"a role without name", "u", "", "", 0, 0},
    {"NUL in a role", "u", "r\0s", "", 3, -EBADMSG},
    {"rules", "u", "r", "[]", 1, 0},
    {"rules that are none", "u", "r", "[{\"allow\":", 1, -EBADMSG},
    {"rules that say nothing", "u", "r", "x", 1, -EBADMSG},
};

static void test_bad_principals(void)
{
    begin();
    for (size_t i = 0; i < COUNT_OF(principals); i++) {
        struct buf b = {0};
        static const uint8_t rest[4 + 8 + 8 + 16];
        struct slice texts[] = {slice_str(principals[i].user), SLICE("gone"),
                                slice_of(principals[i].role, principals[i].role_len), slice_str(principals[i].rules)};
        buf_u8(&b, 1);
        buf_put(&b, slice_of(rest, sizeof(rest)));
        for (size_t t = 0; t < COUNT_OF(texts); t++) {
            if (t == 2) {
                buf_u16(&b, 1);
            }
            buf_u32(&b, (uint32_t)texts[t].len);
            buf_put(&b, texts[t]);
        }
        struct cursor c = cursor_at(buf_slice(&b));
        struct principal *p = NULL;
        int rc = record_get_principal(&c, &world, &p);
        CHECK_CASE(principals[i].name, rc == principals[i].want && (p != NULL) == (rc == 0));
        CHECK_CASE(principals[i].name, !p || (strcmp(p->listener, "") == 0 && p->role_count == 1));
        principal_unref(p);
        buf_deinit(&b);
    }
    finish();
}

/* Each bit of each byte changed once. */
static void test_any_bit(void)
{
    unsigned records, noticed = 0;

    begin();
    struct record_writer writer = write_all();
    struct slice batch = buf_slice(&writer.bytes);
    for (size_t bit = 0; bit < batch.len * 8; bit++) {
        writer.bytes.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int rc = read_all(batch, &records);
        CHECK(rc == 0 || rc == -EBADMSG || (rc == -EPROTONOSUPPORT && bit < 8));
        noticed += rc != 0;
        writer.bytes.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    CHECK(noticed > batch.len);
    buf_deinit(&writer.bytes);
    finish();
}

/* Memory runs out at each allocation of reading each entry: it says so, has nothing left over, and the reader that was
 * opened anew reads all. */
static void test_memory(void)
{
    begin();
    unsigned failures = 0, records;
    for (unsigned i = 0; i < made.count; i++) {
        struct written_step *step = &made.steps[i];
        struct record_writer writer = {0};
        written_begin(&writer);
        written_put(&writer, 1, step->uid, &step->command, &step->outcome);
        record_end(&writer);
        int rc = -ENOMEM;
        for (unsigned n = 1; rc == -ENOMEM && n < 1000; n++) {
            alloc_fail_at = n;
            message_pool_trim(0);
            rc = read_all(buf_slice(&writer.bytes), &records);
            failures += rc == -ENOMEM;
        }
        CHECK_CASE(step->name, rc == 0 && records == 1 && alloc_fail_at > 0);
        alloc_fail_at = 0;
        buf_deinit(&writer.bytes);
    }
    CHECK(failures > 15);
    finish();
}

UNIT_MAIN("broker/group/written", {"what is read is what was written", test_round_trip},
          {"a message once a batch", test_message_once}, {"the bytes of version 1", test_golden}, {"room", test_room},
          {"cut anywhere", test_cut_anywhere}, {"a body of wrong length", test_body_of_wrong_length},
          {"bad bytes", test_bad_bytes}, {"bad principals", test_bad_principals}, {"any bit changed", test_any_bit},
          {"memory runs out", test_memory})
