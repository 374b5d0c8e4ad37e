/* From the log into the state: when, what, what of the log goes, and what if it fails. */
#include "tests/lib/alloc_fail.h"

#include "broker/flow/checkpoint.c"

#include "tests/unit/broker/flow/durable_fixture.h"

/* A client id whose home is this shard of two. */
static const char *id_at(unsigned shard)
{
    static char id[8];

    for (unsigned i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "c%u", i);
        if (hash_keyed(&w.node.tables.key, slice_str(id)) % GROUPS % 2 == shard) {
            return id;
        }
    }
    abort();
}

/* Each group in its 30 s, one after the other, and the log does not outlive them; a shard that has nothing to log does
 * not hold it. */
static void test_rhythm(void)
{
    for (unsigned busy = 0; busy < 2; busy++) {
        world_begin(2, NULL);
        struct visitor v = {.id = id_at(busy), .expiry_s = KEPT_S};
        for (unsigned i = 0; i < 20; i++) {
            leave(come(&v, 0, NULL));
        }
        CHECK(mem_store_log_count(w.disk) >= 20);
        world_pass(15000);
        uint64_t half = mem_store_counts(w.disk)->checkpoints;
        CHECK(half >= GROUPS / 2 - 4 && half <= GROUPS / 2 + 4);
        world_pass(16000);
        CHECK(mem_store_counts(w.disk)->checkpoints >= GROUPS);
        world_pass(30000);
        CHECK(mem_store_counts(w.disk)->checkpoints >= 2 * GROUPS);
        CHECK(mem_store_counts(w.disk)->checkpoints <= 2 * GROUPS + 8);
        CHECK(mem_store_log_count(w.disk) == 0);
        world_restart(2);
        CHECK(w.rows[SNAPSHOT_SESSION] == 1 && session_of(v.id) != NULL);
        world_end();
    }
}

/* Much logged: at once, without waiting for the clock. */
static void test_much(void)
{
    static const char *const large[] = {"sys_interval=0", "limits.max_queued_bytes=64MiB", NULL};

    world_begin(1, large);
    struct sim_socket *s = come_back("a", NULL);
    subscribe(s, "t", 1);
    leave(s);
    world_pass(100);
    uint64_t before = mem_store_counts(w.disk)->checkpoints;
    publish_many("t", 0, 80, 1 << 19);
    CHECK(mem_store_counts(w.disk)->checkpoints > before);
    CHECK(session_of("a")->queue->cold_end - session_of("a")->queue->cold >= 60);
    world_end();
}

static bool log_works(void *arg)
{
    (void)arg;
    return mem_store_commit(w.disk, SIZE_MAX);
}

/* Under a load that one group alone could keep the state busy with, the others still come to their turn. */
static void test_load(void)
{
    world_begin(1, NULL);
    struct sim_socket *a = come_back("a", NULL), *p = come(&(struct visitor){.id = "p", .clean = true}, 0, NULL);
    subscribe(a, "t", 1);
    struct checkpoint *c = w.node.brokers[0].checkpoint;
    unsigned written = 0;
    w.node.disk = log_works;
    for (unsigned i = 0; i < 2000; i++) {
        publish(p, &(struct words){.topic = "t", .qos = 1, .packet_id = 1, .size = 9, .number = i});
        CHECK(hear_type(p, MQTT_PUBACK) && take(a, i, 1) == 1);
        c->bytes = UINT64_MAX / 2; /* as if there had been more than can be written */
        world_pass(50);
        written += c->task && c->task->group == session_of("a")->group;
        mem_store_checkpoint(w.disk); /* one in 50 ms */
    }
    CHECK(written > 1000);
    CHECK(mem_store_counts(w.disk)->trimmed > 1000);
    world_end();
}

/* Three sessions that a checkpoint must write, delete and keep: 10 messages wait, 5 of them go. */
static void make_story(struct sim_socket **ret_a)
{
    struct sim_socket *a = come(&(struct visitor){.id = "a", .expiry_s = KEPT_S, .receive_max = 5}, 0, NULL);

    subscribe(a, "t", 1);
    leave(come_back("b", NULL));
    publish_many("t", 0, 10, 100);
    checkpoint();
    CHECK(take(a, 0, 5) == 5);
    come(&(struct visitor){.id = "b", .clean = true}, 0, NULL);
    *ret_a = a;
}

static void test_no_room(void)
{
    struct sim_socket *a;

    world_begin(1, NULL);
    make_story(&a);
    world_settle();
    mem_store_set_room(w.disk, MEM_NO_ROOM);
    checkpoint();
    world_pass(3000);
    mem_store_set_room(w.disk, MEM_ROOM);
    world_pass(40000); /* the first five go while the failed one is not yet tried again, or after */
    world_restart(1);
    CHECK(w.rows[SNAPSHOT_SESSION] == 1);
    CHECK(w.rows[SNAPSHOT_QUEUE] == 5);
    CHECK(mem_store_log_count(w.disk) == 0);
    CHECK(session_of("a") != NULL && session_of("b") == NULL);
    a = come_back("a", NULL);
    CHECK(take(a, 5, 10) == 5);
    checkpoint();
    world_restart(1);
    CHECK(w.rows[SNAPSHOT_QUEUE] == 0);
    world_end();
}

/* A group for which there is no room does not keep another from being written: that one may make some. */
static void test_next_one(void)
{
    world_begin(1, NULL);
    leave(come_back("a", NULL));
    leave(come_back("b", NULL));
    unsigned a = session_of("a")->group, b = session_of("b")->group;
    struct checkpoint *c = w.node.brokers[0].checkpoint;
    bool tried_a = false, tried_b = false;
    CHECK(a != b);
    mem_store_set_room(w.disk, MEM_NO_ROOM);
    for (unsigned i = 0; i < 600; i++) {
        w.stuck = true;
        world_pass(100);
        tried_a |= c->task && c->task->group == a;
        tried_b |= c->task && c->task->group == b;
        w.stuck = false;
        world_settle();
    }
    CHECK(tried_a && tried_b);
    CHECK(!list_empty(&w.node.brokers[0].groups[a].changed));
    mem_store_set_room(w.disk, MEM_ROOM);
    world_pass(3000);
    CHECK(list_empty(&w.node.brokers[0].groups[a].changed) && list_empty(&w.node.brokers[0].groups[b].changed));
    world_restart(1);
    CHECK(w.rows[SNAPSHOT_SESSION] == 2);
    world_end();
}

/* A session that ends while its rows are on their way leaves none. */
static void test_ends_meanwhile(void)
{
    world_begin(1, NULL);
    struct sim_socket *a = come_back("a", NULL);
    subscribe(a, "t", 1);
    leave(a);
    publish_many("t", 0, 3, 10);
    w.stuck = true;
    world_pass(40000); /* all groups are due: one is under way */
    struct checkpoint *c = w.node.brokers[0].checkpoint;
    for (unsigned i = 0; i < GROUPS && !session_of("a")->stored; i++) {
        CHECK(c->task != NULL);
        mem_store_settle(w.disk);
        world_settle();
    }
    CHECK(session_of("a")->stored != NULL && c->task && c->task->group == session_of("a")->group);
    knock(&(struct visitor){.id = "a", .clean = true}, 0);
    CHECK(!session_of("a")->stored);
    w.stuck = false;
    world_settle();
    checkpoint();
    world_restart(1);
    CHECK(w.rows[SNAPSHOT_SESSION] == 0 && w.rows[SNAPSHOT_QUEUE] == 0);
    CHECK(session_of("a") == NULL);
    world_end();
}

static uint64_t in_memory(const char *id)
{
    const struct queue *q = session_of(id)->queue;
    return q->tail - q->head - (q->cold_end - q->cold);
}

/* What waits for who is away takes no memory, also when he was here for a moment. */
static void test_memory(void)
{
    const struct visitor slow = {.id = "a", .expiry_s = KEPT_S, .receive_max = 10};

    world_begin(1, NULL);
    struct sim_socket *a = come_back("a", NULL);
    subscribe(a, "t", 1);
    leave(a);
    publish_many("t", 0, 200, 300);
    CHECK(in_memory("a") == 200);
    checkpoint();
    CHECK(in_memory("a") == 0);
    CHECK(session_of("a")->queue->waiting == 200 && metric(METRIC_QUEUED) == 200);
    a = come(&slow, 0, NULL);
    CHECK(in_memory("a") == 200);
    CHECK(take(a, 0, 20) == 20);
    checkpoint();
    CHECK(in_memory("a") == 180); /* he is here */
    leave(a);
    checkpoint();
    CHECK(in_memory("a") == 10); /* sent before */
    publish_many("t", 200, 50, 300);
    CHECK(in_memory("a") == 60);
    world_restart(1);
    a = come(&slow, 0, NULL);
    CHECK(take(a, 20, 1000) == 230);
    CHECK(metric(METRIC_QUEUED) == 0 && metric(METRIC_QUEUED_BYTES) == 0);
    world_end();
}

static void test_retained(void)
{
    struct words m = {.qos = 1, .retain = true, .packet_id = 1, .size = 5};

    world_begin(2, NULL);
    struct sim_socket *s = come(&(struct visitor){.id = "p", .clean = true}, 0, NULL);
    for (m.number = 0; m.number < 20; m.number++) {
        char topic[8];
        snprintf(topic, sizeof(topic), "r/%u", m.number);
        m.topic = topic;
        m.expiry_s = m.number == 19 ? 10 : 0;
        publish(s, &m);
    }
    checkpoint();
    m.topic = "r/3";
    m.size = 0;
    m.expiry_s = 0;
    publish(s, &m);
    m.topic = "r/4";
    m.size = 7;
    m.number = 44;
    publish(s, &m);
    world_restart(1);
    CHECK(w.rows[SNAPSHOT_RETAINED] == 20);
    world_pass(40000);
    world_restart(3);
    CHECK(w.rows[SNAPSHOT_RETAINED] == 19 || w.rows[SNAPSHOT_RETAINED] == 18); /* the expired one was swept, or not */
    world_pass(40000);
    world_restart(1);
    CHECK(w.rows[SNAPSHOT_RETAINED] == 18);
    s = come(&(struct visitor){.id = "p", .clean = true}, 0, NULL);
    subscribe(s, "r/4", 0);
    struct mqtt_publish p;
    CHECK(hear_number(s, &p) == 44 && p.retain && p.payload.len == 7);
    subscribe(s, "r/3", 0);
    CHECK(hear_number(s, &p) == -1);
    world_end();
}

/* Each allocation of a checkpoint fails once: it is tried again, and all is written in the end. */
static void test_memory_fails(void)
{
    struct sim_socket *a;

    bool failed = true;

    for (unsigned n = 1; failed; n++) {
        world_begin(1, NULL);
        make_story(&a);
        leave(come_back("c", NULL));
        publish(a, &(struct words){.topic = "r", .qos = 0, .retain = true, .size = 4});
        alloc_fail_at = n;
        world_pass(40000);
        failed = alloc_fail_at == 0;
        alloc_fail_at = 0;
        world_pass(3000);
        world_restart(1);
        CHECK(w.rows[SNAPSHOT_SESSION] == 2 && w.rows[SNAPSHOT_QUEUE] == 5 && w.rows[SNAPSHOT_RETAINED] == 1);
        CHECK(mem_store_log_count(w.disk) == 0);
        world_end();
    }
}

UNIT_MAIN("broker/flow/checkpoint", {"each group in its time; the log goes", test_rhythm},
          {"much has been logged", test_much}, {"always too much", test_load},
          {"the next group is tried", test_next_one}, {"a full disk", test_no_room},
          {"a session ends meanwhile", test_ends_meanwhile}, {"waiting messages give up their memory", test_memory},
          {"retained messages", test_retained}, {"memory fails", test_memory_fails})
