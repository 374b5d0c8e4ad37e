/* ask_test.c -- the HTTP service: what is asked, what answers mean, how long they may be used again, and questions
 * about single actions. */
#include "tests/unit/broker/auth/auth_fixture.h"

static struct service service;
static struct auth *auth;

static void begin(struct config *config)
{
    service_start(&service);
    config->http.connect_url = service.url;
    config->http.rule_url = service.url;
    auth = open_auth(config);
}

static void end(void)
{
    auth_free(auth);
    service_stop(&service);
}

/* ---- questions ---- */

static struct in6_addr address(const char *text)
{
    struct in6_addr a = {0};

    inet_pton(AF_INET6, text, &a);
    return a;
}

static const struct {
    const char *name;
    enum mqtt_version version;
    const char *client_id, *user, *password, *address, *want;
} connect_cases[] = {
    {"all", MQTT_V5, "c", "u", "p", "::ffff:10.0.0.1",
     "{\"client_id\":\"c\",\"user_name\":\"u\",\"password\":\"p\",\"address\":\"10.0.0.1\",\"listener\":\"l\","
     "\"version\":\"5.0\"}"},
    {"nothing given", MQTT_V311, "", NULL, NULL, "2001:db8::1",
     "{\"client_id\":\"\",\"address\":\"2001:db8::1\",\"listener\":\"l\",\"version\":\"3.1.1\"}"},
    {"empty ones", MQTT_V31, "c", "", "", "::",
     "{\"client_id\":\"c\",\"user_name\":\"\",\"password\":\"\",\"address\":\"\",\"listener\":\"l\",\"version\":\"3."
     "1\"}"},
    {"a password of bytes", MQTT_V5, "c", "u", "\xff\xfe\x01", "::",
     "{\"client_id\":\"c\",\"user_name\":\"u\",\"password_base64\":\"//4B\",\"address\":\"\",\"listener\":\"l\","
     "\"version\":\"5.0\"}"},
    {"quotes", MQTT_V5, "\"c\\", "u\n", "{\"x\":1}", "::",
     "{\"client_id\":\"\\\"c\\\\\",\"user_name\":\"u\\n\",\"password\":\"{\\\"x\\\":1}\",\"address\":\"\",\"listener\":"
     "\"l\","
     "\"version\":\"5.0\"}"},
};

static void test_connect_questions(void)
{
    for (size_t i = 0; i < COUNT_OF(connect_cases); i++) {
        const char *user = connect_cases[i].user, *password = connect_cases[i].password;
        struct auth_question q = {.listener_name = "l",
                                  .address = address(connect_cases[i].address),
                                  .version = connect_cases[i].version,
                                  .client_id = slice_str(connect_cases[i].client_id),
                                  .user_name = user ? slice_str(user) : (struct slice){0},
                                  .password = password ? slice_str(password) : (struct slice){0}};
        struct slice body = {0};
        CHECK_CASE(connect_cases[i].name, ask_connect_encode(&q, &body) == 0);
        CHECK_CASE(connect_cases[i].name, slice_eq(body, slice_str(connect_cases[i].want)));
        ask_body_free(body);
    }
}

static void test_rule_questions(void)
{
    struct acl_subject subject = {
        .user = SLICE("u"), .client_id = SLICE("c"), .listener = SLICE("l"), .address = address("::ffff:127.0.0.1")};
    struct acl_request publish = {.action = ACL_PUBLISH, .topic = SLICE("a/b"), .qos = 1, .retain = true};
    struct acl_request subscribe = {.action = ACL_SUBSCRIBE, .topic = SLICE("a/#"), .qos = 2};
    struct slice body = {0};

    CHECK(ask_rule_encode(&subject, &publish, &body) == 0);
    CHECK(slice_eq(body, SLICE("{\"user\":\"u\",\"client_id\":\"c\",\"address\":\"127.0.0.1\",\"listener\":\"l\","
                               "\"action\":\"publish\",\"topic\":\"a/b\",\"qos\":1,\"retain\":true}")));
    ask_body_free(body);
    subject = (struct acl_subject){.client_id = SLICE("c")};
    CHECK(ask_rule_encode(&subject, &subscribe, &body) == 0);
    CHECK(slice_eq(body, SLICE("{\"user\":\"\",\"client_id\":\"c\",\"address\":\"\",\"listener\":\"\","
                               "\"action\":\"subscribe\",\"topic\":\"a/#\",\"qos\":2,\"retain\":false}")));
    ask_body_free(body);
    ask_body_free((struct slice){0});
}

/* ---- answers ---- */

static const struct {
    const char *name;
    long status;
    const char *body;
    enum ask_verdict connect;
    enum acl_verdict rule;
} answer_cases[] = {
    {"allow", 200, "{\"result\":\"allow\"}", ASK_ALLOW, ACL_ALLOW},
    {"deny", 200, " {\"result\" : \"deny\"}\n", ASK_DENY, ACL_DENY},
    {"ignore", 200, "{\"result\":\"ignore\"}", ASK_IGNORE, ACL_NONE},
    {"more", 200, "{\"more\":[1,{}],\"result\":\"allow\"}", ASK_ALLOW, ACL_ALLOW},
    {"empty", 200, "", ASK_FAILED, ACL_NONE},
    {"no object", 200, "\"allow\"", ASK_FAILED, ACL_NONE},
    {"a list", 200, "[{\"result\":\"allow\"}]", ASK_FAILED, ACL_NONE},
    {"no result", 200, "{}", ASK_FAILED, ACL_NONE},
    {"another result", 200, "{\"result\":\"Allow\"}", ASK_FAILED, ACL_NONE},
    {"the empty result", 200, "{\"result\":\"\"}", ASK_FAILED, ACL_NONE},
    {"a longer result", 200, "{\"result\":\"allowed\"}", ASK_FAILED, ACL_NONE},
    {"NUL in the result", 200, "{\"result\":\"allow\\u0000\"}", ASK_FAILED, ACL_NONE},
    {"true", 200, "{\"result\":true}", ASK_FAILED, ACL_NONE},
    {"twice", 200, "{\"result\":\"deny\",\"result\":\"allow\"}", ASK_FAILED, ACL_NONE},
    {"cut", 200, "{\"result\":\"allow\"", ASK_FAILED, ACL_NONE},
    {"something behind", 200, "{\"result\":\"allow\"}x", ASK_FAILED, ACL_NONE},
    {"ill-formed UTF-8", 200, "{\"result\":\"allow\",\"x\":\"\xff\"}", ASK_FAILED, ACL_NONE},
    {"201", 201, "{\"result\":\"allow\"}", ASK_FAILED, ACL_NONE},
    {"204", 204, "", ASK_ALLOW, ACL_ALLOW},
    {"302", 302, "{\"result\":\"allow\"}", ASK_FAILED, ACL_NONE},
    {"401", 401, "{\"result\":\"allow\"}", ASK_DENY, ACL_NONE},
    {"403", 403, "{\"result\":\"allow\"}", ASK_DENY, ACL_DENY},
    {"404", 404, "{\"result\":\"allow\"}", ASK_IGNORE, ACL_NONE},
    {"500", 500, "{\"result\":\"allow\"}", ASK_FAILED, ACL_NONE},
    {"0", 0, "{\"result\":\"allow\"}", ASK_FAILED, ACL_NONE},
};

static void test_answers(void)
{
    for (size_t i = 0; i < COUNT_OF(answer_cases); i++) {
        struct slice body = slice_str(answer_cases[i].body);
        struct jwt_claims claims = {0};
        CHECK_CASE(answer_cases[i].name,
                   ask_connect_decode(answer_cases[i].status, body, 0, &claims) == answer_cases[i].connect);
        CHECK_CASE(answer_cases[i].name, ask_rule_decode(answer_cases[i].status, body) == answer_cases[i].rule);
        CHECK_CASE(answer_cases[i].name,
                   claims.expires_at_ms == (answer_cases[i].connect == ASK_ALLOW ? UINT64_MAX : 0));
        jwt_claims_deinit(&claims);
    }
}

/* What else stands beside "result": "allow". */
static const struct {
    const char *name, *more;
    bool taken;
    const char *user, *client_id;
    unsigned roles;
    uint64_t expires_at_ms; /* of an answer at 1000 ms */
} more_cases[] = {
    {"all", "\"user\":\"u\",\"client_id\":\"c\",\"roles\":[\"a\",\"b\"],\"rules\":[],\"expires_in\":3", true, "u", "c",
     2, 4000},
    {"nothing", "\"x\":1", true, "", "", 0, UINT64_MAX},
    {"no roles", "\"roles\":[]", true, "", "", 0, UINT64_MAX},
    {"a very long time", "\"expires_in\":9000000000000000000", true, "", "", 0, UINT64_MAX},
    {"empty user", "\"user\":\"\"", false, NULL, NULL, 0, 0},
    {"user a number", "\"user\":1", false, NULL, NULL, 0, 0},
    {"user null", "\"user\":null", false, NULL, NULL, 0, 0},
    {"user with NUL", "\"user\":\"a\\u0000b\"", false, NULL, NULL, 0, 0},
    {"empty client id", "\"client_id\":\"\"", false, NULL, NULL, 0, 0},
    {"client id a list", "\"client_id\":[\"c\"]", false, NULL, NULL, 0, 0},
    {"roles a text", "\"roles\":\"a b\"", false, NULL, NULL, 0, 0},
    {"a role that is none", "\"roles\":[\"a\",1]", false, NULL, NULL, 0, 0},
    {"an empty role", "\"roles\":[\"\"]", false, NULL, NULL, 0, 0},
    {"rules an object", "\"rules\":{\"allow\":\"all\",\"topic\":\"#\"}", false, NULL, NULL, 0, 0},
    {"a rule that is none", "\"rules\":[{\"allow\":\"everything\",\"topic\":\"#\"}]", false, NULL, NULL, 0, 0},
    {"over already", "\"expires_in\":0", false, NULL, NULL, 0, 0},
    {"over for long", "\"expires_in\":-5", false, NULL, NULL, 0, 0},
    {"half a second", "\"expires_in\":0.5", false, NULL, NULL, 0, 0},
    {"a text of seconds", "\"expires_in\":\"5\"", false, NULL, NULL, 0, 0},
};

static void test_more_of_answers(void)
{
    for (size_t i = 0; i < COUNT_OF(more_cases); i++) {
        char body[256];
        struct jwt_claims claims = {0};
        snprintf(body, sizeof(body), "{\"result\":\"allow\",%s}", more_cases[i].more);
        enum ask_verdict verdict = ask_connect_decode(200, slice_str(body), 1000, &claims);
        CHECK_CASE(more_cases[i].name, verdict == (more_cases[i].taken ? ASK_ALLOW : ASK_FAILED));
        if (verdict == ASK_ALLOW && more_cases[i].taken) {
            CHECK_CASE(more_cases[i].name, slice_eq(buf_slice(&claims.user), slice_str(more_cases[i].user)));
            CHECK_CASE(more_cases[i].name, slice_eq(buf_slice(&claims.client_id), slice_str(more_cases[i].client_id)));
            CHECK_CASE(more_cases[i].name, claims.role_count == more_cases[i].roles);
            CHECK_CASE(more_cases[i].name, claims.expires_at_ms == more_cases[i].expires_at_ms);
        }
        jwt_claims_deinit(&claims);
    }
}

/* jansson itself would pass over it. */
static void test_nul_in_answer(void)
{
    struct slice body = SLICE("{\"x\":3\0,\"result\":\"allow\"}");
    struct jwt_claims claims;

    CHECK(ask_connect_decode(200, body, 0, &claims) == ASK_FAILED);
    CHECK(ask_rule_decode(200, body) == ACL_NONE);
}

static void test_many_roles(void)
{
    for (unsigned count = 1024; count <= 1025; count++) {
        struct buf body = {0};
        struct jwt_claims claims = {0};
        buf_put(&body, SLICE("{\"result\":\"allow\",\"roles\":[\"r\""));
        for (unsigned i = 1; i < count; i++) {
            buf_put(&body, SLICE(",\"r\""));
        }
        buf_put(&body, SLICE("]}"));
        enum ask_verdict verdict = ask_connect_decode(200, buf_slice(&body), 0, &claims);
        CHECK(verdict == (count == 1024 ? ASK_ALLOW : ASK_FAILED));
        jwt_claims_deinit(&claims);
        buf_deinit(&body);
    }
}

/* ---- the cache ---- */

static _Atomic uint64_t mono_ms; /* stands still unless a test moves it; 0: the system's */

static uint64_t test_mono_ns(void)
{
    struct timespec t;

    if (mono_ms) {
        return mono_ms * 1000000;
    }
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t test_wall_ms(void)
{
    return WALL_MS;
}

static void test_random(void *out, size_t len)
{
    memset(out, 7, len);
}

static const struct clock_source test_clock = {test_mono_ns, test_wall_ms, test_random};

static const uint8_t *digest_of(unsigned n)
{
    static uint8_t digest[ASK_DIGEST_BYTES];

    memcpy(digest, &n, sizeof(n));
    return digest;
}

static bool cached(struct auth_cache *cache, uint32_t version, unsigned n, uint64_t want_left_ms)
{
    struct ask_kept kept;

    if (!auth_cache_get(cache, version, digest_of(n), &kept)) {
        return false;
    }
    CHECK(kept.status == 200);
    CHECK(kept.wall_ms == 55);
    CHECK(kept.left_ms == want_left_ms);
    buf_deinit(&kept.body);
    return true;
}

static void put(struct auth_cache *cache, uint32_t version, unsigned n, struct buf body, uint64_t left_ms)
{
    auth_cache_put(cache, version, digest_of(n),
                   &(struct ask_kept){.status = 200, .body = body, .wall_ms = 55, .left_ms = left_ms});
}

static void test_cache(void)
{
    struct auth_cache *cache;
    struct buf body = {0};

    mono_ms = 1000;
    buf_put(&body, SLICE("text"));
    CU_ASSERT_FATAL(auth_cache_new(&cache) == 0);
    put(cache, 1, 1, body, 500);
    CHECK(!cached(cache, 1, 1, 0)); /* not the version that it is for */
    auth_cache_renew(cache, 1);
    put(cache, 1, 1, body, 500);
    put(cache, 1, 2, (struct buf){0}, 900);
    CHECK(cached(cache, 1, 1, 500));
    CHECK(cached(cache, 1, 2, 900));
    CHECK(!cached(cache, 1, 3, 0));
    CHECK(!cached(cache, 2, 1, 0));
    mono_ms = 1499;
    CHECK(cached(cache, 1, 1, 1));
    mono_ms = 1500;
    CHECK(!cached(cache, 1, 1, 0));
    CHECK(cached(cache, 1, 2, 400));
    put(cache, 1, 2, body, 100); /* another answer to the same question */
    CHECK(cached(cache, 1, 2, 100));
    auth_cache_renew(cache, 2);
    CHECK(!cached(cache, 1, 2, 0));
    CHECK(!cached(cache, 2, 2, 0));
    put(cache, 1, 2, body, 100); /* came late, from the old policy */
    CHECK(!cached(cache, 2, 2, 0));
    auth_cache_free(cache);
    auth_cache_free(NULL);
    buf_deinit(&body);
    mono_ms = 0;
}

/* The oldest goes when there are too many, or too much. */
static void test_cache_bounds(void)
{
    struct auth_cache *cache;
    struct buf large = {0};
    enum { COUNT_MAX = 16384, LARGE = 1 << 20, LARGE_MAX = 63 };

    mono_ms = 1000;
    CU_ASSERT_FATAL(auth_cache_new(&cache) == 0);
    auth_cache_renew(cache, 1);
    for (unsigned i = 0; i <= COUNT_MAX; i++) {
        put(cache, 1, i, (struct buf){0}, 100);
    }
    CHECK(!cached(cache, 1, 0, 0));
    CHECK(cached(cache, 1, 1, 100));
    CHECK(cached(cache, 1, COUNT_MAX, 100));
    auth_cache_renew(cache, 1);
    memset(buf_extend(&large, LARGE), 'x', LARGE);
    for (unsigned i = 0; i <= LARGE_MAX; i++) {
        put(cache, 1, i, large, 100);
    }
    CHECK(!cached(cache, 1, 0, 0)); /* 64 of them are a little more than 64 MiB */
    CHECK(cached(cache, 1, 1, 100));
    CHECK(cached(cache, 1, LARGE_MAX, 100));
    auth_cache_free(cache);
    buf_deinit(&large);
    mono_ms = 0;
}

static enum auth_status connect_as(const char *user, uint64_t *ret_expires_at_ms)
{
    struct config_listener listener = {.methods = METHOD_HTTP};
    struct outcome o = answer_to(auth, &(struct auth_question){.methods = listener.methods,
                                                               .anonymous = listener.anonymous,
                                                               .listener_name = "l",
                                                               .version = MQTT_V5,
                                                               .client_id = SLICE("c"),
                                                               .user_name = slice_str(user)});
    if (o.principal && ret_expires_at_ms) {
        *ret_expires_at_ms = o.principal->expires_at_ms;
    }
    principal_unref(o.principal);
    return o.status;
}

#define CACHED_ANSWER(seconds, body) ANSWER("200 OK", "Cache-Control: max-age=" seconds "\r\n", body)

static const struct {
    const char *name, *answer;
    uint64_t default_max_age_s;
    enum auth_status status;
    unsigned asked; /* by two attempts at once */
    unsigned later; /* by one more, a minute later */
} reuse_cases[] = {
    {"allow", CACHED_ANSWER("50", "{\"result\":\"allow\"}"), 0, AUTH_YES, 1, 1},
    {"allow for long", CACHED_ANSWER("500", "{\"result\":\"allow\"}"), 0, AUTH_YES, 1, 0},
    {"deny", CACHED_ANSWER("50", "{\"result\":\"deny\"}"), 0, AUTH_NO, 1, 1},
    {"403", ANSWER("403 No", "Cache-Control: max-age=500\r\nContent-Length: 0\r\n", ""), 0, AUTH_NO, 1, 0},
    {"by default", JSON_ANSWER("{\"result\":\"allow\"}"), 50, AUTH_YES, 1, 1},
    {"no word", JSON_ANSWER("{\"result\":\"allow\"}"), 0, AUTH_YES, 2, 1},
    {"no-store", ANSWER("200 OK", "Cache-Control: no-store\r\n", "{\"result\":\"allow\"}"), 50, AUTH_YES, 2, 1},
    {"a failure", ANSWER("500 Oh", "Cache-Control: max-age=50\r\nContent-Length: 0\r\n", ""), 50, AUTH_NO, 2, 1},
    {"ill-formed", CACHED_ANSWER("50", "{\"result\":\"sure\"}"), 50, AUTH_NO, 2, 1},
    {"expires before", CACHED_ANSWER("500", "{\"result\":\"allow\",\"expires_in\":30}"), 0, AUTH_YES, 1, 1},
};

static void test_reuse(void)
{
    for (size_t i = 0; i < COUNT_OF(reuse_cases); i++) {
        const char *name = reuse_cases[i].name;
        struct config config = plain_config();
        config.http.default_max_age_s = reuse_cases[i].default_max_age_s;
        begin(&config);
        service_say(&service, reuse_cases[i].answer);
        mono_ms = 1000000;
        uint64_t first = 0, second = 0;
        CHECK_CASE(name, connect_as("u", &first) == reuse_cases[i].status);
        CHECK_CASE(name, connect_as("u", &second) == reuse_cases[i].status);
        CHECK_CASE(name, service_asked(&service) == reuse_cases[i].asked);
        CHECK_CASE(name, first == second); /* what is used again ends no later for that */
        mono_ms += 60000;
        (void)connect_as("u", NULL);
        CHECK_CASE(name, service_asked(&service) == reuse_cases[i].asked + reuse_cases[i].later);
        unsigned before = service_asked(&service);
        (void)connect_as("v", NULL); /* another question */
        CHECK_CASE(name, service_asked(&service) == before + 1);
        mono_ms = 0;
        end();
    }
}

static void test_reuse_ends_with_policy(void)
{
    struct config config = plain_config();
    begin(&config);
    service_say(&service, CACHED_ANSWER("50", "{\"result\":\"allow\"}"));
    CHECK(connect_as("u", NULL) == AUTH_YES);
    CHECK(connect_as("u", NULL) == AUTH_YES);
    CHECK(service_asked(&service) == 1);
    replace_policy(auth, &config);
    service_say(&service, CACHED_ANSWER("50", "{\"result\":\"deny\"}"));
    CHECK(connect_as("u", NULL) == AUTH_NO);
    CHECK(connect_as("u", NULL) == AUTH_NO);
    CHECK(service_asked(&service) == 2);
    end();
}

/* ---- single actions ---- */

static enum acl_verdict may(const char *topic, uint64_t *ret_max_age_ms, bool *ret_at_once)
{
    struct acl_subject subject = {.user = SLICE("u"), .client_id = SLICE("c"), .listener = SLICE("l")};
    struct acl_request request = {.action = ACL_PUBLISH, .topic = slice_str(topic)};
    unsigned done = 0;

    struct auth_rule *rule = auth_rule_ask(auth, atomic_load(&auth->policy), 0, &subject, &request, count_done, &done);
    CU_ASSERT_FATAL(rule != NULL);
    CHECK(done == 0);
    *ret_max_age_ms = 1;
    *ret_at_once = auth_rule_answer(rule, ret_max_age_ms) != ACL_NONE;
    if (!*ret_at_once) {
        CHECK(turn_until(auth, &done, 1));
    }
    enum acl_verdict verdict = auth_rule_answer(rule, ret_max_age_ms);
    auth_rule_end(rule);
    return verdict;
}

static const struct {
    const char *name, *answer;
    enum acl_verdict verdict;
    uint64_t max_age_ms;
} rule_cases[] = {
    {"allow", JSON_ANSWER("{\"result\":\"allow\"}"), ACL_ALLOW, 0},
    {"allow for a while", CACHED_ANSWER("9", "{\"result\":\"allow\"}"), ACL_ALLOW, 9000},
    {"deny for a while", CACHED_ANSWER("9", "{\"result\":\"deny\"}"), ACL_DENY, 9000},
    {"204", ANSWER("204 OK", "Cache-Control: max-age=3\r\n", ""), ACL_ALLOW, 3000},
    {"403", ANSWER("403 No", "Cache-Control: max-age=3\r\nContent-Length: 0\r\n", ""), ACL_DENY, 3000},
    {"ignore", CACHED_ANSWER("9", "{\"result\":\"ignore\"}"), ACL_DENY, 0},
    {"404", ANSWER("404 No", "Cache-Control: max-age=3\r\nContent-Length: 0\r\n", ""), ACL_DENY, 0},
    {"500", ANSWER("500 No", "Cache-Control: max-age=3\r\nContent-Length: 0\r\n", ""), ACL_DENY, 0},
    {"no JSON", CACHED_ANSWER("9", "allow"), ACL_DENY, 0},
    {"hung up", "", ACL_DENY, 0},
};

static void test_rules(void)
{
    struct config config = plain_config();
    begin(&config);
    mono_ms = 1000000;
    for (size_t i = 0; i < COUNT_OF(rule_cases); i++) {
        char topic[16];
        uint64_t max_age_ms;
        bool at_once;
        snprintf(topic, sizeof(topic), "t/%zu", i);
        service_say(&service, rule_cases[i].answer);
        CHECK_CASE(rule_cases[i].name, may(topic, &max_age_ms, &at_once) == rule_cases[i].verdict);
        CHECK_CASE(rule_cases[i].name, max_age_ms == rule_cases[i].max_age_ms);
        CHECK_CASE(rule_cases[i].name, !at_once);
        unsigned before = service_asked(&service);
        mono_ms += 1000;
        CHECK_CASE(rule_cases[i].name, may(topic, &max_age_ms, &at_once) == rule_cases[i].verdict);
        CHECK_CASE(rule_cases[i].name, at_once == (rule_cases[i].max_age_ms > 0));
        CHECK_CASE(rule_cases[i].name, service_asked(&service) == before + !at_once);
        CHECK_CASE(rule_cases[i].name, !at_once || max_age_ms == rule_cases[i].max_age_ms - 1000);
    }
    mono_ms = 0;
    end();
}

/* Without the service nothing is open; and who left does not hear. */
static void test_rules_in_trouble(void)
{
    struct config config = plain_config();
    struct acl_subject subject = {.user = SLICE("u")};
    struct acl_request request = {.action = ACL_SUBSCRIBE, .topic = SLICE("#")};
    uint64_t max_age_ms;
    unsigned done = 0;
    bool at_once;

    begin(&config);
    service_say(&service, JSON_ANSWER("{\"result\":\"allow\"}"));
    struct auth_policy *policy = atomic_load(&auth->policy);
    auth_rule_end(auth_rule_ask(auth, policy, 0, &subject, &request, count_done, &done));
    sleep_ms(50);
    worker_collect(auth->pool, 0);
    service_hold(&service, true);
    struct auth_rule *rule = auth_rule_ask(auth, policy, 0, &subject, &request, count_done, &done);
    auth_rule_end(auth_rule_ask(auth, policy, 0, &subject, &request, count_done, &done));
    auth_rule_end(NULL);
    auth_drain(auth);
    CHECK(done == 0);
    CHECK(auth_rule_answer(rule, &max_age_ms) == ACL_DENY);
    auth_rule_end(rule);
    CHECK(may("t", &max_age_ms, &at_once) == ACL_DENY); /* there is no client any more */
    CHECK(at_once);
    CHECK(max_age_ms == 0);
    end();
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"connect questions", test_connect_questions},
        {"rule questions", test_rule_questions},
        {"answers", test_answers},
        {"more of answers", test_more_of_answers},
        {"NUL in an answer", test_nul_in_answer},
        {"many roles", test_many_roles},
        {"cache", test_cache},
        {"cache bounds", test_cache_bounds},
        {"reuse", test_reuse},
        {"reuse ends with policy", test_reuse_ends_with_policy},
        {"rules", test_rules},
        {"rules in trouble", test_rules_in_trouble},
    };

    clock_set(&test_clock);
    return unit_main("broker/auth/ask", tests, COUNT_OF(tests));
}
