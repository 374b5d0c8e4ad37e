"""MQTT 3.1.1, chapter 3.3: PUBLISH, its flags, and retained messages."""

import struct

from kit import check, check_equal, covers
from lib.mqtt import PUBACK, PUBLISH, Failure, packet, publish, string

V = 4


def pair(env, qos=2):
    sub, pub = env.client(version=V), env.client(version=V)
    sub.subscribe(env.topic("#"), qos=qos)
    return sub, pub


def retained(env, topic_filter, qos=2):
    """What a new subscription gets at once: (topic, payload, qos) sorted by topic, and all with RETAIN set."""
    c, got = env.client(version=V), []
    c.subscribe(topic_filter, qos=qos)
    while True:
        try:
            p = c.receive(0.3)
        except Failure:
            break
        check_equal((p.type, p.retain, p.dup), (PUBLISH, True, False), "type, RETAIN and DUP of %r" % p)
        c.acknowledge(p)
        got.append((p.topic, p.payload, p.qos))
    c.close()
    return sorted(got)


@covers("MQTT311-3.3.1-2", "MQTT311-4.8.0-1")
def test_dup_with_qos_0(env):
    c = env.client(version=V)
    c.send(publish(env.topic("t"), b"x", 0, dup=True, version=V))
    c.expect_closed()


@covers("MQTT311-3.3.1-3", "MQTT311-3.3.1-1")
def test_dup_is_not_handed_on(env):
    sub, pub = pair(env)
    for qos in (1, 2):
        pub.publish(env.topic("t"), b"first seen", qos=qos, dup=True)
        sub.expect_publish(payload=b"first seen", qos=qos, dup=False)


@covers("MQTT311-3.3.1-4")
def test_qos_3(env):
    watcher = env.client(version=V)
    watcher.subscribe(env.topic("#"))
    for flags in (0x6, 0x7, 0xE, 0xF):
        with env.case("flags %x" % flags):
            c = env.client(version=V)
            c.send(packet(PUBLISH << 4 | flags, string(env.topic("t")) + struct.pack(">H", 5) + b"x"))
            c.expect_closed()
    watcher.expect_nothing()


@covers("MQTT311-3.3.1-5", "MQTT311-3.3.1-6", "MQTT311-3.3.1-8")
def test_retained_messages_reach_new_subscriptions(env):
    pub = env.client(version=V)
    for qos in (0, 1, 2):
        pub.publish(env.topic("q%d" % qos), b"kept at %d" % qos, qos=qos, retain=True)
    pub.ping()
    for granted in (0, 1, 2):
        with env.case("subscribed with QoS %d" % granted):
            want = [(env.topic("q%d" % q), b"kept at %d" % q, min(q, granted)) for q in (0, 1, 2)]
            check_equal(retained(env, env.topic("+"), granted), want, "what came")
    check_equal(retained(env, env.topic("q1")), [(env.topic("q1"), b"kept at 1", 1)], "an exact filter's")
    check_equal(retained(env, env.topic("none")), [], "another topic's")


@covers("MQTT311-3.3.1-6")
def test_only_the_last_message_is_retained(env):
    pub = env.client(version=V)
    for i in range(5):
        pub.publish(env.topic("t"), b"%d" % i, qos=i % 3, retain=True)
    pub.ping()
    check_equal(retained(env, env.topic("t")), [(env.topic("t"), b"4", 1)], "what came")


@covers("MQTT311-3.3.1-7")
def test_a_qos_0_message_replaces_the_retained_one(env):
    """The new one may be dropped at any time, the old one must be gone either way."""
    pub = env.client(version=V)
    pub.publish(env.topic("t"), b"old", qos=1, retain=True)
    pub.publish(env.topic("t"), b"new", qos=0, retain=True)
    pub.ping()
    check(retained(env, env.topic("t")) in ([], [(env.topic("t"), b"new", 0)]), "the old message is still there")


@covers("MQTT311-3.3.1-9")
def test_retain_is_cleared_for_established_subscriptions(env):
    sub, pub = pair(env)
    for qos in (0, 1, 2):
        pub.publish(env.topic("t"), b"%d" % qos, qos=qos, retain=True)
        sub.expect_publish(env.topic("t"), b"%d" % qos, qos=qos, retain=False)


@covers("MQTT311-3.3.1-10", "MQTT311-3.3.1-11")
def test_an_empty_payload_removes_the_retained_message(env):
    sub, pub = pair(env)
    for qos in (0, 1, 2):
        with env.case("QoS %d" % qos):
            topic = env.topic("t%d" % qos)
            pub.publish(topic, b"kept", qos=1, retain=True)
            sub.expect_publish(topic, b"kept")
            pub.publish(topic, b"", qos=qos, retain=True)
            sub.expect_publish(topic, b"", qos=qos, retain=False)
            check_equal(retained(env, topic), [], "what is left")
            pub.publish(topic, b"", qos=qos, retain=True)
            pub.ping()
            check_equal(retained(env, topic), [], "what a second removal left")
            sub.expect_publish(topic, b"")


@covers("MQTT311-3.3.1-12")
def test_a_message_without_retain_changes_nothing(env):
    pub = env.client(version=V)
    pub.publish(env.topic("kept"), b"old", qos=1, retain=True)
    for payload in (b"passing", b""):
        for qos in (0, 1, 2):
            pub.publish(env.topic("kept"), payload, qos=qos)
            pub.publish(env.topic("never"), payload, qos=qos)
    pub.ping()
    check_equal(retained(env, env.topic("+")), [(env.topic("kept"), b"old", 1)], "what is retained")


@covers("MQTT311-3.3.1-6")
def test_retained_messages_of_many_topics(env):
    pub = env.client(version=V)
    for i in range(300):
        pub.publish(env.topic("d%d" % (i % 7), "s%d" % i), b"%d" % i, qos=i % 2, retain=True)
    pub.ping()
    check_equal(len(retained(env, env.topic("#"))), 300, "messages for #")
    check_equal(len(retained(env, env.topic("+", "+"))), 300, "messages for +/+")
    check_equal(len(retained(env, env.topic("d3", "+"))), 43, "messages for d3/+")
    check_equal(retained(env, env.topic("+", "s8")), [(env.topic("d1", "s8"), b"8", 0)], "messages for +/s8")


@covers("MQTT311-3.3.2-2", "MQTT311-4.7.1-1")
def test_wildcards_in_a_topic_name(env):
    for topic in ("#", "+", "a/#", "a/+/b", "a+", "a#b", "+/"):
        for qos in (0, 1):
            with env.case("%s QoS %d" % (topic, qos)):
                c = env.client(version=V)
                c.send(publish(topic, b"x", qos, pid=3, version=V))
                c.expect_closed()


@covers("MQTT311-4.7.3-1", "MQTT311-3.3.2-1")
def test_an_empty_topic_name(env):
    for qos in (0, 1, 2):
        with env.case("QoS %d" % qos):
            c = env.client(version=V)
            c.send(publish("", b"x", qos, pid=3, version=V))
            c.expect_closed()


@covers("MQTT311-3.3.2-3", "MQTT311-4.5.0-1")
def test_the_topic_delivered_is_the_one_published(env):
    sub, pub = pair(env)
    for topic in (env.topic("a"), env.topic("a", "b"), env.topic("", ""), env.topic("\u00fc", "\U0001f426"),
                  env.topic("with blank"), env.topic("x" * 5000)):
        pub.publish(topic, b"x", qos=1)
        sub.expect_publish(topic, b"x")


@covers("MQTT311-3.3.5-1")
def test_overlapping_subscriptions(env):
    """Copies may come once or for each subscription; the best QoS of those that match must be among them."""
    pub = env.client(version=V)
    rows = [("low exact, high wildcard", [("t", 0), ("+", 2)]), ("high exact, low wildcard", [("t", 2), ("#", 0)]),
            ("0, 1, 2", [("t", 0), ("+", 1), ("#", 2)]), ("none above 1", [("t", 1), ("#", 0)]),
            ("the higher does not match", [("t", 0), ("other", 2)])]
    for name, subscriptions in rows:
        with env.case(name):
            sub = env.client(version=V)
            for level, qos in subscriptions:
                sub.subscribe(env.topic(level), qos=qos)
            pub.publish(env.topic("t"), b"x", qos=2)
            got = [sub.expect_publish(env.topic("t"), b"x", dup=False).qos]
            while True:
                try:
                    p = sub.receive(0.2)
                except Failure:
                    break
                sub.acknowledge(p)
                got.append(p.qos)
            check_equal(max(got), max(q for level, q in subscriptions if level != "other"), "the best QoS")
            check(len(got) <= len(subscriptions), "%d copies" % len(got))
            sub.close()


@covers("MQTT311-3.3.5-2")
def test_a_publish_that_is_not_allowed(env):
    """Clients may not publish the server's own statistics: a positive acknowledgement, or the end."""
    topic = "$SYS/broker/version"
    before = retained(env, topic, 0)
    c = env.client(version=V)
    c.send(publish(topic, b"forged", 1, True, pid=9, version=V))
    p = c.receive()
    check(p is None or (p.type == PUBACK and p.pid == 9), "the answer is %r" % p)
    check_equal(retained(env, topic, 0), before, "the statistic")


@covers("MQTT311-4.5.0-1", "MQTT311-3.3.4-1")
def test_a_client_gets_what_it_publishes_itself(env):
    c = env.client(version=V)
    c.subscribe(env.topic("t"), qos=1)
    c.publish(env.topic("t"), b"mine", qos=1)
    p = c.expect_later(PUBLISH, payload=b"mine")
    c.acknowledge(p)
    c.ping()


@covers("MQTT311-4.5.0-1")
def test_fan_out_reaches_everyone(env):
    subs, pub = env.many(30, version=V), env.client(version=V)
    for i, c in enumerate(subs):
        c.subscribe(env.topic("t") if i % 2 else env.topic("+"), qos=i % 3)
    for qos in (0, 1, 2):
        pub.publish(env.topic("t"), b"to all %d" % qos, qos=qos)
    for i, c in enumerate(subs):
        for qos in (0, 1, 2):
            c.expect_publish(env.topic("t"), b"to all %d" % qos, qos=min(qos, i % 3))
        c.expect_nothing(0)
