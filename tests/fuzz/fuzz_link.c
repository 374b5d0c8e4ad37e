/* fuzz_link.c -- a node of a cluster whose neighbour has gone mad behind its HELLO, or that is greeted by anybody.
 *
 * The first byte says what comes:
 *     0  frames into the flows: each a byte for the link (ours or theirs), lane, type, a length of two bytes, its body;
 *        between them clients subscribe and publish, time passes, links are reset, the neighbour dies and comes back
 *     1  gossip, sealed with the right key: a length of two bytes and the datagram
 *     2  the bytes of a connection that was accepted, in pieces: a length byte before each
 *
 * Held: what clients are sent is legal (tests/lib/judge.h), and the node lives and serves them. */
#include "tests/unit/broker/flow/neighbour_fixture.h"

#include "proto/mqtt/connect.h"
#include "proto/mqtt/publish.h"
#include "proto/mqtt/subscribe.h"
#include "tests/fuzz/ops.h"
#include "tests/lib/judge.h"

#define CLIENTS 2u
#define STEPS_MAX 200u

static const char *const settings[] = {"sys_interval=0", NULL};

static struct client {
    struct sim_socket *socket;
    struct judge *judge;
    uint16_t packet_id;
} clients[CLIENTS];

static struct slice take_slice(struct slice *in, size_t len)
{
    struct slice got = slice_of(in->ptr, len < in->len ? len : in->len);
    *in = slice_drop(*in, got.len);
    return got;
}

static struct slice take_long(struct slice *in)
{
    size_t len = (size_t)ops_byte(in) << 8;
    len |= ops_byte(in);
    return take_slice(in, len);
}

/* ---- clients who do nothing wrong ---- */

static void look(struct client *c)
{
    if (c->socket->from_broker.len > 0) {
        size_t used = judge_received(c->judge, buf_slice(&c->socket->from_broker));
        buf_consume(&c->socket->from_broker, used);
    }
}

static void client_says(struct client *c, struct buf *out)
{
    look(c);
    judge_sends(c->judge, buf_slice(out));
    sim_send(c->socket, buf_slice(out));
    buf_deinit(out);
}

static void client_comes(unsigned i)
{
    struct client *c = &clients[i];
    struct buf out = {0};
    char id[] = {(char)('a' + i), 0};
    struct mqtt_connect connect = {.version = i ? MQTT_V5 : MQTT_V311, .clean_start = true, .client_id = slice_str(id)};

    if (c->socket) {
        judge_free(c->judge);
    }
    c->socket = sim_connect(&town.node.net, 0);
    require(c->socket != NULL);
    c->judge = judge_new();
    mqtt_connect_encode(&out, &connect);
    client_says(c, &out);
}

static void client_acts(uint8_t what)
{
    struct client *c = &clients[what % CLIENTS];
    struct buf out = {0};
    char text[OPS_TEXT_MAX];
    bool is_v5 = what % CLIENTS;

    if (sim_ended(c->socket)) {
        client_comes(what % CLIENTS);
        return;
    }
    c->packet_id = c->packet_id == UINT16_MAX ? 1 : (uint16_t)(c->packet_id + 1);
    if (what & 2) {
        struct slice filter = ops_text(what, true, text);
        buf_u8(&out, 0x82);
        buf_varint(&out, (uint32_t)(5 + is_v5 + filter.len));
        buf_u16(&out, c->packet_id);
        if (is_v5) {
            buf_u8(&out, 0);
        }
        buf_u16(&out, (uint16_t)filter.len);
        buf_put(&out, filter);
        buf_u8(&out, what >> 2 & 1);
    } else {
        struct slice topic = ops_text(what, false, text);
        buf_u8(&out, 0x32);
        buf_varint(&out, (uint32_t)(4 + is_v5 + topic.len));
        buf_u16(&out, (uint16_t)topic.len);
        buf_put(&out, topic);
        buf_u16(&out, c->packet_id);
        if (is_v5) {
            buf_u8(&out, 0);
        }
    }
    client_says(c, &out);
}

static void settle(void)
{
    sim_node_settle(&town.node);
    for (unsigned i = 0; i < CLIENTS; i++) {
        look(&clients[i]);
    }
}

/* ---- the neighbour ---- */

/* The one that it has dialled, if that has not ended: it may be buried by what it says of itself. */
static struct peer_link *their_link(void)
{
    return peer_link_find(&town_broker()->cluster->room, &town.member.id, 0);
}

/* As peer_wire.c: what makes no sense, or cannot be taken, ends the connection and nothing else. */
static void frame_comes(struct slice *in)
{
    static const uint8_t types[] = {FRAME_PUBLISH, FRAME_PUBLISH_DONE, FRAME_ROUTES, FRAME_ROUTES_DONE,
                                    FRAME_MEMBERS, FRAME_CLAIMS,       FRAME_SHARES, 200,
                                    FRAME_SEEK,    FRAME_FOUND,        FRAME_ATTACH, FRAME_ATTACHED};
    uint8_t where = ops_byte(in), lane = ops_byte(in) % LINK_LANES, type = types[ops_byte(in) % COUNT_OF(types)];
    struct peer_link *link = where & 1 ? town_out() : their_link();
    struct slice body = take_long(in);

    if (link) {
        int rc = town_says(link, lane, type, body);
        require(rc == 0 || rc == -EPROTO || rc == -ENOMEM);
        if (rc) {
            cluster_peer_handler.lost(link);
            (void)cluster_peer_handler.opened(link);
        }
    }
}

static void link_changes(uint8_t what)
{
    struct broker *b = town_broker();
    struct peer_link *out = town_out();

    switch (what % 4) {
    case 0:
        if (out) {
            town_ignores(out);
        }
        break;
    case 1:
        if (out) {
            link_flow_reset(&out->flow);
            cluster_peer_handler.reset(out);
        }
        break;
    case 2:
        neighbour_changed(b, &town.member, false);
        break;
    case 3:
        if (!their_link()) {
            town.member.boot++;
            neighbour_changed(b, &town.member, true);
            town_dials();
        }
        break;
    }
}

static void frames(struct slice in)
{
    for (unsigned i = 0; in.len > 0 && i < STEPS_MAX; i++) {
        uint8_t what = ops_byte(&in);
        switch (what % 8) {
        case 0:
            client_acts(ops_byte(&in));
            break;
        case 1:
            sim_node_advance((uint64_t)ops_byte(&in) * 200);
            break;
        case 2:
            link_changes(ops_byte(&in));
            break;
        default:
            frame_comes(&in);
            break;
        }
        settle();
    }
}

static void gossip(struct slice in)
{
    struct sockaddr_storage from;
    struct seal *seal;
    struct buf out = {0};
    int rc = seal_new(&town.member.id, 1, "test", &town.cluster->ring, &seal);
    socklen_t len = peer_address_to(&town.member.address, &from);

    require(rc == 0);
    for (unsigned i = 0; in.len > 0 && i < STEPS_MAX; i++) {
        struct slice plain = take_long(&in);
        out.len = 0;
        if (plain.len <= 1200 && seal_close(seal, plain, &out) == 0) {
            town.gossip->handler->received(town.gossip, buf_slice(&out), (struct sockaddr *)&from, len);
        }
        sim_node_advance(100);
        settle();
    }
    seal_free(seal);
    buf_deinit(&out);
}

static void greeting(struct slice in)
{
    struct broker *b = town_broker();
    struct sim_socket *s = sim_connect(&town.node.net, 0);

    s->accepted = true; /* by the other listener */
    (void)peer_wire_new(&b->cluster->room, s->fd, NULL);
    for (unsigned i = 0; in.len > 0 && i < STEPS_MAX; i++) {
        uint8_t len = ops_byte(&in);
        sim_send(s, take_slice(&in, len));
        settle();
    }
    sim_node_advance(PEER_GREETING_MS + 1);
    settle();
    sim_node_advance(PEER_SILENCE_MS + PEER_BEAT_MS);
    settle();
    require(b->cluster->room.knocking == 0 && list_empty(&b->cluster->room.wires));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    uint8_t kind = ops_byte(&in) % 3;

    town_open(settings);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){0};
        client_comes(i);
    }
    settle();
    if (kind == 0) {
        frames(in);
    } else if (kind == 1) {
        gossip(in);
    } else {
        greeting(in);
    }
    town_pass(100);
    client_comes(0); /* it serves as before */
    settle();
    require(!sim_ended(clients[0].socket) && clients[0].judge->open);
    for (unsigned i = 0; i < CLIENTS; i++) {
        judge_free(clients[i].judge);
    }
    town_close();
    return 0;
}
