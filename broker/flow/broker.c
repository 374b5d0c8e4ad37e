#include "broker/flow/broker.h"
#include "broker/flow/cluster.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/conn/channel.h"
#include "broker/flow/access.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/flow/inquire.h"
#include "broker/flow/login.h"
#include "broker/flow/look.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define MATCH_CACHE_SETS 32768u /* of 4 topics: 131,072 on a shard at most */
#define HOUSE_MS 100u
#define SWEEP_STEPS 256u
#define TRIM_MS 10000u
#define SPARE_BUFFERS 16u
#define STOP_GRACE_MS 500u /* for the kernel to let go of dropped connections */

/* Take over the limits that are kept outside the configuration. */
static void configure(struct broker *b, const struct config *config)
{
    b->config = config;
    b->groups_of_shard.subscriptions_max = config->limits.max_subscriptions;
    b->groups_of_shard.waiting_max = config->limits.max_queued_messages;
    b->groups_of_shard.waiting_bytes_max = config->limits.max_queued_bytes;
    b->groups_of_shard.drop_oldest = config->limits.queue_overflow == OVERFLOW_DROP_OLDEST;
    atomic_store(&b->config_seen, config);
}

int broker_init(struct broker *b, struct node_tables *node, unsigned shard, unsigned shard_count)
{
    uint64_t seed;

    *b = (struct broker){.node = node};
    conn_lists_init(&b->conns);
    list_init(&b->holds);
    list_init(&b->receipts_all);
    list_init(&b->receipts_spare);
    list_init(&b->congested);
    list_init(&b->logins);
    list_init(&b->claims);
    list_init(&b->claims_next);
    list_init(&b->jobs);
    list_init(&b->inquiries);
    list_init(&b->replays);
    list_init(&b->replays_ready);
    clock_random(&seed, sizeof(seed));
    prng_seed(&b->prng, seed);
    if (topic_tree_new(&node->key, &b->tree) || match_cache_new(MATCH_CACHE_SETS, &b->cache) ||
        retained_new(&node->key, &node->retained_quota, &b->retained) || share_table_new(&node->key, &b->shares) ||
        access_init(b)) {
        return -ENOMEM;
    }
    b->groups_of_shard = (struct group_context){
        .tree = b->tree,
        .retained = b->retained,
        .session_quota = &node->session_quota,
        .next_uid = (node->store ? node->store->identity.boot << 40 : 0) | (uint64_t)shard << 34,
    };
    for (unsigned g = shard; g < GROUPS; g += shard_count) {
        group_init(&b->groups[g], (uint16_t)g, &b->groups_of_shard);
    }
    if (node->store && checkpoint_init(b) != 0) {
        return -ENOMEM;
    }
    if (cluster_shard_new(b) != 0) {
        return -ENOMEM;
    }
    b->policy = atomic_load(&node->auth->policy);
    atomic_store(&b->policy_seen, b->policy);
    configure(b, atomic_load(&node->config));
    return 0;
}

static void end_all_sessions(struct broker *b, struct group *group)
{
    struct session *session;
    size_t i = 0;

    while ((session = map_next(&group->sessions, &i)) != NULL) {
        struct command command = {.type = COMMAND_END, .session = session};
        struct outcome out;
        struct list *at;

        replay_forget(b, session);
        list_remove(&session->in_changed);
        session->page = NULL; /* the store, which is closed, had it */
        group_apply(group, &command, &out);
        while ((at = list_pop(&session->subscriptions)) != NULL) {
            topic_tree_unsubscribe(b->tree, CONTAINER_OF(at, struct subscription, in_owner));
        }
        while ((at = list_pop(&session->shares)) != NULL) {
            free(CONTAINER_OF(at, struct session_share, in_session));
        }
        will_free(out.will);
        session_free(session);
        i = 0; /* the table has changed */
    }
}

void broker_release(struct broker *b)
{
    replay_deinit(b);
    receipt_deinit(b);
    parcel_deinit(b);
    subscribe_deinit(b);
}

void broker_deinit(struct broker *b)
{
    checkpoint_deinit(b);
    for (unsigned g = 0; g < GROUPS; g++) {
        if (b->groups[g].context) {
            end_all_sessions(b, &b->groups[g]);
            group_deinit(&b->groups[g]);
        }
    }
    map_deinit(&b->share_subscriptions);
    share_table_free(b->shares);
    retained_free(b->retained);
    match_cache_free(b->cache);
    topic_tree_free(b->tree);
    access_deinit(b);
    journal_deinit(b);
    repeat_deinit(b);
    mishap_deinit(b);
    cluster_shard_free(b);
    buf_deinit(&b->mounted);
    for (unsigned i = 0; i < COUNT_OF(b->frame); i++) {
        buf_deinit(&b->frame[i]);
    }
}

/* ---- on the shard's thread ---- */

void broker_apply(struct broker *b, struct command *command, struct outcome *ret_outcome)
{
    command->wall_ms = b->shard->wall_ms;
    if (command->session->durable) {
        journal_apply(b, broker_group(b, command->session), command, ret_outcome);
    } else {
        group_apply(broker_group(b, command->session), command, ret_outcome);
    }
}

void broker_answer(struct broker *b, unsigned shard, const struct mail *mail)
{
    if (shard_post_answer(b->shard, shard, mail) != 0) {
        log_event(LOG_ERROR, "no_memory_to_answer", {"shard", LOG_INT(shard)}, {"mail", LOG_INT(mail->kind)});
        abort();
    }
}

static void set_gauge(struct metrics *m, enum metric metric, uint64_t value)
{
    __atomic_store_n(&m->values[metric], value, __ATOMIC_RELAXED);
}

/* The control shard's part: keys that live behind a URL, and what is told of the HTTP service. */
static void tend_auth(struct broker *b, uint64_t now_ms)
{
    struct metrics *m = b->shard->metrics;
    struct http_counts counts;

    auth_tick(b->node->auth, CONTROL_SHARD, now_ms);
    auth_http_counts(b->node->auth, &counts);
    set_gauge(m, METRIC_HTTP_ASKED, counts.sent);
    set_gauge(m, METRIC_HTTP_FAILED, counts.failed);
    set_gauge(m, METRIC_HTTP_REFUSED, counts.refused);
    set_gauge(m, METRIC_HTTP_UNDERWAY, counts.underway);
}

/* Small work that is due now and then. */
static void house_fire(struct timer *timer, uint64_t now_ms)
{
    struct broker *b = CONTAINER_OF(timer, struct broker, house_timer);

    hold_run(b);
    channel_run_warm(&b->conns, now_ms);
    if (b->shard->index == CONTROL_SHARD && b->node->auth->pool) {
        tend_auth(b, now_ms);
    }
    if (b->shard->index == CONTROL_SHARD) {
        sys_sample(b);
    }
    retained_sweep(b->retained, b->shard->wall_ms, SWEEP_STEPS);
    set_gauge(b->shard->metrics, METRIC_RETAINED, retained_count(b->retained));
    set_gauge(b->shard->metrics, METRIC_RETAINED_GRAVES, retained_graves(b->retained));
    set_gauge(b->shard->metrics, METRIC_RETAINED_BYTES, retained_bytes(b->retained));
    if (now_ms - b->trimmed_ms > TRIM_MS) {
        buf_pool_trim(&b->shard->spare, SPARE_BUFFERS);
        message_pool_trim(SPARE_BUFFERS);
        receipt_trim(b);
        parcel_trim(b);
        b->trimmed_ms = now_ms;
    }
    timer_set(b->shard->timers, &b->house_timer, now_ms + HOUSE_MS);
}

static int broker_start(struct shard *shard)
{
    struct broker *b = shard->broker;

    b->shard = shard;
    __atomic_store_n(&b->node->metrics[shard->index], shard->metrics, __ATOMIC_RELEASE); /* for start_sys */
    timer_init(&b->due_timer, goodbye_tick);
    timer_init(&b->house_timer, house_fire);
    timer_set(shard->timers, &b->house_timer, shard->now_ms + HOUSE_MS);
    int failed = cluster_start(b);
    if (failed) {
        return failed;
    }
    for (unsigned i = 0; i < b->node->listener_count; i++) {
        b->doors[i].arrived = connect_arrived;
        int rc = listener_door_start(&b->doors[i], shard, &b->node->listeners[i]);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

/* $SYS needs the metrics of all shards, so it begins when all have started. */
static void start_sys(struct broker *b)
{
    for (unsigned i = 0; i < b->node->shard_count; i++) {
        if (!__atomic_load_n(&b->node->metrics[i], __ATOMIC_ACQUIRE)) {
            return;
        }
    }
    if (sys_start(b) != 0) {
        log_event(LOG_ERROR, "sys_failed", {"reason", LOG_STR("no memory")});
    }
}

static void begin_to_stop(struct broker *b)
{
    b->stopping = true;
    for (unsigned i = 0; i < b->node->listener_count; i++) {
        listener_door_stop(&b->doors[i]);
    }
    goodbye_all(b);
    hold_run(b);
}

/* What the main thread wants: another configuration, or the end. */
static void heed_main(struct broker *b)
{
    const struct config *config = atomic_load_explicit(&b->node->config, memory_order_acquire);
    uint64_t stop_by_ms = atomic_load_explicit(&b->node->stop_by_ms, memory_order_relaxed);

    struct auth_policy *policy = atomic_load_explicit(&b->node->auth->policy, memory_order_acquire);

    if (config != b->config) {
        configure(b, config);
    }
    if (policy != b->policy) {
        b->policy = policy;
        access_policy_changed(b);
        atomic_store(&b->policy_seen, policy);
    }
    if (stop_by_ms != 0 && !b->stopping) {
        begin_to_stop(b);
    }
    if (b->stopping && b->shard->now_ms >= stop_by_ms) {
        for (struct list *at = b->conns.all.next; at != &b->conns.all; at = at->next) {
            conn_drop(CONTAINER_OF(at, struct conn, in_shard)); /* it does not read our last word */
        }
    }
    drain_turn(b);
    if (b->stopping &&
        ((list_empty(&b->conns.all) && drain_settled(b)) || b->shard->now_ms >= stop_by_ms + STOP_GRACE_MS)) {
        shard_stop(b->shard);
    }
}

/* Tell each shard how many of its mails with a receipt have been handled. */
static void report_settled(struct broker *b)
{
    for (unsigned i = 0; i < b->shard->count; i++) {
        struct mail mail = {.kind = MAIL_PUBLISH_DONE, .n = b->settled[i]};
        mail.a = b->settled_logged >> i & 1 ? b->journal.lsn : 0;
        if (b->settled[i] > 0 && shard_post(b->shard, i, &mail) == 0) {
            b->settled[i] = 0;
            b->settled_logged &= ~(1ull << i);
        }
    }
}

static void resume_all(struct list *conns, enum conn_pause reason)
{
    struct list *at;

    while ((at = list_pop(conns)) != NULL) {
        conn_resume(CONTAINER_OF(at, struct conn, in_ready), reason);
    }
}

static void broker_turn_end(struct shard *shard)
{
    struct broker *b = shard->broker;

    journal_turn_begin(b);
    recover_turn(b);
    heed_main(b);
    if (b->node->auth->pool) {
        worker_collect(b->node->auth->pool, shard->index);
    }
    login_run(b);
    bool sweeping = access_sweep(b);
    if (shard->index == CONTROL_SHARD && !b->sys) {
        start_sys(b);
    }
    resume_all(&b->claims, PAUSE_BUSY);
    list_splice(&b->claims, &b->claims_next);
    if (!mail_congested(shard->office, shard->index)) {
        resume_all(&b->congested, PAUSE_CONGESTION);
    }
    bool knocking = channel_run_knocking(&b->conns);
    conn_run_ready(&b->conns.ready);
    replay_run(b);
    checkpoint_turn(b);
    journal_turn_end(b);
    conn_run_dirty(&b->conns.dirty);
    share_flush(b);
    journal_turn_end(b); /* what came of connections that were lost in sending */
    report_settled(b);
    parcel_post_all(b);
    inquire_turn(b);
    cluster_turn_end(b);
    if (!list_empty(&b->conns.ready) || !list_empty(&b->conns.dirty) || !list_empty(&b->replays_ready) ||
        !list_empty(&b->congested) || !list_empty(&b->claims) || knocking || sweeping) {
        shard->busy = true;
    }
    if (shard->index == CONTROL_SHARD) {
        route_table_reclaim(b->node->routes);
    }
    route_table_quiescent(b->node->routes, shard->index);
}

static void broker_awake(struct shard *shard)
{
    struct broker *b = shard->broker;
    route_table_awake(b->node->routes, shard->index);
}

static void broker_asleep(struct shard *shard)
{
    struct broker *b = shard->broker;
    route_table_asleep(b->node->routes, shard->index);
}

/* The last turn is over; who has not left by now is cut off. */
static void broker_stop(struct shard *shard)
{
    struct broker *b = shard->broker;

    sys_stop(b);
    inquire_stop(b);
    timer_cancel(shard->timers, &b->due_timer);
    timer_cancel(shard->timers, &b->house_timer);
    cluster_stop(b);
    while (!list_empty(&b->conns.all)) {
        conn_discard_open(CONTAINER_OF(b->conns.all.next, struct conn, in_shard));
    }
    hold_run(b);
    if (b->node->auth->pool) {
        worker_leave(b->node->auth->pool, shard->index);
    }
    if (b->node->store) {
        store_leave(b->node->store, shard->index);
    }
    message_pool_trim(0); /* it is this thread's, which ends */
    tls_thread_end();
    route_table_asleep(b->node->routes, shard->index);
}

const struct shard_handler broker_shard_handler = {
    .start = broker_start,
    .mail = dispatch_mail,
    .turn_end = broker_turn_end,
    .awake = broker_awake,
    .asleep = broker_asleep,
    .stop = broker_stop,
};
