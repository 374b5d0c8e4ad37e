#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/conn/gate.h"
#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"

#define FIFO_START 64u
#define SPARE_MAX 4096u /* receipts whose memory is kept */

/* A refused message leaves no trace [MQTT-4.3.3-9]: when it comes again it is a new one. */
static void forget_qos2(struct broker *b, struct conn *conn, uint8_t type, uint16_t packet_id)
{
    if (type == MQTT_PUBREC) {
        struct command command = {.type = COMMAND_QOS2_RELEASE, .session = conn->session, .packet_id = packet_id};
        struct outcome outcome;
        broker_apply(b, &command, &outcome);
    }
}

/* The message was not taken and the client cannot be told: end the connection at the end of the turn, so that it sends
 * it again. Not at once, for a receipt may be settled in the midst of work on this very session. */
static void leave_unacknowledged(struct broker *b, struct conn *conn, uint8_t type, uint16_t packet_id)
{
    forget_qos2(b, conn, type, packet_id);
    conn_out(conn)->failed = true;
}

/* It leaves when it is durable, and not before. Returns false when memory is out. */
static bool make_durable(struct broker *b, struct conn *conn, const struct receipt *r)
{
    struct command remember = {
        .type = COMMAND_QOS2_IN, .wall_ms = b->shard->wall_ms, .session = conn->session, .packet_id = r->packet_id};

    if (r->remember && r->reason < 0x80 && journal_record(b, &remember) != 0) {
        return false;
    }
    return (!r->logged || journal_gate(b, conn, GATE_THIS_TURN) == 0) &&
           (r->lsn == 0 || journal_gate(b, conn, r->lsn) == 0);
}

static void acknowledge(struct broker *b, struct conn *conn, const struct receipt *r)
{
    uint8_t type = r->type, reason = r->reason == RECEIPT_NO_SPACE ? MQTT_QUOTA_EXCEEDED : r->reason;
    uint16_t packet_id = r->packet_id;
    bool untold = (r->reason == RECEIPT_NO_MEMORY || r->reason == RECEIPT_NO_SPACE) && conn->version != MQTT_V5;

    if (untold || !make_durable(b, conn, r)) {
        leave_unacknowledged(b, conn, type, packet_id); /* 3.x has no word for it */
        return;
    }
    struct buf *out = conn_out(conn);
    if (reason == MQTT_SUCCESS || conn->version != MQTT_V5) {
        mqtt_ack_encode_plain(out, type, packet_id);
    } else {
        struct mqtt_ack ack = {.packet_id = packet_id, .reason = reason};
        mqtt_ack_encode(out, type, conn->version, &ack);
        if (reason >= 0x80) {
            forget_qos2(b, conn, type, packet_id);
        }
    }
    broker_sent(b, type);
}

/* Not yet filled in. NULL when memory is out. */
static struct receipt *receipt_new(struct broker *b)
{
    struct list *spare = list_pop(&b->receipts_spare);

    if (!spare) {
        return malloc(sizeof(struct receipt));
    }
    b->receipts_spare_count--;
    return CONTAINER_OF(spare, struct receipt, in_broker);
}

static uint64_t orphan_hash(uint64_t session, uint16_t packet_id)
{
    return hash_mix(session ^ hash_mix(packet_id));
}

static void receipt_free(struct broker *b, struct receipt *r)
{
    list_remove(&r->in_broker);
    if (r->orphaned) {
        map_remove(&b->receipts_orphaned, orphan_hash(r->publisher, r->packet_id), r);
    }
    if (b->receipts_spare_count == SPARE_MAX) {
        free(r);
        return;
    }
    list_append(&b->receipts_spare, &r->in_broker);
    b->receipts_spare_count++;
}

void receipt_trim(struct broker *b)
{
    struct list *at;

    while ((at = list_pop(&b->receipts_spare)) != NULL) {
        free(CONTAINER_OF(at, struct receipt, in_broker));
    }
    b->receipts_spare_count = 0;
}

struct receipt *receipt_wait(struct broker *b, struct receipt_open *open)
{
    if (!open->receipt) {
        struct receipt *r = receipt_new(b);
        if (!r) {
            open->failed = true;
            return NULL;
        }
        *r = (struct receipt){0};
        r->conn = open->conn;
        r->packet_id = open->packet_id;
        r->type = open->type;
        r->started_ns = b->shard->now_ns;
        r->waiting = 1; /* for receipt_close */
        list_append(&b->receipts_all, &r->in_broker);
        if (open->link) {
            r->link = open->link;
            r->number = open->number;
            list_append(&((struct arrival_lane *)open->link->owner)->receipts, &r->in_conn);
        } else {
            r->publisher = open->conn->session ? open->conn->session->uid : 0;
            list_append(&open->conn->receipts, &r->in_conn);
            open->conn->receipt_count++;
            open->conn->puback_count += open->type == MQTT_PUBACK;
        }
        open->receipt = r;
    }
    open->receipt->waiting++;
    return open->receipt;
}

struct receipt *receipt_return(struct broker *b, const struct session *session, uint64_t number)
{
    struct receipt *r = receipt_new(b);

    if (r) {
        *r = (struct receipt){
            .waiting = 1, .returned_group = session->group, .returned_uid = session->uid, .returned_number = number};
        list_init(&r->in_conn);
        list_append(&b->receipts_all, &r->in_broker);
    }
    return r;
}

void receipt_hold(struct receipt *r)
{
    if (r->conn && !r->held) {
        r->held = true;
        r->conn->held_count++;
        conn_pause(r->conn, PAUSE_HOLD);
    }
}

static int fifo_push(struct receipt_fifo *fifo, struct receipt *r)
{
    uint32_t slots = fifo->ring ? fifo->mask + 1 : 0;

    if (fifo->tail - fifo->head == slots) {
        uint32_t next_slots = slots ? slots * 2 : FIFO_START;
        struct receipt **ring = malloc(next_slots * sizeof(struct receipt *));
        if (!ring) {
            return -ENOMEM;
        }
        for (uint32_t i = fifo->head; i != fifo->tail; i++) {
            ring[i & (next_slots - 1)] = fifo->ring[i & fifo->mask];
        }
        free(fifo->ring);
        fifo->ring = ring;
        fifo->mask = next_slots - 1;
    }
    fifo->ring[fifo->tail++ & fifo->mask] = r;
    return 0;
}

void receipt_deinit(struct broker *b)
{
    struct list *at;

    while ((at = list_pop(&b->receipts_all)) != NULL) {
        free(CONTAINER_OF(at, struct receipt, in_broker));
    }
    receipt_trim(b);
    map_deinit(&b->receipts_orphaned);
    for (unsigned i = 0; i < SHARDS_MAX; i++) {
        free(b->receipts[i].ring);
    }
}

struct receipt *receipt_wait_shard(struct broker *b, struct receipt_open *open, unsigned shard)
{
    struct receipt *r = receipt_wait(b, open);

    if (r && fifo_push(&b->receipts[shard], r) != 0) {
        r->waiting--;
        open->failed = true;
        return NULL;
    }
    return r;
}

void receipt_unwait_shard(struct broker *b, struct receipt_open *open, unsigned shard)
{
    struct receipt_fifo *fifo = &b->receipts[shard];

    assert(fifo->head != fifo->tail);
    assert(fifo->ring[(fifo->tail - 1) & fifo->mask] == open->receipt);
    fifo->tail--;
    open->receipt->waiting--;
}

/* Acknowledge from the front of the queue as far as everything is settled. */
static void send_settled(struct broker *b, struct conn *conn)
{
    while (!list_empty(&conn->receipts)) {
        struct receipt *r = CONTAINER_OF(conn->receipts.next, struct receipt, in_conn);
        if (r->waiting > 0) {
            break;
        }
        acknowledge(b, conn, r);
        metric_observe(b->shard->metrics, METRIC_HISTOGRAM_PUBLISH_ACK, b->shard->now_ns - r->started_ns);
        list_remove(&r->in_conn);
        conn->receipt_count--;
        conn->puback_count -= r->type == MQTT_PUBACK;
        conn->held_count -= r->held;
        receipt_free(b, r);
    }
    if (conn->held_count == 0) {
        conn_resume(conn, PAUSE_HOLD);
    }
    if (conn->receipt_count < conn->in_receive_max) {
        conn_resume(conn, PAUSE_RECEIPTS);
    }
}

/* The same for who is on another node. */
static void close_arrived(struct broker *b, const struct receipt_open *open, enum mqtt_reason reason)
{
    struct receipt *r = open->receipt;

    if (!r) {
        arrive_answer(b, open->link, open->number, (uint8_t)reason, open->logged, 0);
        return;
    }
    r->reason = reason != MQTT_SUCCESS ? (uint8_t)reason : r->reason;
    r->logged |= open->logged;
    receipt_settle(b, r, 0);
}

void receipt_close(struct broker *b, struct receipt_open *open, enum mqtt_reason reason)
{
    struct conn *conn = open->conn;

    if (!conn) {
        close_arrived(b, open, reason);
        return;
    }
    if (!open->receipt) {
        if (list_empty(&conn->receipts)) { /* the common case: everything was done at once, nothing is waited for */
            struct receipt now = {.packet_id = open->packet_id,
                                  .type = open->type,
                                  .reason = (uint8_t)reason,
                                  .logged = open->logged,
                                  .remember = open->remember};
            acknowledge(b, conn, &now);
            metric_observe(b->shard->metrics, METRIC_HISTOGRAM_PUBLISH_ACK, 0); /* within the turn */
            return;
        }
        if (!receipt_wait(b, open)) { /* it must stand in line */
            leave_unacknowledged(b, conn, open->type, open->packet_id);
            return;
        }
        open->receipt->waiting--;
    }
    if (reason != MQTT_SUCCESS) {
        open->receipt->reason = (uint8_t)reason;
    }
    open->receipt->logged |= open->logged;
    open->receipt->remember = open->remember;
    if (conn->receipt_count >= conn->in_receive_max) {
        conn_pause(conn, PAUSE_RECEIPTS); /* 3.x clients know no Receive Maximum */
    }
    receipt_settle(b, open->receipt, 0);
}

void receipt_settle(struct broker *b, struct receipt *r, uint64_t lsn)
{
    assert(r->waiting > 0);
    r->lsn = lsn > r->lsn ? lsn : r->lsn;
    if (--r->waiting > 0) {
        return;
    }
    if (r->link) {
        arrive_answer(b, r->link, r->number, r->reason, r->logged, r->lsn);
        list_remove(&r->in_conn);
        receipt_free(b, r);
        return;
    }
    if (!r->conn) {
        if (r->returned_uid != 0) {
            journal_discard(b, r->returned_group, r->returned_uid, r->returned_number);
        }
        receipt_free(b, r);
        return;
    }
    send_settled(b, r->conn);
}

void receipt_shard_done(struct broker *b, unsigned shard, uint32_t count, uint64_t lsn)
{
    struct receipt_fifo *fifo = &b->receipts[shard];

    for (uint32_t i = 0; i < count; i++) {
        assert(fifo->head != fifo->tail);
        receipt_settle(b, fifo->ring[fifo->head++ & fifo->mask], lsn);
    }
}

void receipt_orphan(struct conn *conn)
{
    struct broker *b = broker_of(conn);
    struct list *at;

    while ((at = list_pop(&conn->receipts)) != NULL) {
        struct receipt *r = CONTAINER_OF(at, struct receipt, in_conn);
        r->conn = NULL;
        if (r->waiting == 0) { /* it only stood in line */
            receipt_free(b, r);
        } else if (r->type == MQTT_PUBREC && r->publisher != 0) {
            r->orphaned = map_add(&b->receipts_orphaned, orphan_hash(r->publisher, r->packet_id), r) == 0;
        }
    }
    conn->receipt_count = conn->puback_count = conn->held_count = 0;
}

struct orphan_key {
    uint64_t session;
    uint16_t packet_id;
};

static bool is_orphan(const void *value, const void *key)
{
    const struct receipt *r = value;
    const struct orphan_key *k = key;

    return r->publisher == k->session && r->packet_id == k->packet_id;
}

bool receipt_adopt(struct broker *b, struct conn *conn, uint16_t packet_id)
{
    struct orphan_key key = {conn->session->uid, packet_id};
    uint64_t hash = orphan_hash(key.session, packet_id);
    struct receipt *r = map_find(&b->receipts_orphaned, hash, is_orphan, &key);

    if (!r) {
        return false;
    }
    map_remove(&b->receipts_orphaned, hash, r);
    r->orphaned = false;
    r->conn = conn;
    r->held = false;
    list_append(&conn->receipts, &r->in_conn);
    conn->receipt_count++;
    return true;
}

void receipt_orphan_all(struct list *receipts)
{
    struct list *at;

    while ((at = list_pop(receipts)) != NULL) { /* each is waited for: what is settled has left the list */
        CONTAINER_OF(at, struct receipt, in_conn)->link = NULL;
    }
}

void receipt_answer(struct broker *b, struct receipt_ref ref)
{
    if (!ref.receipt) {
        return;
    }
    if (ref.from == b->shard->index) {
        ref.receipt->logged |= b->journal.writer.bytes.len > 0; /* perhaps in answering */
        receipt_settle(b, ref.receipt, 0);
        return;
    }
    struct mail mail = {.kind = MAIL_RECEIPT_SETTLE, .ptr = ref.receipt};
    journal_answer(b, ref.from, &mail);
}

void receipt_reason(struct broker *b, struct receipt_ref ref, enum mqtt_reason reason)
{
    if (!ref.receipt) {
        return;
    }
    if (ref.from == b->shard->index) {
        ref.receipt->reason = (uint8_t)reason;
        return;
    }
    struct mail mail = {.kind = MAIL_RECEIPT_REASON, .ptr = ref.receipt, .n = (uint32_t)reason};
    broker_answer(b, ref.from, &mail);
}
