/* passwd.h -- the password file: who there is, and what proves it.
 *
 * Lines are USER:HASH, blank ones and those that begin with # are skipped. Hashes:
 *     $6$<salt base64>$<sha512(password salt) base64>               mosquitto's first kind
 *     $7$<iterations>$<salt base64>$<PBKDF2-HMAC-SHA512 base64>     mosquitto's present one
 *     $argon2id$v=19$m=..,t=..,p=..$<salt>$<hash>                   the PHC string of libargon2
 *     SCRAM-SHA-256$<iterations>:<salt base64>$<StoredKey base64>:<ServerKey base64>     as PostgreSQL writes it; good
 * for SCRAM (RFC 7677) and for a plain password The table is immutable: a reload makes a new one. */
#ifndef TERN_BROKER_AUTH_PASSWD_H
#define TERN_BROKER_AUTH_PASSWD_H

#include "proto/base/buf.h"

struct passwd;
struct passwd_entry;

/* Read a whole file. Returns 0, -ENOMEM, or -EINVAL with "FILE:LINE: what is wrong" in error: one bad line refuses the
 * whole file; a user named twice, an empty name, an unknown kind of hash, bad base64, parameters out of bounds
 * (iterations 1..10,000,000; argon2 memory up to 1 GiB) are bad. */
int passwd_read(const char *path, char *error, size_t error_size, struct passwd **ret_passwd);
int passwd_parse(struct slice text, const char *name, char *error, size_t error_size, struct passwd **ret_passwd);
void passwd_free(struct passwd *passwd); /* NULL is allowed */
size_t passwd_count(const struct passwd *passwd);

/* NULL: no such user. Borrowed from the table. */
const struct passwd_entry *passwd_find(const struct passwd *passwd, struct slice user);

/* Never 0; differs when the user's hash has changed: whoever came in with the old one is to go. Stable within the
 * process. */
uint64_t passwd_fingerprint(const struct passwd_entry *entry);

/* Whether the password is right. Takes milliseconds and, for argon2, the memory its parameters say: on a worker.
 * Compares in constant time. False also when memory is out. */
bool passwd_verify(const struct passwd_entry *entry, struct slice password);

/* The same time spent for a user that does not exist, so that an answer's delay does not tell who does. */
void passwd_waste(const struct passwd *passwd, struct slice password);

/* What SCRAM needs; false when the entry is of another kind. */
struct passwd_scram {
    uint32_t iterations;
    uint8_t salt[64];
    uint32_t salt_len;
    uint8_t stored_key[32], server_key[32];
};
bool passwd_scram(const struct passwd_entry *entry, struct passwd_scram *ret_scram);

/* ---- writing, for ternctl ---- */

enum passwd_kind { PASSWD_ARGON2ID, PASSWD_PBKDF2_SHA512, PASSWD_SCRAM_SHA_256 };

/* Append the hash of a password with a random salt; iterations 0: today's default of the kind (argon2id
 * m=19456,t=2,p=1; PBKDF2-SHA512 210,000; SCRAM 15,000). Returns 0, -EINVAL (empty password) or -ENOMEM. */
int passwd_hash(enum passwd_kind kind, struct slice password, uint32_t iterations, struct buf *out);

/* Whether a name can stand in the file: 1..1024 bytes of UTF-8 without colon, control characters and a leading '#'. */
bool passwd_name_valid(struct slice user);

#endif
