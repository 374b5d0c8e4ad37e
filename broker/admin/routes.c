/* routes.c -- which handler a path leads to. */
#include <errno.h>

#include "broker/admin/admin_inside.h"
#include "broker/admin/api_tables.h"

/* Everything that answers on the admin port. */
static const struct admin_table *const tables[] = {
    &admin_health_table, &admin_metrics_table, &admin_clients_table, &admin_nodes_table, &admin_messages_table,
    &admin_local_table,  &admin_openapi_table, &admin_trace_table,   &admin_page_table,
};

/* The part of *rest up to the next slash, which is taken away too. */
static struct slice segment(struct slice *rest)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, '/', rest->len) : NULL;
    struct slice word = slice_of(rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len);

    *rest = slice_drop(*rest, end ? word.len + 1 : word.len);
    return word;
}

static bool matches(const char *pattern, struct slice path)
{
    struct slice wanted = slice_str(pattern);
    bool more;

    do {
        more = wanted.len > 0 && path.len > 0;
        if ((wanted.len > 0) != (path.len > 0)) {
            return false;
        }
        struct slice a = segment(&wanted), b = segment(&path);
        if (a.len > 0 && a.ptr[0] == ':' ? b.len == 0 : !slice_eq(a, b)) {
            return false;
        }
    } while (more);
    return true;
}

/* Decode what the path has in the place of the pattern's :words. */
static int take_params(struct admin_request *r, const char *pattern, struct slice path, struct buf *words)
{
    struct slice wanted = slice_str(pattern);
    size_t lengths[ADMIN_PARAMS_MAX], count = 0, at = 0;
    int rc = 0;

    while (wanted.len > 0 && rc == 0) {
        struct slice a = segment(&wanted), b = segment(&path);
        if (a.len > 0 && a.ptr[0] == ':' && count < ADMIN_PARAMS_MAX) {
            size_t before = words->len;
            rc = admin_percent_decode(b, false, words);
            lengths[count++] = words->len - before;
        }
    }
    for (size_t i = 0; i < count; i++) { /* the words stand still only now */
        r->params[i] = slice_of(words->ptr + at, lengths[i]);
        at += lengths[i];
    }
    return rc;
}

const struct admin_route *admin_route_find(struct admin_request *r, struct slice path, struct buf *words,
                                           unsigned *ret_methods)
{
    for (size_t t = 0; t < COUNT_OF(tables); t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            const struct admin_route *route = &tables[t]->routes[i];
            if (!matches(route->path, path)) {
                continue;
            }
            *ret_methods |= route->method;
            if (route->method == r->method) {
                if (take_params(r, route->path, path, words) == -EINVAL) {
                    *ret_methods = 0; /* no such path */
                    return NULL;
                }
                return route;
            }
        }
    }
    return NULL;
}
