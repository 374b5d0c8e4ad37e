/* swim_message_test.c -- what is written is read again, and what cannot be is refused. */
#include "cluster/swim_message.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

static struct swim_rumour rumour(enum member_state state)
{
    struct swim_rumour r = {.member = {.id = {{1, 2, 3}},
                                       .boot = 7,
                                       .incarnation = 9,
                                       .state = state,
                                       .address = {.family = 4, .bytes = {10, 0, 0, 1}, .port = 7000},
                                       .name = "node",
                                       .wire_min = 1,
                                       .wire_max = 2,
                                       .features = UINT64_C(1) << 63,
                                       .shards = 4,
                                       .cluster_id = {0xc1},
                                       .wall_ms = 1700000000000,
                                       .load = 100000}};
    if (state == MEMBER_SUSPECT || state == MEMBER_DEAD) {
        r.accuser = (struct node_id){{5}};
    }
    r.gone_s = state == MEMBER_DEAD || state == MEMBER_LEFT ? 60 : 0;
    return r;
}

static bool rumour_eq(const struct swim_rumour *a, const struct swim_rumour *b)
{
    const struct member *m = &a->member, *n = &b->member;

    return node_id_eq(&m->id, &n->id) && m->boot == n->boot && m->incarnation == n->incarnation &&
           m->state == n->state && member_address_eq(&m->address, &n->address) && strcmp(m->name, n->name) == 0 &&
           m->wire_min == n->wire_min && m->wire_max == n->wire_max && m->features == n->features &&
           m->shards == n->shards && memcmp(m->cluster_id, n->cluster_id, sizeof(m->cluster_id)) == 0 &&
           m->wall_ms == n->wall_ms && m->load == n->load && node_id_eq(&a->accuser, &b->accuser) &&
           a->gone_s == b->gone_s;
}

static void test_rumours(void)
{
    for (enum member_state state = MEMBER_ALIVE; state <= MEMBER_LEFT; state++) {
        for (unsigned longest = 0; longest < 2; longest++) {
            struct swim_rumour r = rumour(state), got;
            struct buf b = {0};
            if (longest) {
                memset(r.member.name, 'n', MEMBER_NAME_MAX);
                r.member.address = (struct member_address){.family = 6, .bytes = {[15] = 1}, .port = 65535};
                r.member.boot = r.member.features = r.member.wall_ms = UINT64_MAX;
                r.member.incarnation = r.member.load = UINT32_MAX;
                r.member.shards = UINT8_MAX;
                r.member.wire_min = r.member.wire_max = UINT16_MAX;
            }
            swim_rumour_encode(&r, &b);
            struct slice rest = buf_slice(&b);
            CHECK(b.len <= SWIM_RUMOUR_MAX);
            CHECK(swim_rumour_next(&rest, &got) && rest.len == 0);
            CHECK(rumour_eq(&r, &got));
            CHECK(!swim_rumour_next(&rest, &got));
            buf_deinit(&b);
        }
    }
}

/* Each field that can be wrong, made so one at a time. The offsets are those of a rumour about a DEAD member of family
 * 4 with a name of four bytes. */
static void test_bad_rumours(void)
{
    static const struct {
        const char *name;
        unsigned at, size;
        const char *hex;
        bool good;
    } cases[] = {
        {"as it is", 1, 0, "", true},
        {"a smaller size", 0, 1, "52", false},
        {"a larger size", 0, 1, "ff", false},
        {"no id", 1, 16, "00000000000000000000000000000000", false},
        {"any boot", 17, 8, "ffffffffffffffff", true},
        {"any incarnation", 25, 4, "ffffffff", true},
        {"state 0", 29, 1, "00", false},
        {"state 5", 29, 1, "05", false},
        {"a state of which other fields follow", 29, 1, "04", true},
        {"family 0", 30, 1, "00", false},
        {"family 5", 30, 1, "05", false},
        {"a family whose address is longer", 30, 1, "06", false},
        {"no address", 31, 4, "00000000", false},
        {"no port", 35, 2, "0000", false},
        {"a name longer than the rest", 37, 1, "ff", false},
        {"a name that is too long", 37, 1, "40", false},
        {"a name with a NUL", 38, 1, "00", false},
        {"a name with a control character", 39, 1, "1b", false},
        {"a name with DEL", 39, 1, "7f", false},
        {"a name that is no UTF-8", 39, 1, "ff", false},
        {"a name of two bytes a letter", 38, 4, "c3a4c3b6", true},
        {"no version of the wire", 42, 4, "00020001", false},
        {"no shards", 54, 1, "00", false},
        {"no cluster", 55, 16, "00000000000000000000000000000000", true},
        {"no accuser", 83, 16, "00000000000000000000000000000000", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct swim_rumour r = rumour(MEMBER_DEAD), got = {.gone_s = 1};
        struct buf b = {0};
        struct slice hex = unit_hex(cases[i].hex);
        swim_rumour_encode(&r, &b);
        CHECK(b.len == 103);
        memcpy(b.ptr + cases[i].at, hex.len ? hex.ptr : b.ptr + cases[i].at, cases[i].size);
        uint8_t *exact = malloc(b.len);
        memcpy(exact, b.ptr, b.len);
        struct slice rest = slice_of(exact, b.len);
        CHECK_CASE(cases[i].name, swim_rumour_next(&rest, &got) == cases[i].good);
        CHECK_CASE(cases[i].name, cases[i].good || (rest.len == b.len && got.gone_s == 1));
        free(exact);
        free((void *)hex.ptr);
        buf_deinit(&b);
    }
}

/* A later version says more of a member. */
static void test_appended_fields(void)
{
    struct swim_rumour r = rumour(MEMBER_ALIVE), got;
    struct buf b = {0};

    swim_rumour_encode(&r, &b);
    buf_u64(&b, 1);
    b.ptr[0] += 8;
    swim_rumour_encode(&r, &b);
    struct slice rest = buf_slice(&b);
    CHECK(swim_rumour_next(&rest, &got) && rumour_eq(&r, &got));
    CHECK(swim_rumour_next(&rest, &got) && rumour_eq(&r, &got));
    CHECK(rest.len == 0);
    buf_deinit(&b);
}

static void put_datagram(struct buf *b, enum swim_kind kind, unsigned rumours)
{
    struct swim_message m = {.kind = kind,
                             .sender = {{1}},
                             .boot = UINT64_MAX - 1,
                             .incarnation = UINT32_MAX - 1,
                             .seq = 0x01020304,
                             .subject = {{2}}};
    struct swim_rumour r = rumour(MEMBER_SUSPECT);

    swim_head_encode(&m, b);
    for (unsigned i = 0; i < rumours; i++) {
        swim_rumour_encode(&r, b);
    }
}

static void test_messages(void)
{
    for (enum swim_kind kind = SWIM_PING; kind <= SWIM_GOSSIP; kind++) {
        struct swim_message got;
        struct swim_rumour r;
        struct buf b = {0};
        put_datagram(&b, kind, 2);
        CHECK(swim_message_decode(buf_slice(&b), &got) == 0);
        CHECK(got.kind == kind && got.boot == UINT64_MAX - 1 && got.incarnation == UINT32_MAX - 1);
        CHECK(got.seq == 0x01020304 && got.sender.bytes[0] == 1 && got.subject.bytes[0] == 2);
        CHECK(swim_rumour_next(&got.rumours, &r) && swim_rumour_next(&got.rumours, &r) && got.rumours.len == 0);

        memset(b.ptr + 34, 0, 16); /* without a subject */
        bool may = kind == SWIM_HELLO || kind == SWIM_GOSSIP;
        CHECK(swim_message_decode(buf_slice(&b), &got) == (may ? 0 : -EBADMSG));
        buf_deinit(&b);
    }
}

/* Cut anywhere but between rumours, another version, an unknown kind, one bad rumour behind a good one: all refused. */
static void test_bad_messages(void)
{
    struct swim_message got = {.seq = 77};
    struct buf b = {0};

    put_datagram(&b, SWIM_PING, 2);
    uint32_t head = 50, each = (b.len - head) / 2;
    for (uint32_t len = 0; len <= b.len; len++) {
        uint8_t *exact = malloc(len ? len : 1);
        memcpy(exact, b.ptr, len);
        bool whole = len >= head && (len - head) % each == 0;
        got.seq = 77;
        CHECK(swim_message_decode(slice_of(exact, len), &got) == (whole ? 0 : -EBADMSG));
        CHECK(whole || got.seq == 77);
        free(exact);
    }
    static const struct {
        const char *name;
        unsigned at;
        uint8_t byte;
    } cases[] = {{"version 0", 0, 0}, {"version 2", 0, 2},           {"kind 0", 1, 0},
                 {"kind 7", 1, 7},    {"no sender", 2, 0},           {"no subject", 34, 0},
                 {"its size", 50, 1}, {"the second's size", 149, 1}, {"the second's state", 178, 9}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint8_t kept = b.ptr[cases[i].at];
        CHECK_CASE(cases[i].name, kept != cases[i].byte);
        b.ptr[cases[i].at] = cases[i].byte;
        CHECK_CASE(cases[i].name, swim_message_decode(buf_slice(&b), &got) == -EBADMSG);
        b.ptr[cases[i].at] = kept;
    }
    buf_deinit(&b);
}

/* One rumour more than fits: sound in every byte, and refused. */
static void test_too_large(void)
{
    struct swim_message got;
    struct buf b = {0};

    put_datagram(&b, SWIM_GOSSIP, 11);
    CHECK(b.len <= SWIM_DATAGRAM_MAX);
    CHECK(swim_message_decode(buf_slice(&b), &got) == 0);
    struct swim_rumour r = rumour(MEMBER_SUSPECT);
    swim_rumour_encode(&r, &b);
    CHECK(b.len > SWIM_DATAGRAM_MAX);
    CHECK(swim_message_decode(buf_slice(&b), &got) == -EBADMSG);
    buf_deinit(&b);
}

static void test_tables(void)
{
    struct swim_rumour r = rumour(MEMBER_LEFT);
    struct slice rumours = {0};
    struct buf b = {0};

    CHECK(swim_table_decode(buf_slice(&b), &rumours) == -EBADMSG);
    buf_u8(&b, SWIM_VERSION);
    CHECK(swim_table_decode(buf_slice(&b), &rumours) == 0 && rumours.len == 0);
    while (b.len + 87 <= SWIM_TABLE_MAX) {
        swim_rumour_encode(&r, &b);
    }
    CHECK(swim_table_decode(buf_slice(&b), &rumours) == 0 && rumours.len == b.len - 1);
    CHECK(swim_table_decode(slice_of(b.ptr, b.len - 1), &rumours) == -EBADMSG);
    b.ptr[0] = SWIM_VERSION + 1;
    CHECK(swim_table_decode(buf_slice(&b), &rumours) == -EBADMSG);
    b.ptr[0] = SWIM_VERSION;
    swim_rumour_encode(&r, &b);
    CHECK(b.len > SWIM_TABLE_MAX);
    CHECK(swim_table_decode(buf_slice(&b), &rumours) == -EBADMSG);
    buf_deinit(&b);
}

UNIT_MAIN("cluster/swim_message", {"rumours there and back", test_rumours}, {"bad rumours", test_bad_rumours},
          {"fields of a later version", test_appended_fields}, {"messages there and back", test_messages},
          {"bad messages", test_bad_messages}, {"a datagram too large", test_too_large}, {"tables", test_tables})
