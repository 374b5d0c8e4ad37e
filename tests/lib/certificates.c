/* certificates.c -- an authority for tests in a folder under /tmp. */
#include "tests/lib/certificates.h"

#include <assert.h>
#include <dirent.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DAY (24 * 3600L)
#define DAYS_DEFAULT 3650

static char folder[64];

void certificates_begin(void)
{
    strcpy(folder, "/tmp/tern-tls-XXXXXX");
    char *made = mkdtemp(folder);
    assert(made);
}

void certificates_end(void)
{
    DIR *in = opendir(folder);
    assert(in);
    for (struct dirent *entry; (entry = readdir(in));) {
        (void)!unlinkat(dirfd(in), entry->d_name, 0); /* but for . and .. */
    }
    closedir(in);
    int rc = rmdir(folder);
    assert(rc == 0);
}

const char *certificates_path(const char *name)
{
    static char paths[16][256];
    static unsigned next;
    char *path = paths[next++ % COUNT_OF(paths)];

    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static FILE *create(const char *name)
{
    FILE *file = fopen(certificates_path(name), "we");
    assert(file);
    return file;
}

void certificates_write_text(const char *name, const char *text)
{
    FILE *file = create(name);
    fputs(text, file);
    fclose(file);
}

/* ---- certificates ---- */

static void add_extension(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert(extension);
    X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
}

static void add_email(X509 *x509, struct slice email)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();

    ASN1_STRING_set(text, email.ptr, (int)email.len);
    GENERAL_NAME_set0_value(name, GEN_EMAIL, text);
    sk_GENERAL_NAME_push(names, name);
    X509_add1_ext_i2d(x509, NID_subject_alt_name, names, 0, 0);
    GENERAL_NAMES_free(names);
}

struct certificate certificate_make(const struct certificate *issuer, const struct certificate_terms *terms)
{
    static long serial = 1;
    struct certificate c = {X509_new(), terms->rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256")};
    const struct certificate *by = issuer ? issuer : &c;
    int days = terms->days ? terms->days : DAYS_DEFAULT;

    assert(c.x509 && c.key);
    X509_set_version(c.x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(c.x509), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(c.x509), days < 0 ? 2 * days * DAY : -DAY);
    X509_gmtime_adj(X509_getm_notAfter(c.x509), days * DAY);
    X509_set_pubkey(c.x509, c.key);
    X509_NAME_add_entry_by_NID(X509_get_subject_name(c.x509), NID_commonName, MBSTRING_UTF8, terms->cn.ptr,
                               (int)terms->cn.len, -1, 0);
    X509_set_issuer_name(c.x509, X509_get_subject_name(by->x509));
    add_extension(c.x509, by->x509, NID_basic_constraints, terms->usage ? "CA:FALSE" : "critical,CA:TRUE");
    if (terms->usage) {
        add_extension(c.x509, by->x509, NID_ext_key_usage, terms->usage);
    }
    if (terms->san) {
        add_extension(c.x509, by->x509, NID_subject_alt_name, terms->san);
    }
    if (terms->san_email.len > 0) {
        add_email(c.x509, terms->san_email);
    }
    int size = X509_sign(c.x509, by->key, EVP_sha256());
    assert(size > 0);
    return c;
}

void certificate_free(struct certificate *c)
{
    X509_free(c->x509);
    EVP_PKEY_free(c->key);
}

void certificate_write(const struct certificate *c, const char *name)
{
    char file[128];

    certificate_write_chain(c, NULL, name);
    snprintf(file, sizeof(file), "%s.key", name);
    FILE *out = create(file);
    PEM_write_PrivateKey(out, c->key, NULL, NULL, 0, NULL, NULL);
    fclose(out);
}

void certificate_write_chain(const struct certificate *c, const struct certificate *issuer, const char *name)
{
    char file[128];

    snprintf(file, sizeof(file), "%s.pem", name);
    FILE *out = create(file);
    PEM_write_X509(out, c->x509);
    if (issuer) {
        PEM_write_X509(out, issuer->x509);
    }
    fclose(out);
}

/* ---- what an authority says of them later ---- */

void certificate_write_crl(const struct certificate *issuer, const struct certificate *revoked, const char *file)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, -60), *then = X509_gmtime_adj(NULL, 30 * DAY);

    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509));
    X509_CRL_set1_lastUpdate(crl, now);
    X509_CRL_set1_nextUpdate(crl, then);
    if (revoked) {
        X509_REVOKED *entry = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->x509));
        X509_REVOKED_set_revocationDate(entry, now);
        X509_CRL_add0_revoked(crl, entry);
    }
    int size = X509_CRL_sign(crl, issuer->key, EVP_sha256());
    assert(size > 0);
    FILE *out = create(file);
    PEM_write_X509_CRL(out, crl);
    fclose(out);
    ASN1_TIME_free(now);
    ASN1_TIME_free(then);
    X509_CRL_free(crl);
}

void certificate_write_ocsp(const struct certificate *issuer, const struct certificate *c, const char *file)
{
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, -60), *then = X509_gmtime_adj(NULL, DAY);
    OCSP_CERTID *id = OCSP_cert_to_id(NULL, c->x509, issuer->x509);

    OCSP_basic_add1_status(basic, id, V_OCSP_CERTSTATUS_GOOD, 0, NULL, now, then);
    OCSP_basic_sign(basic, issuer->x509, issuer->key, EVP_sha256(), NULL, 0);
    OCSP_RESPONSE *response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    assert(response);
    FILE *out = create(file);
    unsigned char *der = NULL;
    int len = i2d_OCSP_RESPONSE(response, &der);
    assert(len > 0);
    fwrite(der, 1, (size_t)len, out);
    OPENSSL_free(der);
    fclose(out);
    OCSP_RESPONSE_free(response);
    OCSP_CERTID_free(id);
    OCSP_BASICRESP_free(basic);
    ASN1_TIME_free(now);
    ASN1_TIME_free(then);
}
