/* forward_frame.h -- a message between nodes: head, stamp if it is to be kept, topic, properties behind their length,
 * payload. */
#ifndef TERN_BROKER_FLOW_FORWARD_FRAME_H
#define TERN_BROKER_FLOW_FORWARD_FRAME_H

#include "broker/topic/message.h"

#define FORWARD_HEAD_BYTES 27u
#define FORWARD_STAMP_BYTES 16u
#define FORWARD_NEVER UINT64_MAX

enum forward_flags {
    FORWARD_QOS = 3,
    FORWARD_RETAIN = 4, /* as published */
    FORWARD_ANSWER = 8, /* it is to be answered for */
    FORWARD_KEEP = 16,  /* it is to be kept as the retained message of its topic, if it is the latest by its stamp */
    FORWARD_QUIET = 32, /* and to be sent to nobody: it was asked for */
    FORWARD_SOLE = 64,  /* nobody else gets it: its publisher may wait */
};

struct forward_head {
    uint64_t number; /* of the sender's lane; 0 without FORWARD_ANSWER */
    uint64_t share;  /* 0: all subscribers */
    uint64_t expires_in_ms;
    struct message_stamp stamp; /* with FORWARD_KEEP */
    uint16_t topic_len;
    uint8_t flags;
};

void forward_head_write(uint8_t out[FORWARD_HEAD_BYTES], const struct forward_head *head);
void forward_stamp_write(uint8_t out[FORWARD_STAMP_BYTES], struct message_stamp stamp);
/* Returns 0 and the parts, borrowed from body; -EPROTO when it is not what mqtt_publish_decode lets in. */
int forward_head_read(struct slice body, struct forward_head *ret_head, struct slice *ret_topic,
                      struct slice *ret_properties, struct slice *ret_payload);

#endif
