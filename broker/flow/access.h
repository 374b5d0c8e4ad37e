/* access.h -- what a client may do (flow/access.c says how). All on the session's shard. */
#ifndef TERN_BROKER_FLOW_ACCESS_H
#define TERN_BROKER_FLOW_ACCESS_H

#include "broker/flow/broker.h"

int access_init(struct broker *b); /* 0, or not: memory is out */
void access_deinit(struct broker *b);

/* ACL_NONE, from the two that may say so: no rule fits, and access_ask has the answer. */
enum acl_verdict access_publish(struct broker *b, const struct session *session, struct slice topic,
                                uint64_t topic_hash, uint8_t qos, bool retain);
enum acl_verdict access_subscribe(struct broker *b, struct session *session, struct slice filter, uint8_t qos);

/* Whether a session may be handed a message of this topic. */
bool access_receive(struct broker *b, struct session *session, struct slice topic, uint64_t topic_hash);

/* Whether a will may be published now, by whoever it was that set it. */
bool access_will(struct broker *b, const struct will *will);

/* At CONNECT: what the HTTP service says of a will, if the rules leave that to it. ACL_NONE as below. */
enum acl_verdict access_will_ask(struct broker *b, struct conn *conn, const struct principal *principal,
                                 struct slice client_id, const struct acl_request *request);

/* Ask the HTTP service. ACL_NONE: the answer will come, the connection is paused and the packet has to be handled
 * again. */
enum acl_verdict access_ask(struct broker *b, struct conn *conn, const struct acl_request *request,
                            uint64_t topic_hash);

/* A line in the log, once per client and minute. */
void access_refused(struct broker *b, const struct session *session, const char *what, struct slice topic);

/* Judge a session's subscriptions under the policy in force, if that has not been done. Not while a match is walked. */
void access_visit(struct broker *b, struct session *session);

/* The policy is another one: all connections are to be judged anew. access_sweep does it, some a turn, and for new
 * bans; returns whether there are more. */
void access_policy_changed(struct broker *b);
bool access_sweep(struct broker *b);

#endif
