"""MQTT 3.1.1, chapters 1 and 2: strings, the fixed header, packet identifiers."""

import struct

from kit import check_equal, covers
from lib.mqtt import (
    CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE,
    UNSUBACK, UNSUBSCRIBE, Will, ack, connect, packet, publish, string, subscribe, unsubscribe, varint)

V = 4

ILL_FORMED = [
    ("a lone continuation byte", b"a\x80b"),
    ("a truncated sequence", b"ab\xe2\x82"),
    ("an overlong slash", b"a\xc0\xafb"),
    ("an overlong three bytes", b"a\xe0\x80\x80"),
    ("a high surrogate", b"a\xed\xa0\x80b"),
    ("a low surrogate", b"a\xed\xbf\xbfb"),
    ("above U+10FFFF", b"a\xf4\x90\x80\x80"),
    ("byte FF", b"a\xffb"),
]


def string_carriers(text):
    """(name, bytes, whether a CONNECT goes before) of one packet for each place where a client may put a string."""
    return [
        ("PUBLISH topic", publish(text, b"x", version=V), True),
        ("SUBSCRIBE filter", subscribe(1, [(text, 0)], version=V), True),
        ("UNSUBSCRIBE filter", unsubscribe(1, [text], version=V), True),
        ("client id", connect(text, V), False),
        ("will topic", connect("utf8will", V, will=Will(text, b"x")), False),
        ("user name", connect("utf8user", V, user=text, password=b"x"), False),
    ]


def send_strings(env, name, text):
    for place, data, connected in string_carriers(text):
        with env.case("%s in the %s" % (name, place)):
            c = env.client(version=V) if connected else env.raw(V)
            c.send(data)
            c.expect_closed()
            c.close()


@covers("MQTT311-1.5.3-1", "MQTT311-3.1.3-4", "MQTT311-3.1.3-10", "MQTT311-3.1.3-11", "MQTT311-3.3.2-1",
        "MQTT311-3.8.3-1", "MQTT311-3.10.3-1", "MQTT311-3.1.4-1", "MQTT311-4.8.0-1")
def test_ill_formed_utf8(env):
    for name, text in ILL_FORMED:
        send_strings(env, name, text)


@covers("MQTT311-1.5.3-2")
def test_null_character(env):
    for name, text in [("U+0000 inside", b"a\0b"), ("U+0000 alone", b"\0"), ("U+0000 last", b"ab\0")]:
        send_strings(env, name, text)


@covers("MQTT311-1.5.3-3")
def test_zero_width_no_break_space_is_kept(env):
    sub, pub = env.client(version=V), env.client(version=V)
    marked, plain = "\ufeff" + env.topic("t"), env.topic("t")
    sub.subscribe(marked, qos=1)
    pub.publish(plain, b"plain", qos=1)
    pub.publish(marked, b"marked", qos=1)
    p = sub.expect_publish(marked, b"marked")
    check_equal(p.raw[4:7], b"\xef\xbb\xbf", "the topic's first bytes")
    sub.expect_nothing()


def packets_to_server():
    """(name, type, right flags, body) of one well-formed packet of each type whose flags are reserved."""
    pid = struct.pack(">H", 7)
    return [
        ("PUBACK", PUBACK, 0, pid), ("PUBREC", PUBREC, 0, pid), ("PUBREL", PUBREL, 2, pid),
        ("PUBCOMP", PUBCOMP, 0, pid), ("SUBSCRIBE", SUBSCRIBE, 2, pid + string("flags/t") + b"\0"),
        ("UNSUBSCRIBE", UNSUBSCRIBE, 2, pid + string("flags/t")), ("PINGREQ", PINGREQ, 0, b""),
        ("DISCONNECT", DISCONNECT, 0, b""),
    ]


@covers("MQTT311-2.2.2-1", "MQTT311-2.2.2-2", "MQTT311-3.6.1-1", "MQTT311-3.8.1-1", "MQTT311-3.10.1-1")
def test_reserved_flags(env):
    watcher = env.client(version=V)
    watcher.subscribe(env.topic("will"))
    for name, ptype, right, body in packets_to_server():
        for flags in range(16):
            if flags == right:
                continue
            with env.case("%s with flags %d" % (name, flags)):
                c = env.client(version=V, will=Will(env.topic("will"), name))
                c.send(packet(ptype << 4 | flags, body))
                c.expect_closed()
                watcher.expect_publish(payload=name.encode())  # a malformed DISCONNECT is no DISCONNECT either
    for flags in range(1, 16):
        with env.case("CONNECT with flags %d" % flags):
            c = env.raw(V)
            good = connect("flags", V)
            c.send(bytes([good[0] | flags]) + good[1:])
            c.expect_closed()


@covers("MQTT311-4.8.0-1")
def test_packet_types_that_no_client_sends(env):
    rows = [("type 0", b"\0\0"), ("type 15", b"\xf0\0"), ("CONNACK", packet(CONNACK << 4, b"\0\0")),
            ("SUBACK", packet(SUBACK << 4, b"\0\1\0")), ("UNSUBACK", packet(UNSUBACK << 4, b"\0\1")),
            ("PINGRESP", packet(PINGRESP << 4, b""))]
    for name, data in rows:
        with env.case(name):
            c = env.client(version=V)
            c.send(data)
            c.expect_closed()


@covers("MQTT311-4.8.0-1")
def test_bodies_of_a_wrong_size(env):
    pid = struct.pack(">H", 7)
    rows = [
        ("PUBACK without identifier", packet(PUBACK << 4, b"")), ("PUBACK of one byte", packet(PUBACK << 4, b"\0")),
        ("PUBACK with a reason code, as in 5.0", packet(PUBACK << 4, pid + b"\0")),
        ("PUBREL of three bytes", packet(PUBREL << 4 | 2, pid + b"\0")),
        ("SUBSCRIBE without QoS", packet(SUBSCRIBE << 4 | 2, pid + string("a"))),
        ("SUBSCRIBE with a filter cut short", packet(SUBSCRIBE << 4 | 2, pid + b"\0\5ab")),
        ("UNSUBSCRIBE with a filter cut short", packet(UNSUBSCRIBE << 4 | 2, pid + b"\0\5ab")),
        ("PUBLISH with a topic cut short", packet(PUBLISH << 4, b"\0\5ab")),
        ("PUBLISH without topic length", packet(PUBLISH << 4, b"\0")),
        ("PUBLISH QoS 1 without identifier", packet(PUBLISH << 4 | 2, string("a"))),
        ("PUBLISH QoS 1 with half an identifier", packet(PUBLISH << 4 | 2, string("a") + b"\0")),
        ("PINGREQ with a body", packet(PINGREQ << 4, b"\0")),
        ("DISCONNECT with a reason code, as in 5.0", packet(DISCONNECT << 4, b"\0")),
        ("remaining length of five bytes", b"\x30\x80\x80\x80\x80\x01"),
        ("remaining length FF FF FF FF", b"\x30\xff\xff\xff\xff"),
    ]
    for name, data in rows:
        with env.case(name):
            c = env.client(version=V)
            c.send(data)
            c.expect_closed()


@covers("MQTT311-2.3.1-1")
def test_packet_identifier_zero(env):
    topic = env.topic("zero")
    rows = [("SUBSCRIBE", subscribe(0, [(topic, 0)], version=V)), ("UNSUBSCRIBE", unsubscribe(0, [topic], version=V)),
            ("PUBLISH QoS 1", publish(topic, b"x", 1, pid=0, version=V)),
            ("PUBLISH QoS 2", publish(topic, b"x", 2, pid=0, version=V))]
    for name, data in rows:
        with env.case(name):
            c = env.client(version=V)
            c.send(data)
            c.expect_closed()


@covers("MQTT311-2.3.1-4", "MQTT311-4.5.0-1")
def test_server_packet_identifiers_are_not_reused_while_open(env):
    sub, pub = env.client(version=V), env.client(version=V)
    sub.subscribe(env.topic("#"), qos=2)
    seen = {}
    for i in range(16):
        pub.publish(env.topic("t"), b"%d" % i, qos=1 + i % 2)
    for i in range(16):
        p = sub.expect_publish(payload=b"%d" % i, qos=1 + i % 2, ack=False)
        check_equal(p.pid in seen, False, "identifier %d used twice" % p.pid)
        seen[p.pid] = p
    for pid, p in list(seen.items())[::2]:  # half of them become free, all of one parity
        sub.acknowledge(p)
        del seen[pid]
    for i in range(8):
        pub.publish(env.topic("t"), b"more", qos=1)
        p = sub.expect_publish(payload=b"more", ack=False)
        check_equal(p.pid in seen, False, "identifier %d used twice" % p.pid)
        seen[p.pid] = p


@covers("MQTT311-2.3.1-5")
def test_qos_0_carries_no_packet_identifier(env):
    sub, pub = env.client(version=V), env.client(version=V)
    sub.subscribe(env.topic("a"), qos=0)
    pub.publish(env.topic("a"), b"\0\1payload", qos=2)
    p = sub.expect_publish(qos=0)
    check_equal(p.raw, publish(env.topic("a"), b"\0\1payload", version=V), "the packet")


@covers("MQTT311-2.3.1-6", "MQTT311-2.3.1-7", "MQTT311-3.8.4-2")
def test_answers_carry_the_packet_identifier(env):
    c = env.client(version=V)
    for pid in (1, 2, 255, 256, 257, 32768, 65534, 65535):
        topic = env.topic(str(pid))
        c.send(subscribe(pid, [(topic, 0)], version=V)).expect(SUBACK, pid=pid)
        c.send(unsubscribe(pid, [topic], version=V)).expect(UNSUBACK, pid=pid)
        c.send(publish(topic, b"x", 1, pid=pid, version=V)).expect(PUBACK, pid=pid)
        c.send(publish(topic, b"x", 2, pid=pid, version=V)).expect(PUBREC, pid=pid)
        c.send(ack(PUBREL, pid)).expect(PUBCOMP, pid=pid)


@covers("MQTT311-3.3.4-1")
def test_remaining_length_at_each_step(env):
    sub, pub = env.client(version=V), env.client(version=V)
    topic = env.topic("s")
    sub.subscribe(topic)
    for remaining in (127, 128, 129, 16383, 16384, 16385, 65535, 65536, 300000, 1000000):
        with env.case("remaining length %d" % remaining):
            payload = bytes(i * 7 & 0xFF for i in range(remaining - 2 - len(topic)))
            data = publish(topic, payload, version=V)
            check_equal(data[1:len(varint(remaining)) + 1], varint(remaining), "the test's own length")
            pub.send(data)
            sub.expect_publish(topic, payload, timeout=10)


@covers("MQTT311-4.8.0-1")
def test_a_packet_above_the_limit_ends_the_connection(env):
    c = env.client(version=V)
    c.send(bytes([PUBLISH << 4]) + varint(268435455) + string(env.topic("big")) + b"x" * 1000)
    c.expect_closed()
    check_equal(env.client(version=V).connack.reason, 0, "the next CONNACK")


@covers("MQTT311-2.2.2-1")
def test_connect_in_its_smallest_form(env):
    c = env.raw(V)
    c.send(packet(CONNECT << 4, string("MQTT") + bytes([4, 2, 0, 0]) + string("")))
    check_equal(c.expect(CONNACK).raw, b"\x20\x02\x00\x00", "the CONNACK")
