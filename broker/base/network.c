/* network.c -- text to address by inet_pton, which takes no short or octal forms; the rest is bits. */
#include "broker/base/network.h"

#include <arpa/inet.h>
#include <errno.h>

#define IPV4_BITS 32u
#define IPV6_BITS 128u
#define MAPPED_BITS (IPV6_BITS - IPV4_BITS) /* ::ffff:0:0/96 */

/* Into the mapped form. *ret_bits: how many bits the address has as it was written. */
static int parse(struct slice text, struct in6_addr *ret_address, unsigned *ret_bits)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address = {0};

    if (text.len == 0 || text.len >= sizeof(copy) || memchr(text.ptr, 0, text.len)) {
        return -EINVAL;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    unsigned bits = memchr(copy, ':', text.len) ? IPV6_BITS : IPV4_BITS;
    if (bits == IPV4_BITS) {
        memset(address.s6_addr + 10, 0xff, 2);
    }
    if (inet_pton(bits == IPV4_BITS ? AF_INET : AF_INET6, copy, address.s6_addr + (IPV6_BITS - bits) / 8) != 1) {
        return -EINVAL;
    }
    *ret_address = address;
    *ret_bits = bits;
    return 0;
}

/* Whether a and b agree in their first n bits. */
static bool bits_eq(const struct in6_addr *a, const struct in6_addr *b, unsigned n)
{
    unsigned whole = n / 8, rest = n % 8;

    return memcmp(a, b, whole) == 0 && (rest == 0 || (a->s6_addr[whole] ^ b->s6_addr[whole]) >> (8 - rest) == 0);
}

static bool bits_zero_from(const struct in6_addr *a, unsigned n)
{
    for (unsigned i = n; i < IPV6_BITS; i++) {
        if (a->s6_addr[i / 8] & 0x80 >> i % 8) {
            return false;
        }
    }
    return true;
}

/* "0".."128", as a person writes it. */
static int prefix_parse(struct slice text, unsigned bits, unsigned *ret_prefix)
{
    unsigned prefix = 0;

    if (text.len == 0 || text.len > 3 || (text.len > 1 && text.ptr[0] == '0')) {
        return -EINVAL;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return -EINVAL;
        }
        prefix = prefix * 10 + (text.ptr[i] - '0');
    }
    *ret_prefix = prefix;
    return prefix <= bits ? 0 : -EINVAL;
}

int network_parse(struct slice text, struct network *ret_network)
{
    const uint8_t *slash = text.len > 0 ? memchr(text.ptr, '/', text.len) : NULL;
    size_t len = slash ? (size_t)(slash - text.ptr) : text.len;
    struct in6_addr address;
    unsigned bits, prefix;

    if (parse(slice_of(text.ptr, len), &address, &bits) != 0) {
        return -EINVAL;
    }
    prefix = bits;
    if (slash && prefix_parse(slice_drop(text, len + 1), bits, &prefix) != 0) {
        return -EINVAL;
    }
    prefix += IPV6_BITS - bits;
    if (!bits_zero_from(&address, prefix)) {
        return -EINVAL;
    }
    *ret_network = (struct network){.address = address, .prefix = (uint8_t)prefix};
    return 0;
}

bool network_has(const struct network *network, const struct in6_addr *address)
{
    return bits_eq(&network->address, address, network->prefix);
}

int address_parse(struct slice text, struct in6_addr *ret_address)
{
    bool brackets = text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']';
    struct in6_addr address;
    unsigned bits;

    if (brackets) {
        text = slice_of(text.ptr + 1, text.len - 2);
    }
    if (parse(text, &address, &bits) != 0 || (brackets && bits == IPV4_BITS)) {
        return -EINVAL;
    }
    *ret_address = address;
    return 0;
}

bool address_is_loopback(const struct in6_addr *address)
{
    return IN6_IS_ADDR_LOOPBACK(address) || (IN6_IS_ADDR_V4MAPPED(address) && address->s6_addr[12] == 127);
}

bool network_list_has(const char *list, const struct in6_addr *address)
{
    struct slice rest = slice_str(list);
    struct network network;

    while (rest.len > 0) {
        const uint8_t *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
        if (network_parse(slice_trim(slice_of(rest.ptr, len)), &network) == 0 && network_has(&network, address)) {
            return true;
        }
        rest = slice_drop(rest, comma ? len + 1 : len);
    }
    return false;
}

const char *address_text(const struct in6_addr *address, char text[ADDRESS_TEXT])
{
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        return inet_ntop(AF_INET, address->s6_addr + MAPPED_BITS / 8, text, ADDRESS_TEXT);
    }
    return inet_ntop(AF_INET6, address, text, ADDRESS_TEXT);
}
