/* fuzz_retained.c -- retained messages against an array by topic, with cursors that step while messages come and go.
 *
 * Every topic that was there for the whole life of a cursor, and that the cursor is for, is found exactly once; nothing
 * is found that is not there at that moment. An expired message may or may not have been removed, but is never seen. */
#include "broker/topic/retained.h"
#include "proto/mqtt/topic.h"
#include "tests/fuzz/ops.h"

#define TOPICS 256 /* by byte; bytes that stand for one text share the entry of the lowest */
#define CURSORS 3
#define PAGE 4

struct entry {
    bool there; /* as far as the model knows: an expired one may have been removed */
    uint64_t expires_at_ms, sequence;
    uint32_t version; /* its payload */
};

struct walk {
    struct retained_cursor *cursor; /* NULL: not open */
    uint64_t sequence;
    char text[OPS_TEXT_MAX];
    struct slice filter;
    uint8_t found[TOPICS];
    bool whole[TOPICS]; /* there, and for this cursor, since it was opened */
};

struct model {
    struct retained *store;
    struct retained_quota quota;
    struct entry entries[TOPICS];
    struct walk walks[CURSORS];
    uint64_t now_ms;
    uint32_t version;
};

static struct slice topic_of(unsigned index, char text[OPS_TEXT_MAX])
{
    return ops_text((uint8_t)index, false, text);
}

static unsigned index_of(struct slice topic)
{
    char text[OPS_TEXT_MAX];
    unsigned i = 0;

    while (!slice_eq(topic_of(i, text), topic)) {
        i++;
        require(i < TOPICS);
    }
    return i;
}

static bool alive(const struct model *m, const struct entry *e)
{
    return e->there && e->expires_at_ms > m->now_ms;
}

/* The topic is not what it was for the cursors that are open. */
static void broken(struct model *m, unsigned topic, bool only_limited)
{
    for (unsigned i = 0; i < CURSORS; i++) {
        if (!only_limited || m->walks[i].sequence != UINT64_MAX) {
            m->walks[i].whole[topic] = false;
        }
    }
}

static void advance(struct model *m, unsigned ms)
{
    m->now_ms += ms;
    for (unsigned i = 0; i < TOPICS; i++) {
        if (m->entries[i].there && !alive(m, &m->entries[i])) {
            broken(m, i, false);
        }
    }
}

static void op_set(struct model *m, struct slice *in)
{
    char text[OPS_TEXT_MAX];
    struct slice topic = ops_text(ops_byte(in), false, text);
    uint8_t life = ops_byte(in);
    unsigned index = index_of(topic);
    uint32_t version = ++m->version;
    uint64_t expires_at_ms = life < 128 ? MESSAGE_NEVER : m->now_ms + life - 127, before = retained_sequence(m->store);
    struct message_source source = {.topic = topic,
                                    .topic_hash = hash_keyed(&ops_key, topic),
                                    .payload = slice_of(&version, sizeof(version)),
                                    .expires_at_ms = expires_at_ms};
    struct message *msg = message_new(&source);

    require(msg && retained_set(m->store, msg) == 0);
    message_unref(msg);
    require(retained_sequence(m->store) > before);
    broken(m, index, alive(m, &m->entries[index])); /* in place of another, the topic is still there */
    m->entries[index] = (struct entry){true, expires_at_ms, retained_sequence(m->store), version};
}

static void op_clear(struct model *m, struct slice *in)
{
    char text[OPS_TEXT_MAX];
    struct slice topic = ops_text(ops_byte(in), false, text);
    struct entry *e = &m->entries[index_of(topic)];
    bool had = retained_clear(m->store, topic, hash_keyed(&ops_key, topic), (struct message_stamp){0}) == 1;

    require(!had || e->there);
    require(had || !alive(m, e));
    e->there = false;
    broken(m, index_of(topic), false);
}

static bool is_version(const struct message *msg, const struct entry *e)
{
    return slice_eq(message_payload(msg), slice_of(&e->version, sizeof(e->version)));
}

static void op_get(struct model *m, struct slice *in)
{
    char text[OPS_TEXT_MAX];
    struct slice topic = ops_text(ops_byte(in), false, text);
    struct entry *e = &m->entries[index_of(topic)];
    const struct message *msg = retained_get(m->store, topic, hash_keyed(&ops_key, topic), m->now_ms);

    require((msg != NULL) == alive(m, e));
    require(!msg || (slice_eq(message_topic(msg), topic) && is_version(msg, e)));
    e->there = msg != NULL;
}

static void op_open(struct model *m, struct slice *in)
{
    struct walk *w = &m->walks[ops_byte(in) % CURSORS];
    uint8_t byte = ops_byte(in);
    char text[OPS_TEXT_MAX];

    if (w->cursor) {
        retained_cursor_close(w->cursor);
    }
    memset(w, 0, sizeof(*w));
    w->sequence = ops_byte(in) % 2 ? UINT64_MAX : retained_sequence(m->store);
    w->filter = ops_text(byte, true, w->text);
    for (unsigned i = 0; i < TOPICS; i++) {
        w->whole[i] = alive(m, &m->entries[i]) && mqtt_filter_matches(w->filter, topic_of(i, text));
    }
    require(retained_cursor_open(m->store, w->filter, w->sequence, &w->cursor) == 0);
}

static void finish(struct walk *w)
{
    for (unsigned i = 0; i < TOPICS; i++) {
        require(!w->whole[i] || w->found[i] == 1);
    }
    retained_cursor_close(w->cursor);
    w->cursor = NULL;
}

/* One step of a walk; true when it was the last. */
static bool step(struct model *m, struct walk *w, unsigned steps, unsigned max)
{
    struct message *page[PAGE];
    bool done = false;
    unsigned n = retained_cursor_next(w->cursor, m->now_ms, steps, page, max, &done);

    require(n <= max && n <= steps);
    for (unsigned i = 0; i < n; i++) {
        unsigned index = index_of(message_topic(page[i]));
        const struct entry *e = &m->entries[index];
        require(alive(m, e) && is_version(page[i], e)); /* as it is now, never as it was */
        require(e->sequence <= w->sequence);
        require(mqtt_filter_matches(w->filter, message_topic(page[i])));
        w->found[index]++;
        require(!w->whole[index] || w->found[index] == 1);
        message_unref(page[i]);
    }
    return done;
}

static void op_step(struct model *m, struct slice *in)
{
    struct walk *w = &m->walks[ops_byte(in) % CURSORS];
    uint8_t how = ops_byte(in);

    if (w->cursor && step(m, w, how % 16, how / 16 % (PAGE + 1))) {
        finish(w);
    }
}

/* No more is removed than has expired. */
static void op_sweep(struct model *m, unsigned steps)
{
    size_t before = retained_count(m->store);
    unsigned removed = retained_sweep(m->store, m->now_ms, steps);
    require(removed <= steps && retained_count(m->store) == before - removed);
}

static void check_counts(struct model *m)
{
    size_t least = 0, most = 0;
    uint64_t count = atomic_load(&m->quota.count), bytes = atomic_load(&m->quota.bytes);

    for (unsigned i = 0; i < TOPICS; i++) {
        least += alive(m, &m->entries[i]);
        most += m->entries[i].there;
    }
    require(retained_count(m->store) >= least && retained_count(m->store) <= most);
    require(count == retained_count(m->store) && bytes == retained_bytes(m->store)); /* there is no $SYS here */
}

/* Walk all cursors to their ends; then nothing but what lives is left after sweeping, and nothing after clearing that.
 */
static void end(struct model *m)
{
    char text[OPS_TEXT_MAX];
    unsigned quiet = 0;

    for (unsigned i = 0; i < CURSORS; i++) {
        if (m->walks[i].cursor) {
            while (!step(m, &m->walks[i], 7, PAGE)) {
            }
            finish(&m->walks[i]);
        }
    }
    while (quiet < 2) { /* the first may have begun in the middle */
        quiet = retained_sweep(m->store, m->now_ms, TOPICS * 16) == 0 ? quiet + 1 : 0;
    }
    for (unsigned i = 0; i < TOPICS; i++) {
        struct slice topic = topic_of(i, text);
        bool had = retained_clear(m->store, topic, hash_keyed(&ops_key, topic), (struct message_stamp){0}) == 1;
        require(had == alive(m, &m->entries[i]));
    }
    require(retained_count(m->store) == 0 && retained_bytes(m->store) == 0 && atomic_load(&m->quota.bytes) == 0);
    retained_free(m->store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model m;
    struct slice in = slice_of(data, size);

    memset(&m, 0, sizeof(m));
    m.quota.count_max = m.quota.bytes_max = UINT64_MAX;
    require(retained_new(&ops_key, &m.quota, &m.store) == 0);
    while (in.len > 0) {
        switch (ops_byte(&in) % 8) {
        case 0:
        case 1:
            op_set(&m, &in);
            break;
        case 2:
            op_clear(&m, &in);
            break;
        case 3:
            op_get(&m, &in);
            break;
        case 4:
            op_open(&m, &in);
            break;
        case 5:
            advance(&m, ops_byte(&in));
            break;
        case 6:
            op_sweep(&m, ops_byte(&in));
            break;
        default:
            op_step(&m, &in);
            break;
        }
        check_counts(&m);
    }
    end(&m);
    return 0;
}
