#include "tests/crash/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/hash.h"
#include "tests/crash/plants.h"

#define SECTOR 512u
#define PAGE 4096u
#define PATH_BYTES 512u

struct content {
    uint8_t *bytes;
    size_t size, capacity;
};

struct file {
    struct content content; /* what is surely there */
    struct names names;     /* of a directory: the same */
    struct pending {        /* what may be there, oldest first */
        size_t event;
        bool there; /* O_DSYNC, and it has returned */
    } * pending;
    size_t pending_count, pending_capacity;
};

struct disk {
    const struct record *record;
    size_t at;
    struct file files[RECORD_FILES];
    char differs[PATH_BYTES];
};

struct disk *disk_new(const struct record *record)
{
    struct disk *d = calloc(1, sizeof(*d));

    if (!d) {
        abort();
    }
    d->record = record;
    return d;
}

void disk_free(struct disk *d)
{
    for (unsigned i = 0; d && i < RECORD_FILES; i++) {
        free(d->files[i].content.bytes);
        free(d->files[i].pending);
    }
    free(d);
}

/* ---- contents ---- */

static void set_size(struct content *c, size_t size)
{
    if (size > c->capacity) {
        c->capacity = size + size / 2;
        c->bytes = realloc(c->bytes, c->capacity);
        if (!c->bytes) {
            abort();
        }
    }
    if (size > c->size) {
        memset(c->bytes + c->size, 0, size - c->size);
    }
    c->size = size;
}

/* A part of a write. */
static void apply_part(struct content *c, const struct record *r, const struct event *e, size_t from, size_t size)
{
    if (c->size < e->offset + from + size) {
        set_size(c, e->offset + from + size);
    }
    memcpy(c->bytes + e->offset + from, r->bytes + e->at + from, size);
}

static void apply(struct content *c, const struct record *r, const struct event *e)
{
    if (e->type == EVENT_SIZE) {
        set_size(c, e->offset);
    } else if (e->size > 0) {
        apply_part(c, r, e, 0, e->size);
    }
}

/* ---- forward ---- */

static void add_pending(struct file *f, size_t event)
{
    if (f->pending_count == f->pending_capacity) {
        f->pending_capacity = 2 * f->pending_capacity + 16;
        f->pending = realloc(f->pending, f->pending_capacity * sizeof(f->pending[0]));
        if (!f->pending) {
            abort();
        }
    }
    f->pending[f->pending_count++] = (struct pending){event, false};
}

/* What was pending before event number `before` is surely there now. */
static void settle(struct disk *d, uint32_t file, size_t before)
{
    struct file *f = &d->files[file];
    size_t n = 0;

    for (; n < f->pending_count && f->pending[n].event < before; n++) {
        const struct event *e = &d->record->events[f->pending[n].event];
        if (d->record->files[file].directory) {
            names_apply(&f->names, d->record, e);
        } else if (plant != PLANT_LOST_WRITE || hash_mix(f->pending[n].event) % 16 != 0) {
            apply(&f->content, d->record, e);
        }
    }
    f->pending_count -= n;
    memmove(f->pending, f->pending + n, f->pending_count * sizeof(f->pending[0]));
}

/* A planted disk that says it has synced and has not. */
static bool lies(const struct disk *d, const struct event *e)
{
    bool directory = d->record->files[e->file].directory;

    return plant == PLANT_NO_SYNC || (plant == PLANT_NO_DIRECTORY_SYNC && directory) ||
           (plant == PLANT_NO_META_SYNC && e->type == EVENT_WRITTEN) ||
           (plant == PLANT_NO_DATA_SYNC && e->type == EVENT_SYNC && !directory);
}

static void forward(struct disk *d, const struct event *e)
{
    struct file *f = &d->files[e->file];

    switch (e->type) {
    case EVENT_WRITE:
    case EVENT_SIZE:
    case EVENT_NAME:
    case EVENT_RENAME:
    case EVENT_UNLINK:
        add_pending(f, d->at);
        break;
    case EVENT_SYNC:
        if (!lies(d, e)) {
            settle(d, e->file, e->about);
        }
        break;
    case EVENT_WRITTEN:
        for (size_t i = 0; i < f->pending_count && !lies(d, e); i++) {
            f->pending[i].there |= f->pending[i].event == e->about;
        }
        break;
    default: /* promises: promise.h */
        break;
    }
}

void disk_forward(struct disk *d, size_t cut)
{
    for (; d->at < cut; d->at++) {
        forward(d, &d->record->events[d->at]);
    }
}

/* ---- luck ---- */

enum mood { MOOD_NOTHING, MOOD_EVERYTHING, MOOD_FIRST, MOOD_WRITES, MOOD_PAGES, MOOD_SECTORS, MOODS };

/* The parts of a write that are there: each with `chance` of 8. */
static void apply_pieces(struct content *c, const struct record *r, const struct event *e, size_t piece,
                         uint32_t chance, struct prng *luck)
{
    for (size_t from = 0; from < e->size;) {
        size_t end = ((e->offset + from) / piece + 1) * piece - e->offset; /* pieces of the disk, not of the write */
        size_t size = end < e->size ? end - from : e->size - from;
        if (prng_below(luck, 8) < chance) {
            apply_part(c, r, e, from, size);
        }
        from += size;
    }
}

/* What is in a file. */
static void draw_content(const struct disk *d, const struct file *f, struct prng *luck, struct content *c)
{
    enum mood mood = prng_below(luck, MOODS);
    uint32_t chance = 1 + 3 * prng_below(luck, 3);
    size_t first = f->pending_count ? prng_below(luck, (uint32_t)f->pending_count + 1) : 0;
    uint64_t end = 0;

    set_size(c, f->content.size);
    if (c->size > 0) {
        memcpy(c->bytes, f->content.bytes, c->size);
    }
    for (size_t i = 0; i < f->pending_count; i++) {
        const struct event *e = &d->record->events[f->pending[i].event];
        bool pieces = e->type == EVENT_WRITE && (mood >= MOOD_PAGES || (mood == MOOD_FIRST && i == first));
        end = e->offset + e->size > end ? e->offset + e->size : end;
        if (f->pending[i].there || mood == MOOD_EVERYTHING || (mood == MOOD_FIRST && i < first)) {
            apply(c, d->record, e);
        } else if (pieces) {
            apply_pieces(c, d->record, e, mood == MOOD_PAGES ? PAGE : SECTOR, chance, luck);
        } else if (mood >= MOOD_WRITES && prng_below(luck, 8) < chance) {
            apply(c, d->record, e);
        }
    }
    if (end > c->size && prng_below(luck, 4) == 0) { /* it has grown, and what is there now nobody has written */
        set_size(c, c->size + prng_below(luck, (uint32_t)(end - c->size) + 1));
    }
}

/* A lock file is written through a mapping: anything may be in it. */
static void draw_garbage(const struct file *f, struct prng *luck, struct content *c)
{
    set_size(c, f->pending_count ? prng_below(luck, 3) * PAGE : 0);
    for (size_t i = 0; i < c->size; i++) {
        c->bytes[i] = (uint8_t)prng_next(luck);
    }
}

static void draw_names(const struct disk *d, const struct file *f, struct prng *luck, struct names *ret_names)
{
    size_t count = f->pending_count ? prng_below(luck, (uint32_t)f->pending_count + 1) : 0;

    *ret_names = f->names;
    for (size_t i = 0; i < count; i++) {
        names_apply(ret_names, d->record, &d->record->events[f->pending[i].event]);
    }
}

/* ---- onto the disk ---- */

static bool write_content(const struct content *c, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_EXCL, 0600);

    if (fd < 0) {
        return false;
    }
    bool good = c->size == 0 || write(fd, c->bytes, c->size) == (ssize_t)c->size;
    close(fd);
    return good;
}

static bool write_file(const struct disk *d, uint32_t file, struct prng *luck, struct content *c, const char *path)
{
    const struct file *f = &d->files[file];
    struct names names;
    char inside[PATH_BYTES + RECORD_NAME];

    if (!d->record->files[file].directory) {
        c->size = 0;
        if (d->record->files[file].shared) {
            draw_garbage(f, luck, c);
        } else {
            draw_content(d, f, luck, c);
        }
        return write_content(c, path);
    }
    draw_names(d, f, luck, &names);
    bool good = mkdir(path, 0700) == 0;
    for (unsigned i = 0; good && i < names.count; i++) {
        snprintf(inside, sizeof(inside), "%s/%s", path, names.entries[i].name);
        good = write_file(d, names.entries[i].file, luck, c, inside);
    }
    return good;
}

bool disk_write(const struct disk *d, struct prng *luck, const char *path)
{
    struct content c = {0};
    bool good = write_file(d, RECORD_ROOT, luck, &c, path);

    free(c.bytes);
    return good;
}

/* ---- whether the record is complete ---- */

static bool same(const struct content *c, const char *path)
{
    FILE *in = fopen(path, "re");
    uint8_t *bytes = malloc(c->size + 1);
    bool equal = in && bytes && fread(bytes, 1, c->size + 1, in) == c->size;

    equal = equal && (c->size == 0 || memcmp(bytes, c->bytes, c->size) == 0);
    free(bytes);
    if (in) {
        fclose(in);
    }
    return equal;
}

static bool differs(struct disk *d, uint32_t file, const char *path)
{
    struct file *f = &d->files[file];
    char inside[PATH_BYTES];

    settle(d, file, SIZE_MAX);
    if (!d->record->files[file].directory) {
        snprintf(d->differs, sizeof(d->differs), "%s", path);
        return !d->record->files[file].shared && !same(&f->content, path);
    }
    for (unsigned i = 0; i < f->names.count; i++) {
        snprintf(inside, sizeof(inside), "%.400s/%s", path, f->names.entries[i].name);
        if (differs(d, f->names.entries[i].file, inside)) {
            return true;
        }
    }
    return false;
}

const char *disk_differs(struct disk *d, const char *path)
{
    disk_forward(d, d->record->count);
    return differs(d, RECORD_ROOT, path) ? d->differs : NULL;
}
