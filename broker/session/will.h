/* will.h -- the Will Message of a session (3.1.2.5), kept as the message it will be. */
#ifndef TERN_BROKER_SESSION_WILL_H
#define TERN_BROKER_SESSION_WILL_H

#include "broker/auth/principal.h"
#include "broker/topic/message.h"

struct will {
    struct message *message; /* counted; its expires_at_ms is set when it is published: the interval counts from then */
    uint32_t delay_s;        /* Will Delay Interval */
    uint32_t expiry_s;       /* Message Expiry Interval */
    bool has_expiry;
    struct principal *principal; /* counted: whose right to publish is asked when it is published; NULL: anonymous */
    uint32_t client_id_len;
    uint8_t client_id[];
};

void will_free(struct will *will); /* NULL is allowed */

#endif
