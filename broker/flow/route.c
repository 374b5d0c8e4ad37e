/* Announcements: which filters have subscribers on this shard, told to the control shard, which alone writes the route
 * table. A SUBSCRIBE is answered only after its filter is in the table: from then on every publish on any shard finds
 * it. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"

struct route_request {
    enum route_op op;
    unsigned from;
    int error;
    struct route_wait wait;
    struct route_share share;
    uint32_t filter_len;
    uint8_t filter[];
};

static int apply(struct broker *b, enum route_op op, struct slice filter, const struct route_share *share,
                 unsigned shard)
{
    struct route_table *routes = b->node->routes;

    if ((op == ROUTE_ADD || op == ROUTE_ADD_SHARE) && feed_reserve(b, filter.len) != 0) {
        return -ENOMEM;
    }
    switch (op) {
    case ROUTE_ADD:
        return route_table_add(routes, filter, shard);
    case ROUTE_REMOVE:
        return route_table_remove(routes, filter, shard);
    case ROUTE_ADD_SHARE:
        return route_table_add_share(routes, filter, share);
    case ROUTE_REMOVE_SHARE:
        return route_table_remove_share(routes, filter, share->id);
    case ROUTE_BARRIER:
        break;
    }
    return 0;
}

static void answer(struct broker *b, const struct route_wait *wait, int error)
{
    if (wait->job) {
        subscribe_settled(b, wait->job, wait->index, error);
    } else {
        share_announced(b, wait->request, error);
    }
}

static struct route_request *make_request(enum route_op op, struct slice filter, const struct route_share *share,
                                          const struct route_wait *wait)
{
    struct route_request *r = malloc(sizeof(*r) + filter.len);
    if (!r) {
        return NULL;
    }
    *r = (struct route_request){.op = op, .filter_len = (uint32_t)filter.len};
    if (share) {
        r->share = *share;
    }
    if (wait) {
        r->wait = *wait;
    }
    if (filter.len > 0) {
        memcpy(r->filter, filter.ptr, filter.len);
    }
    return r;
}

static int send_request(struct broker *b, enum route_op op, struct slice filter, const struct route_share *share,
                        const struct route_wait *wait)
{
    struct route_request *r = make_request(op, filter, share, wait);
    if (!r) {
        return -ENOMEM;
    }
    struct mail mail = {.kind = MAIL_ROUTE, .ptr = r};
    int rc = shard_post(b->shard, CONTROL_SHARD, &mail);
    if (rc) {
        free(r);
    }
    return rc;
}

/* On the control shard: change the table; the answer leaves now, or when the other nodes know of it. */
static void request_here(struct broker *b, struct route_request *r)
{
    r->error = apply(b, r->op, slice_of(r->filter, r->filter_len), &r->share, r->from);
    if (r->error || !feed_holds(b, r, r->from)) {
        route_told(b, r, r->from);
    }
}

void route_told(struct broker *b, struct route_request *r, unsigned from)
{
    struct mail done = {.kind = MAIL_ROUTE_DONE, .ptr = r};

    if (from == CONTROL_SHARD) {
        route_done(b, &done);
    } else {
        broker_answer(b, from, &done);
    }
}

int route_announce(struct broker *b, enum route_op op, struct slice filter, const struct route_share *share,
                   const struct route_wait *wait)
{
    if (b->shard->index == CONTROL_SHARD && !b->node->cluster) {
        answer(b, wait, apply(b, op, filter, share, CONTROL_SHARD));
        return 0;
    }
    if (b->shard->index == CONTROL_SHARD) {
        struct route_request *r = make_request(op, filter, share, wait);
        if (r) {
            b->routes_pending++;
            request_here(b, r);
        }
        return r ? 0 : -ENOMEM;
    }
    int rc = send_request(b, op, filter, share, wait);
    if (rc == 0) {
        b->routes_pending++;
    }
    return rc;
}

void route_withdraw(struct broker *b, enum route_op op, struct slice filter, uint64_t share)
{
    struct route_share route = {.id = share};

    if (b->shard->index == CONTROL_SHARD) {
        apply(b, op, filter, &route, CONTROL_SHARD);
    } else {
        send_request(b, op, filter, &route, NULL);
    }
}

void route_requested(struct broker *b, const struct mail *mail)
{
    struct route_request *r = mail->ptr;

    r->from = mail->from;
    if (r->op == ROUTE_REMOVE || r->op == ROUTE_REMOVE_SHARE) {
        (void)apply(b, r->op, slice_of(r->filter, r->filter_len), &r->share, r->from);
        free(r);
        return;
    }
    request_here(b, r);
}

void route_done(struct broker *b, const struct mail *mail)
{
    struct route_request *r = mail->ptr;

    b->routes_pending--;
    answer(b, &r->wait, r->error);
    free(r);
}

void route_drop(struct route_request *request)
{
    free(request);
}

void route_discard(const struct mail *mail)
{
    free(mail->ptr);
}
