/* flow.c -- publishing: who may send how much, when it is due, and what comes back for it. Receiving is in
 * flow_check.c, making in flow_make.c. */
#include "bench/load/flow.h"

#include <assert.h>
#include <math.h>

#include "bench/load/payload.h"
#include "proto/base/clock.h"
#include "proto/mqtt/publish.h"

#define PACKET_IDS 65535u
#define WRITE_MAX 1024u     /* messages in one write of an open loop */
#define DUE_PER_TURN 65536u /* entries of the schedule handled in one turn */

enum flight_state { FLIGHT_SENT, FLIGHT_RECEIVED, FLIGHT_DONE };

static const struct options *options_of(const struct flow *f)
{
    return f->shared->plan->options;
}

static bool is_measured(const struct flow *f, uint64_t time_us)
{
    return time_us >= atomic_load_explicit(&f->measured->from_us, memory_order_relaxed) &&
           time_us < atomic_load_explicit(&f->measured->until_us, memory_order_relaxed);
}

/* Packet identifiers go round: message number `count` of a publisher has this one. */
static uint16_t packet_id_of(uint64_t count)
{
    return (uint16_t)(count % PACKET_IDS + 1);
}

/* --- who may publish ------------------------------------------------------------------------------------------------
 */

static struct publisher *publisher_of(struct flow *f, const struct client *client)
{
    return &f->publishers[client->place / f->shared->workers];
}

static void ready_add(struct flow *f, struct publisher *p)
{
    if (!p->ready) {
        p->ready = true;
        f->ready[f->ready_count++] = p;
    }
}

void flow_publisher_set(struct flow *f, struct client *client)
{
    publisher_of(f, client)->client = client;
}

void flow_publisher_up(struct flow *f, struct client *client)
{
    const struct flow_plan *flow = f->shared->flow;
    struct publisher *p = publisher_of(f, client);

    if (flow->qos > 0 && p->window > client->receive_max) { /* [MQTT-3.3.4-7] */
        p->window = client->receive_max;
    }
    if (p->batch > p->window) {
        p->batch = p->window;
    }
    ready_add(f, p);
}

void flow_writable(struct flow *f, struct client *client)
{
    ready_add(f, publisher_of(f, client));
}

void flow_wake(struct flow *f)
{
    for (uint32_t i = 0; i < f->publisher_count; i++) {
        struct publisher *p = &f->publishers[i];
        if (atomic_load(&f->shared->clearing)) {
            p->next_stream = f->worker + i * f->shared->workers;
            p->limit = p->sent + flow_share(f->shared->flow->streams, p->next_stream, f->shared->flow->publishers);
        }
        ready_add(f, p);
    }
}

static uint64_t less(uint64_t from, uint64_t what)
{
    return from > what ? from - what : 0;
}

/* Messages that may be sent now without more being outstanding than the window allows. */
static uint64_t room_of(const struct flow *f, const struct publisher *p)
{
    uint64_t acks = f->shared->flow->qos > 0 ? less(p->sent, p->acked + p->acks_given_up) : 0;
    uint64_t deliveries = f->tracks ? less(p->sent, p->delivered + p->forgiven) : 0;
    uint64_t room = less(p->window, acks > deliveries ? acks : deliveries);
    uint64_t flights = f->shared->flow->qos > 0 ? p->flight_mask + 1 - (p->sent - p->first_flight) : UINT64_MAX;

    return room < flights ? room : flights;
}

/* --- the schedule ---------------------------------------------------------------------------------------------------
 */

/* When message k of the flow is due. During the ramp the rate grows evenly from 0. */
static uint64_t due_ns(const struct flow *f, uint64_t k)
{
    double rate = f->shared->flow->rate, ramp_s = options_of(f)->ramp_s, ramped = rate * ramp_s / 2;
    double at_s = (double)k < ramped ? sqrt(2 * ramp_s * (double)k / rate) : ramp_s + ((double)k - ramped) / rate;

    return f->shared->t0_ns + (uint64_t)(at_s * 1e9);
}

/* Number of the flow's message that is message n of the worker's publisher i. */
static uint64_t message_number(const struct flow *f, uint32_t i, uint64_t n)
{
    return n * f->shared->flow->publishers + f->worker + (uint64_t)i * f->shared->workers;
}

/* Hand out what has become due. Returns when the next is. */
static uint64_t schedule_run(struct flow *f, uint64_t now_ns)
{
    for (uint32_t n = 0; n < DUE_PER_TURN; n++) {
        uint32_t i = (uint32_t)(f->due_next % f->publisher_count);
        uint64_t due = due_ns(f, message_number(f, i, f->due_next / f->publisher_count));
        if (due > now_ns) {
            return due;
        }
        struct publisher *p = &f->publishers[i];
        f->due_next++;
        if (p->due < p->limit) {
            p->due++;
            f->counts->due++;
            ready_add(f, p);
        }
    }
    return now_ns;
}

/* --- publishing -----------------------------------------------------------------------------------------------------
 */

uint32_t flow_payload_bytes(const struct size_plan *size, uint32_t stream, uint32_t place)
{
    if (size->kind == SIZE_FIXED) {
        return size->least;
    }
    uint64_t x = ((uint64_t)stream << 32 | place) * 0x9E3779B97F4A7C15u; /* splitmix64 */
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    if (size->kind == SIZE_RANGE) {
        return size->least + (uint32_t)(x % (size->most - size->least + 1));
    }
    double bytes = -log(((double)(x >> 11) + 1) / 9007199254740993.0) * size->least;
    return bytes < PAYLOAD_HEAD_BYTES ? PAYLOAD_HEAD_BYTES : bytes > size->most ? size->most : (uint32_t)bytes;
}

/* Fill in the payload of a new message of the stream and count it. */
static struct slice payload_make(struct flow *f, uint32_t stream, uint64_t time_us)
{
    uint32_t place = atomic_load_explicit(&f->shared->sent[stream], memory_order_relaxed);
    uint32_t bytes = flow_payload_bytes(&options_of(f)->size, stream, place);
    struct payload_head head = {f->shared->run, stream, place, time_us};

    payload_put(f->scratch, &head);
    if (bytes > PAYLOAD_HEAD_BYTES) {
        f->scratch[bytes - 1] = flow_last_byte(place);
    }
    atomic_store_explicit(&f->shared->sent[stream], place + 1, memory_order_release);
    return slice_of(f->scratch, bytes);
}

static uint32_t deliveries_wanted(const struct flow *f, uint32_t stream)
{
    const struct flow_plan *flow = f->shared->flow;

    switch (flow->spread) {
    case SPREAD_ONE:
        return plan_filter_of(flow, stream) % flow->receivers >= flow->slow;
    case SPREAD_ALL:
        return flow->receivers - flow->slow;
    case SPREAD_SHARED:
        return 1;
    default:
        return 0;
    }
}

/* Append one PUBLISH to the publisher's output and count it. */
static void message_append(struct flow *f, struct publisher *p, uint64_t time_us)
{
    const struct flow_plan *flow = f->shared->flow;
    const struct flow_shared *shared = f->shared;
    bool clearing = atomic_load_explicit(&shared->clearing, memory_order_relaxed);
    uint32_t stream = p->next_stream;
    struct mqtt_delivery delivery = {
        .qos = flow->qos,
        .retain = flow->retain,
        .packet_id = flow->qos > 0 ? packet_id_of(p->sent) : 0,
        .topic = slice_of(shared->topics + shared->topic_at[stream],
                          shared->topic_at[stream + 1] - shared->topic_at[stream]),
    };

    if (!clearing) {
        delivery.payload = payload_make(f, stream, time_us);
        f->counts->wanted_deliveries += deliveries_wanted(f, stream);
    }
    mqtt_delivery_encode(client_output(p->client), options_of(f)->version, &delivery);
    if (flow->qos > 0) {
        p->flights[p->sent & p->flight_mask] = (struct flight){.time_us = time_us};
        f->counts->wanted_acks++;
    }
    p->next_stream = stream + flow->publishers < flow->streams ? stream + flow->publishers : stream % flow->publishers;
    p->sent++;
    f->counts->sent += !clearing;
    f->counts->cleared += clearing;
    f->counts->due += flow->rate <= 0 && !clearing;
    f->counts->bytes_sent += delivery.payload.len;
}

/* What is due, as much as the window takes. What is late because this tool writes no more at once is its own fault,
 * what waits for room is the broker's. */
static void publisher_pump_open(struct flow *f, struct publisher *p, uint64_t now_us)
{
    uint64_t room = f->shared->flow->qos > 0 ? room_of(f, p) : UINT64_MAX, owed = p->due - p->sent;
    uint64_t count = owed < room ? owed : room;
    uint32_t i = (uint32_t)(p - f->publishers);

    count = count < WRITE_MAX ? count : WRITE_MAX;
    if (p->held) {
        p->held_until_us = now_us;
    }
    for (uint64_t n = 0; n < count; n++) {
        uint64_t due_us = due_ns(f, message_number(f, i, p->sent)) / 1000;
        if (due_us >= p->held_until_us && is_measured(f, due_us)) {
            histogram_add(&f->figures->late, now_us > due_us ? now_us - due_us : 0, 1);
        }
        message_append(f, p, due_us);
    }
    p->held = owed > room;
    p->client->eager = p->due > p->sent;
}

/* A write carries `batch` messages, never fewer but at the limit: the figure is part of the scenario. */
static void publisher_pump_closed(struct flow *f, struct publisher *p, uint64_t now_us)
{
    uint64_t left = p->limit - p->sent, room = room_of(f, p);
    uint64_t count = left < p->batch ? left : p->batch;

    if (room < count) {
        return;
    }
    for (uint64_t n = 0; n < count; n++) {
        message_append(f, p, now_us);
    }
    p->client->eager = room - count >= p->batch && left > count;
}

static void publisher_pump(struct flow *f, struct publisher *p, uint64_t now_us)
{
    if (!p->client || p->client->state != CLIENT_UP) {
        return;
    }
    if (io_stream_sending(&p->client->stream)) { /* the kernel has no room for what was written in an earlier turn */
        p->held = p->due > p->sent;
    } else if (f->shared->flow->rate > 0) {
        publisher_pump_open(f, p, now_us);
    } else {
        publisher_pump_closed(f, p, now_us);
    }
}

uint64_t flow_pump(struct flow *f, uint64_t now_ns)
{
    bool open = f->shared->flow->rate > 0;
    uint64_t next_ns = UINT64_MAX;

    if (f->publisher_count == 0) {
        return next_ns;
    }
    if (!atomic_load_explicit(&f->shared->publishing, memory_order_acquire)) {
        if (!open || atomic_load_explicit(&f->shared->abandoned, memory_order_relaxed)) {
            return next_ns; /* who is ready stays in the list */
        }                   /* what was due is sent nevertheless: a stall at the end is a stall too */
    } else if (open) {
        next_ns = schedule_run(f, now_ns);
    }
    for (uint32_t i = 0; i < f->ready_count; i++) {
        f->ready[i]->ready = false;
        publisher_pump(f, f->ready[i], now_ns / 1000);
    }
    f->ready_count = 0;
    return next_ns;
}

/* --- what comes back ------------------------------------------------------------------------------------------------
 */

static void flight_done(struct flow *f, struct publisher *p, struct flight *flight, uint64_t now_us)
{
    flight->state = FLIGHT_DONE;
    p->acked++;
    f->counts->acked++;
    if (is_measured(f, flight->time_us)) {
        histogram_add(&f->figures->acknowledge, now_us - flight->time_us, 1);
    }
    while (p->first_flight < p->sent && p->flights[p->first_flight & p->flight_mask].state == FLIGHT_DONE) {
        p->first_flight++;
    }
    ready_add(f, p);
}

/* An acknowledgement of a message that is not on its way: late, or wrong. */
static void acked_late(struct flow *f, struct publisher *p, enum mqtt_type type)
{
    if (p->acks_given_up == 0) {
        f->counts->misacknowledged++;
    } else if (type != MQTT_PUBREC) {
        p->acks_given_up--;
        p->acked++;
        f->counts->acked++;
    }
}

void flow_acked(struct flow *f, struct client *client, enum mqtt_type type, uint16_t packet_id, uint8_t reason,
                uint64_t now_us)
{
    const struct flow_plan *flow = f->shared->flow;
    struct publisher *p = publisher_of(f, client);
    bool failed = reason >= 0x80, first = type != MQTT_PUBCOMP;

    f->counts->refused += failed;
    if (flow->qos == 0 || packet_id == 0) {
        f->counts->misacknowledged++;
        return;
    }
    uint64_t number = p->first_flight + (packet_id - 1 + PACKET_IDS - p->first_flight % PACKET_IDS) % PACKET_IDS;
    if (number >= p->sent) {
        acked_late(f, p, type);
        return;
    }
    struct flight *flight = &p->flights[number & p->flight_mask];
    bool expected = flow->qos == 1 ? type == MQTT_PUBACK && flight->state == FLIGHT_SENT
                    : first        ? type == MQTT_PUBREC && flight->state == FLIGHT_SENT
                                   : flight->state == FLIGHT_RECEIVED;
    if (!expected) {
        f->counts->misacknowledged++;
        return;
    }
    if (first) {
        f->counts->misacknowledged += number < p->answered; /* a later message's was first */
        p->answered = number < p->answered ? p->answered : number + 1;
        flight->state = FLIGHT_RECEIVED;
    }
    if (type != MQTT_PUBREC || failed) { /* a refused PUBREC is the last of its message */
        flight_done(f, p, flight, now_us);
    }
}

static void delivered_add(struct flow *f, struct publisher *p, uint32_t count, uint32_t from_worker)
{
    const struct flow_plan *flow = f->shared->flow;

    if (flow->spread != SPREAD_ALL) {
        p->delivered += count;
    } else {
        p->done[from_worker] += count;
        uint64_t least = UINT64_MAX;
        for (uint32_t w = 0; w < f->shared->workers; w++) {
            if (flow_waited(flow, w, f->shared->workers) > 0 && p->done[w] < least) {
                least = p->done[w];
            }
        }
        p->delivered = least;
    }
    if (p->delivered + p->forgiven > p->sent) {
        p->forgiven = less(p->sent, p->delivered); /* what was given up has come after all */
    }
    ready_add(f, p);
}

void flow_credit(struct flow *f, uint32_t publisher, uint32_t count, uint32_t from_worker)
{
    delivered_add(f, &f->publishers[publisher / f->shared->workers], count, from_worker);
}

void flow_complete(struct flow *f, uint32_t stream, uint32_t place)
{
    const struct flow_plan *flow = f->shared->flow;
    uint32_t publisher = stream % flow->publishers;

    if (flow->spread == SPREAD_ALL && f->waited_local > 1) {
        struct slot *slot = &f->slots[(size_t)stream * (f->slot_mask + 1) + (place & f->slot_mask)];
        if (slot->place != place) { /* the last message here was lost by somebody */
            *slot = (struct slot){.place = place};
        }
        if (++slot->count < f->waited_local) {
            return;
        }
        slot->count = 0;
    }
    if (publisher % f->shared->workers == f->worker) {
        flow_credit(f, publisher, 1, f->worker);
    } else if (f->credits[publisher]++ == 0) {
        f->credit_dirty[f->credit_count++] = publisher;
    }
}

void flow_credits_post(struct flow *f, uint16_t mail_kind)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < f->credit_count; i++) {
        uint32_t publisher = f->credit_dirty[i];
        struct mail mail = {.kind = mail_kind, .n = f->credits[publisher], .a = f->index, .b = publisher};
        if (shard_post(f->shard, publisher % f->shared->workers, &mail) != 0) {
            f->credit_dirty[kept++] = publisher; /* memory is out: in the next turn */
            continue;
        }
        f->credits[publisher] = 0;
    }
    f->credit_count = kept;
}

/* Acknowledgements that have not come are not waited for any more. */
static void acks_give_up(struct publisher *p)
{
    for (; p->first_flight < p->sent; p->first_flight++) {
        p->acks_given_up += p->flights[p->first_flight & p->flight_mask].state != FLIGHT_DONE;
    }
}

void flow_forgive(struct flow *f, uint64_t now_ns, uint64_t stuck_ns)
{
    for (uint32_t i = 0; i < f->publisher_count; i++) {
        struct publisher *p = &f->publishers[i];
        uint64_t moved = p->acked + p->delivered + p->acks_given_up + p->forgiven;
        bool owing = (f->tracks && p->delivered + p->forgiven < p->sent) ||
                     (p->flights && p->acked + p->acks_given_up < p->sent);
        if (moved != p->moved || !owing) {
            p->moved = moved;
            p->moved_at_ns = now_ns;
        } else if (now_ns - p->moved_at_ns >= stuck_ns) {
            p->forgiven = f->tracks ? less(p->sent, p->delivered) : 0;
            if (p->flights) {
                acks_give_up(p);
            }
            ready_add(f, p);
        }
    }
}
