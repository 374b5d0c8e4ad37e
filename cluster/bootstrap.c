#include "cluster/bootstrap.h"

bool bootstrap_has_id(const struct member *m)
{
    static const uint8_t none[MEMBER_CLUSTER_ID_SIZE];

    return memcmp(m->cluster_id, none, sizeof(none)) != 0;
}

enum bootstrap_verdict bootstrap_look(struct bootstrap *b, const struct swim *swim, const struct node_id *self,
                                      unsigned expect, uint64_t now_ms, uint8_t ret_id[MEMBER_CLUSTER_ID_SIZE])
{
    const struct member *m;
    unsigned seen = 0;
    bool first = true;

    for (unsigned at = 0; (m = swim_next(swim, &at)) != NULL;) {
        if (member_living(m) && bootstrap_has_id(m)) {
            memcpy(ret_id, m->cluster_id, MEMBER_CLUSTER_ID_SIZE);
            return BOOTSTRAP_TAKE;
        }
        seen += m->state == MEMBER_ALIVE;
        first = first && (m->state != MEMBER_ALIVE || memcmp(self->bytes, m->id.bytes, sizeof(self->bytes)) <= 0);
    }
    if (seen != b->seen) {
        b->seen = seen;
        b->unchanged_ms = now_ms;
    }
    bool enough = first && seen >= expect;
    b->due_ms = enough ? b->unchanged_ms + BOOTSTRAP_SETTLE_MS : UINT64_MAX;
    return now_ms >= b->due_ms ? BOOTSTRAP_MAKE : BOOTSTRAP_WAIT;
}
