/* auth_memory_test.c -- memory that runs out at each allocation of an attempt: a no or no attempt at all, and nothing
 * lost. */
#include "tests/lib/alloc_fail.h"

#include "broker/auth/ask.c"
#include "broker/auth/ask_cache.c"
#include "broker/auth/ask_json.c"
#include "broker/auth/auth.c"
#include "broker/auth/chain.c"
#include "broker/auth/principal.c"
#include "proto/base/buf.c"

#include "tests/unit/broker/auth/auth_fixture.h"

static struct auth *auth;
static char acl_path[32], passwd_path[32];

/* A configuration whose service is never asked: its answer is in the cache. */
static struct config memory_config(void)
{
    struct config c = plain_config();

    c.auth.acl_file = acl_path;
    c.auth.password_file = passwd_path;
    c.http.connect_url = c.http.rule_url = (char *)(uintptr_t)NOBODY_URL;
    return c;
}

static void keep_answer(struct slice body, const char *answer)
{
    struct ask_kept kept = {.status = 200, .wall_ms = clock_wall_ms(), .left_ms = 60000};
    uint8_t digest[ASK_DIGEST_BYTES];

    SHA256(body.ptr, body.len, digest);
    buf_put(&kept.body, slice_str(answer));
    auth_cache_put(auth->cache, atomic_load(&auth->policy)->version, digest, &kept);
    buf_deinit(&kept.body);
    ask_body_free(body);
}

static const struct {
    const char *name;
    unsigned methods;
    const char *certificate, *user, *password, *method, *data;
    enum auth_status status; /* with memory */
} cases[] = {
    {"certificate", METHOD_CERTIFICATE, "carl", NULL, NULL, "", NULL, AUTH_YES},
    {"anonymous", 0, "", NULL, NULL, "", NULL, AUTH_YES},
    {"service", METHOD_HTTP, "", "hugo", "x", "", NULL, AUTH_YES},
    {"service, bytes", METHOD_HTTP, "", "hugo", "\xff", "", NULL, AUTH_YES},
    {"SCRAM", METHOD_SCRAM, "", NULL, NULL, "SCRAM-SHA-256", "n,,n=sam,r=abc", AUTH_CONTINUE},
};

static struct slice given(const char *text)
{
    return text ? slice_str(text) : (struct slice){0};
}

static void test_attempts(void)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_listener listener = {.methods = cases[i].methods, .anonymous = true};
        struct auth_question q = {.methods = listener.methods,
                                  .anonymous = listener.anonymous,
                                  .listener_name = "l",
                                  .version = MQTT_V5,
                                  .client_id = SLICE("c"),
                                  .certificate_user = slice_str(cases[i].certificate),
                                  .user_name = given(cases[i].user),
                                  .password = given(cases[i].password),
                                  .method = slice_str(cases[i].method),
                                  .data = given(cases[i].data)};
        enum auth_status status = AUTH_NO;
        unsigned done = 0, failed = 0;
        if (cases[i].methods == METHOD_HTTP) {
            struct slice body;
            CU_ASSERT_FATAL(ask_connect_encode(&q, &body) == 0);
            keep_answer(body, "{\"result\":\"allow\",\"client_id\":\"c\",\"roles\":[\"a\",\"b\"],"
                              "\"rules\":[{\"allow\":\"all\",\"topic\":\"#\"}]}");
        }
        for (unsigned n = 1; status != cases[i].status && n < 100; n++) {
            alloc_fail_at = n;
            struct auth_attempt *attempt = ask_auth(auth, &q, &done);
            if (attempt && auth_answer_of(attempt)->status == AUTH_PENDING) { /* not in the cache for lack of memory */
                alloc_fail_at = 0;
                CHECK_CASE(cases[i].name, turn_until(auth, &done, 1));
                done = 0;
            }
            bool ran_out = alloc_fail_at == 0;
            alloc_fail_at = 0;
            status = attempt ? auth_answer_of(attempt)->status : AUTH_NO;
            CHECK_CASE(cases[i].name, status == AUTH_NO || !ran_out);
            CHECK_CASE(cases[i].name,
                       !attempt || status != AUTH_NO || auth_answer_of(attempt)->reason == MQTT_SERVER_UNAVAILABLE);
            failed += status == AUTH_NO;
            auth_end(attempt);
        }
        CHECK_CASE(cases[i].name, status == cases[i].status);
        CHECK_CASE(cases[i].name, failed >= 2);
    }
}

/* What comes back from JWT's AUTH does not fit into memory. */
static void test_continue(void)
{
    struct config_listener listener = {.methods = METHOD_JWT};
    struct auth_question q = {.methods = listener.methods,
                              .anonymous = listener.anonymous,
                              .listener_name = "l",
                              .version = MQTT_V5,
                              .method = SLICE("JWT")};
    unsigned done = 0;

    struct auth_attempt *attempt = ask_auth(auth, &q, &done);
    CHECK(auth_answer_of(attempt)->status == AUTH_CONTINUE);
    alloc_fail_at = 1;
    auth_continue(attempt, SLICE("a.b.c"));
    alloc_fail_at = 0;
    CHECK(auth_answer_of(attempt)->status == AUTH_NO);
    CHECK(auth_answer_of(attempt)->reason == MQTT_SERVER_UNAVAILABLE);
    auth_end(attempt);
}

static void test_rule(void)
{
    struct acl_subject subject = {.user = SLICE("u")};
    struct acl_request request = {.action = ACL_PUBLISH, .topic = SLICE("t")};
    enum acl_verdict verdict = ACL_DENY;
    struct slice body;
    uint64_t max_age_ms;
    unsigned done = 0;

    CU_ASSERT_FATAL(ask_rule_encode(&subject, &request, &body) == 0);
    keep_answer(body, "{\"result\":\"allow\"}");
    for (unsigned n = 1; verdict != ACL_ALLOW && n < 100; n++) {
        alloc_fail_at = n;
        struct auth_rule *rule =
            auth_rule_ask(auth, atomic_load(&auth->policy), 0, &subject, &request, count_done, &done);
        bool ran_out = alloc_fail_at == 0;
        alloc_fail_at = 0;
        if (rule && auth_rule_answer(rule, &max_age_ms) == ACL_NONE) {
            CHECK(turn_until(auth, &done, 1));
            done = 0;
        }
        verdict = rule ? auth_rule_answer(rule, &max_age_ms) : ACL_DENY;
        CHECK(verdict == ACL_DENY || !ran_out);
        auth_rule_end(rule);
    }
    CHECK(verdict == ACL_ALLOW);
}

/* Building: an error, or all of it. */
static void test_build(void)
{
    struct config config = memory_config();
    struct auth *built = NULL;
    char error[256];

    for (unsigned n = 1; !built && n < 100; n++) {
        alloc_fail_at = n;
        int rc = auth_new(&config, 1, no_wake, NULL, error, sizeof(error), &built);
        bool ran_out = alloc_fail_at == 0;
        alloc_fail_at = 0;
        CHECK(rc == 0 ? !ran_out : rc == -ENOMEM && !built);
        CHECK(rc == 0 || error[0] != '\0');
    }
    CHECK(built != NULL);
    auth_free(built);
    auth_free(NULL);
}

/* Instead of jansson's own, so that these run out too. */
static void *json_alloc(size_t size)
{
    return malloc(size);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"attempts", test_attempts},
        {"continue", test_continue},
        {"rule", test_rule},
        {"build", test_build},
    };
    struct buf text = {0};

    write_file(acl_path, "rules: []\n", 10);
    put_user(&text, "sam", PASSWD_SCRAM_SHA_256, "pencil");
    write_file(passwd_path, (const char *)text.ptr, text.len);
    buf_deinit(&text);
    json_set_alloc_funcs(json_alloc, free);
    struct config config = memory_config();
    auth = open_auth(&config);
    int rc = unit_main("broker/auth/auth_memory", tests, COUNT_OF(tests));
    auth_free(auth);
    unlink(acl_path);
    unlink(passwd_path);
    return rc;
}
