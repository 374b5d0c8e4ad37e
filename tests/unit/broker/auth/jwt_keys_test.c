/* jwt_keys_test.c -- keys from text: which are taken, which passed over, which refuse the whole text. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <unistd.h>

#include "broker/auth/jwt.h"
#include "tests/lib/unit.h"
#include "tests/unit/broker/auth/jwt_fixture.h"

#define WALL_MS UINT64_C(1900000000000)

static struct signer hs, rs, es, ed;

static void make_signers(void)
{
    hs = signer_init(JWT_HS256, 3);
    rs = signer_init(JWT_RS256, 0);
    es = signer_init(JWT_ES256, 0);
    ed = signer_init(JWT_EDDSA, 0);
}

static void free_signers(void)
{
    signer_deinit(&rs);
    signer_deinit(&es);
    signer_deinit(&ed);
}

/* Parse, and throw away. Returns the number of keys, or a negative errno with the sentence. */
static int parse(struct slice text, bool secrets, char error[256])
{
    struct jwt_keys *keys = NULL;
    uint8_t *exact = malloc(text.len ? text.len : 1); /* ASan sees one byte over */

    memcpy(exact, text.ptr, text.len);
    snprintf(error, 256, "%s", "");
    int rc = jwt_keys_parse(slice_of(exact, text.len), secrets, "F", error, 256, &keys);
    rc = rc ? rc : (int)jwt_keys_count(keys);
    jwt_keys_unref(keys);
    free(exact);
    CHECK(ERR_peek_error() == 0);
    return rc;
}

/* Whether a token of the signer is taken by these keys. */
static bool verifies(struct slice text, const struct signer *signer)
{
    struct jwt_terms terms = {.algorithms = 15,
                              .issuer = "",
                              .audience = "",
                              .user_claim = "sub",
                              .client_id_claim = "",
                              .roles_claim = "",
                              .rules_claim = ""};
    struct jwt_keys *keys = keys_of(text, true);
    struct buf token = plain_token(signer, "", "{\"sub\":\"a\",\"exp\":1900000600}");
    struct jwt_claims claims = {0};
    const char *why;

    int rc = jwt_verify(keys, &terms, buf_slice(&token), WALL_MS, &claims, &why);
    jwt_claims_deinit(&claims);
    buf_deinit(&token);
    jwt_keys_unref(keys);
    return rc == 0;
}

/* ---- fixed text ---- */

#define X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU" /* RFC 7515, A.3 */
#define Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define ED "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" /* RFC 8037, A.2 */
#define K32 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define EC_KEY "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\""
#define ED_KEY "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" ED "\""
#define HS_KEY "\"kty\":\"oct\",\"k\":\"" K32 "\""

#define NONE "F: there is no key in it that verifies RS256, ES256 or EdDSA, or HS256"
#define NO_JSON "F: not a JSON object, or a member stands twice in one"
#define NO_PEM "F: key 1: not valid PEM"

static const struct {
    const char *name, *text;
    int want;          /* keys, or -EINVAL */
    const char *error; /* then */
} texts[] = {
    {"one", "{" EC_KEY "}", 1, ""},
    {"blanks before it", " \r\n\t{" EC_KEY "}\n", 1, ""},
    {"a set", "{\"keys\":[{" EC_KEY "},{" ED_KEY "},{" HS_KEY "}]}", 3, ""},
    {"use and alg", "{" EC_KEY ",\"use\":\"sig\",\"alg\":\"ES256\",\"kid\":\"a\"}", 1, ""},
    {"kid twice in a set", "{\"keys\":[{" EC_KEY ",\"kid\":\"a\"},{" ED_KEY ",\"kid\":\"a\"}]}", 2, ""},

    {"for encryption", "{\"keys\":[{" EC_KEY ",\"use\":\"enc\"},{" ED_KEY "}]}", 1, ""},
    {"use no text", "{\"keys\":[{" EC_KEY ",\"use\":1},{" ED_KEY "}]}", 1, ""},
    {"another alg", "{\"keys\":[{" EC_KEY ",\"alg\":\"ECDH-ES\"},{" ED_KEY "}]}", 1, ""},
    {"alg of another kind", "{\"keys\":[{" EC_KEY ",\"alg\":\"HS256\"},{" ED_KEY "}]}", 1, ""},
    {"secret for another alg", "{\"keys\":[{" HS_KEY ",\"alg\":\"HS512\"},{" ED_KEY "}]}", 1, ""},
    {"another curve", "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"AA\"},{" ED_KEY "}]}", 1, ""},
    {"X25519", "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"" ED "\"},{" ED_KEY "}]}", 1, ""},
    {"another kind", "{\"keys\":[{\"kty\":\"LMS\"},{" ED_KEY "}]}", 1, ""},
    {"no kind", "{\"keys\":[{\"kid\":\"a\"},{" ED_KEY "}]}", 1, ""},
    {"no object", "{\"keys\":[5,null,\"x\",[],{" ED_KEY "}]}", 1, ""},
    {"weak, but not for us", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\",\"use\":\"enc\"},{" ED_KEY "}]}", 1, ""},

    {"empty", "", -EINVAL, "F: it is empty"},
    {"no key in a set", "{\"keys\":[]}", -EINVAL, NONE},
    {"none left", "{\"keys\":[{" EC_KEY ",\"use\":\"enc\"}]}", -EINVAL, NONE},
    {"an empty object", "{}", -EINVAL, NONE},
    {"keys an object", "{\"keys\":{" EC_KEY "}}", -EINVAL, "F: \"keys\" is not a list"},
    {"keys null", "{\"keys\":null," EC_KEY "}", -EINVAL, "F: \"keys\" is not a list"},
    {"cut", "{" EC_KEY, -EINVAL, NO_JSON},
    {"something behind it", "{" EC_KEY "}}", -EINVAL, NO_JSON},
    {"a member twice", "{" EC_KEY ",\"kty\":\"EC\"}", -EINVAL, NO_JSON},
    {"kid a number", "{" EC_KEY ",\"kid\":1}", -EINVAL, "F: \"kid\" is not a text"},
    {"kid empty", "{" EC_KEY ",\"kid\":\"\"}", -EINVAL, "F: \"kid\" is not a text"},
    {"the second is broken", "{\"keys\":[{" ED_KEY "},{\"kty\":\"oct\",\"k\":\"?\"}]}", -EINVAL,
     "F: key 2: \"k\" is missing or not base64url"},
    {"the first is broken", "{\"keys\":[{\"kty\":\"oct\"},{" ED_KEY "}]}", -EINVAL,
     "F: key 1: \"k\" is missing or not base64url"},

    {"secret of 32 bytes", "{" HS_KEY "}", 1, ""},
    {"secret of 31", "{\"kty\":\"oct\",\"k\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg\"}", -EINVAL,
     "F: a secret of less than 32 bytes"},
    {"secret empty", "{\"kty\":\"oct\",\"k\":\"\"}", -EINVAL, "F: \"k\" is missing or not base64url"},

    {"P-256, x too short", "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"" Y "\"}", -EINVAL,
     "F: \"x\" is not 32 bytes long"},
    {"P-256, x too long", "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA" X "\",\"y\":\"" Y "\"}", -EINVAL,
     "F: \"x\" is not 32 bytes long"},
    {"P-256, y too short", "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"AAAA\"}", -EINVAL,
     "F: \"y\" is not 32 bytes long"},
    {"P-256, no y", "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\"}", -EINVAL,
     "F: \"y\" is missing or not base64url"},
    {"P-256, no x", "{\"kty\":\"EC\",\"crv\":\"P-256\",\"y\":\"" Y "\"}", -EINVAL,
     "F: \"x\" is missing or not base64url"},
    {"P-256, off the curve", "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" X "\"}", -EINVAL,
     "F: not a valid public key"},
    {"Ed25519, too short", "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}", -EINVAL,
     "F: \"x\" is not 32 bytes long"},
    {"Ed25519, padded", "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" ED "=\"}", -EINVAL,
     "F: \"x\" is missing or not base64url"},
    {"RSA, no e", "{\"kty\":\"RSA\",\"n\":\"AAAA\"}", -EINVAL, "F: \"e\" is missing or not base64url"},
    {"RSA, no n", "{\"kty\":\"RSA\",\"e\":\"AQAB\"}", -EINVAL, "F: \"n\" is missing or not base64url"},
    {"RSA, n zero", "{\"kty\":\"RSA\",\"n\":\"AAAA\",\"e\":\"AQAB\"}", -EINVAL, "F: an RSA key of less than 2048 bits"},

    {"no PEM", "hello", -EINVAL, NONE},
    {"a list", "[{" EC_KEY "}]", -EINVAL, NONE},
    {"PEM of nothing", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", -EINVAL, NULL},
    {"PEM of nonsense", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", -EINVAL,
     "F: key 1: not a valid public key"},
    {"a certificate of nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", -EINVAL,
     "F: key 1: not a valid public key"},
    {"PEM cut", "-----BEGIN PUBLIC KEY-----\nAAAA\n", -EINVAL, NO_PEM},
    {"PEM not base64", "-----BEGIN PUBLIC KEY-----\n????\n-----END PUBLIC KEY-----\n", -EINVAL, NO_PEM},
    {"PEM of something else", "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n", -EINVAL, NONE},
};

static void test_texts(void)
{
    char error[256];

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        int rc = parse(slice_str(texts[i].text), true, error);
        CHECK_CASE(texts[i].name, rc == texts[i].want);
        CHECK_CASE(texts[i].name, !texts[i].error || strcmp(error, texts[i].error) == 0);
    }
    CHECK(parse(SLICE("\0{" EC_KEY "}"), true, error) == -EINVAL);
    CHECK(parse(SLICE("{" EC_KEY ",\"x5t\":1\0}"), true, error) == -EINVAL);
}

/* From the network no secret is taken: who can read the set could sign. */
static void test_secrets(void)
{
    char error[256];

    CHECK(parse(SLICE("{\"keys\":[{" HS_KEY "},{" ED_KEY "}]}"), false, error) == 1);
    CHECK(parse(SLICE("{" HS_KEY "}"), false, error) == -EINVAL);
    CHECK(strcmp(error, "F: there is no key in it that verifies RS256, ES256 or EdDSA") == 0);
    CHECK(parse(SLICE("{\"kty\":\"oct\",\"k\":\"AA\"}"), false, error) == -EINVAL);
}

static void test_cut(void)
{
    struct buf text = {0};
    char error[256];

    buf_put(&text, SLICE("{\"keys\":["));
    put_jwk(&rs, "\"kid\":\"a\",", &text);
    buf_u8(&text, ',');
    put_jwk(&es, "", &text);
    buf_put(&text, SLICE("]}"));
    for (uint32_t len = 0; len < text.len; len++) {
        CHECK(parse(slice_of(text.ptr, len), true, error) == -EINVAL && *error);
    }
    CHECK(parse(buf_slice(&text), true, error) == 2);
    text.len = 0;
    put_pem(&es, &text);
    for (uint32_t len = 0; len < text.len - 1; len++) { /* the last is a newline */
        CHECK(parse(slice_of(text.ptr, len), true, error) == -EINVAL && *error);
    }
    CHECK(parse(buf_slice(&text), true, error) == 1);
    buf_deinit(&text);
}

static void test_too_many(void)
{
    struct buf text = {0};
    char error[256];

    buf_put(&text, SLICE("{\"keys\":["));
    for (unsigned i = 0; i < 256; i++) {
        buf_put(&text, i ? SLICE(",{" HS_KEY "}") : SLICE("{" HS_KEY "}"));
    }
    uint32_t len = text.len;
    buf_put(&text, SLICE("]}"));
    CHECK(parse(buf_slice(&text), true, error) == 256);
    text.len = len;
    buf_put(&text, SLICE(",{" HS_KEY "}]}"));
    CHECK(parse(buf_slice(&text), true, error) == -EINVAL);
    CHECK(strcmp(error, "F: key 257: there are more than 256 keys") == 0);
    text.len = 0;
    memset(buf_extend(&text, 1u << 20), ' ', 1u << 20);
    memcpy(text.ptr, "{" HS_KEY "}", sizeof("{" HS_KEY "}") - 1);
    CHECK(parse(buf_slice(&text), true, error) == 1);
    buf_u8(&text, ' ');
    CHECK(parse(buf_slice(&text), true, error) == -EINVAL);
    CHECK(strcmp(error, "F: too long for a file of keys") == 0);
    buf_deinit(&text);
}

/* ---- RSA ---- */

static void put_rsa(const struct buf *n, const char *e, struct buf *out)
{
    buf_put(out, SLICE("{\"kty\":\"RSA\",\"n\":\""));
    base64_encode(buf_slice(n), true, out);
    buf_put(out, SLICE("\",\"e\":\""));
    buf_put(out, slice_str(e));
    buf_put(out, SLICE("\"}"));
}

/* An exponent of 1 would make every padded text its own signature; a modulus that is even, or a prime, is no modulus.
 */
static void test_rsa(void)
{
    static const struct {
        const char *name, *e;
        uint8_t last; /* xor of the modulus' last byte */
        int want;
    } cases[] = {
        {"sound", "AQAB", 0, 1},   {"e 3", "Aw", 0, 1},          {"e 1", "AQ", 0, -EINVAL},
        {"e 0", "AA", 0, -EINVAL}, {"e even", "Ag", 0, -EINVAL}, {"n even", "AQAB", 1, -EINVAL},
    };
    BIGNUM *number = NULL;
    struct buf n = {0};
    char error[256];

    fixture_must(EVP_PKEY_get_bn_param(rs.key, OSSL_PKEY_PARAM_RSA_N, &number) == 1);
    BN_bn2bin(number, buf_extend(&n, (size_t)BN_num_bytes(number)));
    BN_free(number);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf text = {0};
        n.ptr[n.len - 1] ^= cases[i].last;
        put_rsa(&n, cases[i].e, &text);
        n.ptr[n.len - 1] ^= cases[i].last;
        CHECK_CASE(cases[i].name, parse(buf_slice(&text), true, error) == cases[i].want);
        buf_deinit(&text);
    }
    buf_deinit(&n);
}

static void test_rsa_bits(void)
{
    static const struct {
        size_t bits;
        int want;
    } cases[] = {{1024, -EINVAL}, {2040, -EINVAL}, {2048, 1}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct signer s = {.algorithm = JWT_RS256};
        struct buf jwk = {0}, pem = {0};
        char error[256];
        s.key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", cases[i].bits);
        put_jwk(&s, "", &jwk);
        put_pem(&s, &pem);
        CHECK(parse(buf_slice(&jwk), true, error) == cases[i].want);
        CHECK(cases[i].want == 1 || strcmp(error, "F: an RSA key of less than 2048 bits") == 0);
        CHECK(parse(buf_slice(&pem), true, error) == cases[i].want);
        CHECK(cases[i].want == 1 || strcmp(error, "F: key 1: an RSA key of less than 2048 bits") == 0);
        buf_deinit(&jwk);
        buf_deinit(&pem);
        signer_deinit(&s);
    }
}

/* A number that is no modulus will do: the length is looked at first, since all else would take long. */
static void test_rsa_too_long(void)
{
    uint8_t number[8192 / 8 + 1];
    struct buf jwk = {0};
    char error[256];

    memset(number, 0xA5, sizeof(number));
    buf_put(&jwk, SLICE("{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\""));
    base64_encode(slice_of(number, sizeof(number)), true, &jwk);
    buf_put(&jwk, SLICE("\"}"));
    CHECK(parse(buf_slice(&jwk), true, error) == -EINVAL);
    CHECK(strcmp(error, "F: an RSA key of more than 8192 bits") == 0);
    buf_deinit(&jwk);
}

/* ---- PEM ---- */

/* Append what write puts into a BIO. */
static void put_bio(struct buf *out, EVP_PKEY *key, int (*write)(BIO *bio, EVP_PKEY *key))
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *text = NULL;

    fixture_must(memory && write(memory, key) == 1);
    long len = BIO_get_mem_data(memory, &text);
    buf_put(out, slice_of(text, (size_t)len));
    BIO_free(memory);
}

static int write_private(BIO *bio, EVP_PKEY *key)
{
    return PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
}

static int write_rsa(BIO *bio, EVP_PKEY *key)
{
    uint8_t *der = NULL;
    int len = i2d_PublicKey(key, &der);

    int ok = len > 0 && PEM_write_bio(bio, "RSA PUBLIC KEY", "", der, len) > 0;
    OPENSSL_free(der);
    return ok;
}

static int write_certificate(BIO *bio, EVP_PKEY *key)
{
    X509 *x = X509_new();

    bool ok = X509_set_version(x, X509_VERSION_3) && ASN1_INTEGER_set(X509_get_serialNumber(x), 1) &&
              X509_gmtime_adj(X509_getm_notBefore(x), 0) && X509_gmtime_adj(X509_getm_notAfter(x), 60) &&
              X509_set_pubkey(x, key) && X509_sign(x, key, EVP_sha256()) > 0;
    ok = ok && PEM_write_bio_X509(bio, x) == 1;
    X509_free(x);
    return ok;
}

static void test_pem(void)
{
    struct buf text = {0};
    char error[256];

    put_bio(&text, rs.key, write_rsa);
    CHECK(parse(buf_slice(&text), true, error) == 1 && verifies(buf_slice(&text), &rs));
    text.len = 0;
    put_bio(&text, es.key, write_certificate);
    CHECK(parse(buf_slice(&text), false, error) == 1 && verifies(buf_slice(&text), &es));
    text.len = 0;
    put_bio(&text, rs.key, write_private); /* passed over: its owner alone should have it */
    CHECK(parse(buf_slice(&text), true, error) == -EINVAL && strcmp(error, NONE) == 0);

    buf_put(&text, SLICE("a comment\n"));
    put_pem(&ed, &text);
    put_bio(&text, es.key, write_certificate);
    put_bio(&text, rs.key, write_rsa);
    CHECK(parse(buf_slice(&text), false, error) == 3);
    CHECK(verifies(buf_slice(&text), &ed) && verifies(buf_slice(&text), &es) && verifies(buf_slice(&text), &rs));
    buf_put(&text, SLICE("-----BEGIN PUBLIC KEY-----\nAAAA\n"));
    CHECK(parse(buf_slice(&text), false, error) == -EINVAL && strcmp(error, "F: key 5: not valid PEM") == 0);
    buf_deinit(&text);
}

/* Keys of kinds that verify nothing of ours. */
static void test_pem_other_kinds(void)
{
    EVP_PKEY *others[] = {EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384"), EVP_PKEY_Q_keygen(NULL, NULL, "X25519"),
                          EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1")};

    for (size_t i = 0; i < COUNT_OF(others); i++) {
        struct signer s = {.key = others[i]};
        struct buf text = {0};
        char error[256];
        put_pem(&s, &text);
        CHECK(parse(buf_slice(&text), true, error) == -EINVAL && strcmp(error, NONE) == 0);
        put_pem(&ed, &text);
        CHECK(parse(buf_slice(&text), true, error) == 1);
        buf_deinit(&text);
        EVP_PKEY_free(others[i]);
    }
}

/* ---- files, references ---- */

static int read_file(const char *path, char error[256])
{
    struct jwt_keys *keys = NULL;

    int rc = jwt_keys_read(path, error, 256, &keys);
    rc = rc ? rc : (int)jwt_keys_count(keys);
    jwt_keys_unref(keys);
    return rc;
}

static void test_file(void)
{
    char path[] = "/tmp/jwt_keys_test_XXXXXX", error[256], want[300];
    int fd = mkstemp(path);
    struct buf text = {0};

    put_jwk(&hs, "", &text);
    fixture_must(fd >= 0 && write(fd, text.ptr, text.len) == (ssize_t)text.len);
    CHECK(read_file(path, error) == 1);
    fixture_must(ftruncate(fd, 5) == 0);
    CHECK(read_file(path, error) == -EINVAL);
    snprintf(want, sizeof(want), "%s: not a JSON object, or a member stands twice in one", path);
    CHECK(strcmp(error, want) == 0);
    fixture_must(ftruncate(fd, (1 << 20) + 1) == 0);
    CHECK(read_file(path, error) == -EINVAL);
    snprintf(want, sizeof(want), "%s: too long for a file of keys", path);
    CHECK(strcmp(error, want) == 0);
    close(fd);
    unlink(path);
    CHECK(read_file(path, error) == -EINVAL);
    snprintf(want, sizeof(want), "%s: cannot be read: No such file or directory", path);
    CHECK(strcmp(error, want) == 0);
    CHECK(read_file("/", error) == -EINVAL);
    CHECK(strcmp(error, "/: cannot be read: Is a directory") == 0);
    buf_deinit(&text);
}

static void test_references(void)
{
    struct jwt_keys *keys = keys_of(SLICE("{" HS_KEY ",\"kid\":\"a\"}"), true);

    CHECK(jwt_keys_ref(keys) == keys);
    jwt_keys_unref(keys);
    CHECK(jwt_keys_has(keys, SLICE("a"))); /* ASan sees it freed too early, and not at all */
    jwt_keys_unref(keys);
    jwt_keys_unref(NULL);
}

/* A sentence that is longer than its room is cut. */
static void test_short_room(void)
{
    char error[8] = "", name[64];
    struct jwt_keys *keys;

    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = 0;
    CHECK(jwt_keys_parse(SLICE("{}"), true, "F", error, sizeof(error), &keys) == -EINVAL);
    CHECK(strcmp(error, "F: ther") == 0);
    CHECK(jwt_keys_parse(SLICE("{}"), true, name, error, sizeof(error), &keys) == -EINVAL);
    CHECK(strcmp(error, "nnnnnnn") == 0);
}

UNIT_MAIN("broker/auth/jwt_keys", {"make signers", make_signers}, {"texts", test_texts}, {"secrets", test_secrets},
          {"cut", test_cut}, {"too many", test_too_many}, {"RSA", test_rsa}, {"RSA bits", test_rsa_bits},
          {"RSA too long", test_rsa_too_long}, {"PEM", test_pem}, {"PEM of other kinds", test_pem_other_kinds},
          {"file", test_file}, {"references", test_references}, {"short room", test_short_room},
          {"free signers", free_signers})
