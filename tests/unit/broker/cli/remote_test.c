/* The rows of the verbs: nothing stands twice, nothing that the code does not read; how values are shown; paths. */
#include "broker/cli/remote.h"

#include <stdlib.h>

#include "tests/lib/unit.h"

static bool has_option(const struct remote_option *list, const char *name)
{
    for (const struct remote_option *o = list; o && o->name; o++) {
        if (strcmp(o->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void test_rows(void)
{
    unsigned common = 0;

    for (const struct remote_option *o = remote_common_options; o->name; o++) {
        common++;
    }
    for (size_t i = 0; i < remote_verb_count; i++) {
        const struct remote_verb *v = &remote_verbs[i];
        unsigned own = 0;
        for (const struct remote_option *o = v->options; o && o->name; o++) {
            CHECK_CASE(v->name, !has_option(o + 1, o->name) && !has_option(remote_common_options, o->name));
            CHECK_CASE(v->name, o->help && *o->help);
            own++;
        }
        CHECK_CASE(v->name, own + common <= REMOTE_OPTIONS_MAX);
        CHECK_CASE(v->name, v->run && v->path[0] == '/' && v->help[strlen(v->help) - 1] == '.');
        for (size_t j = i + 1; j < remote_verb_count; j++) {
            CHECK_CASE(v->name, strcmp(v->name, remote_verbs[j].name) != 0);
        }
    }
}

static const struct {
    const char *json;
    enum remote_form form;
    const char *want;
} values[] = {
    {"12", FORM_TEXT, "12"},
    {"1023", FORM_BYTES, "1023 B"},
    {"1536", FORM_BYTES, "1.5 KiB"},
    {"123456789", FORM_BYTES, "118 MiB"},
    {"59", FORM_SECONDS, "59s"},
    {"3600", FORM_SECONDS, "1h 0m"},
    {"273906", FORM_SECONDS, "3d 4h"},
    {"true", FORM_TEXT, "yes"},
    {"null", FORM_NUMBER, ""},
    {"0.25", FORM_TEXT, "0.25"},
    {"12.04", FORM_NUMBER, "12.0"},
    {"[\"n1\",\"n2\"]", FORM_TEXT, "n1, n2"},
    {"{\"none\":null,\"up\":false,\"n\":[1,2]}", FORM_TEXT, "up=no n=1, 2"},
};

static void test_values(void)
{
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        json_t *json = json_loads(values[i].json, JSON_DECODE_ANY, NULL);
        struct buf out = {0};
        remote_put_value(&out, json, values[i].form);
        CHECK_CASE(values[i].json, slice_eq(buf_slice(&out), slice_str(values[i].want)));
        buf_deinit(&out);
        json_decref(json);
    }
}

static void test_paths(void)
{
    static const struct remote_option node = {"node", "NAME", "node", ""}, top = {"top", "a|b", "order=desc&sort", ""},
                                      flag = {"end", NULL, "session=delete", ""}, own = {"raw", NULL, NULL, ""};
    struct remote_call call = {.given = {{&node, "n 1"}, {&own, ""}, {&top, "queue"}, {&flag, ""}}, .given_count = 4};
    struct buf out = {0};

    remote_put_path(&call, "/clients/%s/x", "a/\xc3\xa4?+%", &out);
    CHECK(slice_eq(buf_slice(&out), slice_str("/clients/a%2F%C3%A4%3F%2B%25/x?node=n%201&order=desc&sort=queue"
                                              "&session=delete")));
    buf_deinit(&out);
    CHECK(strcmp(remote_value(&call, "top"), "queue") == 0 && remote_value(&call, "none") == NULL);
}

UNIT_MAIN("broker/cli/remote", {"rows", test_rows}, {"values", test_values}, {"paths", test_paths})
