#include "broker/session/outbox.h"

#include <assert.h>
#include <stdlib.h>

#define REFS_START 4u

static_assert(2 * OUTBOX_REFS_MAX + 1 <= 1024, "more pieces than sendmsg takes");
static_assert(sizeof(struct outbox_ref) % _Alignof(struct iovec) == 0, "the pieces stand behind the references");

static struct iovec *pieces_of(struct outbox_refs *refs)
{
    return (struct iovec *)(void *)(refs->ref + refs->cap);
}

/* Memory for one reference more. */
static bool refs_room(struct outbox *o)
{
    struct outbox_refs *refs = o->refs;

    if (refs && refs->count < refs->cap) {
        return true;
    }
    uint32_t cap = refs ? 2 * refs->cap : REFS_START;
    size_t size = sizeof(*refs) + cap * sizeof(struct outbox_ref) + (2 * (size_t)cap + 1) * sizeof(struct iovec);
    struct outbox_refs *grown = realloc(refs, size);
    if (!grown) {
        return false;
    }
    if (!refs) {
        grown->count = grown->bytes = 0;
    }
    grown->cap = cap;
    o->refs = grown;
    return true;
}

void outbox_put_payload(struct outbox *o, struct message *m)
{
    bool full =
        o->refs && (o->refs->count == OUTBOX_REFS_MAX || o->refs->bytes > OUTBOX_REF_BYTES_MAX - m->payload_len);

    if (m->payload_len == 0 || full || !refs_room(o)) {
        buf_put(&o->bytes, message_payload(m));
        return;
    }
    struct outbox_refs *refs = o->refs;
    refs->ref[refs->count++] = (struct outbox_ref){.message = message_ref(m), .at = o->bytes.len};
    refs->bytes += m->payload_len;
}

struct msghdr *outbox_vector(struct outbox *o)
{
    struct outbox_refs *refs = o->refs;
    struct iovec *pieces = pieces_of(refs);
    uint32_t at = 0;
    size_t count = 0;

    for (uint32_t i = 0; i < refs->count; i++) {
        const struct outbox_ref *ref = &refs->ref[i];
        if (ref->at > at) {
            pieces[count++] = (struct iovec){o->bytes.ptr + at, ref->at - at};
            at = ref->at;
        }
        struct slice payload = message_payload(ref->message);
        pieces[count++] = (struct iovec){(void *)(uintptr_t)payload.ptr, payload.len};
    }
    if (o->bytes.len > at) {
        pieces[count++] = (struct iovec){o->bytes.ptr + at, o->bytes.len - at};
    }
    refs->vector = (struct msghdr){.msg_iov = pieces, .msg_iovlen = count};
    return &refs->vector;
}

void outbox_clear(struct outbox *o, struct buf_pool *pool)
{
    buf_pool_put(pool, &o->bytes);
    if (!o->refs) {
        return;
    }
    for (uint32_t i = 0; i < o->refs->count; i++) {
        message_unref(o->refs->ref[i].message);
    }
    free(o->refs);
    o->refs = NULL;
}
