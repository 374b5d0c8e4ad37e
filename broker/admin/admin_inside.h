/* admin_inside.h -- between the files of the server: one connection, and who may come. */
#ifndef TERN_BROKER_ADMIN_ADMIN_INSIDE_H
#define TERN_BROKER_ADMIN_ADMIN_INSIDE_H

#include "broker/admin/admin.h"
#include "broker/auth/passwd.h"
#include "broker/auth/worker.h"
#include "broker/transport/tls.h"

#define ADMIN_TOKENS_MAX 1024u
#define ADMIN_NAME_MAX 256u
#define ADMIN_PIECE_BYTES 65536u /* of a body that are sealed and sent at once */

/* ---- who may come (login.c) ---- */

struct admin_user {
    char name[ADMIN_NAME_MAX];
    enum admin_role role;
    uint8_t digest[32]; /* of a token; not a user's */
};

/* Immutable and counted: a reload makes new ones. */
struct admin_terms {
    atomic_uint refs;
    struct tls_context *tls; /* NULL: none */
    struct passwd *passwd;   /* NULL: no users */
    struct admin_user *users, *tokens;
    size_t user_count, token_count;
    enum admin_role anonymous; /* what who has no name may do; ADMIN_ANYBODY: only what needs no login */
    bool metrics_open;
    bool guarded;   /* anonymous on a loopback address: only requests to this host are heeded */
    char host[264]; /* of admin.listen, in lower case, without brackets */
};

struct admin_conn;

/* A password that a worker looks at. */
struct admin_check {
    struct work work;
    struct admin_conn *conn; /* NULL: it has gone */
    struct admin *admin;
    struct admin_terms *terms; /* counted */
    const struct admin_user *user;
    struct buf name, password;
    bool good;
};

enum admin_verdict { ADMIN_LET_IN, ADMIN_LATER, ADMIN_SENT_AWAY };

/* Decide whether the request may reach a route of this role. Sets its user and role; or has answered; or will call
 * conn_admitted or answer later. */
enum admin_verdict admin_login(struct admin_conn *conn, enum admin_role needed);
void admin_check_forget(struct admin_conn *conn);

/* ---- one connection ---- */

enum admin_state {
    ADMIN_READING, /* a head or a body */
    ADMIN_BUSY,    /* a handler has the request */
    ADMIN_WRITING, /* the whole answer is known */
    ADMIN_LINGER,  /* the answer has left, and this side is closed: what still comes is thrown away */
    ADMIN_CLOSING,
};

struct admin_conn {
    struct admin *admin;
    struct list in_all, in_ready;
    struct io_stream stream;
    struct timer timer;
    struct tls *tls;
    enum admin_state state;
    bool ended;              /* the peer sends no more */
    bool secured;            /* the handshake is over */
    bool streaming, chunked; /* the body comes bit by bit; in chunks */
    bool close;              /* after this answer */
    bool head_only;          /* HEAD: no body */
    bool continued;          /* 100 Continue has been sent */
    bool stalled;            /* a stream had no room */
    bool failed;             /* memory is out: cut it off */
    uint64_t since_ms;       /* in its state, for who has to make room for others */
    uint64_t progress_ms;    /* when its socket took something last */
    struct buf raw, in;      /* as it came; decrypted */
    size_t request_bytes;    /* of `in`, that are the present request's; 0: none is whole yet */
    struct buf headers;      /* of the answer, made by admin_header */
    struct buf plain, wire;  /* to be sent; sealed, and with the kernel while it sends */
    size_t plain_at;         /* of plain, that is sealed */
    struct slice body;       /* behind plain: `body_owned`'s or static */
    struct buf body_owned;
    struct http1_request head; /* borrows from in */
    struct buf words;          /* decoded params */
    struct admin_request request;
    char user[ADMIN_NAME_MAX];
    const struct admin_route *route;
    struct admin_check *check; /* a password is being looked at */
};

struct admin {
    struct broker *broker; /* the control shard's, once it has begun */
    struct shard *shard;
    int fd; /* -1 once handed over */
    unsigned port;
    struct io_listener listener;
    struct admin_terms *terms;          /* of this turn */
    _Atomic(struct admin_terms *) next; /* set by the main thread */
    struct list all, ready;             /* connections */
    unsigned count;
    struct timer pulse; /* looks at the heartbeats */
    atomic_bool launched;
    uint64_t turns[SHARDS_MAX];     /* seen last */
    uint64_t turned_ms[SHARDS_MAX]; /* when that was new */
    uint64_t started_wall_ms;
    struct { /* what a worker finds out about the data directory (metrics_node.c) */
        struct work work;
        char *dir; /* owned */
        atomic_uint_least64_t used, left;
        uint64_t next_ms;
        bool looking;
    } disk;
    struct hash_key secrets[2]; /* of passwords that were good */
    struct {
        uint64_t marks[2], fingerprint;
    } good[16];
    unsigned good_next, checks;
};

static inline struct admin_conn *admin_conn_of(struct admin_request *request)
{
    return CONTAINER_OF(request, struct admin_conn, request);
}

/* ---- http_server.c ---- */

int admin_server_start(struct admin *admin);
void admin_server_turn(struct admin *admin);
void admin_server_stop(struct admin *admin); /* on the shard; connections stay in memory until admin_server_free */
void admin_server_free(struct admin *admin);
void admin_conn_ready(struct admin_conn *conn); /* look at it in a turn that comes at once */

/* ---- http_request.c ---- */

/* Go on with what has come: a head, a body, the handler. */
void admin_request_step(struct admin_conn *conn);
void admin_request_run(struct admin_conn *conn); /* it is let in: its handler */
/* The request is over; the connection goes on with the next. */
void admin_request_finish(struct admin_conn *conn);
/* Tell the handler that nobody waits any more. */
void admin_request_abandon(struct admin_conn *conn);

/* ---- routes.c ---- */

/* The row for path and method; NULL with *ret_methods 0: no such path; else the methods that it has. */
const struct admin_route *admin_route_find(struct admin_request *request, struct slice path, struct buf *words,
                                           unsigned *ret_methods);

/* ---- metrics_node.c ---- */

#define ADMIN_DISK_MS 10000u
void admin_disk_look(struct admin *admin); /* now and then */

/* ---- health.c ---- */

void admin_health_start(struct admin *admin);

#endif
