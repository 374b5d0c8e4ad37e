/* http_tls_test.c -- https: only a service whose certificate is trusted and bears its name is asked anything. */
#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "tests/unit/broker/auth/http_fixture.h"

/* A service of one thread, one connection after the other. */
static struct tls_server {
    int fd;
    char url[64];
    SSL_CTX *context;
    pthread_t thread;
    pthread_mutex_t lock;
    unsigned asked; /* under the lock */
} tls;

static X509 *make_certificate(EVP_PKEY *key, const char *alt_name)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);
    X509_EXTENSION *alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt_name);

    server_must(X509_set_version(x, X509_VERSION_3) && ASN1_INTEGER_set(X509_get_serialNumber(x), 1) &&
                X509_gmtime_adj(X509_getm_notBefore(x), -60) && X509_gmtime_adj(X509_getm_notAfter(x), 3600) &&
                X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)alt_name, -1, -1, 0) &&
                X509_set_issuer_name(x, name) && X509_set_pubkey(x, key) && alt && X509_add_ext(x, alt, -1) &&
                X509_sign(x, key, EVP_sha256()) > 0);
    X509_EXTENSION_free(alt);
    return x;
}

static void serve_one(int fd)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    SSL *ssl = SSL_new(tls.context);
    char text[2048];

    if (SSL_set_fd(ssl, fd) == 1 && SSL_accept(ssl) == 1 && SSL_read(ssl, text, sizeof(text)) > 0) {
        pthread_mutex_lock(&tls.lock);
        tls.asked++;
        pthread_mutex_unlock(&tls.lock);
        SSL_write(ssl, answer, sizeof(answer) - 1);
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    close(fd);
}

static void *tls_main(void *argument)
{
    int fd;

    (void)argument;
    while ((fd = accept(tls.fd, NULL, NULL)) >= 0) {
        serve_one(fd);
    }
    return NULL;
}

/* Serve with a certificate for this name, which goes into the file. */
static void tls_start(const char *alt_name, const char *path)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *certificate = make_certificate(key, alt_name);
    FILE *out = fopen(path, "we");

    server_must(out && PEM_write_X509(out, certificate) == 1 && fclose(out) == 0);
    tls = (struct tls_server){.context = SSL_CTX_new(TLS_server_method())};
    server_must(tls.context && SSL_CTX_use_certificate(tls.context, certificate) == 1 &&
                SSL_CTX_use_PrivateKey(tls.context, key) == 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    pthread_mutex_init(&tls.lock, NULL);
    tls.fd = server_listen("https", tls.url);
    server_must(pthread_create(&tls.thread, NULL, tls_main, NULL) == 0);
}

static unsigned tls_stop(void)
{
    shutdown(tls.fd, SHUT_RDWR); /* accept fails */
    pthread_join(tls.thread, NULL);
    close(tls.fd);
    SSL_CTX_free(tls.context);
    pthread_mutex_destroy(&tls.lock);
    return tls.asked;
}

static int fetch(const char *url, const char *ca_file, char error[256])
{
    struct http_settings settings = {.timeout_ms = TIMEOUT_MS, .ca_file = ca_file};
    struct buf answer = {0};
    uint32_t max_age_s;

    error[0] = 0;
    int rc = http_fetch(url, &settings, &answer, &max_age_s, error, 256);
    CHECK(rc || slice_eq(buf_slice(&answer), SLICE("{}")));
    buf_deinit(&answer);
    return rc;
}

static void make_file(char path[32])
{
    snprintf(path, 32, "/tmp/http_tls_test_XXXXXX");
    int fd = mkstemp(path);
    server_must(fd >= 0);
    close(fd);
}

static void test_trust(void)
{
    char own[32], other[32], error[256];

    make_file(own);
    make_file(other);
    tls_start("IP:127.0.0.1", other);
    tls_stop();
    tls_start("IP:127.0.0.1", own);
    CHECK(fetch(tls.url, own, error) == 0);
    CHECK(fetch(tls.url, other, error) == -EIO); /* the same name, another key */
    CHECK(strstr(error, tls.url) == error && strstr(error, "certificate") != NULL);
    CHECK(fetch(tls.url, "", error) == -EIO);
    CHECK(fetch(tls.url, "/nowhere.pem", error) == -EIO);
    CHECK(fetch(tls.url, own, error) == 0);
    CHECK(tls_stop() == 2);
    unlink(own);
    unlink(other);
}

static void test_name(void)
{
    char own[32], error[256];

    make_file(own);
    tls_start("DNS:service.example", own);
    CHECK(fetch(tls.url, own, error) == -EIO);
    CHECK(tls_stop() == 0);
    unlink(own);
}

/* By the client's thread: its error, or the status. */
static long ask_with(const char *ca_file)
{
    struct question q;

    open_with((struct http_settings){.ca_file = ca_file});
    CHECK(ask_at(&q, tls.url, "", "{}") == 0);
    CHECK(await(&q));
    long result = q.request.error ? q.request.error : q.request.status;
    http_request_deinit(&q.request);
    close_all();
    return result;
}

static void test_client(void)
{
    char own[32];

    make_file(own);
    tls_start("IP:127.0.0.1", own);
    CHECK(ask_with(own) == 200);
    CHECK(ask_with("") == -EIO);
    CHECK(tls_stop() == 1);
    unlink(own);
}

UNIT_MAIN("broker/auth/http over TLS", {"prepare", http_prepare}, {"trust", test_trust}, {"name", test_name},
          {"client", test_client}, {"finish", http_finish})
