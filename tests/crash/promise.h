/* promise.h -- what the store had promised at some moment of a record, and whether a disk keeps it. */
#ifndef TERN_TESTS_CRASH_PROMISE_H
#define TERN_TESTS_CRASH_PROMISE_H

#include "storage/store.h"
#include "tests/crash/record.h"

#define STORY_GROUPS 4u          /* groups with rows; the others are only noted, so that the log can be trimmed */
#define STORY_ROWS 48u           /* rows a group may have */
#define STORY_LOG_MAP (1u << 18) /* small, so that they grow */
#define STORY_STATE_MAP (1u << 17)

/* Fill with bytes that follow from seed alone. */
void content_fill(uint8_t *bytes, size_t size, uint64_t seed);

/* One row more of a group, into the hash of all its rows in the order of their keys. */
uint64_t rows_hash(uint64_t hash, struct slice key, struct slice value);

uint64_t identity_hash(const struct store_identity *identity);

/* The row of a group that says which checkpoint it is from. It sorts before the others. */
struct mark {
    uint64_t number; /* of the group's checkpoint, from 1 */
    uint64_t lsn;
};
#define MARK_KEY(group) \
    { \
        (uint8_t)(group), '!' \
    }
#define ROW_KEY(group, row) \
    { \
        (uint8_t)(group), 'k', (uint8_t)(row) \
    }

struct promises {
    const struct record *record;
    size_t at;
    uint64_t boot, identity; /* of the last that was opened; 0: none */
    uint64_t durable;
    struct batch_promise {
        uint64_t seed;
        uint32_t size;
    } * batches; /* all that were appended, by lsn - 1 */
    size_t batch_count;
    struct group_promise {
        uint64_t finished; /* number of the last checkpoint that is done */
        struct checkpoint_promise {
            uint64_t lsn, hash;
        } * checkpoints; /* all that were submitted, by number - 1 */
        size_t count;
    } groups[STORY_GROUPS];
};

void promises_init(struct promises *p, const struct record *record);
void promises_deinit(struct promises *p);
void promises_forward(struct promises *p, size_t cut);

/* Open the store in dir as a node would after a power cut, and judge it. When `go_on`, it is then worked with, closed,
 * and judged again; p then is what was promised last. Ends the process with a sentence on stderr when a promise is
 * broken. */
void promises_judge(struct promises *p, const char *dir, bool go_on);

#endif
