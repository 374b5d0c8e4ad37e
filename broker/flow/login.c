/* The way from a CONNECT to the principal behind it (3.1, 4.12).
 *
 * The question is put to broker/auth, which answers at once or later; meanwhile the connection reads nothing and its
 * CONNECT stays where it is, to be handled again. With an Authentication Method the client has more to say first: then
 * the CONNECT is kept here, AUTH packets go back and forth, and at the end the CONNECT is put back in front of what has
 * come and handled again, by then with an answer. So there is one way through flow/connect, whoever takes part. */
#include "broker/flow/login.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/auth/auth.h"
#include "broker/conn/channel.h"
#include "broker/flow/access.h"
#include "broker/flow/flow.h"
#include "proto/base/log.h"
#include "proto/mqtt/control.h"

struct login {
    struct conn *conn;
    struct auth_attempt *attempt; /* under way or just answered; NULL: none */
    struct principal *principal;
    struct buf connect;   /* the CONNECT packet, while AUTH goes back and forth */
    struct buf method;    /* Authentication Method of the connection; empty: none */
    struct buf data;      /* Authentication Data for the CONNACK */
    struct buf client_id; /* that the proof demands */
    struct list rules;    /* struct login_rule */
    bool known;           /* the answer was yes */
    bool exchanging;      /* AUTH packets before CONNACK */
};

/* One action of the packet at hand that the HTTP service was asked about. */
struct login_rule {
    struct list in_login;
    struct conn *conn;
    struct auth_rule *rule;
    uint64_t key;
};

static struct login *login_of(const struct conn *conn)
{
    return conn->more ? conn->more->login : NULL;
}

static struct login *login_make(struct conn *conn)
{
    struct conn_more *more = conn_more(conn);

    if (more && !more->login) {
        struct login *login = calloc(1, sizeof(*login));
        if (login) {
            login->conn = conn;
            list_init(&login->rules);
        }
        more->login = login;
    }
    return more ? more->login : NULL;
}

void login_packet_done(struct conn *conn)
{
    struct login *login = login_of(conn);
    struct list *at;

    while (login && (at = list_pop(&login->rules)) != NULL) {
        struct login_rule *r = CONTAINER_OF(at, struct login_rule, in_login);
        auth_rule_end(r->rule);
        free(r);
    }
}

void login_free(struct conn *conn)
{
    struct login *login = login_of(conn);

    if (!login) {
        return;
    }
    login_packet_done(conn);
    auth_end(login->attempt);
    principal_unref(login->principal);
    buf_deinit(&login->connect);
    buf_deinit(&login->method);
    buf_deinit(&login->data);
    buf_deinit(&login->client_id);
    free(login);
    conn->more->login = NULL;
}

void login_opened(struct conn *conn)
{
    struct login *login = login_of(conn);

    if (!login) {
        return;
    }
    if (login->method.len == 0) {
        login_free(conn);
        return;
    }
    principal_unref(login->principal);
    login->principal = NULL;
    buf_deinit(&login->connect);
    buf_deinit(&login->data);
    buf_deinit(&login->client_id);
}

int login_trust(struct conn *conn, struct principal *principal, struct slice method, struct slice data)
{
    struct login *login = login_make(conn);

    if (!login) {
        return -ENOMEM;
    }
    buf_put(&login->method, method);
    buf_put(&login->data, data);
    if (login->method.failed || login->data.failed) {
        return -ENOMEM;
    }
    login->principal = principal;
    login->known = true;
    return 0;
}

struct principal *login_principal(const struct conn *conn)
{
    const struct login *login = login_of(conn);
    return login ? login->principal : NULL;
}

struct slice login_client_id(const struct conn *conn)
{
    const struct login *login = login_of(conn);
    return login ? buf_slice(&login->client_id) : (struct slice){0};
}

bool login_exchanging(const struct conn *conn)
{
    const struct login *login = login_of(conn);
    return login && login->exchanging;
}

static void set_method(const struct login *login, const struct buf *data, struct mqtt_properties *p)
{
    if (login->method.len > 0) {
        p->auth_method = buf_slice(&login->method);
        p->present |= 1ull << MQTT_PROP_AUTH_METHOD;
        if (data->len > 0) {
            p->auth_data = buf_slice(data);
            p->present |= 1ull << MQTT_PROP_AUTH_DATA;
        }
    }
}

void login_connack(const struct conn *conn, struct mqtt_properties *properties)
{
    const struct login *login = login_of(conn);

    if (login) {
        set_method(login, &login->data, properties);
    }
}

/* ---- the question ---- */

static const char *name_field(int from)
{
    static const char *const fields[] = {NULL, "cn", "dn", "san_dns", "san_email", "san_uri"};
    return fields[from];
}

/* A name out of the client certificate, whether we or the balancer in front of us have verified it. */
static void certificate_name(const struct conn *conn, int from, struct buf *out)
{
    const struct channel *channel = conn_channel(conn);

    if (!channel || from == NAME_FROM_NONE) {
        return;
    }
    if (channel->tls && tls_peer_verified(channel->tls)) {
        (void)tls_peer_name(channel->tls, name_field(from), out);
    } else if (from == NAME_FROM_CN) {
        buf_put(out, buf_slice(&channel->proxy_name));
    }
}

static void login_done(void *context);

static int begin(struct login *login, const struct mqtt_connect *c, struct slice method, struct slice data)
{
    struct conn *conn = login->conn;
    struct broker *b = broker_of(conn);
    const struct channel *channel = conn_channel(conn);
    struct buf user = {0};
    struct auth_question question = {
        .methods = atomic_load_explicit(&((struct listener *)conn->listener)->methods, memory_order_relaxed),
        .anonymous = atomic_load_explicit(&((struct listener *)conn->listener)->anonymous, memory_order_relaxed),
        .listener_name = conn->listener->name,
        .address = conn->peer,
        .version = c ? c->version : MQTT_V5,
        .method = method,
        .data = data,
        .certificate_expires_ms = UINT64_MAX,
    };

    if (c) {
        question.client_id = c->client_id;
        question.user_name = c->has_user_name ? c->user_name : (struct slice){0};
        question.password = c->has_password ? c->password : (struct slice){0};
    }
    certificate_name(conn, conn->listener->config->tls.user_name_from, &user);
    question.certificate_user = buf_slice(&user);
    if (channel && channel->tls) {
        question.certificate_expires_ms = tls_peer_expires_ms(channel->tls);
        question.psk_identity = tls_psk_identity(channel->tls);
    }
    login->attempt = user.failed ? NULL
                                 : auth_begin(b->node->auth, b->policy, b->shard->index, b->shard->wall_ms, &question,
                                              login_done, login);
    buf_deinit(&user);
    return login->attempt ? 0 : -1;
}

/* ---- the answer ---- */

/* False: the client does not take packets of this size [MQTT-3.1.2-24], and there is nothing to leave away. */
static bool send_auth(struct login *login, enum mqtt_reason reason, const struct buf *data)
{
    struct conn *conn = login->conn;
    struct mqtt_auth auth = {.reason = (uint8_t)reason};
    struct buf *out = conn_out(conn);
    uint32_t before = out->len;

    set_method(login, data, &auth.properties);
    mqtt_auth_encode(out, &auth);
    if (out->len - before > conn->packet_bytes_max && !out->failed) {
        out->len = before;
        return false;
    }
    broker_sent(broker_of(conn), MQTT_AUTH);
    return true;
}

/* Yes: take over what it brings. Returns false when memory is out. */
static bool take_over(struct login *login, struct auth_answer *answer)
{
    struct conn *conn = login->conn;

    login->principal = answer->principal;
    answer->principal = NULL;
    buf_put(&login->data, buf_slice(&answer->data));
    buf_put(&login->client_id, buf_slice(&answer->client_id));
    if (login->client_id.len == 0) {
        certificate_name(conn, conn->listener->config->tls.client_id_from, &login->client_id);
    }
    login->known = true;
    return !login->data.failed && !login->client_id.failed;
}

/* A client that could not prove who it is counts against its address. */
static void count_failure(struct conn *conn, enum mqtt_reason reason)
{
    struct broker *b = broker_of(conn);

    if (reason != MQTT_BAD_USER_NAME_OR_PASSWORD && reason != MQTT_NOT_AUTHORIZED) {
        return;
    }
    broker_metric(b, METRIC_AUTH_FAILED, 1);
    if (ban_failed(b->node->auth->bans, &conn->peer, b->shard->wall_ms)) {
        char peer[CONN_PEER_TEXT];
        log_event(LOG_WARN, "banned", {"peer", LOG_STR(conn_peer(conn, peer))},
                  {"reason", LOG_STR("too many failed authentications")});
    }
}

enum login_status login_check(struct conn *conn, const struct mqtt_connect *c, const struct mqtt_frame *frame,
                              enum mqtt_reason *ret_reason, const char **ret_why)
{
    struct login *login = login_make(conn);
    bool has_method = mqtt_property_has(&c->properties, MQTT_PROP_AUTH_METHOD);

    *ret_reason = MQTT_SERVER_UNAVAILABLE;
    *ret_why = "out of memory";
    if (!login) {
        return LOGIN_NO;
    }
    if (login->known) {
        return LOGIN_YES;
    }
    if (has_method && c->properties.auth_method.len == 0) {
        *ret_reason = MQTT_BAD_AUTHENTICATION_METHOD;
        *ret_why = "no such authentication method";
        return LOGIN_NO;
    }
    if (!login->attempt) {
        if (has_method) {
            buf_put(&login->method, c->properties.auth_method);
        }
        if (mqtt_property_has(&c->properties, MQTT_PROP_MAXIMUM_PACKET_SIZE) &&
            c->properties.packet_bytes_max < conn->packet_bytes_max) { /* AUTH comes before all else is settled */
            conn->packet_bytes_max = c->properties.packet_bytes_max;
        }
        if (login->method.failed || begin(login, c, buf_slice(&login->method), c->properties.auth_data) != 0) {
            return LOGIN_NO;
        }
    }
    struct auth_answer *answer = auth_answer_of(login->attempt);
    switch (answer->status) {
    case AUTH_PENDING:
        conn->again = true;
        conn_pause(conn, PAUSE_LOGIN);
        return LOGIN_AGAIN;
    case AUTH_CONTINUE:
        buf_put(&login->connect, slice_of(frame->body.ptr + frame->body.len - frame->size, frame->size));
        if (login->connect.failed) {
            return LOGIN_NO;
        }
        if (!send_auth(login, MQTT_CONTINUE_AUTHENTICATION, &answer->data)) { /* [MQTT-4.12.0-2] */
            *ret_reason = MQTT_PACKET_TOO_LARGE;
            *ret_why = "AUTH is larger than what the client takes";
            return LOGIN_NO;
        }
        login->exchanging = true;
        return LOGIN_SENT;
    case AUTH_YES:
        if (!take_over(login, answer)) {
            return LOGIN_NO;
        }
        auth_end(login->attempt);
        login->attempt = NULL;
        return LOGIN_YES;
    case AUTH_NO:
        break;
    }
    *ret_reason = answer->reason;
    *ret_why = answer->why;
    count_failure(conn, answer->reason);
    return LOGIN_NO;
}

/* The exchange before CONNACK is over, one way or the other: the CONNECT is handled again, and finds the answer.
 * Outside of the packet handler. */
static void replay_connect(struct login *login)
{
    struct conn *conn = login->conn;

    login->exchanging = false;
    if (conn_unread(conn, buf_slice(&login->connect)) != 0) {
        conn_drop(conn);
        return;
    }
    buf_deinit(&login->connect);
    conn_resume(conn, PAUSE_LOGIN);
}

/* Why a re-authentication has failed, in the words of DISCONNECT, which are fewer than CONNACK's (3.14.2.1). */
static enum mqtt_reason disconnect_reason(enum mqtt_reason reason)
{
    switch (reason) {
    case MQTT_SERVER_UNAVAILABLE:
        return MQTT_SERVER_BUSY;
    case MQTT_BAD_USER_NAME_OR_PASSWORD:
    case MQTT_BAD_AUTHENTICATION_METHOD:
        return MQTT_NOT_AUTHORIZED;
    default:
        return reason;
    }
}

/* The other side of a re-authentication (4.12.1). */
static void reauthenticated(struct login *login, struct auth_answer *answer)
{
    struct conn *conn = login->conn;
    struct session *session = conn->session;

    if (answer->status == AUTH_YES && !principal_same(answer->principal, session->principal)) {
        goodbye(conn, MQTT_NOT_AUTHORIZED, "re-authentication as somebody else");
        return;
    }
    if (answer->status == AUTH_NO) { /* [MQTT-4.12.1-2] */
        count_failure(conn, answer->reason);
        goodbye(conn, disconnect_reason(answer->reason), answer->why);
        return;
    }
    principal_unref(session->principal);
    session->principal = answer->principal;
    answer->principal = NULL;
    session->seen_version = session->open_version = 0;
    bool sent = send_auth(login, MQTT_SUCCESS, &answer->data);
    auth_end(login->attempt);
    login->attempt = NULL;
    if (!sent) {
        goodbye(conn, MQTT_PACKET_TOO_LARGE, NULL);
        return;
    }
    access_visit(broker_of(conn), session);
    goodbye_watch(conn);
}

/* An answer to AUTH that is known now. inside: the packet handler is running. */
static void answered(struct login *login, bool inside)
{
    struct conn *conn = login->conn;
    struct auth_answer *answer = auth_answer_of(login->attempt);

    if (answer->status == AUTH_CONTINUE) {
        if (!send_auth(login, MQTT_CONTINUE_AUTHENTICATION, &answer->data)) {
            goodbye(conn, MQTT_PACKET_TOO_LARGE, NULL);
            return;
        }
        conn_resume(conn, PAUSE_LOGIN);
    } else if (conn->state == CONN_OPEN) {
        reauthenticated(login, answer);
    } else if (inside) {
        conn_pause(conn, PAUSE_LOGIN);
        list_append(&broker_of(conn)->logins, &conn->in_ready);
    } else {
        replay_connect(login);
    }
}

static void login_done(void *context)
{
    struct login *login = context;
    struct conn *conn = login->conn;

    if (conn->state != CONN_GUEST && conn->state != CONN_OPEN) {
        return;
    }
    if (conn->state == CONN_GUEST && !login->exchanging) {
        conn_resume(conn, PAUSE_LOGIN); /* its CONNECT is still in the buffer */
    } else {
        answered(login, false);
    }
}

void login_run(struct broker *b)
{
    struct list *at;

    while ((at = list_pop(&b->logins)) != NULL) {
        struct conn *conn = CONTAINER_OF(at, struct conn, in_ready);
        if (conn->state == CONN_GUEST) {
            replay_connect(login_of(conn));
        }
    }
}

/* ---- AUTH ---- */

static const char *check_auth(const struct conn *conn, const struct login *login, const struct mqtt_auth *auth)
{
    bool under_way = login && login->attempt;

    if (!login || login->method.len == 0) {
        return "AUTH without an authentication method";
    }
    if (!mqtt_property_has(&auth->properties, MQTT_PROP_AUTH_METHOD) ||
        !slice_eq(auth->properties.auth_method, buf_slice(&login->method))) { /* [MQTT-4.12.0-5] [MQTT-4.12.1-1] */
        return "AUTH with another authentication method";
    }
    if (auth->reason == MQTT_RE_AUTHENTICATE && (conn->state != CONN_OPEN || under_way)) {
        return "re-authentication in the midst of an authentication";
    }
    if (auth->reason == MQTT_CONTINUE_AUTHENTICATION &&
        (!under_way || auth_answer_of(login->attempt)->status != AUTH_CONTINUE)) {
        return "AUTH that continues nothing";
    }
    return auth->reason == MQTT_SUCCESS ? "AUTH with reason Success from a client" : NULL;
}

bool login_auth(struct conn *conn, const struct mqtt_frame *frame)
{
    struct login *login = login_of(conn);
    struct mqtt_auth auth;
    enum mqtt_reason reason = conn->version == MQTT_V5 || login_exchanging(conn)
                                  ? mqtt_auth_decode(frame->body, frame->flags, &auth)
                                  : MQTT_PROTOCOL_ERROR;
    const char *why = reason == MQTT_SUCCESS ? check_auth(conn, login, &auth) : "AUTH refused";

    if (why) {
        goodbye(conn, reason == MQTT_SUCCESS ? MQTT_PROTOCOL_ERROR : reason, why);
        return false;
    }
    if (auth.reason == MQTT_CONTINUE_AUTHENTICATION) {
        auth_continue(login->attempt, auth.properties.auth_data);
    } else if (begin(login, NULL, buf_slice(&login->method), auth.properties.auth_data) != 0) {
        goodbye(conn, MQTT_SERVER_BUSY, "out of memory");
        return false;
    }
    if (auth_answer_of(login->attempt)->status != AUTH_PENDING) {
        answered(login, true);
    } else if (conn->state == CONN_GUEST) {
        conn_pause(conn, PAUSE_LOGIN);
    }
    return (conn->state == CONN_OPEN || conn->state == CONN_GUEST) && !conn->paused;
}

/* ---- TLS and rules ---- */

bool login_certificate_still(const struct conn *conn)
{
    const struct channel *channel = conn_channel(conn);

    if (!channel || !channel->tls) {
        return true;
    }
    struct tls_context *context =
        atomic_load_explicit(&((struct listener *)conn->listener)->tls_context, memory_order_acquire);
    return tls_peer_valid(channel->tls, context) && tls_psk_valid(channel->tls, context);
}

static void rule_done(void *context)
{
    struct login_rule *r = context;

    conn_resume(r->conn, PAUSE_LOGIN);
}

enum acl_verdict login_rule(struct conn *conn, uint64_t key, const struct acl_subject *subject,
                            const struct acl_request *request, uint64_t *ret_max_age_ms)
{
    struct broker *b = broker_of(conn);
    struct login *login = login_make(conn);
    struct login_rule *r = NULL;

    for (struct list *at = login ? login->rules.next : NULL; login && at != &login->rules; at = at->next) {
        r = CONTAINER_OF(at, struct login_rule, in_login);
        if (r->key == key) {
            return auth_rule_answer(r->rule, ret_max_age_ms);
        }
    }
    r = login ? calloc(1, sizeof(*r)) : NULL;
    if (!r) {
        return ACL_DENY;
    }
    r->conn = conn;
    r->key = key;
    r->rule = auth_rule_ask(b->node->auth, b->policy, b->shard->index, subject, request, rule_done, r);
    if (!r->rule) {
        free(r);
        return ACL_DENY;
    }
    list_append(&login->rules, &r->in_login);
    enum acl_verdict verdict = auth_rule_answer(r->rule, ret_max_age_ms);
    if (verdict == ACL_NONE) {
        conn->again = true;
        conn_pause(conn, PAUSE_LOGIN);
    }
    return verdict;
}
