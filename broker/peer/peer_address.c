#include "broker/peer/peer_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

#define HOST_MAX 256

void peer_address_of(const struct sockaddr *from, struct member_address *ret_address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const uint8_t *ip;

    *ret_address = (struct member_address){0};
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)from;
        ret_address->family = 4;
        ret_address->port = ntohs(in->sin_port);
        memcpy(ret_address->bytes, &in->sin_addr, 4);
    } else if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)from;
        ip = in6->sin6_addr.s6_addr;
        bool is_mapped = memcmp(ip, mapped, sizeof(mapped)) == 0;
        ret_address->family = is_mapped ? 4 : 6;
        ret_address->port = ntohs(in6->sin6_port);
        memcpy(ret_address->bytes, is_mapped ? ip + sizeof(mapped) : ip, is_mapped ? 4 : 16);
    }
}

socklen_t peer_address_to(const struct member_address *address, struct sockaddr_storage *ret_to)
{
    memset(ret_to, 0, sizeof(*ret_to));
    if (address->family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)ret_to;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        memcpy(&in->sin_addr, address->bytes, 4);
        return sizeof(*in);
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret_to;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(address->port);
    memcpy(&in6->sin6_addr, address->bytes, 16);
    return sizeof(*in6);
}

int peer_address_resolve(const char *text, struct member_address *ret_addresses, unsigned max)
{
    const char *colon = strrchr(text, ':');
    bool bracket = text[0] == '[';
    char host[HOST_MAX];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
    size_t len = colon ? (size_t)(colon - text) - (bracket ? 2 : 0) : 0;

    if (!colon || colon[1] == '\0' || len == 0 || len >= sizeof(host) || (bracket && colon[-1] != ']')) {
        return -EINVAL;
    }
    memcpy(host, text + bracket, len);
    host[len] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &all) != 0) {
        return -EINVAL;
    }
    unsigned count = 0;
    for (const struct addrinfo *ai = all; ai && count < max; ai = ai->ai_next) {
        peer_address_of(ai->ai_addr, &ret_addresses[count]);
        count += ret_addresses[count].family != 0;
    }
    freeaddrinfo(all);
    return (int)count;
}

const char *peer_address_text(const struct member_address *address, char text[PEER_ADDRESS_TEXT])
{
    char ip[INET6_ADDRSTRLEN] = "?";

    inet_ntop(address->family == 4 ? AF_INET : AF_INET6, address->bytes, ip, sizeof(ip));
    snprintf(text, PEER_ADDRESS_TEXT, address->family == 4 ? "%s:%u" : "[%s]:%u", ip, address->port);
    return text;
}
