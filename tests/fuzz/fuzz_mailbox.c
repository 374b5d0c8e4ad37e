/* fuzz_mailbox.c -- the mail of three shards against counters: nothing lost, doubled, overtaken, early, or asleep
 * beside mail. */
#include "broker/loop/mailbox.h"

#include <assert.h>
#include <string.h>

#define SHARDS 3

static struct pair {
    uint64_t posted, flushed, taken;
} pairs[SHARDS][SHARDS];
static bool asleep[SHARDS];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reader {
    unsigned to;
};

static void take(void *context, const struct mail *mail)
{
    unsigned to = ((struct reader *)context)->to;

    assert(mail->from < SHARDS);
    struct pair *p = &pairs[mail->from][to];
    assert(mail->a == p->taken);
    assert(mail->n == (uint32_t)(mail->a * 7));
    assert(p->taken < p->flushed);
    p->taken++;
}

/* Mail that a receiver can see: what has been flushed as far as the ring had room. */
static void flush(struct mail_office *office, unsigned from)
{
    uint64_t want = 0;
    bool congested = false;

    for (unsigned to = 0; to < SHARDS; to++) {
        struct pair *p = &pairs[from][to];
        uint64_t room = p->taken + MAIL_RING_SLOTS, before = p->flushed;
        p->flushed = p->posted < room ? p->posted : room;
        congested = congested || p->flushed < p->posted;
        if (p->flushed > before && asleep[to]) {
            want |= UINT64_C(1) << to;
            asleep[to] = false;
        }
    }
    assert(mail_flush(office, from) == want);
    assert(mail_congested(office, from) == congested);
    mail_woken(office, from);
}

static uint64_t visible(unsigned to)
{
    uint64_t count = 0;
    for (unsigned from = 0; from < SHARDS; from++) {
        count += pairs[from][to].flushed - pairs[from][to].taken;
    }
    return count;
}

static void drain(struct mail_office *office, unsigned to, unsigned budget)
{
    struct reader reader = {to};
    uint64_t want = visible(to) < budget ? visible(to) : budget;
    assert(mail_drain(office, to, budget, take, &reader) == want);
}

static void step(struct mail_office *office, const uint8_t *op)
{
    unsigned from = op[1] % SHARDS, to = op[1] / SHARDS % SHARDS;
    struct pair *p = &pairs[from][to];

    switch (op[0] % 5) {
    case 0:
        for (unsigned i = 0; i < 40u * op[2]; i++) {
            struct mail mail = {.kind = 1, .from = 77, .n = (uint32_t)(p->posted * 7), .a = p->posted};
            assert(mail_post(office, from, to, &mail) == 0);
            p->posted++;
        }
        break;
    case 1:
        flush(office, from);
        break;
    case 2:
        drain(office, to, 30u * op[2]);
        break;
    case 3:
        if (!asleep[to]) {
            asleep[to] = mail_may_sleep(office, to);
            assert(asleep[to] == (visible(to) == 0));
        }
        break;
    default:
        mail_awake(office, to);
        asleep[to] = false;
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mail_office *office;

    memset(pairs, 0, sizeof(pairs));
    memset(asleep, 0, sizeof(asleep));
    assert(mail_office_new(SHARDS, &office) == 0);
    for (size_t at = 0; at + 3 <= size && at < 300; at += 3) {
        step(office, data + at);
    }
    for (unsigned rest = 1; rest;) { /* all of it arrives in the end */
        rest = 0;
        for (unsigned from = 0; from < SHARDS; from++) {
            flush(office, from);
        }
        for (unsigned to = 0; to < SHARDS; to++) {
            rest += visible(to) > 0;
            drain(office, to, UINT32_MAX);
        }
    }
    for (unsigned from = 0; from < SHARDS; from++) {
        for (unsigned to = 0; to < SHARDS; to++) {
            assert(pairs[from][to].taken == pairs[from][to].posted);
        }
    }
    mail_office_free(office);
    return 0;
}
