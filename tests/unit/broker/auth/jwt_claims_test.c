/* jwt_claims_test.c -- tokens whose signature is right: what their claims must be, one by one, and what is kept of
 * them. */
#include <errno.h>

#include "broker/auth/jwt.h"
#include "tests/lib/unit.h"
#include "tests/unit/broker/auth/jwt_fixture.h"

#define EXPIRED "the token has expired"
#define NO_EXPIRY "the token does not say when it expires"
#define EARLY "the token is not valid yet"
#define NO_USER "the token does not name a user"
#define NO_CLIENT "the token does not name a client id"
#define ISSUER "the token is from another issuer"
#define AUDIENCE "the token is for another audience"
#define ROLES "the token's roles are not a list of names"
#define RULES "the token's rules are ill-formed"
#define PAYLOAD "the token's payload is ill-formed"

static struct signer signer;
static struct jwt_keys *keys;

static void set_up(void)
{
    struct buf text = {0};

    signer = signer_init(JWT_HS256, 7);
    put_jwk(&signer, "", &text);
    keys = keys_of(buf_slice(&text), true);
    buf_deinit(&text);
}

static void tear_down(void)
{
    jwt_keys_unref(keys);
}

/* Terms in which what is NULL is empty; the user's claim is "sub". */
static struct jwt_terms terms_of(struct jwt_terms t)
{
    t.algorithms = JWT_HS256;
    t.issuer = t.issuer ? t.issuer : "";
    t.audience = t.audience ? t.audience : "";
    t.user_claim = t.user_claim ? t.user_claim : "sub";
    t.client_id_claim = t.client_id_claim ? t.client_id_claim : "";
    t.roles_claim = t.roles_claim ? t.roles_claim : "";
    t.rules_claim = t.rules_claim ? t.rules_claim : "";
    return t;
}

static int verify(const char *payload, struct jwt_terms t, uint64_t wall_ms, struct jwt_claims *ret_claims,
                  const char **ret_why)
{
    struct jwt_terms terms = terms_of(t);
    struct buf token = plain_token(&signer, "", payload);

    *ret_why = "";
    int rc = jwt_verify(keys, &terms, buf_slice(&token), wall_ms, ret_claims, ret_why);
    buf_deinit(&token);
    return rc;
}

/* ---- time ---- */

#define SUB "\"sub\":\"a\""

static const struct {
    const char *name, *payload;
    uint32_t leeway_s;
    uint64_t wall_ms;
    const char *why;        /* "": accepted */
    uint64_t expires_at_ms; /* then */
} times[] = {
    {"before exp", "{" SUB ",\"exp\":1000}", 0, 999999, "", 1000000},
    {"at exp", "{" SUB ",\"exp\":1000}", 0, 1000000, EXPIRED, 0},
    {"long after exp", "{" SUB ",\"exp\":1000}", 0, 1900000000000, EXPIRED, 0},
    {"within the leeway", "{" SUB ",\"exp\":1000}", 30, 1029999, "", 1030000},
    {"at its end", "{" SUB ",\"exp\":1000}", 30, 1030000, EXPIRED, 0},
    {"exp real", "{" SUB ",\"exp\":1000.5}", 0, 1000499, "", 1000500},
    {"exp real, at it", "{" SUB ",\"exp\":1000.5}", 0, 1000500, EXPIRED, 0},
    {"exp with an exponent", "{" SUB ",\"exp\":1e3}", 0, 999999, "", 1000000},
    {"no exp", "{" SUB "}", 0, 0, NO_EXPIRY, 0},
    {"exp text", "{" SUB ",\"exp\":\"1000\"}", 0, 0, NO_EXPIRY, 0},
    {"exp null", "{" SUB ",\"exp\":null}", 0, 0, NO_EXPIRY, 0},
    {"exp true", "{" SUB ",\"exp\":true}", 0, 0, NO_EXPIRY, 0},
    {"exp inside", "{" SUB ",\"x\":{\"exp\":1000}}", 0, 0, NO_EXPIRY, 0},
    {"exp zero", "{" SUB ",\"exp\":0}", 0, 0, EXPIRED, 0},
    {"exp negative", "{" SUB ",\"exp\":-1}", 0, 0, EXPIRED, 0},
    {"exp most negative", "{" SUB ",\"exp\":-9223372036854775808}", 0, 0, EXPIRED, 0},
    {"exp negative real", "{" SUB ",\"exp\":-1e300}", 0, 0, EXPIRED, 0},
    {"exp tiny real", "{" SUB ",\"exp\":1e-300}", 0, 0, EXPIRED, 0},
    {"exp largest", "{" SUB ",\"exp\":9223372036854775807}", 30, 1900000000000, "", UINT64_MAX},
    {"exp that overflows milliseconds", "{" SUB ",\"exp\":18446744073709552}", 0, 1900000000000, "", UINT64_MAX},
    {"exp just below", "{" SUB ",\"exp\":18446744073709551}", 0, 5, "", 18446744073709551000u},
    {"exp beyond 64 bits", "{" SUB ",\"exp\":9223372036854775808}", 0, 0, PAYLOAD, 0},
    {"exp large real", "{" SUB ",\"exp\":1e300}", 3600, 1900000000000, "", UINT64_MAX},
    {"exp beyond any number", "{" SUB ",\"exp\":1e999}", 0, 0, PAYLOAD, 0},
    {"nbf now", "{" SUB ",\"exp\":2000,\"nbf\":1000}", 0, 1000000, "", 2000000},
    {"nbf in a moment", "{" SUB ",\"exp\":2000,\"nbf\":1000}", 0, 999999, EARLY, 0},
    {"nbf, at the leeway", "{" SUB ",\"exp\":2000,\"nbf\":1000}", 30, 970000, "", 2030000},
    {"nbf, before the leeway", "{" SUB ",\"exp\":2000,\"nbf\":1000}", 30, 969999, EARLY, 0},
    {"nbf real", "{" SUB ",\"exp\":2000,\"nbf\":1000.25}", 0, 1000249, EARLY, 0},
    {"nbf real, reached", "{" SUB ",\"exp\":2000,\"nbf\":1000.25}", 0, 1000250, "", 2000000},
    {"nbf negative", "{" SUB ",\"exp\":2000,\"nbf\":-5}", 0, 0, "", 2000000},
    {"nbf largest", "{" SUB ",\"exp\":2000,\"nbf\":9223372036854775807}", 3600, 1000000, EARLY, 0},
    {"nbf text", "{" SUB ",\"exp\":2000,\"nbf\":\"1\"}", 0, 1000000, "the claim nbf is no time", 0},
    {"nbf null", "{" SUB ",\"exp\":2000,\"nbf\":null}", 0, 1000000, "the claim nbf is no time", 0},
    {"exp twice", "{" SUB ",\"exp\":2000,\"exp\":2000}", 0, 0, PAYLOAD, 0},
};

static void test_times(void)
{
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        struct jwt_claims claims = {0};
        const char *name = times[i].name, *why;
        int rc = verify(times[i].payload, (struct jwt_terms){.leeway_s = times[i].leeway_s}, times[i].wall_ms, &claims,
                        &why);
        CHECK_CASE(name, rc == (*times[i].why ? -EACCES : 0) && strcmp(why, times[i].why) == 0);
        CHECK_CASE(name, claims.expires_at_ms == times[i].expires_at_ms);
        CHECK_CASE(name, claims.role_count == 0 && !claims.rules && claims.client_id.len == 0);
        jwt_claims_deinit(&claims);
    }
}

/* ---- issuer, audience, names, roles, rules ---- */

#define EXP "\"exp\":2000"

static const struct {
    const char *name, *payload;
    struct jwt_terms terms;
    const char *why;                      /* "": accepted */
    const char *user, *client_id, *roles; /* then; roles with a comma behind each */
} rows[] = {
    {"plain", "{" EXP ",\"sub\":\"alice\"}", {0}, "", "alice", "", ""},
    {"iss", "{" EXP ",\"sub\":\"a\",\"iss\":\"me\"}", {.issuer = "me"}, "", "a", "", ""},
    {"iss not asked", "{" EXP ",\"sub\":\"a\",\"iss\":5}", {0}, "", "a", "", ""},
    {"another iss", "{" EXP ",\"sub\":\"a\",\"iss\":\"you\"}", {.issuer = "me"}, ISSUER, "", "", ""},
    {"a longer iss", "{" EXP ",\"sub\":\"a\",\"iss\":\"me2\"}", {.issuer = "me"}, ISSUER, "", "", ""},
    {"no iss", "{" EXP ",\"sub\":\"a\"}", {.issuer = "me"}, ISSUER, "", "", ""},
    {"iss a list", "{" EXP ",\"sub\":\"a\",\"iss\":[\"me\"]}", {.issuer = "me"}, ISSUER, "", "", ""},
    {"aud", "{" EXP ",\"sub\":\"a\",\"aud\":\"tern\"}", {.audience = "tern"}, "", "a", "", ""},
    {"aud in a list", "{" EXP ",\"sub\":\"a\",\"aud\":[\"x\",\"tern\"]}", {.audience = "tern"}, "", "a", "", ""},
    {"aud not asked", "{" EXP ",\"sub\":\"a\",\"aud\":{}}", {0}, "", "a", "", ""},
    {"another aud", "{" EXP ",\"sub\":\"a\",\"aud\":\"x\"}", {.audience = "tern"}, AUDIENCE, "", "", ""},
    {"aud in small letters", "{" EXP ",\"sub\":\"a\",\"aud\":\"tern\"}", {.audience = "Tern"}, AUDIENCE, "", "", ""},
    {"aud not in the list",
     "{" EXP ",\"sub\":\"a\",\"aud\":[\"x\",\"ter\"]}",
     {.audience = "tern"},
     AUDIENCE,
     "",
     "",
     ""},
    {"aud list empty", "{" EXP ",\"sub\":\"a\",\"aud\":[]}", {.audience = "tern"}, AUDIENCE, "", "", ""},
    {"aud deeper", "{" EXP ",\"sub\":\"a\",\"aud\":[[\"tern\"]]}", {.audience = "tern"}, AUDIENCE, "", "", ""},
    {"aud an object", "{" EXP ",\"sub\":\"a\",\"aud\":{\"0\":\"tern\"}}", {.audience = "tern"}, AUDIENCE, "", "", ""},
    {"no aud", "{" EXP ",\"sub\":\"a\"}", {.audience = "tern"}, AUDIENCE, "", "", ""},

    {"no user", "{" EXP "}", {0}, NO_USER, "", "", ""},
    {"user empty", "{" EXP ",\"sub\":\"\"}", {0}, NO_USER, "", "", ""},
    {"user a number", "{" EXP ",\"sub\":5}", {0}, NO_USER, "", "", ""},
    {"user null", "{" EXP ",\"sub\":null}", {0}, NO_USER, "", "", ""},
    {"user a list", "{" EXP ",\"sub\":[\"a\"]}", {0}, NO_USER, "", "", ""},
    {"user with a newline", "{" EXP ",\"sub\":\"a\\n\"}", {0}, NO_USER, "", "", ""},
    {"user with U+001F", "{" EXP ",\"sub\":\"\\u001fa\"}", {0}, NO_USER, "", "", ""},
    {"user with U+007F", "{" EXP ",\"sub\":\"a\\u007f\"}", {0}, NO_USER, "", "", ""},
    {"user with U+0085", "{" EXP ",\"sub\":\"a\\u0085\"}", {0}, NO_USER, "", "", ""},
    {"user with U+0000", "{" EXP ",\"sub\":\"a\\u0000b\"}", {0}, PAYLOAD, "", "", ""},
    {"user with half a surrogate", "{" EXP ",\"sub\":\"\\ud800\"}", {0}, PAYLOAD, "", "", ""},
    {"user beyond ASCII", "{" EXP ",\"sub\":\"\\u00e9 \\ud83d\\ude00\"}", {0}, "", "\xc3\xa9 \xf0\x9f\x98\x80", "", ""},
    {"another claim", "{" EXP ",\"sub\":\"a\",\"name\":\"b\"}", {.user_claim = "name"}, "", "b", "", ""},
    {"a path", "{" EXP ",\"x\":{\"y\":{\"z\":\"b\"}}}", {.user_claim = "x.y.z"}, "", "b", "", ""},
    {"a path that ends early", "{" EXP ",\"x\":{\"y\":\"b\"}}", {.user_claim = "x.y.z"}, NO_USER, "", "", ""},
    {"a path into a list", "{" EXP ",\"x\":[{\"y\":\"b\"}]}", {.user_claim = "x.y"}, NO_USER, "", "", ""},
    {"a path to an object", "{" EXP ",\"x\":{\"y\":{}}}", {.user_claim = "x.y"}, NO_USER, "", "", ""},
    {"a name with dots", "{" EXP ",\"a.b/c.d\":\"b\"}", {.user_claim = "a.b/c.d"}, "", "b", "", ""},
    {"a name with dots inside", "{" EXP ",\"x\":{\"y.z\":\"b\"}}", {.user_claim = "x.y.z"}, "", "b", "", ""},
    {"the whole name first", "{" EXP ",\"x.y\":\"b\",\"x\":{\"y\":\"c\"}}", {.user_claim = "x.y"}, "", "b", "", ""},
    {"a dot at the end", "{" EXP ",\"x\":{\"\":\"b\"}}", {.user_claim = "x."}, "", "b", "", ""},

    {"client id", "{" EXP ",\"sub\":\"a\",\"c\":\"d\"}", {.client_id_claim = "c"}, "", "a", "d", ""},
    {"client id by a path",
     "{" EXP ",\"sub\":\"a\",\"c\":{\"i\":\"d\"}}",
     {.client_id_claim = "c.i"},
     "",
     "a",
     "d",
     ""},
    {"no client id", "{" EXP ",\"sub\":\"a\"}", {.client_id_claim = "c"}, NO_CLIENT, "", "", ""},
    {"client id empty", "{" EXP ",\"sub\":\"a\",\"c\":\"\"}", {.client_id_claim = "c"}, NO_CLIENT, "", "", ""},
    {"client id a number", "{" EXP ",\"sub\":\"a\",\"c\":1}", {.client_id_claim = "c"}, NO_CLIENT, "", "", ""},
    {"client id with a tab", "{" EXP ",\"sub\":\"a\",\"c\":\"\\t\"}", {.client_id_claim = "c"}, NO_CLIENT, "", "", ""},

    {"roles", "{" EXP ",\"sub\":\"a\",\"r\":[\"x\",\"y z\"]}", {.roles_claim = "r"}, "", "a", "", "x,y z,"},
    {"roles by a path", "{" EXP ",\"sub\":\"a\",\"r\":{\"s\":[\"x\"]}}", {.roles_claim = "r.s"}, "", "a", "", "x,"},
    {"roles in words", "{" EXP ",\"sub\":\"a\",\"r\":\"x  y \"}", {.roles_claim = "r"}, "", "a", "", "x,y,"},
    {"one word", "{" EXP ",\"sub\":\"a\",\"r\":\"x\"}", {.roles_claim = "r"}, "", "a", "", "x,"},
    {"no word", "{" EXP ",\"sub\":\"a\",\"r\":\" \"}", {.roles_claim = "r"}, "", "a", "", ""},
    {"no roles", "{" EXP ",\"sub\":\"a\",\"r\":[]}", {.roles_claim = "r"}, "", "a", "", ""},
    {"roles missing", "{" EXP ",\"sub\":\"a\"}", {.roles_claim = "r"}, "", "a", "", ""},
    {"roles not asked", "{" EXP ",\"sub\":\"a\",\"roles\":[1]}", {0}, "", "a", "", ""},
    {"roles a number", "{" EXP ",\"sub\":\"a\",\"r\":1}", {.roles_claim = "r"}, ROLES, "", "", ""},
    {"roles null", "{" EXP ",\"sub\":\"a\",\"r\":null}", {.roles_claim = "r"}, ROLES, "", "", ""},
    {"roles an object", "{" EXP ",\"sub\":\"a\",\"r\":{\"x\":\"y\"}}", {.roles_claim = "r"}, ROLES, "", "", ""},
    {"a role a number", "{" EXP ",\"sub\":\"a\",\"r\":[\"x\",1]}", {.roles_claim = "r"}, ROLES, "", "", ""},
    {"a role empty", "{" EXP ",\"sub\":\"a\",\"r\":[\"x\",\"\"]}", {.roles_claim = "r"}, ROLES, "", "", ""},

    {"rules an object", "{" EXP ",\"sub\":\"a\",\"l\":{}}", {.rules_claim = "l"}, RULES, "", "", ""},
    {"rules a text", "{" EXP ",\"sub\":\"a\",\"l\":\"[]\"}", {.rules_claim = "l"}, RULES, "", "", ""},
    {"rules null", "{" EXP ",\"sub\":\"a\",\"l\":null}", {.rules_claim = "l"}, RULES, "", "", ""},
    {"rules of nothing", "{" EXP ",\"sub\":\"a\",\"l\":[{}]}", {.rules_claim = "l"}, RULES, "", "", ""},
    {"rules, a key unknown",
     "{" EXP ",\"sub\":\"a\",\"l\":[{\"allow\":\"all\",\"topik\":\"#\"}]}",
     {.rules_claim = "l"},
     RULES,
     "",
     "",
     ""},
    {"rules missing", "{" EXP ",\"sub\":\"a\"}", {.rules_claim = "l"}, "", "a", "", ""},
    {"rules not asked", "{" EXP ",\"sub\":\"a\",\"acl\":5}", {0}, "", "a", "", ""},

    {"a list",
     "["
     "\"sub\"]",
     {0},
     PAYLOAD,
     "",
     "",
     ""},
    {"nothing", "", {0}, PAYLOAD, "", "", ""},
    {"something behind it", "{" EXP ",\"sub\":\"a\"}{}", {0}, PAYLOAD, "", "", ""},
    {"user twice", "{" EXP ",\"sub\":\"a\",\"sub\":\"b\"}", {0}, PAYLOAD, "", "", ""},
};

/* Whether the roles are these, each with a comma behind it for its NUL. */
static bool roles_are(const struct jwt_claims *claims, const char *roles)
{
    unsigned count = 0;

    if (claims->roles.len != strlen(roles)) {
        return false;
    }
    for (size_t i = 0; roles[i]; i++) {
        count += roles[i] == ',';
        if (claims->roles.ptr[i] != (roles[i] == ',' ? 0 : (uint8_t)roles[i])) {
            return false;
        }
    }
    return claims->role_count == count;
}

static void test_rows(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct jwt_claims claims = {0};
        const char *name = rows[i].name, *why;
        int rc = verify(rows[i].payload, rows[i].terms, 1000000, &claims, &why);
        CHECK_CASE(name, rc == (*rows[i].why ? -EACCES : 0));
        CHECK_CASE(name, strcmp(why, rows[i].why) == 0);
        CHECK_CASE(name, slice_eq(buf_slice(&claims.user), slice_str(rows[i].user)));
        CHECK_CASE(name, slice_eq(buf_slice(&claims.client_id), slice_str(rows[i].client_id)));
        CHECK_CASE(name, roles_are(&claims, rows[i].roles) && !claims.rules);
        jwt_claims_deinit(&claims);
    }
}

/* What a claim with rules says is in force as a file's would be. */
static void test_rules(void)
{
    static const char payload[] = "{" EXP ",\"sub\":\"a\",\"x\":{\"acl\":["
                                  "{\"deny\":\"publish\",\"topic\":\"s/\\u00e9\\ud83d\\ude00\"},"
                                  "{\"allow\":[\"publish\",\"subscribe\"],\"topic\":[\"s/#\",\"t\\/%u\"]}]}}";
    static const struct {
        const char *name, *topic;
        enum acl_verdict want;
    } asks[] = {
        {"allowed", "s/1", ACL_ALLOW},
        {"a user's own", "t/a", ACL_ALLOW},
        {"denied", "s/\xc3\xa9\xf0\x9f\x98\x80", ACL_DENY},
        {"not spoken of", "u", ACL_NONE},
    };
    struct acl_subject subject = {.user = SLICE("a"), .client_id = SLICE("c")};
    struct jwt_claims claims = {0};
    const char *why;

    CHECK(verify(payload, (struct jwt_terms){.rules_claim = "x.acl"}, 1000000, &claims, &why) == 0);
    CU_ASSERT_FATAL(claims.rules != NULL);
    CHECK(acl_count(claims.rules) == 2);
    for (size_t i = 0; i < COUNT_OF(asks); i++) {
        struct acl_request request = {.action = ACL_PUBLISH, .topic = slice_str(asks[i].topic)};
        CHECK_CASE(asks[i].name, acl_check(claims.rules, &subject, &request, NULL) == asks[i].want);
    }
    jwt_claims_deinit(&claims);
    CHECK(!claims.rules && claims.user.len == 0);
}

/* What was there before is left alone by a token that is refused, and with it what its first claims already filled. */
static void test_untouched(void)
{
    struct jwt_claims claims = {.role_count = 5};
    struct jwt_terms terms = {.roles_claim = "r", .rules_claim = "l"};
    const char *why;

    CHECK(verify("{" EXP ",\"sub\":\"a\",\"r\":[\"x\"],\"l\":[{}]}", terms, 1000000, &claims, &why) == -EACCES);
    CHECK(claims.role_count == 5 && !claims.user.ptr && !claims.roles.ptr && !claims.rules);
}

UNIT_MAIN("broker/auth/jwt_claims", {"set up", set_up}, {"times", test_times}, {"claims", test_rows},
          {"rules", test_rules}, {"untouched", test_untouched}, {"tear down", tear_down})
