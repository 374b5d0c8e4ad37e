/* Clients that wander between nodes: what they say, what they hear. A codec of their own, as guest.c has; fewer
 * features, for what is between a client and one node is judged there.
 *
 *     t/0 t/1 t/2   messages; the payload is the message's number in the story
 *     s/3           those for a group of rovers, of whom one is to have each ($share/g/s/#)
 *
 * A rover subscribes to single topics or to t/#, never to both. Its session is on one node: who goes to another begins
 * anew there, and leaves its old connection open behind it, if it likes: a ghost, which the cluster is to end. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/cluster_inside.h"

#define EXPIRY_S 90u
#define DOUBT_MS 30000u

static void *table(size_t count, size_t size)
{
    void *made = calloc(count, size);
    assert(made);
    return made;
}

void rovers_init(struct cluster *w)
{
    w->rover_count = 3 + pick(w, ROVERS_MAX - 3);
    w->letters = table(LETTERS_MAX, sizeof(*w->letters));
    for (unsigned i = 0; i < w->rover_count; i++) {
        struct rover *r = &w->rovers[i];
        r->index = i;
        r->host = pick(w, w->host_count);
        r->lasting = pick(w, 3) > 0;
        r->version = r->lasting || one_in(w, 2) ? 5 : 4;
        r->wild = one_in(w, 2);
        r->lazy = one_in(w, 3);
        r->settled = r->lasting && one_in(w, 2);
        r->visitor = r->lasting && !r->settled && one_in(w, 2);
        r->must_clean = true;
        r->taken = table(65536, 1);
        r->got = table(LETTERS_MAX, sizeof(*r->got));
        r->owed = table(LETTERS_MAX, sizeof(*r->owed));
    }
}

void rovers_free(struct cluster *w)
{
    for (unsigned i = 0; i < w->rover_count; i++) {
        struct rover *r = &w->rovers[i];
        buf_deinit(&r->in);
        buf_deinit(&r->out);
        buf_deinit(&r->late);
        free(r->taken);
        free(r->got);
        free(r->owed);
    }
    free(w->letters);
}

/* ---- packets ---- */

void rover_topic(char text[20], unsigned topic)
{
    snprintf(text, 20, topic == ROVER_SHARED ? "s/%u" : "t/%u", topic);
}

static void put_text(struct buf *out, const char *text)
{
    buf_u16(out, (uint16_t)strlen(text));
    buf_put(out, slice_str(text));
}

static void put_packet(struct buf *out, uint8_t first, struct buf *body)
{
    buf_u8(out, first);
    buf_varint(out, body->len);
    buf_put(out, buf_slice(body));
    buf_deinit(body);
}

void rover_put_ack(struct buf *out, uint8_t first, uint16_t packet_id)
{
    buf_u8(out, first);
    buf_u8(out, 2);
    buf_u16(out, packet_id);
}

static void put_connect(struct rover *r)
{
    struct buf body = {0};
    char id[20];

    put_text(&body, "MQTT");
    buf_u8(&body, r->version);
    buf_u8(&body, (uint8_t)(r->clean << 1));
    buf_u16(&body, 0);
    if (r->version == 5 && r->lasting) {
        buf_u8(&body, 5);
        buf_u8(&body, 0x11);
        buf_u32(&body, EXPIRY_S);
    } else if (r->version == 5) {
        buf_u8(&body, 0);
    }
    snprintf(id, sizeof(id), "rover%u", r->index);
    put_text(&body, id);
    put_packet(&r->out, 0x10, &body);
}

void rover_put_publish(struct cluster *w, struct rover *r, uint32_t letter, uint16_t packet_id, bool dup)
{
    struct letter *m = &w->letters[letter];
    struct buf body = {0};
    char text[20];

    rover_topic(text, m->topic);
    put_text(&body, text);
    if (m->qos > 0) {
        buf_u16(&body, packet_id);
    }
    if (r->version == 5) {
        buf_u8(&body, 0);
    }
    snprintf(text, sizeof(text), "%u", letter);
    buf_put(&body, slice_str(text));
    put_packet(&r->out, (uint8_t)(0x30 | dup << 3 | m->qos << 1), &body);
    judge_sent(w, r, m);
}

/* ---- connections ---- */

void rover_forget(struct rover *r)
{
    r->session = 0;
    r->must_clean = true;
    r->open_count = 0;
    memset(r->taken, 0, 65536);
    memset(r->subscriptions, 0, sizeof(r->subscriptions));
    memset(r->last, 0, sizeof(r->last));
}

/* The rover knows of the connection no more. */
void rover_lose(struct rover *r)
{
    if (!r->socket) {
        return;
    }
    if (!r->welcome) {
        r->doubt_ms = sim_now_ms() + DOUBT_MS;
        r->unsure |= r->clean;
        if (r->via != r->host) { /* there may be another session of its name now */
            r->unsure = true;
            r->visitor = false;
        }
    }
    r->socket = NULL;
    r->welcome = r->leaving = false;
    r->in.len = r->out.len = r->late.len = 0;
    for (unsigned f = 0; f < ROVER_FILTERS; f++) {
        if (r->subscriptions[f].state != ROVER_THERE) {
            r->subscriptions[f].state = ROVER_NONE;
        }
    }
    if (!r->lasting) {
        rover_forget(r);
    }
}

void rover_cut(struct cluster *w, struct rover *r)
{
    if (r->socket) {
        note(w, "cut", r->index, r->host);
        r->socket->reset = true;
        rover_lose(r);
    }
}

static void haunt(struct cluster *w, struct rover *r)
{
    if (w->ghost_count < GHOSTS_MAX) {
        w->ghosts[w->ghost_count++] = (struct ghost){r->via, r->life, r->socket};
    }
    if (sim_now_ms() < r->welcome_ms + 5) {
        r->doubt_ms = sim_now_ms() + DOUBT_MS;
        r->unsure |= r->clean;
    }
    rover_lose(r);
}

/* Knock at a node. Returns whether it is there. */
static bool knock(struct cluster *w, struct rover *r, unsigned host)
{
    struct host *h = &w->hosts[host];
    struct sim_socket *s = h->up ? sim_connect(&h->node.net, pick(w, h->shard_count)) : NULL;

    if (s) {
        r->socket = s;
        r->via = host;
        r->life = h->life;
        w->result->connects++;
        note(w, "connect", r->index, host);
    }
    return s != NULL;
}

static void leave_connection(struct cluster *w, struct rover *r)
{
    if (r->socket && r->welcome) {
        haunt(w, r);
    } else {
        rover_cut(w, r);
    }
}

void rover_connect(struct cluster *w, struct rover *r, unsigned host)
{
    host = r->settled || r->visitor ? r->host : host;
    leave_connection(w, r);
    if (host != r->host) {
        rover_forget(r);
        r->unsure |= w->skewed; /* which of the two is newer the clocks may see otherwise */
    }
    if (r->unsure && !w->skewed && sim_now_ms() > r->doubt_ms) {
        r->unsure = false;
        r->must_clean = true;
    }
    r->host = host;
    if (!knock(w, r, host)) {
        return;
    }
    r->clean = !r->lasting || r->must_clean || (!w->calm && one_in(w, 30) && !r->settled);
    if (r->clean) {
        rover_forget(r);
    }
    put_connect(r);
}

/* It wants its session, and asks another node for it. */
static void visit(struct cluster *w, struct rover *r)
{
    leave_connection(w, r);
    if (knock(w, r, pick(w, w->host_count))) {
        r->clean = false;
        put_connect(r);
    }
}

void rover_disconnect(struct cluster *w, struct rover *r)
{
    if (r->socket && r->welcome && !r->leaving) {
        note(w, "disconnect", r->index, r->host);
        buf_put(&r->out, slice_of("\xe0\0", 2));
        r->leaving = true;
    }
}

void rovers_host_ended(struct cluster *w, unsigned host)
{
    for (unsigned i = 0; i < w->rover_count; i++) {
        if (w->rovers[i].socket && w->rovers[i].via == host) {
            rover_lose(&w->rovers[i]);
        }
        if (w->rovers[i].host == host && !w->rovers[i].lasting) {
            rover_forget(&w->rovers[i]);
        }
    }
    for (unsigned i = 0; i < w->ghost_count;) {
        if (w->ghosts[i].host == host) {
            w->ghosts[i] = w->ghosts[--w->ghost_count];
        } else {
            i++;
        }
    }
}

/* ---- acting ---- */

static uint16_t new_id(struct rover *r)
{
    bool used;

    do {
        r->last_id++;
        used = r->last_id == 0;
        for (unsigned i = 0; i < r->open_count; i++) {
            used |= r->open[i].packet_id == r->last_id;
        }
    } while (used);
    return r->last_id;
}

void rover_publish(struct cluster *w, struct rover *r, unsigned topic, unsigned qos)
{
    uint16_t id = 0;

    if (!r->welcome || r->leaving || r->open_count == ROVER_OPEN_MAX || w->letter_count == LETTERS_MAX) {
        return;
    }
    uint32_t letter = w->letter_count++;
    w->letters[letter] = (struct letter){.rover = (uint8_t)r->index,
                                         .topic = (uint8_t)topic,
                                         .qos = (uint8_t)qos,
                                         .number = ++r->last_number,
                                         .session = r->session,
                                         .candidates = UINT16_MAX,
                                         .unsure = r->unsure,
                                         .first_step = w->step};
    if (qos > 0) {
        id = new_id(r);
        r->open[r->open_count].letter = letter;
        r->open[r->open_count].packet_id = id;
        r->open[r->open_count++].released = false;
    }
    w->result->sent++;
    rover_put_publish(w, r, letter, id, false);
}

static void subscribe(struct cluster *w, struct rover *r, bool on)
{
    bool group = r->settled && !r->unsure && on && one_in(w, 3);
    unsigned f = group ? ROVER_GROUP : r->wild ? ROVER_ALL : pick(w, ROVER_TOPICS);
    struct rover_subscription *s = &r->subscriptions[f];
    struct buf body = {0};
    char text[20];

    if (s->state != (on ? ROVER_NONE : ROVER_THERE)) {
        return;
    }
    *s = (struct rover_subscription){.state = on ? ROVER_ASKED : ROVER_LEAVING,
                                     .qos = group ? 2
                                            : on  ? (uint8_t)pick(w, 3)
                                                  : s->qos,
                                     .packet_id = (uint16_t)(30000 + w->filters_sent++ % 30000)};
    buf_u16(&body, s->packet_id);
    if (r->version == 5) {
        buf_u8(&body, 0);
    }
    rover_topic(text, f);
    put_text(&body, f == ROVER_GROUP ? "$share/g/s/#" : f == ROVER_ALL ? "t/#" : text);
    if (on) {
        buf_u8(&body, s->qos);
    }
    put_packet(&r->out, on ? 0x82 : 0xa2, &body);
}

void rover_act(struct cluster *w, struct rover *r)
{
    unsigned what = pick(w, 100);

    if (r->visitor && r->session != 0 && !r->must_clean && !r->unsure && one_in(w, r->socket ? 40 : 6)) {
        visit(w, r);
        return;
    }
    if (!r->socket) {
        bool stay = r->lasting && r->session != 0 && !one_in(w, 20);
        rover_connect(w, r, stay ? r->host : pick(w, w->host_count));
        return;
    }
    if (what < 2) {
        rover_connect(w, r, pick(w, w->host_count));
        return;
    }
    if (what < 4) {
        rover_cut(w, r);
        return;
    }
    if (!r->welcome || r->leaving) {
        return;
    }
    if (what < 5) {
        rover_disconnect(w, r);
    } else if (what < 30) {
        subscribe(w, r, true);
    } else if (what < 33) {
        subscribe(w, r, false);
    } else if (what < 45) {
        buf_put(&r->out, buf_slice(&r->late));
        r->late.len = 0;
    } else {
        rover_publish(w, r, pick(w, ROVER_TOPICS + 1), pick(w, 3));
    }
}
