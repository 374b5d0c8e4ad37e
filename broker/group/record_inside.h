/* record_inside.h -- numbers of the written form. Inside the room. */
#ifndef TERN_BROKER_GROUP_RECORD_INSIDE_H
#define TERN_BROKER_GROUP_RECORD_INSIDE_H

#define ENTRY_HEAD_BYTES 5u    /* type, length */
#define MESSAGE_HEAD_BYTES 29u /* all but topic, properties and payload */

enum {
    MESSAGE_RETAIN = 4,  /* beside the QoS */
    MESSAGE_STAMPED = 8, /* its stamp is behind the payload: time u64, origin u64 */

    CLAIM_CLEAN = 1,
    CLAIM_DURABLE = 2,
    CLAIM_ENDED = 4,

    DETACH_NO_WILL = 1,
    DETACH_EXPIRY = 2,

    PUBLISH_RETAINED = 4, /* beside the QoS */
    PUBLISH_DROPPED = 8,
    PUBLISH_SHARED = 16,
};

#endif
