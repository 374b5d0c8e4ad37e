/* Where is the session of a client that wants its old one back? Sessions stay on the node that made them. Who connects
 * to another asks all living nodes, and the newest there is has it; no more than a moment is waited for who does not
 * answer, for one slow node must not keep the clients of all others out. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"

#define SEEK_MS 1000u

/* A connection that waits. */
struct seek {
    struct list in_shard; /* cluster_shard.seeks */
    struct conn *conn;
    uint64_t token, due_ms, stamp;
    struct spread_mask asked;  /* neighbours that have not answered */
    struct spread_mask unsaid; /* those among them whose link is not open yet: it is a new one */
    int found;                 /* neighbour; -1: nobody yet */
    uint16_t len;
    uint8_t client_id[];
};

struct seek_note { /* carried by MAIL_SEEK */
    struct node_id node;
    uint64_t token;
    uint32_t shard;
    uint16_t len;
    uint8_t client_id[];
};

static bool has_token(const void *value, const void *key)
{
    return ((const struct seek *)value)->token == *(const uint64_t *)key;
}

static bool is_over(const struct seek *s)
{
    return (s->asked.bits[0] | s->asked.bits[1]) == 0;
}

static void go_on(struct seek *s)
{
    s->asked = (struct spread_mask){{0}};
    conn_resume(s->conn, PAUSE_BUSY);
}

static void answered(struct seek *s, unsigned neighbour)
{
    if (is_over(s) || !spread_mask_has(&s->asked, neighbour)) {
        return;
    }
    s->asked.bits[neighbour / 64] &= ~(1ull << neighbour % 64);
    if (is_over(s)) {
        go_on(s);
    }
}

/* Ask those who have not been asked, as far as their links are open. */
static void ask(struct broker *b, struct seek *s)
{
    Tern__Seek seek = TERN__SEEK__INIT;

    seek.token = s->token;
    seek.shard = b->shard->index;
    seek.client_id.data = s->client_id;
    seek.client_id.len = s->len;
    for (unsigned n = 0; n < b->cluster->links_end; n++) {
        struct peer_link *link = b->cluster->links[n];
        if (spread_mask_has(&s->unsaid, n) && link && link->open &&
            peer_put_message(link, LINK_CONTROL, FRAME_SEEK, &seek.base) == 0) {
            s->unsaid.bits[n / 64] &= ~(1ull << n % 64);
        }
    }
}

static struct seek *begin(struct broker *b, struct conn *conn, struct slice client_id)
{
    struct seek *s = calloc(1, sizeof(*s) + client_id.len);
    uint64_t token = ++b->cluster->next_token;

    if (!s || map_add(&b->cluster->seeks_by_token, hash_mix(token), s) != 0) {
        free(s);
        return NULL;
    }
    *s = (struct seek){.conn = conn,
                       .token = token,
                       .due_ms = b->shard->now_ms + SEEK_MS,
                       .found = -1,
                       .len = (uint16_t)client_id.len};
    memcpy(s->client_id, client_id.ptr, client_id.len);
    for (unsigned n = 0; n < b->cluster->links_end; n++) {
        const struct peer_link *link = b->cluster->links[n];
        if (link && (link->open || atomic_load_explicit(&b->node->cluster->met[n], memory_order_relaxed))) {
            spread_mask_set(&s->asked, n); /* nobody waits for who only gossips */
        }
    }
    s->unsaid = s->asked;
    list_append(&b->cluster->seeks, &s->in_shard);
    ask(b, s);
    return s;
}

enum seek_result seek_session(struct conn *conn, struct slice client_id, unsigned *ret_neighbour)
{
    struct broker *b = broker_of(conn);
    struct conn_more *more = conn_more(conn);
    struct seek *s = more ? more->seek : NULL;

    if (!more) {
        return SEEK_NOWHERE;
    }
    if (!s) {
        s = more->seek = begin(b, conn, client_id);
    }
    if (!s) {
        return SEEK_NOWHERE;
    }
    if (!is_over(s)) {
        conn->again = true;
        conn_pause(conn, PAUSE_BUSY);
        return SEEK_PENDING;
    }
    int found = s->found;
    seek_end(conn);
    if (found < 0 || !b->cluster->links[found]) {
        return SEEK_NOWHERE;
    }
    *ret_neighbour = (unsigned)found;
    return SEEK_THERE;
}

void seek_end(struct conn *conn)
{
    struct seek *s = conn->more ? conn->more->seek : NULL;

    if (s) {
        map_remove(&broker_of(conn)->cluster->seeks_by_token, hash_mix(s->token), s);
        list_remove(&s->in_shard);
        free(s);
        conn->more->seek = NULL;
    }
}

void seek_turn(struct broker *b)
{
    for (struct list *at = b->cluster->seeks.next; at != &b->cluster->seeks; at = at->next) {
        struct seek *s = CONTAINER_OF(at, struct seek, in_shard);
        if (s->due_ms > b->shard->now_ms) {
            break;
        }
        if (!is_over(s)) {
            log_event(LOG_WARN, "session_not_sought_everywhere", {"client", LOG_SLICE(slice_of(s->client_id, s->len))},
                      {"reason", LOG_STR("a node does not answer")});
            go_on(s);
        }
    }
}

void seek_link_opened(struct broker *b)
{
    for (struct list *at = b->cluster->seeks.next; at != &b->cluster->seeks; at = at->next) {
        struct seek *s = CONTAINER_OF(at, struct seek, in_shard);
        if (!is_over(s)) {
            ask(b, s);
        }
    }
}

void seek_neighbour_gone(struct broker *b, unsigned neighbour)
{
    for (struct list *at = b->cluster->seeks.next; at != &b->cluster->seeks; at = at->next) {
        struct seek *s = CONTAINER_OF(at, struct seek, in_shard);
        s->found = s->found == (int)neighbour ? -1 : s->found;
        answered(s, neighbour);
    }
}

/* ---- the answer ---- */

static void answer(struct broker *b, const struct seek_note *note)
{
    struct slice id = slice_of(note->client_id, note->len);
    uint64_t hash = broker_hash(b, id);
    int n = neighbour_find(b->node->cluster, &note->node);
    struct peer_link *link = n >= 0 ? b->cluster->links[n] : NULL;
    Tern__Found found = TERN__FOUND__INIT;

    recover_turn(b); /* it may come in the very first turn */
    const struct session *session = group_find(&b->groups[group_of(hash)], id, hash);
    found.token = note->token;
    found.shard = note->shard;
    found.present = session != NULL;
    found.stamp = session ? session->claimed : 0;
    if (link) { /* without memory for it: who asks does not wait for long */
        (void)peer_put_message(link, LINK_CONTROL, FRAME_FOUND, &found.base);
    }
}

int seek_take(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    ProtobufCMessage *decoded;
    int rc = wire_decode(&tern__seek__descriptor, body, &link->room->arena, &decoded);

    if (rc) {
        return rc;
    }
    const Tern__Seek *seek = (const Tern__Seek *)decoded;
    struct slice id = slice_of(seek->client_id.data, seek->client_id.len);
    if (id.len == 0 || id.len > UINT16_MAX) {
        return -EPROTO;
    }
    struct seek_note *note = malloc(sizeof(*note) + id.len);
    if (!note) {
        return -ENOMEM;
    }
    *note = (struct seek_note){.node = link->id, .token = seek->token, .shard = seek->shard, .len = (uint16_t)id.len};
    memcpy(note->client_id, id.ptr, id.len);
    struct mail mail = {.kind = MAIL_SEEK, .ptr = note};
    unsigned home = broker_home(b, broker_hash(b, id));
    if (home == b->shard->index) {
        seek_mail(b, &mail);
    } else if (shard_post(b->shard, home, &mail) != 0) {
        free(note);
        return -ENOMEM;
    }
    return 0;
}

int seek_found(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    int n = neighbour_find(b->node->cluster, &link->id);
    ProtobufCMessage *decoded;

    int rc = wire_decode(&tern__found__descriptor, body, &link->room->arena, &decoded);
    if (rc || n < 0) {
        return rc;
    }
    const Tern__Found *found = (const Tern__Found *)decoded;
    if (found->shard >= b->shard->count) {
        return -EPROTO;
    }
    struct mail mail = {
        .kind = MAIL_FOUND, .a = found->token, .b = (unsigned)n, .c = found->present ? found->stamp + 1 : 0};
    if (found->shard == b->shard->index) {
        seek_mail(b, &mail);
        return 0;
    }
    return shard_post(b->shard, found->shard, &mail);
}

void seek_mail(struct broker *b, const struct mail *mail)
{
    if (mail->kind == MAIL_SEEK) {
        answer(b, mail->ptr);
        free(mail->ptr);
        return;
    }
    struct seek *s = map_find(&b->cluster->seeks_by_token, hash_mix(mail->a), has_token, &mail->a);
    if (s && mail->c > 0 && (s->found < 0 || mail->c - 1 > s->stamp)) {
        s->found = (int)mail->b;
        s->stamp = mail->c - 1;
    }
    if (s) {
        answered(s, (unsigned)mail->b);
    }
}
