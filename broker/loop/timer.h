/* timer.h -- a hierarchical timing wheel (Varghese and Lauck 1987).
 *
 * Why: a million keep alives, of which hardly any ever fires. Adding and removing cost the same few instructions
 * whatever the number. Owners that push their deadline with every packet do not touch the wheel: they keep the true
 * deadline themselves and add the timer again when it fires too early. Resolution 8 ms; horizon 2^32 ms, later ones are
 * clamped and fire early. Touched by: its shard. */
#ifndef TERN_BROKER_LOOP_TIMER_H
#define TERN_BROKER_LOOP_TIMER_H

#include "proto/base/list.h"

#include <stdint.h>

struct timer;
struct timer_wheel;

typedef void timer_fire(struct timer *timer, uint64_t now_ms);

struct timer {
    struct list link;
    uint64_t due_ms;
    timer_fire *fire; /* may add the timer again, or free its owner */
};

int timer_wheel_new(uint64_t now_ms, struct timer_wheel **ret_wheel);
void timer_wheel_free(struct timer_wheel *wheel); /* forgets what is armed */

static inline void timer_init(struct timer *timer, timer_fire *fire)
{
    list_init(&timer->link);
    timer->due_ms = 0;
    timer->fire = fire;
}

static inline bool timer_armed(const struct timer *timer)
{
    return !list_empty(&timer->link);
}

/* Arm, or arm anew. A due_ms in the past fires in the next timer_run. Never fails. */
void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t due_ms);
void timer_cancel(struct timer_wheel *wheel, struct timer *timer); /* allowed when not armed */

/* Fire what is due at now_ms, at most `budget` timers; spreading a slot costs budget too, one a timer. Returns how many
 * fired; when the budget ran out timer_next_ms is not after now_ms. now_ms never goes back. */
unsigned timer_run(struct timer_wheel *wheel, uint64_t now_ms, unsigned budget);

/* When timer_run has to be called next: no later than the earliest due time, rounded up to the resolution; it may be
 * earlier (a slot of a higher level to be spread). UINT64_MAX when nothing is armed. */
uint64_t timer_next_ms(const struct timer_wheel *wheel);

#endif
