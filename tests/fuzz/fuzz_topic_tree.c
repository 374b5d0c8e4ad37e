/* fuzz_topic_tree.c -- subscribing, unsubscribing and matching against a list that is searched from end to end.
 *
 * Everything that a match says of a session is computed a second time from the list, with the plain definition of
 * matching. At the end nothing is left in the tree. */
#include "broker/topic/topic_tree.h"
#include "proto/mqtt/topic.h"
#include "tests/fuzz/ops.h"

#define OWNERS 6
#define ROWS_MAX 256

struct row {
    struct subscription *subscription; /* NULL: free */
    struct subscription_options options;
    unsigned owner;
    uint8_t filter;
};

struct model {
    struct topic_tree *tree;
    struct row rows[ROWS_MAX];
    uint64_t generation;
};

static char owners[OWNERS]; /* only their addresses count */

static struct slice filter_of(const struct row *row, char text[OPS_TEXT_MAX])
{
    return ops_text(row->filter, true, text);
}

/* The row of an owner's subscription to a filter, or NULL; two bytes may stand for one text. */
static struct row *find_row(struct model *m, unsigned owner, struct slice filter)
{
    char text[OPS_TEXT_MAX];

    for (unsigned i = 0; i < ROWS_MAX; i++) {
        struct row *row = &m->rows[i];
        if (row->subscription && row->owner == owner && slice_eq(filter_of(row, text), filter)) {
            return row;
        }
    }
    return NULL;
}

static unsigned filter_uses(struct model *m, struct slice filter)
{
    unsigned uses = 0;
    for (unsigned owner = 0; owner < OWNERS; owner++) {
        uses += find_row(m, owner, filter) != NULL;
    }
    return uses;
}

static void op_subscribe(struct model *m, struct slice *in)
{
    static const uint32_t ids[] = {0, 1, 127, 128, 16384, 268435455, 7, 0};
    uint8_t who = ops_byte(in), byte = ops_byte(in), how = ops_byte(in);
    unsigned owner = who % OWNERS;
    char text[OPS_TEXT_MAX];
    struct slice filter = ops_text(byte, true, text);
    struct row *row = find_row(m, owner, filter), *spare = m->rows;
    struct subscription_options options = {
        .id = ids[how >> 4 & 7], .qos = how % 3, .no_local = how >> 2 & 1, .retain_as_published = how >> 3 & 1};
    unsigned uses = filter_uses(m, filter);
    struct subscription *s;
    bool existed, first;

    while (!row && spare < m->rows + ROWS_MAX && spare->subscription) {
        spare++;
    }
    if (!row && spare == m->rows + ROWS_MAX) {
        return;
    }
    require(topic_tree_subscribe(m->tree, &owners[owner], filter, &options, &s, &existed, &first) == 0);
    require(existed == (row != NULL));
    require(first == (uses == 0));
    require(!row || row->subscription == s);
    require(slice_eq(subscription_filter(s), filter) && s->owner == &owners[owner]);
    require(topic_tree_generation(m->tree) > m->generation);
    *(row ? row : spare) = (struct row){s, options, owner, byte};
}

static void end_row(struct model *m, struct row *row)
{
    char text[OPS_TEXT_MAX];
    unsigned uses = filter_uses(m, filter_of(row, text));

    require(topic_tree_unsubscribe(m->tree, row->subscription) == (uses == 1));
    row->subscription = NULL;
    require(topic_tree_generation(m->tree) > m->generation);
}

static void op_unsubscribe(struct model *m, struct slice *in)
{
    unsigned owner = ops_byte(in) % OWNERS;
    char text[OPS_TEXT_MAX];
    struct slice filter = ops_text(ops_byte(in), true, text);
    struct row *row = find_row(m, owner, filter);

    require(topic_tree_find(m->tree, &owners[owner], filter) == (row ? row->subscription : NULL));
    if (row) {
        end_row(m, row);
    }
}

/* Number and sum of the identifiers in an encoded row of them: which is enough to tell sets of these few apart. */
static uint64_t ids_sum(struct slice ids)
{
    uint64_t sum = 0;

    while (ids.len > 0) {
        require(ops_byte(&ids) == 0x0b);
        uint32_t value = 0, shift = 0;
        uint8_t byte;
        do {
            require(ids.len > 0 && shift < 28);
            byte = ops_byte(&ids);
            value |= (uint32_t)(byte & 127) << shift;
            shift += 7;
        } while (byte > 127);
        require(value != 0);
        sum += ((uint64_t)1 << 40) + value;
    }
    return sum;
}

static uint64_t id_sum(uint32_t id)
{
    return id ? ((uint64_t)1 << 40) + id : 0;
}

/* What one owner is to get of a topic, from the list. */
static void check_owner(struct model *m, unsigned owner, struct slice topic, const struct match *got)
{
    const struct match_entry *e = NULL;
    bool any = false, rap = false, self_rap = false;
    uint8_t qos = 0, self_qos = MATCH_NONE;
    uint64_t sum = 0, self_sum = 0;
    char text[OPS_TEXT_MAX];

    for (uint32_t i = 0; i < got->count; i++) {
        if (got->entries[i].owner == &owners[owner]) {
            require(!e); /* one entry an owner */
            e = &got->entries[i];
        }
    }
    for (unsigned i = 0; i < ROWS_MAX; i++) {
        const struct row *row = &m->rows[i];
        if (!row->subscription || row->owner != owner || !mqtt_filter_matches(filter_of(row, text), topic)) {
            continue;
        }
        any = true;
        qos = row->options.qos > qos ? row->options.qos : qos;
        rap |= row->options.retain_as_published;
        sum += id_sum(row->options.id);
        if (!row->options.no_local) {
            self_qos = self_qos == MATCH_NONE || row->options.qos > self_qos ? row->options.qos : self_qos;
            self_rap |= row->options.retain_as_published;
            self_sum += id_sum(row->options.id);
        }
    }
    require(any == (e != NULL));
    if (e) {
        require(e->qos == qos && e->retain_as_published == rap);
        require(e->self_qos == self_qos && e->self_retain_as_published == self_rap);
        require(e->ids_at + e->ids_len <= got->ids_len && e->self_ids_at + e->self_ids_len <= got->ids_len);
        require(ids_sum(slice_of(got->ids + e->ids_at, e->ids_len)) == sum);
        require(ids_sum(slice_of(got->ids + e->self_ids_at, e->self_ids_len)) == self_sum);
    }
}

static void op_match(struct model *m, struct slice *in)
{
    char text[OPS_TEXT_MAX];
    struct slice topic = ops_text(ops_byte(in), false, text);
    struct match *got = NULL;

    require(topic_tree_match(m->tree, topic, hash_keyed(&ops_key, topic), &got) == 0);
    require(got->count <= OWNERS);
    for (unsigned owner = 0; owner < OWNERS; owner++) {
        check_owner(m, owner, topic, got);
    }
    free(got);
    require(topic_tree_generation(m->tree) == m->generation);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model m;
    struct slice in = slice_of(data, size);

    memset(&m, 0, sizeof(m));
    require(topic_tree_new(&ops_key, &m.tree) == 0);
    while (in.len > 0) {
        m.generation = topic_tree_generation(m.tree);
        switch (ops_byte(&in) % 4) {
        case 0:
        case 1:
            op_subscribe(&m, &in);
            break;
        case 2:
            op_unsubscribe(&m, &in);
            break;
        default:
            op_match(&m, &in);
            break;
        }
    }
    for (unsigned i = 0; i < ROWS_MAX; i++) {
        if (m.rows[i].subscription) {
            m.generation = topic_tree_generation(m.tree);
            end_row(&m, &m.rows[i]);
        }
    }
    require(topic_tree_filter_count(m.tree) == 0);
    topic_tree_free(m.tree);
    return 0;
}
