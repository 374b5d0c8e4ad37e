/* Waiting messages of a session that was absent for long are on the disk only: they are read back as they are sent. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/group/snapshot.h"
#include "proto/base/log.h"

#define PAGE_BYTES 262144u

struct page {
    struct store_task task;  /* first: the store frees it by this address */
    struct session *session; /* NULL: it has ended meanwhile */
};

/* Its messages cannot be had now: the client comes again, and then it is tried again. Not at once, for this may be in
 * the midst of work on the session. */
static void send_away(struct session *session)
{
    if (session->front) {
        struct conn *conn = session->front;
        conn_out(conn)->failed = true;
    }
}

void page_want(struct broker *b, struct session *session)
{
    uint8_t key[SNAPSHOT_KEY_MAX];

    if (session->page || !b->node->store) {
        return;
    }
    struct page *page = calloc(1, sizeof(*page));
    if (!page) {
        send_away(session);
        return;
    }
    struct slice from = snapshot_key_queue(key, session->group, session->uid, session->queue->cold);
    page->session = session;
    page->task.type = STORE_READ;
    page->task.owner = b->shard->index;
    page->task.key_len = (uint16_t)from.len;
    page->task.prefix_len = (uint16_t)(from.len - sizeof(uint64_t));
    page->task.max_bytes = PAGE_BYTES;
    memcpy(page->task.key, from.ptr, from.len);
    session->page = page;
    store_submit(b->node->store, &page->task);
}

void page_forget(struct session *session)
{
    if (session->page) {
        session->page->session = NULL;
        session->page = NULL;
    }
}

static void drop_entries(struct queue_page_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        message_unref(entries[i].entry.message);
        free(entries[i].entry.extra);
    }
    free(entries);
}

/* The rows of a page as entries; what is damaged is left out, named, and so given up. */
static int decode(const struct store_task *task, const struct queue *q, const struct record_world *world,
                  struct slice client_id, struct queue_page_entry **ret_entries, uint32_t *ret_count,
                  uint64_t *ret_last)
{
    struct queue_page_entry *entries = NULL;
    uint32_t count = 0, capacity = 0;
    struct store_operation row;
    int rc = 0;

    for (size_t at = 0; rc == 0 && store_task_next(task, &at, &row);) {
        uint64_t number;
        if (snapshot_get_number(row.key, &number) != 0 || !queue_is_cold(q, number)) {
            continue;
        }
        *ret_last = number;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            struct queue_page_entry *more = realloc(entries, capacity * sizeof(*more));
            if (!more) {
                rc = -ENOMEM;
                break;
            }
            entries = more;
        }
        rc = snapshot_get_entry(row.value, world, &entries[count].entry);
        if (rc == 0) {
            entries[count++].number = number;
        } else if (rc != -ENOMEM) {
            log_event(LOG_ERROR, "message_lost", {"client", LOG_SLICE(client_id)}, {"number", LOG_INT(number)},
                      {"reason", LOG_STR("its record is damaged")});
            rc = 0;
        }
    }
    if (rc) {
        drop_entries(entries, count);
        return rc;
    }
    *ret_entries = entries;
    *ret_count = count;
    return 0;
}

int page_load(const struct store_task *task, struct session *session, const struct record_world *world)
{
    struct queue *q = session->queue;
    struct queue_page_entry *entries = NULL;
    uint32_t count = 0;
    uint64_t last = q->cold;

    if (task->error && task->error != -EBADMSG) {
        return task->error;
    }
    int rc = decode(task, q, world, session_client_id(session), &entries, &count, &last);
    if (rc) {
        return rc;
    }
    bool more = task->more && last + 1 < q->cold_end && task->len > 0;
    rc = queue_load(q, entries, count, more ? last + 1 : q->cold_end);
    if (rc) {
        drop_entries(entries, count);
        return rc;
    }
    free(entries);
    return 0;
}

void page_finished(struct broker *b, struct store_task *task)
{
    struct page *page = (struct page *)task;
    struct session *session = page->session;
    const struct record_world world = {.key = &b->node->key};

    if (session) {
        session->page = NULL;
        if (queue_wants_page(session->queue)) {
            uint64_t bytes_before = session->queue->bytes;
            uint32_t waiting_before = session->queue->waiting;
            int rc = page_load(task, session, &world);
            if (rc) {
                log_event(LOG_ERROR, "page_failed", {"client", LOG_SLICE(session_client_id(session))},
                          {"error", LOG_STR(strerror(-rc))});
                send_away(session);
            }
            broker_metric(b, METRIC_QUEUED_BYTES, (int64_t)(session->queue->bytes - bytes_before));
            broker_metric(b, METRIC_QUEUED, (int64_t)session->queue->waiting - waiting_before);
            if (rc == 0 && session->front) {
                deliver_pump(session->front);
            }
        }
    }
    store_task_deinit(task);
    free(page);
}
