/* flow_make.c -- what a flow needs before its first message: topics, lanes, windows. */
#include <errno.h>
#include <stdlib.h>

#include "bench/load/flow.h"
#include "bench/load/payload.h"

uint32_t flow_waited(const struct flow_plan *flow, uint32_t worker, uint32_t workers)
{
    return flow_share(flow->receivers, worker, workers) - flow_share(flow->slow, worker, workers);
}

static uint32_t power_of_two(uint32_t least)
{
    uint32_t size = 1;

    while (size < least) {
        size <<= 1;
    }
    return size;
}

static int topics_write(struct flow_shared *shared)
{
    const struct flow_plan *flow = shared->flow;
    char topic[TOPIC_BYTES_MAX];
    struct buf all = {0};

    shared->topic_at = calloc((size_t)flow->streams + 1, sizeof(*shared->topic_at));
    if (!shared->topic_at) {
        return -ENOMEM;
    }
    for (uint32_t s = 0; s < flow->streams && flow->publishers > 0; s++) {
        uint32_t client = flow->first_publisher + s % flow->publishers;
        buf_put(&all, slice_of(topic,
                               plan_topic(shared->plan->options, flow->topic, plan_filter_of(flow, s), client, topic)));
        shared->topic_at[s + 1] = all.len;
    }
    shared->topics = (char *)all.ptr;
    return all.failed ? -ENOMEM : 0;
}

int flow_shared_init(struct flow_shared *shared, const struct plan *plan, uint32_t index, uint32_t workers, uint8_t run)
{
    const struct flow_plan *flow = &plan->flows[index];
    size_t lanes = flow->spread == SPREAD_NONE || flow->spread == SPREAD_OPEN ? 0
                   : flow->spread == SPREAD_ONE                               ? flow->streams
                                                                              : (size_t)flow->streams * flow->receivers;

    *shared = (struct flow_shared){.plan = plan, .flow = flow, .workers = workers, .run = run};
    shared->sent = calloc((size_t)flow->streams + 1, sizeof(*shared->sent));
    shared->lanes = calloc(lanes + 1, sizeof(*shared->lanes));
    shared->tallies = calloc(flow->spread == SPREAD_SHARED ? flow->streams : 1, sizeof(*shared->tallies));
    if (!shared->sent || !shared->lanes || !shared->tallies || topics_write(shared) != 0) {
        return -ENOMEM; /* flow_shared_deinit takes a half-made one */
    }
    return 0;
}

void flow_shared_deinit(struct flow_shared *shared)
{
    const struct flow_plan *flow = shared->flow;
    size_t lanes = flow->spread == SPREAD_ONE ? flow->streams : (size_t)flow->streams * flow->receivers;

    for (size_t i = 0; shared->lanes && i < lanes && flow->spread <= SPREAD_SHARED; i++) {
        lane_deinit(&shared->lanes[i]);
    }
    for (uint32_t i = 0; shared->tallies && i < flow->streams && flow->spread == SPREAD_SHARED; i++) {
        tally_deinit(&shared->tallies[i]);
    }
    free((void *)shared->sent);
    free(shared->lanes);
    free(shared->tallies);
    free(shared->topics);
    free(shared->topic_at);
}

/* What a publisher may send in all. */
static uint64_t limit_of(const struct flow_plan *flow, uint32_t number)
{
    if (!flow->stored) {
        return flow->limit > 0 ? flow->limit : UINT64_MAX;
    }
    return flow_share(flow->streams, number, flow->publishers) * (flow->retain ? 1 : flow->limit);
}

static int publisher_init(struct flow *f, struct publisher *p, uint32_t number)
{
    const struct flow_plan *flow = f->shared->flow;
    uint32_t flights = power_of_two(2 * flow->inflight);

    *p = (struct publisher){
        .window = flow->inflight, .batch = flow->batch, .next_stream = number, .limit = limit_of(flow, number)};
    p->flight_mask = flights - 1;
    p->flights = flow->qos > 0 ? calloc(flights, sizeof(*p->flights)) : NULL;
    p->done = calloc(f->shared->workers, sizeof(*p->done));
    return (flow->qos > 0 && !p->flights) || !p->done ? -ENOMEM : 0;
}

int flow_init(struct flow *f, struct flow_shared *shared, uint32_t index, uint32_t worker)
{
    const struct flow_plan *flow = shared->flow;
    uint32_t waited = flow->receivers - flow->slow;

    f->shared = shared;
    f->index = index;
    f->worker = worker;
    f->publisher_count = flow_share(flow->publishers, worker, shared->workers);
    f->waited_local = flow_waited(flow, worker, shared->workers);
    f->tracks = flow->rate <= 0 && !flow->stored && flow->spread <= SPREAD_SHARED && waited > 0;
    f->publishers = calloc(f->publisher_count + 1, sizeof(*f->publishers));
    f->ready = calloc(f->publisher_count + 1, sizeof(*f->ready));
    f->credits = calloc(flow->publishers + 1, sizeof(*f->credits));
    f->credit_dirty = calloc(flow->publishers + 1, sizeof(*f->credit_dirty));
    f->scratch = calloc(1, PAYLOAD_BYTES_MAX);
    uint32_t slots = f->tracks && flow->spread == SPREAD_ALL && f->waited_local > 1 ? power_of_two(flow->inflight) : 0;
    f->slot_mask = slots ? slots - 1 : 0;
    f->slots = calloc((size_t)slots * flow->streams + 1, sizeof(*f->slots));
    if (!f->publishers || !f->ready || !f->credits || !f->credit_dirty || !f->scratch || !f->slots) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < f->publisher_count; i++) {
        if (publisher_init(f, &f->publishers[i], worker + i * shared->workers) != 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

void flow_deinit(struct flow *f)
{
    for (uint32_t i = 0; f->publishers && i < f->publisher_count; i++) {
        free(f->publishers[i].flights);
        free(f->publishers[i].done);
    }
    flow_check_deinit(f);
    free(f->publishers);
    free(f->ready);
    free(f->credits);
    free(f->credit_dirty);
    free(f->scratch);
    free(f->slots);
}
