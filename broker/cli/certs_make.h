/* certs_make.h -- keys, requests and certificates in memory, by OpenSSL.
 *
 * Why apart from certs.c: nothing here touches files, so a failure half way leaves nothing behind. Everything returned
 * is the caller's and freed by OpenSSL's functions. NULL means failure; OpenSSL's error queue says why. */
#ifndef TERN_BROKER_CLI_CERTS_MAKE_H
#define TERN_BROKER_CLI_CERTS_MAKE_H

#include "proto/base/buf.h"

#include <openssl/x509.h>

/* Subject Alternative Names at most, and their text "DNS:a,IP:b". */
#define CERTS_NAMES_MAX 64
#define CERTS_NAMES_BYTES_MAX 8192

/* What a leaf certificate is to say. */
struct certs_subject {
    const char *common_name;
    const char *names;     /* Subject Alternative Names in OpenSSL's words; NULL: none */
    const char *key_usage; /* and these, too */
    const char *extended_usage;
};

EVP_PKEY *certs_key(bool rsa);

/* A certificate of an authority that signs others and itself. */
X509 *certs_authority(EVP_PKEY *key, const char *common_name, uint32_t days);

/* A request that holds all extensions which its certificate will have. */
X509_REQ *certs_request(EVP_PKEY *key, const struct certs_subject *subject);

/* The request's certificate, signed by the authority; it ends with the authority's at the latest. */
X509 *certs_sign(X509_REQ *request, X509 *authority, EVP_PKEY *authority_key, uint32_t days);

/* Append as PEM. Returns false on failure. */
bool certs_put_key(struct buf *out, EVP_PKEY *key);
bool certs_put_request(struct buf *out, X509_REQ *request);
bool certs_put_certificate(struct buf *out, X509 *certificate);

#endif
