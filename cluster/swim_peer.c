/* swim_peer.c -- the table of members, and which rumours are believed.
 *
 * What is newer by (boot, incarnation) is believed as a whole. At the same (boot, incarnation) the record is the same,
 * whoever tells it, so that only the state may differ; there the worse one wins. Two things are kept from a mad peer:
 * it cannot raise another's incarnation out of its reach, and it cannot make the table grow. What belongs to another
 * cluster than this node is not believed at all. */
#include <assert.h>

#include "cluster/swim_inside.h"

/* Searched from end to end: there are few of them, and a datagram names a dozen. */
struct peer *swim_peer(const struct swim *s, const struct node_id *id)
{
    for (unsigned i = 0; i < s->peers_end; i++) {
        if (s->peers[i].member.state != MEMBER_NONE && node_id_eq(&s->peers[i].member.id, id)) {
            return (struct peer *)&s->peers[i];
        }
    }
    return NULL;
}

static bool gone(enum member_state state)
{
    return state == MEMBER_DEAD || state == MEMBER_LEFT;
}

struct swim_rumour swim_rumour_of(const struct swim *s, const struct peer *p)
{
    struct swim_rumour r = {.member = p->member};

    if (p->accuser_count > 0) {
        r.accuser = p->accusers[p->accuser_count - 1]; /* the last: who agreed is the news */
    }
    if (gone(p->member.state)) {
        uint64_t left_ms = p->forget_ms > s->now_ms ? p->forget_ms - s->now_ms : 0;
        r.gone_s = (uint32_t)((s->timers.forget_ms - left_ms) / 1000);
    }
    return r;
}

static void tell(struct swim *s, const struct peer *p, const struct member *before)
{
    const struct member *now = &p->member;

    if (before->state != now->state || before->boot != now->boot ||
        !member_address_eq(&before->address, &now->address) ||
        memcmp(before->cluster_id, now->cluster_id, sizeof(now->cluster_id)) != 0) {
        s->driver.changed(s->driver.arg, now, before->state);
    }
}

static void enter(struct swim *s, struct peer *p, enum member_state state);

static void forget(struct swim *s, struct peer *p)
{
    struct member before = p->member;

    swim_unqueue(s, p);
    enter(s, p, MEMBER_NONE);
    tell(s, p, &before);
    *p = (struct peer){0};
}

/* Whether both belong to a cluster, and not to the same. */
static bool foreign(struct swim *s, const struct member *m)
{
    static const uint8_t none[MEMBER_CLUSTER_ID_SIZE];
    const uint8_t *own = swim_me(s)->member.cluster_id;

    return memcmp(own, m->cluster_id, sizeof(none)) != 0 && memcmp(own, none, sizeof(none)) != 0 &&
           memcmp(m->cluster_id, none, sizeof(none)) != 0;
}

void swim_forget_foreign(struct swim *s)
{
    for (unsigned i = 1; i < s->peers_end; i++) {
        if (s->peers[i].member.state != MEMBER_NONE && foreign(s, &s->peers[i].member)) {
            forget(s, &s->peers[i]);
        }
    }
}

void swim_forget_old(struct swim *s)
{
    for (unsigned i = 1; i < s->peers_end; i++) {
        struct peer *p = &s->peers[i];
        if (gone(p->member.state) && s->now_ms >= p->forget_ms) {
            forget(s, p);
        }
    }
}

/* Room for one more that is remembered. */
static void forget_oldest(struct swim *s)
{
    struct peer *oldest = NULL;

    for (unsigned i = 1; i < s->peers_end; i++) {
        struct peer *p = &s->peers[i];
        if (gone(p->member.state) && (!oldest || p->forget_ms < oldest->forget_ms)) {
            oldest = p;
        }
    }
    assert(oldest);
    forget(s, oldest);
}

/* Lifeguard: from the longest time to the shortest with the logarithm of how many agree; the shortest if others have
 * buried it already. Never later than it was. */
static void set_deadline(struct swim *s, struct peer *p, bool buried)
{
    static const uint32_t permille[SWIM_ACCUSERS_MAX] = {0, 631, 1000}; /* log(n + 1) / log(SWIM_AGREE + 1) */
    uint64_t max = s->timers.suspect_max_ms, min = s->timers.suspect_min_ms;
    bool enough = s->living_count >= 2 + SWIM_AGREE; /* who could agree: not this node, not that one */

    assert(p->accuser_count > 0);
    uint64_t wait = enough && !buried ? max - (max - min) * permille[p->accuser_count - 1] / 1000 : min;
    uint64_t until = p->suspect_since_ms + wait;
    until = until > s->now_ms ? until : s->now_ms;
    p->suspect_until_ms = until < p->suspect_until_ms ? until : p->suspect_until_ms;
}

/* Make room and accounts right for p's new state; p->member is what it was before. */
static void enter(struct swim *s, struct peer *p, enum member_state state)
{
    bool was_living = member_living(&p->member), was_gone = gone(p->member.state);

    if (gone(state) && !was_gone && s->gone_count == SWIM_GONE_MAX) {
        forget_oldest(s);
    }
    s->gone_count += gone(state);
    s->gone_count -= was_gone;
    s->suspect_count += state == MEMBER_SUSPECT;
    s->suspect_count -= p->member.state == MEMBER_SUSPECT;
    p->member.state = state;
    p->accuser_count = 0;
    bool is_living = member_living(&p->member);
    s->living_count += is_living;
    s->living_count -= was_living;
    if (is_living && !was_living) {
        swim_order_add(s, p);
    }
    if (!is_living && was_living) {
        swim_order_remove(s, p);
    }
}

/* Believe r, but for its state, which is `state`. */
static void believe(struct swim *s, struct peer *p, const struct swim_rumour *r, enum member_state state)
{
    struct member before = p->member;

    enter(s, p, state);
    if (before.state == MEMBER_NONE || member_order(r->member.boot, r->member.incarnation, &before) > 0) {
        p->member = r->member;
        p->member.state = state;
    }
    if (state == MEMBER_SUSPECT || state == MEMBER_DEAD) {
        p->accusers[p->accuser_count++] = r->accuser;
    }
    if (state == MEMBER_SUSPECT) {
        p->suspect_since_ms = s->now_ms;
        p->suspect_until_ms = UINT64_MAX;
        set_deadline(s, p, r->member.state == MEMBER_DEAD);
    }
    if (gone(state)) {
        uint64_t age_ms = (uint64_t)r->gone_s * 1000, most_ms = s->timers.forget_ms;
        p->forget_ms = s->now_ms + most_ms - (age_ms < most_ms ? age_ms : most_ms);
    }
    swim_queue(s, p);
    tell(s, p, &before);
}

static bool accused_by(const struct peer *p, const struct node_id *accuser)
{
    for (unsigned i = 0; i < p->accuser_count; i++) {
        if (node_id_eq(&p->accusers[i], accuser)) {
            return true;
        }
    }
    return false;
}

/* One more says that p, which is suspect, is so; or that it is dead. */
static void agree(struct swim *s, struct peer *p, const struct node_id *accuser, bool buried)
{
    bool counts = p->accuser_count < SWIM_ACCUSERS_MAX && !node_id_eq(accuser, &p->member.id);

    if (counts && !accused_by(p, accuser)) {
        p->accusers[p->accuser_count++] = *accuser;
        swim_queue(s, p);
    }
    set_deadline(s, p, buried);
}

void swim_accuse(struct swim *s, struct peer *p, const struct node_id *accuser)
{
    if (p->member.state == MEMBER_SUSPECT) {
        agree(s, p, accuser, false);
    }
    if (p->member.state == MEMBER_ALIVE) {
        struct swim_rumour r = {.member = p->member, .accuser = *accuser};
        believe(s, p, &r, MEMBER_SUSPECT);
        swim_send(s, &(struct letter){.kind = SWIM_GOSSIP, .to = &p->member.address, .receiver = p});
    }
}

void swim_bury_late(struct swim *s)
{
    for (unsigned i = 1; s->suspect_count > 0 && i < s->peers_end; i++) {
        struct peer *p = &s->peers[i];
        if (p->member.state == MEMBER_SUSPECT && s->now_ms >= p->suspect_until_ms) {
            struct swim_rumour r = {.member = p->member, .accuser = p->accusers[0]};
            believe(s, p, &r, MEMBER_DEAD);
        }
    }
}

static void hear_of_stranger(struct swim *s, const struct swim_rumour *r)
{
    bool living = member_living(&r->member);
    unsigned slot = 1;

    if (!living && (uint64_t)r->gone_s * 1000 >= s->timers.forget_ms) {
        return; /* forgotten here, or about to be */
    }
    if (living ? s->living_count >= SWIM_MEMBERS_MAX : s->gone_count >= SWIM_GONE_MAX) {
        s->ignored++;
        return;
    }
    while (slot < s->peers_end && s->peers[slot].member.state != MEMBER_NONE) {
        slot++;
    }
    assert(slot < SWIM_PEERS_MAX); /* there are as many slots as both bounds allow */
    s->peers_end = slot < s->peers_end ? s->peers_end : slot + 1;
    believe(s, &s->peers[slot], r, r->member.state);
}

static void tell_conflict(struct swim *s, const struct member *claimed)
{
    if (s->conflict_told && s->conflict_boot == claimed->boot &&
        member_address_eq(&s->conflict_address, &claimed->address)) {
        return;
    }
    s->conflict_told = true;
    s->conflict_boot = claimed->boot;
    s->conflict_address = claimed->address;
    s->driver.conflict(s->driver.arg, claimed);
}

static void hear_of_me(struct swim *s, const struct swim_rumour *r)
{
    const struct member *claimed = &r->member;
    struct member *me = &swim_me(s)->member;

    if (claimed->boot < me->boot) {
        swim_queue(s, swim_me(s)); /* who says so does not know yet that this node started again */
        return;
    }
    if (claimed->boot > me->boot) {
        tell_conflict(s, claimed);
        return;
    }
    if (claimed->incarnation > me->incarnation && claimed->incarnation - me->incarnation > SWIM_INCARNATION_JUMP) {
        s->ignored++;
        tell_conflict(s, claimed); /* who believed that cannot be told better in this boot */
        return;
    }
    if (claimed->incarnation < me->incarnation) {
        return;
    }
    if (!member_address_eq(&claimed->address, &me->address)) {
        tell_conflict(s, claimed);
    }
    if (claimed->incarnation == me->incarnation && claimed->state <= me->state) {
        return; /* nothing to deny; with a double there is no sense in a race */
    }
    if (claimed->incarnation == UINT32_MAX) {
        tell_conflict(s, claimed);
        return;
    }
    me->incarnation = claimed->incarnation + 1;
    swim_queue(s, swim_me(s));
    if (claimed->state != MEMBER_ALIVE) {
        swim_health_change(s, 1); /* Lifeguard: who is suspected may itself be what is slow */
    }
}

/* p: as what it was known until now; NULL: not at all. */
static void hear_of_foreign(struct swim *s, struct peer *p, const struct swim_rumour *r, bool own_word)
{
    s->ignored++;
    if (!own_word) {
        return; /* its own word will come, or no sign of life any more */
    }
    if (p && member_order(r->member.boot, r->member.incarnation, &p->member) > 0) {
        forget(s, p);
    }
    s->driver.foreign(s->driver.arg, &r->member);
}

static bool too_far(const struct member *claimed, const struct member *known)
{
    return claimed->boot == known->boot && claimed->incarnation > known->incarnation &&
           claimed->incarnation - known->incarnation > SWIM_INCARNATION_JUMP;
}

void swim_hear(struct swim *s, const struct swim_rumour *r, bool own_word)
{
    struct peer *p = swim_peer(s, &r->member.id);
    enum member_state state = r->member.state;

    if (p == swim_me(s)) {
        hear_of_me(s, r);
        return;
    }
    if (foreign(s, &r->member)) {
        hear_of_foreign(s, p, r, own_word);
        return;
    }
    if (!p) {
        hear_of_stranger(s, r);
        return;
    }
    if (!own_word && too_far(&r->member, &p->member)) {
        s->ignored++;
        return;
    }
    if (state == MEMBER_DEAD && member_living(&p->member)) {
        /* Nobody is buried unheard: who says so may have been cut off, or come from another half of the cluster. */
        state = MEMBER_SUSPECT;
    }
    int order = member_order(r->member.boot, r->member.incarnation, &p->member);
    if (order == 0 && state == MEMBER_SUSPECT && p->member.state == MEMBER_SUSPECT) {
        agree(s, p, &r->accuser, r->member.state == MEMBER_DEAD);
    }
    if (order == 0 && r->member.wall_ms > p->member.wall_ms) {
        p->member.wall_ms = r->member.wall_ms;
        p->member.load = r->member.load;
    }
    if (order < 0 || (order == 0 && state <= p->member.state)) {
        return;
    }
    if (member_living(&r->member) && !member_living(&p->member) && s->living_count >= SWIM_MEMBERS_MAX) {
        s->ignored++;
        return;
    }
    believe(s, p, r, state);
}
