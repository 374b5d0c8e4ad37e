/* login.c -- who asks, and whether he may.
 *
 * A password costs milliseconds by design: a worker looks at it, and what was right is remembered as a keyed hash, so
 * that a page that asks every second does not cost that each time. A token is found by its digest. */
#include <errno.h>
#include <stdlib.h>

#include "broker/admin/admin_inside.h"
#include "broker/auth/base64.h"
#include "broker/auth/digest.h"
#include "proto/base/log.h"

#define CHECKS_MAX 4u /* passwords looked at at one time: the workers are the MQTT clients' too */

static void ask_for_login(struct admin_conn *conn)
{
    metric_inc(conn->admin->shard->metrics, METRIC_ADMIN_DENIED);
    admin_header(&conn->request, "WWW-Authenticate", "Basic realm=\"tern\", charset=\"UTF-8\"");
    admin_fail(&conn->request, 401, "a name and password, or a token, are needed");
}

static enum admin_verdict judge(struct admin_conn *conn, const struct admin_user *user)
{
    conn->request.role = user->role;
    memcpy(conn->user, user->name, sizeof(conn->user));
    conn->request.user = conn->user;
    if (user->role >= conn->route->role) {
        return ADMIN_LET_IN;
    }
    metric_inc(conn->admin->shard->metrics, METRIC_ADMIN_DENIED);
    admin_fail(&conn->request, 403, "this needs the role operator");
    return ADMIN_SENT_AWAY;
}

/* ---- passwords ---- */

static void marks_of(const struct admin *admin, const struct admin_check *check, uint64_t marks[2])
{
    struct slice both = buf_slice(&check->password); /* name, ':' and password, as they came */

    marks[0] = hash_keyed(&admin->secrets[0], both);
    marks[1] = hash_keyed(&admin->secrets[1], both);
}

static uint64_t fingerprint_of(const struct admin_check *check)
{
    const struct passwd_entry *entry = passwd_find(check->terms->passwd, slice_str(check->user->name));

    return entry ? passwd_fingerprint(entry) : 0;
}

static bool known_good(const struct admin_check *check)
{
    const struct admin *admin = check->admin;
    uint64_t marks[2], fingerprint = fingerprint_of(check);

    marks_of(admin, check, marks);
    for (size_t i = 0; i < COUNT_OF(admin->good); i++) {
        if (admin->good[i].fingerprint == fingerprint && fingerprint != 0 && admin->good[i].marks[0] == marks[0] &&
            admin->good[i].marks[1] == marks[1]) {
            return true;
        }
    }
    return false;
}

static void remember_good(const struct admin_check *check)
{
    struct admin *admin = check->admin;
    unsigned at = admin->good_next++ % COUNT_OF(admin->good);

    marks_of(admin, check, admin->good[at].marks);
    admin->good[at].fingerprint = fingerprint_of(check);
}

static struct slice password_of(const struct admin_check *check)
{
    return slice_drop(buf_slice(&check->password), check->name.len + 1);
}

static void check_free(struct admin_check *check)
{
    admin_terms_unref(check->terms);
    buf_deinit(&check->name);
    if (check->password.ptr) {
        explicit_bzero(check->password.ptr, check->password.len);
    }
    buf_deinit(&check->password);
    free(check);
}

static void check_run(struct work *work)
{
    struct admin_check *check = CONTAINER_OF(work, struct admin_check, work);

    if (check->user) {
        check->good = passwd_verify(passwd_find(check->terms->passwd, buf_slice(&check->name)), password_of(check));
    } else {
        passwd_waste(check->terms->passwd, password_of(check));
    }
}

static void check_done(struct work *work)
{
    struct admin_check *check = CONTAINER_OF(work, struct admin_check, work);
    struct admin_conn *conn = check->conn;

    check->admin->checks--;
    if (check->good) {
        remember_good(check);
    }
    if (conn) {
        conn->check = NULL;
        conn->state = ADMIN_BUSY;
        if (!check->good) {
            log_event(LOG_WARN, "admin_login_failed", {"user", LOG_SLICE(buf_slice(&check->name))});
            ask_for_login(conn);
        } else if (judge(conn, check->user) == ADMIN_LET_IN) {
            admin_request_run(conn);
        }
    }
    check_free(check);
}

void admin_check_forget(struct admin_conn *conn)
{
    if (conn->check) {
        conn->check->conn = NULL;
        conn->check = NULL;
    }
}

static enum admin_verdict check_password(struct admin_conn *conn, struct slice text)
{
    struct admin *admin = conn->admin;
    struct admin_terms *t = admin->terms;
    struct admin_check *check = calloc(1, sizeof(*check));
    const uint8_t *colon = NULL;

    if (!check || base64_decode(slice_trim(text), false, &check->password) == -ENOMEM) {
        if (check) {
            buf_deinit(&check->password);
        }
        free(check);
        admin_fail(&conn->request, 500, "memory is out");
        return ADMIN_SENT_AWAY;
    }
    if (check->password.len > 0) {
        colon = memchr(check->password.ptr, ':', check->password.len);
    }
    check->admin = admin;
    atomic_fetch_add(&t->refs, 1);
    check->terms = t;
    if (colon) {
        buf_put(&check->name, slice_of(check->password.ptr, (size_t)(colon - check->password.ptr)));
    }
    for (size_t i = 0; i < t->user_count; i++) {
        if (slice_eq(buf_slice(&check->name), slice_str(t->users[i].name))) {
            check->user = &t->users[i];
        }
    }
    if (!colon || check->name.failed || !t->passwd) {
        check_free(check);
        ask_for_login(conn);
        return ADMIN_SENT_AWAY;
    }
    if (check->user && known_good(check)) {
        const struct admin_user *user = check->user;
        check_free(check); /* the terms of this turn have the user still */
        return judge(conn, user);
    }
    check->work = (struct work){.shard = admin->shard->index, .run = check_run, .done = check_done};
    list_init(&check->work.link);
    check->conn = conn;
    if (admin->checks >= CHECKS_MAX || worker_submit(admin->broker->node->auth->pool, &check->work) != 0) {
        check_free(check);
        admin_fail(&conn->request, 503, "too many log in at the moment");
        return ADMIN_SENT_AWAY;
    }
    admin->checks++;
    conn->check = check;
    conn->state = ADMIN_BUSY;
    return ADMIN_LATER;
}

/* ---- tokens ---- */

static enum admin_verdict check_token(struct admin_conn *conn, struct slice token)
{
    const struct admin_terms *t = conn->admin->terms;
    uint8_t digest[DIGEST_SIZE];

    digest_sha256(slice_trim(token), digest);
    for (size_t i = 0; i < t->token_count; i++) {
        if (memcmp(t->tokens[i].digest, digest, sizeof(digest)) == 0) {
            return judge(conn, &t->tokens[i]);
        }
    }
    log_event(LOG_WARN, "admin_login_failed", {"user", LOG_STR("(token)")});
    ask_for_login(conn);
    return ADMIN_SENT_AWAY;
}

static bool takes_scheme(struct slice *text, const char *scheme)
{
    size_t n = strlen(scheme);

    if (text->len <= n || text->ptr[n] != ' ' || !http1_token_eq(slice_of(text->ptr, n), scheme)) {
        return false;
    }
    *text = slice_drop(*text, n + 1);
    return true;
}

enum admin_verdict admin_login(struct admin_conn *conn, enum admin_role needed)
{
    const struct admin_terms *t = conn->admin->terms;
    struct slice proof = http1_field(&conn->head, "Authorization");

    conn->request.user = "";
    conn->request.role = t->anonymous;
    if (needed == ADMIN_ANYBODY || (needed == ADMIN_SCRAPER && t->metrics_open)) {
        return ADMIN_LET_IN;
    }
    if (proof.len > 0 && (t->user_count || t->token_count)) {
        if (takes_scheme(&proof, "Basic")) {
            return check_password(conn, proof);
        }
        if (takes_scheme(&proof, "Bearer")) {
            return check_token(conn, proof);
        }
        ask_for_login(conn);
        return ADMIN_SENT_AWAY;
    }
    if (t->anonymous >= needed) {
        return ADMIN_LET_IN;
    }
    if (t->user_count || t->token_count) {
        ask_for_login(conn);
    } else {
        metric_inc(conn->admin->shard->metrics, METRIC_ADMIN_DENIED);
        admin_fail(&conn->request, 403, "this needs the role operator, and no users are configured");
    }
    return ADMIN_SENT_AWAY;
}
