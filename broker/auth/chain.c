/* chain.c -- the walk of an attempt over the methods of its listener.
 *
 *     certificate -> PSK -> token -> password -> HTTP -> anonymous
 *     SCRAM, JWT: an Authentication Method is the client's choice, and nothing else decides then
 *
 * A link says whether the client is its affair. If so it has answered, or something is under way that will answer; if
 * not the next one is asked. What comes back from a worker or the HTTP client lands in `landed`, on the shard that
 * asked. A yes is said in two places, make_principal and by_nothing; every other way out is a no. */
#include <assert.h>
#include <errno.h>

#include "broker/auth/auth_internal.h"
#include "proto/base/utf8.h"

#define NAME_BYTES_MAX 65535

/* ---- answers ---- */

static void say_no(struct auth_attempt *a, enum mqtt_reason reason, const char *why)
{
    a->answer.status = AUTH_NO;
    a->answer.reason = reason;
    a->answer.why = why;
}

static void landed(struct auth_attempt *a)
{
    a->underway = false;
    if (a->given_up) {
        attempt_free(a);
        return;
    }
    if (a->auth->drained) { /* nobody reads it any more */
        say_no(a, MQTT_SERVER_SHUTTING_DOWN, "the node ends");
        return;
    }
    a->after(a);
    if (a->answer.status != AUTH_PENDING) {
        a->done(a->context); /* may end the attempt */
    }
}

static void worked(struct work *work)
{
    landed(CONTAINER_OF(work, struct auth_attempt, work));
}

static void submit(struct auth_attempt *a, void (*run)(struct work *work), void (*after)(struct auth_attempt *a))
{
    a->work = (struct work){.shard = a->shard, .run = run, .done = worked};
    a->after = after;
    a->underway = true;
    if (worker_submit(a->auth->pool, &a->work) != 0) {
        a->underway = false;
        say_no(a, MQTT_SERVER_BUSY, "too many are waiting to be checked");
    }
}

static void run_waste(struct work *work)
{
    struct auth_attempt *a = CONTAINER_OF(work, struct auth_attempt, work);

    passwd_waste(a->policy->passwd, a->question.password);
}

static void after_waste(struct auth_attempt *a)
{
    a->answer.status = AUTH_NO; /* reason and why are there already */
}

/* No -- for a user who is not in the password file as late as for one who is. */
static void refuse(struct auth_attempt *a, enum mqtt_reason reason, const char *why)
{
    if (a->waste) {
        a->answer.reason = reason;
        a->answer.why = why;
        submit(a, run_waste, after_waste);
    } else {
        say_no(a, reason, why);
    }
}

static void refuse_unknown(struct auth_attempt *a, const char *why)
{
    refuse(a, a->question.user_name.ptr ? MQTT_BAD_USER_NAME_OR_PASSWORD : MQTT_NOT_AUTHORIZED, why);
}

static bool is_control(const uint8_t *at, const uint8_t *end)
{
    return *at < 0x20 || *at == 0x7f || (*at == 0xc2 && at + 1 < end && at[1] < 0xa0); /* U+0080..U+009F */
}

bool auth_name_valid(struct slice name)
{
    if (name.len == 0 || name.len > NAME_BYTES_MAX || !utf8_valid(name)) {
        return false;
    }
    for (const uint8_t *at = name.ptr, *end = at + name.len; at < end; at++) {
        if (is_control(at, end)) {
            return false;
        }
    }
    return true;
}

static void make_principal(struct auth_attempt *a, struct principal_source *source)
{
    source->listener = a->question.listener_name;
    source->address = a->question.address;
    source->rates = a->auth->rates;
    a->answer.principal = principal_new(source);
    if (a->answer.principal) {
        a->answer.status = AUTH_YES;
    } else {
        say_no(a, MQTT_SERVER_UNAVAILABLE, "out of memory");
    }
}

static void let_in(struct auth_attempt *a, struct principal_source *source)
{
    if (auth_name_valid(source->user)) {
        make_principal(a, source);
    } else {
        refuse_unknown(a, "the user's name is empty, too long or no plain text");
    }
}

/* Let in whom a token or the HTTP service describes. */
static void let_in_by_claims(struct auth_attempt *a, enum config_method method, struct slice user)
{
    struct jwt_claims *c = &a->claims;
    struct slice client_id = buf_slice(&c->client_id);

    if (client_id.len > 0 && !auth_name_valid(client_id)) {
        refuse_unknown(a, "the client id that it is given is none");
        return;
    }
    let_in(a, &(struct principal_source){
                  .method = method,
                  .user = user,
                  .roles = buf_slice(&c->roles),
                  .role_count = c->role_count,
                  .expires_at_ms = c->expires_at_ms,
                  .rules = c->rules,
              });
    if (a->answer.status == AUTH_YES) {
        c->rules = NULL; /* the principal's now */
        a->answer.client_id = c->client_id;
        c->client_id = (struct buf){0};
    }
}

/* ---- certificate, PSK ---- */

static bool by_certificate(struct auth_attempt *a)
{
    if (a->question.certificate_user.len == 0) {
        return false;
    }
    let_in(a, &(struct principal_source){.method = METHOD_CERTIFICATE,
                                         .user = a->question.certificate_user,
                                         .expires_at_ms = a->question.certificate_expires_ms});
    return true;
}

static bool by_psk(struct auth_attempt *a)
{
    if (a->question.psk_identity.len == 0) {
        return false;
    }
    let_in(a, &(struct principal_source){
                  .method = METHOD_PSK, .user = a->question.psk_identity, .expires_at_ms = UINT64_MAX});
    return true;
}

/* ---- token ---- */

/* On a worker: first the keys of the file, then those of the URL. */
static void run_token(struct work *work)
{
    struct auth_attempt *a = CONTAINER_OF(work, struct auth_attempt, work);
    struct auth_policy *policy = a->policy;
    bool expected = false;

    a->token_error = -ENOKEY;
    if (policy->keys) {
        a->token_error = jwt_verify(policy->keys, &policy->terms, a->token, a->wall_ms, &a->claims, &a->token_why);
    }
    struct jwt_keys *keys = a->token_error == -ENOKEY ? auth_jwks_keys(a->auth->jwks, &expected) : NULL;
    if (keys) {
        a->token_error = jwt_verify(keys, &policy->terms, a->token, a->wall_ms, &a->claims, &a->token_why);
        jwt_keys_unref(keys);
    } else if (expected) {
        a->token_error = -EAGAIN;
    }
    if (expected && (a->token_error == -ENOKEY || a->token_error == -EAGAIN)) {
        auth_jwks_missed(a->auth->jwks);
    }
}

static void after_token(struct auth_attempt *a)
{
    switch (a->token_error) {
    case 0:
        let_in_by_claims(a, METHOD_JWT, buf_slice(&a->claims.user));
        break;
    case -EACCES:
        say_no(a, a->token_reason, a->token_why);
        break;
    case -ENOKEY:
        say_no(a, a->token_reason, "the token's key is not known");
        break;
    case -EAGAIN:
        say_no(a, MQTT_SERVER_UNAVAILABLE, "the key set has not been fetched yet");
        break;
    default:
        say_no(a, MQTT_SERVER_UNAVAILABLE, "out of memory");
    }
}

static void check_token(struct auth_attempt *a, struct slice token, enum mqtt_reason reason)
{
    a->token = token;
    a->token_reason = reason;
    submit(a, run_token, after_token);
}

static bool by_token(struct auth_attempt *a)
{
    struct slice text = a->policy->token_in == TOKEN_IN_USERNAME ? a->question.user_name : a->question.password;

    if (text.len == 0 || !jwt_looks_like(text)) {
        return false;
    }
    check_token(a, text, MQTT_BAD_USER_NAME_OR_PASSWORD);
    return true;
}

/* ---- password file ---- */

static void run_password(struct work *work)
{
    struct auth_attempt *a = CONTAINER_OF(work, struct auth_attempt, work);

    a->right = passwd_verify(a->entry, a->question.password);
}

static void after_password(struct auth_attempt *a)
{
    if (!a->right) {
        say_no(a, MQTT_BAD_USER_NAME_OR_PASSWORD, "wrong password");
        return;
    }
    let_in(a, &(struct principal_source){.method = METHOD_PASSWORD,
                                         .user = a->question.user_name,
                                         .expires_at_ms = UINT64_MAX,
                                         .credential = passwd_fingerprint(a->entry)});
}

static bool by_password(struct auth_attempt *a)
{
    if (!a->policy->passwd || a->question.user_name.len == 0) {
        return false;
    }
    a->entry = passwd_find(a->policy->passwd, a->question.user_name);
    if (!a->entry) {
        a->waste = a->question.password.ptr != NULL;
        return false;
    }
    if (a->question.password.ptr) {
        submit(a, run_password, after_password);
    } else {
        say_no(a, MQTT_BAD_USER_NAME_OR_PASSWORD, "no password");
    }
    return true;
}

/* ---- HTTP service ---- */

/* Whether the service decides. */
static bool heed_service(struct auth_attempt *a)
{
    struct ask *ask = &a->ask;
    uint64_t wall_ms = ask->answer.wall_ms;

    if (ask->error) {
        say_no(a, ask->error == -EBUSY ? MQTT_SERVER_BUSY : MQTT_SERVER_UNAVAILABLE,
               ask->error == -EBUSY ? "too many are asked about" : "the HTTP service does not answer");
        return true;
    }
    enum ask_verdict verdict =
        ask_connect_decode(ask->answer.status, buf_slice(&ask->answer.body), wall_ms, &a->claims);
    if (verdict == ASK_FAILED) {
        say_no(a, MQTT_SERVER_UNAVAILABLE, "the HTTP service answers something else");
        return true;
    }
    bool ends = verdict == ASK_ALLOW && a->claims.expires_at_ms != UINT64_MAX;
    ask_keep(ask, ends ? a->claims.expires_at_ms - wall_ms : UINT64_MAX);
    if (verdict == ASK_ALLOW) {
        let_in_by_claims(a, METHOD_HTTP, a->claims.user.len ? buf_slice(&a->claims.user) : a->question.user_name);
    } else if (verdict == ASK_DENY) {
        refuse_unknown(a, "the HTTP service says no");
    }
    return verdict != ASK_IGNORE;
}

static void walk(struct auth_attempt *a);

static void after_service(struct auth_attempt *a)
{
    if (!heed_service(a)) {
        walk(a);
    }
}

static void service_landed(struct work *work)
{
    struct auth_attempt *a = CONTAINER_OF(work, struct auth_attempt, ask.request.work);

    ask_land(&a->ask);
    landed(a);
}

static bool by_service(struct auth_attempt *a)
{
    struct slice body;

    if (!*a->policy->connect_url) {
        return false;
    }
    if (ask_connect_encode(&a->question, &body) != 0) {
        say_no(a, MQTT_SERVER_UNAVAILABLE, "out of memory");
        return true;
    }
    a->after = after_service;
    if (ask_start(&a->ask, a->auth, a->policy, a->shard, a->policy->connect_url, body, service_landed)) {
        return heed_service(a);
    }
    a->underway = true;
    return true;
}

/* ---- nobody in particular ---- */

static void by_nothing(struct auth_attempt *a)
{
    if (!a->question.anonymous || (a->question.user_name.ptr && a->question.methods != 0)) {
        refuse_unknown(a, "nothing lets it in");
    } else if (a->policy->acl || *a->policy->rule_url) {
        make_principal(a, &(struct principal_source){.expires_at_ms = UINT64_MAX});
    } else {
        a->answer.status = AUTH_YES; /* nothing is asked about it: no memory for a principal */
    }
}

/* ---- the walk ---- */

static const struct {
    enum config_method method;
    bool (*take)(struct auth_attempt *attempt); /* whether it is the link's affair */
} links[] = {
    {METHOD_CERTIFICATE, by_certificate}, {METHOD_PSK, by_psk},      {METHOD_JWT, by_token},
    {METHOD_PASSWORD, by_password},       {METHOD_HTTP, by_service},
};

static void walk(struct auth_attempt *a)
{
    while (a->at < COUNT_OF(links)) {
        unsigned at = a->at++;
        if ((a->question.methods & links[at].method) && links[at].take(a)) {
            return;
        }
    }
    by_nothing(a);
}

/* ---- Authentication Methods ---- */

/* The outcome of a step of SCRAM, if it is not 0. */
static void scram_failed(struct auth_attempt *a, int error)
{
    if (error == -EACCES) {
        say_no(a, MQTT_NOT_AUTHORIZED, "SCRAM: wrong password or unknown user");
    } else {
        say_no(a, MQTT_SERVER_UNAVAILABLE, "out of memory");
    }
}

static void begin_scram(struct auth_attempt *a)
{
    int rc = scram_first(a->policy->passwd, a->question.data, &a->answer.data, &a->scram);

    if (rc) {
        scram_failed(a, rc);
    } else {
        a->answer.status = AUTH_CONTINUE;
    }
}

static void continue_scram(struct auth_attempt *a, struct slice data)
{
    buf_deinit(&a->answer.data);
    int rc = scram_final(a->scram, data, &a->answer.data);
    if (rc) {
        scram_failed(a, rc);
        return;
    }
    let_in(a, &(struct principal_source){.method = METHOD_SCRAM,
                                         .user = scram_user(a->scram),
                                         .expires_at_ms = UINT64_MAX,
                                         .credential = scram_fingerprint(a->scram)});
}

static void by_method(struct auth_attempt *a)
{
    struct slice method = a->question.method;
    unsigned methods = a->question.methods;

    if ((methods & METHOD_SCRAM) && a->policy->passwd && slice_eq(method, SLICE("SCRAM-SHA-256"))) {
        begin_scram(a);
    } else if ((methods & METHOD_JWT) && slice_eq(method, SLICE("JWT"))) {
        if (a->question.data.len > 0) {
            check_token(a, a->question.data, MQTT_NOT_AUTHORIZED);
        } else {
            a->answer.status = AUTH_CONTINUE; /* with no data: the token, please */
        }
    } else {
        say_no(a, MQTT_BAD_AUTHENTICATION_METHOD, "unknown authentication method");
    }
}

void chain_begin(struct auth_attempt *a)
{
    assert(a->answer.status == AUTH_PENDING);
    if (a->question.method.len > 0) {
        by_method(a);
    } else {
        walk(a);
    }
}

void chain_continue(struct auth_attempt *a, struct slice data)
{
    assert(a->answer.status == AUTH_CONTINUE);
    a->answer.status = AUTH_PENDING;
    if (a->scram) {
        continue_scram(a, data);
        return;
    }
    buf_put(&a->said, data);
    if (data.len == 0) {
        say_no(a, MQTT_NOT_AUTHORIZED, "no token");
    } else if (a->said.failed) {
        say_no(a, MQTT_SERVER_UNAVAILABLE, "out of memory");
    } else {
        check_token(a, buf_slice(&a->said), MQTT_NOT_AUTHORIZED);
    }
}
