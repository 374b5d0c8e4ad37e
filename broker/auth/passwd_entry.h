/* passwd_entry.h -- one line of the password file as bytes, and what is computed with it. Between passwd.c (the table),
 * passwd_hash.c (the hashes) and scram.c; nobody else includes it. */
#ifndef TERN_BROKER_AUTH_PASSWD_ENTRY_H
#define TERN_BROKER_AUTH_PASSWD_ENTRY_H

#include "broker/auth/passwd.h"

#define PASSWD_SALT_MAX 64
#define PASSWD_ITERATIONS_MAX 10000000

enum passwd_form { FORM_SHA512, FORM_PBKDF2_SHA512, FORM_ARGON2ID, FORM_SCRAM };

/* What a hash is made of. The kind and the four numbers decide what checking it costs. */
struct passwd_secret {
    enum passwd_form form;
    uint32_t iterations; /* argon2: passes; SHA-512: 1 */
    uint32_t memory_kib, lanes;
    uint32_t salt_len, key_len;
    uint8_t salt[PASSWD_SALT_MAX];
    uint8_t key[64]; /* the password's hash; SCRAM: its StoredKey */
    uint8_t server_key[32];
};

struct passwd_entry {
    struct passwd_secret secret;
    uint64_t fingerprint;
    uint32_t user_len;
    uint8_t user[];
};

/* Read what stands behind the colon. Returns 0, -EINVAL with *ret_why, -ENOMEM. */
int passwd_secret_parse(struct slice text, struct passwd_secret *ret_secret, const char **ret_why);

/* Compute what `key` must be if the password is right. Returns whether that was possible. */
bool passwd_secret_derive(const struct passwd_secret *secret, struct slice password, uint8_t key[64]);

bool passwd_hmac_sha256(struct slice key, struct slice text, uint8_t out[32]);

/* What an unknown user's SCRAM is to look like: an entry with the parameters that most have; NULL: there is none. */
const struct passwd_entry *passwd_typical_scram(const struct passwd *passwd);

#endif
