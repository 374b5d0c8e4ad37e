/* report_test.c -- result files into a Markdown table and a page: good ones, odd ones and hostile ones. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/report/figures.h"
#include "bench/report/report.h"
#include "tests/lib/unit.h"

#define TERN \
    "{\"label\":\"Tern\",\"scenario\":\"pair\",\"mode\":\"closed\",\"started\":\"2026-11-23T02:10:00Z\"," \
    "\"command\":\"tern-bench pair -c " \
    "2\",\"machine\":{\"cpus\":2,\"kernel\":\"6.18\",\"io\":\"io_uring\",\"threads\":1}," \
    "\"options\":{\"count\":2,\"publishers\":2,\"qos\":0,\"mqtt\":5,\"size\":\"16\"},\"seconds\":2.0,\"received\":" \
    "2400000," \
    "\"check\":{\"expected\":2400000,\"lost\":0,\"duplicate\":0,\"reordered\":0}," \
    "\"latency_us\":{\"delivery\":{\"count\":100000,\"min\":1,\"mean\":120.5,\"p50\":95,\"p90\":300,\"p99\":1200," \
    "\"p99.9\":4000,\"p99.99\":9000,\"max\":1500000,\"buckets\":[[95,50000],[300,40000],[1200,9000],[4000,900]," \
    "[9000,90],[1500000,10]]}}," \
    "\"generator\":{\"late_us\":{\"count\":1,\"p99\":12},\"slower\":true}," \
    "\"brokers\":[{\"pid\":1,\"name\":\"tern\",\"cpu_s\":0.8,\"threads\":[{\"tid\":1,\"name\":\"shard-0\",\"cpu_s\":" \
    "0.4}]}]," \
    "\"phases\":[{\"name\":\"connect\",\"seconds\":0.1,\"connections\":4}]," \
    "\"cost\":{\"cpu_us_per_message\":0.17},\"figure\":{\"name\":\"CPU\",\"value\":0.17,\"unit\":\"us\",\"per\":" \
    "\"message\"}," \
    "\"series\":[{\"t\":1.0,\"received\":1200000,\"p99_us\":1100},{\"t\":2.0,\"received\":1200000,\"p99_us\":1300}]," \
    "\"expect\":[{\"text\":\"p99<1ms\",\"value\":1.2,\"unit\":\"ms\",\"met\":false}],\"why\":\"\"}"

#define OTHER \
    "{\"label\":\"Other\",\"scenario\":\"pair\",\"mode\":\"closed\"," \
    "\"options\":{\"count\":2,\"publishers\":2,\"qos\":0,\"mqtt\":5,\"size\":\"16\"},\"seconds\":2,\"received\":" \
    "400000," \
    "\"check\":{\"expected\":400007,\"lost\":7,\"duplicate\":1,\"reordered\":0}," \
    "\"latency_us\":{\"delivery\":{\"count\":3,\"p50\":400}},\"cost\":{\"cpu_us_per_message\":0.51}}"

static json_t *results_of(const char *text)
{
    json_t *results = json_array();
    const char *wrong = report_parse(text, strlen(text), results);

    CHECK_CASE(text, wrong == NULL);
    return results;
}

static char *markdown_of(const char *text)
{
    json_t *results = results_of(text);
    char *out = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&out, &len);

    report_print_markdown(stream, results);
    fclose(stream);
    json_decref(results);
    return out;
}

static char *file_text(const char *path)
{
    FILE *in = fopen(path, "r");
    char *text = calloc(1, 4u << 20);

    if (in && text) {
        size_t len = fread(text, 1, (4u << 20) - 1, in);
        text[len] = '\0';
    }
    if (in) {
        fclose(in);
    }
    return text;
}

static char *html_of_results(const json_t *results, const char *title)
{
    char path[] = "/tmp/tern-report-XXXXXX";
    int fd = mkstemp(path);

    CHECK(fd >= 0);
    close(fd);
    CHECK(report_write_html(path, title, results) == 0);
    char *html = file_text(path);
    unlink(path);
    return html;
}

static char *html_of(const char *text)
{
    json_t *results = results_of(text);
    char *html = html_of_results(results, "A title");

    json_decref(results);
    return html;
}

/* --- is it XML
 * ----------------------------------------------------------------------------------------------------------- */

#define DEPTH_MAX 64

struct open_tags {
    char names[DEPTH_MAX][32];
    size_t depth;
};

/* The tag at p, which stands behind its '<'. Returns what follows it, NULL when it does not fit. */
static const char *tag_take(struct open_tags *tags, const char *p)
{
    bool closes = *p == '/';
    p += closes;
    char name[32] = "";
    size_t len = 0;

    while (isalnum((unsigned char)*p) && len < sizeof(name) - 1) {
        name[len++] = *p++;
    }
    bool quoted = false;
    const char *last = p;
    for (; *p && (quoted || *p != '>'); p++) {
        quoted ^= *p == '"';
        last = p;
        if (*p == '<') {
            return NULL; /* neither in a tag nor in an attribute */
        }
    }
    if (len == 0 || *p != '>') {
        return NULL;
    }
    if (closes) {
        return tags->depth > 0 && strcmp(tags->names[--tags->depth], name) == 0 ? p + 1 : NULL;
    }
    if (*last != '/') {
        if (tags->depth == DEPTH_MAX) {
            return NULL;
        }
        strcpy(tags->names[tags->depth++], name);
    }
    return p + 1;
}

/* Every tag is closed in order, and every ampersand begins a reference. */
static bool well_formed(const char *html)
{
    static const char doctype[] = "<!DOCTYPE html>";
    struct open_tags tags = {.depth = 0};

    if (strncmp(html, doctype, sizeof(doctype) - 1) != 0) {
        return false;
    }
    for (const char *p = html + sizeof(doctype) - 1; p && *p;) {
        if (*p == '<') {
            p = tag_take(&tags, p + 1);
            if (!p) {
                return false;
            }
        } else if (*p == '&') {
            size_t len = strcspn(p, "; <");
            if (p[len] != ';' || len > 8) {
                return false;
            }
            p += len;
        } else {
            p++;
        }
    }
    return tags.depth == 0;
}

static void test_well_formed(void)
{
    CHECK(well_formed("<!DOCTYPE html><a b=\">\"><c/>&amp;</a>"));
    CHECK(!well_formed("<!DOCTYPE html><a><b></a></b>"));
    CHECK(!well_formed("<!DOCTYPE html><a>"));
    CHECK(!well_formed("<!DOCTYPE html><a>1 & 2</a>"));
    CHECK(!well_formed("<!DOCTYPE html><a>1 < 2</a>"));
}

/* --- numbers
 * ------------------------------------------------------------------------------------------------------------- */

static const struct {
    enum figures_unit unit;
    double value;
    const char *want;
} texts[] = {
    {FIGURES_US, 0, "0 us"},
    {FIGURES_US, 0.17, "0.170 us"},
    {FIGURES_US, 95, "95 us"},
    {FIGURES_US, 95.5, "95.5 us"},
    {FIGURES_US, 999, "999 us"},
    {FIGURES_US, 999.7, "1.00 ms"},
    {FIGURES_US, 1234, "1.23 ms"},
    {FIGURES_US, 45600, "45.6 ms"},
    {FIGURES_US, 1500000, "1.50 s"},
    {FIGURES_RATE, 950, "950 /s"},
    {FIGURES_RATE, 12345, "12.3 k/s"},
    {FIGURES_RATE, 1213441, "1.21 M/s"},
    {FIGURES_BYTES, 557, "557 B"},
    {FIGURES_BYTES, 4096, "4.00 KiB"},
    {FIGURES_COUNT, 1234567, "1234567"},
    {FIGURES_SECONDS, 2.5, "2.50 s"},
    {FIGURES_PLAIN, 1e14, "100000000000000"},
    {FIGURES_US, NAN, "-"},
};

static void test_texts(void)
{
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        char text[FIGURES_TEXT_MAX];
        figures_text(text, texts[i].unit, texts[i].value);
        CHECK_CASE(texts[i].want, strcmp(text, texts[i].want) == 0);
    }
}

static void test_clip(void)
{
    CHECK(figures_clip("abc", 3) == 3);
    CHECK(figures_clip("abc", 2) == 2);
    CHECK(figures_clip("a\xc3\xa4", 2) == 1); /* no half character */
    CHECK(figures_clip("", 2) == 0);
}

/* --- Markdown
 * ------------------------------------------------------------------------------------------------------------ */

static void test_markdown(void)
{
    char *text = markdown_of(TERN "\n" OTHER "\n");

    CHECK(strstr(text, "| label | scenario | mode   | Received |") == text);
    CHECK(strstr(text, "|-------|----------|--------|---------:|") != NULL);
    CHECK(strstr(text,
                 "| Tern  | pair     | closed | 1.20 M/s |  95 us | 300 us | 1.20 ms | 4.00 ms | 9.00 ms | 1.50 s |"
                 "    0 |         0 |         0 | 0.170 us |     12 us |\n") != NULL);
    CHECK(strstr(text,
                 "| Other | pair     | closed |  200 k/s | 400 us |      - |       - |       - |       - |      - |"
                 "    7 |         1 |         0 | 0.510 us |         - |\n") != NULL);
    CHECK(strstr(text, "Latencies are those") == NULL);
    free(text);
}

static void test_markdown_escapes(void)
{
    char *text =
        markdown_of("{\"label\":\"a|b<i>\\u001b[2J\",\"scenario\":\"conn\",\"latency_us\":{\"connect\":{\"p50\":7}}}");

    CHECK(strstr(text, "| a\\|b\\<i\\> \\[2J | conn ") != NULL);
    CHECK(strstr(text, " 7 us ") != NULL);
    CHECK(strstr(text, "Latencies are those") != NULL);
    free(text);
}

/* --- the page
 * ------------------------------------------------------------------------------------------------------------ */

static const char *const page_words[] = {
    "<title>A title</title>",
    "prefers-color-scheme:dark",
    "pair, 2 clients, 2 publishers, QoS 0, MQTT 5, payload 16 bytes",
    "the generator was the slower one",
    "7 of 400\u202f007 messages never came",
    "missed the objective p99&lt;1ms: 1.2\u202fms",
    "Latency of delivery",
    "99.9 % within: 4.00\u202fms (4000 us)</title>",
    "Messages received",
    "p99 in each second",
    "second 2: 1.30\u202fms (1300 us)</title>",
    "3.00×",
    "shard-0",
    "tern-bench pair -c 2",
};

static void test_page(void)
{
    char *html = html_of("[" TERN "," OTHER "]");

    CHECK(well_formed(html));
    for (size_t i = 0; i < COUNT_OF(page_words); i++) {
        CHECK_CASE(page_words[i], strstr(html, page_words[i]) != NULL);
    }
    CHECK(strstr(html, "<script") == NULL);
    CHECK(strstr(html, "http://") == NULL && strstr(html, "https://") == NULL);
    free(html);
}

static void test_page_escapes(void)
{
    char *html =
        html_of("{\"label\":\"<script>alert('1')</script>\",\"scenario\":\"a&\\\"b\",\"group\":\"</section><b>\","
                "\"command\":\"<img src=x>\\u0001\",\"why\":\"<i>\",\"series\":[{\"t\":1,\"received\":5}],"
                "\"figure\":{\"name\":\"<u>\",\"value\":1,\"unit\":\"<\",\"per\":\"&\"}}");

    CHECK(well_formed(html));
    CHECK(strstr(html, "<script") == NULL && strstr(html, "<img") == NULL && strstr(html, "<i>") == NULL);
    CHECK(strstr(html, "<u>") == NULL);
    CHECK(strstr(html, "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;") != NULL);
    CHECK(strstr(html, "a&amp;&quot;b") != NULL);
    free(html);
}

/* Runs of one label are one entry: the median and the range. */
static void test_page_runs(void)
{
#define RUN(p99) \
    "{\"label\":\"T\",\"seconds\":1,\"received\":9,\"latency_us\":{\"delivery\":{\"count\":9,\"p99\":" #p99 "}}}"
    char *html = html_of(RUN(300) RUN(100) RUN(200));

    CHECK(well_formed(html));
    CHECK(strstr(html, "3 runs") != NULL);
    CHECK(strstr(html, "title=\"200 us\">200\u202fµs<small>100–300\u202fµs</small>") != NULL);
    free(html);
}

/* The best is marked where there is a choice; in an open loop the rate is none. */
static void test_page_best(void)
{
#define OF(label, rate, received, cpu) \
    "{\"label\":\"" label "\",\"options\":{\"rate\":" #rate "},\"seconds\":1,\"received\":" #received \
    ",\"cost\":{\"cpu_us_per_message\":" #cpu "}}"
    char *closed = html_of(OF("a", 0, 500, 4) OF("b", 0, 900, 4));
    char *open = html_of(OF("a", 9, 500, 2) OF("b", 9, 900, 3));

    CHECK(strstr(closed, "class=\"best\" title=\"900 /s\"") != NULL);
    CHECK(strstr(closed, "class=\"best\" title=\"500 /s\"") == NULL &&
          strstr(closed, "class=\"best\" title=\"4 us\"") == NULL);
    CHECK(strstr(open, "class=\"best\" title=\"900 /s\"") == NULL);
    CHECK(strstr(open, "class=\"best\" title=\"2 us\"") != NULL &&
          strstr(open, "class=\"best\" title=\"3 us\"") == NULL);
    free(closed);
    free(open);
}

static const char *const odd[] = {
    "{}",
    "{\"label\":7,\"scenario\":[],\"mode\":{},\"options\":1,\"seconds\":\"1\",\"received\":null}",
    "{\"latency_us\":[],\"generator\":3,\"brokers\":{},\"phases\":\"x\",\"cost\":[],\"series\":{},\"expect\":1,\"why\":"
    "[]}",
    "{\"latency_us\":{\"delivery\":{}},\"series\":[],\"expect\":[],\"brokers\":[],\"phases\":[]}",
    "{\"latency_us\":{\"delivery\":{\"count\":-1,\"p50\":-5,\"p99\":0,\"buckets\":[[1],[],3,[\"a\",2],[-4,1],[5,-1]]}}"
    "}",
    "{\"latency_us\":{\"delivery\":{\"count\":1,\"buckets\":[[1,5],[0,5],[1e300,5],[1e300,1e300]]}}}",
    "{\"series\":[1,null,{},{\"t\":-1,\"received\":-5,\"p99_us\":-1},{\"t\":1e300,\"received\":1e300,\"p99_us\":1e300}]"
    "}",
    "{\"series\":[{\"t\":0,\"received\":0,\"p99_us\":0}]}",
    "{\"series\":[{\"t\":1e-300,\"received\":1e-300,\"p99_us\":1e-300}],\"seconds\":1e-300,\"received\":1e300}",
    "{\"series\":[{\"t\":5,\"received\":1e15,\"p99_us\":1e14},{\"t\":1,\"received\":1,\"p99_us\":1e-9}]}",
    "{\"brokers\":[1,{\"threads\":1},{\"threads\":[1,{}]}],\"phases\":[1,{}],\"expect\":[1,{},{\"met\":false}]}",
    "{\"cost\":{\"cpu_us_per_message\":-1},\"figure\":{\"value\":-1},\"check\":{\"lost\":1e14,\"expected\":\"x\"}}",
};

static void test_odd(void)
{
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        char *html = html_of(odd[i]);
        char *text = markdown_of(odd[i]);
        CHECK_CASE(odd[i], well_formed(html));
        CHECK_CASE(odd[i],
                   strstr(html, ">nan") == NULL && strstr(html, "\"nan") == NULL && strstr(html, "\"inf") == NULL);
        CHECK_CASE(odd[i], strstr(html, "Lnan") == NULL && strstr(html, "Linf") == NULL);
        CHECK_CASE(odd[i], strstr(text, "| - ") != NULL);
        free(html);
        free(text);
    }
}

/* Long series, many entries, and results beyond the bound. */
static void test_bounds(void)
{
    json_t *results = json_array();

    for (int i = 0; i < 1200; i++) {
        json_t *series = json_array();
        for (int t = 0; t < (i == 0 ? 50000 : 1); t++) {
            json_array_append_new(series, json_pack("{s:i,s:i,s:i}", "t", t, "received", t, "p99_us", t + 1));
        }
        json_array_append_new(results, json_pack("{s:s,s:i,s:o}", "scenario", "x", "label", i, "series", series));
    }
    char label[32];
    for (int i = 0; i < 40; i++) {
        snprintf(label, sizeof(label), "entry %d", i);
        json_object_set_new(json_array_get(results, (size_t)i), "label", json_string(label));
    }
    json_array_insert_new(results, 0, json_string("no result"));
    char *html = html_of_results(results, NULL);
    CHECK(well_formed(html));
    CHECK(strstr(html, "201 more results are not shown") != NULL);
    CHECK(strstr(html, "first 24 of 41 results") != NULL);
    CHECK(strlen(html) < 1u << 20);
    free(html);
    json_decref(results);
}

static void test_unwritable(void)
{
    json_t *results = results_of(TERN);

    CHECK(report_write_html("/nonexistent/page.html", NULL, results) == -ENOENT);
    CHECK(report_write_html("/dev/full", NULL, results) < 0);
    json_decref(results);
}

/* --- files
 * --------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    size_t count;
    const char *want; /* NULL: fine */
} files[] = {
    {"{}", 1, NULL},
    {"{} {}\n{}\n", 3, NULL},
    {"[{},{}]\n[{}]", 3, NULL},
    {"", 0, "no result in it"},
    {"[]", 0, "no result in it"},
    {"\n{} 7", 1, "line 2, column "},
    {"{}\n{\"a\":}", 1, "line 2, column "},
    {"{\"a\":1", 0, "line 1, column "},
    {"[{},\n[]]", 1, "line 1, column 1: the array begun here"},
    {"{\"a\":1e999}", 0, "line 1, column "},
};

static void test_parse(void)
{
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        json_t *results = json_array();
        const char *wrong = report_parse(files[i].text, strlen(files[i].text), results);
        CHECK_CASE(files[i].text, files[i].want ? wrong && strstr(wrong, files[i].want) == wrong : !wrong);
        CHECK_CASE(files[i].text, json_array_size(results) == files[i].count);
        json_decref(results);
    }
}

static void test_parse_many(void)
{
    char text[3 * 1001 + 1] = "";
    for (size_t i = 0; i < 1001; i++) {
        memcpy(text + 3 * i, "{} ", 3);
    }
    json_t *results = json_array();
    const char *wrong = report_parse(text, 3 * 1001, results);
    CHECK(wrong && strstr(wrong, "more than 1000 results") != NULL);
    CHECK(json_array_size(results) == 1000);
    json_decref(results);
}

/* Run the command with its outputs in files; *ret_out and *ret_err are to be freed. */
static int run_main(int argc, char **argv, char **ret_out, char **ret_err)
{
    char paths[2][32] = {"/tmp/tern-report-out-XXXXXX", "/tmp/tern-report-err-XXXXXX"};
    int kept[2];

    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        kept[i] = dup(i + 1);
        int fd = mkstemp(paths[i]);
        dup2(fd, i + 1);
        close(fd);
    }
    int status = report_main(argc, argv);
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        dup2(kept[i], i + 1);
        close(kept[i]);
    }
    *ret_out = file_text(paths[0]);
    *ret_err = file_text(paths[1]);
    unlink(paths[0]);
    unlink(paths[1]);
    return status;
}

static void file_write(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");

    CHECK(out != NULL);
    fputs(text, out);
    fclose(out);
}

/* Two files of one label are a before and an after, not two runs of one thing. */
static void test_main(void)
{
    char dir[] = "/tmp/tern-report-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    char before[64], after[64], page[64];
    snprintf(before, sizeof(before), "%s/before.json", dir);
    snprintf(after, sizeof(after), "%s/after.json", dir);
    snprintf(page, sizeof(page), "%s/page.html", dir);
    file_write(before, TERN "{\"scenario\":\"conn\"}");
    file_write(after, TERN);

    char *out, *err;
    char *good[] = {"report", before, "--html", page, after, NULL};
    CHECK(run_main(5, good, &out, &err) == 0);
    CHECK(strcmp(err, "") == 0);
    CHECK(strstr(out, "| Tern (before) | pair") != NULL && strstr(out, "| Tern (after)  | pair") != NULL);
    CHECK(strstr(out, "| before        | conn") != NULL);
    char *html = file_text(page);
    CHECK(well_formed(html) && strstr(html, "Tern (after)") != NULL);
    free(html);
    free(out);
    free(err);

    file_write(after, "{\n\"label\": x}");
    char *bad[] = {"report", before, after, NULL};
    CHECK(run_main(3, bad, &out, &err) == 2);
    CHECK(strcmp(out, "") == 0);
    CHECK(strstr(err, "/after.json, line 2, column ") != NULL);
    CHECK(strchr(err, '\n') == err + strlen(err) - 1);
    free(out);
    free(err);
    unlink(before);
    unlink(after);
    unlink(page);
    rmdir(dir);
}

static const struct {
    const char *name;
    const char *argv[3];
    int argc;
    const char *want;
} wrong_arguments[] = {
    {"nothing", {"report"}, 1, "no result file is named"},
    {"unknown option", {"report", "--color", "x"}, 3, "there is no option --color"},
    {"option without value", {"report", "--html"}, 2, "--html needs a value"},
    {"no such file", {"report", "/nonexistent.json"}, 2, "/nonexistent.json cannot be read"},
    {"a folder", {"report", "/tmp"}, 2, "/tmp cannot be read"},
};

static void test_wrong_arguments(void)
{
    for (size_t i = 0; i < COUNT_OF(wrong_arguments); i++) {
        char *argv[4] = {NULL};
        char *out, *err;
        for (int k = 0; k < wrong_arguments[i].argc; k++) {
            argv[k] = (char *)wrong_arguments[i].argv[k];
        }
        CHECK_CASE(wrong_arguments[i].name, run_main(wrong_arguments[i].argc, argv, &out, &err) == 2);
        CHECK_CASE(wrong_arguments[i].name, strstr(err, wrong_arguments[i].want) != NULL);
        free(out);
        free(err);
    }
}

UNIT_MAIN("bench/report", {"the parser of this test", test_well_formed}, {"numbers with units", test_texts},
          {"cutting texts", test_clip}, {"markdown", test_markdown}, {"markdown escapes", test_markdown_escapes},
          {"page", test_page}, {"page escapes", test_page_escapes}, {"several runs", test_page_runs},
          {"best of a column", test_page_best}, {"odd results", test_odd}, {"bounds", test_bounds},
          {"page that cannot be written", test_unwritable}, {"files", test_parse},
          {"too many results", test_parse_many}, {"command", test_main}, {"wrong arguments", test_wrong_arguments})
