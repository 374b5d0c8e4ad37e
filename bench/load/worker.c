/* worker.c -- carry out orders, tell the flows what the clients say, show the counters. */
#include "bench/load/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/transport/tls.h"
#include "proto/base/clock.h"

#define MAIL_CREDIT 1      /* a: flow, b: publisher, n: messages complete at the sender */
#define CONNECTING_MAX 64u /* handshakes at one time of all workers, when no rate is asked for */
#define CONNECTING_RATED_MAX 4096u
#define CONNECTS_PER_TURN 64u
#define FILTERS_PER_SUBSCRIBE 100u
#define FORGIVE_LOOKS 4 /* in the timeout */

static_assert(sizeof(struct shown) % sizeof(uint64_t) == 0, "shown as words");

static struct worker *worker_of(struct shard *shard)
{
    return shard->broker;
}

static struct worker *worker_of_client(const struct client *client)
{
    return client->pool->context;
}

static const struct options *options_of(const struct worker *w)
{
    return w->bench->plan->options;
}

static void why_note(struct worker *w, const struct client *client, const char *why)
{
    if (!atomic_load_explicit(&w->has_why, memory_order_relaxed)) {
        char id[TOPIC_BYTES_MAX];
        plan_client_id(options_of(w), client->number, id);
        snprintf(w->why, sizeof(w->why), "client %.60s: %.90s", id, why);
        atomic_store_explicit(&w->has_why, true, memory_order_release);
    }
}

/* --- what clients tell ----------------------------------------------------------------------------------------------
 */

static bool is_traffic(const struct worker *w)
{
    return w->bench->plan->flow_count > 0;
}

static void on_up(struct client *client)
{
    struct worker *w = worker_of_client(client);

    w->connecting--;
    w->up++;
    w->counts.up_total++;
    histogram_add(&w->figures->connect, clock_mono_ns() / 1000 - client->since_us, 1);
    if (client->publisher) {
        flow_publisher_up(&w->flows[client->flow], client);
    }
}

static void on_subscribed(struct client *client, struct slice codes)
{
    struct worker *w = worker_of_client(client);
    uint8_t qos = w->bench->plan->flows[client->flow].qos;

    for (size_t i = 0; i < codes.len; i++) {
        if (codes.ptr[i] != qos) {
            w->counts.subscribe_refused++;
            why_note(w, client, "the broker did not grant a subscription");
        }
    }
    w->counts.subscribed += codes.len;
    histogram_add(&w->figures->subscribe, clock_mono_ns() / 1000 - client->since_us, 1);
}

static void on_message(struct client *client, struct slice payload, uint64_t now_us)
{
    struct worker *w = worker_of_client(client);

    if (!is_traffic(w) || client->publisher) {
        w->counts.misdelivered++;
        return;
    }
    flow_message(&w->flows[client->flow], client, payload, now_us);
}

static void on_acked(struct client *client, enum mqtt_type type, uint16_t packet_id, uint8_t reason, uint64_t now_us)
{
    struct worker *w = worker_of_client(client);

    if (!client->publisher) {
        w->counts.misacknowledged++;
        return;
    }
    flow_acked(&w->flows[client->flow], client, type, packet_id, reason, now_us);
}

static void on_writable(struct client *client)
{
    struct worker *w = worker_of_client(client);

    if (client->publisher) {
        flow_writable(&w->flows[client->flow], client);
    }
}

static void on_gone(struct client *client, const char *why)
{
    struct worker *w = worker_of_client(client);

    if (client->was_up) {
        w->up--;
        w->counts.disconnected++;
    } else {
        w->connecting--;
        w->counts.failed++;
    }
    why_note(w, client, why);
}

static void on_closed(struct client *client)
{
    worker_of_client(client)->idle[client->publisher]++;
}

static const struct client_handler client_handler = {
    on_up, on_subscribed, on_message, on_acked, on_writable, on_gone, on_closed,
};

/* --- orders ---------------------------------------------------------------------------------------------------------
 */

static bool has_role(const struct client *client, enum roles roles)
{
    return roles & (client->publisher ? ROLE_PUBLISHERS : ROLE_RECEIVERS);
}

/* Start connections as far as the rate or the bound allows. Returns when the next is due. */
static uint64_t connect_more(struct worker *w, uint64_t now_ns)
{
    const struct orders *orders = &w->bench->orders;
    double rate = options_of(w)->connrate;
    uint32_t bound = (rate > 0 ? CONNECTING_RATED_MAX : CONNECTING_MAX) / w->bench->workers;

    for (uint32_t n = 0; n < CONNECTS_PER_TURN && w->connecting < (bound ? bound : 1); n++) {
        while (w->connect_at < w->client_count && (w->clients[w->connect_at].state != CLIENT_IDLE ||
                                                   !has_role(&w->clients[w->connect_at], orders->roles))) {
            w->connect_at++;
        }
        if (w->connect_at == w->client_count) {
            w->to_connect = false;
            return UINT64_MAX;
        }
        uint64_t due_ns = now_ns;
        if (rate > 0) {
            uint64_t number = (uint64_t)w->connect_started * w->bench->workers + w->index;
            due_ns = orders->since_ns + (uint64_t)((double)number / rate * 1e9);
            if (due_ns > now_ns) {
                return due_ns;
            }
        }
        struct client *client = &w->clients[w->connect_at++];
        w->connect_started++;
        int rc = client_connect(client, due_ns / 1000, orders->fresh);
        if (rc != 0) {
            w->counts.failed++;
            why_note(w, client, strerror(-rc));
            continue;
        }
        w->idle[client->publisher]--;
        w->connecting++;
    }
    return w->connecting < (bound ? bound : 1) ? now_ns : UINT64_MAX;
}

/* Subscribe a receiver to all that is its own, in packets of bounded length. */
static void subscribe_receiver(struct worker *w, struct client *client)
{
    const struct flow_plan *flow = &w->bench->plan->flows[client->flow];
    bool own = flow->spread == SPREAD_ONE;
    struct mqtt_subscription subs[FILTERS_PER_SUBSCRIBE];
    char(*text)[TOPIC_BYTES_MAX] = calloc(FILTERS_PER_SUBSCRIBE, sizeof(*text));
    uint32_t count = 0;

    if (!text) {
        w->counts.subscribe_refused++;
        return;
    }
    client->since_us = clock_mono_ns() / 1000;
    for (uint64_t n = own ? client->place : 0; n < flow->filters; n += own ? flow->receivers : 1) {
        subs[count] = (struct mqtt_subscription){
            .filter = slice_of(text[count],
                               plan_topic(options_of(w), flow->filter, (uint32_t)n,
                                          own ? flow->first_publisher + (uint32_t)n : client->number, text[count])),
            .qos = flow->qos,
        };
        if (++count == FILTERS_PER_SUBSCRIBE) {
            client_subscribe(client, subs, count);
            count = 0;
        }
    }
    if (count > 0) {
        client_subscribe(client, subs, count);
    }
    free(text);
}

static void part_with(struct worker *w, struct client *client, bool cut)
{
    if (client->state == CLIENT_UP) {
        w->up--;
        w->counts.cut += cut;
    } else if (client->state == CLIENT_CONNECTING) {
        w->connecting--;
    }
    if (cut) {
        client_cut(client);
    } else {
        client_leave(client);
    }
}

static void order_take(struct worker *w)
{
    const struct orders *orders = &w->bench->orders;

    if (orders->order == ORDER_CONNECT) {
        w->to_connect = true;
        w->connect_at = w->connect_started = 0;
    }
    for (uint32_t i = 0; i < w->client_count; i++) {
        struct client *client = &w->clients[i];
        if (orders->order == ORDER_SUBSCRIBE && !client->publisher && client->state == CLIENT_UP) {
            subscribe_receiver(w, client);
        }
        if ((orders->order == ORDER_DISCONNECT || orders->order == ORDER_CUT || orders->order == ORDER_END) &&
            has_role(client, orders->roles) && client->state != CLIENT_IDLE && client->state != CLIENT_GONE &&
            client->state != CLIENT_LEAVING) {
            part_with(w, client, orders->order != ORDER_DISCONNECT);
        }
    }
    for (uint32_t i = 0; i < w->bench->plan->flow_count && orders->order == ORDER_PUBLISH; i++) {
        flow_wake(&w->flows[i]);
    }
    if (orders->order == ORDER_END) {
        shard_stop(w->shard);
    }
}

/* --- the turn -------------------------------------------------------------------------------------------------------
 */

static void show(struct worker *w)
{
    struct shown shown = {w->counts, w->up, w->connecting, {w->idle[0], w->idle[1]}};
    const uint64_t *words = (const uint64_t *)&shown;
    uint64_t number = atomic_load_explicit(&w->show_number, memory_order_relaxed);

    atomic_store_explicit(&w->show_number, number + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < COUNT_OF(w->shown); i++) {
        atomic_store_explicit(&w->shown[i], words[i], memory_order_relaxed);
    }
    atomic_store_explicit(&w->show_number, number + 2, memory_order_release);
}

void worker_look(struct worker *w, struct shown *ret_shown)
{
    uint64_t *words = (uint64_t *)ret_shown, before, after;

    do {
        before = atomic_load_explicit(&w->show_number, memory_order_acquire);
        for (size_t i = 0; i < COUNT_OF(w->shown); i++) {
            words[i] = atomic_load_explicit(&w->shown[i], memory_order_relaxed);
        }
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&w->show_number, memory_order_relaxed);
    } while (before != after || (before & 1));
}

static void on_turn_end(struct shard *shard)
{
    struct worker *w = worker_of(shard);
    uint32_t number = atomic_load_explicit(&w->bench->orders.number, memory_order_acquire);
    uint64_t wake_ns = UINT64_MAX, now_ns = clock_mono_ns();

    if (number != w->seen_number) {
        order_take(w);
        w->seen_number = number;
    }
    if (w->to_connect) {
        wake_ns = connect_more(w, now_ns);
    }
    for (uint32_t i = 0; i < w->bench->plan->flow_count; i++) {
        uint64_t due_ns = flow_pump(&w->flows[i], now_ns);
        wake_ns = due_ns < wake_ns ? due_ns : wake_ns;
        flow_credits_post(&w->flows[i], MAIL_CREDIT);
    }
    client_pool_flush(&w->pool);
    shard->wake_at_ns = wake_ns;
    show(w);
    atomic_store_explicit(&w->seen, w->seen_number, memory_order_release);
}

static void on_mail(struct shard *shard, const struct mail *mail)
{
    struct worker *w = worker_of(shard);

    assert(mail->kind == MAIL_CREDIT);
    flow_credit(&w->flows[mail->a], (uint32_t)mail->b, mail->n, mail->from);
}

static void on_forgive(struct timer *timer, uint64_t now_ms)
{
    struct worker *w = CONTAINER_OF(timer, struct worker, forgive);
    double timeout_s = options_of(w)->timeout_s;

    for (uint32_t i = 0; i < w->bench->plan->flow_count; i++) {
        flow_forgive(&w->flows[i], clock_mono_ns(), (uint64_t)(timeout_s * 1e9));
    }
    timer_set(w->shard->timers, timer, now_ms + (uint64_t)(timeout_s * 1000 / FORGIVE_LOOKS));
}

static int on_start(struct shard *shard)
{
    struct worker *w = worker_of(shard);

    w->shard = shard;
    w->pool.shard = shard;
    for (uint32_t i = 0; i < w->bench->plan->flow_count; i++) {
        w->flows[i].shard = shard;
    }
    timer_init(&w->forgive, on_forgive);
    on_forgive(&w->forgive, shard->now_ms);
    return 0;
}

static void on_awake(struct shard *shard)
{
    (void)shard;
}

static void on_stop(struct shard *shard)
{
    struct worker *w = worker_of(shard);

    timer_cancel(shard->timers, &w->forgive);
    for (uint32_t i = 0; i < w->client_count; i++) {
        timer_cancel(shard->timers, &w->clients[i].timer);
        client_deinit(&w->clients[i]);
    }
    tls_thread_end();
}

const struct shard_handler worker_handler = {on_start, on_mail, on_turn_end, on_awake, on_awake, on_stop};

/* --- making ---------------------------------------------------------------------------------------------------------
 */

/* The clients of one role of a flow that are this worker's. */
static void clients_add(struct worker *w, uint32_t flow, bool publisher, uint32_t count, uint32_t first, uint32_t slow)
{
    for (uint32_t place = w->index; place < count; place += w->bench->workers) {
        struct client *client = &w->clients[w->client_count++];
        client_init(client, &w->pool, first + place);
        client->place = place;
        client->flow = (uint8_t)flow;
        client->publisher = publisher;
        client->slow = place < slow;
        if (publisher) {
            flow_publisher_set(&w->flows[flow], client);
        }
    }
}

int worker_init(struct worker *w, struct bench *bench, uint32_t index)
{
    const struct plan *plan = bench->plan;
    uint32_t room = plan->client_count / bench->workers + 2 * FLOWS_MAX;

    *w = (struct worker){.bench = bench, .index = index};
    w->pool.options = plan->options;
    w->pool.handler = &client_handler;
    w->pool.context = w;
    w->figures = calloc(1, sizeof(*w->figures));
    w->clients = calloc(room, sizeof(*w->clients));
    if (!w->figures || !w->clients || client_pool_init(&w->pool, room) != 0) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < plan->flow_count; i++) {
        w->flows[i] = (struct flow){.measured = &bench->measured, .figures = w->figures, .counts = &w->counts};
        if (flow_init(&w->flows[i], &bench->flows[i], i, index) != 0) {
            return -ENOMEM;
        }
        const struct flow_plan *flow = &plan->flows[i];
        clients_add(w, i, false, flow->receivers, flow->first_receiver, flow->slow);
        clients_add(w, i, true, flow->publishers, flow->first_publisher, 0);
    }
    if (plan->flow_count == 0) {
        clients_add(w, 0, false, plan->client_count, 0, 0);
    }
    assert(w->client_count <= room);
    for (uint32_t i = 0; i < w->client_count; i++) {
        w->idle[w->clients[i].publisher]++;
    }
    show(w);
    return 0;
}

void worker_deinit(struct worker *w)
{
    for (uint32_t i = 0; i < w->bench->plan->flow_count; i++) {
        if (w->flows[i].shared) {
            flow_deinit(&w->flows[i]);
        }
    }
    client_pool_deinit(&w->pool);
    free(w->clients);
    free(w->figures);
}
