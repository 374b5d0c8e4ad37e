/* clock.c -- the system's time and random numbers, and the switch to another source. */
#include "proto/base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static uint64_t system_mono_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t system_wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void system_random(void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            abort(); /* a key that can be guessed is worse than no broker */
        }
        at += got;
        len -= (size_t)got;
    }
}

static const struct clock_source system_source = {system_mono_ns, system_wall_ms, system_random};
static const struct clock_source *source_now = &system_source;

uint64_t clock_mono_ns(void)
{
    return source_now->mono_ns();
}

uint64_t clock_wall_ms(void)
{
    return source_now->wall_ms();
}

void clock_random(void *out, size_t len)
{
    source_now->random(out, len);
}

void clock_set(const struct clock_source *source)
{
    source_now = source ? source : &system_source;
}
