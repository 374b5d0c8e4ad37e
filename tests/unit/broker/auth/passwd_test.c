/* passwd_test.c -- lines that are taken and lines that refuse the file; each kind of hash against one that another
 * program wrote; what we write; memory that runs out. */
#include "tests/lib/alloc_fail.h"

#include "broker/auth/passwd.c"
#include "tests/lib/unit.h"

#include <unistd.h>

/* Written by mosquitto_passwd 2.0.11, by libargon2's own tests, and by Python's hashlib as PostgreSQL does. */
#define ALICE \
    "alice:$6$+deHw8DzBXlxGhyv$5mOZ5i4+ZVKJATMxxnIoPwPy40ewgAR+lo7UqXOC3uXNLH9y+bSkw6sAR+Qk/YOvdsxnTMZDB7B0WdT/" \
    "iteKJA=="
#define ZOE \
    "zoe:$6$ry2MQxrXOVQS7blu$ykmzPt7/Q88wPFmXpkJW+lbbYoH4+r0RZSmi3ptgtOESaxBNBNmuWymPLDQ1NruIP5uJtb3SsoZ2POfIQPQj2w=="
#define BOB \
    "bob:$7$101$lln/lOCEnPg6/G2L$H+7eSopDK87pBRECeIEATQxzIPLhGZHshBOjBMpLoh7eVAi2TwUXI95S/" \
    "mp8NKB9VMIOIm9mnr9bBKhD4BNYMw=="
#define EVE \
    "eve:$7$101$xYFjoU9/2Cpkh9Py$kDK6AMNq2sVuv9d5tHyBDW9/5weXWXx03NG21N+A/" \
    "QTFJJgivsIh3wCFs9QafNY7tp7f87uBwymzCsEl8pwCJg=="
#define CARL "carl:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
#define DORA "dora:$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"
#define USER \
    "user:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

#define ALL "# everybody\n\n" ALICE "\n" ZOE "\r\n" BOB " \t\n   \n" EVE "\n" CARL "\n" DORA "\n#" BOB "\n" USER

static struct passwd *parse(const char *text)
{
    struct passwd *passwd = NULL;
    char error[256] = "";

    int rc = passwd_parse(slice_str(text), "users", error, sizeof(error), &passwd);
    if (rc) {
        fprintf(stderr, "%d %s\n", rc, error);
    }
    CU_ASSERT_FATAL(rc == 0);
    return passwd;
}

static void test_verify(void)
{
    static const struct {
        const char *user, *password;
        bool right;
    } rows[] = {
        {"alice", "correct horse", true},
        {"alice", "correct hors", false},
        {"alice", "correct horse ", false},
        {"alice", "", false},
        {"zoe", "p\xc3\xa4\xc3\x9fw\xc3\xb6rt", true},
        {"zoe", "passwort", false},
        {"bob", "battery staple", true},
        {"bob", "Battery staple", false},
        {"bob", "", false},
        {"eve", "", true}, /* as mosquitto_passwd allows */
        {"eve", "x", false},
        {"carl", "password", true},
        {"carl", "passwore", false},
        {"dora", "password", true}, /* two lanes, one thread */
        {"dora", "", false},
        {"user", "pencil", true},
        {"user", "pencils", false},
    };
    struct passwd *passwd = parse(ALL);

    CHECK(passwd_count(passwd) == 7);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct passwd_entry *entry = passwd_find(passwd, slice_str(rows[i].user));
        CU_ASSERT_FATAL(entry != NULL);
        CHECK_CASE(rows[i].user, passwd_verify(entry, slice_str(rows[i].password)) == rows[i].right);
    }
    CHECK(passwd_verify(passwd_find(passwd, SLICE("eve")), slice_of(NULL, 0)));
    CHECK(!passwd_verify(passwd_find(passwd, SLICE("bob")), slice_of(NULL, 0)));
    CHECK(!passwd_find(passwd, SLICE("mallory")) && !passwd_find(passwd, SLICE("")) &&
          !passwd_find(passwd, SLICE("bo")));
    CHECK(!passwd_find(passwd, SLICE("#bob")) && !passwd_find(passwd, SLICE("BOB")));
    passwd_waste(passwd, SLICE("whatever"));
    passwd_free(passwd);
    passwd_free(NULL);
}

#define KEY64 "mOZ5i4+ZVKJATMxxnIoPwPy40ewgAR+lo7UqXOC3uXNLH9y+bSkw6sAR+Qk/YOvdsxnTMZDB7B0WdT/iteKJAA=="
#define KEY32 "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
#define ARGON_TAIL "$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"

/* Each is the third line of its file. */
static const struct {
    const char *name, *line;
    bool good;
} lines[] = {
    {"mosquitto, first kind", "u:$6$c2FsdA==$" KEY64, true},
    {"mosquitto, present kind", "u:$7$1$c2FsdA==$" KEY64, true},
    {"argon2id", "u:$argon2id$v=19$m=8,t=1,p=1" ARGON_TAIL, true},
    {"argon2id, a gibibyte", "u:$argon2id$v=19$m=1048576,t=1,p=1" ARGON_TAIL, true},
    {"scram", "u:SCRAM-SHA-256$1:c2FsdA==$" KEY32 ":" KEY32, true},
    {"most iterations", "u:$7$10000000$c2FsdA==$" KEY64, true},
    {"a name beyond ASCII", "\xc3\xbc:$6$c2FsdA==$" KEY64, true},
    {"a name with blanks", "a b:$6$c2FsdA==$" KEY64, true},
    {"no colon", "u", false},
    {"no name", ":$6$c2FsdA==$" KEY64, false},
    {"no hash", "u:", false},
    {"a plain password", "u:secret", false},
    {"named twice", "first:$6$c2FsdA==$" KEY64, false},
    {"a tab in the name", "a\tb:$6$c2FsdA==$" KEY64, false},
    {"a control character beyond ASCII", "a\xc2\x85:$6$c2FsdA==$" KEY64, false},
    {"ill-formed UTF-8", "\xff:$6$c2FsdA==$" KEY64, false},
    {"unknown number", "u:$5$c2FsdA==$" KEY64, false},
    {"argon2i", "u:$argon2i$v=19$m=8,t=1,p=1" ARGON_TAIL, false},
    {"argon2id of before", "u:$argon2id$v=16$m=8,t=1,p=1" ARGON_TAIL, false},
    {"argon2id without a version", "u:$argon2id$m=8,t=1,p=1" ARGON_TAIL, false},
    {"argon2id, other order", "u:$argon2id$v=19$t=1,m=8,p=1" ARGON_TAIL, false},
    {"argon2id, t not there", "u:$argon2id$v=19$m=8,p=1" ARGON_TAIL, false},
    {"argon2id, p not there", "u:$argon2id$v=19$m=8,t=1" ARGON_TAIL, false},
    {"argon2id, above a gibibyte", "u:$argon2id$v=19$m=1048577,t=1,p=1" ARGON_TAIL, false},
    {"argon2id, too little for its lanes", "u:$argon2id$v=19$m=15,t=1,p=2" ARGON_TAIL, false},
    {"argon2id, no lanes", "u:$argon2id$v=19$m=8,t=1,p=0" ARGON_TAIL, false},
    {"argon2id, many lanes", "u:$argon2id$v=19$m=1048576,t=1,p=65" ARGON_TAIL, false},
    {"argon2id, short salt", "u:$argon2id$v=19$m=8,t=1,p=1$c2FsdA$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
    {"argon2id, short key", "u:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQM", false},
    {"no iterations", "u:$7$0$c2FsdA==$" KEY64, false},
    {"too many iterations", "u:$7$10000001$c2FsdA==$" KEY64, false},
    {"iterations beyond 64 bits", "u:$7$18446744073709551617$c2FsdA==$" KEY64, false},
    {"a negative number", "u:$7$-1$c2FsdA==$" KEY64, false},
    {"a zero in front", "u:$7$01$c2FsdA==$" KEY64, false},
    {"hexadecimal", "u:$7$0x10$c2FsdA==$" KEY64, false},
    {"no number", "u:$7$$c2FsdA==$" KEY64, false},
    {"no salt", "u:$7$101$$" KEY64, false},
    {"no key", "u:$7$101$c2FsdA==$", false},
    {"no key's dollar", "u:$7$101$c2FsdA==", false},
    {"short key", "u:$7$101$c2FsdA==$" KEY32, false},
    {"bad base64", "u:$6$c2FsdA=$" KEY64, false},
    {"more behind the key", "u:$6$c2FsdA==$" KEY64 "$x", false},
    {"a blank before the hash", "u: $6$c2FsdA==$" KEY64, false},
    {"a salt above 64 bytes", "u:$6$" KEY64 KEY64 "$" KEY64, false},
    {"scram without a server key", "u:SCRAM-SHA-256$4096:c2FsdA==$" KEY32, false},
    {"scram with a long key", "u:SCRAM-SHA-256$4096:c2FsdA==$" KEY64 ":" KEY32, false},
    {"scram-sha-1", "u:SCRAM-SHA-1$4096:c2FsdA==$" KEY32 ":" KEY32, false},
};

static void test_lines(void)
{
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        char text[1024], error[256] = "";
        struct passwd *passwd = NULL;

        int len = snprintf(text, sizeof(text), "# x\nfirst:$6$c2FsdA==$" KEY64 "\n%s\n# y\n", lines[i].line);
        uint8_t *exact = malloc((size_t)len);
        CU_ASSERT_FATAL(exact != NULL);
        memcpy(exact, text, (size_t)len);
        int rc = passwd_parse(slice_of(exact, (size_t)len), "users", error, sizeof(error), &passwd);
        CHECK_CASE(lines[i].name, rc == (lines[i].good ? 0 : -EINVAL));
        CHECK_CASE(lines[i].name, (passwd != NULL) == lines[i].good);
        CHECK_CASE(lines[i].name, lines[i].good || (strncmp(error, "users:3: ", 9) == 0 && strlen(error) > 20));
        CHECK_CASE(lines[i].name, !passwd || passwd_count(passwd) == 2);
        passwd_free(passwd);
        free(exact);
    }
}

static void test_names(void)
{
    char longest[1026];
    memset(longest, 'n', sizeof(longest));
    longest[1025] = 0;

    CHECK(!passwd_name_valid(slice_str(longest)));
    longest[1024] = 0;
    CHECK(passwd_name_valid(slice_str(longest)));
    CHECK(passwd_name_valid(SLICE("a")) && passwd_name_valid(SLICE("a#")) && passwd_name_valid(SLICE("a/b+c")));
    CHECK(passwd_name_valid(SLICE("\xc2\xa0")) && passwd_name_valid(SLICE("\xe2\x82\xac")));
    CHECK(!passwd_name_valid(SLICE("")) && !passwd_name_valid(slice_of(NULL, 0)) && !passwd_name_valid(SLICE("#a")));
    CHECK(!passwd_name_valid(SLICE("a:b")) && !passwd_name_valid(SLICE("a\nb")) && !passwd_name_valid(SLICE("a\0b")));
    CHECK(!passwd_name_valid(SLICE("a\x7f")) && !passwd_name_valid(SLICE("\xc2\x80")) &&
          !passwd_name_valid(SLICE("\xc2")));
}

/* What could not be computed is wrong, even if the file holds what the memory held before. */
static void test_failure_is_no(void)
{
    struct passwd *passwd =
        parse("u:$6$c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==");
    CHECK(!passwd_verify(passwd_find(passwd, SLICE("u")), slice_of("x", (size_t)INT32_MAX + 1)));
    passwd_free(passwd);
}

static uint64_t fingerprint(const char *text, struct slice user)
{
    struct passwd *passwd = parse(text);
    uint64_t value = passwd_fingerprint(passwd_find(passwd, user));
    passwd_free(passwd);
    return value;
}

static void test_fingerprint(void)
{
    CHECK(fingerprint(ALL, SLICE("bob")) == fingerprint("# another file\n" BOB, SLICE("bob")));
    CHECK(fingerprint(ALL, SLICE("bob")) != 0);
    CHECK(fingerprint(BOB, SLICE("bob")) != fingerprint("bob:$6$c2FsdA==$" KEY64, SLICE("bob")));
    CHECK(fingerprint(ALL, SLICE("bob")) != fingerprint(ALL, SLICE("alice")));
}

static void test_scram_parts(void)
{
    struct passwd *passwd = parse(ALL);
    struct passwd_scram s = {0};

    CHECK(!passwd_scram(passwd_find(passwd, SLICE("bob")), &s));
    CU_ASSERT_FATAL(passwd_scram(passwd_find(passwd, SLICE("user")), &s));
    CHECK(s.iterations == 4096 && s.salt_len == 16 && s.salt[0] == 0x5b && s.stored_key[0] == 0x58 &&
          s.server_key[0] == 0xc1);
    CHECK(passwd_typical_scram(passwd) == passwd_find(passwd, SLICE("user")));
    passwd_free(passwd);
}

/* What is wasted for an unknown user is what most users cost. */
static void test_typical(void)
{
    struct passwd *passwd = parse(ALICE "\n" BOB "\n" EVE);
    CHECK(passwd->typical.entry->secret.form == FORM_PBKDF2_SHA512 && passwd->typical.entry->secret.iterations == 101);
    CHECK(passwd_typical_scram(passwd) == NULL);
    passwd_free(passwd);
    passwd = parse("# nobody\n");
    CHECK(passwd_count(passwd) == 0 && !passwd_find(passwd, SLICE("a")));
    passwd_waste(passwd, SLICE("x"));
    passwd_free(passwd);
}

static void test_hash(void)
{
    static const struct {
        const char *name;
        enum passwd_kind kind;
        uint32_t iterations;
        const char *begin;
    } rows[] = {
        {"argon2id", PASSWD_ARGON2ID, 0, "$argon2id$v=19$m=19456,t=2,p=1$"},
        {"argon2id once", PASSWD_ARGON2ID, 1, "$argon2id$v=19$m=19456,t=1,p=1$"},
        {"pbkdf2", PASSWD_PBKDF2_SHA512, 0, "$7$210000$"},
        {"pbkdf2, few", PASSWD_PBKDF2_SHA512, 101, "$7$101$"},
        {"scram", PASSWD_SCRAM_SHA_256, 0, "SCRAM-SHA-256$15000:"},
        {"scram, few", PASSWD_SCRAM_SHA_256, 1, "SCRAM-SHA-256$1:"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf line = {0}, other = {0};
        buf_put(&line, SLICE("u:"));
        CHECK_CASE(rows[i].name, passwd_hash(rows[i].kind, SLICE("secret"), rows[i].iterations, &line) == 0);
        CHECK_CASE(rows[i].name, memcmp(line.ptr + 2, rows[i].begin, strlen(rows[i].begin)) == 0);
        CHECK_CASE(rows[i].name, passwd_hash(rows[i].kind, SLICE("secret"), rows[i].iterations, &other) == 0);
        CHECK_CASE(rows[i].name, !slice_eq(slice_drop(buf_slice(&line), 2), buf_slice(&other))); /* another salt */
        buf_u8(&line, 0);
        struct passwd *passwd = parse((const char *)line.ptr);
        CHECK_CASE(rows[i].name, passwd_verify(passwd_find(passwd, SLICE("u")), SLICE("secret")));
        CHECK_CASE(rows[i].name, !passwd_verify(passwd_find(passwd, SLICE("u")), SLICE("Secret")));
        passwd_free(passwd);
        CHECK_CASE(rows[i].name, passwd_hash(rows[i].kind, SLICE(""), 1, &line) == -EINVAL);
        CHECK_CASE(rows[i].name, passwd_hash(rows[i].kind, SLICE("x"), 10000001, &line) == -EINVAL);
        buf_deinit(&line);
        buf_deinit(&other);
    }
}

static void test_read(void)
{
    char path[] = "/tmp/tern-passwd-XXXXXX", error[256] = "";
    struct passwd *passwd = NULL;
    int fd = mkstemp(path);

    CU_ASSERT_FATAL(fd >= 0);
    CHECK(write(fd, BOB "\nx\n", sizeof(BOB) + 2) == sizeof(BOB) + 2);
    CHECK(passwd_read(path, error, sizeof(error), &passwd) == -EINVAL);
    CHECK(strncmp(error, path, strlen(path)) == 0 && strncmp(error + strlen(path), ":2: ", 4) == 0);
    CHECK(ftruncate(fd, sizeof(BOB) - 1) == 0); /* and no newline at the end */
    CHECK(passwd_read(path, error, sizeof(error), &passwd) == 0);
    CHECK(passwd && passwd_count(passwd) == 1);
    passwd_free(passwd);
    close(fd);
    unlink(path);
    CHECK(passwd_read(path, error, sizeof(error), &passwd) == -EINVAL);
    CHECK(strstr(error, "No such file") != NULL);
    CHECK(passwd_read("/", error, sizeof(error), &passwd) == -EINVAL);
    CHECK(strstr(error, "directory") != NULL);
}

static void test_memory(void)
{
    struct passwd *passwd = NULL;
    char error[256];
    unsigned n = 1;

    for (alloc_fail_at = 1; passwd_parse(SLICE(ALL), "users", error, sizeof(error), &passwd) == -ENOMEM;
         alloc_fail_at = ++n) {
        CHECK(passwd == NULL);
    }
    alloc_fail_at = 0;
    CHECK(n == 9 && passwd && passwd_count(passwd) == 7); /* the table and seven entries */
    passwd_free(passwd);
}

UNIT_MAIN("broker/auth/passwd", {"verify", test_verify}, {"lines", test_lines}, {"names", test_names},
          {"failure is no", test_failure_is_no}, {"fingerprint", test_fingerprint}, {"scram parts", test_scram_parts},
          {"typical", test_typical}, {"hash", test_hash}, {"read", test_read}, {"memory", test_memory})
