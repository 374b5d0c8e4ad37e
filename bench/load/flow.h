/* flow.h -- the messages of one flow as one worker publishes and receives them: windows, schedules, and the check of
 * each.
 *
 * A message is outstanding until every receiver that is waited for has it and, above QoS 0, its publisher has the last
 * acknowledgement.
 *
 *   closed loop  a publisher may have `inflight` messages outstanding and writes when `batch` of them fit, so that
 * nothing is lost for want of room. What stays out for the timeout is given up, and the publisher goes on. open loop
 * message k of the flow is due at t0 + k/rate and belongs to publisher k % publishers. Nothing but the connection (and
 * the Receive Maximum) holds it back; it is told apart whether the broker held it or this tool was late.
 *
 * Shared between the workers: what is sent on each stream, the lanes (each written by the worker of its receiver
 * alone), and the tallies of shared subscriptions. That a message is complete is told to the publisher's worker by
 * mail, once a turn. Touched by: its worker; flow_judge by the main thread when the workers have ended. */
#ifndef TERN_BENCH_FLOW_H
#define TERN_BENCH_FLOW_H

#include "bench/load/client.h"
#include "bench/load/histogram.h"
#include "bench/load/sequence.h"
#include "proto/base/map.h"

/* What a worker has counted since it began. */
struct counts {
    uint64_t sent, received, bytes_sent, bytes_received; /* PUBLISH packets; received: each message once */
    uint64_t cleared;                                    /* empty messages that take retained ones away */
    uint64_t due;                                        /* messages that were to be sent so far */
    uint64_t acked;                                      /* QoS 1 and 2 messages: PUBACK or PUBCOMP */
    uint64_t wanted_acks, wanted_deliveries;             /* of what was sent */
    uint64_t waited_received;                            /* received by those that are waited for */
    struct sequence_counts sequence;
    uint64_t misdelivered; /* to a receiver that must not have it, or not one of our messages */
    uint64_t
        misacknowledged; /* acknowledged twice, out of order [MQTT-4.6.0-2] [MQTT-4.6.0-3], or not to be acknowledged */
    uint64_t refused;    /* acknowledged with a reason code of 0x80 or more */
    uint64_t up_total, failed, disconnected, subscribed, subscribe_refused, cut;
};

/* Written by the worker alone, read by the main thread at any time. */
struct figures {
    struct histogram delivery, acknowledge, connect, subscribe, late;
};

/* When the measured part is: messages that are due in it are counted in the histograms, whenever they come. */
struct measured {
    _Atomic uint64_t from_us, until_us; /* from UINT64_MAX: not yet */
};

/* What all workers share of a flow. */
struct flow_shared {
    const struct plan *plan;      /* borrowed */
    const struct flow_plan *flow; /* borrowed */
    uint32_t workers;
    uint8_t run;
    char *topics;            /* owned: the topic of every stream, one behind the other */
    uint32_t *topic_at;      /* owned: where each begins; one more than streams */
    _Atomic uint32_t *sent;  /* owned: messages of each stream */
    struct lane *lanes;      /* owned: ONE by stream; else by receiver * streams + stream */
    struct tally *tallies;   /* owned: SHARED, by stream */
    uint64_t t0_ns;          /* written before publishing begins */
    _Atomic bool publishing; /* else nothing new is sent */
    _Atomic bool abandoned;  /* what was due and could not be sent by the end is not sent any more */
    _Atomic bool clearing;   /* empty retained messages are sent instead */
};

/* Returns 0 or -ENOMEM. */
int flow_shared_init(struct flow_shared *shared, const struct plan *plan, uint32_t index, uint32_t workers,
                     uint8_t run);
void flow_shared_deinit(struct flow_shared *shared);

/* A message of QoS 1 or 2 on its way to the broker. */
struct flight {
    uint64_t time_us;
    uint8_t state; /* flow.c */
};

struct publisher {
    struct client *client; /* borrowed */
    uint32_t window, batch, next_stream;
    uint64_t limit;               /* messages; UINT64_MAX: none */
    uint64_t sent, acked;         /* messages */
    uint64_t delivered, forgiven; /* messages complete; given up */
    uint64_t *done;               /* owned; ALL with several workers: messages complete at each of them */
    uint64_t first_flight;        /* all before are acknowledged or given up */
    uint64_t answered;            /* the last that has a PUBACK or PUBREC, and one */
    uint64_t acks_given_up;
    struct flight *flights; /* owned; QoS 1 and 2: by number of the message */
    uint32_t flight_mask;
    uint64_t cleared;       /* empty messages that take retained ones away */
    uint64_t due;           /* open loop: messages due so far */
    uint64_t held_until_us; /* open loop: the broker held back what was due before */
    bool held, ready;
    uint64_t moved, moved_at_ns; /* acknowledged and delivered, when last looked at */
};

/* ALL: how many receivers of this worker have a message. */
struct slot {
    uint32_t place, count;
};

struct flow {
    struct flow_shared *shared; /* borrowed */
    const struct measured *measured;
    struct shard *shard;
    struct figures *figures;
    struct counts *counts;
    uint32_t worker, index;
    uint32_t publisher_count;     /* of this worker */
    struct publisher *publishers; /* owned */
    struct publisher **ready;     /* owned; those that may have room to publish */
    uint32_t ready_count;
    uint64_t due_next;     /* open loop: schedule entries of this worker handled so far */
    bool tracks;           /* a publisher waits for deliveries */
    uint32_t waited_local; /* ALL: receivers of this worker that are waited for */
    struct slot *slots;    /* owned; ALL with several of them: how many have a message, by stream and place */
    uint32_t slot_mask;
    uint32_t *credits;      /* owned; deliveries to be told to other workers' publishers, by publisher */
    uint32_t *credit_dirty; /* owned */
    uint32_t credit_count;
    uint64_t received; /* each message once */
    uint8_t *scratch;  /* owned; a payload */
    struct map open;   /* owned; OPEN: the lanes that have been seen */
};

/* Returns 0 or -ENOMEM. */
int flow_init(struct flow *f, struct flow_shared *shared, uint32_t index, uint32_t worker);
void flow_deinit(struct flow *f);

/* Publisher number client->place is this client. */
void flow_publisher_set(struct flow *f, struct client *client);

/* What its clients tell. */
void flow_publisher_up(struct flow *f, struct client *client);
void flow_message(struct flow *f, struct client *client, struct slice payload, uint64_t now_us);
void flow_acked(struct flow *f, struct client *client, enum mqtt_type type, uint16_t packet_id, uint8_t reason,
                uint64_t now_us);
void flow_writable(struct flow *f, struct client *client);

/* Another worker says that `count` messages of a publisher are complete there. */
void flow_credit(struct flow *f, uint32_t publisher, uint32_t count, uint32_t from_worker);

/* Publish what is due or has room. Called once a turn, so that the room of a whole turn is used together. Returns when
 * it wants to be called again in nanoseconds, UINT64_MAX: when something happens. */
uint64_t flow_pump(struct flow *f, uint64_t now_ns);

/* Post the credits of this turn. mail_kind is the kind of the mail; a: flow, b: publisher, n: count. */
void flow_credits_post(struct flow *f, uint16_t mail_kind);

/* Publishing begins (again): look at every publisher. */
void flow_wake(struct flow *f);

/* Give up what has been outstanding since `stuck_ns` before now without anything moving. Called now and then. */
void flow_forgive(struct flow *f, uint64_t now_ns, uint64_t stuck_ns);

/* Payload bytes of a message: the same for who sends and who receives it. */
uint32_t flow_payload_bytes(const struct size_plan *size, uint32_t stream, uint32_t place);

/* The last byte of a payload that is longer than its head. */
static inline uint8_t flow_last_byte(uint32_t place)
{
    return (uint8_t)(place ^ 0x5A);
}

/* Free what receiving has made (flow_check.c for flow.c). */
void flow_check_deinit(struct flow *f);

/* A message is complete at a receiver that is waited for (flow_check.c to flow.c). */
void flow_complete(struct flow *f, uint32_t stream, uint32_t place);

/* Numbers i < count with i % workers == worker. */
static inline uint32_t flow_share(uint32_t count, uint32_t worker, uint32_t workers)
{
    return count > worker ? (count - worker - 1) / workers + 1 : 0;
}

/* Receivers of worker `worker` that are waited for. */
uint32_t flow_waited(const struct flow_plan *flow, uint32_t worker, uint32_t workers);

/* What never came, judged when all is over: to those that are waited for, and to slow ones. */
struct flow_verdict {
    uint64_t sent, expected, lost, slow_lost;
};
void flow_judge(const struct flow_shared *shared, uint64_t received, struct flow_verdict *verdict);

#endif
