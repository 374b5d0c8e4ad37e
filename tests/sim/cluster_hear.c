/* What rovers are told, and what they answer. */
#include <stdlib.h>

#include "proto/base/cursor.h"
#include "tests/sim/cluster_inside.h"

static void take_connack(struct cluster *w, struct rover *r, struct slice body)
{
    if (body.ptr[1] != 0) {
        r->leaving = true;
        return;
    }
    bool present = body.ptr[0] & 1;
    if (present && r->clean) {
        wrong(w, "rover %u asked for a clean start and has an old session", r->index);
    }
    if (!present && r->session != 0) {
        if (r->via != r->host) { /* the node that has it may not have been heard in time */
            r->unsure = true;
            r->visitor = false;
            r->host = r->via;
        }
        if (!r->unsure) {
            wrong(w, "the session of rover %u is lost", r->index);
        }
        rover_forget(r);
    }
    if (!present) {
        r->session = ++w->session_count;
    }
    r->welcome = true;
    r->welcome_ms = sim_now_ms();
    r->must_clean = false;
    for (unsigned i = 0; i < r->open_count; i++) {
        if (r->open[i].released) {
            rover_put_ack(&r->out, 0x62, r->open[i].packet_id);
        } else {
            rover_put_publish(w, r, r->open[i].letter, r->open[i].packet_id, true);
        }
    }
}

/* PUBACK, PUBREC, PUBCOMP. */
static void take_ack(struct cluster *w, struct rover *r, unsigned type, struct slice body)
{
    uint16_t id = (uint16_t)(body.ptr[0] << 8 | body.ptr[1]);
    bool refused = body.len > 2 && body.ptr[2] >= 0x80;
    unsigned i = 0;

    while (i < r->open_count && r->open[i].packet_id != id) {
        i++;
    }
    if (i == r->open_count || w->letters[r->open[i].letter].qos != (type == 4 ? 1 : 2)) {
        wrong(w, "rover %u is told of packet identifier %u with packet type %u, and owes nothing", r->index, id, type);
        return;
    }
    struct letter *m = &w->letters[r->open[i].letter];
    if (type != 7 && !refused && !m->acked) {
        w->result->acknowledged++;
        judge_acked(w, m);
    }
    if (type == 5 && !refused) {
        r->open[i].released = true;
        rover_put_ack(&r->out, 0x62, id);
        return;
    }
    r->open_count--;
    memmove(&r->open[i], &r->open[i + 1], (r->open_count - i) * sizeof(r->open[0]));
}

static void take_suback(struct cluster *w, struct rover *r, bool on, struct slice body)
{
    uint16_t id = (uint16_t)(body.ptr[0] << 8 | body.ptr[1]);
    uint8_t code = body.ptr[body.len - 1];

    for (unsigned f = 0; f < ROVER_FILTERS; f++) {
        struct rover_subscription *s = &r->subscriptions[f];
        if (s->packet_id == id && s->state == (on ? ROVER_ASKED : ROVER_LEAVING)) {
            s->state = on && code <= 2 ? ROVER_THERE : ROVER_NONE;
            s->step = w->step;
            if (s->state == ROVER_THERE) {
                judge_subscribed(w, r, s);
            }
            return;
        }
    }
    wrong(w, "rover %u gets an acknowledgement of a SUBSCRIBE %u that it has not sent", r->index, id);
}

static void answer(struct cluster *w, struct rover *r, uint8_t first, uint16_t id)
{
    rover_put_ack(&r->late, first, id);
    if (!r->lazy || w->calm || !one_in(w, 3)) {
        buf_put(&r->out, buf_slice(&r->late));
        r->late.len = 0;
    }
}

static void take_publish(struct cluster *w, struct rover *r, uint8_t first, struct slice body)
{
    struct cursor c = cursor_at(body);
    unsigned qos = first >> 1 & 3;
    char text[20] = "", name[20] = "";

    struct slice topic = cursor_string(&c);
    uint16_t id = qos > 0 ? cursor_u16(&c) : 0;
    if (r->version == 5 && cursor_u8(&c) != 0) {
        wrong(w, "rover %u gets properties that nobody has sent", r->index);
        return;
    }
    struct slice payload = cursor_rest(&c);
    memcpy(text, payload.ptr, payload.len < sizeof(text) - 1 ? payload.len : sizeof(text) - 1);
    uint32_t letter = (uint32_t)strtoul(text, NULL, 10);
    rover_topic(name, letter < w->letter_count ? w->letters[letter].topic : 0);
    if (c.failed || letter >= w->letter_count || !slice_eq(topic, slice_str(name))) {
        wrong(w, "rover %u gets what nobody has sent: %s", r->index, text);
        return;
    }
    w->result->received++;
    if (qos < 2 || !r->taken[id]) {
        judge_got(w, r, letter, qos);
    }
    if (qos == 2) {
        r->taken[id] = 1;
    }
    if (qos > 0) {
        answer(w, r, qos == 1 ? 0x40 : 0x50, id);
    }
}

static void take_packet(struct cluster *w, struct rover *r, uint8_t first, struct slice body)
{
    switch (first >> 4) {
    case 2:
        take_connack(w, r, body);
        break;
    case 3:
        take_publish(w, r, first, body);
        break;
    case 4:
    case 5:
    case 7:
        take_ack(w, r, first >> 4, body);
        break;
    case 6:
        r->taken[body.ptr[0] << 8 | body.ptr[1]] = 0;
        answer(w, r, 0x70, (uint16_t)(body.ptr[0] << 8 | body.ptr[1]));
        break;
    case 9:
    case 11:
        take_suback(w, r, first >> 4 == 9, body);
        break;
    case 14:
        r->leaving = true;
        if (body.len > 0 && body.ptr[0] == 0x8e && !w->skewed && sim_now_ms() > r->doubt_ms) {
            wrong(w, "the newest connection of rover %u is sent away by an older one", r->index);
        }
        break;
    default:
        wrong(w, "rover %u gets packet type %u", r->index, first >> 4);
    }
}

static bool next_packet(struct rover *r, uint8_t *ret_first, struct buf *ret_body)
{
    uint32_t len = 0, at = 1;
    bool whole = false;

    for (unsigned shift = 0; at < r->in.len && at < 5 && !whole; shift += 7) {
        uint8_t byte = r->in.ptr[at++];
        len |= (uint32_t)(byte & 127) << shift;
        whole = byte < 128;
    }
    if (!whole || r->in.len - at < len) {
        return false;
    }
    *ret_first = r->in.ptr[0];
    buf_put(ret_body, slice_of(r->in.ptr + at, len));
    buf_consume(&r->in, at + len);
    return true;
}

static void hear(struct cluster *w, struct rover *r)
{
    struct buf *from = &r->socket->from_broker;
    struct buf body = {0};
    uint8_t first;

    if (from->len > 0) {
        note_bytes(w, "hears", r->index, buf_slice(from));
        buf_put(&r->in, buf_slice(from));
        buf_consume(from, from->len);
        while (next_packet(r, &first, &body)) {
            take_packet(w, r, first, buf_slice(&body));
            body.len = 0;
        }
        buf_deinit(&body);
    }
    if (sim_ended(r->socket)) {
        note(w, "ended", r->index, r->host);
        r->socket->finished = true;
        rover_lose(r);
    }
}

static void say(struct cluster *w, struct rover *r, bool whole)
{
    if (r->out.len == 0) {
        return;
    }
    uint32_t len = whole || !one_in(w, 4) ? r->out.len : 1 + pick(w, r->out.len);
    note_bytes(w, "says", r->index, slice_of(r->out.ptr, len));
    sim_send(r->socket, slice_of(r->out.ptr, len));
    buf_consume(&r->out, len);
    if (r->out.len == 0 && r->leaving) {
        r->socket->finished = true;
    }
}

void rovers_pump(struct cluster *w, bool whole)
{
    for (unsigned i = 0; i < w->rover_count; i++) {
        struct rover *r = &w->rovers[i];
        if (r->socket && (whole || !one_in(w, 4))) {
            hear(w, r);
        }
        if (r->socket && (whole || !one_in(w, 4))) {
            if (w->calm) {
                buf_put(&r->out, buf_slice(&r->late));
                r->late.len = 0;
            }
            say(w, r, whole);
        }
    }
    for (unsigned i = 0; i < w->ghost_count; i++) { /* the kernel of a client that is gone */
        struct sim_socket *s = w->ghosts[i].socket;
        s->from_broker.len = 0;
        if (!s->closed && s->stream && sim_ended(s)) {
            s->finished = true;
        }
    }
}
