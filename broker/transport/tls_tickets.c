/* tls_tickets.c -- the keys of session tickets (RFC 5077, RFC 8446 4.6.1): one present, one former, for the whole
 * process.
 *
 * A ticket is sealed with AES-256-CBC and HMAC-SHA-256 under a key that has a random name. What comes back under the
 * present key is good; under the former one it is good and answered with a new ticket; under any other the handshake is
 * a full one. */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "broker/transport/tls_internal.h"

struct ticket_key {
    uint8_t name[16], cipher[32], mac[32];
    bool good;
};

static CRYPTO_RWLOCK *lock; /* of the two below */
static struct ticket_key present, former;
static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;

static void key_make(struct ticket_key *key)
{
    key->good = RAND_bytes(key->name, sizeof(key->name)) == 1 &&
                RAND_priv_bytes(key->cipher, sizeof(key->cipher)) == 1 &&
                RAND_priv_bytes(key->mac, sizeof(key->mac)) == 1;
}

static void begin(void)
{
    lock = CRYPTO_THREAD_lock_new();
    key_make(&present);
}

/* The present key (name NULL) or the one of this name. */
static bool key_get(const uint8_t *name, struct ticket_key *ret_key, bool *ret_former)
{
    bool found;

    if (!lock || !CRYPTO_THREAD_read_lock(lock)) {
        return false;
    }
    *ret_former = name && memcmp(name, former.name, sizeof(former.name)) == 0 && former.good;
    found = *ret_former || (present.good && (!name || memcmp(name, present.name, sizeof(present.name)) == 0));
    *ret_key = *ret_former ? former : present;
    CRYPTO_THREAD_unlock(lock);
    return found;
}

/* OpenSSL's words: 1 go on, 2 go on and give a new ticket, 0 a full handshake, -1 an error. */
static int seal(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                int sealing)
{
    struct ticket_key key;
    bool is_former = false;

    (void)ssl;
    if (!key_get(sealing ? NULL : name, &key, &is_former)) {
        return 0;
    }
    OSSL_PARAM terms[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.mac, sizeof(key.mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"sha256"}, 0),
        OSSL_PARAM_construct_end(),
    };
    bool ok;
    if (sealing) {
        memcpy(name, key.name, sizeof(key.name));
        ok = RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
             EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1;
    } else {
        ok = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1;
    }
    ok = ok && EVP_MAC_CTX_set_params(mac, terms) == 1;
    OPENSSL_cleanse(&key, sizeof(key));
    return !ok ? -1 : is_former ? 2 : 1;
}

void tls_tickets_use(SSL_CTX *ctx)
{
    (void)CRYPTO_THREAD_run_once(&once, begin);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, seal);
}

void tls_tickets_renew(bool forget)
{
    (void)CRYPTO_THREAD_run_once(&once, begin);
    if (!lock || !CRYPTO_THREAD_write_lock(lock)) {
        return;
    }
    former = present;
    former.good = present.good && !forget;
    key_make(&present);
    if (forget) {
        OPENSSL_cleanse(&former, sizeof(former));
    }
    CRYPTO_THREAD_unlock(lock);
}
