/* failing_malloc.c -- memory that runs out when a test says so, in a broker that runs.
 *
 * Why: what the broker does without memory has to be seen on the whole program, in every place that allocates, at a
 * moment that the test chooses. Preloaded (LD_PRELOAD) into a program that is not sanitized. The file named by
 * FAILING_MALLOC is shared with the test, eight bytes a field, little end first:
 *
 *     fail_in   set by the test: 1 fails the next allocation, n the n-th from now; counts down to 0, which is off
 *     period    set by the test: 0 fails one, k fails that one and from then on each k-th
 *     failed    how many have failed
 *     counted   how many there were, failed ones included
 *
 * Touched by: all threads of the broker and the test, at once. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct control {
    atomic_int_least64_t fail_in;
    atomic_int_least64_t period;
    atomic_uint_least64_t failed, counted;
};

/* What lies behind the names that this library takes. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static _Atomic(struct control *) control; /* NULL until the constructor has run: nothing fails before main */

__attribute__((constructor)) static void control_open(void)
{
    const char *path = getenv("FAILING_MALLOC");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0) {
        return;
    }
    void *at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) {
        atomic_store(&control, at);
    }
}

static int fails(void)
{
    struct control *c = atomic_load_explicit(&control, memory_order_relaxed);

    if (!c) {
        return 0;
    }
    atomic_fetch_add(&c->counted, 1);
    int_least64_t left = atomic_load(&c->fail_in);
    while (left > 0) {
        int_least64_t next = left > 1 ? left - 1 : atomic_load(&c->period);
        if (atomic_compare_exchange_weak(&c->fail_in, &left, next)) {
            if (left > 1) {
                return 0;
            }
            atomic_fetch_add(&c->failed, 1);
            errno = ENOMEM;
            return 1;
        }
    }
    return 0;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    void *at = fails() ? NULL : __libc_memalign(alignment, size);

    if (!at) {
        return ENOMEM;
    }
    *ret = at;
    return 0;
}
