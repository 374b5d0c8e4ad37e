/* client.c -- connect, cut packets out of what comes, answer, write once a turn. */
#include "bench/load/client.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/load/tunnel.h"
#include "proto/base/clock.h"
#include "proto/mqtt/ack.h"
#include "proto/mqtt/connect.h"
#include "proto/mqtt/control.h"
#include "proto/mqtt/frame.h"

#define SLOW_READ_MS 50
#define SLOW_RECEIVE_BYTES 4096
#define CLIENTS_PER_ADDRESS 1000u /* by default, towards a loopback address */
#define LOOPBACK_ADDRESSES 60000u

static uint64_t now_us(void)
{
    return clock_mono_ns() / 1000;
}

static struct client *client_of(struct io_stream *s)
{
    return CONTAINER_OF(s, struct client, stream);
}

static const struct client_handler *handler_of(const struct client *client)
{
    return client->pool->handler;
}

int client_pool_init(struct client_pool *pool, uint32_t count)
{
    pool->dirty = calloc(count ? count : 1, sizeof(struct client *));
    return pool->dirty ? 0 : -ENOMEM;
}

void client_pool_deinit(struct client_pool *pool)
{
    free(pool->dirty);
    pool->dirty = NULL;
}

/* The connection is over, for whatever reason; `closed` follows. */
static void client_drop(struct client *client)
{
    client->closing = true;
    timer_cancel(client->pool->shard->timers, &client->timer);
    io_stream_close(client->pool->shard->io, &client->stream);
}

static void client_lose(struct client *client, const char *why)
{
    if (client->closing) {
        return;
    }
    bool leaving = client->state == CLIENT_LEAVING;
    client->state = CLIENT_GONE;
    client_drop(client);
    if (!leaving) { /* the broker may close first when it was told goodbye */
        handler_of(client)->gone(client, why);
    }
}

struct buf *client_output(struct client *client)
{
    if (!client->dirty) {
        client->dirty = true;
        client->pool->dirty[client->pool->dirty_count++] = client;
    }
    if (!client->out.ptr) {
        client->out = buf_pool_get(&client->pool->shard->spare);
    }
    return &client->out;
}

/* --- packets ----------------------------------------------------------------------------------------------------- */

static void answer(struct client *client, enum mqtt_type type, uint16_t packet_id)
{
    mqtt_ack_encode_plain(client_output(client), type, packet_id);
}

/* A PUBLISH: find the payload, acknowledge. Returns false when it is not one. */
static bool on_publish(struct client *client, const struct mqtt_frame *frame, uint64_t time_us)
{
    struct cursor c = cursor_at(frame->body);
    uint8_t qos = frame->flags >> 1 & 3;

    (void)cursor_binary(&c); /* the topic: who sent the message says the payload */
    uint16_t packet_id = qos > 0 ? cursor_u16(&c) : 0;
    if (client->pool->options->version == MQTT_V5) {
        (void)cursor_take(&c, cursor_varint(&c));
    }
    struct slice payload = cursor_rest(&c);
    if (c.failed || qos == 3 || (qos > 0 && packet_id == 0)) {
        return false;
    }
    handler_of(client)->message(client, payload, time_us);
    if (qos > 0) {
        answer(client, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, packet_id);
    }
    return true;
}

static bool on_ack(struct client *client, const struct mqtt_frame *frame, uint64_t time_us)
{
    struct cursor c = cursor_at(frame->body);
    uint16_t packet_id = cursor_u16(&c);
    uint8_t reason = cursor_left(&c) > 0 ? cursor_u8(&c) : 0;

    if (c.failed) {
        return false;
    }
    if (frame->type == MQTT_PUBREL) {
        answer(client, MQTT_PUBCOMP, packet_id);
        return true;
    }
    if (frame->type == MQTT_PUBREC && reason < 0x80) { /* [MQTT-4.3.3-4] */
        answer(client, MQTT_PUBREL, packet_id);
    }
    handler_of(client)->acked(client, frame->type, packet_id, reason, time_us);
    return true;
}

static void keep_alive_arm(struct client *client)
{
    struct shard *shard = client->pool->shard;
    uint32_t keep_alive_s = client->pool->options->keep_alive_s;

    if (client->slow) {
        timer_set(shard->timers, &client->timer, shard->now_ms + SLOW_READ_MS);
    } else if (keep_alive_s > 0) {
        timer_set(shard->timers, &client->timer, shard->now_ms + keep_alive_s * 750u);
    }
}

static bool on_connack(struct client *client, const struct mqtt_frame *frame)
{
    enum mqtt_version version = client->pool->options->version;
    struct mqtt_connack connack;
    char why[96];

    if (client->state != CLIENT_CONNECTING ||
        mqtt_connack_decode(frame->body, frame->flags, version, &connack) != MQTT_SUCCESS) {
        return false;
    }
    if (connack.code != 0) {
        snprintf(why, sizeof(why), "CONNACK with 0x%02X%s%s", connack.code, version == MQTT_V5 ? ", " : "",
                 version == MQTT_V5 ? mqtt_reason_name((enum mqtt_reason)connack.code) : "");
        client_lose(client, why);
        return true;
    }
    client->receive_max = UINT16_MAX;
    if (version == MQTT_V5 && mqtt_property_has(&connack.properties, MQTT_PROP_RECEIVE_MAX)) {
        client->receive_max = connack.properties.receive_max;
    }
    client->state = CLIENT_UP;
    client->was_up = true;
    client->pinged_ms = client->pool->shard->now_ms;
    keep_alive_arm(client);
    handler_of(client)->up(client);
    return true;
}

static bool on_suback(struct client *client, const struct mqtt_frame *frame)
{
    struct mqtt_suback suback;

    if (mqtt_suback_decode(MQTT_SUBACK, frame->body, frame->flags, client->pool->options->version, &suback) !=
        MQTT_SUCCESS) {
        return false;
    }
    handler_of(client)->subscribed(client, suback.codes);
    return true;
}

static bool on_packet(struct client *client, const struct mqtt_frame *frame, uint64_t time_us)
{
    switch (frame->type) {
    case MQTT_PUBLISH:
        return on_publish(client, frame, time_us);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        return on_ack(client, frame, time_us);
    case MQTT_CONNACK:
        return on_connack(client, frame);
    case MQTT_SUBACK:
        return on_suback(client, frame);
    case MQTT_PINGRESP:
        client->pinged = false;
        return true;
    default: /* a DISCONNECT, or what no server may send */
        return false;
    }
}

/* Why a packet could not be taken. */
static void complain(struct client *client, const struct mqtt_frame *frame)
{
    char why[96];

    if (frame->type == MQTT_DISCONNECT) {
        uint8_t reason = frame->body.len > 0 ? frame->body.ptr[0] : 0;
        snprintf(why, sizeof(why), "DISCONNECT with 0x%02X, %s", reason, mqtt_reason_name((enum mqtt_reason)reason));
    } else {
        snprintf(why, sizeof(why), "%s from the broker breaks the protocol", mqtt_type_name(frame->type));
    }
    client_lose(client, why);
}

/* Serve every whole packet. Returns how many bytes were used. */
static size_t packets_serve(struct client *client, struct slice bytes, uint64_t time_us)
{
    struct mqtt_frame frame;
    enum mqtt_frame_state state;
    size_t used = 0;

    while ((state = mqtt_frame_next(slice_drop(bytes, used), CLIENT_PACKET_BYTES_MAX, &frame)) == MQTT_FRAME_WHOLE) {
        if (!on_packet(client, &frame, time_us)) {
            complain(client, &frame);
        }
        if (client->closing) {
            return bytes.len;
        }
        used += frame.size;
    }
    if (state != MQTT_FRAME_PARTIAL) {
        client_lose(client, "malformed or too long packet from the broker");
        return bytes.len;
    }
    return used;
}

/* --- what the door tells ----------------------------------------------------------------------------------------- */

/* Bytes of packets. Returns false when the connection is over. */
static bool take(void *context, struct slice data)
{
    struct client *client = context;
    uint64_t time_us = now_us();

    if (client->closing) {
        return false;
    }
    if (client->in.len == 0) {
        data = slice_drop(data, packets_serve(client, data, time_us));
        if (data.len == 0 || client->closing) {
            return !client->closing;
        }
        if (!client->in.ptr) {
            client->in = buf_pool_get(&client->pool->shard->spare);
        }
        buf_put(&client->in, data);
    } else {
        buf_put(&client->in, data);
        buf_consume(&client->in, packets_serve(client, buf_slice(&client->in), time_us));
    }
    if (client->in.failed) {
        client_lose(client, "out of memory");
    } else if (client->in.len == 0) {
        buf_pool_put(&client->pool->shard->spare, &client->in);
    }
    return !client->closing;
}

static void on_received(struct io_stream *s, struct slice data)
{
    struct client *client = client_of(s);

    if (client->closing) {
        return;
    }
    if (!client->tunnel) {
        (void)take(client, data);
        return;
    }
    const char *why = tunnel_feed(client->tunnel, data, &client->wire, take, client);
    if (why) {
        client_lose(client, why);
    } else if (client->wire.len > 0 || client->out.len > 0) {
        (void)client_output(client); /* the handshake has come on: what waits may go */
    }
}

static void on_ended(struct io_stream *s, int error)
{
    struct client *client = client_of(s);

    client_lose(client, error == 0 ? "closed by the broker" : strerror(-error));
}

/* Put what is ready into `sending`. Returns false when memory is out or TLS has failed. */
static bool sending_fill(struct client *client)
{
    struct buf sent = client->sending;

    if (client->out.failed) {
        return false;
    }
    if (!client->tunnel) {
        client->sending = client->out;
        client->out = sent;
        client->out.len = 0;
        return true;
    }
    if (client->out.len > 0 && tunnel_open(client->tunnel)) {
        if (!tunnel_seal(client->tunnel, buf_slice(&client->out), &client->wire)) {
            return false;
        }
        client->out.len = 0;
    }
    client->sending = client->wire;
    client->wire = sent;
    client->wire.len = 0;
    return !client->sending.failed;
}

static void client_flush(struct client *client)
{
    struct io *io = client->pool->shard->io;

    if (client->closing || client->stream.fd < 0 || client->out.len + client->wire.len == 0 ||
        io_stream_sending(&client->stream)) {
        return;
    }
    if (!sending_fill(client)) {
        client_lose(client, "out of memory");
        return;
    }
    if (client->sending.len == 0) { /* a handshake goes on */
        return;
    }
    if (client->eager) {
        client->eager = false;
        io_stream_send(io, &client->stream, client->sending.ptr, client->sending.len);
    } else {
        io_stream_send_last(io, &client->stream, client->sending.ptr, client->sending.len);
    }
}

static void on_sent(struct io_stream *s)
{
    struct client *client = client_of(s);

    if (client->closing) {
        return;
    }
    buf_pool_put(&client->pool->shard->spare, &client->sending);
    if (client->wire.len > 0 || (client->out.len > 0 && (!client->tunnel || tunnel_open(client->tunnel)))) {
        (void)client_output(client); /* appended meanwhile: leaves at the end of this turn */
        return;
    }
    if (client->out.len > 0) { /* it waits for a handshake */
        return;
    }
    buf_pool_put(&client->pool->shard->spare, &client->out);
    if (client->state == CLIENT_LEAVING) {
        client_drop(client);
        return;
    }
    if (client->state == CLIENT_UP) {
        handler_of(client)->writable(client);
    }
}

static void on_closed(struct io_stream *s)
{
    struct client *client = client_of(s);

    client_deinit(client);
    client->state = CLIENT_IDLE;
    client->closing = false;
    handler_of(client)->closed(client);
}

static const struct io_stream_handler stream_handler = {on_received, on_ended, on_sent, on_closed};

void client_pool_flush(struct client_pool *pool)
{
    for (uint32_t i = 0; i < pool->dirty_count; i++) {
        pool->dirty[i]->dirty = false;
        client_flush(pool->dirty[i]);
    }
    pool->dirty_count = 0;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct client *client = CONTAINER_OF(timer, struct client, timer);
    uint64_t keep_alive_s = client->pool->options->keep_alive_s;

    if (client->slow) {
        io_stream_recv_once(client->pool->shard->io, &client->stream);
    }
    if (keep_alive_s > 0 && now_ms - client->pinged_ms >= keep_alive_s * 750u) {
        if (client->pinged && !client->slow) {
            client_lose(client, "no PINGRESP within the keep alive");
            return;
        }
        mqtt_ping_encode(client_output(client), MQTT_PINGREQ);
        client->pinged = true;
        client->pinged_ms = now_ms;
    }
    keep_alive_arm(client);
}

void client_init(struct client *client, struct client_pool *pool, uint32_t number)
{
    *client = (struct client){.pool = pool, .number = number};
    client->stream.handler = &stream_handler;
    client->stream.fd = -1;
    timer_init(&client->timer, on_timer);
}

void client_deinit(struct client *client)
{
    struct buf_pool *spare = &client->pool->shard->spare;

    buf_pool_put(spare, &client->in);
    buf_pool_put(spare, &client->out);
    buf_pool_put(spare, &client->sending);
    buf_pool_put(spare, &client->wire);
    tunnel_free(client->tunnel);
    client->tunnel = NULL;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET &&
           ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* Where this client comes from: one of --ifaddr, or on loopback an address for each thousand clients, for an address
 * has only 28,000 ports. Returns 0 or a negative errno. */
static int source_bind(const struct client *client, int fd, const struct host *host)
{
    const struct options *o = client->pool->options;
    struct sockaddr_storage source = {0};
    socklen_t len = host->address_len;
    int on = 1;

    if (o->source_count > 0) {
        source = o->sources[client->number % o->source_count];
        len = source.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    } else if (is_loopback(&host->address)) {
        struct sockaddr_in *in = (struct sockaddr_in *)&source;
        in->sin_family = AF_INET;
        in->sin_addr.s_addr =
            htonl((IN_LOOPBACKNET << 24) + 0x101 + client->number / CLIENTS_PER_ADDRESS % LOOPBACK_ADDRESSES);
    } else {
        return 0;
    }
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    return bind(fd, (const struct sockaddr *)&source, len) == 0 ? 0 : -errno;
}

static int socket_open(const struct client *client, int *ret_fd)
{
    const struct options *o = client->pool->options;
    const struct host *host = &o->hosts[client->number % o->host_count];
    int on = 1, small = SLOW_RECEIVE_BYTES;
    int fd = socket(host->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (client->slow) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    }
    int rc = source_bind(client, fd, host);
    if (rc == 0 && connect(fd, (const struct sockaddr *)&host->address, host->address_len) != 0 &&
        errno != EINPROGRESS) {
        rc = -errno;
    }
    if (rc) {
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

static void connect_encode(struct client *client, bool fresh)
{
    const struct options *o = client->pool->options;
    char id[TOPIC_BYTES_MAX];
    struct mqtt_connect connect = {
        .version = (enum mqtt_version)o->version,
        .clean_start = fresh || o->clean,
        .keep_alive_s = (uint16_t)o->keep_alive_s,
        .client_id = slice_of(id, plan_client_id(o, client->number, id)),
        .has_user_name = o->user_name != NULL,
        .has_password = o->password != NULL,
    };

    if (o->user_name) {
        connect.user_name = slice_str(o->user_name);
    }
    if (o->password) {
        connect.password = slice_str(o->password);
    }
    if (o->version == MQTT_V5 && o->session_expiry_s > 0 && !fresh) {
        connect.properties.present = 1ull << MQTT_PROP_SESSION_EXPIRY;
        connect.properties.session_expiry_s = o->session_expiry_s;
    }
    mqtt_connect_encode(client_output(client), &connect);
}

int client_connect(struct client *client, uint64_t due_us, bool fresh)
{
    struct shard *shard = client->pool->shard;
    int fd = -1;

    assert(client->state == CLIENT_IDLE && client->stream.fd < 0);
    int rc = socket_open(client, &fd);
    if (rc) {
        return rc;
    }
    const struct options *o = client->pool->options;
    rc = tunnel_new(o, &o->hosts[client->number % o->host_count], &client->wire, &client->tunnel);
    rc = rc ? rc : io_stream_attach(shard->io, &client->stream, fd);
    if (rc) {
        close(fd);
        client_deinit(client);
        return rc;
    }
    client->state = CLIENT_CONNECTING;
    client->pinged = client->eager = client->was_up = false;
    client->since_us = due_us;
    connect_encode(client, fresh);
    if (client->slow) {
        io_stream_recv_once(shard->io, &client->stream);
        timer_set(shard->timers, &client->timer, shard->now_ms + SLOW_READ_MS);
    } else {
        io_stream_recv_start(shard->io, &client->stream);
    }
    return 0;
}

void client_subscribe(struct client *client, const struct mqtt_subscription *subs, size_t count)
{
    client->subscribe_id = client->subscribe_id == UINT16_MAX ? 1 : client->subscribe_id + 1;
    mqtt_subscribe_encode(client_output(client), client->pool->options->version, client->subscribe_id, NULL, subs,
                          count);
}

void client_leave(struct client *client)
{
    struct mqtt_disconnect disconnect = {0};

    if (client->state != CLIENT_UP) {
        client_cut(client);
        return;
    }
    client->state = CLIENT_LEAVING;
    mqtt_disconnect_encode(client_output(client), client->pool->options->version, &disconnect);
}

void client_cut(struct client *client)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (client->state == CLIENT_IDLE || client->closing) {
        return;
    }
    (void)setsockopt(client->stream.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    client->state = CLIENT_GONE;
    client_drop(client);
}
