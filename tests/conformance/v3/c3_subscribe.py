"""MQTT 3.1.1, chapters 3.8 to 3.14: SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT."""

import struct

from kit import check, check_equal, covers, settings
from lib.mqtt import (
    PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK, Failure, ack, packet, pingreq, string,
    subscribe, unsubscribe)

V = 4


@covers("MQTT311-3.8.4-1", "MQTT311-3.8.4-2", "MQTT311-3.8.4-5", "MQTT311-3.9.3-1", "MQTT311-3.9.3-2")
def test_suback_has_a_code_for_each_filter(env):
    c = env.client(version=V)
    for count in (1, 2, 3, 10, 100):
        filters = [(env.topic(str(i), "+"), (i * 7 + count) % 3) for i in range(count)]
        c.send(subscribe(count, filters, version=V))
        c.expect(SUBACK, pid=count, reasons=[q for _, q in filters])


@covers("MQTT311-3.8.3-3")
def test_subscribe_without_filters(env):
    c = env.client(version=V)
    c.send(subscribe(1, [], version=V))
    c.expect_closed()


@covers("MQTT311-3.8.3-4")
def test_subscribe_options(env):
    for qos in (3, 4, 7, 8, 0x10, 0x20, 0x40, 0x80, 0x81, 0xFF):
        with env.case("options %02x" % qos):
            c = env.client(version=V)
            c.send(subscribe(1, [(env.topic("a"), 0), (env.topic("t"), qos)], version=V))
            c.expect_closed()


@covers("MQTT311-3.8.3-2")
def test_wildcards_are_supported(env):
    c, pub = env.client(version=V), env.client(version=V)
    c.subscribe(env.topic("+", "x"))
    c.subscribe(env.topic("y", "#"))
    pub.publish(env.topic("a", "x"), b"1", qos=1)
    pub.publish(env.topic("y", "b", "c"), b"2", qos=1)
    pub.publish(env.topic("a", "b"), b"3", qos=1)
    c.expect_publish(payload=b"1")
    c.expect_publish(payload=b"2")
    c.expect_nothing()


@covers("MQTT311-4.7.1-2", "MQTT311-4.7.1-3", "MQTT311-4.7.3-1")
def test_ill_formed_filters(env):
    """A violation of the protocol: refused with 0x80 or the end of the connection, in no case granted."""
    for bad in ("", "a#", "a/#/b", "#/a", "a/b#", "##", "a+", "+a", "a/+b/c", "++", "a/++"):
        with env.case(repr(bad)):
            c = env.client(version=V)
            c.send(subscribe(1, [(bad, 0)], version=V))
            p = c.receive()
            check(p is None or (p.type == SUBACK and p.reasons == [0x80]), "the answer is %r" % p)


@covers("MQTT311-3.8.4-3")
def test_subscribing_again_replaces(env):
    c, pub = env.client(version=V), env.client(version=V)
    pub.publish(env.topic("t"), b"kept", qos=2, retain=True)
    for qos in (0, 2, 1, 1):
        with env.case("to QoS %d" % qos):
            c.subscribe(env.topic("t"), qos=qos)
            c.expect_publish(payload=b"kept", qos=qos, retain=True)
            pub.publish(env.topic("t"), b"live", qos=2)
            c.expect_publish(payload=b"live", qos=qos, retain=False)
            c.expect_nothing()
    c.unsubscribe(env.topic("t"))
    pub.publish(env.topic("t"), b"gone", qos=1)
    c.expect_nothing()


@covers("MQTT311-3.8.4-3")
def test_replacing_does_not_interrupt(env):
    c, pub = env.client(version=V), env.client(version=V)
    c.subscribe(env.topic("t"), qos=1)
    for i in range(50):
        pub.publish(env.topic("t"), b"%d" % i, qos=1, ack=False)
        if i % 5 == 0:
            c.send(subscribe(100 + i, [(env.topic("t"), 1)], version=V))
    got = []
    while len(got) < 50:
        p = c.expect_later(PUBLISH)
        c.acknowledge(p)
        got.append(p.payload)
    check_equal(got, [b"%d" % i for i in range(50)], "what came")


@covers("MQTT311-3.8.4-4")
def test_several_filters_work_like_several_packets(env):
    pub = env.client(version=V)
    for level in ("a", "b"):
        pub.publish(env.topic(level), level, qos=1, retain=True)
    c = env.client(version=V)
    c.send(subscribe(1, [(env.topic("a"), 1), (env.topic("b"), 0), (env.topic("none"), 2)], version=V))
    c.expect_later(SUBACK, pid=1, reasons=[1, 0, 2])
    got = sorted((p.topic, p.qos, p.retain) for p in (c.expect_publish() for _ in range(2)))
    check_equal(got, [(env.topic("a"), 1, True), (env.topic("b"), 0, True)], "the retained messages")
    again = env.client(version=V)
    again.send(subscribe(2, [(env.topic("t"), 2), (env.topic("t"), 0)], version=V))
    again.expect(SUBACK, pid=2, reasons=[2, 0])
    pub.publish(env.topic("t"), b"x", qos=2)
    again.expect_publish(payload=b"x", qos=0)
    again.expect_nothing()


@covers("MQTT311-3.8.4-6")
def test_delivery_has_the_lower_qos(env):
    pub = env.client(version=V)
    for granted in (0, 1, 2):
        c = env.client(version=V)
        c.subscribe(env.topic("t"), qos=granted)
        for qos in (0, 1, 2):
            with env.case("published %d, granted %d" % (qos, granted)):
                pub.publish(env.topic("t"), b"x", qos=qos)
                c.expect_publish(payload=b"x", qos=min(qos, granted))


@covers("MQTT311-3.9.3-2", "MQTT311-3.8.4-5")
@settings({"limits.max_subscriptions": "2"})
def test_a_refused_subscription_says_80(env):
    c, pub = env.client(version=V), env.client(version=V)
    c.subscribe([(env.topic("a"), 1), (env.topic("b"), 1), (env.topic("c"), 1)], reasons=[1, 1, 0x80])
    pub.publish(env.topic("c"), b"refused", qos=1)
    pub.publish(env.topic("b"), b"granted", qos=1)
    c.expect_publish(env.topic("b"), b"granted")
    c.unsubscribe(env.topic("a"))
    c.subscribe(env.topic("c"), qos=0)


@covers("MQTT311-3.10.4-1")
def test_unsubscribe_compares_characters(env):
    c, pub = env.client(version=V), env.client(version=V)
    c.subscribe([env.topic("a", "b"), env.topic("+", "c"), env.topic("d", "#")], qos=1)
    others = [("a", "+"), ("a", "#"), ("#",), ("A", "b"), ("a", "b", ""), ("x", "c"), ("d",), ("d", "+"), ("a", "b ")]
    for other in others:
        c.unsubscribe(env.topic(*other))
    for topic in (env.topic("a", "b"), env.topic("x", "c"), env.topic("d", "e")):
        pub.publish(topic, b"x", qos=1)
        c.expect_publish(topic, b"x")
    c.unsubscribe(env.topic("+", "c"))
    pub.publish(env.topic("x", "c"), b"x", qos=1)
    pub.publish(env.topic("a", "b"), b"y", qos=1)
    c.expect_publish(env.topic("a", "b"), b"y")
    c.expect_nothing()


@covers("MQTT311-3.10.4-2")
def test_unsubscribe_stops_new_messages(env):
    c, pub = env.client(version=V), env.client(version=V)
    for qos in (0, 1, 2):
        c.subscribe(env.topic("t"), qos=qos)
        pub.publish(env.topic("t"), b"before", qos=2)
        c.expect_publish(payload=b"before", qos=qos)
        c.unsubscribe(env.topic("t"))
        pub.publish(env.topic("t"), b"after", qos=2)
        c.expect_nothing()


@covers("MQTT311-3.10.4-3")
def test_unsubscribe_lets_deliveries_finish(env):
    c, pub = env.client(env.client_id(), V, clean=False), env.client(version=V)
    c.subscribe(env.topic("t"), qos=2)
    pub.publish(env.topic("t"), b"one", qos=1)
    pub.publish(env.topic("t"), b"two", qos=2)
    one, two = c.expect_publish(payload=b"one", ack=False), c.expect_publish(payload=b"two", ack=False)
    c.unsubscribe(env.topic("t"))
    c.reopen(session_present=True)
    check_equal(c.expect_publish(payload=b"one", qos=1, dup=True, ack=False).pid, one.pid, "the identifier")
    check_equal(c.expect_publish(payload=b"two", qos=2, dup=True, ack=False).pid, two.pid, "the identifier")
    c.send(ack(PUBACK, one.pid)).send(ack(PUBREC, two.pid)).expect(PUBREL, pid=two.pid)
    c.send(ack(PUBCOMP, two.pid))
    c.ping()
    c.reopen(session_present=True)
    c.expect_nothing()


@covers("MQTT311-3.10.4-4", "MQTT311-3.10.4-5")
def test_unsuback(env):
    c = env.client(version=V)
    c.subscribe(env.topic("t"))
    for pid, topic in [(11, "t"), (12, "t"), (65535, "never")]:
        c.send(unsubscribe(pid, [env.topic(topic)], version=V))
        check_equal(c.expect(UNSUBACK, pid=pid).raw, b"\xb0\x02" + struct.pack(">H", pid), "the UNSUBACK")


@covers("MQTT311-3.10.3-2")
def test_unsubscribe_without_filters(env):
    c = env.client(version=V)
    c.send(unsubscribe(1, [], version=V))
    c.expect_closed()


@covers("MQTT311-3.10.4-6")
def test_unsubscribe_several_filters(env):
    c, pub = env.client(version=V), env.client(version=V)
    levels = ("a", "b", "c", "d")
    c.subscribe([env.topic(x) for x in levels], qos=1)
    c.unsubscribe([env.topic("a"), env.topic("never"), env.topic("c"), env.topic("a")])
    for x in levels:
        pub.publish(env.topic(x), x, qos=1)
    c.expect_publish(payload=b"b")
    c.expect_publish(payload=b"d")
    c.expect_nothing()


@covers("MQTT311-3.12.4-1")
def test_ping(env):
    c = env.client(version=V)
    for _ in range(3):
        c.send(pingreq())
        check_equal(c.expect(PINGRESP).raw, b"\xd0\0", "the PINGRESP")
    c.send(pingreq() * 50)
    for _ in range(50):
        c.expect(PINGRESP)
    c.expect_nothing()


@covers("MQTT311-3.14.1-1")
def test_disconnect_with_reserved_bits(env):
    for flags in (1, 2, 4, 8, 15):
        with env.case("flags %d" % flags):
            c = env.client(version=V)
            c.send(packet(0xE0 | flags, b""))
            c.expect_closed()


@covers("MQTT311-3.8.4-1")
def test_a_great_many_filters_in_one_packet(env):
    c, pub = env.client(version=V), env.client(version=V)
    filters = [(env.topic("many", str(i)), 0) for i in range(5000)]
    c.send(packet(0x82, struct.pack(">H", 9) + b"".join(string(f) + b"\0" for f, _ in filters)))
    c.expect(SUBACK, timeout=20, pid=9, reasons=[0] * 5000)
    for i in (0, 1, 2500, 4999):
        pub.publish(env.topic("many", str(i)), b"%d" % i, qos=1)
        c.expect_publish(payload=b"%d" % i)
    c.unsubscribe([f for f, _ in filters])
    pub.publish(env.topic("many", "17"), b"x", qos=1)
    c.expect_nothing()


@covers("MQTT311-3.8.4-1")
def test_shared_subscriptions_for_3_1_1(env):
    """An extension of that version, by the filters of 5.0: each message goes to one member of the group."""
    members, pub = env.many(3, version=V), env.client(version=V)
    for c in members:
        c.subscribe("$share/g/" + env.topic("t"), qos=1)
    for i in range(60):
        pub.publish(env.topic("t"), b"%d" % i, qos=1)
    got = []
    for c in members:
        while True:
            try:
                p = c.receive(0.3)
            except Failure:
                break
            c.acknowledge(p)
            got.append(int(p.payload))
    check_equal(sorted(got), list(range(60)), "what the members got together")


@covers("MQTT311-4.3.3-1")
def test_pubrel_ends_what_pubrec_began(env):
    c, pub = env.client(version=V), env.client(version=V)
    c.subscribe(env.topic("t"), qos=2)
    pub.publish(env.topic("t"), b"x", qos=2)
    p = c.expect_publish(qos=2, ack=False)
    c.send(ack(PUBREC, p.pid)).expect(PUBREL, pid=p.pid)
    c.send(ack(PUBREC, p.pid)).expect(PUBREL, pid=p.pid)
    c.send(ack(PUBCOMP, p.pid))
    c.expect_nothing()
