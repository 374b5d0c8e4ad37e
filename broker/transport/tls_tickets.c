/* tls_tickets.c -- session tickets (RFC 5077; RFC 8446, 4.6.1): the keys that they are sealed with, and when one still
 * counts.
 *
 * Why keys of our own: those of OpenSSL belong to one SSL_CTX and live as long as it. Ours are the same behind every
 * name and on every listener, outlive a reload, and can be forgotten. A ticket names its key; two keys are good:
 *
 *     new tickets ---> keys[0] --- renewed ---> keys[1] --- renewed, or forgotten ---> gone
 *
 * A resumed session skips the check of the client's certificate, so it is made here, each time, before the CA and the
 * CRL of the listener it comes to. The lock is held for a copy of 80 bytes. */
#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "broker/transport/tls_internal.h"
#include "proto/base/clock.h"

#define NAME_BYTES 16u
#define IV_BYTES 16u
#define GOOD_S (12 * 3600) /* what a ticket says of its life; it ends earlier with its key */

struct ticket_key {
    uint8_t name[NAME_BYTES];
    uint8_t cipher[32]; /* AES-256-CBC */
    uint8_t mac[32];    /* HMAC-SHA256 */
};

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static CRYPTO_RWLOCK *lock; /* NULL: no memory, no tickets */
static EVP_CIPHER *cbc;     /* fetched once: a fetch costs more than sealing a ticket */
static struct ticket_key keys[2];
static bool second; /* keys[1] is in force */

static void make_first_key(void)
{
    lock = CRYPTO_THREAD_lock_new();
    cbc = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    clock_random(&keys[0], sizeof(keys[0]));
}

static bool ready(void)
{
    return CRYPTO_THREAD_run_once(&once, make_first_key) && lock && cbc;
}

void tls_tickets_renew(bool forget)
{
    struct ticket_key fresh;

    if (!ready()) {
        return;
    }
    clock_random(&fresh, sizeof(fresh));
    if (CRYPTO_THREAD_write_lock(lock)) {
        keys[1] = keys[0];
        keys[0] = fresh;
        second = !forget;
        if (forget) {
            OPENSSL_cleanse(&keys[1], sizeof(keys[1]));
        }
        CRYPTO_THREAD_unlock(lock);
    }
    OPENSSL_cleanse(&fresh, sizeof(fresh));
}

/* The key of a ticket, or with name NULL the one for a new ticket. Returns its age in renewals, -1: it is gone. */
static int find_key(const uint8_t *name, struct ticket_key *ret_key)
{
    int age = -1;

    if (!CRYPTO_THREAD_read_lock(lock)) {
        return -1;
    }
    if (!name || memcmp(name, keys[0].name, NAME_BYTES) == 0) {
        age = 0;
    } else if (second && memcmp(name, keys[1].name, NAME_BYTES) == 0) {
        age = 1;
    }
    if (age >= 0) {
        *ret_key = keys[age];
    }
    CRYPTO_THREAD_unlock(lock);
    return age;
}

/* Set up both contexts for sealing or opening a ticket. For OpenSSL: 1 well, 2 well, but give out a new one, 0 the
 * ticket is none of ours, below 0 failed. */
static int use_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
    struct ticket_key key;
    int age = find_key(seal ? NULL : name, &key);

    (void)ssl;
    if (age < 0) {
        return seal ? -1 : 0;
    }
    if (seal) {
        memcpy(name, key.name, NAME_BYTES);
        clock_random(iv, IV_BYTES);
    }
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.mac, sizeof(key.mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end(),
    };
    bool ok = EVP_MAC_CTX_set_params(mac, params) && EVP_CipherInit_ex(cipher, cbc, NULL, key.cipher, iv, seal);
    OPENSSL_cleanse(&key, sizeof(key));
    return ok ? 1 + age : -1;
}

/* A ticket was opened. The session identifier context has kept those of other listeners out already. */
static SSL_TICKET_RETURN judge(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t name_len,
                               SSL_TICKET_STATUS status, void *none)
{
    (void)name, (void)name_len, (void)none;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) {
        return status == SSL_TICKET_EMPTY || status == SSL_TICKET_NO_DECRYPT ? SSL_TICKET_RETURN_IGNORE_RENEW
                                                                             : SSL_TICKET_RETURN_ABORT;
    }
    X509 *peer = SSL_SESSION_get0_peer(session);
    if (peer && !tls_context_trusts(tls_context_of(ssl), peer, NULL)) {
        return SSL_TICKET_RETURN_IGNORE_RENEW; /* a full handshake, which will tell the client why not */
    }
    bool once_only =
        SSL_version(ssl) >= TLS1_3_VERSION; /* RFC 8446, C.4: such a client needs another for the next time */
    return status == SSL_TICKET_SUCCESS && !once_only ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

int tls_tickets_install(SSL_CTX *ssl)
{
    if (!ready()) {
        return -ENOMEM;
    }
    SSL_CTX_set_timeout(ssl, GOOD_S);
    SSL_CTX_set_num_tickets(ssl, 1); /* the second that is usual serves clients that connect twice at once */
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, use_key) && SSL_CTX_set_session_ticket_cb(ssl, NULL, judge, NULL)
               ? 0
               : -ENOMEM;
}
