"""5.0, chapter 3.3: PUBLISH: flags, properties, aliases, expiry, overlapping subscriptions."""

import time

from kit import check, check_equal, covers
from lib.mqtt import *  # noqa: F403

MALFORMED = (0x81, 0x82)
KEEP = {"session_expiry": 60}


@covers("MQTT-3.3.1-1", "MQTT-3.3.1-3")
def test_dup_is_set_on_resending_only(env):
    """Whatever DUP the publisher's packet carries, the first delivery has none and the second has."""
    for qos in (1, 2):
        for published_dup in (False, True):
            with env.case("QoS %d, published with DUP %d" % (qos, published_dup)):
                sub = env.client(clean=False, props=KEEP)
                sub.subscribe(env.topic("t"), qos=2)
                env.client().publish(env.topic("t"), "x", qos=qos, dup=published_dup)
                sub.expect_publish(env.topic("t"), "x", qos=qos, dup=False, ack=False)
                sub.reopen(session_present=True)
                sub.expect_publish(env.topic("t"), "x", qos=qos, dup=True)
                sub.disconnect(0, {"session_expiry": 0})


@covers("MQTT-3.3.1-2", "MQTT-3.3.1-4")
def test_flags(env):
    rows = [("DUP with QoS 0", publish("t", b"x", 0, dup=True)), ("QoS 3", publish("t", b"x", 3, pid=1)),
            ("QoS 3 with DUP and RETAIN", publish("t", b"x", 3, dup=True, retain=True, pid=1)),
            ("DUP with QoS 0 and RETAIN", publish("t", b"x", 0, dup=True, retain=True))]
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(MALFORMED)


@covers("MQTT-3.3.2-1", "MQTT-4.13.1-1")
def test_malformed(env):
    rows = [
        ("empty", b"\x30\x00"), ("topic's length cut short", packet(0x30, b"\x00")),
        ("topic cut short", packet(0x30, b"\x00\x05ab")),
        ("packet identifier cut short", packet(0x32, string("t") + b"\0")),
        ("no packet identifier", packet(0x32, string("t"))),
        ("properties cut short", packet(0x30, string("t") + b"\x02\x01")),
        ("property value cut short", packet(0x30, string("t") + b"\x02\x02\x00")),
        ("unknown property", packet(0x30, string("t") + b"\x02\x7e\x00")),
        ("property of CONNECT", publish("t", b"x", props={"session_expiry": 1})),
        ("property of CONNACK", publish("t", b"x", props={"maximum_qos": 1})),
        ("reason string", publish("t", b"x", props={"reason_string": "r"})),
        ("payload format 2", publish("t", b"x", props={"payload_format": 2})),
    ]
    for name in ("payload_format", "message_expiry", "topic_alias"):
        rows.append((name + " twice", publish("t", b"x", props=one_property(name, 1) * 2)))
    for name in ("response_topic", "correlation_data", "content_type"):
        rows.append((name + " twice", publish("t", b"x", props=one_property(name, "a") * 2)))
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(MALFORMED)


@covers("MQTT-3.3.2-2", "MQTT-4.7.0-1", "MQTT-4.7.1-1", "MQTT-4.7.3-1")
def test_topic_must_be_a_topic_name(env):
    """With QoS 1 and 2 the answer may also be an acknowledgement that says 0x90."""
    for topic in ("", "#", "+", "a/#", "a/+/b", "a+", "a#", "/+"):
        for qos in (0, 1, 2):
            with env.case("%r QoS %d" % (topic, qos)):
                c = env.client()
                c.send(publish(topic, b"x", qos, pid=1))
                if topic and qos:
                    p = c.receive()
                    if p is not None and p.type in (PUBACK, PUBREC):
                        check_equal(p.reason, 0x90, "reason code")
                        continue
                    c.backlog.append(p) if p else None
                c.expect_closed((0x81, 0x82, 0x90))


@covers("MQTT-3.3.2-14")
def test_response_topic_must_not_have_wildcards(env):
    for topic in ("a/+", "#", "a#"):
        with env.case(topic):
            env.client().send(publish(env.topic("t"), b"x", props={"response_topic": topic})).expect_closed(
                (0x81, 0x82, 0x90))


@covers("MQTT-3.3.2-3")
def test_deliveries_match_the_filter(env):
    """Many filters, many topics: each subscriber gets exactly its own."""
    names = ["a", "b", "a/b", "a/b/c", "b/b", "a//b", "A"]
    filters = {"a": ["a"], "+": ["a", "b", "A"], "a/#": ["a", "a/b", "a/b/c", "a//b"], "+/b": ["a/b", "b/b"],
               "#": names, "a/+/c": ["a/b/c"], "a/+/b": ["a//b"], "c": []}
    subs = {f: env.client() for f in filters}
    for f, sub in subs.items():
        sub.subscribe(env.topic(f), qos=1)
    pub = env.client()
    for name in names:
        pub.publish(env.topic(name), name, qos=1)
    for f, sub in subs.items():
        with env.case(f):
            for name in filters[f]:
                sub.expect_publish(env.topic(name), name)
            sub.expect_nothing(0)


FORWARDED = [
    ("payload format 0", {"payload_format": 0}), ("payload format 1", {"payload_format": 1}),
    ("content type", {"content_type": "application/x; \u00e9"}), ("empty content type", {"content_type": ""}),
    ("response topic", {"response_topic": "an/swer \u20ac"}),
    ("correlation data", {"correlation_data": bytes(range(256))}),
    ("empty correlation data", {"correlation_data": b""}),
    ("user properties", {"user_property": [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("m", "\u20ac"), ("a", "0")]}),
    ("all", {"payload_format": 1, "content_type": "c", "response_topic": "r", "correlation_data": b"d",
             "user_property": [("k%d" % i, "v" * i) for i in range(50)]}),
]


@covers("MQTT-3.3.2-4", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-18", "MQTT-3.3.2-20")
def test_properties_are_forwarded_unaltered(env):
    """At each QoS, to subscribers on different shards, live, retained, and after waiting in a session."""
    subs, pub = env.many(5), env.client()
    for sub in subs:
        sub.subscribe(env.topic("#"), qos=2)
    away = env.client(clean=False, props=KEEP)
    away.subscribe(env.topic("#"), qos=2)
    away.disconnect()
    for name, props in FORWARDED:
        for qos in (0, 1, 2):
            with env.case("%s QoS %d" % (name, qos)):
                pub.publish(env.topic("t"), name, qos=qos, retain=True, props=props)
                for sub in subs:
                    check_equal(sub.expect_publish(env.topic("t"), name, qos=qos).props, props, "properties")
                if qos:
                    late = env.client()
                    late.subscribe(env.topic("t"), qos=2)
                    check_equal(late.expect_publish(env.topic("t"), name, qos=qos).props, props, "retained properties")
    away.reopen(session_present=True)
    for name, props in FORWARDED:
        for qos in (1, 2):
            with env.case("%s QoS %d, queued" % (name, qos)):
                p = away.expect_publish(env.topic("t"), name, ack=False)
                while p.qos == 0:  # queueing QoS 0 for a session that is away is the server's choice
                    p = away.expect_publish(env.topic("t"), name, ack=False)
                away.acknowledge(p)
                check_equal(p.props, props, "queued properties")


@covers("MQTT-3.3.2-5")
def test_expired_while_the_session_was_away(env):
    sub, pub = env.client(clean=False, props=KEEP), env.client()
    sub.subscribe(env.topic("#"), qos=2)
    sub.disconnect()
    pub.publish(env.topic("t"), "gone 1", qos=1, props={"message_expiry": 1})
    pub.publish(env.topic("t"), "stays", qos=1, props={"message_expiry": 60})
    pub.publish(env.topic("t"), "gone 2", qos=2, props={"message_expiry": 1})
    pub.publish(env.topic("t"), "eternal", qos=2)
    time.sleep(1.6)
    sub.reopen(session_present=True)
    p = sub.expect_publish(env.topic("t"), "stays", qos=1)
    check(57 <= p.props.get("message_expiry", 0) <= 59, "message expiry %r" % p.props)  # [MQTT-3.3.2-6]
    sub.expect_publish(env.topic("t"), "eternal", qos=2, props={"message_expiry": None})
    sub.expect_nothing()


@covers("MQTT-3.3.2-5", "MQTT-3.3.2-6")
def test_expired_behind_a_full_window(env):
    """The client holds the window closed; what expires meanwhile is not sent, the rest says what is left."""
    sub, pub = env.client(props={"receive_max": 1}), env.client()
    sub.subscribe(env.topic("#"), qos=1)
    pub.publish(env.topic("t"), "first", qos=1, props={"message_expiry": 1})
    first = sub.expect_publish(env.topic("t"), "first", ack=False)
    check(first.props.get("message_expiry") in (0, 1), "message expiry %r" % first.props)
    pub.publish(env.topic("t"), "gone", qos=1, props={"message_expiry": 1})
    pub.publish(env.topic("t"), "stays", qos=1, props={"message_expiry": 100})
    sub.expect_nothing(1.6)
    sub.acknowledge(first)
    p = sub.expect_publish(env.topic("t"), "stays")
    check(97 <= p.props.get("message_expiry", 0) <= 99, "message expiry %r" % p.props)


@covers("MQTT-3.3.2-6")
def test_message_expiry_is_forwarded(env):
    subs, pub = env.many(4), env.client()
    for sub in subs:
        sub.subscribe(env.topic("#"), qos=2)
    for qos in (0, 1, 2):
        for seconds in (10, 0xFFFFFFFF):
            with env.case("QoS %d, %d s" % (qos, seconds)):
                pub.publish(env.topic("t"), "x", qos=qos, props={"message_expiry": seconds})
                for sub in subs:
                    got = sub.expect_publish(env.topic("t"), "x", qos=qos).props.get("message_expiry", 0)
                    check(seconds - 1 <= got <= seconds, "message expiry %d" % got)


@covers("MQTT-3.3.2-5", "MQTT-3.3.2-6")
def test_retained_messages_expire(env):
    pub = env.client()
    pub.publish(env.topic("short"), "x", qos=1, retain=True, props={"message_expiry": 1})
    pub.publish(env.topic("long"), "y", qos=1, retain=True, props={"message_expiry": 50})
    time.sleep(1.6)
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    p = sub.expect_publish(env.topic("long"), "y", retain=True)
    check(47 <= p.props.get("message_expiry", 0) <= 49, "message expiry %r" % p.props)
    sub.expect_nothing()


@covers("MQTT-3.3.2-7")
def test_client_aliases_end_with_the_connection(env):
    sub, pub = env.client(), env.client(clean=False, props=KEEP)
    sub.subscribe(env.topic("#"), qos=1)
    pub.publish(env.topic("t"), "set", qos=1, props={"topic_alias": 1})
    pub.publish("", "used", qos=1, props={"topic_alias": 1})
    sub.expect_publish(env.topic("t"), "set")
    sub.expect_publish(env.topic("t"), "used")
    pub.reopen(session_present=True)
    pub.send(publish("", b"lost", 1, pid=9, props={"topic_alias": 1})).expect_closed((0x82, 0x94))
    sub.expect_nothing()


@covers("MQTT-3.3.2-12")
def test_client_aliases(env):
    """Set, used, set again to another topic; each connection has its own; nothing leaks to subscribers."""
    sub, pub, other = env.client(), env.client(), env.client()
    sub.subscribe(env.topic("#"), qos=2)
    most = pub.connack.props.get("topic_alias_max", 0)
    check(most > 0, "the broker under test takes no aliases by default")
    for alias in (1, most):
        for qos in (0, 1, 2):
            with env.case("alias %d QoS %d" % (alias, qos)):
                for topic in (env.topic("a%d" % alias), env.topic("b%d" % alias)):
                    pub.publish(topic, "set", qos=qos, props={"topic_alias": alias})
                    sub.expect_publish(topic, "set", qos=qos, props={"topic_alias": None})
                    pub.publish("", "used", qos=qos, props={"topic_alias": alias})
                    sub.expect_publish(topic, "used", qos=qos, props={"topic_alias": None})
    other.publish(env.topic("other"), "set", qos=1, props={"topic_alias": 1})
    sub.expect_publish(env.topic("other"), "set")
    pub.publish("", "mine", qos=1, props={"topic_alias": 1})
    sub.expect_publish(env.topic("b1"), "mine")
    for name, alias in (("unknown alias", 2), ("beyond the maximum", most + 1), ("alias 0", 0)):
        with env.case(name):
            c = env.client()
            c.send(publish("", b"x", props={"topic_alias": alias})).expect_closed((0x82, 0x94))


@covers("MQTT-3.1.2-26", "MQTT-3.1.2-27", "MQTT-3.3.2-11", "MQTT-3.3.2-8")
def test_aliases_towards_the_client(env):
    """Whether the server uses aliases is up to it; expect_publish resolves them and fails on an unknown one."""
    pub = env.client()
    for most in (None, 0, 1, 3, 65535):
        with env.case("Topic Alias Maximum %r" % most):
            sub = env.client(props={} if most is None else {"topic_alias_max": most})
            sub.subscribe(env.topic("#"), qos=2)
            for number in range(40):
                topic, qos = env.topic("t%d" % (number * 7 % 5)), number % 3
                pub.publish(topic, "%d" % number, qos=qos)
                alias = sub.expect_publish(topic, "%d" % number, qos=qos).props.get("topic_alias", 0)
                check(alias <= (most or 0), "alias %d" % alias)
            sub.disconnect()


@covers("MQTT-3.3.2-7", "MQTT-3.3.2-11")
def test_server_aliases_end_with_the_connection(env):
    """Client.dial() forgets all aliases, so one carried over makes expect_publish fail."""
    pub = env.client()
    sub = env.client(clean=False, props={"session_expiry": 60, "topic_alias_max": 5})
    sub.subscribe(env.topic("#"), qos=1)
    for number in range(12):
        pub.publish(env.topic("t"), "%d" % number, qos=1)
        sub.expect_publish(env.topic("t"), "%d" % number)
    sub.disconnect()
    pub.publish(env.topic("t"), "queued", qos=1)
    sub.open(clean=False, props={"session_expiry": 60}, session_present=True)
    sub.expect_publish(env.topic("t"), "queued", props={"topic_alias": None})


@covers("MQTT-3.3.4-1")
def test_answer_follows_the_qos(env):
    c = env.client()
    c.publish(env.topic("t"), "x")
    c.expect_nothing()
    c.send(publish(env.topic("t"), b"x", 1, pid=5)).expect(PUBACK, pid=5)
    c.send(publish(env.topic("t"), b"x", 2, pid=6)).expect(PUBREC, pid=6)
    c.send(ack(PUBREL, 6)).expect(PUBCOMP, pid=6)


@covers("MQTT-3.3.4-2", "MQTT-3.3.4-3", "MQTT-3.3.4-4", "MQTT-3.3.4-5")
def test_overlapping_subscriptions(env):
    """We promise one copy, with the highest QoS granted and every identifier."""
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        with env.case("QoS in the order %r" % (order,)):
            sub, pub = env.client(), env.client()
            for number, (f, qos) in enumerate(zip((env.topic("a/b"), env.topic("a/+"), env.topic("#")), order)):
                sub.subscribe(f, qos=qos, props={"subscription_id": 100 + number})
            sub.subscribe(env.topic("+/b"), qos=0)
            for qos in (2, 1, 0):
                pub.publish(env.topic("a/b"), "%d" % qos, qos=qos)
                p = sub.expect_publish(env.topic("a/b"), "%d" % qos, qos=qos)
                check_equal(sorted(p.props.get("subscription_id", [])), [100, 101, 102], "identifiers")
                sub.expect_nothing()


@covers("MQTT-3.3.4-3")
def test_subscription_identifiers(env):
    """The largest one, a changed one, one taken away; retained messages carry them too."""
    sub, pub = env.client(), env.client()
    pub.publish(env.topic("t"), "kept", qos=1, retain=True)
    for ident in (1, 127, 128, 16383, 16384, 2097152, 268435455, None):
        with env.case(repr(ident)):
            wanted = {"subscription_id": None if ident is None else [ident]}
            sub.subscribe(env.topic("#"), qos=1, props={} if ident is None else {"subscription_id": ident})
            sub.expect_publish(env.topic("t"), "kept", retain=True, props=wanted)
            pub.publish(env.topic("u"), "x", qos=1)
            sub.expect_publish(env.topic("u"), "x", props=wanted)


@covers("MQTT-3.3.4-3")
def test_subscription_identifiers_outlive_the_connection(env):
    sub, pub = env.client(clean=False, props=KEEP), env.client()
    sub.subscribe(env.topic("#"), qos=1, props={"subscription_id": 5})
    sub.subscribe(env.topic("+"), qos=1, props={"subscription_id": 5})  # two subscriptions may share one
    sub.disconnect()
    pub.publish(env.topic("t"), "x", qos=1)
    sub.reopen(session_present=True)
    p = sub.expect_publish(env.topic("t"), "x")
    check(p.props.get("subscription_id") in ([5], [5, 5]), "identifiers %r" % p.props)


@covers("MQTT-3.3.4-6")
def test_client_must_not_send_subscription_identifiers(env):
    sub = env.client()
    sub.subscribe(env.topic("#"))
    for qos in (0, 1, 2):
        with env.case("QoS %d" % qos):
            env.client().send(publish(env.topic("t"), b"x", qos, pid=1, props={"subscription_id": 1})).expect_closed(
                MALFORMED)
    sub.expect_nothing()


@covers("MQTT-4.3.1-1", "MQTT-4.5.0-1")
def test_payloads(env):
    """Sizes around the lengths of buffers, and every byte value, across all shards."""
    subs, pub = env.many(6), env.client()
    for sub in subs:
        sub.subscribe(env.topic("#"), qos=2)
    for payload in (b"", bytes(range(256)), b"a" * 4095, b"b" * 4096, b"c" * 4097, b"d" * 65536, b"e" * 300000):
        for qos in (0, 1, 2):
            with env.case("%d bytes QoS %d" % (len(payload), qos)):
                pub.publish(env.topic("t"), payload, qos=qos)
                for sub in subs:
                    sub.expect_publish(env.topic("t"), payload, qos=qos)
