/* Lines of `ternctl store import`: what is refused and with which words, what becomes of what is taken, no memory. */
#include "broker/cli/store_command.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/session/session.h"
#include "proto/mqtt/mqtt.h"
#include "tests/lib/unit.h"

static const struct hash_key key = {1, 2};
static struct user_rates *rates;

static int read_line(const char *text, char *error, size_t error_size, struct store_line *ret_line)
{
    const struct record_world world = {.rates = rates, .key = &key};
    size_t len = strlen(text);
    char *copy = malloc(len + 1); /* exact, so that ASan sees one byte over */

    CU_ASSERT_FATAL(copy != NULL);
    memcpy(copy, text, len);
    error[0] = '\0';
    int rc = store_line_read(slice_of(copy, len), &world, error, error_size, ret_line);
    free(copy);
    return rc;
}

#define SESSION "\"type\":\"session\",\"client\":\"c\",\"expiry\":60,\"receive_max\":20"
#define MESSAGE "\"type\":\"message\",\"client\":\"c\",\"number\":1,\"qos\":1,\"state\":\"waiting\""
#define CONTENT "\"topic\":\"a\",\"payload\":\"\",\"published_qos\":1"

static const struct {
    const char *line, *sentence;
} refused[] = {
    {"", "is not a JSON object"},
    {"[]", "is not a JSON object"},
    {"{} {}", "is not a JSON object"},
    {"{\"type\":\"store\",\"type\":\"store\",\"version\":1}", "is not a JSON object"},
    {"{}", "\"type\" is missing"},
    {"{\"type\":1}", "\"type\" must be text"},
    {"{\"type\":\"x\"}", "\"type\" must be store, session"},
    {"{\"type\":\"store\"}", "\"version\" is missing"},
    {"{\"type\":\"store\",\"version\":2}", "\"version\" must be a number from 1 to 1"},
    {"{\"type\":\"store\",\"version\":1,\"x\":0}", "x is not known"},
    {"{\"type\":\"session\"}", "\"client\" is missing"},
    {"{\"type\":\"session\",\"client\":\"\",\"expiry\":1,\"receive_max\":1}", "\"client\" is empty"},
    {"{\"type\":\"session\",\"client\":\"c\",\"expiry\":-1,\"receive_max\":1}", "\"expiry\" must be a number"},
    {"{\"type\":\"session\",\"client\":\"c\",\"expiry\":4294967296,\"receive_max\":1}", "\"expiry\" must be"},
    {"{\"type\":\"session\",\"client\":\"c\",\"expiry\":1.5,\"receive_max\":1}", "\"expiry\" must be a number"},
    {"{\"type\":\"session\",\"client\":\"c\",\"expiry\":1,\"receive_max\":0}", "\"receive_max\" must be"},
    {"{\"type\":\"session\",\"client\":\"c\",\"expiry\":0,\"receive_max\":1}", "has ended with its connection"},
    {"{" SESSION ",\"connected\":1}", "\"connected\" must be true or false"},
    {"{" SESSION ",\"connected\":true,\"detached_at\":5}", "has no \"detached_at\""},
    {"{" SESSION ",\"qos2\":[0]}", "\"qos2\" must be a number from 1 to 65535"},
    {"{" SESSION ",\"qos2\":[3,3]}", "rising numbers"},
    {"{" SESSION ",\"qos2\":{}}", "\"qos2\" must be a list"},
    {"{" SESSION ",\"principal\":[]}", "\"principal\" must be an object"},
    {"{" SESSION ",\"principal\":{\"method\":0,\"address\":\"1.2.3\"}}", "\"address\" must be"},
    {"{" SESSION ",\"principal\":{\"method\":0,\"credential\":\"12\"}}", "\"credential\" must be"},
    {"{" SESSION ",\"principal\":{\"method\":0,\"roles\":[1]}}", "\"roles\" must be"},
    {"{" SESSION ",\"principal\":{\"method\":0,\"rules\":\"x\"}}", "\"rules\" must be"},
    {"{" SESSION ",\"principal\":{\"method\":0,\"x\":1}}", "x is not known in \"principal\""},
    {"{" SESSION ",\"will\":{" CONTENT ",\"delay\":0}}", "a will without delay"},
    {"{" SESSION ",\"will\":{" CONTENT "}}", "\"delay\" is missing"},
    {"{" SESSION ",\"will\":{\"topic\":\"+\",\"payload\":\"\",\"published_qos\":1,\"delay\":1}}", "is no topic"},
    {"{\"type\":\"subscription\",\"client\":\"c\",\"filter\":\"a/#/b\",\"qos\":0}", "\"filter\" is no filter"},
    {"{\"type\":\"subscription\",\"client\":\"c\",\"filter\":\"$share/+/b\",\"qos\":0}", "\"filter\" is no filter"},
    {"{\"type\":\"subscription\",\"client\":\"c\",\"filter\":\"a\",\"qos\":3}", "\"qos\" must be a number from 0 to 2"},
    {"{\"type\":\"subscription\",\"client\":\"c\",\"filter\":\"$share/g/a\",\"qos\":1,\"no_local\":true}",
     "cannot have"},
    {"{" MESSAGE "}", "\"topic\" is missing"},
    {"{" MESSAGE ",\"topic\":\"a\",\"published_qos\":1}", "\"payload\" is missing"},
    {"{" MESSAGE ",\"topic\":\"a\",\"payload\":\"=\",\"published_qos\":1}", "\"payload\" must be base64"},
    {"{" MESSAGE ",\"topic\":\"\",\"payload\":\"\",\"published_qos\":1}", "\"topic\" is no topic"},
    {"{" MESSAGE "," CONTENT ",\"ids\":[0]}", "\"ids\" must be a number"},
    {"{" MESSAGE "," CONTENT ",\"share\":\"a\"}", "\"share\" must begin with $share/"},
    {"{" MESSAGE "," CONTENT ",\"properties\":{\"payload_format\":2}}", "\"payload_format\" must be"},
    {"{" MESSAGE "," CONTENT ",\"properties\":{\"user\":[[\"a\"]]}}", "list of pairs"},
    {"{" MESSAGE "," CONTENT ",\"properties\":{\"x\":1}}", "x is not known in \"properties\""},
    {"{\"type\":\"message\",\"client\":\"c\",\"number\":1,\"qos\":1,\"state\":\"x\"}", "\"state\" must be"},
    {"{\"type\":\"message\",\"client\":\"c\",\"number\":1,\"qos\":1,\"state\":\"released\"}", "only QoS 2"},
    {"{\"type\":\"message\",\"client\":\"c\",\"number\":1,\"qos\":2,\"state\":\"released\",\"topic\":\"a\"}",
     "topic is not"},
    {"{\"type\":\"retained\"," CONTENT "}", "without payload is none"},
    {"{\"type\":\"retained\",\"client\":\"c\",\"topic\":\"a\",\"payload\":\"AA==\",\"published_qos\":1}",
     "client is not"},
};

static void test_refused(void)
{
    struct store_line line;
    char error[300];

    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        int rc = read_line(refused[i].line, error, sizeof(error), &line);
        CHECK_CASE(refused[i].line, rc == -EINVAL);
        CHECK_CASE(refused[i].line, strstr(error, refused[i].sentence) != NULL);
        if (rc == 0) {
            store_line_deinit(&line);
        }
    }
}

static const char *const everything =
    "{" SESSION ",\"detached_at\":1790000000000,\"qos2\":[1,65535],\"principal\":{\"method\":4,\"user\":\"u\","
    "\"listener\":\"l\",\"address\":\"10.0.0.1\",\"expires_at\":5,\"credential\":\"00000000000000ff\","
    "\"roles\":[\"r\",\"s\"],\"rules\":\"[{\\\"allow\\\": \\\"publish\\\", \\\"topic\\\": \\\"a\\\"}]\"},"
    "\"will\":{\"topic\":\"w\",\"payload\":\"YWJj\",\"published_qos\":2,\"retain\":true,\"delay\":7,"
    "\"message_expiry\":0,\"properties\":{\"payload_format\":1,\"content_type\":\"t\",\"response_topic\":\"r\","
    "\"correlation_data\":\"AA==\",\"user\":[[\"k\",\"\"]]}}}";

static void test_session(void)
{
    static const uint8_t properties[] = {1, 1, 3, 0, 1, 't', 8, 0, 1, 'r', 9, 0, 1, 0, 0x26, 0, 1, 'k', 0, 0};
    struct store_line line;
    char error[300];

    CU_ASSERT_FATAL(read_line(everything, error, sizeof(error), &line) == 0);
    CHECK(line.type == LINE_SESSION && slice_eq(line.client, SLICE("c")));
    CHECK(line.expiry_s == 60 && line.receive_max == 20 && !line.connected && line.detached_ms == 1790000000000);
    CHECK(slice_eq(buf_slice(&line.qos2), slice_of("\0\1\377\377", 4)));
    const struct principal *p = line.principal;
    CHECK(p->method == 4 && slice_eq(p->user, SLICE("u")) && strcmp(p->listener, "l") == 0 && p->expires_at_ms == 5);
    CHECK(p->credential == 255 && p->role_count == 2 && slice_eq(p->roles[1], SLICE("s")) && p->rules != NULL);
    CHECK(p->address.s6_addr[12] == 10 && p->address.s6_addr[10] == 0xff);
    const struct will *w = line.will;
    CHECK(w->delay_s == 7 && w->has_expiry && w->expiry_s == 0 && w->client_id_len == 1 && w->principal == NULL);
    CHECK(w->message->qos == 2 && w->message->retain && w->message->expires_at_ms == MESSAGE_NEVER);
    CHECK(slice_eq(message_payload(w->message), SLICE("abc")));
    CHECK(slice_eq(message_properties(w->message), slice_of(properties, sizeof(properties))));
    store_line_deinit(&line);
}

static void test_message(void)
{
    struct store_line line;
    char error[300];

    CU_ASSERT_FATAL(read_line("{" MESSAGE "," CONTENT
                              ",\"ids\":[7,268435455],\"share\":\"$share/g/a/+\",\"retain\":true,"
                              "\"publisher\":\"p\",\"expires_at\":99}\n",
                              error, sizeof(error), &line) == 0);
    CHECK(line.number == 1 && line.qos == 1 && line.state == STATE_WAITING && line.retain);
    CHECK(slice_eq(buf_slice(&line.ids), SLICE("\x0b\x07\x0b\xff\xff\xff\x7f")));
    CHECK(slice_eq(line.share, SLICE("g")) && slice_eq(line.filter, SLICE("a/+")));
    CHECK(slice_eq(line.publisher, SLICE("p")) && line.message->expires_at_ms == 99 && !line.message->retain);
    CHECK(line.message->topic_hash == hash_keyed(&key, SLICE("a")));
    store_line_deinit(&line);
}

/* What is written is read as what it was. */
static void test_there_and_back(void)
{
    struct session *s = session_new(SLICE("c"), 1, 1);
    struct store_line line, again;
    char error[300];

    CU_ASSERT_FATAL(s != NULL && read_line(everything, error, sizeof(error), &line) == 0);
    s->expiry_s = line.expiry_s;
    s->receive_max = line.receive_max;
    s->expires_at_ms = line.detached_ms + 60000;
    s->principal = principal_ref(line.principal);
    s->will = line.will;
    line.will = NULL;
    CHECK(packet_ids_add(&s->qos2, 65535) == 0 && packet_ids_add(&s->qos2, 1) == 0);
    json_t *object = store_write_session(s);
    char *text = json_dumps(object, JSON_COMPACT);
    CU_ASSERT_FATAL(text != NULL && read_line(text, error, sizeof(error), &again) == 0);
    json_t *want = json_loads(everything, 0, NULL), *got = json_loads(text, 0, NULL);
    json_object_set_new(want, "connected", json_false()); /* the defaults that a line need not have */
    CHECK(json_equal(want, got));
    json_decref(want);
    json_decref(got);
    json_decref(object);
    free(text);
    store_line_deinit(&again);
    store_line_deinit(&line);
    session_free(s);
}

/* jansson's memory, which is most of a line's. */
static unsigned fail_at;

static void *failing_malloc(size_t size)
{
    return fail_at > 0 && --fail_at == 0 ? NULL : malloc(size);
}

static void test_no_memory(void)
{
    struct store_line line;
    char error[300];
    unsigned n = 0;
    int rc;

    json_set_alloc_funcs(failing_malloc, free);
    do {
        fail_at = ++n;
        rc = read_line(everything, error, sizeof(error), &line);
        CHECK((rc == 0) == (fail_at > 0)); /* the parser itself does not always say that it was for memory */
    } while (rc != 0 && n < 10000);
    CHECK(n > 50 && n < 10000);
    fail_at = 0;
    store_line_deinit(&line);
    json_set_alloc_funcs(malloc, free);
}

static void test_begin(void)
{
    CU_ASSERT_FATAL(user_rates_new(&rates) == 0);
}

static void test_end(void)
{
    user_rates_free(rates); /* asserts that nobody is left */
}

UNIT_MAIN("broker/cli/store_read", {"begin", test_begin}, {"what is refused", test_refused}, {"session", test_session},
          {"message", test_message}, {"there and back", test_there_and_back}, {"no memory", test_no_memory},
          {"end", test_end})
