/* swim_probe.c -- pings: one member after the other, each once a round, in an order that is shuffled for each round.
 *
 *     0                    timeout               period
 *     | ping               | ask three others    | nobody heard of it: suspect
 *                              who ping it, and say after a timeout of theirs that it does not answer (NACK)
 *
 * Both times grow with the health score (Lifeguard): a node that hears neither the target nor the NACKs of the others
 * is likely to be itself what is slow. */
#include "cluster/swim_inside.h"

void swim_health_change(struct swim *s, int by)
{
    int health = (int)s->health + by;

    s->health = health < 0 ? 0 : health > SWIM_HEALTH_MAX ? SWIM_HEALTH_MAX : (unsigned)health;
}

/* A new member at a random place: so that nodes that start together are not pinged by all at the same time. */
void swim_order_add(struct swim *s, const struct peer *p)
{
    unsigned at = prng_below(&s->prng, s->order_count + 1);

    if (s->order_count == 0) {
        s->probe_ms = s->now_ms + prng_below(&s->prng, s->timers.probe_ms);
    }
    memmove(&s->order[at + 1], &s->order[at], (s->order_count - at) * sizeof(s->order[0]));
    s->order[at] = (unsigned)(p - s->peers);
    s->order_count++;
    s->order_next += at < s->order_next;
}

void swim_order_remove(struct swim *s, const struct peer *p)
{
    unsigned at = 0;

    while (s->order[at] != (unsigned)(p - s->peers)) {
        at++;
    }
    s->order_count--;
    memmove(&s->order[at], &s->order[at + 1], (s->order_count - at) * sizeof(s->order[0]));
    s->order_next -= at < s->order_next;
}

static void shuffle(struct swim *s)
{
    for (unsigned i = s->order_count; i > 1; i--) {
        unsigned j = prng_below(&s->prng, i), kept = s->order[i - 1];
        s->order[i - 1] = s->order[j];
        s->order[j] = kept;
    }
    s->order_next = 0;
}

static void ping(struct swim *s, struct peer *p, uint32_t seq)
{
    swim_send(s, &(struct letter){
                     .kind = SWIM_PING, .to = &p->member.address, .receiver = p, .seq = seq, .subject = &p->member.id});
}

static void probe_start(struct swim *s)
{
    uint64_t slower = s->health + 1;

    if (s->order_next >= s->order_count) {
        shuffle(s);
    }
    struct peer *p = &s->peers[s->order[s->order_next++]];
    s->probe_ms = s->now_ms + s->timers.probe_ms * slower;
    s->probe = (struct probe){.active = true,
                              .target = p->member.id,
                              .seq = ++s->seq,
                              .ask_ms = s->now_ms + s->timers.timeout_ms * slower,
                              .end_ms = s->probe_ms};
    ping(s, p, s->probe.seq);
}

static bool may_be_asked(const struct swim *s, const struct peer *p)
{
    return p->member.state == MEMBER_ALIVE && !node_id_eq(&p->member.id, &s->probe.target);
}

static void probe_ask(struct swim *s)
{
    struct peer *picked[SWIM_FANOUT];

    s->probe.asked = true;
    s->probe.nacks_wanted = swim_pick(s, may_be_asked, picked);
    for (unsigned i = 0; i < s->probe.nacks_wanted; i++) {
        swim_send(s, &(struct letter){.kind = SWIM_ASK,
                                      .to = &picked[i]->member.address,
                                      .receiver = picked[i],
                                      .seq = s->probe.seq,
                                      .subject = &s->probe.target});
    }
}

static void probe_fail(struct swim *s)
{
    struct peer *p = swim_peer(s, &s->probe.target);
    unsigned silent = s->probe.nacks_wanted - s->probe.nacks;

    s->probe.active = false;
    if (!p || !member_living(&p->member)) {
        return; /* buried or gone meanwhile */
    }
    if (s->probe.nacks_wanted == 0) {
        swim_health_change(s, 1); /* nobody can say whose fault it is */
    } else {
        swim_health_change(s, (int)silent);
    }
    swim_accuse(s, p, &swim_me(s)->member.id);
}

void swim_probe_answered(struct swim *s, const struct node_id *target)
{
    if (s->probe.active && node_id_eq(&s->probe.target, target)) {
        s->probe.active = false;
        swim_health_change(s, -1);
    }
}

/* With what is known of the target: who needs help to reach it may have an old address. */
static void relay_answer(struct swim *s, const struct relay *r, enum swim_kind kind)
{
    swim_send(s, &(struct letter){.kind = kind,
                                  .to = &r->origin,
                                  .seq = r->origin_seq,
                                  .subject = &r->target,
                                  .first = swim_peer(s, &r->target)});
}

static void relays_tick(struct swim *s)
{
    for (unsigned i = 0; i < SWIM_RELAYS_MAX; i++) {
        struct relay *r = &s->relays[i];
        if (s->now_ms < r->end_ms && s->now_ms >= r->nack_ms && !r->nacked) {
            r->nacked = true;
            relay_answer(s, r, SWIM_NACK);
        }
    }
}

void swim_probe_tick(struct swim *s)
{
    bool leaving = swim_me(s)->member.state == MEMBER_LEFT;

    relays_tick(s);
    if (s->probe.active && !s->probe.asked && s->now_ms >= s->probe.ask_ms) {
        probe_ask(s);
    }
    if (s->probe.active && s->now_ms >= s->probe.end_ms) {
        probe_fail(s);
    }
    if (!s->probe.active && s->order_count > 0 && s->now_ms >= s->probe_ms && !leaving) {
        probe_start(s);
    }
}

void swim_probe_ack(struct swim *s, const struct swim_message *m)
{
    if (s->probe.active && m->seq == s->probe.seq) {
        swim_probe_answered(s, &m->subject);
    }
    for (unsigned i = 0; i < SWIM_RELAYS_MAX; i++) {
        struct relay *r = &s->relays[i];
        if (s->now_ms < r->end_ms && r->seq == m->seq && node_id_eq(&r->target, &m->subject)) {
            r->end_ms = 0; /* answered once; late, after a NACK, it still counts */
            relay_answer(s, r, SWIM_ACK);
        }
    }
}

void swim_probe_nack(struct swim *s, const struct swim_message *m)
{
    if (s->probe.active && m->seq == s->probe.seq && s->probe.nacks < s->probe.nacks_wanted) {
        s->probe.nacks++;
    }
}

void swim_probe_for(struct swim *s, const struct member_address *origin, const struct swim_message *m)
{
    struct peer *p = swim_peer(s, &m->subject);
    struct relay *r = NULL;

    if (!p || p == swim_me(s)) {
        /* Its address is not taken from a stranger's word: no node shall ping for others wherever they like. */
        enum swim_kind kind = p ? SWIM_ACK : SWIM_NACK;
        swim_send(s, &(struct letter){.kind = kind, .to = origin, .seq = m->seq, .subject = &m->subject});
        return;
    }
    for (unsigned i = 0; i < SWIM_RELAYS_MAX && !r; i++) {
        r = s->relays[i].end_ms <= s->now_ms ? &s->relays[i] : NULL;
    }
    if (!r) {
        s->ignored++;
        return;
    }
    *r = (struct relay){.target = m->subject,
                        .origin = *origin,
                        .origin_seq = m->seq,
                        .seq = ++s->seq,
                        .nack_ms = s->now_ms + s->timers.timeout_ms,
                        .end_ms = s->now_ms + s->timers.timeout_ms + s->timers.probe_ms};
    ping(s, p, r->seq);
}

static bool dead(const struct swim *s, const struct peer *p)
{
    (void)s;
    return p->member.state == MEMBER_DEAD;
}

static bool alive(const struct swim *s, const struct peer *p)
{
    (void)s;
    return p->member.state == MEMBER_ALIVE;
}

/* Nobody waits for the answer: it comes with the rumour that makes the dead one alive again. A member is asked too, for
 * it may know better, the dead one having started again at another address. */
void swim_dead_ping(struct swim *s)
{
    struct peer *picked[SWIM_FANOUT], *asked[SWIM_FANOUT];

    if (swim_pick(s, dead, picked) == 0) {
        return;
    }
    ping(s, picked[0], ++s->seq);
    if (swim_pick(s, alive, asked) > 0) {
        swim_send(s, &(struct letter){.kind = SWIM_ASK,
                                      .to = &asked[0]->member.address,
                                      .receiver = asked[0],
                                      .seq = ++s->seq,
                                      .subject = &picked[0]->member.id});
    }
}
