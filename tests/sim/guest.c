/* What guests keep and what they say. */
#include "tests/sim/guest.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define RECEIVE_MAX_NONE 65535u
#define SETTLED_ROUND 5u
#define MARGIN_MS 100u

static uint32_t below(struct party *p, uint32_t bound)
{
    return prng_below(&p->prng, bound);
}

void party_wrong(struct party *p, const char *format, ...)
{
    va_list arguments;

    if (p->wrong[0]) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(p->wrong, sizeof(p->wrong), format, arguments);
    va_end(arguments);
}

/* ---- the party ---- */

static void *table(size_t count, size_t size)
{
    void *made = calloc(count, size);
    assert(made);
    return made;
}

static void init_guest(struct party *p, unsigned index)
{
    struct guest *g = &p->guest[index];

    g->index = index;
    g->version = below(p, 2) ? 5 : 4;
    g->always_clean = below(p, 4) == 0;
    g->expiry_s = g->version == 5 && below(p, 4) ? below(p, 3) ? 30 + below(p, 170) : 3 + below(p, 20) : 0;
    g->receive_max = g->version == 5 && below(p, 2) ? (uint16_t)(1 + below(p, 4)) : RECEIVE_MAX_NONE;
    g->server_max = RECEIVE_MAX_NONE;
    g->has_will = below(p, 2);
    g->will_delay_s = g->version == 5 && below(p, 2) ? 1 + below(p, below(p, 2) ? 6 : 60) : 0;
    g->wild = below(p, 2);
    g->lazy = below(p, 2);
    g->shy = below(p, 6) == 0;
    g->taken = table(GUEST_IDS, 1);
    g->in_flight = table(GUEST_IDS, 1);
    g->last_by_id = table(GUEST_IDS, sizeof(*g->last_by_id));
    g->answered_by_id = table(GUEST_IDS, sizeof(*g->answered_by_id));
    g->got = table(GUEST_MESSAGES_MAX, 1);
    g->wills = table(GUEST_WILLS_MAX, sizeof(*g->wills));
}

void party_init(struct party *p, uint64_t seed, unsigned count)
{
    *p = (struct party){.count = count};
    prng_seed(&p->prng, seed);
    p->message = table(GUEST_MESSAGES_MAX, sizeof(*p->message));
    for (unsigned i = 0; i < count; i++) {
        init_guest(p, i);
    }
}

void party_deinit(struct party *p)
{
    for (unsigned i = 0; i < p->count; i++) {
        struct guest *g = &p->guest[i];
        free(g->taken);
        free(g->in_flight);
        free(g->last_by_id);
        free(g->answered_by_id);
        free(g->got);
        free(g->wills);
        buf_deinit(&g->in);
        buf_deinit(&g->late);
    }
    free(p->message);
}

void guest_unshare(struct party *p, struct guest *g)
{
    if (g->in_share) {
        p->share_broken_step = p->step;
        g->in_share = false;
    }
}

void guest_forget(struct party *p, struct guest *g)
{
    guest_unshare(p, g);
    g->must_clean = true;
    g->open_count = 0;
    g->connections = 0;
    memset(g->taken, 0, GUEST_IDS);
    memset(g->last_by_id, 0, GUEST_IDS * sizeof(*g->last_by_id));
    memset(g->answered_by_id, 0, GUEST_IDS * sizeof(*g->answered_by_id));
    memset(g->subscriptions, 0, sizeof(g->subscriptions));
}

static void wills_node_ended(struct party *p, struct guest *g, bool durable)
{
    for (unsigned k = 0; k < GUEST_WILLS_MAX; k++) {
        struct guest_will *will = &g->wills[k];
        /* Who was connected until now: the will is in the log, with the CONNECT. Whatever else may have been published
         * at this moment may be lost to other shards (README.md of the repository). */
        bool kept = will->served && will->due_step == p->step && durable && g->expiry_s > 0 && k == g->connection;
        will->pending = kept || (will->pending && durable && p->now_ms < will->alive_ms + will->wait_ms);
        will->due &= durable && will->due_step < p->settled_step && !kept;
        will->noticed_ms = 0; /* the delay may begin anew */
        will->cancelled &= !durable || will->cancelled_step < p->settled_step;
    }
}

void party_node_ended(struct party *p, bool durable)
{
    p->life++;
    if (!durable) {
        p->forgotten_step = p->step;
    }
    for (unsigned i = 0; i < p->count; i++) {
        struct guest *g = &p->guest[i];
        g->many_dups |= g->noticed_step == 0;
        g->noticed_step = g->noticed_step ? g->noticed_step : p->step;
        g->noticed_ms = 0; /* its interval may begin anew */
        wills_node_ended(p, g, durable);
        if (!durable || g->expiry_s == 0) {
            g->session = durable ? SESSION_PERHAPS : SESSION_NONE; /* a clean CONNECT may never have arrived */
            guest_forget(p, g);
        }
    }
    for (unsigned i = 0; i < p->message_count; i++) {
        struct guest_message *m = &p->message[i];
        if (m->qos == 2 && !m->received) {
            m->interrupted = true; /* what leaves with QoS 0 does not wait for the disk */
            m->perhaps_twice |= p->split;
        }
    }
}

static void settle_will(struct party *p, struct guest_will *will)
{
    if (!will->pending) {
        return;
    }
    if (will->noticed_ms == 0) {
        will->noticed_ms = p->now_ms;
    } else if (p->now_ms > will->noticed_ms + will->wait_ms + MARGIN_MS && !p->clock_set) {
        will->pending = false;
        will->due = true;
        will->due_step = p->step;
    }
}

/* Its interval is over: the node has ended it [MQTT-3.1.2-23]. */
static void settle_session(struct party *p, struct guest *g)
{
    if (g->noticed_ms == 0) {
        g->noticed_ms = p->now_ms;
    } else if (p->now_ms > g->noticed_ms + g->expiry_s * UINT64_C(1000) + MARGIN_MS && !p->clock_set) {
        g->session = SESSION_NONE;
    }
}

void party_settled(struct party *p)
{
    p->settled_step = p->step;
    for (unsigned i = 0; i < p->count; i++) {
        struct guest *g = &p->guest[i];
        if (!g->linked && g->noticed_step == 0) {
            g->noticed_step = p->step;
        }
        if (!g->linked && g->connection < GUEST_WILLS_MAX) {
            settle_will(p, &g->wills[g->connection]);
        }
        if (!g->linked) {
            settle_session(p, g);
        }
    }
}

/* ---- writing ---- */

static void put_text(struct buf *b, const char *text)
{
    buf_string(b, slice_str(text));
}

static void put_packet(struct buf *out, uint8_t first, struct buf *body)
{
    buf_u8(out, first);
    buf_varint(out, body->len);
    buf_put(out, buf_slice(body));
    buf_deinit(body);
    assert(!out->failed);
}

void guest_put_ack(struct buf *out, uint8_t first, uint16_t packet_id)
{
    struct buf body = {0};

    buf_u16(&body, packet_id);
    put_packet(out, first, &body);
}

void guest_put_publish(struct party *p, struct guest *g, struct buf *out, uint32_t message, uint16_t packet_id,
                       bool dup)
{
    const struct guest_message *m = &p->message[message];
    struct buf body = {0};
    char text[40];

    snprintf(text, sizeof(text),
             m->retain   ? "r/%u"
             : m->shared ? "s/%u"
                         : "t/%u",
             m->retain || m->shared ? m->guest : m->topic);
    put_text(&body, text);
    if (m->qos > 0) {
        buf_u16(&body, packet_id);
    }
    if (g->version == 5) {
        buf_u8(&body, m->expiry_s > 0 ? 5 : 0);
    }
    if (m->expiry_s > 0) {
        buf_u8(&body, 0x02);
        buf_u32(&body, m->expiry_s);
    }
    snprintf(text, sizeof(text), "%u", message);
    if (!m->clear) {
        buf_put(&body, slice_str(text));
    }
    put_packet(out, (uint8_t)(0x30 | dup << 3 | m->qos << 1 | m->retain), &body);
}

/* What it owed. A PUBACK in it makes room again. */
void guest_put_late(struct party *p, struct guest *g, struct buf *out)
{
    for (uint32_t at = 0; at + 4 <= g->late.len && !g->leaving; at += 4) {
        uint16_t id = (uint16_t)(g->late.ptr[at + 2] << 8 | g->late.ptr[at + 3]);
        if (g->late.ptr[at] == 0x40) {
            g->answered_by_id[id] = (uint32_t)p->step;
        }
        if (g->late.ptr[at] == 0x40 && g->in_flight[id]) {
            g->in_flight[id] = 0;
            g->in_flight_count--;
        }
    }
    if (!g->leaving) { /* nothing comes behind a DISCONNECT [MQTT-3.14.4-2] */
        buf_put(out, buf_slice(&g->late));
    }
    g->late.len = 0;
}

static void put_will(struct guest *g, struct buf *body)
{
    char text[40];

    if (g->version == 5) {
        buf_u8(body, g->will_delay_s > 0 ? 5 : 0);
    }
    if (g->will_delay_s > 0) {
        buf_u8(body, 0x18);
        buf_u32(body, g->will_delay_s);
    }
    snprintf(text, sizeof(text), "w/%u", g->index);
    put_text(body, text);
    snprintf(text, sizeof(text), "%u", g->connection);
    put_text(body, text);
}

static void put_connect(struct guest *g, struct buf *out)
{
    bool will = g->has_will && g->connection < GUEST_WILLS_MAX;
    struct buf body = {0}, properties = {0};
    char id[20];

    put_text(&body, "MQTT");
    buf_u8(&body, g->version);
    buf_u8(&body, (uint8_t)(g->clean << 1 | (will ? 0x0c : 0)));
    buf_u16(&body, 0);
    if (g->version == 5) {
        if (g->expiry_s > 0) {
            buf_u8(&properties, 0x11);
            buf_u32(&properties, g->expiry_s);
        }
        if (g->receive_max != RECEIVE_MAX_NONE) {
            buf_u8(&properties, 0x21);
            buf_u16(&properties, g->receive_max);
        }
        buf_varint(&body, properties.len);
        buf_put(&body, buf_slice(&properties));
        buf_deinit(&properties);
    }
    snprintf(id, sizeof(id), "guest%u", g->index);
    put_text(&body, id);
    if (will) {
        put_will(g, &body);
    }
    put_packet(out, 0x10, &body);
}

void guest_connect(struct party *p, unsigned index, struct buf *out)
{
    struct guest *g = &p->guest[index];

    if (g->linked) {
        guest_lost(p, index);
    }
    p->connects++;
    g->linked = true;
    g->fresh_step = g->noticed_step ? g->noticed_step : UINT64_MAX;
    g->clean_pending &= g->noticed_step == 0;
    g->noticed_step = 0;
    g->noticed_ms = 0;
    g->dups = 0;
    g->connect_ms = p->now_ms;
    g->connection++;
    g->clean = g->always_clean || g->must_clean || (!p->calm && below(p, 12) == 0);
    if (g->version == 4) {
        g->expiry_s = g->clean ? 0 : 200; /* the world's mqtt.max_session_expiry */
    }
    if (g->connection < GUEST_WILLS_MAX) {
        uint32_t wait_s = g->will_delay_s < g->expiry_s ? g->will_delay_s : g->expiry_s;
        g->wills[g->connection].wait_ms = wait_s * 1000;
        g->wills[g->connection].alive_ms = p->now_ms;
        g->wills[g->connection].step = p->step;
        g->wills[g->connection].unsure = g->clean_pending;
    }
    if (g->clean) {
        g->clean_pending = true;
        g->clean_connection = g->connection;
        guest_forget(p, g); /* whatever the answer will be: it has said so */
    }
    put_connect(g, out);
}

/* ---- acting ---- */

static uint16_t new_id(struct guest *g)
{
    bool used;

    do {
        g->last_id++;
        used = g->last_id == 0;
        for (unsigned i = 0; i < g->open_count; i++) {
            used |= g->open[i].packet_id == g->last_id;
        }
    } while (used);
    return g->last_id;
}

static void act_publish(struct party *p, struct guest *g, struct buf *out)
{
    uint16_t id = 0;

    if (g->open_count >= GUEST_OPEN_MAX || g->open_count >= g->server_max || p->message_count == GUEST_MESSAGES_MAX) {
        return;
    }
    uint32_t number = p->message_count++;
    struct guest_message *m = &p->message[number];
    *m = (struct guest_message){.guest = (uint8_t)g->index,
                                .topic = (uint8_t)below(p, GUEST_TOPICS),
                                .qos = (uint8_t)below(p, 3),
                                .retain = below(p, 6) == 0,
                                .number = ++g->last_number,
                                .life = p->life,
                                .step = p->step};
    m->shared = !m->retain && below(p, 7) == 0;
    m->sent_ms = p->now_ms;
    m->expiry_s = g->version == 5 && !m->retain && below(p, 5) == 0 ? 1 + below(p, below(p, 2) ? 5 : 60) : 0;
    m->clear = m->retain && below(p, 4) == 0;
    if (m->retain && m->qos == 2) { /* an earlier one of QoS 1 may be sent again behind it, which undoes it */
        m->qos = 1;
    }
    if (m->qos > 0) {
        id = new_id(g);
        g->open[g->open_count].message = number;
        g->open[g->open_count].packet_id = id;
        g->open[g->open_count++].released = false;
    }
    p->sent++;
    guest_put_publish(p, g, out, number, id, false);
}

static void subscribe(struct party *p, struct guest *g, enum guest_filter f, bool on, struct buf *out)
{
    static const char *const names[] = {"t/0", "t/1", "t/2", "w/#", "$share/g/s/#", "r/+"};
    struct guest_subscription *s = &g->subscriptions[f];
    struct buf body = {0};

    s->packet_id = (uint16_t)(30000 + p->sent_filters++ % 30000);
    s->state = on ? SUB_ASKED : SUB_LEAVING;
    buf_u16(&body, s->packet_id);
    if (g->version == 5) {
        buf_u8(&body, 0);
    }
    put_text(&body, f == FILTER_T && g->wild ? "t/#" : names[f]);
    if (on) {
        s->qos = (uint8_t)(f == FILTER_S ? 1 + (below(p, 3) > 0) : below(p, 3));
        g->in_share |= f == FILTER_S;
        buf_u8(&body, s->qos);
    }
    put_packet(out, on ? 0x82 : 0xa2, &body);
}

static void act_subscribe(struct party *p, struct guest *g, bool on, struct buf *out)
{
    enum guest_filter f = below(p, 6) ? (enum guest_filter)below(p, FILTER_R) : FILTER_S;

    if (f == FILTER_S && (!on || g->always_clean || g->expiry_s == 0)) { /* it would break the group */
        return;
    }
    if (g->wild && f < FILTER_W) {
        f = FILTER_T;
    }
    if (g->subscriptions[f].state == SUB_THERE ||
        (on && (g->subscriptions[f].state == SUB_NONE || g->subscriptions[f].state == SUB_LEFT))) {
        subscribe(p, g, f, on, out);
    }
}

void guest_act(struct party *p, unsigned index, struct buf *out)
{
    struct guest *g = &p->guest[index];
    unsigned what = below(p, 40);

    if (!g->welcome || g->leaving) {
        return;
    }
    if (what < 22) {
        act_publish(p, g, out);
    } else if (what < 30) {
        act_subscribe(p, g, true, out);
    } else if (what < 32) {
        act_subscribe(p, g, false, out);
    } else if (what < 34) {
        g->leaving_with_will = g->version == 5 && below(p, 2);
        buf_put(out, g->leaving_with_will ? slice_of("\xe0\1\4", 3) : slice_of("\xe0\0", 2)); /* DISCONNECT */
        g->leaving = true;
    } else if (what < 38) {
        guest_put_late(p, g, out);
    } else {
        buf_put(out, slice_of("\xc0\0", 2)); /* PINGREQ */
    }
}

void guest_finish(struct party *p, unsigned index, struct buf *out)
{
    struct guest *g = &p->guest[index];

    if (!g->welcome || g->leaving) {
        return;
    }
    guest_put_late(p, g, out);
    if (index == 0 && p->calm >= SETTLED_ROUND && g->subscriptions[FILTER_R].state == SUB_NONE) {
        subscribe(p, g, FILTER_R, true, out);
    }
}

void guest_left(struct party *p, unsigned index)
{
    struct guest *g = &p->guest[index];

    if (g->connection < GUEST_WILLS_MAX) {
        g->wills[g->connection].cancelled = true; /* [MQTT-3.14.4-3] */
        g->wills[g->connection].cancelled_step = p->step;
    }
}

static void lose_will(struct party *p, struct guest *g)
{
    struct guest_will *will = &g->wills[g->connection % GUEST_WILLS_MAX];

    if (!g->has_will || g->connection >= GUEST_WILLS_MAX || (g->leaving && !g->leaving_with_will)) {
        return;
    }
    will->due = will->wait_ms == 0;
    will->pending = !will->due;
    will->due_step = p->step;
    will->served = g->alive;
}

void guest_lost(struct party *p, unsigned index)
{
    struct guest *g = &p->guest[index];

    if (!g->linked) {
        return;
    }
    if (g->welcome) {
        g->lost_ms = p->now_ms;
        lose_will(p, g);
    }
    if (!g->welcome || g->expiry_s == 0) { /* whether the CONNECT arrived, whether the end was noticed already */
        g->session = g->welcome || g->clean || g->session != SESSION_THERE ? SESSION_PERHAPS : SESSION_THERE;
    }
    if (g->expiry_s == 0) {
        guest_forget(p, g);
    }
    for (unsigned f = 0; f < GUEST_FILTERS; f++) {
        if (g->subscriptions[f].state != SUB_THERE && g->subscriptions[f].state != SUB_LEFT) {
            g->subscriptions[f].state = SUB_NONE;
        }
    }
    for (unsigned id = 0; id < GUEST_IDS && g->welcome; id++) { /* it may not have arrived */
        g->answered_by_id[id] = g->answered_by_id[id] < p->settled_step ? g->answered_by_id[id] : 0;
    }
    g->linked = g->welcome = g->leaving = g->leaving_with_will = false;
    g->in.len = 0;
    g->late.len = 0;
}
