/* vectors_test.c -- runs every golden packet of tests/vectors, see the README there. */
#include <glob.h>
#include <stdio.h>

#include "tests/lib/packet.h"
#include "tests/lib/unit.h"

#define ROWS_MIN 400u /* fewer were not found rather than deleted */

struct row {
    char *name, *versions, *sender, *hex, *expected;
};

static char *trim(char *text)
{
    while (*text == ' ') {
        text++;
    }
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\n')) {
        text[--len] = 0;
    }
    return text;
}

/* Cut a line at its bars. False for a comment; a line that is neither fails the test. */
static bool row_parse(char *line, struct row *ret_row)
{
    char **const fields[] = {&ret_row->name, &ret_row->versions, &ret_row->sender, &ret_row->hex, &ret_row->expected};
    if (line[0] == '#') {
        return false;
    }
    char copy[40];
    snprintf(copy, sizeof(copy), "%.39s", line);
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        char *field = strsep(&line, "|");
        CHECK_CASE(copy, field != NULL);
        if (!field) {
            return false;
        }
        *fields[i] = trim(field);
    }
    CHECK_CASE(ret_row->name, line == NULL);
    return true;
}

static const char *decode(struct slice in, enum mqtt_version version, bool from_client, struct packet *p)
{
    struct mqtt_frame frame;
    switch (mqtt_frame_next(in, MQTT_PACKET_BYTES_MAX, &frame)) {
    case MQTT_FRAME_PARTIAL:
        return "partial";
    case MQTT_FRAME_TOO_LARGE:
        return "too large";
    case MQTT_FRAME_MALFORMED:
        return mqtt_reason_name(MQTT_MALFORMED_PACKET);
    case MQTT_FRAME_WHOLE:
        break;
    }
    if (frame.size != in.len) {
        return "more than one packet";
    }
    enum mqtt_reason reason = packet_decode(&frame, version, from_client, p);
    return reason == MQTT_SUCCESS ? "ok" : mqtt_reason_name(reason);
}

static void try_row(const struct row *row, enum mqtt_version version, bool from_client)
{
    char name[256];
    snprintf(name, sizeof(name), "%s, version %d, expected %s", row->name, version, row->expected);
    struct slice in = unit_hex(row->hex);
    bool never_sent = strcmp(row->expected, "never sent") == 0;
    bool accepted = strcmp(row->expected, "accepted") == 0;
    struct packet first, second;

    const char *got = decode(in, version, from_client, &first);
    CHECK_CASE(name, strcmp(got, accepted || never_sent ? "ok" : row->expected) == 0);
    if (strcmp(got, "ok") == 0 && !never_sent) {
        struct buf out = {0};
        packet_encode(&out, &first);
        CHECK_CASE(name, first.version == version);
        CHECK_CASE(name, slice_eq(buf_slice(&out), in) == !accepted);
        CHECK_CASE(name, strcmp(decode(buf_slice(&out), version, from_client, &second), "ok") == 0);
        CHECK_CASE(name, packet_equal(&first, &second));
        buf_deinit(&out);
    }
    free((void *)in.ptr);
}

static unsigned try_versions(const struct row *row)
{
    static const struct {
        const char *text;
        enum mqtt_version version;
    } rows[] = {{"3.1", MQTT_V31},  {"3.1.1", MQTT_V311}, {"5", MQTT_V5},     {"3.x", MQTT_V31},
                {"3.x", MQTT_V311}, {"all", MQTT_V31},    {"all", MQTT_V311}, {"all", MQTT_V5}};
    bool from_client = strcmp(row->sender, "server") != 0, from_server = strcmp(row->sender, "client") != 0;
    unsigned tried = 0;

    CHECK_CASE(row->name, !from_client || !from_server || strcmp(row->sender, "both") == 0);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (strcmp(row->versions, rows[i].text) != 0) {
            continue;
        }
        tried++;
        if (from_client) {
            try_row(row, rows[i].version, true);
        }
        if (from_server) {
            try_row(row, rows[i].version, false);
        }
    }
    CHECK_CASE(row->name, tried > 0);
    return tried;
}

static unsigned try_file(const char *path)
{
    char line[4096];
    unsigned tried = 0;
    FILE *file = fopen(path, "r");
    CHECK_CASE(path, file != NULL);
    while (file && fgets(line, sizeof(line), file)) {
        struct row row;
        if (row_parse(line, &row)) {
            tried += try_versions(&row);
        }
    }
    if (file) {
        fclose(file);
    }
    return tried;
}

static void test_vectors(void)
{
    char pattern[4096];
    const char *source = getenv("TERN_SOURCE");
    unsigned tried = 0;
    glob_t found;

    snprintf(pattern, sizeof(pattern), "%s/tests/vectors/*.txt", source ? source : ".");
    CHECK_CASE(pattern, glob(pattern, 0, NULL, &found) == 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        tried += try_file(found.gl_pathv[i]);
    }
    globfree(&found);
    CHECK_CASE(pattern, tried >= ROWS_MIN);
}

UNIT_MAIN("proto/mqtt/vectors", {"golden packets", test_vectors})
