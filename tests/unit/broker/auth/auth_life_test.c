/* auth_life_test.c -- attempts that meet trouble: full queues, a service that is slow or gone, a client that leaves,
 * another policy under way, the end of the node. Never a yes, never a lost attempt. */
#include "tests/unit/broker/auth/auth_fixture.h"
#include "tests/unit/broker/auth/token_fixture.h"

static struct service service;
static struct auth *auth;
static char passwd_path[32], keys_path[32];
static char *token;
static const struct config_listener listener = {.methods = METHOD_PASSWORD | METHOD_JWT | METHOD_SCRAM | METHOD_HTTP,
                                                .anonymous = true};

static struct config life_config(void)
{
    struct config c = plain_config();

    c.auth.password_file = passwd_path;
    c.jwt.keys = keys_path;
    return c;
}

static struct auth_question question(const char *user, const char *password)
{
    return (struct auth_question){.methods = listener.methods,
                                  .anonymous = listener.anonymous,
                                  .listener_name = "l",
                                  .version = MQTT_V5,
                                  .client_id = SLICE("c1"),
                                  .user_name = user ? slice_str(user) : (struct slice){0},
                                  .password = password ? slice_str(password) : (struct slice){0}};
}

static struct auth_attempt *begin(const char *user, const char *password, unsigned *done)
{
    struct auth_question q = question(user, password);
    return ask_auth(auth, &q, done);
}

static struct outcome answer(const char *user, const char *password)
{
    struct auth_question q = question(user, password);
    return answer_to(auth, &q);
}

/* ---- workers that are busy ---- */

static atomic_bool plug_pulled, plug_sits;

static void run_plug(struct work *work)
{
    (void)work;
    plug_sits = true;
    while (!plug_pulled) {
        sleep_ms(1);
    }
}

static void nothing(struct work *work)
{
    (void)work;
}

static struct work plug = {.run = run_plug, .done = nothing}, filler = {.run = nothing, .done = nothing};

/* The one worker is busy and one waits: the queue is full. */
static void plug_workers(void)
{
    plug_pulled = plug_sits = false;
    CHECK(worker_submit(auth->pool, &plug) == 0);
    while (!plug_sits) {
        sleep_ms(1);
    }
}

static void pull_plug(void)
{
    plug_pulled = true;
    while (worker_count(auth->pool) > 0) {
        sleep_ms(1);
    }
    worker_collect(auth->pool, 0);
}

static const struct {
    const char *name, *user, *password; /* password "@": the token */
} busy_cases[] = {
    {"password", "alice", "secret"},
    {"wrong password", "alice", "wrong"},
    {"unknown user", "eve", "x"},
    {"token", "x", "@"},
};

static void test_busy(void)
{
    struct config config = life_config();
    config.auth.workers = config.auth.max_waiting = 1;
    auth = open_auth(&config);
    plug_workers();
    CHECK(worker_submit(auth->pool, &filler) == 0);
    for (size_t i = 0; i < COUNT_OF(busy_cases); i++) {
        const char *password = busy_cases[i].password[0] == '@' ? token : busy_cases[i].password;
        struct outcome o = answer(busy_cases[i].user, password);
        CHECK_CASE(busy_cases[i].name, o.status == AUTH_NO);
        CHECK_CASE(busy_cases[i].name, o.reason == MQTT_SERVER_BUSY);
        CHECK_CASE(busy_cases[i].name, o.pending == 0);
    }
    pull_plug();
    struct outcome o = answer("alice", "secret");
    CHECK(o.status == AUTH_YES);
    principal_unref(o.principal);
    auth_free(auth);
}

/* ---- a service in trouble ---- */

static void test_service_down(void)
{
    struct config config = life_config();
    config.http.connect_url = (char *)(uintptr_t)NOBODY_URL;
    auth = open_auth(&config);
    struct outcome o = answer("hugo", "x");
    CHECK(o.status == AUTH_NO);
    CHECK(o.reason == MQTT_SERVER_UNAVAILABLE);
    o = answer(NULL, NULL); /* though anonymous clients are welcome */
    CHECK(o.status == AUTH_NO);
    CHECK(o.reason == MQTT_SERVER_UNAVAILABLE);
    o = answer("alice", "secret"); /* it is not needed for her */
    CHECK(o.status == AUTH_YES);
    principal_unref(o.principal);
    auth_free(auth);
}

static void test_service_slow(void)
{
    struct config config = life_config();
    service_start(&service);
    service_say(&service, JSON_ANSWER("{\"result\":\"allow\"}"));
    service_hold(&service, true);
    config.http.connect_url = service.url;
    config.http.timeout_ms = 150;
    auth = open_auth(&config);
    struct outcome o = answer("hugo", "x");
    CHECK(o.status == AUTH_NO);
    CHECK(o.reason == MQTT_SERVER_UNAVAILABLE);
    auth_free(auth);
    service_stop(&service);
}

static void test_breaker(void)
{
    struct config config = life_config();
    service_start(&service);
    service_say(&service, ANSWER("500 Oh", "Content-Length: 0\r\n", ""));
    config.http.connect_url = service.url;
    config.http.breaker_failures = 2;
    config.http.breaker_pause_ms = 60000;
    auth = open_auth(&config);
    for (unsigned i = 0; i < 5; i++) {
        struct outcome o = answer("hugo", "x");
        CHECK(o.status == AUTH_NO);
        CHECK(o.reason == MQTT_SERVER_UNAVAILABLE);
        CHECK(o.pending == (i < 2)); /* then it is answered at once */
    }
    CHECK(service_asked(&service) == 2);
    auth_free(auth);
    service_stop(&service);
}

/* One question at a time, four may wait; the sixth is too many. */
static void test_too_many_questions(void)
{
    enum { ASKED = 8 };
    struct auth_attempt *attempts[ASKED];
    unsigned done[ASKED] = {0}, yes = 0, busy = 0;
    char users[ASKED][8];
    struct config config = life_config();

    service_start(&service);
    service_say(&service, JSON_ANSWER("{\"result\":\"allow\"}"));
    service_hold(&service, true);
    config.http.connect_url = service.url;
    config.http.max_requests = 1;
    auth = open_auth(&config);
    for (unsigned i = 0; i < ASKED; i++) {
        snprintf(users[i], sizeof(users[i]), "u%u", i);
        attempts[i] = begin(users[i], NULL, &done[i]);
        CHECK(auth_answer_of(attempts[i])->status != AUTH_YES);
    }
    service_hold(&service, false);
    for (unsigned i = 0; i < ASKED; i++) {
        struct outcome o = {0};
        if (auth_answer_of(attempts[i])->status == AUTH_PENDING) {
            CHECK(turn_until(auth, &done[i], 1));
        }
        outcome_take(&o, auth_answer_of(attempts[i]));
        yes += o.status == AUTH_YES;
        busy += o.status == AUTH_NO && o.reason == MQTT_SERVER_BUSY;
        principal_unref(o.principal);
        auth_end(attempts[i]);
    }
    CHECK(yes + busy == ASKED);
    CHECK(yes >= 4);
    CHECK(busy >= 2);
    auth_free(auth);
    service_stop(&service);
}

/* ---- attempts that are given up ---- */

static const struct {
    const char *name, *user, *password; /* "@": the token */
} leave_cases[] = {
    {"password", "alice", "secret"},
    {"token", "x", "@"},
    {"service, then the password check that is none", "eve", "x"},
    {"service", "hugo", NULL},
    {"nobody", NULL, NULL},
};

/* Each of them at each moment: at once, when the work is done and not collected, after some turns, and not at all: the
 * node ends first. ASan sees what is lost or freed twice. */
static void test_given_up(void)
{
    struct config config = life_config();

    service_start(&service);
    service_say(&service, JSON_ANSWER("{\"result\":\"ignore\"}"));
    config.http.connect_url = service.url;
    for (unsigned moment = 0; moment < 4; moment++) {
        struct auth_attempt *left[COUNT_OF(leave_cases)] = {0};
        unsigned done[COUNT_OF(leave_cases)] = {0};
        auth = open_auth(&config);
        for (size_t i = 0; i < COUNT_OF(leave_cases); i++) {
            const char *password = leave_cases[i].password;
            left[i] = begin(leave_cases[i].user, password && *password == '@' ? token : password, &done[i]);
            if (moment == 1) {
                sleep_ms(20);
            }
            for (unsigned turn = 0; moment == 2 && turn < 2 + i; turn++) {
                sleep_ms(3);
                worker_collect(auth->pool, 0);
            }
            if (moment < 3) {
                unsigned before = done[i];
                auth_end(left[i]);
                sleep_ms(moment ? 0 : 20);
                worker_collect(auth->pool, 0);
                CHECK_CASE(leave_cases[i].name, done[i] == before);
            }
        }
        auth_drain(auth);
        for (size_t i = 0; moment == 3 && i < COUNT_OF(leave_cases); i++) {
            CHECK_CASE(leave_cases[i].name, done[i] == 0); /* nobody is there to hear it */
            CHECK_CASE(leave_cases[i].name, auth_answer_of(left[i])->status != AUTH_PENDING);
            auth_end(left[i]);
        }
        auth_free(auth);
    }
    service_stop(&service);
}

/* The node ends while the service holds its answer. */
static void test_drain_while_held(void)
{
    struct config config = life_config();
    unsigned done = 0;

    service_start(&service);
    service_say(&service, JSON_ANSWER("{\"result\":\"allow\"}"));
    service_hold(&service, true);
    config.http.connect_url = service.url;
    auth = open_auth(&config);
    struct auth_attempt *stays = begin("hugo", NULL, &done), *leaves = begin("eva", NULL, &done);
    auth_end(leaves);
    auth_drain(auth);
    CHECK(auth_answer_of(stays)->status == AUTH_NO);
    CHECK(done == 0);
    auth_end(stays);
    auth_end(NULL);
    auth_free(auth);
    service_stop(&service);
}

/* Exchanges that the client does not go on with. */
static void test_exchange_given_up(void)
{
    static const struct {
        const char *method, *data;
    } cases[] = {{"JWT", ""}, {"SCRAM-SHA-256", "n,,n=sam,r=abc"}};

    struct config config = life_config();
    auth = open_auth(&config);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct auth_question q = question(NULL, NULL);
        unsigned done = 0;
        q.method = slice_str(cases[i].method);
        q.data = slice_str(cases[i].data);
        struct auth_attempt *attempt = ask_auth(auth, &q, &done);
        CHECK_CASE(cases[i].method, auth_answer_of(attempt)->status == AUTH_CONTINUE);
        auth_end(attempt);
        CHECK_CASE(cases[i].method, done == 0);
    }
    auth_free(auth);
}

/* ---- another policy under way ---- */

/* An attempt is judged by the policy that it was begun with, which lives as long. */
static void test_policy_replaced(void)
{
    struct config config = life_config(), none = plain_config();
    unsigned done = 0, done_token = 0;

    config.auth.workers = 1;
    auth = open_auth(&config);
    plug_workers();
    struct auth_attempt *attempt = begin("alice", "secret", &done);
    struct auth_attempt *by_token = begin("x", token, &done_token);
    replace_policy(auth, &none);
    pull_plug();
    struct outcome o = {0};
    CHECK(turn_until(auth, &done, 1));
    outcome_take(&o, auth_answer_of(attempt));
    CHECK(o.status == AUTH_YES);
    CHECK(o.principal && !auth_still(atomic_load(&auth->policy), o.principal)); /* and is looked at again */
    principal_unref(o.principal);
    CHECK(turn_until(auth, &done_token, 1));
    outcome_take(&o, auth_answer_of(by_token));
    CHECK(o.status == AUTH_YES);
    principal_unref(o.principal);
    auth_end(attempt);
    auth_end(by_token);
    o = answer("alice", "secret");
    CHECK(o.status == AUTH_NO);
    auth_free(auth);
}

/* Other settings of the service: who waits for the client that goes is told no, and the new one is asked from then on.
 */
static void test_client_replaced(void)
{
    struct config config = life_config(), none = plain_config();
    unsigned done = 0;

    service_start(&service);
    service_say(&service, JSON_ANSWER("{\"result\":\"allow\"}"));
    service_hold(&service, true);
    config.http.connect_url = service.url;
    auth = open_auth(&config);
    struct auth_attempt *attempt = begin("hugo", NULL, &done);
    config.http.max_requests = 7;
    uint64_t before_ms = clock_mono_ns() / 1000000;
    replace_policy(auth, &config);
    struct outcome o = outcome_of(auth, attempt, &done);
    CHECK(clock_mono_ns() / 1000000 - before_ms < config.http.timeout_ms); /* it is not waited for */
    CHECK(o.status == AUTH_NO);
    CHECK(o.reason == MQTT_SERVER_UNAVAILABLE);
    auth_end(attempt);
    service_hold(&service, false);
    o = answer("hugo", NULL);
    CHECK(o.status == AUTH_YES);
    principal_unref(o.principal);
    struct http_client *client = auth->http;
    replace_policy(auth, &config);
    CHECK(auth->http == client); /* nothing has changed */
    replace_policy(auth, &none);
    CHECK(auth->http == NULL);
    auth_free(auth);
    service_stop(&service);
}

/* ---- several threads ---- */

enum { THREADS = 2, EXCHANGES = 24, AT_ONCE = 4 };

/* A shard: takes over the policy at the end of a turn, asks, and has its answers. */
struct asker {
    pthread_t thread;
    unsigned shard;
    _Atomic(struct auth_policy *) seen;
    unsigned yes, no, wrong;
};

static atomic_bool askers_stop;

static void asker_count(struct asker *asker, struct auth_attempt *attempt, const char *user)
{
    struct auth_answer *a = auth_answer_of(attempt);

    if (a->status == AUTH_YES) {
        asker->yes++;
        asker->wrong += !a->principal || !slice_eq(a->principal->user, slice_str(user));
    } else {
        asker->no++;
        asker->wrong += a->status != AUTH_NO || !a->why;
    }
}

static void *asker_main(void *argument)
{
    static const char *const who[AT_ONCE][3] = {
        {"alice", "secret", "alice"}, {"hugo", "x", "hugo"}, {"alice", "wrong", ""}, {"x", NULL, "tina"}};
    struct asker *asker = argument;

    while (!askers_stop) {
        struct auth_attempt *attempts[AT_ONCE];
        unsigned done[AT_ONCE] = {0};
        struct auth_policy *policy = atomic_load(&auth->policy);
        atomic_store(&asker->seen, policy);
        if (asker->shard == 0) {
            auth_tick(auth, 0, clock_mono_ns() / 1000000);
        }
        for (unsigned i = 0; i < AT_ONCE; i++) {
            struct auth_question q = question(who[i][0], i == 3 ? token : who[i][1]);
            attempts[i] = auth_begin(auth, policy, asker->shard, WALL_MS, &q, count_done, &done[i]);
        }
        auth_end(attempts[AT_ONCE - 1]); /* not waited for */
        for (unsigned i = 0; i < AT_ONCE - 1; i++) {
            while (auth_answer_of(attempts[i])->status == AUTH_PENDING) {
                worker_collect(auth->pool, asker->shard);
                sleep_ms(1);
            }
            asker_count(asker, attempts[i], who[i][2]);
            auth_end(attempts[i]);
        }
    }
    return NULL;
}

static void exchange(struct asker askers[THREADS], const struct config *config)
{
    struct auth_policy *policy;
    char error[256];

    int rc = auth_policy_new(auth, config, error, sizeof(error), &policy);
    assert(rc == 0);
    struct auth_policy *old = auth_replace(auth, policy, config);
    for (unsigned i = 0; i < THREADS; i++) {
        while (atomic_load(&askers[i].seen) != policy) {
            sleep_ms(1);
        }
    }
    auth_policy_unref(old);
}

static void test_threads(void)
{
    struct config configs[3] = {life_config(), life_config(), plain_config()};
    struct asker askers[THREADS] = {0};
    unsigned yes = 0, no = 0, wrong = 0;

    service_start(&service);
    service_say(&service, ANSWER("200 OK", "Cache-Control: max-age=1\r\n", "{\"result\":\"allow\"}"));
    configs[0].http.connect_url = configs[1].http.connect_url = service.url;
    configs[1].http.max_requests = 3;
    configs[1].jwt.jwks_url = service.url;
    auth = open_auth_of(&configs[0], THREADS);
    askers_stop = false;
    for (unsigned i = 0; i < THREADS; i++) {
        askers[i].shard = i;
        CU_ASSERT_FATAL(pthread_create(&askers[i].thread, NULL, asker_main, &askers[i]) == 0);
    }
    for (unsigned i = 0; i < EXCHANGES; i++) {
        exchange(askers, &configs[i % 3]);
        sleep_ms(5);
    }
    askers_stop = true;
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(askers[i].thread, NULL);
        yes += askers[i].yes;
        no += askers[i].no;
        wrong += askers[i].wrong;
    }
    CHECK(yes > 0);
    CHECK(no > 0);
    CHECK(wrong == 0);
    auth_free(auth);
    service_stop(&service);
}

/* Versions are never 0, and never the one before. */
static void test_versions(void)
{
    struct config config = plain_config();
    auth = open_auth(&config);
    uint32_t before = atomic_load(&auth->policy)->version;
    CHECK(before != 0);
    auth->version = UINT32_MAX;
    replace_policy(auth, &config);
    CHECK(atomic_load(&auth->policy)->version != 0);
    CHECK(atomic_load(&auth->policy)->version != UINT32_MAX);
    auth_free(auth);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"busy", test_busy},
        {"service down", test_service_down},
        {"service slow", test_service_slow},
        {"breaker", test_breaker},
        {"too many questions", test_too_many_questions},
        {"given up", test_given_up},
        {"drain while held", test_drain_while_held},
        {"exchange given up", test_exchange_given_up},
        {"policy replaced", test_policy_replaced},
        {"client replaced", test_client_replaced},
        {"threads", test_threads},
        {"versions", test_versions},
    };
    struct buf text = {0};
    char keys[256];
    EVP_PKEY *key = make_key();

    put_user(&text, "alice", PASSWD_PBKDF2_SHA512, "secret");
    put_user(&text, "sam", PASSWD_SCRAM_SHA_256, "pencil");
    write_file(passwd_path, (const char *)text.ptr, text.len);
    buf_deinit(&text);
    key_set(key, "k1", keys, sizeof(keys));
    write_file(keys_path, keys, strlen(keys));
    token = make_token(key, "k1", "{\"sub\":\"tina\",\"exp\":1900000600}");
    EVP_PKEY_free(key);
    int rc = unit_main("broker/auth/auth_life", tests, COUNT_OF(tests));
    free(token);
    unlink(passwd_path);
    unlink(keys_path);
    return rc;
}
