#include "bench/load/tunnel.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/transport/tls.h"
#include "broker/transport/ws.h"

#define PIECE_BYTES 16384u

struct tunnel {
    const struct options *options;
    struct tls *tls;                             /* NULL: none */
    struct ws *ws;                               /* NULL: none, or not begun: TLS comes first */
    const struct host *to;                       /* borrowed from the options */
    char host[sizeof(((struct host *)0)->name)]; /* its name without the port */
};

static _Thread_local uint8_t space[PIECE_BYTES];

/* The name without the port, for SNI and the certificate. */
static void host_name(const struct host *host, char *out, size_t size)
{
    const char *colon = strrchr(host->name, ':'), *end = strchr(host->name, ']'), *from = host->name;
    size_t len = colon && strchr(from, ':') == colon ? (size_t)(colon - from) : strlen(from);

    if (*from == '[' && end) {
        from++;
        len = (size_t)(end - from);
    }
    snprintf(out, size, "%.*s", (int)len, from);
}

int tunnel_new(const struct options *o, const struct host *host, struct buf *wire, struct tunnel **ret_tunnel)
{
    *ret_tunnel = NULL;
    if (!o->tls && !o->websocket) {
        return 0;
    }
    struct tunnel *t = calloc(1, sizeof(*t));
    if (!t) {
        return -ENOMEM;
    }
    t->options = o;
    t->to = host;
    host_name(host, t->host, sizeof(t->host));
    if (o->tls) {
        t->tls = tls_new(o->tls_context, t->host);
        if (!t->tls || tls_start(t->tls, wire) != 0) {
            tunnel_free(t);
            return -ENOMEM;
        }
    } else if (!(t->ws = ws_client_new(host->name, o->path, wire))) {
        tunnel_free(t);
        return -ENOMEM;
    }
    *ret_tunnel = t;
    return 0;
}

void tunnel_free(struct tunnel *t)
{
    if (t) {
        tls_free(t->tls);
        ws_free(t->ws);
        free(t);
    }
}

bool tunnel_open(const struct tunnel *t)
{
    return (!t->tls || tls_open(t->tls)) && (!t->options->websocket || (t->ws && ws_open(t->ws)));
}

/* What WebSocket has to say by itself goes the way of everything else. */
static bool say(struct tunnel *t, struct buf *words, struct buf *wire)
{
    bool ok = !words->failed;

    if (ok && words->len > 0) {
        if (t->tls) {
            ok = tls_write(t->tls, words->ptr, words->len, wire) == 0;
        } else {
            buf_put(wire, buf_slice(words));
        }
    }
    buf_deinit(words);
    return ok && !wire->failed;
}

static const char *feed_ws(struct tunnel *t, struct slice data, struct buf *wire,
                           bool (*take)(void *context, struct slice bytes), void *context)
{
    struct buf words = {0};
    const char *why = "";
    int n;

    if (!t->ws) {
        return take(context, data) ? NULL : "";
    }
    while ((n = ws_feed(t->ws, &data, space, sizeof(space), &words, &why)) > 0) {
        if (!take(context, slice_of(space, (size_t)n))) {
            buf_deinit(&words);
            return "";
        }
    }
    if (!say(t, &words, wire)) {
        return "out of memory";
    }
    return n == 0 ? NULL : n == -ECONNRESET ? "closed by the broker" : why;
}

const char *tunnel_feed(struct tunnel *t, struct slice data, struct buf *wire,
                        bool (*take)(void *context, struct slice bytes), void *context)
{
    const char *why;
    int n;

    if (!t->tls) {
        return feed_ws(t, data, wire, take, context);
    }
    while ((n = tls_feed(t->tls, &data, space, sizeof(space), wire)) > 0) {
        why = feed_ws(t, slice_of(space, (size_t)n), wire, take, context);
        if (why) {
            return why;
        }
    }
    if (n < 0) {
        return n == -ECONNRESET ? "closed by the broker" : tls_why(t->tls);
    }
    if (t->options->websocket && !t->ws && tls_open(t->tls)) {
        struct buf words = {0};
        t->ws = ws_client_new(t->to->name, t->options->path, &words);
        if (!say(t, &words, wire) || !t->ws) {
            return "out of memory";
        }
    }
    return NULL;
}

bool tunnel_seal(struct tunnel *t, struct slice packets, struct buf *wire)
{
    struct buf frame = {0};

    if (!t->ws) {
        return tls_write(t->tls, packets.ptr, packets.len, wire) == 0;
    }
    ws_frame_begin(t->ws, packets.len, &frame);
    uint32_t head = frame.len;
    buf_put(&frame, packets);
    if (!frame.failed) {
        ws_client_mask(t->ws, frame.ptr + head, packets.len);
    }
    return say(t, &frame, wire);
}
