/* ws_handshake_test.c -- the opening handshake of both roles (RFC 6455, 4). */
#include "tests/unit/broker/transport/ws_fixture.h"

/* ---- the server's side ---- */

#define ERROR(status) "HTTP/1.1 " status "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
#define BAD ERROR("400 Bad Request")
#define FORBIDDEN ERROR("403 Forbidden")
#define VERSION_13 \
    "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
    "Connection: close\r\nContent-Length: 0\r\n\r\n"
#define NOT_GET "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

static const struct {
    const char *name;
    int line; /* the one that is exchanged */
    const char *text, *origins, *want;
} requests[] = {
    {"RFC 6455, 1.3", LINE_MORE, "", NULL, ANSWER("mqtt")},
    {"a query is let be", LINE_GET, "GET /mqtt?token=1 HTTP/1.1\r\n", NULL, ANSWER("mqtt")},
    {"absolute form (4.2.1, item 1)", LINE_GET, "GET http://h/mqtt HTTP/1.1\r\n", NULL, ANSWER("mqtt")},
    {"tokens of any case, in lists", LINE_CONNECTION, "connection: Keep-Alive,UPGRADE\r\n", NULL, ANSWER("mqtt")},
    {"Upgrade of any case, in a list", LINE_UPGRADE, "UPGRADE: h2c, WebSocket\r\n", NULL, ANSWER("mqtt")},
    {"mqttv3.1", LINE_PROTOCOL, "Sec-WebSocket-Protocol: mqttv3.1\r\n", NULL, ANSWER("mqttv3.1")},
    {"the first that we take", LINE_PROTOCOL, "Sec-WebSocket-Protocol: amqp, mqtt, mqttv3.1\r\n", NULL, ANSWER("mqtt")},
    {"in a second field", LINE_PROTOCOL, "Sec-WebSocket-Protocol: amqp\r\nSec-WebSocket-Protocol: mqtt\r\n", NULL,
     ANSWER("mqtt")},
    {"extensions are offered and not taken (9.1)", LINE_MORE, "Sec-WebSocket-Extensions: permessage-deflate\r\n", NULL,
     ANSWER("mqtt")},
    {"origin on the list", LINE_MORE, "Origin: https://b.example\r\n", "https://a.example, https://b.example",
     ANSWER("mqtt")},
    {"no origin, so no browser", LINE_MORE, "", "https://a.example", ANSWER("mqtt")},
    {"POST", LINE_GET, "POST /mqtt HTTP/1.1\r\n", NULL, NOT_GET},
    {"get", LINE_GET, "get /mqtt HTTP/1.1\r\n", NULL, NOT_GET},
    {"another path", LINE_GET, "GET / HTTP/1.1\r\n", NULL, ERROR("404 Not Found")},
    {"a longer path", LINE_GET, "GET /mqtt/ HTTP/1.1\r\n", NULL, ERROR("404 Not Found")},
    {"HTTP/1.0", LINE_GET, "GET /mqtt HTTP/1.0\r\n", NULL, BAD},
    {"no HTTP", LINE_GET, "\x10\x0c", NULL, BAD},
    {"no Host", LINE_HOST, "", NULL, BAD},
    {"two Hosts", LINE_HOST, "Host: a\r\nHost: b\r\n", NULL, BAD},
    {"no Upgrade", LINE_UPGRADE, "", NULL, BAD},
    {"Upgrade to something else", LINE_UPGRADE, "Upgrade: h2c\r\n", NULL, BAD},
    {"no Connection", LINE_CONNECTION, "", NULL, BAD},
    {"Connection without upgrade", LINE_CONNECTION, "Connection: keep-alive\r\n", NULL, BAD},
    {"no version", LINE_VERSION, "", NULL, BAD},
    {"two versions", LINE_VERSION, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n", NULL, BAD},
    {"version 8 (4.4)", LINE_VERSION, "Sec-WebSocket-Version: 8\r\n", NULL, VERSION_13},
    {"version 013", LINE_VERSION, "Sec-WebSocket-Version: 013\r\n", NULL, VERSION_13},
    {"no key", LINE_KEY, "", NULL, BAD},
    {"key of 15 bytes", LINE_KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n", NULL, BAD},
    {"key of 17 bytes", LINE_KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU=\r\n", NULL, BAD},
    {"key of 18 bytes", LINE_KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWVl\r\n", NULL, BAD},
    {"key not in base64", LINE_KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j*Q==\r\n", NULL, BAD},
    {"two keys", LINE_KEY,
     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", NULL, BAD},
    {"no subprotocol [MQTT-6.0.0-3]", LINE_PROTOCOL, "", NULL, BAD},
    {"others only [MQTT-6.0.0-3]", LINE_PROTOCOL, "Sec-WebSocket-Protocol: amqp, mqttv5, MQTT\r\n", NULL, BAD},
    {"another origin", LINE_MORE, "Origin: https://evil.example\r\n", "https://a.example", FORBIDDEN},
    {"a part of an origin", LINE_MORE, "Origin: https://a.exampl\r\n", "https://a.example", FORBIDDEN},
    {"null origin", LINE_MORE, "Origin: null\r\n", "https://a.example", FORBIDDEN},
    {"a bad origin behind a good one", LINE_MORE, "Origin: https://a.example\r\nOrigin: https://b.example\r\n",
     "https://a.example", FORBIDDEN},
    {"a fold", LINE_MORE, " folded\r\n", NULL, BAD},
};

static void test_requests(void)
{
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        struct ws_terms terms = {.path = "/mqtt", .origins = requests[i].origins};
        struct buf request = request_with(requests[i].line, requests[i].text);
        bool good = strncmp(requests[i].want, "HTTP/1.1 101", 12) == 0;
        for (size_t k = 0; k < COUNT_OF(cuts); k++) {
            struct ws *ws = ws_server_new(&terms);
            struct outcome o = {0};
            feed(ws, buf_slice(&request), cuts[k], &o);
            CHECK_CASE(requests[i].name, slice_eq(buf_slice(&o.out), slice_str(requests[i].want)));
            CHECK_CASE(requests[i].name, o.rc == (good ? 0 : -EPROTO));
            CHECK_CASE(requests[i].name, good == !o.why);
            CHECK_CASE(requests[i].name, ws_open(ws) == good);
            CHECK_CASE(requests[i].name, o.mqtt.len == 0);
            CHECK_CASE(requests[i].name, ws->partial.cap == 0); /* the head is gone */
            outcome_deinit(&o);
            ws_free(ws);
        }
        buf_deinit(&request);
    }
}

static void test_any_path(void)
{
    struct ws_terms terms = {.origins = ""};
    struct buf request = request_with(LINE_GET, "GET /somewhere HTTP/1.1\r\n");
    struct ws *ws = ws_server_new(&terms);
    struct outcome o = {0};

    feed(ws, buf_slice(&request), cuts[0], &o);
    CHECK(ws_open(ws));
    outcome_deinit(&o);
    buf_deinit(&request);
    ws_free(ws);
}

/* What is no HTTP from its first byte on is not waited for. */
static void test_first_byte(void)
{
    static const char *const strangers[] = {"\x10", "\x16", " "};

    for (size_t i = 0; i < COUNT_OF(strangers); i++) {
        struct ws *ws = ws_server_new(&plain_terms);
        struct outcome o = {0};
        feed(ws, slice_str(strangers[i]), cuts[0], &o);
        CHECK(o.rc == -EPROTO);
        CHECK(slice_eq(buf_slice(&o.out), slice_str(BAD)));
        outcome_deinit(&o);
        ws_free(ws);
    }
}

/* A head one byte too long, or with no end in sight: refused in time, whatever it says. */
static void test_large_head(void)
{
    static const char want[] = ERROR("431 Request Header Fields Too Large");

    for (size_t k = 0; k < COUNT_OF(cuts); k++) {
        struct buf request = request_with(LINE_MORE, "Cookie: ");
        struct ws *ws = ws_server_new(&plain_terms);
        struct outcome o = {0};
        request.len -= 2;
        while (request.len < HTTP1_HEAD_BYTES_MAX + 100) {
            buf_u8(&request, 'x');
        }
        feed(ws, slice_of(request.ptr, HTTP1_HEAD_BYTES_MAX - 1), cuts[k], &o);
        CHECK(o.rc == 0);
        CHECK(ws->partial.cap <= HTTP1_HEAD_BYTES_MAX);
        feed(ws, slice_drop(buf_slice(&request), HTTP1_HEAD_BYTES_MAX - 1), cuts[k], &o);
        CHECK(o.rc == -EPROTO);
        CHECK(slice_eq(buf_slice(&o.out), slice_str(want)));
        outcome_deinit(&o);
        buf_deinit(&request);
        ws_free(ws);
    }
}

static const struct {
    const char *name, *fields, *want;
} forwarded[] = {
    {"none", "", ""},
    {"one", "X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"},
    {"a list", "x-forwarded-for: 192.0.2.7, 10.0.0.1\r\n", "192.0.2.7, 10.0.0.1"},
    {"two fields are one list, the latest hop last", "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 10.0.0.1\r\n",
     "192.0.2.7, 10.0.0.1"},
};

static void test_forwarded(void)
{
    for (size_t i = 0; i < COUNT_OF(forwarded); i++) {
        struct buf request = request_with(LINE_MORE, forwarded[i].fields);
        struct ws *ws = ws_server_new(&plain_terms);
        struct outcome o = {0};
        CHECK_CASE(forwarded[i].name, ws_forwarded_for(ws).len == 0);
        feed(ws, buf_slice(&request), cuts[0], &o);
        CHECK_CASE(forwarded[i].name, slice_eq(ws_forwarded_for(ws), slice_str(forwarded[i].want)));
        ws_forget_head(ws);
        CHECK_CASE(forwarded[i].name, ws_forwarded_for(ws).len == 0);
        CHECK_CASE(forwarded[i].name, ws->kept.cap == 0);
        outcome_deinit(&o);
        buf_deinit(&request);
        ws_free(ws);
    }
}

/* ---- the client's side ---- */

static const struct {
    const char *name, *answer; /* ACCEPT stands for what is right */
    int want;
} answers[] = {
    {"right",
     "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nACCEPT\r\nSec-WebSocket-Protocol: mqtt\r\n", 0},
    {"refused", "HTTP/1.1 403 Forbidden\r\n", -EPROTO},
    {"elsewhere", "HTTP/1.1 301 Moved\r\nLocation: /\r\n", -EPROTO},
    {"no HTTP", "\x20\x02", -EPROTO},
    {"no Upgrade", "HTTP/1.1 101 x\r\nConnection: upgrade\r\nACCEPT\r\nSec-WebSocket-Protocol: mqtt\r\n", -EPROTO},
    {"no Connection", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nACCEPT\r\nSec-WebSocket-Protocol: mqtt\r\n", -EPROTO},
    {"no accept", "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Protocol: mqtt\r\n",
     -EPROTO},
    {"another's accept",
     "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n"
     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n",
     -EPROTO},
    {"no subprotocol [MQTT-6.0.0-4]", "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nACCEPT\r\n",
     -EPROTO},
    {"another subprotocol [MQTT-6.0.0-4]",
     "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nACCEPT\r\nSec-WebSocket-Protocol: amqp\r\n",
     -EPROTO},
    {"an extension (4.1)",
     "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nACCEPT\r\nSec-WebSocket-Protocol: mqtt\r\n"
     "Sec-WebSocket-Extensions: permessage-deflate\r\n",
     -EPROTO},
};

static struct buf answer_of(const char *text, const struct ws *client)
{
    const char *mark = strstr(text, "ACCEPT\r\n");
    struct buf b = {0};

    buf_put(&b, slice_of(text, mark ? (size_t)(mark - text) : strlen(text)));
    if (mark) {
        put_text(&b, "Sec-WebSocket-Accept: ");
        buf_put(&b, buf_slice(&client->kept));
        put_text(&b, mark + 6);
    }
    buf_put(&b, SLICE("\r\n"));
    return b;
}

static void test_answers(void)
{
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        for (size_t k = 0; k < COUNT_OF(cuts); k++) {
            struct buf request = {0};
            struct ws *ws = ws_client_new("localhost:8083", "/mqtt", &request);
            struct buf answer = answer_of(answers[i].answer, ws);
            struct outcome o = {0};
            feed(ws, buf_slice(&answer), cuts[k], &o);
            CHECK_CASE(answers[i].name, o.rc == answers[i].want);
            CHECK_CASE(answers[i].name, o.out.len == 0);
            CHECK_CASE(answers[i].name, ws_open(ws) == (answers[i].want == 0));
            CHECK_CASE(answers[i].name, o.rc != 0 || ws->kept.cap + ws->partial.cap == 0);
            outcome_deinit(&o);
            buf_deinit(&answer);
            buf_deinit(&request);
            ws_free(ws);
        }
    }
}

UNIT_MAIN("broker/transport/ws handshake", {"requests", test_requests}, {"any path", test_any_path},
          {"the first byte", test_first_byte}, {"large head", test_large_head}, {"X-Forwarded-For", test_forwarded},
          {"answers", test_answers})
