/* mailbox_memory_test.c -- mail when memory is out: what may be refused is, and answers still go. */
#include "tests/lib/alloc_fail.h"

#include "broker/loop/mailbox.c"
#include "tests/lib/unit.h"

static struct mail_office *office_of_two(void)
{
    struct mail_office *office = NULL;
    alloc_fail_at = 0;
    CHECK(mail_office_new(2, &office) == 0);
    return office;
}

struct reader {
    uint64_t next;
    bool orderly;
};

static void take(void *context, const struct mail *mail)
{
    struct reader *r = context;
    r->orderly = r->orderly && mail->a == r->next;
    r->next++;
}

static int post_one(struct mail_office *office, bool answer, uint64_t number)
{
    struct mail mail = {.kind = 7, .a = number};
    return answer ? mail_post_answer(office, 0, 1, &mail) : mail_post(office, 0, 1, &mail);
}

/* Post with every allocation failing until it fails itself. Returns how many went. */
static uint64_t post_without_memory(struct mail_office *office, bool answer, uint64_t first)
{
    uint64_t n = first;
    do {
        alloc_fail_at = 1;
    } while (post_one(office, answer, n) == 0 && ++n < first + 4u * MAIL_RING_SLOTS);
    alloc_fail_at = 0;
    return n - first;
}

static void check_arrival(struct mail_office *office, uint64_t count)
{
    struct reader r = {.orderly = true};

    for (unsigned i = 0; i < 8 && r.next < count; i++) {
        mail_flush(office, 0);
        mail_drain(office, 1, UINT32_MAX, take, &r);
    }
    CHECK(r.next == count);
    CHECK(r.orderly);
}

static void test_reserve_of_a_ring(void)
{
    struct mail_office *office = office_of_two();
    uint64_t plain = post_without_memory(office, false, 0);

    CHECK(plain == MAIL_RING_SLOTS - MAIL_RESERVE);
    uint64_t answers = post_without_memory(office, true, plain);
    CHECK(answers == MAIL_RESERVE);
    CHECK(post_without_memory(office, false, plain + answers) == 0);
    check_arrival(office, plain + answers);
    CHECK(post_one(office, false, 0) == 0); /* there is room again */
    mail_office_free(office);
}

static void test_reserve_of_an_overflow(void)
{
    struct mail_office *office = office_of_two();
    uint64_t n = 0;

    while (n < 2 * MAIL_RING_SLOTS) {
        CHECK(post_one(office, false, n++) == 0);
    }
    n += post_without_memory(office, false, n);
    uint64_t answers = post_without_memory(office, true, n);
    CHECK(answers >= MAIL_RESERVE);
    check_arrival(office, n + answers);
    mail_office_free(office);
}

/* The overflow has gone out, but the ring is full: its reserve is still there. */
static void test_reserve_after_overflow(void)
{
    struct mail_office *office = office_of_two();
    struct reader r = {.orderly = true};
    uint64_t n = 0;

    while (n < MAIL_RING_SLOTS + 5000u) {
        CHECK(post_one(office, false, n++) == 0);
    }
    mail_flush(office, 0);
    mail_drain(office, 1, 5000, take, &r);
    mail_flush(office, 0);
    CHECK(!mail_congested(office, 0));
    CHECK(post_without_memory(office, true, n) >= MAIL_RESERVE);
    mail_office_free(office);
}

UNIT_MAIN("broker/loop/mailbox, no memory", {"reserve of a ring", test_reserve_of_a_ring},
          {"reserve of an overflow", test_reserve_of_an_overflow},
          {"reserve after an overflow", test_reserve_after_overflow})
