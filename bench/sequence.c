/* sequence.c -- the rare half: gaps, and what comes late or twice. */
#include "bench/sequence.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int sequence_init(struct sequence *s, uint32_t lane_count)
{
    assert(lane_count > 0);
    *s = (struct sequence){.lane_count = lane_count};
    s->next = calloc(lane_count, sizeof(*s->next));
    return s->next ? 0 : -ENOMEM;
}

void sequence_deinit(struct sequence *s)
{
    free(s->next);
    free(s->missing);
    *s = (struct sequence){0};
}

static void missing_add(struct sequence *s, uint32_t lane, uint32_t place)
{
    if (!s->missing) {
        s->missing = calloc(SEQUENCE_MISSING_MAX, sizeof(*s->missing));
    }
    if (!s->missing || s->missing_count == SEQUENCE_MISSING_MAX) {
        s->given_up++;
        return;
    }
    s->missing[s->missing_count++] = (struct sequence_missing){lane, place};
}

bool sequence_odd(struct sequence *s, uint32_t lane, uint32_t place)
{
    assert(lane < s->lane_count);
    if (place > s->next[lane]) {
        for (uint32_t gap = s->next[lane]; gap < place; gap++) {
            missing_add(s, lane, gap);
        }
        s->next[lane] = place + 1;
        return true;
    }
    for (uint32_t i = 0; i < s->missing_count; i++) {
        if (s->missing[i].lane == lane && s->missing[i].place == place) {
            s->missing[i] = s->missing[--s->missing_count];
            s->reordered++;
            return true;
        }
    }
    s->duplicated++;
    return false;
}
