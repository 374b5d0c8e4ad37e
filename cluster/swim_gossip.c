/* swim_gossip.c -- what is sent, and how often each piece of news goes along.
 *
 * There is at most one piece of news of each member, its latest, so the queue is a mark in the table and cannot grow.
 * Each goes out 4 * ceil(log10(n + 1)) times, which reaches all of n members but for very bad luck; tables, pings with
 * the sender's incarnation and the answers to them repair that. */
#include <assert.h>

#include "cluster/swim_inside.h"

static unsigned sends_max(const struct swim *s)
{
    unsigned logarithm = 0;

    for (unsigned power = 1; power < s->living_count + 1; power *= 10) {
        logarithm++;
    }
    return 4 * (logarithm > 0 ? logarithm : 1);
}

void swim_queue(struct swim *s, struct peer *p)
{
    if (s->queued_count == 0 && s->gossip_ms < s->now_ms) {
        s->gossip_ms = s->now_ms;
    }
    s->queued_count += !p->queued;
    p->queued = true;
    p->sent = 0;
    p->news = ++s->news;
}

void swim_unqueue(struct swim *s, struct peer *p)
{
    s->queued_count -= p->queued;
    p->queued = false;
}

/* False when there is no room for it. */
static bool put_rumour(struct swim *s, struct peer *p)
{
    uint32_t start = s->out.len;
    struct swim_rumour r = swim_rumour_of(s, p);

    swim_rumour_encode(&r, &s->out);
    assert(!s->out.failed); /* swim_new() made room for one more than fits */
    if (s->out.len > SWIM_DATAGRAM_MAX) {
        s->out.len = start;
        return false;
    }
    p->datagram = s->datagram;
    if (p->queued && ++p->sent >= sends_max(s)) {
        swim_unqueue(s, p);
    }
    return true;
}

/* The news that goes next: least often sent, of those the newest; not what is in this datagram already. */
static struct peer *next_news(struct swim *s)
{
    struct peer *best = NULL;

    for (unsigned i = 0; i < s->peers_end; i++) {
        struct peer *p = &s->peers[i];
        if (!p->queued || p->datagram == s->datagram) {
            continue;
        }
        if (!best || p->sent < best->sent || (p->sent == best->sent && p->news > best->news)) {
            best = p;
        }
    }
    return best;
}

void swim_send(struct swim *s, const struct letter *letter)
{
    const struct member *me = &swim_me(s)->member;
    struct member_address to = *letter->to; /* what the letter points to may change meanwhile */
    struct swim_message head = {
        .kind = letter->kind, .sender = me->id, .boot = me->boot, .incarnation = me->incarnation, .seq = letter->seq};

    if (letter->subject) {
        head.subject = *letter->subject;
    }
    s->datagram++;
    s->out.len = 0;
    swim_head_encode(&head, &s->out);
    if (letter->first) {
        put_rumour(s, letter->first);
    }
    if (letter->receiver && letter->receiver != letter->first && letter->receiver->member.state != MEMBER_ALIVE) {
        put_rumour(s, letter->receiver); /* Lifeguard's buddy: it can deny only what it hears */
    }
    while (s->queued_count > 0) {
        struct peer *p = next_news(s);
        if (!p || !put_rumour(s, p)) {
            break;
        }
    }
    s->driver.send(s->driver.arg, &to, buf_slice(&s->out));
}

unsigned swim_pick(struct swim *s, bool (*fits)(const struct swim *s, const struct peer *p),
                   struct peer *ret_picked[SWIM_FANOUT])
{
    unsigned slots[SWIM_PEERS_MAX], count = 0, picked = 0;

    for (unsigned i = 1; i < s->peers_end; i++) {
        if (fits(s, &s->peers[i])) {
            slots[count++] = i;
        }
    }
    while (picked < SWIM_FANOUT && count > 0) {
        unsigned i = prng_below(&s->prng, count);
        ret_picked[picked++] = &s->peers[slots[i]];
        slots[i] = slots[--count];
    }
    return picked;
}

static bool takes_gossip(const struct swim *s, const struct peer *p)
{
    (void)s;
    return member_living(&p->member);
}

void swim_gossip_tick(struct swim *s)
{
    struct peer *picked[SWIM_FANOUT];

    if (s->queued_count == 0 || s->now_ms < s->gossip_ms) {
        return;
    }
    s->gossip_ms = s->now_ms + s->timers.gossip_ms;
    unsigned count = swim_pick(s, takes_gossip, picked);
    for (unsigned i = 0; count == 0 && i < s->peers_end; i++) {
        swim_unqueue(s, &s->peers[i]); /* nobody is there to be told; who comes asks */
    }
    for (unsigned i = 0; i < count && s->queued_count > 0; i++) {
        swim_send(s, &(struct letter){.kind = SWIM_GOSSIP, .to = &picked[i]->member.address, .receiver = picked[i]});
    }
}
