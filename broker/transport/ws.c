/* ws.c -- the opening handshake (RFC 6455, 4), then frame after frame (5), then the closing one (7).
 *
 *     AWAIT HEAD -- a good request, or the good answer to ours ----> FRAMES   the other side may begin
 *     AWAIT HEAD -- anything else ---------------------------------> ENDED    a server answers with an HTTP error
 *     FRAMES ------ Close came, or a rule was broken --------------> ENDED    Close is sent unless it was
 *
 * What is unfinished at the end of a piece is kept: of a frame's head in `head`, of an HTTP head or of the payload of a
 * control frame in `partial`, which has memory only as long. Payload of messages is never kept and a length never
 * allocated from: it is only counted down. */
#include "broker/transport/ws.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/base/utf8.h"
#include "proto/web/http1.h"
#include "proto/web/ws.h"

/* Of a client's list of subprotocols so many are looked at. */
#define SUBPROTOCOLS_MAX 32u
#define KEY_BYTES 16u
#define KEY_TEXT 24u    /* in base64 */
#define ACCEPT_TEXT 28u /* SHA-1 in base64 */

struct ws {
    const struct ws_terms *terms; /* borrowed; NULL: this is the client */
    struct buf partial;           /* see above */
    struct buf kept; /* server: X-Forwarded-For until ws_forget_head; client: the accept it expects, until open */
    const char *why; /* once ended */
    int ended;       /* 0, or what ws_feed returns from now on */
    bool open, in_payload, in_message, close_sent;
    uint8_t head_len;
    uint8_t head[WS_HEAD_MAX];
    struct ws_head frame;  /* the one whose payload is being read */
    uint64_t payload_left; /* of it */
    uint8_t out_mask[4];   /* client: of the frame begun last */
};

/* What an HTTP error says, beside that the connection ends. */
struct refusal {
    const char *status, *fields, *why;
};

/* ---- small things ---- */

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void put_text(struct buf *out, const char *text)
{
    buf_put(out, slice_str(text));
}

static void end(struct ws *ws, int rc, const char *why)
{
    ws->ended = rc;
    ws->why = why;
    buf_deinit(&ws->partial);
}

/* A mask nobody can foretell (5.3). The system is asked once for many. */
static void mask_new(uint8_t mask[4])
{
    static _Thread_local uint8_t pool[256];
    static _Thread_local size_t left;

    if (left == 0) {
        clock_random(pool, sizeof(pool));
        left = sizeof(pool);
    }
    left -= 4;
    memcpy(mask, pool + left, 4);
}

/* Append a control frame, whole or not at all. */
static void put_control(struct ws *ws, enum ws_opcode opcode, struct slice payload, struct buf *out)
{
    uint8_t head[WS_HEAD_MAX], mask[4] = {0};

    assert(payload.len <= WS_CONTROL_MAX);
    if (!ws->terms) {
        mask_new(mask);
    }
    size_t head_len = ws_head_write(head, opcode, true, ws->terms ? NULL : mask, payload.len);
    uint8_t *at = buf_extend(out, head_len + payload.len);
    if (at) {
        memcpy(at, head, head_len);
        ws_mask(at + head_len, payload.ptr, payload.len, mask, 0);
    }
}

static void put_close(struct ws *ws, struct slice payload, struct buf *out)
{
    if (ws->open && !ws->close_sent) {
        ws->close_sent = true;
        put_control(ws, WS_CLOSE, payload, out);
    }
}

static void fail(struct ws *ws, enum ws_close code, const char *why, struct buf *out)
{
    ws_close(ws, code, out);
    end(ws, -EPROTO, why);
}

/* ---- the opening handshake ---- */

/* Sec-WebSocket-Accept: the proof that the key was read by a WebSocket server (4.2.2, item 5.4). Returns 0 or -ENOMEM.
 */
static int accept_of(struct slice key, char accept[ACCEPT_TEXT + 1])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t text[KEY_TEXT + sizeof(magic) - 1], digest[EVP_MAX_MD_SIZE];
    unsigned digest_len;

    assert(key.len == KEY_TEXT);
    memcpy(text, key.ptr, KEY_TEXT);
    memcpy(text + KEY_TEXT, magic, sizeof(magic) - 1);
    if (EVP_Digest(text, sizeof(text), digest, &digest_len, EVP_sha1(), NULL) != 1) {
        return -ENOMEM;
    }
    EVP_EncodeBlock((unsigned char *)accept, digest, (int)digest_len);
    return 0;
}

/* Sixteen bytes in base64 (4.2.1, item 5). */
static bool is_key(struct slice key)
{
    if (key.len != KEY_TEXT || memcmp(key.ptr + KEY_TEXT - 2, "==", 2) != 0) {
        return false;
    }
    for (size_t i = 0; i < KEY_TEXT - 2; i++) {
        uint8_t c = key.ptr[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!letter && (c < '0' || c > '9') && c != '+' && c != '/') {
            return false;
        }
    }
    return true;
}

/* The first that the client offers and we take; it must be answered exactly (4.2.2) [MQTT-6.0.0-3] [MQTT-6.0.0-4].
 * "mqttv3.1" is what clients of 3.1 were told to say. */
static struct slice choose_subprotocol(const struct http1_request *r)
{
    for (unsigned i = 0; i < SUBPROTOCOLS_MAX; i++) {
        struct slice offer = http1_element(r, "sec-websocket-protocol", i);
        if (!offer.ptr || slice_eq(offer, SLICE("mqtt")) || slice_eq(offer, SLICE("mqttv3.1"))) {
            return offer;
        }
    }
    return (struct slice){NULL, 0};
}

static bool list_has(const char *list, struct slice word)
{
    for (const char *at = list + strspn(list, " ,"); *at; at += strspn(at, " ,")) {
        size_t len = strcspn(at, " ,");
        if (slice_eq(slice_of(at, len), word)) {
            return true;
        }
        at += len;
    }
    return false;
}

/* Whether every page that the request says it comes from is allowed (4.2.2, item 4). */
static bool origin_allowed(const struct ws_terms *terms, const struct http1_request *r)
{
    if (!terms->origins || !*terms->origins) {
        return true;
    }
    for (unsigned i = 0; i < r->field_count; i++) {
        if (http1_token_eq(r->fields[i].name, "origin") && !list_has(terms->origins, r->fields[i].value)) {
            return false;
        }
    }
    return true;
}

/* What is wrong with a request (4.2.1), or NULL. */
static const struct refusal *judge(const struct ws_terms *terms, const struct http1_request *r)
{
    static const struct refusal method = {"405 Method Not Allowed", "Allow: GET\r\n", "the method is not GET"},
                                path = {"404 Not Found", "", "not our path"},
                                host = {"400 Bad Request", "", "HTTP/1.0, or not one Host"},
                                upgrade = {"400 Bad Request", "", "no upgrade to websocket is asked for"},
                                no_version = {"400 Bad Request", "", "no Sec-WebSocket-Version"},
                                version = {"426 Upgrade Required",
                                           "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
                                           "Sec-WebSocket-Version is not 13"},
                                key = {"400 Bad Request", "", "no good Sec-WebSocket-Key"},
                                origin = {"403 Forbidden", "", "the origin is not allowed"},
                                protocol = {"400 Bad Request", "", "the subprotocol mqtt is not offered"};
    struct slice said_version = http1_field(r, "sec-websocket-version");

    if (!slice_eq(r->method, SLICE("GET"))) {
        return &method;
    }
    if (terms->path && !slice_eq(r->path, slice_str(terms->path))) {
        return &path;
    }
    if (r->minor < 1 || !http1_field(r, "host").ptr) {
        return &host;
    }
    if (!http1_has_token(r, "upgrade", "websocket") || !http1_has_token(r, "connection", "upgrade")) {
        return &upgrade;
    }
    if (!said_version.ptr) {
        return &no_version;
    }
    if (!slice_eq(said_version, SLICE("13"))) { /* 4.4 */
        return &version;
    }
    if (!is_key(http1_field(r, "sec-websocket-key"))) {
        return &key;
    }
    if (!origin_allowed(terms, r)) {
        return &origin;
    }
    return choose_subprotocol(r).ptr ? NULL : &protocol;
}

static void refuse(struct ws *ws, const struct refusal *r, struct buf *out)
{
    put_text(out, "HTTP/1.1 ");
    put_text(out, r->status);
    put_text(out, "\r\n");
    put_text(out, r->fields);
    put_text(out, "Connection: close\r\nContent-Length: 0\r\n\r\n");
    end(ws, -EPROTO, r->why);
}

/* The head itself is not kept for this one field. Several fields are one list (RFC 9110, 5.3). */
static void keep_forwarded(struct ws *ws, const struct http1_request *r)
{
    for (unsigned i = 0; i < r->field_count; i++) {
        if (http1_token_eq(r->fields[i].name, "x-forwarded-for")) {
            put_text(&ws->kept, ws->kept.len > 0 ? ", " : "");
            buf_put(&ws->kept, r->fields[i].value);
        }
    }
}

static void welcome(struct ws *ws, const struct http1_request *r, struct buf *out)
{
    const struct refusal *refusal = judge(ws->terms, r);
    char accept[ACCEPT_TEXT + 1];

    if (refusal) {
        refuse(ws, refusal, out);
        return;
    }
    keep_forwarded(ws, r);
    if (ws->kept.failed || accept_of(http1_field(r, "sec-websocket-key"), accept) != 0) {
        end(ws, -ENOMEM, "out of memory");
        return;
    }
    put_text(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Accept: ");
    put_text(out, accept);
    put_text(out, "\r\nSec-WebSocket-Protocol: ");
    buf_put(out, choose_subprotocol(r));
    put_text(out, "\r\n\r\n");
    ws->open = true;
}

/* The client's side of it (4.1). */
static void be_welcomed(struct ws *ws, unsigned status, const struct http1_request *r)
{
    const char *why = NULL;

    if (status != 101) {
        why = "the server does not switch to WebSocket";
    } else if (!http1_has_token(r, "upgrade", "websocket") || !http1_has_token(r, "connection", "upgrade")) {
        why = "the answer does not upgrade";
    } else if (!slice_eq(http1_field(r, "sec-websocket-accept"), buf_slice(&ws->kept))) {
        why = "Sec-WebSocket-Accept is wrong";
    } else if (http1_element(r, "sec-websocket-extensions", 0).ptr) {
        why = "an extension that was not offered";
    } else if (!slice_eq(http1_field(r, "sec-websocket-protocol"), SLICE("mqtt"))) { /* [MQTT-6.0.0-4] */
        why = "the subprotocol is not mqtt";
    }
    buf_deinit(&ws->kept);
    ws->open = !why;
    if (why) {
        end(ws, -EPROTO, why);
    }
}

/* How much of a head that is not whole is worth reading: its lines, so that a head that comes byte by byte is read once
 * a line and not once a byte; and its first byte, which tells MQTT and TLS from HTTP at once. */
static size_t head_readable(struct slice head)
{
    const uint8_t *end = memrchr(head.ptr, '\n', head.len);

    return head.len == HTTP1_HEAD_BYTES_MAX ? head.len : end ? (size_t)(end - head.ptr) + 1 : 1;
}

static void await_head(struct ws *ws, struct slice *data, struct buf *out)
{
    static const struct refusal bad = {"400 Bad Request", "", "no HTTP request"},
                                large = {"431 Request Header Fields Too Large", "", "the request's head is too large"};
    struct http1_request head;
    size_t held = ws->partial.len, n = min_size(data->len, HTTP1_HEAD_BYTES_MAX - held);
    unsigned status;

    buf_put(&ws->partial, slice_of(data->ptr, n));
    if (ws->partial.failed) {
        end(ws, -ENOMEM, "out of memory");
        return;
    }
    struct slice lines = slice_of(ws->partial.ptr, head_readable(buf_slice(&ws->partial)));
    int size = 0;
    if (lines.len > held) { /* else they have been read already */
        size = ws->terms ? http1_request_parse(lines, &head) : http1_response_parse(lines, &status, &head);
    }
    if (size == 0) {
        *data = slice_drop(*data, n);
    } else if (size < 0 && ws->terms) {
        refuse(ws, size == -EMSGSIZE ? &large : &bad, out);
    } else if (size < 0) {
        end(ws, -EPROTO, "no HTTP answer");
    } else {
        *data = slice_drop(*data, (size_t)size - held);
        if (ws->terms) {
            welcome(ws, &head, out);
        } else {
            be_welcomed(ws, status, &head);
        }
        buf_deinit(&ws->partial);
    }
}

/* ---- frames ---- */

/* Close came (5.5.1): answer with its code, unless this is the answer to ours. */
static void take_close(struct ws *ws, struct slice payload, struct buf *out)
{
    if (payload.len == 1 || (payload.len >= 2 && !ws_close_code_valid(payload.ptr[0] << 8 | payload.ptr[1]))) {
        fail(ws, WS_CLOSE_PROTOCOL, "Close with no code that may be sent", out);
    } else if (payload.len > 2 && !utf8_valid(slice_drop(payload, 2))) { /* 8.1 */
        fail(ws, WS_CLOSE_BAD_DATA, "Close with a reason that is not UTF-8", out);
    } else {
        put_close(ws, slice_of(payload.ptr, min_size(payload.len, 2)), out);
        end(ws, -ECONNRESET, "closed by the peer");
    }
}

/* The frame's payload is whole; that of a message has been handed out already. */
static void end_frame(struct ws *ws, struct buf *out)
{
    struct slice payload = buf_slice(&ws->partial);

    ws->in_payload = false;
    if (ws->frame.opcode == WS_CLOSE) {
        take_close(ws, payload, out);
    } else if (ws->frame.opcode == WS_PING && !ws->close_sent) { /* 5.5.2 */
        put_control(ws, WS_PONG, payload, out);
    } /* a Pong nobody asked for is nothing (5.5.3) */
    buf_deinit(&ws->partial);
}

/* Which rule a frame breaks, and the code to close with; NULL if none. */
static const char *judge_frame(const struct ws *ws, const struct ws_head *frame, enum ws_close *ret_code)
{
    *ret_code = WS_CLOSE_PROTOCOL;
    if (frame->masked != (ws->terms != NULL)) { /* 5.1 */
        return ws->terms ? "a frame that is not masked" : "a masked frame from the server";
    }
    if (frame->opcode == WS_TEXT) { /* [MQTT-6.0.0-1] */
        *ret_code = WS_CLOSE_UNSUPPORTED;
        return "a text frame";
    }
    if (frame->opcode == WS_BINARY && ws->in_message) { /* 5.4 */
        return "a message within a fragmented one";
    }
    if (frame->opcode == WS_CONTINUATION && !ws->in_message) {
        return "a continuation of nothing";
    }
    return NULL;
}

static void await_frame(struct ws *ws, struct slice *data, struct buf *out)
{
    size_t held = ws->head_len, n = min_size(data->len, WS_HEAD_MAX - held);
    enum ws_close code;

    memcpy(ws->head + held, data->ptr, n);
    int size = ws_head_parse(slice_of(ws->head, held + n), &ws->frame);
    if (size < 0) {
        fail(ws, WS_CLOSE_PROTOCOL, "a malformed frame", out);
        return;
    }
    if (size == 0) {
        ws->head_len = (uint8_t)(held + n);
        *data = slice_drop(*data, n);
        return;
    }
    ws->head_len = 0;
    *data = slice_drop(*data, (size_t)size - held);
    const char *why = judge_frame(ws, &ws->frame, &code);
    if (why) {
        fail(ws, code, why, out);
        return;
    }
    if (ws->frame.opcode < WS_CLOSE) {
        ws->in_message = !ws->frame.fin;
    }
    ws->payload_left = ws->frame.payload_len;
    ws->in_payload = true;
    if (ws->payload_left == 0) {
        end_frame(ws, out);
    }
}

/* Payload: that of a message to `space`, that of a control frame to `partial`. Returns the number of MQTT bytes. Where
 * one packet ends and the next begins is nothing to us [MQTT-6.0.0-2]. */
static size_t take_payload(struct ws *ws, struct slice *data, uint8_t *space, size_t space_size, struct buf *out)
{
    static const uint8_t no_mask[4];
    bool control = ws->frame.opcode >= WS_CLOSE;
    uint64_t at = ws->frame.payload_len - ws->payload_left;
    size_t n = min_size(data->len, control ? WS_CONTROL_MAX : space_size);

    n = ws->payload_left < n ? (size_t)ws->payload_left : n;
    uint8_t *to = control ? buf_extend(&ws->partial, n) : space;
    if (!to) {
        end(ws, -ENOMEM, "out of memory");
        return 0;
    }
    ws_mask(to, data->ptr, n, ws->frame.masked ? ws->frame.mask : no_mask, at);
    *data = slice_drop(*data, n);
    ws->payload_left -= n;
    if (ws->payload_left == 0) {
        end_frame(ws, out);
    }
    return control ? 0 : n;
}

/* ---- for the caller ---- */

struct ws *ws_server_new(const struct ws_terms *terms)
{
    struct ws *ws = calloc(1, sizeof(*ws));

    assert(terms);
    if (ws) {
        ws->terms = terms;
    }
    return ws;
}

/* Append the request (4.1) and keep the answer it must get. Returns 0 or -ENOMEM. */
static int put_request(struct ws *ws, const char *host, const char *path, struct buf *out)
{
    uint8_t random[KEY_BYTES];
    char key[KEY_TEXT + 1], accept[ACCEPT_TEXT + 1];

    clock_random(random, sizeof(random));
    EVP_EncodeBlock((unsigned char *)key, random, sizeof(random));
    if (accept_of(slice_str(key), accept) != 0) {
        return -ENOMEM;
    }
    put_text(&ws->kept, accept);
    const char *const words[] = {
        "GET ",
        path,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: ", /* [MQTT-6.0.0-3] */
        key,
        "\r\n\r\n"};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        put_text(out, words[i]);
    }
    return ws->kept.failed || out->failed ? -ENOMEM : 0;
}

struct ws *ws_client_new(const char *host, const char *path, struct buf *out)
{
    struct ws *ws = calloc(1, sizeof(*ws));

    if (ws && put_request(ws, host, path, out) != 0) {
        ws_free(ws);
        return NULL;
    }
    return ws;
}

void ws_free(struct ws *ws)
{
    if (ws) {
        buf_deinit(&ws->partial);
        buf_deinit(&ws->kept);
        free(ws);
    }
}

bool ws_open(const struct ws *ws)
{
    return ws->open && !ws->close_sent;
}

struct slice ws_forwarded_for(const struct ws *ws)
{
    return ws->terms ? buf_slice(&ws->kept) : (struct slice){NULL, 0};
}

void ws_forget_head(struct ws *ws)
{
    if (ws->terms) {
        buf_deinit(&ws->kept);
    }
}

int ws_feed(struct ws *ws, struct slice *data, uint8_t *space, size_t space_size, struct buf *out, const char **ret_why)
{
    size_t n = 0;

    assert(space_size <= INT32_MAX);
    while (!ws->ended && data->len > 0 && n < space_size) {
        if (!ws->open) {
            await_head(ws, data, out);
        } else if (!ws->in_payload) {
            await_frame(ws, data, out);
        } else {
            n += take_payload(ws, data, space + n, space_size - n, out);
        }
        if (out->failed && ws->ended != -ENOMEM) {
            end(ws, -ENOMEM, "out of memory");
        }
    }
    if (n > 0) {
        return (int)n; /* how it ended is told by the next call */
    }
    if (ws->ended) {
        *ret_why = ws->why;
    }
    return ws->ended;
}

void ws_frame_begin(struct ws *ws, size_t n, struct buf *out)
{
    uint8_t head[WS_HEAD_MAX];

    if (!ws->terms) {
        mask_new(ws->out_mask);
    }
    buf_put(out, slice_of(head, ws_head_write(head, WS_BINARY, true, ws->terms ? NULL : ws->out_mask, n)));
}

void ws_client_mask(struct ws *ws, uint8_t *payload, size_t n)
{
    assert(!ws->terms);
    ws_mask(payload, payload, n, ws->out_mask, 0);
}

void ws_close(struct ws *ws, unsigned code, struct buf *out)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};

    put_close(ws, slice_of(payload, sizeof(payload)), out);
}
