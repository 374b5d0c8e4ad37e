/* Who is refused at the door is named in the log once for each reason, and once more when he still comes after a while:
 * a stranger who tries a thousand times costs no thousand lines, and hides nobody else's. */
#include "broker/peer/peer_inside.h"
#include "proto/base/hash.h"

#define QUIET_MS 600000u

bool peer_stranger_is_news(struct peer_room *room, const char *name, const char *why, const char *more)
{
    const char *port = strrchr(name, ':'); /* another one each time */
    uint64_t now_ms = room->shard->now_ms, who;
    struct peer_stranger *oldest = &room->strangers[0];
    struct hash_key key;

    memcpy(&key, room->terms->node_id.bytes, sizeof(key));
    who = hash_keyed(&key, port ? slice_of(name, (size_t)(port - name)) : slice_str(name));
    who = hash_mix(who ^ hash_keyed(&key, slice_str(why))) ^ hash_keyed(&key, slice_str(more));
    for (size_t i = 0; i < COUNT_OF(room->strangers); i++) {
        struct peer_stranger *s = &room->strangers[i];
        if (s->who == who && s->quiet_until_ms > now_ms) {
            return false;
        }
        oldest = s->quiet_until_ms < oldest->quiet_until_ms ? s : oldest;
    }
    *oldest = (struct peer_stranger){who, now_ms + QUIET_MS};
    return true;
}
