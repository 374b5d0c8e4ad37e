/* peer_link.c -- links, kept over connections; dialling and accepting them. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/peer/peer_inside.h"
#include "proto/base/log.h"

/* ---- links ---- */

static void dial(struct peer_link *link)
{
    struct peer_room *room = link->room;
    struct sockaddr_storage to;
    socklen_t len = peer_address_to(&link->address, &to);
    int fd = io_dial(room->shard->io, (struct sockaddr *)&to, len);

    link->retry_ms = link->retry_ms == 0 ? PEER_RETRY_FIRST_MS : link->retry_ms * 2;
    link->retry_ms = link->retry_ms > PEER_RETRY_MAX_MS ? PEER_RETRY_MAX_MS : link->retry_ms;
    link->direct = fd >= 0 ? peer_wire_new(room, fd, link) : NULL;
    if (!link->direct) {
        timer_set(room->shard->timers, &link->retry, room->shard->now_ms + link->retry_ms);
    }
}

static void retry(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    dial(CONTAINER_OF(timer, struct peer_link, retry));
}

static void ask_third(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    peer_relay_try(CONTAINER_OF(timer, struct peer_link, relay));
}

struct peer_link *peer_link_new(struct peer_room *room, const struct node_id *id)
{
    struct peer_link *link = calloc(1, sizeof(*link));

    if (!link) {
        return NULL;
    }
    link->room = room;
    link->id = *id;
    link_flow_init(&link->flow);
    timer_init(&link->retry, retry);
    timer_init(&link->relay, ask_third);
    list_init(&link->in_dirty);
    list_append(&room->links, &link->in_room);
    return link;
}

/* Close this wire, of which the link knows no more. */
static void drop_wire(struct peer_link *link, struct peer_wire *wire)
{
    if (wire) {
        link->wire = link->wire == wire ? NULL : link->wire;
        link->direct = link->direct == wire ? NULL : link->direct;
        link->relayed = link->relayed == wire ? NULL : link->relayed;
        wire->link = NULL;
        peer_wire_close(wire, NULL);
    }
}

void peer_hang_up(struct peer_link *link)
{
    struct peer_room *room = link->room;

    room->terms->handler->ended(link);
    drop_wire(link, link->wire);
    drop_wire(link, link->direct);
    drop_wire(link, link->relayed);
    timer_cancel(room->shard->timers, &link->retry);
    timer_cancel(room->shard->timers, &link->relay);
    list_remove(&link->in_dirty);
    list_remove(&link->in_room);
    link_flow_deinit(&link->flow);
    free(link);
}

struct peer_link *peer_dial(struct peer_room *room, const struct node_id *id, const struct member_address *address)
{
    struct peer_link *link = peer_link_new(room, id);

    if (link) {
        link->dialled = true;
        link->shard = (uint16_t)room->shard->index;
        link->number = ++room->next_number;
        link->address = *address;
        timer_set(room->shard->timers, &link->retry, room->shard->now_ms);
        timer_set(room->shard->timers, &link->relay, room->shard->now_ms + PEER_RELAY_AFTER_MS);
    }
    return link;
}

void peer_redial(struct peer_link *link, const struct member_address *address)
{
    if (member_address_eq(&link->address, address)) {
        return;
    }
    link->address = *address;
    link->retry_ms = 0;
    if (link->direct) {
        peer_wire_close(link->direct, "it has moved");
    }
}

struct peer_link *peer_link_find(struct peer_room *room, const struct node_id *id, unsigned shard)
{
    for (struct list *at = room->links.next; at != &room->links; at = at->next) {
        struct peer_link *link = CONTAINER_OF(at, struct peer_link, in_room);
        if (!link->dialled && node_id_eq(&link->id, id) && link->shard == shard) {
            return link;
        }
    }
    return NULL;
}

void peer_forget(struct peer_room *room, const struct node_id *id, uint64_t boot)
{
    struct list *next;

    for (struct list *at = room->links.next; at != &room->links; at = next) {
        struct peer_link *link = CONTAINER_OF(at, struct peer_link, in_room);
        next = at->next;
        if (!link->dialled && node_id_eq(&link->id, id) && link->boot <= boot) {
            peer_hang_up(link);
        }
    }
}

void peer_link_lost(struct peer_link *link, struct peer_wire *wire)
{
    struct shard *shard = link->room->shard;
    bool in_use = link->wire == wire, was_open = in_use && link->open;

    if (link->direct == wire) {
        link->direct = NULL;
        timer_set(shard->timers, &link->retry, shard->now_ms + link->retry_ms);
    }
    if (link->dialled && !link->relayed && in_use) {
        timer_set(shard->timers, &link->relay, shard->now_ms + PEER_RELAY_AFTER_MS);
    }
    if (link->relayed == wire) {
        link->relayed = NULL;
        timer_set(shard->timers, &link->relay, shard->now_ms + PEER_RELAY_AFTER_MS);
    }
    if (in_use) {
        link->wire = NULL;
        link->open = false;
    }
    if (was_open) {
        link->room->terms->handler->lost(link);
    }
}

bool peer_link_adopt(struct peer_link *link, struct peer_wire *wire)
{
    if (wire->relay && link->wire) {
        return false;
    }
    char name[PEER_ADDRESS_TEXT];
    peer_address_text(&link->address, name);
    if (!wire->relay) {
        if (link->led_around) { /* up to now, or until that way was lost too */
            log_event(LOG_INFO, "peer_direct", {"peer", LOG_STR(name)});
        }
        link->retry_ms = 0;
        drop_wire(link, link->relayed); /* in use, or only tried */
        timer_cancel(link->room->shard->timers, &link->relay);
    } else {
        link->was_relayed = true;
        log_event(LOG_INFO, "peer_relayed", {"peer", LOG_STR(name)}, {"through", LOG_STR(wire->name)});
    }
    link->led_around = wire->relay != NULL;
    link->wire = wire;
    link->epoch++;
    return true;
}

void peer_link_mark(struct peer_link *link)
{
    if (list_empty(&link->in_dirty)) {
        list_append(&link->room->dirty, &link->in_dirty);
    }
}

int peer_put(struct peer_link *link, unsigned lane, uint8_t type, uint16_t flags, const struct slice *parts,
             unsigned count)
{
    int rc = link_flow_put(&link->flow, lane, type, flags, parts, count);

    link->refused |= rc == -ENOBUFS;
    if (rc == 0) {
        link->room->frames_out++;
        peer_link_mark(link);
    }
    return rc;
}

int peer_put_message(struct peer_link *link, unsigned lane, uint8_t type, const ProtobufCMessage *message)
{
    struct buf *scratch = &link->room->scratch;

    scratch->len = 0;
    if (wire_encode(message, scratch) != 0) {
        return -ENOMEM;
    }
    struct slice body = buf_slice(scratch);
    return peer_put(link, lane, type, 0, &body, 1);
}

void peer_link_acknowledged(struct peer_link *link)
{
    const struct link_flow *flow = &link->flow;

    for (unsigned i = 0; i < LINK_LANES && link->refused; i++) {
        if (link_flow_held(flow, i) > flow->lanes[i].bound / 2) {
            return;
        }
    }
    if (link->refused) {
        link->refused = false;
        link->room->terms->handler->drained(link);
    }
}

/* ---- the room ---- */

void peer_room_init(struct peer_room *room, struct shard *shard, struct peer_terms *terms)
{
    *room = (struct peer_room){.shard = shard, .terms = terms};
    list_init(&room->links);
    list_init(&room->wires);
    list_init(&room->dirty);
    room->next_number = terms->boot << 32; /* another link than before, even to who remembers */
}

/* Who has stood at the door for longest without a word makes room: a node says HELLO within moments, so that no crowd
 * of strangers keeps it out. Returns false if there is none. */
static bool send_one_away(struct peer_room *room)
{
    for (struct list *at = room->wires.next; at != &room->wires; at = at->next) {
        struct peer_wire *wire = CONTAINER_OF(at, struct peer_wire, in_room);
        if (!wire->dialled && !wire->greeted && !wire->closing && wire->to_shard == 0) {
            peer_wire_close(wire, "too many others have come");
            return true;
        }
    }
    return false;
}

static void accepted(struct io_listener *l, int fd)
{
    struct peer_room *room = CONTAINER_OF(l, struct peer_room, listener);

    if (room->knocking >= PEER_KNOCKING_MAX && !send_one_away(room)) {
        close(fd);
        return;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)peer_wire_new(room, fd, NULL);
}

static void accept_failed(struct io_listener *l, int error)
{
    (void)l;
    log_event(LOG_WARN, "peer_accept_failed", {"error", LOG_STR(strerror(-error))});
}

static void accept_closed(struct io_listener *l)
{
    (void)l;
}

int peer_room_listen(struct peer_room *room, int fd)
{
    static const struct io_listener_handler handler = {accepted, accept_failed, accept_closed};

    room->listener.handler = &handler;
    int rc = io_listener_start(room->shard->io, &room->listener, fd);
    room->listening = rc == 0;
    return rc;
}

void peer_room_flush(struct peer_room *room)
{
    struct list *at;

    while ((at = list_pop(&room->dirty)) != NULL) {
        struct peer_link *link = CONTAINER_OF(at, struct peer_link, in_dirty);
        if (link->open) {
            peer_wire_flush(link->wire);
        }
    }
}

void peer_room_stop(struct peer_room *room)
{
    if (room->listening) {
        io_listener_close(room->shard->io, &room->listener);
    }
    while (!list_empty(&room->links)) {
        peer_hang_up(CONTAINER_OF(room->links.next, struct peer_link, in_room));
    }
    while (!list_empty(&room->wires)) { /* the door closes what is still open, without a callback */
        struct peer_wire *wire = CONTAINER_OF(room->wires.next, struct peer_wire, in_room);
        list_remove(&wire->in_room);
        timer_cancel(room->shard->timers, &wire->timer);
        peer_wire_free(wire);
    }
    wire_arena_deinit(&room->arena);
    buf_deinit(&room->scratch);
}
