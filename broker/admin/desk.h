/* desk.h -- what operators ask of shards (flow/inquire.h), and what the shards answer.
 *
 * A question is a JSON object, an answer is rows whose texts are JSON objects. Of lists: `keep` rows at most, `by` what
 * they are sorted (absent: by name), `desc`, `text` whether their objects are wanted or only what they are sorted by,
 * `lo` and `hi` [number, name] between which they lie; beside these what they are to be filtered by. A field that is
 * not known is passed over, so one is only added where that does no harm. */
#ifndef TERN_BROKER_ADMIN_DESK_H
#define TERN_BROKER_ADMIN_DESK_H

#include <jansson.h>

#include "broker/flow/inquire.h"

/* Numbers on the wire: never another meaning. */
enum desk_kind_id {
    DESK_CLIENTS = 1,   /* a list; number: as `by` says, name: client id */
    DESK_SUBSCRIPTIONS, /* a list; name: client id, NUL, filter */
    DESK_TOPICS,        /* a list, to be combined; number: subscribers, name: filter with $share; no text */
    DESK_RETAINED,      /* a list; name: topic. To be asked of one node: all have the same */
    DESK_CLIENT,        /* {id}: rows "session" and "mishap" (number: when), where there is one */
    DESK_KICK,          /* {ids, end}: a row for each that is known; number: enum operate_kicked */
    DESK_MESSAGE,       /* {topic}: the retained message, whole. Of one node, for its text may be long */
    DESK_NODE,          /* {metrics}: one row */
    DESK_ALARMS,        /* a row each */
    DESK_TRACE,         /* flow/trace.h: a row an event, until time is over; before, a row "begun": number: shards */
    DESK_LISTENERS,     /* a row each */
    DESK_BANS,          /* a row each */
    DESK_BAN,           /* {as, who, reason, until_ms, remove}: a row if it was done */
    DESK_LOG,           /* {level}: set it, if it is given; one row */
    DESK_RELOAD,        /* of one node: one row when it is done */
    DESK_DRAIN,         /* {op: "begin" | "stop" | "look", rate, wait_ms}: of one node: one row, how it stands */
    DESK_KINDS,
};

struct desk_kind {
    void *(*begin)(struct broker *b, const json_t *question);
    enum inquiry_progress (*step)(struct broker *b, void *work, struct inquiry_out *out);
    void (*end)(struct broker *b, void *work);
};

extern const struct desk_kind desk_clients, desk_subscriptions, desk_topics, desk_retained; /* lists.c */
extern const struct desk_kind desk_client, desk_kick, desk_message, desk_node, desk_alarms; /* answers.c */

extern const struct desk_kind desk_listeners, desk_bans, desk_ban, desk_log, desk_reload,
    desk_drain; /* answers_local.c */

extern const struct desk_kind desk_trace; /* tracing.c */

extern const struct inquiry_desk admin_desk;

/* A row with this object, whose reference is taken. */
enum inquiry_progress desk_put(struct inquiry_out *out, struct slice name, json_t *object);
/* enum ban_kind and enum log_level by name; -1: there is none such. */
int desk_ban_kind(struct slice name);
int desk_log_level(struct slice name);
/* "1.2.3.4" or "::1". */
bool desk_address(const char *text, struct in6_addr *ret_address);

/* Texts and numbers of a question; missing: "" and 0. */
struct slice desk_text(const json_t *question, const char *field);
uint64_t desk_number(const json_t *question, const char *field);

#endif
