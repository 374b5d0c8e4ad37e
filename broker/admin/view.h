/* view.h -- what the broker has, as JSON: the objects of /api/v1. On the shard whose it is. NULL: memory is out. */
#ifndef TERN_BROKER_ADMIN_VIEW_H
#define TERN_BROKER_ADMIN_VIEW_H

#include <jansson.h>

#include "broker/flow/look.h"

json_t *view_text(struct slice s); /* null if it is not UTF-8 */
/* RFC 3339 in UTC; null for 0. */
json_t *view_time(uint64_t wall_ms);

/* A client. whole: with its subscriptions, limits, and why it may be getting nothing. */
json_t *view_client(struct broker *b, struct session *session, bool whole);
json_t *view_subscription(const struct broker *b, const struct session *session, const struct look_subscription *s);
json_t *view_mishap(const struct mishap *mishap);
/* A retained message; payload: with it, in base64. */
json_t *view_retained(const struct message *message, bool payload);

/* This node; metrics: with all of them. Control shard. */
json_t *view_node(struct broker *b, bool metrics);
/* What its operator should look at. Control shard. */
json_t *view_alarms(struct broker *b);
json_t *view_metrics(struct broker *b);

/* 2 * len + 1 bytes of text. */
void view_hex(const uint8_t *bytes, unsigned len, char *text);

/* object's text behind out; takes the reference. Returns 0 or -ENOMEM. */
int view_write(json_t *object, struct buf *out);

#endif
