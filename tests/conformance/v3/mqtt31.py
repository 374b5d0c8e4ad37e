"""MQTT 3.1, the version before 3.1.1: protocol name MQIsdp, level 3.

It has neither Session Present nor a failure code in SUBACK.
"""

import struct

from kit import check, check_equal
from lib.mqtt import CONNACK, Will, connect, packet, publish, string

OLD = 3


def test_connect(env):
    c = env.client(version=OLD)
    check_equal(c.connack.raw, b"\x20\x02\0\0", "the CONNACK")
    c.ping()
    c.disconnect()


def test_name_and_level_belong_together(env):
    for name, level in [("MQIsdp", 4), ("MQIsdp", 5), ("MQTT", 3), ("MQIsdp", 2), ("MQIsdq", 3), ("mqisdp", 3)]:
        with env.case("%s level %d" % (name, level)):
            c = env.raw(OLD)
            c.send(packet(0x10, string(name) + bytes([level, 2]) + struct.pack(">H", 60) + string("old")))
            c.expect_refused()


def test_an_empty_client_id_is_rejected(env):
    for clean in (True, False):
        with env.case("clean %d" % clean):
            c = env.raw(OLD)
            c.send(connect("", OLD, clean=clean))
            c.expect_refused(2)


def test_every_qos(env):
    sub, pub = env.client(version=OLD), env.client(version=OLD)
    for granted in (0, 1, 2):
        sub.subscribe(env.topic("#"), qos=granted)
        for qos in (0, 1, 2):
            with env.case("published %d, granted %d" % (qos, granted)):
                pub.publish(env.topic("t"), b"x", qos=qos)
                sub.expect_publish(env.topic("t"), b"x", qos=min(qos, granted), retain=False)


def test_a_session_is_resumed_without_session_present(env):
    pub, c = env.client(version=OLD), env.client(env.client_id(), OLD, clean=False)
    c.subscribe(env.topic("t"), qos=2)
    pub.publish(env.topic("t"), b"open", qos=2)
    p = c.expect_publish(payload=b"open", ack=False)
    c.disconnect()
    pub.publish(env.topic("t"), b"queued", qos=1)
    c.open(clean=False)
    check_equal(c.connack.raw, b"\x20\x02\0\0", "the CONNACK")
    check_equal(c.expect_publish(payload=b"open", qos=2, dup=True).pid, p.pid, "the identifier")
    c.expect_publish(payload=b"queued", qos=1, dup=False)
    c.reopen(clean=True)
    pub.publish(env.topic("t"), b"x", qos=1)
    c.expect_nothing()


def test_retained_messages(env):
    pub = env.client(version=OLD)
    pub.publish(env.topic("t"), b"kept", qos=1, retain=True)
    sub = env.client(version=OLD)
    sub.subscribe(env.topic("+"), qos=1)
    sub.expect_publish(env.topic("t"), b"kept", qos=1, retain=True)
    pub.publish(env.topic("t"), b"", qos=1, retain=True)
    sub.expect_publish(env.topic("t"), b"", retain=False)
    late = env.client(version=OLD)
    late.subscribe(env.topic("+"), qos=1)
    late.expect_nothing()


def test_the_will(env):
    watcher = env.client(version=OLD)
    watcher.subscribe(env.topic("will"), qos=2)
    c = env.client(version=OLD, will=Will(env.topic("will"), b"bye", qos=2))
    c.abort()
    watcher.expect_publish(env.topic("will"), b"bye", qos=2)
    env.client(version=OLD, will=Will(env.topic("will"), b"never")).disconnect()
    watcher.expect_nothing(0.3)


def test_a_takeover(env):
    client_id = env.client_id()
    first = env.client(client_id, OLD)
    second = env.client(client_id, OLD)
    first.expect_closed()
    second.ping()


def test_protocol_violations_end_the_connection(env):
    rows = [("QoS 3", packet(0x36, string("a") + b"\0\1x")), ("wildcard in a topic", publish("a/#", b"x", version=OLD)),
            ("reserved type", b"\xf0\0"), ("second CONNECT", connect("again", OLD)),
            ("subscription of QoS 3", packet(0x82, b"\0\1" + string("a") + b"\3"))]
    for name, data in rows:
        with env.case(name):
            c = env.client(version=OLD)
            c.send(data)
            c.expect_closed()


def test_unsubscribe(env):
    c, pub = env.client(version=OLD), env.client(version=OLD)
    c.subscribe(env.topic("t"), qos=1)
    c.unsubscribe(env.topic("t"))
    c.unsubscribe(env.topic("t"))
    pub.publish(env.topic("t"), b"x", qos=1)
    c.expect_nothing()


def test_a_refused_connect_is_answered_in_four_bytes(env):
    c = env.raw(OLD)
    c.send(connect("", OLD))
    p = c.expect(CONNACK)
    check(p.reason == 2 and len(p.raw) == 4, "the CONNACK is %r" % p.raw)
