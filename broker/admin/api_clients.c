/* Clients and their subscriptions, of the whole cluster. */
#include <stdio.h>
#include <stdlib.h>

#include "broker/admin/api_tables.h"
#include "broker/admin/desk.h"
#include "broker/admin/view.h"
#include "broker/flow/operate.h"

#define BULK_MAX 1000u
#define NAME_MAX_BYTES 1024u

/* ---- lists ---- */

/* Parameters that go into the question as they are. */
static bool copy_texts(struct admin_request *request, json_t *question, const char *const *names)
{
    char value[NAME_MAX_BYTES];

    for (; *names; names++) {
        if (!api_query(request, *names, value, sizeof(value))) {
            return false;
        }
        if (value[0] && json_object_set_new(question, *names, json_string(value)) != 0) {
            admin_fail(request, 400, "the parameter \"%s\" is not UTF-8", *names);
            return false;
        }
    }
    return true;
}

/* -1 of `absent`: the parameter was not given. */
static bool copy_number(struct admin_request *request, json_t *question, const char *name, uint64_t min, uint64_t max)
{
    uint64_t value;

    if (!api_query_number(request, name, UINT64_MAX, min, max, &value)) {
        return false;
    }
    if (value != UINT64_MAX) {
        json_object_set_new(question, name, json_integer((json_int_t)value));
    }
    return true;
}

static void list_clients(struct admin_request *request)
{
    static const char *const texts[] = {"username", "ip_address", "like_clientid", "like_username", "listener",
                                        "clientid", NULL};
    static const char *const sorts[] = {"queue", "inflight", "dropped", "received", "sent", "connected_at", NULL};
    static const struct api_list list = {.kind = DESK_CLIENTS, .by_name = "clientid", .sorts = sorts};
    json_t *question = json_object();
    char state[16];

    if (!question) {
        api_say(request, 200, NULL);
        return;
    }
    if (!copy_texts(request, question, texts) || !copy_number(request, question, "proto_ver", 3, 5) ||
        !api_query(request, "conn_state", state, sizeof(state))) {
        json_decref(question);
        return;
    }
    if (state[0] && strcmp(state, "connected") != 0 && strcmp(state, "disconnected") != 0) {
        admin_fail(request, 400, "conn_state is connected or disconnected");
        json_decref(question);
        return;
    }
    if (state[0]) {
        json_object_set_new(question, "connected", json_boolean(state[0] == 'c'));
    }
    api_list(request, &list, question);
}

static void list_filtered(struct admin_request *request, const struct api_list *list, const char *const *texts)
{
    json_t *question = json_object();

    if (question && (!copy_texts(request, question, texts) || !copy_number(request, question, "qos", 0, 2))) {
        json_decref(question);
        return;
    }
    api_list(request, list, question);
}

static void list_subscriptions(struct admin_request *request)
{
    static const char *const texts[] = {"clientid", "topic", "match_topic", "share", NULL};
    static const struct api_list list = {.kind = DESK_SUBSCRIPTIONS, .by_name = "clientid"};

    list_filtered(request, &list, texts);
}

static void list_topics(struct admin_request *request)
{
    static const char *const texts[] = {"topic", "match_topic", "share", NULL};
    static const struct api_list list = {.kind = DESK_TOPICS, .by_name = "topic"};

    list_filtered(request, &list, texts);
}

static void list_subscriptions_of(struct admin_request *request)
{
    static const struct api_list list = {.kind = DESK_SUBSCRIPTIONS, .by_name = "clientid"};
    json_t *question = json_pack("{s:o}", "clientid", view_text(request->params[0]));

    api_list(request, &list, question);
}

/* ---- one client ---- */

struct show {
    struct api_call call; /* first */
    char id[NAME_MAX_BYTES];
    json_t *client, *mishap; /* owned; the best that have come */
    uint64_t client_since, mishap_at;
    json_t *missing;
};

static void show_free(struct api_call *call)
{
    struct show *s = CONTAINER_OF(call, struct show, call);

    json_decref(s->client);
    json_decref(s->mishap);
    json_decref(s->missing);
    free(s);
}

/* A session may lie on two nodes, one of them long forgotten by its client: the connected one is meant, or the latest.
 */
static void take_session(struct show *s, uint64_t since, json_t *client)
{
    bool connected = json_is_true(json_object_get(client, "connected"));

    since += connected ? 1ull << 40 : 0;
    if (!s->client || since > s->client_since) {
        json_decref(s->client);
        s->client = json_incref(client);
        s->client_since = since;
    }
}

static void show_part(void *context, unsigned from, uint64_t count, struct slice rows)
{
    struct show *s = context;
    struct row row;

    (void)from;
    (void)count;
    while (rows_read(&rows, &row) == 0) {
        json_t *object = json_loadb((const char *)row.text.ptr, row.text.len, 0, NULL);
        if (slice_eq(row.name, SLICE("session")) && object) {
            take_session(s, row.number, object);
        } else if (slice_eq(row.name, SLICE("mishap")) && object && row.number > s->mishap_at) {
            json_decref(s->mishap);
            s->mishap = json_incref(object);
            s->mishap_at = row.number;
        }
        json_decref(object);
    }
}

static void show_done(void *context)
{
    struct show *s = context;

    api_missing(&s->call, s->missing);
    s->call.inquiry = NULL;
    if (!s->client && s->mishap) {
        api_error(&s->call, 404,
                  "no client \"%s\" is known in the cluster; its last connection ended or was refused: %s (%s)", s->id,
                  json_string_value(json_object_get(s->mishap, "reason")),
                  json_string_value(json_object_get(s->mishap, "text")));
        return;
    }
    if (!s->client) {
        size_t away = json_array_size(s->missing);
        api_error(&s->call, away ? 503 : 404, "no client \"%s\" is known in the cluster%s", s->id,
                  away ? ", but not every node has answered" : "");
        return;
    }
    if (s->mishap) {
        json_object_set(s->client, "last_error", s->mishap);
    }
    json_object_set(s->client, "missing", s->missing);
    api_reply_json(&s->call, 200, json_incref(s->client));
}

/* Returns false when the id is too long, which was answered. */
static bool read_id(struct admin_request *request, char id[NAME_MAX_BYTES])
{
    if (request->params[0].len >= NAME_MAX_BYTES) {
        admin_fail(request, 404, "no client id is as long as this");
        return false;
    }
    memcpy(id, request->params[0].ptr, request->params[0].len);
    id[request->params[0].len] = '\0';
    return true;
}

static void show_client(struct admin_request *request)
{
    struct show *s = calloc(1, sizeof(*s));
    json_t *question = json_pack("{s:o}", "id", view_text(request->params[0]));

    if (!s || !question || !read_id(request, s->id)) {
        if (!s || !question) {
            api_say(request, 200, NULL);
        }
        free(s);
        json_decref(question);
        return;
    }
    api_call_init(&s->call, request, show_free);
    s->missing = json_array();
    api_inquire(&s->call, DESK_CLIENT, question, NULL, false, show_part, show_done, s);
    json_decref(question);
}

/* ---- sending away ---- */

struct kick {
    struct api_call call; /* first */
    json_t *ids;          /* owned: those that were asked for */
    json_t *kicked;       /* owned: id -> whether it was, and not only known */
    json_t *missing;
    bool bulk;
};

static void kick_free(struct api_call *call)
{
    struct kick *k = CONTAINER_OF(call, struct kick, call);

    json_decref(k->ids);
    json_decref(k->kicked);
    json_decref(k->missing);
    free(k);
}

static void kick_part(void *context, unsigned from, uint64_t count, struct slice rows)
{
    struct kick *k = context;
    struct row row;
    char id[NAME_MAX_BYTES];

    (void)from;
    (void)count;
    while (rows_read(&rows, &row) == 0) {
        snprintf(id, sizeof(id), "%.*s", (int)row.name.len, (const char *)row.name.ptr);
        if (row.number == OPERATE_KICKED || !json_object_get(k->kicked, id)) {
            json_object_set_new(k->kicked, id, json_boolean(row.number == OPERATE_KICKED));
        }
    }
}

static void kick_one_done(struct kick *k)
{
    const char *id = json_string_value(json_array_get(k->ids, 0));
    const json_t *kicked = json_object_get(k->kicked, id);

    if (json_is_true(kicked)) {
        api_say_nothing(k->call.request);
        api_end(&k->call);
    } else if (kicked) {
        api_error(&k->call, 409, "client \"%s\" is not connected; ?session=delete ends its session", id);
    } else if (json_array_size(k->missing) > 0) {
        api_error(&k->call, 503, "no client \"%s\" is known, but not every node has answered", id);
    } else {
        api_error(&k->call, 404, "no client \"%s\" is known in the cluster", id);
    }
}

static void kick_done(void *context)
{
    struct kick *k = context;
    json_t *unknown, *id;
    json_int_t count = 0;
    size_t i;

    api_missing(&k->call, k->missing);
    k->call.inquiry = NULL;
    if (!k->bulk) {
        kick_one_done(k);
        return;
    }
    unknown = json_array();
    json_array_foreach(k->ids, i, id)
    {
        bool kicked = json_is_true(json_object_get(k->kicked, json_string_value(id)));
        count += kicked;
        if (!kicked) {
            json_array_append(unknown, id);
        }
    }
    api_reply_json(&k->call, 200,
                   json_pack("{s:I, s:o, s:O}", "kicked", count, "missing", unknown, "nodes_missing", k->missing));
}

/* ids is taken over. */
static void kick(struct admin_request *request, json_t *ids, bool bulk)
{
    char session[16];
    struct kick *k;

    if (!api_query(request, "session", session, sizeof(session))) {
        json_decref(ids);
        return;
    }
    k = ids ? calloc(1, sizeof(*k)) : NULL;
    if (!k) {
        json_decref(ids);
        api_say(request, 200, NULL);
        return;
    }
    api_call_init(&k->call, request, kick_free);
    k->ids = ids;
    k->bulk = bulk;
    k->kicked = json_object();
    k->missing = json_array();
    if (session[0] && strcmp(session, "delete") != 0 && strcmp(session, "keep") != 0) {
        api_error(&k->call, 400, "session is delete or keep");
        return;
    }
    json_t *question = json_pack("{s:O, s:b}", "ids", ids, "end", session[0] == 'd');
    if (!question || !k->kicked || !k->missing) {
        json_decref(question);
        api_no_memory(&k->call);
        return;
    }
    api_inquire(&k->call, DESK_KICK, question, NULL, false, kick_part, kick_done, k);
    json_decref(question);
}

static void kick_client(struct admin_request *request)
{
    char id[NAME_MAX_BYTES];

    if (read_id(request, id)) {
        json_t *text = json_string(id);
        if (!text) {
            admin_fail(request, 404, "no client id is like this: it is not UTF-8");
            return;
        }
        kick(request, json_pack("[o]", text), false);
    }
}

static void kick_clients(struct admin_request *request)
{
    json_t *ids = api_body(request, JSON_ARRAY), *id;
    size_t i;

    if (!ids) {
        return;
    }
    json_array_foreach(ids, i, id)
    {
        if (!json_is_string(id) || json_string_length(id) >= NAME_MAX_BYTES) {
            admin_fail(request, 400, "the body is to be a list of client ids");
            json_decref(ids);
            return;
        }
    }
    if (json_array_size(ids) > BULK_MAX) {
        admin_fail(request, 400, "more than %u client ids at one time", BULK_MAX);
        json_decref(ids);
        return;
    }
    kick(request, ids, true);
}

static const struct admin_route routes[] = {
    {ADMIN_GET, "/api/v1/clients", ADMIN_VIEWER, list_clients},
    {ADMIN_POST, "/api/v1/clients/kickout/bulk", ADMIN_OPERATOR, kick_clients},
    {ADMIN_GET, "/api/v1/clients/:id", ADMIN_VIEWER, show_client},
    {ADMIN_DELETE, "/api/v1/clients/:id", ADMIN_OPERATOR, kick_client},
    {ADMIN_GET, "/api/v1/clients/:id/subscriptions", ADMIN_VIEWER, list_subscriptions_of},
    {ADMIN_GET, "/api/v1/subscriptions", ADMIN_VIEWER, list_subscriptions},
    {ADMIN_GET, "/api/v1/topics", ADMIN_VIEWER, list_topics},
    {ADMIN_GET, "/api/v1/routes", ADMIN_VIEWER, list_topics},
};

const struct admin_table admin_clients_table = {routes, COUNT_OF(routes)};
