/* http_breaker_test.c -- a service that fails for a while is left alone for a while, and then tried with one question.
 */
#include <errno.h>

#include "tests/unit/broker/auth/http_fixture.h"

#define PAUSE_MS 3600000
static const struct http_settings with_breaker = {
    .requests_max = 1, .breaker_failures = 3, .breaker_pause_ms = PAUSE_MS};

static void break_it(void)
{
    server_say(&server, BAD_ANSWER);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(!counts().open);
        CHECK(outcome("/say") == 503);
    }
    CHECK(counts().open);
}

static void test_breaker(void)
{
    struct question probe;

    open_with(with_breaker);
    break_it();
    server_say(&server, OK_ANSWER);
    CHECK(outcome("/say") == -EHOSTDOWN);
    pass_ms(PAUSE_MS - TIMEOUT_MS); /* whatever the test took meanwhile */
    CHECK(outcome("/say") == -EHOSTDOWN);
    CHECK(server_count(&server, &server.asked) == 3);
    CHECK(counts().sent == 3 && counts().failed == 3 && counts().refused == 2 && counts().open);

    pass_ms(TIMEOUT_MS); /* one question is tried, and only one */
    CHECK(ask(&probe, "/hold") == 0);
    await_count(&server.held, 1);
    CHECK(outcome("/say") == -EHOSTDOWN);
    server_say(&server, BAD_ANSWER);
    server_release(&server);
    CHECK(await(&probe) && probe.request.status == 503);
    http_request_deinit(&probe.request);
    CHECK(counts().open && outcome("/say") == -EHOSTDOWN);

    pass_ms(PAUSE_MS); /* the next try goes well */
    server_say(&server, OK_ANSWER);
    CHECK(outcome("/say") == 200);
    CHECK(!counts().open);
    CHECK(outcome("/say") == 200);
    break_it(); /* it takes all of them again */
    close_all();
}

/* Only failures in a row count, and only those of the service. */
static void test_breaker_counts(void)
{
    open_with(with_breaker);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(outcome("/close") == -EIO);
        CHECK(outcome("/close") == -EIO);
        CHECK(outcome("/none") == 404);
    }
    CHECK(!counts().open);
    CHECK(outcome("/close") == -EIO);
    CHECK(outcome("/large/65537") == -EMSGSIZE);
    CHECK(outcome("/cut") == -EIO);
    CHECK(counts().open);
    close_all();
}

static void test_breaker_none(void)
{
    open_with((struct http_settings){0});
    server_say(&server, BAD_ANSWER);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(outcome("/say") == 503);
    }
    CHECK(!counts().open && counts().failed == 10);
    close_all();
}

/* Those that wait when it opens are told at once. */
static void test_breaker_waiting(void)
{
    struct question under_way, waiting[4];

    open_with((struct http_settings){.requests_max = 1, .breaker_failures = 1, .breaker_pause_ms = PAUSE_MS});
    CHECK(ask(&under_way, "/hold") == 0);
    await_count(&server.held, 1);
    for (unsigned i = 0; i < COUNT_OF(waiting); i++) {
        CHECK(ask(&waiting[i], "/say") == 0);
    }
    server_say(&server, BAD_ANSWER);
    server_release(&server);
    CHECK(await(&under_way) && under_way.request.status == 503);
    for (unsigned i = 0; i < COUNT_OF(waiting); i++) {
        CHECK(await(&waiting[i]) && waiting[i].request.error == -EHOSTDOWN);
        http_request_deinit(&waiting[i].request);
    }
    CHECK(server_count(&server, &server.asked) == 1);
    http_request_deinit(&under_way.request);
    close_all();
}

/* A try that fails keeps it open; an answer to an older question is as good as one to a try. */
static void test_breaker_older_answer(void)
{
    struct question held, failing, probe;

    open_with((struct http_settings){.requests_max = 2, .breaker_failures = 1, .breaker_pause_ms = 1000});
    CHECK(ask(&held, "/hold") == 0);
    await_count(&server.held, 1);
    CHECK(ask(&failing, "/close") == 0);
    CHECK(await(&failing) && failing.request.error == -EIO);
    CHECK(outcome("/say") == -EHOSTDOWN);
    pass_ms(1000);
    CHECK(ask(&probe, "/close") == 0);
    CHECK(await(&probe) && probe.request.error == -EIO && counts().open);
    CHECK(outcome("/say") == -EHOSTDOWN);
    server_release(&server);
    CHECK(await(&held) && held.request.status == 200);
    CHECK(!counts().open && outcome("/say") == 200);
    http_request_deinit(&held.request);
    http_request_deinit(&failing.request);
    http_request_deinit(&probe.request);
    close_all();
}

UNIT_MAIN("broker/auth/http, the breaker", {"prepare", http_prepare}, {"breaker", test_breaker},
          {"counts", test_breaker_counts}, {"none", test_breaker_none}, {"waiting", test_breaker_waiting},
          {"an older answer", test_breaker_older_answer}, {"finish", http_finish})
