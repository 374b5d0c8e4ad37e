/* judge.h -- whether what a server sends to one client is legal, from the client's side and by the specification alone.
 *
 * Why: a fuzzer that only waits for a crash misses most of what a broker can do wrong. The judge sees both directions
 * of one connection in the order in which the client does, and ends the program at the first packet that may not come:
 *
 *     nothing --- CONNACK, refusing ---> over
 *     nothing --- CONNACK, accepting --> open --- DISCONNECT (5.0) --> over        over: nothing may come
 *
 *     PUBLISH QoS 1: free --> SENT --- the client's PUBACK --> free
 *     PUBLISH QoS 2: free --> SENT --- PUBREC --> RECEIVED --- the server's PUBREL --> RELEASED --- PUBCOMP --> free
 *
 * What the client has done wrong, or said before it could know, loosens the rules that depend on it.
 * Touched by: the test's thread. */
#ifndef TERN_TESTS_LIB_JUDGE_H
#define TERN_TESTS_LIB_JUDGE_H

#include "proto/base/buf.h"
#include "proto/mqtt/mqtt.h"

#define JUDGE_IDS 65536
#define JUDGE_ALIASES 65536

enum judge_state { JUDGE_FREE, JUDGE_SENT, JUDGE_RECEIVED, JUDGE_RELEASED };

/* Packet identifiers of the client that wait for one kind of answer, in order. */
struct judge_line {
    uint16_t *ids; /* owned */
    uint32_t head, count, capacity;
};

struct judge {
    enum mqtt_version version;
    bool connect_sent, open, over;
    bool broken;  /* the client's bytes are no MQTT: the server will part, nothing else is expected */
    bool loose;   /* the client acknowledged what it had not got */
    bool resumed; /* Session Present: packets of an earlier connection may come again */
    uint32_t receive_max, packet_bytes_max, alias_max;
    uint32_t id_end;         /* above the highest identifier that the server has used */
    uint32_t unacknowledged; /* PUBLISH packets of the server, QoS 1 and 2 */
    uint8_t state[JUDGE_IDS], qos[JUDGE_IDS];
    bool aliases[JUDGE_ALIASES];
    struct judge_line publishes1, publishes2, releases, subscribes, subscribe_counts, unsubscribes, unsubscribe_counts;
    uint32_t pings;
    struct buf stream; /* of the client, the beginning of a packet not yet whole */
};

struct judge *judge_new(void);
void judge_free(struct judge *judge);

/* The client is about to send these bytes. Call judge_received for everything that has come before. */
void judge_sends(struct judge *judge, struct slice data);

/* Judge the whole packets at the front of data. Returns how many bytes they have. */
size_t judge_received(struct judge *judge, struct slice data);

/* The first identifier in this state after `after`; 0: none. */
uint16_t judge_next(const struct judge *judge, enum judge_state state, uint16_t after);

/* What the server owes this client, who is connected and takes all it is sent; NULL: nothing. */
const char *judge_owed(const struct judge *judge);

#endif
