/* Guests, their connections, and the bytes on their way. */
#include <assert.h>
#include <stdlib.h>

#include "broker/flow/flow.h"
#include "tests/sim/plant.h"
#include "tests/sim/world_inside.h"

struct party *party_now(struct world *w)
{
    w->party.step = w->step;
    w->party.now_ms = now_ms();
    for (unsigned i = 0; i < w->link_count; i++) {
        const struct sim_socket *s = w->links[i].socket;
        struct guest *g = &w->party.guest[i];
        g->alive = s && s->stream && !s->closed && link_conn(&w->links[i])->state == CONN_OPEN;
        if (g->alive && g->connection < GUEST_WILLS_MAX) {
            g->wills[g->connection].alive_ms = w->party.now_ms;
            g->wills[g->connection].step = w->step;
        }
    }
    return &w->party;
}

/* What the node hears is seen at its door: whether a DISCONNECT came before the connection's end nobody else knows. */
static struct world *listening;

WRAP(bool, disconnect_from_client, struct conn *conn, const struct mqtt_frame *frame)
{
    for (unsigned i = 0; listening && i < listening->link_count; i++) {
        const struct sim_socket *s = listening->links[i].socket;
        if (s && s->stream == &conn->stream && (frame->body.len == 0 || frame->body.ptr[0] == 0)) {
            guest_left(party_now(listening), i);
        }
    }
    return __real_disconnect_from_client(conn, frame);
}

void links_init(struct world *w)
{
    listening = w;
    w->link_count = 2 + chance(w, GUESTS_MAX - 1);
    party_init(&w->party, prng_next(&w->prng), w->link_count);
    for (unsigned i = 0; i < w->link_count; i++) {
        w->links[i].index = i;
    }
}

void links_deinit(struct world *w)
{
    w->result->connects = w->party.connects;
    w->result->sent = w->party.sent;
    w->result->received = w->party.received;
    w->result->acknowledged = w->party.acknowledged;
    for (unsigned i = 0; i < w->link_count; i++) {
        buf_deinit(&w->links[i].out);
    }
    party_deinit(&w->party);
}

bool link_connect(struct world *w, struct link *l)
{
    link_lost(w, l); /* an earlier connection stays open on the broker's side: it is taken over */
    l->socket = sim_connect(&w->node.net, chance(w, w->shard_count));
    if (!l->socket) {
        return false;
    }
    guest_connect(party_now(w), l->index, &l->out);
    trace_number(w, "connect", l->index);
    return true;
}

bool link_act(struct world *w, struct link *l)
{
    uint32_t before = l->out.len;

    guest_act(party_now(w), l->index, &l->out);
    return l->out.len > before;
}

bool link_send(struct world *w, struct link *l, bool whole)
{
    if (!l->socket || l->out.len == 0) {
        return false;
    }
    uint32_t len = whole ? l->out.len : 1 + chance(w, l->out.len);
    trace_bytes(w, "client sends", l->index, slice_of(l->out.ptr, len));
    sim_send(l->socket, slice_of(l->out.ptr, len));
    buf_consume(&l->out, len);
    if (l->out.len == 0 && w->party.guest[l->index].leaving) {
        l->socket->finished = true;
    }
    return true;
}

bool link_receive(struct world *w, struct link *l, size_t bytes_max)
{
    struct buf *from = l->socket ? &l->socket->from_broker : NULL;
    bool done = false;

    if (from && from->len > 0) {
        uint32_t len = from->len < bytes_max ? from->len : (uint32_t)bytes_max;
        trace_bytes(w, "gets", l->index, slice_of(from->ptr, len));
        guest_receive(party_now(w), l->index, slice_of(from->ptr, len), &l->out);
        buf_consume(from, len);
        done = true;
    }
    if (from && from->len == 0 && sim_ended(l->socket)) {
        l->socket->finished = true;
        link_lost(w, l);
        done = true;
    }
    return done;
}

/* The broker may be done with a connection long before the last of its bytes are read. */
void links_look(struct world *w)
{
    for (unsigned i = 0; i < w->link_count; i++) {
        struct link *l = &w->links[i];
        const struct sim_socket *s = l->socket;
        if (s && l->ended_ms == 0 && (s->closed || (s->stream && link_conn(l)->state >= CONN_FINISHING))) {
            l->ended_ms = now_ms();
        }
    }
}

void link_lost(struct world *w, struct link *l)
{
    if (l->socket) {
        guest_lost(party_now(w), l->index);
        if (l->ended_ms != 0 && l->ended_ms < w->party.guest[l->index].lost_ms) {
            w->party.guest[l->index].lost_ms = l->ended_ms;
        }
        l->ended_ms = 0;
        trace_number(w, "lost", l->index);
        l->socket = NULL;
        l->out.len = 0;
    }
}

bool links_pump(struct world *w)
{
    bool done = false;

    for (unsigned i = 0; i < w->link_count; i++) {
        struct link *l = &w->links[i];
        if (w->party.calm) {
            guest_finish(party_now(w), i, &l->out);
        }
        done |= link_send(w, l, true);
        done |= link_receive(w, l, SIZE_MAX);
    }
    return done;
}
