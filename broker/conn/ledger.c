#include "broker/conn/ledger.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/map.h"

struct address_count {
    struct in6_addr address;
    uint32_t count;
};

struct ledger {
    pthread_mutex_t lock;
    struct hash_key key;
    struct map addresses; /* struct address_count by address; owned */
    uint32_t count;
    uint32_t connections_max, per_address_max;
};

int ledger_new(uint32_t connections_max, uint32_t per_address_max, struct ledger **ret_ledger)
{
    struct ledger *l = calloc(1, sizeof(*l));
    if (!l) {
        return -ENOMEM;
    }
    pthread_mutex_init(&l->lock, NULL);
    clock_random(&l->key, sizeof(l->key));
    l->connections_max = connections_max;
    l->per_address_max = per_address_max;
    *ret_ledger = l;
    return 0;
}

void ledger_free(struct ledger *l)
{
    if (!l) {
        return;
    }
    struct address_count *a;
    for (size_t i = 0; (a = map_next(&l->addresses, &i)) != NULL;) {
        free(a);
    }
    map_deinit(&l->addresses);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void ledger_limit(struct ledger *l, uint32_t connections_max, uint32_t per_address_max)
{
    pthread_mutex_lock(&l->lock);
    l->connections_max = connections_max;
    l->per_address_max = per_address_max;
    pthread_mutex_unlock(&l->lock);
}

static bool is_address(const void *value, const void *key)
{
    return memcmp(&((const struct address_count *)value)->address, key, sizeof(struct in6_addr)) == 0;
}

static struct address_count *find(struct ledger *l, const struct in6_addr *address, uint64_t *ret_hash)
{
    *ret_hash = hash_keyed(&l->key, slice_of(address, sizeof(*address)));
    return map_find(&l->addresses, *ret_hash, is_address, address);
}

/* Count one more from this address. Without memory for the count the connection is refused. */
static bool address_enter(struct ledger *l, const struct in6_addr *address)
{
    uint64_t hash;
    struct address_count *a = find(l, address, &hash);

    if (!a) {
        a = calloc(1, sizeof(*a));
        if (!a || map_add(&l->addresses, hash, a) != 0) {
            free(a);
            return false;
        }
        a->address = *address;
    }
    if (a->count >= l->per_address_max) {
        return false;
    }
    a->count++;
    return true;
}

bool ledger_enter(struct ledger *l, const struct in6_addr *address)
{
    pthread_mutex_lock(&l->lock);
    bool ok = l->connections_max == 0 || l->count < l->connections_max;
    if (ok && l->per_address_max != 0) {
        ok = address_enter(l, address);
    }
    l->count += ok;
    pthread_mutex_unlock(&l->lock);
    return ok;
}

void ledger_leave(struct ledger *l, const struct in6_addr *address)
{
    pthread_mutex_lock(&l->lock);
    assert(l->count > 0);
    l->count--;
    if (l->addresses.count > 0) {
        uint64_t hash;
        struct address_count *a = find(l, address, &hash);
        if (a && --a->count == 0) { /* who came before there was a limit was not counted */
            map_remove(&l->addresses, hash, a);
            free(a);
        }
    }
    pthread_mutex_unlock(&l->lock);
}
