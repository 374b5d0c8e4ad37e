/* ask_json.c -- what the HTTP service is asked, and what its answers mean.
 *
 *     connect_url: {"client_id", "user_name", "password" or "password_base64", "address", "listener", "version"}
 *               -> {"result": "allow" | "deny" | "ignore", "user", "client_id", "roles", "rules", "expires_in"}
 *     rule_url:    {"user", "client_id", "address", "listener", "action", "topic", "qos", "retain"}
 *               -> {"result": "allow" | "deny"}
 *
 * What the client did not give is left out of the question. In an answer all but the result is optional, but what is
 * there must be of its type: an answer that is understood in part is not understood. */
#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "broker/auth/auth_internal.h"
#include "broker/auth/base64.h"
#include "broker/base/network.h"
#include "proto/base/utf8.h"

#define ROLES_MAX 1024

/* ---- questions ---- */

/* False when memory is out, or for text that is not UTF-8. */
static bool put_text(json_t *object, const char *key, struct slice text)
{
    return json_object_set_new(object, key, json_stringn(text.len ? (const char *)text.ptr : "", text.len)) == 0;
}

static bool put_address(json_t *object, const struct in6_addr *address)
{
    char text[ADDRESS_TEXT];

    if (IN6_IS_ADDR_UNSPECIFIED(address)) { /* a Unix socket */
        return put_text(object, "address", SLICE(""));
    }
    return put_text(object, "address", slice_str(address_text(address, text)));
}

static bool put_password(json_t *object, struct slice password)
{
    struct buf text = {0};

    if (utf8_valid(password)) {
        return put_text(object, "password", password);
    }
    if (buf_grow(&text, password.len / 3 * 4 + 4) != 0) { /* at once: growing would leave copies behind */
        return false;
    }
    base64_encode(password, false, &text);
    bool ok = !text.failed && put_text(object, "password_base64", buf_slice(&text));
    OPENSSL_cleanse(text.ptr, text.cap);
    buf_deinit(&text);
    return ok;
}

static int dump(const json_t *object, struct slice *ret_body)
{
    size_t len = json_dumpb(object, NULL, 0, JSON_COMPACT);
    char *text = len ? malloc(len) : NULL;

    if (!text) {
        return -ENOMEM;
    }
    json_dumpb(object, text, len, JSON_COMPACT);
    *ret_body = slice_of(text, len);
    return 0;
}

static void wipe_text(const json_t *text)
{
    if (text) {
        OPENSSL_cleanse((void *)(uintptr_t)json_string_value(text), json_string_length(text));
    }
}

static const char *version_name(enum mqtt_version version)
{
    return version == MQTT_V5 ? "5.0" : version == MQTT_V311 ? "3.1.1" : "3.1";
}

int ask_connect_encode(const struct auth_question *q, struct slice *ret_body)
{
    json_t *object = json_object();
    bool ok = object && put_text(object, "client_id", q->client_id);

    if (ok && q->user_name.ptr) {
        ok = put_text(object, "user_name", q->user_name);
    }
    if (ok && q->password.ptr) {
        ok = put_password(object, q->password);
    }
    ok = ok && put_address(object, &q->address) && put_text(object, "listener", slice_str(q->listener_name)) &&
         put_text(object, "version", slice_str(version_name(q->version)));
    int rc = ok ? dump(object, ret_body) : -ENOMEM;
    wipe_text(json_object_get(object, "password"));
    wipe_text(json_object_get(object, "password_base64"));
    json_decref(object);
    return rc;
}

int ask_rule_encode(const struct acl_subject *subject, const struct acl_request *request, struct slice *ret_body)
{
    json_t *object = json_object();
    struct slice action = request->action == ACL_PUBLISH ? SLICE("publish") : SLICE("subscribe");

    bool ok = object && put_text(object, "user", subject->user) && put_text(object, "client_id", subject->client_id) &&
              put_address(object, &subject->address) && put_text(object, "listener", subject->listener) &&
              put_text(object, "action", action) && put_text(object, "topic", request->topic) &&
              json_object_set_new(object, "qos", json_integer(request->qos)) == 0 &&
              json_object_set_new(object, "retain", json_boolean(request->retain)) == 0;
    int rc = ok ? dump(object, ret_body) : -ENOMEM;
    json_decref(object);
    return rc;
}

void ask_body_free(struct slice body)
{
    if (body.ptr) {
        OPENSSL_cleanse((void *)(uintptr_t)body.ptr, body.len);
        free((void *)(uintptr_t)body.ptr);
    }
}

/* ---- answers ---- */

/* Each of these: 0, or -EINVAL for what is there and is not as it should be (or memory is out). */
static int take_text(const json_t *object, const char *key, struct buf *out)
{
    const json_t *text = json_object_get(object, key);

    if (!text) {
        return 0;
    }
    if (!json_is_string(text) || json_string_length(text) == 0) {
        return -EINVAL;
    }
    buf_put(out, slice_of(json_string_value(text), json_string_length(text)));
    return out->failed ? -EINVAL : 0;
}

static int take_roles(const json_t *object, struct jwt_claims *claims)
{
    const json_t *roles = json_object_get(object, "roles"), *role;
    size_t i;

    if (!roles) {
        return 0;
    }
    if (!json_is_array(roles) || json_array_size(roles) > ROLES_MAX) {
        return -EINVAL;
    }
    json_array_foreach(roles, i, role)
    {
        if (!json_is_string(role) || json_string_length(role) == 0) {
            return -EINVAL;
        }
        buf_put(&claims->roles, slice_of(json_string_value(role), json_string_length(role) + 1)); /* with its NUL */
        claims->role_count++;
    }
    return claims->roles.failed ? -EINVAL : 0;
}

static int take_rules(const json_t *object, struct acl **ret_rules)
{
    const json_t *rules = json_object_get(object, "rules");
    char error[256];

    if (!rules) {
        return 0;
    }
    char *text = json_is_array(rules) ? json_dumps(rules, JSON_COMPACT) : NULL;
    int rc = text ? acl_parse_claim(slice_str(text), error, sizeof(error), ret_rules) : -EINVAL;
    free(text);
    return rc;
}

static int take_expiry(const json_t *object, uint64_t wall_ms, uint64_t *ret_expires_at_ms)
{
    const json_t *seconds = json_object_get(object, "expires_in");

    if (!seconds) {
        return 0;
    }
    if (!json_is_integer(seconds) || json_integer_value(seconds) <= 0) {
        return -EINVAL;
    }
    if (json_integer_value(seconds) <= UINT32_MAX) { /* else: in more than a hundred years */
        *ret_expires_at_ms = wall_ms + (uint64_t)json_integer_value(seconds) * 1000;
    }
    return 0;
}

static enum ask_verdict result_of(const json_t *object)
{
    static const char *const names[] = {[ASK_ALLOW] = "allow", [ASK_DENY] = "deny", [ASK_IGNORE] = "ignore"};
    const char *result = json_string_value(json_object_get(object, "result"));

    for (size_t i = ASK_ALLOW; result && i < COUNT_OF(names); i++) {
        if (strcmp(result, names[i]) == 0) {
            return (enum ask_verdict)i;
        }
    }
    return ASK_FAILED;
}

/* jansson skips a NUL that follows a number, so it is looked for here. */
static json_t *parse(struct slice body)
{
    return utf8_valid(body) ? json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL) : NULL;
}

static enum ask_verdict by_status(long status)
{
    switch (status) {
    case 204:
        return ASK_ALLOW;
    case 401:
    case 403:
        return ASK_DENY;
    case 404:
        return ASK_IGNORE;
    default:
        return ASK_FAILED;
    }
}

enum ask_verdict ask_connect_decode(long status, struct slice body, uint64_t wall_ms, struct jwt_claims *ret_claims)
{
    struct jwt_claims claims = {.expires_at_ms = UINT64_MAX};
    json_t *object = status == 200 ? parse(body) : NULL;
    enum ask_verdict verdict = status == 200 ? result_of(object) : by_status(status);

    if (verdict == ASK_ALLOW && object &&
        (take_text(object, "user", &claims.user) != 0 || take_text(object, "client_id", &claims.client_id) != 0 ||
         take_roles(object, &claims) != 0 || take_rules(object, &claims.rules) != 0 ||
         take_expiry(object, wall_ms, &claims.expires_at_ms) != 0)) {
        jwt_claims_deinit(&claims);
        verdict = ASK_FAILED;
    }
    json_decref(object);
    if (verdict == ASK_ALLOW) {
        *ret_claims = claims;
    }
    return verdict;
}

enum acl_verdict ask_rule_decode(long status, struct slice body)
{
    json_t *object = status == 200 ? parse(body) : NULL;
    enum ask_verdict verdict = result_of(object);

    json_decref(object);
    if (status == 204 || verdict == ASK_ALLOW) {
        return ACL_ALLOW;
    }
    return status == 403 || verdict == ASK_DENY ? ACL_DENY : ACL_NONE;
}
