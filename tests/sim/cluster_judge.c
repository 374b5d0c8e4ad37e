/* What must hold between nodes. A message that is acknowledged is owed to whoever was told to be subscribed before it
 * was sent, if the publisher's node had that filter in force all the while:
 *
 *     known   the subscriber's node has told the publisher's node of the filter: it was one of those that a strict
 *             SUBACK waits for, or both were seen to have the same set since
 *     break   the publisher's node took the other for dead, or for another than before, or began anew itself: nobody
 *             waits for it then, and its filters have to be told anew
 *
 * Both are read in the nodes' own tables after each step. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/flow/feed_inside.h"
#include "broker/session/session.h"
#include "tests/sim/cluster_inside.h"

#define FRAME_BYTES_MAX 4096u     /* nobody here sends longer ones but the control lane */
#define LANE_BYTES_MAX (5u << 20) /* forward.c makes publishers wait at four MiB */
#define BOUNDS_EVERY 16u

/* ---- what nodes think of each other ---- */

static struct broker *control_of(struct host *h)
{
    return &h->node.brokers[CONTROL_SHARD];
}

static struct node_cluster *cluster_of(struct host *h)
{
    return h->node.tables.cluster;
}

/* What h has of the other; NULL: it does not know it. */
static struct feed_peer *peer_of(struct host *h, struct host *other, unsigned *ret_number)
{
    struct node_id id;

    memcpy(id.bytes, mem_store_identity(other->disk)->node_id, sizeof(id.bytes));
    int n = neighbour_find(cluster_of(h), &id);
    if (n < 0 || !cluster_of(h)->feed) {
        return NULL;
    }
    *ret_number = (unsigned)n;
    return &feed_of(control_of(h))->peers[n];
}

static void look_at_view(struct cluster *w, struct host *h, struct host *other)
{
    struct view *v = &h->views[other->index], was = *v;
    unsigned n = 0;
    struct feed_peer *p = h->up ? peer_of(h, other, &n) : NULL;

    v->known = p && p->used;
    v->boot = v->known ? cluster_of(h)->neighbours[n].boot : 0;
    v->slot = v->known ? p->slot : NO_SLOT;
    bool same = v->boot == was.boot, was_in_force = was.boot != 0 && was.slot != NO_SLOT;
    if (same && was_in_force && v->slot == NO_SLOT) {
        wrong(w, "node %u has taken the filters of node %u for nothing, which lives", h->index, other->index);
    }
    if (!same && v->boot != 0 && was_in_force && v->slot == was.slot) {
        wrong(w, "node %u keeps the filters that node %u had before it was started again", h->index, other->index);
    }
    if (!same || v->slot == NO_SLOT) {
        v->break_step = w->step;
    }
    if (!same || (v->slot == NO_SLOT) != (was.slot == NO_SLOT)) {
        w->trouble_step = w->step;
        note(w, "sees", h->index * 16 + other->index, v->slot == NO_SLOT ? 0 : v->boot);
    }
}

/* The filters of `of`, as itself has told them and as h has them. */
static bool same_set(struct host *h, struct host *of)
{
    unsigned n, m;
    struct feed_peer *here = peer_of(h, of, &n), *there = peer_of(of, h, &m);
    struct feed *f = feed_of(control_of(of));

    if (!here || !there || here->slot == NO_SLOT || !there->used || there->walking || !list_empty(&f->changes)) {
        return false;
    }
    struct route_digest d = route_table_slot_digest(h->node.tables.routes, here->slot);
    return d.count == f->told.count && d.sum == f->told.sum;
}

static void set_known(struct cluster *w, struct host *of, struct host *by, bool known)
{
    for (unsigned i = 0; i < w->rover_count; i++) {
        for (unsigned f = 0; f < ROVER_FILTERS && w->rovers[i].host == of->index; f++) {
            struct rover_subscription *s = &w->rovers[i].subscriptions[f];
            if (s->state == ROVER_THERE && s->step < w->step) {
                s->known = (uint8_t)(known ? s->known | 1u << by->index : s->known & ~(1u << by->index));
            }
        }
    }
}

static void look_at_pair(struct cluster *w, struct host *h, struct host *other)
{
    look_at_view(w, h, other);
    if (!other->up || !h->up) {
        return;
    }
    if (!other->views[h->index].known) {
        set_known(w, other, h, false);
    } else if (same_set(h, other)) {
        set_known(w, other, h, true);
    }
}

/* ---- bounds ---- */

static void look_at_bounds(struct cluster *w, struct host *h)
{
    for (unsigned s = 0; s < h->shard_count; s++) {
        struct cluster_shard *cs = h->node.brokers[s].cluster;
        for (struct list *at = cs->room.links.next; at != &cs->room.links; at = at->next) {
            struct peer_link *link = CONTAINER_OF(at, struct peer_link, in_room);
            for (unsigned lane = 0; lane < LINK_LANES; lane++) {
                if (link_flow_held(&link->flow, lane) > link->flow.lanes[lane].bound + FRAME_BYTES_MAX) {
                    wrong(w, "node %u: lane %u of a link holds %u bytes", h->index, lane,
                          link_flow_held(&link->flow, lane));
                }
            }
            if (link->dialled && link->owner && ((struct forward_lane *)link->owner)->bytes > LANE_BYTES_MAX) {
                wrong(w, "node %u: too much waits for the answer of another", h->index);
            }
        }
    }
}

void judge_look(struct cluster *w)
{
    for (unsigned i = 0; i < w->host_count; i++) {
        for (unsigned k = 0; k < w->host_count; k++) {
            if (i != k) {
                look_at_pair(w, &w->hosts[i], &w->hosts[k]);
            }
        }
        if (w->hosts[i].up && w->step % BOUNDS_EVERY == 0) {
            look_at_bounds(w, &w->hosts[i]);
        }
    }
}

/* ---- messages ---- */

static struct rover_subscription *subscription_for(struct rover *r, unsigned topic)
{
    return &r->subscriptions[topic == ROVER_SHARED ? ROVER_GROUP : r->wild ? ROVER_ALL : topic];
}

void judge_subscribed(struct cluster *w, struct rover *r, struct rover_subscription *s)
{
    s->known = 0;
    for (unsigned i = 0; i < w->host_count && w->strict; i++) {
        s->known |= (uint8_t)(w->hosts[r->host].views[i].known << i);
    }
}

/* Whether nothing has come between since it was sent. A repetition with QoS 2 goes nowhere if the first was taken. */
static bool stands(struct cluster *w, const struct letter *m, struct rover *to)
{
    const struct rover_subscription *s = subscription_for(to, m->topic);

    return to->session != 0 && !to->unsure && s->state == ROVER_THERE && s->step < m->first_step && s->qos > 0 &&
           m->qos > 0 &&
           (to->host == m->host ||
            w->hosts[m->host].views[to->host].break_step < (m->qos == 2 ? m->first_step : m->sent_step));
}

void judge_sent(struct cluster *w, struct rover *r, struct letter *m)
{
    uint16_t candidates = 0;

    m->host = (uint8_t)r->host;
    m->sent_step = w->step;
    for (unsigned i = 0; i < w->rover_count; i++) {
        struct rover *to = &w->rovers[i];
        bool known = to->host == r->host || subscription_for(to, m->topic)->known >> r->host & 1;
        if (known && stands(w, m, to)) {
            candidates |= (uint16_t)(1u << i);
        }
    }
    m->candidates = m->qos == 2 ? m->candidates & candidates : candidates;
}

void judge_acked(struct cluster *w, struct letter *m)
{
    m->acked = true;
    m->troubled = w->trouble_step >= m->first_step;
    if (m->unsure) { /* at which node its rover's session is, and so who has sent it on, is not known */
        return;
    }
    for (unsigned i = 0; i < w->rover_count; i++) {
        struct rover *to = &w->rovers[i];
        if (!(m->candidates >> i & 1) || !stands(w, m, to)) {
            continue;
        }
        if (m->topic == ROVER_SHARED) {
            m->owed = true;
        } else {
            to->owed[m - w->letters] = to->session;
        }
    }
}

static void judge_order(struct cluster *w, struct rover *r, const struct letter *m)
{
    uint32_t *session = &r->last[m->rover][m->topic][m->qos].session;
    uint32_t *number = &r->last[m->rover][m->topic][m->qos].number;

    const struct rover_subscription *s = subscription_for(r, m->topic);

    /* What is sent again, by its publisher or by a node to one that was started again, may be new to who has subscribed
     * meanwhile, or who was away and is not kept messages for. */
    bool kept = s->qos > 0 || w->trouble_step < m->first_step;
    bool first = kept && !r->unsure && !m->unsure && m->first_step == m->sent_step && s->state == ROVER_THERE &&
                 s->step < m->first_step;
    if (*session == m->session && m->number < *number && first) {
        wrong(w, "rover %u gets message %u of rover %u (number %u, t/%u, QoS %u) behind its number %u", r->index,
              (unsigned)(m - w->letters), m->rover, m->number, m->topic, m->qos, *number);
    }
    if (*session != m->session || m->number > *number) {
        *session = m->session;
        *number = m->number;
    }
}

/* One of the group has a message; with QoS 2 nobody else may, unless a node ended or was taken for dead since. */
static void judge_taken(struct cluster *w, struct rover *r, struct letter *m)
{
    m->takers |= (uint16_t)(1u << r->index);
    if (m->qos == 2 && !m->unsure && !r->unsure && (m->takers & (m->takers - 1)) && w->trouble_step < m->first_step) {
        wrong(w, "message %u for the group goes to rover %u, and another has it", (unsigned)(m - w->letters), r->index);
    }
}

void judge_got(struct cluster *w, struct rover *r, uint32_t letter, unsigned qos)
{
    struct letter *m = &w->letters[letter];
    bool again = r->got[letter] == r->session;

    if (qos > m->qos) {
        wrong(w, "rover %u gets message %u with QoS %u", r->index, letter, qos);
    }
    if (m->topic == ROVER_SHARED) {
        judge_taken(w, r, m);
    }
    if (!again) {
        if (m->topic != ROVER_SHARED) {
            judge_order(w, r, m);
        }
        r->got[letter] = r->session;
        return;
    }
    if (m->unsure || r->unsure) {
        return;
    }
    bool troubled = m->acked ? m->troubled : w->trouble_step >= m->first_step;
    if (m->qos == 0 || (m->qos == 2 && qos == 2 && !troubled)) {
        wrong(w, "rover %u gets message %u of rover %u with QoS %u twice", r->index, letter, m->rover, m->qos);
    }
}

/* ---- the end ---- */

static void judge_delivered(struct cluster *w)
{
    for (unsigned i = 0; i < w->rover_count; i++) {
        struct rover *r = &w->rovers[i];
        for (uint32_t n = 0; n < w->letter_count; n++) {
            const struct letter *m = &w->letters[n];
            if (r->owed[n] != 0 && r->owed[n] == r->session && !r->unsure && r->got[n] != r->session) {
                wrong(w,
                      "message %u (t/%u, QoS %u) of rover %u at node %u was acknowledged, and rover %u at node %u, who "
                      "is subscribed since step %llu, has not got it; sent in step %llu, last %llu",
                      n, m->topic, m->qos, m->rover, m->host, i, r->host,
                      (unsigned long long)subscription_for(r, m->topic)->step, (unsigned long long)m->first_step,
                      (unsigned long long)m->sent_step);
                return;
            }
        }
    }
}

static void judge_group(struct cluster *w)
{
    for (uint32_t n = 0; n < w->letter_count; n++) {
        const struct letter *m = &w->letters[n];
        if (m->owed && m->takers == 0) {
            wrong(w, "message %u (QoS %u) of rover %u at node %u for the group was acknowledged, and nobody has it", n,
                  m->qos, m->rover, m->host);
        }
    }
}

bool judge_agree(struct cluster *w)
{
    bool agree = true;

    for (unsigned i = 0; i < w->host_count; i++) {
        for (unsigned k = 0; k < w->host_count; k++) {
            agree &= i == k || same_set(&w->hosts[k], &w->hosts[i]);
        }
    }
    return agree;
}

static void judge_routes(struct cluster *w)
{
    for (unsigned i = 0; i < w->host_count; i++) {
        struct host *of = &w->hosts[i];
        struct route_digest own = route_table_own_digest(of->node.tables.routes);
        struct route_digest told = feed_of(control_of(of))->told;
        bool leaving = !list_empty(&feed_of(control_of(of))->leaving); /* withdrawn later */
        if (!leaving && (own.count != told.count || own.sum != told.sum)) {
            wrong(w, "node %u has %llu filters and tells of %llu", i, (unsigned long long)own.count,
                  (unsigned long long)told.count);
        }
        for (unsigned k = 0; k < w->host_count; k++) {
            if (i != k && !same_set(&w->hosts[k], of)) {
                wrong(w, "node %u does not know the filters of node %u", k, i);
            }
        }
        if (cluster_of(of)->neighbour_count != w->host_count - 1) {
            wrong(w, "node %u knows %u others", i, cluster_of(of)->neighbour_count);
        }
    }
}

/* Connections of this client that the nodes have. */
static unsigned fronts_of(struct cluster *w, const struct rover *r)
{
    unsigned count = 0;
    char id[20];

    snprintf(id, sizeof(id), "rover%u", r->index);
    for (unsigned i = 0; i < w->host_count; i++) {
        struct host *h = &w->hosts[i];
        uint64_t hash = hash_keyed(&h->node.tables.key, slice_str(id));
        struct broker *b = &h->node.brokers[group_of(hash) % h->shard_count];
        struct session *session = group_find(&b->groups[group_of(hash)], slice_str(id), hash);
        count += session && session->front;
    }
    return count;
}

void judge_quiet(struct cluster *w)
{
    for (unsigned i = 0; i < w->host_count; i++) {
        if (!w->hosts[i].up) {
            wrong(w, "node %u is not up", i);
            return;
        }
    }
    judge_delivered(w);
    judge_group(w);
    judge_routes(w);
    for (unsigned i = 0; i < w->rover_count; i++) {
        struct rover *r = &w->rovers[i];
        unsigned fronts = fronts_of(w, r);
        if (fronts != 1 || !r->welcome) {
            wrong(w, "rover %u is connected %u times", i, fronts);
        }
        if (r->open_count > 0) {
            wrong(w, "message %u of rover %u is not acknowledged", r->open[0].letter, i);
        }
    }
}

void judge_left(struct cluster *w)
{
    judge_routes(w);
    for (unsigned i = 0; i < w->host_count && !w->result->violation[0]; i++) {
        struct host *h = &w->hosts[i];
        if (feed_of(control_of(h))->told.count > 0) {
            wrong(w, "all have gone and expired, but node %u tells of %llu filters", i,
                  (unsigned long long)feed_of(control_of(h))->told.count);
        }
        const char *left = sim_node_left(&h->node);
        if (left) {
            wrong(w, "all have gone and expired, but node %u has %s left", i, left);
        }
        for (unsigned s = 0; s < h->shard_count; s++) {
            struct cluster_shard *cs = h->node.brokers[s].cluster;
            for (unsigned n = 0; n < NEIGHBOURS_MAX; n++) {
                struct forward_lane *lane = cs->links[n] ? cs->links[n]->owner : NULL;
                if (lane && (lane->head != lane->tail || lane->bytes > 0)) {
                    wrong(w, "node %u waits for the answer of another for ever", i);
                }
            }
        }
    }
}

/* All nodes here are honest, on whatever roads: none may take another for a liar. */
void judge_log(struct cluster *w)
{
    static const char *const words[] = {
        "level=error",
        "a frame is missing",
        "makes no sense",
        "acknowledges what was not sent",
        "too long, or of no lane",
        "does not say HELLO",
        "speaks before it was answered",
        "used twice",
        "cluster of the same name",
        "no version of the protocol",
    };
    off_t len = lseek(w->log_fd, 0, SEEK_END);
    char *text = malloc((size_t)len + 1);

    assert(text && pread(w->log_fd, text, (size_t)len, 0) == len);
    text[len] = '\0';
    for (unsigned i = 0; i < COUNT_OF(words); i++) {
        const char *found = strstr(text, words[i]);
        if (found) {
            const char *line = found;
            while (line > text && line[-1] != '\n') {
                line--;
            }
            wrong(w, "a node says: %.*s", (int)strcspn(line, "\n"), line);
        }
    }
    free(text);
}
