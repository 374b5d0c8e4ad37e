/* A client whose session is on another node than its connection. The front, where it is connected, carries its bytes as
 * they are, to and fro; the home, where the session is, has a connection without a socket (conn/pipe.h), for which
 * everything is as for any other. So there is one way through the flows, wherever a client is connected.
 *
 *     client == front: conn, TLS -- FRAME_ATTACHED --> home: conn_pipe, session
 *
 * Each side may have WINDOW_BYTES on the way that the other has not used: that is the back pressure, from a session's
 * queue to the client and from the client's socket to the outbox. If the link is begun anew, or a node dies, the
 * connection ends, and the client comes again. */
#include <errno.h>
#include <stdlib.h>

#include "broker/conn/pipe.h"
#include "broker/flow/attach_open.h"
#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"
#include "broker/flow/login.h"
#include "proto/base/cursor.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"

#define WINDOW_BYTES 65536u
#define CREDIT_BYTES (WINDOW_BYTES / 4) /* given back at one time */
#define HEAD_BYTES 15u                  /* kind u8, shard u16, number u64, value u32 */

enum attach_kind {
    ATTACH_ACCEPTED, /* value: shard; behind the head the number there */
    ATTACH_DATA,     /* bytes behind the head */
    ATTACH_CREDIT,   /* value: bytes */
    ATTACH_END,
    ATTACH_LEAVE, /* value: the reason of a DISCONNECT; to the home of a link that has PEER_FEATURE_LEAVE */
};

struct attach {
    struct list in_due; /* cluster_shard.attaches_due; empty: nothing is due */
    struct broker *broker;
    struct conn *conn;     /* NULL: it is gone, and the other side is to be told */
    struct conn_pipe pipe; /* home */
    uint64_t id, peer_id;
    uint32_t peer_shard;
    unsigned neighbour;
    uint32_t window; /* bytes that may still be sent */
    uint32_t owed;   /* bytes used, and not yet given back */
    uint32_t unread; /* front: bytes that wait for the client's socket. Home: of the CONNECT, which are not counted */
    bool front;
    bool linked;     /* peer_shard and peer_id are known */
    bool accept_due; /* the front is to be told of it */
    bool leaving;    /* front: home was asked to say goodbye */
    bool no_end;     /* the other side has ended it, or is gone */
};

struct attach_note { /* carried by MAIL_ATTACH */
    struct node_id node;
    bool open;
    uint32_t len;
    uint8_t body[];
};

static bool is_attach(const void *value, const void *key)
{
    return ((const struct attach *)value)->id == *(const uint64_t *)key;
}

static struct attach *find(const struct broker *b, uint64_t id)
{
    return map_find(&b->cluster->attaches, hash_mix(id), is_attach, &id);
}

static struct attach *attach_new(struct broker *b, unsigned neighbour)
{
    struct attach *r = calloc(1, sizeof(*r));

    if (!r) {
        return NULL;
    }
    *r = (struct attach){.broker = b, .id = ++b->cluster->next_token, .neighbour = neighbour};
    list_init(&r->in_due);
    if (map_add(&b->cluster->attaches, hash_mix(r->id), r) != 0) {
        free(r);
        return NULL;
    }
    return r;
}

static void attach_free(struct attach *r)
{
    map_remove(&r->broker->cluster->attaches, hash_mix(r->id), r);
    list_remove(&r->in_due);
    free(r);
}

/* ---- sending ---- */

static bool put(struct attach *r, enum attach_kind kind, uint32_t value, struct slice bytes)
{
    struct peer_link *link = r->broker->cluster->links[r->neighbour];
    uint8_t space[HEAD_BYTES];
    struct buf head = {.ptr = space, .cap = HEAD_BYTES};

    buf_u8(&head, (uint8_t)kind);
    buf_u16(&head, (uint16_t)r->peer_shard);
    buf_u64(&head, r->peer_id);
    buf_u32(&head, value);
    struct slice parts[] = {buf_slice(&head), bytes};
    return link && peer_put(link, LINK_DURABLE, FRAME_ATTACHED, 0, parts, COUNT_OF(parts)) == 0;
}

static void due(struct attach *r)
{
    if (list_empty(&r->in_due)) {
        list_append(&r->broker->cluster->attaches_due, &r->in_due);
    }
}

/* Say what is to be said before bytes. Returns whether all of it is out. */
static bool say(struct attach *r)
{
    if (!r->linked) {
        return false;
    }
    if (r->accept_due) {
        uint8_t number[8];
        struct buf id = {.ptr = number, .cap = sizeof(number)};
        buf_u64(&id, r->id);
        if (!put(r, ATTACH_ACCEPTED, r->broker->shard->index, buf_slice(&id))) {
            return false;
        }
        r->accept_due = false;
    }
    if (r->owed >= CREDIT_BYTES) {
        if (!put(r, ATTACH_CREDIT, r->owed, (struct slice){0})) {
            return false;
        }
        r->owed = 0;
    }
    return true;
}

/* Bytes for the other side. Returns how many it may have now; with fewer than all it is tried again. */
static size_t send_bytes(struct attach *r, struct slice bytes)
{
    if (!say(r)) {
        if (r->linked) {
            due(r);
        }
        return 0;
    }
    size_t n = bytes.len < r->window ? bytes.len : r->window;
    if (n > 0 && !put(r, ATTACH_DATA, 0, slice_of(bytes.ptr, n))) {
        due(r);
        return 0;
    }
    r->window -= (uint32_t)n;
    return n;
}

/* There is room again, for this one: go on with what waits. */
static void go_on(struct attach *r)
{
    if (!r->conn) {
        if (r->no_end || (r->linked && put(r, ATTACH_END, 0, (struct slice){0}))) {
            attach_free(r);
        } else if (r->linked) {
            due(r);
        }
        return;
    }
    if (!say(r)) {
        if (r->linked) {
            due(r);
        }
    } else if (r->front) {
        conn_resume(r->conn, PAUSE_BUSY);
    } else {
        conn_pipe_room(&r->pipe);
    }
}

void attach_turn(struct broker *b)
{
    struct list batch, *at;

    list_init(&batch);
    list_splice(&batch, &b->cluster->attaches_due);
    while ((at = list_pop(&batch)) != NULL) {
        go_on(CONTAINER_OF(at, struct attach, in_due));
    }
}

/* What was used is given back. */
static void give_back(struct attach *r, size_t bytes)
{
    r->owed += (uint32_t)bytes;
    if (r->owed >= CREDIT_BYTES && !say(r)) {
        due(r);
    }
}

/* ---- the front ---- */

static void fill_principal(Tern__Attach *open, const struct principal *p, ProtobufCBinaryData *roles)
{
    if (p && (p->method == METHOD_JWT || p->rules)) { /* the token has more to say than fits here: it is read again */
        return;
    }
    open->known = true;
    open->expires_ms = UINT64_MAX;
    if (!p) {
        return;
    }
    open->method = p->method;
    open->expires_ms = p->expires_at_ms;
    open->credential = p->credential;
    open->user.data = (uint8_t *)(uintptr_t)p->user.ptr; /* only read */
    open->user.len = p->user.len;
    for (unsigned i = 0; i < p->role_count; i++) {
        roles[i].data = (uint8_t *)(uintptr_t)p->roles[i].ptr;
        roles[i].len = p->roles[i].len;
    }
    open->roles = roles;
    open->n_roles = p->role_count;
}

static int send_open(struct attach *r, struct conn *conn, const struct mqtt_frame *packet, struct slice client_id)
{
    const struct principal *p = login_principal(conn);
    Tern__Attach open = TERN__ATTACH__INIT;
    struct mqtt_properties auth = {0};
    ProtobufCBinaryData *roles = calloc(1u + (p ? p->role_count : 0u), sizeof(*roles));
    struct peer_link *link = r->broker->cluster->links[r->neighbour];

    if (!roles) {
        return -ENOMEM;
    }
    open.shard = r->broker->shard->index;
    open.id = r->id;
    open.connect.data = (uint8_t *)(uintptr_t)(packet->body.ptr + packet->body.len - packet->size);
    open.connect.len = packet->size;
    open.client_id.data = (uint8_t *)(uintptr_t)client_id.ptr;
    open.client_id.len = client_id.len;
    open.listener = (char *)(uintptr_t)conn->listener->name;
    open.address.data = conn->peer.s6_addr;
    open.address.len = sizeof(conn->peer.s6_addr);
    open.port = conn->peer_port;
    fill_principal(&open, p, roles);
    login_connack(conn, &auth);
    open.auth_method.data = (uint8_t *)(uintptr_t)auth.auth_method.ptr;
    open.auth_method.len = auth.auth_method.len;
    open.auth_data.data = (uint8_t *)(uintptr_t)auth.auth_data.ptr;
    open.auth_data.len = auth.auth_data.len;
    int rc = link ? peer_put_message(link, LINK_DURABLE, FRAME_ATTACH, &open.base) : -ENOTCONN;
    free(roles);
    return rc;
}

int attach_begin(struct conn *conn, unsigned neighbour, const struct mqtt_frame *packet, const struct mqtt_connect *c)
{
    struct broker *b = broker_of(conn);
    struct conn_more *more = conn_more(conn);
    struct attach *r = more ? attach_new(b, neighbour) : NULL;

    if (!r) {
        return -ENOMEM;
    }
    int rc = send_open(r, conn, packet, c->client_id);
    if (rc) {
        attach_free(r);
        return rc;
    }
    r->front = true;
    r->conn = conn;
    more->attach = r;
    conn_pause(conn, PAUSE_BUSY);
    conn_opened(conn);
    login_free(conn);
    log_event(LOG_INFO, "client_attached_elsewhere", {"client", LOG_SLICE(c->client_id)},
              {"node", LOG_STR(b->node->cluster->neighbours[neighbour].name)});
    return 0;
}

size_t attach_bytes(struct conn *conn, struct slice bytes)
{
    struct attach *r = conn->more->attach;
    size_t n = send_bytes(r, bytes);

    if (n < bytes.len) {
        conn_pause(conn, PAUSE_BUSY);
    }
    return n;
}

void attach_drained(struct conn *conn)
{
    struct attach *r = conn->more->attach;

    if (conn_out_bytes(conn) == 0) {
        give_back(r, r->unread);
        r->unread = 0;
    }
}

/* The connection here has ended. */
static void part(struct attach *r)
{
    r->conn = NULL;
    go_on(r);
}

void attach_lost(struct conn *conn)
{
    struct attach *r = conn->more ? conn->more->attach : NULL;

    if (r) {
        conn->more->attach = NULL;
        part(r);
    }
}

bool attach_leave(struct conn *conn, enum mqtt_reason reason)
{
    struct attach *r = conn->more->attach;
    const struct peer_link *link = r->broker->cluster->links[r->neighbour];

    r->leaving =
        r->linked && link && link->features & PEER_FEATURE_LEAVE && put(r, ATTACH_LEAVE, reason, (struct slice){0});
    return r->leaving;
}

bool attach_leaving(const struct conn *conn)
{
    const struct attach *r = conn->more->attach;

    return r->leaving;
}

/* ---- home ---- */

static size_t pipe_take(struct conn_pipe *pipe, struct slice bytes)
{
    return send_bytes(CONTAINER_OF(pipe, struct attach, pipe), bytes);
}

static void pipe_consumed(struct conn_pipe *pipe, size_t bytes)
{
    struct attach *r = CONTAINER_OF(pipe, struct attach, pipe);
    size_t connect = bytes < r->unread ? bytes : r->unread;

    r->unread -= (uint32_t)connect;
    give_back(r, bytes - connect);
}

static void pipe_closed(struct conn_pipe *pipe)
{
    part(CONTAINER_OF(pipe, struct attach, pipe));
}

static const struct conn_pipe_handler pipe_handler = {
    .take = pipe_take, .consumed = pipe_consumed, .closed = pipe_closed};

static void begin_home(struct broker *b, unsigned neighbour, const Tern__Attach *open)
{
    const struct listener *listener = attach_listener(b, open->listener);
    struct attach *r = attach_new(b, neighbour);
    struct in6_addr address;

    if (!r) {
        return; /* its front waits no longer than for a CONNECT */
    }
    memcpy(&address, open->address.data, sizeof(address));
    r->linked = r->accept_due = true;
    r->peer_shard = open->shard;
    r->peer_id = open->id;
    r->window = WINDOW_BYTES;
    r->pipe.handler = &pipe_handler;
    if (b->stopping || conn_pipe_new(b->shard, listener, &address, (uint16_t)open->port, &r->pipe, &r->conn) != 0) {
        part(r);
        return;
    }
    struct principal *p = open->known ? attach_principal(b, open, listener, &address) : NULL;
    if (open->known && (!p || login_trust(r->conn, p, slice_of(open->auth_method.data, open->auth_method.len),
                                          slice_of(open->auth_data.data, open->auth_data.len)) != 0)) {
        principal_unref(p);
        conn_drop(r->conn);
        return;
    }
    r->unread = (uint32_t)open->connect.len;
    connect_arrived(r->conn);
    go_on(r);
    conn_pipe_received(&r->pipe, slice_of(open->connect.data, open->connect.len));
}

/* ---- frames ---- */

static void ended_there(struct attach *r)
{
    struct conn *conn = r->conn;

    r->no_end = true;
    if (!conn) {
        attach_free(r);
    } else if (r->front) {
        conn->more->attach = NULL;
        part(r);
        conn_finish(conn);
    } else {
        conn_pipe_ended(&r->pipe);
    }
}

static void bytes_came(struct attach *r, struct slice bytes)
{
    if (!r->front) {
        conn_pipe_received(&r->pipe, bytes);
        return;
    }
    buf_put(conn_out(r->conn), bytes);
    r->unread += (uint32_t)bytes.len;
}

static int handle(struct broker *b, unsigned neighbour, struct slice body)
{
    struct cursor c = cursor_at(body);
    uint8_t kind = cursor_u8(&c);
    (void)cursor_u16(&c);
    struct attach *r = find(b, cursor_u64(&c));
    uint32_t value = cursor_u32(&c);

    if (!r || r->neighbour != neighbour) {
        return 0; /* it has ended here meanwhile */
    }
    switch ((enum attach_kind)kind) {
    case ATTACH_ACCEPTED:
        r->peer_id = cursor_u64(&c);
        r->peer_shard = value;
        if (c.failed || r->linked || value >= SHARDS_MAX) {
            return -EPROTO;
        }
        r->linked = true;
        r->window = WINDOW_BYTES;
        if (r->conn) { /* home watches over it now */
            timer_cancel(b->shard->timers, &r->conn->timer);
        }
        go_on(r);
        break;
    case ATTACH_CREDIT:
        if (value > WINDOW_BYTES - r->window) {
            return -EPROTO;
        }
        r->window += value;
        go_on(r);
        break;
    case ATTACH_DATA:
        if (r->conn) {
            bytes_came(r, cursor_rest(&c));
        }
        break;
    case ATTACH_END:
        ended_there(r);
        break;
    case ATTACH_LEAVE:
        if (r->front || (value != MQTT_SERVER_SHUTTING_DOWN && value != MQTT_USE_ANOTHER_SERVER)) {
            return -EPROTO;
        }
        if (r->conn) {
            goodbye(r->conn, (enum mqtt_reason)value, "its connection's node stops");
        }
        break;
    default:
        return -EPROTO;
    }
    return 0;
}

/* Here, or by mail to the shard that it is for. */
static int pass(struct peer_link *link, bool open, unsigned shard, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct attach_note *note = malloc(sizeof(*note) + body.len);

    if (!note) {
        return -ENOMEM;
    }
    *note = (struct attach_note){.node = link->id, .open = open, .len = (uint32_t)body.len};
    memcpy(note->body, body.ptr, body.len);
    struct mail mail = {.kind = MAIL_ATTACH, .ptr = note};
    if (shard_post(b->shard, shard, &mail) != 0) {
        free(note);
        return -ENOMEM;
    }
    return 0;
}

int attach_take(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct cursor c = cursor_at(body);
    int n = neighbour_find(b->node->cluster, &link->id);

    (void)cursor_u8(&c);
    unsigned shard = cursor_u16(&c);
    if (body.len < HEAD_BYTES || shard >= b->shard->count) {
        return -EPROTO;
    }
    if (n < 0) {
        return 0;
    }
    return shard == b->shard->index ? handle(b, (unsigned)n, body) : pass(link, false, shard, body);
}

int attach_take_open(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    ProtobufCMessage *decoded;
    int rc = wire_decode(&tern__attach__descriptor, body, &link->room->arena, &decoded);

    if (rc) {
        return rc;
    }
    const Tern__Attach *open = (const Tern__Attach *)decoded;
    if (!attach_open_sane(open)) {
        return -EPROTO;
    }
    /* Always by mail: the arena is free again, and nothing that a client does happens inside a link's turn. */
    return pass(link, true, broker_home(b, broker_hash(b, slice_of(open->client_id.data, open->client_id.len))), body);
}

void attach_mail(struct broker *b, const struct mail *mail)
{
    struct attach_note *note = mail->ptr;
    struct slice body = slice_of(note->body, note->len);
    int n = neighbour_find(b->node->cluster, &note->node);
    ProtobufCMessage *decoded;

    if (n >= 0 && !note->open && handle(b, (unsigned)n, body) != 0) {
        log_event(LOG_ERROR, "attach_broken", {"node", LOG_STR(b->node->cluster->neighbours[n].name)});
    }
    if (n >= 0 && note->open && wire_decode(&tern__attach__descriptor, body, &b->cluster->room.arena, &decoded) == 0) {
        begin_home(b, (unsigned)n, (const Tern__Attach *)decoded);
    }
    free(note);
}

void attach_neighbour_gone(struct broker *b, unsigned neighbour)
{
    struct attach *r;
    bool again = true;

    while (again) { /* the map may change with each */
        again = false;
        for (size_t i = 0; !again && (r = map_next(&b->cluster->attaches, &i)) != NULL;) {
            if (r->neighbour == neighbour && !r->no_end) {
                ended_there(r);
                again = true;
            }
        }
    }
}

void attach_stop(struct broker *b)
{
    struct attach *r;
    size_t i = 0;

    while ((r = map_next(&b->cluster->attaches, &i)) != NULL) { /* their connections are freed already */
        attach_free(r);
        i = 0;
    }
    map_deinit(&b->cluster->attaches);
}
