/* admin.h -- the admin port: one address for operators, load balancers and Prometheus, and the seam to what answers
 * there.
 *
 * It is an HTTP/1.1 server on the loop of the control shard. It never waits: bodies leave in pieces, what a request
 * needs from elsewhere comes later, and each turn does a bounded part of it, so that a slow or hostile reader costs
 * MQTT clients nothing. An endpoint is a row of a table: method, path, the least role, and a handler, which answers at
 * once, later, or with a stream.
 *
 * All runs on the control shard, but for what says so. */
#ifndef TERN_BROKER_ADMIN_ADMIN_H
#define TERN_BROKER_ADMIN_ADMIN_H

#include "broker/flow/broker.h"
#include "proto/web/http1.h"

#define ADMIN_CONNECTIONS_MAX 64u
#define ADMIN_LISTEN_DEFAULT "127.0.0.1:18083" /* of admin.listen: the one that may be taken already */
#define ADMIN_PARAMS_MAX 4u
#define ADMIN_BODY_MAX 1048576u        /* bytes of a request's body */
#define ADMIN_STREAM_BYTES_MAX 262144u /* of a stream that wait for its reader */

/* What somebody may do; ADMIN_ANYBODY need not say who he is. ADMIN_SCRAPER is of routes alone: anybody, or a viewer
 * when admin.metrics_open is off. */
enum admin_role { ADMIN_ANYBODY, ADMIN_SCRAPER, ADMIN_VIEWER, ADMIN_OPERATOR };

enum admin_method { ADMIN_GET = 1, ADMIN_POST = 2, ADMIN_PUT = 4, ADMIN_DELETE = 8 }; /* HEAD comes as GET */

struct admin_request {
    struct broker *broker; /* the control shard's */
    enum admin_method method;
    struct slice path, query; /* as sent; texts are borrowed until the request is over */
    struct slice body;
    struct slice params[ADMIN_PARAMS_MAX]; /* of the path's :words, decoded; may hold any bytes */
    const struct http1_request *head;      /* for its fields */
    enum admin_role role;
    const char *user; /* "" when nobody had to log in */

    /* The handler's own. Whoever answers later or streams sets `gone`. */
    void *context;
    /* The client has gone, or the node stops, before the answer was given: free the context. Nothing of the request may
     * be used afterwards. Not called once it is answered. */
    void (*gone)(struct admin_request *request);
    /* May be NULL: called each turn while the request is not answered, for what is done in pieces. */
    void (*step)(struct admin_request *request);
    /* For streams, may be NULL: there is room again. */
    void (*room)(struct admin_request *request);
};

typedef void admin_handler(struct admin_request *request);

struct admin_route {
    enum admin_method method;
    const char *path; /* "/api/v1/clients/:id": a :word stands for one segment, which is not empty */
    enum admin_role role;
    admin_handler *handler;
};

struct admin_table {
    const struct admin_route *routes;
    size_t count;
};

/* Add yours to the list in routes.c. */
extern const struct admin_table admin_health_table, admin_metrics_table, admin_page_table;

/* ---- answers: exactly one of reply, reply_static, fail, or a stream; the request is over then ---- */

/* Before the answer: one more header field. Both are copied; neither may hold line ends. */
void admin_header(struct admin_request *request, const char *name, const char *value);

/* The body is taken over and left empty; NULL for none (204). When body->failed: 500. */
void admin_reply(struct admin_request *request, unsigned status, const char *content_type, struct buf *body);

/* The body lives as long as the process. */
void admin_reply_static(struct admin_request *request, unsigned status, const char *content_type, struct slice body);

/* {"code":..,"message":..}; the code follows from the status: 400, 401, 403, 404, 405, 409, 413, 503, else 500. */
__attribute__((format(printf, 3, 4))) void admin_fail(struct admin_request *request, unsigned status,
                                                      const char *format, ...);

/* Answer 200 and a body that comes bit by bit until admin_stream_end. It may break off without the end when the client
 * goes: `gone` tells. */
void admin_stream_begin(struct admin_request *request, const char *content_type);
/* Returns false, and takes nothing, when there is no room for it: drop it, or wait for `room`. A client that memory is
 * out for is sent away in the next turn. */
bool admin_stream_write(struct admin_request *request, struct slice data);
size_t admin_stream_room(const struct admin_request *request); /* bytes that a write may have now */
void admin_stream_end(struct admin_request *request);

/* ---- help for handlers ---- */

/* Append the decoded value of the first NAME=VALUE of the query. Returns 1, 0: there is none, -EINVAL: bad %XX,
 * -ENOMEM. */
int admin_query(const struct admin_request *request, const char *name, struct buf *out);

/* Append text with %XX (and, in a query, +) decoded. Returns 0, -EINVAL or -ENOMEM. */
int admin_percent_decode(struct slice text, bool plus, struct buf *out);

/* Append text as a JSON string with its quotes; what is not UTF-8 becomes U+FFFD. */
void admin_json_string(struct buf *out, struct slice text);

/* Append as printf would; memory that is out shows in out->failed. */
__attribute__((format(printf, 2, 3))) void admin_printf(struct buf *out, const char *format, ...);

/* ---- for node.c ---- */

struct admin;
struct admin_terms;

/* Read what the configuration says about who may come and with which certificate. Main thread. Returns 0, -ENOMEM or
 * -EINVAL with one sentence in error. */
int admin_terms_read(const struct config *config, char *error, size_t error_size, struct admin_terms **ret_terms);
void admin_terms_unref(struct admin_terms *terms); /* NULL is allowed; any thread */

/* Bind admin.listen. Main thread. *ret_admin stays NULL when there is none. Takes the terms over in any case. Returns
 * 0, -ENOMEM, -ENOENT (no such host), or what bind answered. */
int admin_new(const struct config *config, struct admin_terms *terms, struct admin **ret_admin);

/* New terms from the next turn on; takes them over. Main thread. */
void admin_replace(struct admin *admin, struct admin_terms *terms);

/* All shards run: their loops can be looked at. Main thread. */
void admin_launched(struct admin *admin);

/* Of the control shard, instead of broker_shard_handler. */
extern const struct shard_handler admin_shard_handler;

/* When the certificate ends, and its file; INT64_MAX: it has none. Main thread. */
int64_t admin_certificate_expires(const struct admin_terms *terms, const char **ret_file);

unsigned admin_port(const struct admin *admin); /* the one really bound */

/* After the control shard's end. NULL is allowed. */
void admin_free(struct admin *admin);

#endif
