/* tern-crash -- cuts the power of a store at thousands of moments and looks what is left.
 *
 *     tern-crash                             1000 images, then each planted bug until it is found
 *     tern-crash --images N --seed S         so many, other ones; no plants
 *     tern-crash --plant NAME ...            with this bug put in (--list-plants)
 *     tern-crash --record FILE --only N      image N of a record that was kept: what a failure says to do
 *
 * Each story (story.h) gives a record, each record some hundred images (disk.h), each image is opened in a child, which
 * judges it (promise.h): one that crashes or hangs is a failure like any other. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "tests/crash/disk.h"
#include "tests/crash/plants.h"
#include "tests/crash/promise.h"
#include "tests/crash/story.h"

#define IMAGES 1000u
#define IMAGES_OF_STORY 100u
#define CHILD_SECONDS 30u
#define REPORTED_MAX 10u /* failures are shown up to this number; then only counted */
#define GO_ON 8u         /* each so manieth image is worked with */
#define KEPT "build/crash"

static const struct {
    const char *name;
    unsigned images; /* it must be found within */
} plants[PLANTS] = {
    [PLANT_NONE] = {"none", 0},
    [PLANT_NO_SYNC] = {"no-sync", 100},
    [PLANT_NO_DATA_SYNC] = {"no-data-sync", 100},
    [PLANT_NO_META_SYNC] = {"no-meta-sync", 100},
    [PLANT_NO_DIRECTORY_SYNC] = {"no-directory-sync", 100},
    [PLANT_LOST_WRITE] = {"lost-write", 1000},
    [PLANT_ENV_NOSYNC] = {"env-nosync", 100},
    [PLANT_ENV_NOMETASYNC] = {"env-nometasync", 250},
    [PLANT_EARLY_DURABLE] = {"early-durable", 500},
    [PLANT_EARLY_STATE] = {"early-state", 500},
    [PLANT_EARLY_TRIM] = {"early-trim", 500},
};

struct run {
    uint64_t seed;
    unsigned images, first_image;
    const char *record_path; /* NULL: tell new stories */
    int only;                /* an image; -1: all */
    bool quiet;              /* failures are what is wanted */
    char dir[64];            /* in memory */
    unsigned judged, failed;
    struct facts { /* about all stories: each must have happened, or the images prove little */
        size_t events, promises, starts, checkpoints, maps_grown, logs_trimmed, sector_writes, synced_names;
    } facts;
};

/* ---- one image ---- */

static void remove_tree(const char *path)
{
    char command[256];

    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    if (system(command) != 0) {
        fprintf(stderr, "tern-crash: %s cannot be removed\n", path);
        exit(1);
    }
}

/* The end of what a dead child has said, or how it died. */
static void last_words(int errors, int status, char *out, size_t size)
{
    char text[600];
    off_t end = lseek(errors, 0, SEEK_END), from = end > (off_t)sizeof(text) - 1 ? end - (off_t)sizeof(text) + 1 : 0;
    ssize_t len = pread(errors, text, sizeof(text) - 1, from);

    text[len > 0 ? len : 0] = '\0';
    for (char *c = text; *c; c++) {
        *c = *c != '\n' ? *c : c[1] ? '|' : '\0';
    }
    if (WIFSIGNALED(status)) {
        snprintf(out, size, "signal %d (%s) %s", WTERMSIG(status), strsignal(WTERMSIG(status)), text);
    } else {
        snprintf(out, size, "%s", text[0] ? text : "it ended without a word");
    }
}

/* Judge the image at path in a child. True: every promise is kept. */
static bool judge(struct promises *promises, const char *path, bool go_on, char *ret_why, size_t size)
{
    char data[128];
    int status, errors = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    snprintf(data, sizeof(data), "%s/data", path);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(errors, STDERR_FILENO);
        alarm(CHILD_SECONDS);
        log_setup(STDERR_FILENO, LOG_ERROR, LOG_TEXT);
        promises_judge(promises, data, go_on);
        _exit(0);
    }
    if (errors < 0 || child < 0 || waitpid(child, &status, 0) != child) {
        perror("tern-crash");
        exit(1);
    }
    if (status != 0) {
        last_words(errors, status, ret_why, size);
    }
    close(errors);
    return status == 0;
}

/* ---- the images of one record ---- */

struct cut {
    unsigned image;
    size_t at;
    struct prng luck;
};

static int by_moment(const void *a, const void *b)
{
    const struct cut *x = a, *y = b;
    return x->at != y->at ? (x->at < y->at ? -1 : 1) : (x->image > y->image) - (x->image < y->image);
}

/* Half of the cuts are anywhere, half right behind a promise. */
static struct cut draw_cut(const struct record *record, uint64_t seed, unsigned image)
{
    struct cut c = {.image = image};

    prng_seed(&c.luck, hash_mix(seed) + image);
    bool behind = prng_below(&c.luck, 2);
    c.at = prng_below(&c.luck, (uint32_t)record->count) + 1u;
    while (behind && c.at < record->count && record->events[c.at - 1].type != EVENT_DURABLE &&
           record->events[c.at - 1].type != EVENT_FINISHED) {
        c.at++;
    }
    return c;
}

static void report(struct run *r, const struct record *record, const struct cut *c, const char *why)
{
    char path[128];

    if (++r->failed > REPORTED_MAX || r->quiet) {
        return;
    }
    snprintf(path, sizeof(path), KEPT "/record-%llu-%u", (unsigned long long)r->seed, c->image / IMAGES_OF_STORY);
    printf("seed %llu image %u, cut at event %zu of %zu: %s\n", (unsigned long long)r->seed, c->image, c->at,
           record->count, why);
    if (r->record_path) {
        return;
    }
    if ((mkdir("build", 0777) != 0 && errno != EEXIST) || (mkdir(KEPT, 0777) != 0 && errno != EEXIST) ||
        !record_save(record, path)) {
        perror(path);
        return;
    }
    printf("    again: --record %s --seed %llu --only %u%s%s\n", path, (unsigned long long)r->seed, c->image,
           plant ? " --plant " : "", plant ? plants[plant].name : "");
    fflush(stdout);
}

static void judge_cut(struct run *r, const struct record *record, const struct disk *disk, struct promises *promises,
                      struct cut *c)
{
    char why[800], path[96];
    bool keep = r->only >= 0;

    snprintf(path, sizeof(path), "%s/%s", r->dir, "image");
    if (!disk_write(disk, &c->luck, path)) {
        perror(path);
        exit(1);
    }
    r->judged++;
    if (!judge(promises, path, c->image % GO_ON == 0, why, sizeof(why))) {
        report(r, record, c, why);
    }
    if (keep) {
        remove_tree(KEPT "/image");
        snprintf(why, sizeof(why), "mkdir -p " KEPT " && cp -r --sparse=always '%s' " KEPT "/image", path);
        printf("the image, as it was left by the judge: " KEPT "/image%s\n", system(why) == 0 ? "" : " (not kept)");
    }
    remove_tree(path);
}

static void judge_record(struct run *r, const struct record *record, unsigned first, unsigned count)
{
    struct cut *cuts = calloc(count, sizeof(*cuts));
    struct disk *disk = disk_new(record);
    struct promises promises;

    promises_init(&promises, record);
    for (unsigned i = 0; i < count; i++) {
        cuts[i] = draw_cut(record, r->seed, first + i);
    }
    qsort(cuts, count, sizeof(*cuts), by_moment);
    for (unsigned i = 0; i < count && !(r->quiet && r->failed); i++) {
        if (r->only < 0 || cuts[i].image == (unsigned)r->only) {
            disk_forward(disk, cuts[i].at);
            promises_forward(&promises, cuts[i].at);
            judge_cut(r, record, disk, &promises, &cuts[i]);
        }
    }
    promises_deinit(&promises);
    disk_free(disk);
    free(cuts);
}

/* ---- all of them ---- */

static void count(struct facts *facts, const struct record *record)
{
    bool grown = false;

    facts->events += record->count;
    for (size_t i = 0; i < record->count; i++) {
        const struct event *e = &record->events[i];
        facts->promises += e->type == EVENT_DURABLE;
        facts->checkpoints += e->type == EVENT_FINISHED;
        facts->starts += e->type == EVENT_OPENED;
        facts->sector_writes += e->type == EVENT_WRITTEN;
        facts->synced_names += e->type == EVENT_SYNC && record->files[e->file].directory;
        grown |= e->type == EVENT_WRITE && e->offset > STORY_LOG_MAP;
    }
    facts->maps_grown += grown;
}

/* A new story. The record must explain every byte that is there in the end. */
static struct record *tell(struct run *r, unsigned story)
{
    bool trimmed;
    char path[96];

    snprintf(path, sizeof(path), "%s/story", r->dir);
    mkdir(path, 0700);
    struct record *record = story_run(hash_mix(r->seed * 1000003 + story), path, &trimmed);
    struct disk *disk = disk_new(record);
    const char *differs = plant == PLANT_LOST_WRITE ? NULL : disk_differs(disk, path);
    if (differs) {
        printf("seed %llu story %u: the record does not explain %s\n", (unsigned long long)r->seed, story, differs);
        r->failed++;
    }
    disk_free(disk);
    remove_tree(path);
    count(&r->facts, record);
    r->facts.logs_trimmed += trimmed;
    return record;
}

/* What the images were made of. 1 when something never happened. */
static unsigned show_facts(const struct facts *f)
{
    printf("%zu events, %zu promises of durability, %zu checkpoints, %zu starts, %zu O_DSYNC writes, %zu synced "
           "directories, "
           "%zu maps grown, %zu logs trimmed\n",
           f->events, f->promises, f->checkpoints, f->starts, f->sector_writes, f->synced_names, f->maps_grown,
           f->logs_trimmed);
    bool all = f->promises && f->checkpoints && f->starts && f->sector_writes && f->synced_names && f->maps_grown &&
               f->logs_trimmed;
    printf("%s", all ? "" : "FAILED: something of this never happened: the stories have become too tame\n");
    return !all;
}

static void run(struct run *r)
{
    if (r->record_path) {
        struct record *record = record_load(r->record_path);
        if (!record) {
            perror(r->record_path);
            exit(1);
        }
        unsigned story = r->only < 0 ? 0 : (unsigned)r->only / IMAGES_OF_STORY;
        judge_record(r, record, story * IMAGES_OF_STORY, IMAGES_OF_STORY);
        record_free(record);
        return;
    }
    for (unsigned first = 0; first < r->images && !(r->quiet && r->failed); first += IMAGES_OF_STORY) {
        struct record *record = tell(r, first / IMAGES_OF_STORY);
        judge_record(r, record, first, r->images - first < IMAGES_OF_STORY ? r->images - first : IMAGES_OF_STORY);
        record_free(record);
    }
}

/* 1 when the plant was not found. */
static unsigned find_plant(const struct run *like, enum plant which)
{
    struct run r = *like;

    plant = which;
    r.images = plants[which].images;
    r.quiet = true;
    r.failed = r.judged = 0;
    run(&r);
    printf("plant %-20s %s %u images\n", plants[which].name, r.failed ? "found, among" : "NOT FOUND in", r.judged);
    plant = PLANT_NONE;
    return !r.failed;
}

static bool parse_plant(const char *name)
{
    for (plant = 1; plant < PLANTS; plant++) {
        if (strcmp(plants[plant].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int usage(void)
{
    fputs("usage: tern-crash [--images N] [--seed S] [--plants] [--plant NAME | --list-plants] [--record FILE] [--only "
          "N]\n",
          stderr);
    return 2;
}

static bool parse(struct run *r, int argc, char **argv, bool *ret_plants)
{
    *ret_plants = argc == 1;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(word, "--plants") == 0) {
            *ret_plants = true;
            continue;
        }
        if (!value) {
            return false;
        }
        i++;
        if (strcmp(word, "--images") == 0) {
            r->images = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(word, "--seed") == 0) {
            r->seed = strtoull(value, NULL, 10);
        } else if (strcmp(word, "--only") == 0) {
            r->only = (int)strtoul(value, NULL, 10);
        } else if (strcmp(word, "--record") == 0) {
            r->record_path = value;
        } else if (strcmp(word, "--plant") != 0 || !parse_plant(value)) {
            return false;
        }
    }
    return r->only < 0 || r->record_path != NULL;
}

int main(int argc, char **argv)
{
    struct run r = {.seed = 1, .images = IMAGES, .only = -1, .dir = "/dev/shm/tern-crash-XXXXXX"};
    bool with_plants;
    unsigned found = 0, missed = 0;

    if (argc == 2 && strcmp(argv[1], "--list-plants") == 0) {
        for (unsigned i = 1; i < PLANTS; i++) {
            printf("%-20s within %u images\n", plants[i].name, plants[i].images);
        }
        return 0;
    }
    if (!parse(&r, argc, argv, &with_plants)) {
        return usage();
    }
    if (!mkdtemp(r.dir)) {
        perror(r.dir);
        return 1;
    }
    run(&r);
    if (!r.record_path && r.images >= IMAGES) {
        missed += show_facts(&r.facts);
    }
    printf("%u images, %u failed\n", r.judged, r.failed);
    for (enum plant p = 1; p < PLANTS && with_plants; p++) {
        unsigned bad = find_plant(&r, p);
        missed += bad;
        found += !bad;
    }
    remove_tree(r.dir);
    printf("%u passed, %u failed, 0 skipped\n", r.judged - r.failed + found, r.failed + missed);
    return r.failed + missed > 0 || r.judged == 0;
}
