/* clock.h -- the door to time and chance. Nothing else asks the system for either.
 *
 * The simulator and the tests replace both through clock_set(). */
#ifndef TERN_PROTO_BASE_CLOCK_H
#define TERN_PROTO_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_mono_ns(void); /* since some fixed moment; never goes back */
uint64_t clock_wall_ms(void); /* since 1970-01-01 UTC; may be set */

/* Fill len bytes at out from the system's random numbers, for keys and identifiers. */
void clock_random(void *out, size_t len);

struct clock_source {
    uint64_t (*mono_ns)(void);
    uint64_t (*wall_ms)(void);
    void (*random)(void *out, size_t len);
};

/* Use another source from now on (NULL: the system's). Only before the threads start. */
void clock_set(const struct clock_source *source);

#endif
