/* alloc_fail.h -- memory that runs out at the n-th allocation.
 *
 * A test program that includes this and then the .c file under test compiles that file a second time, with allocations
 * that count down; the linker leaves the library's copy out. For each n from 1 until all goes well:
 *
 *     for (alloc_fail_at = 1; operation() == -ENOMEM; alloc_fail_at = ++n) check that nothing changed; */
#ifndef TERN_TESTS_LIB_ALLOC_FAIL_H
#define TERN_TESTS_LIB_ALLOC_FAIL_H

#include <stdbool.h>
#include <stdlib.h>

static unsigned alloc_fail_at; /* 1: the next allocation fails; 0: none does */

static inline bool alloc_fails(void)
{
    return alloc_fail_at > 0 && --alloc_fail_at == 0;
}

static inline void *alloc_fail_malloc(size_t size)
{
    return alloc_fails() ? NULL : malloc(size);
}

static inline void *alloc_fail_calloc(size_t count, size_t size)
{
    return alloc_fails() ? NULL : calloc(count, size);
}

static inline void *alloc_fail_realloc(void *old, size_t size)
{
    return alloc_fails() ? NULL : realloc(old, size);
}

static inline void *alloc_fail_aligned(size_t alignment, size_t size)
{
    return alloc_fails() ? NULL : aligned_alloc(alignment, size);
}

#define malloc alloc_fail_malloc
#define calloc alloc_fail_calloc
#define realloc alloc_fail_realloc
#define aligned_alloc alloc_fail_aligned

#endif
