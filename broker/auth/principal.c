#include "broker/auth/principal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/map.h"

struct user_rates {
    pthread_mutex_t lock;
    struct hash_key key;
    struct map users; /* struct user_rate by name; each there while somebody holds it */
};

int user_rates_new(struct user_rates **ret_rates)
{
    struct user_rates *r = calloc(1, sizeof(*r));

    if (!r) {
        return -ENOMEM;
    }
    pthread_mutex_init(&r->lock, NULL);
    clock_random(&r->key, sizeof(r->key));
    *ret_rates = r;
    return 0;
}

void user_rates_free(struct user_rates *r)
{
    if (!r) {
        return;
    }
    assert(r->users.count == 0);
    map_deinit(&r->users);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static bool is_user(const void *value, const void *key)
{
    const struct user_rate *rate = value;
    const struct slice *name = key;

    return slice_eq(slice_of(rate->name, rate->name_len), *name);
}

struct user_rate *user_rate_get(struct user_rates *r, struct slice user)
{
    uint64_t hash = hash_keyed(&r->key, user);

    pthread_mutex_lock(&r->lock);
    struct user_rate *rate = map_find(&r->users, hash, is_user, &user);
    if (!rate) {
        rate = calloc(1, sizeof(*rate) + user.len);
        if (rate) {
            rate->name_len = (uint32_t)user.len;
            memcpy(rate->name, user.ptr, user.len);
            if (map_add(&r->users, hash, rate) != 0) {
                free(rate);
                rate = NULL;
            }
        }
    }
    if (rate) {
        rate->refs++;
    }
    pthread_mutex_unlock(&r->lock);
    return rate;
}

void user_rate_put(struct user_rates *r, struct user_rate *rate)
{
    if (!rate) {
        return;
    }
    pthread_mutex_lock(&r->lock);
    if (--rate->refs == 0) {
        map_remove(&r->users, hash_keyed(&r->key, slice_of(rate->name, rate->name_len)), rate);
        free(rate);
    }
    pthread_mutex_unlock(&r->lock);
}

struct principal *principal_new(const struct principal_source *s)
{
    struct principal *p = calloc(1, sizeof(*p) + s->user.len + s->roles.len);

    if (!p) {
        return NULL;
    }
    p->refs = 1;
    p->method = s->method;
    p->expires_at_ms = s->expires_at_ms;
    p->credential = s->credential;
    p->listener = s->listener;
    p->address = s->address;
    p->rates = s->rates;
    if (s->user.len > 0) {
        memcpy(p->text, s->user.ptr, s->user.len);
        p->rate = user_rate_get(s->rates, s->user);
    }
    if (s->roles.len > 0) {
        memcpy(p->text + s->user.len, s->roles.ptr, s->roles.len);
        p->roles = calloc(s->role_count, sizeof(*p->roles));
    }
    if ((s->user.len > 0 && !p->rate) || (s->roles.len > 0 && !p->roles)) {
        principal_unref(p);
        return NULL;
    }
    p->user = slice_of(p->text, s->user.len);
    const char *name = (const char *)p->text + s->user.len;
    for (unsigned i = 0; i < s->role_count; i++) {
        p->roles[i] = slice_str(name);
        name += p->roles[i].len + 1;
    }
    p->role_count = (uint16_t)s->role_count;
    p->rules = s->rules;
    return p;
}

struct principal *principal_ref(struct principal *p)
{
    if (p) {
        p->refs++;
    }
    return p;
}

void principal_unref(struct principal *p)
{
    if (!p || --p->refs > 0) {
        return;
    }
    user_rate_put(p->rates, p->rate);
    acl_free(p->rules);
    free(p->roles);
    free(p);
}

bool principal_same(const struct principal *a, const struct principal *b)
{
    return slice_eq(a ? a->user : SLICE(""), b ? b->user : SLICE(""));
}

struct acl_subject principal_subject(const struct principal *p, struct slice client_id)
{
    struct acl_subject subject = {.client_id = client_id};

    if (p) {
        subject.user = p->user;
        subject.listener = slice_str(p->listener);
        subject.roles = p->roles;
        subject.role_count = p->role_count;
        subject.address = p->address;
    }
    return subject;
}
