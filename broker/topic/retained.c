#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/topic/retained_inside.h"
#include "proto/mqtt/topic.h"

struct retained_node {
    struct level_node node;  /* first */
    struct message *message; /* counted; NULL: only a level on the way */
    uint64_t sequence;       /* when it was set */
    uint32_t pins;           /* frames of open cursors that stand here */
};

/* One level of a walk: the node whose turn it is. A cursor's frames are kept true when nodes leave the tree: see
 * leaving(). */
struct frame {
    struct retained_node *node; /* NULL: this level is done */
    uint32_t level;             /* of the filter; its level_count: below a `#` */
    bool visited;               /* the node's own turn is over, its children lie above */
    bool alone;                 /* the filter names this node: its siblings are not wanted */
};

struct retained_cursor {
    struct retained *store;
    struct list in_store;
    struct frame *stack; /* owned */
    uint32_t depth, capacity;
    uint64_t sequence;    /* what was set later is not for this cursor */
    uint32_t level_count; /* of the filter, a last `#` not counted */
    bool multi;           /* the filter ends with `#` */
    bool failed;          /* memory was out: the walk ends early */
    bool all;             /* every topic, and behind them the graves */
    struct grave_cursor graves;
    struct slice *levels; /* owned; point into text */
    uint8_t text[];
};

int retained_new(const struct hash_key *key, struct retained_quota *quota, struct retained **ret_retained)
{
    struct retained *r = calloc(1, sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    r->quota = quota;
    list_init(&r->cursors);
    list_init(&r->graves_by_age);
    list_init(&r->grave_cursors);
    if (level_tree_init(&r->tree, key, sizeof(struct retained_node)) != 0) {
        free(r);
        return -ENOMEM;
    }
    *ret_retained = r;
    return 0;
}

void retained_free(struct retained *r)
{
    struct retained_node *node;

    if (!r) {
        return;
    }
    assert(list_empty(&r->cursors));
    for (size_t i = 0; (node = map_next(&r->topics, &i)) != NULL;) {
        message_unref(node->message);
    }
    map_deinit(&r->topics);
    graves_free(r);
    level_tree_deinit(&r->tree);
    free(r);
}

size_t retained_count(const struct retained *r)
{
    return r->topics.count;
}

size_t retained_graves(const struct retained *r)
{
    return r->graves.count;
}

uint64_t retained_bytes(const struct retained *r)
{
    return r->bytes;
}

uint64_t retained_sequence(const struct retained *r)
{
    return r->sequence;
}

static bool has_topic(const void *value, const void *key)
{
    return slice_eq(message_topic(((const struct retained_node *)value)->message), *(const struct slice *)key);
}

static struct retained_node *find(const struct retained *r, struct slice topic, uint64_t topic_hash)
{
    return map_find(&r->topics, topic_hash, has_topic, &topic);
}

static bool no_message_here(const struct level_node *node)
{
    return ((const struct retained_node *)node)->message == NULL;
}

static void stand(struct frame *f, struct level_node *node)
{
    if (f->node) {
        f->node->pins--;
    }
    f->node = (struct retained_node *)node;
    f->visited = false;
    if (f->node) {
        f->node->pins++;
    }
}

/* A node is about to leave the tree: who stands on it goes on to its next sibling, whose turn has not been yet. */
static void leaving(struct level_tree *tree, struct level_node *node)
{
    struct retained *r = CONTAINER_OF(tree, struct retained, tree);

    if (((struct retained_node *)node)->pins == 0) {
        return;
    }
    for (struct list *at = r->cursors.next; at != &r->cursors; at = at->next) {
        struct retained_cursor *c = CONTAINER_OF(at, struct retained_cursor, in_store);
        for (uint32_t i = 0; i < c->depth; i++) {
            if (c->stack[i].node == (struct retained_node *)node) {
                stand(&c->stack[i], c->stack[i].alone ? NULL : level_next(node));
            }
        }
    }
    assert(((struct retained_node *)node)->pins == 0);
}

/* Take room from the node's quota, or give it back (negative). The broker's own figures need none. */
static int quota_change(struct retained *r, struct slice topic, int64_t count, int64_t bytes)
{
    if (retained_is_own(topic)) {
        return 0;
    }
    struct retained_quota *q = r->quota;
    uint64_t new_count = atomic_fetch_add(&q->count, (uint64_t)count) + (uint64_t)count;
    uint64_t new_bytes = atomic_fetch_add(&q->bytes, (uint64_t)bytes) + (uint64_t)bytes;

    if ((count > 0 && new_count > q->count_max) || (bytes > 0 && new_bytes > q->bytes_max)) {
        atomic_fetch_sub(&q->count, (uint64_t)count);
        atomic_fetch_sub(&q->bytes, (uint64_t)bytes);
        return -EDQUOT;
    }
    r->bytes += (uint64_t)bytes;
    return 0;
}

struct message *retained_look(const struct retained *r, struct slice topic, uint64_t topic_hash)
{
    struct retained_node *node = find(r, topic, topic_hash);
    struct grave *grave = node ? NULL : grave_find(r, topic, topic_hash);

    return node ? node->message : grave ? grave->message : NULL;
}

/* Whether what is here stays: it is later, or the very same. Of what was never stamped the last that came counts. */
static bool stands(const struct message *here, struct message_stamp stamp)
{
    int cmp = here ? message_stamp_cmp(stamp, message_stamp(here)) : 1;

    return cmp < 0 || (cmp == 0 && stamp.at != 0);
}

/* The place of a topic that has no message yet. */
static int make_node(struct retained *r, struct message *m)
{
    struct retained_node *node = (struct retained_node *)level_tree_make(&r->tree, message_topic(m));

    if (!node) {
        return -ENOMEM;
    }
    node->message = message_ref(m);
    node->sequence = r->sequence + 1;
    if (map_add(&r->topics, m->topic_hash, node) == 0) {
        r->sequence++;
        return 0;
    }
    node->message = NULL;
    message_unref(m);
    level_tree_prune(&r->tree, &node->node, no_message_here, leaving);
    return -ENOMEM;
}

int retained_set(struct retained *r, struct message *m)
{
    struct slice topic = message_topic(m);
    struct retained_node *node = find(r, topic, m->topic_hash);
    struct grave *grave = node ? NULL : grave_find(r, topic, m->topic_hash);
    int64_t before = node ? (int64_t)message_size(node->message) : 0;

    assert(m->payload_len > 0); /* [MQTT-3.3.1-7] */
    if (stands(node ? node->message : grave ? grave->message : NULL, message_stamp(m))) {
        return -ESTALE;
    }
    int rc = quota_change(r, topic, node ? 0 : 1, (int64_t)message_size(m) - before);
    if (rc) {
        return rc;
    }
    if (node) {
        retained_count_in(r, node->message);
        message_unref(node->message);
        node->message = message_ref(m);
        node->sequence = ++r->sequence;
    } else if (make_node(r, m) != 0) {
        quota_change(r, topic, -1, -(int64_t)message_size(m));
        return -ENOMEM;
    }
    retained_count_in(r, m);
    if (grave) {
        grave_forget(r, grave);
    }
    return 0;
}

static void remove_message(struct retained *r, struct retained_node *node)
{
    struct message *m = node->message;

    map_remove(&r->topics, m->topic_hash, node);
    retained_count_in(r, m);
    quota_change(r, message_topic(m), -1, -(int64_t)message_size(m));
    node->message = NULL;
    message_unref(m);
    level_tree_prune(&r->tree, &node->node, no_message_here, leaving);
}

int retained_clear(struct retained *r, struct slice topic, uint64_t topic_hash, struct message_stamp stamp)
{
    struct retained_node *node = find(r, topic, topic_hash);

    if (stands(retained_look(r, topic, topic_hash), stamp)) {
        return -ESTALE;
    }
    if (r->quota->replica && !retained_is_own(topic) && grave_dig(r, topic, topic_hash, stamp) != 0) {
        return -ENOMEM;
    }
    if (node) {
        remove_message(r, node);
    }
    return node != NULL;
}

/* A message has expired. In a cluster it leaves a grave with its own stamp, so that no older one comes in its place;
 * for want of memory there is none. */
static void expire(struct retained *r, struct retained_node *node, uint64_t now_ms)
{
    const struct retained_replica *replica = r->quota->replica;
    struct message *m = message_ref(node->message);
    struct slice topic = message_topic(m);

    remove_message(r, node);
    if (replica && !retained_is_own(topic) && grave_end_ms(replica, message_stamp(m)) > now_ms) {
        (void)grave_dig(r, topic, m->topic_hash, message_stamp(m));
    }
    retained_tell(r, m);
    message_unref(m);
}

struct message *retained_get(struct retained *r, struct slice topic, uint64_t topic_hash, uint64_t now_ms)
{
    struct retained_node *node = find(r, topic, topic_hash);

    if (!node) {
        return NULL;
    }
    if (node->message->expires_at_ms <= now_ms) {
        expire(r, node, now_ms);
        return NULL;
    }
    return node->message;
}

unsigned retained_sweep(struct retained *r, uint64_t now_ms, unsigned steps)
{
    unsigned removed = 0;

    for (unsigned i = 0; i < steps; i++) {
        struct retained_node *node = map_next(&r->topics, &r->sweep_at);
        if (!node) {
            r->sweep_at = 0;
            break;
        }
        if (node->message->expires_at_ms <= now_ms) {
            expire(r, node, now_ms); /* moves others into its slot: those have their turn in the next round */
            removed++;
        }
    }
    grave_sweep(r, now_ms, steps);
    return removed;
}

void retained_watch(struct retained *r, retained_gone *gone, void *arg)
{
    r->gone = gone;
    r->gone_arg = arg;
}

/* ---- cursors ---- */

static bool push(struct retained_cursor *c, struct level_node *node, uint32_t level, bool alone)
{
    if (!node) {
        return true;
    }
    if (c->depth == c->capacity) {
        uint32_t capacity = c->capacity ? c->capacity * 2 : 8;
        struct frame *stack = realloc(c->stack, capacity * sizeof(*stack));
        if (!stack) {
            c->failed = true;
            return false;
        }
        c->stack = stack;
        c->capacity = capacity;
    }
    struct frame *f = &c->stack[c->depth++];
    *f = (struct frame){.level = level, .alone = alone};
    stand(f, node);
    return true;
}

/* Put the children of a node on the stack that may match from filter level `level` on. */
static bool push_children(struct retained_cursor *c, struct level_node *node, uint32_t level)
{
    if (level < c->level_count && !slice_eq(c->levels[level], SLICE("+"))) {
        return push(c, level_tree_child(&c->store->tree, node, c->levels[level]), level, true);
    }
    if (level == c->level_count && !c->multi) {
        return true;
    }
    return push(c, level_first_child(node), level, false);
}

static int split_levels(struct retained_cursor *c, struct slice filter)
{
    struct slice rest = filter, level;
    uint32_t count = 1;
    bool done = false;

    for (size_t i = 0; i < filter.len; i++) {
        count += filter.ptr[i] == '/';
    }
    c->levels = calloc(count, sizeof(*c->levels));
    if (!c->levels) {
        return -ENOMEM;
    }
    while (mqtt_level_next(&rest, &done, &level)) {
        c->levels[c->level_count++] = level;
    }
    if (slice_eq(c->levels[c->level_count - 1], SLICE("#"))) {
        c->multi = true;
        c->level_count--;
    }
    return 0;
}

int retained_cursor_open(struct retained *r, struct slice filter, uint64_t sequence,
                         struct retained_cursor **ret_cursor)
{
    struct retained_cursor *c = calloc(1, sizeof(*c) + filter.len);
    if (!c) {
        return -ENOMEM;
    }
    c->store = r;
    c->sequence = sequence;
    list_init(&c->graves.in_store);
    memcpy(c->text, filter.ptr, filter.len);
    list_append(&r->cursors, &c->in_store);
    if (split_levels(c, slice_of(c->text, filter.len)) != 0 || !push_children(c, r->tree.root, 0)) {
        retained_cursor_close(c);
        return -ENOMEM;
    }
    *ret_cursor = c;
    return 0;
}

int retained_cursor_open_all(struct retained *r, struct retained_cursor **ret_cursor)
{
    int rc = retained_cursor_open(r, SLICE("#"), UINT64_MAX, ret_cursor);

    if (rc == 0) {
        (*ret_cursor)->all = true;
        grave_cursor_open(r, &(*ret_cursor)->graves);
    }
    return rc;
}

void retained_cursor_close(struct retained_cursor *c)
{
    if (!c) {
        return;
    }
    for (uint32_t i = 0; i < c->depth; i++) {
        stand(&c->stack[i], NULL);
    }
    grave_cursor_close(&c->graves);
    list_remove(&c->in_store);
    free(c->stack);
    free(c->levels);
    free(c);
}

/* The turn of a node: push its children, and return its message if it matches. */
static struct message *visit(struct retained_cursor *c, struct frame *f)
{
    struct retained_node *node = f->node;
    uint32_t level = f->level;

    f->visited = true;
    if (!f->alone && c->depth == 1 && node->node.level_len > 0 && node->node.level[0] == '$' && !c->all) {
        return NULL; /* [MQTT-4.7.2-1] */
    }
    uint32_t next = level < c->level_count ? level + 1 : level;
    if (!push_children(c, &node->node, next)) { /* f may have moved */
        return NULL;
    }
    return next == c->level_count && node->sequence <= c->sequence ? node->message : NULL;
}

unsigned retained_cursor_next(struct retained_cursor *c, uint64_t now_ms, unsigned steps, struct message **out,
                              unsigned max, bool *ret_done)
{
    unsigned found = 0;

    while (c->depth > 0 && !c->failed && steps > 0 && found < max) {
        struct frame *f = &c->stack[c->depth - 1];
        if (!f->node) {
            c->depth--;
            continue;
        }
        if (f->visited) {
            stand(f, f->alone ? NULL : level_next(&f->node->node));
            continue;
        }
        steps--;
        struct message *m = visit(c, f);
        if (m && m->expires_at_ms > now_ms && !(c->all && retained_is_own(message_topic(m)))) {
            out[found++] = message_ref(m);
        }
    }
    for (; c->all && c->depth == 0 && c->graves.next && steps > 0 && found < max; steps--) {
        struct message *m = grave_cursor_next(c->store, &c->graves);
        if (m->expires_at_ms > now_ms) {
            out[found++] = message_ref(m);
        }
    }
    *ret_done = (c->depth == 0 && !(c->all && c->graves.next)) || c->failed;
    return found;
}
