/* One long session of each version, written in advance: however its bytes are cut, the answers are the same. A TCP
 * stream has no boundaries, so what comes between two packets, or inside one, must never matter. */
#include "tests/lib/judge.h"
#include "tests/lib/sim_node.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/mqtt/ack.h"
#include "proto/mqtt/connect.h"
#include "proto/mqtt/control.h"
#include "proto/mqtt/publish.h"
#include "proto/mqtt/subscribe.h"

#define CUT_NONE SIZE_MAX

static const char *const settings[] = {"sys_interval=0", NULL};

static void put_publish(struct buf *out, enum mqtt_version version, uint8_t qos, uint16_t id, const char *topic,
                        const char *payload, bool retain)
{
    struct mqtt_delivery d = {.qos = qos, .retain = retain, .packet_id = id, .topic = slice_str(topic)};

    d.payload = slice_str(payload);
    if (version == MQTT_V5 && qos == 1) {
        d.topic_alias = 3;
    }
    mqtt_delivery_encode(out, version, &d);
}

static void put_connect(struct buf *out, enum mqtt_version version)
{
    struct mqtt_connect c = {.version = version, .clean_start = true, .client_id = SLICE("me"), .keep_alive_s = 9};

    c.will = (struct mqtt_will){.present = true, .qos = 1, .topic = SLICE("w/will"), .payload = SLICE("gone")};
    if (version == MQTT_V5) {
        c.properties.receive_max = 20;
        c.properties.present = UINT64_C(1) << MQTT_PROP_RECEIVE_MAX;
    }
    mqtt_connect_encode(out, &c);
}

/* Everything a client may say, in an order in which each answer is known before. */
static struct buf make_session(enum mqtt_version version, bool in_order)
{
    struct mqtt_subscription subs[] = {{.filter = SLICE("a/#"), .qos = 2}, {.filter = SLICE("+/b"), .qos = 1}};
    struct mqtt_subscription retained = {.filter = SLICE("r/#"), .qos = 1};
    struct mqtt_properties none = {0};
    struct buf out = {0};

    put_connect(&out, version);
    mqtt_subscribe_encode(&out, version, 1, &none, subs, 2);
    put_publish(&out, version, 0, 0, "a/b", "zero", false);
    put_publish(&out, version, 1, 7, "a/b", "one", false);
    mqtt_ack_encode_plain(&out, MQTT_PUBACK, 1);
    mqtt_ping_encode(&out, MQTT_PINGREQ);
    put_publish(&out, version, 2, 8, "a/c", "two", false);
    mqtt_ack_encode_plain(&out, MQTT_PUBREL, 8);
    mqtt_ack_encode_plain(&out, MQTT_PUBREC, 2);
    mqtt_ack_encode_plain(&out, MQTT_PUBCOMP, 2);
    put_publish(&out, version, 1, 9, "r/1", "kept", true);
    put_publish(&out, version, 0, 0, "r/2", "kept too", true);
    mqtt_subscribe_encode(&out, version, 2, &none, &retained, 1);
    mqtt_unsubscribe_encode(&out, version, 3, &none, subs, 2);
    put_publish(&out, version, 1, 10, "a/b", "nobody", false);
    if (in_order) {
        struct mqtt_disconnect d = {.reason = MQTT_SUCCESS};
        mqtt_disconnect_encode(&out, version, &d);
    } else {
        put_connect(&out, version); /* [MQTT-3.1.0-2] */
        mqtt_ping_encode(&out, MQTT_PINGREQ);
    }
    return out;
}

/* Send the bytes in two pieces, or one, or each by itself; returns all that came. */
static struct buf answers(struct slice session, size_t cut, bool single_bytes)
{
    static struct sim_node node;
    struct buf came = {0};
    struct judge *judge = judge_new();

    sim_node_open(&node, 1, settings);
    struct sim_socket *s = sim_connect(&node.net, 0);
    sim_node_settle(&node);
    judge_sends(judge, session);
    size_t first = single_bytes ? 1 : cut < session.len ? cut : session.len;
    for (size_t at = 0; at < session.len;) {
        size_t len = at == 0 || single_bytes ? first : session.len - at;
        sim_send(s, slice_of(session.ptr + at, len));
        sim_node_settle(&node);
        at += len;
    }
    CHECK(judge_received(judge, buf_slice(&s->from_broker)) == s->from_broker.len);
    CHECK(sim_ended(s));
    buf_put(&came, buf_slice(&s->from_broker));
    judge_free(judge);
    const char *left = sim_node_leftover(&node);
    CHECK_CASE(left ? left : "nothing left", left == NULL);
    sim_node_close(&node);
    return came;
}

static void try_session(const char *name, enum mqtt_version version, bool in_order)
{
    struct buf session = make_session(version, in_order);
    struct buf whole = answers(buf_slice(&session), CUT_NONE, false);
    char row[64];

    CHECK_CASE(name, whole.len > 60); /* it did answer */
    for (size_t cut = 1; cut < session.len; cut++) {
        struct buf cut_one = answers(buf_slice(&session), cut, false);
        snprintf(row, sizeof(row), "%s, cut before byte %zu", name, cut);
        CHECK_CASE(row, slice_eq(buf_slice(&cut_one), buf_slice(&whole)));
        buf_deinit(&cut_one);
    }
    struct buf singly = answers(buf_slice(&session), CUT_NONE, true);
    snprintf(row, sizeof(row), "%s, byte by byte", name);
    CHECK_CASE(row, slice_eq(buf_slice(&singly), buf_slice(&whole)));
    buf_deinit(&singly);
    buf_deinit(&whole);
    buf_deinit(&session);
}

static void test_v5(void)
{
    try_session("5.0, ended by DISCONNECT", MQTT_V5, true);
    try_session("5.0, ended by an error", MQTT_V5, false);
}

static void test_v311(void)
{
    try_session("3.1.1, ended by DISCONNECT", MQTT_V311, true);
    try_session("3.1.1, ended by an error", MQTT_V311, false);
}

static void test_v31(void)
{
    try_session("3.1, ended by DISCONNECT", MQTT_V31, true);
}

/* The comparison itself: another session is answered otherwise. */
static void test_not_blind(void)
{
    struct buf one = make_session(MQTT_V5, true), other = make_session(MQTT_V5, false);
    struct buf a = answers(buf_slice(&one), CUT_NONE, false), b = answers(buf_slice(&other), CUT_NONE, false);

    CHECK(!slice_eq(buf_slice(&a), buf_slice(&b)));
    buf_deinit(&a);
    buf_deinit(&b);
    buf_deinit(&one);
    buf_deinit(&other);
}

UNIT_MAIN("broker/flow/split", {"5.0", test_v5}, {"3.1.1", test_v311}, {"3.1", test_v31}, {"not blind", test_not_blind})
