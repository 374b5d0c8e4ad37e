/* http_test.c -- questions to a service that answers, is slow, breaks off; how many there may be; the end of the
 * client. */
#include <errno.h>

#include "tests/unit/broker/auth/http_fixture.h"

/* ---- one question ---- */

static void test_post(void)
{
    struct question q;

    open_with((struct http_settings){0});
    CHECK(ask_at(&q, server.url, "/say?x=1", "{\"user\":\"a\"}") == 0);
    CHECK(await(&q));
    CHECK(q.request.error == 0 && q.request.status == 200 && slice_eq(buf_slice(&q.request.answer), SLICE("{}")));
    CHECK(!q.request.cache_control && q.request.max_age_s == 0);
    CHECK(server_saw(&server, "POST /say?x=1 HTTP/1.1\r\n", "\r\nContent-Type: application/json\r\n"));
    CHECK(server_saw(&server, "POST", "\r\nContent-Length: 12\r\n"));
    CHECK(server_saw(&server, "POST", "\r\n\r\n{\"user\":\"a\"}"));
    http_request_deinit(&q.request);
    close_all();
}

static void test_get(void)
{
    struct question q;

    open_with((struct http_settings){0});
    CHECK(ask_at(&q, server.url, "/none", "") == 0);
    CHECK(await(&q));
    CHECK(q.request.error == 0 && q.request.status == 404 && slice_eq(buf_slice(&q.request.answer), SLICE("none")));
    CHECK(server_saw(&server, "GET /none HTTP/1.1\r\n", ""));
    CHECK(!server_saw(&server, "GET", "Content-"));
    http_request_deinit(&q.request);
    close_all();
}

static const struct {
    const char *name, *header;
    bool given;
    uint32_t max_age_s;
} ages[] = {
    {"none", "", false, 0},
    {"other headers", "X-Cache-Control: max-age=5\r\nAge: 5\r\n", false, 0},
    {"max-age", "Cache-Control: max-age=60\r\n", true, 60},
    {"in small letters", "cache-control:max-age=60\r\n", true, 60},
    {"in large letters", "CACHE-CONTROL: MAX-AGE=60\r\n", true, 60},
    {"among others", "Cache-Control: private , max-age=60,must-revalidate\r\n", true, 60},
    {"quoted", "Cache-Control: max-age=\"60\"\r\n", true, 60},
    {"zero", "Cache-Control: max-age=0\r\n", true, 0},
    {"not said", "Cache-Control: private\r\n", true, 0},
    {"empty", "Cache-Control:\r\n", true, 0},
    {"no-store", "Cache-Control: no-store\r\n", true, 0},
    {"no-store wins", "Cache-Control: no-store, max-age=60\r\n", true, 0},
    {"no-store wins behind it", "Cache-Control: max-age=60, no-store\r\n", true, 0},
    {"no-cache wins", "Cache-Control: max-age=60, no-cache\r\n", true, 0},
    {"no-cache of a field", "Cache-Control: max-age=60, no-cache=\"set-cookie\"\r\n", true, 0},
    {"what only begins so", "Cache-Control: max-age=60, no-storex\r\n", true, 60},
    {"in two lines", "Cache-Control: max-age=60\r\nCache-Control: no-store\r\n", true, 0},
    {"twice: the shorter", "Cache-Control: max-age=60, max-age=30\r\n", true, 30},
    {"twice: the shorter, first", "Cache-Control: max-age=30, max-age=60\r\n", true, 30},
    {"s-maxage is for others", "Cache-Control: s-maxage=60\r\n", true, 0},
    {"negative", "Cache-Control: max-age=-1\r\n", true, 0},
    {"no number", "Cache-Control: max-age=60x\r\n", true, 0},
    {"no digits", "Cache-Control: max-age=\r\n", true, 0},
    {"very long", "Cache-Control: max-age=4294967295\r\n", true, UINT32_MAX - 1},
    {"beyond 64 bits", "Cache-Control: max-age=99999999999999999999999\r\n", true, UINT32_MAX - 1},
};

static void test_cache_control(void)
{
    char text[256];

    open_with((struct http_settings){0});
    for (size_t i = 0; i < COUNT_OF(ages); i++) {
        struct question q;
        snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n%sContent-Length: 2\r\n\r\n{}", ages[i].header);
        server_say(&server, text);
        CHECK(ask(&q, "/say") == 0);
        CHECK_CASE(ages[i].name, await(&q) && q.request.status == 200);
        CHECK_CASE(ages[i].name, q.request.cache_control == ages[i].given);
        CHECK_CASE(ages[i].name, q.request.max_age_s == ages[i].max_age_s);
        http_request_deinit(&q.request);
    }
    struct question q; /* an interim answer does not speak for the final one */
    server_say(&server, "HTTP/1.1 103 Early\r\nCache-Control: max-age=9\r\n\r\n" OK_ANSWER);
    CHECK(ask(&q, "/say") == 0);
    CHECK(await(&q) && q.request.status == 200 && !q.request.cache_control && q.request.max_age_s == 0);
    http_request_deinit(&q.request);
    close_all();
}

/* ---- what goes wrong ---- */

static const struct {
    const char *name, *path, *body;
    long want;
} ends[] = {
    {"closed at once", "/close", "{}", -EIO}, {"closed in the midst", "/cut", "{}", -EIO},
    {"64 KiB", "/large/65536", "{}", 200},    {"one byte more", "/large/65537", "{}", -EMSGSIZE},
    {"1 MiB", "/large/1048576", "", 200},     {"one byte more for a GET", "/large/1048577", "", -EMSGSIZE},
    {"no such path", "/x", "{}", 404},
};

static void test_ends(void)
{
    open_with((struct http_settings){0});
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        struct question q;
        CHECK(ask_at(&q, server.url, ends[i].path, ends[i].body) == 0);
        CHECK_CASE(ends[i].name, await(&q));
        CHECK_CASE(ends[i].name, (q.request.error ? q.request.error : q.request.status) == ends[i].want);
        http_request_deinit(&q.request);
    }
    close_all();
}

static void test_nonsense(void)
{
    static const char bad_chunk[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    static const char *const answers[] = {"hello\r\n\r\n", "HTTP/1.1\r\n\r\n", bad_chunk};

    open_with((struct http_settings){0});
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        server_say(&server, answers[i]);
        CHECK_CASE(answers[i], outcome("/say") < 0);
    }
    close_all();
}

/* A redirect is an answer like any other: nothing is asked elsewhere. */
static void test_redirect(void)
{
    open_with((struct http_settings){0});
    server_say(&server, "HTTP/1.1 302 Found\r\nLocation: /none\r\nContent-Length: 0\r\n\r\n");
    CHECK(outcome("/say") == 302);
    CHECK(server_count(&server, &server.asked) == 1);
    close_all();
}

static void test_schemes(void)
{
    static const char *const urls[] = {
        "file:///etc/passwd",     "ftp://127.0.0.1/x", "127.0.0.1/x", "", "http:", "https:/x", "http://",
        "http://127.0.0.1:99999/"};

    open_with((struct http_settings){0});
    for (size_t i = 0; i < COUNT_OF(urls); i++) {
        struct question q;
        CHECK(ask_at(&q, urls[i], "", "{}") == 0);
        CHECK_CASE(urls[i], await(&q) && q.request.error == -EIO && q.request.answer.len == 0);
        http_request_deinit(&q.request);
    }
    close_all();
}

static void test_refused(void)
{
    char url[64];
    struct question q;
    int fd = server_listen("http", url);

    close(fd);
    open_with((struct http_settings){0});
    CHECK(ask_at(&q, url, "/say", "{}") == 0);
    CHECK(await(&q) && q.request.error == -ECONNREFUSED);
    CHECK(counts().sent == 1 && counts().failed == 1 && counts().underway == 0);
    http_request_deinit(&q.request);
    close_all();
}

static void test_slow(void)
{
    open_with((struct http_settings){.timeout_ms = 100});
    CHECK(outcome("/hold") == -ETIMEDOUT);
    CHECK(counts().failed == 1 && counts().underway == 0);
    close_all();
}

/* Waiting counts: who waited as long as an answer may take is not asked about any more. */
static void test_waited_too_long(void)
{
    struct question first, second;

    open_with((struct http_settings){.requests_max = 1});
    CHECK(ask(&first, "/hold") == 0);
    await_count(&server.held, 1);
    CHECK(ask(&second, "/say") == 0);
    pass_ms(TIMEOUT_MS);
    server_release(&server);
    CHECK(await(&first) && first.request.error == 0);
    CHECK(await(&second) && second.request.error == -ETIMEDOUT);
    CHECK(server_count(&server, &server.asked) == 1);
    http_request_deinit(&first.request);
    http_request_deinit(&second.request);
    close_all();
}

/* ---- many ---- */

static void test_kept_alive(void)
{
    open_with((struct http_settings){0});
    for (unsigned i = 0; i < 20; i++) {
        CHECK(outcome("/say") == 200);
    }
    CHECK(server_count(&server, &server.accepted) == 1);
    CHECK(server_count(&server, &server.asked) == 20);
    close_all();
}

/* Two under way, eight wait, the next is refused; the service never sees more than two. */
static void test_bound(void)
{
    struct question q[10], one_more;

    open_with((struct http_settings){.requests_max = 2});
    for (unsigned i = 0; i < 2; i++) {
        CHECK(ask(&q[i], "/hold") == 0);
    }
    await_count(&server.held, 2);
    for (unsigned i = 2; i < 10; i++) {
        CHECK(ask(&q[i], "/hold") == 0);
    }
    CHECK(ask(&one_more, "/hold") == -EBUSY);
    CHECK(counts().underway == 2 && counts().sent == 10 && counts().refused == 1 && !counts().open);
    for (unsigned n = 2; n <= 10; n += 2) {
        await_count(&server.asked, n);
        await_count(&server.held, 2);
        server_release(&server);
        CHECK(await(&q[n - 2]) && await(&q[n - 1])); /* in their order */
    }
    CHECK(server_count(&server, &server.held_max) == 2);
    CHECK(counts().underway == 0 && counts().failed == 0);
    CHECK(outcome("/say") == 200);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(q[i].request.error == 0 && q[i].request.status == 200);
        http_request_deinit(&q[i].request);
    }
    close_all();
}

static void test_free_under_way(void)
{
    struct question q[6];

    open_with((struct http_settings){.requests_max = 2});
    for (unsigned i = 0; i < 6; i++) {
        CHECK(ask(&q[i], "/hold") == 0);
    }
    await_count(&server.held, 2);
    http_client_free(client);
    client = NULL;
    for (unsigned i = 0; i < 6; i++) {
        CHECK(await(&q[i]) && q[i].request.error == -ECANCELED);
        http_request_deinit(&q[i].request);
    }
    close_all();
}

static void test_free_at_once(void)
{
    for (unsigned i = 0; i < 20; i++) {
        struct question q;
        open_with((struct http_settings){0});
        CHECK(ask(&q, "/say") == 0);
        http_client_free(client);
        client = NULL;
        CHECK(await(&q) && (q.request.error == -ECANCELED || q.request.status == 200));
        http_request_deinit(&q.request);
        close_all();
    }
}

/* A shard asks, collects, asks again. */
static void *shard_main(void *argument)
{
    unsigned shard = *(unsigned *)argument;

    for (unsigned round = 0; round < 30; round++) {
        struct question q[4];
        for (unsigned i = 0; i < COUNT_OF(q); i++) {
            q[i] = (struct question){.request = {.work = {.shard = shard, .done = question_done}, .body = SLICE("{}")}};
            snprintf(q[i].url, sizeof(q[i].url), "%s/say", server.url);
            q[i].request.url = q[i].url;
            while (http_send(client, &q[i].request) == -EBUSY) {
                sleep_ms(1);
            }
        }
        for (unsigned i = 0; i < COUNT_OF(q); i++) {
            server_must(await(&q[i]) && q[i].request.status == 200); /* CUnit counts for one thread only */
            http_request_deinit(&q[i].request);
        }
    }
    return NULL;
}

static void test_shards(void)
{
    pthread_t threads[SHARDS];
    unsigned shards[SHARDS];

    open_with((struct http_settings){.requests_max = 2});
    for (unsigned i = 0; i < SHARDS; i++) {
        shards[i] = i;
        CU_ASSERT_FATAL(pthread_create(&threads[i], NULL, shard_main, &shards[i]) == 0);
    }
    for (unsigned i = 0; i < 50; i++) {
        CHECK(counts().underway <= 2);
        sleep_ms(1);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(counts().sent == SHARDS * 30 * 4 && counts().failed == 0 && counts().underway == 0);
    close_all();
}

/* ---- a GET that blocks ---- */

static void test_fetch(void)
{
    static const struct {
        const char *path;
        int want;
        const char *error; /* behind the URL */
    } cases[] = {
        {"/say", 0, ""},
        {"/none", -EIO, ": HTTP status 404"},
        {"/large/1048576", 0, ""},
        {"/large/1048577", -EMSGSIZE, ": the answer is above 1024 KiB"},
        {"/close", -EIO, ": Empty reply from server"},
    };
    struct http_settings settings = {.timeout_ms = TIMEOUT_MS, .ca_file = ""};
    struct buf answer = {0};
    char error[256], url[128], want[256];
    uint32_t max_age_s = 5;

    server_start(&server);
    server_say(&server, "HTTP/1.1 200 OK\r\nCache-Control: max-age=7\r\nContent-Length: 4\r\n\r\nkeys");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        snprintf(url, sizeof(url), "%s%s", server.url, cases[i].path);
        snprintf(want, sizeof(want), "%s%s", url, cases[i].error);
        int rc = http_fetch(url, &settings, &answer, &max_age_s, error, sizeof(error));
        CHECK_CASE(cases[i].path, rc == cases[i].want);
        CHECK_CASE(cases[i].path, rc == 0 || strcmp(error, want) == 0);
        CHECK_CASE(cases[i].path, i > 0 || (max_age_s == 7 && slice_eq(buf_slice(&answer), SLICE("keys"))));
        CHECK_CASE(cases[i].path, i != 1 || answer.len == 4); /* untouched */
    }
    CHECK(http_fetch("file:///etc/passwd", &settings, &answer, &max_age_s, error, sizeof(error)) == -EIO);
    CHECK(strcmp(error, "file:///etc/passwd: neither http:// nor https://") == 0);
    settings.timeout_ms = 100;
    snprintf(url, sizeof(url), "%s/hold", server.url);
    CHECK(http_fetch(url, &settings, &answer, &max_age_s, error, sizeof(error)) == -ETIMEDOUT);
    server_stop(&server);
    CHECK(http_fetch(url, &settings, &answer, &max_age_s, error, sizeof(error)) == -ECONNREFUSED);
    CHECK(strncmp(error, url, strlen(url)) == 0);
    buf_deinit(&answer);
}

UNIT_MAIN("broker/auth/http", {"prepare", http_prepare}, {"post", test_post}, {"get", test_get},
          {"cache control", test_cache_control}, {"ends", test_ends}, {"nonsense", test_nonsense},
          {"redirect", test_redirect}, {"schemes", test_schemes}, {"refused", test_refused}, {"slow", test_slow},
          {"waited too long", test_waited_too_long}, {"kept alive", test_kept_alive}, {"bound", test_bound},
          {"free under way", test_free_under_way}, {"free at once", test_free_at_once}, {"shards", test_shards},
          {"fetch", test_fetch}, {"finish", http_finish})
