/* From the log into the state: what a group has changed since the last time becomes rows, then its part of the log can
 * go. One group at a time; memory of messages that wait in rows for absent clients is given up. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/durable.h"
#include "broker/group/snapshot.h"
#include "proto/base/log.h"

#define CHECKPOINT_MS 30000u           /* each group, if it has changed */
#define CHECKPOINT_BYTES (32ull << 20) /* logged by all shards since: the group with the most is next */
#define RETRY_MS 1000u                 /* a group whose checkpoint has failed */
#define PAUSE_MS 100u                  /* and whichever is next: what it deletes may be the room that the other needs */

_Static_assert(GROUPS == STORE_GROUPS, "the store trims behind the slowest of our groups");

struct checkpoint {
    struct store_task *task;            /* under way; NULL: none. The store has it */
    struct list gone;                   /* struct group_gone: the rows that it deletes */
    struct group_topic *topics[GROUPS]; /* taken out of the group's map, and not in the state yet */
    uint64_t due_ms[GROUPS];            /* monotonic, of this shard's groups */
    uint64_t next_due_ms;               /* the least of them */
    uint64_t paused_until_ms;
    uint64_t bytes; /* logged since, by all groups of the shard */
    bool hurry;
};

/* What is retained of a topic has changed without a command: its time was over. */
static void topic_changed(void *arg, struct message *m)
{
    struct broker *b = arg;
    struct command command = {.type = COMMAND_RETAIN, .retain = m};

    if (b->checkpoint) { /* without memory the row stays until the next start */
        (void)checkpoint_reserve(b, &b->groups[group_of(m->topic_hash)], &command);
    }
}

int checkpoint_init(struct broker *b)
{
    struct checkpoint *c = calloc(1, sizeof(*c));

    if (!c) {
        return -ENOMEM;
    }
    list_init(&c->gone);
    b->checkpoint = c;
    retained_watch(b->retained, topic_changed, b);
    return 0;
}

static void free_gone(struct list *gone)
{
    struct list *at;

    while ((at = list_pop(gone)) != NULL) {
        free(CONTAINER_OF(at, struct group_gone, in_group));
    }
}

static void free_topics(struct group_topic *topic)
{
    while (topic) {
        struct group_topic *next = topic->next;
        free(topic);
        topic = next;
    }
}

/* Take all topics out of a group's map, before those in `topics`. */
static struct group_topic *take_topics(struct group *group, struct group_topic *topics)
{
    struct group_topic *topic;

    for (size_t i = 0; (topic = map_next(&group->changed_topics, &i)) != NULL;) {
        topic->next = topics;
        topics = topic;
    }
    map_deinit(&group->changed_topics);
    group->changed_topics = (struct map){0};
    return topics;
}

void checkpoint_deinit(struct broker *b)
{
    struct checkpoint *c = b->checkpoint;

    if (!c) {
        return;
    }
    for (unsigned g = 0; g < GROUPS; g++) {
        struct group *group = &b->groups[g];
        if (group->context) {
            while (list_pop(&group->changed)) {
            }
            free_gone(&group->gone);
            free_topics(take_topics(group, c->topics[g]));
        }
    }
    free_gone(&c->gone);
    free(c);
    b->checkpoint = NULL;
}

/* ---- notes ---- */

static bool is_topic(const void *value, const void *key)
{
    const struct group_topic *topic = value;
    return slice_eq(slice_of(topic->topic, topic->len), *(const struct slice *)key);
}

int checkpoint_reserve(struct broker *b, struct group *group, const struct command *command)
{
    if (command->type != COMMAND_RETAIN || !b->checkpoint) {
        return 0;
    }
    struct slice text = message_topic(command->retain);
    uint64_t hash = command->retain->topic_hash;
    if (map_find(&group->changed_topics, hash, is_topic, &text)) {
        return 0;
    }
    struct group_topic *topic = malloc(sizeof(*topic) + text.len);
    if (!topic || map_add(&group->changed_topics, hash, topic) != 0) {
        free(topic);
        return -ENOMEM;
    }
    *topic = (struct group_topic){.hash = hash, .len = (uint16_t)text.len};
    memcpy(topic->topic, text.ptr, text.len);
    return 0;
}

void checkpoint_note(struct broker *b, struct group *group, const struct command *command,
                     const struct outcome *outcome, size_t bytes)
{
    bool named = command->type == COMMAND_CLAIM || command->type == COMMAND_TICK;
    struct session *session = command->type == COMMAND_RETAIN ? NULL : named ? outcome->session : command->session;

    if (session && session->durable && session != outcome->ended && list_empty(&session->in_changed)) {
        list_append(&group->changed, &session->in_changed);
    }
    group->changed_bytes += bytes;
    b->checkpoint->bytes += bytes;
}

void checkpoint_forget(struct broker *b, struct session *session)
{
    list_remove(&session->in_changed);
    if (session->stored) {
        list_append(&b->groups[session->group].gone, &session->stored->in_group);
        session->stored = NULL;
    }
    page_forget(session);
}

/* ---- rows ---- */

static int put_row(struct store_task *task, struct slice key, struct buf *value)
{
    int rc = value->failed ? -ENOMEM : store_task_put(task, key, buf_slice(value));

    value->len = 0;
    return rc;
}

static int put_queue(struct store_task *task, const struct session *s, struct buf *value)
{
    uint8_t from[SNAPSHOT_KEY_MAX], to[SNAPSHOT_KEY_MAX];
    const struct queue *q = s->queue;
    const struct queue_entry *entry;
    int rc = 0;

    if (q->stored_head < q->head && q->stored_head < q->stored_tail) {
        rc = store_task_erase(task, snapshot_key_queue(from, s->group, s->uid, q->stored_head),
                              snapshot_key_queue(to, s->group, s->uid, q->head));
    }
    for (uint64_t n = q->head; rc == 0 && queue_next_changed(q, &n, &entry); n++) {
        struct slice key = snapshot_key_queue(from, s->group, s->uid, n);
        if (entry) {
            snapshot_put_entry(value, entry);
            rc = put_row(task, key, value);
        } else {
            rc = store_task_delete(task, key);
        }
    }
    return rc;
}

static int put_session(struct store_task *task, struct session *s, struct buf *value)
{
    uint8_t key[SNAPSHOT_KEY_MAX];

    if (!s->stored) {
        s->stored = calloc(1, sizeof(*s->stored));
        if (!s->stored) {
            return -ENOMEM;
        }
        list_init(&s->stored->in_group);
        s->stored->uid = s->uid;
    }
    snapshot_put_session(value, s);
    int rc = put_row(task, snapshot_key_session(key, s->group, s->uid), value);
    return rc == 0 && s->queue ? put_queue(task, s, value) : rc;
}

static int put_gone(struct store_task *task, uint16_t group, const struct list *gone)
{
    uint8_t from[SNAPSHOT_KEY_MAX], to[SNAPSHOT_KEY_MAX];
    int rc = 0;

    for (const struct list *at = gone->next; at != gone && rc == 0; at = at->next) {
        uint64_t uid = CONTAINER_OF(at, const struct group_gone, in_group)->uid;
        rc = store_task_delete(task, snapshot_key_session(from, group, uid));
        rc = rc ? rc
                : store_task_erase(task, snapshot_key_queue(from, group, uid, 0),
                                   snapshot_key_queue(to, group, uid + 1, 0));
    }
    return rc;
}

static int put_topics(struct broker *b, struct store_task *task, uint16_t group, const struct group_topic *topic,
                      struct buf *value)
{
    uint8_t key[SNAPSHOT_KEY_MAX];
    int rc = 0;

    for (; topic && rc == 0; topic = topic->next) {
        struct slice text = slice_of(topic->topic, topic->len);
        const struct message *m = retained_look(b->retained, text, topic->hash);
        struct slice at = snapshot_key_retained(key, group, &b->node->key, text);
        if (m) {
            snapshot_put_retained(value, m);
            rc = put_row(task, at, value);
        } else {
            rc = store_task_delete(task, at);
        }
    }
    return rc;
}

static int fill(struct broker *b, struct group *group, struct store_task *task)
{
    struct checkpoint *c = b->checkpoint;
    uint8_t key[SNAPSHOT_KEY_MAX];
    struct buf value = {0};
    int rc = put_gone(task, group->id, &c->gone);

    for (struct list *at = group->changed.next; at != &group->changed && rc == 0; at = at->next) {
        rc = put_session(task, CONTAINER_OF(at, struct session, in_changed), &value);
    }
    rc = rc ? rc : put_topics(b, task, group->id, c->topics[group->id], &value);
    if (rc == 0 && (task->len > 0 || group->changed_bytes > 0)) { /* the digest too has changed */
        snapshot_put_applied(&value, task->lsn, group->digest);
        rc = put_row(task, snapshot_key_group(key, group->id, SNAPSHOT_APPLIED), &value);
    }
    buf_deinit(&value);
    return rc;
}

/* ---- one group ---- */

/* It did not come to be: once more, but others are not to wait for it. */
static void retry(struct broker *b, struct group *group)
{
    struct checkpoint *c = b->checkpoint;

    list_splice(&group->gone, &c->gone);
    c->due_ms[group->id] = b->shard->now_ms + RETRY_MS;
    c->paused_until_ms = b->shard->now_ms + PAUSE_MS;
}

/* Everything is as changed as before, and rows in front of a queue's head that were to go are there still. */
static void put_back(struct group *group)
{
    struct session *s;

    for (size_t i = 0; (s = map_next(&group->sessions, &i)) != NULL;) {
        if (s->durable && s->stored) {
            if (s->queue) {
                queue_not_stored(s->queue);
                s->queue->stored_head = 0;
            }
            if (list_empty(&s->in_changed)) {
                list_append(&group->changed, &s->in_changed);
            }
        }
    }
}

/* The number up to which the state has a group when all of it is written now: what comes from this shard gets a number
 * above all that are durable. A shard that logs nothing would hold the log for ever with its own last number. */
static uint64_t applied_now(struct broker *b)
{
    uint64_t own = journal_flush(b), durable = store_durable(b->node->store);
    return own > durable ? own : durable;
}

static void begin(struct broker *b, struct group *group)
{
    struct checkpoint *c = b->checkpoint;
    struct store_task *task = calloc(1, sizeof(*task));
    struct list *at;

    c->next_due_ms = 0; /* to be looked for */
    if (!task) {
        retry(b, group);
        return;
    }
    task->type = STORE_CHECKPOINT;
    task->owner = b->shard->index;
    task->group = group->id;
    task->lsn = applied_now(b);
    list_splice(&c->gone, &group->gone);
    c->topics[group->id] = take_topics(group, c->topics[group->id]);
    if (fill(b, group, task) != 0) {
        log_event(LOG_WARN, "checkpoint_delayed", {"group", LOG_INT(group->id)}, {"reason", LOG_STR("no memory")});
        store_task_deinit(task);
        free(task);
        retry(b, group);
        return;
    }
    while ((at = list_pop(&group->changed)) != NULL) {
        struct session *s = CONTAINER_OF(at, struct session, in_changed);
        if (s->queue) {
            queue_stored(s->queue);
        }
    }
    c->bytes -= group->changed_bytes < c->bytes ? group->changed_bytes : c->bytes;
    group->changed_bytes = 0;
    c->due_ms[group->id] = b->shard->now_ms + CHECKPOINT_MS;
    c->task = task;
    store_submit(b->node->store, task);
}

/* Whether the queue has anything in memory that is in rows. */
static bool evictable(const struct queue *q)
{
    return q->stored_tail > (q->cold != q->cold_end ? q->cold_end : q->head);
}

static void evict(struct group *group)
{
    struct session *s;

    for (size_t i = 0; (s = map_next(&group->sessions, &i)) != NULL;) {
        if (s->durable && !s->front && !s->page && s->queue && evictable(s->queue)) {
            queue_evict(s->queue, s->queue->stored_tail);
        }
    }
}

void checkpoint_finished(struct broker *b, struct store_task *task)
{
    struct checkpoint *c = b->checkpoint;
    struct group *group = &b->groups[task->group];

    assert(task == c->task);
    c->task = NULL;
    if (task->error) {
        log_event(LOG_ERROR, "checkpoint_failed", {"group", LOG_INT(task->group)},
                  {"error", LOG_STR(strerror(-task->error))});
        put_back(group);
        retry(b, group);
        c->next_due_ms = 0;
    } else {
        free_gone(&c->gone);
        free_topics(c->topics[group->id]);
        c->topics[group->id] = NULL;
        evict(group);
    }
    store_task_deinit(task);
    free(task);
}

/* ---- which, and when ---- */

/* The group to be written now, or NULL; also when the next one is due. */
static struct group *pick(struct broker *b)
{
    struct checkpoint *c = b->checkpoint;
    struct group *most = NULL, *due = NULL;

    c->next_due_ms = UINT64_MAX;
    for (unsigned g = b->shard->index; g < GROUPS; g += b->shard->count) {
        struct group *group = &b->groups[g];
        if (c->due_ms[g] == 0) { /* all at different times */
            c->due_ms[g] = b->shard->now_ms + CHECKPOINT_MS * (g + 1) / GROUPS;
        }
        if (c->due_ms[g] <= b->shard->now_ms && (!due || c->due_ms[g] < c->due_ms[due->id])) {
            due = group;
        }
        if (!most || group->changed_bytes > most->changed_bytes) {
            most = group;
        }
        c->next_due_ms = c->due_ms[g] < c->next_due_ms ? c->due_ms[g] : c->next_due_ms;
    }
    bool late = due && c->due_ms[due->id] + CHECKPOINT_MS <= b->shard->now_ms; /* the log waits for each of them */
    if (!late && (c->hurry || c->bytes > CHECKPOINT_BYTES / b->shard->count)) {
        c->hurry = c->hurry && most->changed_bytes > 0;
        return most->changed_bytes > 0 ? most : due;
    }
    return due;
}

void checkpoint_turn(struct broker *b)
{
    struct checkpoint *c = b->checkpoint;

    if (!c || c->task || b->shard->now_ms < c->paused_until_ms) {
        return;
    }
    bool much = c->hurry || c->bytes > CHECKPOINT_BYTES / b->shard->count;
    if (b->shard->now_ms < c->next_due_ms && !much) {
        return;
    }
    struct group *group = pick(b);
    if (group) {
        begin(b, group);
    }
}

void checkpoint_hurry(struct broker *b)
{
    if (b->checkpoint) {
        b->checkpoint->hurry = true;
    }
}
