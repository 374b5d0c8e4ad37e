/* peer_relay.c -- a wire between two nodes that do not reach each other, through a third one that reaches both.
 *
 * Why: when one pair is cut off from each other and nobody else is, SWIM knows both alive, so both are waited for:
 * SUBACK and publishers would stand still. So a link whose connection has been lost for a second is led through another
 * node. To the link that is a wire as any other: it says HELLO, it resends, it has a heartbeat. A connection of its own
 * is dialled all the while, and takes the relayed one's place when it is up.
 *
 *     A ----- the carrier: A's link to C ----> C ----- its own link to B ----> B      relayed: bytes of the wire, in
 *       <-----------------------------------   C   <-------------------------         frames beside the carriers' lanes
 *
 * C keeps nothing: it passes a frame on at once, or says that it cannot. A frame names the place of its bytes in the
 * wire, so that B sees when one is missing, and closes. Each end lets at most RELAY_WINDOW bytes be on their way. One
 * hop: what C has from A's link goes on over a connection only, never over a relayed wire. Each wire stays on the shard
 * of its link, so C's shard must lead to B's: else B refuses, and another third is tried. QoS 0 is not worth another
 * node's network.
 *
 * Frame: to 16, from 16, number of the wire u32, shard of who dials u16, flags u8, place u32, received u32, bytes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/peer/peer_inside.h"
#include "proto/base/cursor.h"
#include "proto/base/log.h"

#define RELAY_HEAD_BYTES 47u
#define RELAY_WINDOW (256u << 10)
#define RELAY_CARRIER_BYTES_MAX (1u << 20) /* that wait for the other side; with more nothing is passed on */
#define RELAY_AGAIN_MS 500u

_Static_assert(RELAY_HEAD_BYTES + RELAY_CHUNK_BYTES <= PEER_ASIDE_BYTES, "a frame takes a chunk");

enum relay_flag { RELAY_BACK = 1, RELAY_OPEN = 2, RELAY_CLOSE = 4 };

struct relay_head {
    struct node_id to, from;
    uint32_t number;
    uint16_t shard;
    uint8_t flags; /* BACK: from who was dialled */
    uint32_t place, received;
};

/* ---- frames ---- */

static void put_frame(struct peer_wire *carrier, const struct relay_head *h, struct slice bytes)
{
    uint8_t out[LINK_HEADER_BYTES + RELAY_HEAD_BYTES];
    struct link_frame frame = {.len = RELAY_HEAD_BYTES + (uint32_t)bytes.len, .lane = LINK_ASIDE, .type = PEER_RELAY};
    struct buf b = {.ptr = out, .len = LINK_HEADER_BYTES, .cap = sizeof(out)};

    link_frame_write(out, &frame);
    buf_put(&b, slice_of(h->to.bytes, sizeof(h->to.bytes)));
    buf_put(&b, slice_of(h->from.bytes, sizeof(h->from.bytes)));
    buf_u32(&b, h->number);
    buf_u16(&b, h->shard);
    buf_u8(&b, h->flags);
    buf_u32(&b, h->place);
    buf_u32(&b, h->received);
    peer_wire_put(carrier, buf_slice(&b));
    if (bytes.len > 0) {
        peer_wire_put(carrier, bytes);
    }
    peer_wire_flush(carrier);
}

static bool read_frame(struct slice body, struct relay_head *ret_head, struct slice *ret_bytes)
{
    struct cursor c = cursor_at(body);
    struct slice to = cursor_take(&c, sizeof(ret_head->to.bytes)), from = cursor_take(&c, sizeof(ret_head->from.bytes));

    ret_head->number = cursor_u32(&c);
    ret_head->shard = cursor_u16(&c);
    ret_head->flags = cursor_u8(&c);
    ret_head->place = cursor_u32(&c);
    ret_head->received = cursor_u32(&c);
    *ret_bytes = cursor_rest(&c);
    if (c.failed) {
        return false;
    }
    memcpy(ret_head->to.bytes, to.ptr, to.len);
    memcpy(ret_head->from.bytes, from.ptr, from.len);
    return true;
}

/* That it goes no further, to where it came from. */
static void answer_close(struct peer_wire *carrier, const struct relay_head *h)
{
    struct relay_head close = {.to = h->from,
                               .from = h->to,
                               .number = h->number,
                               .shard = h->shard,
                               .flags = (uint8_t)((h->flags & RELAY_BACK) ^ RELAY_BACK) | RELAY_CLOSE};

    if (!(h->flags & RELAY_CLOSE)) {
        put_frame(carrier, &close, slice_of(NULL, 0));
    }
}

/* ---- an end ---- */

static void put_part(struct peer_wire *wire, uint8_t flags, struct slice bytes)
{
    struct peer_relay *r = wire->relay;
    struct relay_head h = {
        .to = r->other,
        .from = wire->room->terms->node_id,
        .number = r->number,
        .shard = r->shard,
        .flags = flags | (wire->dialled ? r->sent == 0 && !(flags & RELAY_CLOSE) ? RELAY_OPEN : 0 : RELAY_BACK),
        .place = r->sent,
        .received = r->received,
    };

    r->told = r->received;
    r->sent += (uint32_t)bytes.len;
    wire->said_ms = wire->room->shard->now_ms;
    put_frame(r->carrier, &h, bytes);
}

static struct peer_wire *make(struct peer_room *room, struct peer_link *link, struct peer_wire *carrier,
                              const struct node_id *other)
{
    struct peer_relay *relay = calloc(1, sizeof(*relay));

    if (!relay || room->knocking >= PEER_KNOCKING_MAX) {
        free(relay);
        return NULL;
    }
    relay->carrier = carrier;
    relay->other = *other;
    struct peer_wire *wire = peer_wire_relayed(room, relay, link);
    if (!wire) {
        free(relay);
        return NULL;
    }
    memcpy(wire->name, carrier->name, sizeof(wire->name));
    return wire;
}

/* Who could be asked to pass frames on: the one behind the last that was asked. */
static struct peer_wire *next_carrier(struct peer_link *link)
{
    struct peer_room *room = link->room;
    struct peer_wire *found[PEER_CARRIERS_MAX];
    unsigned count = 0;

    for (struct list *at = room->links.next; at != &room->links && count < PEER_CARRIERS_MAX; at = at->next) {
        struct peer_link *other = CONTAINER_OF(at, struct peer_link, in_room);
        if (other != link && other->dialled && other->open && !other->wire->relay &&
            (other->features & PEER_FEATURE_RELAY) && !node_id_eq(&other->id, &link->id)) {
            found[count++] = other->wire;
        }
    }
    return count > 0 ? found[link->relay_turn++ % count] : NULL;
}

void peer_relay_try(struct peer_link *link)
{
    struct peer_room *room = link->room;
    struct peer_wire *carrier = link->open || link->relayed ? NULL : next_carrier(link);

    if (carrier) {
        link->relayed = make(room, link, carrier, &link->id);
    }
    if (!link->relayed) {
        if (!link->open) {
            timer_set(room->shard->timers, &link->relay, room->shard->now_ms + RELAY_AGAIN_MS);
        }
        return;
    }
    link->relayed->relay->number = ++room->relay_number;
    link->relayed->relay->shard = link->shard;
    peer_link_hello(link->relayed);
}

bool peer_relay_sending(const struct peer_wire *wire)
{
    return wire->out.len > 0;
}

void peer_relay_flush(struct peer_wire *wire)
{
    struct peer_relay *r = wire->relay;
    uint32_t before = r->sent;

    while (!wire->closing && r->from < wire->out.len && r->sent - r->acknowledged < RELAY_WINDOW) {
        uint32_t n = wire->out.len - r->from, room = RELAY_WINDOW - (r->sent - r->acknowledged);
        n = n > RELAY_CHUNK_BYTES ? RELAY_CHUNK_BYTES : n;
        n = n > room ? room : n;
        r->from += n;
        put_part(wire, 0, slice_of(wire->out.ptr + r->from - n, n));
    }
    if (!wire->closing && r->from == wire->out.len) {
        r->from = 0;
        buf_pool_put(&wire->room->shard->spare, &wire->out);
        wire->out = (struct buf){0};
        if (wire->last_word) {
            peer_wire_close(wire, NULL);
        } else if (wire->link && wire->greeted && r->sent != before) {
            peer_link_mark(wire->link); /* there may be more */
        }
    }
}

void peer_relay_closed(struct peer_wire *wire)
{
    if (!wire->relay->over && !wire->relay->carrier->closing) {
        put_part(wire, RELAY_CLOSE, slice_of(NULL, 0));
    }
}

void peer_relay_carrier_lost(struct peer_wire *carrier)
{
    struct peer_room *room = carrier->room;

    for (struct list *at = room->wires.next; at != &room->wires; at = at->next) {
        struct peer_wire *wire = CONTAINER_OF(at, struct peer_wire, in_room);
        if (wire->relay && wire->relay->carrier == carrier) {
            peer_wire_close(wire, wire->greeted ? "the link that it went through is gone" : NULL);
        }
    }
}

/* ---- frames that have come ---- */

static struct peer_link *dialled_to(struct peer_room *room, const struct node_id *id)
{
    for (struct list *at = room->links.next; at != &room->links; at = at->next) {
        struct peer_link *link = CONTAINER_OF(at, struct peer_link, in_room);
        if (link->dialled && node_id_eq(&link->id, id)) {
            return link;
        }
    }
    return NULL;
}

/* The third node's part. */
static void pass_on(struct peer_wire *carrier, const struct relay_head *h, struct slice bytes)
{
    struct peer_room *room = carrier->room;
    bool back = h->flags & RELAY_BACK;
    struct peer_link *next = back ? peer_link_find(room, &h->to, h->shard) : dialled_to(room, &h->to);
    bool possible = next && next->open && !next->wire->relay && (next->features & PEER_FEATURE_RELAY) &&
                    next->wire->out.len <= RELAY_CARRIER_BYTES_MAX;

    if (!node_id_eq(&h->from, &carrier->link->id) || carrier->link->dialled != back ||
        (!back && carrier->link->shard != h->shard)) {
        peer_wire_close(carrier, "it speaks for another node");
    } else if (possible) {
        put_frame(next->wire, h, bytes);
    } else {
        answer_close(carrier, h);
    }
}

static struct peer_wire *accepted_from(struct peer_room *room, const struct relay_head *h)
{
    for (struct list *at = room->wires.next; at != &room->wires; at = at->next) {
        struct peer_wire *wire = CONTAINER_OF(at, struct peer_wire, in_room);
        if (wire->relay && !wire->dialled && !wire->closing && wire->relay->shard == h->shard &&
            node_id_eq(&wire->relay->other, &h->from)) {
            return wire;
        }
    }
    return NULL;
}

/* The end that this frame is for, or NULL. */
static struct peer_wire *end_of(struct peer_wire *carrier, const struct relay_head *h)
{
    struct peer_room *room = carrier->room;
    struct peer_link *link = h->flags & RELAY_BACK ? dialled_to(room, &h->from) : NULL;
    struct peer_wire *wire = h->flags & RELAY_BACK ? link ? link->relayed : NULL : accepted_from(room, h);

    if ((h->flags & (RELAY_BACK | RELAY_OPEN)) == RELAY_OPEN) {
        if (wire) {
            wire->relay->over = true;
            peer_wire_close(wire, NULL);
        }
        wire = make(room, NULL, carrier, &h->from);
        if (wire) {
            wire->relay->number = h->number;
            wire->relay->shard = h->shard;
        }
    }
    return wire && wire->relay->number == h->number && wire->relay->carrier == carrier ? wire : NULL;
}

void peer_relay_take(struct peer_wire *carrier, struct slice body)
{
    struct relay_head h;
    struct slice bytes;

    if (!read_frame(body, &h, &bytes) || carrier->relay) {
        peer_wire_close(carrier, "a relayed frame makes no sense");
        return;
    }
    if (!node_id_eq(&h.to, &carrier->room->terms->node_id)) {
        pass_on(carrier, &h, bytes);
        return;
    }
    struct peer_wire *wire = end_of(carrier, &h);
    if (!wire) {
        answer_close(carrier, &h);
        return;
    }
    struct peer_relay *r = wire->relay;
    if (h.flags & RELAY_CLOSE) {
        r->over = true;
        peer_wire_close(wire, wire->greeted ? "its relay has closed it" : NULL);
        return;
    }
    if (h.place != r->received || h.received - r->acknowledged > r->sent - r->acknowledged) {
        peer_wire_close(wire, "its relay has lost something");
        return;
    }
    r->received += (uint32_t)bytes.len;
    r->acknowledged = h.received;
    peer_wire_take(wire, bytes);
    if (!wire->closing && r->received - r->told >= RELAY_WINDOW / 4) {
        put_part(wire, 0, slice_of(NULL, 0));
    }
}
