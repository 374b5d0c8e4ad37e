/* swim.c -- the entry points of SWIM: a call brings the time, a datagram or the shell's word, and this file says which
 * of the others has to do with it. */
#include "cluster/swim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "cluster/swim_inside.h"

#define DAY_MS 86400000u

static void default_to(uint32_t *field, uint32_t value)
{
    *field = *field ? *field : value;
}

int swim_new(const struct swim_options *options, struct swim **ret)
{
    struct swim *s = calloc(1, sizeof(*s));

    if (!s || buf_grow(&s->out, SWIM_DATAGRAM_MAX + SWIM_RUMOUR_MAX) != 0) {
        swim_free(s);
        return -ENOMEM;
    }
    s->driver = options->driver;
    s->timers = options->timers;
    default_to(&s->timers.probe_ms, 500);
    default_to(&s->timers.timeout_ms, 200);
    default_to(&s->timers.suspect_min_ms, 2000);
    default_to(&s->timers.suspect_max_ms, 12000);
    default_to(&s->timers.gossip_ms, 200);
    default_to(&s->timers.dead_ping_ms, 10000);
    default_to(&s->timers.forget_ms, DAY_MS);
    assert(s->timers.suspect_min_ms <= s->timers.suspect_max_ms);
    prng_seed(&s->prng, options->seed);
    s->seq = (uint32_t)prng_next(&s->prng); /* an answer to an earlier boot fits none of this one's questions */
    s->now_ms = options->now_ms;
    s->dead_ping_ms = s->now_ms + s->timers.dead_ping_ms;

    struct member *me = &swim_me(s)->member;
    *me = options->self;
    me->incarnation = 0;
    me->state = MEMBER_ALIVE;
    assert(swim_member_valid(me));
    s->peers_end = s->living_count = 1;
    *ret = s;
    return 0;
}

void swim_free(struct swim *s)
{
    if (s) {
        buf_deinit(&s->out);
        free(s);
    }
}

static void sooner(uint64_t *due, uint64_t at)
{
    *due = at < *due ? at : *due;
}

uint64_t swim_due(const struct swim *s)
{
    uint64_t due = s->dead_ping_ms;

    if (s->queued_count > 0) {
        sooner(&due, s->gossip_ms);
    }
    if (s->probe.active) {
        sooner(&due, s->probe.asked ? s->probe.end_ms : s->probe.ask_ms);
    } else if (s->order_count > 0 && s->peers[0].member.state != MEMBER_LEFT) {
        sooner(&due, s->probe_ms);
    }
    for (unsigned i = 1; s->suspect_count > 0 && i < s->peers_end; i++) {
        if (s->peers[i].member.state == MEMBER_SUSPECT) {
            sooner(&due, s->peers[i].suspect_until_ms);
        }
    }
    for (unsigned i = 0; i < SWIM_RELAYS_MAX; i++) {
        if (s->relays[i].end_ms > s->now_ms && !s->relays[i].nacked) {
            sooner(&due, s->relays[i].nack_ms);
        }
    }
    return due;
}

/* This node stood still for so long: what it waits for gets the time back. */
static void postpone(struct swim *s, uint64_t late_ms)
{
    s->dead_ping_ms += late_ms;
    s->gossip_ms += late_ms;
    s->probe_ms += late_ms;
    s->probe.ask_ms += late_ms;
    s->probe.end_ms += late_ms;
    for (unsigned i = 1; i < s->peers_end; i++) {
        s->peers[i].suspect_since_ms += late_ms;
        s->peers[i].suspect_until_ms += late_ms;
    }
    for (unsigned i = 0; i < SWIM_RELAYS_MAX; i++) {
        s->relays[i].nack_ms += s->relays[i].end_ms ? late_ms : 0;
        s->relays[i].end_ms += s->relays[i].end_ms ? late_ms : 0;
    }
    swim_health_change(s, 1);
}

static void advance(struct swim *s, uint64_t now_ms)
{
    uint64_t due = swim_due(s);

    if (now_ms > s->now_ms) {
        s->now_ms = now_ms;
    }
    if (s->now_ms > due && s->now_ms - due > s->timers.timeout_ms) {
        postpone(s, s->now_ms - due);
    }
}

uint64_t swim_tick(struct swim *s, uint64_t now_ms)
{
    advance(s, now_ms);
    if (s->now_ms >= s->dead_ping_ms) {
        s->dead_ping_ms = s->now_ms + s->timers.dead_ping_ms;
        swim_forget_old(s);
        swim_dead_ping(s);
    }
    swim_probe_tick(s);
    swim_bury_late(s);
    swim_gossip_tick(s);
    return swim_due(s);
}

/* Who knows less of the sender than its own head says asks it to introduce itself. Not on an ACK, which may be the
 * answer to that: two nodes that cannot take each other in would go on for ever. */
static void ask_stranger(struct swim *s, const struct member_address *from, const struct swim_message *m)
{
    const struct peer *p = swim_peer(s, &m->sender);
    bool known = p && member_order(m->boot, m->incarnation, &p->member) <= 0;
    bool room = (p && member_living(&p->member)) || s->living_count < SWIM_MEMBERS_MAX;

    if (!known && room && m->kind != SWIM_ACK && m->kind != SWIM_HELLO) {
        swim_send(s, &(struct letter){
                         .kind = SWIM_HELLO, .to = from, .seq = ++s->seq, .subject = &m->sender, .first = swim_me(s)});
    }
}

static void hear_all(struct swim *s, struct slice rumours, const struct node_id *sender, bool *ret_of_me)
{
    struct swim_rumour r;

    while (swim_rumour_next(&rumours, &r)) {
        *ret_of_me |= node_id_eq(&r.member.id, &swim_me(s)->member.id);
        swim_hear(s, &r, sender && node_id_eq(sender, &r.member.id));
    }
}

void swim_receive(struct swim *s, uint64_t now_ms, const struct member_address *from, struct slice plain)
{
    const struct node_id *me = &swim_me(s)->member.id;
    struct swim_message m;
    bool of_me = false;

    advance(s, now_ms);
    if (swim_message_decode(plain, &m) != 0) {
        s->ignored++;
        return;
    }
    hear_all(s, m.rumours, &m.sender, &of_me);
    if (node_id_eq(&m.sender, me)) {
        return; /* this node's address was among the seeds, or it has a double: the rumours tell */
    }
    ask_stranger(s, from, &m);
    switch (m.kind) {
    case SWIM_PING:
    case SWIM_HELLO:
        if (node_id_eq(&m.subject, me) || (m.kind == SWIM_HELLO && node_id_is_zero(&m.subject))) {
            swim_send(s, &(struct letter){.kind = SWIM_ACK,
                                          .to = from,
                                          .receiver = swim_peer(s, &m.sender),
                                          .seq = m.seq,
                                          .subject = me,
                                          .first = of_me || m.kind == SWIM_HELLO ? swim_me(s) : NULL});
        } /* else this address was another node's before */
        break;
    case SWIM_ACK:
        swim_probe_ack(s, &m);
        break;
    case SWIM_ASK:
        swim_probe_for(s, from, &m);
        break;
    case SWIM_NACK:
        swim_probe_nack(s, &m);
        break;
    case SWIM_GOSSIP:
        break;
    }
}

void swim_join(struct swim *s, uint64_t now_ms, const struct member_address *seed)
{
    advance(s, now_ms);
    swim_send(s, &(struct letter){.kind = SWIM_HELLO, .to = seed, .seq = ++s->seq, .first = swim_me(s)});
}

void swim_leave(struct swim *s, uint64_t now_ms)
{
    struct member *me = &swim_me(s)->member;

    advance(s, now_ms);
    if (me->state == MEMBER_LEFT) {
        return;
    }
    me->state = MEMBER_LEFT;
    swim_me(s)->forget_ms = s->now_ms + s->timers.forget_ms; /* from now on, for all who hear of it */
    me->incarnation += me->incarnation < UINT32_MAX;
    s->probe.active = false;
    swim_queue(s, swim_me(s));
}

bool swim_busy(const struct swim *s)
{
    return s->queued_count > 0;
}

/* Whether the two differ in more than what goes along silently. */
static bool news(const struct member *a, const struct member *b)
{
    return !member_address_eq(&a->address, &b->address) || strcmp(a->name, b->name) != 0 ||
           a->wire_min != b->wire_min || a->wire_max != b->wire_max || a->features != b->features ||
           a->shards != b->shards || memcmp(a->cluster_id, b->cluster_id, sizeof(a->cluster_id)) != 0;
}

void swim_self(struct swim *s, uint64_t now_ms, const struct member *changed)
{
    struct member *me = &swim_me(s)->member, before = *me;

    advance(s, now_ms);
    assert(node_id_eq(&before.id, &changed->id));
    assert(changed->boot >= before.boot);
    *me = *changed;
    me->state = before.state;
    me->incarnation = before.incarnation;
    if (changed->boot > before.boot) {
        me->state = MEMBER_ALIVE;
        me->incarnation = 0;
        s->conflict_told = false;
        swim_queue(s, swim_me(s));
    } else if (news(&before, changed)) {
        me->incarnation += me->incarnation < UINT32_MAX;
        swim_queue(s, swim_me(s));
    }
    if (memcmp(before.cluster_id, me->cluster_id, sizeof(me->cluster_id)) != 0) {
        swim_forget_foreign(s);
    }
    assert(swim_member_valid(me));
}

void swim_link_lost(struct swim *s, uint64_t now_ms, const struct node_id *id)
{
    advance(s, now_ms);
    struct peer *p = swim_peer(s, id);
    if (p && p != swim_me(s)) {
        swim_accuse(s, p, &swim_me(s)->member.id);
    }
}

void swim_link_up(struct swim *s, uint64_t now_ms, const struct node_id *id)
{
    advance(s, now_ms);
    struct peer *p = swim_peer(s, id);
    if (!p || p == swim_me(s)) {
        return;
    }
    swim_probe_answered(s, id);
    if (p->member.state == MEMBER_SUSPECT || p->member.state == MEMBER_DEAD) {
        /* It lives, but only its own word makes it alive again: let it hear what is said of it. */
        swim_send(s, &(struct letter){.kind = SWIM_GOSSIP, .to = &p->member.address, .receiver = p});
    }
}

void swim_table(const struct swim *s, struct buf *ret)
{
    buf_u8(ret, SWIM_VERSION);
    for (unsigned i = 0; i < s->peers_end; i++) {
        if (s->peers[i].member.state != MEMBER_NONE) {
            struct swim_rumour r = swim_rumour_of(s, &s->peers[i]);
            swim_rumour_encode(&r, ret);
        }
    }
}

int swim_merge(struct swim *s, uint64_t now_ms, struct slice table)
{
    struct slice rumours;
    bool of_me = false;

    advance(s, now_ms);
    if (swim_table_decode(table, &rumours) != 0) {
        s->ignored++;
        return -EBADMSG;
    }
    hear_all(s, rumours, NULL, &of_me);
    return 0;
}

const struct member *swim_find(const struct swim *s, const struct node_id *id)
{
    const struct peer *p = swim_peer(s, id);
    return p ? &p->member : NULL;
}

const struct member *swim_next(const struct swim *s, unsigned *at)
{
    while (*at < s->peers_end) {
        const struct member *m = &s->peers[(*at)++].member;
        if (m->state != MEMBER_NONE) {
            return m;
        }
    }
    return NULL;
}

unsigned swim_health(const struct swim *s)
{
    return s->health;
}

uint64_t swim_ignored(const struct swim *s)
{
    return s->ignored;
}
