/* tls_threads_test.c -- connections move between threads, as a session's does when another shard takes it over, while
 * others of the same context go on where they are; also when the thread that they come from has ended. */
#include <pthread.h>

#include "tests/unit/broker/transport/tls_fixture.h"

enum { CONNECTIONS = 8, ROUNDS = 6, WORDS = 40 };

static struct ends ends[CONNECTIONS];
static bool good[CONNECTIONS];
static pthread_barrier_t turn;

/* One says n bytes that nobody else says, and the other hears them. No CHECK: CUnit knows one thread. */
static bool say(struct tls *from, struct tls *to, unsigned who, unsigned n)
{
    struct buf wire = {0}, got = {0}, answer = {0}, want = {0};
    uint8_t space[50];
    int rc;

    for (unsigned i = 0; i < n; i++) {
        buf_u8(&want, (uint8_t)(who * 31 + i));
    }
    bool ok = tls_write(from, want.ptr, want.len, &wire) == 0;
    for (uint32_t at = 0; ok && at < wire.len; at++) {
        struct slice data = slice_of(wire.ptr + at, 1);
        while ((rc = tls_feed(to, &data, space, sizeof(space), &answer)) > 0) {
            buf_put(&got, slice_of(space, (size_t)rc));
        }
        ok = rc == 0;
    }
    ok = ok && answer.len == 0 && slice_eq(buf_slice(&got), buf_slice(&want));
    buf_deinit(&wire);
    buf_deinit(&got);
    buf_deinit(&answer);
    buf_deinit(&want);
    return ok;
}

static void talk(unsigned i)
{
    for (unsigned word = 1; word <= WORDS; word++) {
        good[i] = good[i] && say(ends[i].client, ends[i].server, i, word) &&
                  say(ends[i].server, ends[i].client, i + 99, word);
        if (word % 8 == 0) {
            tls_idle(ends[i].server);
        }
    }
}

/* Two of these: in each round a connection is with one of them. */
static void *stay_and_go(void *arg)
{
    unsigned me = *(unsigned *)arg;

    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < CONNECTIONS; i++) {
            if ((i >> round % 3 & 1) == me) {
                talk(i);
            }
        }
        pthread_barrier_wait(&turn);
    }
    tls_thread_end();
    return NULL;
}

static void test_moves(void)
{
    make_certificates();
    struct tls_settings s = plain_settings();
    struct tls_context *server = server_context(&s), *client = client_context(NULL);
    pthread_t threads[2];
    unsigned numbers[2] = {0, 1};

    for (unsigned i = 0; i < CONNECTIONS; i++) {
        ends[i] = ends_new(server, client, "broker.test");
        settle(&ends[i], SIZE_MAX);
        good[i] = tls_open(ends[i].server) && tls_open(ends[i].client);
    }
    pthread_barrier_init(&turn, NULL, 2);
    for (unsigned t = 0; t < 2; t++) {
        int rc = pthread_create(&threads[t], NULL, stay_and_go, &numbers[t]);
        assert(rc == 0);
    }
    for (unsigned t = 0; t < 2; t++) {
        pthread_join(threads[t], NULL);
    }
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        CHECK(good[i]);
        if (i % 2) { /* the others are freed without having been used here */
            talk(i);
            CHECK(good[i]);
            tls_close(ends[i].client, &ends[i].to_server);
            settle(&ends[i], SIZE_MAX);
            CHECK(ends[i].server_ended == -ECONNRESET);
        }
        ends_free(&ends[i]);
    }
    pthread_barrier_destroy(&turn);
    tls_context_unref(server);
    tls_context_unref(client);
    drop_certificates();
}

/* ---- handshakes at once, with tickets whose keys are renewed meanwhile ---- */

static struct tls_context *both[2];

static void *connect_often(void *arg)
{
    bool *ok = arg;

    for (int i = 0; i < 20; i++) {
        struct tls *server = tls_new(both[0], NULL), *client = tls_new(both[1], "broker.test");
        struct buf to_server = {0}, to_client = {0};
        uint8_t space[16];
        *ok = *ok && tls_start(client, &to_server) == 0;
        for (int leg = 0; leg < 3; leg++) {
            struct slice data = buf_slice(&to_server);
            *ok = *ok && tls_feed(server, &data, space, sizeof(space), &to_client) == 0;
            to_server.len = 0;
            data = buf_slice(&to_client);
            *ok = *ok && tls_feed(client, &data, space, sizeof(space), &to_server) == 0;
            to_client.len = 0;
        }
        *ok = *ok && tls_open(server) && tls_open(client);
        tls_free(server);
        tls_free(client);
        buf_deinit(&to_server);
        buf_deinit(&to_client);
    }
    tls_thread_end();
    return NULL;
}

static void test_at_once(void)
{
    make_certificates();
    struct tls_settings s = plain_settings();
    bool ok[2] = {true, true};
    pthread_t threads[2];

    both[0] = server_context(&s);
    both[1] = client_context(NULL);
    for (unsigned t = 0; t < 2; t++) {
        int rc = pthread_create(&threads[t], NULL, connect_often, &ok[t]);
        assert(rc == 0);
    }
    for (int i = 0; i < 50; i++) {
        tls_tickets_renew(i % 2);
    }
    for (unsigned t = 0; t < 2; t++) {
        pthread_join(threads[t], NULL);
        CHECK(ok[t]);
    }
    tls_context_unref(both[0]);
    tls_context_unref(both[1]);
    drop_certificates();
}

UNIT_MAIN("broker/transport/tls_threads", {"connections move", test_moves}, {"handshakes at once", test_at_once})
