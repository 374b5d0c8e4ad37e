/* principal_test.c -- who a client is: what is copied, what is shared, and when the last one lets go. */
#include "broker/auth/principal.h"

#include <pthread.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

static struct user_rates *rates;

static void begin(void)
{
    CU_ASSERT_FATAL(user_rates_new(&rates) == 0);
}

static struct principal *make(const char *user, struct slice roles, unsigned role_count)
{
    return principal_new(&(struct principal_source){.method = 4,
                                                    .user = slice_str(user),
                                                    .roles = roles,
                                                    .role_count = role_count,
                                                    .expires_at_ms = 77,
                                                    .credential = 5,
                                                    .listener = "door",
                                                    .rates = rates});
}

static void test_copies(void)
{
    char user[] = "alice", roles[] = "admin\0dev";

    begin();
    struct principal *p = make(user, slice_of(roles, sizeof(roles)), 2);
    CU_ASSERT_FATAL(p != NULL);
    memset(user, 'x', sizeof(user) - 1);
    memset(roles, 'x', sizeof(roles) - 1);
    CHECK(slice_eq(p->user, SLICE("alice")));
    CHECK(p->role_count == 2);
    CHECK(slice_eq(p->roles[0], SLICE("admin")));
    CHECK(slice_eq(p->roles[1], SLICE("dev")));
    CHECK(p->method == 4);
    CHECK(p->expires_at_ms == 77);
    CHECK(p->credential == 5);
    CHECK(p->rules == NULL);

    struct acl_subject subject = principal_subject(p, SLICE("c1"));
    CHECK(slice_eq(subject.user, SLICE("alice")));
    CHECK(slice_eq(subject.client_id, SLICE("c1")));
    CHECK(slice_eq(subject.listener, SLICE("door")));
    CHECK(subject.role_count == 2 && subject.roles == p->roles);

    CHECK(principal_ref(p) == p);
    principal_unref(p);
    CHECK(slice_eq(p->user, SLICE("alice"))); /* one reference is left */
    principal_unref(p);
    user_rates_free(rates);
}

static void test_nobody(void)
{
    begin();
    struct principal *p = make("", SLICE(""), 0);
    CU_ASSERT_FATAL(p != NULL);
    CHECK(p->rate == NULL);
    CHECK(p->user.len == 0);
    CHECK(principal_same(p, NULL));
    CHECK(principal_ref(NULL) == NULL);
    principal_unref(NULL);
    CHECK(principal_subject(NULL, SLICE("c")).user.len == 0);
    principal_unref(p);
    user_rates_free(rates);
}

static const struct {
    const char *name, *a, *b; /* NULL: no principal */
    bool same;
} same_cases[] = {
    {"one user", "a", "a", true},          {"two users", "a", "b", false},        {"a longer name", "a", "aa", false},
    {"a user and nobody", "a", "", false}, {"nobody and a user", "", "a", false}, {"nobody twice", "", "", true},
    {"none and nobody", NULL, "", true},   {"none and a user", NULL, "a", false}, {"none twice", NULL, NULL, true},
};

static void test_same(void)
{
    begin();
    for (size_t i = 0; i < COUNT_OF(same_cases); i++) {
        struct principal *a = same_cases[i].a ? make(same_cases[i].a, SLICE(""), 0) : NULL;
        struct principal *b = same_cases[i].b ? make(same_cases[i].b, SLICE(""), 0) : NULL;
        CHECK_CASE(same_cases[i].name, principal_same(a, b) == same_cases[i].same);
        principal_unref(a);
        principal_unref(b);
    }
    user_rates_free(rates);
}

static void test_rates(void)
{
    begin();
    struct principal *a1 = make("a", SLICE(""), 0), *a2 = make("a", SLICE(""), 0), *b = make("b", SLICE(""), 0);
    CHECK(a1->rate != NULL);
    CHECK(a1->rate == a2->rate); /* all of one user's share it */
    CHECK(a1->rate != b->rate);
    CHECK(a1->rate->refs == 2);
    principal_unref(a1);
    CHECK(a2->rate->refs == 1);
    principal_unref(a2);
    principal_unref(b);
    user_rates_free(rates); /* asserts that it is empty */
}

enum { THREADS = 3, ROUNDS = 3000 };

static void *come_and_go(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        static const char *const users[] = {"a", "b", "c"};
        principal_unref(make(users[i % COUNT_OF(users)], SLICE(""), 0));
    }
    return NULL;
}

static void test_threads(void)
{
    pthread_t threads[THREADS];

    begin();
    for (unsigned i = 0; i < THREADS; i++) {
        CU_ASSERT_FATAL(pthread_create(&threads[i], NULL, come_and_go, NULL) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    user_rates_free(rates);
}

UNIT_MAIN("broker/auth/principal", {"copies", test_copies}, {"nobody", test_nobody}, {"same", test_same},
          {"rates", test_rates}, {"threads", test_threads})
