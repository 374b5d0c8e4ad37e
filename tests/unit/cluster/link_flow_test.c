/* Two ends of a link and a connection between them that breaks at any byte. */
#include <errno.h>
#include <stdlib.h>

#include "cluster/link_flow.h"
#include "proto/base/prng.h"
#include "tests/lib/unit.h"

struct end {
    struct link_flow flow;
    struct buf in;              /* received, not yet whole */
    uint32_t put[LINK_LANES];   /* messages put, numbered from 0 */
    uint32_t taken[LINK_LANES]; /* and taken by this end */
    bool wrong;
};

static uint32_t length_of(uint32_t number)
{
    return number % 7 == 0 ? 300 : number % 11;
}

static void put_one(struct end *e, unsigned lane)
{
    uint8_t body[4 + 300] = {0};
    uint32_t n = e->put[lane];
    struct buf b = {.ptr = body, .cap = sizeof(body)};

    buf_u32(&b, n);
    struct slice parts[] = {slice_of(body, 4), slice_of(NULL, 0), slice_of(body + 4, length_of(n))};
    if (link_flow_put(&e->flow, lane, (uint8_t)lane, 7, parts, 3) == 0) {
        e->put[lane]++;
    }
}

/* A frame has come whole. */
static void take(struct end *e, const struct link_frame *f, const uint8_t *body)
{
    if (f->lane == LINK_ASIDE) {
        e->wrong |= link_flow_ack_read(&e->flow, body) != 0;
        return;
    }
    enum link_verdict v = link_flow_take(&e->flow, f);
    e->wrong |= v == LINK_BROKEN || f->type != f->lane || f->flags != 7;
    if (v == LINK_NEW && f->lane != LINK_QOS0) {
        uint32_t n = (uint32_t)body[0] << 24 | (uint32_t)body[1] << 16 | (uint32_t)body[2] << 8 | body[3];
        e->wrong |= n != e->taken[f->lane] || f->len != 4 + length_of(n);
        e->taken[f->lane]++;
    }
}

static void receive(struct end *e, struct slice bytes)
{
    buf_put(&e->in, bytes);
    while (e->in.len >= LINK_HEADER_BYTES) {
        struct link_frame f;
        link_frame_read(e->in.ptr, &f);
        if (e->in.len < LINK_HEADER_BYTES + f.len) {
            break;
        }
        take(e, &f, e->in.ptr + LINK_HEADER_BYTES);
        buf_consume(&e->in, LINK_HEADER_BYTES + f.len);
    }
}

static uint32_t at_once = UINT32_MAX; /* bytes of a lane in one send */

/* One send of an end: acknowledgements, then the lanes. cut: only so many bytes arrive. */
static void transmit(struct end *from, struct end *to, uint32_t cut)
{
    struct buf wire = {0};

    if (link_flow_ack_due(&from->flow)) {
        uint8_t frame[LINK_HEADER_BYTES + LINK_ACK_BYTES];
        struct link_frame f = {.len = LINK_ACK_BYTES, .lane = LINK_ASIDE};
        link_frame_write(frame, &f);
        link_flow_ack_write(&from->flow, frame + LINK_HEADER_BYTES);
        buf_put(&wire, slice_of(frame, sizeof(frame)));
    }
    for (unsigned lane = 0; lane < LINK_LANES; lane++) {
        struct slice s = link_flow_unsent(&from->flow, lane, at_once);
        buf_put(&wire, s);
        link_flow_sent(&from->flow, lane, (uint32_t)s.len);
    }
    receive(to, slice_of(wire.ptr, wire.len < cut ? wire.len : cut));
    buf_deinit(&wire);
}

static void reconnect(struct end *a, struct end *b)
{
    for (unsigned lane = 0; lane < LINK_LANES; lane++) {
        CHECK(link_flow_resume(&a->flow, lane, b->flow.lanes[lane].expected) == 0);
        CHECK(link_flow_resume(&b->flow, lane, a->flow.lanes[lane].expected) == 0);
    }
    a->in.len = b->in.len = 0;
}

static void end_deinit(struct end *e)
{
    link_flow_deinit(&e->flow);
    buf_deinit(&e->in);
}

static void test_breaks(void)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct prng prng;
        struct end a = {0}, b = {0};

        prng_seed(&prng, seed);
        at_once = seed % 2 ? UINT32_MAX : 50; /* so little that a frame is longer: no other may come into its midst */
        link_flow_init(&a.flow);
        link_flow_init(&b.flow);
        for (unsigned step = 0; step < 300; step++) {
            struct end *from = prng_next(&prng) % 2 ? &a : &b;
            struct end *to = from == &a ? &b : &a;
            for (unsigned i = prng_next(&prng) % 4; i > 0; i--) {
                put_one(from, prng_next(&prng) % LINK_LANES);
            }
            if (prng_next(&prng) % 5 == 0) { /* whatever has come so far, the rest is gone */
                transmit(from, to, prng_next(&prng) % 400);
                reconnect(&a, &b);
            } else {
                transmit(from, to, UINT32_MAX);
            }
        }
        at_once = UINT32_MAX;
        transmit(&a, &b, UINT32_MAX);
        transmit(&b, &a, UINT32_MAX);
        transmit(&a, &b, UINT32_MAX); /* the last acknowledgement */
        CHECK(!a.wrong && !b.wrong);
        for (unsigned lane = 0; lane < LINK_KEPT_LANES; lane++) {
            CHECK(a.taken[lane] == b.put[lane] && b.taken[lane] == a.put[lane]);
            CHECK(link_flow_held(&a.flow, lane) == 0 && link_flow_held(&b.flow, lane) == 0);
        }
        end_deinit(&a);
        end_deinit(&b);
    }
}

static void test_bound(void)
{
    struct link_flow flow;
    static uint8_t body[1000];
    struct slice part = slice_of(body, sizeof(body));
    uint32_t count = 0;

    link_flow_init(&flow);
    flow.lanes[LINK_LIVE].bound = 10000;
    while (link_flow_put(&flow, LINK_LIVE, 1, 0, &part, 1) == 0) {
        count++;
    }
    CHECK(count == 10); /* the last goes beyond it */
    CHECK(link_flow_put(&flow, LINK_LIVE, 1, 0, &part, 1) == -ENOBUFS);
    CHECK(link_flow_put(&flow, LINK_CONTROL, 1, 0, &part, 1) == 0); /* the others are not concerned */
    link_flow_sent(&flow, LINK_LIVE, link_flow_held(&flow, LINK_LIVE));
    CHECK(link_flow_resume(&flow, LINK_LIVE, 4) == 0);
    CHECK(link_flow_unsent(&flow, LINK_LIVE, UINT32_MAX).len == 6 * (1000 + LINK_HEADER_BYTES));
    CHECK(link_flow_put(&flow, LINK_LIVE, 1, 0, &part, 1) == 0);
    link_flow_deinit(&flow);
}

static void test_lies(void)
{
    struct link_flow flow;
    struct slice part = SLICE("x");
    uint8_t ack[LINK_ACK_BYTES] = {0};
    struct link_frame frame = {.lane = LINK_LIVE, .seq = 1};

    link_flow_init(&flow);
    ack[3] = 1;
    CHECK(link_flow_ack_read(&flow, ack) == -EPROTO); /* nothing was put */
    CHECK(link_flow_put(&flow, LINK_CONTROL, 1, 0, &part, 1) == 0);
    CHECK(link_flow_ack_read(&flow, ack) == -EPROTO); /* nor sent */
    link_flow_sent(&flow, LINK_CONTROL, link_flow_held(&flow, LINK_CONTROL));
    CHECK(link_flow_ack_read(&flow, ack) == 0);
    CHECK(link_flow_ack_read(&flow, ack) == 0); /* twice is no matter */
    ack[3] = 0;
    CHECK(link_flow_ack_read(&flow, ack) == -EPROTO); /* back is */
    CHECK(link_flow_resume(&flow, LINK_CONTROL, 2) == -EPROTO);
    CHECK(link_flow_take(&flow, &frame) == LINK_BROKEN); /* a gap */
    frame.seq = 0;
    CHECK(link_flow_take(&flow, &frame) == LINK_NEW && link_flow_take(&flow, &frame) == LINK_AGAIN);
    link_flow_untake(&flow, &frame);
    CHECK(link_flow_take(&flow, &frame) == LINK_NEW);
    link_flow_deinit(&flow);
}

/* What is not kept waits for a connection too, and only what one has taken is gone. */
static void test_before_a_connection(void)
{
    struct link_flow flow;
    struct slice part = SLICE("x");

    link_flow_init(&flow);
    CHECK(link_flow_put(&flow, LINK_QOS0, 1, 0, &part, 1) == 0 && link_flow_put(&flow, LINK_QOS0, 1, 0, &part, 1) == 0);
    CHECK(link_flow_resume(&flow, LINK_QOS0, 0) == 0);
    CHECK(link_flow_unsent(&flow, LINK_QOS0, UINT32_MAX).len == 2 * (1 + LINK_HEADER_BYTES));
    link_flow_sent(&flow, LINK_QOS0, 1 + LINK_HEADER_BYTES);
    CHECK(link_flow_resume(&flow, LINK_QOS0, 0) == 0);
    CHECK(link_flow_unsent(&flow, LINK_QOS0, UINT32_MAX).len == 1 + LINK_HEADER_BYTES);
    link_flow_deinit(&flow);
}

/* The numbers begin anew after 2^32 frames. */
static void test_wrap(void)
{
    struct end a = {0}, b = {0};

    link_flow_init(&a.flow);
    link_flow_init(&b.flow);
    for (unsigned lane = 0; lane < LINK_KEPT_LANES; lane++) {
        a.flow.lanes[lane].oldest = a.flow.lanes[lane].next = UINT32_MAX - 2;
        b.flow.lanes[lane].expected = b.flow.lanes[lane].told = UINT32_MAX - 2;
    }
    for (unsigned i = 0; i < 10; i++) {
        put_one(&a, LINK_LIVE);
        transmit(&a, &b, i == 4 ? 5 : UINT32_MAX);
        if (i == 4) {
            reconnect(&a, &b);
        }
        transmit(&b, &a, UINT32_MAX);
    }
    CHECK(!a.wrong && !b.wrong && b.taken[LINK_LIVE] == 10 && link_flow_held(&a.flow, LINK_LIVE) == 0);
    end_deinit(&a);
    end_deinit(&b);
}

UNIT_MAIN("cluster/link_flow", {"breaks at any byte", test_breaks}, {"bound", test_bound}, {"lies", test_lies},
          {"before a connection", test_before_a_connection}, {"wrap", test_wrap})
