/* tls_fixture.h -- what the tests of TLS share: a set of certificates, our server against our client, and our server
 * against a bare OpenSSL client, which can ask for what ours never does. */
#ifndef TERN_TESTS_UNIT_TLS_FIXTURE_H
#define TERN_TESTS_UNIT_TLS_FIXTURE_H

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/transport/tls.h"
#include "tests/lib/certificates.h"
#include "tests/lib/unit.h"

static struct {
    struct certificate ca, other_ca, server, device;
} made;

/* ca, other_ca; server (ECDSA), rsa, old (has ended); device, stranger (signed by other_ca), revoked, expired;
 * crl.pem. */
static void make_certificates(void)
{
    certificates_begin();
    made.ca = certificate_make(NULL, &(struct certificate_terms){.cn = SLICE("Test CA")});
    made.other_ca = certificate_make(NULL, &(struct certificate_terms){.cn = SLICE("Other CA")});
    made.server = certificate_make(
        &made.ca, &(struct certificate_terms){
                      .cn = SLICE("broker"), .san = "DNS:broker.test,IP:127.0.0.1", .usage = "serverAuth", .days = 20});
    made.device = certificate_make(&made.ca, &(struct certificate_terms){.cn = SLICE("device"),
                                                                         .san = "DNS:d.test,email:d@x.test,URI:urn:d",
                                                                         .usage = "clientAuth",
                                                                         .days = 10});
    certificate_write(&made.ca, "ca");
    certificate_write(&made.other_ca, "other_ca");
    certificate_write(&made.server, "server");
    certificate_write(&made.device, "device");

    static const struct {
        const char *file;
        struct certificate_terms terms;
        bool foreign;
    } more[] = {
        {"rsa", {.cn = SLICE("rsa"), .san = "DNS:*.rsa.test", .usage = "serverAuth", .rsa = true}, false},
        {"cn_only", {.cn = SLICE("plain.test"), .usage = "serverAuth"}, false},
        {"old", {.cn = SLICE("broker"), .san = "DNS:broker.test", .usage = "serverAuth", .days = -1}, false},
        {"stranger", {.cn = SLICE("stranger"), .usage = "clientAuth"}, true},
        {"expired", {.cn = SLICE("expired"), .usage = "clientAuth", .days = -1}, false},
        {"nul", {.cn = SLICE("admin\0.x"), .san_email = SLICE("a@x\0b"), .usage = "clientAuth"}, false},
    };
    for (size_t i = 0; i < COUNT_OF(more); i++) {
        struct certificate c = certificate_make(more[i].foreign ? &made.other_ca : &made.ca, &more[i].terms);
        certificate_write(&c, more[i].file);
        certificate_free(&c);
    }
    struct certificate revoked =
        certificate_make(&made.ca, &(struct certificate_terms){.cn = SLICE("revoked"), .usage = "clientAuth"});
    certificate_write(&revoked, "revoked");
    certificate_write_crl(&made.ca, &revoked, "crl.pem");
    certificate_free(&revoked);
}

static void drop_certificates(void)
{
    certificate_free(&made.ca);
    certificate_free(&made.other_ca);
    certificate_free(&made.server);
    certificate_free(&made.device);
    certificates_end();
    tls_thread_end();
}

/* What the tests change only in part. */
static struct tls_settings plain_settings(void)
{
    return (struct tls_settings){.certificates = certificates_path("server.pem"),
                                 .keys = certificates_path("server.key"),
                                 .min_version = 12,
                                 .tickets = true};
}

static struct tls_context *server_context(const struct tls_settings *settings)
{
    char error[1024] = "";
    struct tls_context *context = NULL;
    int rc = tls_server_context_new(settings, error, sizeof(error), &context);

    if (rc) {
        fprintf(stderr, "%s\n", error);
    }
    assert(rc == 0);
    return context;
}

static struct tls_context *client_context(const char *name)
{
    char error[1024] = "", certificate[64], key[64];
    struct tls_context *context = NULL;

    snprintf(certificate, sizeof(certificate), "%s.pem", name ? name : "");
    snprintf(key, sizeof(key), "%s.key", name ? name : "");
    int rc = tls_client_context_new(certificates_path("ca.pem"), name ? certificates_path(certificate) : NULL,
                                    name ? certificates_path(key) : NULL, false, error, sizeof(error), &context);
    assert(rc == 0);
    return context;
}

/* ---- our server and our client ---- */

struct ends {
    struct tls *server, *client;
    struct buf to_server, to_client;
    struct buf got;                 /* plain text that the server has handed out */
    int server_ended, client_ended; /* what tls_feed said */
};

static struct ends ends_new(struct tls_context *server, struct tls_context *client, const char *host)
{
    struct ends e = {.server = tls_new(server, NULL), .client = tls_new(client, host)};

    assert(e.server && e.client);
    int rc = tls_start(e.client, &e.to_server);
    assert(rc == 0);
    return e;
}

static void ends_free(struct ends *e)
{
    tls_free(e->server);
    tls_free(e->client);
    buf_deinit(&e->to_server);
    buf_deinit(&e->to_client);
    buf_deinit(&e->got);
}

/* Feed all of it, `piece` bytes at a time, into a small space; plain text goes to got. */
static int feed(struct tls *tls, struct buf *from, size_t piece, struct buf *answer, struct buf *got)
{
    uint8_t space[100];
    int n = 0;

    for (size_t at = 0; at < from->len && n >= 0;) {
        size_t len = from->len - at < piece ? from->len - at : piece;
        uint8_t *copy = malloc(len); /* so that ASan sees a byte over, and what is kept was copied */
        memcpy(copy, from->ptr + at, len);
        struct slice data = slice_of(copy, len);
        while ((n = tls_feed(tls, &data, space, sizeof(space), answer)) > 0) {
            buf_put(got, slice_of(space, (size_t)n));
        }
        CHECK(n < 0 || data.len == 0);
        free(copy);
        at += len;
    }
    from->len = 0;
    return n;
}

/* Carry bytes to and fro until nothing moves. */
static void settle(struct ends *e, size_t piece)
{
    struct buf ignored = {0};

    while (e->to_server.len > 0 || e->to_client.len > 0) {
        int n = feed(e->server, &e->to_server, piece, &e->to_client, &e->got);
        e->server_ended = n < 0 ? n : e->server_ended;
        n = feed(e->client, &e->to_client, piece, &e->to_server, &ignored);
        e->client_ended = n < 0 ? n : e->client_ended;
    }
    buf_deinit(&ignored);
}

/* ---- our server and OpenSSL's client ---- */

struct peer {
    SSL_CTX *context;
    SSL *ssl;
    struct tls *server;
    struct buf to_client;
};

static inline SSL_CTX *peer_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    assert(context);
    return context;
}

/* Takes context. */
static inline struct peer peer_new(struct tls_context *server, SSL_CTX *context)
{
    struct peer p = {.context = context, .ssl = SSL_new(context), .server = tls_new(server, NULL)};

    SSL_set_bio(p.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(p.ssl);
    return p;
}

static inline void peer_free(struct peer *p)
{
    SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN); /* else OpenSSL takes its session for broken */
    SSL_free(p->ssl);
    SSL_CTX_free(p->context);
    tls_free(p->server);
    buf_deinit(&p->to_client);
    ERR_clear_error();
}

/* Carry bytes until both are done, with what stands in out already. Returns what the server said last. */
static inline int peer_settle(struct peer *p)
{
    char plain[16];
    uint8_t space[256];
    int n = 0;

    for (int turn = 0; turn < 8 && n >= 0; turn++) {
        (void)SSL_do_handshake(p->ssl);
        (void)SSL_read(p->ssl, plain, sizeof(plain));
        char *bytes;
        long len = BIO_get_mem_data(SSL_get_wbio(p->ssl), &bytes);
        struct slice data = slice_of(bytes, (size_t)len);
        while ((n = tls_feed(p->server, &data, space, sizeof(space), &p->to_client)) > 0) {
        }
        (void)BIO_reset(SSL_get_wbio(p->ssl));
        if (p->to_client.len > 0) {
            BIO_write(SSL_get_rbio(p->ssl), p->to_client.ptr, (int)p->to_client.len);
            p->to_client.len = 0;
        }
    }
    (void)SSL_do_handshake(p->ssl); /* takes an alert */
    return n;
}

#endif
