/* proxy_test.c -- PROXY headers of both versions: true, cut, spoofed and never-ending ones. */
#include "broker/transport/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/base/buf.h"
#include "tests/lib/unit.h"

enum { MORE = 0, WHOLE = 1 }; /* WHOLE: all of the row, and nothing of what follows it */

static const struct {
    const char *name, *line;
    int want;
    const char *address; /* NULL: local */
    uint16_t port;
} lines[] = {
    {"IPv4", "PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883\r\n", WHOLE, "::ffff:192.0.2.7", 56324},
    {"IPv4, the longest", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", WHOLE, "::ffff:255.255.255.255",
     65535},
    {"IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 4 1883\r\n", WHOLE, "2001:db8::1", 4},
    {"IPv6, the longest",
     "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
     WHOLE, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535},
    {"port 0", "PROXY TCP4 192.0.2.7 198.51.100.1 0 0\r\n", WHOLE, "::ffff:192.0.2.7", 0},
    {"UNKNOWN alone", "PROXY UNKNOWN\r\n", WHOLE, NULL, 0},
    {"UNKNOWN with what is ignored, 107 bytes",
     "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
     WHOLE, NULL, 0},
    {"nothing yet", "", MORE, NULL, 0},
    {"no end yet", "PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883", MORE, NULL, 0},
    {"half an end", "PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883\r", MORE, NULL, 0},
    {"MQTT instead", "\x10\x0c", -EBADMSG, NULL, 0},
    {"HTTP instead, known from its second byte on", "PO", -EBADMSG, NULL, 0},
    {"lower case", "proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n", -EBADMSG, NULL, 0},
    {"another protocol", "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", -EBADMSG, NULL, 0},
    {"nothing in it", "PROXY \r\n", -EBADMSG, NULL, 0},
    {"shorter than its start", "PROXY \n", -EBADMSG, NULL, 0},
    {"LF alone", "PROXY TCP4 192.0.2.7 198.51.100.1 1 25\n", -EBADMSG, NULL, 0},
    {"a bare CR in it", "PROXY TCP4 192.0.2.7\r198.51.100.1 1 2\r\n", -EBADMSG, NULL, 0},
    {"two spaces", "PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n", -EBADMSG, NULL, 0},
    {"space at the end", "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n", -EBADMSG, NULL, 0},
    {"a port is missing", "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", -EBADMSG, NULL, 0},
    {"a word too many", "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", -EBADMSG, NULL, 0},
    {"port above 65535", "PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n", -EBADMSG, NULL, 0},
    {"the balancer's port above 65535", "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n", -EBADMSG, NULL, 0},
    {"leading zero", "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n", -EBADMSG, NULL, 0},
    {"negative port", "PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n", -EBADMSG, NULL, 0},
    {"IPv6 as TCP4", "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", -EBADMSG, NULL, 0},
    {"IPv4 as TCP6", "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n", -EBADMSG, NULL, 0},
    {"no address", "PROXY TCP4 localhost 198.51.100.1 1 2\r\n", -EBADMSG, NULL, 0},
    {"the balancer's is none", "PROXY TCP4 192.0.2.7 198.51.100 1 2\r\n", -EBADMSG, NULL, 0},
    {"never-ending",
     "PROXY UNKNOWN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     -EBADMSG, NULL, 0},
    {"an end behind the 107th byte",
     "PROXY UNKNOWN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
     -EBADMSG, NULL, 0},
};

/* What comes of every beginning of the header, byte by byte: more is needed until it is whole or known to be wrong, and
 * that stays so whatever follows. */
static void check_prefixes(const char *name, struct slice all, int want)
{
    struct proxy_header header;
    int settled = 0;

    for (size_t len = 0; len <= all.len; len++) {
        uint8_t *copy = malloc(len ? len : 1); /* of exact size: ASan sees one byte over */
        if (len > 0) {
            memcpy(copy, all.ptr, len);
        }
        struct slice part = slice_of(copy, len);
        int got = proxy_parse(part, &header);
        CHECK_CASE(name, settled == 0 || got == settled);
        CHECK_CASE(name, got <= 0 || (size_t)got <= len);
        settled = got;
        free(copy);
    }
    CHECK_CASE(name, settled == want);
}

static void check_header(const char *name, struct slice header, int want, const char *address, uint16_t port)
{
    struct proxy_header h = {.port = 1234};
    struct in6_addr wanted = {0};
    struct buf with_more = {0};
    int size = want == WHOLE ? (int)header.len : want;

    buf_put(&with_more, header);
    if (want == WHOLE) {
        buf_put(&with_more, SLICE("\x10\x0c\r\n"));
    }
    check_prefixes(name, buf_slice(&with_more), size);
    CHECK_CASE(name, proxy_parse(buf_slice(&with_more), &h) == size);
    if (want != WHOLE) {
        CHECK_CASE(name, h.port == 1234);
    } else {
        CHECK_CASE(name, !address || inet_pton(AF_INET6, address, &wanted) == 1);
        CHECK_CASE(name, h.local == !address);
        CHECK_CASE(name, memcmp(&h.address, &wanted, sizeof(wanted)) == 0);
        CHECK_CASE(name, h.port == port);
    }
    buf_deinit(&with_more);
}

static void test_lines(void)
{
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        check_header(lines[i].name, slice_str(lines[i].line), lines[i].want, lines[i].address, lines[i].port);
    }
}

#define SIGNATURE "0d0a0d0a000d0a515549540a "
#define INET "c0000207 c6336401 dc04 075b " /* 192.0.2.7:56324 -> 198.51.100.1:1883 */
#define INET6 "20010db8000000000000000000000001 20010db8000000000000000000000002 dc04 075b "

static const struct {
    const char *name, *hex;
    int want;
    const char *address;
    uint16_t port;
} binaries[] = {
    {"IPv4", SIGNATURE "21 11 000c " INET, WHOLE, "::ffff:192.0.2.7", 56324},
    {"IPv6", SIGNATURE "21 21 0024 " INET6, WHOLE, "2001:db8::1", 56324},
    {"LOCAL", SIGNATURE "20 00 0000", WHOLE, NULL, 0},
    {"LOCAL with an address that is ignored", SIGNATURE "20 11 000c " INET, WHOLE, NULL, 0},
    {"LOCAL with a family that is none and fields that are none", SIGNATURE "20 ff 0003 010203", WHOLE, NULL, 0},
    {"UNSPEC", SIGNATURE "21 00 0000", WHOLE, NULL, 0},
    {"UNSPEC with bytes", SIGNATURE "21 00 0003 010203", WHOLE, NULL, 0},
    {"UNIX stream", SIGNATURE "21 31 0002 0000", WHOLE, NULL, 0},
    {"UDP over IPv4 is no client of ours", SIGNATURE "21 12 000c " INET, WHOLE, NULL, 0},
    {"fields of no use", SIGNATURE "21 11 0016 " INET "01 0004 6d717474 04 0000", WHOLE, "::ffff:192.0.2.7", 56324},
    {"half a signature", "0d0a0d0a 00", MORE, NULL, 0},
    {"signature alone", SIGNATURE, MORE, NULL, 0},
    {"no length yet", SIGNATURE "21 11 00", MORE, NULL, 0},
    {"an address cut short", SIGNATURE "21 11 000c c0000207", MORE, NULL, 0},
    {"the signature goes wrong", "0d0a0d0a 01", -EBADMSG, NULL, 0},
    {"version 1 in binary", SIGNATURE "11", -EBADMSG, NULL, 0},
    {"version 3", SIGNATURE "31", -EBADMSG, NULL, 0},
    {"command 2", SIGNATURE "22", -EBADMSG, NULL, 0},
    {"family 4", SIGNATURE "21 41 000c " INET, -EBADMSG, NULL, 0},
    {"protocol 3", SIGNATURE "21 13 000c " INET, -EBADMSG, NULL, 0},
    {"shorter than two addresses", SIGNATURE "21 11 000b c0000207 c6336401 dc04 07", -EBADMSG, NULL, 0},
    {"IPv6 with the length of IPv4", SIGNATURE "21 21 000c " INET, -EBADMSG, NULL, 0},
    {"half a field", SIGNATURE "21 11 000e " INET "01 00", -EBADMSG, NULL, 0},
    {"a field longer than the header", SIGNATURE "21 11 0010 " INET "01 0002 61", -EBADMSG, NULL, 0},
    {"as long as may be, not all there", SIGNATURE "21 11 0ff0", MORE, NULL, 0},
    {"longer than may be", SIGNATURE "21 11 0ff1", -EMSGSIZE, NULL, 0},
    {"LOCAL, longer than may be", SIGNATURE "20 00 ffff", -EMSGSIZE, NULL, 0},
};

static void test_binaries(void)
{
    for (size_t i = 0; i < COUNT_OF(binaries); i++) {
        struct slice header = unit_hex(binaries[i].hex);
        check_header(binaries[i].name, header, binaries[i].want, binaries[i].address, binaries[i].port);
        free((void *)header.ptr);
    }
}

static const struct {
    const char *name, *fields;
    bool good, tls, certificate;
    const char *common_name;
} certificates[] = {
    {"TLS with a good certificate", "20 000d 07 00000000 22 0005 616c696365", true, true, true, "alice"},
    {"shown when the session began", "20 000d 05 00000000 22 0005 616c696365", true, true, true, "alice"},
    {"version and cipher around it", "20 0016 03 00000000 21 0003 312e33 22 0001 61 23 0004 41455321", true, true, true,
     "a"},
    {"another field before and behind", "01 0001 68 20 0009 03 00000000 22 0001 61 04 0000", true, true, true, "a"},
    {"TLS without a certificate", "20 0005 01 00000000", true, true, false, ""},
    {"a certificate that did not verify", "20 000d 03 00000001 22 0005 616c696365", true, true, false, ""},
    {"no TLS, so no certificate either", "20 000d 06 00000000 22 0005 616c696365", true, false, false, ""},
    {"a common name, but no certificate", "20 000d 01 00000000 22 0005 616c696365", true, true, false, ""},
    {"the last of two counts", "20 0009 03 00000000 22 0001 61 20 0005 01 00000000", true, true, false, ""},
    {"a certificate without a name", "20 0005 03 00000000", true, true, true, ""},
    {"none at all", "", true, false, false, ""},
    {"shorter than its fixed part", "20 0004 01 000000", false, false, false, NULL},
    {"a name longer than its field", "20 0009 03 00000000 22 0002 61", false, false, false, NULL},
    {"half a field inside", "20 0007 03 00000000 22 00", false, false, false, NULL},
    {"a name with a NUL", "20 000b 03 00000000 22 0003 610062", false, false, false, NULL},
    {"a name that is not UTF-8", "20 0009 03 00000000 22 0001 ff", false, false, false, NULL},
};

static void test_certificates(void)
{
    for (size_t i = 0; i < COUNT_OF(certificates); i++) {
        struct slice start = unit_hex(SIGNATURE "21 11 0000 " INET), fields = unit_hex(certificates[i].fields);
        struct proxy_header h = {0};
        struct buf all = {0};
        buf_put(&all, start);
        buf_put(&all, fields);
        all.ptr[15] = (uint8_t)(12 + fields.len);
        int got = proxy_parse(buf_slice(&all), &h);
        CHECK_CASE(certificates[i].name, got == (certificates[i].good ? (int)all.len : -EBADMSG));
        CHECK_CASE(certificates[i].name, h.tls == certificates[i].tls);
        CHECK_CASE(certificates[i].name, h.certificate == certificates[i].certificate);
        if (certificates[i].common_name) {
            CHECK_CASE(certificates[i].name, slice_eq(h.common_name, slice_str(certificates[i].common_name)));
        }
        check_prefixes(certificates[i].name, buf_slice(&all), got);
        buf_deinit(&all);
        free((void *)start.ptr);
        free((void *)fields.ptr);
    }
}

static void test_longest(void)
{
    struct slice start = unit_hex(SIGNATURE "21 11 0ff0 " INET "04 0fe1");
    struct proxy_header h;
    struct buf all = {0};

    buf_put(&all, start);
    while (all.len < PROXY_HEADER_MAX) {
        CHECK(proxy_parse(buf_slice(&all), &h) == 0);
        buf_u8(&all, 0);
    }
    CHECK(proxy_parse(buf_slice(&all), &h) == (int)PROXY_HEADER_MAX);
    buf_deinit(&all);
    free((void *)start.ptr);
}

UNIT_MAIN("broker/transport/proxy", {"version 1", test_lines}, {"version 2", test_binaries},
          {"certificates", test_certificates}, {"the longest", test_longest})
