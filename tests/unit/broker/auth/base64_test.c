/* base64_test.c -- RFC 4648: its vectors, both alphabets, and everything that is not the one spelling of some bytes. */
#include "broker/auth/base64.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/base/prng.h"
#include "tests/lib/unit.h"

enum { BOTH, PLAIN, URL }; /* which decoder takes a row */

static const struct {
    const char *text, *hex;
    int by;
} good[] = {
    {"", "", BOTH},
    {"Zg==", "66", PLAIN}, /* RFC 4648, section 10 */
    {"Zm8=", "666f", PLAIN},
    {"Zm9v", "666f6f", BOTH},
    {"Zm9vYg==", "666f6f62", PLAIN},
    {"Zm9vYmE=", "666f6f6261", PLAIN},
    {"Zm9vYmFy", "666f6f626172", BOTH},
    {"Zg", "66", BOTH},
    {"Zm8", "666f", BOTH},
    {"Zm9vYmE", "666f6f6261", BOTH},
    {"AAAA", "000000", BOTH},
    {"+/+/", "fbffbf", PLAIN},
    {"-_-_", "fbffbf", URL},
    {"////", "ffffff", PLAIN},
    {"____", "ffffff", URL},
};

static const struct {
    const char *name, *text;
    int by;
} bad[] = {
    {"one character", "Z", BOTH},
    {"five characters", "Zm9vZ", BOTH},
    {"only padding, one", "=", BOTH},
    {"only padding, four", "====", BOTH},
    {"three of padding", "Z===", BOTH},
    {"half of the padding", "Zg=", BOTH},
    {"padding of a whole group", "Zm9v=", BOTH},
    {"padding of a whole group, four", "Zm9v====", BOTH},
    {"padding in the middle", "Zg==Zg==", BOTH},
    {"padding before the end", "Zg=A", BOTH},
    {"bits behind one byte", "Zh==", BOTH},
    {"bits behind one byte, not padded", "Zh", BOTH},
    {"bits behind two bytes", "Zm9=", BOTH},
    {"bits behind two bytes, not padded", "Zm9", BOTH},
    {"a blank", "Zm 9", BOTH},
    {"a blank at the end", "Zm9v ", BOTH},
    {"a newline", "Zm9v\n", BOTH},
    {"beyond ASCII", "Zm\xc3\xa9", BOTH},
    {"padding in a url", "Zg==", URL},
    {"the other alphabet, plain", "-_-_", PLAIN},
    {"the other alphabet, url", "+/+/", URL},
    {"mixed", "+_AA", BOTH},
};

static struct slice exact(const char *text)
{
    size_t len = strlen(text);
    uint8_t *copy = malloc(len ? len : 1);
    CU_ASSERT_FATAL(copy != NULL);
    memcpy(copy, text, len);
    return slice_of(copy, len);
}

static void test_good(void)
{
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct slice text = exact(good[i].text), want = unit_hex(good[i].hex);
        for (int by = PLAIN; by <= URL; by++) {
            struct buf out = {0};
            buf_put(&out, SLICE("x")); /* it appends */
            int rc = base64_decode(text, by == URL, &out);
            bool taken = good[i].by == BOTH || good[i].by == by;
            CHECK_CASE(good[i].text, rc == (taken ? 0 : -EINVAL));
            CHECK_CASE(good[i].text, slice_eq(slice_drop(buf_slice(&out), 1), taken ? want : SLICE("")));
            buf_deinit(&out);
        }
        free((void *)text.ptr);
        free((void *)want.ptr);
    }
}

static void test_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct slice text = exact(bad[i].text);
        for (int by = PLAIN; by <= URL; by++) {
            struct buf out = {0};
            if (bad[i].by == BOTH || bad[i].by == by) {
                CHECK_CASE(bad[i].name, base64_decode(text, by == URL, &out) == -EINVAL);
                CHECK_CASE(bad[i].name, out.len == 0);
            }
            buf_deinit(&out);
        }
        free((void *)text.ptr);
    }
}

static void test_encode(void)
{
    static const struct {
        const char *hex, *plain, *url;
    } rows[] = {
        {"", "", ""},
        {"66", "Zg==", "Zg"},
        {"666f", "Zm8=", "Zm8"},
        {"666f6f", "Zm9v", "Zm9v"},
        {"666f6f6261", "Zm9vYmE=", "Zm9vYmE"},
        {"fbffbf", "+/+/", "-_-_"},
        {"ff", "/w==", "_w"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice bytes = unit_hex(rows[i].hex);
        for (int url = 0; url < 2; url++) {
            struct buf out = {0};
            base64_encode(bytes, url, &out);
            CHECK_CASE(rows[i].hex, slice_eq(buf_slice(&out), slice_str(url ? rows[i].url : rows[i].plain)));
            buf_deinit(&out);
        }
        free((void *)bytes.ptr);
    }
}

/* What is written reads back; what reads is what would be written (one spelling), but for padding. */
static void test_round_trip(void)
{
    struct prng random;
    prng_seed(&random, 7);
    for (unsigned n = 0; n < 2000; n++) {
        uint8_t bytes[40];
        size_t len = prng_below(&random, sizeof(bytes));
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)prng_next(&random);
        }
        struct buf text = {0}, back = {0};
        base64_encode(slice_of(bytes, len), n % 2, &text);
        CHECK(base64_decode(buf_slice(&text), n % 2, &back) == 0);
        CHECK(slice_eq(buf_slice(&back), slice_of(bytes, len)));
        buf_deinit(&text);
        buf_deinit(&back);
    }
}

UNIT_MAIN("broker/auth/base64", {"good", test_good}, {"bad", test_bad}, {"encode", test_encode},
          {"round trip", test_round_trip})
