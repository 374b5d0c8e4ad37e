#include "broker/session/alias.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* A property of three bytes must pay for itself: shorter topics are sent as they are. */
#define TOPIC_BYTES_MIN 4
#define SCORE_MAX 250

struct alias_in *alias_in_new(uint16_t max)
{
    assert(max > 0);
    struct alias_in *a = calloc(1, sizeof(*a) + max * sizeof(a->topics[0]));
    if (a) {
        a->max = max;
    }
    return a;
}

void alias_in_free(struct alias_in *a)
{
    if (!a) {
        return;
    }
    for (unsigned i = 0; i < a->max; i++) {
        free((void *)a->topics[i].ptr);
    }
    free(a);
}

struct slice alias_in_get(const struct alias_in *a, uint16_t alias)
{
    assert(alias >= 1 && alias <= a->max);
    return a->topics[alias - 1];
}

int alias_in_set(struct alias_in *a, uint16_t alias, struct slice topic)
{
    assert(alias >= 1 && alias <= a->max);
    struct slice *slot = &a->topics[alias - 1];

    if (slice_eq(*slot, topic)) {
        return 0;
    }
    uint8_t *copy = malloc(topic.len);
    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, topic.ptr, topic.len);
    free((void *)slot->ptr);
    *slot = slice_of(copy, topic.len);
    return 0;
}

struct alias_out *alias_out_new(uint16_t max)
{
    assert(max > 0);
    struct alias_out *a = calloc(1, sizeof(*a) + max * sizeof(a->slots[0]));
    if (a) {
        a->max = max;
    }
    return a;
}

void alias_out_free(struct alias_out *a)
{
    free(a);
}

uint16_t alias_out_use(struct alias_out *a, uint64_t topic_hash, size_t topic_len, bool *ret_alone)
{
    uint16_t index = (uint16_t)(topic_hash % a->max);
    struct alias_slot *slot = &a->slots[index];

    *ret_alone = false;
    if (topic_len < TOPIC_BYTES_MIN) {
        return 0;
    }
    if (slot->topic_hash != topic_hash) {
        if (slot->score > 0) {
            slot->score--;
            return 0;
        }
        *slot = (struct alias_slot){.topic_hash = topic_hash, .score = 1};
        return 0;
    }
    if (slot->score < SCORE_MAX) {
        slot->score++;
    }
    *ret_alone = slot->announced;
    slot->announced = true;
    return (uint16_t)(index + 1);
}

void alias_out_forget(struct alias_out *a, uint16_t alias)
{
    a->slots[alias - 1].announced = false;
}
