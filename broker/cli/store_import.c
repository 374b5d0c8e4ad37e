/* store_import.c -- JSON lines into a store, as the commands that make what they say.
 *
 * Twice through the lines: first each is read and checked, in itself and with those before it, and nothing is written.
 * Then each becomes commands in the log (group/record.h): CLAIM with a clean start, SUBSCRIBE, PUBLISH, at last DETACH.
 * The next start of the node applies them behind whatever is there already. So a session or a retained message replaces
 * its namesake, and the same import again after a failure mends what the first left undone. */
#include "broker/cli/store_command.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "broker/flow/broker.h"
#include "broker/flow/cluster.h"
#include "broker/flow/flow.h"
#include "proto/base/clock.h"

#define BATCH_BYTES (256u << 10)
#define BATCHES_AHEAD 64u /* handed over and not yet durable */

/* A client whose session is imported. */
struct client {
    uint64_t uid; /* from 1; the boot of the store comes before it */
    uint32_t len;
    uint8_t id[];
};

struct import {
    FILE *in; /* can be read twice */
    off_t start;
    const char *dir;
    char *text; /* owned: the present line */
    size_t text_capacity;
    uint64_t line;
    uint64_t sessions, subscriptions, messages, retained;
    struct hash_key key; /* the store's; while checking any */
    struct user_rates *rates;
    struct map clients; /* struct client */

    /* The session whose lines come now. */
    const struct client *client; /* NULL: none */
    uint64_t next_number;        /* of its queue */
    uint64_t sent_below, detached_ms;
    bool queue_begun, connected, waiting;

    /* While writing. */
    struct store *store;
    struct broker *broker; /* owned; for its hashes alone */
    struct node_tables tables;
    struct record_writer writer;
    uint64_t batch_ms, now_ms, lsn;
    sem_t woken;
};

static struct record_world world_of(const struct import *im)
{
    return (struct record_world){.rates = im->rates, .key = &im->key};
}

/* ---- clients ---- */

static bool is_client(const void *value, const void *key)
{
    const struct client *c = value;
    return slice_eq(slice_of(c->id, c->len), *(const struct slice *)key);
}

/* Their hashes are the same in both passes, whatever the key of the store. */
static const struct hash_key clients_key = {0x696d706f7274, 0x636c69656e7473};

static const struct client *find_client(const struct import *im, struct slice id)
{
    return map_find(&im->clients, hash_keyed(&clients_key, id), is_client, &id);
}

static int add_client(struct import *im, struct slice id)
{
    struct client *c = calloc(1, sizeof(*c) + id.len);

    if (!c || map_add(&im->clients, hash_keyed(&clients_key, id), c) != 0) {
        free(c);
        return cli_fail(CLI_FAILED, "out of memory");
    }
    c->uid = im->clients.count;
    c->len = (uint32_t)id.len;
    memcpy(c->id, id.ptr, id.len);
    return CLI_DONE;
}

/* ---- checking: what a line must be beside those before it ---- */

static int bad(const struct import *im, const char *sentence)
{
    return cli_fail(CLI_FAILED, "line %" PRIu64 ": %s", im->line, sentence);
}

static void begin_session(struct import *im, const struct store_line *line)
{
    im->client = find_client(im, line->client);
    im->connected = line->connected;
    im->queue_begun = im->waiting = false;
    im->next_number = im->sent_below = 0;
    im->detached_ms = line->detached_ms ? line->detached_ms : im->now_ms;
}

static int check_message(struct import *im, const struct store_line *line)
{
    if (im->queue_begun && line->number < im->next_number) {
        return bad(im, "\"number\" must be larger than that of the message before");
    }
    if (im->queue_begun && line->number - im->next_number > QUEUE_SPAN_MAX) {
        return bad(im, "\"number\" is too far from that of the message before");
    }
    if (line->state != STATE_WAITING && im->waiting && !im->connected) {
        return bad(im, "it was sent, but the message before it was not");
    }
    im->waiting |= line->state == STATE_WAITING;
    im->queue_begun = true;
    im->next_number = line->number + 1;
    return CLI_DONE;
}

static int check_line(struct import *im, const struct store_line *line)
{
    int status;

    if ((im->line == 1) != (line->type == LINE_HEAD)) {
        return bad(im, "the first line, and no other, must be {\"type\":\"store\",\"version\":1}");
    }
    if (line->type == LINE_SESSION) {
        if (find_client(im, line->client)) {
            return bad(im, "a second session of this client");
        }
        status = add_client(im, line->client);
        begin_session(im, line);
        return status;
    }
    if (line->type == LINE_SUBSCRIPTION || line->type == LINE_MESSAGE) {
        if (!im->client || !slice_eq(slice_of(im->client->id, im->client->len), line->client)) {
            return bad(im, "it must stand behind the session of its client, before the next one's");
        }
        return line->type == LINE_MESSAGE ? check_message(im, line) : CLI_DONE;
    }
    im->client = NULL; /* sessions may follow, but no more of this one */
    return CLI_DONE;
}

/* ---- writing ---- */

static void wake(void *arg, unsigned owner)
{
    struct import *im = arg;

    (void)owner;
    sem_post(&im->woken);
}

/* Until all batches up to this one are on the disk. */
static int wait_durable(struct import *im, uint64_t lsn)
{
    for (;;) {
        store_notify(im->store, 0);
        if (store_durable(im->store) >= lsn) {
            return CLI_DONE;
        }
        if (store_status(im->store) != STORE_OPEN) {
            return cli_fail(
                CLI_FAILED, "%s: %s after some %" PRIu64 " lines; make the import again when that is mended", im->dir,
                store_status(im->store) == STORE_FULL ? "the disk has no more room" : "the disk has refused to write",
                im->line);
        }
        sem_wait(&im->woken);
    }
}

static int flush(struct import *im)
{
    struct buf *bytes = &im->writer.bytes;

    if (bytes->len == 0) {
        return CLI_DONE;
    }
    struct store_batch *batch = store_batch_new(0, bytes->len);
    if (!batch) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    record_end(&im->writer);
    memcpy(batch->bytes, bytes->ptr, bytes->len);
    batch->len = bytes->len;
    bytes->len = 0;
    im->lsn = store_append(im->store, batch);
    return im->lsn > BATCHES_AHEAD ? wait_durable(im, im->lsn - BATCHES_AHEAD) : CLI_DONE;
}

/* One command at a time. uid 0: of no session. */
static int put_command(struct import *im, uint64_t hash, uint64_t uid, uint64_t wall_ms, const struct command *command,
                       const struct outcome *outcome)
{
    int status = im->writer.bytes.len > BATCH_BYTES || im->batch_ms != wall_ms ? flush(im) : CLI_DONE;

    if (status) {
        return status;
    }
    if (buf_grow(&im->writer.bytes, record_bytes_max(command) + RECORD_HEAD_BYTES) != 0) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    if (im->writer.bytes.len == 0) {
        record_begin(&im->writer, wall_ms);
        im->batch_ms = wall_ms;
    }
    record_put(&im->writer, (uint16_t)group_of(hash), uid, command, outcome);
    return CLI_DONE;
}

static uint64_t uid_of(const struct import *im, const struct client *client)
{
    return im->store->identity.boot << 40 | client->uid;
}

/* Of the session whose lines come now. All of it happened at the moment when its connection went. */
static int put(struct import *im, const struct command *command, const struct outcome *outcome)
{
    uint64_t hash = hash_keyed(&im->key, slice_of(im->client->id, im->client->len));

    return put_command(im, hash, uid_of(im, im->client), im->detached_ms, command, outcome);
}

/* The session before is complete. */
static int end_session(struct import *im)
{
    const struct command command = {.type = COMMAND_DETACH};
    const struct outcome outcome = {.number = im->sent_below};
    int status = im->client && !im->connected ? put(im, &command, &outcome) : CLI_DONE;

    im->client = NULL;
    return status;
}

static int write_session(struct import *im, const struct store_line *line)
{
    struct session made = {.durable = true};
    const struct outcome claimed = {.session = &made}, none = {0};
    struct command command = {.type = COMMAND_CLAIM};
    struct cursor ids = cursor_at(buf_slice(&line->qos2));

    begin_session(im, line);
    command.claim = (struct command_claim){
        .client_id = line->client,
        .clean_start = true,
        .expiry_s = line->expiry_s,
        .receive_max = line->receive_max,
        .durable = true,
        .will = line->will,
        .principal = line->principal,
    };
    int status = put(im, &command, &claimed);
    while (status == CLI_DONE && cursor_left(&ids) > 0) {
        command = (struct command){.type = COMMAND_QOS2_IN, .packet_id = cursor_u16(&ids)};
        status = put(im, &command, &none);
    }
    im->sessions++;
    return status;
}

static int write_subscription(struct import *im, const struct store_line *line)
{
    const struct outcome none = {0};
    struct command command = {.type = COMMAND_SUBSCRIBE};

    if (line->share.len > 0) {
        command.type = COMMAND_SHARE_JOIN;
        command.share.name = line->share;
        command.share.filter = line->filter;
        command.share.options = line->options;
    } else {
        command.subscribe.filter = line->filter;
        command.subscribe.options = line->options;
    }
    im->subscriptions++;
    return put(im, &command, &none);
}

/* A message that was released has only its number: any will do to be put in and taken out again. */
static struct message *message_of(const struct import *im, const struct store_line *line)
{
    const struct message_source source = {.topic = SLICE("released"),
                                          .topic_hash = hash_keyed(&im->key, SLICE("released")),
                                          .qos = 2,
                                          .expires_at_ms = MESSAGE_NEVER};

    return line->message ? message_ref(line->message) : message_new(&source);
}

static int write_message(struct import *im, const struct store_line *line)
{
    const struct outcome outcome = {.number = line->number, .dropped = UINT64_MAX};
    const struct command released = {.type = COMMAND_RECEIVED};
    struct command command = {.type = COMMAND_PUBLISH};

    command.publish =
        (struct queue_item){.message = message_of(im, line),
                            .ids = buf_slice(&line->ids),
                            .share = line->share.len > 0 ? share_id(im->broker, line->share, line->filter) : 0,
                            .qos = line->qos,
                            .retain = line->retain};
    if (!command.publish.message) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    int status = put(im, &command, &outcome);
    message_unref(command.publish.message);
    if (status == CLI_DONE && line->state == STATE_RELEASED) {
        status = put(im, &released, &outcome);
    }
    if (line->state != STATE_WAITING) {
        im->sent_below = line->number + 1;
    }
    im->messages++;
    return status;
}

/* It is published now, and so later than what the store has of its topic. */
static struct message *stamped(const struct import *im, const struct message *m)
{
    return message_new(&(struct message_source){
        .topic = message_topic(m),
        .payload = message_payload(m),
        .properties = message_properties(m),
        .topic_hash = m->topic_hash,
        .publisher = m->publisher,
        .expires_at_ms = m->expires_at_ms,
        .stamp = {(im->now_ms + 1) << MESSAGE_STAMP_SHIFT, stamp_origin(im->store->identity.node_id)},
        .qos = m->qos,
        .retain = m->retain,
    });
}

static int write_retained(struct import *im, const struct store_line *line)
{
    const struct command command = {.type = COMMAND_RETAIN, .retain = stamped(im, line->message)};
    const struct outcome none = {0};

    if (!command.retain) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    im->retained++;
    int status = put_command(im, line->message->topic_hash, 0, im->now_ms, &command, &none);
    message_unref(command.retain);
    return status;
}

static int write_line(struct import *im, const struct store_line *line)
{
    const struct client *publisher = line->publisher.len > 0 ? find_client(im, line->publisher) : NULL;
    int status = line->type == LINE_SESSION || line->type == LINE_RETAINED ? end_session(im) : CLI_DONE;

    if (status) {
        return status;
    }
    if (line->message && publisher) {
        line->message->publisher = uid_of(im, publisher); /* nobody else has it yet */
    }
    switch (line->type) {
    case LINE_SESSION:
        return write_session(im, line);
    case LINE_SUBSCRIPTION:
        return write_subscription(im, line);
    case LINE_MESSAGE:
        return write_message(im, line);
    case LINE_RETAINED:
        return write_retained(im, line);
    case LINE_HEAD:
        break;
    }
    return CLI_DONE;
}

/* ---- through the lines ---- */

static int for_each_line(struct import *im, int (*each)(struct import *im, const struct store_line *line))
{
    const struct record_world world = world_of(im);
    char error[300];
    int status = fseeko(im->in, im->start, SEEK_SET) == 0 ? CLI_DONE : cli_fail(CLI_FAILED, "%s", strerror(errno));
    ssize_t len;

    im->line = 0;
    im->client = NULL;
    while (status == CLI_DONE && (len = getline(&im->text, &im->text_capacity, im->in)) >= 0) {
        struct store_line line;
        im->line++;
        int rc = store_line_read(slice_of(im->text, (size_t)len), &world, error, sizeof(error), &line);
        if (rc) {
            return bad(im, rc == -ENOMEM ? "out of memory" : error);
        }
        status = each(im, &line);
        store_line_deinit(&line);
    }
    if (status == CLI_DONE && ferror(im->in)) {
        return cli_fail(CLI_FAILED, "the lines cannot be read: %s", strerror(errno));
    }
    return status == CLI_DONE && im->line == 0 ? cli_fail(CLI_FAILED, "standard input is empty") : status;
}

/* Something that can be read twice: itself, or a copy. */
static int make_seekable(struct import *im, FILE *in)
{
    static char chunk[65536];
    struct stat st;
    size_t n;

    if (fstat(fileno(in), &st) == 0 && S_ISREG(st.st_mode) && (im->start = ftello(in)) >= 0) {
        im->in = in;
        return CLI_DONE;
    }
    im->start = 0;
    im->in = tmpfile();
    if (!im->in) {
        return cli_fail(CLI_FAILED, "a temporary file cannot be made: %s", strerror(errno));
    }
    while ((n = fread(chunk, 1, sizeof(chunk), in)) > 0) {
        if (fwrite(chunk, 1, n, im->in) != n) {
            return cli_fail(CLI_FAILED, "a temporary file cannot be written: %s", strerror(errno));
        }
    }
    return ferror(in) || fflush(im->in) ? cli_fail(CLI_FAILED, "the lines cannot be read: %s", strerror(errno))
                                        : CLI_DONE;
}

static int write_all(struct import *im)
{
    im->broker = calloc(1, sizeof(*im->broker));
    int rc = im->broker ? store_start(im->store, 1, wake, im) : -ENOMEM;
    if (rc) {
        return cli_fail(CLI_FAILED, "%s: %s", im->dir, strerror(-rc));
    }
    im->key = im->tables.key = im->store->identity.hash_key;
    im->broker->node = &im->tables;
    im->lsn = store_durable(im->store);
    int status = for_each_line(im, write_line);
    status = status ? status : end_session(im);
    status = status ? status : flush(im);
    return status ? status : wait_durable(im, im->lsn);
}

static int fill(void *arg, const char *dir)
{
    const struct store_config config = {.dir = dir};
    struct import *im = arg;
    struct store_refusal refusal;

    if (store_lmdb_open(&config, &im->store, &refusal) != 0) {
        return cli_fail(CLI_FAILED, "%s", refusal.sentence);
    }
    int status = write_all(im);
    record_end(&im->writer); /* after a failure it may have a message still */
    store_close(im->store);
    free(im->broker);
    return status;
}

/* Into the store that is there, or into a directory that appears with all of it. */
static int write_store(struct import *im)
{
    char path[4096];
    struct stat st;

    snprintf(path, sizeof(path), "%s/identity", im->dir);
    return stat(path, &st) == 0 ? fill(im, im->dir) : store_make(im->dir, fill, im);
}

static int import_lines(struct import *im, FILE *in)
{
    int status = user_rates_new(&im->rates) ? cli_fail(CLI_FAILED, "out of memory") : make_seekable(im, in);

    status = status ? status : for_each_line(im, check_line);
    status = status ? status : write_store(im);
    if (status == CLI_DONE) {
        printf("%s: %" PRIu64 " sessions, %" PRIu64 " subscriptions, %" PRIu64 " queued and %" PRIu64
               " retained messages\n",
               im->dir, im->sessions, im->subscriptions, im->messages, im->retained);
    }
    return status;
}

int store_import(const char *dir, FILE *in)
{
    struct import *im = calloc(1, sizeof(*im));
    void *client;

    if (!im) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    sem_init(&im->woken, 0, 0);
    im->dir = dir;
    im->now_ms = clock_wall_ms();
    int status = import_lines(im, in);
    for (size_t i = 0; (client = map_next(&im->clients, &i)) != NULL;) {
        free(client);
    }
    map_deinit(&im->clients);
    buf_deinit(&im->writer.bytes);
    user_rates_free(im->rates);
    free(im->text);
    if (im->in && im->in != in) {
        fclose(im->in);
    }
    sem_destroy(&im->woken);
    free(im);
    return status;
}
