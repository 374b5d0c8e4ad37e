/* A whole node with a disk, turned by hand: what it says is on the disk first, and comes back after a crash. The model
 * of a world (tests/sim) rests on these few functions. */
#include "tests/lib/sim_node.h"

#include <stdlib.h>

#include "broker/flow/durable.h"
#include "tests/lib/mem_store.h"
#include "tests/lib/unit.h"

/* MQTT 3.1.1; session "a" and "b" are kept, and subscribe to "t" with QoS 1. */
#define CONNECT_A "10 0d 0004 4d515454 04 00 0000 0001 61"
#define CONNECT_B "10 0d 0004 4d515454 04 00 0000 0001 62"
#define SUBSCRIBE "82 06 0001 0001 74 01"
#define PUBLISH "32 06 0001 74 0007 78"
#define DISCONNECT "e0 00"
#define NEW_SESSION "20 02 00 00"
#define OLD_SESSION "20 02 01 00"
#define SUBACK "90 03 0001 01"
#define PUBACK "40 02 0007"
#define DELIVERED "32 06 0001 74 0001 78"
#define DELIVERED_AGAIN "3a 06 0001 74 0001 78"

static struct sim_node node;
static struct mem_store *disk;
static const char *const settings[] = {"sys_interval=0", NULL};

static bool work(void *arg)
{
    size_t waiting = mem_store_waiting(disk);

    (void)arg;
    mem_store_settle(disk);
    return waiting > 0;
}

static void start(unsigned shards)
{
    CHECK(sim_node_start(&node, shards, settings, mem_store_open(disk)) == 0);
}

static void begin(unsigned shards)
{
    sim_begin(5);
    disk = mem_store_new(5);
    start(shards);
}

static void crash(size_t keep)
{
    mem_store_crash(disk, keep);
    sim_node_close(&node);
    sim_reboot();
}

static void say(struct sim_socket *s, const char *hex)
{
    struct slice bytes = unit_hex(hex);

    sim_send(s, bytes);
    free((void *)bytes.ptr);
    sim_node_settle(&node);
}

/* Whether just this has come since. */
static bool heard(struct sim_socket *s, const char *hex)
{
    struct slice bytes = unit_hex(hex);
    bool same = slice_eq(bytes, buf_slice(&s->from_broker));

    buf_consume(&s->from_broker, s->from_broker.len);
    free((void *)bytes.ptr);
    return same;
}

static void let_write(void)
{
    node.disk = work;
    sim_node_settle(&node);
    node.disk = NULL;
}

/* What was said of it is there after the crash, what was not said need not be. */
static void test_crash(void)
{
    begin(1);
    struct sim_socket *a = sim_connect(&node.net, 0);
    say(a, CONNECT_A);
    say(a, SUBSCRIBE);
    CHECK(heard(a, "") && mem_store_waiting(disk) > 0);
    let_write();
    CHECK(heard(a, NEW_SESSION SUBACK));
    struct sim_socket *b = sim_connect(&node.net, 0);
    say(b, CONNECT_B);
    let_write();
    CHECK(heard(b, NEW_SESSION));
    say(b, PUBLISH);
    CHECK(heard(a, "") && heard(b, "") && mem_store_waiting(disk) > 0);
    crash(0);

    start(2); /* the message is lost, and nobody was told that it is there */
    a = sim_connect(&node.net, 1);
    say(a, CONNECT_A);
    let_write();
    CHECK(heard(a, OLD_SESSION));
    b = sim_connect(&node.net, 0);
    say(b, CONNECT_B);
    say(b, PUBLISH);
    let_write();
    CHECK(heard(b, OLD_SESSION PUBACK));
    CHECK(heard(a, DELIVERED));
    crash(0);

    start(3); /* delivered and not acknowledged: it comes again, and says so */
    a = sim_connect(&node.net, 0);
    say(a, CONNECT_A);
    let_write();
    CHECK(heard(a, OLD_SESSION DELIVERED_AGAIN));
    sim_node_close(&node);
    mem_store_free(disk);
}

/* What may have been sent before says so, however often the node has crashed since. */
static void test_crash_twice(void)
{
    static const struct {
        const char *name;
        size_t keep; /* of the batch with which the second life noticed that the client is gone */
        bool write, hurry;
    } cases[] = {{"nothing written", 0, false, false},
                 {"written at the last moment", 9, false, false},
                 {"written", 0, true, false},
                 {"in the state", 0, true, true}};

    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        begin(1);
        struct sim_socket *a = sim_connect(&node.net, 0), *b;
        say(a, CONNECT_A SUBSCRIBE);
        let_write();
        CHECK(heard(a, NEW_SESSION SUBACK));
        b = sim_connect(&node.net, 0);
        say(b, CONNECT_B PUBLISH);
        let_write();
        CHECK(heard(a, DELIVERED));
        crash(0);
        start(1);
        sim_node_settle(&node);
        for (unsigned n = 0; n < 20 && cases[i].write; n++) {
            if (cases[i].hurry) {
                checkpoint_hurry(&node.brokers[0]);
                sim_node_advance(1000);
            }
            let_write();
        }
        crash(cases[i].keep);
        start(1);
        a = sim_connect(&node.net, 0);
        say(a, CONNECT_A);
        let_write();
        CHECK_CASE(cases[i].name, heard(a, OLD_SESSION DELIVERED_AGAIN));
        sim_node_close(&node);
        mem_store_free(disk);
    }
}

/* An orderly stop and a failed recovery of nothing leave the same behind. */
static void test_stop(void)
{
    begin(2);
    node.disk = work;
    struct sim_socket *a = sim_connect(&node.net, 0);
    say(a, CONNECT_A);
    CHECK(heard(a, NEW_SESSION));
    sim_node_stop(&node);
    CHECK(sim_ended(a));
    sim_node_close(&node);
    start(1);
    a = sim_connect(&node.net, 0);
    say(a, CONNECT_A);
    let_write();
    CHECK(heard(a, OLD_SESSION));
    say(a, DISCONNECT);
    CHECK(sim_ended(a));
    sim_node_close(&node);
    mem_store_free(disk);
}

/* Shard `home` alone, and the disk. */
static void turn_one(unsigned home)
{
    for (unsigned i = 0; i < 10; i++) {
        sim_node_turn(&node, home);
        mem_store_settle(disk);
    }
}

static unsigned home_of(const char *client_id)
{
    return broker_home(&node.brokers[0], broker_hash(&node.brokers[0], slice_str(client_id)));
}

static void put(struct sim_socket *s, const char *hex)
{
    struct slice bytes = unit_hex(hex);

    sim_send(s, bytes);
    free((void *)bytes.ptr);
}

/* A QoS 2 message comes again, by a new connection, while another shard has not yet answered for the first: PUBREC
 * waits for that answer too. */
static void test_repeated_early(void)
{
    begin(2);
    unsigned home = home_of("b");
    struct sim_socket *a = sim_connect(&node.net, 0), *b = sim_connect(&node.net, home);
    CHECK(home_of("a") != home);
    say(a, CONNECT_A);
    say(a, SUBSCRIBE);
    say(b, CONNECT_B);
    let_write();
    CHECK(heard(a, NEW_SESSION SUBACK) && heard(b, NEW_SESSION));
    put(b, "34 06 0001 74 0007 78");
    turn_one(home);
    CHECK(heard(b, ""));
    b->reset = true;
    turn_one(home);
    b = sim_connect(&node.net, home);
    put(b, CONNECT_B);
    turn_one(home);
    CHECK(heard(b, OLD_SESSION));
    put(b, "3c 06 0001 74 0007 78");
    turn_one(home);
    CHECK(heard(b, ""));
    let_write();
    CHECK(heard(b, "50 02 0007") && heard(a, DELIVERED));
    sim_node_close(&node);
    mem_store_free(disk);
}

static void test_clocks(void)
{
    begin(1);
    uint64_t wall = sim_wall_now_ms();
    CHECK(sim_now_ms() == 0);
    sim_node_advance(5000);
    CHECK(sim_now_ms() == 5000 && sim_wall_now_ms() == wall + 5000);
    sim_wall_step(-2000);
    CHECK(sim_now_ms() == 5000 && sim_wall_now_ms() == wall + 3000);
    crash(0);
    CHECK(sim_now_ms() == 5000 && sim_wall_now_ms() == wall + 3000);
    start(1);
    CHECK(node.tables.started_ms < 1000 + 1000000);
    sim_node_close(&node);
    mem_store_free(disk);
}

UNIT_MAIN("sim/sim_node", {"a crash takes back nothing that was told", test_crash},
          {"DUP after two crashes", test_crash_twice}, {"an orderly stop", test_stop},
          {"a QoS 2 message that comes again too early", test_repeated_early}, {"clocks", test_clocks})
