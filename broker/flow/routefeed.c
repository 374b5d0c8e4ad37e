/* The route feed: every node tells every other which filters it has subscribers for, and nothing more: no subscriber,
 * no option. Changes of a turn go out together. Who was told nothing yet, or has lost step, gets the whole set again,
 * piece by piece between the changes, into a slot of its own, which takes the old one's place when it is complete.
 *
 * A filter that loses its last subscriber is withdrawn only after a while: clients that reconnect, even all of them,
 * change nothing. A SUBACK for a new filter waits until all living nodes have said that it is in force there, as
 * cluster.suback says.
 *
 * What the others tell: routetake.c. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/dispatch.h"
#include "broker/flow/feed_inside.h"
#include "broker/flow/flow.h"

#define WITHDRAW_MS 30000u        /* after its last subscriber */
#define SUBACK_MS 500u            /* that a SUBACK waits for other nodes */
#define DIGEST_MS 30000u          /* between comparisons */
#define TEXT_AT_ONCE (512u << 10) /* bytes of filters in one message, and one more filter */
#define WALK_AT_ONCE 256u         /* filters of the table */
#define AHEAD_BYTES (1u << 20)    /* of a set that is being told, not yet acknowledged */

/* ---- the set changes ---- */

static struct route_filter filter_of(const struct change *c)
{
    return (struct route_filter){.hash = c->hash, .text = slice_of(c->text, c->len), .share = c->share};
}

static bool is_change(const void *value, const void *key)
{
    const struct change *c = value;
    const struct route_filter *f = key;

    return c->hash == f->hash && c->share == f->share && slice_eq(slice_of(c->text, c->len), f->text);
}

static uint64_t change_hash(const struct route_filter *f)
{
    return f->hash ^ hash_mix(f->share);
}

static struct change *change_new(size_t len)
{
    struct change *c = malloc(sizeof(*c) + len);
    if (c) {
        list_init(&c->in_feed);
    }
    return c;
}

int feed_reserve(struct broker *b, size_t len)
{
    struct feed *f = b->node->cluster ? feed_of(b) : NULL;

    if (!f || (f->spare && f->spare_len >= len)) {
        return 0;
    }
    free(f->spare);
    f->spare = change_new(len);
    f->spare_len = len;
    return f->spare ? 0 : -ENOMEM;
}

/* The route table has gained or lost a filter of this node's own. */
static void own_changed(void *arg, const struct route_filter *filter, bool added)
{
    struct feed *f = arg;
    struct change *leaving = map_find(&f->leaving_by_hash, change_hash(filter), is_change, filter);

    if (leaving) { /* added: all have it still */
        if (added) {
            map_remove(&f->leaving_by_hash, change_hash(filter), leaving);
            list_remove(&leaving->in_feed);
            free(leaving);
        }
        return;
    }
    struct change *c = f->spare && f->spare_len >= filter->text.len ? f->spare : change_new(filter->text.len);
    if (!c) { /* a withdrawal: it costs needless hops, nothing else. An addition has its memory (feed_reserve) */
        return;
    }
    f->spare = c == f->spare ? NULL : f->spare;
    *c = (struct change){
        .hash = filter->hash, .share = filter->share, .remove = !added, .len = (uint16_t)filter->text.len};
    if (filter->text.len > 0) {
        memcpy(c->text, filter->text.ptr, filter->text.len);
    }
    list_init(&c->in_feed);
    if (added) {
        list_append(&f->changes, &c->in_feed);
    } else if (map_add(&f->leaving_by_hash, change_hash(filter), c) != 0) {
        free(c);
    } else {
        c->due_ms = f->broker->shard->now_ms + WITHDRAW_MS;
        list_append(&f->leaving, &c->in_feed);
    }
}

/* What has been gone for long enough is withdrawn now. */
static void withdraw_due(struct feed *f, uint64_t now_ms)
{
    while (!list_empty(&f->leaving)) {
        struct change *c = CONTAINER_OF(f->leaving.next, struct change, in_feed);
        struct route_filter filter = filter_of(c);
        if (c->due_ms > now_ms) {
            break;
        }
        map_remove(&f->leaving_by_hash, change_hash(&filter), c);
        list_remove(&c->in_feed);
        list_append(&f->changes, &c->in_feed);
    }
}

/* ---- telling ---- */

static struct peer_link *link_to(const struct feed *f, unsigned n)
{
    return f->broker->cluster->links[n];
}

static void walk_anew(struct feed_peer *p)
{
    p->walking = true;
    p->begun = false;
    p->walk = (struct route_walk){0};
}

/* Put it on one neighbour's link; if that has no room the neighbour is told everything later. */
static void tell(struct feed *f, unsigned n, const Tern__Routes *message)
{
    struct peer_link *link = link_to(f, n);

    if (!link || peer_put_message(link, LINK_CONTROL, FRAME_ROUTES, &message->base) != 0) {
        walk_anew(&f->peers[n]);
    }
}

/* What is in the message leaves, to one neighbour or to all who know the set so far. */
static void telling_post(struct feed *f)
{
    struct telling *t = &f->telling;

    for (size_t i = 0; i < t->message.n_ops; i++) { /* the texts stay where they are now */
        t->ops[i].filter.data = t->texts.ptr + (uintptr_t)t->ops[i].filter.data;
    }
    for (unsigned n = 0; n < NEIGHBOURS_MAX; n++) {
        struct feed_peer *p = &f->peers[n];
        if (!(t->to == TO_ALL ? p->used && (!p->walking || p->begun) : t->to == n)) {
            continue;
        }
        if (t->failed) {
            walk_anew(p);
        } else {
            tell(f, n, &t->message);
        }
    }
}

static void telling_begin(struct feed *f, unsigned to)
{
    struct telling *t = &f->telling;

    t->to = to;
    t->failed = false;
    t->texts.len = 0;
    t->message = (Tern__Routes)TERN__ROUTES__INIT;
    t->message.added = t->added;
    t->message.removed = t->removed;
    t->message.ops = t->op_list;
}

/* Tell one more. A full message leaves: no filter is so long, and no topic has so many shares, that one gets too long.
 */
static void telling_add(struct feed *f, const struct route_filter *filter, bool remove)
{
    struct telling *t = &f->telling;

    if (t->message.n_added + t->message.n_removed + t->message.n_ops == OPS_AT_ONCE || t->texts.len > TEXT_AT_ONCE) {
        telling_post(f);
        telling_begin(f, t->to);
    }
    if (filter->text.len == 0 && filter->share == 0) {
        if (remove) {
            t->removed[t->message.n_removed++] = filter->hash;
        } else {
            t->added[t->message.n_added++] = filter->hash;
        }
        return;
    }
    Tern__RouteOp *op = t->op_list[t->message.n_ops] = &t->ops[t->message.n_ops];
    *op = (Tern__RouteOp)TERN__ROUTE_OP__INIT;
    op->hash = filter->hash;
    op->filter.data = (uint8_t *)(uintptr_t)t->texts.len; /* for telling_post: texts may move until then */
    op->filter.len = filter->text.len;
    op->share = filter->share;
    op->remove = remove;
    buf_put(&t->texts, filter->text);
    t->failed |= t->texts.failed;
    t->texts.failed = false;
    t->message.n_ops++;
}

/* The changes of this turn. */
static void tell_changes(struct feed *f)
{
    struct list *at;

    if (f->barrier_due) {
        f->barrier++;
        f->barrier_due = false;
    } else if (list_empty(&f->changes)) {
        return;
    }
    telling_begin(f, TO_ALL);
    while ((at = list_pop(&f->changes)) != NULL) {
        struct change *c = CONTAINER_OF(at, struct change, in_feed);
        struct route_filter filter = filter_of(c);
        telling_add(f, &filter, c->remove);
        route_digest_count(&f->told, &filter, !c->remove);
        free(c);
    }
    f->telling.message.barrier = f->barrier;
    telling_post(f);
}

static void visit_own(void *arg, const struct route_filter *filter)
{
    telling_add(arg, filter, false);
}

/* Begin: what is on its way out is still in the set that all others were told. */
static void tell_leaving(struct feed *f, unsigned n)
{
    Tern__Routes begin = TERN__ROUTES__INIT;

    f->peers[n].begun = true;
    begin.begin = true;
    tell(f, n, &begin);
    telling_begin(f, n);
    for (struct list *at = f->leaving.next; at != &f->leaving; at = at->next) {
        struct route_filter filter = filter_of(CONTAINER_OF(at, struct change, in_feed));
        telling_add(f, &filter, false);
    }
    telling_post(f);
}

/* Tell a neighbour more of the set, as far as its link takes it. Returns whether there is more to tell at once. */
static bool walk_on(struct feed *f, unsigned n)
{
    struct feed_peer *p = &f->peers[n];
    struct peer_link *link = link_to(f, n);

    if (!link || link_flow_held(&link->flow, LINK_CONTROL) > AHEAD_BYTES) {
        return false;
    }
    if (!p->begun) {
        tell_leaving(f, n);
        return p->begun;
    }
    telling_begin(f, n);
    bool over = route_table_walk(f->broker->node->routes, &p->walk, WALK_AT_ONCE, visit_own, f);
    if (!p->begun) { /* its link had no room on the way: from the beginning, later */
        walk_anew(p);
        return false;
    }
    f->telling.message.end = over;
    f->telling.message.barrier = over ? f->barrier : 0;
    p->walking = !over;
    p->digest_ms = f->broker->shard->now_ms; /* compare at once */
    telling_post(f);
    return p->walking && p->begun;
}

static void compare(struct feed *f, unsigned n)
{
    struct feed_peer *p = &f->peers[n];
    Tern__Routes message = TERN__ROUTES__INIT;

    message.has_digest = true;
    message.count = f->told.count;
    message.sum = f->told.sum;
    p->digest_ms = f->broker->shard->now_ms + DIGEST_MS;
    tell(f, n, &message);
}

/* ---- SUBACKs that wait ---- */

static bool told_everywhere(const struct feed *f, uint64_t barrier)
{
    for (unsigned n = 0; n < NEIGHBOURS_MAX; n++) {
        if (f->peers[n].used && f->peers[n].done < barrier) {
            return false;
        }
    }
    return true;
}

bool feed_holds(struct broker *b, struct route_request *request, unsigned from)
{
    struct feed *f = b->node->cluster ? feed_of(b) : NULL;

    if (!f || b->config->cluster.suback == SUBACK_LOCAL) {
        return false;
    }
    uint64_t barrier = f->barrier + !list_empty(&f->changes);
    if (told_everywhere(f, barrier)) {
        return false;
    }
    struct held *h = malloc(sizeof(*h));
    if (!h) { /* it is told a little early */
        return false;
    }
    *h =
        (struct held){.request = request,
                      .from = from,
                      .barrier = barrier,
                      .due_ms = b->config->cluster.suback == SUBACK_STRICT ? UINT64_MAX : b->shard->now_ms + SUBACK_MS};
    list_append(&f->waiting, &h->in_feed);
    f->barrier_due |= !list_empty(&f->changes);
    return true;
}

static void let_go(struct feed *f)
{
    uint64_t now_ms = f->broker->shard->now_ms;

    while (!list_empty(&f->waiting)) {
        struct held *h = CONTAINER_OF(f->waiting.next, struct held, in_feed);
        if (h->due_ms > now_ms && !told_everywhere(f, h->barrier)) {
            break;
        }
        list_remove(&h->in_feed);
        route_told(f->broker, h->request, h->from);
        free(h);
    }
}

int feed_done(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct feed *f = feed_of(b);
    int n = neighbour_find(b->node->cluster, &link->id);
    ProtobufCMessage *decoded;

    int rc = n < 0 ? -EPROTO : wire_decode(&tern__routes_done__descriptor, body, &link->room->arena, &decoded);
    if (rc) {
        return rc;
    }
    const Tern__RoutesDone *done = (const Tern__RoutesDone *)decoded;
    struct feed_peer *p = &f->peers[n];
    if (done->barrier > f->barrier) {
        return -EPROTO;
    }
    p->done = done->barrier > p->done ? done->barrier : p->done;
    if (done->again && !p->walking) {
        walk_anew(p);
    }
    let_go(f);
    return 0;
}

/* ---- turns ---- */

void feed_turn(struct broker *b)
{
    struct feed *f = feed_of(b);
    uint64_t now_ms = b->shard->now_ms;

    withdraw_due(f, now_ms);
    tell_changes(f);
    for (unsigned n = 0; n < NEIGHBOURS_MAX; n++) {
        struct feed_peer *p = &f->peers[n];
        if (p->used && p->walking) {
            b->shard->busy |= walk_on(f, n);
        } else if (p->used && p->digest_ms <= now_ms) {
            compare(f, n);
        }
    }
    feed_sweep(f);
    let_go(f);
}

void feed_peer_up(struct broker *b, unsigned neighbour)
{
    struct feed_peer *p = &feed_of(b)->peers[neighbour];

    if (!p->used) { /* it may have told us something already: there was no memory for the way back */
        *p = (struct feed_peer){.used = true, .slot = p->slot, .building = p->building};
    }
    walk_anew(p);
}

void feed_peer_back(struct broker *b, unsigned neighbour)
{
    if (!feed_of(b)->peers[neighbour].used) {
        feed_peer_up(b, neighbour);
    }
}

void feed_peer_gone(struct broker *b, unsigned neighbour)
{
    struct feed *f = feed_of(b);
    struct feed_peer *p = &f->peers[neighbour];

    feed_bury(f, &p->slot);
    feed_bury(f, &p->building);
    p->used = false;
    let_go(f);
}

int feed_new(struct broker *b)
{
    struct feed *f = calloc(1, sizeof(*f));

    if (!f) {
        return -ENOMEM;
    }
    f->broker = b;
    list_init(&f->changes);
    list_init(&f->leaving);
    list_init(&f->waiting);
    for (unsigned n = 0; n < NEIGHBOURS_MAX; n++) {
        f->peers[n].slot = f->peers[n].building = NO_SLOT;
    }
    f->told = route_table_own_digest(b->node->routes); /* of recovered sessions */
    b->node->cluster->feed = f;
    route_table_watch(b->node->routes, own_changed, f);
    return 0;
}

static void free_changes(struct list *changes)
{
    struct list *at;

    while ((at = list_pop(changes)) != NULL) {
        free(CONTAINER_OF(at, struct change, in_feed));
    }
}

void feed_free(struct broker *b)
{
    struct feed *f = b->node->cluster ? feed_of(b) : NULL;
    struct list *at;

    if (!f) {
        return;
    }
    route_table_watch(b->node->routes, NULL, NULL);
    free_changes(&f->changes);
    free_changes(&f->leaving);
    map_deinit(&f->leaving_by_hash);
    while ((at = list_pop(&f->waiting)) != NULL) {
        struct held *h = CONTAINER_OF(at, struct held, in_feed);
        route_drop(h->request);
        free(h);
    }
    free(f->spare);
    buf_deinit(&f->telling.texts);
    free(f);
    b->node->cluster->feed = NULL;
}
