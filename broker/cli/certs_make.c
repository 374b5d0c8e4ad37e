/* certs_make.c -- keys, requests and certificates in memory. */
#include "broker/cli/certs_make.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define DAY_S 86400L
#define BACKDATE_S 300 /* clients whose clocks are a little behind take the certificate at once */
#define SERIAL_BYTES 16
#define RSA_BITS 2048

EVP_PKEY *certs_key(bool rsa)
{
    return rsa ? EVP_RSA_gen(RSA_BITS) : EVP_EC_gen("P-256");
}

/* 128 random bits, of which the first is 0 for the number to stay positive, and the second 1 for its length to be the
 * same always (RFC 5280, 4.1.2.2; at least 64 bits of them must be random). */
static bool set_serial(X509 *certificate)
{
    uint8_t bytes[SERIAL_BYTES];
    bool good = false;

    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        return false;
    }
    bytes[0] = (uint8_t)((bytes[0] & 0x3f) | 0x40);
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    good = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    BN_free(number);
    return good;
}

static bool set_name(X509_NAME *name, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) == 1;
}

static bool add_extension(X509V3_CTX *context, X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, context, nid, value);
    bool good = extension && X509_add_ext(certificate, extension, -1) == 1;

    X509_EXTENSION_free(extension);
    return good;
}

/* Version, serial number, time and key; subject and issuer are the caller's to set. */
static bool begin_certificate(X509 *c, EVP_PKEY *key, uint32_t days)
{
    return X509_set_version(c, X509_VERSION_3) == 1 && set_serial(c) &&
           X509_gmtime_adj(X509_getm_notBefore(c), -BACKDATE_S) &&
           X509_gmtime_adj(X509_getm_notAfter(c), (long)days * DAY_S) && X509_set_pubkey(c, key) == 1;
}

X509 *certs_authority(EVP_PKEY *key, const char *common_name, uint32_t days)
{
    X509V3_CTX context;
    X509 *c = X509_new();

    if (!c || !begin_certificate(c, key, days) || !set_name(X509_get_subject_name(c), common_name) ||
        X509_set_issuer_name(c, X509_get_subject_name(c)) != 1) {
        goto fail;
    }
    X509V3_set_ctx(&context, c, c, NULL, NULL, 0);
    if (!add_extension(&context, c, NID_basic_constraints, "critical,CA:TRUE") ||
        !add_extension(&context, c, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(&context, c, NID_subject_key_identifier, "hash") ||
        !add_extension(&context, c, NID_authority_key_identifier, "keyid:always") ||
        X509_sign(c, key, EVP_sha256()) == 0) {
        goto fail;
    }
    return c;

fail:
    X509_free(c);
    return NULL;
}

static bool push_extension(STACK_OF(X509_EXTENSION) * extensions, X509V3_CTX *context, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, context, nid, value);

    if (!extension || sk_X509_EXTENSION_push(extensions, extension) == 0) {
        X509_EXTENSION_free(extension);
        return false;
    }
    return true;
}

X509_REQ *certs_request(EVP_PKEY *key, const struct certs_subject *subject)
{
    X509V3_CTX context;
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    X509_REQ *r = X509_REQ_new();
    bool good = r && extensions && X509_REQ_set_version(r, X509_REQ_VERSION_1) == 1 &&
                set_name(X509_REQ_get_subject_name(r), subject->common_name) && X509_REQ_set_pubkey(r, key) == 1;

    if (good) {
        X509V3_set_ctx(&context, NULL, NULL, r, NULL, 0);
        good = push_extension(extensions, &context, NID_basic_constraints, "critical,CA:FALSE") &&
               push_extension(extensions, &context, NID_key_usage, subject->key_usage) &&
               push_extension(extensions, &context, NID_ext_key_usage, subject->extended_usage) &&
               (!subject->names || push_extension(extensions, &context, NID_subject_alt_name, subject->names)) &&
               X509_REQ_add_extensions(r, extensions) == 1 && X509_REQ_sign(r, key, EVP_sha256()) != 0;
    }
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    if (!good) {
        X509_REQ_free(r);
        return NULL;
    }
    return r;
}

static bool copy_extensions(X509_REQ *request, X509 *certificate)
{
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
    bool good = extensions != NULL;

    for (int i = 0; good && i < sk_X509_EXTENSION_num(extensions); i++) {
        good = X509_add_ext(certificate, sk_X509_EXTENSION_value(extensions, i), -1) == 1;
    }
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return good;
}

/* A chain is as good as its first end: a leaf that says it lives longer deceives whoever renews it. */
static bool end_with(X509 *c, const X509 *authority)
{
    if (ASN1_TIME_compare(X509_get0_notAfter(c), X509_get0_notAfter(authority)) <= 0) {
        return true;
    }
    return X509_set1_notAfter(c, X509_get0_notAfter(authority)) == 1;
}

X509 *certs_sign(X509_REQ *request, X509 *authority, EVP_PKEY *authority_key, uint32_t days)
{
    X509V3_CTX context;
    X509 *c = X509_new();

    if (!c || !begin_certificate(c, X509_REQ_get0_pubkey(request), days) || !end_with(c, authority) ||
        X509_set_subject_name(c, X509_REQ_get_subject_name(request)) != 1 ||
        X509_set_issuer_name(c, X509_get_subject_name(authority)) != 1 || !copy_extensions(request, c)) {
        goto fail;
    }
    X509V3_set_ctx(&context, authority, c, NULL, NULL, 0);
    if (!add_extension(&context, c, NID_subject_key_identifier, "hash") ||
        !add_extension(&context, c, NID_authority_key_identifier, "keyid:always") ||
        X509_sign(c, authority_key, EVP_sha256()) == 0) {
        goto fail;
    }
    return c;

fail:
    X509_free(c);
    return NULL;
}

/* Take what a memory BIO holds, and the BIO. */
static bool take_bio(struct buf *out, BIO *bio, bool good)
{
    char *text = NULL;

    if (bio && good) {
        long len = BIO_get_mem_data(bio, &text);
        buf_put(out, slice_of(text, (size_t)len));
    }
    BIO_free(bio);
    return bio && good && !out->failed;
}

bool certs_put_key(struct buf *out, EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_secmem());

    return take_bio(out, bio, bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
}

bool certs_put_request(struct buf *out, X509_REQ *request)
{
    BIO *bio = BIO_new(BIO_s_mem());

    return take_bio(out, bio, bio && PEM_write_bio_X509_REQ(bio, request) == 1);
}

bool certs_put_certificate(struct buf *out, X509 *certificate)
{
    BIO *bio = BIO_new(BIO_s_mem());

    return take_bio(out, bio, bio && PEM_write_bio_X509(bio, certificate) == 1);
}
