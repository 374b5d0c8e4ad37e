/* ws_fixture.h -- bytes to a WebSocket connection in every manner, and what comes of them; for its two tests.
 *
 * The same bytes, however cut, to roomy and to narrow space and in place, must give the same MQTT bytes, the same
 * answers and the same end. The connection's own file is included, so that its memory can be seen and made to fail. */
#ifndef TERN_TESTS_UNIT_BROKER_TRANSPORT_WS_FIXTURE_H
#define TERN_TESTS_UNIT_BROKER_TRANSPORT_WS_FIXTURE_H

#include "tests/lib/alloc_fail.h"

#include "broker/transport/ws.c"
#include "proto/base/buf.c"
#include "tests/lib/unit.h"

static const struct ws_terms plain_terms = {.path = "/mqtt"};

/* What came of some input. */
struct outcome {
    struct buf mqtt, out;
    int rc;
    const char *why;
};

static inline void outcome_deinit(struct outcome *o)
{
    buf_deinit(&o->mqtt);
    buf_deinit(&o->out);
}

/* How input is cut and where it goes. */
struct cut {
    size_t piece, space; /* space 0: over the input itself */
};

static const struct cut cuts[] = {{SIZE_MAX, 4096}, {SIZE_MAX, 0}, {SIZE_MAX, 1}, {1, 4096}, {1, 0},
                                  {2, 1},           {3, 0},        {5, 3},        {7, 4096}, {64, 5}};

/* Feed one piece that lies in memory of exact size, for ASan to see one byte over. Returns whether it goes on. */
static inline bool feed_piece(struct ws *ws, struct slice piece, size_t space_size, struct outcome *o)
{
    uint8_t *copy = malloc(piece.len), *space = space_size ? malloc(space_size) : copy;
    struct slice data = slice_of(memcpy(copy, piece.ptr, piece.len), piece.len);
    int n;

    while ((n = ws_feed(ws, &data, space, space_size ? space_size : piece.len, &o->out, &o->why)) > 0) {
        buf_put(&o->mqtt, slice_of(space, (size_t)n));
    }
    CHECK(n < 0 || data.len == 0);
    o->rc = n;
    if (space != copy) {
        free(space);
    }
    free(copy);
    return n == 0;
}

static inline void feed(struct ws *ws, struct slice input, struct cut cut, struct outcome *o)
{
    bool goes_on = true;

    while (goes_on && input.len > 0) {
        size_t n = min_size(cut.piece, input.len);
        goes_on = feed_piece(ws, slice_of(input.ptr, n), cut.space, o);
        input = slice_drop(input, n);
    }
}

/* ---- a request ---- */

enum { LINE_GET, LINE_HOST, LINE_UPGRADE, LINE_CONNECTION, LINE_KEY, LINE_PROTOCOL, LINE_VERSION, LINE_MORE, LINES };

/* RFC 6455, 1.3, with our path and subprotocol. */
static const char *const good_lines[LINES] = {
    "GET /mqtt HTTP/1.1\r\n",
    "Host: server.example.com\r\n",
    "Upgrade: websocket\r\n",
    "Connection: Upgrade\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Protocol: mqtt\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "Origin: http://example.com\r\n",
};

#define ANSWER(protocol) \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: " protocol "\r\n\r\n"

static inline struct buf request_with(int line, const char *text)
{
    struct buf b = {0};

    for (int i = 0; i < LINES; i++) {
        put_text(&b, i == line ? text : good_lines[i]);
    }
    buf_put(&b, SLICE("\r\n"));
    return b;
}

#endif
