"""Eclipse Paho Python, in this process: one network thread for each client."""

import threading

from kit import Skip, check, check_equal, eventually

try:
    from paho.mqtt import client as paho
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.subscribeoptions import SubscribeOptions
except ImportError:
    paho = None

MESSAGES = 1000
VERSIONS = (3, 4, 5)


class Client:
    def __init__(self, broker, client_id, version, clean=True, will=None, expiry=0):
        if paho is None:
            raise Skip("python3-paho-mqtt is not installed")
        more = {} if version == 5 else {"clean_session": clean}
        self.messages, self.connacks, self.subacks, self.ends = [], [], [], []
        self.published, self.version, self.clean, self.expiry, self.broker = set(), version, clean, expiry, broker
        self.lock = threading.Lock()
        c = self.paho = paho.Client(client_id, protocol=version, **more)
        c.max_inflight_messages_set(20)
        c.reconnect_delay_set(1, 1)
        c.on_connect = lambda _c, _u, flags, rc, props=None: self.connacks.append(
            (flags["session present"], int_of(rc)))
        c.on_disconnect = lambda _c, _u, rc, props=None: self.ends.append(int_of(rc))
        c.on_subscribe = lambda _c, _u, mid, granted, props=None: self.subacks.append([int_of(g) for g in granted])
        c.on_message = lambda _c, _u, m: self.messages.append(m)
        c.on_publish = lambda _c, _u, mid: self.published.add(mid)
        if will:
            c.will_set(*will)
        self.connect()

    def connect(self):
        more = {}
        if self.version == 5:
            more["clean_start"] = self.clean
            if self.expiry:
                more["properties"] = Properties(PacketTypes.CONNECT)
                more["properties"].SessionExpiryInterval = self.expiry
        self.paho.connect("127.0.0.1", self.broker.port, 30, **more)
        self.paho.loop_start()
        eventually("CONNACK", lambda: self.connacks)
        check_equal(self.connacks[-1][1], 0, "the CONNACK's code")

    def subscribe(self, topic_filter, qos, options=None):
        count = len(self.subacks)
        if options:
            self.paho.subscribe(topic_filter, options=options)
        else:
            self.paho.subscribe(topic_filter, qos)
        eventually("SUBACK", lambda: len(self.subacks) > count)
        check_equal(self.subacks[-1], [qos], "the SUBACK's codes")

    def publish_numbers(self, topic, count, qos):
        infos = [self.paho.publish(topic, str(i), qos) for i in range(count)]
        for info in infos:
            info.wait_for_publish(20)
            check(info.is_published(), "message %d is not acknowledged" % info.mid)

    def expect_numbers(self, count, qos, what):
        eventually("%d messages, %s" % (count, what), lambda: len(self.messages) >= count, 20)
        check_equal([int(m.payload) for m in self.messages], list(range(count)), what)
        check_equal({m.qos for m in self.messages}, {qos}, "%s, QoS" % what)
        self.messages.clear()

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()

    def vanish(self):
        """End the connection as a crash of the client would."""
        self.paho._sock.shutdown(2)  # pylint: disable=protected-access


def int_of(code):
    return code if isinstance(code, int) else code.value


def test_every_qos(ctx):
    broker = ctx.broker()
    for version in VERSIONS:
        sub, pub = Client(broker, "sub%d" % version, version), Client(broker, "pub%d" % version, version)
        for qos in (0, 1, 2):
            sub.subscribe("v%d/%d" % (version, qos), qos)
            pub.publish_numbers("v%d/%d" % (version, qos), MESSAGES, qos)
            sub.expect_numbers(MESSAGES, qos, "version %d, QoS %d" % (version, qos))
        sub.close()
        pub.close()


def test_a_session_and_its_queue(ctx):
    broker = ctx.broker()
    for version in VERSIONS:
        topic, client_id = "queue/%d" % version, "session%d" % version
        sub = Client(broker, client_id, version, clean=False, expiry=1000)
        sub.subscribe(topic, 2)
        sub.close()
        pub = Client(broker, "pub%d" % version, version)
        pub.publish_numbers(topic, 500, 2)
        sub = Client(broker, client_id, version, clean=False, expiry=1000)
        if version > 3:
            check_equal(sub.connacks[-1][0], 1, "Session Present")
        sub.expect_numbers(500, 2, "version %d" % version)
        sub.close()
        pub.close()


def test_the_will_and_reconnection(ctx):
    broker = ctx.broker()
    for version in VERSIONS:
        watcher = Client(broker, "watcher%d" % version, version)
        watcher.subscribe("will/%d" % version, 1)
        doomed = Client(broker, "doomed%d" % version, version, clean=False, expiry=1000,
                        will=("will/%d" % version, b"gone", 1, False))
        doomed.subscribe("to/doomed/%d" % version, 1)
        doomed.vanish()
        eventually("the will", lambda w=watcher: [m.payload for m in w.messages] == [b"gone"])
        eventually("the reconnection", lambda d=doomed: len(d.connacks) == 2)  # paho reconnects by itself
        watcher.publish_numbers("to/doomed/%d" % version, 20, 1)
        doomed.expect_numbers(20, 1, "after the reconnection")
        doomed.close()
        watcher.close()


def test_retained_across_versions(ctx):
    broker = ctx.broker()
    for version in VERSIONS:
        pub = Client(broker, "pub%d" % version, version)
        pub.paho.publish("r/%d" % version, b"kept %d" % version, 1, True).wait_for_publish(10)
        pub.close()
    for version in VERSIONS:
        sub = Client(broker, "sub%d" % version, version)
        sub.subscribe("r/+", 1)
        eventually("the retained messages", lambda s=sub: len(s.messages) == 3)
        check_equal(sorted((m.topic, m.payload, m.retain, m.qos) for m in sub.messages),
                    [("r/%d" % v, b"kept %d" % v, True, 1) for v in VERSIONS], "for version %d" % version)
        sub.close()


def test_version_5_features(ctx):
    broker = ctx.broker()
    sub, pub = Client(broker, "sub", 5), Client(broker, "pub", 5)
    sub.subscribe("f/t", 1, SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True))
    sub.paho.publish("f/t", b"own", 1).wait_for_publish(10)
    props = Properties(PacketTypes.PUBLISH)
    props.UserProperty = [("a", "1"), ("a", "2")]
    props.ContentType, props.CorrelationData, props.ResponseTopic = "text/x", b"\0\1", "f/answer"
    props.MessageExpiryInterval, props.PayloadFormatIndicator = 100, 1
    pub.paho.publish("f/t", b"others'", 1, True, props).wait_for_publish(10)
    eventually("the message", lambda: sub.messages)
    got = sub.messages[0].properties
    check_equal((sub.messages[0].payload, sub.messages[0].retain), (b"others'", True), "the first message and RETAIN")
    check_equal((got.UserProperty, got.ContentType, got.CorrelationData, got.ResponseTopic, got.PayloadFormatIndicator),
                ([("a", "1"), ("a", "2")], "text/x", b"\0\1", "f/answer", 1), "the properties")
    check(98 <= got.MessageExpiryInterval <= 100, "the expiry is %d" % got.MessageExpiryInterval)
    sub.close()
    pub.close()
