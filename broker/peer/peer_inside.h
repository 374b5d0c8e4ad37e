/* peer_inside.h -- between peer_wire.c (one connection: TLS, frames, heartbeat) and peer_link.c (links, HELLO). */
#ifndef TERN_BROKER_PEER_PEER_INSIDE_H
#define TERN_BROKER_PEER_PEER_INSIDE_H

#include "broker/peer/peer_address.h"
#include "broker/peer/peer_link.h"

#define PEER_GREETING_MS 5000u /* from the first byte to HELLO */
#define PEER_BEAT_MS 500u      /* something is said at least so often */
#define PEER_SILENCE_MS 3000u  /* who has said nothing for so long is gone */
#define PEER_RETRY_FIRST_MS 50u
#define PEER_RETRY_MAX_MS 3000u
#define PEER_KNOCKING_MAX 256u /* connections that have not said HELLO */
#define PEER_GREETING_BYTES 4096u
#define PEER_CONTROL_BYTES (2u << 20) /* longest frame of the control lane */

/* Types of frames beside the lanes. */
enum peer_aside { PEER_HELLO = 1, PEER_HELLO_ANSWER, PEER_ACK, PEER_RELAY, PEER_ASIDE_LAST = PEER_RELAY };

#define RELAY_CHUNK_BYTES 16384u
#define PEER_ASIDE_BYTES (RELAY_CHUNK_BYTES + 128u) /* longest frame beside the lanes, when HELLO is agreed */
#define PEER_RELAY_AFTER_MS 1000u                   /* without a connection: then a third node is asked */
#define PEER_REACHED_MS 1000u /* who was heard directly so lately is not heard through a third node */
#define PEER_CARRIERS_MAX 16u

/* One end of a relayed wire (peer_relay.c). */
struct peer_relay {
    struct peer_wire *carrier;                   /* closed after this wire */
    struct node_id other;                        /* who is at the other end */
    uint32_t number;                             /* of the wire, in its dialler's life */
    uint16_t shard;                              /* of who has dialled */
    bool over;                                   /* the other end has closed it */
    uint32_t from;                               /* so much of wire->out has been given to the carrier */
    uint32_t sent, acknowledged, received, told; /* bytes of the wire, modulo 2^32 */
};

struct peer_wire {
    struct io_stream stream;
    struct list in_room;
    struct peer_room *room;
    struct peer_link *link;   /* NULL: not yet known, or no more */
    struct tls *tls;          /* NULL: plain, or not begun */
    struct peer_relay *relay; /* owned; NULL: it is a connection, `stream` */
    struct buf in;            /* the beginning of a frame */
    struct buf out;           /* to be sent */
    struct buf going;         /* being sent */
    struct buf hello;         /* accepted: on its way to its shard with the HELLO that came */
    struct timer timer;       /* deadline, later heartbeat */
    uint64_t heard_ms, said_ms;
    uint32_t epoch;    /* dialled: of the link when HELLO was said */
    unsigned to_shard; /* accepted: where it goes when all is said here; 0: nowhere, it is the control shard's */
    bool dialled, said_hello, greeted, closing;
    bool last_word;               /* closed when what is in out has left */
    char name[PEER_ADDRESS_TEXT]; /* of the other side, for the log */
};

/* ---- peer_wire.c ---- */

/* fd is taken over, also in failure. NULL: memory is out, or the door refuses. link: who dials; NULL: accepted. */
struct peer_wire *peer_wire_new(struct peer_room *room, int fd, struct peer_link *link);
/* One that a third node carries; no HELLO has been said. relay is taken over. NULL: memory is out. */
struct peer_wire *peer_wire_relayed(struct peer_room *room, struct peer_relay *relay, struct peer_link *link);
/* Bytes of a relayed wire have come. */
void peer_wire_take(struct peer_wire *wire, struct slice bytes);
/* Behind what is to be sent; peer_wire_flush follows. */
void peer_wire_put(struct peer_wire *wire, struct slice bytes);
/* End a connection; why: for the log, NULL: nothing is to be said. Its link is told. */
void peer_wire_close(struct peer_wire *wire, const char *why);
/* A frame beside the lanes, at the end of what is to be sent. */
void peer_wire_say(struct peer_wire *wire, uint8_t type, struct slice body);
/* What link and wire have to send. */
void peer_wire_flush(struct peer_wire *wire);
/* HELLO is agreed. */
void peer_wire_greeted(struct peer_wire *wire);

void peer_wire_free(struct peer_wire *wire);

/* ---- peer_hello.c ---- */

/* HELLO or its answer has come. Returns false if the wire is closed or has gone to another shard. */
bool peer_link_greet(struct peer_wire *wire, uint8_t type, struct slice body);
/* Its HELLO was for another shard: go there, as soon as nothing is being sent. */
void peer_link_move(struct peer_wire *wire);
/* Begin the conversation on a wire that was dialled, once TLS is up. */
void peer_link_hello(struct peer_wire *wire);

/* ---- peer_stranger.c ---- */

/* Whether the log is to speak of this refusal: name is the other side's address, why and more the reason. */
bool peer_stranger_is_news(struct peer_room *room, const char *name, const char *why, const char *more);

/* ---- peer_link.c ---- */

struct peer_link *peer_link_new(struct peer_room *room, const struct node_id *id); /* NULL: memory is out */
/* The link that this shard of this node has dialled to here, or NULL. */
struct peer_link *peer_link_find(struct peer_room *room, const struct node_id *id, unsigned shard);
/* A wire of a link is gone: the one that is in use, or one that was to be. */
void peer_link_lost(struct peer_link *link, struct peer_wire *wire);
/* HELLO is agreed on this wire that was dialled: it takes the place of the one in use. False: there is a better one. */
bool peer_link_adopt(struct peer_link *link, struct peer_wire *wire);
void peer_link_mark(struct peer_link *link);
/* Lanes have been acknowledged. */
void peer_link_acknowledged(struct peer_link *link);

/* ---- peer_relay.c ---- */

/* The link has no connection: ask the next third node, or wait for one. */
void peer_relay_try(struct peer_link *link);
bool peer_relay_sending(const struct peer_wire *wire);
void peer_relay_flush(struct peer_wire *wire);
/* A relayed wire is being closed: tell the other end, unless it knows. */
void peer_relay_closed(struct peer_wire *wire);
/* A connection is being closed: with it all that it carries. */
void peer_relay_carrier_lost(struct peer_wire *carrier);
/* A frame of a relayed wire has come: for here, or to be passed on. */
void peer_relay_take(struct peer_wire *carrier, struct slice body);

#endif
