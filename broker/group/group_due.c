/* The heap of due times of a group: binary, sessions know their place. Ties go by uid, so that the order of two
 * sessions with one due time does not depend on the order in which they were armed. */
#include "broker/group/group.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static bool earlier(const struct session *a, const struct session *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->uid < b->uid;
}

static void place(struct group *g, uint32_t index, struct session *s)
{
    g->due[index] = s;
    s->due_index = index;
}

static void sift_up(struct group *g, uint32_t index, struct session *s)
{
    while (index > 0 && earlier(s, g->due[(index - 1) / 2])) {
        place(g, index, g->due[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    place(g, index, s);
}

static void sift_down(struct group *g, uint32_t index, struct session *s)
{
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= g->due_count) {
            break;
        }
        if (child + 1 < g->due_count && earlier(g->due[child + 1], g->due[child])) {
            child++;
        }
        if (!earlier(g->due[child], s)) {
            break;
        }
        place(g, index, g->due[child]);
        index = child;
    }
    place(g, index, s);
}

int group_due_reserve(struct group *g, uint32_t count)
{
    if (count <= g->due_capacity) {
        return 0;
    }
    uint32_t capacity = g->due_capacity ? g->due_capacity * 2 : 8;
    while (capacity < count) {
        capacity *= 2;
    }
    struct session **due = realloc(g->due, capacity * sizeof(struct session *));
    if (!due) {
        return -ENOMEM;
    }
    g->due = due;
    g->due_capacity = capacity;
    return 0;
}

void group_due_clear(struct group *g, struct session *s)
{
    uint32_t index = s->due_index;

    if (index == SESSION_NOT_DUE) {
        return;
    }
    assert(g->due[index] == s);
    s->due_index = SESSION_NOT_DUE;
    struct session *last = g->due[--g->due_count];
    if (last == s) {
        return;
    }
    if (index > 0 && earlier(last, g->due[(index - 1) / 2])) {
        sift_up(g, index, last);
    } else {
        sift_down(g, index, last);
    }
}

void group_due_set(struct group *g, struct session *s, uint64_t due_ms)
{
    group_due_clear(g, s);
    assert(g->due_count < g->due_capacity);
    s->due_ms = due_ms;
    sift_up(g, g->due_count++, s);
}

uint64_t group_due_ms(const struct group *g)
{
    return g->due_count > 0 ? g->due[0]->due_ms : UINT64_MAX;
}
