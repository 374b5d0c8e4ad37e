"""5.0, chapters 3.4 to 3.7: PUBACK, PUBREC, PUBREL, PUBCOMP."""

from kit import check, check_equal, covers
from lib.mqtt import *  # noqa: F403

MALFORMED = (0x81, 0x82)
LEGAL = {
    PUBACK: (0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
    PUBREC: (0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99),
    PUBREL: (0x00, 0x92),
    PUBCOMP: (0x00, 0x92),
}


@covers("MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-4.4.0-2")
def test_no_matching_subscribers(env):
    """0x10 when nobody wants it, 0x00 when somebody does, on whichever shard."""
    pub = env.client()
    for qos in (1, 2):
        check_equal(pub.publish(env.topic("none"), "x", qos=qos).reason, 0x10, "QoS %d, no subscriber" % qos)
    for number in range(6):
        sub = env.client()
        sub.subscribe(env.topic("s%d" % number), qos=1)
        for qos in (1, 2):
            check_equal(pub.publish(env.topic("s%d" % number), "x", qos=qos).reason, 0, "QoS %d, subscribed" % qos)
            sub.expect_publish(env.topic("s%d" % number), "x", qos=1)
        topic = env.topic("s%d" % number)
        sub.unsubscribe(topic)
        env.eventually("0x10 after the last subscriber left", lambda: reason_of(pub, topic) == 0x10)


def reason_of(pub, topic):
    return pub.publish(topic, "x", qos=1).reason


@covers("MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-3.6.2-1", "MQTT-3.7.2-1")
def test_reason_codes_of_other_packets_are_refused(env):
    for ptype, legal in LEGAL.items():
        for reason in (0x01, 0x04, 0x11, 0x81, 0x82, 0x8E, 0x92, 0xFF):
            if reason not in legal:
                with env.case("%s 0x%02x" % (TYPE_NAMES[ptype], reason)):
                    env.client().send(ack(ptype, 1, reason)).expect_closed(MALFORMED)


@covers("MQTT-3.6.1-1", "MQTT-4.13.1-1")
def test_malformed(env):
    rows = [("no packet identifier", b""), ("half a packet identifier", b"\x00"),
            ("property length beyond the packet", b"\x00\x01\x00\x05"),
            ("unknown property", b"\x00\x01\x00\x02\x7e\x00"), ("property of PUBLISH", b"\x00\x01\x00\x02\x01\x01"),
            ("reason string twice", b"\x00\x01\x00" + properties(one_property("reason_string", "r") * 2)),
            ("property length not minimal", b"\x00\x01\x00\x80\x00"), ("bytes left over", b"\x00\x01\x00\x00\x00")]
    for ptype in LEGAL:
        for name, body in rows:
            with env.case("%s: %s" % (TYPE_NAMES[ptype], name)):
                env.client().send(packet(ptype << 4 | (2 if ptype == PUBREL else 0), body)).expect_closed(MALFORMED)


@covers("MQTT-4.3.2-3", "MQTT-4.3.3-3", "MQTT-4.3.3-4", "MQTT-4.3.3-5")
def test_every_legal_form_is_understood(env):
    """Two bytes, three bytes, with a property length, with properties: each acknowledges."""
    sub, pub = env.client(props={"receive_max": 1}), env.client()
    sub.subscribe(env.topic("t"), qos=2)
    forms = [("two bytes", None, None), ("reason", 0, None), ("no properties", 0, {}),
             ("properties", 0, {"reason_string": "fine", "user_property": [("a", "b"), ("a", "b")]})]
    for name, reason, props in forms:
        for qos in (1, 2):
            with env.case("%s, QoS %d" % (name, qos)):
                pub.publish(env.topic("t"), name, qos=qos)
                p = sub.expect_publish(env.topic("t"), name, qos=qos, ack=False)
                if qos == 1:
                    sub.send(ack(PUBACK, p.pid, reason, props))
                else:
                    sub.send(ack(PUBREC, p.pid, reason, props)).expect(PUBREL, pid=p.pid, reason=0)
                    sub.send(ack(PUBCOMP, p.pid, reason, props))
    for name, reason, props in forms:
        with env.case("%s, PUBREL" % name):
            pid = pub.publish(env.topic("none"), "x", qos=2, ack=False)
            pub.expect(PUBREC, pid=pid)
            pub.send(ack(PUBREL, pid, reason, props)).expect(PUBCOMP, pid=pid, reason=0)


@covers("MQTT-4.4.0-2", "MQTT-4.3.3-4")
def test_refusing_acknowledgements_settle_the_message(env):
    """PUBACK and PUBREC of 0x80 and more: done, no PUBREL, the window has room again, nothing is resent."""
    for qos, ptype in ((1, PUBACK), (2, PUBREC)):
        for reason in (0x80, 0x83, 0x87, 0x97, 0x99):
            with env.case("QoS %d, 0x%02x" % (qos, reason)):
                sub = env.client(clean=False, props={"receive_max": 1, "session_expiry": 60})
                sub.subscribe(env.topic("t"), qos=2)
                pub = env.client()
                pub.publish(env.topic("t"), "refused", qos=qos)
                pub.publish(env.topic("t"), "next", qos=qos)
                p = sub.expect_publish(env.topic("t"), "refused", ack=False)
                sub.send(ack(ptype, p.pid, reason))
                sub.expect_publish(env.topic("t"), "next")
                sub.reopen(session_present=True)
                sub.expect_nothing()
                sub.disconnect(0, {"session_expiry": 0})


@covers("MQTT-3.6.2-1", "MQTT-3.7.2-1")
def test_unknown_packet_identifiers(env):
    """0x92 in the next packet of the handshake, and the connection lives."""
    c = env.client()
    c.send(ack(PUBREL, 4711)).expect(PUBCOMP, pid=4711, reason=0x92)
    c.send(ack(PUBREC, 4712)).expect(PUBREL, pid=4712, reason=0x92)
    c.send(ack(PUBCOMP, 4712, 0x92))
    c.ping()


@covers("MQTT-2.2.1-5")
def test_stray_acknowledgements_harm_nobody(env):
    """A PUBACK or PUBCOMP for nothing either ends this connection or does nothing; the window stays right."""
    for ptype in (PUBACK, PUBCOMP):
        with env.case(TYPE_NAMES[ptype]):
            sub, pub = env.client(props={"receive_max": 2}), env.client()
            sub.subscribe(env.topic("t"), qos=1)
            sub.send(b"".join(ack(ptype, pid) for pid in (7, 8, 9)) + pingreq())
            p = sub.receive()
            if p is None or p.type == DISCONNECT:
                continue
            check(p.type == PINGRESP, "got %r" % p)
            for number in range(4):
                pub.publish(env.topic("t"), "%d" % number, qos=1)
            held = [sub.expect_publish(env.topic("t"), "%d" % n, ack=False) for n in range(2)]
            sub.expect_nothing()
            for p in held:
                sub.acknowledge(p)
            sub.expect_publish(env.topic("t"), "2")
            sub.expect_publish(env.topic("t"), "3")


def answers(c, env):
    """One packet of each kind that may carry a Reason String, each an answer that is not plain success."""
    c.send(publish(env.topic("nobody"), b"x", 1, pid=1))
    yield c.expect(PUBACK)
    c.send(publish(env.topic("nobody"), b"x", 2, pid=2))
    yield c.expect(PUBREC)
    c.send(ack(PUBREL, 99))
    yield c.expect(PUBCOMP)
    c.send(ack(PUBREC, 98))
    yield c.expect(PUBREL)
    c.send(unsubscribe(3, [env.topic("none")]))
    yield c.expect(UNSUBACK)
    c.send(subscribe(4, [("#/bad", 0)]))
    yield c.receive()
    d = c if c.eof or c.sock is None else c
    d.send(publish(env.topic("t"), b"x", props={"topic_alias": 0}))
    last = d.receive()
    if last is not None:
        yield last


@covers("MQTT-3.4.2-2", "MQTT-3.4.2-3", "MQTT-3.5.2-2", "MQTT-3.5.2-3", "MQTT-3.6.2-2", "MQTT-3.6.2-3", "MQTT-3.7.2-2",
        "MQTT-3.7.2-3", "MQTT-3.9.2-1", "MQTT-3.9.2-2", "MQTT-3.11.2-1", "MQTT-3.11.2-2", "MQTT-3.14.2-3",
        "MQTT-3.14.2-4")
def test_reasons_are_left_away_where_they_do_not_fit(env):
    """Maximum Packet Size as small as the CONNACK allows: every answer still comes, none is larger."""
    connack = env.client().connack
    least = connack.size - sum(len(one_property("user_property", pair)) for pair in
                               connack.props.get("user_property", []))
    for size in (least, least + 6, least + 14, least + 30):
        with env.case("%d bytes" % size):
            c, kinds = env.client(props={"maximum_packet_size": size}), set()
            for p in answers(c, env):
                check(p is not None and p.size <= size, "%d bytes: %r" % (p.size if p else 0, p))
                kinds.add(p.type)
            check({PUBACK, PUBREC, PUBCOMP, PUBREL, UNSUBACK} <= kinds, "answers %r" % kinds)


@covers("MQTT-3.4.2-1", "MQTT-3.14.2-1")
def test_errors_say_why(env):
    """Not demanded by the specification; promised by us: errors carry a Reason String unless asked not to."""
    if Client.lenient:
        return
    p = env.client().send(b"\x00\x00").expect_closed(0x81)
    check(p.props.get("reason_string"), "DISCONNECT 0x81 without Reason String")
    p = env.client().send(publish(env.topic("t"), b"x", props={"topic_alias": 0})).expect_closed(0x94)
    check(p.props.get("reason_string"), "DISCONNECT 0x94 without Reason String")
    p = env.raw().send(connect("x", props={"auth_method": "none-such"})).expect_refused(0x8C)
    check(p.props.get("reason_string"), "CONNACK 0x8c without Reason String")
