/* dispatch.h -- which flow a packet, a mail or a timer belongs to. */
#ifndef TERN_BROKER_FLOW_DISPATCH_H
#define TERN_BROKER_FLOW_DISPATCH_H

#include "broker/flow/broker.h"

/* All mail between shards. In brackets: the fields of struct mail that are used. */
enum mail_kind {
    MAIL_CONN,           /* [ptr conn] a connection moves to the home of its client id */
    MAIL_PUBLISH,        /* [ptr message, n publish flags, ptr2 receipt] deliver to the sessions here */
    MAIL_PARCEL,         /* [ptr parcel] many small ones of QoS 0, to deliver to the sessions here */
    MAIL_PARCEL_BACK,    /* [ptr parcel] read: to be filled again */
    MAIL_PUBLISH_DONE,   /* [n] that many mails with a receipt have been handled */
    MAIL_RECEIPT_HOLD,   /* [ptr receipt] the sender will settle it too, and is far behind */
    MAIL_RECEIPT_SLOW,   /* [ptr receipt] the sender, who will settle it, is far behind */
    MAIL_RECEIPT_SETTLE, /* [ptr receipt] one less */
    MAIL_RECEIPT_REASON, /* [ptr receipt, n] acknowledge it with this reason code */
    MAIL_ROUTE,          /* [ptr route_request] to the control shard */
    MAIL_ROUTE_DONE,     /* [ptr route_request] and back */
    MAIL_SHARE_JOIN,     /* [ptr share_request] to the share's home */
    MAIL_SHARE_JOINED,   /* [ptr share_request] and back */
    MAIL_SHARE_LEAVE,    /* [a share, b session] */
    MAIL_SHARE_PRESENCE, /* [a share, b session, n window; c 1 online] */
    MAIL_SHARE_PUBLISH, /* [ptr message, a share, n of the share_way, ptr2 receipt; fresh: b and c nodes; else b session
                           not to pick (0: any), c shard of the receipt + 1; 0: the sender's] */
    MAIL_SHARE_DELIVER, /* [ptr message, a share, b session, n the same, c shard of the receipt, ptr2 receipt] */
    MAIL_SHARE_LOAD,    /* [a share, b node, n of share_load: online, c outstanding << 32 | room, ptr offline] */
    MAIL_SHARE_SETTLED, /* [a share, b session, n] the member has so many less outstanding */
    MAIL_RETAINED_BARRIER, /* [ptr replay] flush what was published before, to the homes of its topics */
    MAIL_RETAINED_PASSED,  /* [ptr replay] everything from the sender has come */
    MAIL_RETAINED_READY,   /* [ptr replay] and from all shards */
    MAIL_RETAINED_PULL,    /* [ptr replay] */
    MAIL_RETAINED_PAGE,    /* [ptr replay] */
    MAIL_RETAINED_CLOSE,   /* [ptr replay] */
    MAIL_RETAINED_CLOSED,  /* [ptr replay] */
    MAIL_PEER_WIRE,        /* [ptr peer_wire] another node's connection moves to its shard */
    MAIL_NEIGHBOUR,        /* [all fields: neighbour.c] a neighbour has come, or is gone */
    MAIL_NEIGHBOUR_LEFT,   /* [n number] and back: it has been let go */
    MAIL_SEEK,             /* [ptr seek_note] of another node, to the home of the client id */
    MAIL_FOUND,            /* [a token, b node, c stamp + 1; 0: not there] and its answer, to who asks */
    MAIL_ATTACH,           /* [ptr attach_note] of another node, to the shard of the connection */
    MAIL_CLAIM,            /* [ptr claim_note] a client has connected elsewhere, to its home */
    MAIL_INQUIRE,          /* [ptr inquiry_note] an operator's question, to each shard */
    MAIL_INQUIRED,         /* [ptr inquiry_part] and a part of the answer */
    MAIL_INQUIRE_END,      /* [a number] nobody waits for it any more */
    MAIL_CATCHUP,          /* [ptr wish] a neighbour wants retained messages */
};

/* Flags of MAIL_PUBLISH. */
enum publish_flags {
    PUBLISH_RECEIPT = 1, /* the sender waits for MAIL_PUBLISH_DONE */
    PUBLISH_DELIVER = 2, /* match it against the subscriptions here */
    PUBLISH_RETAIN = 4,  /* store it: its topic is at home here */
    PUBLISH_SOLE = 8,    /* nobody else gets it: its publisher may wait for a slow subscriber */
};

void dispatch_mail(struct shard *shard, const struct mail *mail);

/* Free what a mail carries that no shard will read any more: the node has stopped. */
void dispatch_discard(void *context, const struct mail *mail);

/* The seam to connections: fills conn_handler. */
extern const struct conn_handler dispatch_conn_handler;

#endif
