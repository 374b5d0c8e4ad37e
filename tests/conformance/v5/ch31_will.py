"""5.0, chapter 3.1.2.5 and on: the will."""

import time

from kit import check, covers
from lib.mqtt import *  # noqa: F403

MALFORMED = (0x81, 0x82)


def vanish_by_protocol_error(c):
    c.send(b"\x00\x00")


def vanish_with_will_asked_for(c):
    c.send(disconnect(0x04))


@covers("MQTT-3.1.2-7", "MQTT-3.1.2-8")
def test_will_is_published_however_the_client_goes(env):
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=2)
    ways = [("socket closed", Client.close), ("reset", Client.abort), ("protocol error", vanish_by_protocol_error),
            ("DISCONNECT 0x04", vanish_with_will_asked_for), ("DISCONNECT 0x80", lambda c: c.send(disconnect(0x80))),
            ("half a packet", lambda c: (c.send(b"\x30\x20\x00"), c.close()))]
    for name, go in ways:
        with env.case(name):
            go(env.client(will=Will(env.topic("w"), name, qos=1)))
            sub.expect_publish(env.topic("w"), name, qos=1, retain=False)


@covers("MQTT-3.1.2-8", "MQTT-3.1.2-22")
def test_will_on_keep_alive_timeout(env):
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    env.client(keep_alive=1, will=Will(env.topic("w"), "late", qos=1))
    start = time.monotonic()
    sub.expect_publish(env.topic("w"), "late", timeout=4)
    check(1.4 <= time.monotonic() - start <= 2.8, "after %.2f s" % (time.monotonic() - start))


@covers("MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.14.4-3")
def test_normal_disconnect_drops_the_will(env):
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    for data in (disconnect(), disconnect(0), disconnect(0, {})):
        c = env.client(will=Will(env.topic("w"), "no"), props={"session_expiry": 1})
        c.send(data).expect_closed()
    time.sleep(1.3)  # not when the session ends either
    sub.expect_nothing()


@covers("MQTT-3.1.2-12", "MQTT-3.1.2-14", "MQTT-3.1.2-15")
def test_will_qos_and_retain(env):
    for qos in (0, 1, 2):
        for retain in (False, True):
            with env.case("QoS %d, retain %d" % (qos, retain)):
                topic = env.topic("w%d%d" % (qos, retain))
                sub = env.client()
                sub.subscribe(topic, qos=2, retain_as_published=True)
                env.client(will=Will(topic, "x", qos, retain)).abort()
                sub.expect_publish(topic, b"x", qos=qos, retain=retain)
                late = env.client()
                late.subscribe(topic, qos=2)
                if retain:
                    late.expect_publish(topic, b"x", qos=qos, retain=True)
                late.expect_nothing()


@covers("MQTT-3.1.2-15", "MQTT-3.3.1-6")
def test_empty_retained_will_removes(env):
    topic, pub = env.topic("w"), env.client()
    pub.publish(topic, "kept", qos=1, retain=True)
    sub = env.client()
    sub.subscribe(topic)
    sub.expect_publish(topic, "kept", retain=True)
    env.client(will=Will(topic, b"", retain=True)).abort()
    sub.expect_publish(topic, b"")
    late = env.client()
    late.subscribe(topic)
    late.expect_nothing()


@covers("MQTT-3.1.2-9", "MQTT-3.1.2-11", "MQTT-3.1.2-12", "MQTT-3.1.2-13")
def test_ill_formed_wills(env):
    will = properties(None) + string("w") + string("p")
    head = connect("x", flags=0x06)[2:]
    rows = [
        ("nothing of the will", packet(0x10, head)),
        ("properties alone", packet(0x10, head + properties(None))),
        ("no payload", packet(0x10, head + properties(None) + string("w"))),
        ("payload cut short", packet(0x10, head + will[:-1])),
        ("will without the flag", packet(0x10, connect("x", flags=0x02)[2:] + will)),
        ("QoS 1 without will", connect("x", flags=0x0A)), ("QoS 2 without will", connect("x", flags=0x12)),
        ("retain without will", connect("x", flags=0x22)),
        ("QoS 3", connect("x", will=Will("w", "p", qos=3))),
        ("delay twice", connect("x", will=Will("w", "p", props=one_property("will_delay", 1) * 2))),
        ("topic alias, which a will must not have", connect("x", will=Will("w", "p", props={"topic_alias": 1}))),
        ("session expiry, which a will must not have", connect("x", will=Will("w", "p", props={"session_expiry": 1}))),
        ("payload format 2", connect("x", will=Will("w", "p", props={"payload_format": 2}))),
    ]
    for name, data in rows:
        with env.case(name):
            env.raw().send(data).expect_refused(MALFORMED)


@covers("MQTT-4.7.1-1", "MQTT-4.7.3-1", "MQTT-3.3.2-2")
def test_will_topic_must_be_a_topic_name(env):
    for topic in ("", "a/+", "#", "a/#", "a+b"):
        with env.case(repr(topic)):
            env.raw().send(connect("x", will=Will(topic, "p"))).expect_refused((0x81, 0x82, 0x90))


@covers("MQTT-3.1.2-8", "MQTT-3.1.3-9")
def test_will_delay(env):
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    c = env.client(will=Will(env.topic("w"), "late", qos=1, props={"will_delay": 1}), props={"session_expiry": 60})
    start = time.monotonic()
    c.abort()
    sub.expect_publish(env.topic("w"), "late", timeout=4)
    check(0.9 <= time.monotonic() - start <= 2.3, "after %.2f s" % (time.monotonic() - start))
    c.open(clean=False, props={"session_expiry": 0}, session_present=True).close()
    sub.expect_nothing()  # [MQTT-3.1.2-10]: published once, then gone


@covers("MQTT-3.1.2-8")
def test_will_delay_ends_with_the_session(env):
    """Whichever comes first: the session's end or the delay's."""
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    for name, expiry, least, most in (("session expiry 0", 0, 0, 0.9), ("session expiry 1", 1, 0.9, 2.3)):
        with env.case(name):
            c = env.client(will=Will(env.topic("w"), name, qos=1, props={"will_delay": 60}),
                           props={"session_expiry": expiry})
            start = time.monotonic()
            c.abort()
            sub.expect_publish(env.topic("w"), name, timeout=4)
            check(least <= time.monotonic() - start <= most, "after %.2f s" % (time.monotonic() - start))


@covers("MQTT-3.1.2-8", "MQTT-3.1.3-9", "MQTT-3.1.2-10")
def test_return_within_the_delay(env):
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    keep = {"session_expiry": 60}
    will = Will(env.topic("w"), "no", qos=1, props={"will_delay": 1})
    gone = env.client(will=will, props=keep)
    gone.abort()
    gone.open(clean=False, props=keep, session_present=True)
    taken = env.client(will=will, props=keep)
    env.client(taken.client_id, clean=False, props=keep, session_present=True)
    taken.expect_closed(0x8E)
    time.sleep(1.4)
    sub.expect_nothing()


@covers("MQTT-3.1.2-8", "MQTT-3.1.2-4")
def test_takeover_with_clean_start_publishes(env):
    """The session ends there and then, so the will is due whatever its delay."""
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    c = env.client(will=Will(env.topic("w"), "due", qos=1, props={"will_delay": 60}), props={"session_expiry": 60})
    env.client(c.client_id, clean=True, session_present=False)
    c.expect_closed(0x8E)
    sub.expect_publish(env.topic("w"), "due")
    sub.expect_nothing()


@covers("MQTT-3.1.2-8")
def test_takeover_publishes_a_will_without_delay(env):
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    c = env.client(will=Will(env.topic("w"), "taken", qos=1), props={"session_expiry": 60})
    env.client(c.client_id, clean=False, props={"session_expiry": 60})
    c.expect_closed(0x8E)
    sub.expect_publish(env.topic("w"), "taken")
    sub.expect_nothing()


@covers("MQTT-3.1.2-10")
def test_will_is_of_the_connection(env):
    """A later connection without a will has none."""
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    c = env.client(will=Will(env.topic("w"), "once", qos=1), props={"session_expiry": 60})
    c.abort()
    sub.expect_publish(env.topic("w"), "once")
    c.open(clean=False, props={"session_expiry": 60}, session_present=True)
    c.abort()
    sub.expect_nothing(0.3)


@covers("MQTT-3.1.3-10", "MQTT-3.3.2-4", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-20")
def test_will_properties_are_forwarded(env):
    subs = env.many(4)
    for sub in subs:
        sub.subscribe(env.topic("#"), qos=2)
    props = {"payload_format": 1, "message_expiry": 100, "content_type": "text/plain", "response_topic": "re/ply",
             "correlation_data": b"\x00\x01\xff", "user_property": [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]}
    env.client(will=Will(env.topic("w"), "x", 2, props=props)).abort()
    for sub in subs:
        got = sub.expect_publish(env.topic("w"), "x", qos=2).props
        check(95 <= got.get("message_expiry", 0) <= 100, "message expiry %r" % got.get("message_expiry"))
        for name in props:
            check(name == "message_expiry" or got.get(name) == props[name], "%s is %r" % (name, got.get(name)))
        check("will_delay" not in got, "Will Delay Interval was forwarded")


@covers("MQTT-3.1.3-1")
def test_all_fields_in_their_order(env):
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    c = env.raw()
    c.send(connect(c.client_id, will=Will(env.topic("w"), b"\x00payload", 1, props={"will_delay": 0}), user="user",
                   password=b"\x00\xff"))
    c.expect(CONNACK, reason=0)
    c.abort()
    sub.expect_publish(env.topic("w"), b"\x00payload")


@covers("MQTT-3.1.2-7")
def test_largest_will_payload(env):
    """A will's payload is binary data: 65,535 bytes at most."""
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    env.client(will=Will(env.topic("w"), b"w" * 65535, 1)).abort()
    sub.expect_publish(env.topic("w"), b"w" * 65535)
