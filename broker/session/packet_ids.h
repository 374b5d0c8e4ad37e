/* packet_ids.h -- the packet identifiers of QoS 2 messages that a client has sent and not yet released.
 *
 * Why: until PUBREL comes, a PUBLISH with the same identifier is the same message and must not be delivered twice
 * [MQTT-4.3.3-10]. A hash set of 16-bit numbers, sized by use: most clients never send QoS 2 and have none.
 * Touched by: the session that owns it. */
#ifndef TERN_BROKER_SESSION_PACKET_IDS_H
#define TERN_BROKER_SESSION_PACKET_IDS_H

#include <stdbool.h>
#include <stdint.h>

struct packet_ids {
    uint16_t *slots; /* owned; 0 = free. NULL while the set is empty */
    uint32_t mask, count;
};

bool packet_ids_has(const struct packet_ids *ids, uint16_t id);
int packet_ids_add(struct packet_ids *ids, uint16_t id);     /* not there yet. 0 or -ENOMEM */
bool packet_ids_remove(struct packet_ids *ids, uint16_t id); /* whether it was there */
void packet_ids_deinit(struct packet_ids *ids);

#endif
