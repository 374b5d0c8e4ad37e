/* traffic.c -- the hot path: fill in a packet, check a delivery, count. */
#include "bench/traffic.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/mqtt/frame.h"
#include "proto/mqtt/publish.h"

#define TOPIC_DIGITS 6
#define TOPIC_BYTES_MAX 64
#define PACKET_IDS 65535u

static uint32_t u32_get(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void u32_put(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

/* Packet identifiers go round: message number `count` of a publisher has this one. */
static uint16_t packet_id_of(uint64_t count)
{
    return (uint16_t)(count % PACKET_IDS + 1);
}

/* The subscription that a stream's topic is for: fewer topics than subscriptions are spread evenly over them. */
static uint32_t subscription_of(const struct traffic_plan *plan, uint32_t stream)
{
    return stream * (plan->subscriptions / plan->streams);
}

size_t traffic_topic(const struct traffic_plan *plan, uint32_t n, char *out)
{
    return (size_t)snprintf(out, TOPIC_BYTES_MAX, "%s%06u%s", plan->topic_prefix, n, plan->topic_suffix);
}

size_t traffic_filter(const struct traffic_plan *plan, uint32_t n, char *out)
{
    return (size_t)snprintf(out, TOPIC_BYTES_MAX, "%s%06u%s", plan->filter_prefix, n, plan->filter_suffix);
}

/* Encode one PUBLISH and note where its changing parts are. */
static int packet_prepare(struct traffic *t)
{
    const struct traffic_plan *plan = t->plan;
    char topic[TOPIC_BYTES_MAX];
    struct mqtt_frame frame;
    uint8_t *payload = calloc(1, plan->payload_bytes);
    if (!payload) {
        return -ENOMEM;
    }
    struct mqtt_delivery delivery = {
        .qos = plan->qos,
        .packet_id = plan->qos > 0 ? 1 : 0,
        .topic = slice_of(topic, traffic_topic(plan, 0, topic)),
        .payload = slice_of(payload, plan->payload_bytes),
    };
    mqtt_delivery_encode(&t->packet, plan->version, &delivery);
    free(payload);
    if (t->packet.failed) {
        return -ENOMEM;
    }
    enum mqtt_frame_state state = mqtt_frame_next(buf_slice(&t->packet), CLIENT_PACKET_BYTES_MAX, &frame);
    assert(state == MQTT_FRAME_WHOLE);
    uint32_t topic_at = t->packet.len - (uint32_t)frame.body.len + 2;
    t->digits_at = topic_at + (uint32_t)strlen(plan->topic_prefix);
    t->packet_id_at = topic_at + (uint32_t)delivery.topic.len;
    t->payload_at = t->packet.len - plan->payload_bytes;
    return 0;
}

int traffic_init(struct traffic *t, const struct traffic_plan *plan)
{
    *t = (struct traffic){.plan = plan};
    uint32_t lanes = plan->one_for_all ? plan->receivers : plan->streams;

    t->remaining_mask = 1;
    while (t->remaining_mask < plan->window) {
        t->remaining_mask <<= 1;
    }
    t->remaining = calloc(t->remaining_mask, sizeof(*t->remaining));
    t->remaining_mask--;
    t->publishers = calloc(plan->publishers, sizeof(*t->publishers));
    t->ready = calloc(plan->publishers, sizeof(struct publisher *));
    t->stream_sent = calloc(plan->streams, sizeof(*t->stream_sent));
    if (!t->remaining || !t->publishers || !t->ready || !t->stream_sent || sequence_init(&t->sequence, lanes) != 0 ||
        packet_prepare(t) != 0) {
        traffic_deinit(t);
        return -ENOMEM;
    }
    return 0;
}

void traffic_deinit(struct traffic *t)
{
    sequence_deinit(&t->sequence);
    buf_deinit(&t->packet);
    free(t->remaining);
    free(t->publishers);
    free(t->ready);
    free(t->stream_sent);
    *t = (struct traffic){0};
}

static void ready_add(struct traffic *t, struct publisher *p)
{
    if (!p->ready) {
        p->ready = true;
        t->ready[t->ready_count++] = p;
    }
}

void traffic_publisher_set(struct traffic *t, uint32_t i, struct client *client)
{
    struct publisher *p = &t->publishers[i];
    const struct traffic_plan *plan = t->plan;

    *p = (struct publisher){.client = client, .window = plan->window, .batch = plan->batch, .next_stream = i};
    if (plan->qos > 0 && p->window > client->receive_max) { /* [MQTT-3.3.4-7] */
        p->window = client->receive_max;
    }
    if (p->batch > p->window) {
        p->batch = p->window;
    }
    ready_add(t, p);
}

void traffic_message(struct traffic *t, uint32_t receiver, struct slice payload)
{
    const struct traffic_plan *plan = t->plan;

    if (payload.len != plan->payload_bytes) {
        t->misdelivered++;
        return;
    }
    uint32_t stream = u32_get(payload.ptr), place = u32_get(payload.ptr + 4);
    if (stream >= plan->streams || place >= t->stream_sent[stream] ||
        (!plan->one_for_all && subscription_of(plan, stream) % plan->receivers != receiver)) {
        t->misdelivered++;
        return;
    }
    if (!sequence_take(&t->sequence, plan->one_for_all ? receiver : stream, place)) {
        return;
    }
    t->received++;
    if (plan->one_for_all && --t->remaining[place & t->remaining_mask] > 0) {
        return;
    }
    struct publisher *p = &t->publishers[stream % plan->publishers];
    p->delivered++;
    t->delivered++;
    ready_add(t, p);
}

void traffic_acked(struct traffic *t, uint32_t publisher, enum mqtt_type type, uint16_t packet_id, uint8_t reason)
{
    struct publisher *p = &t->publishers[publisher];
    bool failed = reason >= 0x80, first = type != MQTT_PUBCOMP;

    t->refused += failed;
    if (first) {
        bool expected = type == (t->plan->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC);
        t->misacknowledged += !expected || p->answered == p->sent || packet_id != packet_id_of(p->answered);
        p->answered++;
    }
    if (type != MQTT_PUBREC || failed) { /* a refused PUBREC is the last of its message */
        p->acked++;
        t->acked++;
        ready_add(t, p);
    }
}

void traffic_writable(struct traffic *t, uint32_t publisher)
{
    ready_add(t, &t->publishers[publisher]);
}

/* Append one PUBLISH to the publisher's output and count it. */
static bool message_append(struct traffic *t, struct publisher *p)
{
    const struct traffic_plan *plan = t->plan;
    uint32_t stream = p->next_stream, place = t->stream_sent[stream];
    uint8_t *at = buf_extend(&p->client->out, t->packet.len);
    if (!at) {
        return false;
    }
    memcpy(at, t->packet.ptr, t->packet.len);
    uint32_t number = subscription_of(plan, stream);
    for (int digit = TOPIC_DIGITS - 1; digit >= 0; digit--) {
        at[t->digits_at + (uint32_t)digit] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
    if (plan->qos > 0) {
        uint16_t packet_id = packet_id_of(p->sent);
        at[t->packet_id_at] = (uint8_t)(packet_id >> 8);
        at[t->packet_id_at + 1] = (uint8_t)packet_id;
    }
    u32_put(at + t->payload_at, stream);
    u32_put(at + t->payload_at + 4, place);

    if (plan->one_for_all) {
        t->remaining[place & t->remaining_mask] = plan->receivers;
    }
    t->stream_sent[stream] = place + 1;
    p->next_stream = stream + plan->publishers < plan->streams ? stream + plan->publishers : stream % plan->publishers;
    p->sent++;
    t->sent++;
    return true;
}

static uint32_t room_of(const struct traffic *t, const struct publisher *p)
{
    uint64_t done = t->plan->qos > 0 && p->acked < p->delivered ? p->acked : p->delivered;
    uint64_t outstanding = p->sent - done;

    return outstanding < p->window ? p->window - (uint32_t)outstanding : 0;
}

/* A write carries `batch` messages, never fewer: the figure is part of the scenario. */
static void publisher_pump(struct traffic *t, struct publisher *p)
{
    while (p->client->state == CLIENT_UP && !client_blocked(p->client) && room_of(t, p) >= p->batch) {
        for (uint32_t i = 0; i < p->batch; i++) {
            if (!message_append(t, p)) {
                break; /* client_flush reports that memory is out */
            }
        }
        client_flush(p->client);
    }
}

void traffic_pump(struct traffic *t)
{
    for (uint32_t i = 0; i < t->ready_count; i++) {
        t->ready[i]->ready = false;
        if (!t->stopped) {
            publisher_pump(t, t->ready[i]);
        }
    }
    t->ready_count = 0;
}

bool traffic_settled(const struct traffic *t)
{
    return t->delivered == t->sent && (t->plan->qos == 0 || t->acked == t->sent);
}

uint64_t traffic_lost(const struct traffic *t)
{
    uint64_t lost = sequence_missing(&t->sequence);

    for (uint32_t lane = 0; lane < t->sequence.lane_count; lane++) {
        lost += sequence_tail(&t->sequence, lane, t->stream_sent[t->plan->one_for_all ? 0 : lane]);
    }
    return lost;
}
