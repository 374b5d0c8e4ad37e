/* fuzz_auth_answer.c -- any bytes as the answer of the HTTP service that says who may come in.
 *
 * The oracle is naive: it looks for the one way in which an answer can be a yes. Status 204; or 200 with what jansson
 * takes for an object whose "result" is "allow", the bytes of which must also stand somewhere in the answer (or an
 * escape, which could spell them). Whatever else comes is no yes. What is let in carries what principals are made of:
 * names without NUL, as many roles as were counted, a time that is not over. */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

#include "broker/auth/auth_internal.h"
#include "proto/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WALL_MS UINT64_C(1900000000000)

static const long statuses[] = {200, 204, 401, 403, 404, 500, 302, 201, 0};

/* Whether the word is there, or could be behind an escape. */
static bool mentions(struct slice body, const char *word)
{
    return memmem(body.ptr, body.len, word, strlen(word)) || memchr(body.ptr, '\\', body.len);
}

static bool may_allow(long status, struct slice body)
{
    if (status != 200) {
        return status == 204;
    }
    if (body.len == 0 || !mentions(body, "result") || !mentions(body, "allow") || !utf8_valid(body)) {
        return false;
    }
    json_t *object = json_loadb((const char *)body.ptr, body.len, 0, NULL);
    const char *result = json_string_value(json_object_get(object, "result"));
    bool allow = result && strcmp(result, "allow") == 0;
    json_decref(object);
    return allow;
}

static void check_claims(const struct jwt_claims *claims)
{
    unsigned names = 0;

    assert(!memchr(claims->user.len ? (const void *)claims->user.ptr : "", 0, claims->user.len));
    assert(utf8_valid(buf_slice(&claims->user)));
    assert(utf8_valid(buf_slice(&claims->client_id)));
    for (size_t i = 0; i < claims->roles.len; i++) {
        names += claims->roles.ptr[i] == 0;
    }
    assert(names == claims->role_count);
    assert(claims->roles.len == 0 || claims->roles.ptr[claims->roles.len - 1] == 0);
    assert(claims->expires_at_ms > WALL_MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    long status = statuses[data[0] % COUNT_OF(statuses)];
    uint8_t *copy = malloc(size); /* exact: ASan sees one byte over */
    assert(copy);
    memcpy(copy, data, size);
    struct slice body = slice_of(copy + 1, size - 1);
    struct jwt_claims claims = {0};

    enum ask_verdict verdict = ask_connect_decode(status, body, WALL_MS, &claims);
    if (verdict == ASK_ALLOW) {
        assert(may_allow(status, body));
        check_claims(&claims);
    } else {
        assert(claims.user.len == 0 && claims.role_count == 0 && !claims.rules && claims.expires_at_ms == 0);
    }
    jwt_claims_deinit(&claims);

    enum acl_verdict rule = ask_rule_decode(status, body);
    if (rule == ACL_ALLOW) {
        assert(may_allow(status, body));
    }
    free(copy);
    return 0;
}
