/* jwt_claims.c -- what a signed token says, judged (RFC 7519, section 4.1) and copied.
 *
 * A claim that is there and is not what it should be refuses the token: whoever signed it meant something by it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/auth_internal.h"
#include "broker/auth/jwt_internal.h"

#define NAME_PART_MAX 256 /* the configuration's names of claims are shorter */

/* The claim of this name; else, for "a.b", claim "b" of the object "a". A claim may have dots in its own name, as
 * those that are URLs (RFC 7519, section 4.2). NULL: there is none. */
static const json_t *find(const json_t *object, const char *name)
{
    const json_t *claim = json_object_get(object, name);
    const char *dot;
    char part[NAME_PART_MAX];

    while (!claim && (dot = strchr(name, '.')) != NULL && dot - name < NAME_PART_MAX) {
        snprintf(part, sizeof(part), "%.*s", (int)(dot - name), name);
        object = json_object_get(object, part);
        name = dot + 1;
        claim = json_object_get(object, name);
    }
    return claim;
}

static struct slice text_of(const json_t *text)
{
    return slice_of(json_string_value(text), json_string_length(text));
}

static bool text_is(const json_t *value, const char *text)
{
    return json_is_string(value) && slice_eq(text_of(value), slice_str(text));
}

/* ---- time: exp and nbf ---- */

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* A NumericDate, whole or not, in milliseconds: what lies before 1970 is 0, what no number holds the end of time.
 * Returns whether it is one. */
static bool date_ms(const json_t *value, uint64_t *ret_ms)
{
    if (json_is_integer(value)) {
        json_int_t seconds = json_integer_value(value);
        uint64_t whole = seconds > 0 ? (uint64_t)seconds : 0;
        *ret_ms = whole > UINT64_MAX / 1000 ? UINT64_MAX : whole * 1000;
        return true;
    }
    if (json_is_real(value)) {
        double ms = json_real_value(value) * 1000;
        *ret_ms = ms < 1 ? 0 : ms >= 0x1p64 ? UINT64_MAX : (uint64_t)ms;
        return true;
    }
    return false;
}

static int check_time(const json_t *payload, uint32_t leeway_s, uint64_t wall_ms, uint64_t *ret_expires_at_ms,
                      const char **ret_why)
{
    const json_t *nbf = json_object_get(payload, "nbf");
    uint64_t leeway_ms = (uint64_t)leeway_s * 1000, at_ms;

    if (!date_ms(json_object_get(payload, "exp"), &at_ms)) {
        return jwt_no("the token does not say when it expires", ret_why);
    }
    *ret_expires_at_ms = add_saturated(at_ms, leeway_ms);
    if (wall_ms >= *ret_expires_at_ms) {
        return jwt_no("the token has expired", ret_why);
    }
    if (nbf && !date_ms(nbf, &at_ms)) {
        return jwt_no("the claim nbf is no time", ret_why);
    }
    if (nbf && add_saturated(wall_ms, leeway_ms) < at_ms) {
        return jwt_no("the token is not valid yet", ret_why);
    }
    return 0;
}

/* ---- from whom, and for whom ---- */

static bool audience_has(const json_t *audience, const char *wanted)
{
    const json_t *one;
    size_t i;

    json_array_foreach(audience, i, one)
    {
        if (text_is(one, wanted)) {
            return true;
        }
    }
    return text_is(audience, wanted);
}

static int check_origin(const json_t *payload, const struct jwt_terms *terms, const char **ret_why)
{
    if (*terms->issuer && !text_is(json_object_get(payload, "iss"), terms->issuer)) {
        return jwt_no("the token is from another issuer", ret_why);
    }
    if (*terms->audience && !audience_has(json_object_get(payload, "aud"), terms->audience)) {
        return jwt_no("the token is for another audience", ret_why);
    }
    return 0;
}

/* ---- what we keep ---- */

static int put(struct buf *out, struct slice text)
{
    buf_put(out, text);
    return out->failed ? -ENOMEM : 0;
}

static int take_names(const json_t *payload, const struct jwt_terms *terms, struct jwt_claims *claims,
                      const char **ret_why)
{
    struct slice user = text_of(find(payload, terms->user_claim));

    if (!auth_name_valid(user)) {
        return jwt_no("the token does not name a user", ret_why);
    }
    int rc = put(&claims->user, user);
    if (rc || !*terms->client_id_claim) {
        return rc;
    }
    struct slice client_id = text_of(find(payload, terms->client_id_claim));
    if (!auth_name_valid(client_id)) {
        return jwt_no("the token does not name a client id", ret_why);
    }
    return put(&claims->client_id, client_id);
}

static int add_role(struct jwt_claims *claims, struct slice role)
{
    if (role.len == 0) {
        return 0;
    }
    claims->role_count++;
    int rc = put(&claims->roles, role);
    return rc ? rc : put(&claims->roles, slice_of("", 1));
}

/* "a b c" */
static int add_words(struct jwt_claims *claims, struct slice words)
{
    int rc = 0;

    while (words.len > 0 && rc == 0) {
        const uint8_t *blank = memchr(words.ptr, ' ', words.len);
        size_t len = blank ? (size_t)(blank - words.ptr) : words.len;
        rc = add_role(claims, slice_of(words.ptr, len));
        words = slice_drop(words, blank ? len + 1 : len);
    }
    return rc;
}

/* How many there are is bounded by the size of a token. */
static int take_roles(const json_t *roles, struct jwt_claims *claims, const char **ret_why)
{
    const json_t *role;
    size_t i;

    if (!roles) {
        return 0;
    }
    if (json_is_string(roles)) {
        return add_words(claims, text_of(roles));
    }
    if (!json_is_array(roles)) {
        return jwt_no("the token's roles are not a list of names", ret_why);
    }
    json_array_foreach(roles, i, role)
    {
        if (json_string_length(role) == 0) {
            return jwt_no("the token's roles are not a list of names", ret_why);
        }
        int rc = add_role(claims, text_of(role));
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static int take_rules(const json_t *rules, struct jwt_claims *claims, const char **ret_why)
{
    char error[256];

    if (!rules) {
        return 0;
    }
    if (!json_is_array(rules)) {
        return jwt_no("the token's rules are ill-formed", ret_why);
    }
    char *text = json_dumps(rules, JSON_COMPACT);
    int rc = text ? acl_parse_claim(slice_str(text), error, sizeof(error), &claims->rules) : -ENOMEM;
    free(text);
    return rc == -EINVAL ? jwt_no("the token's rules are ill-formed", ret_why) : rc;
}

int jwt_claims_read(const json_t *payload, const struct jwt_terms *terms, uint64_t wall_ms,
                    struct jwt_claims *ret_claims, const char **ret_why)
{
    struct jwt_claims claims = {0};
    const json_t *roles = *terms->roles_claim ? find(payload, terms->roles_claim) : NULL;
    const json_t *rules = *terms->rules_claim ? find(payload, terms->rules_claim) : NULL;
    int rc = check_time(payload, terms->leeway_s, wall_ms, &claims.expires_at_ms, ret_why);

    rc = rc ? rc : check_origin(payload, terms, ret_why);
    rc = rc ? rc : take_names(payload, terms, &claims, ret_why);
    rc = rc ? rc : take_roles(roles, &claims, ret_why);
    rc = rc ? rc : take_rules(rules, &claims, ret_why);
    if (rc) {
        jwt_claims_deinit(&claims);
        return rc;
    }
    *ret_claims = claims;
    return 0;
}

void jwt_claims_deinit(struct jwt_claims *claims)
{
    buf_deinit(&claims->user);
    buf_deinit(&claims->client_id);
    buf_deinit(&claims->roles);
    acl_free(claims->rules);
    *claims = (struct jwt_claims){0};
}
