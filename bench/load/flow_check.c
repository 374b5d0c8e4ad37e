/* flow_check.c -- receiving: whether a message is one of ours, came once, in order and to the right client, and how
 * late. */
#include <stdlib.h>

#include "bench/load/flow.h"
#include "bench/load/payload.h"
#include "proto/base/clock.h"

#define OPEN_LANES_MAX 1000000u
#define OPEN_LATENCY_MAX_US 3600000000u /* what is later comes from a clock that is not ours */

/* OPEN: a stream as one receiver sees it. */
struct open_lane {
    uint64_t receiver;
    uint32_t stream;
    uint8_t run;
    struct lane lane;
};

static bool open_match(const void *value, const void *key)
{
    const struct open_lane *a = value, *b = key;

    return a->receiver == b->receiver && a->stream == b->stream && a->run == b->run;
}

/* The lane of a message of an unknown publisher, which begins with the first message that is seen. NULL when there are
 * too many. */
static struct lane *open_lane_get(struct flow *f, uint32_t receiver, const struct payload_head *head)
{
    struct open_lane key = {.receiver = receiver, .stream = head->stream, .run = head->run};
    uint64_t hash = ((uint64_t)head->stream << 32 ^ (uint64_t)receiver << 8 ^ head->run) * 0x9E3779B97F4A7C15u;
    struct open_lane *open = map_find(&f->open, hash, open_match, &key);

    if (open) {
        return &open->lane;
    }
    open = f->open.count < OPEN_LANES_MAX ? malloc(sizeof(*open)) : NULL;
    if (!open) {
        return NULL;
    }
    *open = key;
    open->lane.next = head->place;
    if (map_add(&f->open, hash, open) != 0) {
        free(open);
        return NULL;
    }
    return &open->lane;
}

void flow_check_deinit(struct flow *f)
{
    struct open_lane *open;

    for (size_t i = 0; (open = map_next(&f->open, &i)) != NULL;) {
        lane_deinit(&open->lane);
        free(open);
    }
    map_deinit(&f->open);
}

static void latency_add(struct flow *f, uint64_t time_us, uint64_t now_us)
{
    if (time_us >= atomic_load_explicit(&f->measured->from_us, memory_order_relaxed) &&
        time_us < atomic_load_explicit(&f->measured->until_us, memory_order_relaxed)) {
        histogram_add(&f->figures->delivery, now_us > time_us ? now_us - time_us : 0, 1);
    }
}

/* Whoever publishes: gaps, repetitions and order can be seen, and the latency when it is the same machine. */
static void message_open(struct flow *f, struct client *client, struct slice payload, uint64_t now_us)
{
    struct payload_head head;

    f->counts->received++;
    if (!payload_get(payload, &head)) {
        return;
    }
    struct lane *lane = open_lane_get(f, client->place, &head);
    if (lane && lane_take(lane, head.place, &f->counts->sequence) == ARRIVAL_DUPLICATE) {
        f->counts->received--;
        return;
    }
    if (now_us - head.time_us < OPEN_LATENCY_MAX_US) {
        latency_add(f, head.time_us, now_us);
    }
}

/* Whether this receiver may have this message at all, and it is whole. */
static bool message_fits(const struct flow *f, const struct client *client, struct slice payload,
                         const struct payload_head *head)
{
    const struct flow_shared *shared = f->shared;
    const struct flow_plan *flow = shared->flow;

    if (head->run != shared->run || head->stream >= flow->streams ||
        head->place >= atomic_load_explicit(&shared->sent[head->stream], memory_order_acquire)) {
        return false;
    }
    if (payload.len != flow_payload_bytes(&shared->plan->options->size, head->stream, head->place) ||
        (payload.len > PAYLOAD_HEAD_BYTES && payload.ptr[payload.len - 1] != flow_last_byte(head->place))) {
        return false;
    }
    return flow->spread != SPREAD_ONE || plan_filter_of(flow, head->stream) % flow->receivers == client->place;
}

/* Note the arrival. Returns whether it is the first of this message that counts. */
static bool message_note(struct flow *f, const struct client *client, const struct payload_head *head)
{
    struct flow_shared *shared = f->shared;
    struct sequence_counts *counts = &f->counts->sequence;

    if (shared->flow->spread == SPREAD_ONE) {
        return lane_take(&shared->lanes[head->stream], head->place, counts) != ARRIVAL_DUPLICATE;
    }
    struct lane *lane = &shared->lanes[(size_t)client->place * shared->flow->streams + head->stream];
    if (shared->flow->spread == SPREAD_ALL) {
        return lane_take(lane, head->place, counts) != ARRIVAL_DUPLICATE;
    }
    if (tally_take(&shared->tallies[head->stream], head->place)) {
        counts->duplicate++;
        return false;
    }
    if (head->place < lane->next) { /* behind a later one at the same member */
        counts->reordered++;
    } else {
        lane->next = head->place + 1;
    }
    return true;
}

void flow_message(struct flow *f, struct client *client, struct slice payload, uint64_t now_us)
{
    struct payload_head head;

    f->counts->bytes_received += payload.len;
    if (f->shared->flow->spread == SPREAD_OPEN) {
        message_open(f, client, payload, now_us);
        return;
    }
    if (!payload_get(payload, &head) || !message_fits(f, client, payload, &head)) {
        f->counts->misdelivered++;
        return;
    }
    if (!message_note(f, client, &head)) {
        return;
    }
    f->counts->received++;
    f->received++;
    latency_add(f, head.time_us, now_us);
    if (client->slow && f->shared->flow->spread != SPREAD_SHARED) {
        return;
    }
    f->counts->waited_received++;
    if (f->tracks) {
        flow_complete(f, head.stream, head.place);
    }
}

static uint64_t lane_lost(const struct lane *lane, uint32_t sent)
{
    return lane->missing + (sent > lane->next ? sent - lane->next : 0);
}

void flow_judge(const struct flow_shared *shared, uint64_t received, struct flow_verdict *verdict)
{
    const struct flow_plan *flow = shared->flow;

    *verdict = (struct flow_verdict){0};
    for (uint32_t s = 0; s < flow->streams && flow->publishers > 0; s++) {
        uint32_t sent = atomic_load(&shared->sent[s]);
        verdict->sent += sent;
        if (flow->spread == SPREAD_ONE) {
            bool slow = plan_filter_of(flow, s) % flow->receivers < flow->slow;
            verdict->expected += sent;
            *(slow ? &verdict->slow_lost : &verdict->lost) += lane_lost(&shared->lanes[s], sent);
        } else if (flow->spread == SPREAD_ALL) {
            verdict->expected += (uint64_t)sent * flow->receivers;
            for (uint32_t r = 0; r < flow->receivers; r++) {
                *(r < flow->slow ? &verdict->slow_lost : &verdict->lost) +=
                    lane_lost(&shared->lanes[(size_t)r * flow->streams + s], sent);
            }
        }
    }
    if (flow->spread == SPREAD_SHARED) { /* nobody sees a whole stream */
        verdict->expected = verdict->sent;
        verdict->lost = verdict->sent > received ? verdict->sent - received : 0;
    }
}
