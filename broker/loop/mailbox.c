/* mailbox.c -- rings between shards, and who has to be woken.
 *
 * One ring for each ordered pair (from, to). Its tail is written by the sender alone, its head by the receiver alone,
 * each on a cache line of its own; each side keeps a copy of the other's index and looks at the real one only when the
 * copy says full or empty. mail_post writes slots and mail_flush publishes them, so that a turn's mail costs one store.
 *
 * Which senders have mail is one word a receiver: flush sets the sender's bit, drain takes the whole word before it
 * looks at the rings. It is the sleep protocol too. The sender sets its bit and then reads `asleep`; the receiver sets
 * `asleep` and then reads the word; all four in one total order, so at least one of them sees the other. */
#include "broker/loop/mailbox.h"
#include "proto/base/slice.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SHARDS_BITS 64 /* of the masks */
#define OVER_KEPT 1024 /* mails */
#define DRAIN_CHUNK 64 /* mails taken from one sender before the next has its turn */
#define PREFETCH 3     /* mails ahead */
#define SLOT(index) ((index) & (MAIL_RING_SLOTS - 1))

_Static_assert((MAIL_RING_SLOTS & (MAIL_RING_SLOTS - 1)) == 0, "indexes wrap by mask");
_Static_assert(sizeof(struct mail) == 48, "a mail is 48 bytes");
_Static_assert(OVER_KEPT > MAIL_RESERVE, "what is kept holds the reserve");

struct ring {
    /* The sender's. Mails that found no room wait in `over`, from over_at on; none goes into the ring past them. */
    uint32_t tail, head_seen;
    struct mail *over; /* owned */
    uint32_t over_at, over_count, over_cap;
    _Alignas(64) atomic_uint tail_published;
    /* The receiver's. */
    _Alignas(64) uint32_t head, tail_seen;
    _Alignas(64) atomic_uint head_published;
    _Alignas(64) struct mail slots[MAIL_RING_SLOTS];
};

struct desk {
    /* Written by all. */
    _Alignas(64) atomic_uint_fast64_t inbox; /* senders that have flushed mail to this shard */
    atomic_bool asleep;
    atomic_bool waking; /* this shard is about to wake others */
    /* This shard's own. */
    _Alignas(64) uint64_t posted; /* receivers with mail since the last flush */
    uint64_t waiting;             /* receivers with mail in an overflow */
    uint64_t pending;             /* senders whose rings may hold mail */
    unsigned next;                /* the sender that drain begins with */
};

struct mail_office {
    unsigned shard_count;
    struct ring *rings; /* owned: from * shard_count + to */
    struct desk desks[SHARDS_BITS];
};

static struct ring *ring_of(const struct mail_office *office, unsigned from, unsigned to)
{
    return &office->rings[(size_t)from * office->shard_count + to];
}

int mail_office_new(unsigned shard_count, struct mail_office **ret_office)
{
    struct mail_office *office = NULL;

    assert(shard_count > 0);
    assert(shard_count <= SHARDS_BITS);
    if (posix_memalign((void **)&office, 64, sizeof(*office)) != 0) {
        return -ENOMEM;
    }
    memset(office, 0, sizeof(*office));
    office->shard_count = shard_count;
    /* Zero pages: a pair that never writes costs address space only. */
    size_t bytes = sizeof(struct ring) * shard_count * shard_count;
    office->rings = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (office->rings == MAP_FAILED) {
        free(office);
        return -ENOMEM;
    }
    *ret_office = office;
    return 0;
}

void mail_office_free(struct mail_office *office)
{
    if (!office) {
        return;
    }
    size_t count = (size_t)office->shard_count * office->shard_count;
    for (size_t i = 0; i < count; i++) {
        free(office->rings[i].over);
    }
    munmap(office->rings, sizeof(struct ring) * count);
    free(office);
}

/* Room in the ring for one and `more`, as far as the sender knows or can find out. */
static bool ring_room(struct ring *r, uint32_t more)
{
    if (r->tail - r->head_seen + more < MAIL_RING_SLOTS) {
        return true;
    }
    r->head_seen = atomic_load_explicit(&r->head_published, memory_order_acquire);
    return r->tail - r->head_seen + more < MAIL_RING_SLOTS;
}

/* Make room for `count` more at the end of the overflow. */
static int over_room(struct ring *r, uint32_t count)
{
    if (r->over_cap - r->over_at - r->over_count >= count) {
        return 0;
    }
    if (r->over_at > r->over_cap / 2 && r->over_cap - r->over_count >= count) {
        memmove(r->over, r->over + r->over_at, r->over_count * sizeof(*r->over));
        r->over_at = 0;
        return 0;
    }
    uint32_t cap = r->over_cap ? 2 * r->over_cap : OVER_KEPT; /* more than MAIL_RESERVE, so doubling is enough */
    struct mail *over = cap > r->over_cap ? realloc(r->over, cap * sizeof(*over)) : NULL;
    if (!over) {
        return -ENOMEM;
    }
    r->over = over;
    r->over_cap = cap;
    return 0;
}

/* Move what fits from the overflow into the ring. A little memory is kept: who overflowed once will again, and it is
 * the reserve of a ring that is still nearly full. */
static void over_refill(struct ring *r)
{
    while (r->over_count && ring_room(r, 0)) {
        r->slots[SLOT(r->tail++)] = r->over[r->over_at++];
        r->over_count--;
    }
    if (r->over_count > 0) {
        return;
    }
    r->over_at = 0;
    if (r->over_cap > OVER_KEPT) {
        struct mail *over = realloc(r->over, OVER_KEPT * sizeof(*over));
        r->over = over ? over : r->over;
        r->over_cap = over ? OVER_KEPT : r->over_cap;
    }
}

/* `keep` places of ring and overflow together must be left behind this mail. */
static int post(struct mail_office *office, unsigned from, unsigned to, const struct mail *mail, uint32_t keep)
{
    assert(from < office->shard_count);
    assert(to < office->shard_count);
    struct ring *r = ring_of(office, from, to);
    struct desk *desk = &office->desks[from];

    bool in_ring = r->over_count == 0 && ring_room(r, 0);
    if (!(in_ring && ring_room(r, keep)) && over_room(r, in_ring ? keep : keep + 1) != 0) {
        return -ENOMEM;
    }
    if (in_ring) {
        struct mail *slot = &r->slots[SLOT(r->tail++)];
        *slot = *mail;
        slot->from = (uint16_t)from;
        desk->posted |= UINT64_C(1) << to;
        return 0;
    }
    struct mail *place = &r->over[r->over_at + r->over_count++];
    *place = *mail;
    place->from = (uint16_t)from;
    desk->waiting |= UINT64_C(1) << to;
    return 0;
}

int mail_post(struct mail_office *office, unsigned from, unsigned to, const struct mail *mail)
{
    return post(office, from, to, mail, MAIL_RESERVE);
}

int mail_post_answer(struct mail_office *office, unsigned from, unsigned to, const struct mail *mail)
{
    return post(office, from, to, mail, 0);
}

uint64_t mail_flush(struct mail_office *office, unsigned from)
{
    struct desk *desk = &office->desks[from];
    uint64_t wake = 0, targets = desk->posted | desk->waiting;

    desk->posted = 0;
    for (; targets; targets &= targets - 1) {
        unsigned to = (unsigned)__builtin_ctzll(targets);
        struct ring *r = ring_of(office, from, to);
        over_refill(r);
        if (r->over_count == 0) {
            desk->waiting &= ~(UINT64_C(1) << to);
        }
        if (atomic_load_explicit(&r->tail_published, memory_order_relaxed) == r->tail) {
            continue; /* waits in the overflow as before */
        }
        atomic_store_explicit(&r->tail_published, r->tail, memory_order_release);
        struct desk *target = &office->desks[to];
        atomic_fetch_or(&target->inbox, UINT64_C(1) << from);
        if (!atomic_load(&target->asleep)) {
            continue;
        }
        atomic_store(&desk->waking, true); /* before the claim: mail_leave waits for whoever may have one */
        if (atomic_exchange(&target->asleep, false)) {
            wake |= UINT64_C(1) << to;
        }
    }
    if (!wake && atomic_load_explicit(&desk->waking, memory_order_relaxed)) {
        mail_woken(office, from);
    }
    return wake;
}

void mail_woken(struct mail_office *office, unsigned from)
{
    atomic_store(&office->desks[from].waking, false);
}

bool mail_congested(const struct mail_office *office, unsigned from)
{
    return office->desks[from].waiting != 0;
}

/* Handle at most budget mails of one ring. Returns how many; *ret_empty tells whether it was emptied. */
static unsigned ring_drain(struct ring *r, unsigned budget, mail_handle *handle, void *context, bool *ret_empty)
{
    if (r->head == r->tail_seen) {
        r->tail_seen = atomic_load_explicit(&r->tail_published, memory_order_acquire);
    }
    unsigned count = r->tail_seen - r->head;
    assert(count <= MAIL_RING_SLOTS);
    if (count > budget) {
        count = budget;
    }
    for (unsigned i = 0; i < count; i++) {
        if (i + PREFETCH < count) { /* written by another core: ask for it before it is needed */
            __builtin_prefetch(r->slots[SLOT(r->head + PREFETCH)].ptr);
        }
        handle(context, &r->slots[SLOT(r->head++)]);
    }
    if (count) {
        atomic_store_explicit(&r->head_published, r->head, memory_order_release);
    }
    if (r->head == r->tail_seen) {
        r->tail_seen = atomic_load_explicit(&r->tail_published, memory_order_acquire);
    }
    *ret_empty = r->head == r->tail_seen;
    return count;
}

unsigned mail_drain(struct mail_office *office, unsigned to, unsigned budget, mail_handle *handle, void *context)
{
    struct desk *desk = &office->desks[to];
    unsigned done = 0;

    if (atomic_load_explicit(&desk->inbox, memory_order_relaxed)) {
        desk->pending |= atomic_exchange(&desk->inbox, 0);
    }
    while (desk->pending && done < budget) {
        uint64_t behind = desk->pending >> desk->next << desk->next;
        unsigned from = (unsigned)__builtin_ctzll(behind ? behind : desk->pending);
        unsigned chunk = budget - done < DRAIN_CHUNK ? budget - done : DRAIN_CHUNK;
        bool empty;
        done += ring_drain(ring_of(office, from, to), chunk, handle, context, &empty);
        if (empty) {
            desk->pending &= ~(UINT64_C(1) << from);
        }
        desk->next = (from + 1) % SHARDS_BITS;
    }
    return done;
}

bool mail_may_sleep(struct mail_office *office, unsigned to)
{
    struct desk *desk = &office->desks[to];

    if (desk->pending) {
        return false;
    }
    atomic_store(&desk->asleep, true);
    if (atomic_load(&desk->inbox)) {
        atomic_store(&desk->asleep, false);
        return false;
    }
    return true;
}

void mail_awake(struct mail_office *office, unsigned to)
{
    if (atomic_load_explicit(&office->desks[to].asleep, memory_order_relaxed)) {
        atomic_store(&office->desks[to].asleep, false);
    }
}

void mail_leave(struct mail_office *office, unsigned to)
{
    atomic_store(&office->desks[to].asleep, false);
    for (unsigned from = 0; from < office->shard_count; from++) {
        /* A claim that this store came too late for was announced before; wakes take microseconds. */
        while (from != to && atomic_load(&office->desks[from].waking)) {
            sched_yield();
        }
    }
}
