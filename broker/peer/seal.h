/* seal.h -- what nodes gossip, sealed: AES-256-GCM (NIST SP 800-38D) under a key that all nodes of a cluster share.
 *
 * Why: a datagram can come from anybody. Before one byte of it is parsed it must have been sealed by a node of this
 * cluster, and not be an old one sent again.
 *
 *     version u8 | key id [4] | node id [16] | boot u64 | nonce [12] | sealed: counter u64, plain text | tag [16]
 *
 * The head and the cluster's name are authenticated with it. A key id is the beginning of the key's SHA-256. A ring has
 * up to four keys: the first seals, all open; so keys are exchanged by putting the new one second everywhere, then
 * first, then taking the old one out. Touched by: the control shard. */
#ifndef TERN_BROKER_PEER_SEAL_H
#define TERN_BROKER_PEER_SEAL_H

#include "cluster/member.h"
#include "proto/base/buf.h"
#include "proto/base/hash.h"

#define SEAL_KEYS_MAX 4u
#define SEAL_KEY_BYTES 32u
#define SEAL_HEAD_BYTES 41u
#define SEAL_OVERHEAD (SEAL_HEAD_BYTES + 8u + 16u)

struct seal_ring {
    uint8_t keys[SEAL_KEYS_MAX][SEAL_KEY_BYTES];
    unsigned count;
};

/* Read a file of one key of 64 hex digits a line; empty lines and lines that begin with # are passed over. Returns 0 or
 * -EINVAL with one sentence in error. */
int seal_ring_read(const char *path, struct seal_ring *ret_ring, char *error, size_t error_size);
/* A key that anybody can make who knows the name: keeps strangers' clusters apart, and nobody out. */
void seal_ring_insecure(const char *cluster, struct seal_ring *ret_ring);

/* The key of the route tables, the same on all nodes. Whoever can guess the name has it; but where an entry lies in a
 * table is each process's own secret, so all he can do is make two filters of his own look alike. */
void seal_route_key(const char *cluster, struct hash_key *ret_key);

struct seal;

int seal_new(const struct node_id *self, uint64_t boot, const char *cluster, const struct seal_ring *ring,
             struct seal **ret_seal); /* 0 or -ENOMEM */
void seal_free(struct seal *seal);    /* NULL is allowed */

/* Other keys from now on. Which datagrams have come is still known. */
void seal_ring_set(struct seal *seal, const struct seal_ring *ring);

/* Append the sealed datagram. Returns 0 or -ENOMEM. */
int seal_close(struct seal *seal, struct slice plain, struct buf *out);

/* Returns 0 and the plain text, borrowed until the next call, with whose it is; -EBADMSG: it is not of this cluster, or
 * an old one, or our own. */
int seal_open(struct seal *seal, struct slice datagram, struct slice *ret_plain, struct node_id *ret_from);

#endif
