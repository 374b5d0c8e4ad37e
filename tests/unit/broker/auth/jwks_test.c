/* jwks_test.c -- keys by URL: fetched at the start if the service is there, fetched anew in time and when a token's key
 * is not known, kept when that fails, forgotten when the URL is another. */
#include "tests/unit/broker/auth/auth_fixture.h"
#include "tests/unit/broker/auth/token_fixture.h"

#define REFRESH_MS 300000
#define EARLY_MS 10000

enum { KEYS = 2 };

static struct service service;
static struct auth *auth;
static char answers[KEYS][512]; /* the service's, with key i */
static char *tokens[KEYS];      /* signed by key i */
static uint64_t start_ms;

static void begin(struct config *config, const char *answer)
{
    service_start(&service);
    service_say(&service, answer);
    config->jwt.jwks_url = service.url;
    auth = open_auth(config);
    start_ms = clock_mono_ns() / 1000000 + 1000; /* a little later than the start's fetch, for certain */
}

static void end(void)
{
    auth_free(auth);
    service_stop(&service);
}

static struct outcome try_token(unsigned key)
{
    static const struct config_listener listener = {.methods = METHOD_JWT};
    struct outcome o = answer_to(auth, &(struct auth_question){.methods = listener.methods,
                                                               .anonymous = listener.anonymous,
                                                               .listener_name = "l",
                                                               .version = MQTT_V5,
                                                               .user_name = SLICE("x"),
                                                               .password = slice_str(tokens[key])});
    principal_unref(o.principal);
    return o;
}

/* Tick at a moment; returns whether the service was asked. Waits until what it said has been taken. */
static bool tick(struct service *s, uint64_t mono_ms)
{
    unsigned before = service_asked(s);

    auth_tick(auth, 0, mono_ms);
    for (unsigned i = 0; i < 150; i++) { /* two hops: the HTTP thread, a worker */
        worker_collect(auth->pool, 0);
        sleep_ms(1);
    }
    return service_asked(s) > before;
}

static void test_start(void)
{
    struct config config = plain_config();

    begin(&config, answers[0]);
    CHECK(service_asked(&service) == 1);
    CHECK(try_token(0).status == AUTH_YES);
    struct outcome o = try_token(1);
    CHECK(o.status == AUTH_NO);
    CHECK(o.reason == MQTT_BAD_USER_NAME_OR_PASSWORD);
    end();
}

/* The node starts though nobody answers, or nonsense; tokens have to wait, and do not count as wrong. */
static void test_start_without(void)
{
    const char *const bad[] = {"", JSON_ANSWER("{}"), JSON_ANSWER("no"), ANSWER("500 Oh", "Content-Length: 0\r\n", "")};

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct config config = plain_config();
        begin(&config, bad[i]);
        struct outcome o = try_token(0);
        CHECK_CASE(bad[i], o.status == AUTH_NO);
        CHECK_CASE(bad[i], o.reason == MQTT_SERVER_UNAVAILABLE);
        service_say(&service, answers[0]);
        CHECK_CASE(bad[i], tick(&service, start_ms + EARLY_MS)); /* long before the refresh */
        CHECK_CASE(bad[i], try_token(0).status == AUTH_YES);
        end();
    }
}

static void test_refresh(void)
{
    struct config config = plain_config();

    begin(&config, answers[0]);
    service_say(&service, answers[1]);
    CHECK(!tick(&service, start_ms + EARLY_MS));
    CHECK(!tick(&service, start_ms + REFRESH_MS - 5000));
    CHECK(tick(&service, start_ms + REFRESH_MS));
    CHECK(try_token(0).status == AUTH_NO);
    CHECK(try_token(1).status == AUTH_YES);
    CHECK(!tick(&service, start_ms + REFRESH_MS + 5000));
    end();
}

static void test_kept_on_failure(void)
{
    struct config config = plain_config();

    begin(&config, answers[0]);
    service_say(&service, JSON_ANSWER("{\"keys\":[]}"));
    CHECK(tick(&service, start_ms + REFRESH_MS));
    CHECK(try_token(0).status == AUTH_YES);
    CHECK(!tick(&service, start_ms + REFRESH_MS + EARLY_MS - 1));
    CHECK(tick(&service, start_ms + REFRESH_MS + EARLY_MS)); /* sooner than usual */
    CHECK(try_token(0).status == AUTH_YES);
    service_say(&service, ""); /* hangs up */
    CHECK(tick(&service, start_ms + REFRESH_MS + 2 * EARLY_MS));
    CHECK(try_token(0).status == AUTH_YES);
    service_say(&service, answers[1]);
    CHECK(tick(&service, start_ms + REFRESH_MS + 3 * EARLY_MS));
    CHECK(try_token(1).status == AUTH_YES);
    CHECK(!tick(&service, start_ms + REFRESH_MS + 5 * EARLY_MS)); /* all is well again */
    end();
}

/* Whoever sends tokens of unknown keys makes us ask once in ten seconds, no oftener. */
static void test_unknown_key(void)
{
    struct config config = plain_config();

    begin(&config, answers[0]);
    service_say(&service, answers[1]);
    CHECK(try_token(1).status == AUTH_NO);
    CHECK(!tick(&service, start_ms));
    CHECK(tick(&service, start_ms + EARLY_MS));
    CHECK(try_token(1).status == AUTH_YES);
    CHECK(!tick(&service, start_ms + 2 * EARLY_MS)); /* nothing was missed since */
    for (unsigned i = 0; i < 5; i++) {
        CHECK(try_token(0).status == AUTH_NO);
    }
    CHECK(tick(&service, start_ms + 3 * EARLY_MS));
    CHECK(try_token(0).status == AUTH_NO);
    CHECK(!tick(&service, start_ms + 4 * EARLY_MS - 1));
    end();
}

static void test_other_source(void)
{
    struct config config = plain_config(), other = plain_config(), none = plain_config();
    struct service second;

    begin(&config, answers[0]);
    service_start(&second);
    service_say(&second, answers[1]);
    other.jwt.jwks_url = second.url;

    replace_policy(auth, &config); /* the same */
    CHECK(try_token(0).status == AUTH_YES);
    replace_policy(auth, &other);
    struct outcome o = try_token(0); /* at once */
    CHECK(o.status == AUTH_NO);
    CHECK(o.reason == MQTT_SERVER_UNAVAILABLE);
    CHECK(tick(&second, start_ms)); /* at the next tick, whenever the last one was */
    CHECK(try_token(0).status == AUTH_NO);
    CHECK(try_token(1).status == AUTH_YES);
    replace_policy(auth, &none);
    o = try_token(1);
    CHECK(o.status == AUTH_NO);
    CHECK(o.reason == MQTT_BAD_USER_NAME_OR_PASSWORD);
    CHECK(!tick(&second, start_ms + REFRESH_MS));
    service_stop(&second);
    end();
}

/* An answer that is there when the URL becomes another one, and one that is there when the node ends. */
static void test_too_late(void)
{
    struct config config = plain_config(), other = plain_config();

    begin(&config, answers[0]);
    auth_tick(auth, 0, start_ms + REFRESH_MS);
    sleep_ms(100);
    other.jwt.jwks_url = (char *)(uintptr_t)NOBODY_URL;
    replace_policy(auth, &other);
    for (unsigned i = 0; i < 50; i++) {
        worker_collect(auth->pool, 0);
        sleep_ms(1);
    }
    CHECK(try_token(0).reason == MQTT_SERVER_UNAVAILABLE); /* it is not taken for the other's keys */
    replace_policy(auth, &config);
    auth_tick(auth, 0, start_ms + REFRESH_MS);
    sleep_ms(100);
    end();
}

/* Fetches that never end: the URL is exchanged, and the node ends. */
static void test_held(void)
{
    struct config config = plain_config(), other = plain_config();

    begin(&config, answers[0]);
    service_hold(&service, true);
    auth_tick(auth, 0, start_ms + REFRESH_MS);
    sleep_ms(20);
    other.jwt.jwks_url = (char *)(uintptr_t)NOBODY_URL;
    replace_policy(auth, &other);
    CHECK(try_token(0).status == AUTH_NO);
    for (unsigned i = 0; i < 50; i++) {
        worker_collect(auth->pool, 0);
        sleep_ms(1);
    }
    replace_policy(auth, &config);
    auth_tick(auth, 0, start_ms + 2 * REFRESH_MS);
    end();
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"start", test_start},
        {"start without", test_start_without},
        {"refresh", test_refresh},
        {"kept on failure", test_kept_on_failure},
        {"unknown key", test_unknown_key},
        {"other source", test_other_source},
        {"too late", test_too_late},
        {"held", test_held},
    };
    static const char *const names[KEYS] = {"k0", "k1"};

    for (unsigned i = 0; i < KEYS; i++) {
        EVP_PKEY *key = make_key();
        char set[256];
        snprintf(answers[i], sizeof(answers[i]), JSON_ANSWER("%s"), key_set(key, names[i], set, sizeof(set)));
        tokens[i] = make_token(key, names[i], "{\"sub\":\"tina\",\"exp\":1900000600}");
        EVP_PKEY_free(key);
    }
    int rc = unit_main("broker/auth/jwks", tests, COUNT_OF(tests));
    for (unsigned i = 0; i < KEYS; i++) {
        free(tokens[i]);
    }
    return rc;
}
