/* QoS 2 over several shards: each logs what its sessions take in its own batch, and the publisher's shard logs the
 * packet identifier when all have answered. If the node dies in between, the publisher has no PUBREC and sends the
 * message again, and it is new to its own shard: the sessions that have it already must not take it a second time. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/durable.h"
#include "broker/flow/flow.h"

struct repeat {
    struct repeat *next; /* of the same publisher and packet identifier */
    uint64_t publisher, session, content;
    uint16_t packet_id;
};

static uint64_t key_of(uint64_t publisher, uint16_t packet_id)
{
    return hash_mix(publisher ^ hash_mix(packet_id));
}

/* That an identifier was used again for another message is seen by what is in it. */
static uint64_t content_of(const struct broker *b, uint64_t topic_hash, struct slice payload)
{
    return hash_mix(topic_hash) ^ broker_hash(b, payload);
}

struct repeat_key {
    uint64_t publisher;
    uint16_t packet_id;
};

static bool is_same(const void *value, const void *key)
{
    const struct repeat *r = value;
    const struct repeat_key *k = key;
    return r->publisher == k->publisher && r->packet_id == k->packet_id;
}

static struct repeat *find(struct broker *b, uint64_t publisher, uint16_t packet_id)
{
    struct repeat_key key = {publisher, packet_id};
    return b->repeats.count ? map_find(&b->repeats, key_of(publisher, packet_id), is_same, &key) : NULL;
}

int repeat_note(struct broker *b, const struct message *m, const struct session *session)
{
    if (m->packet_id == 0) {
        return 0;
    }
    struct repeat *first = find(b, m->publisher, m->packet_id), *r = malloc(sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    *r = (struct repeat){.publisher = m->publisher,
                         .session = session->uid,
                         .content = content_of(b, m->topic_hash, message_payload(m)),
                         .packet_id = m->packet_id};
    if (first) {
        r->next = first->next;
        first->next = r;
    } else if (map_add(&b->repeats, key_of(m->publisher, m->packet_id), r) != 0) {
        free(r);
        return -ENOMEM;
    }
    return 0;
}

static void free_all(struct repeat *r)
{
    while (r) {
        struct repeat *next = r->next;
        free(r);
        r = next;
    }
}

void repeat_taken(struct broker *b, uint64_t publisher, uint16_t packet_id)
{
    struct repeat *r = find(b, publisher, packet_id);

    if (r) {
        map_remove(&b->repeats, key_of(publisher, packet_id), r);
        free_all(r);
    }
}

bool repeat_known(struct broker *b, const struct publication *pub, const struct session *session)
{
    struct repeat *r = find(b, pub->publisher, pub->packet_id);

    for (; r; r = r->next) {
        if (r->session == session->uid && r->content == content_of(b, pub->topic_hash, pub->payload)) {
            r->session = 0; /* once */
            return true;
        }
    }
    return false;
}

void repeat_deinit(struct broker *b)
{
    struct repeat *r;

    for (size_t i = 0; (r = map_next(&b->repeats, &i)) != NULL;) {
        free_all(r);
    }
    map_deinit(&b->repeats);
}
