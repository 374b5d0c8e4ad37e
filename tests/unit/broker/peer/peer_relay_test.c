/* Two nodes that cannot dial each other, and a third that reaches both. */
#include "tests/unit/broker/peer/peer_nodes.h"

static struct peer_node *a, *b, *c;
static struct peer_link *ab, *ac, *cb;
static struct peer_link *ba, *bc, *ca; /* the other ways: what a third node is asked for goes back by these */

/* An address where nobody listens. */
static struct member_address nowhere(void)
{
    struct member_address address;

    close(open_door(&address));
    return address;
}

/* a and b do not reach each other. */
static void begin(void)
{
    struct member_address closed = nowhere();

    a = add_node(1, 1, PEER_FEATURES);
    b = add_node(1, 1, PEER_FEATURES);
    c = add_node(1, 1, PEER_FEATURES);
    ac = connect_nodes(a, c);
    bc = connect_nodes(b, c);
    ca = connect_nodes(c, a);
    cb = connect_nodes(c, b);
    UNTIL(ac->open && bc->open && ca->open && cb->open);
    ab = peer_dial(&a->room, &b->terms.node_id, &closed);
    ba = NULL;
}

static void put_number(struct peer_link *link, unsigned lane, unsigned number)
{
    char text[16];
    struct slice body = slice_of(text, (size_t)snprintf(text, sizeof(text), "%u,", number));

    CHECK(peer_put(link, lane, 1, 0, &body, 1) == 0);
}

/* All numbers in order, each once. */
static void check_numbers(const struct buf *heard, unsigned count)
{
    struct buf want = {0};
    char text[16];

    for (unsigned i = 0; i < count; i++) {
        buf_put(&want, slice_of(text, (size_t)snprintf(text, sizeof(text), "%u,", i)));
    }
    CHECK(slice_eq(buf_slice(heard), buf_slice(&want)));
    buf_deinit(&want);
}

static void test_through_a_third(void)
{
    begin();
    put_number(ab, LINK_LIVE, 0); /* before there is any way */
    UNTIL(ab->open && b->frames == 1);
    CHECK(ab->wire->relay && ab->wire->relay->carrier == ac->wire);
    for (unsigned i = 1; i < 1000; i++) {
        put_number(ab, LINK_LIVE, i);
    }
    UNTIL(b->frames == 1000 && link_flow_held(&ab->flow, LINK_LIVE) == 0);
    check_numbers(&b->heard, 1000);
    CHECK(c->frames == 0 && a->lost == 0);
    /* both ways are links of their own */
    struct member_address closed = nowhere();
    ba = peer_dial(&b->room, &a->terms.node_id, &closed);
    put_number(ba, LINK_CONTROL, 0);
    UNTIL(a->frames == 1);
    end_nodes();
}

/* Longer than all windows; and QoS 0, which does not go that way. */
static void test_much(void)
{
    size_t len = 3u << 20;
    uint8_t *bytes = malloc(len);

    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    }
    begin();
    UNTIL(ab->open);
    struct slice body = slice_of(bytes, len), small = SLICE("x");
    CHECK(peer_put(ab, LINK_LIVE, 1, 0, &body, 1) == 0);
    CHECK(peer_put(ab, LINK_QOS0, 1, 0, &small, 1) == 0);
    CHECK(peer_put(ab, LINK_CONTROL, 1, 0, &small, 1) == 0);
    UNTIL(b->frames == 2 && link_flow_held(&ab->flow, LINK_LIVE) == 0);
    CHECK(b->heard.len == len + 1 && b->heard.ptr[0] == 'x');
    CHECK(slice_eq(slice_drop(buf_slice(&b->heard), 1), body));
    CHECK(link_flow_held(&ab->flow, LINK_QOS0) == 0);
    CHECK(a->shard->metrics->values[METRIC_DROPPED_LINK_FULL] == 1);
    CHECK(a->lost + b->lost + c->lost == 0);
    end_nodes();
    free(bytes);
}

/* The connection comes back under load: nothing is lost, nothing comes twice, and nobody is told of a loss. */
static void test_back_to_the_connection(void)
{
    unsigned n = 0;

    begin();
    UNTIL(ab->open);
    for (; n < 500; n++) {
        put_number(ab, LINK_LIVE, n);
        if (n % 50 == 0) {
            turn_all();
        }
    }
    ab->address = b->address; /* as if the net were mended: it is dialled all the while */
    while (ab->wire->relay) {
        put_number(ab, LINK_LIVE, n++);
        turn_all();
        CU_ASSERT_FATAL(n < TURNS_MAX);
    }
    CHECK(ab->open && !ab->relayed && ab->wire == ab->direct);
    put_number(ab, LINK_LIVE, n++);
    UNTIL(b->frames == n && link_flow_held(&ab->flow, LINK_LIVE) == 0);
    check_numbers(&b->heard, n);
    CHECK(a->lost == 0 && a->resets == 0 && b->resets == 0);
    end_nodes();
}

static void pump(int from, int to)
{
    char bytes[65536];
    ssize_t n;

    while ((n = recv(from, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        CHECK(send(to, bytes, (size_t)n, 0) == n);
    }
}

/* A HELLO takes its time on a slow connection; meanwhile what it says is overtaken on the relayed wire. */
static void test_an_old_hello(void)
{
    struct member_address slow;
    struct sockaddr_storage to;

    begin();
    UNTIL(ab->open);
    struct peer_link *accepted = peer_link_find(&b->room, &a->terms.node_id, 0);
    put_number(accepted, LINK_LIVE, 0);
    UNTIL(a->frames == 1);
    int door = open_door(&slow), outside = -1, inside = socket(AF_INET, SOCK_STREAM, 0);
    ab->address = slow;
    UNTIL(outside >= 0 || (outside = accept(door, NULL, NULL)) >= 0); /* its HELLO is in there */
    for (unsigned i = 1; i < 100; i++) {
        put_number(accepted, LINK_LIVE, i);
    }
    UNTIL(a->frames == 100 && link_flow_held(&accepted->flow, LINK_LIVE) == 0);
    CHECK(ab->wire->relay != NULL);
    socklen_t len = peer_address_to(&b->address, &to);
    CU_ASSERT_FATAL(connect(inside, (struct sockaddr *)&to, len) == 0);
    for (unsigned i = 0; i < TURNS_MAX && ab->wire->relay; i++) {
        pump(outside, inside);
        pump(inside, outside);
        turn_all();
    }
    CHECK(!ab->wire->relay && ab->open && ab->wire == ab->direct);
    put_number(accepted, LINK_LIVE, 100);
    for (unsigned i = 0; i < TURNS_MAX && a->frames < 101; i++) {
        pump(outside, inside);
        pump(inside, outside);
        turn_all();
    }
    check_numbers(&a->heard, 101);
    CHECK(a->lost == 0 && a->resets == 0 && b->resets == 0);
    close(door);
    close(outside);
    close(inside);
    end_nodes();
}

/* The third node loses one of the two: the wire is closed, another third is found, and what was on its way comes. */
static void test_the_third_goes(void)
{
    begin();
    struct peer_node *d = add_node(1, 1, PEER_FEATURES);
    UNTIL(ab->open);
    for (unsigned i = 0; i < 100; i++) {
        put_number(ab, LINK_LIVE, i);
    }
    peer_hang_up(cb);
    UNTIL(a->lost == 1);
    CHECK(!ab->open);
    struct peer_link *ad = connect_nodes(a, d), *db = connect_nodes(d, b);
    UNTIL(ad->open && db->open && ab->open);
    CHECK(ab->wire->relay->carrier == ad->wire);
    for (unsigned i = 100; i < 200; i++) {
        put_number(ab, LINK_LIVE, i);
    }
    UNTIL(b->frames == 200);
    check_numbers(&b->heard, 200);
    CHECK(a->resets == 0 && b->resets == 0);
    /* and its own connection with who asks */
    peer_wire_close(ad->wire, NULL);
    UNTIL(a->lost >= 2);
    put_number(ab, LINK_LIVE, 200);
    UNTIL(b->frames == 201);
    check_numbers(&b->heard, 201);
    end_nodes();
}

/* Who is reached directly is not asked for through a third node; who does not know how is not asked at all. */
static void test_when_not(void)
{
    begin();
    UNTIL(ab->open);
    peer_redial(ab, &b->address);
    UNTIL(ab->open && !ab->wire->relay);
    struct peer_wire *direct = ab->wire;
    ab->open = false; /* it believes that it has lost the connection */
    peer_relay_try(ab);
    CU_ASSERT_FATAL(ab->relayed != NULL);
    UNTIL(!ab->relayed);
    CHECK(ab->wire == direct && peer_link_find(&b->room, &a->terms.node_id, 0)->wire != NULL);
    CHECK(!peer_link_find(&b->room, &a->terms.node_id, 0)->wire->relay);
    ab->open = true;
    end_nodes();

    begin();
    ac->features = 0; /* an older release */
    for (unsigned i = 0; i < 3000; i++) {
        turn_all();
    }
    CHECK(!ab->open && !ab->relayed);
    ac->features = PEER_FEATURES;
    UNTIL(ab->open);
    end_nodes();
}

UNIT_MAIN("broker/peer/relay", {"through a third node", test_through_a_third}, {"much", test_much},
          {"back to the connection", test_back_to_the_connection}, {"an old HELLO", test_an_old_hello},
          {"the third node goes", test_the_third_goes}, {"when not", test_when_not})
