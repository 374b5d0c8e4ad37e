/* paho_c_client.c -- Eclipse Paho C (the synchronous library) against a broker: paho_c_client PORT VERSION (3, 4, 5).
 */
#include "client.h"

#include <MQTTClient.h>

#define MESSAGES 300
#define TIMEOUT_MS (WAIT_SECONDS * 1000)

struct client {
    MQTTClient handle;
    struct box box;
};

static char broker_uri[64];
static int version;

static void copy_property(MQTTProperties *props, enum MQTTPropertyCodes code, char *out, size_t size)
{
    MQTTProperty *p = version == 5 ? MQTTProperties_getProperty(props, code) : NULL;
    if (p) {
        MQTTLenString *s = code == MQTTPROPERTY_CODE_USER_PROPERTY ? &p->value.value : &p->value.data;
        snprintf(out, size, "%.*s", s->len, s->data);
    }
}

static int on_message(void *arg, char *topic, int topic_length, MQTTClient_message *m)
{
    struct client *c = arg;
    struct arrived item = {.qos = m->qos, .retain = m->retained};

    snprintf(item.topic, sizeof(item.topic), "%.*s", topic_length ? topic_length : (int)strlen(topic), topic);
    snprintf(item.payload, sizeof(item.payload), "%.*s", m->payloadlen, (char *)m->payload);
    copy_property(&m->properties, MQTTPROPERTY_CODE_CONTENT_TYPE, item.content_type, sizeof(item.content_type));
    copy_property(&m->properties, MQTTPROPERTY_CODE_RESPONSE_TOPIC, item.response_topic, sizeof(item.response_topic));
    copy_property(&m->properties, MQTTPROPERTY_CODE_USER_PROPERTY, item.user_value, sizeof(item.user_value));
    box_add(&c->box, &item);
    MQTTClient_freeMessage(&m);
    MQTTClient_free(topic);
    return 1;
}

static int connect_5(struct client *c, MQTTClient_connectOptions *options, bool clean)
{
    MQTTProperties props = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, .value.integer4 = 1000};

    options->cleanstart = clean;
    if (!clean) {
        MQTTProperties_add(&props, &expiry);
    }
    MQTTResponse response = MQTTClient_connect5(c->handle, options, &props, NULL);
    EXPECT(response.reasonCode == MQTTREASONCODE_SUCCESS, "CONNACK 0x%x", response.reasonCode);
    MQTTResponse_free(response);
    MQTTProperties_free(&props);
    return 0;
}

/* Connect; *ret_session_present may be NULL. */
static struct client *client_open(const char *id, bool clean, MQTTClient_willOptions *will, int *ret_session_present)
{
    struct client *c = calloc(1, sizeof(*c));
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions options5 = MQTTClient_connectOptions_initializer5;

    EXPECT(c != NULL, "no memory");
    box_init(&c->box);
    create.MQTTVersion = version;
    int rc = MQTTClient_createWithOptions(&c->handle, broker_uri, id, MQTTCLIENT_PERSISTENCE_NONE, NULL, &create);
    EXPECT(rc == MQTTCLIENT_SUCCESS, "create: %d", rc);
    MQTTClient_setCallbacks(c->handle, c, NULL, on_message, NULL);
    if (version == 5) {
        options = options5;
    }
    options.MQTTVersion = version;
    options.keepAliveInterval = 30;
    options.reliable = 0;
    options.maxInflightMessages = 50;
    options.will = will;
    if (version == 5) {
        connect_5(c, &options, clean);
    } else {
        options.cleansession = clean;
        rc = MQTTClient_connect(c->handle, &options);
        EXPECT(rc == MQTTCLIENT_SUCCESS, "connect: %d", rc);
        if (ret_session_present) {
            *ret_session_present = options.returned.sessionPresent;
        }
    }
    return c;
}

static void client_subscribe(struct client *c, const char *filter, int qos)
{
    if (version == 5) {
        MQTTResponse response = MQTTClient_subscribe5(c->handle, filter, qos, NULL, NULL);
        EXPECT((int)response.reasonCode == qos, "SUBACK 0x%x", response.reasonCode);
        MQTTResponse_free(response);
    } else {
        int rc = MQTTClient_subscribe(c->handle, filter, qos);
        EXPECT(rc == MQTTCLIENT_SUCCESS, "subscribe: %d", rc);
    }
}

static MQTTClient_deliveryToken client_send(struct client *c, const char *topic, const char *text, int qos, bool retain,
                                            MQTTProperties *props)
{
    MQTTClient_message m = MQTTClient_message_initializer;
    MQTTClient_deliveryToken token = 0;
    int rc;

    m.payload = (void *)text;
    m.payloadlen = (int)strlen(text);
    m.qos = qos;
    m.retained = retain;
    if (version == 5) {
        if (props) {
            m.properties = *props;
        }
        MQTTResponse response = MQTTClient_publishMessage5(c->handle, topic, &m, &token);
        rc = (int)response.reasonCode;
        MQTTResponse_free(response);
    } else {
        rc = MQTTClient_publishMessage(c->handle, topic, &m, &token);
    }
    EXPECT(rc == MQTTCLIENT_SUCCESS, "publish: %d", rc);
    return token;
}

static void client_wait(struct client *c, MQTTClient_deliveryToken token)
{
    int rc = MQTTClient_waitForCompletion(c->handle, token, TIMEOUT_MS);
    EXPECT(rc == MQTTCLIENT_SUCCESS, "waitForCompletion: %d", rc);
}

static void client_publish(struct client *c, const char *topic, const char *text, int qos, bool retain,
                           MQTTProperties *props)
{
    client_wait(c, client_send(c, topic, text, qos, retain, props));
}

/* The library looks for completion ten times a second only, hence one wait at the end: acknowledgements come in order.
 */
static void client_publish_numbers(struct client *c, const char *topic, int count, int qos)
{
    MQTTClient_deliveryToken token = 0;

    for (int i = 0; i < count; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        token = client_send(c, topic, text, qos, false, NULL);
    }
    if (qos) {
        client_wait(c, token);
    }
}

static void client_close(struct client *c)
{
    if (version == 5) {
        MQTTClient_disconnect5(c->handle, 1000, MQTTREASONCODE_NORMAL_DISCONNECTION, NULL);
    } else {
        MQTTClient_disconnect(c->handle, 1000);
    }
    MQTTClient_destroy(&c->handle);
    free(c);
}

static void scenario_every_qos(void)
{
    struct client *sub = client_open("pc-sub", true, NULL, NULL), *pub = client_open("pc-pub", true, NULL, NULL);

    for (int qos = 0; qos <= 2; qos++) {
        char topic[32];
        snprintf(topic, sizeof(topic), "pc/qos%d", qos);
        client_subscribe(sub, topic, qos);
        client_publish_numbers(pub, topic, MESSAGES, qos);
        box_expect_numbers(&sub->box, MESSAGES, qos, topic);
        box_clear(&sub->box);
    }
    client_close(sub);
    client_close(pub);
    passed("every QoS");
}

static void scenario_retained(void)
{
    struct client *pub = client_open("pc-keeper", true, NULL, NULL);
    client_publish(pub, "pc/kept", "kept", 1, true, NULL);
    struct client *sub = client_open("pc-late", true, NULL, NULL);
    client_subscribe(sub, "pc/+", 2);
    box_expect_count(&sub->box, 1, "retained");
    EXPECT(sub->box.items[0].retain && sub->box.items[0].qos == 1, "RETAIN or QoS of the retained message");
    EXPECT(!strcmp(sub->box.items[0].topic, "pc/kept"), "topic %s", sub->box.items[0].topic);
    client_close(sub);
    client_close(pub);
    passed("retained");
}

/* A second connection with the same client id ends the first one, which publishes its will. */
static void scenario_will(void)
{
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    will.topicName = "pc/will";
    will.message = "gone";
    will.qos = 1;
    struct client *sub = client_open("pc-watcher", true, NULL, NULL);
    client_subscribe(sub, "pc/will", 1);
    struct client *doomed = client_open("pc-doomed", true, &will, NULL);
    struct client *second = client_open("pc-doomed", true, NULL, NULL);
    box_expect_count(&sub->box, 1, "will");
    EXPECT(!strcmp(sub->box.items[0].payload, "gone"), "payload %s", sub->box.items[0].payload);
    client_close(second);
    client_close(sub);
    MQTTClient_destroy(&doomed->handle);
    free(doomed);
    passed("will");
}

static void scenario_session(void)
{
    int present = -1;
    struct client *sub = client_open("pc-session", false, NULL, NULL), *pub = client_open("pc-other", true, NULL, NULL);

    client_subscribe(sub, "pc/session", 2);
    client_close(sub);
    client_publish_numbers(pub, "pc/session", 200, 2);
    sub = client_open("pc-session", false, NULL, &present);
    EXPECT(version != 4 || present == 1, "Session Present is %d", present);
    box_expect_numbers(&sub->box, 200, 2, "kept for the session");
    client_close(sub);
    client_close(pub);
    passed("session");
}

static void scenario_properties(void)
{
    struct client *sub = client_open("pc-prop-sub", true, NULL, NULL),
                  *pub = client_open("pc-prop-pub", true, NULL, NULL);
    MQTTProperties props = MQTTProperties_initializer;
    MQTTProperty type = {.identifier = MQTTPROPERTY_CODE_CONTENT_TYPE, .value.data = {10, "text/plain"}};
    MQTTProperty answer = {.identifier = MQTTPROPERTY_CODE_RESPONSE_TOPIC, .value.data = {9, "pc/answer"}};
    MQTTProperty user = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};

    user.value.data = (MQTTLenString){4, "name"};
    user.value.value = (MQTTLenString){5, "value"};
    MQTTProperties_add(&props, &type);
    MQTTProperties_add(&props, &answer);
    MQTTProperties_add(&props, &user);
    client_subscribe(sub, "pc/props", 1);
    client_publish(pub, "pc/props", "x", 1, false, &props);
    box_expect_count(&sub->box, 1, "properties");
    const struct arrived *item = &sub->box.items[0];
    EXPECT(!strcmp(item->content_type, "text/plain"), "content type %s", item->content_type);
    EXPECT(!strcmp(item->response_topic, "pc/answer"), "response topic %s", item->response_topic);
    EXPECT(!strcmp(item->user_value, "value"), "user property %s", item->user_value);
    MQTTProperties_free(&props);
    client_close(sub);
    client_close(pub);
    passed("properties");
}

int main(int argc, char **argv)
{
    EXPECT(argc == 3, "usage: paho_c_client PORT VERSION");
    snprintf(broker_uri, sizeof(broker_uri), "tcp://127.0.0.1:%s", argv[1]);
    version = atoi(argv[2]);
    scenario_every_qos();
    scenario_retained();
    scenario_will();
    scenario_session();
    if (version == 5) {
        scenario_properties();
    }
    return 0;
}
