/* fuzz_conn.c -- the whole broker in one thread: a few clients that do what the input says, and a judge beside each.
 *
 * The input is a list of operations (connect, subscribe, publish, acknowledge, any bytes, close, let time pass, turn
 * one shard), so that a changed byte is a changed story and not merely a broken packet. Few names: clients meet each
 * other. Held: what every client is sent is legal (tests/lib/judge.h); who behaved and is connected is owed nothing in
 * the end; and when all have gone and expired, nothing of them is left. */
#include "proto/mqtt/ack.h"
#include "proto/mqtt/connect.h"
#include "proto/mqtt/control.h"
#include "proto/mqtt/publish.h"
#include "proto/mqtt/subscribe.h"
#include "tests/lib/judge.h"
#include "tests/lib/sim_node.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define CLIENTS 4
#define OPERATIONS_MAX 200
#define PUBLISHES_OUT_MAX 100000u /* a story that feeds itself grows without end: it is cut off here */

static const char *const client_ids[] = {"a", "b", "c", "a", "b", "c", "", "dd"};
static const char *const topics[] = {"t", "t/u", "t/u/v", "u", "/", "t/", "$SYS/x", "w"};
static const char *const filters[] = {
    "t",   "t/u",          "t/+",        "#",          "+/u",    "t/#", "$share/g/t/#",
    "u/#", "$share/g/t/#", "$share/h/+", "$share/g/t", "$SYS/#", "w",   "t//#x"};
static const char *const settings[] = {"sys_interval=0",
                                       "mqtt.max_session_expiry=200s",
                                       "limits.max_queued_messages=12",
                                       "limits.max_outbox_bytes=4KiB",
                                       "limits.backpressure=1s",
                                       "mqtt.receive_maximum=5",
                                       "mqtt.max_packet_size=64KiB",
                                       "limits.max_subscriptions=20",
                                       NULL};

struct input {
    const uint8_t *at, *end;
};

struct client {
    struct sim_socket *socket;
    struct judge *judge;
    enum mqtt_version version;
    uint32_t piece; /* bytes of one piece; 0: packets come whole */
    uint16_t packet_id;
};

static struct sim_node node;
static struct client clients[CLIENTS];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t take(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static void look(struct client *c)
{
    if (c->socket && c->socket->from_broker.len > 0) {
        size_t used = judge_received(c->judge, buf_slice(&c->socket->from_broker));
        buf_consume(&c->socket->from_broker, used);
    }
}

static void look_at_all(void)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        look(&clients[i]);
    }
}

static void send_bytes(struct client *c, struct slice data)
{
    if (!c->socket || c->socket->finished || c->socket->reset) {
        return;
    }
    look(c);
    judge_sends(c->judge, data);
    while (data.len > 0) {
        size_t len = c->piece && c->piece < data.len ? c->piece : data.len;
        sim_send(c->socket, slice_of(data.ptr, len));
        data = slice_drop(data, len);
    }
}

static void send_buf(struct client *c, struct buf *packet)
{
    assert(!packet->failed);
    send_bytes(c, buf_slice(packet));
    buf_deinit(packet);
}

/* Leave the old connection, if there is one, without a word. */
static void leave(struct client *c)
{
    look(c);
    if (c->socket) {
        c->socket->finished = true;
        c->socket->room = SIM_NO_LIMIT;
    }
    judge_free(c->judge);
    *c = (struct client){0};
}

static void property_u32(struct mqtt_properties *p, enum mqtt_property_id id, uint32_t *field, uint32_t value)
{
    if (value > 0) {
        *field = value;
        p->present |= UINT64_C(1) << id;
    }
}

static void fill_connect(struct input *in, struct mqtt_connect *k)
{
    uint8_t flags = take(in), limits = take(in);

    k->client_id = slice_str(client_ids[take(in) % COUNT_OF(client_ids)]);
    k->clean_start = flags & 1;
    k->keep_alive_s = flags & 2 ? 3 : 0;
    if (k->version == MQTT_V5) {
        struct mqtt_properties *p = &k->properties;
        uint32_t receive_max = limits & 3, alias_max = limits >> 2 & 3;
        property_u32(p, MQTT_PROP_SESSION_EXPIRY, &p->session_expiry_s, flags & 4 ? 5u + (flags >> 6) * 50u : 0);
        property_u32(p, MQTT_PROP_MAXIMUM_PACKET_SIZE, &p->packet_bytes_max,
                     limits & 0x80 ? 30 + (limits >> 4 & 7) * 10u : 0);
        if (receive_max) {
            p->receive_max = (uint16_t)receive_max;
            p->present |= UINT64_C(1) << MQTT_PROP_RECEIVE_MAX;
        }
        if (alias_max) {
            p->topic_alias_max = (uint16_t)alias_max;
            p->present |= UINT64_C(1) << MQTT_PROP_TOPIC_ALIAS_MAX;
        }
    }
    if (flags & 8) {
        uint8_t will = take(in);
        k->will = (struct mqtt_will){.present = true, .qos = will % 3, .retain = will & 4};
        k->will.topic = slice_str(topics[will >> 3 & 7]);
        k->will.payload = SLICE("gone");
        if (k->version == MQTT_V5) {
            property_u32(&k->will.properties, MQTT_PROP_WILL_DELAY, &k->will.properties.will_delay_s, will >> 6);
        }
    }
}

static void op_connect(struct input *in, struct client *c)
{
    static const enum mqtt_version versions[] = {MQTT_V5, MQTT_V311, MQTT_V5, MQTT_V31};
    static const uint16_t pieces[] = {0, 0, 0, 0, 200, 30, 7, 1};
    uint8_t how = take(in);
    struct mqtt_connect k = {.version = versions[how % COUNT_OF(versions)]};
    struct buf packet = {0};

    leave(c);
    c->socket = sim_connect(&node.net, (how >> 2) % node.shard_count);
    if (!c->socket) {
        return;
    }
    c->judge = judge_new();
    c->version = k.version;
    c->piece = pieces[how >> 5];
    fill_connect(in, &k);
    mqtt_connect_encode(&packet, &k);
    send_buf(c, &packet);
}

static uint16_t new_packet_id(struct client *c)
{
    c->packet_id = (uint16_t)(c->packet_id % 60000 + 1);
    return c->packet_id;
}

static void op_subscribe(struct input *in, struct client *c, bool away)
{
    uint8_t how = take(in);
    struct mqtt_subscription subs[3];
    struct mqtt_properties properties = {0};
    struct buf packet = {0};
    size_t count = how % 3 + 1u;

    for (size_t i = 0; i < count; i++) {
        uint8_t what = take(in);
        subs[i] = (struct mqtt_subscription){.filter = slice_str(filters[what % COUNT_OF(filters)])};
        subs[i].qos = what >> 4 & 3;
        subs[i].qos = subs[i].qos == 3 ? 1 : subs[i].qos;
        if (c->version == MQTT_V5 && subs[i].filter.ptr[0] != '$') {
            subs[i].no_local = what >> 6 & 1;
            subs[i].retain_as_published = what >> 7;
            subs[i].retain_handling = how >> 4 & 1;
        }
    }
    if (away) {
        mqtt_unsubscribe_encode(&packet, c->version, new_packet_id(c), &properties, subs, count);
    } else {
        if (c->version == MQTT_V5 && how & 0x80) {
            properties.subscription_id = how;
            properties.present |= UINT64_C(1) << MQTT_PROP_SUBSCRIPTION_ID;
        }
        mqtt_subscribe_encode(&packet, c->version, new_packet_id(c), &properties, subs, count);
    }
    send_buf(c, &packet);
}

static void op_publish(struct input *in, struct client *c)
{
    static const uint8_t payload[512];
    uint8_t how = take(in), what = take(in);
    struct mqtt_delivery d = {.qos = how % 3, .retain = how & 4, .topic = slice_str(topics[what & 7])};
    struct buf packet = {0};

    d.payload = slice_of(payload, how & 8 ? 0 : how & 16 ? sizeof(payload) : 5);
    if (c->version == MQTT_V5) {
        d.has_expiry = how & 32;
        d.message_expiry_s = 2;
        d.topic_alias = what >> 3 & 3;
        d.alias_only = d.topic_alias && what & 64;
    }
    if (d.qos > 0) { /* small numbers: the same again, before and after its acknowledgement */
        d.packet_id = how & 64 ? 1 + (what >> 6) : new_packet_id(c);
        d.dup = how >> 7;
    }
    mqtt_delivery_encode(&packet, c->version, &d);
    send_buf(c, &packet);
}

static void op_ack(struct input *in, struct client *c)
{
    uint8_t how = take(in);
    struct mqtt_ack ack = {.reason = how & 1 && c->version == MQTT_V5 ? MQTT_QUOTA_EXCEEDED : MQTT_SUCCESS};
    struct buf packet = {0};

    look(c);
    for (unsigned i = 0; i <= (how >> 1 & 3u) * 4u; i++) {
        uint16_t id = judge_next(c->judge, JUDGE_RELEASED, 0);
        enum mqtt_type type = MQTT_PUBCOMP;
        if (!id || how & 8) {
            id = judge_next(c->judge, JUDGE_SENT, 0);
            type = c->judge->qos[id] == 1 ? MQTT_PUBACK : MQTT_PUBREC;
        }
        if (!id) {
            return;
        }
        ack.packet_id = id;
        if (type == MQTT_PUBCOMP) {
            mqtt_ack_encode_plain(&packet, type, id);
        } else {
            mqtt_ack_encode(&packet, type, c->version, &ack);
        }
        send_buf(c, &packet);
    }
}

/* PUBREL, for a packet of this client's or for none. */
static void op_release(struct input *in, struct client *c)
{
    struct buf packet = {0};

    mqtt_ack_encode_plain(&packet, MQTT_PUBREL, (uint16_t)(take(in) % 8 + 1));
    send_buf(c, &packet);
}

static void op_bytes(struct input *in, struct client *c)
{
    size_t len = take(in) % 32u, left = (size_t)(in->end - in->at);

    len = len < left ? len : left;
    send_bytes(c, slice_of(in->at, len));
    in->at += len;
}

static void op_end(struct input *in, struct client *c)
{
    uint8_t how = take(in);
    struct mqtt_disconnect d = {.reason = how & 4 && c->version == MQTT_V5 ? MQTT_DISCONNECT_WITH_WILL : MQTT_SUCCESS};
    struct buf packet = {0};

    switch (how & 3) {
    case 0:
        c->socket->finished = true;
        break;
    case 1:
        look(c);
        c->socket->reset = true;
        break;
    default:
        if (c->version == MQTT_V5 && how & 8) {
            d.properties.session_expiry_s = how >> 4;
            d.properties.present |= UINT64_C(1) << MQTT_PROP_SESSION_EXPIRY;
        }
        mqtt_disconnect_encode(&packet, c->version, &d);
        send_buf(c, &packet);
    }
}

static void operate_client(struct input *in, struct client *c, uint8_t op)
{
    struct buf ping = {0};

    if (op != 0 && !c->socket) {
        return;
    }
    switch (op) {
    case 0:
        op_connect(in, c);
        break;
    case 1:
        op_subscribe(in, c, false);
        break;
    case 2:
        op_subscribe(in, c, true);
        break;
    case 3:
    case 4:
        op_publish(in, c);
        break;
    case 5:
        op_ack(in, c);
        break;
    case 6:
        op_release(in, c);
        break;
    case 7:
        op_bytes(in, c);
        break;
    case 8:
        op_end(in, c);
        break;
    case 9: /* the client does not read, or reads again */
        c->socket->room = c->socket->room == SIM_NO_LIMIT ? take(in) : SIM_NO_LIMIT;
        break;
    default:
        mqtt_ping_encode(&ping, MQTT_PINGREQ);
        send_buf(c, &ping);
    }
}

static uint64_t published(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < node.shard_count; i++) {
        sum += node.shards[i]->metrics->values[METRIC_PUBLISH_SENT];
    }
    return sum;
}

static void operate(struct input *in)
{
    for (unsigned i = 0; i < OPERATIONS_MAX && in->at < in->end && published() < PUBLISHES_OUT_MAX; i++) {
        uint8_t op = take(in) % 16;
        uint8_t who = take(in);
        if (op < 11) {
            operate_client(in, &clients[who % CLIENTS], op);
        } else if (op < 13) {
            sim_node_turn(&node, who);
        } else if (op == 13) {
            sim_node_advance(who * 20u);
        } else {
            sim_node_settle(&node);
        }
        look_at_all();
    }
}

/* All read again what they are sent, and nobody is held back any longer. */
static void check_owed(void)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i].socket) {
            clients[i].socket->room = SIM_NO_LIMIT;
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        sim_node_settle(&node);
        look_at_all();
        sim_node_advance(1100);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *c = &clients[i];
        if (!c->socket || c->socket->finished || c->socket->reset || sim_ended(c->socket)) {
            continue;
        }
        const char *owed = judge_owed(c->judge);
        if (owed) {
            fprintf(stderr, "client %u is connected and was never sent its %s\n", i, owed);
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};

    if (size < 4) {
        return 0;
    }
    sim_node_open(&node, take(&in) % SIM_SHARDS_MAX + 1u, settings);
    operate(&in);
    check_owed();
    for (unsigned i = 0; i < CLIENTS; i++) {
        leave(&clients[i]);
    }
    const char *left = sim_node_leftover(&node);
    if (left) {
        fprintf(stderr, "left behind: %s\n", left);
        abort();
    }
    sim_node_close(&node);
    return 0;
}
