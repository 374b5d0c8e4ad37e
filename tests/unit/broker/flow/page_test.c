/* What waits on the disk only, read back as it is sent: in order, once, whatever happens while a page is on its way. */
#include "tests/lib/alloc_fail.h"

#include "broker/flow/page.c"

#include "tests/unit/broker/flow/durable_fixture.h"

static const char *const many[] = {"sys_interval=0", "limits.max_queued_messages=100000",
                                   "limits.max_queued_bytes=1GiB", NULL};

/* "a" is away, and messages 0 to count - 1 wait for it in rows alone. */
static void make_cold(unsigned count, uint32_t size)
{
    world_begin(1, many);
    struct sim_socket *a = come_back("a", NULL);
    subscribe(a, "t", 1);
    leave(a);
    publish_many("t", 0, count, size);
    checkpoint();
    CHECK(session_of("a")->queue->cold_end - session_of("a")->queue->cold == count);
}

static bool nothing_left(void)
{
    return session_of("a")->queue->waiting == 0 && session_of("a")->queue->bytes == 0 && metric(METRIC_QUEUED) == 0 &&
           metric(METRIC_QUEUED_BYTES) == 0;
}

static void test_sizes(void)
{
    static const struct {
        const char *name;
        unsigned count, size, pages_min;
    } rows[] = {{"one", 1, 5, 1},
                {"small", 3000, 20, 1},
                {"some pages", 50, 40000, 8},
                {"each larger than a page", 5, 300000, 5}};

    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        for (unsigned again = 0; again < 2; again++) {
            make_cold(rows[i].count, rows[i].size);
            if (again) {
                world_restart(1);
            }
            uint64_t reads = mem_store_counts(w.disk)->reads;
            struct sim_socket *a = come(&(struct visitor){.id = "a", .expiry_s = KEPT_S, .receive_max = 7}, 0, NULL);
            CHECK_CASE(rows[i].name, take(a, 0, rows[i].count + 1) == rows[i].count);
            CHECK_CASE(rows[i].name, mem_store_counts(w.disk)->reads - reads >= rows[i].pages_min);
            CHECK_CASE(rows[i].name, nothing_left());
            publish_many("t", rows[i].count, 3, 5);
            CHECK_CASE(rows[i].name, take(a, rows[i].count, 4) == 3);
            world_end();
        }
    }
}

/* It goes while its page is on its way, comes back before that is there, gets more meanwhile. */
static void test_comes_and_goes(void)
{
    make_cold(60, 20000);
    struct sim_socket *a = come(&(struct visitor){.id = "a", .expiry_s = KEPT_S, .receive_max = 3}, 0, NULL);
    CHECK(take(a, 0, 10) == 10);
    for (unsigned first = 10; first < 60; first += 10) {
        leave(a);
        w.stuck = true; /* what says that it comes waits too */
        a = knock(&(struct visitor){.id = "a", .expiry_s = KEPT_S}, 0);
        a->finished = true;
        world_settle();
        w.stuck = false;
        world_settle();
        a = come(&(struct visitor){.id = "a", .expiry_s = KEPT_S, .receive_max = 3}, 0, NULL);
        CHECK(take(a, first, 10) == 10);
        checkpoint();
    }
    CHECK(nothing_left());
    world_end();
}

/* Messages 1 to 19 wait, and a page of them is on its way. */
static void want_page(void)
{
    make_cold(20, 100);
    struct sim_socket *a = come_back("a", NULL);
    CHECK(take(a, 0, 1) == 1);
    leave(a);
    checkpoint();
    world_restart(1);
    w.stuck = true;
    page_want(&w.node.brokers[0], session_of("a"));
    CHECK(session_of("a")->page != NULL);
}

/* Its session ends while a page is on its way. */
static void test_ends(void)
{
    want_page();
    uint64_t uid = session_of("a")->uid;
    knock(&(struct visitor){.id = "a", .clean = true}, 0);
    CHECK(session_of("a")->uid != uid && session_of("a")->page == NULL);
    w.stuck = false;
    world_settle();
    CHECK(metric(METRIC_QUEUED) == 0 && metric(METRIC_QUEUED_BYTES) == 0);
    world_end();
}

/* So does the node. */
static void test_node_ends(void)
{
    want_page();
    world_end();
}

/* Queue full, the oldest goes: that is a cold one. */
static void test_drop_oldest(void)
{
    static const char *const oldest[] = {"sys_interval=0", "limits.max_queued_messages=20",
                                         "limits.queue_overflow=drop_oldest", NULL};
    world_begin(1, oldest);
    struct sim_socket *a = come_back("a", NULL);
    subscribe(a, "t", 1);
    leave(a);
    publish_many("t", 0, 20, 100);
    checkpoint();
    publish_many("t", 20, 5, 100);
    CHECK(metric(METRIC_QUEUED) == 20);
    w.stuck = true;
    page_want(&w.node.brokers[0], session_of("a"));
    w.stuck = false;
    publish_many("t", 25, 5, 100);
    checkpoint();
    publish_many("t", 30, 5, 100);
    a = come_back("a", NULL);
    CHECK(take(a, 15, 100) == 20);
    CHECK(nothing_left());
    world_end();
}

/* A damaged row is one message less. The rows: applied, 10 of the queue, the session. */
static void test_damage(void)
{
    struct mqtt_publish p;

    for (unsigned at = 1; at <= 10; at++) {
        make_cold(10, 100);
        CHECK(mem_store_row_count(w.disk) == 12);
        mem_store_damage_row(w.disk, at);
        struct sim_socket *a = come_back("a", NULL);
        for (int n = 0; n < 10; n++) {
            if (n != (int)at - 1) {
                CHECK(hear_number(a, &p) == n);
                answer(a, MQTT_PUBACK, p.packet_id);
            }
        }
        CHECK(hear_number(a, &p) == -1);
        publish_many("t", 10, 1, 5);
        CHECK(take(a, 10, 2) == 1);
        CHECK(nothing_left());
        world_end();
    }
    make_cold(5, 100);
    for (unsigned at = 1; at <= 5; at++) {
        mem_store_damage_row(w.disk, at);
    }
    struct sim_socket *a = come_back("a", NULL);
    publish_many("t", 5, 1, 5);
    CHECK(take(a, 5, 2) == 1);
    CHECK(nothing_left());
    world_end();
}

/* No memory: nothing is lost, the client is sent away and comes again. */
static void test_memory_fails(void)
{
    bool failed = true;

    for (unsigned n = 1; failed; n++) {
        make_cold(200, 10);
        alloc_fail_at = n;
        struct sim_socket *a = knock(&(struct visitor){.id = "a", .expiry_s = KEPT_S}, 0);
        failed = alloc_fail_at == 0;
        alloc_fail_at = 0;
        CHECK(sim_ended(a) == failed);
        if (failed) {
            a = come_back("a", NULL);
        } else {
            CHECK(n > 3 && hear_type(a, MQTT_CONNACK));
        }
        CHECK(take(a, 0, 300) == 200);
        CHECK(nothing_left());
        world_end();
    }
}

UNIT_MAIN("broker/flow/page", {"one page, many, large ones", test_sizes}, {"clients come and go", test_comes_and_goes},
          {"sessions end", test_ends}, {"the node ends", test_node_ends}, {"the oldest are dropped", test_drop_oldest},
          {"damaged rows", test_damage}, {"memory fails", test_memory_fails})
