/* fuzz_timer.c -- the wheel against a plain list of due times: nothing fires early, late, twice or not at all. */
#include "broker/loop/timer.h"

#include <assert.h>
#include <string.h>

#define TIMERS 24
#define TICK_MS 8

static struct timer_wheel *wheel;
static uint64_t now;
static struct model {
    struct timer timer;
    bool armed;
    uint64_t due_ms;
    uint8_t rearm; /* 0: not; else set anew by the callback, so far ahead */
} models[TIMERS];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t delay(uint8_t what, uint8_t how)
{
    uint64_t ms = UINT64_C(1) << (how % 36);
    return ms - 1 + what;
}

static void fired(struct timer *timer, uint64_t now_ms)
{
    struct model *m = CONTAINER_OF(timer, struct model, timer);

    assert(now_ms == now);
    assert(m->armed);
    assert(m->due_ms <= now);
    assert(!timer_armed(timer));
    m->armed = false;
    if (m->rearm) {
        m->due_ms = now + delay(m->rearm, m->rearm);
        m->armed = true;
        m->rearm = 0;
        timer_set(wheel, timer, m->due_ms);
    }
}

/* What must hold between two runs. `complete`: the last run had budget left. */
static void check(bool complete)
{
    uint64_t next = timer_next_ms(wheel), earliest = UINT64_MAX;

    for (unsigned i = 0; i < TIMERS; i++) {
        assert(timer_armed(&models[i].timer) == models[i].armed);
        if (models[i].armed && models[i].due_ms < earliest) {
            earliest = models[i].due_ms;
        }
    }
    assert((next == UINT64_MAX) == (earliest == UINT64_MAX));
    if (earliest == UINT64_MAX) {
        return;
    }
    uint64_t rounded = (earliest + TICK_MS - 1) / TICK_MS * TICK_MS;
    assert(next <= (rounded > now ? rounded : now));
    assert(!complete || earliest + TICK_MS > now);
}

static void run(unsigned budget)
{
    unsigned armed = 0;

    for (unsigned i = 0; i < TIMERS; i++) {
        armed += models[i].armed;
    }
    unsigned count = timer_run(wheel, now, budget);
    assert(count <= budget);
    assert(count <= armed);
    check(budget == UINT32_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 8) {
        return 0;
    }
    memcpy(&now, data, 8);
    now >>= 12; /* leaves room above for all delays */
    assert(timer_wheel_new(now, &wheel) == 0);
    for (unsigned i = 0; i < TIMERS; i++) {
        models[i] = (struct model){0};
        timer_init(&models[i].timer, fired);
    }
    for (size_t at = 8; at + 4 <= size; at += 4) {
        struct model *m = &models[data[at + 1] % TIMERS];
        uint64_t ms = delay(data[at + 2], data[at + 3]);
        switch (data[at] % 6) {
        case 0:
        case 1:
            m->due_ms = now + ms;
            m->armed = true;
            timer_set(wheel, &m->timer, m->due_ms);
            break;
        case 2: /* in the past */
            m->due_ms = ms < now ? now - ms : 0;
            m->armed = true;
            timer_set(wheel, &m->timer, m->due_ms);
            break;
        case 3:
            m->armed = false;
            timer_cancel(wheel, &m->timer);
            break;
        case 4:
            m->rearm = data[at + 2];
            now += ms;
            run(UINT32_MAX);
            break;
        default:
            now += ms;
            run(data[at + 1] % 8);
            break;
        }
        check(false);
    }
    /* A sleeper that follows timer_next_ms finds all. */
    for (unsigned sleeps = 0; timer_next_ms(wheel) != UINT64_MAX; sleeps++) {
        assert(sleeps < 16 * TIMERS);
        now = timer_next_ms(wheel) > now ? timer_next_ms(wheel) : now;
        run(UINT32_MAX);
    }
    timer_wheel_free(wheel);
    return 0;
}
