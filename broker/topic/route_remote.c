/* route_remote.c -- what other nodes want: their sets of filters, each in a slot.
 *
 * Nearly all filters of a fleet are without wildcards and wanted by one node, so these lie in cells of sixteen bytes:
 * hash and slot, nothing else. The writer puts the word before the hash; a reader that meets the hash sees the word. A
 * cell keeps its hash for ever; one without a word is passed over, and left behind when the cells are built anew. */
#include <errno.h>
#include <stdlib.h>

#include "broker/topic/route_inside.h"
#include "proto/mqtt/topic.h"

#define CELLS_START 64u
#define RELAXED memory_order_relaxed

/* ---- sets of slots ---- */

static bool set_has(const struct slot_set *set, unsigned slot)
{
    return set->bits[slot / 64] >> slot % 64 & 1;
}

/* A copy with one slot more or less. NULL: memory is out. */
static struct slot_set *set_with(const struct slot_set *set, unsigned slot, bool in)
{
    struct slot_set *next = calloc(1, sizeof(*next));

    if (next) {
        if (set) {
            memcpy(next->bits, set->bits, sizeof(next->bits));
        }
        next->bits[slot / 64] &= ~(1ull << slot % 64);
        next->bits[slot / 64] |= (uint64_t)in << slot % 64;
    }
    return next;
}

static unsigned set_count(const struct slot_set *set)
{
    unsigned n = 0;

    for (unsigned i = 0; i < COUNT_OF(set->bits); i++) {
        n += (unsigned)__builtin_popcountll(set->bits[i]);
    }
    return n;
}

/* ---- cells ---- */

static uint64_t word_of_slot(unsigned slot)
{
    return (uint64_t)slot << 1 | 1;
}

static struct slot_set *set_of_word(uint64_t word)
{
    return (struct slot_set *)(uintptr_t)word;
}

static bool word_has(uint64_t word, unsigned slot)
{
    return word & 1 ? word == word_of_slot(slot) : word != 0 && set_has(set_of_word(word), slot);
}

/* 0 means a free cell. */
static uint64_t cell_hash(uint64_t hash)
{
    return hash ? hash : 1;
}

struct cells *cells_new(uint32_t slots, uint64_t factor)
{
    struct cells *c = calloc(1, sizeof(*c) + slots * sizeof(c->cells[0]));

    if (c) {
        c->mask = slots - 1;
        c->scatter = factor;
    }
    return c;
}

void cells_free(struct cells *c)
{
    for (uint32_t i = 0; i <= c->mask; i++) {
        uint64_t word = atomic_load(&c->cells[i].word);
        if (!(word & 1)) {
            free(set_of_word(word));
        }
    }
    free(c);
}

void cells_collect(const struct cells *c, uint64_t hash, uint64_t bits[ROUTE_SLOTS / 64])
{
    uint64_t wanted = cell_hash(hash), there;

    for (uint32_t i = scatter(wanted, c->scatter) & c->mask;
         (there = atomic_load_explicit(&c->cells[i].hash, memory_order_acquire)) != 0; i = (i + 1) & c->mask) {
        if (there != wanted) {
            continue;
        }
        uint64_t word = atomic_load_explicit(&c->cells[i].word, memory_order_acquire);
        if (word & 1) {
            bits[(word >> 1) / 64] |= 1ull << (word >> 1) % 64;
        } else if (word) {
            const struct slot_set *set = set_of_word(word);
            for (unsigned k = 0; k < COUNT_OF(set->bits); k++) {
                bits[k] |= set->bits[k];
            }
        }
        return;
    }
}

/* The cell of this hash, or the free one where it would be. The writer's. */
static struct cell *cell_find(struct cells *c, uint64_t wanted)
{
    uint32_t i = scatter(wanted, c->scatter) & c->mask;
    uint64_t there;

    while ((there = atomic_load_explicit(&c->cells[i].hash, RELAXED)) != 0 && there != wanted) {
        i = (i + 1) & c->mask;
    }
    return &c->cells[i];
}

static void cell_fill(struct cells *c, struct cell *cell, uint64_t hash, uint64_t word)
{
    bool fresh = atomic_load_explicit(&cell->hash, RELAXED) == 0;

    c->live += atomic_load_explicit(&cell->word, RELAXED) == 0;
    atomic_store_explicit(&cell->word, word, memory_order_release);
    if (fresh) {
        c->used++;
        atomic_store_explicit(&cell->hash, hash, memory_order_release);
    }
}

/* Build the cells anew, without those that have no word, with room for half as many again. */
static int cells_rebuild(struct route_table *t)
{
    struct cells *c = atomic_load_explicit(&t->cells, RELAXED);
    uint64_t slots = CELLS_START;

    while (slots * 2 < ((uint64_t)c->live + 1) * 3) {
        slots *= 2;
    }
    struct cells *next = slots <= UINT32_MAX / 2 ? cells_new((uint32_t)slots, t->scatter) : NULL;
    if (!next) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i <= c->mask; i++) {
        uint64_t word = atomic_load_explicit(&c->cells[i].word, RELAXED);
        uint64_t hash = atomic_load_explicit(&c->cells[i].hash, RELAXED);
        if (word) {
            cell_fill(next, cell_find(next, hash), hash, word);
        }
    }
    atomic_store_explicit(&t->cells, next, memory_order_release);
    grace_retire(&t->grace, &c->item);
    return 0;
}

static int cells_reserve(struct route_table *t)
{
    const struct cells *c = atomic_load_explicit(&t->cells, RELAXED);

    return (uint64_t)(c->used + 1) * 4 <= ((uint64_t)c->mask + 1) * 3 ? 0 : cells_rebuild(t);
}

static void retire_word(struct route_table *t, uint64_t word)
{
    if (word && !(word & 1)) {
        grace_retire(&t->grace, &set_of_word(word)->item);
    }
}

/* Returns 1 if it is new, 0 if it was there, -ENOMEM. */
static int cell_add(struct route_table *t, uint64_t hash, unsigned slot)
{
    uint64_t wanted = cell_hash(hash);

    if (cells_reserve(t) != 0) {
        return -ENOMEM;
    }
    struct cells *c = atomic_load_explicit(&t->cells, RELAXED);
    struct cell *cell = cell_find(c, wanted);
    uint64_t word = atomic_load_explicit(&cell->word, RELAXED), next = word_of_slot(slot);
    if (word_has(word, slot)) {
        return 0;
    }
    if (word) {
        struct slot_set only = {0};
        only.bits[(word >> 1) % ROUTE_SLOTS / 64] = word & 1 ? 1ull << (word >> 1) % 64 : 0;
        next = (uint64_t)(uintptr_t)set_with(word & 1 ? &only : set_of_word(word), slot, true);
        if (!next) {
            return -ENOMEM;
        }
    }
    cell_fill(c, cell, wanted, next);
    retire_word(t, word);
    return 1;
}

/* Take a slot out of a cell's word. Without memory for a smaller set, the set stays with the slot in it: false. */
static bool cell_take(struct route_table *t, struct cells *c, struct cell *cell, unsigned slot)
{
    uint64_t word = atomic_load_explicit(&cell->word, RELAXED), next = 0;

    if (!(word & 1) && set_count(set_of_word(word)) > 1) {
        next = (uint64_t)(uintptr_t)set_with(set_of_word(word), slot, false);
        if (!next) {
            return false;
        }
    }
    c->live -= next == 0;
    atomic_store_explicit(&cell->word, next, memory_order_release);
    retire_word(t, word);
    return true;
}

/* ---- entries: wildcards, and shares of any filter ---- */

static int entry_add(struct route_table *t, struct entry *e, unsigned slot)
{
    struct slot_set *set = atomic_load_explicit(&e->slots, RELAXED);

    if (set && set_has(set, slot)) {
        return 0;
    }
    struct slot_set *next = set_with(set, slot, true);
    if (!next) {
        route_prune(t, e);
        return -ENOMEM;
    }
    atomic_store_explicit(&e->slots, next, memory_order_release);
    if (set) {
        grace_retire(&t->grace, &set->item);
    }
    return 1;
}

/* Returns whether it was there and is gone. */
static bool entry_take(struct route_table *t, struct entry *e, unsigned slot)
{
    struct slot_set *set = atomic_load_explicit(&e->slots, RELAXED), *next = NULL;

    if (!set || !set_has(set, slot) || (set_count(set) > 1 && !(next = set_with(set, slot, false)))) {
        return false;
    }
    atomic_store_explicit(&e->slots, next, memory_order_release);
    grace_retire(&t->grace, &set->item);
    return true;
}

static int share_add(struct route_table *t, struct entry *e, uint64_t id, unsigned slot)
{
    struct share_entry *share;

    if (atomic_load_explicit(route_find_share(e, id, slot), RELAXED)) {
        return 0;
    }
    share = malloc(sizeof(*share));
    if (!share) {
        route_prune(t, e);
        return -ENOMEM;
    }
    *share = (struct share_entry){.id = id, .home = ROUTE_NO_HOME, .slot = slot};
    route_put_share(t, e, share);
    return 1;
}

/* ---- what the sets are told by ---- */

void route_digest_count(struct route_digest *digest, const struct route_filter *f, bool added)
{
    uint64_t content = hash_mix(f->hash ^ (f->text.len > 0 ? 0x9e3779b97f4a7c15ull : 0));

    content = hash_mix(content ^ (f->share * 0xff51afd7ed558ccdull));
    digest->count += added ? 1 : UINT64_MAX;
    digest->sum += added ? content : 0 - content;
}

struct route_digest route_table_slot_digest(const struct route_table *t, unsigned slot)
{
    return t->digests[slot];
}

struct route_digest route_table_own_digest(const struct route_table *t)
{
    return t->own;
}

void route_table_watch(struct route_table *t, void (*watch)(void *, const struct route_filter *, bool), void *arg)
{
    t->watch = watch;
    t->watch_arg = arg;
}

/* The filter with the hash that this table gives it. */
static struct route_filter known(const struct route_table *t, const struct route_filter *f)
{
    struct route_filter k = *f;

    if (k.text.len > 0) {
        k.hash = hash_keyed(t->key, k.text);
    }
    return k;
}

static struct entry *entry_of(struct route_table *t, const struct route_filter *f, bool make)
{
    return f->text.len > 0 ? route_find_entry(t, f->text, make) : route_find_exact(t, f->hash, make);
}

int route_table_add_remote(struct route_table *t, const struct route_filter *filter, unsigned slot)
{
    struct route_filter f = known(t, filter);
    int rc;

    if (f.text.len == 0 && f.share == 0) {
        rc = cell_add(t, f.hash, slot);
    } else {
        struct entry *e = entry_of(t, &f, true);
        rc = !e ? -ENOMEM : f.share ? share_add(t, e, f.share, slot) : entry_add(t, e, slot);
    }
    if (rc == 1) {
        route_digest_count(&t->digests[slot], &f, true);
        route_changed(t);
    }
    return rc < 0 ? rc : 0;
}

void route_table_remove_remote(struct route_table *t, const struct route_filter *filter, unsigned slot)
{
    struct route_filter f = known(t, filter);
    bool gone;

    if (f.text.len == 0 && f.share == 0) {
        struct cells *c = atomic_load_explicit(&t->cells, RELAXED);
        struct cell *cell = cell_find(c, cell_hash(f.hash));
        gone = word_has(atomic_load_explicit(&cell->word, RELAXED), slot) && cell_take(t, c, cell, slot);
    } else {
        struct entry *e = entry_of(t, &f, false);
        gone = e && (f.share ? route_drop_share(t, e, f.share, slot) : entry_take(t, e, slot));
        if (gone) {
            route_prune(t, e);
        }
    }
    if (gone) {
        route_digest_count(&t->digests[slot], &f, false);
        route_changed(t);
    }
}

void route_table_slot_live(struct route_table *t, unsigned slot, bool live)
{
    uint64_t bit = 1ull << slot % 64;

    if (live) {
        atomic_fetch_or_explicit(&t->alive[slot / 64], bit, memory_order_release);
    } else {
        atomic_fetch_and_explicit(&t->alive[slot / 64], ~bit, memory_order_release);
    }
    route_changed(t);
}

/* ---- walks over everything ---- */

/* All of a dead slot out of one entry. */
static void sweep_entry(struct route_table *t, struct entry *e, unsigned slot)
{
    struct share_entry *share = atomic_load_explicit(&e->shares, RELAXED);

    (void)entry_take(t, e, slot);
    while (share) {
        struct share_entry *next = atomic_load_explicit(&share->next, RELAXED);
        if (share->slot == slot) {
            route_drop_share(t, e, share->id, slot);
        }
        share = next;
    }
    route_prune(t, e);
}

static struct index *index_of(const struct route_table *t, unsigned stage)
{
    return atomic_load_explicit(stage == 0 ? &t->exact : &t->nodes, RELAXED);
}

/* Stages: exact entries, tree nodes, cells. Returns whether the stage is over. */
static bool sweep_stage(struct route_table *t, unsigned budget)
{
    struct route_sweep *s = &t->sweep;
    struct cells *c = atomic_load_explicit(&t->cells, RELAXED);
    const void *of = s->stage == 2 ? (void *)c : (void *)index_of(t, s->stage);

    if (s->of != of) { /* it was built anew meanwhile: nothing lies where it was */
        s->of = of;
        s->at = 0;
    }
    uint32_t mask = s->stage == 2 ? c->mask : index_of(t, s->stage)->mask;
    for (; budget > 0 && s->at <= mask; budget--, s->at++) {
        if (s->stage == 2) {
            struct cell *cell = &c->cells[s->at];
            if (word_has(atomic_load_explicit(&cell->word, RELAXED), s->slot)) {
                (void)cell_take(t, c, cell, s->slot);
            }
            continue;
        }
        struct entry *e = atomic_load_explicit(&index_of(t, s->stage)->slots[s->at], RELAXED);
        if (!is_free(e)) {
            sweep_entry(t, e, s->slot);
            if (index_of(t, s->stage) != of) {
                return false;
            }
        }
    }
    return s->at > mask;
}

bool route_table_slot_sweep(struct route_table *t, unsigned slot, unsigned budget)
{
    struct route_sweep *s = &t->sweep;

    if (s->slot != slot) {
        *s = (struct route_sweep){.slot = slot};
    }
    if (!sweep_stage(t, budget)) {
        return false;
    }
    s->of = NULL;
    if (++s->stage < 3) {
        return false;
    }
    s->slot = NO_SLOT;
    t->digests[slot] = (struct route_digest){0};
    route_changed(t);
    return true;
}

/* The filter that ends at a node of the tree, in the writer's scratch; len 0: memory is out. */
static struct slice text_of(struct route_table *t, const struct entry *e)
{
    uint32_t len = 0;

    for (const struct entry *at = e; at != t->root; at = at->parent) {
        len += at->level_len + 1u;
    }
    t->text.len = 0;
    uint8_t *out = buf_extend(&t->text, len);
    if (!out) {
        t->text.failed = false;
        return slice_of(NULL, 0);
    }
    uint32_t end = len;
    for (const struct entry *at = e; at != t->root; at = at->parent) {
        end -= at->level_len + 1u;
        out[end] = '/';
        memcpy(out + end + 1, at->level, at->level_len);
    }
    return slice_of(out + 1, len - 1);
}

static int visit_entry(struct route_table *t, const struct entry *e, void (*visit)(void *, const struct route_filter *),
                       void *arg)
{
    struct route_filter f = {.hash = e->hash};
    const struct share_entry *share = atomic_load_explicit(&e->shares, RELAXED);
    bool plain = atomic_load_explicit(&e->shards, RELAXED) != 0;

    if (!plain && !share) {
        return 0;
    }
    if (e->parent) {
        f.text = text_of(t, e);
        if (f.text.len == 0) {
            return -ENOMEM;
        }
        f.hash = hash_keyed(t->key, f.text);
    }
    if (plain) {
        visit(arg, &f);
    }
    for (; share; share = atomic_load_explicit(&share->next, RELAXED)) {
        f.share = share->id;
        if (share->slot == NO_SLOT) {
            visit(arg, &f);
        }
    }
    return 0;
}

bool route_table_walk(struct route_table *t, struct route_walk *walk, unsigned budget,
                      void (*visit)(void *, const struct route_filter *), void *arg)
{
    while (walk->stage < 2) {
        struct index *x = index_of(t, walk->stage);
        if (walk->of != x) {
            walk->of = x;
            walk->at = 0;
        }
        for (; walk->at <= x->mask; walk->at++) {
            const struct entry *e = atomic_load_explicit(&x->slots[walk->at], RELAXED);
            if (budget == 0 || (!is_free(e) && visit_entry(t, e, visit, arg) != 0)) {
                return false;
            }
            budget -= !is_free(e);
        }
        walk->stage++;
        walk->of = NULL;
    }
    return true;
}
