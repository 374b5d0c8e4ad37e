/* peer_hello.c -- the first words on a connection between two nodes: who is it, may it, and how far has each side come.
 */
#include <stdio.h>

#include "broker/peer/peer_inside.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"

/* Said to who is a stranger still: the word of its joining is on its way, and it tries again. */
#define NOT_YET "not known as a member yet"

static void set_bytes(ProtobufCBinaryData *to, const uint8_t bytes[16])
{
    to->data = (uint8_t *)(uintptr_t)bytes; /* only read */
    to->len = 16;
}

static void fill_expected(const struct link_flow *flow, uint32_t expected[LINK_KEPT_LANES])
{
    for (unsigned i = 0; i < LINK_KEPT_LANES; i++) {
        expected[i] = flow->lanes[i].expected;
    }
}

static void say(struct peer_wire *wire, enum peer_aside type, const ProtobufCMessage *message)
{
    struct buf *scratch = &wire->room->scratch;

    scratch->len = 0;
    if (wire_encode(message, scratch) != 0 || scratch->len > PEER_GREETING_BYTES) {
        peer_wire_close(wire, "no memory");
        return;
    }
    peer_wire_say(wire, (uint8_t)type, buf_slice(scratch));
}

void peer_link_hello(struct peer_wire *wire)
{
    struct peer_terms *terms = wire->room->terms;
    struct peer_link *link = wire->link;
    uint32_t expected[LINK_KEPT_LANES];
    Tern__Hello hello = TERN__HELLO__INIT;

    if (wire->said_hello || (wire->tls && !tls_open(wire->tls))) {
        return;
    }
    wire->said_hello = true;
    fill_expected(&link->flow, expected);
    hello.wire_min = PEER_WIRE_MIN;
    hello.wire_max = PEER_WIRE_MAX;
    hello.features = PEER_FEATURES;
    hello.cluster = terms->cluster;
    if (atomic_load(&terms->has_id)) {
        set_bytes(&hello.cluster_id, terms->cluster_id);
    }
    set_bytes(&hello.node_id, terms->node_id.bytes);
    hello.boot = terms->boot;
    hello.shard = link->shard;
    hello.link = link->number;
    hello.n_expected = LINK_KEPT_LANES;
    hello.expected = expected;
    set_bytes(&hello.to_node, link->id.bytes);
    say(wire, PEER_HELLO, &hello.base);
}

/* Everything that is owed to the other side is to be told anew. */
static void begin_anew(struct peer_link *link)
{
    link_flow_reset(&link->flow);
    link->room->terms->handler->reset(link);
}

/* The other side has got so far. Returns whether it can go on from there. */
static bool resume(struct peer_link *link, size_t count, const uint32_t *expected)
{
    for (unsigned i = 0; i < LINK_KEPT_LANES; i++) {
        if (link_flow_resume(&link->flow, i, i < count ? expected[i] : 0) != 0) {
            return false;
        }
    }
    return link_flow_resume(&link->flow, LINK_QOS0, 0) == 0;
}

static bool has_received(const struct peer_link *link)
{
    uint32_t any = 0;

    for (unsigned i = 0; i < LINK_KEPT_LANES; i++) {
        any |= link->flow.lanes[i].expected;
    }
    return any != 0;
}

static void opened(struct peer_link *link)
{
    link->open = true;
    link->turned_away = false;
    link->retry_ms = 0;
    peer_wire_greeted(link->wire);
    if (link->room->terms->handler->opened(link) != 0) {
        peer_wire_close(link->wire, "no memory");
        return;
    }
    peer_link_mark(link);
}

/* Whether the other side's certificate is made out to the cluster: its CA may sign others too. */
static bool is_node(const struct peer_wire *wire)
{
    struct buf name = {0};
    bool is = tls_peer_name(wire->tls, "san_dns", &name) == 0 &&
              slice_eq(buf_slice(&name), slice_str(wire->room->terms->cluster));

    buf_deinit(&name);
    return is;
}

/* Why this HELLO is not welcome; NULL: it is. */
static const char *refusal(const struct peer_wire *wire, const Tern__Hello *hello)
{
    const struct peer_terms *terms = wire->room->terms;

    if (wire->tls && !is_node(wire)) {
        return "its certificate is not made out to this cluster";
    }
    if (strcmp(hello->cluster, terms->cluster) != 0) {
        return "the cluster has another name";
    }
    if (hello->node_id.len != 16 || (hello->cluster_id.len != 0 && hello->cluster_id.len != 16) || hello->boot == 0 ||
        hello->shard >= SHARDS_MAX) {
        return "HELLO makes no sense";
    }
    if (hello->wire_min > PEER_WIRE_MAX || hello->wire_max < PEER_WIRE_MIN) {
        return "no version of the protocol in common";
    }
    if (hello->cluster_id.len == 16 && atomic_load(&terms->has_id) &&
        memcmp(hello->cluster_id.data, terms->cluster_id, 16) != 0) {
        return "another cluster of the same name";
    }
    if (memcmp(hello->node_id.data, terms->node_id.bytes, 16) == 0) {
        return "two nodes with one id: a data directory is used twice";
    }
    if (hello->to_node.len == 16 && memcmp(hello->to_node.data, terms->node_id.bytes, 16) != 0) {
        return "another node is at this address now";
    }
    struct node_id id;
    memcpy(id.bytes, hello->node_id.data, sizeof(id.bytes));
    return terms->handler->known(wire->room, &id, hello->boot) ? NULL : NOT_YET;
}

static void refuse(struct peer_wire *wire, const char *why)
{
    Tern__HelloAnswer answer = TERN__HELLO_ANSWER__INIT;
    struct peer_terms *terms = wire->room->terms;

    log_event(strcmp(why, NOT_YET) == 0 ? LOG_DEBUG : LOG_WARN, "peer_refused", {"peer", LOG_STR(wire->name)},
              {"why", LOG_STR(why)});
    answer.refused = (char *)(uintptr_t)why;
    set_bytes(&answer.node_id, terms->node_id.bytes);
    answer.boot = terms->boot;
    wire->last_word = true;
    say(wire, PEER_HELLO_ANSWER, &answer.base);
}

/* The link that this HELLO speaks of, found or made; *ret_fresh: what it was before does not count. */
static struct peer_link *link_of(struct peer_room *room, const Tern__Hello *hello, bool *ret_fresh)
{
    struct node_id id;

    memcpy(id.bytes, hello->node_id.data, sizeof(id.bytes));
    struct peer_link *link = peer_link_find(room, &id, hello->shard);
    if (link && link->boot < hello->boot) {
        peer_hang_up(link);
        link = NULL;
    }
    *ret_fresh = !link;
    if (!link && (link = peer_link_new(room, &id)) != NULL) {
        link->shard = (uint16_t)hello->shard;
        link->boot = hello->boot;
        link->number = hello->link;
    }
    return link;
}

/* On the shard that the link is to live on. */
static void welcome(struct peer_wire *wire, const Tern__Hello *hello)
{
    struct peer_room *room = wire->room;
    Tern__HelloAnswer answer = TERN__HELLO_ANSWER__INIT;
    uint32_t expected[LINK_KEPT_LANES];
    bool fresh;
    struct peer_link *link = link_of(room, hello, &fresh);

    if (!link) {
        refuse(wire, "no memory");
        return;
    }
    if (link->boot > hello->boot) {
        refuse(wire, "this node was started again since: its data directory is used twice, or it is late");
        return;
    }
    if (link->wire) {
        struct peer_wire *old = link->wire;
        peer_wire_close(old, NULL);
    }
    if (!fresh && (link->number != hello->link || !resume(link, hello->n_expected, hello->expected))) {
        link->number = hello->link;
        fresh = true;
        begin_anew(link);
    }
    wire->link = link;
    link->wire = wire;
    link->features = hello->features & PEER_FEATURES;
    fill_expected(&link->flow, expected);
    answer.refused = (char *)(uintptr_t) "";
    answer.wire = hello->wire_max < PEER_WIRE_MAX ? hello->wire_max : PEER_WIRE_MAX;
    answer.features = link->features;
    if (atomic_load(&room->terms->has_id)) {
        set_bytes(&answer.cluster_id, room->terms->cluster_id);
    }
    set_bytes(&answer.node_id, room->terms->node_id.bytes);
    answer.boot = room->terms->boot;
    answer.fresh = fresh;
    answer.n_expected = LINK_KEPT_LANES;
    answer.expected = expected;
    say(wire, PEER_HELLO_ANSWER, &answer.base);
    if (!wire->closing) {
        opened(link);
    }
}

static Tern__Hello *decode_hello(struct peer_room *room, struct slice body)
{
    ProtobufCMessage *m;

    return wire_decode(&tern__hello__descriptor, body, &room->arena, &m) == 0 ? (Tern__Hello *)m : NULL;
}

/* HELLO has come: it is for this shard, for another, or not welcome. Returns false if the wire is elsewhere. */
static bool take_hello(struct peer_wire *wire, struct slice body)
{
    struct peer_room *room = wire->room;
    Tern__Hello *hello = decode_hello(room, body);
    const char *why = hello ? refusal(wire, hello) : "HELLO makes no sense";

    if (why) {
        refuse(wire, why);
        return false;
    }
    unsigned shard = hello->shard % room->shard->count;
    if (shard == room->shard->index) {
        welcome(wire, hello);
        return !wire->closing && !wire->last_word;
    }
    buf_put(&wire->hello, body);
    if (wire->hello.failed || wire->in.len > 0) {
        peer_wire_close(wire, wire->hello.failed ? "no memory" : "it speaks before it was answered");
        return false;
    }
    wire->to_shard = shard;
    peer_link_move(wire);
    return false;
}

void peer_link_move(struct peer_wire *wire)
{
    struct peer_room *room = wire->room;

    if (wire->out.len > 0 || io_stream_sending(&wire->stream)) { /* the end of the handshake: then it comes again */
        peer_wire_flush(wire);
        return;
    }
    timer_cancel(room->shard->timers, &wire->timer);
    list_remove(&wire->in_room);
    room->knocking--;
    int fd = wire->stream.fd;
    io_stream_detach(room->shard->io, &wire->stream);
    wire->stream.fd = fd; /* for peer_wire_arrived */
    room->terms->handler->move(room, wire, wire->to_shard);
}

void peer_wire_arrived(struct peer_room *room, struct peer_wire *wire)
{
    int fd = wire->stream.fd;

    wire->room = room;
    wire->to_shard = 0;
    if (io_stream_attach(room->shard->io, &wire->stream, fd) != 0) {
        wire->stream.fd = fd;
        peer_wire_discard(wire);
        return;
    }
    list_append(&room->wires, &wire->in_room);
    room->knocking++;
    timer_set(room->shard->timers, &wire->timer, room->shard->now_ms + PEER_GREETING_MS);
    Tern__Hello *hello = decode_hello(room, buf_slice(&wire->hello));
    if (!hello) {
        peer_wire_close(wire, "no memory");
        return;
    }
    welcome(wire, hello);
    buf_deinit(&wire->hello);
}

/* Returns false if the wire is closed. */
static bool take_answer(struct peer_wire *wire, struct slice body)
{
    struct peer_link *link = wire->link;
    ProtobufCMessage *m;

    if (wire_decode(&tern__hello_answer__descriptor, body, &wire->room->arena, &m) != 0) {
        peer_wire_close(wire, "the answer to HELLO makes no sense");
        return false;
    }
    const Tern__HelloAnswer *answer = (Tern__HelloAnswer *)m;
    if (answer->refused[0] != '\0') {
        char why[128];
        bool quiet = link->turned_away || strcmp(answer->refused, NOT_YET) == 0;
        snprintf(why, sizeof(why), "refused: %.100s", answer->refused);
        link->turned_away |= !quiet;
        peer_wire_close(wire, quiet ? NULL : why);
        return false;
    }
    if (answer->node_id.len != 16 || memcmp(answer->node_id.data, link->id.bytes, 16) != 0 || answer->boot == 0 ||
        answer->boot < link->boot) {
        peer_wire_close(wire, "another node has answered");
        return false;
    }
    bool restarted = link->boot != 0 && link->boot != answer->boot;
    link->boot = answer->boot;
    link->features = answer->features & PEER_FEATURES;
    bool resumed = resume(link, answer->n_expected, answer->expected);
    if (restarted || !resumed || (answer->fresh && has_received(link))) {
        if (!answer->fresh) { /* it must begin anew with us: under another number */
            link->number = ++link->room->next_number;
            peer_wire_close(wire, "out of step");
            return false;
        }
        begin_anew(link);
    }
    opened(link);
    return !wire->closing;
}

bool peer_link_greet(struct peer_wire *wire, uint8_t type, struct slice body)
{
    if (!wire->dialled && type == PEER_HELLO && !wire->last_word) {
        return take_hello(wire, body);
    }
    if (wire->dialled && type == PEER_HELLO_ANSWER) {
        return take_answer(wire, body);
    }
    peer_wire_close(wire, "it does not say HELLO");
    return false;
}
