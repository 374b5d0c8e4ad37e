"""5.0, chapters 1 and 2: strings, variable byte integers, flags, packet identifiers, property lengths."""

import struct

from kit import Failure, check, check_equal, covers, user_property
from lib.mqtt import *  # noqa: F403

MALFORMED = (0x81, 0x82)

BAD_STRINGS = [
    ("surrogate U+D800", b"a\xed\xa0\x80"),
    ("surrogate U+DFFF", b"a\xed\xbf\xbf"),
    ("overlong slash", b"a\xc0\xaf"),
    ("overlong U+0000", b"a\xc0\x80"),
    ("three bytes for U+007F", b"a\xe0\x81\xbf"),
    ("beyond U+10FFFF", b"a\xf4\x90\x80\x80"),
    ("0xFF", b"a\xff"),
    ("lone continuation byte", b"a\x80b"),
    ("cut short", b"a\xe2\x82"),
    ("null character", b"a\x00b"),
]


def connect_with(env, bad, where):
    """A CONNECT with an ill-formed string in one place is refused."""
    c = env.raw()
    if where == "client id":
        c.send(connect(bad))
    elif where == "will topic":
        c.send(connect(c.client_id, will=Will(bad, "x")))
    elif where == "user name":
        c.send(connect(c.client_id, user=bad))
    elif where == "will content type":
        c.send(connect(c.client_id, will=Will("w", "x", props={"content_type": bad})))
    elif where == "will response topic":
        c.send(connect(c.client_id, will=Will("w", "x", props={"response_topic": bad})))
    else:
        c.send(connect(c.client_id, props={"user_property": [("name", bad)]}))
    c.expect_refused((0x81, 0x82, 0x85) if where == "client id" else MALFORMED)


@covers("MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-3.1.3-4", "MQTT-3.1.3-11", "MQTT-3.1.3-12")
def test_ill_formed_strings_in_connect(env):
    for name, bad in BAD_STRINGS:
        for where in ("client id", "will topic", "user name", "will content type", "will response topic",
                      "user property"):
            with env.case("%s in %s" % (name, where)):
                connect_with(env, bad, where)


@covers("MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-1.5.7-1", "MQTT-3.3.2-1", "MQTT-3.3.2-13", "MQTT-3.3.2-19",
        "MQTT-3.8.3-1", "MQTT-3.10.3-1", "MQTT-4.7.3-2")
def test_ill_formed_strings_elsewhere(env):
    for name, bad in BAD_STRINGS:
        places = [
            ("topic", publish(bad, b"x"), (0x81, 0x82, 0x90)),
            ("content type", publish("t", b"x", props={"content_type": bad}), MALFORMED),
            ("response topic", publish("t", b"x", props={"response_topic": bad}), (0x81, 0x82, 0x90)),
            ("user property name", publish("t", b"x", props=user_property(bad, "v")), MALFORMED),
            ("user property value", publish("t", b"x", props=user_property("n", bad)), MALFORMED),
            ("filter", subscribe(1, [(bad, 0)]), (0x81, 0x82, 0x8F)),
            ("filter of UNSUBSCRIBE", unsubscribe(1, [bad]), (0x81, 0x82, 0x8F)),
            ("property of SUBSCRIBE", subscribe(1, [("f", 0)], props=user_property("n", bad)), MALFORMED),
            ("reason string of PUBREL", ack(PUBREL, 1, 0, {"reason_string": bad}), MALFORMED),
        ]
        for where, data, codes in places:
            with env.case("%s in %s" % (name, where)):
                env.client().send(data).expect_closed(codes)


@covers("MQTT-1.5.4-3", "MQTT-4.7.3-4")
def test_zero_width_no_break_space_is_kept(env):
    mark = "\ufeff"
    sub, pub = env.pair(env.topic(mark + "a"))
    pub.publish(env.topic("a"), "without", qos=1)
    pub.publish(env.topic(mark + "a"), "with", qos=1, props={"content_type": mark + "t"})
    sub.expect_publish(env.topic(mark + "a"), b"with", props={"content_type": mark + "t"})
    sub.expect_nothing()


@covers("MQTT-1.5.4-1")
def test_well_formed_strings_pass(env):
    """One to four bytes a character, and the neighbours of the surrogates."""
    sub, pub = env.pair()
    for name in ("a", "\u00e9", "\u20ac", "\U0001d11e", "\ud7ff", "\ue000", "\U0010fffd", "\u00a0 \u00a0"):
        with env.case(repr(name)):
            pub.publish(env.topic(name), "x", qos=1, props={"user_property": [(name, name)]})
            sub.expect_publish(env.topic(name), b"x", props={"user_property": [(name, name)]})


@covers("MQTT-1.5.5-1")
def test_variable_byte_integers(env):
    topic = string("t")
    rows = [
        ("remaining length in two bytes for 0", b"\xc0\x80\x00"),
        ("remaining length of five bytes", b"\x30\xff\xff\xff\xff\x01"),
        ("remaining length of five bytes, four arrived", b"\x30\x80\x80\x80\x80"),
        ("property length in two bytes for 0", packet(0x30, topic + b"\x80\x00")),
        ("property length of five bytes", packet(0x30, topic + b"\x80\x80\x80\x80\x00")),
        ("property length beyond the packet", packet(0x30, topic + b"\x05\x01")),
        ("subscription identifier not minimal", packet(0x82, b"\x00\x01\x03\x0b\x81\x00" + string("f") + b"\x00")),
        ("subscription identifier of five bytes",
         packet(0x82, b"\x00\x01\x06\x0b\xff\xff\xff\xff\x01" + string("f") + b"\x00")),
    ]
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(MALFORMED)


@covers("MQTT-1.5.5-1")
def test_remaining_length_at_each_step(env):
    """127/128 and 16,383/16,384 bytes: the lengths at which one more byte of length begins, both ways."""
    sub, pub = env.pair()
    overhead = 2 + len(env.topic("t")) + 1
    for total in (127, 128, 16383, 16384, 70000):
        with env.case(str(total)):
            payload = b"p" * (total - overhead)
            pub.publish(env.topic("t"), payload)
            sub.expect_publish(env.topic("t"), payload)


@covers("MQTT-2.1.3-1", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1", "MQTT-3.14.1-1", "MQTT-3.15.1-1")
def test_reserved_flags(env):
    for flags in range(16):
        rows = [("PUBACK", 0, ack(PUBACK, 1, flags=flags)), ("PUBREC", 0, ack(PUBREC, 1, flags=flags)),
                ("PUBREL", 2, ack(PUBREL, 1, flags=flags)), ("PUBCOMP", 0, ack(PUBCOMP, 1, flags=flags)),
                ("SUBSCRIBE", 2, subscribe(1, [("f", 0)], flags=flags)),
                ("UNSUBSCRIBE", 2, unsubscribe(1, ["f"], flags=flags)),
                ("PINGREQ", 0, pingreq(flags=flags)), ("DISCONNECT", 0, disconnect(flags=flags)),
                ("AUTH", None, auth(0x19, {"auth_method": "m"}, flags=flags))]
        for name, legal, data in rows:
            if flags != legal and (flags in (0, 1, 2, 3, 4, 8, 15)):
                with env.case("%s with flags %x" % (name, flags)):
                    env.client().send(data).expect_closed(0x81 if name != "AUTH" else MALFORMED)


@covers("MQTT-2.1.3-1", "MQTT-3.1.4-1")
def test_reserved_flags_of_connect(env):
    for flags in (1, 2, 4, 8, 15):
        with env.case("CONNECT with flags %x" % flags):
            c = env.raw()
            data = bytearray(connect(c.client_id))
            data[0] |= flags
            c.send(bytes(data)).expect_refused()


@covers("MQTT-4.13.1-1")
def test_packets_that_a_client_must_not_send(env):
    rows = [("type 0", b"\x00\x00"), ("type 0 with a body", b"\x00\x02\x00\x00"), ("CONNACK", b"\x20\x03\x00\x00\x00"),
            ("SUBACK", b"\x90\x04\x00\x01\x00\x00"), ("UNSUBACK", b"\xb0\x04\x00\x01\x00\x00"),
            ("PINGRESP", b"\xd0\x00")]
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(MALFORMED)


@covers("MQTT-2.2.1-2", "MQTT-2.2.2-1", "MQTT-4.3.1-1")
def test_qos_0_on_the_wire(env):
    """No packet identifier, and a property length of zero: the bytes are known exactly."""
    sub, pub = env.pair()
    topic = env.topic("t")
    for qos in (0, 1, 2):
        with env.case("published with QoS %d" % qos):
            low = env.client()
            low.subscribe(topic, qos=0)
            pub.publish(topic, b"payload", qos=qos)
            check_equal(low.expect(PUBLISH).raw, publish(topic, b"payload"), "the packet")
            sub.expect_publish(topic, b"payload", qos=qos)


@covers("MQTT-2.2.2-1")
def test_property_length_must_be_there(env):
    """Packets that end where the property length should stand."""
    rows = [("PUBLISH QoS 0", packet(0x30, string("t"))), ("PUBLISH QoS 1", packet(0x32, string("t") + b"\x00\x01")),
            ("SUBSCRIBE", packet(0x82, b"\x00\x01")), ("UNSUBSCRIBE", packet(0xA2, b"\x00\x01"))]
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(MALFORMED)
    with env.case("CONNECT"):
        env.raw().send(packet(0x10, string("MQTT") + b"\x05\x02\x00\x3c")).expect_refused(MALFORMED)


@covers("MQTT-2.2.1-3")
def test_packet_identifier_zero_is_refused(env):
    rows = [("PUBLISH QoS 1", publish("t", b"x", 1, pid=0)), ("PUBLISH QoS 2", publish("t", b"x", 2, pid=0)),
            ("SUBSCRIBE", subscribe(0, [("f", 0)])), ("UNSUBSCRIBE", unsubscribe(0, ["f"])),
            ("PUBACK", ack(PUBACK, 0)), ("PUBREC", ack(PUBREC, 0)), ("PUBREL", ack(PUBREL, 0)),
            ("PUBCOMP", ack(PUBCOMP, 0))]
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(MALFORMED)


@covers("MQTT-2.2.1-5", "MQTT-2.2.1-6", "MQTT-3.8.4-2", "MQTT-3.10.4-5", "MQTT-4.3.2-4", "MQTT-4.3.3-8",
        "MQTT-4.3.3-11")
def test_acknowledgements_repeat_the_identifier(env):
    c = env.client()
    for pid in (1, 255, 256, 0x1234, 65535):
        with env.case("identifier %d" % pid):
            c.publish(env.topic("t"), b"x", qos=1, pid=pid)
            c.publish(env.topic("t"), b"x", qos=2, pid=pid)
            c.send(subscribe(pid, [(env.topic("s"), 0)])).expect(SUBACK, pid=pid, reasons=[0])
            c.send(unsubscribe(pid, [env.topic("s")])).expect(UNSUBACK, pid=pid, reasons=[0])


def receive_or_wake(env, sub, held):
    """The next packet. A server may hold messages back while the client keeps identifiers for so long; then, and only
    then, the test lets go of what it held."""
    try:
        return sub.receive(1.5 if held else None)
    except Failure:
        check(held, "nothing came though nothing is held")
        for p in held:
            sub.send(ack(PUBACK, p.pid) if p.qos == 1 else ack(PUBREC, p.pid, 0x80))
        held.clear()
        return sub.receive()


def pump(env, pub, sub, topic, held, count):
    """count QoS 1 messages from pub to sub, many at once, none under an identifier that is held or in flight."""
    batch = min(pub.connack.props.get("receive_max", 65535) - 4, 400)
    for start in range(0, count, batch):
        numbers, seen = range(start, min(start + batch, count)), set()
        pub.send(b"".join(publish(topic, struct.pack(">I", n), 1, pid=n % 65535 + 1) for n in numbers))
        for n in numbers:
            p = receive_or_wake(env, sub, held)
            check(p is not None and p.type == PUBLISH and p.payload == struct.pack(">I", n), "message %d: %r" % (n, p))
            check(p.pid not in seen and p.pid not in [h.pid for h in held], "identifier %d is in use" % p.pid)
            seen.add(p.pid)
        sub.send(b"".join(ack(PUBACK, pid) for pid in seen))
        for n in numbers:
            pub.expect(PUBACK, pid=n % 65535 + 1)
        del env.log[20:-20]


@covers("MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
def test_server_identifiers_wrap_around_what_is_in_use(env):
    """Four messages stay unacknowledged while 66,000 others follow: their identifiers must not be given again."""
    sub, pub = env.client(), env.client()
    sub.subscribe(env.topic("t"), qos=2)
    held = []
    for qos in (1, 2, 1, 2):
        pub.publish(env.topic("t"), b"held", qos=qos)
        held.append(sub.expect_publish(env.topic("t"), b"held", qos=qos, ack=False))
    check_equal(len({p.pid for p in held}), 4, "number of different identifiers held")
    pump(env, pub, sub, env.topic("t"), held, 66000)


@covers("MQTT-4.2-1")
def test_stream_cut_anywhere(env):
    """Packets need not come in one piece, nor one at a time."""
    topic = env.topic("t")
    data = connect("", props={"receive_max": 10}) + subscribe(1, [(topic, 1)]) + publish(topic, b"x" * 200, 1, pid=2) \
        + pingreq()
    for size in (1, 2, 3, 5, 64, 4096):
        with env.case("%d bytes at a time" % size):
            c = env.raw()
            for at in range(0, len(data), size):
                c.sock.sendall(data[at:at + size])
            c.expect(CONNACK, reason=0)
            c.expect(SUBACK, reasons=[1])
            c.expect_later(PUBLISH, topic=topic, payload=b"x" * 200)
            c.expect_later(PUBACK, pid=2)
            c.expect_later(PINGRESP)
