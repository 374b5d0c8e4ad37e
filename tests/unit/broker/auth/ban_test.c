/* ban_test.c -- bans that come by hand, by failures and by flapping; their ends; the bounds; memory; several threads.
 */
#include "tests/lib/alloc_fail.h"

#include "broker/auth/ban.c"
#include "tests/lib/unit.h"

#include <arpa/inet.h>
#include <stdio.h>

static struct ban_list *list_of(struct ban_limits limits)
{
    struct ban_list *list = NULL;
    CU_ASSERT_FATAL(ban_list_new(&list) == 0);
    ban_limits_set(list, &limits);
    return list;
}

static struct in6_addr address(const char *text)
{
    struct in6_addr a;
    CU_ASSERT_FATAL(inet_pton(AF_INET6, text, &a) == 1);
    return a;
}

static struct in6_addr numbered(uint32_t n)
{
    struct in6_addr a = address("2001:db8::");
    memcpy(&a.s6_addr[12], &n, sizeof(n));
    return a;
}

/* A row of events, each `TIME_MS WHAT WHO`: f authentication failed, F it failed and led to a ban, c connected, C
 * connected and led to a ban, a accepted, B refused as banned, R refused for its rate. Who: a letter, of an address or
 * client id. */
static const struct {
    const char *name;
    struct ban_limits limits;
    const char *events;
} rows[] = {
    {"no limits", {0}, "1fx 1fx 1fx 1ax 1ax 1cx 1cx 1cx 2ax"},
    {"failures", {.failures = 3, .window_ms = 100, .ban_ms = 500}, "10fx 20fx 30Fx 31Bx 529Bx 530ax"},
    {"at once", {.failures = 1, .window_ms = 100, .ban_ms = 500}, "10Fx 10Bx"},
    {"only who failed", {.failures = 2, .window_ms = 100, .ban_ms = 500}, "10fx 10fy 11Fx 12Bx 12ay 13Fy 13By 13az"},
    {"the window ends", {.failures = 3, .window_ms = 100, .ban_ms = 500}, "10fx 109fx 110fx 120fx 130Fx"},
    {"slow failures", {.failures = 2, .window_ms = 100, .ban_ms = 500}, "10fx 110fx 210fx 310fx 320Fx"},
    {"counting begins anew", {.failures = 2, .window_ms = 100, .ban_ms = 10}, "10fx 11Fx 21ax 22fx 23Fx"},
    {"a failure that was under way", {.failures = 2, .window_ms = 100, .ban_ms = 50}, "10fx 11Fx 20fx 21Fx 70Bx 71ax"},
    {"the clock is set back", {.failures = 2, .window_ms = 100, .ban_ms = 50}, "9000fx 10fx 20Fx"},
    {"for ever", {.failures = 1, .window_ms = 1, .ban_ms = UINT64_MAX}, "10Fx 4000000000Bx"},
    {"nobody's address",
     {.failures = 1, .window_ms = 100, .ban_ms = 500, .connections_per_second = 1},
     "1f- 1f- 1a- 1a- 1a-"},
    {"flapping", {.flaps = 3, .flap_window_ms = 100, .flap_ban_ms = 50}, "10cx 20cx 25cy 30Cx 79cx 85cx 86Cx"},
    {"flapping slowly", {.flaps = 2, .flap_window_ms = 100, .flap_ban_ms = 50}, "10cx 110cx 210cx"},
    {"a client id is no address", {.flaps = 1, .flap_window_ms = 100, .flap_ban_ms = 50}, "10Cx 11ax"},
    {"two a second",
     {.connections_per_second = 2},
     "1000ax 1000ax 1000Rx 1000ay 1499Rx 1500ax 1500Rx 3000ax 3000ax 3000Rx"},
    {"who is refused does not pay", {.connections_per_second = 1}, "1000ax 1500Rx 1900Rx 1999Rx 2000ax"},
    {"a rate and a clock set back", {.connections_per_second = 1}, "9000ax 10ax 10Rx"},
    {"many rates and a clock set back", {.connections_per_second = 1}, "9000au 9000av 9000aw 9000ax 10ax 10Rx"},
    {"a thousand a second", {.connections_per_second = 1000}, "5ax 5ax 5ax 5ax 5ax"},
    {"banned before the rate",
     {.failures = 1, .window_ms = 9, .ban_ms = 9, .connections_per_second = 1},
     "1ax 1Rx 1Fx 1Bx"},
};

static void run_event(struct ban_list *list, const char *name, uint64_t now, char what, char who)
{
    struct in6_addr a = numbered((unsigned char)who);
    struct slice id = slice_of(&who, 1);
    const char *why = "";
    if (who == '-') {
        a = address("::");
    }
    switch (what) {
    case 'f':
    case 'F':
        CHECK_CASE(name, ban_failed(list, &a, now) == (what == 'F'));
        break;
    case 'c':
    case 'C':
        CHECK_CASE(name, ban_connected(list, id, now) == (what == 'C'));
        CHECK_CASE(name, what == 'c' || ban_has(list, BAN_CLIENT_ID, id, now));
        break;
    default:
        CHECK_CASE(name, ban_accept(list, &a, now, &why) == (what == 'a'));
        CHECK_CASE(name, strcmp(why, what == 'a' ? "" : what == 'B' ? "banned" : "too many connections a second") == 0);
        CHECK_CASE(name, ban_has(list, BAN_ADDRESS, ban_address(&a), now) == (what == 'B'));
    }
}

static void test_rows(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct ban_list *list = list_of(rows[i].limits);
        for (const char *at = rows[i].events; *at; at += *at == ' ') {
            char *end;
            uint64_t now = strtoull(at, &end, 10);
            run_event(list, rows[i].name, now, end[0], end[1]);
            at = end + 2;
        }
        ban_list_free(list);
    }
    ban_list_free(NULL);
}

struct seen {
    unsigned count;
    struct ban last;
    char reason[300];
};

static void see(void *context, const struct ban *ban)
{
    struct seen *s = context;
    s->count++;
    s->last = *ban;
    snprintf(s->reason, sizeof(s->reason), "%.*s", (int)ban->reason.len, (const char *)ban->reason.ptr);
}

static struct seen look(struct ban_list *list, uint64_t now)
{
    struct seen s = {0};
    ban_each(list, now, see, &s);
    return s;
}

static void test_by_hand(void)
{
    struct ban_list *list = list_of((struct ban_limits){0});
    uint64_t version = ban_version(list);

    CHECK(ban_add(list, BAN_USER, SLICE("bob"), 100, SLICE("spam")) == 0);
    CHECK(ban_version(list) != version);
    CHECK(ban_has(list, BAN_USER, SLICE("bob"), 99) && !ban_has(list, BAN_CLIENT_ID, SLICE("bob"), 99));
    CHECK(!ban_has(list, BAN_USER, SLICE("bo"), 99));
    struct seen s = look(list, 99);
    CHECK(s.count == 1 && s.last.kind == BAN_USER && s.last.until_ms == 100 && strcmp(s.reason, "spam") == 0);
    CHECK(look(list, 100).count == 0);
    CHECK(ban_add(list, BAN_USER, SLICE("bob"), UINT64_MAX, SLICE("")) == 0); /* in place of the first */
    s = look(list, UINT64_MAX);
    CHECK(s.count == 1 && s.last.until_ms == UINT64_MAX && s.last.reason.len == 0);
    version = ban_version(list);
    CHECK(ban_remove(list, BAN_USER, SLICE("bob")) == 0 && ban_remove(list, BAN_USER, SLICE("bob")) == -ENOENT);
    CHECK(ban_version(list) == version && look(list, 0).count == 0);
    CHECK(!ban_has(list, BAN_USER, SLICE("bob"), 1));
    ban_list_free(list);
}

/* A long reason is cut, not through a character. */
static void test_reason(void)
{
    struct ban_list *list = list_of((struct ban_limits){0});
    char reason[300];

    memset(reason, 'r', sizeof(reason));
    memcpy(reason + 254, "\xe2\x82\xac", 3);
    CHECK(ban_add(list, BAN_USER, SLICE("bob"), 100, slice_of(reason, sizeof(reason))) == 0);
    CHECK(look(list, 0).last.reason.len == 254);
    ban_list_free(list);
}

static void test_hand_outlives_automatic(void)
{
    struct ban_list *list = list_of((struct ban_limits){.failures = 1, .window_ms = 9, .ban_ms = 9});
    struct in6_addr a = numbered(1);

    CHECK(ban_add(list, BAN_ADDRESS, ban_address(&a), UINT64_MAX, SLICE("")) == 0);
    CHECK(!ban_failed(list, &a, 10));
    CHECK(ban_has(list, BAN_ADDRESS, ban_address(&a), 1000));
    ban_list_free(list);
}

/* 65,536 by hand; then no more, but one of them may still be written anew. Automatic ones make room. */
static void test_bound(void)
{
    struct ban_list *list = list_of((struct ban_limits){.failures = 1, .window_ms = 9, .ban_ms = 1000});
    struct in6_addr a = numbered(BANS_MAX + 1), b = numbered(BANS_MAX + 2);
    unsigned refused = 0;

    CHECK(ban_failed(list, &a, 1) && ban_failed(list, &b, 2));
    for (uint32_t n = 0; n < BANS_MAX; n++) {
        refused += ban_add(list, BAN_CLIENT_ID, slice_of(&n, sizeof(n)), 5000, SLICE("")) != 0;
        if (n == BANS_MAX - 2) { /* one of the two has made room */
            CHECK(!ban_has(list, BAN_ADDRESS, ban_address(&a), 3) && ban_has(list, BAN_ADDRESS, ban_address(&b), 3));
        }
    }
    CHECK(refused == 0 && look(list, 3).count == BANS_MAX);
    CHECK(ban_add(list, BAN_USER, SLICE("bob"), 5000, SLICE("")) == -ENOSPC);
    CHECK(!ban_failed(list, &a, 4));
    uint32_t seven = 7;
    CHECK(ban_add(list, BAN_CLIENT_ID, slice_of(&seven, sizeof(seven)), 6000, SLICE("again")) == 0);
    CHECK(look(list, 3).count == BANS_MAX && look(list, 5500).count == 1);
    for (unsigned i = 0; i < BANS_MAX + 1; i++) { /* each call looks at one of the operator's */
        ban_has(list, BAN_USER, SLICE("x"), 6000);
    }
    CHECK(list->bans.count == 0 && list->bytes == 0 && list->bans.slots == NULL);
    ban_list_free(list);
}

/* Names as long as a client id may be: the bytes are bounded too, and a ban that cannot be replaced stays. */
static void test_bytes(void)
{
    static uint8_t name[65535];
    struct ban_list *list = list_of((struct ban_limits){0});
    uint32_t n = 0;

    for (int rc = 0; rc == 0; n += rc == 0) {
        memcpy(name, &n, sizeof(n));
        rc = ban_add(list, BAN_CLIENT_ID, slice_of(name, sizeof(name)), 5000, SLICE(""));
        CHECK(rc == 0 || rc == -ENOSPC);
    }
    CHECK(n == BAN_BYTES_MAX / sizeof(name));
    char reason[256];
    memset(reason, 'r', sizeof(reason));
    while (ban_add(list, BAN_USER, slice_of(&n, sizeof(n)), 5000, slice_of(reason, sizeof(reason))) == 0) {
        n++;
    }
    n = 5;
    memcpy(name, &n, sizeof(n));
    CHECK(ban_add(list, BAN_CLIENT_ID, slice_of(name, sizeof(name)), 6000, slice_of(reason, sizeof(reason))) ==
          -ENOSPC);
    CHECK(ban_has(list, BAN_CLIENT_ID, slice_of(name, sizeof(name)), 4999));
    n = 6;
    memcpy(name, &n, sizeof(n));
    CHECK(ban_add(list, BAN_CLIENT_ID, slice_of(name, sizeof(name)), 6000, SLICE("")) == 0);
    CHECK(ban_has(list, BAN_CLIENT_ID, slice_of(name, sizeof(name)), 5999));
    CHECK(list->bytes <= BAN_BYTES_MAX);
    for (unsigned i = 0; i < 4096; i++) {
        ban_has(list, BAN_USER, SLICE("x"), 6000);
    }
    CHECK(list->bans.count == 0 && list->bytes == 0); /* all of them were still in line to end */
    ban_list_free(list);
}

/* As many addresses as there are: the counters stay within their bound, and go when the attack is over. */
static void test_counters(void)
{
    struct ban_list *list = list_of(
        (struct ban_limits){.failures = 2, .window_ms = 5000, .ban_ms = 100, .flaps = 2, .flap_window_ms = 5000});
    struct in6_addr a;

    for (uint32_t n = 0; n < COUNTERS_MAX + 1000; n++) {
        a = numbered(n);
        CHECK(!ban_failed(list, &a, 10) || n > 0);
        ban_connected(list, slice_of(&n, sizeof(n)), 10);
    }
    CHECK(list->addresses.map.count == COUNTERS_MAX && list->client_ids.map.count == COUNTERS_MAX);
    CHECK(!ban_failed(list, &(struct in6_addr){.s6_addr = {1}}, 11));
    a = numbered(0);
    CHECK(!ban_failed(list, &a, 12)); /* forgotten: it was the oldest */
    a = numbered(COUNTERS_MAX + 999);
    CHECK(ban_failed(list, &a, 12));              /* not forgotten */
    for (unsigned i = 0; i < COUNTERS_MAX; i++) { /* one client that comes and goes */
        a = numbered(1);
        ban_failed(list, &a, 10000 + i);
        ban_connected(list, SLICE("one"), 10000 + i);
    }
    CHECK(list->addresses.map.count == 1 && list->client_ids.map.count == 1);
    CHECK(list->addresses.map.mask < 16 && list->bans.count <= 2);
    ban_list_free(list);
}

/* Whatever memory refuses: nothing half made, and who cannot be counted is let in. */
static void test_memory(void)
{
    struct ban_list *list = NULL;
    struct in6_addr a = numbered(1);
    const char *why = "";

    alloc_fail_at = 1;
    CHECK(ban_list_new(&list) == -ENOMEM && !list);
    alloc_fail_at = 0;
    list = list_of((struct ban_limits){.failures = 1, .window_ms = 9, .ban_ms = 9, .connections_per_second = 1});
    alloc_fail_at = 1;
    CHECK(ban_add(list, BAN_USER, SLICE("bob"), 100, SLICE("spam")) == -ENOMEM);
    CHECK(look(list, 0).count == 0 && ban_version(list) == 0);
    alloc_fail_at = 1;
    CHECK(!ban_failed(list, &a, 1));
    alloc_fail_at = 1;
    CHECK(ban_accept(list, &a, 1, &why));
    alloc_fail_at = 2;
    CHECK(!ban_failed(list, &a, 1)); /* counted; no memory for the ban */
    alloc_fail_at = 0;
    CHECK(ban_add(list, BAN_USER, SLICE("bob"), 100, SLICE("")) == 0);
    alloc_fail_at = 1;
    CHECK(ban_add(list, BAN_USER, SLICE("bob"), 200, SLICE("")) == -ENOMEM);
    alloc_fail_at = 0;
    CHECK(ban_has(list, BAN_USER, SLICE("bob"), 99) && !ban_has(list, BAN_USER, SLICE("bob"), 100));
    ban_list_free(list);
}

#define THREADS 4
#define TURNS 4000

static void *run_thread(void *context)
{
    struct ban_list *list = context;
    unsigned bans = 0;
    const char *why;

    for (uint32_t i = 0; i < TURNS; i++) {
        struct in6_addr a = numbered(i % 37);
        bans += ban_failed(list, &a, i);
        ban_accept(list, &a, i, &why);
        ban_connected(list, slice_of(&a, 16), i);
        if (i % 64 == 0) {
            ban_add(list, BAN_USER, slice_of(&i, sizeof(i)), i + 100, SLICE("x"));
            ban_remove(list, BAN_USER, slice_of(&i, sizeof(i)));
            look(list, i);
            ban_version(list);
        }
    }
    return (void *)(uintptr_t)bans;
}

static void test_threads(void)
{
    struct ban_list *list = list_of((struct ban_limits){.failures = 5,
                                                        .window_ms = 1u << 30,
                                                        .ban_ms = 50,
                                                        .flaps = 5,
                                                        .flap_window_ms = 100,
                                                        .flap_ban_ms = 50,
                                                        .connections_per_second = 10});
    pthread_t threads[THREADS];
    uintptr_t bans = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        CU_ASSERT_FATAL(pthread_create(&threads[i], NULL, run_thread, list) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *result = NULL;
        CHECK(pthread_join(threads[i], &result) == 0);
        bans += (uintptr_t)result;
    }
    CHECK(bans > 0 && bans <= THREADS * TURNS / 5);
    CHECK(list->addresses.map.count <= 37);
    ban_list_free(list);
}

UNIT_MAIN("broker/auth/ban", {"rows", test_rows}, {"by hand", test_by_hand}, {"reason", test_reason},
          {"by hand outlives automatic", test_hand_outlives_automatic}, {"bound", test_bound}, {"bytes", test_bytes},
          {"counters", test_counters}, {"memory", test_memory}, {"threads", test_threads})
