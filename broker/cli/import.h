/* import.h -- mosquitto's configuration taken over: read into settings (import_conf.c), written as tern.yaml
 * (import_yaml.c, import_listener.c); its access rules as acl.yaml (import_acl.c). import.c puts them together.
 *
 * Why a translator and no compatibility mode: the two brokers differ in what their keys mean, and whoever changes over
 * should see where. So nothing is dropped silently: whatever has no counterpart, or a slightly different one, becomes a
 * note with file and line, which stands on standard error and in the head of the result.
 *
 * All but import.c is text to text. */
#ifndef TERN_BROKER_CLI_IMPORT_H
#define TERN_BROKER_CLI_IMPORT_H

#include "proto/base/buf.h"

#define IMPORT_LISTENERS_MAX 32
#define IMPORT_FILES_MAX 64 /* the main one and those of include_dir */
#define IMPORT_FILE_BYTES_MAX ((size_t)16 << 20)

/* ---- notes ---- */

/* Lines of text, each "not taken over: FILE:LINE: KEY: why" or "note: FILE:LINE: KEY: what is different". */
struct import_notes {
    struct buf text;
    unsigned missing, remarks; /* lines of the first kind, and of the second */
};

/* A place in one of the files; file NULL: about none of them. */
struct import_place {
    const char *file;
    unsigned line;
};

__attribute__((format(printf, 4, 5))) void import_missing(struct import_notes *notes, struct import_place place,
                                                          const char *key, const char *format, ...);
__attribute__((format(printf, 4, 5))) void import_remark(struct import_notes *notes, struct import_place place,
                                                         const char *key, const char *format, ...);

/* ---- settings ---- */

/* The keys that are looked at; all others end in a note when they are read. */
enum import_key {
    KEY_NONE,
    /* of the broker as a whole */
    KEY_PER_LISTENER_SETTINGS,
    KEY_PORT,
    KEY_BIND_ADDRESS,
    KEY_GLOBAL_MAX_CONNECTIONS,
    KEY_MAX_PACKET_SIZE,
    KEY_MESSAGE_SIZE_LIMIT,
    KEY_MAX_INFLIGHT,
    KEY_MAX_QUEUED,
    KEY_MAX_QUEUED_BYTES,
    KEY_MAX_KEEPALIVE,
    KEY_EXPIRATION,
    KEY_RETAIN_AVAILABLE,
    KEY_SYS_INTERVAL,
    KEY_LOG_TYPE,
    KEY_LOG_DEST,
    /* of a listener; before the first `listener` line of the default one */
    KEY_SOCKET_DOMAIN,
    KEY_PROTOCOL,
    KEY_MOUNT_POINT,
    KEY_MAX_CONNECTIONS,
    KEY_MAX_QOS,
    KEY_MAX_TOPIC_ALIAS,
    KEY_MAX_TOPIC_ALIAS_BROKER,
    KEY_CAFILE,
    KEY_CAPATH,
    KEY_CERTFILE,
    KEY_KEYFILE,
    KEY_CRLFILE,
    KEY_REQUIRE_CERTIFICATE,
    KEY_IDENTITY,
    KEY_SUBJECT,
    KEY_CIPHERS,
    KEY_CIPHERSUITES,
    KEY_TLS_VERSION,
    KEY_PSK_HINT,
    KEY_VERSIONS,
    KEY_PROXY_PROTOCOL,
    KEY_ORIGIN,
    KEY_LISTENER_ANONYMOUS,
    /* of the broker, or with per_listener_settings of a listener */
    KEY_ALLOW_ANONYMOUS,
    KEY_PASSWORD_FILE,
    KEY_ACL_FILE,
    KEY_PSK_FILE,
    KEY_COUNT,
};

struct import_value {
    const char *text; /* NULL: not set. Borrowed from the files' texts */
    const char *key;
    struct import_place place;
};

struct import_listener {
    struct import_place place; /* of its `listener` line; line 0: the default listener */
    unsigned port;
    const char *host;      /* NULL: every address */
    const char *unix_path; /* NULL: no Unix socket */
    struct import_value values[KEY_COUNT];
    bool local; /* mosquitto's choice when it is told no port at all: loopback addresses, anonymous clients */
};

struct import_settings {
    struct import_listener all; /* the default listener, and the broker as a whole */
    struct import_listener
        listeners[IMPORT_LISTENERS_MAX]; /* after import_conf_finish with the default one, if it is */
    unsigned listener_count;
    bool per_listener, named_port; /* a listener, port or bind_address was seen */
};

/* The value of a key for a listener, wherever it has to stand for it; its text is NULL when it is not set. */
const struct import_value *import_value(const struct import_settings *s, const struct import_listener *l,
                                        enum import_key key);
bool import_is_true(const struct import_value *value);

/* Whether clients may come in without a name. */
bool import_anonymous(const struct import_settings *s, const struct import_listener *l);

/* Read one file: text ends with NUL, is changed, and must outlive the settings. *ret_include (may be NULL) is set to
 * each include_dir by a call of include. Returns 0, or -EINVAL with one sentence in error. */
int import_conf_read(struct import_settings *s, char *text, const char *name, struct import_notes *notes, char *error,
                     size_t error_size, int (*include)(void *context, const char *directory), void *context);

/* After the last file: decide which listeners there are. */
int import_conf_finish(struct import_settings *s, char *error, size_t error_size);

/* ---- results ---- */

/* A double-quoted YAML scalar. */
void import_quote(struct buf *out, struct slice text);

/* Rules of one acl_file as items of the list `rules`. listener: the name of the listener that they are for; NULL: all.
 * *ret_named: whether any is about a user by name. Returns 0, -ENOMEM, or -EINVAL with "FILE:LINE: ..." in error. */
int import_acl(struct slice text, const char *name, const char *listener, struct import_notes *notes, struct buf *out,
               bool *ret_named, char *error, size_t error_size);

/* A rule that lets everybody of this listener do everything. */
void import_acl_open(const char *listener, struct buf *out);

/* The name by which rules know a listener. */
void import_listener_name(const struct import_settings *s, const struct import_listener *l, char *out, size_t out_size);

/* Where the password file is to be found; NULL: there is none. The first of several, with a note about the others. */
const char *import_password_file(const struct import_settings *s, struct import_notes *notes);

/* The list `listeners`, and everything else of tern.yaml but auth.acl_file: acl_file is its path, NULL for none. */
void import_put_listeners(const struct import_settings *s, bool named, struct import_notes *notes, struct buf *out);
void import_put_rest(const struct import_settings *s, const char *acl_file, struct import_notes *notes,
                     struct buf *out);

#endif
