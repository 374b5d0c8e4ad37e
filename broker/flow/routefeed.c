/* The route feed: every node tells every other which filters it has subscribers for, and nothing more: no subscriber,
 * no option. Changes of a turn go out together. Who was told nothing yet, or has lost step, gets the whole set again,
 * piece by piece between the changes, into a slot of its own, which takes the old one's place when it is complete.
 *
 * A filter that loses its last subscriber is withdrawn only after a while: clients that reconnect, even all of them,
 * change nothing. A SUBACK for a new filter waits until all living nodes have said that it is in force there, at most
 * route_suback_ms. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"
#include "proto/base/log.h"
#include "proto/mqtt/topic.h"
#include "proto/wire/peer.pb-c.h"

#define WITHDRAW_MS 30000u     /* after its last subscriber */
#define SUBACK_MS 500u         /* that a SUBACK waits for other nodes */
#define DIGEST_MS 30000u       /* between comparisons */
#define OPS_AT_ONCE 4096u      /* in one frame */
#define AHEAD_BYTES (1u << 20) /* of a set that is being told, not yet acknowledged */
#define SWEEP_AT_ONCE 4096u
#define NO_SLOT UINT32_MAX

/* A filter that has come, or is on its way out. */
struct change {
    struct list in_feed;
    uint64_t hash, share;
    uint64_t due_ms; /* withdrawal: when */
    bool remove;
    uint16_t len;
    uint8_t text[];
};

/* What one neighbour was told of us, and has told us. */
struct feed_peer {
    bool used;
    bool walking; /* it is being told all of the set */
    bool begun;   /* the first frame of that is out */
    struct route_walk walk;
    uint64_t done;           /* barrier that it has answered */
    uint64_t digest_ms;      /* when the next comparison is due */
    uint32_t slot, building; /* of the route table: what it has told us; NO_SLOT */
};

/* A SUBACK that waits for other nodes. */
struct held {
    struct list in_feed;
    struct route_request *request;
    unsigned from;
    uint64_t barrier, due_ms;
};

struct feed {
    struct broker *broker;
    struct list changes; /* struct change of this turn, oldest first */
    struct list leaving; /* withdrawals, by due_ms */
    struct map leaving_by_hash;
    struct list waiting;  /* struct held, by barrier */
    struct change *spare; /* memory for the next change */
    size_t spare_len;
    uint64_t barrier; /* the last one that was told */
    bool barrier_due; /* somebody waits for what this turn tells */
    struct feed_peer peers[NEIGHBOURS_MAX];
    struct route_digest told; /* the set as it was told */
    bool dead[ROUTE_SLOTS];   /* to be swept */
    unsigned dead_count;
    struct change *batch[OPS_AT_ONCE]; /* scratch of a message */
    uint64_t added[OPS_AT_ONCE], removed[OPS_AT_ONCE];
    Tern__RouteOp ops[OPS_AT_ONCE];
    Tern__RouteOp *op_list[OPS_AT_ONCE];
};

static struct feed *feed_of(const struct broker *b)
{
    return b->node->cluster->feed;
}

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

/* A message being filled. */
struct telling {
    struct feed *feed;
    Tern__Routes message;
    unsigned count;
};

static void telling_begin(struct telling *t, struct feed *f)
{
    t->feed = f;
    t->count = 0;
    t->message = (Tern__Routes)TERN__ROUTES__INIT;
    t->message.added = f->added;
    t->message.removed = f->removed;
    t->message.ops = f->op_list;
}

/* The filter's text is borrowed until the message is out. */
static void telling_add(struct telling *t, const struct route_filter *filter, bool remove)
{
    struct feed *f = t->feed;

    t->count++;
    if (filter->text.len == 0 && filter->share == 0) {
        if (remove) {
            f->removed[t->message.n_removed++] = filter->hash;
        } else {
            f->added[t->message.n_added++] = filter->hash;
        }
        return;
    }
    Tern__RouteOp *op = f->op_list[t->message.n_ops] = &f->ops[t->message.n_ops];
    *op = (Tern__RouteOp)TERN__ROUTE_OP__INIT;
    op->hash = filter->hash;
    op->filter.data = (uint8_t *)(uintptr_t)filter->text.ptr; /* only read */
    op->filter.len = filter->text.len;
    op->share = filter->share;
    op->remove = remove;
    t->message.n_ops++;
}

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

/* To all who know the set so far. */
static void tell_all(struct feed *f, const Tern__Routes *message)
{
    for (unsigned n = 0; n < NEIGHBOURS_MAX; n++) {
        struct feed_peer *p = &f->peers[n];
        if (p->used && (!p->walking || p->begun)) {
            tell(f, n, message);
        }
    }
}

/* The changes of this turn, as many messages as that takes. */
static void tell_changes(struct feed *f)
{
    struct telling t;

    if (f->barrier_due) {
        f->barrier++;
        f->barrier_due = false;
    } else if (list_empty(&f->changes)) {
        return;
    }
    do {
        unsigned count = 0;
        telling_begin(&t, f);
        while (t.count < OPS_AT_ONCE && !list_empty(&f->changes)) {
            struct change *c = CONTAINER_OF(f->changes.next, struct change, in_feed);
            struct route_filter filter = filter_of(c);
            list_remove(&c->in_feed);
            telling_add(&t, &filter, c->remove);
            route_digest_count(&f->told, &filter, !c->remove);
            f->batch[count++] = c;
        }
        t.message.barrier = list_empty(&f->changes) ? f->barrier : 0;
        tell_all(f, &t.message);
        for (unsigned i = 0; i < count; i++) {
            free(f->batch[i]);
        }
    } while (!list_empty(&f->changes));
}

static void visit_own(void *arg, const struct route_filter *filter)
{
    telling_add(arg, filter, false);
}

/* Begin: what is on its way out is still in the set that all others were told. */
static void tell_leaving(struct feed *f, unsigned n)
{
    struct feed_peer *p = &f->peers[n];
    struct list *at = f->leaving.next;
    struct telling t;

    p->begun = true;
    do {
        telling_begin(&t, f);
        t.message.begin = at == f->leaving.next;
        for (; at != &f->leaving && t.count < OPS_AT_ONCE; at = at->next) {
            struct route_filter filter = filter_of(CONTAINER_OF(at, struct change, in_feed));
            telling_add(&t, &filter, false);
        }
        tell(f, n, &t.message);
    } while (at != &f->leaving && p->begun);
}

/* Tell a neighbour more of the set, as far as its link takes it. Returns whether there is more to tell at once. */
static bool walk_on(struct feed *f, unsigned n)
{
    struct feed_peer *p = &f->peers[n];
    struct peer_link *link = link_to(f, n);
    struct telling t;

    if (!link || link_flow_held(&link->flow, LINK_CONTROL) > AHEAD_BYTES) {
        return false;
    }
    if (!p->begun) {
        tell_leaving(f, n);
        return p->begun;
    }
    telling_begin(&t, f);
    bool over = route_table_walk(f->broker->node->routes, &p->walk, OPS_AT_ONCE, visit_own, &t);
    t.message.end = over;
    t.message.barrier = over ? f->barrier : 0;
    p->walking = !over;
    p->digest_ms = f->broker->shard->now_ms; /* compare at once */
    tell(f, n, &t.message);
    return p->walking;
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

/* ---- what a neighbour tells ---- */

static void bury(struct feed *f, uint32_t *slot)
{
    if (*slot != NO_SLOT) {
        route_table_slot_live(f->broker->node->routes, *slot, false);
        f->dead[*slot] = true;
        f->dead_count++;
        *slot = NO_SLOT;
    }
}

static uint32_t free_slot(struct feed *f)
{
    for (uint32_t s = 0; s < ROUTE_SLOTS; s++) {
        if (atomic_load(&f->broker->node->cluster->slots[s]) == 0 && !f->dead[s]) {
            return s;
        }
    }
    return NO_SLOT;
}

static int apply_one(struct feed *f, const struct route_filter *filter, bool remove, uint32_t slot)
{
    if (remove) {
        route_table_remove_remote(f->broker->node->routes, filter, slot);
        return 0;
    }
    int rc = route_table_add_remote(f->broker->node->routes, filter, slot);
    return rc < 0 ? rc : 0;
}

static int apply_ops(struct feed *f, const Tern__Routes *m, uint32_t slot)
{
    struct route_filter filter = {0};
    int rc = 0;

    for (size_t i = 0; i < m->n_added && rc == 0; i++) {
        filter.hash = m->added[i];
        rc = apply_one(f, &filter, false, slot);
    }
    for (size_t i = 0; i < m->n_removed; i++) {
        filter.hash = m->removed[i];
        apply_one(f, &filter, true, slot);
    }
    for (size_t i = 0; i < m->n_ops && rc == 0; i++) {
        const Tern__RouteOp *op = m->ops[i];
        filter = (struct route_filter){op->hash, slice_of(op->filter.data, op->filter.len), op->share};
        if (filter.text.len > 0 &&
            (!mqtt_filter_valid(filter.text, UINT16_MAX) || !mqtt_filter_has_wildcard(filter.text))) {
            return -EPROTO;
        }
        rc = apply_one(f, &filter, op->remove, slot);
    }
    return rc;
}

static int answer(struct peer_link *link, uint64_t barrier, bool again)
{
    Tern__RoutesDone done = TERN__ROUTES_DONE__INIT;

    done.barrier = barrier;
    done.again = again;
    return peer_put_message(link, LINK_CONTROL, FRAME_ROUTES_DONE, &done.base) == 0 ? 0 : -ENOMEM;
}

/* A whole set has been told: it takes the place of the one before. */
static void put_in_force(struct feed *f, unsigned n)
{
    struct feed_peer *p = &f->peers[n];

    route_table_slot_live(f->broker->node->routes, p->building, true);
    bury(f, &p->slot);
    p->slot = p->building;
    p->building = NO_SLOT;
    log_event(LOG_INFO, "routes_complete", {"node", LOG_STR(f->broker->node->cluster->neighbours[n].name)},
              {"filters", LOG_INT((int64_t)route_table_slot_digest(f->broker->node->routes, p->slot).count)});
}

int feed_take(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct feed *f = feed_of(b);
    int n = neighbour_find(b->node->cluster, &link->id);
    ProtobufCMessage *decoded;

    int rc = n < 0 ? -EPROTO : wire_decode(&tern__routes__descriptor, body, &link->room->arena, &decoded);
    if (rc) {
        return rc;
    }
    const Tern__Routes *m = (const Tern__Routes *)decoded;
    struct feed_peer *p = &f->peers[n];
    if (m->begin) {
        bury(f, &p->building);
        p->building = free_slot(f);
        if (p->building == NO_SLOT) {
            return -ENOMEM;
        }
        atomic_store(&b->node->cluster->slots[p->building], (uint8_t)(n + 1));
    }
    uint32_t slot = p->building != NO_SLOT ? p->building : p->slot;
    if (slot == NO_SLOT) {
        return -EPROTO;
    }
    rc = apply_ops(f, m, slot);
    if (rc) {
        return rc;
    }
    if (m->end && p->building != NO_SLOT) {
        put_in_force(f, (unsigned)n);
    }
    struct route_digest d = route_table_slot_digest(b->node->routes, slot);
    bool again = m->has_digest && p->building == NO_SLOT && (d.count != m->count || d.sum != m->sum);
    if (again) {
        log_event(LOG_WARN, "routes_differ", {"node", LOG_STR(b->node->cluster->neighbours[n].name)},
                  {"filters", LOG_INT((int64_t)d.count)}, {"told", LOG_INT((int64_t)m->count)});
    }
    return m->barrier || again ? answer(link, m->barrier, again) : 0;
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

static void sweep(struct feed *f)
{
    for (uint32_t s = 0; s < ROUTE_SLOTS && f->dead_count > 0; s++) {
        if (!f->dead[s]) {
            continue;
        }
        if (route_table_slot_sweep(f->broker->node->routes, s, SWEEP_AT_ONCE)) {
            f->dead[s] = false;
            f->dead_count--;
            atomic_store(&f->broker->node->cluster->slots[s], 0);
        }
        f->broker->shard->busy |= f->dead_count > 0;
        return;
    }
}

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
    sweep(f);
    let_go(f);
}

void feed_peer_up(struct broker *b, unsigned neighbour)
{
    struct feed_peer *p = &feed_of(b)->peers[neighbour];

    if (!p->used) {
        *p = (struct feed_peer){.used = true, .slot = NO_SLOT, .building = NO_SLOT};
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

    if (p->used) {
        bury(f, &p->slot);
        bury(f, &p->building);
        p->used = false;
        let_go(f);
    }
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
    free(f);
    b->node->cluster->feed = NULL;
}
