/* fuzz_ws.c -- any bytes to a WebSocket server, or client, before or behind its handshake.
 *
 * Oracles: the same bytes, cut otherwise and to space of another size, also over the input itself, give the same MQTT
 * bytes, answers and end; and behind the handshake a decoder that has all bytes before it agrees. The first bytes of
 * the input say how to cut, the role, and where to begin. */
#include "broker/transport/ws.h"

#include <errno.h>

#include "proto/base/clock.h"
#include "proto/base/utf8.h"
#include "tests/fuzz/ops.h"

#define CUTS 4u

enum start { RAW, AMONG_FIELDS, SERVER_OPEN, CLIENT_OPEN };

static const struct ws_terms terms = {.path = "/mqtt", .origins = "http://a"};
static const char request[] = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
                              "Sec-WebSocket-Version: 13\r\n";

struct outcome {
    struct buf mqtt, out;
    int rc;
};

/* All masks and keys are zero: what a client writes is legible. */
static void no_random(void *out, size_t len)
{
    memset(out, 0, len);
}

static struct ws *begin(enum start start, struct outcome *o)
{
    static const char answer[] =
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";
    struct ws *ws = start == CLIENT_OPEN ? ws_client_new("h", "/mqtt", &o->out) : ws_server_new(&terms);
    struct slice rest = slice_str(start == CLIENT_OPEN ? answer : request);
    const char *why;
    uint8_t space[64];

    if (start != RAW) {
        require(ws_feed(ws, &rest, space, sizeof(space), &o->out, &why) == 0);
    }
    if (start == SERVER_OPEN) {
        rest = SLICE("\r\n");
        require(ws_feed(ws, &rest, space, sizeof(space), &o->out, &why) == 0);
    }
    require(start == RAW || start == AMONG_FIELDS || ws_open(ws));
    o->out.len = 0;
    return ws;
}

/* Feed data in pieces of lengths[i] bytes in turn, 0 meaning the rest; the space is as large as the piece and the very
 * same memory, or of one to eight bytes. */
static struct outcome run(enum start start, struct slice data, const uint8_t lengths[CUTS])
{
    struct outcome o = {0};
    struct ws *ws = begin(start, &o);
    const char *why;

    for (unsigned i = 0; data.len > 0 && o.rc == 0; i++) {
        uint8_t cut = lengths[i % CUTS], narrow[8];
        size_t len = cut && cut < data.len ? cut : data.len;
        uint8_t *copy = memcpy(malloc(len), data.ptr, len);
        struct slice piece = slice_of(copy, len);
        bool in_place = cut % 2 == 0;
        while ((o.rc = ws_feed(ws, &piece, in_place ? copy : narrow, in_place ? len : 1 + cut % 8, &o.out, &why)) > 0) {
            buf_put(&o.mqtt, slice_of(in_place ? copy : narrow, (size_t)o.rc));
        }
        require(o.rc < 0 || piece.len == 0);
        free(copy);
        data = slice_drop(data, len);
    }
    ws_free(ws);
    return o;
}

static void outcome_deinit(struct outcome *o)
{
    buf_deinit(&o->mqtt);
    buf_deinit(&o->out);
}

/* ---- the reference ---- */

static void ref_answer(struct outcome *o, uint8_t opcode, const uint8_t *payload, size_t len, bool server)
{
    buf_u8(&o->out, 0x80 | opcode);
    buf_u8(&o->out, (uint8_t)(len | (server ? 0 : 0x80)));
    if (!server) {
        buf_u32(&o->out, 0);
    }
    buf_put(&o->out, slice_of(payload, len));
}

static bool ref_code_good(unsigned code)
{
    static const uint16_t good[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014};

    for (size_t i = 0; i < COUNT_OF(good); i++) {
        if (code == good[i]) {
            return true;
        }
    }
    return code >= 3000 && code < 5000;
}

/* End with a code of ours. */
static bool ref_fail(struct outcome *o, uint8_t code_low, bool server)
{
    uint8_t payload[2] = {0x03, code_low};

    ref_answer(o, 8, payload, 2, server);
    o->rc = -EPROTO;
    return false;
}

static bool ref_control(struct outcome *o, unsigned opcode, const uint8_t *payload, size_t len, bool server)
{
    if (opcode == 9) {
        ref_answer(o, 10, payload, len, server);
    }
    if (opcode != 8) {
        return true;
    }
    if (len == 1 || (len > 1 && !ref_code_good(payload[0] * 256u + payload[1]))) {
        return ref_fail(o, 0xea, server);
    }
    if (len > 2 && !utf8_valid(slice_of(payload + 2, len - 2))) {
        return ref_fail(o, 0xef, server);
    }
    ref_answer(o, 8, payload, len < 2 ? len : 2, server);
    o->rc = -ECONNRESET;
    return false;
}

/* One frame from *at on. Returns false at the end, of the connection or of what has come. */
static bool ref_frame(struct slice d, size_t *at, bool *in_message, bool server, struct outcome *o)
{
    const uint8_t *p = d.ptr + *at;
    size_t left = d.len - *at, head = 2;

    if (left < 1) {
        return false;
    }
    unsigned opcode = p[0] & 15, length = left > 1 ? p[1] & 127 : 0;
    if ((p[0] & 0x70) || (opcode > 2 && opcode < 8) || opcode > 10 ||
        (opcode > 7 && (!(p[0] & 0x80) || length > 125))) {
        return ref_fail(o, 0xea, server);
    }
    uint64_t len = length;
    size_t extra = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (left < 2 + extra) {
        return false;
    }
    for (size_t i = 0; i < extra; i++) {
        len = (i ? len << 8 : 0) | p[head++];
    }
    if ((extra == 2 && len < 126) || (extra == 8 && (len < 65536 || len >> 63))) {
        return ref_fail(o, 0xea, server);
    }
    bool masked = p[1] & 0x80;
    const uint8_t *mask = p + head;
    head += masked ? 4 : 0;
    if (left < head) {
        return false;
    }
    if (masked != server) {
        return ref_fail(o, 0xea, server);
    }
    if (opcode == 1) {
        return ref_fail(o, 0xeb, server);
    }
    if (opcode < 8 && (opcode == 0) != *in_message) {
        return ref_fail(o, 0xea, server);
    }
    if (opcode < 8) {
        *in_message = !(p[0] & 0x80);
    }
    uint8_t control[125];
    size_t n = left - head < len ? left - head : (size_t)len;
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = p[head + i] ^ (masked ? mask[i % 4] : 0);
        if (opcode < 8) {
            buf_u8(&o->mqtt, byte);
        } else {
            control[i] = byte;
        }
    }
    *at += head + n;
    return n == len && (opcode < 8 || ref_control(o, opcode, control, n, server));
}

static struct outcome reference(struct slice data, bool server)
{
    struct outcome o = {0};
    bool in_message = false;
    size_t at = 0;

    while (ref_frame(data, &at, &in_message, server, &o)) {
    }
    return o;
}

static void require_same(const struct outcome *a, const struct outcome *b)
{
    require(a->rc == b->rc);
    require(slice_eq(buf_slice(&a->mqtt), buf_slice(&b->mqtt)));
    require(slice_eq(buf_slice(&a->out), buf_slice(&b->out)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct clock_source source = {.random = no_random}; /* nobody asks for the time */
    static const uint8_t whole[CUTS];

    if (size < CUTS + 1) {
        return 0;
    }
    clock_set(&source);
    enum start start = data[CUTS] % 4;
    struct slice rest = slice_of(data + CUTS + 1, size - CUTS - 1);
    struct outcome a = run(start, rest, whole), b = run(start, rest, data);
    require_same(&a, &b);
    if (start == SERVER_OPEN || start == CLIENT_OPEN) {
        struct outcome c = reference(rest, start == SERVER_OPEN);
        require_same(&a, &c);
        outcome_deinit(&c);
    }
    outcome_deinit(&a);
    outcome_deinit(&b);
    return 0;
}
