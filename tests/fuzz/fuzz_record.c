/* fuzz_record.c -- batches of the log: any bytes are read without harm, and what was read is a thing the writer can
 * write and the reader reads the same again.
 *
 * An even first byte: the rest is a batch. An odd one: entries as type, length (one byte) and body, from which a batch
 * with lengths that fit is made, so that bytes put in or taken out of a body do not end it all. */
#include <errno.h>

#include "tests/fuzz/ops.h"
#include "tests/unit/broker/group/written.h"

static struct record_world world;

static void check_options(const struct subscription_options *o)
{
    require(o->qos <= 2 && o->retain_handling <= 2 && o->id <= 268435455);
}

/* What those who apply it rely upon, and assert. */
static void check(const struct record *r)
{
    const struct command *c = &r->command;

    require(c->session == NULL && c->decided == &r->decided && r->decided.uid == r->uid);
    switch (c->type) {
    case COMMAND_CLAIM:
        require(c->claim.client_id.len > 0 && c->claim.client_id.len <= UINT16_MAX);
        require(c->claim.hash == test_hash(c->claim.client_id));
        require(!c->claim.will || (c->claim.will->message && c->claim.will->message->qos <= 2));
        break;
    case COMMAND_SUBSCRIBE:
        require(c->subscribe.filter.len > 0 && c->subscribe.filter.len <= UINT16_MAX);
        check_options(&c->subscribe.options);
        break;
    case COMMAND_UNSUBSCRIBE:
        require(c->unsubscribe.len > 0 && c->unsubscribe.len <= UINT16_MAX);
        break;
    case COMMAND_SHARE_JOIN:
        require(c->share.filter.len > 0 && c->share.filter.len <= UINT16_MAX && c->share.name.len <= UINT16_MAX);
        check_options(&c->share.options);
        break;
    case COMMAND_PUBLISH:
        require(c->publish.message && c->publish.message->topic_len > 0);
        require(c->publish.qos == 1 || c->publish.qos == 2);
        break;
    case COMMAND_QOS2_IN:
    case COMMAND_QOS2_RELEASE:
        require(c->packet_id != 0);
        break;
    case COMMAND_RETAIN:
        require(c->retain && c->retain->topic_len > 0 && c->retain->qos <= 2);
        require(c->retain->topic_hash == test_hash(message_topic(c->retain)));
        break;
    default:
        require(c->type <= COMMAND_RETAIN);
        break;
    }
}

/* Read as far as it goes and write that again; how many records, and what the reader said at the end. */
static unsigned copy(struct slice batch, struct record_writer *to, int *ret_rc)
{
    struct record_reader reader;
    struct record r;
    unsigned count = 0;

    written_begin(to);
    *ret_rc = record_open(&reader, batch, &world);
    while (*ret_rc == 0 && (*ret_rc = record_next(&reader, &r)) == 1) {
        check(&r);
        written_again(to, &r);
        if (r.command.type == COMMAND_CLAIM) {
            will_free(r.command.claim.will);
        }
        count++;
        *ret_rc = 0;
        if (cursor_left(&reader.at) == 0) {
            require(record_next(&reader, &r) == 0);
            break;
        }
    }
    record_close(&reader);
    record_end(to);
    require(*ret_rc == 0 || *ret_rc == -EBADMSG || *ret_rc == -EPROTONOSUPPORT);
    return count;
}

/* A batch with lengths that fit, from the shape that the head tells of. */
static void frame(struct buf *batch, struct slice in)
{
    struct cursor c = cursor_at(in);

    buf_u8(batch, RECORD_VERSION);
    buf_u64(batch, WRITTEN_MS);
    while (cursor_left(&c) > 1) {
        uint8_t type = cursor_u8(&c), len = cursor_u8(&c);
        struct slice body = cursor_take(&c, len < cursor_left(&c) ? len : cursor_left(&c));
        buf_u8(batch, type);
        buf_u32(batch, (uint32_t)body.len);
        buf_put(batch, body);
    }
    require(!batch->failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct record_writer first = {0}, second = {0};
    struct buf framed = {0};
    struct user_rates *rates;
    int rc;

    require(user_rates_new(&rates) == 0);
    world = written_world(rates);
    if (ops_byte(&in) & 1) {
        frame(&framed, in);
        in = buf_slice(&framed);
    }
    unsigned count = copy(in, &first, &rc);
    require(copy(buf_slice(&first.bytes), &second, &rc) == count && rc == 0);
    require(slice_eq(buf_slice(&first.bytes), buf_slice(&second.bytes)));
    buf_deinit(&framed);
    buf_deinit(&first.bytes);
    buf_deinit(&second.bytes);
    user_rates_free(rates); /* asserts that no principal is left */
    return 0;
}
