/* clock_test.c -- the system's clocks, and another source in their place. */
#include "proto/base/clock.h"
#include "tests/lib/unit.h"

#include <time.h>

static uint64_t fake_mono_ns(void)
{
    return 11;
}

static uint64_t fake_wall_ms(void)
{
    return 22;
}

static void fake_random(void *out, size_t len)
{
    memset(out, 0x33, len);
}

static void test_system(void)
{
    uint64_t before = clock_mono_ns();
    uint64_t after = clock_mono_ns();
    CHECK(after >= before);
    CHECK(clock_wall_ms() > 1577836800000u); /* 2020 */

    uint8_t random[64] = {0}, more[64] = {0};
    clock_random(random, sizeof(random));
    clock_random(more, sizeof(more));
    CHECK(memcmp(random, more, sizeof(random)) != 0);
    CHECK(random[63] || random[62] || random[61] || random[60] || random[59] || random[58] || random[57] || random[56]);
}

static void test_units(void)
{
    uint64_t before_ns = clock_mono_ns(), before_s = (uint64_t)time(NULL);
    for (int i = 0; i < 20; i++) { /* at twenty places of a second, for a wrong fraction is not wrong everywhere */
        uint64_t wall_ms = clock_wall_ms();
        CHECK(wall_ms / 1000 + 1 >= before_s); /* time() may read a coarser clock */
        CHECK(wall_ms / 1000 <= (uint64_t)time(NULL) + 1);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    uint64_t slept_ns = clock_mono_ns() - before_ns;
    CHECK(slept_ns >= 20u * 5000000u);
    CHECK(slept_ns < 60000000000u);
}

static void test_other_source(void)
{
    static const struct clock_source fake = {fake_mono_ns, fake_wall_ms, fake_random};
    uint8_t random[3] = {0};
    clock_set(&fake);
    clock_random(random, 2);
    CHECK(clock_mono_ns() == 11);
    CHECK(clock_wall_ms() == 22);
    CHECK(random[0] == 0x33 && random[1] == 0x33 && random[2] == 0);
    clock_set(NULL);
    CHECK(clock_wall_ms() > 22);
}

UNIT_MAIN("proto/base/clock", {"system", test_system}, {"units", test_units}, {"other source", test_other_source})
