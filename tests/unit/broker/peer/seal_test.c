/* Sealed datagrams: who may open them, what is refused, how keys are exchanged. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/peer/seal.h"
#include "tests/lib/unit.h"

static const struct node_id ann = {{1}}, bob = {{2}};

static struct seal *make(const struct node_id *id, uint64_t boot, const char *cluster, const struct seal_ring *ring)
{
    struct seal *s = NULL;

    CHECK(seal_new(id, boot, cluster, ring, &s) == 0);
    return s;
}

static struct seal_ring ring_of(const char *name)
{
    struct seal_ring ring;

    seal_ring_insecure(name, &ring);
    return ring;
}

static bool opens(struct seal *s, const struct buf *datagram, const char *text)
{
    struct slice plain;
    struct node_id from;

    return seal_open(s, buf_slice(datagram), &plain, &from) == 0 && slice_eq(plain, slice_str(text)) &&
           node_id_eq(&from, &ann);
}

static void test_there(void)
{
    struct seal_ring ring = ring_of("x"), other = ring_of("y");
    struct seal *a = make(&ann, 1, "c", &ring), *b = make(&bob, 1, "c", &ring);
    struct seal *stranger = make(&bob, 1, "c", &other), *namesake = make(&bob, 1, "d", &ring);
    struct buf d = {0};

    CHECK(seal_close(a, SLICE("hello"), &d) == 0 && d.len == 5 + SEAL_OVERHEAD);
    CHECK(!opens(stranger, &d, "hello") && !opens(namesake, &d, "hello") && !opens(a, &d, "hello"));
    CHECK(opens(b, &d, "hello"));
    CHECK(!opens(b, &d, "hello"));         /* once */
    for (uint32_t i = 0; i < d.len; i++) { /* another receiver, that has not heard it: no byte may differ */
        struct seal *c = make(&bob, 1, "c", &ring);
        d.ptr[i] ^= 1;
        CHECK(!opens(c, &d, "hello"));
        d.ptr[i] ^= 1;
        seal_free(c);
    }
    for (uint32_t len = d.len; len-- > 0;) {
        struct buf cut = {.ptr = d.ptr, .len = len, .cap = d.cap};
        CHECK(!opens(namesake, &cut, "hello"));
    }
    buf_deinit(&d);
    seal_free(a);
    seal_free(b);
    seal_free(stranger);
    seal_free(namesake);
}

/* Datagrams overtake each other: each counts once, and one that is far too late not at all. */
static void test_replay(void)
{
    enum { COUNT = 80 };
    struct seal_ring ring = ring_of("x");
    struct seal *a = make(&ann, 1, "c", &ring), *b = make(&bob, 1, "c", &ring);
    struct buf d[COUNT] = {0};

    for (unsigned i = 0; i < COUNT; i++) {
        CHECK(seal_close(a, SLICE("x"), &d[i]) == 0);
    }
    for (unsigned i = 20; i < COUNT; i += 2) {
        CHECK(opens(b, &d[i], "x"));
    }
    for (unsigned i = 0; i < COUNT; i++) {
        CHECK(opens(b, &d[i], "x") == (i > COUNT - 2 - 64 && (i < 20 || i % 2)));
    }
    struct seal *again = make(&ann, 2, "c", &ring); /* started anew: it counts from the beginning */
    d[0].len = 0;
    CHECK(seal_close(again, SLICE("x"), &d[0]) == 0 && opens(b, &d[0], "x"));
    for (unsigned i = 0; i < COUNT; i++) {
        buf_deinit(&d[i]);
    }
    seal_free(a);
    seal_free(b);
    seal_free(again);
}

/* A new key goes second everywhere, then first, then alone: at no step does anybody stop understanding anybody. */
static void test_rotation(void)
{
    struct seal_ring old = ring_of("old"), new = ring_of("new"), both = old, turned = new;

    memcpy(both.keys[1], new.keys[0], SEAL_KEY_BYTES);
    memcpy(turned.keys[1], old.keys[0], SEAL_KEY_BYTES);
    both.count = turned.count = 2;
    const struct seal_ring *steps[] = {&old, &both, &turned, &new};
    for (unsigned i = 0; i + 1 < COUNT_OF(steps); i++) {
        for (unsigned k = 0; k < 4; k++) {
            struct seal *a = make(&ann, 1, "c", steps[i + k / 2]), *b = make(&bob, 1, "c", steps[i + k % 2]);
            struct buf d = {0};
            CHECK(seal_close(a, SLICE("x"), &d) == 0 && opens(b, &d, "x"));
            buf_deinit(&d);
            seal_free(a);
            seal_free(b);
        }
    }
}

/* Other keys in a seal that lives: what was on its way still opens, and only once. */
static void test_rotation_alive(void)
{
    struct seal_ring old = ring_of("old"), new = ring_of("new"), both = new;
    struct seal *a = make(&ann, 1, "c", &old), *b = make(&bob, 1, "c", &old);
    struct buf first = {0}, second = {0}, third = {0};

    memcpy(both.keys[1], old.keys[0], SEAL_KEY_BYTES);
    both.count = 2;
    CHECK(seal_close(a, SLICE("1"), &first) == 0 && seal_close(a, SLICE("2"), &second) == 0);
    CHECK(opens(b, &first, "1"));
    seal_ring_set(b, &both);
    CHECK(!opens(b, &first, "1") && opens(b, &second, "2"));
    seal_ring_set(a, &both);
    CHECK(seal_close(a, SLICE("3"), &third) == 0);
    seal_ring_set(b, &new);
    CHECK(opens(b, &third, "3") && !opens(b, &second, "2"));
    buf_deinit(&first);
    buf_deinit(&second);
    buf_deinit(&third);
    seal_free(a);
    seal_free(b);
}

static void test_files(void)
{
#define KEY "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF\n"
    static const struct {
        const char *text, *wrong;
        unsigned keys;
    } cases[] = {
        {"# ours\n\n" KEY, NULL, 1},
        {KEY KEY KEY KEY, NULL, 4},
        {KEY KEY KEY KEY KEY, ":5: more than four keys", 0},
        {"", ": no key in it", 0},
        {KEY "0011\n", ":2: not a key of 64 hex digits", 0},
        {"z" KEY, ":1: not a key of 64 hex digits", 0},
    };
    char path[] = "/tmp/seal_test_XXXXXX", error[256];
    int fd = mkstemp(path);

    CU_ASSERT_FATAL(fd >= 0);
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct seal_ring ring;
        CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, cases[i].text, strlen(cases[i].text), 0) >= 0);
        int rc = seal_ring_read(path, &ring, error, sizeof(error));
        CHECK_CASE(cases[i].text, (rc == 0) == !cases[i].wrong);
        CHECK_CASE(cases[i].text, cases[i].wrong ? strcmp(error + strlen(path), cases[i].wrong) == 0
                                                 : ring.count == cases[i].keys && ring.keys[0][1] == 0x11);
    }
    close(fd);
    unlink(path);
    struct seal_ring none;
    CHECK(seal_ring_read(path, &none, error, sizeof(error)) == -EINVAL && strstr(error, "No such file"));
}

UNIT_MAIN("broker/peer/seal", {"there", test_there}, {"again and late", test_replay}, {"rotation", test_rotation},
          {"rotation of one that lives", test_rotation_alive}, {"files", test_files})
