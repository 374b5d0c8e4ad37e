/* Who knocks at a node's door, and what that costs it. */
#include "tests/unit/broker/peer/peer_fixture.h"

static struct node a;

static void begin(unsigned shards)
{
    fixture_now_ns = UINT64_C(1000000000000);
    clock_set(&fixture_clock);
    log_setup(STDERR_FILENO, LOG_ERROR, LOG_TEXT);
    node_start(&a, 1, 1, shards, 0);
}

static void end(void)
{
    node_end(&a);
    clock_set(NULL);
}

static int knock(void)
{
    int fd = fixture_connect(&a.address);
    CU_ASSERT_FATAL(fd >= 0);
    return fd;
}

/* What is answered to a HELLO: the text of the refusal, "" if welcome, NULL if nothing that can be read. */
static const char *answer_of(struct buf *heard)
{
    static char text[200];
    struct wire_arena arena = {0};
    struct link_frame frame;
    ProtobufCMessage *m;
    const char *refused = NULL;

    if (heard->len >= LINK_HEADER_BYTES) {
        link_frame_read(heard->ptr, &frame);
        if (frame.type == PEER_HELLO_ANSWER && heard->len >= LINK_HEADER_BYTES + frame.len &&
            wire_decode(&tern__hello_answer__descriptor, slice_of(heard->ptr + LINK_HEADER_BYTES, frame.len), &arena,
                        &m) == 0) {
            snprintf(text, sizeof(text), "%s", ((Tern__HelloAnswer *)m)->refused);
            refused = text;
        }
    }
    wire_arena_deinit(&arena);
    return refused;
}

static unsigned opened_at(const struct node *node)
{
    return node->rooms[0].accepted.opened + node->rooms[1].accepted.opened;
}

/* ---- the greeting ---- */

static char other_name[] = "another", no_name[] = "", long_name[300];
static uint8_t ours[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, else_id[16] = {5};

static void change_name(Tern__Hello *h)
{
    h->cluster = other_name;
}

static void change_no_name(Tern__Hello *h)
{
    h->cluster = no_name;
}

static void change_long_name(Tern__Hello *h)
{
    memset(long_name, 't', sizeof(long_name) - 1);
    h->cluster = long_name;
}

static void change_version(Tern__Hello *h)
{
    h->wire_min = PEER_WIRE_MAX + 1;
    h->wire_max = PEER_WIRE_MAX + 5;
}

static void change_no_version(Tern__Hello *h)
{
    h->wire_min = h->wire_max = 0;
}

static void change_wider_version(Tern__Hello *h)
{
    h->wire_max = 1000;
}

static void change_cluster_id(Tern__Hello *h)
{
    h->cluster_id.data = else_id;
    h->cluster_id.len = 16;
}

static void change_short_cluster_id(Tern__Hello *h)
{
    h->cluster_id.data = else_id;
    h->cluster_id.len = 15;
}

static void change_short_id(Tern__Hello *h)
{
    h->node_id.len = 15;
}

static void change_our_id(Tern__Hello *h)
{
    h->node_id.data = ours;
}

static void change_to_node(Tern__Hello *h)
{
    h->to_node.data = else_id;
    h->to_node.len = 16;
}

static void change_to_us(Tern__Hello *h)
{
    h->to_node.data = ours;
    h->to_node.len = 16;
}

static void change_boot(Tern__Hello *h)
{
    h->boot = 0;
}

static void change_shard(Tern__Hello *h)
{
    h->shard = SHARDS_MAX;
}

static void change_nothing(Tern__Hello *h)
{
    (void)h;
}

static void change_expected(Tern__Hello *h)
{
    static uint32_t expected[] = {7, 8, 9, 10, 11, 12};
    h->expected = expected;
    h->n_expected = COUNT_OF(expected);
}

static void test_refusals(void)
{
    static const struct {
        const char *name;
        void (*change)(Tern__Hello *h);
        const char *want; /* part of the refusal; "": welcome */
    } cases[] = {
        {"as it should be", change_nothing, ""},
        {"meant for us", change_to_us, ""},
        {"more versions than one", change_wider_version, ""},
        {"a link that it takes for an old one", change_expected, ""},
        {"another name", change_name, "another name"},
        {"no name", change_no_name, "another name"},
        {"a long name", change_long_name, "another name"},
        {"later versions only", change_version, "no version"},
        {"no version", change_no_version, "no version"},
        {"another cluster id", change_cluster_id, "of the same name"},
        {"half a cluster id", change_short_cluster_id, "no sense"},
        {"half an id", change_short_id, "no sense"},
        {"our id", change_our_id, "two nodes with one id"},
        {"for somebody else", change_to_node, "another node"},
        {"never started", change_boot, "no sense"},
        {"no such shard", change_shard, "no sense"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out = {0}, heard = {0};
        Tern__Hello hello;
        begin(2);
        hello_begin(&hello);
        cases[i].change(&hello);
        put_hello(&out, &hello);
        int fd = knock();
        stranger_says(fd, buf_slice(&out));
        bool over = false;
        UNTIL((over = is_cut(fd, &heard)) || opened_at(&a) > 0);
        const char *answer = NULL;
        UNTIL((is_cut(fd, &heard), answer = answer_of(&heard)) != NULL);
        bool welcome = cases[i].want[0] == '\0';
        CHECK_CASE(cases[i].name, answer && (welcome ? answer[0] == '\0' : strstr(answer, cases[i].want) != NULL));
        CHECK_CASE(cases[i].name, welcome == (opened_at(&a) == 1) && over == !welcome);
        CHECK_CASE(cases[i].name, knocking(&a) == 0);
        buf_deinit(&out);
        buf_deinit(&heard);
        close(fd);
        end();
    }
}

/* Who is no member yet is told so, and is welcome as soon as it is one. */
static void test_not_yet_known(void)
{
    static struct node b;

    begin(1);
    node_start(&b, 2, 1, 1, 0);
    a.knows_nobody = true;
    struct peer_link *out = dial_to(&b, 0, &a, &a.address);
    pass(2000);
    CHECK(!out->open && opened_at(&a) == 0);
    a.knows_nobody = false;
    UNTIL(out->open && opened_at(&a) == 1);
    node_end(&b);
    end();
}

/* A network may tear a greeting to pieces: it counts when it has come, for each of the shards. */
static void test_hello_in_pieces(void)
{
    for (unsigned shard = 0; shard < 2; shard++) {
        struct buf out = {0}, heard = {0};
        Tern__Hello hello;
        begin(2);
        hello_begin(&hello);
        hello.shard = shard;
        put_hello(&out, &hello);
        int fd = knock();
        for (uint32_t i = 0; i < out.len; i++) {
            stranger_says(fd, slice_of(out.ptr + i, 1));
            for (unsigned k = 0; k < 3; k++) {
                turn_all();
            }
        }
        bool cut = false;
        UNTIL((cut = is_cut(fd, &heard)) || a.rooms[shard].accepted.opened == 1);
        CHECK(!cut && a.rooms[shard].accepted.opened == 1);
        buf_deinit(&out);
        buf_deinit(&heard);
        close(fd);
        end();
    }
}

/* ---- what no node says ---- */

static void garbage_4gb(struct buf *out)
{
    put_frame(out, LINK_ASIDE, PEER_HELLO, 0, UINT32_MAX, slice_of("x", 1));
}

static void garbage_long_hello(struct buf *out)
{
    put_frame(out, LINK_ASIDE, PEER_HELLO, 0, PEER_GREETING_BYTES + 1, slice_of("x", 1));
}

static void garbage_lane(struct buf *out)
{
    put_frame(out, LINK_LIVE, PEER_HELLO, 0, 1, slice_of("x", 1));
}

static void garbage_answer(struct buf *out)
{
    put_frame(out, LINK_ASIDE, PEER_HELLO_ANSWER, 0, 0, slice_of(NULL, 0));
}

static void garbage_ack(struct buf *out)
{
    put_frame(out, LINK_ASIDE, PEER_ACK, 0, LINK_ACK_BYTES, slice_of("\0\0\0\0\0\0\0\0\0\0\0", 12));
}

static void garbage_http(struct buf *out)
{
    buf_put(out, slice_str("GET / HTTP/1.1\r\nHost: tern\r\n\r\n"));
}

static void garbage_tls(struct buf *out)
{
    buf_put(out, slice_of("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00", 15));
}

static void garbage_hello(struct buf *out)
{
    put_frame(out, LINK_ASIDE, PEER_HELLO, 0, 8, slice_of("\xff\xff\xff\xff\xff\xff\xff\xff", 8));
}

static void garbage_empty_hello(struct buf *out)
{
    put_frame(out, LINK_ASIDE, PEER_HELLO, 0, 0, slice_of(NULL, 0));
}

static void test_garbage(void)
{
    static const struct {
        const char *name;
        void (*make)(struct buf *out);
    } cases[] = {
        {"4 GB of HELLO", garbage_4gb},
        {"a long HELLO", garbage_long_hello},
        {"a message first", garbage_lane},
        {"an answer first", garbage_answer},
        {"an acknowledgement first", garbage_ack},
        {"HTTP", garbage_http},
        {"TLS to a plain node", garbage_tls},
        {"bytes as HELLO", garbage_hello},
        {"nothing as HELLO", garbage_empty_hello},
    };

    begin(1);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out = {0};
        uint64_t before = fixture_now_ns;
        cases[i].make(&out);
        int fd = knock();
        stranger_says(fd, buf_slice(&out));
        UNTIL(is_cut(fd, NULL));
        CHECK_CASE(cases[i].name, fixture_now_ns - before < UINT64_C(1000000) * PEER_GREETING_MS); /* at once */
        CHECK_CASE(cases[i].name, knocking(&a) == 0 && opened_at(&a) == 0);
        buf_deinit(&out);
        close(fd);
    }
    end();
}

/* ---- and what a node does that has gone mad, behind its HELLO ---- */

static void mad_4gb(struct buf *out)
{
    put_frame(out, LINK_LIVE, 99, 0, UINT32_MAX, slice_of("x", 1));
}

static void mad_too_long(struct buf *out)
{
    put_frame(out, LINK_QOS0, 99, 0, FRAME_MAX + 1, slice_of("x", 1));
}

static void mad_control(struct buf *out)
{
    put_frame(out, LINK_CONTROL, 99, 0, PEER_CONTROL_BYTES + 1, slice_of("x", 1));
}

static void mad_lane(struct buf *out)
{
    put_frame(out, 200, 99, 0, 1, slice_of("x", 1));
}

static void mad_gap(struct buf *out)
{
    put_frame(out, LINK_LIVE, 99, 1, 1, slice_of("x", 1));
}

static void mad_ack(struct buf *out)
{
    put_frame(out, LINK_ASIDE, PEER_ACK, 0, LINK_ACK_BYTES, slice_of("\0\0\0\1\0\0\0\0\0\0\0", 12));
}

static void mad_short_ack(struct buf *out)
{
    put_frame(out, LINK_ASIDE, PEER_ACK, 0, 4, slice_of("\0\0\0", 4));
}

static void mad_hello(struct buf *out)
{
    Tern__Hello hello;
    hello_begin(&hello);
    put_hello(out, &hello);
}

static void test_mad_node(void)
{
    static const struct {
        const char *name;
        void (*make)(struct buf *out);
    } cases[] = {
        {"4 GB", mad_4gb},
        {"longer than frames are", mad_too_long},
        {"a long frame of control", mad_control},
        {"no such lane", mad_lane},
        {"a frame is missing", mad_gap},
        {"acknowledges what never was", mad_ack},
        {"half an acknowledgement", mad_short_ack},
        {"HELLO again", mad_hello},
    };

    begin(1);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out = {0};
        Tern__Hello hello;
        hello_begin(&hello);
        hello.link = 10 + i;
        put_hello(&out, &hello);
        int fd = knock();
        stranger_says(fd, buf_slice(&out));
        unsigned lost = a.rooms[0].accepted.lost;
        UNTIL(opened_at(&a) == i + 1);
        out.len = 0;
        cases[i].make(&out);
        stranger_says(fd, buf_slice(&out));
        UNTIL(is_cut(fd, NULL));
        CHECK_CASE(cases[i].name, a.rooms[0].accepted.lost == lost + 1 && a.rooms[0].accepted.frames == 0);
        CHECK_CASE(cases[i].name, a.rooms[0].accepted.ended == 0); /* the link stays, its connection does not */
        buf_deinit(&out);
        close(fd);
    }
    end();
}

/* ---- who says nothing, and who is many ---- */

static void test_deadline(void)
{
    struct buf out = {0};
    Tern__Hello hello;

    begin(1);
    hello_begin(&hello);
    put_hello(&out, &hello);
    int silent = knock(), half = knock(), slow = knock();
    stranger_says(half, slice_of(out.ptr, out.len - 1));
    UNTIL(knocking(&a) == 3);
    uint64_t begun = fixture_now_ns;
    for (unsigned i = 0; i < 4; i++) { /* each byte a second: that is not a HELLO in time */
        stranger_says(slow, slice_of(out.ptr + i, 1));
        pass(1000);
    }
    CHECK(knocking(&a) == 3 && !is_cut(silent, NULL));
    UNTIL(is_cut(silent, NULL) && is_cut(half, NULL) && is_cut(slow, NULL));
    CHECK(fixture_now_ns - begun <= UINT64_C(1000000) * (PEER_GREETING_MS + 1000));
    CHECK(knocking(&a) == 0 && list_empty(&a.rooms[0].peer.wires));
    close(silent);
    close(half);
    close(slow);
    buf_deinit(&out);
    end();
}

/* However many strangers stand before the door: only so many are listened to, and a node of the cluster gets in between
 * them. */
static void test_crowd(void)
{
    enum { CROWD = PEER_KNOCKING_MAX + 100 };
    int crowd[CROWD];
    struct buf out = {0};
    Tern__Hello hello;
    unsigned most = 0;

    begin(1);
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = knock();
        turn_all();
        most = knocking(&a) > most ? knocking(&a) : most;
    }
    UNTIL(knocking(&a) == PEER_KNOCKING_MAX);
    CHECK(most <= PEER_KNOCKING_MAX);
    hello_begin(&hello);
    put_hello(&out, &hello);
    int fd = knock();
    uint64_t before = fixture_now_ns;
    stranger_says(fd, buf_slice(&out));
    bool cut = false;
    UNTIL((cut = is_cut(fd, NULL)) || opened_at(&a) == 1);
    CHECK(!cut && opened_at(&a) == 1);
    CHECK(fixture_now_ns - before < UINT64_C(1000000) * PEER_GREETING_MS / 2); /* not because the others had to go */
    pass(PEER_GREETING_MS + STEP_MS);
    CHECK(knocking(&a) == 0);
    for (unsigned i = 0; i < CROWD; i++) {
        close(crowd[i]);
    }
    close(fd);
    buf_deinit(&out);
    end();
}

/* ---- the log ---- */

/* How often the log, which is a file, has this. */
static unsigned logged(int fd, const char *text)
{
    static char all[1 << 18];
    ssize_t n = pread(fd, all, sizeof(all) - 1, 0);
    unsigned count = 0;

    all[n > 0 ? n : 0] = '\0';
    for (const char *at = all; (at = strstr(at, text)) != NULL; at++) {
        count++;
    }
    return count;
}

/* A stranger who comes again and again is named once for each of his reasons, and after a while once more. */
static void test_named_once(void)
{
    char path[] = "/tmp/tern-peer-log-XXXXXX";
    int log = mkstemp(path);
    Tern__Hello hello;
    struct buf out = {0};

    unlink(path);
    begin(1);
    log_setup(log, LOG_WARN, LOG_TEXT);
    hello_begin(&hello);
    change_name(&hello);
    put_hello(&out, &hello);
    for (unsigned round = 1; round <= 2; round++) {
        for (unsigned i = 0; i < 60; i++) {
            int refused = knock(), mad = knock(), silent = knock();
            stranger_says(refused, buf_slice(&out));
            stranger_says(mad, slice_str("GET / HTTP/1.1\r\n"));
            UNTIL(is_cut(refused, NULL) && is_cut(mad, NULL));
            pass(PEER_GREETING_MS + STEP_MS);
            CHECK(is_cut(silent, NULL));
            close(refused);
            close(mad);
            close(silent);
        }
        CHECK(logged(log, "event=peer_refused") == round);
        CHECK(logged(log, "it does not say HELLO") == round);
        CHECK(logged(log, "no HELLO in time") == round);
        CHECK(logged(log, "127.0.0.1") == 3 * round);
        fixture_now_ns += UINT64_C(1000000) * 3600 * 1000;
    }
    buf_deinit(&out);
    end();
    close(log);
}

UNIT_MAIN("broker/peer/peer_door", {"who is refused, and who not", test_refusals},
          {"not known yet", test_not_yet_known}, {"a HELLO in pieces", test_hello_in_pieces}, {"garbage", test_garbage},
          {"a mad node", test_mad_node}, {"a deadline", test_deadline}, {"a crowd", test_crowd},
          {"named once", test_named_once})
