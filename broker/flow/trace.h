/* trace.h -- what one client does, or happens to one topic, as it happens: for an operator who watches.
 *
 * Without anybody who watches it costs one branch at each place that could tell: `if (b->traces)`. On the shard where
 * it happens. */
#ifndef TERN_BROKER_FLOW_TRACE_H
#define TERN_BROKER_FLOW_TRACE_H

#include "broker/flow/broker.h"

enum trace_kind {
    TRACE_CONNECT, /* and CONNACK with success */
    TRACE_REFUSED, /* CONNECT was not taken */
    TRACE_SUBSCRIBE,
    TRACE_UNSUBSCRIBE,
    TRACE_PUBLISH_IN,  /* from the client; code: why it goes nowhere */
    TRACE_PUBLISH_OUT, /* to the client */
    TRACE_DROP,        /* it should have gone to the client, and did not */
    TRACE_DISCONNECT,
};

/* Everything is borrowed. */
struct trace_event {
    enum trace_kind kind;
    uint8_t qos, code; /* code: reason code of MQTT */
    bool retain;
    struct slice client_id, topic, payload; /* topic: or filter; ptr NULL: it has none */
    const struct in6_addr *address;         /* of the client; NULL: it is not connected */
    const char *text;                       /* or NULL */
};

/* Somebody who watches; from trace_begin to trace_end in a shard's list. */
struct trace {
    struct trace *next;                   /* the list's */
    struct slice client_id, topic_filter; /* empty: any. Borrowed until the end */
    struct in6_addr address;
    bool any_address;
    void (*seen)(struct trace *trace, struct broker *b, const struct trace_event *event);
};

void trace_begin(struct broker *b, struct trace *trace);
void trace_end(struct broker *b, struct trace *trace);

/* Tell all who watch for this. */
void trace_event(struct broker *b, const struct trace_event *event);

/* The same with what a connection says of itself; conn NULL: not connected. */
void trace_session(struct broker *b, enum trace_kind kind, const struct session *session, struct slice topic,
                   uint8_t code, const char *text);

#endif
