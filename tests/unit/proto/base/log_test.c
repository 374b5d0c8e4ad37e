/* log_test.c -- what a line looks like, what is escaped, cut and suppressed. The clock is ours. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "tests/lib/unit.h"

static uint64_t now_ns = 5000000000u;
static int fd = -1;

static uint64_t test_mono_ns(void)
{
    return now_ns;
}

static uint64_t test_wall_ms(void)
{
    return 1795341600123u; /* 2026-11-22T10:00:00.123Z */
}

static const struct clock_source source = {test_mono_ns, test_wall_ms, NULL};

static void begin(enum log_level level, enum log_format format)
{
    now_ns += 1000000000u;
    clock_set(&source);
    fd = memfd_create("log", 0);
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_SETFL, O_APPEND) == 0); /* unlike a file, a memfd does not lock its position between threads */
    log_setup(fd, level, format);
}

/* What was logged since begin, NUL-terminated, to be freed. */
static char *end(void)
{
    off_t len = lseek(fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)len + 1);
    CHECK(pread(fd, text, (size_t)len, 0) == len);
    close(fd);
    log_setup(STDERR_FILENO, LOG_INFO, LOG_TEXT);
    clock_set(NULL);
    return text;
}

static void test_text_line(void)
{
    begin(LOG_INFO, LOG_TEXT);
    log_event(LOG_INFO, "client_connected", {"client", LOG_STR("a")}, {"version", LOG_INT(5)}, {"n", LOG_INT(-7)});
    log_event(LOG_ERROR, "bare");
    char *got = end();
    CHECK(strcmp(got, "ts=2026-11-22T10:00:00.123Z level=info event=client_connected client=a version=5 n=-7\n"
                      "ts=2026-11-22T10:00:00.123Z level=error event=bare\n") == 0);
    free(got);
}

static void test_json_line(void)
{
    begin(LOG_DEBUG, LOG_JSON);
    log_event(LOG_DEBUG, "x", {"client", LOG_STR("a\"b\\c\n")}, {"n", LOG_INT(INT64_MIN)});
    char *got = end();
    CHECK(strcmp(got, "{\"ts\":\"2026-11-22T10:00:00.123Z\",\"level\":\"debug\",\"event\":\"x\","
                      "\"client\":\"a\\\"b\\\\c\\\\x0a\",\"n\":-9223372036854775808}\n") == 0);
    free(got);
}

static const struct {
    const char *name, *hex, *want;
} values[] = {
    {"plain", "61 2f 62", "a/b"},
    {"UTF-8 stays", "c3a9", "\xc3\xa9"},
    {"empty", "", "\"\""},
    {"blank", "61 20 62", "\"a b\""},
    {"equals sign", "61 3d 62", "\"a=b\""},
    {"quote", "22", "\"\\\"\""},
    {"backslash", "5c", "\"\\\\\""},
    {"newline", "61 0a 62", "\"a\\x0ab\""},
    {"NUL", "00", "\"\\x00\""},
    {"escape sequence", "1b 5b 32 4a", "\"\\x1b[2J\""},
    {"C1 control", "c29b", "\"\\xc2\\x9b\""},
    {"ill-formed UTF-8", "ff c3", "\"\\xff\\xc3\""},
};

static void test_values(void)
{
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        struct slice s = unit_hex(values[i].hex);
        begin(LOG_INFO, LOG_TEXT);
        log_event(LOG_INFO, "v", {"value", LOG_SLICE(s)});
        char *got = end(), *at = strstr(got, " value=");
        CHECK_CASE(values[i].name, at && strncmp(at + 7, values[i].want, strlen(values[i].want)) == 0);
        CHECK_CASE(values[i].name, at && strcmp(at + 7 + strlen(values[i].want), "\n") == 0);
        free(got);
        free((void *)s.ptr);
    }
}

static void test_long_value_is_cut(void)
{
    char text[601];
    memset(text, 'y', 600);
    text[600] = 0;
    begin(LOG_INFO, LOG_TEXT);
    log_event(LOG_INFO, "long", {"value", LOG_STR(text)}, {"after", LOG_INT(1)});
    char *got = end();
    CHECK(strlen(got) < 400);
    CHECK(strstr(got, "yyy...\" after=1\n") != NULL);
    free(got);

    /* The cut does not fall inside a character: 255 bytes, then one of two bytes. */
    memcpy(text + 255, "\xc3\xa9", 2);
    begin(LOG_INFO, LOG_TEXT);
    log_event(LOG_INFO, "long", {"value", LOG_STR(text)});
    got = end();
    CHECK(strstr(got, "yyy...\"\n") != NULL);
    CHECK(strstr(got, "\\x") == NULL);
    free(got);
}

static void test_long_line_drops_whole_fields(void)
{
    char text[256];
    memset(text, 1, 255); /* each becomes four characters */
    text[255] = 0;
    begin(LOG_INFO, LOG_JSON);
    log_event(LOG_INFO, "many", {"a", LOG_STR(text)}, {"b", LOG_STR(text)}, {"c", LOG_STR(text)}, {"d", LOG_STR(text)},
              {"e", LOG_STR(text)});
    char *got = end();
    size_t len = strlen(got);
    CHECK(len <= 4096);
    CHECK(strstr(got, ",\"cut\":1}\n") != NULL);
    CHECK(strstr(got, "\"a\":") != NULL);
    CHECK(strstr(got, "\"e\":") == NULL);
    CHECK(strstr(got, "\\\\x01\",\"cut\":1}\n") != NULL); /* the field before ends with its quote */
    free(got);
}

static void test_level(void)
{
    begin(LOG_WARN, LOG_TEXT);
    CHECK(log_level_now() == LOG_WARN);
    log_event(LOG_INFO, "quiet");
    log_event(LOG_WARN, "loud");
    char *got = end();
    CHECK(strstr(got, "quiet") == NULL);
    CHECK(strstr(got, "event=loud") != NULL);
    free(got);
}

static unsigned lines_with(const char *text, const char *what)
{
    unsigned count = 0;
    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what)) {
        count++;
    }
    return count;
}

static void test_rate_limit(void)
{
    begin(LOG_INFO, LOG_TEXT);
    for (int i = 0; i < 50; i++) {
        log_event(LOG_INFO, "storm", {"i", LOG_INT(i)});
    }
    log_event(LOG_INFO, "other");
    now_ns += 1000000000u;
    log_event(LOG_INFO, "storm", {"i", LOG_INT(50)});
    log_event(LOG_INFO, "storm", {"i", LOG_INT(51)});
    char *got = end();
    CHECK(lines_with(got, "event=storm") == 22);
    CHECK(lines_with(got, "event=other") == 1);
    CHECK(lines_with(got, "event=storm i=50 suppressed=30\n") == 1);
    CHECK(lines_with(got, "event=storm i=51\n") == 1);
    CHECK(lines_with(got, "suppressed=") == 1);
    free(got);
}

static void test_many_event_names(void)
{
    begin(LOG_INFO, LOG_TEXT);
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "event_%d", i);
        log_event(LOG_INFO, name);
    }
    char *got = end();
    CHECK(lines_with(got, " level=info ") == 1000);
    free(got);
}

static void *log_storm(void *who)
{
    for (int i = 0; i < 25; i++) {
        log_event(LOG_INFO, "thread_storm", {"who", LOG_STR(who)});
    }
    return NULL;
}

/* Each thread has its own count, and their lines do not mix. */
static void test_threads(void)
{
    pthread_t a, b;
    begin(LOG_INFO, LOG_TEXT);
    CU_ASSERT_FATAL(pthread_create(&a, NULL, log_storm, "a") == 0);
    CU_ASSERT_FATAL(pthread_create(&b, NULL, log_storm, "b") == 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    char *got = end();
    CHECK(lines_with(got, "Z level=info event=thread_storm who=a\n") == 20);
    CHECK(lines_with(got, "Z level=info event=thread_storm who=b\n") == 20);
    CHECK(lines_with(got, "\n") == 40);
    free(got);
}

UNIT_MAIN("proto/base/log", {"text line", test_text_line}, {"JSON line", test_json_line}, {"values", test_values},
          {"long value is cut", test_long_value_is_cut},
          {"long line drops whole fields", test_long_line_drops_whole_fields}, {"level", test_level},
          {"rate limit", test_rate_limit}, {"many event names", test_many_event_names}, {"threads", test_threads})
