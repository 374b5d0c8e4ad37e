/* tls_test.c -- one connection: nothing is lost or doubled wherever bytes are cut, and each way to its end. */
#include <malloc.h>

#include "tests/unit/broker/transport/tls_fixture.h"

static struct tls_context *server, *server13, *client;

static void put_pattern(struct buf *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_u8(b, (uint8_t)(i * 7 + i / 251));
    }
}

/* A client that knows nothing above TLS 1.2. */
static SSL_CTX *peer_context12(void)
{
    SSL_CTX *context = peer_context();
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    return context;
}

static void test_pieces(void)
{
    for (size_t piece = 1; piece < 6000; piece += piece < 30 ? 1 : 397) {
        struct ends e = ends_new(server, client, "broker.test");
        struct buf want = {0};

        settle(&e, piece);
        CHECK(tls_open(e.server) && tls_open(e.client) && !e.server_ended && !e.client_ended);
        put_pattern(&want, 40000); /* three records */
        CHECK(tls_write(e.client, want.ptr, want.len, &e.to_server) == 0);
        CHECK(tls_write(e.client, "", 0, &e.to_server) == 0);
        CHECK(tls_write(e.client, "end", 3, &e.to_server) == 0);
        settle(&e, piece);
        buf_put(&want, SLICE("end"));
        CHECK(slice_eq(buf_slice(&e.got), buf_slice(&want)));
        buf_deinit(&want);
        ends_free(&e);
    }
}

/* The whole of the client's side cut once, at each place there is. */
static void test_every_cut(void)
{
    for (size_t cut = 1;; cut++) {
        struct ends e = ends_new(server, client, "broker.test");
        size_t seen = 0;

        for (int turn = 0; turn < 4; turn++) {
            size_t piece = cut > seen && cut < seen + e.to_server.len ? cut - seen : SIZE_MAX;
            seen += e.to_server.len;
            CHECK(feed(e.server, &e.to_server, piece, &e.to_client, &e.got) == 0);
            CHECK(feed(e.client, &e.to_client, SIZE_MAX, &e.to_server, &e.got) == 0);
            if (turn == 2) {
                CHECK(tls_write(e.client, "hello", 5, &e.to_server) == 0);
            }
        }
        CHECK(slice_eq(buf_slice(&e.got), SLICE("hello")));
        ends_free(&e);
        if (cut > seen) {
            break;
        }
    }
}

static void test_versions(void)
{
    static const struct {
        const char *name;
        int min, max; /* of the server; of the client */
        const char *want;
    } cases[] = {
        {"both know 1.3", 12, TLS1_3_VERSION, "TLSv1.3"},
        {"the client knows 1.2", 12, TLS1_2_VERSION, "TLSv1.2"},
        {"1.2 where 1.3 is wanted", 13, TLS1_2_VERSION, NULL},
        {"1.1", 12, TLS1_1_VERSION, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        SSL_CTX *context = peer_context();
        SSL_CTX_set_security_level(context, 0);
        SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
        SSL_CTX_set_max_proto_version(context, cases[i].max);
        struct peer p = peer_new(cases[i].min == 13 ? server13 : server, context);
        int n = peer_settle(&p);

        if (cases[i].want) {
            CHECK_CASE(cases[i].name, n == 0 && tls_open(p.server));
            CHECK_CASE(cases[i].name, strcmp(tls_version(p.server), cases[i].want) == 0);
            CHECK_CASE(cases[i].name, tls_cipher(p.server) && *tls_cipher(p.server));
        } else {
            CHECK_CASE(cases[i].name, n == -EPROTO && strcmp(tls_why(p.server), "unsupported protocol") == 0);
            CHECK_CASE(cases[i].name, SSL_get_state(p.ssl) != TLS_ST_OK);
        }
        peer_free(&p);
    }
}

static void test_garbage(void)
{
    static const struct {
        const char *name, *hex;
    } cases[] = {
        {"HTTP", "474554202f20485454502f312e310d0a0d0a"},
        {"MQTT", "101000044d5154540502003c0300000000"},
        {"a record of another kind", "17030300050102030405"},
        {"a record longer than any", "1603017fff0100000000"},
        {"a hello that lies about its length", "1603010009010000ff0303000000ff"},
        {"an alert", "15030100020228"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice bytes = unit_hex(cases[i].hex), data = bytes;
        struct tls *tls = tls_new(server, NULL);
        struct buf out = {0};
        uint8_t space[64];
        int n = tls_feed(tls, &data, space, sizeof(space), &out);

        if (n == 0) { /* it may wait for the rest, which no message of a handshake can be */
            for (int more = 0; more < 20 && n == 0; more++) {
                uint8_t rest[1024] = {0};
                data = slice_of(rest, sizeof(rest));
                n = tls_feed(tls, &data, space, sizeof(space), &out);
            }
        }
        CHECK_CASE(cases[i].name, n == -EPROTO && *tls_why(tls) && !tls_open(tls));
        CHECK_CASE(cases[i].name, out.len == 0 || out.ptr[0] == 21); /* nothing but alerts */
        CHECK_CASE(cases[i].name, ERR_peek_error() == 0);
        CHECK_CASE(cases[i].name, tls_feed(tls, &data, space, sizeof(space), &out) == -EPROTO);
        uint32_t len = out.len;
        tls_close(tls, &out);
        CHECK_CASE(cases[i].name, out.len == len);
        tls_free(tls);
        buf_deinit(&out);
        free((void *)bytes.ptr);
    }
}

/* A bit that has been turned over is told from what was sent, and the peer is told. */
static void test_damage(void)
{
    struct ends e = ends_new(server, client, "broker.test");

    settle(&e, SIZE_MAX);
    CHECK(tls_write(e.client, "good", 4, &e.to_server) == 0);
    size_t first = e.to_server.len;
    CHECK(tls_write(e.client, "bad", 3, &e.to_server) == 0);
    e.to_server.ptr[first + 9] ^= 1;
    CHECK(feed(e.server, &e.to_server, SIZE_MAX, &e.to_client, &e.got) == -EPROTO);
    CHECK(slice_eq(buf_slice(&e.got), SLICE("good")));
    CHECK(strcmp(tls_why(e.server), "decryption failed or bad record mac") == 0);
    CHECK(feed(e.client, &e.to_client, SIZE_MAX, &e.to_server, &e.got) == -EPROTO);
    CHECK(strstr(tls_why(e.client), "alert bad record mac") != NULL);
    CHECK(tls_write(e.server, "x", 1, &e.to_client) == -EPROTO);
    ends_free(&e);
}

/* Whoever cuts the line in the midst of a record, or of a handshake, has not closed: nothing of the record is handed
 * out, and what is asked again stays without answer. */
static void test_cut_short(void)
{
    struct ends e = ends_new(server, client, "broker.test");
    struct slice nothing = {0};
    uint8_t space[16];

    settle(&e, SIZE_MAX);
    CHECK(tls_write(e.client, "whole", 5, &e.to_server) == 0 && tls_write(e.client, "half", 4, &e.to_server) == 0);
    e.to_server.len--;
    CHECK(feed(e.server, &e.to_server, SIZE_MAX, &e.to_client, &e.got) == 0);
    CHECK(slice_eq(buf_slice(&e.got), SLICE("whole")) && e.to_client.len == 0);
    CHECK(tls_feed(e.server, &nothing, space, sizeof(space), &e.to_client) == 0);
    ends_free(&e);
}

/* A buf that cannot grow ends the connection that wanted to write into it, for good, and only that one. */
static void test_no_memory(void)
{
    struct ends e = ends_new(server, client, "broker.test");
    const struct buf as_large_as_can_be = {.len = 1u << 30, .cap = (1u << 30)}; /* nobody looks into it */
    struct buf full = as_large_as_can_be;
    struct slice data = buf_slice(&e.to_server), rest = {0};
    uint8_t space[16];

    CHECK(tls_feed(e.server, &data, space, sizeof(space), &full) == -ENOMEM && !tls_open(e.server));
    CHECK(tls_feed(e.server, &rest, space, sizeof(space), &e.to_client) == -ENOMEM && e.to_client.len == 0);
    ends_free(&e);

    struct tls *tls = tls_new(client, "broker.test");
    full = as_large_as_can_be;
    CHECK(tls_start(tls, &full) == -ENOMEM && full.failed);
    tls_free(tls);

    for (size_t n = 1; n < 100000; n *= 10) {
        e = ends_new(server, client, "broker.test");
        settle(&e, SIZE_MAX);
        full = as_large_as_can_be;
        static const uint8_t text[100000];
        CHECK(tls_write(e.client, text, n, &full) == -ENOMEM && tls_write(e.client, text, n, &e.to_server) == -ENOMEM);
        tls_close(e.client, &e.to_server);
        CHECK(e.to_server.len == 0 && ERR_peek_error() == 0);
        full = as_large_as_can_be;
        tls_close(e.server, &full);
        CHECK(full.failed && ERR_peek_error() == 0);
        ends_free(&e);
    }
}

/* What was written before memory ran out is whole, and the peer reads it. */
static void test_no_memory_later(void)
{
    struct ends e = ends_new(server, client, "broker.test");
    static uint8_t text[100000];

    settle(&e, SIZE_MAX);
    struct buf small = {.ptr = malloc(40000), .cap = 40000};
    CHECK(tls_write(e.client, text, 30000, &small) == 0 && small.len > 30000);
    small.failed = true;
    CHECK(tls_write(e.client, text, sizeof(text), &small) == -ENOMEM);
    CHECK(feed(e.server, &small, SIZE_MAX, &e.to_client, &e.got) == 0 && e.got.len == 30000);
    buf_deinit(&small);
    ends_free(&e);
}

static void test_close(void)
{
    struct ends e = ends_new(server, client, "broker.test");

    tls_close(e.client, &e.to_server); /* too early: nothing is said */
    settle(&e, SIZE_MAX);
    CHECK(tls_open(e.server));
    CHECK(tls_write(e.client, "last", 4, &e.to_server) == 0);
    tls_close(e.client, &e.to_server);
    size_t len = e.to_server.len;
    tls_close(e.client, &e.to_server);
    CHECK(e.to_server.len == len);
    ERR_raise(ERR_LIB_USER, 1); /* what another part of the thread has left does not matter */
    CHECK(feed(e.server, &e.to_server, 1, &e.to_client, &e.got) == -ECONNRESET);
    CHECK(slice_eq(buf_slice(&e.got), SLICE("last")));
    ERR_clear_error();
    tls_close(e.server, &e.to_client);
    CHECK(feed(e.client, &e.to_client, SIZE_MAX, &e.to_server, &e.got) == -ECONNRESET);
    ends_free(&e);
}

static void test_errors_of_others(void)
{
    struct ends e = ends_new(server, client, "broker.test");
    struct slice nothing = {0};
    uint8_t space[16];

    ERR_raise(ERR_LIB_USER, 1);
    settle(&e, SIZE_MAX);
    CHECK(tls_open(e.server) && tls_open(e.client));
    ERR_raise(ERR_LIB_USER, 1);
    CHECK(tls_feed(e.server, &nothing, space, sizeof(space), &e.to_client) == 0);
    ERR_clear_error();
    ends_free(&e);
}

static void test_renegotiation_refused(void)
{
    struct peer p = peer_new(server, peer_context12());

    CHECK(peer_settle(&p) == 0 && tls_open(p.server));
    CHECK(SSL_renegotiate(p.ssl) == 1);
    (void)peer_settle(&p);
    CHECK(SSL_get_state(p.ssl) != TLS_ST_OK); /* it got no answer but the alert */
    peer_free(&p);
}

static void test_key_update(void)
{
    struct peer p = peer_new(server13, peer_context());
    uint8_t space[16];

    CHECK(peer_settle(&p) == 0);
    CHECK(SSL_key_update(p.ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_write(p.ssl, "new", 3) == 3);
    char *bytes;
    long len = BIO_get_mem_data(SSL_get_wbio(p.ssl), &bytes);
    struct slice data = slice_of(bytes, (size_t)len);
    CHECK(tls_feed(p.server, &data, space, sizeof(space), &p.to_client) == 3 && memcmp(space, "new", 3) == 0);
    CHECK(tls_write(p.server, "too", 3, &p.to_client) == 0);
    BIO_write(SSL_get_rbio(p.ssl), p.to_client.ptr, (int)p.to_client.len);
    CHECK(SSL_read(p.ssl, space, sizeof(space)) == 3 && memcmp(space, "too", 3) == 0);
    peer_free(&p);
}

/* Buffers that are given back in the midst of a record take nothing with them. */
static void test_idle(void)
{
    struct ends e = ends_new(server, client, "broker.test");

    settle(&e, SIZE_MAX);
    for (size_t cut = 1; cut < 30; cut++) {
        struct buf half = {0};

        tls_idle(e.server);
        tls_idle(e.client);
        e.got.len = 0;
        CHECK(tls_write(e.client, "thirty", 6, &e.to_server) == 0);
        size_t first = cut < e.to_server.len ? cut : e.to_server.len;
        buf_put(&half, slice_of(e.to_server.ptr, first));
        buf_consume(&e.to_server, first);
        CHECK(feed(e.server, &half, SIZE_MAX, &e.to_client, &e.got) == 0);
        tls_idle(e.server);
        CHECK(feed(e.server, &e.to_server, SIZE_MAX, &e.to_client, &e.got) == 0);
        CHECK(slice_eq(buf_slice(&e.got), SLICE("thirty")));
        buf_deinit(&half);
    }
    ends_free(&e);
}

/* What an idle connection of the server costs, everything in it. */
static void test_idle_memory(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return; /* mallinfo2 sees only the allocator of the C library */
#else
    enum { COUNT = 1000, BYTES_MAX = 14 * 1024 };
    static struct tls *idle[COUNT];

    for (int version = 12; version <= 13; version++) {
        size_t before = 0;
        for (int i = -10; i < COUNT; i++) { /* the first ones fill what is kept for all */
            before = i == 0 ? mallinfo2().uordblks : before;
            struct peer p = peer_new(server, version == 12 ? peer_context12() : peer_context());
            SSL_set_tlsext_host_name(p.ssl, "broker.test");
            CHECK(peer_settle(&p) == 0 && tls_open(p.server));
            tls_idle(p.server);
            if (i >= 0) {
                idle[i] = p.server;
                p.server = NULL;
            }
            peer_free(&p);
        }
        size_t each = (mallinfo2().uordblks - before) / COUNT;
        printf("%zu bytes with TLS 1.%d... ", each, version - 10);
        CHECK(each <= BYTES_MAX);
        for (int i = 0; i < COUNT; i++) {
            tls_free(idle[i]);
        }
    }
#endif
}

static void test_host_names(void)
{
    static const struct {
        const char *host;
        bool good;
    } cases[] = {{"broker.test", true},
                 {"127.0.0.1", true},
                 {"127.0.0.2", false},
                 {"other.test", false},
                 {"x.broker.test", false}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ends e = ends_new(server, client, cases[i].host);
        settle(&e, SIZE_MAX);
        CHECK_CASE(cases[i].host, tls_open(e.client) == cases[i].good);
        CHECK_CASE(cases[i].host, cases[i].good || e.client_ended == -EPROTO);
        CHECK_CASE(cases[i].host, cases[i].good || strstr(tls_why(e.client), "mismatch") != NULL);
        CHECK_CASE(cases[i].host, cases[i].good || strstr(tls_why(e.server), "alert") != NULL);
        ends_free(&e);
    }
}

static void run_with(void (*test)(void))
{
    make_certificates();
    struct tls_settings settings = plain_settings();
    server = server_context(&settings);
    settings.min_version = 13;
    server13 = server_context(&settings);
    client = client_context(NULL);
    test();
    tls_context_unref(server);
    tls_context_unref(server13);
    tls_context_unref(client);
    drop_certificates();
}

#define WITH(test) \
    static void with_##test(void) \
    { \
        run_with(test); \
    }
WITH(test_pieces)
WITH(test_every_cut)
WITH(test_versions)
WITH(test_garbage)
WITH(test_damage)
WITH(test_cut_short)
WITH(test_no_memory)
WITH(test_no_memory_later)
WITH(test_close)
WITH(test_errors_of_others)
WITH(test_renegotiation_refused)
WITH(test_key_update)
WITH(test_idle)
WITH(test_idle_memory)
WITH(test_host_names)

UNIT_MAIN("broker/transport/tls", {"any pieces", with_test_pieces}, {"a cut at every byte", with_test_every_cut},
          {"versions", with_test_versions}, {"garbage", with_test_garbage}, {"damage", with_test_damage},
          {"records cut short", with_test_cut_short}, {"no memory", with_test_no_memory},
          {"no memory later", with_test_no_memory_later}, {"close_notify", with_test_close},
          {"errors that others left", with_test_errors_of_others},
          {"no renegotiation", with_test_renegotiation_refused}, {"key update", with_test_key_update},
          {"buffers given back", with_test_idle}, {"14 KiB when idle", with_test_idle_memory},
          {"whose certificate it must be", with_test_host_names})
