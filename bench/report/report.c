/* report.c -- arguments, files and the Markdown table. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/figures.h"
#include "bench/report/report.h"
#include "bench/report/report_groups.h"
#include "proto/base/slice.h"

#define FILE_BYTES_MAX (256u << 20)
#define FILES_MAX REPORT_RESULTS_MAX

#define PAGE_NAME "tern-bench.html"

static const char usage[] = "usage: tern-bench report [--html FILE] [--title TEXT] FILE.json ...\n"
                            "Prints a Markdown table of the results in the files and writes a page of them "
                            "(" PAGE_NAME ").\n";

/* Which line and column a place in a text is. */
static const char *sentence_at(const char *text, size_t place, const char *what)
{
    static char sentence[JSON_ERROR_TEXT_LENGTH + 80];
    size_t line = 1;
    size_t column = 1;

    for (size_t i = 0; i < place; i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    snprintf(sentence, sizeof(sentence), "line %zu, column %zu: %s", line, column, what);
    return sentence;
}

/* Takes value. Returns NULL or what is wrong. */
static const char *results_take(json_t *results, json_t *value)
{
    const char *wrong = NULL;

    if (json_is_object(value)) {
        wrong = json_array_size(results) >= REPORT_RESULTS_MAX ? "more than 1000 results"
                : json_array_append(results, value) != 0       ? "out of memory"
                                                               : NULL;
    }
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value) && !wrong; i++) {
        json_t *element = json_array_get(value, i);
        wrong = json_is_object(element) ? results_take(results, json_incref(element))
                                        : "the array begun here has an element that is no result object";
    }
    json_decref(value);
    return wrong;
}

const char *report_parse(const char *text, size_t len, json_t *results)
{
    size_t at = 0;
    size_t before = json_array_size(results);

    for (;;) {
        at += strspn(text + at, " \t\r\n");
        if (at >= len) {
            break;
        }
        json_error_t error;
        json_t *value = json_loadb(text + at, len - at, JSON_DISABLE_EOF_CHECK, &error);
        size_t end = at + (error.position > 0 ? (size_t)error.position : 0);
        if (!value) {
            return sentence_at(text, end < len ? end : len, error.text);
        }
        const char *wrong = results_take(results, value);
        if (wrong) {
            return sentence_at(text, at, wrong);
        }
        at = end;
    }
    return json_array_size(results) > before ? NULL : "no result in it";
}

/* The whole file with a NUL behind it, or NULL with errno set. */
static char *file_read(const char *path, size_t *ret_len)
{
    FILE *in = fopen(path, "r");
    char *text = NULL;
    size_t len = 0;

    if (!in) {
        return NULL;
    }
    for (size_t room = 65536; room <= FILE_BYTES_MAX; room *= 2) {
        char *grown = realloc(text, room);
        if (!grown) {
            break;
        }
        text = grown;
        len += fread(text + len, 1, room - 1 - len, in);
        if (len < room - 1) {
            int rc = ferror(in) ? errno : 0;
            fclose(in);
            text[len] = '\0';
            *ret_len = len;
            if (rc) {
                free(text);
                errno = rc;
                return NULL;
            }
            return text;
        }
    }
    fclose(in);
    free(text);
    errno = EFBIG;
    return NULL;
}

/* Returns 0 or 2. */
static int file_load(const char *path, json_t *results)
{
    size_t len = 0;
    char *text = file_read(path, &len);

    if (!text) {
        fprintf(stderr, "tern-bench report: %s cannot be read: %s.\n", path, strerror(errno));
        return 2;
    }
    const char *wrong = report_parse(text, len, results);
    free(text);
    if (wrong) {
        fprintf(stderr, "tern-bench report: %s, %s.\n", path, wrong);
        return 2;
    }
    return 0;
}

/* "results/tern.json" says "tern". */
static void label_of_path(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t len = strlen(name);

    if (len > 5 && strcmp(name + len - 5, ".json") == 0) {
        len -= 5;
    }
    snprintf(out, size, "%.*s", (int)(len < size ? len : size - 1), name);
}

static void label_set(json_t *result, const char *label, const char *path)
{
    char name[128];
    char whole[400];

    label_of_path(path, name, sizeof(name));
    snprintf(whole, sizeof(whole), *label ? "%.*s (%s)" : "%.*s%s", figures_clip(label, 200), label, name);
    json_t *text = json_string(whole);
    if (text) { /* NULL: memory is out, or the file's name is no UTF-8; then the label stays */
        json_object_set_new(result, "label", text);
    }
}

/* Results without a label are called after their file, and so are those of two files that would be taken for runs of
 * one thing: the same label, before a change and after it. files[i] is where the result i came from. */
static void labels_tell_apart(json_t *results, char *const *files)
{
    size_t count = json_array_size(results);
    char **keys = calloc(count + 1, sizeof(*keys));
    bool *clashes = calloc(count + 1, sizeof(*clashes));

    for (size_t i = 0; keys && clashes && i < count; i++) {
        const json_t *result = json_array_get(results, i);
        keys[i] = report_key(result);
        clashes[i] = !*figures_string(result, "label");
        for (size_t k = 0; k < i && keys[i]; k++) {
            if (files[k] != files[i] && keys[k] && strcmp(keys[k], keys[i]) == 0 &&
                strcmp(figures_string(json_array_get(results, k), "label"), figures_string(result, "label")) == 0) {
                clashes[k] = clashes[i] = true;
            }
        }
    }
    for (size_t i = 0; keys && clashes && i < count; i++) {
        json_t *result = json_array_get(results, i);
        if (clashes[i]) {
            label_set(result, figures_string(result, "label"), files[i]);
        }
        free(keys[i]);
    }
    free(keys);
    free(clashes);
}

static int files_load(int count, char **paths, json_t *results)
{
    char **files = calloc(REPORT_RESULTS_MAX, sizeof(*files)); /* borrowed: where each result came from */

    if (!files) {
        fputs("tern-bench report: out of memory.\n", stderr);
        return 2;
    }
    for (int i = 0; i < count; i++) {
        size_t before = json_array_size(results);
        if (file_load(paths[i], results) != 0) {
            free(files);
            return 2;
        }
        for (size_t k = before; k < json_array_size(results); k++) {
            files[k] = paths[i];
        }
    }
    labels_tell_apart(results, files);
    free(files);
    return 0;
}

static int report_of_files(int count, char **paths, const char *html, const char *title)
{
    json_t *results = json_array();
    int status = results ? files_load(count, paths, results) : 2;

    if (status == 0) {
        report_print_markdown(stdout, results);
        int rc = report_write_html(html, title, results);
        if (rc) {
            fprintf(stderr, "tern-bench report: %s cannot be written: %s.\n", html, strerror(-rc));
            status = 2;
        }
    }
    json_decref(results);
    return status;
}

int report_main(int argc, char **argv)
{
    static const struct option options[] = {{"html", required_argument, NULL, 'o'},
                                            {"title", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *html = PAGE_NAME;
    const char *title = NULL;

    optind = 0; /* the caller may have used getopt before */
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        switch (option) {
        case 'o':
            html = optarg;
            break;
        case 't':
            title = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        case ':':
            fprintf(stderr, "tern-bench report: %s needs a value.\n", argv[optind - 1]);
            return 2;
        default:
            fprintf(stderr, "tern-bench report: there is no option %s.\n", argv[optind - 1]);
            return 2;
        }
    }
    if (optind == argc || argc - optind > FILES_MAX) {
        fprintf(stderr, "tern-bench report: %s.\n",
                optind == argc ? "no result file is named" : "more than 1000 files");
        return 2;
    }
    return report_of_files(argc - optind, argv + optind, html, title);
}
