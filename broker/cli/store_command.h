/* store_command.h -- how `ternctl store` is cut. Inside the room.
 *
 *     store_command.c   arguments; backup, restore: a store that appears in an empty directory whole or not at all
 *     store_survey.c    every record of a store read, decoded and counted: verify, and what export must know first
 *     store_export.c    the store recovered in memory, as a node would, then printed
 *     store_import.c    lines checked one by one, then appended to the log as commands
 *     store_write.c, store_read.c    what stands in a line
 *
 * A line is one JSON object; the first says {"type":"store","version":1}. Behind a session follow its subscriptions
 * and the messages of its queue in their order; then come retained messages. Times are milliseconds since 1970.
 *
 *     {"type":"session","client":"c","expiry":3600,"receive_max":20,"connected":false,"detached_at":1790000000000}
 *     {"type":"subscription","client":"c","filter":"$share/g/a/+","qos":1,"retain_handling":0,"no_local":false, ...}
 *     {"type":"message","client":"c","number":7,"state":"waiting","qos":1,"retain":false,"topic":"a/b", ...}
 *     {"type":"retained","topic":"a/b","payload":"aGVsbG8=","published_qos":1, ...}
 *
 * What is specific to a store (unique ids, hashes) is not in the lines: clients stand there by their ids. */
#ifndef TERN_BROKER_CLI_STORE_COMMAND_H
#define TERN_BROKER_CLI_STORE_COMMAND_H

#include <jansson.h>

#include "broker/base/config.h"
#include "broker/cli/cli.h"
#include "broker/group/record.h"
#include "proto/base/map.h"
#include "storage/store_lmdb.h"

#define STORE_LINES_VERSION 1

struct session;
struct session_share;
struct queue_entry;

/* Each returns an exit status, and has said why when it is not CLI_DONE. */
int store_verify(const char *dir);
int store_export(const char *dir);
int store_import(const char *dir, FILE *in);

/* ---- store_command.c ---- */

/* Have fill() make a store in a directory of its own, and only when it has succeeded (CLI_DONE) move that into `to`,
 * which is made if it is missing and must be empty otherwise. */
int store_make(const char *to, int (*fill)(void *arg, const char *dir), void *arg);

/* ---- store_survey.c ---- */

struct store_counts {
    uint64_t sessions, subscriptions, queued, retained;
    uint64_t batches, commands; /* of the log */
    uint64_t damaged;           /* records with a wrong checksum, or whose contents make no sense */
    uint64_t missing;           /* messages that a session's row counts and that have none */
    uint64_t missing_batches;
    uint64_t orphans; /* messages without a session */
};

/* A name that was seen, once. */
struct store_name {
    uint32_t len;
    char text[]; /* and NUL */
};

struct store_survey {
    struct store *store;
    struct store_counts counts;
    struct map listeners, topics; /* struct store_name: of principals, of retained messages */
    struct user_rates *rates;
    int error; /* -ENOMEM, -EPROTONOSUPPORT */
    /* Of the group whose rows are being read: the queues, in the order of their keys. */
    struct store_queue {
        uint64_t uid, rows;
    } * queues;
    size_t queue_count, queue_capacity, queue_at;
    uint16_t group;
    uint64_t first_lsn, last_lsn;
    bool has_cluster;
    uint8_t cluster_id[16];
};

/* Read everything. Returns 0 or a negative errno; damaged records are none. */
int store_survey(struct store *store, struct store_survey *ret_survey);
void store_survey_deinit(struct store_survey *survey);
/* The number of all that is not as it should be. */
uint64_t store_survey_wrong(const struct store_counts *counts);

/* ---- store_write.c: objects for json_dumpf, or NULL: memory is out, or text is not UTF-8 ---- */

/* A message's publisher by uid: its client id, or empty when it is not there any more. */
typedef struct slice store_client_of(void *arg, uint64_t uid);
struct store_writer {
    store_client_of *client_of;
    void *arg;
};

json_t *store_write_head(void);
json_t *store_write_session(const struct session *session);
/* share: empty for an ordinary one. */
json_t *store_write_subscription(const struct session *session, struct slice share, struct slice filter,
                                 const struct subscription_options *options);
/* sent: the client may have it. share: of the session, by which the message came; NULL: none. */
json_t *store_write_message(const struct store_writer *writer, const struct session *session, uint64_t number,
                            const struct queue_entry *entry, bool sent, const struct session_share *share);
json_t *store_write_retained(const struct store_writer *writer, const struct message *message);

/* ---- store_read.c ---- */

enum store_line_type { LINE_HEAD, LINE_SESSION, LINE_SUBSCRIPTION, LINE_MESSAGE, LINE_RETAINED };
enum store_message_state { STATE_WAITING, STATE_SENT, STATE_RELEASED };

/* What a line says. Slices are borrowed from it. */
struct store_line {
    enum store_line_type type;
    json_t *root, *kept;        /* owned */
    struct slice client;        /* all but HEAD and RETAINED */
    struct slice publisher;     /* MESSAGE, RETAINED; empty: not known */
    struct slice share, filter; /* SUBSCRIPTION, MESSAGE; share empty: none */
    struct message *message;    /* counted: MESSAGE unless RELEASED, RETAINED */
    /* SESSION */
    struct will *will;           /* owned */
    struct principal *principal; /* counted */
    uint64_t detached_ms;        /* 0: not said */
    uint32_t expiry_s;
    uint16_t receive_max;
    bool connected;
    struct buf qos2; /* owned: u16, big endian */
    /* SUBSCRIPTION */
    struct subscription_options options;
    /* MESSAGE */
    uint64_t number;
    enum store_message_state state;
    uint8_t qos;
    bool retain;
    struct buf ids; /* owned: encoded Subscription Identifiers */
};

/* Read one line. Returns 0, -ENOMEM, or -EINVAL with a sentence in error. world: rates and key are used. */
int store_line_read(struct slice text, const struct record_world *world, char *error, size_t error_size,
                    struct store_line *ret_line);
void store_line_deinit(struct store_line *line);

#endif
