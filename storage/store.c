#include "storage/store.h"

#include <errno.h>
#include <stdlib.h>

#define TASK_START 4096u

struct store_batch *store_batch_new(unsigned owner, uint32_t capacity)
{
    struct store_batch *batch = malloc(sizeof(*batch) + capacity);

    if (batch) {
        *batch = (struct store_batch){.owner = owner, .capacity = capacity};
    }
    return batch;
}

/* An operation: type (1 byte), length of the key (2), of the value (4), key, value; host order, for it never leaves the
 * process. */
#define OPERATION_HEAD 7u

static int put_operation(struct store_task *task, enum store_operation_type type, struct slice key, struct slice value)
{
    size_t need = task->len + OPERATION_HEAD + key.len + value.len;
    uint16_t key_len = (uint16_t)key.len;
    uint32_t value_len = (uint32_t)value.len;

    if (key.len > STORE_KEY_MAX || value.len > STORE_BATCH_MAX) {
        return -EINVAL;
    }
    if (need > task->capacity) {
        size_t capacity = need < TASK_START ? TASK_START : need + need / 2;
        uint8_t *bytes = realloc(task->bytes, capacity);
        if (!bytes) {
            return -ENOMEM;
        }
        task->bytes = bytes;
        task->capacity = capacity;
    }
    uint8_t *at = task->bytes + task->len;
    *at = (uint8_t)type;
    memcpy(at + 1, &key_len, 2);
    memcpy(at + 3, &value_len, 4);
    memcpy(at + OPERATION_HEAD, key.ptr, key.len);
    if (value.len > 0) {
        memcpy(at + OPERATION_HEAD + key.len, value.ptr, value.len);
    }
    task->len = need;
    return 0;
}

int store_task_put(struct store_task *task, struct slice key, struct slice value)
{
    return put_operation(task, STORE_PUT, key, value);
}

int store_task_delete(struct store_task *task, struct slice key)
{
    return put_operation(task, STORE_DELETE, key, slice_of(NULL, 0));
}

int store_task_erase(struct store_task *task, struct slice from, struct slice to)
{
    return put_operation(task, STORE_ERASE, from, to);
}

bool store_task_next(const struct store_task *task, size_t *io_at, struct store_operation *ret_operation)
{
    const uint8_t *at = task->bytes + *io_at;
    uint16_t key_len;
    uint32_t value_len;

    if (*io_at >= task->len) {
        return false;
    }
    memcpy(&key_len, at + 1, 2);
    memcpy(&value_len, at + 3, 4);
    ret_operation->type = (enum store_operation_type) * at;
    ret_operation->key = slice_of(at + OPERATION_HEAD, key_len);
    ret_operation->value = slice_of(at + OPERATION_HEAD + key_len, value_len);
    *io_at += OPERATION_HEAD + key_len + value_len;
    return true;
}

void store_task_deinit(struct store_task *task)
{
    free(task->bytes);
    task->bytes = NULL;
    task->len = task->capacity = 0;
}
