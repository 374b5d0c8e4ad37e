/* ledger_test.c -- connections counted in all and by address, by one thread and by several. */
#include "broker/conn/ledger.h"
#include "proto/base/prng.h"
#include "tests/lib/unit.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>

static struct in6_addr address(const char *text)
{
    struct in6_addr a;
    CHECK(inet_pton(AF_INET6, text, &a) == 1);
    return a;
}

static struct ledger *ledger(uint32_t connections_max, uint32_t per_address_max)
{
    struct ledger *l = NULL;
    CHECK(ledger_new(connections_max, per_address_max, &l) == 0);
    return l;
}

/* A row of arrivals and departures: `+a` address a comes and is let in, `-a` it comes and is refused, `.a` one of it
 * leaves. */
static const struct {
    const char *name;
    uint32_t connections_max, per_address_max;
    const char *events;
} rows[] = {
    {"no limits", 0, 0, "+a+a+a+b+b.a.a+a"},
    {"in all", 2, 0, "+a+b-c-a.a+c-b.b.c+a+a-a"},
    {"one in all", 1, 0, "+a-a-b.a+b-a"},
    {"each address", 0, 2, "+a+a-a-a+b+b-b.a+a-a.b.b+b"},
    {"one each", 0, 1, "+a-a+b-b+c.a+a-a.b+b"},
    {"both, the address first", 3, 2, "+a+a-a+b-b-c.a+c-b-a"},
    {"both, all first", 2, 3, "+a+a-a-b.a+b-b"},
    {"a refused address holds no place", 1, 1, "+a-b-b-b.a+b-a"},
    {"everybody leaves and comes again", 2, 2, "+a+a.a.a+a+a.a.a+b+b-a"},
};

static struct in6_addr letter_address(char letter)
{
    static const char *const texts[] = {"::ffff:192.0.2.1", "::ffff:192.0.2.2", "2001:db8::1"};
    return address(texts[letter - 'a']);
}

static void test_limits(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct ledger *l = ledger(rows[i].connections_max, rows[i].per_address_max);
        for (const char *at = rows[i].events; *at; at += 2) {
            struct in6_addr a = letter_address(at[1]);
            if (at[0] == '.') {
                ledger_leave(l, &a);
            } else {
                CHECK_CASE(rows[i].name, ledger_enter(l, &a) == (at[0] == '+'));
            }
        }
        ledger_free(l); /* with whoever is still there */
    }
    ledger_free(NULL);
}

/* Addresses that differ in one bit only are different ones. */
static void test_addresses(void)
{
    struct ledger *l = ledger(0, 1);
    struct in6_addr a = address("2001:db8:1:2:3:4:5:6");

    CHECK(ledger_enter(l, &a));
    for (unsigned bit = 0; bit < 128; bit++) {
        struct in6_addr other = a;
        other.s6_addr[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(ledger_enter(l, &other));
        CHECK(!ledger_enter(l, &other));
    }
    CHECK(!ledger_enter(l, &a));
    ledger_free(l);
}

/* New limits are for those who come: nobody is sent away, and who was not counted by address is not missed when he
 * leaves. */
static void test_reload(void)
{
    struct ledger *l = ledger(0, 0);
    struct in6_addr a = letter_address('a'), b = letter_address('b');

    for (int i = 0; i < 5; i++) {
        CHECK(ledger_enter(l, &a));
    }
    ledger_limit(l, 6, 1);
    CHECK(ledger_enter(l, &b)); /* the sixth */
    CHECK(!ledger_enter(l, &a));
    for (int i = 0; i < 5; i++) {
        ledger_leave(l, &a);
    }
    CHECK(ledger_enter(l, &a));
    CHECK(!ledger_enter(l, &a));
    CHECK(!ledger_enter(l, &b));
    ledger_limit(l, 2, 10);
    CHECK(!ledger_enter(l, &a)); /* two are there */
    ledger_limit(l, 0, 10);
    CHECK(ledger_enter(l, &a));
    ledger_limit(l, 0, 0);
    CHECK(ledger_enter(l, &a));
    ledger_leave(l, &a);
    ledger_leave(l, &a);
    ledger_leave(l, &a);
    ledger_leave(l, &b);
    ledger_free(l);
}

#define THREADS 4
#define ROUNDS 20000
#define EACH_MAX 3u

static struct ledger *shared;
static struct in6_addr addresses[2];
static atomic_uint_least32_t inside[2], most[2];

static void *come_and_go(void *arg)
{
    struct prng random;
    prng_seed(&random, (uint64_t)(uintptr_t)arg);
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t who = prng_below(&random, 2);
        const struct in6_addr a = addresses[who];
        if (!ledger_enter(shared, &a)) {
            continue;
        }
        uint32_t now = ++inside[who], seen = most[who];
        while (now > seen && !atomic_compare_exchange_weak(&most[who], &seen, now)) {
        }
        inside[who]--;
        ledger_leave(shared, &a);
    }
    return NULL;
}

/* Shards come and go together: the limit holds at every moment, and nothing is left over at the end. */
static void test_threads(void)
{
    pthread_t threads[THREADS];
    const struct in6_addr a = letter_address('a');

    addresses[0] = letter_address('b');
    addresses[1] = a;
    shared = ledger(THREADS, EACH_MAX);
    CHECK(ledger_enter(shared, &a)); /* one place of `a` is taken: three threads at once are one too many */
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, come_and_go, (void *)(i + 1)) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(most[1] >= 1 && most[1] <= EACH_MAX - 1);
    CHECK(most[0] >= 1 && most[0] <= EACH_MAX);
    ledger_leave(shared, &a);
    for (uint32_t i = 0; i < EACH_MAX; i++) {
        CHECK(ledger_enter(shared, &a));
    }
    CHECK(!ledger_enter(shared, &a));
    ledger_free(shared);
}

UNIT_MAIN("broker/conn/ledger", {"limits", test_limits}, {"addresses", test_addresses}, {"reload", test_reload},
          {"threads", test_threads})
