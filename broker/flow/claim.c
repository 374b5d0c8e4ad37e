/* A client id is connected once in the cluster: each node tells all others who has connected, and the newest wins, by
 * (stamp, node id), so that claims that cross each other are decided in the same way everywhere. A neighbour that has
 * just come, or come back, is told of all: so duplicates that a partition has made are resolved when it heals. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"
#include "broker/flow/trace.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"

#define CLAIMS_AT_ONCE 256u
#define BYTES_AT_ONCE (512u << 10) /* of client ids, and one more */
#define AHEAD_BYTES (256u << 10)   /* of claims not yet acknowledged */

struct claim_note { /* carried by MAIL_CLAIM */
    struct node_id node;
    uint64_t stamp;
    bool clean; /* with Clean Start */
    uint16_t len;
    uint8_t client_id[];
};

static void fill(Tern__Claim *claim, const struct session *session)
{
    struct slice id = session_client_id(session);

    *claim = (Tern__Claim)TERN__CLAIM__INIT;
    claim->client_id.data = (uint8_t *)(uintptr_t)id.ptr; /* only read */
    claim->client_id.len = id.len;
    claim->stamp = session->claimed;
}

void claim_tell(struct broker *b, struct session *session, bool clean)
{
    Tern__Claim claim, *list[1] = {&claim};
    Tern__Claims claims = TERN__CLAIMS__INIT;

    session->since_s = (uint32_t)(b->shard->wall_ms / 1000);
    if (b->traces) {
        trace_session(b, TRACE_CONNECT, session, SLICE(""), MQTT_SUCCESS, NULL);
    }
    if (!b->cluster) {
        return;
    }
    session->claimed = stamp_next(b);
    fill(&claim, session);
    claim.clean = clean;
    claims.claims = list;
    claims.n_claims = 1;
    for (unsigned n = 0; n < b->cluster->links_end; n++) {
        struct peer_link *link = b->cluster->links[n];
        if (link && peer_put_message(link, LINK_CONTROL, FRAME_CLAIMS, &claims.base) != 0) {
            ((struct forward_lane *)link->owner)->claims_told = 0; /* it is told later, with all others */
        }
    }
}

/* The connected clients of one group. Returns whether they are told. */
static bool tell_group(struct peer_link *link, const struct group *group)
{
    Tern__Claim claim[CLAIMS_AT_ONCE], *list[CLAIMS_AT_ONCE];
    Tern__Claims claims = TERN__CLAIMS__INIT;
    struct session *session;
    size_t bytes = 0;
    bool more = true;

    claims.claims = list;
    for (size_t i = 0; more;) {
        session = group->context ? map_next(&group->sessions, &i) : NULL;
        more = session != NULL;
        if (session && session->front) {
            fill(&claim[claims.n_claims], session);
            list[claims.n_claims] = &claim[claims.n_claims];
            claims.n_claims++;
            bytes += session->client_id_len;
        }
        if (claims.n_claims == CLAIMS_AT_ONCE || bytes > BYTES_AT_ONCE || (!more && claims.n_claims > 0)) {
            if (peer_put_message(link, LINK_CONTROL, FRAME_CLAIMS, &claims.base) != 0) {
                return false;
            }
            claims.n_claims = 0;
            bytes = 0;
        }
    }
    return true;
}

void claim_turn(struct broker *b)
{
    for (unsigned n = 0; n < b->cluster->links_end; n++) {
        struct peer_link *link = b->cluster->links[n];
        struct forward_lane *lane = link ? link->owner : NULL;
        if (!lane || lane->claims_told == GROUPS || link_flow_held(&link->flow, LINK_CONTROL) > AHEAD_BYTES) {
            continue;
        }
        if (tell_group(link, &b->groups[lane->claims_told])) {
            lane->claims_told++;
            b->shard->busy |= lane->claims_told < GROUPS;
        }
    }
}

/* Whether another node's claim is newer than that of the connection here. */
static bool is_newer(const struct broker *b, const struct claim_note *note, const struct session *session)
{
    if (note->stamp != session->claimed) {
        return note->stamp > session->claimed;
    }
    return memcmp(note->node.bytes, b->node->cluster->terms.node_id.bytes, sizeof(note->node.bytes)) > 0;
}

static void heed(struct broker *b, const struct claim_note *note)
{
    struct slice id = slice_of(note->client_id, note->len);
    uint64_t hash = broker_hash(b, id);
    struct session *session = group_find(&b->groups[group_of(hash)], id, hash);

    if (!session || !is_newer(b, note, session)) {
        return;
    }
    if (session->front) {
        broker_metric(b, METRIC_TAKEOVERS, 1);
        goodbye(session->front, MQTT_SESSION_TAKEN_OVER, NULL); /* [MQTT-3.1.4-3] */
    }
    session = note->clean ? group_find(&b->groups[group_of(hash)], id, hash) : NULL;
    if (session) { /* [MQTT-3.1.2-4] */
        struct command command = {.type = COMMAND_END, .wall_ms = b->shard->wall_ms, .session = session};
        struct outcome out;
        broker_apply(b, &command, &out);
        goodbye_session(b, &out);
        goodbye_arm(b);
    }
}

void claim_mail(struct broker *b, const struct mail *mail)
{
    heed(b, mail->ptr);
    free(mail->ptr);
}

int claim_take(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    ProtobufCMessage *decoded;
    int rc = wire_decode(&tern__claims__descriptor, body, &link->room->arena, &decoded);

    if (rc) {
        return rc;
    }
    const Tern__Claims *claims = (const Tern__Claims *)decoded;
    for (size_t i = 0; i < claims->n_claims; i++) {
        struct slice id = slice_of(claims->claims[i]->client_id.data, claims->claims[i]->client_id.len);
        if (id.len == 0 || id.len > UINT16_MAX) {
            return -EPROTO;
        }
        stamp_seen(b, claims->claims[i]->stamp);
        unsigned home = broker_home(b, broker_hash(b, id));
        struct claim_note *note = malloc(sizeof(*note) + id.len);
        if (!note) {
            return -ENOMEM;
        }
        *note = (struct claim_note){.node = link->id,
                                    .stamp = claims->claims[i]->stamp,
                                    .clean = claims->claims[i]->clean,
                                    .len = (uint16_t)id.len};
        memcpy(note->client_id, id.ptr, id.len);
        struct mail mail = {.kind = MAIL_CLAIM, .ptr = note};
        if (home == b->shard->index) {
            claim_mail(b, &mail);
        } else if (shard_post(b->shard, home, &mail) != 0) {
            free(note);
            return -ENOMEM;
        }
    }
    return 0;
}
