#include "tests/lib/judge.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/mqtt/topic.h"
#include "tests/lib/packet.h"

/* The reason stands in the program's last words, which is what a fuzzer keeps. */
#define ILLEGAL(judge_, what) illegal((judge_), (what), __LINE__)

static _Noreturn void illegal(const struct judge *j, const char *what, int line)
{
    fprintf(stderr, "judge.c:%d: illegal: %s (version %d)\n", line, what, (int)j->version);
    abort();
}

struct judge *judge_new(void)
{
    struct judge *j = calloc(1, sizeof(*j));
    assert(j);
    j->receive_max = 65535;
    j->packet_bytes_max = MQTT_PACKET_BYTES_MAX;
    return j;
}

void judge_free(struct judge *j)
{
    if (!j) {
        return;
    }
    struct judge_line *lines[] = {&j->publishes1,       &j->publishes2,   &j->releases,          &j->subscribes,
                                  &j->subscribe_counts, &j->unsubscribes, &j->unsubscribe_counts};
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        free(lines[i]->ids);
    }
    buf_deinit(&j->stream);
    free(j);
}

static void line_add(struct judge_line *line, uint16_t id)
{
    if (line->count == line->capacity) {
        line->capacity = line->capacity ? line->capacity * 2 : 16;
        line->ids = realloc(line->ids, line->capacity * sizeof(*line->ids));
        assert(line->ids);
    }
    line->ids[line->count++] = id;
}

/* The oldest, or UINT32_MAX. */
static uint32_t line_take(struct judge_line *line)
{
    return line->head == line->count ? UINT32_MAX : line->ids[line->head++];
}

static bool line_empty(const struct judge_line *line)
{
    return line->head == line->count;
}

/* ---- the client ---- */

static void client_acks(struct judge *j, const struct packet *p)
{
    uint16_t id = p->as.ack.packet_id;
    uint8_t *state = &j->state[id];
    bool refused = p->as.ack.reason >= 0x80;

    if (p->type == MQTT_PUBREL) {
        line_add(&j->releases, id);
        return;
    }
    bool done = (p->type == MQTT_PUBACK && *state == JUDGE_SENT && j->qos[id] == 1) ||
                (p->type == MQTT_PUBREC && *state == JUDGE_SENT && j->qos[id] == 2 && refused) ||
                (p->type == MQTT_PUBCOMP && *state == JUDGE_RELEASED);
    if (done) {
        *state = JUDGE_FREE;
        assert(j->unacknowledged > 0);
        j->unacknowledged--;
    } else if (p->type == MQTT_PUBREC && *state == JUDGE_SENT && j->qos[id] == 2) {
        *state = JUDGE_RECEIVED;
    } else {
        j->loose = true;
    }
}

static void client_connects(struct judge *j, const struct packet *p)
{
    const struct mqtt_properties *properties = packet_properties(p);

    if (j->connect_sent) {
        j->broken = true; /* [MQTT-3.1.0-2] */
        return;
    }
    j->connect_sent = true;
    j->version = p->version;
    if (mqtt_property_has(properties, MQTT_PROP_RECEIVE_MAX)) {
        j->receive_max = properties->receive_max;
    }
    if (mqtt_property_has(properties, MQTT_PROP_MAXIMUM_PACKET_SIZE)) {
        j->packet_bytes_max = properties->packet_bytes_max;
    }
    if (mqtt_property_has(properties, MQTT_PROP_TOPIC_ALIAS_MAX)) {
        j->alias_max = properties->topic_alias_max;
    }
}

static void client_packet(struct judge *j, const struct packet *p)
{
    switch (p->type) {
    case MQTT_CONNECT:
        client_connects(j, p);
        break;
    case MQTT_PUBLISH:
        if (p->as.publish.qos > 0) {
            line_add(p->as.publish.qos == 1 ? &j->publishes1 : &j->publishes2, p->as.publish.packet_id);
        }
        break;
    case MQTT_SUBSCRIBE:
        line_add(&j->subscribes, p->as.subscribe.packet_id);
        line_add(&j->subscribe_counts, (uint16_t)p->as.subscribe.count);
        break;
    case MQTT_UNSUBSCRIBE:
        line_add(&j->unsubscribes, p->as.subscribe.packet_id);
        line_add(&j->unsubscribe_counts, (uint16_t)p->as.subscribe.count);
        break;
    case MQTT_PINGREQ:
        j->pings++;
        break;
    case MQTT_DISCONNECT:
        j->broken = true; /* nothing is owed behind it */
        break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        client_acks(j, p);
        break;
    default:
        j->broken = true;
    }
}

void judge_sends(struct judge *j, struct slice data)
{
    buf_put(&j->stream, data);
    while (!j->broken && j->stream.len > 0) {
        struct mqtt_frame frame = {0};
        struct packet p;
        enum mqtt_frame_state state = mqtt_frame_next(buf_slice(&j->stream), MQTT_PACKET_BYTES_MAX, &frame);
        if (state == MQTT_FRAME_PARTIAL) {
            return;
        }
        if (state != MQTT_FRAME_WHOLE || frame.type == 0 || (!j->connect_sent && frame.type != MQTT_CONNECT) ||
            packet_decode(&frame, j->version ? j->version : MQTT_V5, true, &p) != MQTT_SUCCESS) {
            j->broken = true;
            return;
        }
        client_packet(j, &p);
        buf_consume(&j->stream, frame.size);
    }
}

/* ---- the server ---- */

static void server_publish(struct judge *j, const struct mqtt_publish *publish)
{
    uint16_t alias =
        mqtt_property_has(&publish->properties, MQTT_PROP_TOPIC_ALIAS) ? publish->properties.topic_alias : 0;

    if (alias > j->alias_max) {
        ILLEGAL(j, "a topic alias above the client's maximum [MQTT-3.1.2-26]");
    }
    if (publish->topic.len == 0 && (alias == 0 || !j->aliases[alias])) {
        ILLEGAL(j, "a PUBLISH without topic or known alias");
    }
    if (publish->topic.len > 0 && !mqtt_topic_valid(publish->topic, UINT16_MAX)) {
        ILLEGAL(j, "a topic name with wildcards [MQTT-3.3.2-2]");
    }
    j->aliases[alias] = j->aliases[alias] || alias > 0;
    if (publish->dup && !j->resumed) {
        ILLEGAL(j, "DUP in a new session [MQTT-3.3.1-1] [MQTT-4.4.0-1]");
    }
    if (publish->qos == 0) {
        return;
    }
    uint16_t id = publish->packet_id;
    if (j->loose) { /* the client's own words may have freed it before it came */
        j->state[id] = JUDGE_FREE;
    } else if (j->state[id] != JUDGE_FREE) {
        ILLEGAL(j, "a packet identifier that is in use [MQTT-2.2.1-4], or sent again [MQTT-4.4.0-1]");
    } else if (++j->unacknowledged > j->receive_max) {
        ILLEGAL(j, "more than the client's Receive Maximum [MQTT-3.3.4-9]");
    }
    j->state[id] = JUDGE_SENT;
    j->id_end = id >= j->id_end ? id + 1u : j->id_end;
    j->qos[id] = publish->qos;
}

static void server_answers(struct judge *j, const struct packet *p)
{
    uint16_t id = p->as.ack.packet_id;

    switch (p->type) {
    case MQTT_PUBACK:
        if (line_take(&j->publishes1) != id) {
            ILLEGAL(j, "PUBACK for nothing, or out of order [MQTT-4.6.0-2]");
        }
        break;
    case MQTT_PUBREC:
        if (line_take(&j->publishes2) != id) {
            ILLEGAL(j, "PUBREC for nothing, or out of order [MQTT-4.6.0-3]");
        }
        break;
    case MQTT_PUBCOMP:
        if (line_take(&j->releases) != id) {
            ILLEGAL(j, "PUBCOMP for nothing, or out of order");
        }
        break;
    default: /* PUBREL */
        if (j->loose) {
            break;
        }
        if (j->state[id] == JUDGE_FREE && j->resumed) {
            j->unacknowledged++; /* [MQTT-4.4.0-1] */
        } else if (j->state[id] != JUDGE_RECEIVED) {
            ILLEGAL(j, "PUBREL for nothing, or twice");
        }
    }
    if (p->type == MQTT_PUBREL) {
        j->state[id] = JUDGE_RELEASED;
        j->id_end = id >= j->id_end ? id + 1u : j->id_end;
        j->qos[id] = 2;
    }
}

static void server_suback(struct judge *j, const struct packet *p)
{
    bool sub = p->type == MQTT_SUBACK;
    uint32_t id = line_take(sub ? &j->subscribes : &j->unsubscribes);
    uint32_t count = line_take(sub ? &j->subscribe_counts : &j->unsubscribe_counts);

    if (id != p->as.suback.packet_id) {
        ILLEGAL(j, "SUBACK or UNSUBACK for nothing, or out of order");
    }
    if (p->as.suback.codes.len != count && !(!sub && j->version != MQTT_V5)) {
        ILLEGAL(j, "another number of reason codes than of filters [MQTT-3.9.3-1]");
    }
}

static void server_connack(struct judge *j, const struct packet *p)
{
    if (j->open || !j->connect_sent) {
        ILLEGAL(j, "a second CONNACK, or one without CONNECT");
    }
    j->open = p->as.connack.code == 0;
    j->over = !j->open;
    j->resumed = p->as.connack.session_present || j->version == MQTT_V31; /* 3.1 does not say */
    if (j->over && p->as.connack.session_present) {
        ILLEGAL(j, "Session Present in a refusal [MQTT-3.2.2-6]");
    }
}

static void server_packet(struct judge *j, const struct packet *p)
{
    if (j->over) {
        ILLEGAL(j, "a packet after the last one [MQTT-3.14.4-1]");
    }
    if (!j->open && p->type != MQTT_CONNACK) {
        ILLEGAL(j, "the first packet is not CONNACK [MQTT-3.2.0-1]");
    }
    switch (p->type) {
    case MQTT_CONNACK:
        server_connack(j, p);
        break;
    case MQTT_PUBLISH:
        server_publish(j, &p->as.publish);
        break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        server_answers(j, p);
        break;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        server_suback(j, p);
        break;
    case MQTT_PINGRESP:
        if (j->pings-- == 0) {
            ILLEGAL(j, "PINGRESP for nothing");
        }
        break;
    case MQTT_DISCONNECT:
        if (j->version != MQTT_V5) {
            ILLEGAL(j, "DISCONNECT to a 3.x client");
        }
        j->over = true;
        break;
    default:
        ILLEGAL(j, "a packet that only clients send, or AUTH unasked");
    }
}

size_t judge_received(struct judge *j, struct slice data)
{
    size_t used = 0;

    while (used < data.len) {
        struct mqtt_frame frame = {0};
        struct packet p;
        enum mqtt_frame_state state = mqtt_frame_next(slice_drop(data, used), MQTT_PACKET_BYTES_MAX, &frame);
        if (state == MQTT_FRAME_PARTIAL) {
            break;
        }
        if (state != MQTT_FRAME_WHOLE || frame.type == 0) {
            ILLEGAL(j, "no MQTT packet");
        }
        /* A refusal may come in the words of a version that the broker guessed (3.1.4.2). */
        enum mqtt_version version = j->version ? j->version : frame.body.len == 2 ? MQTT_V311 : MQTT_V5;
        if (packet_decode(&frame, version, false, &p) != MQTT_SUCCESS) {
            ILLEGAL(j, "a malformed packet");
        }
        if (frame.size > j->packet_bytes_max) {
            fprintf(stderr, "%s of %u bytes\n", mqtt_type_name(frame.type), frame.size);
            ILLEGAL(j, "a packet above the client's Maximum Packet Size [MQTT-3.1.2-24]");
        }
        if (!j->connect_sent && p.type == MQTT_CONNACK && p.as.connack.code != 0) {
            j->over = true; /* what it answers was a CONNECT to the broker, if to nobody else */
        } else {
            server_packet(j, &p);
        }
        used += frame.size;
    }
    return used;
}

uint16_t judge_next(const struct judge *j, enum judge_state state, uint16_t after)
{
    for (uint32_t id = after + 1u; id < j->id_end; id++) {
        if (j->state[id] == state) {
            return (uint16_t)id;
        }
    }
    return 0;
}

const char *judge_owed(const struct judge *j)
{
    if (j->broken || j->over) {
        return NULL;
    }
    return j->connect_sent && !j->open                     ? "CONNACK"
           : j->pings > 0                                  ? "PINGRESP"
           : !line_empty(&j->publishes1)                   ? "PUBACK"
           : !line_empty(&j->publishes2)                   ? "PUBREC"
           : !line_empty(&j->releases)                     ? "PUBCOMP"
           : !line_empty(&j->subscribes)                   ? "SUBACK"
           : !line_empty(&j->unsubscribes)                 ? "UNSUBACK"
           : judge_next(j, JUDGE_RECEIVED, 0) && !j->loose ? "PUBREL"
                                                           : NULL;
}
