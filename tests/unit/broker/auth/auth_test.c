/* auth_test.c -- who is let in: each link of the chain, their order, and that whatever fails is never a yes. */
#include "tests/unit/broker/auth/auth_fixture.h"
#include "tests/unit/broker/auth/token_fixture.h"

#include <openssl/hmac.h>
#include <openssl/sha.h>

#define ALL (METHOD_CERTIFICATE | METHOD_PSK | METHOD_PASSWORD | METHOD_SCRAM | METHOD_JWT | METHOD_HTTP)

static struct service service;
static struct auth *auth;
static EVP_PKEY *key;
static char passwd_path[32], keys_path[32], acl_path[32];
static char *good_token, *old_token, *foreign_token, *unknown_token;

/* ---- the world ---- */

static void make_files(void)
{
    struct buf text = {0};
    char keys[256];
    EVP_PKEY *other = make_key();

    put_user(&text, "alice", PASSWD_PBKDF2_SHA512, "secret");
    put_user(&text, "sam", PASSWD_SCRAM_SHA_256, "pencil");
    write_file(passwd_path, (const char *)text.ptr, text.len);
    buf_deinit(&text);
    write_file(acl_path, "rules:\n  - allow: all\n    topic: \"#\"\n", 37);

    key = make_key();
    key_set(key, "k1", keys, sizeof(keys));
    write_file(keys_path, keys, strlen(keys));
    good_token = make_token(key, "k1",
                            "{\"sub\":\"tina\",\"exp\":1900000600,\"roles\":[\"r1\",\"r2\"],\"client\":\"c-tina\","
                            "\"acl\":[{\"allow\":\"publish\",\"topic\":\"t/#\"}]}");
    old_token = make_token(key, "k1", "{\"sub\":\"tina\",\"exp\":1800000000}");
    foreign_token = make_token(other, "k1", "{\"sub\":\"tina\",\"exp\":1900000600}");
    unknown_token = make_token(other, "k2", "{\"sub\":\"tina\",\"exp\":1900000600}");
    EVP_PKEY_free(other);
}

static struct config full_config(void)
{
    struct config c = plain_config();

    c.auth.password_file = passwd_path;
    c.jwt.keys = keys_path;
    c.http.connect_url = service.url;
    return c;
}

static void end(void)
{
    auth_free(auth);
    service_stop(&service);
}

static const char *text_of(const char *text)
{
    if (!text || text[0] != '@') {
        return text;
    }
    return strcmp(text, "@good") == 0      ? good_token
           : strcmp(text, "@old") == 0     ? old_token
           : strcmp(text, "@foreign") == 0 ? foreign_token
                                           : unknown_token;
}

static struct slice given(const char *text)
{
    text = text_of(text);
    return text ? slice_str(text) : (struct slice){0};
}

/* ---- the chain ---- */

#define ALLOW JSON_ANSWER("{\"result\":\"allow\"}")
#define DENY JSON_ANSWER("{\"result\":\"deny\"}")
#define IGNORE JSON_ANSWER("{\"result\":\"ignore\"}")

static const struct {
    const char *name;
    unsigned methods;
    bool anonymous;
    const char *certificate, *psk, *user, *password, *service;
    enum auth_status status;
    unsigned reason_or_method;
    const char *want_user; /* NULL: no principal */
    unsigned asked;        /* questions to the service */
} chain_cases[] = {
    {"certificate", ALL, false, "carl", NULL, NULL, NULL, DENY, AUTH_YES, METHOD_CERTIFICATE, "carl", 0},
    {"certificate before all", ALL, true, "carl", "p", "alice", "wrong", DENY, AUTH_YES, METHOD_CERTIFICATE, "carl", 0},
    {"certificate not wanted", ALL & ~METHOD_CERTIFICATE, false, "carl", NULL, NULL, NULL, IGNORE, AUTH_NO,
     MQTT_NOT_AUTHORIZED, NULL, 1},
    {"certificate with a control character", ALL, false, "ca\nrl", NULL, NULL, NULL, ALLOW, AUTH_NO,
     MQTT_NOT_AUTHORIZED, NULL, 0},
    {"certificate with a C1 control", ALL, false, "ca\xc2\x85rl", NULL, NULL, NULL, ALLOW, AUTH_NO, MQTT_NOT_AUTHORIZED,
     NULL, 0},
    {"certificate that is not UTF-8", ALL, false, "ca\xffrl", NULL, NULL, NULL, ALLOW, AUTH_NO, MQTT_NOT_AUTHORIZED,
     NULL, 0},
    {"certificate with other letters", ALL, false, "J\xc3\xb6rg", NULL, NULL, NULL, ALLOW, AUTH_YES, METHOD_CERTIFICATE,
     "J\xc3\xb6rg", 0},
    {"psk", ALL, false, NULL, "pia", NULL, NULL, DENY, AUTH_YES, METHOD_PSK, "pia", 0},
    {"psk before password", ALL, false, NULL, "pia", "alice", "wrong", DENY, AUTH_YES, METHOD_PSK, "pia", 0},
    {"psk not wanted", METHOD_HTTP, false, NULL, "pia", NULL, NULL, DENY, AUTH_NO, MQTT_NOT_AUTHORIZED, NULL, 1},

    {"token", ALL, false, NULL, NULL, "any", "@good", DENY, AUTH_YES, METHOD_JWT, "tina", 0},
    {"token of a known user's", ALL, false, NULL, NULL, "alice", "@good", DENY, AUTH_YES, METHOD_JWT, "tina", 0},
    {"token that is over", ALL, true, NULL, NULL, "alice", "@old", ALLOW, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD, NULL,
     0},
    {"token of another's key", ALL, true, NULL, NULL, "x", "@foreign", ALLOW, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD,
     NULL, 0},
    {"token of an unknown key", ALL, true, NULL, NULL, "x", "@unknown", ALLOW, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD,
     NULL, 0},
    {"token not wanted", METHOD_PASSWORD, false, NULL, NULL, "alice", "@good", ALLOW, AUTH_NO,
     MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 0},
    {"nearly a token", METHOD_JWT, false, NULL, NULL, "x", "a.b", ALLOW, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD, NULL,
     0},

    {"password", ALL, false, NULL, NULL, "alice", "secret", DENY, AUTH_YES, METHOD_PASSWORD, "alice", 0},
    {"password of a SCRAM user", ALL, false, NULL, NULL, "sam", "pencil", DENY, AUTH_YES, METHOD_PASSWORD, "sam", 0},
    {"wrong password", ALL, true, NULL, NULL, "alice", "Secret", ALLOW, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD, NULL,
     0},
    {"empty password", ALL, true, NULL, NULL, "alice", "", ALLOW, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 0},
    {"no password", ALL, true, NULL, NULL, "alice", NULL, ALLOW, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 0},
    {"password without a user", METHOD_PASSWORD, false, NULL, NULL, NULL, "secret", ALLOW, AUTH_NO, MQTT_NOT_AUTHORIZED,
     NULL, 0},
    {"unknown user", METHOD_PASSWORD, true, NULL, NULL, "mallory", "x", ALLOW, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD,
     NULL, 0},
    {"unknown user without password", METHOD_PASSWORD, true, NULL, NULL, "mallory", NULL, ALLOW, AUTH_NO,
     MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 0},
    {"password not wanted", METHOD_PSK, false, NULL, NULL, "alice", "secret", ALLOW, AUTH_NO,
     MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 0},

    {"service allows", ALL, false, NULL, NULL, "hugo", "x", ALLOW, AUTH_YES, METHOD_HTTP, "hugo", 1},
    {"service names the user", ALL, false, NULL, NULL, "hugo", "x",
     JSON_ANSWER("{\"result\":\"allow\",\"user\":\"boss\"}"), AUTH_YES, METHOD_HTTP, "boss", 1},
    {"service names nobody", ALL, false, NULL, NULL, NULL, NULL, ALLOW, AUTH_NO, MQTT_NOT_AUTHORIZED, NULL, 1},
    {"service names a control character", ALL, false, NULL, NULL, "hugo", "x",
     JSON_ANSWER("{\"result\":\"allow\",\"user\":\"b\\u0007\"}"), AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 1},
    {"service gives a client id that is none", ALL, false, NULL, NULL, "hugo", "x",
     JSON_ANSWER("{\"result\":\"allow\",\"client_id\":\"c\\u0001\"}"), AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD, NULL,
     1},
    {"service denies", ALL, true, NULL, NULL, "hugo", "x", DENY, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 1},
    {"service denies nobody in particular", ALL, true, NULL, NULL, NULL, NULL, DENY, AUTH_NO, MQTT_NOT_AUTHORIZED, NULL,
     1},
    {"service ignores", ALL, false, NULL, NULL, "hugo", "x", IGNORE, AUTH_NO, MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 1},
    {"service ignores, anonymous", ALL, true, NULL, NULL, NULL, NULL, IGNORE, AUTH_YES, 0, NULL, 1},
    {"204", ALL, false, NULL, NULL, "hugo", "x", ANSWER("204 No Content", "", ""), AUTH_YES, METHOD_HTTP, "hugo", 1},
    {"401", ALL, true, NULL, NULL, "hugo", "x", ANSWER("401 No", "Content-Length: 0\r\n", ""), AUTH_NO,
     MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 1},
    {"403", ALL, true, NULL, NULL, "hugo", "x", ANSWER("403 No", "Content-Length: 0\r\n", ""), AUTH_NO,
     MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 1},
    {"404, anonymous", ALL, true, NULL, NULL, NULL, NULL, ANSWER("404 What", "Content-Length: 0\r\n", ""), AUTH_YES, 0,
     NULL, 1},
    {"500", ALL, true, NULL, NULL, NULL, NULL, ANSWER("500 Oh", "Content-Length: 0\r\n", ""), AUTH_NO,
     MQTT_SERVER_UNAVAILABLE, NULL, 1},
    {"a redirection", ALL, true, NULL, NULL, NULL, NULL, ANSWER("302 There", "Location: http://127.0.0.1:1/\r\n", ""),
     AUTH_NO, MQTT_SERVER_UNAVAILABLE, NULL, 1},
    {"no JSON", ALL, true, NULL, NULL, NULL, NULL, JSON_ANSWER("allow"), AUTH_NO, MQTT_SERVER_UNAVAILABLE, NULL, 1},
    {"another JSON", ALL, true, NULL, NULL, NULL, NULL, JSON_ANSWER("{\"result\":true}"), AUTH_NO,
     MQTT_SERVER_UNAVAILABLE, NULL, 1},
    {"no HTTP", ALL, true, NULL, NULL, NULL, NULL, "SSH-2.0-OpenSSH\r\n\r\n", AUTH_NO, MQTT_SERVER_UNAVAILABLE, NULL,
     1},
    {"hung up", ALL, true, NULL, NULL, NULL, NULL, "", AUTH_NO, MQTT_SERVER_UNAVAILABLE, NULL, 1},
    {"service not wanted", METHOD_PASSWORD, false, NULL, NULL, "hugo", "x", ALLOW, AUTH_NO,
     MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 0},

    {"anonymous", 0, true, NULL, NULL, NULL, NULL, ALLOW, AUTH_YES, 0, NULL, 0},
    {"anonymous by any name", 0, true, NULL, NULL, "whoever", "x", ALLOW, AUTH_YES, 0, NULL, 0},
    {"anonymous beside methods", METHOD_PASSWORD, true, NULL, NULL, NULL, NULL, ALLOW, AUTH_YES, 0, NULL, 0},
    {"a name beside methods", METHOD_PSK, true, NULL, NULL, "whoever", NULL, ALLOW, AUTH_NO,
     MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 0},
    {"an empty name beside methods", METHOD_PSK, true, NULL, NULL, "", NULL, ALLOW, AUTH_NO,
     MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 0},
    {"anonymous not wanted", 0, false, NULL, NULL, NULL, NULL, ALLOW, AUTH_NO, MQTT_NOT_AUTHORIZED, NULL, 0},
    {"nothing at all, with a name", 0, false, NULL, NULL, "alice", "secret", ALLOW, AUTH_NO,
     MQTT_BAD_USER_NAME_OR_PASSWORD, NULL, 0},
};

static void test_chain(void)
{
    service_start(&service);
    struct config config = full_config();
    auth = open_auth(&config);
    for (size_t i = 0; i < COUNT_OF(chain_cases); i++) {
        struct config_listener listener = {.methods = chain_cases[i].methods, .anonymous = chain_cases[i].anonymous};
        struct auth_question q = {.methods = listener.methods,
                                  .anonymous = listener.anonymous,
                                  .listener_name = "l",
                                  .version = MQTT_V5,
                                  .client_id = SLICE("c1"),
                                  .user_name = given(chain_cases[i].user),
                                  .password = given(chain_cases[i].password),
                                  .certificate_user = given(chain_cases[i].certificate),
                                  .certificate_expires_ms = 123,
                                  .psk_identity = given(chain_cases[i].psk)};
        const char *name = chain_cases[i].name, *want = chain_cases[i].want_user;
        unsigned before = service_asked(&service);

        service_say(&service, chain_cases[i].service);
        struct outcome o = answer_to(auth, &q);
        CHECK_CASE(name, o.status == chain_cases[i].status);
        CHECK_CASE(name, (o.principal != NULL) == (want != NULL));
        CHECK_CASE(name, strcmp(o.user, want ? want : "") == 0);
        if (o.status == AUTH_NO) {
            CHECK_CASE(name, o.reason == chain_cases[i].reason_or_method);
        } else if (o.principal) {
            CHECK_CASE(name, o.principal->method == chain_cases[i].reason_or_method);
            CHECK_CASE(name, (o.principal->credential != 0) == (o.principal->method == METHOD_PASSWORD));
            CHECK_CASE(name, strcmp(o.principal->listener, "l") == 0);
            CHECK_CASE(name, (o.principal->expires_at_ms == 123) == (o.principal->method == METHOD_CERTIFICATE));
        }
        CHECK_CASE(name, service_asked(&service) - before == chain_cases[i].asked);
        principal_unref(o.principal);
    }
    end();
}

static struct outcome connect_as(unsigned methods, const char *user, const char *password)
{
    struct config_listener listener = {.methods = methods, .anonymous = true};

    return answer_to(auth, &(struct auth_question){.methods = listener.methods,
                                                   .anonymous = listener.anonymous,
                                                   .listener_name = "l",
                                                   .version = MQTT_V5,
                                                   .client_id = SLICE("c1"),
                                                   .user_name = given(user),
                                                   .password = given(password)});
}

/* What a token and an answer bring along. */
static void test_claims(void)
{
    service_start(&service);
    struct config config = full_config();
    config.jwt.client_id_claim = (char *)(uintptr_t) "client";
    auth = open_auth(&config);

    struct outcome o = connect_as(METHOD_JWT, "x", "@good");
    CU_ASSERT_FATAL(o.principal != NULL);
    CHECK(o.principal->expires_at_ms / 1000 >= 1900000600 && o.principal->expires_at_ms / 1000 <= 1900000600 + 30);
    CHECK(o.principal->role_count == 2);
    CHECK(slice_eq(o.principal->roles[1], SLICE("r2")));
    CHECK(o.principal->rules != NULL && acl_count(o.principal->rules) == 1);
    CHECK(strcmp(o.client_id, "c-tina") == 0);
    principal_unref(o.principal);

    service_say(&service,
                JSON_ANSWER("{\"result\":\"allow\",\"roles\":[\"a\",\"b\"],\"client_id\":\"mine\",\"expires_in\":60,"
                            "\"rules\":[{\"deny\":\"all\",\"topic\":\"#\"}]}"));
    uint64_t now_ms = clock_wall_ms();
    o = connect_as(METHOD_HTTP, "hugo", "x");
    CU_ASSERT_FATAL(o.principal != NULL);
    CHECK(o.principal->expires_at_ms >= now_ms + 60000 && o.principal->expires_at_ms < now_ms + 90000);
    CHECK(o.principal->role_count == 2);
    CHECK(slice_eq(o.principal->roles[0], SLICE("a")));
    CHECK(o.principal->rules != NULL && acl_count(o.principal->rules) == 1);
    CHECK(strcmp(o.client_id, "mine") == 0);
    principal_unref(o.principal);
    end();
}

static void test_token_in_user_name(void)
{
    service_start(&service);
    struct config config = full_config();
    config.jwt.token_in = TOKEN_IN_USERNAME;
    auth = open_auth(&config);
    struct outcome o = connect_as(ALL, "@good", NULL);
    CHECK(strcmp(o.user, "tina") == 0);
    principal_unref(o.principal);
    o = connect_as(METHOD_JWT, "x", "@good"); /* not where it is looked for */
    CHECK(o.status == AUTH_NO);
    end();
}

/* Whoever is asked about needs a principal, even without a name. */
static void test_anonymous_with_rules(void)
{
    service_start(&service);
    struct config config = plain_config();
    config.auth.acl_file = acl_path;
    auth = open_auth(&config);
    struct outcome o = connect_as(0, NULL, NULL);
    CHECK(o.status == AUTH_YES);
    CU_ASSERT_FATAL(o.principal != NULL);
    CHECK(o.principal->user.len == 0);
    CHECK(o.principal->method == 0);
    CHECK(o.principal->expires_at_ms == UINT64_MAX);
    principal_unref(o.principal);
    end();
}

/* ---- Authentication Methods ---- */

static const struct {
    const char *name;
    unsigned methods;
    const char *method, *data;
    enum auth_status status;
    unsigned reason_or_method;
} method_cases[] = {
    {"JWT", METHOD_JWT, "JWT", "@good", AUTH_YES, METHOD_JWT},
    {"JWT that is over", METHOD_JWT, "JWT", "@old", AUTH_NO, MQTT_NOT_AUTHORIZED},
    {"JWT that is none", METHOD_JWT, "JWT", "x", AUTH_NO, MQTT_NOT_AUTHORIZED},
    {"JWT not wanted", ALL & ~METHOD_JWT, "JWT", "@good", AUTH_NO, MQTT_BAD_AUTHENTICATION_METHOD},
    {"JWT to come", METHOD_JWT, "JWT", NULL, AUTH_CONTINUE, 0},
    {"SCRAM", METHOD_SCRAM, "SCRAM-SHA-256", "n,,n=sam,r=abc", AUTH_CONTINUE, 0},
    {"SCRAM of nobody", METHOD_SCRAM, "SCRAM-SHA-256", "n,,n=eve,r=abc", AUTH_CONTINUE, 0},
    {"SCRAM ill-formed", METHOD_SCRAM, "SCRAM-SHA-256", "n=sam", AUTH_NO, MQTT_NOT_AUTHORIZED},
    {"SCRAM without data", METHOD_SCRAM, "SCRAM-SHA-256", NULL, AUTH_NO, MQTT_NOT_AUTHORIZED},
    {"SCRAM not wanted", ALL & ~METHOD_SCRAM, "SCRAM-SHA-256", "n,,n=sam,r=abc", AUTH_NO,
     MQTT_BAD_AUTHENTICATION_METHOD},
    {"another SCRAM", ALL, "SCRAM-SHA-1", "n,,n=sam,r=abc", AUTH_NO, MQTT_BAD_AUTHENTICATION_METHOD},
    {"another method", ALL, "GS2-KRB5", "x", AUTH_NO, MQTT_BAD_AUTHENTICATION_METHOD},
    {"a method where there are none", 0, "JWT", "@good", AUTH_NO, MQTT_BAD_AUTHENTICATION_METHOD},
};

/* Whatever else the client has to show does not count then. */
static void test_methods(void)
{
    service_start(&service);
    struct config config = full_config();
    auth = open_auth(&config);
    service_say(&service, ALLOW);
    for (size_t i = 0; i < COUNT_OF(method_cases); i++) {
        struct config_listener listener = {.methods = method_cases[i].methods, .anonymous = true};
        struct outcome o = answer_to(auth, &(struct auth_question){.methods = listener.methods,
                                                                   .anonymous = listener.anonymous,
                                                                   .listener_name = "l",
                                                                   .version = MQTT_V5,
                                                                   .user_name = SLICE("alice"),
                                                                   .password = SLICE("secret"),
                                                                   .certificate_user = SLICE("carl"),
                                                                   .method = given(method_cases[i].method),
                                                                   .data = given(method_cases[i].data)});
        CHECK_CASE(method_cases[i].name, o.status == method_cases[i].status);
        CHECK_CASE(method_cases[i].name, o.status != AUTH_NO || o.reason == method_cases[i].reason_or_method);
        CHECK_CASE(method_cases[i].name, (o.principal != NULL) == (o.status == AUTH_YES));
        CHECK_CASE(method_cases[i].name, !o.principal || o.principal->method == method_cases[i].reason_or_method);
        principal_unref(o.principal);
    }
    CHECK(service_asked(&service) == 0);
    end();
}

static struct auth_attempt *begin_method(const struct config_listener *listener, const char *method, const char *data,
                                         unsigned *done)
{
    return ask_auth(auth,
                    &(struct auth_question){.methods = listener->methods,
                                            .anonymous = listener->anonymous,
                                            .listener_name = "l",
                                            .version = MQTT_V5,
                                            .method = slice_str(method),
                                            .data = given(data)},
                    done);
}

static void test_token_later(void)
{
    struct config_listener listener = {.methods = METHOD_JWT};
    const char *const tokens[] = {"@good", "@foreign", ""};

    service_start(&service);
    struct config config = full_config();
    auth = open_auth(&config);
    for (size_t i = 0; i < COUNT_OF(tokens); i++) {
        unsigned done = 0;
        struct auth_attempt *attempt = begin_method(&listener, "JWT", NULL, &done);
        CHECK(auth_answer_of(attempt)->status == AUTH_CONTINUE);
        CHECK(auth_answer_of(attempt)->data.len == 0);
        auth_continue(attempt, given(tokens[i]));
        struct outcome o = outcome_of(auth, attempt, &done);
        CHECK_CASE(tokens[i], o.status == (i == 0 ? AUTH_YES : AUTH_NO));
        CHECK_CASE(tokens[i], i == 0 || o.reason == MQTT_NOT_AUTHORIZED);
        principal_unref(o.principal);
        auth_end(attempt);
    }
    end();
}

/* The client's side of RFC 5802 for password and server-first, into out. */
static void client_final(const char *user, const char *password, const struct buf *server_first, char *out,
                         size_t out_size)
{
    char first[256], nonce[128], salt64[128], bare[256], message[768];
    uint8_t salted[32], client_key[32], stored[32], signature[32];
    unsigned iterations, len = 32;
    struct buf salt = {0}, proof = {0};

    snprintf(first, sizeof(first), "%.*s", (int)server_first->len, (const char *)server_first->ptr);
    CU_ASSERT_FATAL(sscanf(first, "r=%127[^,],s=%127[^,],i=%u", nonce, salt64, &iterations) == 3);
    CU_ASSERT_FATAL(base64_decode(slice_str(salt64), false, &salt) == 0);
    PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt.ptr, (int)salt.len, (int)iterations, EVP_sha256(), 32,
                      salted);
    HMAC(EVP_sha256(), salted, 32, (const uint8_t *)"Client Key", 10, client_key, &len);
    SHA256(client_key, 32, stored);
    snprintf(bare, sizeof(bare), "c=biws,r=%s", nonce);
    int n = snprintf(message, sizeof(message), "n=%s,r=abc,%s,%s", user, first, bare);
    HMAC(EVP_sha256(), stored, 32, (const uint8_t *)message, (size_t)n, signature, &len);
    for (unsigned i = 0; i < 32; i++) {
        signature[i] ^= client_key[i];
    }
    base64_encode(slice_of(signature, 32), false, &proof);
    snprintf(out, out_size, "%s,p=%.*s", bare, (int)proof.len, (const char *)proof.ptr);
    buf_deinit(&salt);
    buf_deinit(&proof);
}

static const struct {
    const char *name, *user, *password;
    bool right;
} scram_cases[] = {
    {"right", "sam", "pencil", true},
    {"wrong password", "sam", "pencils", false},
    {"unknown user", "eve", "pencil", false},
    {"user with a hash of another kind", "alice", "secret", false},
};

static void test_scram(void)
{
    struct config_listener listener = {.methods = METHOD_SCRAM};

    service_start(&service);
    struct config config = full_config();
    auth = open_auth(&config);
    for (size_t i = 0; i < COUNT_OF(scram_cases); i++) {
        char text[512];
        unsigned done = 0;
        snprintf(text, sizeof(text), "n,,n=%s,r=abc", scram_cases[i].user);
        struct auth_attempt *attempt = begin_method(&listener, "SCRAM-SHA-256", text, &done);
        CU_ASSERT_FATAL(auth_answer_of(attempt)->status == AUTH_CONTINUE);
        client_final(scram_cases[i].user, scram_cases[i].password, &auth_answer_of(attempt)->data, text, sizeof(text));
        auth_continue(attempt, slice_str(text));
        struct outcome o = outcome_of(auth, attempt, &done);
        CHECK_CASE(scram_cases[i].name, o.status == (scram_cases[i].right ? AUTH_YES : AUTH_NO));
        if (o.principal) {
            CHECK_CASE(scram_cases[i].name, auth_still(atomic_load(&auth->policy), o.principal));
            CHECK_CASE(scram_cases[i].name, strcmp(o.user, scram_cases[i].user) == 0);
            const struct buf *data = &auth_answer_of(attempt)->data;
            CHECK_CASE(scram_cases[i].name, data->len > 2 && memcmp(data->ptr, "v=", 2) == 0);
        } else {
            CHECK_CASE(scram_cases[i].name, o.reason == MQTT_NOT_AUTHORIZED);
        }
        principal_unref(o.principal);
        auth_end(attempt);
    }
    end();
}

/* ---- before another policy ---- */

static const struct {
    const char *name;
    unsigned method;
    const char *user, *file; /* of the new policy; NULL: none */
    bool still;
} still_cases[] = {
    {"the same file", METHOD_PASSWORD, "alice", "same", true},
    {"no file", METHOD_PASSWORD, "alice", NULL, false},
    {"another password", METHOD_PASSWORD, "alice", "alice:other", false},
    {"the same password with another salt", METHOD_PASSWORD, "alice", "alice:secret", false},
    {"gone", METHOD_PASSWORD, "alice", "bob:secret", false},
    {"SCRAM, gone", METHOD_SCRAM, "alice", "bob:secret", false},
    {"a token", METHOD_JWT, "tina", NULL, true},
    {"a certificate", METHOD_CERTIFICATE, "carl", "bob:secret", true},
    {"anonymous", 0, "", "bob:secret", true},
};

static void test_still(void)
{
    service_start(&service);
    struct config config = full_config();
    auth = open_auth(&config);
    uint64_t credential = passwd_fingerprint(passwd_find(atomic_load(&auth->policy)->passwd, SLICE("alice")));
    for (size_t i = 0; i < COUNT_OF(still_cases); i++) {
        char path[32] = "", user[64] = "";
        struct config next = full_config();
        if (!still_cases[i].file) {
            next.auth.password_file = (char *)(uintptr_t) "";
        } else if (strcmp(still_cases[i].file, "same") != 0) {
            struct buf line = {0};
            snprintf(user, sizeof(user), "%s", still_cases[i].file);
            char *password = strchr(user, ':');
            *password++ = '\0';
            put_user(&line, user, PASSWD_PBKDF2_SHA512, password);
            next.auth.password_file = write_file(path, (const char *)line.ptr, line.len);
            buf_deinit(&line);
        }
        replace_policy(auth, &next);
        struct principal *p = principal_new(
            &(struct principal_source){.method = still_cases[i].method,
                                       .user = slice_str(still_cases[i].user),
                                       .credential = still_cases[i].method & METHOD_PASSWORD ? credential : 1,
                                       .listener = "l",
                                       .rates = auth->rates});
        CHECK_CASE(still_cases[i].name, auth_still(atomic_load(&auth->policy), p) == still_cases[i].still);
        principal_unref(p);
        if (*path) {
            unlink(path);
        }
    }
    end();
}

/* A file that is not right refuses the whole policy. */
static void test_bad_files(void)
{
    char error[256] = "", bad_path[32];
    struct auth_policy *policy = NULL;

    service_start(&service);
    struct config config = full_config();
    auth = open_auth(&config);
    write_file(bad_path, "{[", 2);
    char **const files[] = {&config.auth.password_file, &config.auth.acl_file, &config.jwt.keys};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char *right = *files[i];
        *files[i] = bad_path;
        CHECK(auth_policy_new(auth, &config, error, sizeof(error), &policy) < 0);
        CHECK(error[0] != '\0');
        *files[i] = (char *)(uintptr_t) "/nonexistent/file";
        CHECK(auth_policy_new(auth, &config, error, sizeof(error), &policy) < 0);
        struct auth *none = NULL;
        CHECK(auth_new(&config, 1, no_wake, NULL, error, sizeof(error), &none) < 0);
        CHECK(none == NULL);
        *files[i] = right;
    }
    CHECK(policy == NULL);
    unlink(bad_path);
    end();
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"chain", test_chain},
        {"claims", test_claims},
        {"token in user name", test_token_in_user_name},
        {"anonymous with rules", test_anonymous_with_rules},
        {"methods", test_methods},
        {"token later", test_token_later},
        {"scram", test_scram},
        {"still", test_still},
        {"bad files", test_bad_files},
    };

    make_files();
    int rc = unit_main("broker/auth/auth", tests, COUNT_OF(tests));
    EVP_PKEY_free(key);
    free(good_token);
    free(old_token);
    free(foreign_token);
    free(unknown_token);
    unlink(passwd_path);
    unlink(keys_path);
    unlink(acl_path);
    return rc;
}
