/* swim_net.c -- datagrams wait in one list for each ms of the future; a turn is one ms. */
#include "tests/lib/swim_net.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/swim_message.h"

#define JOIN_MS 5000    /* while it knows nobody */
#define REJOIN_MS 60000 /* after that: those who started while they were cut off may know but each other */
#define TABLE_MS 30000

struct net_packet {
    struct net_packet *next;
    unsigned from;
    struct member_address source, to;
    size_t len;
    uint8_t bytes[];
};

struct node_id net_id(unsigned i)
{
    struct node_id id = {{0}};
    id.bytes[0] = 0x7e;
    id.bytes[15] = (uint8_t)i;
    return id;
}

static unsigned index_of(const struct node_id *id)
{
    return id->bytes[15];
}

struct member_address net_address(const struct net *net, unsigned i)
{
    return (struct member_address){.family = 4, .bytes = {10, 0, 0, (uint8_t)(i + 1)}, .port = net->nodes[i].port};
}

static void net_break(struct net *net, const char *what)
{
    net->broken = net->broken ? net->broken : what;
}

static bool percent(struct net *net, unsigned chance)
{
    return prng_below(&net->prng, 100) < chance;
}

static void put_packet(struct net *net, const struct net_packet *packet)
{
    const struct net_options *o = &net->options;
    unsigned delay = 1 + o->delay_min_ms + prng_below(&net->prng, o->delay_max_ms - o->delay_min_ms + 1);
    struct net_packet **at = &net->due[(net->now_ms + delay) % (NET_DELAY_MAX + 1)];
    struct net_packet *copy = malloc(sizeof(*copy) + packet->len);

    assert(delay <= NET_DELAY_MAX && copy);
    memcpy(copy, packet, sizeof(*copy) + packet->len);
    while (*at) {
        at = &(*at)->next;
    }
    copy->next = NULL;
    *at = copy;
}

static void on_send(void *arg, const struct member_address *to, struct slice plain)
{
    struct net_node *node = arg;
    struct net *net = node->net;

    node->sent++;
    if (plain.len > SWIM_DATAGRAM_MAX || plain.len == 0) {
        net_break(net, "a datagram of a size that cannot be");
    }
    if (percent(net, net->options.loss_percent)) {
        return;
    }
    struct net_packet *packet = malloc(sizeof(*packet) + plain.len);
    assert(packet);
    *packet =
        (struct net_packet){.from = node->index, .source = net_address(net, node->index), .to = *to, .len = plain.len};
    memcpy(packet->bytes, plain.ptr, plain.len);
    put_packet(net, packet);
    if (percent(net, net->options.duplicate_percent)) {
        put_packet(net, packet);
    }
    free(packet);
}

static struct member *mirror_of(struct net_node *node, const struct node_id *id)
{
    struct member *unused = NULL;

    for (size_t i = 0; i < COUNT_OF(node->mirror); i++) {
        struct member *m = &node->mirror[i];
        if (m->state != MEMBER_NONE && node_id_eq(&m->id, id)) {
            return m;
        }
        unused = unused || m->state != MEMBER_NONE ? unused : m;
    }
    assert(unused);
    return unused;
}

static bool same(const struct member *a, const struct member *b)
{
    return a->state == b->state && a->boot == b->boot && member_address_eq(&a->address, &b->address) &&
           memcmp(a->cluster_id, b->cluster_id, sizeof(a->cluster_id)) == 0;
}

static void on_changed(void *arg, const struct member *member, enum member_state before)
{
    struct net_node *node = arg;
    struct net *net = node->net;
    struct member *mirror = mirror_of(node, &member->id);
    const struct net_node *truth = &net->nodes[index_of(&member->id)];

    node->told++;
    if (mirror->state != before || same(mirror, member)) {
        net_break(net, "a change told twice or out of order");
    }
    if (truth == node) {
        net_break(net, "a node told of itself");
    }
    if (member->state == MEMBER_DEAD) {
        node->told_dead++;
        node->false_deaths += truth->swim && truth->boot == member->boot && !truth->left;
    }
    *mirror = *member;
}

static void on_conflict(void *arg, const struct member *claimed)
{
    struct net_node *node = arg;

    (void)claimed;
    node->told_conflict++;
}

static void on_foreign(void *arg, const struct member *member)
{
    (void)arg;
    (void)member;
    abort(); /* all are of one cluster */
}

/* What it was told is what its table says. */
static void check_mirror(struct net_node *node)
{
    unsigned at = 0, known = 0, told = 0;

    for (const struct member *m; (m = swim_next(node->swim, &at));) {
        if (index_of(&m->id) != node->index) {
            known++;
            if (!same(m, mirror_of(node, &m->id))) {
                net_break(node->net, "a change that was not told");
            }
        }
    }
    for (size_t i = 0; i < COUNT_OF(node->mirror); i++) {
        told += node->mirror[i].state != MEMBER_NONE;
    }
    if (known != told) {
        net_break(node->net, "a member that came or went untold");
    }
}

struct net *net_new(const struct net_options *options)
{
    struct net *net = calloc(1, sizeof(*net));

    assert(net && options->nodes <= NET_NODES_MAX && options->delay_min_ms <= options->delay_max_ms);
    net->options = *options;
    net->now_ms = 1000000;
    prng_seed(&net->prng, options->seed);
    for (unsigned i = 0; i < options->nodes; i++) {
        net->nodes[i] = (struct net_node){.net = net, .index = i, .port = 7000};
    }
    return net;
}

static void drop_packets(struct net_packet **list)
{
    while (*list) {
        struct net_packet *packet = *list;
        *list = packet->next;
        free(packet);
    }
}

void net_free(struct net *net)
{
    for (unsigned i = 0; i < net->options.nodes; i++) {
        swim_free(net->nodes[i].swim);
    }
    for (unsigned i = 0; i <= NET_DELAY_MAX; i++) {
        drop_packets(&net->due[i]);
    }
    free(net);
}

void net_start(struct net *net, unsigned i)
{
    struct net_node *node = &net->nodes[i];
    struct swim_options options = {
        .self = {.id = net_id(i), .boot = ++node->boot, .wire_max = 1, .shards = 2},
        .driver = {.arg = node, .send = on_send, .changed = on_changed, .conflict = on_conflict, .foreign = on_foreign},
        .now_ms = net->now_ms,
        .seed = prng_next(&net->prng)};

    assert(!node->swim);
    node->port++;
    node->left = node->paused = false;
    memset(node->mirror, 0, sizeof(node->mirror));
    options.self.address = net_address(net, i);
    snprintf(options.self.name, sizeof(options.self.name), "node-%u", i);
    int rc = swim_new(&options, &node->swim);
    assert(rc == 0);
    node->tick_ms = node->join_ms = net->now_ms;
    node->table_ms = net->now_ms + prng_below(&net->prng, TABLE_MS);
}

void net_start_all(struct net *net)
{
    for (unsigned i = 0; i < net->options.nodes; i++) {
        net_start(net, i);
    }
}

void net_crash(struct net *net, unsigned i)
{
    swim_free(net->nodes[i].swim);
    net->nodes[i].swim = NULL;
}

void net_pause(struct net *net, unsigned i, bool paused)
{
    net->nodes[i].paused = paused;
}

void net_forgive(struct net *net)
{
    for (unsigned i = 0; i < net->options.nodes; i++) {
        net->nodes[i].false_deaths = 0;
    }
}

void net_link_lost(struct net *net, unsigned at, unsigned to)
{
    struct node_id id = net_id(to);

    swim_link_lost(net->nodes[at].swim, net->now_ms, &id);
    net->nodes[at].tick_ms = 0;
}

void net_leave(struct net *net, unsigned i)
{
    net->nodes[i].left = true;
    net->nodes[i].tick_ms = 0;
    swim_leave(net->nodes[i].swim, net->now_ms);
}

void net_split(struct net *net, unsigned at)
{
    for (unsigned i = 0; i < net->options.nodes; i++) {
        for (unsigned j = 0; j < net->options.nodes; j++) {
            net->cut[i][j] = (i < at) != (j < at);
        }
    }
}

void net_mend(struct net *net)
{
    memset(net->cut, 0, sizeof(net->cut));
}

static bool runs(const struct net_node *node)
{
    return node->swim && !node->paused;
}

static void deliver(struct net *net, struct net_packet *packet)
{
    for (unsigned i = 0; i < net->options.nodes; i++) {
        struct net_node *node = &net->nodes[i];
        struct member_address address = net_address(net, i);
        if (!node->swim || net->cut[packet->from][i] || !member_address_eq(&address, &packet->to)) {
            continue;
        }
        if (node->paused) {
            put_packet(net, packet);
        } else {
            swim_receive(node->swim, net->now_ms, &packet->source, slice_of(packet->bytes, packet->len));
            node->tick_ms = swim_due(node->swim);
        }
    }
}

static void exchange(struct net_node *from, struct net_node *to)
{
    struct buf table = {0};

    swim_table(from->swim, &table);
    assert(!table.failed);
    to->tick_ms = 0; /* it may be due sooner now */
    if (swim_merge(to->swim, to->net->now_ms, buf_slice(&table)) != 0) {
        net_break(to->net, "a table that is not sound");
    }
    buf_deinit(&table);
}

static void exchange_tables(struct net *net, struct net_node *node)
{
    struct net_node *other = &net->nodes[prng_below(&net->prng, net->options.nodes)];

    node->table_ms = net->now_ms + TABLE_MS;
    if (other == node || !runs(other) || net->options.no_tables || net->cut[node->index][other->index] ||
        net->cut[other->index][node->index] || net_state(net, node->index, other->index) != MEMBER_ALIVE) {
        return;
    }
    exchange(node, other);
    exchange(other, node);
}

static void join(struct net *net, struct net_node *node)
{
    unsigned at = 0, known = 0;

    while (swim_next(node->swim, &at)) {
        known++;
    }
    node->join_ms = net->now_ms + (known == 1 ? JOIN_MS : REJOIN_MS);
    node->tick_ms = 0;
    for (unsigned seed = 0; seed < 2; seed++) {
        struct member_address address = net_address(net, seed);
        swim_join(node->swim, net->now_ms, &address);
    }
}

static void turn(struct net *net)
{
    struct net_packet **due = &net->due[++net->now_ms % (NET_DELAY_MAX + 1)], *list = *due;

    *due = NULL;
    for (struct net_packet *packet = list; packet; packet = packet->next) {
        deliver(net, packet);
    }
    drop_packets(&list);
    for (unsigned i = 0; i < net->options.nodes; i++) {
        struct net_node *node = &net->nodes[i];
        if (!runs(node)) {
            continue;
        }
        if (net->now_ms >= node->join_ms) {
            join(net, node);
        }
        if (net->now_ms >= node->table_ms) {
            exchange_tables(net, node);
        }
    }
    for (unsigned i = 0; i < net->options.nodes; i++) {
        struct net_node *node = &net->nodes[i];
        if (runs(node) && net->now_ms >= node->tick_ms) {
            node->tick_ms = swim_tick(node->swim, net->now_ms);
            if (node->tick_ms <= net->now_ms) {
                net_break(net, "due again at once");
            }
        }
        if (runs(node) && net->now_ms % 1000 == i) {
            check_mirror(node);
        }
    }
}

void net_run(struct net *net, uint64_t ms)
{
    for (uint64_t end = net->now_ms + ms; net->now_ms < end;) {
        turn(net);
    }
}

bool net_run_until(struct net *net, bool (*done)(struct net *net), uint64_t ms)
{
    for (uint64_t end = net->now_ms + ms; net->now_ms < end && !done(net);) {
        net_run(net, 100);
    }
    return done(net);
}

enum member_state net_state(struct net *net, unsigned at, unsigned of)
{
    struct node_id id = net_id(of);
    const struct member *m = swim_find(net->nodes[at].swim, &id);

    return m ? m->state : MEMBER_NONE;
}

/* What node `at` thinks of node `of` is true, and what `other` thinks too. */
static bool agrees_on(struct net *net, unsigned at, unsigned other, unsigned of)
{
    const struct net_node *truth = &net->nodes[of];
    struct node_id id = net_id(of);
    struct member_address address = net_address(net, of);
    const struct member *m = swim_find(net->nodes[at].swim, &id), *theirs = swim_find(net->nodes[other].swim, &id);

    if (!m || !theirs) {
        return !truth->swim && m == theirs;
    }
    if (truth->swim && !truth->left &&
        (m->state != MEMBER_ALIVE || m->boot != truth->boot || !member_address_eq(&m->address, &address))) {
        return false;
    }
    return m->incarnation == theirs->incarnation && same(m, theirs) &&
           (member_living(m) ? truth->swim && !truth->left : !truth->swim || truth->left);
}

bool net_agrees(struct net *net)
{
    unsigned first = 0;

    while (first < net->options.nodes && !runs(&net->nodes[first])) {
        first++;
    }
    for (unsigned i = 0; i < net->options.nodes; i++) {
        for (unsigned of = 0; runs(&net->nodes[i]) && of < net->options.nodes; of++) {
            if (!agrees_on(net, i, first, of)) {
                return false;
            }
        }
    }
    return true;
}
