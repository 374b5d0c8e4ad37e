/* client.h -- what the C client programs here share: expectations that end the program, and a box for arrived messages.
 *
 * Why: each program is a little test of its own, run by c_clients.py. It prints one line for each scenario that
 * passed, and ends with status 1 and one line at the first thing that is not as expected. */
#ifndef TERN_TESTS_E2E_CLIENT_H
#define TERN_TESTS_E2E_CLIENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BOX_MAX 4096
#define WAIT_SECONDS 20

#define EXPECT(condition, ...) \
    do { \
        if (!(condition)) { \
            printf("FAIL %s:%d: ", __FILE__, __LINE__); \
            printf(__VA_ARGS__); \
            printf("\n"); \
            exit(1); \
        } \
    } while (0)

struct arrived {
    int qos;
    bool retain;
    char topic[64], payload[64];
    char content_type[32], user_value[32], response_topic[32];
};

/* Messages in the order in which the library's thread handed them over. */
struct box {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t count;
    struct arrived items[BOX_MAX];
};

static inline void box_init(struct box *b)
{
    memset(b, 0, sizeof(*b));
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
}

static inline void box_add(struct box *b, const struct arrived *item)
{
    pthread_mutex_lock(&b->lock);
    EXPECT(b->count < BOX_MAX, "more than %d messages", BOX_MAX);
    b->items[b->count++] = *item;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

/* Wait until `count` messages are there, then a moment for any that should not come. */
static inline void box_expect_count(struct box *b, size_t count, const char *what)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&b->lock);
    while (b->count < count && pthread_cond_timedwait(&b->changed, &b->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&b->lock);
    nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    pthread_mutex_lock(&b->lock);
    EXPECT(b->count == count, "%s: %zu messages, wanted %zu", what, b->count, count);
    pthread_mutex_unlock(&b->lock);
}

/* Forget what came. */
static inline void box_clear(struct box *b)
{
    pthread_mutex_lock(&b->lock);
    b->count = 0;
    pthread_mutex_unlock(&b->lock);
}

/* Messages i = 0..count-1 must carry the payloads "0", "1", ... and this QoS. */
static inline void box_expect_numbers(struct box *b, size_t count, int qos, const char *what)
{
    box_expect_count(b, count, what);
    for (size_t i = 0; i < count; i++) {
        EXPECT((size_t)atoi(b->items[i].payload) == i, "%s: message %zu is %s", what, i, b->items[i].payload);
        EXPECT(b->items[i].qos == qos, "%s: message %zu has QoS %d, wanted %d", what, i, b->items[i].qos, qos);
        EXPECT(!b->items[i].retain, "%s: message %zu is marked as retained", what, i);
    }
}

static inline void passed(const char *scenario)
{
    printf("ok %s\n", scenario);
    fflush(stdout);
}

#endif
