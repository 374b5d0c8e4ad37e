/* libmosquitto_client.c -- libmosquitto against a broker: libmosquitto_client PORT VERSION (3, 4 or 5). */
#include "client.h"

#include <mosquitto.h>
#include <mqtt_protocol.h>

#define MESSAGES 500

struct client {
    struct mosquitto *mosq;
    struct box box;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int connected, connack_flags, subscribed, published;
};

static int broker_port, version;

static void bump(struct client *c, int *counter, int by)
{
    pthread_mutex_lock(&c->lock);
    *counter += by;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void wait_for(struct client *c, int *counter, int value, const char *what)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&c->lock);
    while (*counter < value && pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0) {
    }
    EXPECT(*counter >= value, "%s: %d, wanted %d", what, *counter, value);
    pthread_mutex_unlock(&c->lock);
}

static void on_connect(struct mosquitto *mosq, void *arg, int code, int flags, const mosquitto_property *props)
{
    struct client *c = arg;
    (void)mosq, (void)props;
    EXPECT(code == 0, "CONNACK %d", code);
    c->connack_flags = flags;
    bump(c, &c->connected, 1);
}

static void on_subscribe(struct mosquitto *mosq, void *arg, int mid, int count, const int *granted,
                         const mosquitto_property *props)
{
    struct client *c = arg;
    (void)mosq, (void)mid, (void)props;
    for (int i = 0; i < count; i++) {
        EXPECT(granted[i] <= 2, "SUBACK 0x%x", granted[i]);
    }
    bump(c, &c->subscribed, 1);
}

static void on_publish(struct mosquitto *mosq, void *arg, int mid, int reason, const mosquitto_property *props)
{
    struct client *c = arg;
    (void)mosq, (void)mid, (void)props;
    EXPECT(reason < 0x80, "PUBACK or PUBREC 0x%x", reason);
    bump(c, &c->published, 1);
}

static void copy_property(const mosquitto_property *props, int identifier, char *out, size_t size)
{
    char *value = NULL;
    if (mosquitto_property_read_string(props, identifier, &value, false)) {
        snprintf(out, size, "%s", value);
        free(value);
    }
}

static void on_message(struct mosquitto *mosq, void *arg, const struct mosquitto_message *m,
                       const mosquitto_property *props)
{
    struct client *c = arg;
    struct arrived item = {.qos = m->qos, .retain = m->retain};
    char *name = NULL, *value = NULL;
    (void)mosq;

    snprintf(item.topic, sizeof(item.topic), "%s", m->topic);
    snprintf(item.payload, sizeof(item.payload), "%.*s", m->payloadlen, m->payload ? (char *)m->payload : "");
    copy_property(props, MQTT_PROP_CONTENT_TYPE, item.content_type, sizeof(item.content_type));
    copy_property(props, MQTT_PROP_RESPONSE_TOPIC, item.response_topic, sizeof(item.response_topic));
    if (mosquitto_property_read_string_pair(props, MQTT_PROP_USER_PROPERTY, &name, &value, false)) {
        snprintf(item.user_value, sizeof(item.user_value), "%s", value);
        free(name);
        free(value);
    }
    box_add(&c->box, &item);
}

/* Connect; a session that should outlive the connection is asked for with clean false. */
static struct client *client_open(const char *id, bool clean, const char *will_topic)
{
    struct client *c = calloc(1, sizeof(*c));
    mosquitto_property *props = NULL;

    EXPECT(c != NULL, "no memory");
    box_init(&c->box);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->mosq = mosquitto_new(id, clean, c);
    EXPECT(c->mosq != NULL, "mosquitto_new");
    mosquitto_int_option(c->mosq, MOSQ_OPT_PROTOCOL_VERSION, version);
    mosquitto_connect_v5_callback_set(c->mosq, on_connect);
    mosquitto_subscribe_v5_callback_set(c->mosq, on_subscribe);
    mosquitto_publish_v5_callback_set(c->mosq, on_publish);
    mosquitto_message_v5_callback_set(c->mosq, on_message);
    if (will_topic) {
        int rc = mosquitto_will_set(c->mosq, will_topic, 4, "gone", 1, false);
        EXPECT(rc == MOSQ_ERR_SUCCESS, "will: %s", mosquitto_strerror(rc));
    }
    if (version == 5 && !clean) {
        mosquitto_property_add_int32(&props, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 1000);
    }
    int rc = mosquitto_connect_bind_v5(c->mosq, "127.0.0.1", broker_port, 60, NULL, props);
    mosquitto_property_free_all(&props);
    EXPECT(rc == MOSQ_ERR_SUCCESS, "connect: %s", mosquitto_strerror(rc));
    rc = mosquitto_loop_start(c->mosq);
    EXPECT(rc == MOSQ_ERR_SUCCESS, "loop: %s", mosquitto_strerror(rc));
    wait_for(c, &c->connected, 1, "CONNACK");
    return c;
}

static void client_subscribe(struct client *c, const char *filter, int qos)
{
    int before = c->subscribed;
    int rc = mosquitto_subscribe(c->mosq, NULL, filter, qos);
    EXPECT(rc == MOSQ_ERR_SUCCESS, "subscribe: %s", mosquitto_strerror(rc));
    wait_for(c, &c->subscribed, before + 1, "SUBACK");
}

static void client_publish_numbers(struct client *c, const char *topic, int count, int qos)
{
    int before = c->published;
    for (int i = 0; i < count; i++) {
        char text[16];
        int length = snprintf(text, sizeof(text), "%d", i);
        int rc = mosquitto_publish(c->mosq, NULL, topic, length, text, qos, false);
        EXPECT(rc == MOSQ_ERR_SUCCESS, "publish: %s", mosquitto_strerror(rc));
    }
    wait_for(c, &c->published, before + count, "published");
}

static void client_close(struct client *c)
{
    mosquitto_disconnect(c->mosq);
    mosquitto_loop_stop(c->mosq, false);
    mosquitto_destroy(c->mosq);
    free(c);
}

static void scenario_every_qos(void)
{
    struct client *sub = client_open("lm-sub", true, NULL), *pub = client_open("lm-pub", true, NULL);

    for (int qos = 0; qos <= 2; qos++) {
        char topic[32];
        snprintf(topic, sizeof(topic), "lm/qos%d", qos);
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
    struct client *pub = client_open("lm-keeper", true, NULL);
    int rc = mosquitto_publish(pub->mosq, NULL, "lm/kept", 4, "kept", 1, true);
    EXPECT(rc == MOSQ_ERR_SUCCESS, "publish: %s", mosquitto_strerror(rc));
    wait_for(pub, &pub->published, 1, "published");

    struct client *sub = client_open("lm-late", true, NULL);
    client_subscribe(sub, "lm/kept", 2);
    box_expect_count(&sub->box, 1, "retained");
    EXPECT(sub->box.items[0].retain && sub->box.items[0].qos == 1, "RETAIN or QoS of the retained message");
    EXPECT(!strcmp(sub->box.items[0].payload, "kept"), "payload %s", sub->box.items[0].payload);
    client_close(sub);
    client_close(pub);
    passed("retained");
}

static void scenario_will(void)
{
    struct client *sub = client_open("lm-watcher", true, NULL), *doomed = client_open("lm-doomed", true, "lm/will");

    client_subscribe(sub, "lm/will", 1);
    mosquitto_loop_stop(doomed->mosq, true);
    mosquitto_destroy(doomed->mosq); /* closes the socket without DISCONNECT */
    free(doomed);
    box_expect_count(&sub->box, 1, "will");
    EXPECT(!strcmp(sub->box.items[0].payload, "gone"), "payload %s", sub->box.items[0].payload);
    client_close(sub);
    passed("will");
}

static void scenario_session(void)
{
    struct client *sub = client_open("lm-session", false, NULL), *pub = client_open("lm-other", true, NULL);

    client_subscribe(sub, "lm/session", 2);
    client_close(sub);
    client_publish_numbers(pub, "lm/session", 200, 2);
    sub = client_open("lm-session", false, NULL);
    EXPECT(version == 3 || sub->connack_flags == 1, "Session Present is %d", sub->connack_flags);
    box_expect_numbers(&sub->box, 200, 2, "kept for the session");
    client_close(sub);
    client_close(pub);
    passed("session");
}

static void scenario_properties(void)
{
    struct client *sub = client_open("lm-prop-sub", true, NULL), *pub = client_open("lm-prop-pub", true, NULL);
    mosquitto_property *props = NULL;

    client_subscribe(sub, "lm/props", 1);
    mosquitto_property_add_string(&props, MQTT_PROP_CONTENT_TYPE, "text/plain");
    mosquitto_property_add_string(&props, MQTT_PROP_RESPONSE_TOPIC, "lm/answer");
    mosquitto_property_add_string_pair(&props, MQTT_PROP_USER_PROPERTY, "name", "value");
    int rc = mosquitto_publish_v5(pub->mosq, NULL, "lm/props", 1, "x", 1, false, props);
    EXPECT(rc == MOSQ_ERR_SUCCESS, "publish: %s", mosquitto_strerror(rc));
    box_expect_count(&sub->box, 1, "properties");
    const struct arrived *item = &sub->box.items[0];
    EXPECT(!strcmp(item->content_type, "text/plain"), "content type %s", item->content_type);
    EXPECT(!strcmp(item->response_topic, "lm/answer"), "response topic %s", item->response_topic);
    EXPECT(!strcmp(item->user_value, "value"), "user property %s", item->user_value);
    mosquitto_property_free_all(&props);
    client_close(sub);
    client_close(pub);
    passed("properties");
}

int main(int argc, char **argv)
{
    EXPECT(argc == 3, "usage: libmosquitto_client PORT VERSION");
    broker_port = atoi(argv[1]);
    version = atoi(argv[2]);
    mosquitto_lib_init();
    scenario_every_qos();
    scenario_retained();
    scenario_will();
    scenario_session();
    if (version == 5) {
        scenario_properties();
    }
    mosquitto_lib_cleanup();
    return 0;
}
