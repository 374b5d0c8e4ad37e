/* fuzz_tls.c -- two ends of TLS joined, cut and stirred as the input says: what one has written comes out of the other,
 * in order, each byte once, and nothing else. And bytes of any kind into a fresh server: none of them is plain text.
 *
 * The first byte picks which. Operations are two bytes: what, and how much. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/transport/tls.h"
#include "tests/lib/certificates.c" /* the rule for fuzz targets links no more of tests/lib than the simulator */

#define OPS_MAX 200u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tls_context *server_context, *client_context;

static void make_contexts(void)
{
    struct certificate ca = certificate_make(NULL, &(struct certificate_terms){.cn = SLICE("CA")});
    struct certificate server =
        certificate_make(&ca, &(struct certificate_terms){.cn = SLICE("s"), .san = "DNS:s", .usage = "serverAuth"});
    char error[1024];

    certificates_begin();
    certificate_write(&ca, "ca");
    certificate_write(&server, "server");
    struct tls_settings settings = {.certificates = certificates_path("server.pem"),
                                    .keys = certificates_path("server.key"),
                                    .client_ca = certificates_path("ca.pem"),
                                    .client_certificate = TLS_CLIENT_OPTIONAL,
                                    .alpn = "mqtt",
                                    .min_version = 12,
                                    .tickets = true};
    int rc = tls_server_context_new(&settings, error, sizeof(error), &server_context);
    assert(rc == 0);
    rc = tls_client_context_new(certificates_path("ca.pem"), NULL, NULL, false, error, sizeof(error), &client_context);
    assert(rc == 0);
    certificates_end();
    certificate_free(&ca);
    certificate_free(&server);
}

/* One end: what it has said to the other, and how much of that has been heard. */
struct end {
    struct tls *tls;
    struct buf wire; /* to the other */
    uint64_t said, heard;
    uint8_t seed; /* the two ends do not say the same */
    bool closed, over;
};

static uint8_t byte_of(const struct end *end, uint64_t at)
{
    return (uint8_t)(at * 31 + at / 257 + end->seed);
}

static void say(struct end *end, size_t n)
{
    static uint8_t text[70000];

    if (!tls_open(end->tls) || end->closed || end->over) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        text[i] = byte_of(end, end->said + i);
    }
    assert(tls_write(end->tls, text, n, &end->wire) == 0);
    end->said += n;
}

/* Carry up to n bytes of the wire, handing plain text out space_size bytes a call. */
static void carry(struct end *from, struct end *to, size_t n, size_t space_size)
{
    uint8_t space[300];
    int got;

    n = n < from->wire.len ? n : from->wire.len;
    if (to->over) {
        n = from->wire.len;
    }
    if (n == 0) {
        return;
    }
    uint8_t *copy = malloc(n);
    memcpy(copy, from->wire.ptr, n);
    buf_consume(&from->wire, n);
    struct slice data = slice_of(copy, n);
    while (!to->over && (got = tls_feed(to->tls, &data, space, space_size, &to->wire)) != 0) {
        for (int i = 0; i < got; i++) {
            assert(from->heard < from->said && space[i] == byte_of(from, from->heard));
            from->heard++;
        }
        if (got < 0) {
            assert(got == -ECONNRESET && from->closed && from->heard == from->said);
            to->over = true;
        }
    }
    assert(to->over || data.len == 0);
    free(copy);
}

static void step(struct end *a, struct end *b, uint8_t what, uint8_t much)
{
    struct end *end = what & 1 ? a : b, *other = what & 1 ? b : a;

    switch (what >> 1 & 7) {
    case 0:
        say(end, much);
        break;
    case 1:
        say(end, much * 270u);
        break;
    case 2:
        carry(end, other, much, 1 + (what >> 4) * 3u);
        break;
    case 3:
        carry(end, other, much * 64u, 300);
        break;
    case 4:
        carry(end, other, SIZE_MAX, 1 + much);
        break;
    case 5:
        tls_idle(end->tls);
        break;
    case 6:
        if (much == 0 && tls_open(end->tls)) {
            tls_close(end->tls, &end->wire);
            end->closed = true;
        }
        break;
    default:
        carry(end, other, 1, 1);
        break;
    }
}

static void joined(const uint8_t *data, size_t size)
{
    struct end a = {.tls = tls_new(client_context, "s"), .seed = 1}, b = {.tls = tls_new(server_context, NULL)};

    assert(a.tls && b.tls && tls_start(a.tls, &a.wire) == 0);
    for (size_t i = 0; i + 2 <= size && i / 2 < OPS_MAX; i += 2) {
        step(&a, &b, data[i], data[i + 1]);
    }
    while (a.wire.len > 0 || b.wire.len > 0) {
        carry(&a, &b, SIZE_MAX, 300);
        carry(&b, &a, SIZE_MAX, 300);
    }
    assert(a.closed || b.closed || (tls_open(a.tls) && tls_open(b.tls)));
    assert((a.heard == a.said || b.over) && (b.heard == b.said || a.over));
    tls_free(a.tls);
    tls_free(b.tls);
    buf_deinit(&a.wire);
    buf_deinit(&b.wire);
}

/* The second byte says how much is fed at a time. */
static void raw(const uint8_t *bytes, size_t size)
{
    struct tls *tls = tls_new(server_context, NULL);
    struct buf out = {0};
    uint8_t space[64];
    size_t piece = size > 0 ? bytes[0] + 1u : 1;
    int n = 0;

    for (size_t at = 1; at < size && n >= 0; at += piece) {
        struct slice data = slice_of(bytes + at, size - at < piece ? size - at : piece);
        n = tls_feed(tls, &data, space, sizeof(space), &out);
        assert(n <= 0 && (n < 0 || data.len == 0) && !tls_open(tls));
        tls_idle(tls);
    }
    assert(n == 0 || *tls_why(tls));
    tls_close(tls, &out);
    tls_free(tls);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!server_context) {
        make_contexts();
    }
    if (size > 0 && data[0] % 2) {
        raw(data + 1, size - 1);
    } else if (size > 0) {
        joined(data + 1, size - 1);
    }
    return 0;
}
