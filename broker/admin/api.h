/* api.h -- what the endpoints of /api/v1 have in common: parameters, errors, questions to all shards, and the end when
 * the client has gone meanwhile.
 *
 * A handler whose answer takes a while makes a call, which lives until it is answered or given up. Everything here runs
 * on the control shard. */
#ifndef TERN_BROKER_ADMIN_API_H
#define TERN_BROKER_ADMIN_API_H

#include <jansson.h>

#include "broker/admin/admin.h"
#include "broker/flow/cluster.h"
#include "broker/flow/inquire.h"

struct api_call {
    struct broker *b;
    struct admin_request *request;
    struct inquiry *inquiry; /* under way; NULL: none */
    void (*free)(struct api_call *call);
    uint32_t wait_ms; /* for answers; 0: INQUIRY_WAIT_MS */
    bool all;         /* all nodes were asked */
};

/* Inside the memory that `free` frees. */
void api_call_init(struct api_call *call, struct admin_request *request, void (*free)(struct api_call *call));
/* Answer, and free the call. body is taken over. */
void api_reply(struct api_call *call, unsigned status, struct buf *body);
void api_reply_json(struct api_call *call, unsigned status, json_t *object); /* as api_say */
void api_no_memory(struct api_call *call);
void api_error(struct api_call *call, unsigned status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Free it: what was to be answered has been. */
void api_end(struct api_call *call);

/* For handlers that answer at once: an object (NULL: memory is out), whose reference is taken; no body (204). */
void api_say(struct admin_request *request, unsigned status, json_t *object);
void api_say_nothing(struct admin_request *request);

/* A parameter of the query, decoded; "" if it is not there. False: it is ill-formed or too long, which was answered by
 * admin_fail. */
bool api_query(struct admin_request *request, const char *name, char *ret_value, size_t size);
/* As a number within bounds. False as above. */
bool api_query_number(struct admin_request *request, const char *name, uint64_t absent, uint64_t min, uint64_t max,
                      uint64_t *ret_value);
/* The body, which must be JSON of this type. NULL: it is not, which was answered. */
json_t *api_body(struct admin_request *request, json_type type);

/* Ask. Returns false if that cannot be done: it is answered, and the call is freed. part as in inquiry_terms; done when
 * all have answered: call->inquiry is theirs to be asked for who is missing (api_missing), then is over. */
bool api_inquire(struct api_call *call, unsigned kind, const json_t *question, const char *node, bool here,
                 void (*part)(void *context, unsigned from, uint64_t count, struct slice rows),
                 void (*done)(void *context), void *context);
/* Names of nodes that have not answered, or are dead, into a list. */
void api_missing(struct api_call *call, json_t *list);

/* "$share/g/f" into g and f. */
void api_share_split(struct slice name, struct slice *ret_share, struct slice *ret_filter);

/* ---- api_gather.c: questions whose rows are few and all become one list ---- */

struct api_gather {
    struct api_call call; /* first */
    json_t *rows;         /* owned */
    json_t *missing;      /* owned */
    char node[MEMBER_NAME_MAX + 1];
    void (*done)(struct api_gather *g);
    void *context; /* the caller's; not looked at */
    bool failed;
};

/* Objects with a node_id get a `role`. done answers. question is taken over; NULL: memory is out. node: the only one to
 * be asked; "": all. */
void api_gather(struct admin_request *request, unsigned kind, json_t *question, struct slice node,
                void (*done)(struct api_gather *g));
/* Answer with all rows as one page of a list. */
void api_reply_rows(struct api_gather *g);

/* ---- api_list.c ---- */

struct api_list {
    unsigned kind;            /* desk.h */
    const char *by_name;      /* what `sort` calls the order by name; NULL: nothing */
    const char *const *sorts; /* the other orders, ended by NULL; NULL: none */
    bool here;                /* all nodes have the same: this one is asked, if no other is named */
};
/* Answer with a page of it. question: taken over; what it is filtered by, or NULL: memory is out. */
void api_list(struct admin_request *request, const struct api_list *list, json_t *question);

#endif
