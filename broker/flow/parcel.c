/* Small QoS 0 messages to another shard, many in one mail.
 *
 * Why: a message that is forgotten as soon as it is written to its sockets needs no allocation of its own, no count of
 * references and no mail of its own: on the way to another shard those cost more than the message. So what goes to one
 * shard within a turn is written one behind the other into a parcel, which is posted when it is full and at the end of
 * the turn. The receiver reads it in place and sends it back to be filled again; that bounds the parcels on their way,
 * and when none is left messages go one by one, as larger ones always do.
 *
 * An entry is struct entry, topic, properties, payload, padded to eight bytes. Order: whoever posts another message to
 * the same shard posts the parcel first (publish.c). */
#include <assert.h>
#include <stdlib.h>

#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"

#define PARCEL_BYTES 16384u
#define PARCELS_OUT_MAX 64u /* to one shard: 1 MiB */
#define SPARE_MAX 64u
#define MESSAGE_BYTES_MAX 1024u /* larger ones are better shared than copied */

struct parcel {
    struct parcel *next; /* in broker.parcels_spare */
    uint32_t len, count;
    _Alignas(8) uint8_t bytes[PARCEL_BYTES];
};

struct entry {
    uint64_t topic_hash, publisher, expires_at_ms;
    uint32_t properties_len, payload_len;
    uint16_t topic_len;
    bool retain; /* as published; it is not to be stored */
};

static uint32_t entry_bytes(const struct publication *pub)
{
    size_t bytes = sizeof(struct entry) + pub->topic.len + pub->properties.len + pub->payload.len;

    return (uint32_t)(bytes + 7) & ~7u;
}

/* The parcel to this shard with room for so many bytes; NULL when too many are on their way, or memory is out. */
static struct parcel *parcel_for(struct broker *b, unsigned shard, uint32_t bytes)
{
    struct parcel *parcel = b->parcels[shard];

    if (parcel && PARCEL_BYTES - parcel->len >= bytes) {
        return parcel;
    }
    parcel_post(b, shard);
    if (b->parcels_out[shard] == PARCELS_OUT_MAX) {
        return NULL;
    }
    parcel = b->parcels_spare;
    if (parcel) {
        b->parcels_spare = parcel->next;
        b->parcels_spare_count--;
    } else {
        parcel = malloc(sizeof(*parcel));
        if (!parcel) {
            return NULL;
        }
    }
    parcel->len = parcel->count = 0;
    b->parcels[shard] = parcel;
    return parcel;
}

static uint8_t *slice_put(uint8_t *at, struct slice s)
{
    if (s.len > 0) {
        memcpy(at, s.ptr, s.len);
    }
    return at + s.len;
}

bool parcel_put(struct broker *b, unsigned shard, const struct publication *pub)
{
    struct entry entry = {
        .topic_hash = pub->topic_hash,
        .publisher = pub->publisher,
        .expires_at_ms = pub->expires_at_ms,
        .properties_len = (uint32_t)pub->properties.len,
        .payload_len = (uint32_t)pub->payload.len,
        .topic_len = (uint16_t)pub->topic.len,
        .retain = pub->retain,
    };

    assert(pub->qos == 0);
    if (pub->topic.len + pub->properties.len + pub->payload.len > MESSAGE_BYTES_MAX) {
        return false;
    }
    uint32_t bytes = entry_bytes(pub);
    struct parcel *parcel = parcel_for(b, shard, bytes);
    if (!parcel) {
        return false;
    }
    uint8_t *at = parcel->bytes + parcel->len;
    memcpy(at, &entry, sizeof(entry));
    at = slice_put(at + sizeof(entry), pub->topic);
    at = slice_put(at, pub->properties);
    slice_put(at, pub->payload);
    parcel->len += bytes;
    parcel->count++;
    return true;
}

static void keep(struct broker *b, struct parcel *parcel)
{
    if (b->parcels_spare_count == SPARE_MAX) {
        free(parcel);
        return;
    }
    parcel->next = b->parcels_spare;
    b->parcels_spare = parcel;
    b->parcels_spare_count++;
}

void parcel_post(struct broker *b, unsigned shard)
{
    struct parcel *parcel = b->parcels[shard];
    struct mail mail = {.kind = MAIL_PARCEL, .ptr = parcel};

    if (!parcel) {
        return;
    }
    b->parcels[shard] = NULL;
    if (shard_post(b->shard, shard, &mail) != 0) {
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, parcel->count);
        keep(b, parcel);
        return;
    }
    b->parcels_out[shard]++;
}

void parcel_post_all(struct broker *b)
{
    for (unsigned i = 0; i < b->shard->count; i++) {
        parcel_post(b, i);
    }
}

void parcel_open(struct broker *b, const struct mail *mail)
{
    struct parcel *parcel = mail->ptr;

    for (uint32_t at = 0; at < parcel->len;) {
        struct entry entry;
        const uint8_t *bytes = parcel->bytes + at + sizeof(entry);
        memcpy(&entry, parcel->bytes + at, sizeof(entry));
        struct publication pub = {
            .topic = slice_of(bytes, entry.topic_len),
            .properties = slice_of(bytes + entry.topic_len, entry.properties_len),
            .payload = slice_of(bytes + entry.topic_len + entry.properties_len, entry.payload_len),
            .topic_hash = entry.topic_hash,
            .publisher = entry.publisher,
            .expires_at_ms = entry.expires_at_ms,
            .retain = entry.retain,
        };
        publish_deliver(b, &pub);
        at += entry_bytes(&pub);
    }
    struct mail back = {.kind = MAIL_PARCEL_BACK, .ptr = parcel};
    broker_answer(b, mail->from, &back);
}

void parcel_back(struct broker *b, const struct mail *mail)
{
    assert(b->parcels_out[mail->from] > 0);
    b->parcels_out[mail->from]--;
    keep(b, mail->ptr);
}

void parcel_trim(struct broker *b)
{
    while (b->parcels_spare) {
        struct parcel *parcel = b->parcels_spare;
        b->parcels_spare = parcel->next;
        free(parcel);
    }
    b->parcels_spare_count = 0;
}

void parcel_deinit(struct broker *b)
{
    parcel_trim(b);
    for (unsigned i = 0; i < SHARDS_MAX; i++) {
        free(b->parcels[i]);
    }
}
