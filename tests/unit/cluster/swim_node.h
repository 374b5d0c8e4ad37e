/* swim_node.h -- one SWIM node, and peers of which each datagram is written by hand.
 *
 * Who includes this compiles SWIM's files itself, with allocations that can fail (tests/lib/alloc_fail.h). */
#ifndef TERN_TESTS_UNIT_CLUSTER_SWIM_NODE_H
#define TERN_TESTS_UNIT_CLUSTER_SWIM_NODE_H

#include "tests/lib/alloc_fail.h"
/* alloc_fail.h stands first: these are compiled with it. */
#include "cluster/swim.c"
#include "proto/base/buf.c"

#include <stdio.h>

#include "tests/lib/unit.h"

#define ME 1
#define START_MS 1000000
#define BOOT 10

static struct swim *s;
static uint64_t now;

/* What went out since the last look, oldest first. */
#define SENT_MAX 512
static struct sent {
    struct swim_message head;
    struct member_address to;
    unsigned rumour_count;
    struct swim_rumour rumours[20];
} sent[SENT_MAX];
static unsigned sent_count;

static unsigned changes, conflicts;
static struct member changed_last;
static enum member_state changed_before;

static inline struct node_id id_of(unsigned i)
{
    return (struct node_id){{0xd0, (uint8_t)(i >> 8), (uint8_t)i}};
}

static inline struct member_address address_of(unsigned i)
{
    return (struct member_address){.family = 4, .bytes = {10, 1, (uint8_t)(i >> 8), (uint8_t)i}, .port = 7000};
}

static inline struct swim_rumour record(unsigned i, enum member_state state, uint64_t boot, uint32_t incarnation)
{
    struct swim_rumour r = {.member = {.id = id_of(i),
                                       .boot = boot,
                                       .incarnation = incarnation,
                                       .state = state,
                                       .address = address_of(i),
                                       .shards = 1}};
    snprintf(r.member.name, sizeof(r.member.name), "node-%u", i);
    if (state == MEMBER_SUSPECT || state == MEMBER_DEAD) {
        r.accuser = id_of(200);
    }
    return r;
}

static inline void on_send(void *arg, const struct member_address *to, struct slice plain)
{
    struct sent *out = &sent[sent_count < SENT_MAX - 1 ? sent_count++ : sent_count];

    (void)arg;
    *out = (struct sent){.to = *to};
    CHECK(plain.len <= SWIM_DATAGRAM_MAX);
    CHECK(swim_message_decode(plain, &out->head) == 0);
    while (out->rumour_count < COUNT_OF(out->rumours) &&
           swim_rumour_next(&out->head.rumours, &out->rumours[out->rumour_count])) {
        out->rumour_count++;
    }
}

static inline void on_changed(void *arg, const struct member *member, enum member_state before)
{
    (void)arg;
    changes++;
    changed_last = *member;
    changed_before = before;
}

static inline void on_conflict(void *arg, const struct member *claimed)
{
    (void)arg;
    (void)claimed;
    conflicts++;
}

static unsigned foreigners;

static inline void on_foreign(void *arg, const struct member *member)
{
    (void)arg;
    (void)member;
    foreigners++;
}

static inline struct swim_options options(void)
{
    return (struct swim_options){.self = record(ME, MEMBER_ALIVE, BOOT, 0).member,
                                 .driver = {NULL, on_send, on_changed, on_conflict, on_foreign},
                                 .now_ms = START_MS,
                                 .seed = 5};
}

static inline void look_away(void)
{
    sent_count = changes = conflicts = foreigners = 0;
}

static inline void begin(void)
{
    struct swim_options o = options();

    now = START_MS;
    CHECK(swim_new(&o, &s) == 0);
    look_away();
}

static inline void end(void)
{
    swim_free(s);
    s = NULL;
}

/* A datagram from node `from`, of which the head says that it is in its first boot. */
static inline void receive(enum swim_kind kind, unsigned from, uint32_t seq, unsigned subject,
                           const struct swim_rumour *r)
{
    struct swim_message m = {.kind = kind, .sender = id_of(from), .boot = 1, .seq = seq};
    struct member_address address = address_of(from);
    struct buf b = {0};

    m.subject = subject ? id_of(subject) : m.subject;
    swim_head_encode(&m, &b);
    if (r) {
        swim_rumour_encode(r, &b);
    }
    swim_receive(s, now, &address, buf_slice(&b));
    buf_deinit(&b);
}

/* By an answer to no question: of all kinds the one to which nothing is answered, not even by a stranger's. */
static inline void hear(enum member_state state, unsigned of, uint64_t boot, uint32_t incarnation)
{
    struct swim_rumour r = record(of, state, boot, incarnation);
    receive(SWIM_ACK, 200, 0, 200, &r);
}

/* Members 2 .. 1 + count are alive in boot 1. */
static inline void know(unsigned count)
{
    for (unsigned i = 2; i < 2 + count; i++) {
        hear(MEMBER_ALIVE, i, 1, 0);
    }
    look_away();
}

static inline enum member_state state_of(unsigned i)
{
    struct node_id id = id_of(i);
    const struct member *m = swim_find(s, &id);

    return m ? m->state : MEMBER_NONE;
}

static inline const struct member *me(void)
{
    struct node_id id = id_of(ME);
    return swim_find(s, &id);
}

/* The first datagram of that kind since the last look. */
static inline const struct sent *sent_first(enum swim_kind kind)
{
    for (unsigned i = 0; i < sent_count; i++) {
        if (sent[i].head.kind == kind) {
            return &sent[i];
        }
    }
    return NULL;
}

static inline unsigned sent_of(enum swim_kind kind)
{
    unsigned count = 0;

    for (unsigned i = 0; i < sent_count; i++) {
        count += sent[i].head.kind == kind;
    }
    return count;
}

/* Every ping is answered but those to `silent`. */
static inline void pass(uint64_t ms, unsigned silent)
{
    for (uint64_t until = now + ms; now < until;) {
        unsigned from = sent_count;
        now++;
        if (now >= swim_due(s)) {
            swim_tick(s, now);
        }
        for (unsigned i = from; i < sent_count && i < SENT_MAX - 1; i++) {
            const struct sent out = sent[i];
            unsigned to = out.head.subject.bytes[2];
            if (out.head.kind == SWIM_PING && to != silent) {
                receive(SWIM_ACK, to, out.head.seq, to, NULL);
            }
        }
        sent_count = sent_count > SENT_MAX / 2 ? 0 : sent_count;
    }
}

/* The time until `of` is buried, while nobody answers for it. */
static inline uint64_t burial_ms(unsigned of)
{
    uint64_t from = now;

    while (state_of(of) == MEMBER_SUSPECT && now < from + 60000) {
        pass(1, of);
    }
    CHECK(state_of(of) == MEMBER_DEAD);
    return now - from;
}

static inline void accuse(unsigned of, unsigned accuser, enum member_state state)
{
    struct swim_rumour r = record(of, state, 1, 0);

    r.accuser = id_of(accuser);
    receive(SWIM_ACK, 200, 0, 200, &r);
}

#endif
