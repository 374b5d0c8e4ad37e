#include "broker/flow/driver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/base/version.h"
#include "broker/peer/peer_address.h"
#include "broker/peer/seal.h"
#include "cluster/swim.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"

#define PUSH_PULL_MS 30000u

struct driver {
    struct broker *broker;
    struct swim *swim;
    struct seal *seal;
    struct io_datagram socket;
    struct timer timer;
    struct buf out; /* scratch */
    uint64_t push_pull_ms;
    bool listening;
};

static struct driver *driver_of(const struct broker *b)
{
    return b->node->cluster->driver;
}

static uint64_t now_ms(const struct driver *d)
{
    return d->broker->shard->now_ms;
}

/* Every call into the core may bring its next deadline forward. */
static void rearm(struct driver *d)
{
    uint64_t due = swim_due(d->swim);

    timer_set(d->broker->shard->timers, &d->timer, due > d->push_pull_ms ? d->push_pull_ms : due);
}

/* ---- what the core wants ---- */

static void send_plain(void *arg, const struct member_address *to, struct slice plain)
{
    struct driver *d = arg;
    struct sockaddr_storage address;
    socklen_t len = peer_address_to(to, &address);

    d->out.len = 0;
    if (seal_close(d->seal, plain, &d->out) == 0) {
        io_datagram_send(d->broker->shard->io, &d->socket, buf_slice(&d->out), (struct sockaddr *)&address, len);
    }
}

static void member_changed(void *arg, const struct member *member, enum member_state before)
{
    struct driver *d = arg;

    (void)before;
    if (member->state == MEMBER_SUSPECT) {
        log_event(LOG_INFO, "node_suspected", {"node", LOG_STR(member->name)});
    }
    neighbour_changed(d->broker, member, member_living(member));
}

static void conflict(void *arg, const struct member *claimed)
{
    (void)arg;
    log_event(LOG_ERROR, "node_conflict", {"node", LOG_STR(claimed->name)}, {"boot", LOG_INT((int64_t)claimed->boot)},
              {"reason", LOG_STR("somebody else lives under this node's id: a data directory is used twice?")});
}

/* ---- what comes ---- */

static void received(struct io_datagram *datagram, struct slice data, const struct sockaddr *from, socklen_t from_len)
{
    struct driver *d = CONTAINER_OF(datagram, struct driver, socket);
    struct member_address address;
    struct node_id sender;
    struct slice plain;

    (void)from_len;
    if (seal_open(d->seal, data, &plain, &sender) != 0) {
        broker_metric(d->broker, METRIC_GOSSIP_REFUSED, 1);
        return;
    }
    peer_address_of(from, &address);
    swim_receive(d->swim, now_ms(d), &address, plain);
    rearm(d);
}

/* Half of what is known goes to one node after the other over its link: so news that was lost in datagrams gets
 * everywhere. */
static void push(struct driver *d, struct peer_link *link, bool is_answer)
{
    Tern__Members message = TERN__MEMBERS__INIT;

    d->out.len = 0;
    swim_table(d->swim, &d->out);
    if (d->out.failed) {
        d->out.failed = false;
        return;
    }
    message.state.data = d->out.ptr;
    message.state.len = d->out.len;
    message.answer = is_answer;
    (void)peer_put_message(link, LINK_CONTROL, FRAME_MEMBERS, &message.base); /* full: another time */
}

static void push_one(struct driver *d)
{
    struct cluster_shard *cs = d->broker->cluster;
    unsigned first = prng_below(&d->broker->prng, NEIGHBOURS_MAX);

    for (unsigned i = 0; i < NEIGHBOURS_MAX; i++) {
        struct peer_link *link = cs->links[(first + i) % NEIGHBOURS_MAX];
        if (link && link->open) {
            push(d, link, false);
            return;
        }
    }
}

int driver_members(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct driver *d = driver_of(b);
    ProtobufCMessage *decoded;
    int rc = wire_decode(&tern__members__descriptor, body, &link->room->arena, &decoded);

    if (rc) {
        return rc;
    }
    const Tern__Members *m = (const Tern__Members *)decoded;
    bool is_answer = m->answer;
    if (swim_merge(d->swim, now_ms(d), slice_of(m->state.data, m->state.len)) != 0) {
        return -EPROTO;
    }
    if (!is_answer) {
        push(d, link, true);
    }
    rearm(d);
    return 0;
}

void driver_link(struct broker *b, const struct node_id *id, bool open)
{
    struct driver *d = driver_of(b);

    if (open) {
        swim_link_up(d->swim, now_ms(d), id);
    } else {
        swim_link_lost(d->swim, now_ms(d), id);
    }
    rearm(d);
}

void driver_turn(struct broker *b)
{
    struct driver *d = driver_of(b);
    struct seed_list *list = atomic_exchange(&b->node->cluster->seeds_found, NULL);

    for (unsigned i = 0; list && i < list->count; i++) {
        if (!member_address_eq(&list->seeds[i], &b->node->cluster->address)) {
            swim_join(d->swim, now_ms(d), &list->seeds[i]);
        }
    }
    if (list) {
        rearm(d);
        free(list);
    }
}

static void fire(struct timer *timer, uint64_t at_ms)
{
    struct driver *d = CONTAINER_OF(timer, struct driver, timer);

    swim_tick(d->swim, at_ms);
    if (at_ms >= d->push_pull_ms) {
        push_one(d);
        d->push_pull_ms = at_ms + PUSH_PULL_MS;
    }
    rearm(d);
}

/* ---- beginning and end ---- */

static void fill_self(const struct broker *b, struct member *self)
{
    const struct node_cluster *cluster = b->node->cluster;

    *self = (struct member){
        .id = cluster->terms.node_id,
        .boot = cluster->terms.boot,
        .address = cluster->address,
        .wire_min = PEER_WIRE_MIN,
        .wire_max = PEER_WIRE_MAX,
        .features = PEER_FEATURES,
        .shards = (uint8_t)b->shard->count,
        .wall_ms = b->shard->wall_ms,
    };
    snprintf(self->name, sizeof(self->name), "%s", b->config->node_name);
}

int driver_start(struct broker *b)
{
    static const struct io_datagram_handler handler = {received};
    struct node_cluster *cluster = b->node->cluster;
    struct driver *d = calloc(1, sizeof(*d));
    struct swim_options options = {.now_ms = b->shard->now_ms, .seed = prng_next(&b->prng)};

    if (!d) {
        return -ENOMEM;
    }
    cluster->driver = d;
    d->broker = b;
    d->push_pull_ms = b->shard->now_ms + PUSH_PULL_MS;
    d->socket.handler = &handler;
    timer_init(&d->timer, fire);
    fill_self(b, &options.self);
    options.driver = (struct swim_driver){d, send_plain, member_changed, conflict};
    int rc = swim_new(&options, &d->swim);
    rc = rc ? rc
            : seal_new(&cluster->terms.node_id, cluster->terms.boot, cluster->terms.cluster, &cluster->ring, &d->seal);
    rc = rc ? rc : io_datagram_start(b->shard->io, &d->socket, cluster->gossip_fd);
    if (rc == 0) {
        cluster->gossip_fd = -1;
        rearm(d);
    }
    return rc;
}

void driver_stop(struct broker *b)
{
    struct driver *d = driver_of(b);

    if (d) {
        timer_cancel(b->shard->timers, &d->timer);
        swim_free(d->swim);
        seal_free(d->seal);
        buf_deinit(&d->out);
        free(d);
        b->node->cluster->driver = NULL;
    }
}
