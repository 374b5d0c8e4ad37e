/* tls.h -- TLS 1.2 and 1.3 on OpenSSL: contexts for listeners and clients, and one connection as a filter of bytes.
 *
 * Why a BIO of our own: what came from the socket is read where it lies, and everything that one flush encrypts goes
 * into one buf and leaves in one send. The filter knows neither sockets nor MQTT. An idle connection gives its record
 * buffers back (tls_idle). A context may be exchanged at any time: connections keep the one they began with. Threads: a
 * context may be used by all shards at once; a connection is touched by its shard alone, and may move. */
#ifndef TERN_BROKER_TRANSPORT_TLS_H
#define TERN_BROKER_TRANSPORT_TLS_H

#include "proto/base/buf.h"

struct tls_context; /* counted */
struct tls;

enum tls_client_certificate { TLS_CLIENT_NONE, TLS_CLIENT_OPTIONAL, TLS_CLIENT_REQUIRED };

/* What a listener's context is made from. Texts may be NULL or "" where something is not wanted. Lists are separated by
 * commas; the n-th certificate belongs to the n-th key and the n-th OCSP response. */
struct tls_settings {
    const char *certificates; /* list of PEM files, each with its chain; the first answers where SNI names none */
    const char *keys;
    const char *ocsp_responses; /* list of DER files, stapled; an entry "-" means none for this certificate */
    const char *client_ca;      /* PEM file: who signs client certificates */
    const char *crl;            /* PEM file: revoked ones; needs client_ca */
    int client_certificate;     /* enum tls_client_certificate */
    const char *psk_file;       /* lines IDENTITY:HEX, as mosquitto's */
    const char *psk_hint;
    int min_version;          /* 12 or 13 */
    const char *ciphers;      /* OpenSSL's list for TLS 1.2; "" : the default */
    const char *ciphersuites; /* and for 1.3 */
    const char *groups;       /* "X25519:P-256" */
    const char *alpn; /* list of protocols taken: "mqtt", or "http/1.1" for WebSocket; a client that offers others
                         only is refused, one that offers none is let in */
    bool tickets;     /* session tickets */
};

/* Read everything and build a context. Returns 0, or -EINVAL with one sentence in error that names the file and what is
 * wrong with it (unreadable, no certificate in it, key does not fit certificate, expired is allowed and told by
 * tls_context_expires), or -ENOMEM. */
int tls_server_context_new(const struct tls_settings *settings, char *error, size_t error_size,
                           struct tls_context **ret_context);

/* For a client (the load tool, later the links between nodes): ca NULL: the system's; insecure: whatever the server
 * shows is taken; certificate and key for a client certificate, NULL: none. */
int tls_client_context_new(const char *ca, const char *certificate, const char *key, bool insecure, char *error,
                           size_t error_size, struct tls_context **ret_context);

struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context); /* NULL is allowed; any thread */

/* Unix time in seconds when the first of the context's certificates ends, its file's name in *ret_file (borrowed from
 * the context); INT64_MAX: it has none. */
int64_t tls_context_expires(const struct tls_context *context, const char **ret_file);

/* Keys of session tickets: the same for all contexts of the process, made at the first use, renewed by
 * tls_tickets_renew, after which tickets given out before are good for one more renewal, or with `forget` for nothing:
 * a resumed connection must not carry on with a certificate that has been revoked since. */
void tls_tickets_renew(bool forget);

/* A thread that has used connections ends. */
void tls_thread_end(void);

/* One connection; takes its own reference to the context. NULL when memory is out. host: for a client, SNI and the name
 * that the certificate must have; NULL on a server. */
struct tls *tls_new(struct tls_context *context, const char *host);
void tls_free(struct tls *tls); /* NULL is allowed */

/* Client: append the first flight to out. Returns 0 or -ENOMEM. */
int tls_start(struct tls *tls, struct buf *out);

/* Whether the handshake is over. */
bool tls_open(const struct tls *tls);

/* Take bytes that came: the whole of *data is used up (what belongs to an unfinished record is kept inside), but plain
 * text is handed out only space_size bytes a call. Call until it returns 0. Handshake answers, alerts, key updates are
 * appended to out. While the handshake goes on, one call may cost a signature (hundreds of microseconds): call it at
 * the pace you can afford. Returns the number of plain bytes in `space`, 0 when nothing more can be had, or:
 *   -ECONNRESET  the peer has closed properly (close_notify)
 *   -EPROTO      the handshake or a record failed; an alert may be in out; tls_why says what
 *   -ENOMEM
 * After a negative return the connection is over: send out, then close. */
int tls_feed(struct tls *tls, struct slice *data, uint8_t *space, size_t space_size, struct buf *out);

/* What went wrong, for the log ("sslv3 alert bad certificate", "certificate revoked"); never NULL. */
const char *tls_why(const struct tls *tls);

/* Encrypt n bytes and append the records to out. The fewer calls, the fewer records: gather first. Returns 0, -EPROTO
 * or -ENOMEM. Only when open. */
int tls_write(struct tls *tls, const void *data, size_t n, struct buf *out);

/* Append close_notify; harmless at any time. */
void tls_close(struct tls *tls, struct buf *out);

/* Nothing has happened for a while: give the record buffers back. The next use takes new ones. */
void tls_idle(struct tls *tls);

/* ---- what was agreed; only when open ---- */

/* The field of the verified client certificate, into buf (UTF-8, no NUL inside: one with a NUL is refused). what: "cn",
 * "dn" (RFC 2253), "san_dns", "san_email", "san_uri" (the first of its kind). Returns 0, -ENOENT when there is no
 * certificate or no such field. */
int tls_peer_name(const struct tls *tls, const char *what, struct buf *out);
bool tls_peer_verified(const struct tls *tls);       /* a client certificate was shown and verified */
uint64_t tls_peer_expires_ms(const struct tls *tls); /* wall clock; UINT64_MAX: there is none */
/* Whether the peer's certificate still stands before the CA and CRL of another context (after a reload). True if it
 * has none. */
bool tls_peer_valid(const struct tls *tls, const struct tls_context *context);
struct slice tls_psk_identity(const struct tls *tls); /* empty if none; borrowed */
/* Whether the identity still has the key it came in with in another context (after a reload). True without PSK. */
bool tls_psk_valid(const struct tls *tls, const struct tls_context *context);
bool tls_resumed(const struct tls *tls);
const char *tls_version(const struct tls *tls); /* "TLSv1.3" */
const char *tls_cipher(const struct tls *tls);

#endif
