/* fuzz_proxy.c -- any bytes as a PROXY header; the reference reads it as the specification is written, by scanf and by
 * fixed places. The first byte of the input puts a signature before the rest, or nothing. */
#include "broker/transport/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "proto/base/buf.h"
#include "proto/base/utf8.h"
#include "tests/fuzz/ops.h"

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static bool number_good(const char *text, unsigned *ret_number)
{
    char again[16];

    *ret_number = (unsigned)strtoul(text, NULL, 10);
    snprintf(again, sizeof(again), "%u", *ret_number);
    return strcmp(again, text) == 0 && *ret_number <= 65535;
}

/* 1: whole and good; 0: not whole; -1: wrong. */
static int reference_text(struct slice data, struct proxy_header *h, size_t *ret_size)
{
    char line[108] = "", kind[108], from[108], to[108], port[108], other_port[108], again[600];
    unsigned number, other;
    struct in6_addr to_address;

    for (*ret_size = 0; *ret_size < data.len; ++*ret_size) {
        if (*ret_size == 107) {
            return -1;
        }
        line[*ret_size] = (char)data.ptr[*ret_size];
        if (data.ptr[*ret_size] == '\n') {
            break;
        }
    }
    if (*ret_size == data.len) {
        return *ret_size == 107 ? -1 : 0;
    }
    if (memchr(line, 0, *ret_size)) {
        const char *unknown = "PROXY UNKNOWN ";
        h->local = true;
        return memcmp(line, unknown, strlen(unknown)) == 0 && line[*ret_size - 1] == '\r' ? 1 : -1;
    }
    if (strcmp(line, "PROXY UNKNOWN\r\n") == 0 || strncmp(line, "PROXY UNKNOWN ", 14) == 0) {
        h->local = true;
        return line[*ret_size - 1] == '\r' ? 1 : -1;
    }
    if (sscanf(line, "PROXY %s %s %s %s %s", kind, from, to, port, other_port) != 5) {
        return -1;
    }
    snprintf(again, sizeof(again), "PROXY %s %s %s %s %s\r\n", kind, from, to, port, other_port);
    bool v4 = strcmp(kind, "TCP4") == 0;
    if (strcmp(again, line) != 0 || (!v4 && strcmp(kind, "TCP6") != 0)) {
        return -1;
    }
    if (v4) {
        h->address.s6_addr[10] = h->address.s6_addr[11] = 0xff;
    }
    if (inet_pton(v4 ? AF_INET : AF_INET6, from, h->address.s6_addr + (v4 ? 12 : 0)) != 1 ||
        inet_pton(v4 ? AF_INET : AF_INET6, to, &to_address) != 1 || !number_good(port, &number) ||
        !number_good(other_port, &other)) {
        return -1;
    }
    h->port = (uint16_t)number;
    return 1;
}

static int reference_ssl(const uint8_t *p, size_t len, struct proxy_header *h)
{
    size_t at = 5;

    if (len < 5) {
        return -1;
    }
    h->tls = p[0] & 1;
    h->certificate = (p[0] & 1) && (p[0] & 6) && !p[1] && !p[2] && !p[3] && !p[4];
    h->common_name = slice_of(NULL, 0);
    while (at < len) {
        if (len - at < 3 || len - at - 3 < (size_t)(p[at + 1] * 256 + p[at + 2])) {
            return -1;
        }
        size_t n = (size_t)(p[at + 1] * 256 + p[at + 2]);
        if (p[at] == 0x22 && h->certificate) {
            h->common_name = slice_of(p + at + 3, n);
        }
        at += 3 + n;
    }
    return utf8_valid(h->common_name) ? 1 : -1;
}

static int reference_binary(struct slice data, struct proxy_header *h, size_t *ret_size)
{
    const uint8_t *p = data.ptr;

    if (data.len > 12 && p[12] != 0x20 && p[12] != 0x21) {
        return -1;
    }
    if (data.len < 16) {
        return 0;
    }
    size_t end = 16 + (size_t)(p[14] * 256 + p[15]), addresses = p[13] == 0x11 ? 12 : 36;
    *ret_size = end - 1;
    if (end > PROXY_HEADER_MAX) {
        return -2;
    }
    if (data.len < end) {
        return 0;
    }
    if (p[12] == 0x20) {
        h->local = true;
        return 1;
    }
    if (p[13] >> 4 > 3 || (p[13] & 15) > 2) {
        return -1;
    }
    if (p[13] != 0x11 && p[13] != 0x21) {
        h->local = true;
        return 1;
    }
    if (end < 16 + addresses) {
        return -1;
    }
    if (addresses == 12) {
        memcpy(h->address.s6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    }
    memcpy(h->address.s6_addr + (addresses == 12 ? 12 : 0), p + 16, addresses == 12 ? 4 : 16);
    h->port = (uint16_t)(p[16 + addresses - 4] * 256 + p[16 + addresses - 3]);
    for (size_t at = 16 + addresses, n; at < end; at += 3 + n) {
        if (end - at < 3 || end - at - 3 < (n = (size_t)(p[at + 1] * 256 + p[at + 2])) ||
            (p[at] == 0x20 && reference_ssl(p + at + 3, n, h) < 0)) {
            return -1;
        }
    }
    return 1;
}

static int reference(struct slice data, struct proxy_header *h)
{
    size_t size = 0;
    int rc = -1;

    if (data.len == 0 || memcmp(data.ptr, "PROXY ", data.len < 6 ? data.len : 6) == 0) {
        rc = data.len < 6 ? 0 : reference_text(data, h, &size);
    } else if (memcmp(data.ptr, signature, data.len < 12 ? data.len : 12) == 0) {
        rc = data.len < 12 ? 0 : reference_binary(data, h, &size);
    }
    return rc == 1 ? (int)size + 1 : rc == -1 ? -EBADMSG : rc == -2 ? -EMSGSIZE : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct slice starts[] = {
        {(const uint8_t *)"", 0}, {(const uint8_t *)"PROXY ", 6}, {(const uint8_t *)"PROXY TCP", 9}, {signature, 12}};
    struct slice rest = slice_of(data, size);
    struct proxy_header want = {0}, got = {0}, part;
    struct buf all = {0};

    uint8_t start = ops_byte(&rest);
    buf_put(&all, starts[start % COUNT_OF(starts)]);
    buf_put(&all, rest);
    size_t len = all.len;
    uint8_t *exact = malloc(len ? len : 1);
    memcpy(exact, all.ptr ? all.ptr : data, len);

    int rc = proxy_parse(slice_of(exact, len), &got);
    require(rc == reference(slice_of(exact, len), &want));
    if (rc > 0) {
        require((size_t)rc <= len && got.local == want.local && got.port == want.port);
        require(memcmp(&got.address, &want.address, sizeof(want.address)) == 0);
        require(got.tls == want.tls && got.certificate == want.certificate);
        require(slice_eq(got.common_name, want.common_name));
    }
    for (size_t n = 0; n < len; n += 1 + n / 16) {
        int early = proxy_parse(slice_of(exact, n), &part);
        require(early == 0 || early == rc);
    }
    free(exact);
    buf_deinit(&all);
    return 0;
}
