/* story.h -- a store at work, recorded: batches of all sizes, checkpoints, deletions, trimming, maps that grow, starts
 * and ends. The seed decides what is asked of the store; when its threads get to it the machine does, so that a story
 * is found again in its record and not by its seed. */
#ifndef TERN_TESTS_CRASH_STORY_H
#define TERN_TESTS_CRASH_STORY_H

#include "tests/crash/record.h"

/* Work below root, an empty directory. *ret_trimmed: it got so far that a start found a log that was trimmed. */
struct record *story_run(uint64_t seed, const char *root, bool *ret_trimmed);

#endif
