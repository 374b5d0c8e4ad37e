#include "cluster/link_flow.h"

#include <assert.h>
#include <errno.h>

#define COMPACT_BYTES (64u << 10)
#define SPARE_BYTES (256u << 10) /* memory that an empty lane keeps */

static const uint32_t bounds[LINK_LANES] = {8u << 20, 16u << 20, 8u << 20, 4u << 20};

static void put_u32(uint8_t *out, uint32_t v)
{
    out[0] = (uint8_t)(v >> 24);
    out[1] = (uint8_t)(v >> 16);
    out[2] = (uint8_t)(v >> 8);
    out[3] = (uint8_t)v;
}

static uint32_t get_u32(const uint8_t *in)
{
    return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

void link_flow_init(struct link_flow *flow)
{
    *flow = (struct link_flow){0};
    for (unsigned i = 0; i < LINK_LANES; i++) {
        flow->lanes[i].bound = bounds[i];
    }
}

void link_flow_deinit(struct link_flow *flow)
{
    for (unsigned i = 0; i < LINK_LANES; i++) {
        buf_deinit(&flow->lanes[i].bytes);
    }
}

void link_flow_reset(struct link_flow *flow)
{
    for (unsigned i = 0; i < LINK_LANES; i++) {
        struct link_lane *l = &flow->lanes[i];
        struct buf bytes = l->bytes;
        bytes.len = 0;
        *l = (struct link_lane){.bytes = bytes, .bound = l->bound};
    }
}

void link_frame_write(uint8_t out[LINK_HEADER_BYTES], const struct link_frame *frame)
{
    put_u32(out, frame->len);
    out[4] = frame->lane;
    out[5] = frame->type;
    out[6] = (uint8_t)(frame->flags >> 8);
    out[7] = (uint8_t)frame->flags;
    put_u32(out + 8, frame->seq);
}

void link_frame_read(const uint8_t in[LINK_HEADER_BYTES], struct link_frame *ret_frame)
{
    *ret_frame = (struct link_frame){
        .len = get_u32(in),
        .lane = in[4],
        .type = in[5],
        .flags = (uint16_t)(in[6] << 8 | in[7]),
        .seq = get_u32(in + 8),
    };
}

/* Give back what is acknowledged: all of it when the lane is empty, else when it has become the larger part. */
static void compact(struct link_lane *l)
{
    if (l->front == l->bytes.len) {
        l->bytes.len = l->front = l->sent = 0;
        if (l->bytes.cap > SPARE_BYTES) {
            buf_deinit(&l->bytes);
        }
    } else if (l->front > COMPACT_BYTES && l->front > l->bytes.len / 2) {
        buf_consume(&l->bytes, l->front);
        l->sent -= l->front;
        l->front = 0;
    }
}

int link_flow_put(struct link_flow *flow, unsigned lane, uint8_t type, uint16_t flags, const struct slice *parts,
                  unsigned count)
{
    struct link_lane *l = &flow->lanes[lane];
    struct link_frame frame = {.lane = (uint8_t)lane, .type = type, .flags = flags, .seq = l->next};
    uint64_t len = 0;

    for (unsigned i = 0; i < count; i++) {
        len += parts[i].len;
    }
    if (l->bytes.len - l->front >= l->bound || len + l->bytes.len + LINK_HEADER_BYTES > INT32_MAX) {
        return -ENOBUFS;
    }
    frame.len = (uint32_t)len;
    uint8_t *at = buf_extend(&l->bytes, LINK_HEADER_BYTES + (size_t)len);
    if (!at) {
        l->bytes.failed = false;
        return -ENOMEM;
    }
    link_frame_write(at, &frame);
    at += LINK_HEADER_BYTES;
    for (unsigned i = 0; i < count; i++) {
        if (parts[i].len > 0) {
            memcpy(at, parts[i].ptr, parts[i].len);
            at += parts[i].len;
        }
    }
    l->next++;
    return 0;
}

struct slice link_flow_unsent(const struct link_flow *flow, unsigned lane, uint32_t max)
{
    const struct link_lane *l = &flow->lanes[lane];
    uint32_t left = l->bytes.len - l->sent, taken = 0;

    if (left <= max) {
        taken = left;
    }
    while (taken < left) {
        uint32_t frame = LINK_HEADER_BYTES + get_u32(l->bytes.ptr + l->sent + taken);
        if (taken > 0 && frame > max - taken) {
            break;
        }
        taken += frame;
        if (taken >= max) {
            break;
        }
    }
    return taken == 0 ? slice_of(NULL, 0) : slice_of(l->bytes.ptr + l->sent, taken);
}

void link_flow_sent(struct link_flow *flow, unsigned lane, uint32_t n)
{
    struct link_lane *l = &flow->lanes[lane];

    assert(n <= l->bytes.len - l->sent);
    l->sent += n;
    if (lane == LINK_QOS0) {
        l->front = l->sent;
        compact(l);
    }
}

/* Where the frame `seq` begins, which lies between front and end; seq == next: the end. */
static uint32_t offset_of(const struct link_lane *l, uint32_t seq)
{
    uint32_t at = l->front;

    for (uint32_t s = l->oldest; s != seq; s++) {
        at += LINK_HEADER_BYTES + get_u32(l->bytes.ptr + at);
    }
    return at;
}

/* Everything before `seq` has come. */
static int acknowledge(struct link_lane *l, uint32_t seq)
{
    if (seq - l->oldest > l->next - l->oldest) {
        return -EPROTO;
    }
    uint32_t at = offset_of(l, seq);
    if (at > l->sent) {
        return -EPROTO;
    }
    l->front = at;
    l->oldest = seq;
    compact(l);
    return 0;
}

int link_flow_resume(struct link_flow *flow, unsigned lane, uint32_t expected)
{
    struct link_lane *l = &flow->lanes[lane];

    if (lane == LINK_QOS0) { /* what was sent is gone, whether it has come or not; what is here was not */
        return 0;
    }
    int rc = acknowledge(l, expected);
    if (rc == 0) {
        l->sent = l->front;
    }
    l->told = l->expected;
    return rc;
}

enum link_verdict link_flow_take(struct link_flow *flow, const struct link_frame *frame)
{
    struct link_lane *l = &flow->lanes[frame->lane];

    if (frame->lane == LINK_QOS0) {
        return LINK_NEW;
    }
    if (frame->seq == l->expected) {
        l->expected++;
        return LINK_NEW;
    }
    return (int32_t)(frame->seq - l->expected) < 0 ? LINK_AGAIN : LINK_BROKEN;
}

void link_flow_untake(struct link_flow *flow, const struct link_frame *frame)
{
    if (frame->lane != LINK_QOS0) {
        flow->lanes[frame->lane].expected = frame->seq;
    }
}

bool link_flow_ack_due(const struct link_flow *flow)
{
    bool due = false;

    for (unsigned i = 0; i < LINK_KEPT_LANES; i++) {
        due |= flow->lanes[i].told != flow->lanes[i].expected;
    }
    return due;
}

void link_flow_ack_write(struct link_flow *flow, uint8_t out[LINK_ACK_BYTES])
{
    for (unsigned i = 0; i < LINK_KEPT_LANES; i++) {
        flow->lanes[i].told = flow->lanes[i].expected;
        put_u32(out + 4 * i, flow->lanes[i].expected);
    }
}

int link_flow_ack_read(struct link_flow *flow, const uint8_t in[LINK_ACK_BYTES])
{
    int rc = 0;

    for (unsigned i = 0; i < LINK_KEPT_LANES && rc == 0; i++) {
        rc = acknowledge(&flow->lanes[i], get_u32(in + 4 * i));
    }
    return rc;
}
