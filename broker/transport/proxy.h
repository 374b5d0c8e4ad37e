/* proxy.h -- the PROXY protocol header (haproxy.org, proxy-protocol.txt), versions 1 and 2.
 *
 * Why: behind a TCP load balancer every connection has the balancer's address; the header before the first byte says
 * whose it is. Only who is allowed to say so is believed: that is the caller's to know. No IO, no allocation. */
#ifndef TERN_BROKER_TRANSPORT_PROXY_H
#define TERN_BROKER_TRANSPORT_PROXY_H

#include <netinet/in.h>

#include "proto/base/slice.h"

#define PROXY_HEADER_MAX 4096u /* version 2 with its TLVs; version 1 ends within 107 bytes */

struct proxy_header {
    bool local;              /* LOCAL or UNKNOWN: the balancer itself, e.g. a health check; no address */
    struct in6_addr address; /* of the client, IPv4 mapped */
    uint16_t port;
    bool tls;                 /* PP2_TYPE_SSL: the client spoke TLS with the balancer */
    bool certificate;         /* and showed a certificate that the balancer has verified (verify == 0) */
    struct slice common_name; /* of it (PP2_SUBTYPE_SSL_CN); borrowed from data */
};

/* Parse the header at the beginning of data. Returns its size when whole, 0 when more is needed, -EBADMSG when this is
 * none (known from the first wrong byte on), -EMSGSIZE when it is above PROXY_HEADER_MAX. */
int proxy_parse(struct slice data, struct proxy_header *ret_header);

#endif
