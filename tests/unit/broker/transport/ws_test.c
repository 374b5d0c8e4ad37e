/* ws_test.c -- frames of WebSocket connections of both roles (RFC 6455, 5 and 7); memory that runs out. */
#include "tests/unit/broker/transport/ws_fixture.h"

#define M "00000000 " /* a mask that leaves the payload legible */
#define A25 "41414141414141414141414141414141414141414141414141 "
#define A125 A25 A25 A25 A25 A25

static const struct {
    const char *name, *hex, *mqtt, *answer;
    int want;
} frames[] = {
    {"one packet", "82 82" M "c000", "c000", "", 0},
    {"5.7's mask", "82 85 37fa213d 7f9f4d5158", "48656c6c6f", "", 0},
    {"two packets in one frame [MQTT-6.0.0-2]", "82 84" M "c000 c000", "c000c000", "", 0},
    {"one packet in two frames [MQTT-6.0.0-2]", "82 81" M "c0  82 81" M "00", "c000", "", 0},
    {"across their boundary [MQTT-6.0.0-2]", "82 83" M "c000c0  82 81" M "00", "c000c000", "", 0},
    {"a message in fragments (5.4)", "02 81" M "c0  00 81" M "00  80 82" M "d000", "c000d000", "", 0},
    {"a Ping between fragments (5.4)", "02 81" M "c0  89 81" M "41  80 81" M "00", "c000", "8a 01 41", 0},
    {"empty frames and fragments", "82 80" M "02 80" M "00 80" M "80 80" M "82 82" M "c000", "c000", "", 0},
    {"a frame of 126 bytes, as far as it goes", "82 fe 007e" M "c000", "c000", "", 0},
    {"a frame of 2^63 - 1 bytes, as far as it goes", "82 ff 7fffffffffffffff" M "c000d0", "c000d0", "", 0},
    {"Ping (5.5.2)", "89 85 37fa213d 7f9f4d5158", "", "8a 05 48656c6c6f", 0},
    {"empty Ping", "89 80" M, "", "8a 00", 0},
    {"two Pings, two Pongs", "89 81" M "41 89 81" M "42", "", "8a 01 41 8a 01 42", 0},
    {"longest Ping", "89 fd" M A125, "", "8a 7d" A125, 0},
    {"Pong that nobody asked for (5.5.3)", "8a 81" M "41 8a 80" M "82 82" M "c000", "c000", "", 0},
    {"Close (5.5.1)", "88 82" M "03e8", "", "88 02 03e8", -ECONNRESET},
    {"Close without a code", "88 80" M, "", "88 00", -ECONNRESET},
    {"Close with a reason", "88 85" M "03e9 627965", "", "88 02 03e9", -ECONNRESET},
    {"Close of an application", "88 82" M "1387", "", "88 02 1387", -ECONNRESET},
    {"Close between fragments", "02 81" M "c0 88 82" M "03e8", "c0", "88 02 03e8", -ECONNRESET},
    {"what came before Close is handed out", "82 82" M "c000 88 82" M "03e8", "c000", "88 02 03e8", -ECONNRESET},
    {"what comes behind it is not", "88 82" M "03e8 82 82" M "c000 89 80" M, "", "88 02 03e8", -ECONNRESET},
    {"Close with half a code", "88 81" M "03", "", "88 02 03ea", -EPROTO},
    {"Close with 1005 (7.4.1)", "88 82" M "03ed", "", "88 02 03ea", -EPROTO},
    {"Close with 1006 (7.4.1)", "88 82" M "03ee", "", "88 02 03ea", -EPROTO},
    {"Close with 999 (7.4.2)", "88 82" M "03e7", "", "88 02 03ea", -EPROTO},
    {"Close with 5000 (7.4.2)", "88 82" M "1388", "", "88 02 03ea", -EPROTO},
    {"Close with a reason that is not UTF-8 (8.1)", "88 83" M "03e8 ff", "", "88 02 03ef", -EPROTO},
    {"not masked (5.1)", "82 02 c000", "", "88 02 03ea", -EPROTO},
    {"a Ping that is not masked (5.1)", "89 00", "", "88 02 03ea", -EPROTO},
    {"text [MQTT-6.0.0-1]", "81 82" M "c000", "", "88 02 03eb", -EPROTO},
    {"text in fragments [MQTT-6.0.0-1]", "01 81" M "41", "", "88 02 03eb", -EPROTO},
    {"what came before text is handed out", "82 82" M "c000 81 80" M, "c000", "88 02 03eb", -EPROTO},
    {"a continuation of nothing (5.4)", "80 82" M "c000", "", "88 02 03ea", -EPROTO},
    {"a continuation behind the last (5.4)", "02 80" M "80 80" M "80 80" M, "", "88 02 03ea", -EPROTO},
    {"a message within another (5.4)", "02 81" M "c0 82 81" M "00", "c0", "88 02 03ea", -EPROTO},
    {"RSV1 (5.2)", "c2 80" M, "", "88 02 03ea", -EPROTO},
    {"opcode 3 (5.2)", "83 80" M, "", "88 02 03ea", -EPROTO},
    {"fragmented Ping (5.5)", "09 80" M, "", "88 02 03ea", -EPROTO},
    {"long Ping (5.5)", "89 fe 007e" M, "", "88 02 03ea", -EPROTO},
    {"length not minimal (5.2)", "82 fe 0001" M "c0", "", "88 02 03ea", -EPROTO},
    {"length with the highest bit (5.2)", "82 ff 8000000000000000" M, "", "88 02 03ea", -EPROTO},
};

static struct ws *open_server(void)
{
    struct buf request = request_with(LINE_MORE, "");
    struct ws *ws = ws_server_new(&plain_terms);
    struct outcome o = {0};

    feed(ws, buf_slice(&request), cuts[0], &o);
    CHECK(ws_open(ws));
    outcome_deinit(&o);
    buf_deinit(&request);
    return ws;
}

static bool hex_eq(const struct buf *got, const char *hex)
{
    struct slice want = unit_hex(hex);
    bool eq = slice_eq(buf_slice(got), want);

    free((void *)want.ptr);
    return eq;
}

static void test_frames(void)
{
    for (size_t i = 0; i < COUNT_OF(frames); i++) {
        struct slice input = unit_hex(frames[i].hex);
        for (size_t k = 0; k < COUNT_OF(cuts); k++) {
            struct ws *ws = open_server();
            struct outcome o = {0};
            feed(ws, input, cuts[k], &o);
            CHECK_CASE(frames[i].name, hex_eq(&o.mqtt, frames[i].mqtt));
            CHECK_CASE(frames[i].name, hex_eq(&o.out, frames[i].answer));
            CHECK_CASE(frames[i].name, o.rc == frames[i].want);
            CHECK_CASE(frames[i].name, !o.why == !frames[i].want);
            CHECK_CASE(frames[i].name, ws_open(ws) == !frames[i].want);
            CHECK_CASE(frames[i].name, ws->partial.cap == 0); /* nothing is unfinished */
            outcome_deinit(&o);
            ws_free(ws);
        }
        free((void *)input.ptr);
    }
}

/* The request and the first frames in one piece. */
static void test_frames_behind_the_request(void)
{
    for (size_t k = 0; k < COUNT_OF(cuts); k++) {
        struct buf input = request_with(LINE_MORE, "");
        struct ws *ws = ws_server_new(&plain_terms);
        struct outcome o = {0};
        buf_put(&input, SLICE("\x82\x82\0\0\0\0\xc0\0\x89\x80\0\0\0\0"));
        feed(ws, buf_slice(&input), cuts[k], &o);
        CHECK(hex_eq(&o.mqtt, "c000"));
        CHECK(slice_eq(buf_slice(&o.out), SLICE(ANSWER("mqtt") "\x8a\0")));
        outcome_deinit(&o);
        buf_deinit(&input);
        ws_free(ws);
    }
}

static void test_server_close(void)
{
    struct ws *ws = ws_server_new(&plain_terms);
    struct outcome o = {0};
    struct slice answer = unit_hex("82 82" M "c000 89 80" M "88 82" M "03e8");

    ws_close(ws, WS_CLOSE_NORMAL, &o.out);
    CHECK(o.out.len == 0); /* the handshake is not over */
    ws_free(ws);

    ws = open_server();
    ws_close(ws, WS_CLOSE_GOING_AWAY, &o.out);
    ws_close(ws, WS_CLOSE_NORMAL, &o.out);
    CHECK(hex_eq(&o.out, "88 02 03e9")); /* once */
    CHECK(!ws_open(ws));
    feed(ws, answer, cuts[0], &o);
    CHECK(o.rc == -ECONNRESET);
    CHECK(hex_eq(&o.mqtt, "c000"));      /* was under way */
    CHECK(hex_eq(&o.out, "88 02 03e9")); /* no second Close, no Pong behind it */
    outcome_deinit(&o);
    ws_free(ws);
    free((void *)answer.ptr);
}

static const struct {
    size_t len;
    const char *head;
} begun[] = {
    {2, "82 02"}, {125, "82 7d"}, {126, "82 7e 007e"}, {65535, "82 7e ffff"}, {65536, "82 7f 0000000000010000"}};

static void test_server_frame(void)
{
    struct ws *ws = open_server();

    for (size_t i = 0; i < COUNT_OF(begun); i++) {
        struct buf out = {0};
        ws_frame_begin(ws, begun[i].len, &out);
        CHECK_CASE(begun[i].head, hex_eq(&out, begun[i].head)); /* 5.1: a server masks nothing */
        buf_deinit(&out);
    }
    ws_free(ws);
}

/* A client and a server that have greeted each other. */
static void open_pair(struct ws **ret_client, struct ws **ret_server)
{
    struct buf request = {0};
    struct outcome o = {0}, back = {0};

    *ret_client = ws_client_new("localhost:8083", "/mqtt", &request);
    *ret_server = ws_server_new(&plain_terms);
    feed(*ret_server, buf_slice(&request), cuts[0], &o);
    CHECK(ws_open(*ret_server));
    feed(*ret_client, buf_slice(&o.out), cuts[0], &back);
    CHECK(ws_open(*ret_client));
    outcome_deinit(&o);
    outcome_deinit(&back);
    buf_deinit(&request);
}

static void put_message(struct ws *client, struct slice payload, struct buf *out)
{
    ws_frame_begin(client, payload.len, out);
    uint32_t at = out->len;
    buf_put(out, payload);
    ws_client_mask(client, out->ptr + at, payload.len);
}

static void test_pair(void)
{
    struct ws *client, *server;
    struct buf out = {0};
    struct outcome at_server = {0}, at_client = {0};

    open_pair(&client, &server);
    put_message(client, SLICE("\xc0\0\xe0\0 and more than eight bytes"), &out);
    put_control(client, WS_PING, SLICE("here?"), &out);
    uint32_t second_at = out.len + 2;
    put_message(client, SLICE("again"), &out);
    CHECK(memcmp(out.ptr + 2, out.ptr + second_at, 4) != 0); /* 5.3: a new mask for each frame */
    feed(server, buf_slice(&out), (struct cut){3, 0}, &at_server);
    CHECK(slice_eq(buf_slice(&at_server.mqtt), SLICE("\xc0\0\xe0\0 and more than eight bytesagain")));
    CHECK(slice_eq(buf_slice(&at_server.out), SLICE("\x8a\x05here?")));

    ws_close(server, WS_CLOSE_GOING_AWAY, &at_server.out);
    feed(client, buf_slice(&at_server.out), (struct cut){1, 0}, &at_client);
    CHECK(at_client.rc == -ECONNRESET);
    outcome_deinit(&at_server);
    feed(server, buf_slice(&at_client.out), cuts[0], &at_server); /* the client's Close, masked */
    CHECK(at_server.rc == -ECONNRESET);
    CHECK(at_server.out.len == 0);
    outcome_deinit(&at_server);
    outcome_deinit(&at_client);
    buf_deinit(&out);
    ws_free(client);
    ws_free(server);
}

static void test_client_takes_no_mask(void)
{
    struct ws *client, *server;
    struct outcome o = {0};
    struct slice masked = unit_hex("82 82" M "c000"), plain = unit_hex("82 02 c000");

    open_pair(&client, &server);
    feed(client, plain, cuts[0], &o);
    CHECK(hex_eq(&o.mqtt, "c000"));
    feed(client, masked, cuts[0], &o);
    CHECK(o.rc == -EPROTO);
    CHECK(o.out.len == 8 && o.out.ptr[0] == 0x88 && o.out.ptr[1] == 0x82);
    outcome_deinit(&o);
    ws_free(client);
    ws_free(server);
    free((void *)masked.ptr);
    free((void *)plain.ptr);
}

/* ---- when memory is out ---- */

/* A request, a message and a Ping, all answered or -ENOMEM. */
static int serve(void)
{
    static const char input[] = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
                                "Sec-WebSocket-Version: 13\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
                                "\x82\x82\0\0\0\0\xc0\0\x89\x81\0\0\0\0A";
    static const char answer[] = ANSWER("mqtt") "\x8a\x01"
                                                "A";
    struct slice data = slice_of(input, sizeof(input) - 1);
    struct outcome o = {0};
    uint8_t space[64];
    const char *why = "";
    struct ws *ws = ws_server_new(&plain_terms);
    int rc = ws ? 0 : -ENOMEM;
    while (ws && (rc = ws_feed(ws, &data, space, sizeof(space), &o.out, &why)) > 0) {
        CHECK(rc == 2);
    }
    CHECK(rc == 0 || rc == -ENOMEM);
    CHECK(rc != 0 || slice_eq(buf_slice(&o.out), slice_of(answer, sizeof(answer) - 1)));
    CHECK(!ws || rc == 0 || ws_feed(ws, &data, space, sizeof(space), &o.out, &why) == -ENOMEM); /* and stays so */
    ws_free(ws);
    outcome_deinit(&o);
    return rc;
}

static void test_out_of_memory(void)
{
    unsigned n = 1;

    for (alloc_fail_at = 1; n < 100; alloc_fail_at = ++n) {
        bool ok = serve() == 0 && alloc_fail_at > 0; /* the n-th was never asked for */
        alloc_fail_at = 0;
        if (ok) {
            break;
        }
    }
    CHECK(n > 5 && n < 100);

    for (alloc_fail_at = 1, n = 1; n < 100; alloc_fail_at = ++n) {
        struct buf out = {0};
        struct ws *ws = ws_client_new("localhost", "/mqtt", &out);
        bool ok = ws && alloc_fail_at > 0;
        alloc_fail_at = 0;
        buf_deinit(&out);
        ws_free(ws);
        if (ok) {
            break;
        }
    }
    CHECK(n > 2 && n < 100);
}

UNIT_MAIN("broker/transport/ws", {"frames", test_frames}, {"frames behind the request", test_frames_behind_the_request},
          {"the server closes", test_server_close}, {"the server's frames", test_server_frame},
          {"client and server", test_pair}, {"the client takes no mask", test_client_takes_no_mask},
          {"out of memory", test_out_of_memory})
