/* What must hold for what guests are told. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/guest.h"

#define EXPIRY_MARGIN_MS 1500u
#define GOT_EXACTLY 0x80u /* of guest->got: once with QoS 2 */

/* ---- sessions ---- */

/* The session may have ended by itself since the last connection that it knows of. */
static bool may_have_expired(const struct party *p, const struct guest *g)
{
    return p->clock_set || p->now_ms - g->lost_ms + EXPIRY_MARGIN_MS > g->expiry_s * UINT64_C(1000);
}

/* A delay counts from the connection's end, which the node cannot have known before it was seen alive last. It is cut
 * short where the session ends: by a clean start, or at the end of its interval. */
static bool will_waits(const struct party *p, const struct guest *from, uint32_t connection)
{
    const struct guest_will *will = &from->wills[connection];
    return !p->clock_set && !will->unsure && from->clean_connection <= connection &&
           p->now_ms < will->alive_ms + will->wait_ms;
}

/* What becomes of the will of the connection before: it must be out if the session has ended by this one, and must
 * never be if the session goes on before the delay was over. */
static void connack_will(struct party *p, struct guest *g)
{
    struct guest_will *will = &g->wills[g->connection - 1];

    if (g->connection > GUEST_WILLS_MAX) {
        return;
    }
    if (will->pending && (g->clean || will->wait_ms == 0)) {
        will->due = true;
        will->due_step = p->step;
    } else if (will->pending && will_waits(p, g, g->connection - 1)) {
        will->cancelled = true;
        will->cancelled_step = 0;
    }
    will->pending = false;
}

void judge_connack(struct party *p, struct guest *g, bool present)
{
    if (g->session == SESSION_THERE && may_have_expired(p, g)) {
        g->session = SESSION_PERHAPS;
    }
    if (g->clean && present) {
        party_wrong(p, "guest %u: a session is present after a clean start", g->index); /* [MQTT-3.2.2-2] */
    } else if (!g->clean && present && g->session == SESSION_NONE && !p->damaged) {
        party_wrong(p, "guest %u: a session is present that cannot be", g->index);
    } else if (!g->clean && !present && g->session == SESSION_THERE && !p->lossy) {
        party_wrong(p, "guest %u: its session is lost", g->index);
    }
    g->fresh_step = g->fresh_step < p->step ? g->fresh_step : p->step; /* every earlier connection is over now */
    if (!present) {
        guest_forget(p, g);
        g->unsure = g->many_dups = false;
        g->began_step = p->step;
    } else if (g->session == SESSION_PERHAPS) { /* or another, made by a CONNECT whose answer was lost */
        g->unsure = true;
        for (unsigned i = 0; i < g->open_count; i++) { /* what the one before had taken is taken again */
            struct guest_message *m = &p->message[g->open[i].message];
            m->perhaps_twice = m->interrupted = true;
        }
        guest_unshare(p, g);
        memset(g->subscriptions, 0, sizeof(g->subscriptions));
        memset(g->taken, 0, GUEST_IDS);
        memset(g->last_by_id, 0, GUEST_IDS * sizeof(*g->last_by_id));
        memset(g->answered_by_id, 0, GUEST_IDS * sizeof(*g->answered_by_id));
    }
    connack_will(p, g);
    g->connections += 1 + present;
    g->session = SESSION_THERE;
}

/* ---- deliveries ---- */

static void judge_flight(struct party *p, struct guest *g, const struct guest_delivery *d)
{
    if (g->in_flight[d->packet_id]) { /* [MQTT-2.2.1-4], [MQTT-4.4.0-1] */
        party_wrong(p, "guest %u: packet identifier %u is used while it is in use", g->index, d->packet_id);
        return;
    }
    g->in_flight[d->packet_id] = 1;
    if (++g->in_flight_count > g->receive_max) { /* [MQTT-3.3.4-9] */
        party_wrong(p, "guest %u: more than its Receive Maximum of %u", g->index, g->receive_max);
    }
    if (d->dup && g->connections < 2) { /* [MQTT-3.3.1-1] */
        party_wrong(p, "guest %u: DUP in the first connection of a session", g->index);
    }
    g->dups += d->dup;
    if (g->dups > g->receive_max && !g->many_dups && !g->unsure) { /* what was not in flight was not sent before */
        party_wrong(p, "guest %u: more of DUP than its Receive Maximum of %u", g->index, g->receive_max);
    }
}

static void judge_will_time(struct party *p, const struct guest *g, const struct guest *from, uint32_t connection)
{
    const struct guest_will *will = &from->wills[connection];

    if (p->damaged) {
        return;
    }
    if (connection == from->connection && from->alive) { /* [MQTT-3.1.2-8] */
        party_wrong(p, "guest %u gets will %u of guest %u, which is connected", g->index, connection, from->index);
    } else if (will->cancelled) { /* [MQTT-3.1.2-10], [MQTT-3.1.3-9] */
        party_wrong(p, "guest %u gets will %u of guest %u, which %s", g->index, connection, from->index,
                    will->cancelled_step ? "said DISCONNECT" : "came back before its delay was over");
    } else if (will_waits(p, from, connection)) {
        party_wrong(p, "guest %u gets will %u of guest %u before its delay of %u ms is over", g->index, connection,
                    from->index, will->wait_ms);
    }
}

static void judge_will(struct party *p, struct guest *g, const struct guest_delivery *d, bool again)
{
    unsigned from = (unsigned)atoi(d->topic + 2), connection = (unsigned)atoi(d->payload);

    if (from >= p->count || connection >= GUEST_WILLS_MAX) {
        party_wrong(p, "guest %u gets a will of nobody: %s %s", g->index, d->topic, d->payload);
        return;
    }
    judge_will_time(p, g, &p->guest[from], connection);
    uint32_t *seen = &p->guest[from].wills[connection].seen[g->index];
    /* What does not wait for the disk may be published again after a crash. */
    bool excused =
        *seen != 1 + p->life && (d->qos == 0 || g->session != SESSION_THERE || g->expiry_s == 0 || g->unsure);
    if (*seen && !again && !d->dup && !p->lossy && !excused) { /* [MQTT-3.1.2-10] */
        party_wrong(p, "guest %u gets will %u of guest %u twice", g->index, connection, from);
    }
    *seen = 1 + p->life;
}

static const struct guest_subscription *subscription_for(const struct guest *g, const struct guest_message *m)
{
    return &g->subscriptions[m->shared ? FILTER_S : g->wild ? FILTER_T : (enum guest_filter)m->topic];
}

/* Messages of one guest, topic and QoS come in the order in which they were sent [MQTT-4.6.0-6]. One that was sent
 * before this guest had subscribed may come late: it is sent again. */
static void judge_order(struct party *p, struct guest *g, const struct guest_delivery *d, const struct guest_message *m)
{
    const struct guest_subscription *s = subscription_for(g, m);
    uint32_t *last = &g->last_got[m->guest][m->topic][d->qos];

    if (p->lossy || d->qos != m->qos || s->state != SUB_THERE || s->step >= m->step) {
        return;
    }
    if (m->number < *last) {
        party_wrong(p, "guest %u: %s of guest %u with QoS %u comes out of order (its message %u after %u)", g->index,
                    d->payload, m->guest, d->qos, m->number, *last);
    }
    *last = m->number;
}

/* As published, or as granted if that is less [MQTT-3.8.4-8]. */
static void judge_qos(struct party *p, struct guest *g, const struct guest_delivery *d, uint32_t number)
{
    const struct guest_message *m = &p->message[number];
    const struct guest_subscription *s = subscription_for(g, m);

    if (!m->retain && !p->damaged && s->state == SUB_THERE && s->step < m->step &&
        d->qos != (m->qos < s->qos ? m->qos : s->qos)) {
        party_wrong(p, "guest %u gets message %u with QoS %u: it was sent with %u and is granted %u", g->index, number,
                    d->qos, m->qos, s->qos);
    }
}

static void judge_count(struct party *p, struct guest *g, const struct guest_delivery *d, uint32_t number)
{
    const struct guest_message *m = &p->message[number];
    uint8_t *got = &g->got[number];
    /* What is for the time of a connection only does not wait for the disk. */
    bool excused = p->lossy || m->perhaps_twice || (d->dup && g->unsure) || (m->interrupted && m->step < g->began_step);

    if (*got > 0 && !excused) {
        if (d->qos == 0 && m->qos != 1 && !m->interrupted) { /* nobody may send it again */
            party_wrong(p, "guest %u gets message %u twice, with QoS 0", g->index, number);
        } else if (d->qos == 2 && *got & GOT_EXACTLY) { /* [MQTT-4.3.3-7] and on */
            party_wrong(p, "guest %u gets message %u twice, with QoS 2", g->index, number);
        } else if (d->qos > 0 && m->qos == 2 && !d->dup) {
            party_wrong(p, "guest %u gets message %u of QoS 2 anew", g->index, number);
        }
    }
    if (*got == 0) {
        judge_order(p, g, d, m);
    }
    *got = (uint8_t)((*got & GOT_EXACTLY) | (d->qos == 2 ? GOT_EXACTLY : 0) | 1);
}

/* To one member of the group: with QoS 2 and 0 to no other and not again, but after a crash (README.md of the
 * repository). QoS 1 goes to another when a connection is lost, or when the publisher has sent it again. */
static void judge_share(struct party *p, struct guest *g, const struct guest_delivery *d, uint32_t number)
{
    struct guest_message *m = &p->message[number];
    bool excused = p->lossy || m->life != p->life || m->perhaps_twice || m->interrupted || m->qos == 1 || d->qos == 1 ||
                   m->taken_qos == 1 || (d->dup && g->unsure);

    if (m->taken_by && !excused) { /* [MQTT-4.8.2-4] and on */
        party_wrong(p, "guest %u gets shared message %u with QoS %u, guest %u has it", g->index, number, d->qos,
                    m->taken_by - 1);
    }
    m->taken_by = (uint8_t)(1 + g->index);
    m->taken_qos = d->qos;
}

/* Nothing that was sent after UNSUBACK [MQTT-3.10.4-2]. */
static void judge_left(struct party *p, struct guest *g, uint32_t number)
{
    const struct guest_message *m = &p->message[number];
    const struct guest_subscription *s = subscription_for(g, m);

    if (!m->retain && s->state == SUB_LEFT && s->step < m->step) {
        party_wrong(p, "guest %u gets message %u, and has unsubscribed in step %llu", g->index, number,
                    (unsigned long long)s->step);
    }
}

/* DUP is right where the message may have been sent before, and only there [MQTT-3.3.1-1]. It may not where its
 * publisher sent it for the first time after the node knew that all earlier connections of this client, answered or
 * not, were over: by itself (all was heard and on the disk), because it had ended, or because this one has CONNACK.
 * It was where the guest has had it under this identifier. Between them both are right. */
static void judge_dup(struct party *p, struct guest *g, const struct guest_delivery *d, uint32_t number)
{
    if (!d->dup && g->last_by_id[d->packet_id] == number + 1 && !p->damaged) {
        party_wrong(p, "guest %u gets message %u again without DUP", g->index, number);
    }
    if (d->dup && p->message[number].step > g->fresh_step) {
        party_wrong(p, "guest %u gets message %u of step %llu for the first time with DUP", g->index, number,
                    (unsigned long long)p->message[number].step);
    }
}

/* The node has had it since some time between sent_ms and taken_ms, and has sent it since connect_ms. What is sent
 * again does not expire any more; a publisher who was not answered has sent it again, with the whole interval. */
static void judge_expiry(struct party *p, struct guest *g, const struct guest_delivery *d, uint32_t number)
{
    const struct guest_message *m = &p->message[number];
    uint64_t interval_ms = m->expiry_s * UINT64_C(1000), rest_ms = d->expiry_s * UINT64_C(1000);
    uint64_t waited_ms = m->taken_ms && g->connect_ms > m->taken_ms ? g->connect_ms - m->taken_ms : 0;

    if (g->version == 5 && (d->expiry_s > 0) != (m->expiry_s > 0)) { /* [MQTT-3.3.2-6] */
        party_wrong(p, "guest %u gets message %u with an interval of %u s, it was sent with %u", g->index, number,
                    d->expiry_s, m->expiry_s);
    }
    if (m->expiry_s == 0 || p->clock_set) {
        return;
    }
    if (waited_ms > interval_ms && !d->dup) { /* [MQTT-3.3.2-5] */
        party_wrong(p, "guest %u gets message %u, which has expired", g->index, number);
    }
    bool less = rest_ms + (p->now_ms - m->sent_ms) < interval_ms;
    bool more = rest_ms > 1000 && rest_ms + waited_ms >= interval_ms + 1000;
    if (g->version == 5 && (less || more)) {
        party_wrong(p, "guest %u gets message %u with %u s of %u left, after %llu to %llu ms", g->index, number,
                    d->expiry_s, m->expiry_s, (unsigned long long)waited_ms,
                    (unsigned long long)(p->now_ms - m->sent_ms));
    }
}

static void judge_message(struct party *p, struct guest *g, const struct guest_delivery *d, bool again)
{
    char *end;
    uint32_t number = (uint32_t)strtoul(d->payload, &end, 10);
    const struct guest_message *m = &p->message[number];
    char topic[20];

    if (number >= p->message_count || *end || end == d->payload) {
        party_wrong(p, "guest %u gets what nobody has sent: %s %s", g->index, d->topic, d->payload);
        return;
    }
    snprintf(topic, sizeof(topic),
             m->retain   ? "r/%u"
             : m->shared ? "s/%u"
                         : "t/%u",
             m->retain || m->shared ? m->guest : m->topic);
    if (strcmp(topic, d->topic) != 0) {
        party_wrong(p, "guest %u gets message %u on %s, it was sent to %s", g->index, number, d->topic, topic);
    }
    if (d->qos > 0) {
        judge_dup(p, g, d, number);
        if (g->last_by_id[d->packet_id] == number + 1 && g->answered_by_id[d->packet_id] && d->qos == 1 && !p->lossy &&
            g->answered_by_id[d->packet_id] < p->settled_step) {
            party_wrong(p, "guest %u gets message %u again, which it has acknowledged", g->index, number);
        }
        g->last_by_id[d->packet_id] = number + 1;
        g->answered_by_id[d->packet_id] = 0;
    }
    judge_left(p, g, number);
    judge_qos(p, g, d, number);
    judge_expiry(p, g, d, number);
    if (d->retain && (!m->retain || g->index != 0)) {
        party_wrong(p, "guest %u gets message %u as a retained one", g->index, number);
    } else if (d->retain) {
        p->retained_seen[m->guest] = number + 1;
    } else if (!again && m->shared) {
        judge_share(p, g, d, number);
    } else if (!again && !m->retain) {
        judge_count(p, g, d, number);
    }
}

void judge_delivery(struct party *p, struct guest *g, const struct guest_delivery *d, bool again)
{
    if (d->qos > 0) {
        judge_flight(p, g, d);
    }
    if (strncmp(d->topic, "w/", 2) == 0) {
        judge_will(p, g, d, again);
    } else if (d->payload[0] || strncmp(d->topic, "r/", 2) != 0) { /* who clears tells its subscribers too */
        judge_message(p, g, d, again);
    }
}

/* ---- the end ---- */

/* Whoever has not got it in the end may have come too late. */
static bool may_be_over(const struct party *p, const struct guest_message *m)
{
    return m->expiry_s > 0 && (p->clock_set || p->calm_ms > m->sent_ms + m->expiry_s * UINT64_C(1000));
}

static bool concerns(const struct guest *g, enum guest_filter f, const struct guest_message *m)
{
    const struct guest_subscription *s = &g->subscriptions[f];
    return !m->shared && s->state == SUB_THERE && s->qos > 0 && s->step < m->step &&
           (g->wild || m->topic == (uint8_t)f);
}

static void judge_losses(struct party *p, const struct guest *g)
{
    for (uint32_t i = 0; i < p->message_count; i++) {
        const struct guest_message *m = &p->message[i];
        bool wanted = concerns(g, FILTER_T, m) || concerns(g, FILTER_T1, m) || concerns(g, FILTER_T2, m);
        if (wanted && m->acknowledged && m->qos > 0 && !m->retain && !g->got[i] && !may_be_over(p, m)) {
            party_wrong(p, "guest %u has never got message %u of guest %u, acknowledged with QoS %u, sent in step %llu",
                        g->index, i, m->guest, m->qos, (unsigned long long)m->step);
        }
    }
}

/* A member was there all the time, and no other has ended with what it had. */
static void judge_share_losses(struct party *p, const struct guest *g)
{
    const struct guest_subscription *s = &g->subscriptions[FILTER_S];

    for (uint32_t i = 0; s->state == SUB_THERE && i < p->message_count; i++) {
        const struct guest_message *m = &p->message[i];
        if (m->shared && m->acknowledged && m->qos > 0 && m->step > s->step && m->step > p->share_broken_step &&
            !m->taken_by && !may_be_over(p, m)) {
            party_wrong(p, "no member of the group has got message %u of guest %u, sent in step %llu", i, m->guest,
                        (unsigned long long)m->step);
        }
    }
}

static void judge_wills(struct party *p, const struct guest *g)
{
    const struct guest_subscription *s = &g->subscriptions[FILTER_W];

    for (unsigned from = 0; s->state == SUB_THERE && s->qos > 0 && from < p->count; from++) {
        for (unsigned k = 0; k < GUEST_WILLS_MAX; k++) {
            const struct guest_will *will = &p->guest[from].wills[k];
            if (will->due && will->step > s->step && !will->seen[g->index]) {
                party_wrong(p, "guest %u has never got will %u of guest %u, lost in step %llu", g->index, k, from,
                            (unsigned long long)will->step);
            }
        }
    }
}

/* What is retained of a guest is its last acknowledged message or a later one. */
static void judge_retained(struct party *p, unsigned from)
{
    uint32_t least = 0, seen = p->retained_seen[from];
    bool may_be_none = true;

    for (uint32_t i = 0; i < p->message_count; i++) {
        const struct guest_message *m = &p->message[i];
        if (m->guest != from || !m->retain) {
            continue;
        }
        if (m->acknowledged && m->step > p->forgotten_step) {
            least = m->number;
            may_be_none = m->clear;
        }
        may_be_none |= m->clear;
    }
    if (seen == 0 && !may_be_none) {
        party_wrong(p, "nothing is retained of guest %u, its message %u was acknowledged", from, least);
    } else if (seen != 0 && p->message[seen - 1].number < least) {
        party_wrong(p, "the retained message of guest %u is its message %u, %u was acknowledged", from,
                    p->message[seen - 1].number, least);
    }
}

void party_judge(struct party *p)
{
    for (unsigned i = 0; i < p->count && !p->lossy; i++) {
        const struct guest *g = &p->guest[i];
        if (g->away) {
            continue;
        }
        if (!g->welcome) {
            party_wrong(p, "guest %u is not connected in the end", i);
        }
        if (g->open_count > 0) {
            party_wrong(p, "guest %u: message %u is not acknowledged in the end", i, g->open[0].message);
        }
        judge_losses(p, g);
        judge_share_losses(p, g);
        judge_wills(p, g);
    }
    for (unsigned i = 0; i < p->count && !p->lossy && p->guest[0].subscriptions[FILTER_R].state == SUB_THERE; i++) {
        judge_retained(p, i);
    }
}
