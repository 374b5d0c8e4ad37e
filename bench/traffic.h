/* traffic.h -- the messages of a scenario: who publishes what, who must get it, and how much is outstanding.
 *
 * Why: every scenario is the same three numbers of things. There are `streams`, each one topic with messages numbered
 * from 0; `publishers`, each owning the streams s with s % publishers == its number and publishing them in turn; and
 * `receivers`, each subscribed to some topics. A message is outstanding until every receiver of its stream has it and,
 * above QoS 0, its publisher has the last acknowledgement. A publisher may have `window` messages outstanding and
 * writes when `batch` of them fit: the loop is closed, so that nothing can be lost for want of room.
 *
 *   pair      streams = publishers = receivers, one to one
 *   fanout    1 stream, 1 publisher, every receiver gets every message (copies = receivers)
 *   wildcard  a stream is the topic of one of many wildcard subscriptions, which are spread over the receivers
 *
 * The payload begins with the stream and the place in it, four bytes each; whatever comes is checked against that. */
#ifndef TERN_BENCH_TRAFFIC_H
#define TERN_BENCH_TRAFFIC_H

#include "bench/client.h"
#include "bench/sequence.h"

#define TRAFFIC_PAYLOAD_BYTES_MIN 8u
#define TRAFFIC_PAYLOAD_BYTES_MAX (256u << 10)
#define TRAFFIC_WINDOW_MAX 32767u          /* half of the packet identifiers */
#define TRAFFIC_SUBSCRIPTIONS_MAX 1000000u /* topics have six digits */

/* What is published to whom. */
struct traffic_plan {
    const char *topic_prefix, *topic_suffix;   /* around the six digits of a topic */
    const char *filter_prefix, *filter_suffix; /* the same for the filters that match them */
    enum mqtt_version version;
    uint8_t qos;
    uint32_t streams, publishers, receivers;
    uint32_t subscriptions; /* subscription n is held by receiver n % receivers; unless all have the same one */
    bool one_for_all;       /* fanout: a single topic, which every receiver subscribes to */
    uint32_t payload_bytes, batch, window;
};

struct publisher {
    struct client *client;                     /* borrowed */
    uint64_t sent, delivered, answered, acked; /* messages; answered: PUBACK or PUBREC, acked: PUBACK or PUBCOMP */
    uint32_t window, batch;                    /* the plan's, or what the broker's Receive Maximum leaves of it */
    uint32_t next_stream;
    bool ready; /* in the list of those that may have room to publish */
};

struct traffic {
    const struct traffic_plan *plan; /* borrowed */
    struct sequence sequence;
    struct publisher *publishers; /* owned */
    uint32_t *stream_sent;        /* owned; per stream, the place of its next message */
    uint32_t *remaining;          /* owned; fanout only: receivers that a message has yet to reach, by place */
    uint32_t remaining_mask;
    struct publisher **ready; /* owned; room for every publisher */
    uint32_t ready_count;
    struct buf packet; /* owned: a PUBLISH in which topic digits, packet identifier and numbers are to be filled in */
    uint32_t digits_at, packet_id_at, payload_at;
    bool stopped; /* nothing is published any more */

    uint64_t sent, received;   /* PUBLISH packets; received counts each once */
    uint64_t delivered, acked; /* of all publishers */
    uint64_t misdelivered;     /* to a receiver that must not have it, or not one of our messages */
    uint64_t refused;          /* acknowledged with a reason code of 0x80 or more */
    uint64_t misacknowledged;  /* PUBACK or PUBREC not in the order of the messages [MQTT-4.6.0-2] [MQTT-4.6.0-3] */
};

/* Returns 0 or -ENOMEM. The plan is borrowed. */
int traffic_init(struct traffic *t, const struct traffic_plan *plan);
void traffic_deinit(struct traffic *t);

/* Write the topic or filter of subscription number n; returns its length. out has room for 64 bytes. */
size_t traffic_topic(const struct traffic_plan *plan, uint32_t n, char *out);
size_t traffic_filter(const struct traffic_plan *plan, uint32_t n, char *out);

/* Publisher number i is this client, which is up. */
void traffic_publisher_set(struct traffic *t, uint32_t i, struct client *client);

/* Receiver number i was given a payload; a publisher's message was acknowledged; a publisher can write again. */
void traffic_message(struct traffic *t, uint32_t receiver, struct slice payload);
void traffic_acked(struct traffic *t, uint32_t publisher, enum mqtt_type type, uint16_t packet_id, uint8_t reason);
void traffic_writable(struct traffic *t, uint32_t publisher);

/* Publish what there is room for. Called once a turn, so that the room of a whole turn is used together. */
void traffic_pump(struct traffic *t);

/* Whether everything that was sent has been delivered and acknowledged. */
bool traffic_settled(const struct traffic *t);

/* Deliveries that are missing now. */
uint64_t traffic_lost(const struct traffic *t);

#endif
