/* durable_fixture.h -- a node on a disk in memory, and clients of one packet at a time: for what is kept over crashes.
 *
 * Time stands still but in world_pass(); the disk works in world_settle() unless `stuck` is set. After a crash all
 * sockets are gone. */
#ifndef TERN_TESTS_UNIT_BROKER_FLOW_DURABLE_FIXTURE_H
#define TERN_TESTS_UNIT_BROKER_FLOW_DURABLE_FIXTURE_H

#include "tests/lib/sim_node.h"
#include "tests/lib/unit.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/flow/durable.h"
#include "broker/group/snapshot.h"
#include "proto/mqtt/ack.h"
#include "proto/mqtt/connect.h"
#include "proto/mqtt/control.h"
#include "proto/mqtt/frame.h"
#include "proto/mqtt/publish.h"
#include "proto/mqtt/subscribe.h"
#include "tests/lib/mem_store.h"

#define KEPT_S 240u

struct world {
    struct sim_node node;
    struct mem_store *disk;
    bool stuck;
    int rc;             /* of the last start */
    uint32_t rows[256]; /* of the state when the node was started last, by enum snapshot_kind */
};

static struct world w;

static inline bool disk_works(void *arg)
{
    size_t before = mem_store_waiting(w.disk) + mem_store_counts(w.disk)->checkpoints + mem_store_counts(w.disk)->reads;

    (void)arg;
    if (w.stuck) {
        return false;
    }
    mem_store_settle(w.disk);
    return before !=
           mem_store_waiting(w.disk) + mem_store_counts(w.disk)->checkpoints + mem_store_counts(w.disk)->reads;
}

static inline bool count_row(void *arg, struct slice key, struct slice value)
{
    (void)arg;
    (void)value;
    w.rows[key.ptr[2]]++;
    return true;
}

static inline void world_start(unsigned shards, const char *const *settings)
{
    static const char *const plain[] = {"sys_interval=0", NULL};
    struct store *store = mem_store_open(w.disk);

    memset(w.rows, 0, sizeof(w.rows));
    store_scan(store, SLICE(""), count_row, NULL);
    w.rc = sim_node_start(&w.node, shards, settings ? settings : plain, store);
    w.node.disk = disk_works;
    w.stuck = false;
}

static inline void world_begin(unsigned shards, const char *const *settings)
{
    sim_begin(5);
    w.disk = mem_store_new(5);
    world_start(shards, settings);
    CHECK(w.rc == 0);
}

/* The node is killed; what it was not told to be durable is lost. */
static inline void world_crash(void)
{
    mem_store_crash(w.disk, 0);
    sim_node_close(&w.node);
    sim_reboot();
}

static inline void world_restart(unsigned shards)
{
    world_crash();
    world_start(shards, NULL);
    CHECK(w.rc == 0);
}

static inline void world_end(void)
{
    sim_node_close(&w.node);
    mem_store_free(w.disk);
}

static inline void world_settle(void)
{
    sim_node_settle(&w.node);
}

static inline void world_pass(uint64_t ms)
{
    for (uint64_t step; ms > 0; ms -= step) {
        step = ms < 100 ? ms : 100;
        sim_node_advance(step);
        world_settle();
    }
}

/* All that has changed goes into the state. */
static inline void checkpoint(void)
{
    for (unsigned i = 0; i < GROUPS; i++) {
        for (unsigned b = 0; b < w.node.shard_count; b++) {
            checkpoint_hurry(&w.node.brokers[b]);
        }
        world_settle();
    }
}

static inline uint64_t metric(enum metric which)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < w.node.shard_count; i++) {
        sum += w.node.shards[i]->metrics->values[which];
    }
    return sum;
}

static inline struct session *session_of(const char *id)
{
    uint64_t hash = hash_keyed(&w.node.tables.key, slice_str(id));
    unsigned group = group_of(hash);

    return group_find(&w.node.brokers[group % w.node.shard_count].groups[group], slice_str(id), hash);
}

/* ---- clients: MQTT 5.0 ---- */

static inline void say(struct sim_socket *s, struct buf *packet)
{
    sim_send(s, buf_slice(packet));
    buf_deinit(packet);
    world_settle();
}

/* The next packet that has come; false: there is none. Borrowed until the next call with this socket. */
static inline bool hear(struct sim_socket *s, struct mqtt_frame *ret_frame)
{
    static uint8_t last[1 << 20];
    struct mqtt_frame f;

    if (mqtt_frame_next(buf_slice(&s->from_broker), UINT32_MAX, &f) != MQTT_FRAME_WHOLE) {
        return false;
    }
    assert(f.body.len <= sizeof(last));
    if (f.body.len > 0) {
        memcpy(last, f.body.ptr, f.body.len);
    }
    *ret_frame = f;
    ret_frame->body = slice_of(last, f.body.len);
    buf_consume(&s->from_broker, f.size);
    return true;
}

static inline bool hear_type(struct sim_socket *s, enum mqtt_type type)
{
    struct mqtt_frame f;
    return hear(s, &f) && f.type == type;
}

struct visitor {
    const char *id;
    uint32_t expiry_s, will_delay_s;
    uint16_t receive_max;
    bool clean;
    const char *will; /* topic */
};

/* Send CONNECT. */
static inline struct sim_socket *knock(const struct visitor *v, unsigned shard)
{
    struct sim_socket *s = sim_connect(&w.node.net, shard % w.node.shard_count);
    struct mqtt_connect c = {.version = MQTT_V5, .clean_start = v->clean, .client_id = slice_str(v->id)};
    struct buf out = {0};

    c.properties.session_expiry_s = v->expiry_s;
    c.properties.receive_max = v->receive_max ? v->receive_max : 65535;
    c.properties.present = UINT64_C(1) << MQTT_PROP_SESSION_EXPIRY | UINT64_C(1) << MQTT_PROP_RECEIVE_MAX;
    if (v->will) {
        c.will = (struct mqtt_will){.present = true, .qos = 1, .topic = slice_str(v->will), .payload = SLICE("77")};
        c.will.properties.will_delay_s = v->will_delay_s;
        c.will.properties.present = UINT64_C(1) << MQTT_PROP_WILL_DELAY;
    }
    mqtt_connect_encode(&out, &c);
    say(s, &out);
    return s;
}

/* Connect; *ret_present: Session Present. */
static inline struct sim_socket *come(const struct visitor *v, unsigned shard, bool *ret_present)
{
    struct sim_socket *s = knock(v, shard);
    struct mqtt_connack ack = {.code = 0xff};
    struct mqtt_frame f;

    CHECK(hear(s, &f) && f.type == MQTT_CONNACK &&
          mqtt_connack_decode(f.body, f.flags, MQTT_V5, &ack) == MQTT_SUCCESS && ack.code == 0);
    if (ret_present) {
        *ret_present = ack.session_present;
    }
    return s;
}

/* The same for who is known by a name, keeps his session and answers at once. */
static inline struct sim_socket *come_back(const char *id, bool *ret_present)
{
    return come(&(struct visitor){.id = id, .expiry_s = KEPT_S}, 0, ret_present);
}

static inline void leave(struct sim_socket *s)
{
    struct buf out = {0};

    mqtt_disconnect_encode(&out, MQTT_V5, &(struct mqtt_disconnect){.reason = MQTT_SUCCESS});
    say(s, &out);
    CHECK(sim_ended(s));
}

static inline void subscribe(struct sim_socket *s, const char *filter, uint8_t qos)
{
    struct mqtt_subscription sub = {.filter = slice_str(filter), .qos = qos};
    struct buf out = {0};

    mqtt_subscribe_encode(&out, MQTT_V5, 1, &(struct mqtt_properties){0}, &sub, 1);
    say(s, &out);
    CHECK(hear_type(s, MQTT_SUBACK));
}

struct words {
    const char *topic;
    uint8_t qos;
    bool retain;
    uint16_t packet_id;
    uint32_t expiry_s; /* 0: none */
    uint32_t size;     /* of the payload, which begins with a number */
    uint32_t number;
};

static inline void publish(struct sim_socket *s, const struct words *m)
{
    static uint8_t payload[1 << 20];
    struct mqtt_delivery d = {.topic = slice_str(m->topic), .qos = m->qos, .retain = m->retain};
    struct buf out = {0};

    snprintf((char *)payload, sizeof(payload), "%u", m->number);
    d.payload = slice_of(payload, m->size);
    d.packet_id = m->packet_id;
    d.has_expiry = m->expiry_s > 0;
    d.message_expiry_s = m->expiry_s;
    mqtt_delivery_encode(&out, MQTT_V5, &d);
    say(s, &out);
}

static inline void answer(struct sim_socket *s, enum mqtt_type type, uint16_t packet_id)
{
    struct buf out = {0};

    mqtt_ack_encode_plain(&out, type, packet_id);
    say(s, &out);
}

/* The next PUBLISH, nothing else being there before it. Returns the number that its payload begins with, -1: none. */
static inline int hear_number(struct sim_socket *s, struct mqtt_publish *ret_publish)
{
    struct mqtt_frame f;

    if (!hear(s, &f) || f.type != MQTT_PUBLISH ||
        mqtt_publish_decode(f.body, f.flags, MQTT_V5, ret_publish) != MQTT_SUCCESS) {
        return -1;
    }
    return atoi((const char *)ret_publish->payload.ptr);
}

/* Take and acknowledge (QoS 1) messages first, first + 1, ..., as many as come in this order; nothing else comes.
 * Returns how many at most `max`. */
static inline unsigned take(struct sim_socket *s, unsigned first, unsigned max)
{
    struct mqtt_publish p;
    unsigned n = 0;

    while (n < max && hear_number(s, &p) == (int)(first + n)) {
        answer(s, MQTT_PUBACK, p.packet_id);
        n++;
    }
    return n;
}

/* `count` QoS 1 messages with numbers from `first` on, from a client that keeps nothing. */
static inline void publish_many(const char *topic, unsigned first, unsigned count, uint32_t size)
{
    struct sim_socket *s = come(&(struct visitor){.id = "many", .clean = true}, 0, NULL);

    for (unsigned i = 0; i < count; i++) {
        publish(s, &(struct words){.topic = topic, .qos = 1, .packet_id = 1, .size = size, .number = first + i});
        CHECK(hear_type(s, MQTT_PUBACK));
    }
    leave(s);
}

#endif
