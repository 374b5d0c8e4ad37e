"""5.0, chapters 3.12 to 3.15: PINGREQ, DISCONNECT, AUTH; and 4.12, as far as a server without methods goes."""

import time

from kit import check, covers
from lib.mqtt import *  # noqa: F403

MALFORMED = (0x81, 0x82)


@covers("MQTT-3.12.4-1")
def test_ping(env):
    c = env.client()
    c.ping()
    c.send(pingreq() * 50)
    for _ in range(50):
        c.expect(PINGRESP)
    with env.case("with a body"):
        env.client().send(pingreq(body=b"\x00")).expect_closed(MALFORMED)


@covers("MQTT-3.14.4-1", "MQTT-3.14.4-2", "MQTT-3.14.4-3")
def test_disconnect_closes(env):
    sub = env.client()
    sub.subscribe(env.topic("#"))
    for name, data in (("no body", disconnect()), ("reason 0", disconnect(0)), ("no properties", disconnect(0, {})),
                       ("properties", disconnect(0, {"reason_string": "bye", "user_property": [("a", "b")]})),
                       ("reason 0x04", disconnect(4)), ("reason 0x80", disconnect(0x80))):
        with env.case(name):
            c = env.client()
            c.send(data + publish(env.topic("t"), b"after"))
            check(c.receive() is None, "the server answers to DISCONNECT")
    sub.expect_nothing()


@covers("MQTT-3.14.1-1", "MQTT-3.14.2-1", "MQTT-4.13.1-1")
def test_malformed_disconnect(env):
    rows = [("flags", disconnect(flags=1)), ("flags 8", disconnect(0, flags=8)),
            ("unknown reason 0x01", disconnect(0x01)), ("reason of the server 0x8e", disconnect(0x8E)),
            ("reason of SUBACK 0x91", disconnect(0x91)), ("reason 0xff", disconnect(0xFF)),
            ("properties cut short", packet(0xE0, b"\x00\x05\x11")), ("unknown property", disconnect(0, b"\x7e\x00")),
            ("property of CONNECT", disconnect(0, {"receive_max": 1})),
            ("session expiry twice", disconnect(0, one_property("session_expiry", 0) * 2)),
            ("reason string twice", disconnect(0, one_property("reason_string", "r") * 2)),
            ("bytes left over", packet(0xE0, b"\x00\x00\x00"))]
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(MALFORMED)


@covers("MQTT-3.14.4-3")
def test_malformed_disconnect_keeps_the_will(env):
    sub = env.client()
    sub.subscribe(env.topic("#"))
    env.client(will=Will(env.topic("w"), "will")).send(disconnect(0, {"receive_max": 1}))
    sub.expect_publish(env.topic("w"), "will")


@covers("MQTT-3.14.2-2", "MQTT-4.1.0-2")
def test_session_expiry_in_disconnect(env):
    """It replaces the interval of CONNECT, longer or shorter; but one from 0 to more is a Protocol Error."""
    c = env.client(props={"session_expiry": 60})
    c.disconnect(0, {"session_expiry": 0})
    c.open(clean=False, props={"session_expiry": 1}, session_present=False)
    c.disconnect(0, {"session_expiry": 60})
    time.sleep(1.6)
    c.open(clean=False, props={"session_expiry": 60}, session_present=True)
    c.disconnect(0, {"session_expiry": 1})
    time.sleep(1.6)
    c.open(clean=False, session_present=False)
    c.send(disconnect(0, {"session_expiry": 1})).expect_closed(0x82)
    with env.case("0 stays 0"):
        env.client().disconnect(0, {"session_expiry": 0})


@covers("MQTT-3.14.2-1", "MQTT-3.14.2-2", "MQTT-3.14.4-1", "MQTT-3.14.4-2", "MQTT-4.13.2-1")
def test_server_disconnects(env):
    """One of each cause: the codec of these tests refuses other reason codes and a Session Expiry Interval, and
    expect_closed whatever follows the DISCONNECT."""
    rows = [("malformed", b"\x00\x00", 0x81), ("protocol error", connect("x"), 0x82),
            ("topic alias", publish("t", b"x", props={"topic_alias": 0}), (0x82, 0x94)),
            ("topic name", publish("a/+", b"x"), (0x81, 0x82, 0x90))]
    for name, data, codes in rows:
        with env.case(name):
            env.client(props={"session_expiry": 5}).send(data + pingreq() * 3).expect_closed(codes)


@covers("MQTT-4.12.0-1", "MQTT-4.12.0-4", "MQTT-3.1.2-30")
def test_unknown_authentication_method(env):
    for props in ({"auth_method": "none-such"}, {"auth_method": "none-such", "auth_data": b"\x00\x01"},
                  {"auth_method": ""}):
        with env.case(repr(props)):
            env.raw().send(connect("x", props=props)).expect_refused((0x8C, 0x87))


@covers("MQTT-3.15.1-1", "MQTT-3.15.2-1", "MQTT-4.12.0-7", "MQTT-4.12.0-6")
def test_auth_without_method_in_connect(env):
    rows = [("re-authenticate", auth(0x19, {"auth_method": "m"})), ("continue", auth(0x18, {"auth_method": "m"})),
            ("success", auth(0x00, {"auth_method": "m"})), ("no body", auth()), ("no method", auth(0x19, {}))]
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(0x82 if name != "no method" else MALFORMED)
    rows = [("unknown reason", auth(0x01, {"auth_method": "m"})), ("flags", auth(0x19, {"auth_method": "m"}, flags=2)),
            ("properties cut short", packet(0xF0, b"\x19\x09\x15")), ("data alone", auth(0x19, {"auth_data": b"d"})),
            ("method twice", auth(0x19, one_property("auth_method", "m") * 2)),
            ("property of PUBLISH", auth(0x19, {"topic_alias": 1}))]
    for name, data in rows:
        with env.case(name):
            env.client().send(data).expect_closed(MALFORMED)
