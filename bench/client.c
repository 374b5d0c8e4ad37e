/* client.c -- sockets, epoll, and the packets of a client. */
#include "bench/client.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/cursor.h"
#include "proto/mqtt/ack.h"
#include "proto/mqtt/connect.h"
#include "proto/mqtt/frame.h"

#define EVENTS_PER_TURN 512
#define RECEIVE_BYTES (CLIENT_PACKET_BYTES_MAX + (256u << 10)) /* a packet's beginning and a good read behind it */

struct client_pool {
    const struct client_target *target;   /* borrowed */
    const struct client_handler *handler; /* borrowed */
    void *context;
    struct sockaddr_storage address;
    socklen_t address_len;
    int epoll_fd;
    uint32_t client_count, dirty_count;
    struct client *clients; /* owned */
    struct client **dirty;  /* owned array, room for every client */
    uint8_t *receive;       /* owned; RECEIVE_BYTES, shared by all clients */
};

static int target_resolve(struct client_pool *pool)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;

    snprintf(port, sizeof(port), "%u", pool->target->port);
    if (getaddrinfo(pool->target->host, port, &hints, &found) != 0) {
        return -EINVAL;
    }
    memcpy(&pool->address, found->ai_addr, found->ai_addrlen);
    pool->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

int client_pool_new(const struct client_target *target, const struct client_handler *handler, void *context,
                    uint32_t count, struct client_pool **ret_pool)
{
    int rc = -ENOMEM;
    struct client_pool *pool = calloc(1, sizeof(*pool));
    if (!pool) {
        return -ENOMEM;
    }
    *pool = (struct client_pool){.target = target, .handler = handler, .context = context, .epoll_fd = -1};
    pool->clients = calloc(count, sizeof(*pool->clients));
    pool->dirty = calloc(count, sizeof(struct client *));
    pool->receive = malloc(RECEIVE_BYTES);
    if (!pool->clients || !pool->dirty || !pool->receive) {
        goto fail;
    }
    pool->client_count = count;
    for (uint32_t i = 0; i < count; i++) {
        pool->clients[i] = (struct client){.pool = pool, .fd = -1, .index = i, .receive_max = UINT16_MAX};
    }
    rc = target_resolve(pool);
    if (rc != 0) {
        goto fail;
    }
    pool->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (pool->epoll_fd < 0) {
        rc = -errno;
        goto fail;
    }
    *ret_pool = pool;
    return 0;

fail:
    client_pool_free(pool);
    return rc;
}

void client_pool_close(struct client_pool *pool)
{
    static const uint8_t disconnect[] = {MQTT_DISCONNECT << 4, 0};

    for (uint32_t i = 0; i < pool->client_count; i++) {
        struct client *client = &pool->clients[i];
        if (client->fd < 0) {
            continue;
        }
        if (client->state == CLIENT_UP && !client->waits_writable) {
            /* A courtesy: whether it arrives changes nothing. */
            (void)!send(client->fd, disconnect, sizeof(disconnect), MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        close(client->fd);
        client->fd = -1;
        client->state = CLIENT_GONE;
    }
}

void client_pool_free(struct client_pool *pool)
{
    if (!pool) {
        return;
    }
    client_pool_close(pool);
    for (uint32_t i = 0; i < pool->client_count; i++) {
        buf_deinit(&pool->clients[i].in);
        buf_deinit(&pool->clients[i].out);
    }
    if (pool->epoll_fd >= 0) {
        close(pool->epoll_fd);
    }
    free(pool->clients);
    free(pool->dirty);
    free(pool->receive);
    free(pool);
}

struct client *client_at(struct client_pool *pool, uint32_t index)
{
    assert(index < pool->client_count);
    return &pool->clients[index];
}

static void client_lose(struct client *client, const char *why)
{
    if (client->state == CLIENT_GONE) {
        return;
    }
    client->state = CLIENT_GONE;
    close(client->fd); /* takes it out of the epoll set */
    client->fd = -1;
    client->pool->handler->gone(client->pool->context, client, why);
}

/* Wait for room to write as well, or no longer. */
static void client_watch(struct client *client, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = client};

    client->waits_writable = writable;
    if (epoll_ctl(client->pool->epoll_fd, EPOLL_CTL_MOD, client->fd, &event) != 0) {
        client_lose(client, "epoll_ctl failed");
    }
}

static void client_touch(struct client *client)
{
    if (!client->dirty) {
        client->dirty = true;
        client->pool->dirty[client->pool->dirty_count++] = client;
    }
}

int client_connect(struct client *client)
{
    struct client_pool *pool = client->pool;
    char id[24]; /* 23 bytes are what every 3.1.1 server has to take [MQTT311-3.1.3-5] */
    int on = 1;

    assert(client->fd < 0);
    client->fd = socket(pool->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0) {
        return -errno;
    }
    client->state = CLIENT_CONNECTING;
    client->waits_writable = true; /* EPOLLOUT tells that the connection stands; CONNECT leaves then */
    (void)setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = client};
    if (connect(client->fd, (struct sockaddr *)&pool->address, pool->address_len) != 0 && errno != EINPROGRESS) {
        goto fail;
    }
    if (epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, client->fd, &event) != 0) {
        goto fail;
    }
    int id_len = snprintf(id, sizeof(id), "bench-%u-%u", (unsigned)getpid(), client->index);
    struct mqtt_connect connect = {
        .version = pool->target->version,
        .clean_start = true,
        .keep_alive_s = pool->target->keep_alive_s,
        .client_id = slice_of(id, (size_t)id_len),
    };
    mqtt_connect_encode(&client->out, &connect);
    return client->out.failed ? -ENOMEM : 0;

fail:;
    int rc = -errno;
    close(client->fd);
    client->fd = -1;
    return rc;
}

void client_subscribe(struct client *client, uint16_t packet_id, const struct mqtt_subscription *subs, size_t count)
{
    mqtt_subscribe_encode(&client->out, client->pool->target->version, packet_id, NULL, subs, count);
    client_touch(client);
}

void client_flush(struct client *client)
{
    if (client->state == CLIENT_GONE || client->waits_writable || client->out.len == client->out_at) {
        return;
    }
    if (client->out.failed) {
        client_lose(client, "out of memory");
        return;
    }
    ssize_t sent = send(client->fd, client->out.ptr + client->out_at, client->out.len - client->out_at,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) {
        client_lose(client, strerror(errno));
        return;
    }
    client->out_at += sent > 0 ? (uint32_t)sent : 0;
    if (client->out_at < client->out.len) {
        client_watch(client, true);
        return;
    }
    client->out.len = client->out_at = 0;
}

void client_pool_flush(struct client_pool *pool)
{
    for (uint32_t i = 0; i < pool->dirty_count; i++) {
        pool->dirty[i]->dirty = false;
        client_flush(pool->dirty[i]);
    }
    pool->dirty_count = 0;
}

static void answer(struct client *client, enum mqtt_type type, uint16_t packet_id)
{
    mqtt_ack_encode_plain(&client->out, type, packet_id);
    client_touch(client);
}

/* A PUBLISH: find the payload, acknowledge. Returns false when it is not one. */
static bool on_publish(struct client *client, const struct mqtt_frame *frame)
{
    struct cursor c = cursor_at(frame->body);
    uint8_t qos = frame->flags >> 1 & 3;

    (void)cursor_binary(&c); /* the topic: who sent the message says the payload */
    uint16_t packet_id = qos > 0 ? cursor_u16(&c) : 0;
    if (client->pool->target->version == MQTT_V5) {
        (void)cursor_take(&c, cursor_varint(&c));
    }
    struct slice payload = cursor_rest(&c);
    if (c.failed || qos == 3 || (qos > 0 && packet_id == 0)) {
        return false;
    }
    client->pool->handler->message(client->pool->context, client, payload);
    if (qos > 0) {
        answer(client, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, packet_id);
    }
    return true;
}

static bool on_ack(struct client *client, const struct mqtt_frame *frame)
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
    client->pool->handler->acked(client->pool->context, client, frame->type, packet_id, reason);
    return true;
}

static bool on_connack(struct client *client, const struct mqtt_frame *frame)
{
    enum mqtt_version version = client->pool->target->version;
    struct mqtt_connack connack;

    if (client->state != CLIENT_CONNECTING ||
        mqtt_connack_decode(frame->body, frame->flags, version, &connack) != MQTT_SUCCESS || connack.code != 0) {
        return false;
    }
    if (version == MQTT_V5 && mqtt_property_has(&connack.properties, MQTT_PROP_RECEIVE_MAX)) {
        client->receive_max = connack.properties.receive_max;
    }
    client->state = CLIENT_UP;
    if (client->out.len == 0) {
        buf_deinit(&client->out); /* an idle client never writes again */
    }
    client->pool->handler->up(client->pool->context, client);
    return true;
}

static bool on_suback(struct client *client, const struct mqtt_frame *frame)
{
    struct mqtt_suback suback;

    if (mqtt_suback_decode(MQTT_SUBACK, frame->body, frame->flags, client->pool->target->version, &suback) !=
        MQTT_SUCCESS) {
        return false;
    }
    client->pool->handler->subscribed(client->pool->context, client, suback.codes);
    return true;
}

static bool on_packet(struct client *client, const struct mqtt_frame *frame)
{
    switch (frame->type) {
    case MQTT_PUBLISH:
        return on_publish(client, frame);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        return on_ack(client, frame);
    case MQTT_CONNACK:
        return on_connack(client, frame);
    case MQTT_SUBACK:
        return on_suback(client, frame);
    default: /* a DISCONNECT, or what no server may send */
        return false;
    }
}

/* Serve every whole packet of bytes, keep the rest. */
static void packets_serve(struct client *client, struct slice bytes)
{
    struct mqtt_frame frame;
    enum mqtt_frame_state state;

    while ((state = mqtt_frame_next(bytes, CLIENT_PACKET_BYTES_MAX, &frame)) == MQTT_FRAME_WHOLE) {
        if (!on_packet(client, &frame)) {
            char why[80];
            snprintf(why, sizeof(why), "%s from the broker refuses, ends or breaks the protocol",
                     mqtt_type_name(frame.type));
            client_lose(client, why);
            return;
        }
        bytes = slice_drop(bytes, frame.size);
    }
    if (state != MQTT_FRAME_PARTIAL) {
        client_lose(client, "malformed or too long packet from the broker");
        return;
    }
    buf_put(&client->in, bytes);
    if (client->in.failed) {
        client_lose(client, "out of memory");
    }
}

static void client_receive(struct client *client)
{
    uint8_t *room = client->pool->receive;
    size_t kept = client->in.len;

    if (kept > 0) {
        memcpy(room, client->in.ptr, kept);
    }
    ssize_t got = recv(client->fd, room + kept, RECEIVE_BYTES - kept, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        client_lose(client, got == 0 ? "closed by the broker" : strerror(errno));
        return;
    }
    client->in.len = 0;
    packets_serve(client, slice_of(room, kept + (size_t)got));
}

static void client_serve(struct client *client, uint32_t events)
{
    if (events & EPOLLOUT) {
        client_watch(client, false);
        client_flush(client);
        if (client->state == CLIENT_UP && !client->waits_writable) {
            client->pool->handler->writable(client->pool->context, client);
        }
    }
    if (client->state != CLIENT_GONE && events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        client_receive(client);
    }
}

int client_pool_turn(struct client_pool *pool, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_TURN];

    client_pool_flush(pool);
    int count = epoll_wait(pool->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
    if (count < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    for (int i = 0; i < count; i++) {
        client_serve(events[i].data.ptr, events[i].events);
    }
    client_pool_flush(pool);
    return 0;
}
