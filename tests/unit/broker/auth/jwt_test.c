/* jwt_test.c -- tokens: the vectors of the RFCs, tokens made here with each algorithm, and for each single check a
 * token that is right but for that. */
#include "broker/auth/jwt.h"

#include <errno.h>
#include <openssl/err.h>

#include "tests/lib/unit.h"
#include "tests/unit/broker/auth/jwt_fixture.h"

#define WALL_S 1900000000
#define WALL_MS (UINT64_C(1000) * WALL_S)
#define ALL (JWT_HS256 | JWT_RS256 | JWT_ES256 | JWT_EDDSA)
#define GOOD_PAYLOAD "{\"sub\":\"alice\",\"exp\":1900000600}"

static const enum jwt_algorithm algorithms[] = {JWT_HS256, JWT_RS256, JWT_ES256, JWT_EDDSA};

/* Of each algorithm one that is trusted and one that is not; HMAC: other secrets. */
static struct signer trusted[COUNT_OF(algorithms)], stranger[COUNT_OF(algorithms)];

static void make_signers(void)
{
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        trusted[i] = signer_init(algorithms[i], 1);
        stranger[i] = signer_init(algorithms[i], 2);
    }
}

static void free_signers(void)
{
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        signer_deinit(&trusted[i]);
        signer_deinit(&stranger[i]);
    }
}

static struct jwt_terms plain_terms(void)
{
    return (struct jwt_terms){.algorithms = ALL,
                              .issuer = "",
                              .audience = "",
                              .user_claim = "sub",
                              .client_id_claim = "",
                              .roles_claim = "roles",
                              .rules_claim = "acl"};
}

/* A set of one key; more: its further members. */
static struct jwt_keys *keys_from(const struct signer *s, const char *more)
{
    struct buf text = {0};

    put_jwk(s, more, &text);
    struct jwt_keys *keys = keys_of(buf_slice(&text), true);
    buf_deinit(&text);
    return keys;
}

static struct jwt_keys *keys_from_pem(const struct signer *s)
{
    struct buf text = {0};

    put_pem(s, &text);
    struct jwt_keys *keys = keys_of(buf_slice(&text), true);
    buf_deinit(&text);
    return keys;
}

/* What verifying comes to under plain terms; the claims are thrown away. */
static int verdict(const struct jwt_keys *keys, struct slice token, const char **ret_why)
{
    struct jwt_terms terms = plain_terms();
    struct jwt_claims claims = {0};

    *ret_why = "";
    int rc = jwt_verify(keys, &terms, token, WALL_MS, &claims, ret_why);
    jwt_claims_deinit(&claims);
    CHECK(ERR_peek_error() == 0);
    return rc;
}

static bool says(const struct buf *b, const char *text)
{
    return slice_eq(buf_slice(b), slice_str(text));
}

/* ---- the vectors ---- */

#define JOE "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
#define A1_KEY \
    "{\"kty\":\"oct\",\"k\":\"" \
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow\"}"
#define JOE_EXP_MS UINT64_C(1300819380000)

static const struct {
    const char *name, *key, *token;
    int want;
} vectors[] = {
    {"RFC 7515 A.1, HS256", A1_KEY,
     "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." JOE ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", 0},
    {"RFC 7515 A.2, RS256",
     "{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1P"
     "t0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB"
     "dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkM"
     "Ls91kzk2PAcDTW9gb54h4FRWyuXpoQ\",\"e\":\"AQAB\"}",
     "eyJhbGciOiJSUzI1NiJ9." JOE
     ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_"
     "O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZ"
     "RmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhW"
     "kWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
     0},
    {"RFC 7515 A.3, ES256",
     "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_"
     "tue659LNpXW6pCyStikYjKIWI5a0\"}",
     "eyJhbGciOiJFUzI1NiJ9." JOE
     ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1"
     "Q",
     0},
    {"RFC 7515 A.5, none", A1_KEY, "eyJhbGciOiJub25lIn0." JOE ".", -EACCES},
};

static void test_vectors(void)
{
    struct jwt_terms terms = plain_terms();

    terms.user_claim = "iss";
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        const char *name = vectors[i].name, *why = "";
        struct jwt_keys *keys = keys_of(slice_str(vectors[i].key), true);
        struct jwt_claims claims = {0};

        int rc = jwt_verify(keys, &terms, slice_str(vectors[i].token), JOE_EXP_MS - 1, &claims, &why);
        CHECK_CASE(name, rc == vectors[i].want);
        CHECK_CASE(name, rc || (says(&claims.user, "joe") && claims.expires_at_ms == JOE_EXP_MS));
        jwt_claims_deinit(&claims);
        CHECK_CASE(name, jwt_looks_like(slice_str(vectors[i].token)));
        jwt_keys_unref(keys);
    }
}

/* What it signs is no JSON: so the signature was right if that is what it fails for. */
static void test_vector_ed25519(void)
{
    static const char key[] = "{\"kty\":\"OKP\",\"crv\":\"Ed25519\","
                              "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}";
    static const char token[] = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-"
                                "09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    struct jwt_keys *keys = keys_of(slice_str(key), false);
    const char *why;

    CHECK(verdict(keys, slice_str(token), &why) == -EACCES);
    CHECK(strcmp(why, "the token's payload is ill-formed") == 0);
    jwt_keys_unref(keys);
}

/* ---- algorithms and keys ---- */

static void test_algorithms(void)
{
    const char *why;

    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        const char *name = signer_alg(&trusted[i]);
        struct jwt_keys *keys = keys_from(&trusted[i], "");
        struct buf right = plain_token(&trusted[i], "", GOOD_PAYLOAD);
        struct buf wrong = plain_token(&stranger[i], "", GOOD_PAYLOAD);
        CHECK_CASE(name, verdict(keys, buf_slice(&right), &why) == 0);
        CHECK_CASE(name, verdict(keys, buf_slice(&wrong), &why) == -EACCES);
        for (size_t k = 0; k < COUNT_OF(algorithms); k++) { /* no key of its algorithm */
            struct jwt_keys *others = keys_from(&trusted[k], "");
            CHECK_CASE(name, k == i || verdict(others, buf_slice(&right), &why) == -ENOKEY);
            jwt_keys_unref(others);
        }
        jwt_keys_unref(keys);
        if (trusted[i].key) {
            keys = keys_from_pem(&trusted[i]);
            CHECK_CASE(name, verdict(keys, buf_slice(&right), &why) == 0);
            CHECK_CASE(name, verdict(keys, buf_slice(&wrong), &why) == -EACCES);
            jwt_keys_unref(keys);
        }
        buf_deinit(&right);
        buf_deinit(&wrong);
    }
}

static void test_algorithm_not_taken(void)
{
    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        struct jwt_terms terms = plain_terms();
        struct jwt_claims claims = {0};
        struct jwt_keys *keys = keys_from(&trusted[i], "");
        struct buf token = plain_token(&trusted[i], "", GOOD_PAYLOAD);
        const char *why = "";

        terms.algorithms = ALL & ~(unsigned)algorithms[i];
        CHECK_CASE(signer_alg(&trusted[i]),
                   jwt_verify(keys, &terms, buf_slice(&token), WALL_MS, &claims, &why) == -EACCES);
        CHECK(strcmp(why, "the token's algorithm is not taken") == 0);
        terms.algorithms = algorithms[i];
        CHECK(jwt_verify(keys, &terms, buf_slice(&token), WALL_MS, &claims, &why) == 0);
        jwt_claims_deinit(&claims);
        buf_deinit(&token);
        jwt_keys_unref(keys);
    }
}

/* RFC 8725, section 2.1: whoever has the public key takes it for an HMAC secret. The key is known by its kid here, and
 * not, so that both ways to it are tried. */
static void test_confusion(void)
{
    struct buf pem = {0}, token = {0}, text = {0};
    uint8_t digest[32];
    unsigned len;
    const char *why;
    struct jwt_keys *named = keys_from(&trusted[1], "\"kid\":\"k\","), *nameless = keys_from_pem(&trusted[1]);

    put_pem(&trusted[1], &pem);
    base64_encode(SLICE("{\"alg\":\"HS256\",\"kid\":\"k\"}"), true, &token);
    buf_u8(&token, '.');
    base64_encode(SLICE(GOOD_PAYLOAD), true, &token);
    buf_put(&text, buf_slice(&token));
    HMAC(EVP_sha256(), pem.ptr, (int)pem.len, text.ptr, text.len, digest, &len);
    buf_u8(&token, '.');
    base64_encode(slice_of(digest, len), true, &token);
    CHECK(verdict(named, buf_slice(&token), &why) == -EACCES);
    CHECK(verdict(nameless, buf_slice(&token), &why) == -ENOKEY);
    buf_deinit(&pem);
    buf_deinit(&token);
    buf_deinit(&text);
    jwt_keys_unref(named);
    jwt_keys_unref(nameless);
}

/* ---- the header ---- */

static const struct {
    const char *name, *header, *why; /* why "": accepted */
} headers[] = {
    {"plain", "{\"alg\":\"EdDSA\"}", ""},
    {"typ and what we do not know", "{\"typ\":\"JWT\",\"alg\":\"EdDSA\",\"x\":[1,{}]}", ""},
    {"blanks", " {\r\n\"alg\" : \"EdDSA\" } ", ""},
    {"escapes", "{\"a\\u006cg\":\"EdD\\u0053A\"}", ""},
    {"crit", "{\"alg\":\"EdDSA\",\"crit\":[\"exp\"],\"exp\":1}", "the token wants an extension that we do not know"},
    {"crit, empty", "{\"alg\":\"EdDSA\",\"crit\":[]}", "the token wants an extension that we do not know"},
    {"crit, null", "{\"alg\":\"EdDSA\",\"crit\":null}", "the token wants an extension that we do not know"},
    {"none", "{\"alg\":\"none\"}", "the token's algorithm is not taken"},
    {"None", "{\"alg\":\"None\"}", "the token's algorithm is not taken"},
    {"alg empty", "{\"alg\":\"\"}", "the token's algorithm is not taken"},
    {"alg in small letters", "{\"alg\":\"eddsa\"}", "the token's algorithm is not taken"},
    {"alg with a blank", "{\"alg\":\"EdDSA \"}", "the token's algorithm is not taken"},
    {"alg missing", "{\"typ\":\"JWT\"}", "the token's algorithm is not taken"},
    {"alg a list", "{\"alg\":[\"EdDSA\"]}", "the token's algorithm is not taken"},
    {"alg a number", "{\"alg\":8}", "the token's algorithm is not taken"},
    {"RS512", "{\"alg\":\"RS512\"}", "the token's algorithm is not taken"},
    {"kid a number", "{\"alg\":\"EdDSA\",\"kid\":1}", "the token's kid is not a text"},
    {"kid null", "{\"alg\":\"EdDSA\",\"kid\":null}", "the token's kid is not a text"},
    {"a member twice", "{\"alg\":\"EdDSA\",\"alg\":\"EdDSA\"}", "the token's header is ill-formed"},
    {"a member twice, escaped", "{\"alg\":\"EdDSA\",\"\\u0061lg\":\"none\"}", "the token's header is ill-formed"},
    {"a member twice, inside", "{\"alg\":\"EdDSA\",\"x\":{\"y\":1,\"y\":1}}", "the token's header is ill-formed"},
    {"a list", "[\"alg\",\"EdDSA\"]", "the token's header is ill-formed"},
    {"a text", "\"EdDSA\"", "the token's header is ill-formed"},
    {"empty", "", "the token's header is ill-formed"},
    {"no JSON", "alg=EdDSA", "the token's header is ill-formed"},
    {"something behind it", "{\"alg\":\"EdDSA\"}x", "the token's header is ill-formed"},
    {"a comma too many", "{\"alg\":\"EdDSA\",}", "the token's header is ill-formed"},
    {"ill-formed UTF-8", "{\"alg\":\"EdDSA\",\"x\":\"\xc0\x80\"}", "the token's header is ill-formed"},
    {"U+0000", "{\"alg\":\"EdDSA\",\"x\":\"\\u0000\"}", "the token's header is ill-formed"},
};

static void test_headers(void)
{
    struct jwt_keys *keys = keys_from(&trusted[3], "");
    const char *why;

    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        struct buf token = sign_token(&trusted[3], slice_str(headers[i].header), SLICE(GOOD_PAYLOAD));
        int rc = verdict(keys, buf_slice(&token), &why);
        CHECK_CASE(headers[i].name, rc == (*headers[i].why ? -EACCES : 0));
        CHECK_CASE(headers[i].name, strcmp(why, headers[i].why) == 0);
        buf_deinit(&token);
    }
    jwt_keys_unref(keys);
}

/* RFC 7515, section 4.1.3: a key that a token brings along proves nothing. */
static void test_key_in_header(void)
{
    struct jwt_keys *keys = keys_from(&trusted[3], "");
    struct buf header = {0};
    const char *why;

    buf_put(&header, SLICE("{\"alg\":\"EdDSA\",\"jwk\":"));
    put_jwk(&stranger[3], "", &header);
    buf_put(&header, SLICE("}"));
    struct buf token = sign_token(&stranger[3], buf_slice(&header), SLICE(GOOD_PAYLOAD));
    CHECK(verdict(keys, buf_slice(&token), &why) == -EACCES);
    CHECK(strcmp(why, "the token's signature is wrong") == 0);
    buf_deinit(&token);
    buf_deinit(&header);
    jwt_keys_unref(keys);
}

/* ---- which key ---- */

/* A set of [a: trusted Ed25519, b: stranger Ed25519, c: trusted ES256, and one without kid: `nameless`]. */
static const struct {
    const char *name, *kid;
    const struct signer *signer, *nameless;
    int want;
} kid_cases[] = {
    {"by its kid", "a", &trusted[3], NULL, 0},
    {"by the other kid", "b", &stranger[3], NULL, 0},
    {"another's kid", "b", &trusted[3], NULL, -EACCES},
    {"kid of another algorithm", "c", &trusted[3], NULL, -EACCES},
    {"kid unknown", "d", &trusted[3], NULL, -ENOKEY},
    {"a beginning of a kid", "aa", &trusted[3], NULL, -ENOKEY},
    {"no kid: all are tried", "", &stranger[3], NULL, 0},
    {"no kid, nobody's signature", "", &stranger[2], NULL, -EACCES},
    {"no kid, no key of the algorithm", "", &trusted[0], NULL, -ENOKEY},
    {"kid unknown, a key without one", "d", &trusted[1], &trusted[1], 0},
    {"kid unknown, a key without one, not its signature", "d", &stranger[1], &trusted[1], -ENOKEY},
    {"kid known, signed by the key without one", "a", &stranger[3], &stranger[3], -EACCES},
};

static void test_kid(void)
{
    const char *why;

    for (size_t i = 0; i < COUNT_OF(kid_cases); i++) {
        struct buf text = {0};
        buf_put(&text, SLICE("{\"keys\":["));
        put_jwk(&trusted[3], "\"kid\":\"a\",", &text);
        buf_u8(&text, ',');
        put_jwk(&stranger[3], "\"kid\":\"b\",", &text);
        buf_u8(&text, ',');
        put_jwk(&trusted[2], "\"kid\":\"c\",", &text);
        if (kid_cases[i].nameless) {
            buf_u8(&text, ',');
            put_jwk(kid_cases[i].nameless, "", &text);
        }
        buf_put(&text, SLICE("]}"));
        struct jwt_keys *keys = keys_of(buf_slice(&text), false);
        struct buf token = plain_token(kid_cases[i].signer, kid_cases[i].kid, GOOD_PAYLOAD);
        CHECK_CASE(kid_cases[i].name, jwt_keys_count(keys) == (kid_cases[i].nameless ? 4 : 3));
        CHECK_CASE(kid_cases[i].name, verdict(keys, buf_slice(&token), &why) == kid_cases[i].want);
        CHECK(jwt_keys_has(keys, SLICE("a")) && jwt_keys_has(keys, SLICE("c")));
        CHECK(!jwt_keys_has(keys, SLICE("d")) && !jwt_keys_has(keys, SLICE("aa")) && !jwt_keys_has(keys, SLICE("")));
        buf_deinit(&token);
        buf_deinit(&text);
        jwt_keys_unref(keys);
    }
}

/* At most 16 signatures are checked for one token. */
static void test_tries(void)
{
    const char *why;

    for (unsigned others = 14; others < 18; others++) {
        struct buf text = {0};
        buf_put(&text, SLICE("{\"keys\":["));
        for (unsigned i = 0; i < others; i++) {
            put_jwk(&stranger[0], "", &text);
            buf_u8(&text, ',');
        }
        put_jwk(&trusted[0], "", &text);
        buf_put(&text, SLICE("]}"));
        struct jwt_keys *keys = keys_of(buf_slice(&text), true);
        struct buf token = plain_token(&trusted[0], "", GOOD_PAYLOAD);
        CHECK(verdict(keys, buf_slice(&token), &why) == (others < 16 ? 0 : -EACCES));
        buf_deinit(&token);
        buf_deinit(&text);
        jwt_keys_unref(keys);
    }
}

/* ---- a token that was touched ---- */

static void test_bit_flips(void)
{
    const char *why;

    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        struct jwt_keys *keys = keys_from(&trusted[i], "");
        struct buf token = plain_token(&trusted[i], "", GOOD_PAYLOAD);
        unsigned accepted = 0;
        for (uint32_t bit = 0; bit < token.len * 8; bit++) {
            token.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
            accepted += verdict(keys, buf_slice(&token), &why) == 0;
            token.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        CHECK_CASE(signer_alg(&trusted[i]), accepted == 0);
        CHECK_CASE(signer_alg(&trusted[i]), verdict(keys, buf_slice(&token), &why) == 0);
        buf_deinit(&token);
        jwt_keys_unref(keys);
    }
}

static void test_cut_and_extended(void)
{
    const char *why;

    for (size_t i = 0; i < COUNT_OF(algorithms); i++) {
        const char *name = signer_alg(&trusted[i]);
        struct jwt_keys *keys = keys_from(&trusted[i], "");
        struct buf token = plain_token(&trusted[i], "", GOOD_PAYLOAD);
        for (uint32_t len = 0; len < token.len; len++) {
            uint8_t *exact = malloc(len ? len : 1); /* ASan sees one byte over */
            memcpy(exact, token.ptr, len);
            CHECK_CASE(name, verdict(keys, slice_of(exact, len), &why) != 0);
            jwt_looks_like(slice_of(exact, len));
            free(exact);
        }
        static const char *const tails[] = {"A", "AA", "AAAA", "=", ".", ".AA", " ", "\n"};
        for (size_t k = 0; k < COUNT_OF(tails); k++) {
            struct buf longer = {0};
            buf_put(&longer, buf_slice(&token));
            buf_put(&longer, slice_str(tails[k]));
            CHECK_CASE(tails[k], verdict(keys, buf_slice(&longer), &why) == -EACCES);
            buf_deinit(&longer);
        }
        buf_deinit(&token);
        jwt_keys_unref(keys);
    }
}

/* 16 KiB are the most. */
static void test_too_long(void)
{
    struct jwt_keys *keys = keys_from(&trusted[0], "");
    const char *why;

    for (size_t fill = 12000; fill < 12300; fill++) {
        struct buf payload = {0};
        buf_put(&payload, SLICE("{\"sub\":\"alice\",\"exp\":1900000600,\"x\":\""));
        memset(buf_extend(&payload, fill), 'x', fill);
        buf_put(&payload, SLICE("\"}"));
        struct buf token = sign_token(&trusted[0], SLICE("{\"alg\":\"HS256\"}"), buf_slice(&payload));
        bool fits = token.len <= 16384;
        CHECK(verdict(keys, buf_slice(&token), &why) == (fits ? 0 : -EACCES));
        CHECK(jwt_looks_like(buf_slice(&token)) == fits);
        buf_deinit(&payload);
        buf_deinit(&token);
    }
    jwt_keys_unref(keys);
}

/* ---- what looks like one ---- */

static const struct {
    const char *name, *text;
    bool want;
} looks[] = {
    {"a token", "eyJhbGciOiJub25lIn0.e30.AAAA", true},
    {"no signature", "eyJhbGciOiJub25lIn0.e30.", true},
    {"only a header", "e30..", true},
    {"empty", "", false},
    {"a password", "secret", false},
    {"a name with dots", "a.b.c", false},
    {"two parts", "e30.e30", false},
    {"four parts", "e30.e30.e30.e30", false},
    {"a header that is a list", "W10.e30.AAAA", false},
    {"a header that is no JSON", "e31x.e30.AAAA", false},
    {"no header", ".e30.AAAA", false},
    {"a blank in the payload", "e30.e 0.AAAA", false},
    {"padding", "e30=.e30.AAAA", false},
    {"padding of the signature", "e30.e30.AAA=", false},
    {"the other alphabet", "e30.e30.AA+/", false},
    {"both letters of this one", "e30.e30.AA-_", true},
};

static void test_looks_like(void)
{
    for (size_t i = 0; i < COUNT_OF(looks); i++) {
        CHECK_CASE(looks[i].name, jwt_looks_like(slice_str(looks[i].text)) == looks[i].want);
    }
}

UNIT_MAIN("broker/auth/jwt", {"make signers", make_signers}, {"vectors of RFC 7515", test_vectors},
          {"vector of RFC 8037", test_vector_ed25519}, {"algorithms", test_algorithms},
          {"algorithm not taken", test_algorithm_not_taken}, {"a public key as a secret", test_confusion},
          {"headers", test_headers}, {"key in the header", test_key_in_header}, {"kid", test_kid},
          {"tries", test_tries}, {"bit flips", test_bit_flips}, {"cut and extended", test_cut_and_extended},
          {"too long", test_too_long}, {"looks like", test_looks_like}, {"free signers", free_signers})
