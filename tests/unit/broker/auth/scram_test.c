/* scram_test.c -- the exchange of RFC 7677 to the letter, a client of our own, and every way to be refused. */
#include "tests/lib/alloc_fail.h"

#include "broker/auth/scram.c"
#include "tests/lib/unit.h"

#define HASH \
    ":SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define OLD_HASH \
    ":$7$101$lln/lOCEnPg6/G2L$H+7eSopDK87pBRECeIEATQxzIPLhGZHshBOjBMpLoh7eVAi2TwUXI95S/" \
    "mp8NKB9VMIOIm9mnr9bBKhD4BNYMw=="

/* RFC 7677, section 3 */
#define RFC_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_FIRST "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
#define RFC_SERVER_FIRST "r=rOprNGfwEbeRWgbNEkqO" RFC_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define RFC_TEXT "c=biws,r=rOprNGfwEbeRWgbNEkqO" RFC_NONCE
#define RFC_PROOF "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

/* Users: `user` as in the RFC, `a,b=c` whose name needs escapes, `old` who has no SCRAM. */
static struct passwd *table(void)
{
    struct passwd *passwd = NULL;
    char error[256];
    int rc = passwd_parse(SLICE("user" HASH "\na,b=c" HASH "\nold" OLD_HASH), "users", error, sizeof(error), &passwd);
    CU_ASSERT_FATAL(rc == 0);
    return passwd;
}

static bool is_text(const struct buf *out, const char *text)
{
    return slice_eq(buf_slice(out), slice_str(text));
}

static void test_rfc7677(void)
{
    struct passwd *passwd = table();
    struct scram *scram = NULL;
    struct buf out = {0};

    CU_ASSERT_FATAL(begin(passwd, SLICE(RFC_FIRST), SLICE(RFC_NONCE), &out, &scram) == 0);
    CHECK(is_text(&out, RFC_SERVER_FIRST));
    out.len = 0;
    CHECK(scram_final(scram, SLICE(RFC_TEXT "," RFC_PROOF), &out) == 0);
    CHECK(is_text(&out, RFC_SERVER_FINAL));
    CHECK(slice_eq(scram_user(scram), SLICE("user")));
    CHECK(scram_fingerprint(scram) == passwd_fingerprint(passwd_find(passwd, SLICE("user"))));
    out.len = 0;
    CHECK(scram_final(scram, SLICE(RFC_TEXT "," RFC_PROOF), &out) == -EACCES && out.len == 0); /* once */
    scram_free(scram);
    scram_free(NULL);
    buf_deinit(&out);
    passwd_free(passwd);
}

static const struct {
    const char *name, *message;
    bool good;
} firsts[] = {
    {"no channel binding", "n,,n=user,r=abc", true},
    {"the client could bind, we do not", "y,,n=user,r=abc", true},
    {"authzid is the user", "n,a=user,n=user,r=abc", true},
    {"unknown user", "n,,n=nobody,r=abc", true},
    {"user without SCRAM", "n,,n=old,r=abc", true},
    {"escapes", "n,,n=a=2Cb=3Dc,r=abc", true},
    {"escapes in both names", "n,a=a=2Cb=3Dc,n=a=2Cb=3Dc,r=abc", true},
    {"an extension", "n,,n=user,r=abc,x=y", true},
    {"two extensions", "n,,n=user,r=abc,x=y,Z==,", false},
    {"two extensions, well formed", "n,,n=user,r=abc,x=y,Z==", true},
    {"all that a nonce may hold", "n,,n=user,r=!\"#$%&'()*+-./09:;<=>?@AZ[\\]^_`az{|}~", true},
    {"empty", "", false},
    {"only a header", "n,,", false},
    {"channel binding [RFC 5802, 6]", "p=tls-unique,,n=user,r=abc", false},
    {"unknown flag", "x,,n=user,r=abc", false},
    {"upper case flag", "N,,n=user,r=abc", false},
    {"no flag", ",,n=user,r=abc", false},
    {"no header", "n=user,r=abc", false},
    {"half a header", "n,n=user,r=abc", false},
    {"another's authzid", "n,a=root,n=user,r=abc", false},
    {"empty authzid", "n,a=,n=user,r=abc", false},
    {"authzid is none", "n,user,n=user,r=abc", false},
    {"authzid beyond the name", "n,a=user1,n=user,r=abc", false},
    {"mandatory extension [RFC 5802, 5.1]", "n,,m=x,n=user,r=abc", false},
    {"mandatory extension behind", "n,,n=user,r=abc,m=x", false},
    {"no name", "n,,r=abc", false},
    {"empty name", "n,,n=,r=abc", false},
    {"no nonce", "n,,n=user", false},
    {"no nonce, comma", "n,,n=user,", false},
    {"empty nonce", "n,,n=user,r=", false},
    {"a blank in the nonce", "n,,n=user,r=a b", false},
    {"the nonce beyond ASCII", "n,,n=user,r=a\xc3\xa9", false},
    {"other order", "n,,r=abc,n=user", false},
    {"a comma at the end", "n,,n=user,r=abc,", false},
    {"an empty extension", "n,,n=user,r=abc,,x=y", false},
    {"an extension without value", "n,,n=user,r=abc,x=", false},
    {"an extension without a name", "n,,n=user,r=abc,=y", false},
    {"an extension with a number", "n,,n=user,r=abc,1=y", false},
    {"an extension that is no UTF-8", "n,,n=user,r=abc,x=\xff", false},
    {"a bare equals sign [RFC 5802, 5.1]", "n,,n=a=b,r=abc", false},
    {"an unknown escape", "n,,n=a=2D,r=abc", false},
    {"a lower case escape", "n,,n=a=2cb,r=abc", false},
    {"half an escape", "n,,n=a=2,r=abc", false},
    {"an equals sign at the end", "n,,n=a=,r=abc", false},
    {"a name that is no UTF-8", "n,,n=\xc3,r=abc", false},
};

static void test_first(void)
{
    struct passwd *passwd = table();

    for (size_t i = 0; i < COUNT_OF(firsts); i++) {
        struct scram *scram = NULL;
        struct buf out = {0};
        size_t len = strlen(firsts[i].message);
        uint8_t *exact = malloc(len ? len : 1);
        CU_ASSERT_FATAL(exact != NULL);
        memcpy(exact, firsts[i].message, len);
        int rc = scram_first(passwd, slice_of(exact, len), &out, &scram);
        free(exact);
        CHECK_CASE(firsts[i].name, rc == (firsts[i].good ? 0 : -EACCES));
        CHECK_CASE(firsts[i].name, (scram != NULL) == firsts[i].good && (out.len > 0) == firsts[i].good);
        scram_free(scram);
        buf_deinit(&out);
    }
    static uint8_t long_name[MESSAGE_BYTES_MAX + 1] = "n,,n=user,r=";
    memset(long_name + 12, 'a', sizeof(long_name) - 12);
    struct scram *scram = NULL;
    struct buf out = {0};
    CHECK(scram_first(passwd, slice_of(long_name, sizeof(long_name)), &out, &scram) == -EACCES);
    CHECK(scram_first(passwd, slice_of(long_name, sizeof(long_name) - 1), &out, &scram) == 0);
    scram_free(scram);
    buf_deinit(&out);
    passwd_free(passwd);
}

/* The proof as a client makes it [RFC 5802, section 3]. */
static void put_proof(struct slice password, const char *bare, const char *server_first, const char *text,
                      struct buf *out)
{
    static const uint8_t salt[] = {0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e,
                                   0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81};
    uint8_t salted[32], key[32], stored[32], signature[32];
    struct buf all = {0};

    CHECK(PKCS5_PBKDF2_HMAC((const char *)password.ptr, (int)password.len, salt, sizeof(salt), 4096, EVP_sha256(), 32,
                            salted) == 1);
    CHECK(passwd_hmac_sha256(slice_of(salted, 32), SLICE("Client Key"), key));
    CHECK(EVP_Digest(key, 32, stored, NULL, EVP_sha256(), NULL) == 1);
    buf_put(&all, slice_str(bare));
    buf_u8(&all, ',');
    buf_put(&all, slice_str(server_first));
    buf_u8(&all, ',');
    buf_put(&all, slice_str(text));
    CHECK(passwd_hmac_sha256(slice_of(stored, 32), buf_slice(&all), signature));
    for (unsigned i = 0; i < 32; i++) {
        key[i] ^= signature[i];
    }
    buf_put(out, SLICE(",p="));
    base64_encode(slice_of(key, 32), false, out);
    buf_deinit(&all);
}

/* One exchange: `text` is client-final without its proof, which is the right one for that text and the password. */
static const struct {
    const char *name, *header, *bare, *text, *password;
    bool good;
} exchanges[] = {
    {"as it should be", "n,,", "n=user,r=abc", "c=biws,r=abcOURS", "pencil", true},
    {"y in the header", "y,,", "n=user,r=abc", "c=eSws,r=abcOURS", "pencil", true},
    {"authzid in the header", "n,a=user,", "n=user,r=abc", "c=bixhPXVzZXIs,r=abcOURS", "pencil", true},
    {"escapes", "n,,", "n=a=2Cb=3Dc,r=abc", "c=biws,r=abcOURS", "pencil", true},
    {"extensions, signed too", "n,,", "n=user,r=abc,x=y", "c=biws,r=abcOURS,z=1,y=2", "pencil", true},
    {"wrong password", "n,,", "n=user,r=abc", "c=biws,r=abcOURS", "pencils", false},
    {"empty password", "n,,", "n=user,r=abc", "c=biws,r=abcOURS", "", false},
    {"unknown user", "n,,", "n=nobody,r=abc", "c=biws,r=abcOURS", "pencil", false},
    {"user without SCRAM", "n,,", "n=old,r=abc", "c=biws,r=abcOURS", "pencil", false},
    {"header changed under way", "n,,", "n=user,r=abc", "c=eSws,r=abcOURS", "pencil", false},
    {"authzid slipped in", "n,,", "n=user,r=abc", "c=bixhPXVzZXIs,r=abcOURS", "pencil", false},
    {"header not padded as written", "n,,", "n=user,r=abc", "c=biws=,r=abcOURS", "pencil", false},
    {"no header", "n,,", "n=user,r=abc", "r=abcOURS", "pencil", false},
    {"only the client's nonce", "n,,", "n=user,r=abc", "c=biws,r=abc", "pencil", false},
    {"only our nonce", "n,,", "n=user,r=abc", "c=biws,r=OURS", "pencil", false},
    {"a shorter nonce", "n,,", "n=user,r=abc", "c=biws,r=abcOUR", "pencil", false},
    {"a longer nonce", "n,,", "n=user,r=abc", "c=biws,r=abcOURSx", "pencil", false},
    {"another nonce", "n,,", "n=user,r=abc", "c=biws,r=abcTHEI", "pencil", false},
    {"no nonce", "n,,", "n=user,r=abc", "c=biws", "pencil", false},
    {"other order", "n,,", "n=user,r=abc", "r=abcOURS,c=biws", "pencil", false},
    {"mandatory extension", "n,,", "n=user,r=abc", "c=biws,r=abcOURS,m=x", "pencil", false},
    {"a comma too many", "n,,", "n=user,r=abc", "c=biws,r=abcOURS,", "pencil", false},
    {"two commas too many", "n,,", "n=user,r=abc", "c=biws,r=abcOURS,,", "pencil", false},
    {"an ill-formed extension", "n,,", "n=user,r=abc", "c=biws,r=abcOURS,xyz", "pencil", false},
    {"nothing before the proof", "n,,", "n=user,r=abc", "", "pencil", false},
};

static void test_exchanges(void)
{
    struct passwd *passwd = table();

    for (size_t i = 0; i < COUNT_OF(exchanges); i++) {
        struct scram *scram = NULL;
        struct buf first = {0}, server_first = {0}, final = {0}, out = {0};

        buf_put(&first, slice_str(exchanges[i].header));
        buf_put(&first, slice_str(exchanges[i].bare));
        CU_ASSERT_FATAL(begin(passwd, buf_slice(&first), SLICE("OURS"), &server_first, &scram) == 0);
        buf_u8(&server_first, 0);
        buf_put(&final, slice_str(exchanges[i].text));
        put_proof(slice_str(exchanges[i].password), exchanges[i].bare, (const char *)server_first.ptr,
                  exchanges[i].text, &final);
        int rc = scram_final(scram, buf_slice(&final), &out);
        CHECK_CASE(exchanges[i].name, rc == (exchanges[i].good ? 0 : -EACCES));
        CHECK_CASE(exchanges[i].name, (out.len == 2 + 44) == exchanges[i].good && exchanges[i].good == (out.len > 0));
        scram_free(scram);
        buf_deinit(&first);
        buf_deinit(&server_first);
        buf_deinit(&final);
        buf_deinit(&out);
    }
    passwd_free(passwd);
}

/* Each single bit of the right client-final turned: nothing else is right. */
static void test_every_bit(void)
{
    struct passwd *passwd = table();
    uint8_t message[] = RFC_TEXT "," RFC_PROOF;
    size_t len = sizeof(message) - 1;

    for (size_t bit = 0; bit < 8 * len; bit++) {
        struct scram *scram = NULL;
        struct buf out = {0};
        CU_ASSERT_FATAL(begin(passwd, SLICE(RFC_FIRST), SLICE(RFC_NONCE), &out, &scram) == 0);
        out.len = 0;
        message[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(scram_final(scram, slice_of(message, len), &out) == -EACCES && out.len == 0);
        message[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(bit % 64 || scram_final(scram, slice_of(message, len), &out) == -EACCES); /* no second guess */
        scram_free(scram);
        buf_deinit(&out);
    }
    for (size_t short_len = 0; short_len < len; short_len++) {
        struct scram *scram = NULL;
        struct buf out = {0};
        CU_ASSERT_FATAL(begin(passwd, SLICE(RFC_FIRST), SLICE(RFC_NONCE), &out, &scram) == 0);
        CHECK(scram_final(scram, slice_of(message, short_len), &out) == -EACCES);
        scram_free(scram);
        buf_deinit(&out);
    }
    passwd_free(passwd);
}

/* An unknown user looks like a known one: the same form, the same salt each time, another one for another name. */
static void salt_of(const struct passwd *passwd, const char *first, char salt[25], uint64_t *ret_fingerprint)
{
    struct scram *scram = NULL;
    struct buf out = {0};

    CU_ASSERT_FATAL(scram_first(passwd, slice_str(first), &out, &scram) == 0);
    CU_ASSERT_FATAL(out.len == strlen("r=abc,s=,i=4096") + 24 + 24);
    CHECK(memcmp(out.ptr, "r=abc", 5) == 0 && memcmp(out.ptr + 29, ",s=", 3) == 0);
    CHECK(memcmp(out.ptr + 32 + 24, ",i=4096", 7) == 0);
    memcpy(salt, out.ptr + 32, 24);
    salt[24] = 0;
    *ret_fingerprint = scram_fingerprint(scram);
    scram_free(scram);
    buf_deinit(&out);
}

static void test_unknown(void)
{
    struct passwd *passwd = table(), *reloaded = table();
    char known[25], first[25], again[25], other[25], old[25];
    uint64_t fingerprint;

    salt_of(passwd, "n,,n=user,r=abc", known, &fingerprint);
    CHECK(strcmp(known, "W22ZaJ0SNY7soEsUEjb6gQ==") == 0 && fingerprint != 0);
    salt_of(passwd, "n,,n=nobody,r=abc", first, &fingerprint);
    CHECK(fingerprint == 0);
    salt_of(reloaded, "n,,n=nobody,r=abc", again, &fingerprint);
    salt_of(passwd, "n,,n=nobody2,r=abc", other, &fingerprint);
    salt_of(passwd, "n,,n=old,r=abc", old, &fingerprint);
    CHECK(fingerprint == 0);
    CHECK(strcmp(first, again) == 0 && strcmp(first, other) != 0 && strcmp(first, old) != 0 &&
          strcmp(first, known) != 0);
    passwd_free(passwd);
    passwd_free(reloaded);
}

/* Were the made-up keys ever guessed: an unknown user is not let in by them either. */
static void test_unknown_fails_anyway(void)
{
    struct passwd *passwd = table();
    struct scram *scram = NULL;
    struct buf server_first = {0}, final = {0}, out = {0};

    CU_ASSERT_FATAL(begin(passwd, SLICE("n,,n=nobody,r=abc"), SLICE("OURS"), &server_first, &scram) == 0);
    CHECK(passwd_scram(passwd_find(passwd, SLICE("user")), &scram->keys));
    buf_u8(&server_first, 0);
    buf_put(&final, SLICE("c=biws,r=abcOURS"));
    put_proof(SLICE("pencil"), "n=nobody,r=abc", (const char *)server_first.ptr, "c=biws,r=abcOURS", &final);
    CHECK(scram_final(scram, buf_slice(&final), &out) == -EACCES && out.len == 0);
    scram_free(scram);
    buf_deinit(&server_first);
    buf_deinit(&final);
    passwd_free(passwd);
}

static void test_memory(void)
{
    struct passwd *passwd = table();
    struct scram *scram = NULL;
    struct buf out = {0};

    alloc_fail_at = 1;
    CHECK(scram_first(passwd, SLICE(RFC_FIRST), &out, &scram) == -ENOMEM);
    CHECK(scram == NULL && out.len == 0);
    alloc_fail_at = 0;
    out.failed = true; /* as after an allocation for the answer */
    CHECK(scram_first(passwd, SLICE(RFC_FIRST), &out, &scram) == -ENOMEM && scram == NULL);
    out.failed = false;
    CU_ASSERT_FATAL(begin(passwd, SLICE(RFC_FIRST), SLICE(RFC_NONCE), &out, &scram) == 0);
    struct buf full = {.failed = true};
    CHECK(scram_final(scram, SLICE(RFC_TEXT "," RFC_PROOF), &full) == -ENOMEM); /* not let in without an answer */
    CHECK(scram_final(scram, SLICE(RFC_TEXT "," RFC_PROOF), &full) == -EACCES);
    scram_free(scram);
    CU_ASSERT_FATAL(begin(passwd, SLICE(RFC_FIRST), SLICE(RFC_NONCE), &out, &scram) == 0);
    scram->signed_text.failed = true;
    scram->signed_text.cap = scram->signed_text.len;
    CHECK(scram_final(scram, SLICE(RFC_TEXT "," RFC_PROOF), &out) == -ENOMEM);
    scram_free(scram);
    buf_deinit(&out);
    passwd_free(passwd);
}

UNIT_MAIN("broker/auth/scram", {"RFC 7677", test_rfc7677}, {"client-first", test_first}, {"exchanges", test_exchanges},
          {"every bit", test_every_bit}, {"unknown", test_unknown}, {"unknown fails anyway", test_unknown_fails_anyway},
          {"memory", test_memory})
