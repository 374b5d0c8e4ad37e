/* certificates.h -- certificates for tests, made when the test runs, so that none of them ends one day.
 *
 *     certificates_begin();                                       a folder of its own
 *     struct certificate ca = certificate_make(NULL, &(struct certificate_terms){.cn = SLICE("CA")});
 *     certificate_write(&ca, "ca");                               ca.pem, ca.key
 *     ... certificates_path("ca.pem") ...
 *     certificate_free(&ca);
 *     certificates_end();                                         removes the folder
 *
 * Whatever goes wrong here is a broken test: it asserts. */
#ifndef TERN_TESTS_LIB_CERTIFICATES_H
#define TERN_TESTS_LIB_CERTIFICATES_H

#include <openssl/x509.h>

#include "proto/base/slice.h"

struct certificate {
    X509 *x509;
    EVP_PKEY *key;
};

struct certificate_terms {
    struct slice cn;        /* may hold a NUL */
    struct slice san_email; /* may hold a NUL; empty: none */
    const char *san;        /* in OpenSSL's words, "DNS:a.test,URI:urn:x"; NULL: none */
    const char *usage;      /* "serverAuth", "clientAuth"; NULL: an authority's */
    int days;               /* until it ends, from now; 0: ten years; negative: it has ended */
    bool rsa;               /* instead of ECDSA over P-256 */
};

/* issuer NULL: it signs itself. */
struct certificate certificate_make(const struct certificate *issuer, const struct certificate_terms *terms);
void certificate_free(struct certificate *certificate);

void certificates_begin(void);
void certificates_end(void);
/* The path of a file in the folder; good until sixteen more have been asked for. */
const char *certificates_path(const char *name);

/* Write NAME.pem and NAME.key. */
void certificate_write(const struct certificate *certificate, const char *name);
/* Write NAME.pem: certificate with the one that signed it. */
void certificate_write_chain(const struct certificate *certificate, const struct certificate *issuer, const char *name);
/* Write a file of the issuer's revocation list with this one on it; revoked NULL: nothing is. */
void certificate_write_crl(const struct certificate *issuer, const struct certificate *revoked, const char *file);
/* Write a file of an OCSP response that says that the certificate is good. */
void certificate_write_ocsp(const struct certificate *issuer, const struct certificate *certificate, const char *file);
void certificates_write_text(const char *file, const char *text);

#endif
