#include "broker/conn/channel.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/base/network.h"
#include "broker/conn/listener.h"
#include "broker/transport/proxy.h"
#include "proto/base/log.h"

/* Steps of TLS handshakes in one turn. One costs a signature, some 0.1 to 1 ms: what an established client may have to
 * wait. */
#define HANDSHAKES_A_TURN 2u
#define IDLE_MS 100u
/* Pongs and the like that may wait for a client that does not read. */
#define ANSWERS_BYTES_MAX 65536u
/* A record of TLS holds so much. */
#define RECORD_BYTES 16384u

/* Plain text on its way in, and on its way out: for the length of a call. */
static _Thread_local uint8_t scratch_in[RECORD_BYTES];
static _Thread_local struct {
    uint8_t bytes[RECORD_BYTES];
    size_t len;
} scratch_out;

int channel_new(struct conn *conn, struct channel **ret_channel)
{
    const struct listener *l = conn->listener;

    if (!l->tls && !l->websocket && !l->proxy) {
        *ret_channel = NULL;
        return 0;
    }
    struct channel *ch = calloc(1, sizeof(*ch));
    if (!ch) {
        return -ENOMEM;
    }
    ch->conn = conn;
    ch->proxy_due = l->proxy;
    list_init(&ch->in_knocking);
    list_init(&ch->in_warm);
    struct tls_context *context = atomic_load_explicit(&((struct listener *)l)->tls_context, memory_order_acquire);
    if ((l->tls && !(ch->tls = tls_new(context, NULL))) || (l->websocket && !(ch->ws = ws_server_new(&l->ws_terms)))) {
        channel_free(ch, &conn->shard->spare);
        return -ENOMEM;
    }
    *ret_channel = ch;
    return 0;
}

/* It waits for its turn no more. */
static void stop_knocking(struct channel *ch)
{
    if (!list_empty(&ch->in_knocking)) {
        list_remove(&ch->in_knocking);
        metric_add(ch->conn->shard->metrics, METRIC_HANDSHAKES_WAITING, -1);
    }
}

void channel_free(struct channel *ch, struct buf_pool *pool)
{
    if (!ch) {
        return;
    }
    if (pool) {
        stop_knocking(ch);
    }
    list_remove(&ch->in_knocking); /* the counters are gone with the shard */
    list_remove(&ch->in_warm);
    tls_free(ch->tls);
    ws_free(ch->ws);
    if (pool) {
        buf_pool_put(pool, &ch->wire);
    }
    buf_deinit(&ch->wire);
    buf_deinit(&ch->proxy_name);
    free(ch);
}

static struct conn_lists *lists_of(const struct channel *ch)
{
    return ch->conn->shard->broker;
}

static void keep_warm(struct channel *ch)
{
    ch->warm_ms = ch->conn->shard->now_ms;
    list_remove(&ch->in_warm);
    list_append(&lists_of(ch)->warm, &ch->in_warm);
}

void channel_attached(struct channel *ch)
{
    if (ch->tls) {
        keep_warm(ch);
    }
}

void channel_detached(struct channel *ch)
{
    stop_knocking(ch);
    list_remove(&ch->in_warm);
}

/* ---- in ---- */

static void log_failed(const struct channel *ch, const char *layer, const char *why)
{
    char peer[CONN_PEER_TEXT];

    log_event(LOG_INFO, "handshake_failed", {"peer", LOG_STR(conn_peer(ch->conn, peer))},
              {"listener", LOG_STR(ch->conn->listener->name)}, {"layer", LOG_STR(layer)}, {"reason", LOG_STR(why)});
}

/* One of the layers has ended. What it wrote as its last word still leaves. */
static void end(struct channel *ch, int rc, const char *layer, const char *why)
{
    struct conn *conn = ch->conn;

    if (rc == -EPROTO) {
        metric_inc(conn->shard->metrics, ch->greeted ? METRIC_CHANNELS_BROKEN : METRIC_HANDSHAKES_FAILED);
        log_failed(ch, layer, why);
    }
    if (rc == -ENOMEM) {
        buf_deinit(&ch->wire);
    }
    if (ch->wire.len > 0 && !(rc == -ECONNRESET && conn->paused)) {
        conn_mark_dirty(conn);
        conn_lost(conn, rc == -ECONNRESET ? 0 : rc);
    } else {
        conn_peer_ended(conn, rc == -ECONNRESET ? 0 : rc);
    }
}

/* A browser behind a trusted proxy: the address that the nearest proxy which we do not trust, or the browser, has. */
static bool heed_forwarded(struct channel *ch)
{
    struct conn *conn = ch->conn;
    const struct listener *l = conn->listener;
    struct slice list = ws_forwarded_for(ch->ws);
    struct in6_addr address = conn->peer, last = conn->peer;

    while (list.len > 0 && network_list_has(l->trusted_proxies, &address)) {
        size_t at = list.len;
        while (at > 0 && list.ptr[at - 1] != ',') {
            at--;
        }
        struct slice word = slice_trim(slice_drop(list, at));
        list.len = at > 0 ? at - 1 : 0;
        if (address_parse(word, &last) != 0) {
            break;
        }
        address = last;
    }
    ws_forget_head(ch->ws);
    return memcmp(&address, &conn->peer, sizeof(address)) == 0 || listener_admit(l, conn, &address, 0);
}

/* Everything below MQTT is agreed. Returns false if the connection has ended. */
static bool greet(struct channel *ch)
{
    if (ch->greeted || ch->proxy_due || (ch->tls && !tls_open(ch->tls)) || (ch->ws && !ws_open(ch->ws))) {
        return true;
    }
    ch->greeted = true;
    metric_inc(ch->conn->shard->metrics, METRIC_HANDSHAKES);
    if (ch->tls) {
        metric_add(ch->conn->shard->metrics, METRIC_TLS_RESUMED, tls_resumed(ch->tls));
    }
    if (ch->ws && !heed_forwarded(ch)) {
        conn_drop(ch->conn);
        return false;
    }
    return true;
}

/* MQTT bytes. Returns false if the connection has ended or moved. */
static bool take(struct channel *ch, struct slice bytes)
{
    struct conn *conn = ch->conn;

    if (conn->state != CONN_GUEST) {
        return conn_take(conn, bytes);
    }
    if (!conn_keep(conn, bytes)) { /* a guest may move: only when everything that came has been kept */
        conn_peer_ended(conn, -ENOMEM);
        return false;
    }
    return true;
}

/* What WebSocket answers by itself. */
static void send_answer(struct channel *ch, struct buf *answer)
{
    if (ch->tls && answer->len > 0 && !answer->failed) {
        (void)tls_write(ch->tls, answer->ptr, answer->len, &ch->wire);
    } else {
        buf_put(&ch->wire, buf_slice(answer));
    }
    buf_deinit(answer);
}

/* One piece of MQTT bytes, or of what TLS has decrypted for WebSocket. Returns false if the connection has ended. */
static bool pass_on(struct channel *ch, struct slice plain)
{
    struct buf answer = {0};
    const char *why = "";
    int n;

    if (!ch->ws) {
        return take(ch, plain);
    }
    while ((n = ws_feed(ch->ws, &plain, scratch_in, sizeof(scratch_in), &answer, &why)) > 0) {
        send_answer(ch, &answer); /* a Close behind a DISCONNECT is answered too */
        if (!greet(ch) || !take(ch, slice_of(scratch_in, (size_t)n))) {
            return false;
        }
    }
    send_answer(ch, &answer);
    if (ch->wire.len > ANSWERS_BYTES_MAX) {
        n = -EPROTO;
        why = "asks for more than it reads";
        buf_deinit(&ch->wire);
    }
    if (n < 0) {
        end(ch, n, "websocket", why);
        return false;
    }
    return greet(ch);
}

/* Bring bytes up through the layers. Returns false if the connection has ended. */
static bool feed(struct channel *ch, struct slice data)
{
    int n;

    if (!ch->tls) {
        return data.len == 0 || pass_on(ch, data);
    }
    while ((n = tls_feed(ch->tls, &data, scratch_in, sizeof(scratch_in), &ch->wire)) > 0) {
        if (!pass_on(ch, slice_of(scratch_in, (size_t)n))) {
            return false;
        }
    }
    if (n < 0) {
        end(ch, n, "tls", tls_why(ch->tls));
        return false;
    }
    if (ch->wire.len > ANSWERS_BYTES_MAX) { /* key updates, asked for without end */
        buf_deinit(&ch->wire);
        end(ch, -EPROTO, "tls", "asks for more than it reads");
        return false;
    }
    keep_warm(ch);
    return greet(ch);
}

/* Returns how many bytes the header had, 0 for more, -1 when the connection has ended. */
static int read_proxy(struct channel *ch, struct slice data)
{
    struct conn *conn = ch->conn;
    struct proxy_header header = {0};
    int n = proxy_parse(data, &header);

    if (n == 0) {
        return 0;
    }
    if (n < 0) {
        log_failed(ch, "proxy", n == -EMSGSIZE ? "header too long" : "no PROXY header");
        metric_inc(conn->shard->metrics, METRIC_HANDSHAKES_FAILED);
        conn_peer_ended(conn, -EPROTO);
        return -1;
    }
    ch->proxy_due = false;
    if (header.local) {
        return n;
    }
    ch->via_proxy = true;
    if (header.certificate) {
        buf_put(&ch->proxy_name, header.common_name);
    }
    if (ch->proxy_name.failed || !listener_admit(conn->listener, conn, &header.address, header.port)) {
        conn_drop(conn);
        return -1;
    }
    return n;
}

/* What has come before TLS is up, one step on. Returns whether that was a costly one. */
static bool knock(struct channel *ch)
{
    struct conn *conn = ch->conn;
    struct buf raw = conn->in;
    struct slice data = buf_slice(&raw);
    bool costly = false, alive = true;

    conn->in = (struct buf){0};
    if (ch->proxy_due) {
        int n = read_proxy(ch, data);
        alive = n >= 0;
        if (n == 0) {
            conn->in = raw;
            raw = (struct buf){0};
            data.len = 0;
        } else if (alive) {
            data = slice_drop(data, (size_t)n);
        }
    }
    if (alive && data.len > 0) {
        costly = ch->tls && !tls_open(ch->tls);
        alive = feed(ch, data);
    }
    buf_pool_put(&conn->shard->spare, &raw);
    if (!alive) {
        return costly;
    }
    if (ch->wire.len > 0) {
        conn_mark_dirty(conn);
    }
    if (!ch->proxy_due && conn->in.len > 0 && !conn_take_kept(conn)) {
        return costly;
    }
    conn_read_on(conn);
    return costly;
}

void channel_received(struct channel *ch, struct slice data)
{
    struct conn *conn = ch->conn;

    if (ch->proxy_due || (ch->tls && !tls_open(ch->tls))) {
        if (!conn_keep(conn, data)) {
            conn_peer_ended(conn, -ENOMEM);
        } else if (list_empty(&ch->in_knocking)) {
            list_append(&lists_of(ch)->knocking, &ch->in_knocking);
            metric_inc(conn->shard->metrics, METRIC_HANDSHAKES_WAITING);
        }
        return;
    }
    bool guest = conn->state == CONN_GUEST;
    if (!feed(ch, data)) {
        return;
    }
    if (ch->wire.len > 0) {
        conn_mark_dirty(conn);
    }
    if (guest && conn->in.len > 0 && !conn_take_kept(conn)) {
        return;
    }
    if (conn->state == CONN_GUEST || conn->paused) {
        conn_read_on(conn);
    }
}

bool channel_run_knocking(struct conn_lists *lists)
{
    unsigned costly = 0;
    struct list *at;

    while (costly < HANDSHAKES_A_TURN && (at = list_pop(&lists->knocking)) != NULL) {
        struct channel *ch = CONTAINER_OF(at, struct channel, in_knocking);
        metric_add(ch->conn->shard->metrics, METRIC_HANDSHAKES_WAITING, -1);
        if (ch->conn->state == CONN_GUEST) { /* else it has been sent away meanwhile */
            costly += knock(ch);
        }
    }
    return !list_empty(&lists->knocking);
}

void channel_run_warm(struct conn_lists *lists, uint64_t now_ms)
{
    while (!list_empty(&lists->warm)) {
        struct channel *ch = CONTAINER_OF(lists->warm.next, struct channel, in_warm);
        if (ch->warm_ms + IDLE_MS > now_ms) {
            return;
        }
        list_remove(&ch->in_warm);
        tls_idle(ch->tls);
    }
}

/* ---- out ---- */

static bool seal_flush(struct channel *ch)
{
    size_t len = scratch_out.len;

    scratch_out.len = 0;
    return len == 0 || tls_write(ch->tls, scratch_out.bytes, len, &ch->wire) == 0;
}

/* Gather small pieces into whole records; what fills one by itself is encrypted where it lies. */
static bool seal_put(struct channel *ch, struct slice piece)
{
    if (!ch->tls) {
        buf_put(&ch->wire, piece);
        return !ch->wire.failed;
    }
    while (piece.len > 0) {
        if (scratch_out.len == 0 && piece.len >= RECORD_BYTES) {
            size_t whole = piece.len - piece.len % RECORD_BYTES;
            if (tls_write(ch->tls, piece.ptr, whole, &ch->wire) != 0) {
                return false;
            }
            piece = slice_drop(piece, whole);
            continue;
        }
        size_t n = RECORD_BYTES - scratch_out.len < piece.len ? RECORD_BYTES - scratch_out.len : piece.len;
        memcpy(scratch_out.bytes + scratch_out.len, piece.ptr, n);
        scratch_out.len += n;
        piece = slice_drop(piece, n);
        if (scratch_out.len == RECORD_BYTES && !seal_flush(ch)) {
            return false;
        }
    }
    return true;
}

bool channel_seal(struct channel *ch, struct outbox *out)
{
    struct buf head = {0};
    bool ok = true;

    assert(scratch_out.len == 0);
    if (ch->ws && !ws_open(ch->ws)) { /* the Close is on its way: nothing may follow it (RFC 6455, 5.5.1) */
        return true;
    }
    if (!ch->wire.ptr) {
        ch->wire = buf_pool_get(&ch->conn->shard->spare);
    }
    if (ch->ws) {
        ws_frame_begin(ch->ws, outbox_size(out), &head);
        ok = !head.failed && seal_put(ch, buf_slice(&head));
        buf_deinit(&head);
    }
    if (ok && ch->tls && !ch->ws && !out->refs) { /* the usual case: nothing to be gathered */
        ok = tls_write(ch->tls, out->bytes.ptr, out->bytes.len, &ch->wire) == 0;
    } else if (ok && out->refs) {
        struct msghdr *vector = outbox_vector(out);
        for (size_t i = 0; ok && i < vector->msg_iovlen; i++) {
            ok = seal_put(ch, slice_of(vector->msg_iov[i].iov_base, vector->msg_iov[i].iov_len));
        }
    } else if (ok) {
        ok = seal_put(ch, buf_slice(&out->bytes));
    }
    ok = ok && (!ch->tls || seal_flush(ch));
    scratch_out.len = 0;
    if (ch->tls) {
        keep_warm(ch);
    }
    return ok && !ch->wire.failed;
}

void channel_close(struct channel *ch)
{
    struct buf last = {0};

    if (ch->closed) {
        return;
    }
    ch->closed = true;
    if (ch->ws) {
        ws_close(ch->ws, WS_CLOSE_NORMAL, ch->tls ? &last : &ch->wire);
        if (last.len > 0 && !last.failed) {
            (void)tls_write(ch->tls, last.ptr, last.len, &ch->wire);
        }
        buf_deinit(&last);
    }
    if (ch->tls) {
        tls_close(ch->tls, &ch->wire);
    }
}
