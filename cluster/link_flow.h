/* link_flow.h -- what makes a link between two nodes lossless: sequence, acknowledgement, resend, bounds. Pure.
 *
 * Why: a connection between nodes may break at any byte. What was on its way is kept until the other side says that it
 * has come, and is sent again on the next connection; what came twice is dropped. Four lanes share one connection, each
 * with its own order and its own bound, so that a flood of messages never holds up what keeps the cluster together.
 *
 *     put -> |acknowledged| sent, kept | unsent |        frames in one buffer per lane, oldest first
 *                         ^ front      ^ sent   ^ end
 *
 * The QoS 0 lane is not kept: what is sent is gone, and what finds no room is refused.
 *
 * Frame: length of the body u32, lane u8, type u8, flags u16, sequence u32 (serial numbers, RFC 1982), body.
 * Big-endian. Acknowledgements and words about the connection itself travel beside the lanes (LINK_ASIDE): unnumbered,
 * never kept. */
#ifndef TERN_CLUSTER_LINK_FLOW_H
#define TERN_CLUSTER_LINK_FLOW_H

#include "proto/base/buf.h"

enum link_lane_name {
    LINK_CONTROL, /* routes, claims, members: never behind messages */
    LINK_DURABLE, /* for groups of several replicas */
    LINK_LIVE,    /* QoS 1 and 2 on their way */
    LINK_QOS0,
    LINK_LANES,
    LINK_ASIDE = LINK_LANES,
};

#define LINK_HEADER_BYTES 12u
#define LINK_KEPT_LANES LINK_QOS0 /* those before it are kept until acknowledged */
#define LINK_ACK_BYTES (4u * LINK_KEPT_LANES)

struct link_frame {
    uint32_t len; /* of the body */
    uint8_t lane, type;
    uint16_t flags;
    uint32_t seq;
};

struct link_lane {
    struct buf bytes;        /* frames */
    uint32_t front, sent;    /* offsets: what is before front is acknowledged; before sent, handed to the connection */
    uint32_t bound;          /* bytes that may wait */
    uint32_t oldest, next;   /* sequence of the frame at front; of the next to be put */
    uint32_t expected, told; /* sequence to come; as the other side was told last */
};

/* Both directions of one link. All zero but for the bounds is a new one. */
struct link_flow {
    struct link_lane lanes[LINK_LANES];
};

void link_flow_init(struct link_flow *flow); /* with the default bounds: 8, 16, 8, 4 MiB */
void link_flow_deinit(struct link_flow *flow);
/* Forget everything that was to be sent and everything that came, as a new one. Keeps the memory. */
void link_flow_reset(struct link_flow *flow);

void link_frame_write(uint8_t out[LINK_HEADER_BYTES], const struct link_frame *frame);
void link_frame_read(const uint8_t in[LINK_HEADER_BYTES], struct link_frame *ret_frame);

/* ---- to be sent ---- */

/* Append a frame whose body is the parts one after the other. Returns 0; -ENOBUFS: the lane holds its bound already
 * (one frame may go beyond it, so that none is too long for ever); -ENOMEM. Nothing has changed then. */
int link_flow_put(struct link_flow *flow, unsigned lane, uint8_t type, uint16_t flags, const struct slice *parts,
                  unsigned count);

/* Bytes of a lane that wait or are not yet acknowledged. */
static inline uint32_t link_flow_held(const struct link_flow *flow, unsigned lane)
{
    return flow->lanes[lane].bytes.len - flow->lanes[lane].front;
}

/* What the connection is to send next of this lane: whole frames, for another lane's may come behind them; as many as
 * fit into `max` bytes, or one. Borrowed until the next call. link_flow_sent when all of it was taken. */
struct slice link_flow_unsent(const struct link_flow *flow, unsigned lane, uint32_t max);
void link_flow_sent(struct link_flow *flow, unsigned lane, uint32_t n);

/* A new connection: the other side expects this sequence next. Everything from there on is unsent again. Returns 0, or
 * -EPROTO if it can never have seen that: one of the two is another than before. */
int link_flow_resume(struct link_flow *flow, unsigned lane, uint32_t expected);

/* ---- received ---- */

enum link_verdict { LINK_NEW, LINK_AGAIN, LINK_BROKEN };

/* A frame of one of the lanes has come whole: handle it, drop it, or end the connection. */
enum link_verdict link_flow_take(struct link_flow *flow, const struct link_frame *frame);
/* The last one that was taken could not be handled: it is to come again. */
void link_flow_untake(struct link_flow *flow, const struct link_frame *frame);

/* ---- acknowledgements: the body of a frame beside the lanes ---- */

bool link_flow_ack_due(const struct link_flow *flow);
void link_flow_ack_write(struct link_flow *flow, uint8_t out[LINK_ACK_BYTES]);
/* Returns 0, or -EPROTO if what was never sent is acknowledged. */
int link_flow_ack_read(struct link_flow *flow, const uint8_t in[LINK_ACK_BYTES]);

#endif
