/* Payloads that are sent from where they lie: many subscribers share one message, each takes it in portions of its own,
 * and whoever leaves in the middle leaves nothing behind. The messages are counted: a leak or an early end of one is
 * seen by the sanitizer. */
#include "tests/lib/sim_node.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/flow/flow.h"
#include "proto/mqtt/ack.h"
#include "proto/mqtt/connect.h"
#include "proto/mqtt/publish.h"
#include "proto/mqtt/subscribe.h"

#define SUBSCRIBERS 6
#define MESSAGES 9

static const char *const settings[] = {"sys_interval=0", NULL};
static const size_t sizes[MESSAGES] = {0, 1, 2047, 2048, 2049, 16384, 10, 65536, 300000};

/* What a subscriber has room for at a time; the last has none to begin with, and leaves. */
static const uint32_t portions[SUBSCRIBERS] = {SIM_NO_LIMIT, 100000, 4096, 2047, 331, 0};

struct scene {
    struct sim_node node;
    struct sim_socket *pub, *subs[SUBSCRIBERS];
    enum mqtt_version version[SUBSCRIBERS];
    uint8_t qos;
};

static uint8_t payload_bytes[300000];

static void client_open(struct scene *s, struct sim_socket *socket, const char *id, enum mqtt_version version)
{
    struct mqtt_connect c = {.version = version, .clean_start = true, .client_id = slice_str(id)};
    struct buf out = {0};

    mqtt_connect_encode(&out, &c);
    sim_send(socket, buf_slice(&out));
    sim_node_settle(&s->node);
    CHECK(socket->from_broker.len > 0);
    socket->from_broker.len = 0;
    buf_deinit(&out);
}

static void subscribe(struct scene *s, unsigned i)
{
    struct mqtt_subscription wish = {.filter = SLICE("t/#"), .qos = s->qos};
    struct mqtt_properties none = {0};
    struct buf out = {0};

    mqtt_subscribe_encode(&out, s->version[i], 1, &none, &wish, 1);
    sim_send(s->subs[i], buf_slice(&out));
    sim_node_settle(&s->node);
    CHECK(s->subs[i]->from_broker.len > 0);
    s->subs[i]->from_broker.len = 0;
    s->subs[i]->room = portions[i];
    buf_deinit(&out);
}

static void scene_open(struct scene *s, unsigned shards, uint8_t qos)
{
    for (size_t i = 0; i < sizeof(payload_bytes); i++) {
        payload_bytes[i] = (uint8_t)(i * 13 >> 2);
    }
    s->qos = qos;
    sim_node_open(&s->node, shards, settings);
    s->pub = sim_connect(&s->node.net, 0);
    client_open(s, s->pub, "pub", MQTT_V311);
    for (unsigned i = 0; i < SUBSCRIBERS; i++) {
        char id[16];
        snprintf(id, sizeof(id), "sub-%u", i);
        s->version[i] = i % 2 ? MQTT_V5 : MQTT_V311;
        s->subs[i] = sim_connect(&s->node.net, i % shards);
        client_open(s, s->subs[i], id, s->version[i]);
        subscribe(s, i);
    }
}

/* What one PUBLISH of the n-th message is; to the publisher's side version 3.1.1. */
static void put_publish(struct buf *out, enum mqtt_version version, uint8_t qos, unsigned n)
{
    struct mqtt_delivery d = {.qos = qos,
                              .packet_id = qos ? (uint16_t)(n + 1) : 0,
                              .topic = SLICE("t/large"),
                              .payload = slice_of(payload_bytes, sizes[n])};
    mqtt_delivery_encode(out, version, &d);
}

static void publish_all(struct scene *s)
{
    for (unsigned n = 0; n < MESSAGES; n++) {
        struct buf out = {0};
        put_publish(&out, MQTT_V311, s->qos, n);
        sim_send(s->pub, buf_slice(&out));
        buf_deinit(&out);
        if (n % 3 == 2) { /* three in one turn, so that an outbox holds several */
            sim_node_settle(&s->node);
        }
    }
}

static uint64_t waiting_bytes(const struct scene *s)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < s->node.shard_count; i++) {
        sum += s->node.shards[i]->metrics->values[METRIC_OUTBOX_BYTES];
    }
    return sum;
}

/* Give each subscriber but the last its portion again and again, until nobody takes any more. */
static void read_on(struct scene *s)
{
    for (bool more = true; more;) {
        more = false;
        for (unsigned i = 0; i + 1 < SUBSCRIBERS; i++) {
            if (s->subs[i]->room == 0) {
                s->subs[i]->room = portions[i];
                more = true;
            }
        }
        sim_node_settle(&s->node);
    }
}

static void check_received(const struct scene *s, unsigned i, const char *name)
{
    struct buf want = {0};

    for (unsigned n = 0; n < MESSAGES; n++) {
        put_publish(&want, s->version[i], s->qos, n);
    }
    CHECK_CASE(name, slice_eq(buf_slice(&s->subs[i]->from_broker), buf_slice(&want)));
    buf_deinit(&want);
}

static void fan_out(unsigned shards, uint8_t qos)
{
    static struct scene s;
    char name[48];

    snprintf(name, sizeof(name), "%u shards, QoS %u", shards, qos);
    scene_open(&s, shards, qos);
    publish_all(&s);
    CHECK_CASE(name, waiting_bytes(&s) > 300000);
    read_on(&s);
    for (unsigned i = 0; i + 1 < SUBSCRIBERS; i++) {
        check_received(&s, i, name);
    }
    CHECK_CASE(name, s.subs[SUBSCRIBERS - 1]->from_broker.len == 0);
    s.subs[SUBSCRIBERS - 1]->reset = true; /* in the middle of it */
    sim_node_settle(&s.node);
    CHECK_CASE(name, waiting_bytes(&s) == 0);
    const char *left = sim_node_leftover(&s.node);
    CHECK_CASE(left ? left : name, left == NULL);
    sim_node_close(&s.node);
}

static void test_fan_out(void)
{
    for (unsigned shards = 1; shards <= 2; shards++) {
        for (uint8_t qos = 0; qos < 2; qos++) {
            fan_out(shards, qos);
        }
    }
}

/* The node ends while payloads wait: every reference is given back. */
static void test_closed_with_payloads(void)
{
    static struct scene s;

    scene_open(&s, 2, 1);
    publish_all(&s);
    CHECK(waiting_bytes(&s) > 0);
    sim_node_close(&s.node);
}

/* limits.max_outbox_bytes counts what is not copied too: QoS 0 is dropped above it. */
static void test_bound(void)
{
    static struct scene s;

    scene_open(&s, 1, 0);
    s.node.config->limits.max_outbox_bytes = 350000;
    for (unsigned i = 0; i < 4; i++) {
        struct buf out = {0};
        put_publish(&out, MQTT_V311, 0, 8);
        sim_send(s.pub, buf_slice(&out));
        buf_deinit(&out);
        sim_node_settle(&s.node);
    }
    const struct conn *conn = CONTAINER_OF(s.subs[5]->stream, struct conn, stream);
    CHECK(conn_out_bytes(conn) > 600000 && conn_out_bytes(conn) < 601000); /* one more than the bound */
    CHECK(s.node.shards[0]->metrics->values[METRIC_DROPPED_OUTBOX_FULL] >= 2);
    s.subs[5]->room = SIM_NO_LIMIT;
    read_on(&s);
    CHECK(s.subs[5]->from_broker.len > 600000);
    sim_node_close(&s.node);
}

UNIT_MAIN("broker/flow/large", {"fan-out to slow readers", test_fan_out},
          {"closed with payloads waiting", test_closed_with_payloads}, {"bound of the outbox", test_bound})
