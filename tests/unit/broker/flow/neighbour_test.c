/* A node and its neighbour: what it tells of its filters and when, who waits for what, and what it does not put up
 * with. */
#include "tests/unit/broker/flow/neighbour_fixture.h"

#include "proto/mqtt/connect.h"
#include "tests/lib/unit.h"

static const char *const bounded[] = {"sys_interval=0", NULL};
static const char *const strict[] = {"sys_interval=0", "cluster.suback=strict", NULL};
static const char *const local[] = {"sys_interval=0", "cluster.suback=local", NULL};

static struct sim_socket *client(const char *id, enum mqtt_version version)
{
    struct mqtt_connect c = {.version = version, .clean_start = true, .client_id = slice_str(id)};
    struct sim_socket *s = sim_connect(&town.node.net, 0);
    struct buf out = {0};

    mqtt_connect_encode(&out, &c);
    sim_send(s, buf_slice(&out));
    buf_deinit(&out);
    sim_node_settle(&town.node);
    CHECK(s->from_broker.len > 4 - 1 && s->from_broker.ptr[0] == 0x20);
    s->from_broker.len = 0;
    return s;
}

static void says(struct sim_socket *s, const char *hex)
{
    struct slice bytes = unit_hex(hex);
    sim_send(s, bytes);
    free((void *)bytes.ptr);
    sim_node_settle(&town.node);
}

/* Whether exactly this has come from the broker; it is taken. */
static bool hears(struct sim_socket *s, const char *hex)
{
    struct slice want = unit_hex(hex);
    bool is = slice_eq(buf_slice(&s->from_broker), want);

    free((void *)want.ptr);
    s->from_broker.len = 0;
    return is;
}

#define SUBSCRIBE_T "82 06 0001 0001 74 01"
#define SUBSCRIBED "90 03 0001 01"
#define UNSUBSCRIBE_T "a2 05 0002 0001 74"
#define UNSUBSCRIBED "b0 02 0002"

static uint64_t hash_of(const char *topic)
{
    return hash_keyed(&town.node.tables.route_key, slice_str(topic));
}

/* The next word of the route feed, or NULL. Borrowed until the next call. */
static const Tern__Routes *routes_heard(void)
{
    static struct wire_arena arena;
    struct slice body;
    ProtobufCMessage *m;
    uint8_t type;

    while ((type = town_hears(town_out(), LINK_CONTROL, &body)) != 0) {
        if (type == FRAME_ROUTES) {
            CU_ASSERT_FATAL(wire_decode(&tern__routes__descriptor, body, &arena, &m) == 0);
            return (Tern__Routes *)m;
        }
    }
    wire_arena_deinit(&arena);
    arena = (struct wire_arena){0};
    return NULL;
}

/* What there is to hear of the feed: exact filters that come and go, whole sets, and the last barrier. */
struct feed_heard {
    unsigned added, removed, begun, ended, digests;
    uint64_t barrier;
};

static struct feed_heard feed_heard(void)
{
    struct feed_heard h = {0};
    const Tern__Routes *m;

    while ((m = routes_heard()) != NULL) {
        h.added += (unsigned)(m->n_added + m->n_ops);
        h.removed += (unsigned)m->n_removed;
        h.begun += m->begin;
        h.ended += m->end;
        h.digests += m->has_digest;
        h.barrier = m->barrier ? m->barrier : h.barrier;
    }
    return h;
}

static int routes_done(uint64_t barrier, bool again)
{
    Tern__RoutesDone done = TERN__ROUTES_DONE__INIT;

    done.barrier = barrier;
    done.again = again;
    int rc = town_says_message(town_out(), FRAME_ROUTES_DONE, &done.base);
    sim_node_settle(&town.node);
    return rc;
}

/* ---- filters ---- */

static void test_suback(void)
{
    static const struct {
        const char *name;
        const char *const *settings;
        bool at_once, after_a_while;
    } cases[] = {{"local", local, true, true}, {"bounded", bounded, false, true}, {"strict", strict, false, false}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        town_open(cases[i].settings);
        struct sim_socket *c = client("c", MQTT_V311);
        feed_heard();
        says(c, SUBSCRIBE_T);
        struct feed_heard h = feed_heard();
        CHECK_CASE(cases[i].name, h.added == 1 && h.begun == 0);
        CHECK_CASE(cases[i].name, (c->from_broker.len > 0) == cases[i].at_once);
        town_pass(499);
        CHECK_CASE(cases[i].name, (c->from_broker.len > 0) == cases[i].at_once);
        town_pass(2000);
        CHECK_CASE(cases[i].name, (c->from_broker.len > 0) == cases[i].after_a_while);
        if (!cases[i].after_a_while) {
            CHECK_CASE(cases[i].name, routes_done(h.barrier - 1, false) == 0 && c->from_broker.len == 0);
        }
        CHECK_CASE(cases[i].name, h.barrier == 0 || routes_done(h.barrier, false) == 0);
        CHECK_CASE(cases[i].name, hears(c, SUBSCRIBED));
        CHECK_CASE(cases[i].name, routes_done(h.barrier + 1, false) == -EPROTO); /* never asked */
        town_close();
    }
}

/* Who is dead is waited for by nobody. */
static void test_suback_and_death(void)
{
    town_open(strict);
    struct sim_socket *c = client("c", MQTT_V311);
    says(c, SUBSCRIBE_T);
    CHECK(c->from_broker.len == 0);
    neighbour_changed(town_broker(), &town.member, false);
    sim_node_settle(&town.node);
    CHECK(hears(c, SUBSCRIBED));
    town_close();
}

/* A filter leaves only 30 s after its last subscriber, and not at all if there is one again by then. */
static void test_withdrawal(void)
{
    town_open(local);
    struct sim_socket *c = client("c", MQTT_V311);
    says(c, SUBSCRIBE_T);
    CHECK(hears(c, SUBSCRIBED) && feed_heard().added == 1);
    says(c, UNSUBSCRIBE_T);
    CHECK(hears(c, UNSUBSCRIBED));
    town_pass(29000);
    says(c, SUBSCRIBE_T);
    town_pass(60000);
    struct feed_heard h = feed_heard();
    CHECK(h.added == 0 && h.removed == 0);
    says(c, "c000"); /* it lives */
    c = client("d", MQTT_V311);
    says(c, SUBSCRIBE_T);
    says(c, UNSUBSCRIBE_T);
    CHECK(feed_heard().removed == 0);
    town_pass(29999);
    CHECK(feed_heard().removed == 0);
    town_close();

    town_open(local);
    c = client("c", MQTT_V311);
    says(c, SUBSCRIBE_T);
    says(c, UNSUBSCRIBE_T);
    feed_heard();
    town_pass(29999);
    CHECK(feed_heard().removed == 0);
    town_pass(2);
    CHECK(feed_heard().removed == 1);
    town_close();
}

/* One who says that the sum differs is told everything again; and so is one who has lost all. */
static void test_told_again(void)
{
    town_open(local);
    struct sim_socket *c = client("c", MQTT_V311);
    says(c, SUBSCRIBE_T);
    says(c, "82 08 0003 0003 612f2b 00");
    struct feed_heard h = feed_heard();
    CHECK(h.added == 2 && h.digests == 1); /* behind the first, empty set */
    town_pass(30001);
    CHECK(feed_heard().digests == 1);
    CHECK(routes_done(0, true) == 0);
    h = feed_heard();
    CHECK(h.begun == 1 && h.ended == 1 && h.added == 2 && h.digests == 1);
    link_flow_reset(&town_out()->flow);
    cluster_peer_handler.reset(town_out());
    sim_node_settle(&town.node);
    h = feed_heard();
    CHECK(h.begun == 1 && h.ended == 1 && h.added == 2);
    town_close();
}

/* And this node compares what it was told. */
static void test_compares(void)
{
    struct slice body;
    ProtobufCMessage *m;
    struct wire_arena arena = {0};
    Tern__Routes routes = TERN__ROUTES__INIT;
    uint64_t count;

    for (count = 1; count <= 2; count++) {
        town_open(local);
        town_wants(hash_of("t"));
        struct route_digest d = route_table_slot_digest(town.node.tables.routes, 0);
        CHECK(d.count == 1);
        routes.has_digest = true;
        routes.count = count;
        routes.sum = d.sum;
        CHECK(town_says_message(town.in, FRAME_ROUTES, &routes.base) == 0);
        uint8_t type = town_hears(town.in, LINK_CONTROL, &body);
        CHECK(type == (count == 1 ? 0 : FRAME_ROUTES_DONE));
        if (type && wire_decode(&tern__routes_done__descriptor, body, &arena, &m) == 0) {
            CHECK(((Tern__RoutesDone *)m)->again);
        }
        wire_arena_deinit(&arena);
        arena = (struct wire_arena){0};
        town_close();
    }
}

/* ---- messages ---- */

/* Publish of t at QoS 1 with a packet id. */
static void publishes(struct sim_socket *s, unsigned id)
{
    char hex[64];
    snprintf(hex, sizeof(hex), "32 06 0001 74 %04x 78", id);
    says(s, hex);
}

/* The number of the next message on its way; UINT64_MAX: none. */
static uint64_t number_heard(void)
{
    struct slice body, topic, properties, payload;
    struct forward_head head;

    if (town_hears(town_out(), LINK_LIVE, &body) != FRAME_PUBLISH) {
        return UINT64_MAX;
    }
    CHECK(forward_head_read(body, &head, &topic, &properties, &payload) == 0);
    CHECK(slice_eq(topic, slice_str("t")) && head.flags & FORWARD_ANSWER);
    return head.number;
}

/* A PUBACK waits for the other node, and they come in order, in whatever order the answers do [MQTT-4.6.0-2]. */
static void test_acknowledged_in_order(void)
{
    town_open(local);
    struct sim_socket *p = client("p", MQTT_V311);
    town_wants(hash_of("t"));
    for (unsigned i = 1; i <= 4; i++) {
        publishes(p, i);
        CHECK(number_heard() == i - 1);
    }
    CHECK(p->from_broker.len == 0);
    CHECK(town_has(3, 1, 0) == 0 && town_has(1, 1, 0) == 0 && p->from_broker.len == 0);
    CHECK(town_has(0, 1, 0) == 0 && hears(p, "4002 0001 4002 0002"));
    CHECK(town_has(1, 1, 0) == 0 && p->from_broker.len == 0); /* twice: nothing */
    CHECK(town_has(2, 1, 0) == 0 && hears(p, "4002 0003 4002 0004"));
    CHECK(town_has(0, 4, 0) == 0 && town_has(4, 1, 0) == -EPROTO && town_has(1, UINT32_MAX, 0) == -EPROTO);
    CHECK(town_has(UINT64_MAX, 1, 0) == -EPROTO && town_has(UINT64_MAX, 2, 0) == -EPROTO);
    town_close();
}

/* A reason that no PUBACK may have is not handed on to a client. */
static void test_reasons(void)
{
    for (unsigned reason = 0; reason < 256; reason++) {
        char name[16];
        snprintf(name, sizeof(name), "reason %02x", reason);
        town_open(local);
        struct sim_socket *p = client("p", MQTT_V5);
        town_wants(hash_of("t"));
        says(p, "32 07 0001 74 0001 00 78");
        CHECK_CASE(name, number_heard() == 0);
        int rc = town_has(0, 1, (uint8_t)reason);
        uint8_t *got = p->from_broker.ptr;
        uint8_t said = p->from_broker.len == 4 ? 0 : p->from_broker.len >= 5 ? got[4] : 0xff;
        bool may = said == 0 || said == 0x10 || said == 0x80 || said == 0x83 || said == 0x87 || said == 0x90 ||
                   said == 0x91 || said == 0x97 || said == 0x99;
        CHECK_CASE(name, rc == -EPROTO ? p->from_broker.len == 0 : p->from_broker.len > 0 && may);
        CHECK_CASE(name, rc == 0 || (reason != 0 && reason != 0x10 && reason != 0x97));
        town_close();
    }
}

/* The link was reset: what was not answered for is sent again under its number, the rest is not. The node dies: nobody
 * waits any more. */
static void test_reset_and_death(void)
{
    town_open(local);
    struct sim_socket *p = client("p", MQTT_V311);
    town_wants(hash_of("t"));
    for (unsigned i = 1; i <= 3; i++) {
        publishes(p, i);
        number_heard();
    }
    CHECK(town_has(1, 1, 0) == 0);
    link_flow_reset(&town_out()->flow);
    cluster_peer_handler.reset(town_out());
    sim_node_settle(&town.node);
    CHECK(number_heard() == 0 && number_heard() == 2 && number_heard() == UINT64_MAX);
    CHECK(town_has(0, 1, 0) == 0 && hears(p, "4002 0001 4002 0002"));
    neighbour_changed(town_broker(), &town.member, false);
    sim_node_settle(&town.node);
    CHECK(hears(p, "4002 0003"));
    publishes(p, 4);
    CHECK(hears(p, "4002 0004")); /* nobody is there to wait for */
    town.in = NULL;
    neighbour_changed(town_broker(), &town.member, true);
    town_dials();
    town_wants(hash_of("t"));
    publishes(p, 5);
    CHECK(p->from_broker.len == 0 && number_heard() == 0 && town_has(0, 1, 0) == 0 && hears(p, "4002 0005"));
    town_close();
}

/* Too much is on its way: the publisher is not read, and is read again when there is room. */
static void test_full_lane(void)
{
    enum { LARGE = 60000, MANY = 100 };
    static uint8_t packet[LARGE] = {0x32, 0xdd, 0xd4, 0x03, 0, 1, 't', 0, 0};
    unsigned heard = 0, answered = 0;
    uint64_t number;

    town_open(local);
    struct sim_socket *p = client("p", MQTT_V5), *other = client("o", MQTT_V311);
    packet[1] = (uint8_t)((LARGE - 4) % 128 + 128);
    packet[2] = (uint8_t)((LARGE - 4) / 128 % 128 + 128);
    packet[3] = (uint8_t)((LARGE - 4) / 128 / 128);
    town_wants(hash_of("t"));
    for (unsigned i = 0; i < MANY; i++) {
        packet[8] = (uint8_t)(i + 1);
        sim_send(p, slice_of(packet, sizeof(packet)));
        sim_node_settle(&town.node);
    }
    CHECK(p->to_broker.len > 0);
    says(other, "c000");
    CHECK(hears(other, "d000")); /* nobody else is held up */
    while ((number = number_heard()) != UINT64_MAX) {
        CHECK(number == heard);
        heard++;
    }
    CHECK(heard * LARGE > 4u << 20 && heard < MANY);
    while (answered < MANY) {
        CHECK(town_has(answered, 1, 0) == 0);
        answered++;
        while ((number = number_heard()) != UINT64_MAX) {
            CHECK(number == heard);
            heard++;
        }
        if (answered == heard && heard < MANY) {
            break;
        }
    }
    CHECK(heard == MANY && p->to_broker.len == 0 && p->from_broker.len == MANY * 4);
    town_close();
}

/* A message from there is answered for when everybody here has it. */
static void test_arrives(void)
{
    struct buf out = {0};
    struct slice body;

    town_open(local);
    struct sim_socket *c = client("c", MQTT_V311);
    says(c, SUBSCRIBE_T);
    CHECK(hears(c, SUBSCRIBED));
    town_ignores(town.in);
    town_put_publish(&out, 7, 1 | FORWARD_ANSWER, "t", "x");
    CHECK(town_says(town.in, LINK_QOS0, FRAME_PUBLISH, buf_slice(&out)) == -EPROTO); /* not of this lane */
    CHECK(town_says(town.in, LINK_LIVE, FRAME_PUBLISH, buf_slice(&out)) == 0);
    sim_node_settle(&town.node);
    CHECK(hears(c, "32 06 0001 74 0001 78"));
    CHECK(town_hears(town.in, LINK_LIVE, &body) == FRAME_PUBLISH_DONE);
    struct cursor cursor = cursor_at(body);
    CHECK(cursor_u64(&cursor) == 7 && cursor_u32(&cursor) == 1 && cursor_u8(&cursor) == 0 && cursor_left(&cursor) == 0);
    CHECK(town_hears(town.in, LINK_LIVE, &body) == 0);
    buf_deinit(&out);
    town_close();
}

/* ---- what no node says ---- */

static void test_malformed(void)
{
    static const struct {
        const char *name;
        bool ours; /* on the link that this node has dialled */
        uint8_t lane, type;
        const char *hex;
        int want;
    } cases[] = {
        {"of a later version", false, LINK_CONTROL, 200, "01", 0},
        {"routes: no message", false, LINK_CONTROL, FRAME_ROUTES, "ff", -EPROTO},
        {"routes on a link of ours", true, LINK_CONTROL, FRAME_ROUTES, "0801", -EPROTO},
        {"routes: a wildcard that is none", false, LINK_CONTROL, FRAME_ROUTES, "0801 2a05 1203 612f62", -EPROTO},
        {"routes: a filter that is none", false, LINK_CONTROL, FRAME_ROUTES, "0801 2a04 1202 2b2b", -EPROTO},
        {"routes: no filter at all", false, LINK_CONTROL, FRAME_ROUTES, "", 0},
        {"routes done: no message", true, LINK_CONTROL, FRAME_ROUTES_DONE, "ff", -EPROTO},
        {"routes done on a link of theirs", false, LINK_CONTROL, FRAME_ROUTES_DONE, "", -EPROTO},
        {"routes done: of the future", true, LINK_CONTROL, FRAME_ROUTES_DONE, "09 ff00000000000000", -EPROTO},
        {"members: no message", false, LINK_CONTROL, FRAME_MEMBERS, "ff", -EPROTO},
        {"members: no table", false, LINK_CONTROL, FRAME_MEMBERS, "0a03 ffffff", -EPROTO},
        {"claims: no message", false, LINK_CONTROL, FRAME_CLAIMS, "ff", -EPROTO},
        {"claims: of nobody", false, LINK_CONTROL, FRAME_CLAIMS, "0a09 11 0000000000000000", -EPROTO},
        {"claims on a link of ours", true, LINK_CONTROL, FRAME_CLAIMS, "", -EPROTO},
        {"shares: no message", false, LINK_CONTROL, FRAME_SHARES, "ff", -EPROTO},
        {"shares on a link of ours", true, LINK_CONTROL, FRAME_SHARES, "", -EPROTO},
        {"a question: no message", false, LINK_CONTROL, FRAME_SEEK, "ff", -EPROTO},
        {"a question: for nobody", false, LINK_CONTROL, FRAME_SEEK, "", -EPROTO},
        {"a question on a link of ours", true, LINK_CONTROL, FRAME_SEEK, "", -EPROTO},
        {"found: no message", false, LINK_CONTROL, FRAME_FOUND, "ff", -EPROTO},
        {"found: for no shard", false, LINK_CONTROL, FRAME_FOUND, "1040", -EPROTO},
        {"found: what nobody asked", false, LINK_CONTROL, FRAME_FOUND, "1801", 0},
        {"found on a link of ours", true, LINK_CONTROL, FRAME_FOUND, "", -EPROTO},
        {"a relay: no message", false, LINK_DURABLE, FRAME_ATTACH, "ff", -EPROTO},
        {"a relay: of nobody", false, LINK_DURABLE, FRAME_ATTACH, "", -EPROTO},
        {"a relay on a link of ours", true, LINK_DURABLE, FRAME_ATTACH, "", -EPROTO},
        {"relayed: nothing", false, LINK_DURABLE, FRAME_ATTACHED, "", -EPROTO},
        {"relayed: for no shard", false, LINK_DURABLE, FRAME_ATTACHED, "00 ffff 0000000000000000 00000000", -EPROTO},
        {"relayed on a link of ours", true, LINK_DURABLE, FRAME_ATTACHED, "", -EPROTO},
        {"a message: nothing", false, LINK_LIVE, FRAME_PUBLISH, "", -EPROTO},
        {"a message on a link of ours", true, LINK_LIVE, FRAME_PUBLISH, "", -EPROTO},
        {"a message: QoS 3", false, LINK_LIVE, FRAME_PUBLISH,
         "0000000000000000 0000000000000000 ffffffffffffffff 0001 0b 74 00", -EPROTO},
        {"a message: no topic", false, LINK_LIVE, FRAME_PUBLISH,
         "0000000000000000 0000000000000000 ffffffffffffffff 0000 09 00", -EPROTO},
        {"a message: a wildcard", false, LINK_LIVE, FRAME_PUBLISH,
         "0000000000000000 0000000000000000 ffffffffffffffff 0001 09 23 00", -EPROTO},
        {"a message: properties that go on", false, LINK_LIVE, FRAME_PUBLISH,
         "0000000000000000 0000000000000000 ffffffffffffffff 0001 09 74 05 26", -EPROTO},
        {"a message: for nobody", false, LINK_LIVE, FRAME_PUBLISH,
         "0000000000000000 0000000000000000 ffffffffffffffff 0001 09 74 00", 0},
        {"answers: half a one", true, LINK_LIVE, FRAME_PUBLISH_DONE, "0000000000000000 00000001", -EPROTO},
        {"answers: on a link of theirs", false, LINK_LIVE, FRAME_PUBLISH_DONE, "", -EPROTO},
        {"answers: none", true, LINK_LIVE, FRAME_PUBLISH_DONE, "", 0},
        {"answers: to what was never sent", true, LINK_LIVE, FRAME_PUBLISH_DONE, "0000000000000000 00000001 00",
         -EPROTO},
    };

    town_open(local);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice body = unit_hex(cases[i].hex);
        int rc = town_says(cases[i].ours ? town_out() : town.in, cases[i].lane, cases[i].type, body);
        CHECK_CASE(cases[i].name, rc == cases[i].want);
        free((void *)body.ptr);
        sim_node_settle(&town.node);
    }
    struct sim_socket *c = client("c", MQTT_V311);
    says(c, "c000");
    CHECK(hears(c, "d000"));
    town_close();
}

/* A client id is connected once: the newer claim wins, the older changes nothing. */
static void test_claims(void)
{
    Tern__Claim claim = TERN__CLAIM__INIT, *list[] = {&claim};
    Tern__Claims claims = TERN__CLAIMS__INIT;

    town_open(local);
    struct sim_socket *c = client("c", MQTT_V311), *d = client("d", MQTT_V311);
    claims.claims = list;
    claims.n_claims = 1;
    claim.client_id.data = (uint8_t *)"c";
    claim.client_id.len = 1;
    claim.stamp = 1;
    CHECK(town_says_message(town.in, FRAME_CLAIMS, &claims.base) == 0);
    sim_node_settle(&town.node);
    CHECK(!sim_ended(c));
    claim.stamp = (sim_wall_now_ms() + 1) << 16;
    CHECK(town_says_message(town.in, FRAME_CLAIMS, &claims.base) == 0);
    sim_node_settle(&town.node);
    CHECK(sim_ended(c) && !sim_ended(d));
    town_close();
}

/* ---- sessions that are elsewhere ---- */

static const char *const hurried[] = {"sys_interval=0", "cluster.suback=local", "limits.connect_timeout=1s", NULL};

/* The next frame of this type on our link, decoded; NULL: there is none. Borrowed until the next call. */
static const ProtobufCMessage *message_heard(unsigned lane, uint8_t type, const ProtobufCMessageDescriptor *descriptor)
{
    static struct wire_arena arena;
    ProtobufCMessage *decoded = NULL;
    struct slice body;
    uint8_t heard;

    while ((heard = town_hears(town_out(), lane, &body)) != 0 && heard != type) {
    }
    return heard == type && wire_decode(descriptor, body, &arena, &decoded) == 0 ? decoded : NULL;
}

/* A client whose session the neighbour has. Returns the number of its attachment. */
static uint64_t attaches(struct sim_socket **ret_client)
{
    Tern__Found found = TERN__FOUND__INIT;

    atomic_store(&town.cluster->met[neighbour_find(town.cluster, &town.member.id)], true);
    *ret_client = sim_connect(&town.node.net, 0);
    says(*ret_client, "10 0e 0004 4d515454 05 00 003c 00 0001 63");
    CHECK(message_heard(LINK_CONTROL, FRAME_SEEK, &tern__seek__descriptor) == NULL); /* its link is being made */
    town_out()->open = true;
    seek_link_opened(town_broker());
    town_out()->open = false; /* there is no wire */
    const Tern__Seek *seek = (const Tern__Seek *)message_heard(LINK_CONTROL, FRAME_SEEK, &tern__seek__descriptor);
    CU_ASSERT_FATAL(seek && seek->client_id.len == 1 && seek->client_id.data[0] == 'c');
    found.token = seek->token;
    found.shard = seek->shard;
    found.present = true;
    CHECK(town_says_message(town.in, FRAME_FOUND, &found.base) == 0);
    sim_node_settle(&town.node);
    const Tern__Attach *a = (const Tern__Attach *)message_heard(LINK_DURABLE, FRAME_ATTACH, &tern__attach__descriptor);
    CU_ASSERT_FATAL(a && a->connect.len == 16 && a->known);
    return a->id;
}

/* kind u8, shard u16, number u64, value u32, bytes. */
static void says_attached(uint8_t kind, uint64_t id, const char *hex)
{
    struct slice bytes = unit_hex(hex);
    struct buf body = {0};

    buf_u8(&body, kind);
    buf_u16(&body, 0);
    buf_u64(&body, id);
    buf_u32(&body, 0);
    buf_put(&body, bytes);
    CHECK(town_says(town.in, LINK_DURABLE, FRAME_ATTACHED, buf_slice(&body)) == 0);
    sim_node_settle(&town.node);
    buf_deinit(&body);
    free((void *)bytes.ptr);
}

/* Its node does not answer: the client waits no longer than for a CONNECT, and nothing is said before a CONNACK
 * [MQTT-3.14.0-1]. */
static void test_attached_to_silence(void)
{
    struct sim_socket *c;

    town_open(hurried);
    (void)attaches(&c);
    town_pass(900);
    CHECK(!sim_ended(c));
    town_pass(200);
    CHECK(sim_ended(c) && c->from_broker.len == 0);
    town_close();
}

/* Its bytes go there and come from there as they are, and when this node stops nothing is put behind half a packet. */
static void test_attached(void)
{
    struct sim_socket *c;
    struct slice body;

    town_open(hurried);
    uint64_t id = attaches(&c);
    says(c, "c000");
    CHECK(town_hears(town_out(), LINK_DURABLE, &body) == 0); /* it waits for the other side's number */
    says_attached(0, id, "0000000000000009");
    CU_ASSERT_FATAL(town_hears(town_out(), LINK_DURABLE, &body) == FRAME_ATTACHED);
    struct slice want = unit_hex("01 0000 0000000000000009 00000000 c000");
    CHECK(slice_eq(body, want));
    free((void *)want.ptr);
    says_attached(1, id, "20 03 00 00 00 30 07 0001 74 00 61");
    CHECK(hears(c, "20 03 00 00 00 30 07 0001 74 00 61"));
    town_pass(1500); /* CONNECT's deadline is over */
    CHECK(!sim_ended(c));
    sim_node_stop(&town.node);
    CHECK(sim_ended(c) && c->from_broker.len == 0);
    town_close();
}

/* Who only gossips is not asked, and so not waited for. */
static void test_not_sought_at_strangers(void)
{
    town_open(hurried);
    struct sim_socket *c = sim_connect(&town.node.net, 0);
    says(c, "10 0e 0004 4d515454 05 00 003c 00 0001 63");
    CHECK(c->from_broker.len > 3 && c->from_broker.ptr[0] == 0x20);
    town_close();
}

UNIT_MAIN("broker/flow/neighbour", {"SUBACK: local, bounded, strict", test_suback},
          {"SUBACK waits for no dead node", test_suback_and_death}, {"withdrawn after a while", test_withdrawal},
          {"told again", test_told_again}, {"compares", test_compares},
          {"acknowledged in order", test_acknowledged_in_order}, {"reasons", test_reasons},
          {"reset and death", test_reset_and_death}, {"a full lane", test_full_lane},
          {"a message arrives", test_arrives}, {"malformed", test_malformed}, {"claims", test_claims},
          {"attached", test_attached}, {"attached to silence", test_attached_to_silence},
          {"not sought at strangers", test_not_sought_at_strangers})
