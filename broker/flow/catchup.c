/* What a node has missed of the retained messages: it was away, or a message of QoS 0 was lost on its way. Nodes
 * compare what they have, in sums over buckets of topics: at once when a link comes up that knows nothing, then now and
 * then. Who sees another sum asks for all messages and graves of that bucket, and keeps those that are later than its
 * own. As both sides do so, both have the same in the end. A new node, which has nothing, gets everything in this way.
 * Nobody waits for it: subscribers read what there is.
 *
 *     control shard ---- sums -----> control shard        compares: these buckets differ
 *     control shard <--- pull ------ control shard
 *      all shards   == messages ===> shards               each over its own link, as fast as they are stored
 *
 * What is on its way while sums are compared makes them differ as well: so only buckets that differed the last time too
 * are asked for, but at once when a link comes up. One pull at a time, for the next neighbour has much of the same. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"
#include "broker/flow/forward_frame.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"

#define WORDS (RETAINED_BUCKETS / 64)
#define SOON_MS 5000u   /* to the next comparison, when a link has come up */
#define SOON_ROUNDS 3u  /* so often */
#define ROUND_MS 30000u /* and then; a quarter more or less */
#define QUIET_MS 3000u  /* without a message that was asked for: the pull is over */
#define WAIT_MAX 7u     /* a pull that changes nothing: after so many rounds, doubled each time so often, the next */
#define AHEAD_BYTES (512u << 10) /* of messages that were asked for and are not yet answered for: on the disk there */
#define STEPS_AT_ONCE 16u
#define VISITS_AT_ONCE 64u

struct buckets {
    uint64_t bits[WORDS];
};

/* What a control shard knows of a neighbour. */
struct catchup_peer {
    uint64_t due_ms; /* it is told our sums; 0: never */
    bool at_once;    /* it knows nothing yet */
    unsigned rounds; /* since then */
    bool named;      /* the log has it that its sums are ours */
    unsigned futile; /* pulls after which the buckets still differed */
    unsigned skip;   /* comparisons until the next one */
    unsigned count;  /* buckets that differed twice, the last time */
    struct buckets differed;
};

struct catchup {
    struct catchup_peer peers[NEIGHBOURS_MAX];
    uint64_t pulled_ms; /* when something was asked for; 0: never */
};

/* On each shard: what a neighbour has asked for. In its forward_lane. */
struct catchup_walk {
    struct retained_cursor *cursor; /* NULL: over */
    struct buckets wanted, next;    /* next: asked for meanwhile */
    bool again;
};

struct wish { /* carried by MAIL_CATCHUP */
    unsigned neighbour;
    struct buckets buckets;
};

static struct broker *broker_of_link(const struct peer_link *link)
{
    return CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
}

static bool has(const struct buckets *b, unsigned bucket)
{
    return b->bits[bucket / 64] >> bucket % 64 & 1;
}

/* Returns how many there are in both; *ret_both. */
static unsigned both_of(const struct buckets *a, const struct buckets *b, struct buckets *ret_both)
{
    unsigned count = 0;

    for (unsigned i = 0; i < WORDS; i++) {
        ret_both->bits[i] = a->bits[i] & b->bits[i];
        count += (unsigned)__builtin_popcountll(ret_both->bits[i]);
    }
    return count;
}

/* ---- sums: on the control shard ---- */

int catchup_new(struct broker *b)
{
    b->node->cluster->catchup = calloc(1, sizeof(struct catchup));
    return b->node->cluster->catchup ? 0 : -ENOMEM;
}

void catchup_free(struct broker *b)
{
    free(b->node->cluster->catchup);
    b->node->cluster->catchup = NULL;
}

void catchup_peer_up(struct broker *b, unsigned neighbour)
{
    b->node->cluster->catchup->peers[neighbour] = (struct catchup_peer){.due_ms = b->shard->now_ms, .at_once = true};
}

static void tell_sums(struct broker *b, struct peer_link *link, struct catchup_peer *p)
{
    const struct retained_replica *replica = &b->node->cluster->replica;
    Tern__RetainedSums message = TERN__RETAINED_SUMS__INIT;
    uint64_t sums[RETAINED_BUCKETS];

    for (unsigned i = 0; i < RETAINED_BUCKETS; i++) {
        sums[i] = atomic_load_explicit(&replica->sums[i], memory_order_relaxed);
    }
    message.sums = sums;
    message.n_sums = RETAINED_BUCKETS;
    message.at_once = p->at_once;
    if (peer_put_message(link, LINK_CONTROL, FRAME_RETAINED_SUMS, &message.base) == 0) {
        p->at_once = false;
    }
    p->due_ms =
        b->shard->now_ms + (p->rounds < SOON_ROUNDS ? SOON_MS : ROUND_MS * 3 / 4 + prng_below(&b->prng, ROUND_MS / 2));
    p->rounds++;
}

static void tell_all(struct broker *b)
{
    for (unsigned n = 0; n < b->cluster->links_end; n++) {
        struct peer_link *link = b->cluster->links[n];
        struct catchup_peer *p = &b->node->cluster->catchup->peers[n];
        if (link && link->open && p->due_ms != 0 && p->due_ms <= b->shard->now_ms) {
            tell_sums(b, link, p);
        }
    }
}

/* Whether messages that were asked for may still be on their way. */
static bool is_pulling(const struct broker *b)
{
    const struct node_cluster *cluster = b->node->cluster;
    uint64_t last = atomic_load_explicit(&cluster->caught_up_ms, memory_order_relaxed);

    last = cluster->catchup->pulled_ms > last ? cluster->catchup->pulled_ms : last;
    return last != 0 && b->shard->now_ms - last < QUIET_MS;
}

static int pull(struct broker *b, struct peer_link *link, const struct buckets *buckets, unsigned count)
{
    Tern__RetainedPull message = TERN__RETAINED_PULL__INIT;
    uint8_t bytes[RETAINED_BUCKETS / 8];

    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(buckets->bits[i / 8] >> i % 8 * 8);
    }
    message.buckets.data = bytes;
    message.buckets.len = sizeof(bytes);
    if (peer_put_message(link, LINK_CONTROL, FRAME_RETAINED_PULL, &message.base) != 0) {
        return -ENOMEM;
    }
    b->node->cluster->catchup->pulled_ms = b->shard->now_ms;
    log_event(LOG_INFO, "retained_asked_for",
              {"node", LOG_STR(b->node->cluster->neighbours[neighbour_find(b->node->cluster, &link->id)].name)},
              {"buckets", LOG_INT(count)});
    return 0;
}

/* Another node's sums have been compared with ours. */
static int compared(struct broker *b, struct peer_link *link, struct catchup_peer *p, const struct buckets *differ,
                    bool at_once)
{
    struct buckets wanted;
    unsigned count = both_of(differ, at_once ? differ : &p->differed, &wanted);

    p->differed = *differ;
    if (count < p->count || count == 0) { /* it gets better */
        p->futile = p->skip = 0;
    }
    p->count = count;
    if (count == 0) {
        return 0;
    }
    if (is_pulling(b) || (!at_once && p->skip > 0 && p->skip-- > 0)) {
        return 0;
    }
    p->named = false;
    p->skip = (1u << p->futile) - 1; /* perhaps there is no room for them here */
    p->futile += p->futile < WAIT_MAX;
    return pull(b, link, &wanted, count);
}

int catchup_sums(struct peer_link *link, struct slice body)
{
    struct broker *b = broker_of_link(link);
    const struct retained_replica *replica = &b->node->cluster->replica;
    int n = neighbour_find(b->node->cluster, &link->id);
    struct buckets differ = {0};
    ProtobufCMessage *decoded;
    bool any = false;
    int rc = n < 0 ? -EPROTO : wire_decode(&tern__retained_sums__descriptor, body, &link->room->arena, &decoded);

    if (rc) {
        return rc;
    }
    const Tern__RetainedSums *m = (const Tern__RetainedSums *)decoded;
    if (m->n_sums != RETAINED_BUCKETS) {
        return -EPROTO;
    }
    for (unsigned i = 0; i < RETAINED_BUCKETS; i++) {
        if (m->sums[i] != atomic_load_explicit(&replica->sums[i], memory_order_relaxed)) {
            differ.bits[i / 64] |= 1ull << i % 64;
            any = true;
        }
    }
    struct catchup_peer *p = &b->node->cluster->catchup->peers[n];
    if (!any && !p->named) {
        log_event(LOG_INFO, "retained_same", {"node", LOG_STR(b->node->cluster->neighbours[n].name)});
        p->named = true;
    }
    return compared(b, link, p, &differ, m->at_once);
}

/* ---- what was asked for: on all shards ---- */

int catchup_pull(struct peer_link *link, struct slice body)
{
    struct broker *b = broker_of_link(link);
    int n = neighbour_find(b->node->cluster, &link->id);
    ProtobufCMessage *decoded;
    int rc = n < 0 ? -EPROTO : wire_decode(&tern__retained_pull__descriptor, body, &link->room->arena, &decoded);

    if (rc) {
        return rc;
    }
    const Tern__RetainedPull *m = (const Tern__RetainedPull *)decoded;
    if (m->buckets.len != RETAINED_BUCKETS / 8) {
        return -EPROTO;
    }
    for (unsigned i = 0; i < b->shard->count; i++) {
        struct wish *wish = calloc(1, sizeof(*wish));
        struct mail mail = {.kind = MAIL_CATCHUP, .ptr = wish};
        if (!wish) { /* it asks again */
            continue;
        }
        wish->neighbour = (unsigned)n;
        for (unsigned k = 0; k < m->buckets.len; k++) {
            wish->buckets.bits[k / 8] |= (uint64_t)m->buckets.data[k] << k % 8 * 8;
        }
        if (i == b->shard->index) {
            catchup_mail(b, &mail);
        } else if (shard_post(b->shard, i, &mail) != 0) {
            free(wish);
        }
    }
    return 0;
}

static void walk_begin(struct broker *b, struct catchup_walk *walk)
{
    if (retained_cursor_open_all(b->retained, &walk->cursor) != 0) {
        walk->cursor = NULL; /* it asks again */
    }
    b->shard->busy |= walk->cursor != NULL;
}

void catchup_mail(struct broker *b, const struct mail *mail)
{
    struct wish *wish = mail->ptr;
    struct peer_link *link = b->cluster->links[wish->neighbour];
    struct forward_lane *lane = link ? link->owner : NULL;

    if (lane && !lane->walk) {
        lane->walk = calloc(1, sizeof(*lane->walk));
    }
    struct catchup_walk *walk = lane ? lane->walk : NULL;
    if (walk && walk->cursor) {
        for (unsigned i = 0; i < WORDS; i++) {
            walk->next.bits[i] |= wish->buckets.bits[i];
        }
        walk->again = true;
    } else if (walk) {
        walk->wanted = wish->buckets;
        walk_begin(b, walk);
    }
    free(wish);
}

static void walk_end(struct broker *b, struct catchup_walk *walk)
{
    retained_cursor_close(walk->cursor);
    walk->cursor = NULL;
    if (walk->again) {
        walk->wanted = walk->next;
        walk->next = (struct buckets){0};
        walk->again = false;
        walk_begin(b, walk);
    }
}

void catchup_drop(struct forward_lane *lane)
{
    if (lane->walk) {
        retained_cursor_close(lane->walk->cursor);
        free(lane->walk);
        lane->walk = NULL;
    }
}

/* Send more of it, as far as the link takes it. */
static void walk_on(struct broker *b, struct peer_link *link, struct catchup_walk *walk)
{
    const struct retained_replica *replica = &b->node->cluster->replica;
    bool done = false;

    for (unsigned i = 0; i < VISITS_AT_ONCE && !done; i++) {
        struct message *m;
        if (((struct forward_lane *)link->owner)->quiet_bytes > AHEAD_BYTES) {
            return; /* an answer wakes us */
        }
        if (retained_cursor_next(walk->cursor, b->shard->wall_ms, STEPS_AT_ONCE, &m, 1, &done) == 0) {
            continue;
        }
        if (has(&walk->wanted, retained_bucket(hash_keyed(&replica->key, message_topic(m))))) {
            done |= forward_retained(b, link, m) != 0; /* no memory: it asks again */
        }
        message_unref(m);
    }
    if (done) {
        walk_end(b, walk);
    } else {
        b->shard->busy = true;
    }
}

void catchup_turn(struct broker *b)
{
    if (b->shard->index == CONTROL_SHARD) {
        tell_all(b);
    }
    for (unsigned n = 0; n < b->cluster->links_end; n++) {
        struct peer_link *link = b->cluster->links[n];
        struct forward_lane *lane = link ? link->owner : NULL;
        if (lane && lane->walk && lane->walk->cursor && link->open) {
            walk_on(b, link, lane->walk);
        }
    }
}
