/* What guests are told, and what they answer. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/cursor.h"
#include "tests/sim/guest.h"

enum {
    PACKET_CONNACK = 2,
    PACKET_PUBLISH,
    PACKET_PUBACK,
    PACKET_PUBREC,
    PACKET_PUBREL,
    PACKET_PUBCOMP,
    PACKET_SUBACK = 9,
    PACKET_UNSUBACK = 11,
    PACKET_PINGRESP = 13,
    PACKET_DISCONNECT
};

/* ---- what it is answered ---- */

/* The properties of a CONNACK: only Receive Maximum matters here. */
static void read_limits(struct guest *g, struct cursor *c)
{
    g->server_max = 65535;
    cursor_u8(c); /* their length: the world's settings keep it below 128 */
    while (!c->failed && cursor_left(c) > 0) {
        uint8_t id = cursor_u8(c);
        if (id == 0x21) {
            g->server_max = cursor_u16(c);
        } else if (id == 0x22 || id == 0x13) {
            cursor_u16(c);
        } else if (id == 0x11 || id == 0x27) {
            cursor_u32(c);
        } else if (id == 0x26) {
            cursor_string(c);
            cursor_string(c);
        } else if (id == 0x12 || id == 0x1f) {
            cursor_string(c);
        } else {
            cursor_u8(c);
        }
    }
}

static void take_connack(struct party *p, struct guest *g, struct slice body, struct buf *out)
{
    struct cursor c = cursor_at(body);
    bool present = cursor_u8(&c) & 1;

    if (cursor_u8(&c) != 0) { /* the disk is full: it comes again */
        g->leaving = true;
        return;
    }
    if (g->version == 5) {
        read_limits(g, &c);
    }
    judge_connack(p, g, present);
    g->welcome = true;
    g->must_clean = false;
    memset(g->in_flight, 0, GUEST_IDS);
    g->in_flight_count = 0;
    for (unsigned i = 0; i < g->open_count; i++) {
        if (g->open[i].released) {
            guest_put_ack(out, 0x62, g->open[i].packet_id);
        } else {
            guest_put_publish(p, g, out, g->open[i].message, g->open[i].packet_id, true);
        }
    }
}

static unsigned find_open(const struct guest *g, uint16_t packet_id)
{
    unsigned i = 0;

    while (i < g->open_count && g->open[i].packet_id != packet_id) {
        i++;
    }
    return i;
}

static void close_open(struct guest *g, unsigned index)
{
    g->open_count--;
    memmove(&g->open[index], &g->open[index + 1], (g->open_count - index) * sizeof(g->open[0]));
}

/* PUBACK, PUBREC, PUBCOMP of one of its own. */
static void take_ack(struct party *p, struct guest *g, unsigned type, struct slice body, struct buf *out)
{
    struct cursor c = cursor_at(body);
    uint16_t id = cursor_u16(&c);
    bool refused = body.len > 2 && cursor_u8(&c) >= 0x80;
    unsigned index = find_open(g, id);

    if (index == g->open_count || (g->open[index].released != (type == PACKET_PUBCOMP) && type != PACKET_PUBREC) ||
        p->message[g->open[index].message].qos != (type == PACKET_PUBACK ? 1 : 2)) {
        party_wrong(p, "guest %u is told of packet identifier %u with packet type %u, and owes nothing", g->index, id,
                    type);
        return;
    }
    struct guest_message *m = &p->message[g->open[index].message];
    if (type != PACKET_PUBCOMP) {
        p->acknowledged += !refused && !m->acknowledged;
        m->acknowledged |= !refused;
        m->taken_ms = m->taken_ms ? m->taken_ms : p->now_ms;
        m->received |= type == PACKET_PUBREC;
    }
    if (type == PACKET_PUBREC && !refused) {
        g->open[index].released = true;
        if (!g->leaving) {
            guest_put_ack(out, 0x62, id);
        }
    } else {
        close_open(g, index);
    }
}

static void take_suback(struct party *p, struct guest *g, bool on, struct slice body)
{
    uint16_t id = (uint16_t)(body.ptr[0] << 8 | body.ptr[1]);

    for (unsigned f = 0; f < GUEST_FILTERS; f++) {
        struct guest_subscription *s = &g->subscriptions[f];
        if (s->packet_id != id || s->state != (on ? SUB_ASKED : SUB_LEAVING)) {
            continue;
        }
        uint8_t code = body.ptr[body.len - 1];
        s->state = !on ? SUB_LEFT : code <= 2 ? SUB_THERE : SUB_NONE;
        s->step = p->step;
        if (on && code <= 2 && code != s->qos) {
            party_wrong(p, "guest %u asked for QoS %u and is granted %u", g->index, s->qos, code);
        }
        return;
    }
    party_wrong(p, "guest %u gets an acknowledgement of a SUBSCRIBE %u that it has not sent", g->index, id);
}

/* ---- messages for it ---- */

static void copy_text(char *out, size_t size, struct slice text)
{
    size_t len = text.len < size - 1 ? text.len : size - 1;

    memcpy(out, text.ptr, len);
    out[len] = '\0';
}

/* At once, or some time later. */
static void answer(struct party *p, struct guest *g, uint8_t first, uint16_t packet_id, struct buf *out)
{
    guest_put_ack(&g->late, first, packet_id);
    if (!g->lazy || p->calm || prng_below(&p->prng, 3) > 0) {
        guest_put_late(p, g, out);
    }
}

static void take_publish(struct party *p, struct guest *g, uint8_t first, struct slice body, struct buf *out)
{
    struct cursor c = cursor_at(body);
    struct guest_delivery d = {.qos = first >> 1 & 3, .dup = first & 8, .retain = first & 1};

    copy_text(d.topic, sizeof(d.topic), cursor_string(&c));
    d.packet_id = d.qos > 0 ? cursor_u16(&c) : 0;
    uint8_t properties_len = g->version == 5 ? cursor_u8(&c) : 0;
    if (properties_len == 5 && cursor_u8(&c) == 2) {
        d.expiry_s = cursor_u32(&c);
    } else if (properties_len != 0) {
        party_wrong(p, "guest %u gets properties that nobody has sent", g->index);
        return;
    }
    copy_text(d.payload, sizeof(d.payload), cursor_rest(&c));
    p->received++;
    bool again = d.qos == 2 && g->taken[d.packet_id];
    judge_delivery(p, g, &d, again);
    if (d.qos == 2) {
        g->taken[d.packet_id] = 1;
    }
    if (d.qos > 0) {
        answer(p, g, d.qos == 1 ? 0x40 : 0x50, d.packet_id, out);
    }
}

static void take_pubrel(struct party *p, struct guest *g, struct slice body, struct buf *out)
{
    uint16_t id = (uint16_t)(body.ptr[0] << 8 | body.ptr[1]);

    g->taken[id] = 0;
    g->last_by_id[id] = 0;
    if (g->in_flight[id]) {
        g->in_flight[id] = 0;
        g->in_flight_count--;
    }
    answer(p, g, 0x70, id, out);
}

static void take_packet(struct party *p, struct guest *g, uint8_t first, struct slice body, struct buf *out)
{
    unsigned type = first >> 4;

    if (!g->welcome && type != PACKET_CONNACK) {
        party_wrong(p, "guest %u gets packet type %u before CONNACK", g->index, type);
        return;
    }
    switch (type) {
    case PACKET_CONNACK:
        take_connack(p, g, body, out);
        break;
    case PACKET_PUBLISH:
        take_publish(p, g, first, body, out);
        break;
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBCOMP:
        take_ack(p, g, type, body, out);
        break;
    case PACKET_PUBREL:
        take_pubrel(p, g, body, out);
        break;
    case PACKET_SUBACK:
    case PACKET_UNSUBACK:
        take_suback(p, g, type == PACKET_SUBACK, body);
        break;
    case PACKET_PINGRESP:
        break;
    case PACKET_DISCONNECT:
        g->leaving_with_will |= !g->leaving;
        g->leaving = true;
        break;
    default:
        party_wrong(p, "guest %u gets packet type %u", g->index, type);
    }
}

/* Cut one packet off; false: it is not whole yet. */
static bool next_packet(struct guest *g, uint8_t *ret_first, struct buf *ret_body)
{
    uint32_t len = 0, at = 1;
    bool whole = false;

    for (unsigned shift = 0; at < g->in.len && at < 5 && !whole; shift += 7) {
        uint8_t byte = g->in.ptr[at++];
        len |= (uint32_t)(byte & 127) << shift;
        whole = byte < 128;
    }
    if (!whole || g->in.len - at < len) {
        return false;
    }
    *ret_first = g->in.ptr[0];
    buf_put(ret_body, slice_of(g->in.ptr + at, len));
    buf_consume(&g->in, at + len);
    return true;
}

void guest_receive(struct party *p, unsigned index, struct slice bytes, struct buf *out)
{
    struct guest *g = &p->guest[index];
    struct buf body = {0};
    uint8_t first;

    buf_put(&g->in, bytes);
    assert(!g->in.failed);
    while (!p->wrong[0] && next_packet(g, &first, &body)) {
        take_packet(p, g, first, buf_slice(&body), out);
        body.len = 0;
    }
    buf_deinit(&body);
}
