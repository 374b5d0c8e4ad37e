"""5.0, chapter 3.2: CONNACK, and what it promises about the server's capabilities."""

import time

from kit import check, check_equal, covers, settings
from lib.mqtt import *  # noqa: F403

KEEP = {"session_expiry": 60}


@covers("MQTT-3.2.0-1")
def test_connack_before_what_is_queued(env):
    """Messages wait for the client; none may overtake the CONNACK."""
    pub = env.client()
    for number in range(4):
        with env.case("session %d" % number):
            c = env.client(clean=False, props=KEEP)
            c.subscribe(env.topic("#"), qos=2)
            c.disconnect()
            for qos in (1, 2):
                pub.publish(env.topic("t"), "%d" % qos, qos=qos)
            c.reopen(session_present=True)  # fails unless CONNACK is first
            c.expect_publish(env.topic("t"), "1", qos=1)
            c.expect_publish(env.topic("t"), "2", qos=2)
            c.disconnect(0, {"session_expiry": 0})


@covers("MQTT-3.2.2-1", "MQTT-3.2.2-2", "MQTT-3.2.2-3")
def test_session_present(env):
    for number in range(4):
        name = env.client_id("present")
        steps = [("first, not clean", False, 60, False), ("again", False, 60, True), ("clean", True, 60, False),
                 ("after clean", False, 0, True), ("after expiry 0", False, 0, False), ("clean, none", True, 0, False)]
        for step, clean, expiry, present in steps:
            with env.case("client %d: %s" % (number, step)):
                env.client(name, clean=clean, props={"session_expiry": expiry}, session_present=present).disconnect()


@covers("MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-3.2.2-8", "MQTT-4.13.2-1", "MQTT-3.14.0-1")
def test_refusals(env):
    """A session exists, yet no refusal says so; the connection ends, with CONNACK alone and no DISCONNECT."""
    c = env.client(clean=False, props=KEEP)
    c.close()
    rows = [("malformed", connect(c.client_id, clean=False, props={"receive_max": 0})),
            ("reserved flag", connect(c.client_id, flags=0x01)),
            ("authentication method", connect(c.client_id, clean=False, props={"auth_method": "none-such"}))]
    for name, data in rows:
        with env.case(name):
            env.raw().send(data).expect_refused((0x80, 0x81, 0x82, 0x83, 0x87, 0x8C))
    c.reopen(session_present=True)


@covers("MQTT-3.2.2-8")
def test_what_is_not_said_means_the_default(env):
    """The default broker can do all, so a CONNACK that says otherwise is wrong."""
    props = env.client().connack.props
    for name in ("retain_available", "wildcard_available", "subscription_id_available", "shared_available"):
        check_equal(props.get(name, 1), 1, name)
    check("maximum_qos" not in props, "Maximum QoS is sent only when it is 0 or 1")
    check(props.get("receive_max", 65535) >= 1, "Receive Maximum")
    check("response_info" not in props and "server_reference" not in props, "what nobody asked for")


@covers("MQTT-3.2.2-9", "MQTT-3.2.2-10", "MQTT-3.2.2-11")
@settings({"mqtt.maximum_qos": 1})
def test_maximum_qos_1(env):
    sub = env.client()
    check_equal(sub.connack.props.get("maximum_qos"), 1, "Maximum QoS")
    p = sub.send(subscribe(1, [(env.topic("t"), 0), (env.topic("u"), 1), (env.topic("#"), 2)])).expect(SUBACK)
    check(p.reasons[:2] == [0, 1] and p.reasons[2] in (1, 2), "SUBACK %r" % p.reasons)
    pub = env.client()
    pub.publish(env.topic("x"), "one", qos=1)
    sub.expect_publish(env.topic("x"), "one", qos=1)
    pub.send(publish(env.topic("x"), b"two", 2, pid=9)).expect_closed(0x9B)
    sub.expect_nothing()


@covers("MQTT-3.2.2-9", "MQTT-3.2.2-10")
@settings({"mqtt.maximum_qos": 0})
def test_maximum_qos_0(env):
    sub = env.client()
    check_equal(sub.connack.props.get("maximum_qos"), 0, "Maximum QoS")
    p = sub.send(subscribe(1, [(env.topic("#"), 2)])).expect(SUBACK)
    check(p.reasons[0] in (0, 1, 2), "SUBACK %r" % p.reasons)
    pub = env.client()
    pub.publish(env.topic("x"), "zero")
    sub.expect_publish(env.topic("x"), "zero", qos=0)
    pub.send(publish(env.topic("x"), b"one", 1, pid=9)).expect_closed(0x9B)


@covers("MQTT-3.2.2-12")
@settings({"mqtt.maximum_qos": 1})
def test_will_qos_beyond_maximum(env):
    env.client(will=Will("w", "x", 1)).disconnect()
    env.raw().send(connect("x", will=Will("w", "x", 2))).expect_refused(0x9B)


@covers("MQTT-3.2.2-13", "MQTT-3.2.2-14")
@settings({"mqtt.retain_available": False})
def test_retain_not_available(env):
    c = env.client()
    check_equal(c.connack.props.get("retain_available"), 0, "Retain Available")
    env.client(will=Will("w", "x")).disconnect()
    env.raw().send(connect("x", will=Will("w", "x", 0, True))).expect_refused(0x9A)
    for qos in (0, 1, 2):
        with env.case("retained PUBLISH QoS %d" % qos):
            env.client().send(publish(env.topic("t"), b"x", qos, retain=True, pid=1)).expect_closed(0x9A)
    c.subscribe(env.topic("#"))
    c.expect_nothing()


@covers("MQTT-3.2.2-8")
@settings({"mqtt.wildcard_available": False})
def test_wildcards_not_available(env):
    c = env.client()
    check_equal(c.connack.props.get("wildcard_available"), 0, "Wildcard Subscription Available")
    c.subscribe(env.topic("t"), qos=1)
    for topic_filter in (env.topic("#"), env.topic("+")):
        with env.case(topic_filter):
            d = env.client()
            d.send(subscribe(1, [(topic_filter, 0)]))
            p = d.receive()
            check(p is not None and (p.reasons == [0xA2] or p.reason == 0xA2), "got %r, wanted 0xa2" % p)


@covers("MQTT-3.2.2-8")
@settings({"mqtt.shared_available": False})
def test_shared_subscriptions_not_available(env):
    c = env.client()
    check_equal(c.connack.props.get("shared_available"), 0, "Shared Subscription Available")
    c.send(subscribe(1, [("$share/g/" + env.topic("t"), 0)]))
    p = c.receive()
    check(p is not None and (p.reasons == [0x9E] or p.reason == 0x9E), "got %r, wanted 0x9e" % p)


@covers("MQTT-3.2.2-15")
@settings({"mqtt.max_packet_size": 2000})
def test_maximum_packet_size_of_the_server(env):
    c = env.client()
    check_equal(c.connack.props.get("maximum_packet_size"), 2000, "Maximum Packet Size")
    topic = env.topic("t")
    payload = b"x" * (2000 - len(publish(topic, b"x" * 1000, 1, pid=1)) + 1000)
    check_equal(len(publish(topic, payload, 1, pid=1)), 2000, "the test's own packet")
    c.publish(topic, payload, qos=1)
    c.send(publish(topic, payload + b"x", 1, pid=2)).expect_closed(0x95)
    with env.case("announced only"):
        env.client().send(b"\x30\xff\xff\x7f\x00").expect_closed(0x95)
    with env.case("CONNECT too large"):
        env.raw().send(connect("x", password=b"x" * 3000, user="u")).expect_refused()


def smallest_connack(env):
    """Size of a CONNACK without what may be left away."""
    c = env.client()
    return c.connack.size - sum(len(one_property(n, v)) for n, value in c.connack.props.items()
                                if n in ("reason_string", "user_property")
                                for v in (value if isinstance(value, list) else [value]))


@covers("MQTT-3.2.2-19", "MQTT-3.2.2-20", "MQTT-3.1.2-24")
def test_connack_fits_the_client(env):
    """What explains is left away rather than sent too large: accepted and refused."""
    least = smallest_connack(env)
    for size in (least, least + 1, least + 8):
        with env.case("accepted, %d bytes" % size):
            c = env.client(props={"maximum_packet_size": size})
            check(c.connack.size <= size, "CONNACK of %d bytes" % c.connack.size)
    for size in (5, 8, 20):
        with env.case("refused, %d bytes" % size):
            c = env.raw()
            c.send(connect("x", props={"maximum_packet_size": size, "auth_method": "none-such"}))
            p = c.expect_refused((0x8C, 0x87))
            check(p is None or p.size <= size, "CONNACK of more than %d bytes: %r" % (size, p))


@covers("MQTT-3.2.2-17", "MQTT-3.2.2-18", "MQTT-3.3.2-9", "MQTT-3.3.2-12", "MQTT-3.3.2-8")
@settings({"mqtt.topic_alias_maximum": 4})
def test_topic_alias_maximum_of_the_server(env):
    sub, pub = env.pair()
    check_equal(pub.connack.props.get("topic_alias_max"), 4, "Topic Alias Maximum")
    for alias in (1, 2, 3, 4):
        pub.publish(env.topic("t%d" % alias), "set", qos=1, props={"topic_alias": alias})
        sub.expect_publish(env.topic("t%d" % alias), "set", props={"topic_alias": None})
    for alias in (4, 1, 3, 2):
        pub.publish("", "used", qos=1, props={"topic_alias": alias})
        sub.expect_publish(env.topic("t%d" % alias), "used")
    for alias in (0, 5, 65535):
        with env.case("alias %d" % alias):
            env.client().send(publish(env.topic("t"), b"x", props={"topic_alias": alias})).expect_closed(0x94)
    sub.expect_nothing()


@covers("MQTT-3.2.2-18")
@settings({"mqtt.topic_alias_maximum": 0})
def test_no_topic_aliases(env):
    c = env.client()
    check(not c.connack.props.get("topic_alias_max"), "Topic Alias Maximum")
    c.send(publish(env.topic("t"), b"x", props={"topic_alias": 1})).expect_closed(0x94)


@covers("MQTT-3.2.2-21", "MQTT-3.1.2-21")
@settings({"mqtt.max_keep_alive": "1s"})
def test_server_keep_alive(env):
    for wanted, told in ((0, 1), (60, 1), (2, 1), (1, None)):
        with env.case("keep alive %d" % wanted):
            got = env.client(keep_alive=wanted).connack.props.get("server_keep_alive")
            check(got == told or (told is None and got == 1), "Server Keep Alive %r, wanted %r" % (got, told))
    c = env.client(keep_alive=0)
    start = time.monotonic()
    c.expect_closed(0x8D, timeout=4)
    check(1.4 <= time.monotonic() - start <= 2.8, "closed after %.2f s" % (time.monotonic() - start))


@covers("MQTT-3.2.2-22")
def test_no_server_keep_alive_by_default(env):
    for seconds in (0, 1, 60, 65535):
        check("server_keep_alive" not in env.client(keep_alive=seconds).connack.props, "keep alive %d" % seconds)


@covers("MQTT-3.2.2-8")
@settings({"mqtt.max_session_expiry": "2s"})
def test_session_expiry_is_cut(env):
    for wanted, told in ((0xFFFFFFFF, 2), (3, 2), (2, None), (1, None), (0, None)):
        with env.case("session expiry %d" % wanted):
            got = env.client(props={"session_expiry": wanted}).connack.props.get("session_expiry")
            check(got == told or (told is None and got == wanted), "told %r, wanted %r" % (got, told))
    c = env.client(props={"session_expiry": 1000})
    c.close()
    time.sleep(0.5)
    c.reopen(props={"session_expiry": 1000}, session_present=True)
    c.close()
    time.sleep(2.6)
    c.reopen(session_present=False)


@covers("MQTT-3.3.4-9")
def test_receive_maximum_is_told(env):
    check(env.client().connack.props.get("receive_max", 65535) >= 1, "Receive Maximum")
