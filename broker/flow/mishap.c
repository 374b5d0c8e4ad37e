/* What went wrong with clients lately. A client that is not let in has no session that could remember why, and one that
 * is sent away often loses its; so it is kept beside them, in a ring of fixed size. */
#include <stdio.h>
#include <stdlib.h>

#include "broker/flow/look.h"
#include "broker/flow/trace.h"

#define MISHAPS 512u

struct mishaps {
    struct mishap ring[MISHAPS];
    uint32_t next;
};

void mishap_note(struct broker *b, struct slice client_id, uint8_t reason, const char *text)
{
    if (!b->mishaps && (b->mishaps = calloc(1, sizeof(*b->mishaps))) == NULL) {
        return;
    }
    struct mishap *m = &b->mishaps->ring[b->mishaps->next++ % MISHAPS];
    *m = (struct mishap){.hash = broker_hash(b, client_id), .at_ms = b->shard->wall_ms, .reason = reason};
    snprintf(m->text, sizeof(m->text), "%s", text ? text : "");
}

void mishap_refused(const struct conn *conn, struct slice client_id, uint8_t reason, const char *text)
{
    struct broker *b = broker_of(conn);

    mishap_note(b, client_id, reason, text);
    if (b->traces) {
        trace_event(
            b,
            &(struct trace_event){
                .kind = TRACE_REFUSED, .code = reason, .client_id = client_id, .address = &conn->peer, .text = text});
    }
}

const struct mishap *mishap_find(const struct broker *b, uint64_t client_hash)
{
    for (uint32_t i = 1; b->mishaps && i <= MISHAPS; i++) {
        const struct mishap *m = &b->mishaps->ring[(b->mishaps->next - i) % MISHAPS];
        if (m->at_ms != 0 && m->hash == client_hash) {
            return m;
        }
    }
    return NULL;
}

void mishap_deinit(struct broker *b)
{
    free(b->mishaps);
    b->mishaps = NULL;
}
