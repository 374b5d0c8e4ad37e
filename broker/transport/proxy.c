/* proxy.c -- the two forms of the header (proxy-protocol.txt, 2.1 and 2.2). */
#include "broker/transport/proxy.h"

#include <arpa/inet.h>
#include <errno.h>

#include "proto/base/cursor.h"
#include "proto/base/utf8.h"

static const struct slice v1_start = {(const uint8_t *)"PROXY ", 6};
static const struct slice v2_start = {(const uint8_t *)"\r\n\r\n\0\r\nQUIT\n", 12};

#define V1_BYTES_MAX 107u /* with CR LF (2.1) */
#define V2_FIXED_BYTES 16u

enum { COMMAND_LOCAL = 0, COMMAND_PROXY = 1 };
enum { FAMILY_UNSPEC = 0, FAMILY_INET = 1, FAMILY_INET6 = 2, FAMILY_UNIX = 3 };
enum { PROTOCOL_UNSPEC = 0, PROTOCOL_STREAM = 1, PROTOCOL_DGRAM = 2 };
enum { TYPE_SSL = 0x20, TYPE_SSL_CN = 0x22 };
enum { CLIENT_SSL = 1, CLIENT_CERT_CONN = 2, CLIENT_CERT_SESS = 4 };

static void address_map(struct in6_addr *out, const uint8_t ipv4[4])
{
    memset(out, 0, sizeof(*out));
    memset(out->s6_addr + 10, 0xff, 2);
    memcpy(out->s6_addr + 12, ipv4, 4);
}

/* ---- version 1: one line of text ---- */

/* The next word of the line; words are parted by exactly one space. Returns false if there is none. */
static bool line_word(struct slice *line, struct slice *ret_word)
{
    const uint8_t *space = memchr(line->ptr, ' ', line->len);
    size_t len = space ? (size_t)(space - line->ptr) : line->len;

    *ret_word = slice_of(line->ptr, len);
    *line = slice_drop(*line, space ? len + 1 : len);
    return len > 0;
}

static bool text_address(struct slice word, int family, struct in6_addr *ret_address)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t ipv4[4];

    if (word.len >= sizeof(text) || memchr(word.ptr, 0, word.len)) {
        return false;
    }
    memcpy(text, word.ptr, word.len);
    text[word.len] = '\0';
    if (family == AF_INET6) {
        return inet_pton(AF_INET6, text, ret_address) == 1;
    }
    if (inet_pton(AF_INET, text, ipv4) != 1) {
        return false;
    }
    address_map(ret_address, ipv4);
    return true;
}

static bool text_port(struct slice word, uint16_t *ret_port)
{
    unsigned port = 0;

    if (word.len > 5 || (word.len > 1 && word.ptr[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < word.len; i++) {
        if (word.ptr[i] < '0' || word.ptr[i] > '9') {
            return false;
        }
        port = port * 10 + (word.ptr[i] - '0');
    }
    *ret_port = (uint16_t)port;
    return port <= UINT16_MAX;
}

/* What stands between "PROXY " and CR LF. */
static int v1_line(struct slice line, struct proxy_header *h)
{
    struct slice kind, from, to, from_port, to_port;
    struct in6_addr to_address;
    uint16_t to_number;

    if (!line_word(&line, &kind)) {
        return -EBADMSG;
    }
    if (slice_eq(kind, SLICE("UNKNOWN"))) { /* what follows up to the end is to be ignored */
        h->local = true;
        return 0;
    }
    bool inet6 = slice_eq(kind, SLICE("TCP6"));
    int family = inet6 ? AF_INET6 : AF_INET;
    if (!inet6 && !slice_eq(kind, SLICE("TCP4"))) {
        return -EBADMSG;
    }
    bool whole = line_word(&line, &from) && line_word(&line, &to) && line_word(&line, &from_port) &&
                 line_word(&line, &to_port) && line.len == 0 && to_port.ptr + to_port.len == line.ptr;
    return whole && text_address(from, family, &h->address) && text_address(to, family, &to_address) &&
                   text_port(from_port, &h->port) && text_port(to_port, &to_number)
               ? 0
               : -EBADMSG;
}

static int v1_parse(struct slice data, struct proxy_header *h)
{
    size_t seen = data.len < V1_BYTES_MAX ? data.len : V1_BYTES_MAX;
    const uint8_t *end = memchr(data.ptr, '\n', seen);

    if (!end) {
        return seen == V1_BYTES_MAX ? -EBADMSG : 0;
    }
    size_t size = (size_t)(end - data.ptr) + 1;
    if (size < v1_start.len + 2 || end[-1] != '\r') {
        return -EBADMSG;
    }
    int rc = v1_line(slice_of(data.ptr + v1_start.len, size - 2 - v1_start.len), h);
    return rc ? rc : (int)size;
}

/* ---- version 2: binary ---- */

/* PP2_TYPE_SSL (2.2.6): what the balancer knows of the client's TLS. */
static bool read_ssl(struct slice value, struct proxy_header *h)
{
    struct cursor c = cursor_at(value);
    uint8_t client = cursor_u8(&c);
    uint32_t verify = cursor_u32(&c);

    h->tls = client & CLIENT_SSL;
    h->certificate = h->tls && client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS) && verify == 0;
    h->common_name = (struct slice){NULL, 0};
    while (!c.failed && cursor_left(&c) > 0) {
        uint8_t type = cursor_u8(&c);
        struct slice field = cursor_binary(&c);
        if (type == TYPE_SSL_CN && h->certificate) {
            h->common_name = field;
        }
    }
    return !c.failed && utf8_valid(h->common_name); /* it may become a user's name: no NUL inside */
}

/* The fields behind the addresses (2.2). Types that we have no use for are passed over. */
static bool read_fields(struct cursor *c, struct proxy_header *h)
{
    while (!c->failed && cursor_left(c) > 0) {
        uint8_t type = cursor_u8(c);
        struct slice value = cursor_binary(c);
        if (type == TYPE_SSL && !c->failed && !read_ssl(value, h)) {
            return false;
        }
    }
    return !c->failed;
}

/* Addresses: source, destination, their ports. */
static void read_addresses(struct cursor *c, unsigned family, struct proxy_header *h)
{
    size_t each = family == FAMILY_INET ? 4 : 16;
    struct slice from = cursor_take(c, each);

    cursor_take(c, each);
    uint16_t port = cursor_u16(c);
    cursor_u16(c);
    if (c->failed) {
        return;
    }
    if (family == FAMILY_INET) {
        address_map(&h->address, from.ptr);
    } else {
        memcpy(&h->address, from.ptr, sizeof(h->address));
    }
    h->port = port;
}

static int v2_body(struct slice body, unsigned command, unsigned family, unsigned protocol, struct proxy_header *h)
{
    struct cursor c = cursor_at(body);

    if (command == COMMAND_LOCAL) { /* everything else in it is to be ignored */
        h->local = true;
        return 0;
    }
    if (family > FAMILY_UNIX || protocol > PROTOCOL_DGRAM) {
        return -EBADMSG;
    }
    if (protocol != PROTOCOL_STREAM || (family != FAMILY_INET && family != FAMILY_INET6)) {
        h->local = true; /* no address that a TCP client could have: the connection's own counts, as 2.2 leaves open */
        return 0;
    }
    read_addresses(&c, family, h);
    return read_fields(&c, h) ? 0 : -EBADMSG;
}

static int v2_parse(struct slice data, struct proxy_header *h)
{
    struct cursor c = cursor_at(slice_drop(data, v2_start.len));
    uint8_t version_command = cursor_u8(&c), family_protocol = cursor_u8(&c);
    size_t body_len = cursor_u16(&c);
    unsigned command = version_command & 0x0f;

    if (data.len > v2_start.len && (version_command >> 4 != 2 || command > COMMAND_PROXY)) {
        return -EBADMSG;
    }
    if (c.failed) {
        return 0;
    }
    if (V2_FIXED_BYTES + body_len > PROXY_HEADER_MAX) {
        return -EMSGSIZE;
    }
    struct slice body = cursor_take(&c, body_len);
    if (c.failed) {
        return 0;
    }
    int rc = v2_body(body, command, family_protocol >> 4, family_protocol & 0x0f, h);
    return rc ? rc : (int)(V2_FIXED_BYTES + body_len);
}

/* Whether data is the beginning of start, or begins with it. */
static bool begins(struct slice data, struct slice start)
{
    size_t n = data.len < start.len ? data.len : start.len;

    return n == 0 || memcmp(data.ptr, start.ptr, n) == 0;
}

int proxy_parse(struct slice data, struct proxy_header *ret_header)
{
    struct proxy_header header = {0};
    bool v1 = begins(data, v1_start), v2 = begins(data, v2_start);
    int size;

    if (!v1 && !v2) {
        return -EBADMSG;
    }
    if (data.len < (v1 ? v1_start : v2_start).len) {
        return 0;
    }
    size = v1 ? v1_parse(data, &header) : v2_parse(data, &header);
    if (size > 0) {
        *ret_header = header;
    }
    return size;
}
