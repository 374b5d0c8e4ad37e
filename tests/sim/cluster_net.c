/* What is between the nodes: connections that take their time, break or are refused, datagrams that are lost, late or
 * doubled, and roads that are cut one way or both. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>

#include "tests/sim/cluster_inside.h"

#define PIPE_BYTES (256u << 10) /* that a connection holds on its way */
#define FIRST_PORT 7000u

static struct host *host_of(struct sim_net *net)
{
    return CONTAINER_OF(CONTAINER_OF(net, struct sim_node, net), struct host, node);
}

/* Node n is 10.0.0.(n + 1). */
static unsigned host_at(const struct sockaddr *to)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)to;
    assert(to->sa_family == AF_INET && ntohs(in->sin_port) == FIRST_PORT);
    return (ntohl(in->sin_addr.s_addr) & 255) - 1;
}

static bool road_open(const struct cluster *w, unsigned from, unsigned to)
{
    return !w->cut[from][to];
}

static uint64_t later(struct cluster *w, uint32_t most_ms)
{
    return sim_now_ms() + (one_in(w, 20) ? pick(w, 10 * most_ms + 1) : pick(w, most_ms + 1));
}

/* ---- datagrams ---- */

static void put_bag(struct cluster *w, unsigned from, unsigned to, struct slice data)
{
    if (w->bag_count == DATAGRAMS_MAX) {
        return;
    }
    struct letterbag *bag = &w->bags[w->bag_count++];
    *bag = (struct letterbag){.from = from, .to = to, .due_ms = later(w, w->datagram_delay_ms)};
    buf_put(&bag->bytes, data);
}

static void say_datagram(struct sim_net *net, struct slice data, const struct sockaddr *to)
{
    struct cluster *w = net->world;
    unsigned from = host_of(net)->index, host = host_at(to);

    note_bytes(w, "datagram", from * 16 + host, data);
    if (host >= w->host_count || !road_open(w, from, host) || pick(w, 100) < w->drop_percent) {
        return;
    }
    put_bag(w, from, host, data);
    if (pick(w, 100) < w->twice_percent) {
        put_bag(w, from, host, data);
    }
}

static void carry_datagrams(struct cluster *w)
{
    for (unsigned i = 0; i < w->bag_count;) {
        struct letterbag *bag = &w->bags[i];
        struct host *to = &w->hosts[bag->to];
        if (bag->due_ms > sim_now_ms()) {
            i++;
            continue;
        }
        struct sockaddr_in from = {
            .sin_family = AF_INET, .sin_port = htons(FIRST_PORT), .sin_addr.s_addr = htonl(0x0a000001u + bag->from)};
        if (to->up && road_open(w, bag->from, bag->to)) {
            sim_datagram(&to->node.net, buf_slice(&bag->bytes), (struct sockaddr *)&from, sizeof(from));
        }
        buf_deinit(&bag->bytes);
        *bag = w->bags[--w->bag_count];
    }
}

/* ---- connections ---- */

static int dial(struct sim_net *net, const struct sockaddr *to)
{
    struct cluster *w = net->world;
    unsigned from = host_of(net)->index, host = host_at(to), i = 0;

    note(w, "dials", from, host);
    if (host >= w->host_count || pick(w, 100) < w->refuse_percent) {
        return -ECONNREFUSED;
    }
    while (i < WIRES_MAX && w->wires[i].used) {
        i++;
    }
    struct sim_socket *s = i < WIRES_MAX ? sim_connect(net, 0) : NULL;
    if (!s) {
        return -EMFILE;
    }
    s->accepted = true;
    w->wires[i] = (struct wire){.used = true, .ends = {{.host = from, .socket = s}, {.host = host}}};
    w->wires[i].ends[0].due_ms = w->wires[i].ends[1].due_ms = later(w, w->delay_ms);
    return s->fd;
}

static bool is_gone(const struct wire_end *end)
{
    return !end->socket || end->socket->closed;
}

/* Nobody is left who would hear anything. */
static bool is_over(const struct wire *wire)
{
    return is_gone(&wire->ends[0]) && (!wire->joined || is_gone(&wire->ends[1]));
}

/* The SYN arrives. */
static void join(struct cluster *w, struct wire *wire)
{
    struct wire_end *a = &wire->ends[0], *b = &wire->ends[1];
    struct host *to = &w->hosts[b->host];

    if (a->due_ms > sim_now_ms() || !road_open(w, a->host, b->host) || !road_open(w, b->host, a->host)) {
        return;
    }
    wire->joined = true;
    b->socket = to->up ? sim_connect_peer(&to->node.net) : NULL;
    b->due_ms = sim_now_ms();
    if (!b->socket) {
        a->socket->reset = a->over = true;
    }
}

/* What one end has said goes to the other. */
static void carry(struct cluster *w, struct wire *wire, unsigned side)
{
    struct wire_end *from = &wire->ends[side], *to = &wire->ends[!side];

    if (from->socket) {
        from->socket->room = from->socket->from_broker.len > PIPE_BYTES ? 0 : SIM_NO_LIMIT;
    }
    if (!to->socket || to->over || !road_open(w, from->host, to->host) || from->due_ms > sim_now_ms()) {
        return;
    }
    if (!from->socket) { /* its node has ended */
        to->socket->reset = to->over = true;
        return;
    }
    struct buf *out = &from->socket->from_broker;
    if (out->len > 0) {
        uint32_t len = one_in(w, 3) ? 1 + pick(w, out->len) : out->len;
        sim_send(to->socket, slice_of(out->ptr, len));
        buf_consume(out, len);
        from->due_ms = later(w, w->delay_ms);
    } else if (from->socket->closed) {
        to->socket->finished = to->over = true;
    }
}

static void carry_wires(struct cluster *w)
{
    for (unsigned i = 0; i < WIRES_MAX; i++) {
        struct wire *wire = &w->wires[i];
        if (wire->used && !wire->joined && wire->ends[0].socket) {
            join(w, wire);
        }
        if (wire->used && wire->joined) {
            carry(w, wire, 0);
            carry(w, wire, 1);
        }
        if (wire->used && is_over(wire)) {
            wire->used = false;
        }
    }
}

void net_reset(struct cluster *w, struct wire *wire)
{
    for (unsigned side = 0; side < 2; side++) {
        struct wire_end *from = &wire->ends[side], *to = &wire->ends[!side];
        if (from->socket && to->socket && !to->over) { /* as far as it has come: in the midst of a frame */
            struct buf *out = &from->socket->from_broker;
            sim_send(to->socket, slice_of(out->ptr, out->len > 0 ? pick(w, out->len) : 0));
        }
    }
    for (unsigned side = 0; side < 2; side++) {
        if (wire->ends[side].socket) {
            wire->ends[side].socket->reset = true;
        }
    }
    wire->used = false;
}

/* ---- nodes ---- */

void net_use(struct cluster *w, struct host *h)
{
    h->node.net.world = w;
    h->node.net.dial = dial;
    h->node.net.datagram = say_datagram;
}

void net_leave(struct cluster *w, struct host *h)
{
    for (unsigned i = 0; i < WIRES_MAX; i++) {
        struct wire *wire = &w->wires[i];
        for (unsigned side = 0; wire->used && side < 2; side++) {
            if (wire->ends[side].host == h->index) {
                wire->ends[side].socket = NULL;
                wire->used = wire->ends[!side].socket != NULL;
            }
        }
    }
}

void net_carry(struct cluster *w)
{
    carry_datagrams(w);
    carry_wires(w);
}

void net_free(struct cluster *w)
{
    for (unsigned i = 0; i < w->bag_count; i++) {
        buf_deinit(&w->bags[i].bytes);
    }
}
