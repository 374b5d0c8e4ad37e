/* conn.h -- one client's connection: socket, buffers, packet boundaries, back pressure. What the packets mean is for
 * flow/; what stands between the socket and the packets (PROXY header, TLS, WebSocket) is for channel.c.
 *
 *     GUEST --- CONNECT handled here ------------------------> OPEN
 *     GUEST --- detached, mailed whole, attached elsewhere --> GUEST
 *     GUEST, OPEN --- conn_finish: last bytes, then FIN -----> FINISHING --> CLOSED
 *     any --- conn_drop -------------------------------------> CLOSED, freed when the kernel is done with it
 *
 * An idle connection owns no buffer: what comes is borrowed from the door for the length of a callback, only the rest
 * of a cut packet is kept; output memory exists while something waits. Touched by: the shard it is on; moves by mail,
 * whole. */
#ifndef TERN_BROKER_CONN_CONN_H
#define TERN_BROKER_CONN_CONN_H

#include "broker/base/rate.h"
#include "broker/loop/shard.h"
#include "broker/session/alias.h"
#include "broker/session/outbox.h"
#include "proto/mqtt/frame.h"

#include <netinet/in.h>

enum conn_state { CONN_GUEST, CONN_OPEN, CONN_FINISHING, CONN_CLOSED };

/* Why reading from a client waits; bits of conn.paused. */
enum conn_pause {
    PAUSE_BUSY = 1,       /* a packet is being answered by another shard or node: order is kept by waiting */
    PAUSE_OUTBOX = 2,     /* too much waits for its socket */
    PAUSE_RATE = 4,       /* above limits.max_publish_rate */
    PAUSE_CONGESTION = 8, /* the mail to other shards is backed up, or the link to another node (flow/forward) */
    PAUSE_RECEIPTS = 16,  /* too many of its messages wait for their acknowledgement */
    PAUSE_HOLD = 32,      /* the subscriber that it feeds is far behind (flow/hold) */
    PAUSE_LOGIN = 64,     /* somebody finds out who it is (flow/login) */
    PAUSE_SEND = 128,     /* what was written has to leave before it can move to another shard */
};

struct conn;
struct channel;
struct gate;
struct listener;
struct session;

/* Filled once in broker/node.c. All run on the connection's shard; each may end the connection. */
struct conn_handler {
    /* A packet is complete; frame is borrowed. Returns false if no more may be read now (paused, ended, moved). */
    bool (*packet)(struct conn *conn, const struct mqtt_frame *frame);
    /* The stream holds no packet: ill-formed or too large. frame has the type if known. */
    void (*broken)(struct conn *conn, enum mqtt_reason reason, const struct mqtt_frame *frame);
    /* The peer has closed (0) or the connection broke (negative errno). */
    void (*lost)(struct conn *conn, int error);
    /* The timer of the connection has fired. */
    void (*timeout)(struct conn *conn);
    /* Everything written has left: there is room again. */
    void (*drained)(struct conn *conn);
    /* Bytes of a client whose session is on another node (conn_more.attach). Returns how many were used; if not all, it
     * has paused the connection. */
    size_t (*elsewhere)(struct conn *conn, struct slice bytes);
    /* The memory is about to be freed; the last call. */
    void (*freed)(struct conn *conn);
};

/* What few connections have, or have only while they are guests. */
struct conn_more {
    struct channel *channel; /* owned; NULL: plain TCP */
    struct conn_pipe *pipe;  /* NULL: it has a socket (pipe.h) */
    void *attach;            /* where its bytes go as they are (flow/attach); NULL: nowhere. Opaque here */
    void *seek;              /* where its session is, while that is being found out (flow/seek); opaque here */
    void *login; /* who it is, while that is being found out, and how it said so (flow/login); opaque here */
    struct alias_in *alias_in;                   /* NULL until the client sets one */
    struct alias_out *alias_out;                 /* NULL if the client wants none */
    struct rate publish_rate, publish_byte_rate; /* limits.max_publish_rate, limits.max_publish_byte_rate */
    uint64_t read_at_ms;                         /* while PAUSE_RATE: when to read on */
    uint64_t accepted_ns;
    bool takes_over; /* it has ended an earlier connection of its client */
};

struct conn {
    struct io_stream stream;
    struct timer timer;   /* CONNECT deadline, then keep alive, then the end of lingering */
    struct list in_shard; /* all connections of the shard */
    struct list in_dirty; /* those with output to be sent at the end of the turn */
    struct list in_ready; /* those that may read on */
    struct list receipts; /* struct receipt: acknowledgements owed to the client, in order (flow/receipt) */
    struct shard *shard;
    const struct listener *listener; /* borrowed from the node */
    struct session *session;         /* attached; NULL while a guest or after goodbye */
    struct buf in;                   /* the beginning of a packet not yet whole */
    struct outbox out;               /* to be sent */
    struct outbox sending;           /* with the door until `sent` */
    struct conn_more *more;          /* owned; NULL: nothing of it */
    struct gate *gate;               /* owned; NULL: its output never waits for the disk (gate.h) */
    uint64_t heard_ms;               /* when the last packet came */
    uint32_t recv_msg, send_msg;     /* PUBLISH packets */
    uint32_t packet_bytes_max;       /* the client's Maximum Packet Size */
    uint32_t in_bytes_max; /* ours. This and the next two are as the client was told, whatever a reload says */
    uint16_t in_receive_max, in_alias_max;
    uint32_t receipt_count, puback_count; /* acknowledgements owed; those that are PUBACKs */
    uint32_t held_count;                  /* those that a slow subscriber keeps back */
    uint8_t paused;                       /* enum conn_pause bits */
    uint8_t state : 4;                    /* enum conn_state */
    uint8_t version : 4;                  /* enum mqtt_version; 0 until CONNECT */
    bool problem_info : 1;                /* Request Problem Information [MQTT-3.1.2-29] */
    bool ended : 1;                       /* the peer has closed; what it sent before is still being worked on */
    bool processing : 1;                  /* packets of it are being handled: it must not be freed */
    bool again : 1;        /* set by the packet handler: this packet is to be handled again after a pause */
    bool waited : 1;       /* it has paused so once */
    bool clean : 1;        /* it came with Clean Start */
    bool counted : 1;      /* in the listener's ledger */
    uint16_t keep_alive_s; /* as agreed; 0: none */
    uint16_t peer_port;
    struct in6_addr peer; /* IPv4 mapped; all zero: a Unix socket */
};

_Static_assert(sizeof(struct conn) <= 312, "with malloc's head it fills 320 bytes");

/* Returns conn->more, made if it is not there; NULL when memory is out. */
struct conn_more *conn_more(struct conn *conn);
/* Free it if nothing in it is used any longer. */
void conn_less(struct conn *conn);

/* Take a freshly accepted descriptor. Owned by the shard from now on. Returns 0 or a negative errno, the descriptor
 * then still the caller's: -ENOMEM; -ENOTCONN, whoever it was has gone. */
int conn_new(struct shard *shard, const struct listener *listener, int fd, struct conn **ret_conn);

/* Once per process, before the first conn. */
void conn_set_handler(const struct conn_handler *handler);

/* Leave this shard: nothing of conn may be touched afterwards. The caller mails it. */
void conn_detach(struct conn *conn);
/* Arrive on another shard; what has been read already is handled at once. Returns 0 or a negative errno: conn is freed
 * then. */
int conn_attach(struct conn *conn, struct shard *shard);

/* Free a connection at once, whatever its state and without a callback: the shard has made its last turn, its door is
 * closed next. */
void conn_discard_open(struct conn *conn);
/* Free a connection that was detached and never arrived: the node has stopped. */
void conn_discard(struct conn *conn);

/* The outbox: append packets here, they leave at the end of the turn in one send. Never NULL. Nothing is sent when not
 * OPEN or GUEST. */
struct buf *conn_out(struct conn *conn);
/* End a packet, whose head has just been put into conn_out, with the payload of m, which is not copied. */
void conn_out_payload(struct conn *conn, struct message *m);

/* Bytes waiting for the socket, or for the disk. */
size_t conn_out_bytes(const struct conn *conn);

/* Read continuously from now on: the CONNECT has been accepted. */
void conn_opened(struct conn *conn);

/* Stop and go of reading, for a reason. After the last resume reading goes on at the end of the turn. */
void conn_pause(struct conn *conn, enum conn_pause reason);
void conn_resume(struct conn *conn, enum conn_pause reason);

/* Send what is in the outbox, then FIN, then close when the peer has closed too or after five seconds. Nothing is read
 * any more. */
void conn_finish(struct conn *conn);
/* Whether its channel has a last word that the peer may still read. */
bool conn_has_last_word(const struct conn *conn);
/* There is nothing to be said in MQTT: close, behind the last word of TLS or WebSocket if there is a channel. */
void conn_hang_up(struct conn *conn);
/* Close now. */
void conn_drop(struct conn *conn);

/* Called by the shard at the end of a turn: handshakes go on, a few a turn; connections that may read on do so; then
 * everything written is handed to the door. */
void conn_run_ready(struct list *ready);
void conn_run_dirty(struct list *dirty);

/* Put the bytes of a packet in front of what has been read and not handled: it is handled (again) when reading goes on.
 * Not inside the packet handler. Returns 0 or -ENOMEM. */
int conn_unread(struct conn *conn, struct slice packet);

/* Whether it can go to another shard now. If not, it is paused (PAUSE_SEND) until it can. */
bool conn_may_move(struct conn *conn);

/* "1.2.3.4:5678", "[::1]:5678" or "unix". */
#define CONN_PEER_TEXT 56
const char *conn_peer(const struct conn *conn, char text[CONN_PEER_TEXT]);

/* Where the shard keeps its connections: three lists, reached through shard->broker. */
struct conn_lists {
    struct list all, dirty, ready;
    struct list knocking;        /* struct channel: bytes of a handshake wait for their turn */
    struct list warm;            /* struct channel: TLS buffers in use, the longest idle first */
    struct list pending, closed; /* struct gate: of this turn; those that wait for the disk */
    uint64_t durable;            /* up to this number the log is on the disk, as far as this turn knows */
};
void conn_lists_init(struct conn_lists *lists);

#endif
