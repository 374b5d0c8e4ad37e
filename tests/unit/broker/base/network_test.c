/* network_test.c -- addresses and networks: what is text for one, and who belongs to it. */
#include "broker/base/network.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

/* A copy of exact size: ASan sees one byte over. */
static struct slice exact(const char *text)
{
    size_t len = strlen(text);
    return slice_of(memcpy(malloc(len ? len : 1), text, len), len);
}

static const struct {
    const char *name, *text, *want; /* NULL: -EINVAL */
} addresses[] = {
    {"IPv4", "192.0.2.7", "192.0.2.7"},
    {"IPv4, all zero", "0.0.0.0", "0.0.0.0"},
    {"IPv6", "2001:DB8::1", "2001:db8::1"},
    {"IPv6, any", "::", "::"},
    {"in brackets", "[2001:db8::1]", "2001:db8::1"},
    {"IPv4 mapped is IPv4", "::ffff:192.0.2.7", "192.0.2.7"},
    {"longest", "2001:0db8:1111:2222:3333:4444:5555:6666", "2001:db8:1111:2222:3333:4444:5555:6666"},
    {"empty", "", NULL},
    {"a name", "localhost", NULL},
    {"IPv4 in brackets", "[192.0.2.7]", NULL},
    {"one bracket", "[::1", NULL},
    {"other bracket", "::1]", NULL},
    {"empty brackets", "[]", NULL},
    {"brackets twice", "[[::1]]", NULL},
    {"with a port", "192.0.2.7:1883", NULL},
    {"with a zone", "fe80::1%eth0", NULL},
    {"with a prefix", "10.0.0.0/8", NULL},
    {"three numbers", "10.0.1", NULL},
    {"octal", "010.0.0.1", NULL},
    {"256", "256.0.0.1", NULL},
    {"space", " 10.0.0.1", NULL},
    {"longer than any", "2001:0db8:1111:2222:3333:4444:5555:6666:7777:8888", NULL},
};

static void test_address(void)
{
    for (size_t i = 0; i < COUNT_OF(addresses); i++) {
        struct in6_addr address;
        char text[ADDRESS_TEXT];
        struct slice s = exact(addresses[i].text);
        int rc = address_parse(s, &address);
        CHECK_CASE(addresses[i].name, rc == (addresses[i].want ? 0 : -EINVAL));
        CHECK_CASE(addresses[i].name, rc != 0 || strcmp(address_text(&address, text), addresses[i].want) == 0);
        free((void *)s.ptr);
    }
    struct in6_addr address;
    CHECK(address_parse(SLICE("::1\0"), &address) == -EINVAL);
}

static const struct {
    const char *name, *text;
    int prefix; /* -1: -EINVAL */
} networks[] = {
    {"IPv4 counts from the mapped form", "10.0.0.0/8", 104},
    {"IPv4, one host", "192.0.2.7", 128},
    {"IPv4, everything", "0.0.0.0/0", 96},
    {"IPv4, /32", "192.0.2.7/32", 128},
    {"IPv4, odd prefix", "192.0.2.128/25", 121},
    {"IPv6, one host", "::1", 128},
    {"IPv6", "2001:db8::/32", 32},
    {"IPv6, everything", "::/0", 0},
    {"mapped text has its own prefix", "::ffff:10.0.0.0/104", 104},
    {"a bit behind the prefix", "10.0.0.1/8", -1},
    {"the first bit behind the prefix", "10.128.0.0/8", -1},
    {"a bit behind an odd prefix", "192.0.2.128/24", -1},
    {"IPv6, a bit behind the prefix", "2001:db8::1/32", -1},
    {"/33 of IPv4", "10.0.0.0/33", -1},
    {"/129", "::/129", -1},
    {"no prefix after the slash", "10.0.0.0/", -1},
    {"a sign", "10.0.0.0/+8", -1},
    {"a leading zero", "10.0.0.0/08", -1},
    {"four digits", "::/0128", -1},
    {"a letter", "10.0.0.0/8x", -1},
    {"two slashes", "10.0.0.0/8/8", -1},
    {"no address", "/8", -1},
    {"empty", "", -1},
    {"brackets", "[::]/0", -1},
};

static void test_network(void)
{
    for (size_t i = 0; i < COUNT_OF(networks); i++) {
        struct network network = {.prefix = 77};
        struct slice s = exact(networks[i].text);
        int rc = network_parse(s, &network);
        CHECK_CASE(networks[i].name, rc == (networks[i].prefix < 0 ? -EINVAL : 0));
        CHECK_CASE(networks[i].name, network.prefix == (networks[i].prefix < 0 ? 77 : networks[i].prefix));
        free((void *)s.ptr);
    }
}

static const struct {
    const char *name, *list, *address;
    bool want;
} members[] = {
    {"first address", "10.0.0.0/8", "10.0.0.0", true},
    {"last address", "10.0.0.0/8", "10.255.255.255", true},
    {"the one before", "10.0.0.0/8", "9.255.255.255", false},
    {"the one behind", "10.0.0.0/8", "11.0.0.0", false},
    {"odd prefix, inside", "192.0.2.128/25", "192.0.2.129", true},
    {"odd prefix, outside", "192.0.2.128/25", "192.0.2.127", false},
    {"all of IPv4 has no IPv6", "0.0.0.0/0", "::1", false},
    {"all of IPv6 has IPv4", "::/0", "10.0.0.1", true},
    {"mapped address in IPv4 network", "10.0.0.0/8", "::ffff:10.1.2.3", true},
    {"IPv6 inside", "2001:db8::/33", "2001:db8:7fff::1", true},
    {"IPv6 outside by the 33rd bit", "2001:db8::/33", "2001:db8:8000::1", false},
    {"second of a list", "10.0.0.0/8, 192.0.2.0/24", "192.0.2.9", true},
    {"last of a list without spaces", "10.0.0.0/8,192.0.2.0/24,::1", "::1", true},
    {"none of a list", "10.0.0.0/8, 192.0.2.0/24", "192.0.3.9", false},
    {"empty list", "", "10.0.0.1", false},
    {"what is no network has nobody", "nonsense, 10.0.0.1", "10.0.0.1", true},
};

static void test_list(void)
{
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        struct in6_addr address;
        CHECK_CASE(members[i].name, address_parse(slice_str(members[i].address), &address) == 0);
        CHECK_CASE(members[i].name, network_list_has(members[i].list, &address) == members[i].want);
    }
}

static const struct {
    const char *address;
    bool want;
} loopbacks[] = {{"127.0.0.1", true}, {"127.255.0.9", true}, {"::1", true},          {"126.0.0.1", false},
                 {"0.0.0.0", false},  {"::", false},         {"::127.0.0.1", false}, {"2001:db8::1", false}};

static void test_loopback(void)
{
    for (size_t i = 0; i < COUNT_OF(loopbacks); i++) {
        struct in6_addr address;
        CHECK_CASE(loopbacks[i].address, address_parse(slice_str(loopbacks[i].address), &address) == 0);
        CHECK_CASE(loopbacks[i].address, address_is_loopback(&address) == loopbacks[i].want);
    }
}

UNIT_MAIN("broker/base/network", {"address", test_address}, {"network", test_network}, {"list", test_list},
          {"loopback", test_loopback})
