/* peer_hello.c -- the first words on a connection between two nodes: who is it, may it, and how far has each side come.
 */
#include <stdio.h>

#include "broker/peer/peer_inside.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"

/* Said to who is a stranger still: the word of its joining is on its way, and it tries again. */
#define NOT_YET "not known as a member yet"
/* And to who asks through a third node, which is late: a connection is there. */
#define REACHED "it is reached without a third node"

static bool is_quiet(const char *why)
{
    return strcmp(why, NOT_YET) == 0 || strcmp(why, REACHED) == 0;
}

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
    wire->epoch = link->epoch;
    fill_expected(&link->flow, expected);
    hello.wire_min = terms->wire_min;
    hello.wire_max = terms->wire_max;
    hello.features = terms->features;
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
        uint32_t oldest = link->flow.lanes[i].oldest, from = i < count ? expected[i] : 0;
        if (!link->dialled && link->was_relayed && (int32_t)(from - oldest) < 0) {
            from = oldest; /* this HELLO has been overtaken by acknowledgements on the other wire */
        }
        if (link_flow_resume(&link->flow, i, from) != 0) {
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

/* The highest version that both speak; 0: none, and a sentence about it. */
static uint32_t common_version(const struct peer_terms *terms, const Tern__Hello *hello, char text[PEER_REFUSAL_BYTES])
{
    uint32_t version = hello->wire_max < terms->wire_max ? hello->wire_max : terms->wire_max;

    if (version < hello->wire_min || version < terms->wire_min) {
        snprintf(text, PEER_REFUSAL_BYTES,
                 "no version of the protocol in common: who dials speaks %u to %u, who is dialled %u to %u",
                 hello->wire_min, hello->wire_max, terms->wire_min, terms->wire_max);
        return 0;
    }
    return version;
}

/* Why this HELLO is not welcome; NULL: it is. May be put into text. */
static const char *refusal(const struct peer_wire *wire, const Tern__Hello *hello, char text[PEER_REFUSAL_BYTES])
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
    if (common_version(terms, hello, text) == 0) {
        return text;
    }
    if (!atomic_load(&terms->has_id) || hello->cluster_id.len == 0) {
        return NOT_YET; /* gossip comes first: it tells which cluster */
    }
    if (memcmp(hello->cluster_id.data, terms->cluster_id, 16) != 0) {
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

    bool news = !is_quiet(why) && peer_stranger_is_news(wire->room, wire->name, why, "");
    log_event(news ? LOG_WARN : LOG_DEBUG, "peer_refused", {"peer", LOG_STR(wire->name)}, {"why", LOG_STR(why)});
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
    if (wire->relay && link->wire && !link->wire->relay &&
        room->shard->now_ms - link->wire->heard_ms < PEER_REACHED_MS) {
        refuse(wire, REACHED);
        return;
    }
    if (link->wire) {
        struct peer_wire *old = link->wire;
        if (old->relay) {
            old->relay->over = true; /* the answer on the new wire tells that, and no link is lost */
        }
        peer_wire_close(old, NULL);
    }
    link->was_relayed |= wire->relay != NULL;
    if (!fresh && (link->number != hello->link || !resume(link, hello->n_expected, hello->expected))) {
        link->number = hello->link;
        fresh = true;
        begin_anew(link);
    }
    wire->link = link;
    link->wire = wire;
    link->features = hello->features & room->terms->features;
    link->version = hello->wire_max < room->terms->wire_max ? hello->wire_max : room->terms->wire_max;
    fill_expected(&link->flow, expected);
    answer.refused = (char *)(uintptr_t) "";
    answer.wire = link->version;
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
    char text[PEER_REFUSAL_BYTES];
    const char *why = hello ? refusal(wire, hello, text) : "HELLO makes no sense";

    if (why) {
        refuse(wire, why);
        return false;
    }
    unsigned shard = hello->shard % room->shard->count;
    if (wire->relay && shard != room->shard->index) {
        refuse(wire, "the third node leads to another shard");
        return false;
    }
    if (shard == room->shard->index) {
        welcome(wire, hello);
        return !wire->closing && !wire->last_word;
    }
    buf_put(&wire->hello, body);
    bool goes_on =
        wire->in.len > 0 && body.ptr + body.len < wire->in.ptr + wire->in.len; /* it came in pieces, or alone */
    if (wire->hello.failed || goes_on) {
        peer_wire_close(wire, wire->hello.failed ? "no memory" : "it speaks before it was answered");
        return false;
    }
    wire->in.len = 0;
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
        char why[PEER_REFUSAL_BYTES + 16];
        bool quiet = link->turned_away || is_quiet(answer->refused);
        snprintf(link->refusal, sizeof(link->refusal), "%s", answer->refused);
        snprintf(why, sizeof(why), "refused: %s", link->refusal);
        link->turned_away |= !quiet;
        peer_wire_close(wire, quiet ? NULL : why);
        return false;
    }
    if (answer->node_id.len != 16 || memcmp(answer->node_id.data, link->id.bytes, 16) != 0 || answer->boot == 0 ||
        answer->boot < link->boot) {
        peer_wire_close(wire, "another node has answered");
        return false;
    }
    if (answer->cluster_id.len != 16 || memcmp(answer->cluster_id.data, wire->room->terms->cluster_id, 16) != 0) {
        peer_wire_close(wire, "another cluster of the same name has answered");
        return false;
    }
    if (answer->wire < wire->room->terms->wire_min || answer->wire > wire->room->terms->wire_max) {
        peer_wire_close(wire, "it answers in a version of the protocol that this node does not speak");
        return false;
    }
    /* An answer that was given before the link ran over another wire tells of a time before that: ask again. */
    if (wire->epoch != link->epoch || !peer_link_adopt(link, wire)) {
        peer_wire_close(wire, NULL);
        return false;
    }
    bool restarted = link->boot != 0 && link->boot != answer->boot;
    link->boot = answer->boot;
    link->features = answer->features & wire->room->terms->features;
    link->version = answer->wire;
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
