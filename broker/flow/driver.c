#include "broker/flow/driver_inside.h"

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

static uint64_t now_ms(const struct driver *d)
{
    return d->broker->shard->now_ms;
}

/* Every call into the core may bring its next deadline forward. */
void driver_rearm(struct driver *d)
{
    uint64_t due = swim_due(d->swim);

    due = due > d->push_pull_ms ? d->push_pull_ms : due;
    timer_set(d->broker->shard->timers, &d->timer, due > d->entry.due_ms ? d->entry.due_ms : due);
}

/* ---- what the core wants ---- */

void driver_send(struct driver *d, const struct member_address *to, struct slice plain)
{
    struct sockaddr_storage address;
    socklen_t len = peer_address_to(to, &address);

    d->out.len = 0;
    if (seal_close(d->seal, plain, &d->out) == 0) {
        io_datagram_send(d->broker->shard->io, &d->socket, buf_slice(&d->out), (struct sockaddr *)&address, len);
    }
}

static void send_plain(void *arg, const struct member_address *to, struct slice plain)
{
    driver_send(arg, to, plain);
}

/* Whether it takes part in the cluster that this node belongs to. */
static bool counts(const struct driver *d, const struct member *member)
{
    const struct peer_terms *terms = &d->broker->node->cluster->terms;

    return member_living(member) && !node_id_eq(&member->id, &terms->node_id) && atomic_load(&terms->has_id) &&
           memcmp(member->cluster_id, terms->cluster_id, sizeof(terms->cluster_id)) == 0;
}

/* A stranger has come under a name that is known: its data directory was lost, or somebody gave a name twice. */
static void look_for_namesake(struct driver *d, const struct member *member)
{
    const struct member *other;

    for (unsigned at = 0; member->name[0] && (other = swim_next(d->swim, &at)) != NULL;) {
        if (strcmp(other->name, member->name) != 0 || node_id_eq(&other->id, &member->id)) {
            continue;
        }
        bool replaced = !member_living(other) || member_address_eq(&other->address, &member->address);
        log_event(LOG_WARN, replaced ? "node_replaced" : "node_name_twice", {"node", LOG_STR(member->name)},
                  {"reason", LOG_STR(replaced ? "the same name with a new node id: its data directory is another one"
                                              : "two nodes have one name; nothing depends on it")});
        return;
    }
}

static void member_changed(void *arg, const struct member *member, enum member_state before)
{
    struct driver *d = arg;

    if (member->state == MEMBER_SUSPECT) {
        log_event(LOG_INFO, "node_suspected", {"node", LOG_STR(member->name)});
    }
    if (before == MEMBER_NONE && member_living(member)) {
        look_for_namesake(d, member);
    }
    neighbour_changed(d->broker, member, counts(d, member));
    d->broker->node->cluster->ready_stale = true;
    d->entry.due_ms = d->entry.stage == ENTER_SEEKING ? now_ms(d) : d->entry.due_ms;
}

void driver_count_all(struct driver *d)
{
    const struct member *member;

    for (unsigned at = 0; (member = swim_next(d->swim, &at)) != NULL;) {
        neighbour_changed(d->broker, member, counts(d, member));
    }
}

static void foreign(void *arg, const struct member *member)
{
    struct driver *d = arg;
    char address[PEER_ADDRESS_TEXT], theirs[CLUSTER_ID_TEXT], ours[CLUSTER_ID_TEXT];

    for (unsigned i = 0; i < FOREIGN_MAX; i++) {
        if (node_id_eq(&d->foreign[i], &member->id)) {
            return;
        }
    }
    d->foreign[d->foreign_next++ % FOREIGN_MAX] = member->id;
    peer_address_text(&member->address, address);
    cluster_id_text(member->cluster_id, theirs);
    cluster_id_text(d->broker->node->cluster->terms.cluster_id, ours);
    log_event(LOG_WARN, "node_foreign", {"node", LOG_STR(member->name)}, {"address", LOG_STR(address)},
              {"its_cluster", LOG_STR(theirs)}, {"our_cluster", LOG_STR(ours)},
              {"reason", LOG_STR("another cluster of the same name: it is not taken in")});
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
    if (!enter_received(d, &address, plain)) {
        swim_receive(d->swim, now_ms(d), &address, plain);
    }
    driver_rearm(d);
}

/* Half of what is known goes to one node after the other over its link, and to each when its link opens: so a node that
 * begins knows all at once, and news that was lost in datagrams gets everywhere. */
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
    b->node->cluster->ready_stale |= !d->told;
    d->told = true;
    driver_rearm(d);
    return 0;
}

void driver_link(struct broker *b, struct peer_link *link, bool open)
{
    struct driver *d = driver_of(b);

    if (open) {
        swim_link_up(d->swim, now_ms(d), &link->id);
        push(d, link, false);
    } else {
        swim_link_lost(d->swim, now_ms(d), &link->id);
    }
    driver_rearm(d);
}

static void take_ring(struct driver *d)
{
    struct seal_ring *ring = atomic_exchange(&d->broker->node->cluster->ring_next, NULL);

    if (ring) {
        seal_ring_set(d->seal, ring);
        free(ring);
    }
}

void driver_turn(struct broker *b)
{
    struct driver *d = driver_of(b);
    struct seed_list *list = atomic_exchange(&b->node->cluster->seeds_found, NULL);

    take_ring(d);

    if (list) {
        enter_seeds(d, list);
        driver_rearm(d);
    }
}

/* ---- who leaves ---- */

void driver_draining(struct broker *b, bool draining)
{
    struct driver *d = driver_of(b);
    struct member self;

    if (d->draining != draining) {
        d->draining = draining;
        driver_self(b, &self);
        swim_self(d->swim, now_ms(d), &self);
        driver_rearm(d);
    }
}

unsigned driver_open_nodes(const struct broker *b)
{
    const struct driver *d = driver_of(b);
    const struct member *m;
    unsigned count = 0;

    for (unsigned at = 0; (m = swim_next(d->swim, &at)) != NULL;) {
        count += counts(d, m) && m->state == MEMBER_ALIVE && !(m->features & MEMBER_DRAINING);
    }
    return count;
}

static void note_leaving(struct driver *d)
{
    struct node_cluster *cluster = d->broker->node->cluster;

    for (unsigned i = 0; i < NEIGHBOURS_MAX; i++) {
        const struct member *m = cluster->neighbours[i].alive ? swim_find(d->swim, &cluster->neighbours[i].id) : NULL;
        bool leaving = m && m->features & MEMBER_DRAINING;
        if (atomic_load_explicit(&cluster->leaving[i], memory_order_relaxed) != leaving) {
            atomic_store_explicit(&cluster->leaving[i], leaving, memory_order_relaxed);
        }
    }
    atomic_store(&d->broker->node->drain.others, driver_open_nodes(d->broker));
}

static void fire(struct timer *timer, uint64_t at_ms)
{
    struct driver *d = CONTAINER_OF(timer, struct driver, timer);

    swim_tick(d->swim, at_ms);
    note_leaving(d);
    if (at_ms >= d->push_pull_ms) {
        push_one(d);
        d->push_pull_ms = at_ms + PUSH_PULL_MS;
    }
    enter_step(d);
    driver_rearm(d);
}

/* ---- beginning and end ---- */

void driver_self(const struct broker *b, struct member *self)
{
    const struct node_cluster *cluster = b->node->cluster;

    *self = (struct member){
        .id = cluster->terms.node_id,
        .boot = cluster->terms.boot,
        .address = cluster->address,
        .wire_min = (uint16_t)cluster->terms.wire_min,
        .wire_max = (uint16_t)cluster->terms.wire_max,
        .features = cluster->terms.features | (atomic_load(&b->node->drain.from_ms) ? MEMBER_DRAINING : 0),
        .shards = (uint8_t)b->shard->count,
        .wall_ms = b->shard->wall_ms,
    };
    snprintf(self->name, sizeof(self->name), "%s", b->config->node_name);
    if (atomic_load(&cluster->terms.has_id)) {
        memcpy(self->cluster_id, cluster->terms.cluster_id, sizeof(self->cluster_id));
    }
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
    d->entry.due_ms = UINT64_MAX;
    d->entry.question = (uint32_t)prng_next(&b->prng);
    driver_self(b, &options.self);
    options.driver = (struct swim_driver){d, send_plain, member_changed, conflict, foreign};
    int rc = swim_new(&options, &d->swim);
    rc = rc ? rc
            : seal_new(&cluster->terms.node_id, cluster->terms.boot, cluster->terms.cluster, &cluster->ring, &d->seal);
    rc = rc ? rc : io_datagram_start(b->shard->io, &d->socket, cluster->gossip_fd);
    if (rc == 0) {
        cluster->gossip_fd = -1;
        driver_rearm(d);
    }
    return rc;
}

void driver_stop(struct broker *b)
{
    struct driver *d = driver_of(b);

    if (d) {
        timer_cancel(b->shard->timers, &d->timer);
        enter_deinit(d);
        swim_free(d->swim);
        seal_free(d->seal);
        buf_deinit(&d->out);
        free(d);
        b->node->cluster->driver = NULL;
    }
}

static void list_one(struct buf *out, const struct member *m)
{
    static const char *const states[] = {[MEMBER_NONE] = "unknown",
                                         [MEMBER_ALIVE] = "alive",
                                         [MEMBER_SUSPECT] = "suspect",
                                         [MEMBER_DEAD] = "dead",
                                         [MEMBER_LEFT] = "left"};

    if (out->len > 0) {
        buf_put(out, SLICE("; "));
    }
    buf_put(out, slice_str(m->name));
    buf_u8(out, ' ');
    buf_put(out, slice_str(states[m->state]));
}

void driver_list(const struct broker *b, struct buf *out)
{
    const struct driver *d = driver_of(b);
    const struct member *m;

    for (unsigned at = 0; d && (m = swim_next(d->swim, &at)) != NULL;) {
        list_one(out, m);
    }
}
