#include "broker/session/session.h"

#include <assert.h>
#include <stdlib.h>

struct session *session_new(struct slice client_id, uint64_t hash, uint64_t uid)
{
    assert(client_id.len > 0 && client_id.len <= UINT16_MAX);
    struct session *s = calloc(1, offsetof(struct session, client_id_bytes) + client_id.len);

    if (!s) {
        return NULL;
    }
    s->uid = uid;
    s->hash = hash;
    s->due_index = SESSION_NOT_DUE;
    list_init(&s->subscriptions);
    list_init(&s->shares);
    list_init(&s->in_changed);
    s->client_id_len = (uint16_t)client_id.len;
    memcpy(s->client_id_bytes, client_id.ptr, client_id.len);
    return s;
}

void session_free(struct session *s)
{
    if (!s) {
        return;
    }
    assert(s->front == NULL);
    assert(s->replays == NULL);
    assert(s->due_index == SESSION_NOT_DUE);
    assert(list_empty(&s->subscriptions));
    assert(list_empty(&s->shares));
    assert(list_empty(&s->in_changed));
    assert(s->page == NULL);
    free(s->stored);
    queue_free(s->queue);
    packet_ids_deinit(&s->qos2);
    will_free(s->will);
    principal_unref(s->principal);
    free(s);
}
