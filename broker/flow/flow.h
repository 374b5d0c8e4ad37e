/* flow.h -- the ways through a shard; one file each, named before its functions. All run on the shard's thread. */
#ifndef TERN_BROKER_FLOW_FLOW_H
#define TERN_BROKER_FLOW_FLOW_H

#include "broker/flow/broker.h"
#include "proto/mqtt/ack.h"
#include "proto/mqtt/publish.h"
#include "proto/mqtt/subscribe.h"

/* ---- receipt.c: who still has to take responsibility for a QoS 1 or 2 message ---- */

/* An acknowledgement owed to a publisher. It leaves when nobody is waited for and all earlier ones have left
 * [MQTT-4.6.0-2]. Or, without a connection, the wait of a message that a durable session has given back to its share:
 * only when somebody else has it, it is written down that this one has it no longer. */
struct receipt {
    struct list in_conn;
    struct list in_broker;  /* all of the shard, so that none is lost at the end */
    struct conn *conn;      /* NULL once the publisher is gone */
    struct peer_link *link; /* or another node has published it: NULL once that is gone, and else */
    uint64_t number;        /* there */
    uint64_t publisher;     /* its session; 0: none */
    uint64_t started_ns;
    uint64_t lsn; /* other shards have logged it: it leaves when the log is durable so far; 0: they have not */
    uint32_t waiting;
    uint16_t packet_id;
    uint8_t type; /* MQTT_PUBACK or MQTT_PUBREC */
    uint8_t reason;
    bool orphaned; /* QoS 2, and the publisher is gone, but may say it again */
    bool held;     /* counted in conn.held_count */
    bool logged;   /* this shard has logged it */
    bool remember; /* PUBREC: the packet identifier is still to be logged, when it is certain that it is taken */
    uint16_t returned_group;                /* given back to its share: by whom, and the number in its queue */
    uint64_t returned_uid, returned_number; /* uid 0: it is not that */
};

/* An acknowledgement that is being decided; the receipt is made only if somebody must be waited for. */
struct receipt_open {
    struct conn *conn;      /* NULL: another node has published it */
    struct peer_link *link; /* which, and its number there */
    uint64_t number;
    struct receipt *receipt;
    uint16_t packet_id;
    uint8_t type;
    uint8_t reason; /* already known, e.g. that a limit was met */
    bool logged;    /* this shard has logged it */
    bool remember;  /* see struct receipt */
    bool failed;    /* memory was out: the publisher has to be sent away unacknowledged */
};

/* One more has to answer; NULL (and open->failed) when memory is out. */
struct receipt *receipt_wait(struct broker *b, struct receipt_open *open);
/* The same, and it is the next mail with a receipt to this shard that is to be answered. */
struct receipt *receipt_wait_shard(struct broker *b, struct receipt_open *open, unsigned shard);
/* That mail, the last one that was announced, could not be sent. */
void receipt_unwait_shard(struct broker *b, struct receipt_open *open, unsigned shard);
/* Everybody who must be waited for is known: acknowledge now or when they have answered. */
void receipt_close(struct broker *b, struct receipt_open *open, enum mqtt_reason reason);
/* A durable session gives a message back to its share: who takes it answers to this receipt. NULL when memory is out.
 */
struct receipt *receipt_return(struct broker *b, const struct session *session, uint64_t number);
/* One more has to answer, and it is far behind: its publisher's connection is not read until then. */
void receipt_hold(struct receipt *receipt);
/* One has answered, and what it has done is durable with this lsn; 0: is already, or need not be. */
void receipt_settle(struct broker *b, struct receipt *receipt, uint64_t lsn);
/* A shard has handled `count` mails with receipts; lsn as above. */
void receipt_shard_done(struct broker *b, unsigned shard, uint32_t count, uint64_t lsn);
/* The publisher is gone: its receipts are answered to nobody. The second: those of a link, by in_conn. */
void receipt_orphan(struct conn *conn);
void receipt_orphan_all(struct list *receipts);
/* A QoS 2 message has come again on a new connection of its session: if the first is still waited for, its answer is
 * this one's too. Returns whether it is. */
bool receipt_adopt(struct broker *b, struct conn *conn, uint16_t packet_id);
/* Free the memory that is kept for coming ones. */
void receipt_trim(struct broker *b);
void receipt_deinit(struct broker *b); /* all threads have ended */

/* Where to answer for a message that a session has taken: a receipt of shard `from`, or NULL. */
struct receipt_ref {
    struct receipt *receipt;
    unsigned from;
};
/* Settle it, by mail if it is another shard's. */
void receipt_answer(struct broker *b, struct receipt_ref ref);
/* Before it is settled: it is to be acknowledged with this reason. RECEIPT_NO_MEMORY: not at all if the client cannot
 * be told. */
#define RECEIPT_NO_MEMORY MQTT_IMPLEMENTATION_SPECIFIC_ERROR
/* The disk is full: MQTT_QUOTA_EXCEEDED to a 5.0 client, and to others as above. Never on the wire. */
#define RECEIPT_NO_SPACE 0xfeu
/* To another node: no member of the share can have it here. */
#define RECEIPT_NO_MEMBER 0xfdu
void receipt_reason(struct broker *b, struct receipt_ref ref, enum mqtt_reason reason);

/* ---- hold.c: back pressure from a slow subscriber to the publisher that feeds it ---- */

struct publication;
struct delivery;

/* Keep the publisher's acknowledgement back until the session has caught up, at most limits.backpressure. */
void hold_add(struct broker *b, struct session *session, struct receipt_ref ref);
/* The same for a message that finds no room: it is delivered when there is some, in the order of coming, and at the
 * latest when it has been held long enough, as limits.queue_overflow says. */
void hold_park(struct broker *b, struct session *session, struct receipt_ref ref, struct publication *pub,
               const struct delivery *how);
/* The session has become shorter, or is gone: let go what it held. */
void hold_release(struct broker *b, const struct session *session);
/* Let go what has been held long enough. */
void hold_run(struct broker *b);
bool hold_wanted(const struct broker *b, const struct session *session);
bool hold_park_wanted(const struct broker *b, const struct session *session, size_t message_bytes);

/* ---- deliver.c: from a message to one session and its connection ---- */

/* A message on its way in, not copied until somebody has to keep it. */
struct publication {
    struct slice topic, payload;
    struct slice properties; /* encoded, only what is handed on */
    uint64_t topic_hash, publisher, expires_at_ms;
    struct message_stamp stamp; /* of a retained one */
    struct message *message;    /* made by publication_message, or what it came as; counted */
    uint16_t packet_id;         /* this and `again`: see struct message */
    uint8_t qos;
    bool retain, again;
};

/* Borrows; publication_end is not needed. */
void publication_of_message(struct publication *pub, struct message *message);
struct message *publication_message(struct publication *pub); /* borrowed; NULL when memory is out */
void publication_end(struct publication *pub);

/* message_size of the message that it is or would be. */
static inline size_t publication_bytes(const struct publication *pub)
{
    return sizeof(struct message) + pub->topic.len + pub->properties.len + pub->payload.len +
           (pub->stamp.at || pub->stamp.origin ? sizeof(pub->stamp) : 0);
}

/* How one session is to get it. */
struct delivery {
    struct slice ids;  /* encoded subscription identifiers */
    uint64_t share;    /* 0: none */
    uint8_t qos;       /* granted */
    bool retain;       /* RETAIN of what is sent */
    bool shared_frame; /* several sessions get the same: encode a QoS 0 frame once */
};

/* Give a session a message. Counts what is dropped, with the reason. Never ends a connection. Returns 0 when it was
 * taken, -ENOBUFS when its queue is full, -ENOMEM, or another negative errno when it cannot have it: offline, too
 * large, too slow. */
int deliver(struct broker *b, struct session *session, struct publication *pub, const struct delivery *d);
/* New publication: nothing encoded for an earlier one may be shared. */
void deliver_begin(struct broker *b);
/* Send what waits as far as window and outbox allow. */
void deliver_pump(struct conn *conn);

/* ---- mount.c: the mount points of listeners ---- */

/* A client's topic as the broker knows it: borrowed from the packet or from b->mounted. ptr NULL: memory is out. */
struct slice mount_topic(struct broker *b, const struct conn *conn, struct slice topic);
/* The same for a filter; `$share/NAME/` stays in front. */
struct slice mount_filter(struct broker *b, const struct conn *conn, struct slice filter);
/* The other way round: false if the topic is not one that the client can name. */
bool mount_strip(const struct conn *conn, struct slice *topic);
/* All filters of a SUBSCRIBE, encoded anew into out. */
void mount_subscribe(struct broker *b, const struct conn *conn, struct mqtt_subscribe *packet, struct buf *out);

/* ---- publish.c: a client's PUBLISH; publish_route.c: its way ---- */
bool publish_from_client(struct conn *conn, const struct mqtt_frame *frame);
bool publish_release(struct conn *conn, const struct mqtt_frame *frame); /* PUBREL */
/* Route one message from here: to local sessions, other shards, shares, the retained store. open NULL: nobody waits.
 * Returns whether anybody matched. */
bool publish_route(struct broker *b, struct publication *pub, struct receipt_open *open);
/* The same for one that another node has sent here: only to who is at home here, and into the retained store if it is
 * to be kept. */
void publish_arrived(struct broker *b, struct publication *pub, struct receipt_open *open, bool keep);
/* Only into the retained store. */
void publish_keep(struct broker *b, struct publication *pub, struct receipt_open *open);
void publish_from_shard(struct broker *b, const struct mail *mail);
/* Deliver to the sessions here what another shard has routed here, without anybody waiting for it. */
void publish_deliver(struct broker *b, struct publication *pub);
/* A message of the broker itself. */
void publish_internal(struct broker *b, struct slice topic, struct slice payload, bool retain);
void publish_will(struct broker *b, struct will *will); /* takes it over; NULL is allowed */

/* ---- parcel.c: small QoS 0 messages to another shard, many in one mail ---- */

/* Put one on its way. Returns false if it is too large or there is no room: it is to be sent alone. */
bool parcel_put(struct broker *b, unsigned shard, const struct publication *pub);
/* What was put leaves now, before what is posted next; at the end of the turn it leaves anyway. */
void parcel_post(struct broker *b, unsigned shard);
void parcel_post_all(struct broker *b);
void parcel_open(struct broker *b, const struct mail *mail);
void parcel_back(struct broker *b, const struct mail *mail);
void parcel_trim(struct broker *b);   /* free the memory that is kept for coming ones */
void parcel_deinit(struct broker *b); /* all threads have ended */

/* ---- ack.c: PUBACK, PUBREC, PUBCOMP ---- */
bool ack_from_client(struct conn *conn, const struct mqtt_frame *frame);

/* ---- connect.c ---- */
bool connect_from_client(struct conn *conn, const struct mqtt_frame *frame);
void connect_arrived(struct conn *conn); /* accepted: the clock runs */

/* ---- subscribe.c ---- */
struct subscribe_job;
bool subscribe_from_client(struct conn *conn, const struct mqtt_frame *frame);
bool unsubscribe_from_client(struct conn *conn, const struct mqtt_frame *frame);
/* It has ended: take its subscriptions out of every table. */
void subscribe_forget(struct broker *b, struct session *session);
/* End one subscription that the rules no longer allow. filter is not a shared one's. */
void subscribe_revoke(struct broker *b, struct session *session, struct slice filter);
void subscribe_conn_gone(struct conn *conn);
void subscribe_deinit(struct broker *b); /* all threads have ended */
/* One filter of a job has been settled, with 0 or a negative errno. */
void subscribe_settled(struct broker *b, struct subscribe_job *job, uint32_t index, int error);

/* ---- route.c: announcements to the control shard ---- */
enum route_op { ROUTE_ADD, ROUTE_REMOVE, ROUTE_ADD_SHARE, ROUTE_REMOVE_SHARE, ROUTE_BARRIER };
struct share_request;
struct route_wait { /* who waits for the answer: one of the two */
    struct subscribe_job *job;
    uint32_t index;
    struct share_request *request;
};
/* Tell the control shard; the answer comes as subscribe_settled or share_announced, at once if this is the control
 * shard. Returns 0, or -ENOMEM: no answer will come. ROUTE_BARRIER only waits for what was told before. */
int route_announce(struct broker *b, enum route_op op, struct slice filter, const struct route_share *share,
                   const struct route_wait *wait);
/* No answer. A withdrawal that is lost for lack of memory costs needless mails, nothing else. */
void route_withdraw(struct broker *b, enum route_op op, struct slice filter, uint64_t share);
void route_requested(struct broker *b, const struct mail *mail);
void route_done(struct broker *b, const struct mail *mail);
void route_discard(const struct mail *mail);
/* On the control shard: what an announcement has waited for (cluster.h) is there. */
struct route_request;
void route_told(struct broker *b, struct route_request *request, unsigned from);
void route_drop(struct route_request *request); /* no shard runs any more */

/* ---- share.c: members at home here, and shares at home here ---- */
/* Subscribe to a share. Returns 0 and answers by subscribe_settled, at once or later; or a negative errno at once. */
int share_subscribe(struct broker *b, struct session_share *share, bool existed, struct subscribe_job *job,
                    uint32_t index);
/* End and free a shared subscription; ended: so does the session. What it had not begun to deliver goes to other
 * members. */
void share_unsubscribe(struct broker *b, struct session_share *share, bool ended);
void share_online(struct broker *b, struct session *session, bool online);
/* At the start: the share of a recovered session, of `shard`, at its home, with its route. 0 or -ENOMEM. */
int share_recover(struct broker *const *brokers, unsigned count, unsigned shard, struct session_share *share);
/* Connection lost: unacknowledged QoS 1 goes to others. */
void share_hand_on(struct broker *b, struct session *session);
void share_settled(struct broker *b, struct session *session, uint64_t share);
void share_flush(struct broker *b);
/* How a message goes through a share. */
#define SHARE_TRIES 4u
struct share_way {
    uint64_t share;
    uint64_t except;            /* session not to be picked; 0: any may */
    uint32_t refusals;          /* members here that may not have it */
    uint8_t tries;              /* nodes that could not take it */
    uint8_t tried[SHARE_TRIES]; /* which, by number */
    bool sole;                  /* nobody else gets the message: the publisher may wait for a slow member */
    bool here;                  /* another node has picked this one */
};
/* nodes: others that have members. */
void share_publish(struct broker *b, const struct share_way *way, const struct spread_mask *nodes,
                   struct publication *pub, struct receipt_open *open);
void share_announced(struct broker *b, struct share_request *request, int error);
void share_mail(struct broker *b, const struct mail *mail);
void share_discard(const struct mail *mail);
uint64_t share_id(const struct broker *b, struct slice name, struct slice filter);

/* ---- replay.c: retained messages for a new subscription ---- */
/* Begin: take the snapshots. Answers the job by subscribe_settled when they are taken; -ENOMEM: no answer. */
int replay_start(struct broker *b, struct session *session, struct slice filter,
                 const struct subscription_options *options, struct subscribe_job *job);
/* The SUBACK is out: deliver. Each replay of the job answers it once more, when it is done or goes on behind the
 * client's other packets. Returns how many there are. */
unsigned replay_release(struct broker *b, struct session *session, const struct subscribe_job *job);
/* The job's connection is gone, the session may live on: its replays go on without it. Returns how many answers will
 * not come. */
unsigned replay_disown(struct session *session, const struct subscribe_job *job);
void replay_forget(struct broker *b, struct session *session);                      /* the session ends */
void replay_cancel(struct broker *b, struct session *session, struct slice filter); /* so does the subscription */
void replay_wake(struct broker *b, struct session *session);                        /* it can take more */
void replay_run(struct broker *b);
void replay_mail(struct broker *b, const struct mail *mail);
void replay_deinit(struct broker *b); /* all threads have ended */

/* ---- goodbye.c: how connections and sessions end ---- */

/* We end it: DISCONNECT with this reason in 5.0, a close in 3.x. The will is published. text goes into the log and,
 * where the client wants it, into the Reason String; NULL: none. May be called on any connection, in any state. */
void goodbye(struct conn *conn, enum mqtt_reason reason, const char *text);
/* The same, because this node wants no more clients: who only passes through it has its last word from the node of its
 * session, and is gone when that has come. */
void goodbye_leave(struct conn *conn, enum mqtt_reason reason);
void goodbye_lost(struct conn *conn, int error); /* the peer has closed, or the network failed */
bool disconnect_from_client(struct conn *conn, const struct mqtt_frame *frame);
void goodbye_timeout(struct conn *conn); /* CONNECT deadline, keep alive, rate, end of a token */
void goodbye_watch(struct conn *conn);   /* set the timer of an open connection for the next of them */
/* What a command has left over: a session that ended is forgotten everywhere, a will is published. */
void goodbye_session(struct broker *b, struct outcome *outcome);
/* Arm the shard's timer for the earliest TICK. */
void goodbye_arm(struct broker *b);
void goodbye_tick(struct timer *timer, uint64_t now_ms);
/* Send all clients away: the node stops. */
void goodbye_all(struct broker *b);

/* ---- mishap.c: why clients were sent away or not let in (look.h) ---- */
/* Written down, in place of the oldest; without memory not at all. */
void mishap_note(struct broker *b, struct slice client_id, uint8_t reason, const char *text);
/* A CONNECT was refused; those who watch (trace.h) are told too. */
void mishap_refused(const struct conn *conn, struct slice client_id, uint8_t reason, const char *text);

/* ---- sys.c: $SYS ---- */
int sys_start(struct broker *b);
void sys_stop(struct broker *b);
/* A second, over the last five to ten seconds, of this node. Control shard. */
struct sys_rates {
    double received, sent; /* PUBLISH packets */
    double dropped;        /* deliveries, but for QoS 0 to who is not connected */
};
void sys_rates(const struct broker *b, struct sys_rates *ret_rates);
void sys_sample(struct broker *b); /* now and then */

#endif
