#include "broker/flow/attach_open.h"

#include <string.h>

const struct listener *attach_listener(const struct broker *b, const char *name)
{
    for (unsigned i = 0; i < b->node->listener_count; i++) {
        if (strcmp(b->node->listeners[i].name, name) == 0) {
            return &b->node->listeners[i];
        }
    }
    return &b->node->listeners[0];
}

struct principal *attach_principal(const struct broker *b, const Tern__Attach *open, const struct listener *listener,
                                   const struct in6_addr *address)
{
    struct buf roles = {0};
    struct principal_source source = {
        .method = open->method,
        .user = slice_of(open->user.data, open->user.len),
        .role_count = (unsigned)open->n_roles,
        .expires_at_ms = open->expires_ms,
        .credential = open->credential,
        .listener = listener->name,
        .address = *address,
        .rates = b->node->auth->rates,
    };

    for (size_t i = 0; i < open->n_roles; i++) {
        buf_put(&roles, slice_of(open->roles[i].data, open->roles[i].len));
        buf_u8(&roles, 0);
    }
    source.roles = buf_slice(&roles);
    struct principal *p = roles.failed ? NULL : principal_new(&source);
    buf_deinit(&roles);
    return p;
}

bool attach_open_sane(const Tern__Attach *open)
{
    for (size_t i = 0; i < open->n_roles; i++) {
        if (memchr(open->roles[i].data, 0, open->roles[i].len)) {
            return false;
        }
    }
    return open->shard < SHARDS_MAX && open->address.len == sizeof(struct in6_addr) && open->port <= UINT16_MAX &&
           open->n_roles <= UINT16_MAX && open->client_id.len > 0 && open->client_id.len <= UINT16_MAX &&
           open->connect.len > 0;
}
