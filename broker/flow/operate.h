/* operate.h -- what an operator does to clients and messages. On the shard whose they are, unless it says otherwise. */
#ifndef TERN_BROKER_FLOW_OPERATE_H
#define TERN_BROKER_FLOW_OPERATE_H

#include "broker/flow/flow.h"

enum operate_kicked {
    OPERATE_UNKNOWN, /* no session of this client id is at home here */
    OPERATE_AWAY,    /* it is not connected, and its session stays */
    OPERATE_KICKED,  /* it is sent away, or its session was ended, or both */
};

/* Send a client away with 0x98; with end_session its session ends too (its will is published as it says). */
enum operate_kicked operate_kick(struct broker *b, struct slice client_id, bool end_session);

/* A message of the broker itself. Any shard. */
struct operate_message {
    struct slice topic, payload;
    uint8_t qos;
    bool retain;
    struct mqtt_properties properties; /* of those that are handed on; user: encoded */
};

/* Publish it. Returns 0 with *ret_reason MQTT_SUCCESS or MQTT_NO_MATCHING_SUBSCRIBERS; -EINVAL with *ret_why, one
 * sentence; or -ENOMEM. Delivered and kept as a client's, but nobody waits for the disk. */
int operate_publish(struct broker *b, const struct operate_message *message, enum mqtt_reason *ret_reason,
                    const char **ret_why);

/* The retained message of a topic that is at home here; borrowed, NULL: none, or it is at home elsewhere. */
struct message *operate_retained(struct broker *b, struct slice topic);

#endif
