/* timer.c -- the wheel: four levels of 256 slots, a slot of level L being 256^L ticks of 8 ms wide.
 *
 * A timer lies on the level of the highest byte in which its due tick differs from the wheel's tick, in the slot of
 * that byte. So level 0 holds what is due within the current 256 ticks, and a slot of a higher level is spread over the
 * lower ones when the wheel enters it. 256 slots make one spreading out of a keep alive of minutes. One bit a slot says
 * where anything is, so empty time costs nothing however long it was. The top level is a circle: with due ticks at most
 * 2^29 ahead it is never full. */
#include "broker/loop/timer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define TICK_MS 8
#define LEVELS 4
#define SLOT_BITS 8
#define SLOTS (1u << SLOT_BITS)
#define HORIZON_TICKS (UINT64_C(0xffffffff) / TICK_MS)

struct timer_wheel {
    uint64_t tick;     /* everything due before has left the slots */
    uint64_t now_ms;   /* of the last timer_run */
    uint64_t now_tick; /* the same in ticks, >= tick */
    struct list soon;  /* was already due when set: fires in the next run */
    struct list due;   /* fires in this run, or goes on in the next */
    uint64_t used[LEVELS][SLOTS / 64];
    struct list slots[LEVELS][SLOTS];
};

int timer_wheel_new(uint64_t now_ms, struct timer_wheel **ret_wheel)
{
    struct timer_wheel *w = calloc(1, sizeof(*w));
    if (!w) {
        return -ENOMEM;
    }
    w->now_ms = now_ms;
    w->tick = w->now_tick = now_ms / TICK_MS;
    list_init(&w->soon);
    list_init(&w->due);
    for (unsigned level = 0; level < LEVELS; level++) {
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            list_init(&w->slots[level][slot]);
        }
    }
    *ret_wheel = w;
    return 0;
}

void timer_wheel_free(struct timer_wheel *wheel)
{
    free(wheel);
}

static unsigned slot_at(uint64_t tick, unsigned level)
{
    return (unsigned)(tick >> (SLOT_BITS * level)) & (SLOTS - 1);
}

static void wheel_insert(struct timer_wheel *w, struct timer *timer)
{
    if (timer->due_ms <= w->now_ms) {
        list_append(&w->soon, &timer->link);
        return;
    }
    uint64_t due = timer->due_ms / TICK_MS + (timer->due_ms % TICK_MS != 0);
    if (due - w->tick > HORIZON_TICKS) {
        due = w->tick + HORIZON_TICKS; /* from the wheel's tick, not now: only so far is the circle unambiguous */
    }
    uint64_t differ = due ^ w->tick; /* not 0: due > now_tick >= tick */
    unsigned level = (63 - (unsigned)__builtin_clzll(differ)) / SLOT_BITS;
    if (level >= LEVELS) {
        level = LEVELS - 1;
    }
    unsigned slot = slot_at(due, level);
    list_append(&w->slots[level][slot], &timer->link);
    w->used[level][slot / 64] |= UINT64_C(1) << (slot % 64);
}

void timer_cancel(struct timer_wheel *wheel, struct timer *timer)
{
    struct list *head = timer->link.next;
    bool alone = head == timer->link.prev;

    list_remove(&timer->link);
    if (alone && head >= &wheel->slots[0][0] && head < &wheel->slots[0][0] + LEVELS * SLOTS) {
        unsigned index = (unsigned)(head - &wheel->slots[0][0]), slot = index % SLOTS;
        wheel->used[index / SLOTS][slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    }
}

void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t due_ms)
{
    if (timer_armed(timer)) {
        timer_cancel(wheel, timer);
    }
    timer->due_ms = due_ms;
    wheel_insert(wheel, timer);
}

/* The first used slot of a level at `from` or behind it, around the circle once; SLOTS if there is none. */
static unsigned slot_used(const struct timer_wheel *w, unsigned level, unsigned from)
{
    const uint64_t *used = w->used[level];
    uint64_t bits = used[from / 64] >> (from % 64) << (from % 64);

    for (unsigned i = 0; i <= SLOTS / 64; i++) {
        unsigned word = (from / 64 + i) % (SLOTS / 64);
        if (i > 0) {
            bits = used[word];
        }
        if (bits) {
            return word * 64 + (unsigned)__builtin_ctzll(bits);
        }
    }
    return SLOTS;
}

/* The tick at which something has to be done, and in which slot. UINT64_MAX: nowhere. */
static uint64_t wheel_next(const struct timer_wheel *w, unsigned *ret_level, unsigned *ret_slot)
{
    /* A slot of a higher level that the wheel has entered comes before all else: it may hold what is due now. */
    for (unsigned level = LEVELS - 1; level > 0; level--) {
        unsigned slot = slot_at(w->tick, level);
        if (w->used[level][slot / 64] >> (slot % 64) & 1) {
            *ret_level = level;
            *ret_slot = slot;
            return w->tick;
        }
    }
    for (unsigned level = 0; level < LEVELS; level++) {
        unsigned now = slot_at(w->tick, level), slot = slot_used(w, level, now);
        if (slot < SLOTS) {
            unsigned shift = SLOT_BITS * level;
            *ret_level = level;
            *ret_slot = slot;
            return ((w->tick >> shift) + ((slot - now) & (SLOTS - 1))) << shift;
        }
    }
    return UINT64_MAX;
}

uint64_t timer_next_ms(const struct timer_wheel *wheel)
{
    unsigned level, slot;

    if (!list_empty(&wheel->soon) || !list_empty(&wheel->due)) {
        return wheel->now_ms;
    }
    uint64_t tick = wheel_next(wheel, &level, &slot);
    return tick == UINT64_MAX ? UINT64_MAX : tick * TICK_MS;
}

/* Take the first timer out of a slot. */
static struct timer *slot_pop(struct timer_wheel *w, unsigned level, unsigned slot)
{
    struct timer *timer = CONTAINER_OF(w->slots[level][slot].next, struct timer, link);

    assert(!list_empty(&w->slots[level][slot]));
    timer_cancel(w, timer);
    return timer;
}

/* Fire what was due when it was set. Returns how many. */
static unsigned run_due(struct timer_wheel *w, uint64_t now_ms, unsigned budget)
{
    unsigned fired = 0;
    struct list *node;

    list_splice(&w->due, &w->soon);
    while (fired < budget && (node = list_pop(&w->due)) != NULL) {
        struct timer *timer = CONTAINER_OF(node, struct timer, link);
        fired++;
        timer->fire(timer, now_ms);
    }
    return fired;
}

unsigned timer_run(struct timer_wheel *wheel, uint64_t now_ms, unsigned budget)
{
    assert(now_ms >= wheel->now_ms);
    wheel->now_ms = now_ms;
    wheel->now_tick = now_ms / TICK_MS;
    unsigned fired = run_due(wheel, now_ms, budget), work = fired;

    while (work < budget) {
        unsigned level, slot;
        uint64_t tick = wheel_next(wheel, &level, &slot);
        if (tick > wheel->now_tick) {
            wheel->tick = wheel->now_tick;
            break;
        }
        wheel->tick = tick;
        struct timer *timer = slot_pop(wheel, level, slot);
        work++;
        if (level > 0 && timer->due_ms > now_ms) {
            wheel_insert(wheel, timer);
        } else {
            fired++;
            timer->fire(timer, now_ms);
        }
    }
    return fired;
}
