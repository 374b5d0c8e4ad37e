/* peer_wire.c -- one connection between two nodes: TLS, frames in and out, a heartbeat. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/peer/peer_inside.h"
#include "proto/base/log.h"

#define PLAIN_BYTES 16384u
#define FLUSH_BYTES (256u << 10) /* that one send carries */

static void received(struct io_stream *stream, struct slice data);
static void ended(struct io_stream *stream, int error);
static void sent(struct io_stream *stream);
static void closed(struct io_stream *stream);

static const struct io_stream_handler stream_handler = {received, ended, sent, closed};

static struct peer_wire *wire_of(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct peer_wire, stream);
}

void peer_wire_free(struct peer_wire *wire)
{
    tls_free(wire->tls);
    free(wire->relay);
    buf_deinit(&wire->in);
    buf_deinit(&wire->out);
    buf_deinit(&wire->going);
    buf_deinit(&wire->hello);
    free(wire);
}

static bool sending(const struct peer_wire *wire)
{
    return wire->relay ? peer_relay_sending(wire) : io_stream_sending(&wire->stream);
}

/* Silence, or a greeting that takes too long. */
static void tick(struct timer *timer, uint64_t now_ms)
{
    struct peer_wire *wire = CONTAINER_OF(timer, struct peer_wire, timer);

    if (wire->closing) { /* a relayed one: nobody holds it any more */
        closed(&wire->stream);
        return;
    }
    if (!wire->greeted) {
        peer_wire_close(wire, wire->dialled ? "no answer" : "no HELLO in time");
        return;
    }
    if (now_ms - wire->heard_ms > PEER_SILENCE_MS) {
        peer_wire_close(wire, "silent");
        return;
    }
    timer_set(wire->room->shard->timers, timer, now_ms + PEER_BEAT_MS);
    if (now_ms - wire->said_ms >= PEER_BEAT_MS / 2 && !sending(wire)) {
        uint8_t ack[LINK_ACK_BYTES];
        link_flow_ack_write(&wire->link->flow, ack);
        peer_wire_say(wire, PEER_ACK, slice_of(ack, sizeof(ack)));
    }
}

/* Whom the log speaks of. */
static void name_wire(struct peer_wire *wire, int fd)
{
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof(from);
    struct member_address address = {0};

    if (wire->link) {
        address = wire->link->address;
    } else if (getpeername(fd, (struct sockaddr *)&from, &len) == 0) {
        peer_address_of((struct sockaddr *)&from, &address);
    }
    peer_address_text(&address, wire->name);
}

static void begin(struct peer_wire *wire, struct peer_room *room, struct peer_link *link)
{
    wire->room = room;
    wire->stream.handler = &stream_handler;
    wire->link = link;
    wire->dialled = link != NULL;
    wire->heard_ms = wire->said_ms = room->shard->now_ms;
    timer_init(&wire->timer, tick);
}

static void enter(struct peer_wire *wire)
{
    struct peer_room *room = wire->room;

    timer_set(room->shard->timers, &wire->timer, room->shard->now_ms + PEER_GREETING_MS);
    list_append(&room->wires, &wire->in_room);
    room->knocking++;
}

struct peer_wire *peer_wire_relayed(struct peer_room *room, struct peer_relay *relay, struct peer_link *link)
{
    struct peer_wire *wire = calloc(1, sizeof(*wire));

    if (wire) {
        begin(wire, room, link);
        wire->relay = relay;
        wire->stream.fd = -1;
        enter(wire);
    }
    return wire;
}

struct peer_wire *peer_wire_new(struct peer_room *room, int fd, struct peer_link *link)
{
    struct tls_context *context = atomic_load(link ? &room->terms->tls_out : &room->terms->tls_in);
    struct peer_wire *wire = calloc(1, sizeof(*wire));

    if (wire && context) {
        wire->tls = tls_new(context, link ? room->terms->cluster : NULL);
    }
    if (!wire || (context && !wire->tls)) {
        free(wire);
        close(fd);
        return NULL;
    }
    begin(wire, room, link);
    if (io_stream_attach(room->shard->io, &wire->stream, fd) != 0) {
        peer_wire_free(wire);
        close(fd);
        return NULL;
    }
    name_wire(wire, fd);
    enter(wire);
    if (wire->dialled && wire->tls && tls_start(wire->tls, &wire->out) != 0) {
        peer_wire_close(wire, "no memory");
        return NULL;
    }
    if (wire->dialled) {
        peer_link_hello(wire);
    }
    peer_wire_flush(wire);
    if (wire->closing) { /* its `closed` frees it */
        return NULL;
    }
    io_stream_recv_once(room->shard->io, &wire->stream);
    return wire;
}

void peer_wire_close(struct peer_wire *wire, const char *why)
{
    struct peer_link *link = wire->link;

    if (wire->closing) {
        return;
    }
    if (why) {
        const char *tls = wire->tls && !tls_open(wire->tls) ? tls_why(wire->tls) : "";
        bool news = wire->greeted || peer_stranger_is_news(wire->room, wire->name, why, tls);
        log_event(news ? LOG_WARN : LOG_DEBUG, "peer_lost", {"peer", LOG_STR(wire->name)}, {"why", LOG_STR(why)},
                  {"side", LOG_STR(wire->dialled ? "dialled" : "accepted")}, {"tls", LOG_STR(tls)});
    }
    wire->closing = true;
    wire->room->knocking -= !wire->greeted;
    if (wire->relay) { /* is freed when nobody is inside it */
        timer_set(wire->room->shard->timers, &wire->timer, wire->room->shard->now_ms);
        peer_relay_closed(wire);
    } else {
        timer_cancel(wire->room->shard->timers, &wire->timer);
        io_stream_close(wire->room->shard->io, &wire->stream);
        peer_relay_carrier_lost(wire);
    }
    wire->link = NULL;
    if (link) {
        peer_link_lost(link, wire);
    }
}

void peer_wire_greeted(struct peer_wire *wire)
{
    struct shard *shard = wire->room->shard;

    wire->room->knocking--;
    wire->greeted = true;
    wire->heard_ms = shard->now_ms;
    timer_set(shard->timers, &wire->timer, shard->now_ms + PEER_BEAT_MS);
    if (!wire->relay) {
        io_stream_recv_start(shard->io, &wire->stream);
    }
}

/* ---- received ---- */

/* A frame that has come whole. Returns false if the wire is closed or elsewhere. */
static bool take_frame(struct peer_wire *wire, const struct link_frame *frame, struct slice body)
{
    struct peer_link *link = wire->link;
    struct peer_room *room = wire->room;

    room->frames_in++;
    if (!wire->greeted) {
        return peer_link_greet(wire, frame->type, body);
    }
    if (frame->lane == LINK_ASIDE && frame->type > PEER_ASIDE_LAST) {
        return true; /* of a later version */
    }
    if (frame->lane == LINK_ASIDE && frame->type == PEER_RELAY) {
        peer_relay_take(wire, body);
        return !wire->closing;
    }
    if (frame->lane == LINK_ASIDE) {
        if (frame->type != PEER_ACK || body.len != LINK_ACK_BYTES || link_flow_ack_read(&link->flow, body.ptr) != 0) {
            peer_wire_close(wire, "acknowledges what was not sent");
            return false;
        }
        peer_link_acknowledged(link);
        return !wire->closing;
    }
    switch (link_flow_take(&link->flow, frame)) {
    case LINK_NEW:
        break;
    case LINK_AGAIN:
        return true;
    case LINK_BROKEN:
        peer_wire_close(wire, "a frame is missing");
        return false;
    }
    peer_link_mark(link); /* to acknowledge it */
    int rc = room->terms->handler->frame(link, frame, body);
    if (rc != 0 && !wire->closing) {
        link_flow_untake(&link->flow, frame);
        peer_wire_close(wire, rc == -ENOMEM ? "no memory" : "a frame makes no sense");
    }
    return !wire->closing;
}

/* Whether a frame with this head may come now. */
static bool allowed(const struct peer_wire *wire, const struct link_frame *frame)
{
    if (!wire->greeted || frame->lane == LINK_ASIDE) {
        return frame->lane == LINK_ASIDE && frame->len <= (wire->greeted ? PEER_ASIDE_BYTES : PEER_GREETING_BYTES);
    }
    return frame->lane < LINK_LANES &&
           frame->len <= (frame->lane == LINK_CONTROL ? PEER_CONTROL_BYTES : wire->room->terms->frame_bytes_max);
}

/* Handle all frames that are whole. Returns how many bytes that was; -1: the wire is closed or elsewhere. */
static ssize_t take_frames(struct peer_wire *wire, struct slice data)
{
    size_t at = 0;

    while (data.len - at >= LINK_HEADER_BYTES) {
        struct link_frame frame;
        link_frame_read(data.ptr + at, &frame);
        if (!allowed(wire, &frame)) {
            peer_wire_close(wire, wire->greeted ? "a frame is too long, or of no lane" : "it does not say HELLO");
            return -1;
        }
        if (data.len - at - LINK_HEADER_BYTES < frame.len) {
            break;
        }
        struct slice body = slice_of(data.ptr + at + LINK_HEADER_BYTES, frame.len);
        at += LINK_HEADER_BYTES + frame.len;
        if (!take_frame(wire, &frame, body)) {
            return -1;
        }
    }
    return (ssize_t)at;
}

/* Returns false if the wire is closed or elsewhere. */
static bool take_bytes(struct peer_wire *wire, struct slice data)
{
    wire->room->bytes_in += data.len;
    if (wire->link && wire->link->peer) {
        metric_add_at(wire->room->shard->metrics, METRIC_CELL_RECEIVED_BY_LINK, wire->link->peer - 1, data.len);
    }
    if (wire->in.len == 0) { /* the common case: no copy */
        ssize_t used = take_frames(wire, data);
        if (used < 0) {
            return false;
        }
        data = slice_of(data.ptr + used, data.len - (size_t)used);
        if (data.len == 0) {
            return true;
        }
    }
    buf_put(&wire->in, data);
    if (wire->in.failed) {
        peer_wire_close(wire, "no memory");
        return false;
    }
    ssize_t used = take_frames(wire, buf_slice(&wire->in));
    if (used < 0) {
        return false;
    }
    buf_consume(&wire->in, (size_t)used);
    if (wire->in.len == 0) {
        buf_pool_put(&wire->room->shard->spare, &wire->in);
    }
    return true;
}

static bool take_sealed(struct peer_wire *wire, struct slice data)
{
    uint8_t plain[PLAIN_BYTES];
    int n;

    while ((n = tls_feed(wire->tls, &data, plain, sizeof(plain), &wire->out)) > 0) {
        if (!take_bytes(wire, slice_of(plain, (size_t)n))) {
            return false;
        }
    }
    if (n < 0) {
        peer_wire_close(wire, n == -ECONNRESET ? "it has closed" : tls_why(wire->tls));
        return false;
    }
    return true;
}

static void received(struct io_stream *stream, struct slice data)
{
    struct peer_wire *wire = wire_of(stream);

    if (wire->closing) {
        return;
    }
    wire->heard_ms = wire->room->shard->now_ms;
    if (!(wire->tls ? take_sealed(wire, data) : take_bytes(wire, data))) {
        return;
    }
    if (wire->dialled && !wire->greeted) {
        peer_link_hello(wire); /* once TLS is up */
    }
    if (!wire->greeted && !wire->last_word) {
        io_stream_recv_once(wire->room->shard->io, stream);
    }
    peer_wire_flush(wire);
}

void peer_wire_take(struct peer_wire *wire, struct slice bytes)
{
    wire->heard_ms = wire->room->shard->now_ms;
    if (bytes.len == 0 || take_bytes(wire, bytes)) {
        peer_wire_flush(wire);
    }
}

static void ended(struct io_stream *stream, int error)
{
    struct peer_wire *wire = wire_of(stream);

    if (!wire->closing) {
        peer_wire_close(wire, wire->greeted ? error ? strerror(-error) : "it has closed" : NULL);
    }
}

/* ---- sent ---- */

void peer_wire_put(struct peer_wire *wire, struct slice bytes)
{
    if (wire->tls && tls_write(wire->tls, bytes.ptr, bytes.len, &wire->out) != 0) {
        wire->out.failed = true;
    } else if (!wire->tls) {
        buf_put(&wire->out, bytes);
    }
}

void peer_wire_say(struct peer_wire *wire, uint8_t type, struct slice body)
{
    uint8_t head[LINK_HEADER_BYTES + PEER_GREETING_BYTES];
    struct link_frame frame = {.len = (uint32_t)body.len, .lane = LINK_ASIDE, .type = type};

    assert(body.len <= PEER_GREETING_BYTES);
    if (wire->closing) {
        return;
    }
    link_frame_write(head, &frame);
    if (body.len > 0) {
        memcpy(head + LINK_HEADER_BYTES, body.ptr, body.len);
    }
    peer_wire_put(wire, slice_of(head, LINK_HEADER_BYTES + body.len));
    peer_wire_flush(wire);
}

/* What is not sent through a third node. */
static void drop_qos0(struct peer_wire *wire)
{
    struct link_flow *flow = &wire->link->flow;
    struct slice bytes = link_flow_unsent(flow, LINK_QOS0, UINT32_MAX);
    struct link_frame frame;

    for (size_t at = 0; at < bytes.len; at += LINK_HEADER_BYTES + frame.len) {
        link_frame_read(bytes.ptr + at, &frame);
        metric_add(wire->room->shard->metrics, METRIC_DROPPED_LINK_FULL, 1);
    }
    link_flow_sent(flow, LINK_QOS0, (uint32_t)bytes.len);
}

/* Put the lanes' next bytes into out. */
static void gather(struct peer_wire *wire)
{
    struct link_flow *flow = &wire->link->flow;
    uint32_t room = FLUSH_BYTES;

    if (link_flow_ack_due(flow)) {
        uint8_t ack[LINK_HEADER_BYTES + LINK_ACK_BYTES];
        struct link_frame frame = {.len = LINK_ACK_BYTES, .lane = LINK_ASIDE, .type = PEER_ACK};
        link_frame_write(ack, &frame);
        link_flow_ack_write(flow, ack + LINK_HEADER_BYTES);
        peer_wire_put(wire, slice_of(ack, sizeof(ack)));
    }
    if (wire->relay) {
        drop_qos0(wire);
    }
    for (unsigned lane = 0; lane < LINK_LANES && room > 0; lane++) {
        struct slice bytes = link_flow_unsent(flow, lane, room);
        if (bytes.len > 0) {
            peer_wire_put(wire, bytes);
            link_flow_sent(flow, lane, (uint32_t)bytes.len);
            room -= bytes.len < room ? (uint32_t)bytes.len : room;
        }
    }
}

void peer_wire_flush(struct peer_wire *wire)
{
    struct shard *shard = wire->room->shard;

    if (wire->closing || (!wire->relay && sending(wire))) {
        return;
    }
    if (wire->greeted && wire->link && !(wire->relay && sending(wire))) {
        gather(wire);
    }
    if (wire->out.failed) {
        peer_wire_close(wire, "no memory");
        return;
    }
    if (wire->relay) {
        peer_relay_flush(wire);
        return;
    }
    if (wire->out.len > 0) {
        buf_pool_put(&shard->spare, &wire->going);
        wire->going = wire->out;
        wire->out = buf_pool_get(&shard->spare);
        wire->said_ms = shard->now_ms;
        wire->room->bytes_out += wire->going.len;
        if (wire->link && wire->link->peer) {
            metric_add_at(shard->metrics, METRIC_CELL_SENT_BY_LINK, wire->link->peer - 1, wire->going.len);
        }
        io_stream_send(shard->io, &wire->stream, wire->going.ptr, wire->going.len);
    }
}

static void sent(struct io_stream *stream)
{
    struct peer_wire *wire = wire_of(stream);

    buf_pool_put(&wire->room->shard->spare, &wire->going);
    if (wire->last_word && wire->out.len == 0) {
        peer_wire_close(wire, NULL);
        return;
    }
    if (wire->to_shard != 0) {
        peer_link_move(wire);
    } else if (wire->link && wire->greeted) {
        peer_link_mark(wire->link);
    } else if (wire->out.len > 0) {
        peer_wire_flush(wire);
    }
}

static void closed(struct io_stream *stream)
{
    struct peer_wire *wire = wire_of(stream);

    list_remove(&wire->in_room);
    peer_wire_free(wire);
}

void peer_wire_discard(struct peer_wire *wire)
{
    close(wire->stream.fd);
    peer_wire_free(wire);
}
