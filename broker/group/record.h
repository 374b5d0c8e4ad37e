/* record.h -- commands in their written form: what the log keeps.
 *
 * A batch is what one turn of a shard has changed, in order. All numbers are big endian, strings behind two bytes of
 * length.
 *
 *     batch  := version u8, wall_ms u64, entry*
 *     entry  := type u8, length u32, body               the type is enum command_type or RECORD_MESSAGE
 *     MESSAGE: a message; the PUBLISH entries behind it, up to the next MESSAGE, are of this one
 *     others: group u16, uid u64 (0: RETAIN), then what the command has
 *
 * Version 2: a message may have a stamp. A batch without any is still written as version 1.
 *
 * So a message for a thousand sessions is written once a batch. The checksum is the store's. Only what succeeded is
 * written, with what was decided. No IO. Touched by: the shard that owns the writer. */
#ifndef TERN_BROKER_GROUP_RECORD_H
#define TERN_BROKER_GROUP_RECORD_H

#include "broker/group/command.h"
#include "proto/base/buf.h"
#include "proto/base/cursor.h"

#define RECORD_VERSION 2u       /* the last one that is read */
#define RECORD_VERSION_PLAIN 1u /* without stamps */
#define RECORD_MESSAGE 255u

/* What is not in a command: how a principal is made again. */
struct record_world {
    struct user_rates *rates;
    /* Name of a listener as it stands in the configuration, for principal->listener; "" when there is none of it. */
    const char *(*listener)(void *arg, struct slice name);
    void *arg;
    const struct hash_key *key; /* of topics and client ids */
    uint64_t origin;            /* of retained messages that have no stamp: this node, before there were any */
};

struct record_writer {
    struct buf bytes;        /* owned */
    struct message *message; /* counted: of the last MESSAGE entry; NULL: none in this batch */
};

/* Bytes that the entry of this command may take at most, a MESSAGE entry included. Before the command is applied. */
size_t record_bytes_max(const struct command *command);

/* Append the entry of a command that has just been applied with this outcome. bytes has room for record_bytes_max more,
 * and for the head of the batch (record_begin has been called): it never fails. group: of the session or the topic.
 * uid: of the session, 0 for RETAIN. Returns the entry's body, for the digest; borrowed until the next call. */
#define RECORD_HEAD_BYTES 9u
void record_begin(struct record_writer *writer, uint64_t wall_ms);
struct slice record_put(struct record_writer *writer, uint16_t group, uint64_t uid, const struct command *command,
                        const struct outcome *outcome);
void record_end(struct record_writer *writer); /* lets go of the message; bytes are the caller's to empty */

struct record {
    struct slice body; /* for the digest */
    uint16_t group;
    uint64_t uid;
    struct command command; /* session is NULL: the reader's caller finds it by uid. decided is set */
    struct decided decided;
    struct slice share_name, share_filter; /* SHARE_LEAVE: command.share_leave is the caller's to find */
};

/* Reads a batch. What a record points to belongs to the reader until the next call, but for command.claim.will, which
 * the caller takes over or frees, and command.claim.principal, which the session references for itself. */
struct record_reader {
    struct cursor at;
    uint64_t wall_ms;
    const struct record_world *world;
    struct message *message;     /* counted: of the last MESSAGE */
    struct message *retained;    /* counted: of the last RETAIN */
    struct principal *principal; /* counted: of the last CLAIM */
};

/* 0; -EBADMSG: not a batch; -EPROTONOSUPPORT: of a later version. */
int record_open(struct record_reader *reader, struct slice batch, const struct record_world *world);
/* 1: *ret_record is set; 0: the end; -EBADMSG; -ENOMEM. Any bytes are safe. */
int record_next(struct record_reader *reader, struct record *ret_record);
void record_close(struct record_reader *reader);

/* ---- shared with the rows of the state (snapshot.h): each appends to bytes, and reads from c ----
 * Readers return 0, -EBADMSG or -ENOMEM; what they make is the caller's. */
void record_put_message(struct buf *bytes, const struct message *message);
int record_get_message(struct cursor *c, const struct record_world *world, struct message **ret_message);
/* The same for a retained message: it has a stamp in any case. */
int record_get_retained(struct cursor *c, const struct record_world *world, struct message **ret_message);
void record_put_principal(struct buf *bytes, const struct principal *principal); /* NULL is allowed */
int record_get_principal(struct cursor *c, const struct record_world *world, struct principal **ret_principal);
void record_put_will(struct buf *bytes, const struct will *will); /* NULL is allowed */
int record_get_will(struct cursor *c, const struct record_world *world, struct will **ret_will);
void record_put_options(struct buf *bytes, const struct subscription_options *options);
int record_get_options(struct cursor *c, struct subscription_options *ret_options);

#endif
