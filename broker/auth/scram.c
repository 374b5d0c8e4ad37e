/* scram.c -- two messages read, two written.
 *
 *     client-first   n,,n=user,r=NONCE                       gs2 header, then client-first-bare
 *     server-first   r=NONCE+OURS,s=SALT,i=4096
 *     client-final   c=biws,r=NONCE+OURS,p=PROOF             c: the gs2 header again, in base64
 *     server-final   v=SIGNATURE
 *
 * What is signed: client-first-bare , server-first , client-final up to its proof. Names are taken byte for byte:
 * SASLprep (RFC 4013) is the client's affair and changes nothing in ASCII. */
#include "broker/auth/scram.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/auth/base64.h"
#include "broker/auth/passwd_entry.h"
#include "proto/base/clock.h"
#include "proto/base/utf8.h"

#define MESSAGE_BYTES_MAX 8192   /* a name of 1,024 bytes may be written in three times as many, twice */
#define NONCE_RANDOM_BYTES 18    /* 24 characters */
#define UNKNOWN_ITERATIONS 15000 /* what passwd_hash writes */
#define UNKNOWN_SALT_LEN 16

struct scram {
    bool spent;           /* client-final has been here: there is no second guess */
    uint64_t fingerprint; /* 0: unknown user, who fails whatever the proof */
    struct passwd_scram keys;
    struct buf user;   /* unescaped */
    struct buf header; /* c= and the gs2 header in base64 */
    struct buf nonce;  /* r= and both parts */
    struct buf signed_text;
};

/* ---- attributes: x=value, with commas between ---- */

/* Cut the text before the next comma off, and the comma. Returns false when there is no comma. */
static bool cut(struct slice *rest, struct slice *ret_part)
{
    const uint8_t *comma = rest->len ? memchr(rest->ptr, ',', rest->len) : NULL;
    if (!comma) {
        return false;
    }
    *ret_part = slice_of(rest->ptr, (size_t)(comma - rest->ptr));
    *rest = slice_drop(*rest, ret_part->len + 1);
    return true;
}

/* The same, to the end when there is no comma; false when nothing is left. */
static bool next_part(struct slice *rest, struct slice *ret_part)
{
    if (rest->len == 0) {
        return false;
    }
    if (!cut(rest, ret_part)) {
        *ret_part = *rest;
        rest->len = 0;
        return true;
    }
    return rest->len > 0; /* a comma at the end has nothing behind it */
}

static bool starts_with(struct slice s, struct slice start)
{
    return s.len >= start.len && memcmp(s.ptr, start.ptr, start.len) == 0;
}

/* Extensions are passed over, but for one that is mandatory (m=): nobody has defined any. */
static bool extensions_valid(struct slice rest)
{
    struct slice part;

    while (rest.len > 0) {
        if (!next_part(&rest, &part) || part.len < 3 || part.ptr[1] != '=') {
            return false;
        }
        uint8_t letter = part.ptr[0] | 0x20;
        if (letter < 'a' || letter > 'z' || part.ptr[0] == 'm' || !utf8_valid(part)) {
            return false;
        }
    }
    return true;
}

/* Append a saslname without its escapes: =2C is a comma, =3D an equals sign. */
static bool unescape(struct slice name, struct buf *out)
{
    for (size_t i = 0; i < name.len; i++) {
        struct slice rest = slice_drop(name, i);
        if (name.ptr[i] != '=') {
            buf_u8(out, name.ptr[i]);
        } else if (starts_with(rest, SLICE("=2C")) || starts_with(rest, SLICE("=3D"))) {
            buf_u8(out, rest.ptr[1] == '2' ? ',' : '=');
            i += 2;
        } else {
            return false;
        }
    }
    return name.len > 0 && utf8_valid(name);
}

static bool is_nonce(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < 0x21 || s.ptr[i] > 0x7e) { /* commas are gone already */
            return false;
        }
    }
    return s.len > 0;
}

/* ---- the first exchange ---- */

/* What client-first says; borrowed from it. */
struct first {
    struct slice header;        /* with its second comma */
    struct slice authzid, name; /* escaped; authzid empty: none */
    struct slice bare, nonce;
};

static bool parse_first(struct slice message, struct first *ret_first)
{
    struct slice rest = message, binding, authzid, name, nonce;

    if (message.len > MESSAGE_BYTES_MAX || !cut(&rest, &binding) || !cut(&rest, &authzid)) {
        return false;
    }
    if (!slice_eq(binding, SLICE("n")) && !slice_eq(binding, SLICE("y"))) {
        return false; /* p=: channel binding, which we did not offer */
    }
    if (authzid.len > 0 && (!starts_with(authzid, SLICE("a=")) || authzid.len == 2)) {
        return false;
    }
    struct first f = {.header = slice_of(message.ptr, message.len - rest.len), .bare = rest};
    if (!cut(&rest, &name) || !starts_with(name, SLICE("n=")) || !next_part(&rest, &nonce)) {
        return false; /* also m=, an extension that we would have to know */
    }
    f.authzid = authzid.len ? slice_drop(authzid, 2) : authzid;
    f.name = slice_drop(name, 2);
    if (!starts_with(nonce, SLICE("r=")) || !extensions_valid(rest)) {
        return false;
    }
    f.nonce = slice_drop(nonce, 2);
    *ret_first = f;
    return is_nonce(f.nonce);
}

static bool names_valid(const struct first *first, struct buf *user)
{
    struct buf authzid = {0};

    bool good = unescape(first->name, user);
    if (good && first->authzid.len > 0) {
        good = unescape(first->authzid, &authzid) && slice_eq(buf_slice(&authzid), buf_slice(user));
    }
    buf_deinit(&authzid);
    return good;
}

static uint8_t unknown_secret[32];
static pthread_once_t unknown_once = PTHREAD_ONCE_INIT;

static void unknown_init(void)
{
    clock_random(unknown_secret, sizeof(unknown_secret));
}

/* Salt and keys for a name that nobody has: the same each time, and nobody can tell them from an entry's. */
static bool unknown_keys(const struct passwd *passwd, struct slice user, struct passwd_scram *ret_keys)
{
    const struct passwd_entry *typical = passwd_typical_scram(passwd);
    struct slice secret = slice_of(unknown_secret, sizeof(unknown_secret));
    uint8_t seed[32];

    pthread_once(&unknown_once, unknown_init);
    if (!passwd_hmac_sha256(secret, user, seed)) {
        return false;
    }
    struct slice seed_slice = slice_of(seed, sizeof(seed));
    ret_keys->iterations = typical ? typical->secret.iterations : UNKNOWN_ITERATIONS;
    ret_keys->salt_len = typical ? typical->secret.salt_len : UNKNOWN_SALT_LEN;
    return passwd_hmac_sha256(seed_slice, SLICE("salt 1"), ret_keys->salt) &&
           passwd_hmac_sha256(seed_slice, SLICE("salt 2"), ret_keys->salt + 32) &&
           passwd_hmac_sha256(seed_slice, SLICE("stored"), ret_keys->stored_key) &&
           passwd_hmac_sha256(seed_slice, SLICE("server"), ret_keys->server_key);
}

/* The keys of scram->user. The unknown user's are computed for everybody, so that both take the same time. */
static bool find_keys(struct scram *scram, const struct passwd *passwd)
{
    const struct passwd_entry *entry = passwd_find(passwd, buf_slice(&scram->user));

    if (!unknown_keys(passwd, buf_slice(&scram->user), &scram->keys)) {
        return false;
    }
    if (entry && passwd_scram(entry, &scram->keys)) {
        scram->fingerprint = passwd_fingerprint(entry);
    }
    return true;
}

static void put_server_first(const struct scram *scram, struct buf *out)
{
    char iterations[24];

    buf_put(out, buf_slice(&scram->nonce));
    buf_put(out, SLICE(",s="));
    base64_encode(slice_of(scram->keys.salt, scram->keys.salt_len), false, out);
    snprintf(iterations, sizeof(iterations), ",i=%u", scram->keys.iterations);
    buf_put(out, slice_str(iterations));
}

/* scram_first with our part of the nonce. */
static int begin(const struct passwd *passwd, struct slice client_first, struct slice nonce, struct buf *out,
                 struct scram **ret_scram)
{
    struct first first;
    int rc = -EACCES;

    if (!parse_first(client_first, &first)) {
        return rc;
    }
    struct scram *scram = calloc(1, sizeof(*scram));
    if (!scram) {
        return -ENOMEM;
    }
    if (!names_valid(&first, &scram->user)) {
        goto fail;
    }
    rc = -ENOMEM;
    if (scram->user.failed || !find_keys(scram, passwd)) {
        goto fail;
    }
    buf_put(&scram->header, SLICE("c="));
    base64_encode(first.header, false, &scram->header);
    buf_put(&scram->nonce, SLICE("r="));
    buf_put(&scram->nonce, first.nonce);
    buf_put(&scram->nonce, nonce);
    buf_put(&scram->signed_text, first.bare);
    buf_put(&scram->signed_text, SLICE(","));
    put_server_first(scram, &scram->signed_text);
    put_server_first(scram, out);
    if (scram->header.failed || scram->nonce.failed || scram->signed_text.failed || out->failed) {
        goto fail;
    }
    *ret_scram = scram;
    return 0;

fail:
    scram_free(scram); /* takes a half-made one */
    return rc;
}

int scram_first(const struct passwd *passwd, struct slice client_first, struct buf *out, struct scram **ret_scram)
{
    uint8_t random[NONCE_RANDOM_BYTES];
    struct buf nonce = {0};

    clock_random(random, sizeof(random));
    base64_encode(slice_of(random, sizeof(random)), false, &nonce);
    int rc = nonce.failed ? -ENOMEM : begin(passwd, client_first, buf_slice(&nonce), out, ret_scram);
    buf_deinit(&nonce);
    return rc;
}

/* ---- the second exchange ---- */

static bool same(struct slice a, const struct buf *b)
{
    return a.len == b->len && CRYPTO_memcmp(a.ptr, b->ptr, a.len) == 0;
}

/* Check the form of client-final, its header and its nonce. Returns 0, -EACCES or -ENOMEM; *ret_text is what stands
 * before the proof, and is signed. */
static int parse_final(const struct scram *scram, struct slice message, struct slice *ret_text, uint8_t ret_proof[32])
{
    const size_t proof_len = 2 + 44; /* p= and the base64 of 32 bytes */
    struct slice rest = message, header, nonce;
    struct buf bytes = {0};

    if (message.len > MESSAGE_BYTES_MAX || !cut(&rest, &header) || !cut(&rest, &nonce)) {
        return -EACCES;
    }
    if (!same(header, &scram->header) || !same(nonce, &scram->nonce)) {
        return -EACCES;
    }
    if (rest.len < proof_len) {
        return -EACCES;
    }
    struct slice proof = slice_drop(rest, rest.len - proof_len), extensions = slice_of(rest.ptr, rest.len - proof_len);
    if (extensions.len > 0 && (extensions.ptr[--extensions.len] != ',' || extensions.len == 0)) {
        return -EACCES;
    }
    if (!starts_with(proof, SLICE("p=")) || !extensions_valid(extensions)) {
        return -EACCES;
    }
    int rc = base64_decode(slice_drop(proof, 2), false, &bytes);
    if (rc == 0 && bytes.len != 32) {
        rc = -EINVAL;
    }
    if (rc == 0) {
        memcpy(ret_proof, bytes.ptr, 32);
        *ret_text = slice_of(message.ptr, message.len - proof_len - 1);
    }
    buf_deinit(&bytes);
    return rc == -EINVAL ? -EACCES : rc;
}

/* Whether the proof is the ClientKey hidden by the signature [RFC 5802, section 3]. -ENOMEM: it could not be computed.
 */
static int check_proof(const struct scram *scram, const uint8_t proof[32])
{
    uint8_t key[32], stored_key[32];

    if (!passwd_hmac_sha256(slice_of(scram->keys.stored_key, 32), buf_slice(&scram->signed_text), key)) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < sizeof(key); i++) {
        key[i] ^= proof[i];
    }
    bool computed = EVP_Digest(key, sizeof(key), stored_key, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_cleanse(key, sizeof(key));
    if (!computed) {
        return -ENOMEM;
    }
    bool right = CRYPTO_memcmp(stored_key, scram->keys.stored_key, sizeof(stored_key)) == 0;
    return right && scram->fingerprint != 0 ? 0 : -EACCES;
}

int scram_final(struct scram *scram, struct slice client_final, struct buf *out)
{
    struct slice text = {NULL, 0};
    uint8_t proof[32] = {0}, signature[32];

    if (scram->spent) {
        return -EACCES;
    }
    scram->spent = true;
    int rc = parse_final(scram, client_final, &text, proof);
    if (rc) {
        return rc;
    }
    buf_put(&scram->signed_text, SLICE(","));
    buf_put(&scram->signed_text, text);
    if (scram->signed_text.failed) {
        return -ENOMEM;
    }
    rc = check_proof(scram, proof);
    if (rc) {
        return rc;
    }
    if (!passwd_hmac_sha256(slice_of(scram->keys.server_key, 32), buf_slice(&scram->signed_text), signature)) {
        return -ENOMEM;
    }
    buf_put(out, SLICE("v="));
    base64_encode(slice_of(signature, sizeof(signature)), false, out);
    return out->failed ? -ENOMEM : 0;
}

struct slice scram_user(const struct scram *scram)
{
    return buf_slice(&scram->user);
}

uint64_t scram_fingerprint(const struct scram *scram)
{
    return scram->fingerprint;
}

void scram_free(struct scram *scram)
{
    if (!scram) {
        return;
    }
    buf_deinit(&scram->user);
    buf_deinit(&scram->header);
    buf_deinit(&scram->nonce);
    buf_deinit(&scram->signed_text);
    OPENSSL_cleanse(scram, sizeof(*scram));
    free(scram);
}
