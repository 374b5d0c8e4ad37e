"""5.0, chapter 3.1: CONNECT, without the will (ch31_will) and the session (ch41_session)."""

import string as letters
import time

from kit import check, check_equal, covers, settings
from lib.mqtt import *  # noqa: F403

MALFORMED = (0x81, 0x82)


@covers("MQTT-3.1.0-1")
def test_first_packet_must_be_connect(env):
    rows = [("PUBLISH", publish("t", b"x")), ("PUBACK", ack(PUBACK, 1)), ("PUBREL", ack(PUBREL, 1)),
            ("SUBSCRIBE", subscribe(1, [("t", 0)])), ("UNSUBSCRIBE", unsubscribe(1, ["t"])), ("PINGREQ", pingreq()),
            ("DISCONNECT", disconnect()), ("AUTH", auth(0x18, {"auth_method": "m"})),
            ("CONNACK", b"\x20\x03\x00\x00\x00"), ("type 0", b"\x00\x00"), ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
            ("TLS", b"\x16\x03\x01\x00\x05hello")]
    for name, data in rows:
        with env.case(name):
            c = env.raw().send(data)
            check(c.receive() is None, "no packet may answer")


@covers("MQTT-3.1.0-1")
def test_nothing_before_connect_is_processed(env):
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    c = env.raw().send(publish(env.topic("t"), b"x") + connect("", will=Will(env.topic("t"), "will")))
    check(c.receive() is None, "no packet may answer")
    sub.expect_nothing()


@covers("MQTT-3.1.0-2", "MQTT-3.2.0-2")
def test_second_connect(env):
    for name, other in (("the same", False), ("another client id", True)):
        with env.case(name):
            c = env.client()
            c.send(connect("another" if other else c.client_id))
            c.expect_closed(0x82)


@covers("MQTT-3.2.0-2")
def test_second_connect_in_one_write(env):
    c = env.raw().send(connect("", will=None) + connect(""))
    c.expect(CONNACK, reason=0)
    c.expect_closed(0x82)


def expect_refused_in_any_form(c):
    """The end, perhaps after a CONNACK in the words of whichever version the server chose to answer in."""
    data = b""
    c.sock.settimeout(TIMEOUT)
    while True:
        try:
            more = c.sock.recv(4096)
        except ConnectionResetError:
            break
        if not more:
            break
        data += more
    known = data == b"" or data == b"\x20\x02\x00\x01" or (data[0] == 0x20 and data[2] == 0 and data[3] == 0x84)
    check(known, "%s is no refusal for the protocol version" % data.hex())


@covers("MQTT-3.1.2-1", "MQTT-3.1.2-2")
def test_protocol_name_and_version(env):
    rows = [("mqtt", 5), ("MQTX", 5), ("MQT", 5), ("MQTTT", 5), ("", 5), ("MQIsdp", 5), ("MQTT", 6), ("MQTT", 2),
            ("MQTT", 0), ("MQTT", 255), ("MQIsdp", 4), ("HTTP", 5)]
    for name, level in rows:
        with env.case("%r level %d" % (name, level)):
            c = env.raw()
            c.send(connect("", name=name, level=level))
            expect_refused_in_any_form(c)


@covers("MQTT-3.1.2-3")
def test_reserved_connect_flag(env):
    for flags in (0x01, 0x03):
        env.raw().send(connect("x", flags=flags)).expect_refused(0x81)


@covers("MQTT-3.1.2-16", "MQTT-3.1.2-17", "MQTT-3.1.2-18", "MQTT-3.1.2-19", "MQTT-3.1.3-1", "MQTT-3.1.4-1")
def test_flags_and_payload_must_agree(env):
    rows = [
        ("user name flag, no user name", connect("x", flags=0x82)),
        ("user name without the flag", connect("x", user="u", flags=0x02)),
        ("password flag, no password", connect("x", flags=0x42)),
        ("password without the flag", connect("x", password="p", flags=0x02)),
        ("both flags, user name alone", connect("x", user="u", flags=0xC2)),
        ("user name flag, both there", connect("x", user="u", password="p", flags=0x82)),
        ("will flag, no will", connect("x", flags=0x06)),
        ("bytes left over", packet(0x10, connect("x")[2:] + b"\x00")),
        ("client id cut short", packet(0x10, connect("xyz")[2:-1])),
    ]
    for name, data in rows:
        with env.case(name):
            env.raw().send(data).expect_refused(MALFORMED)


@covers("MQTT-3.1.3-3")
def test_client_id_must_be_there(env):
    env.raw().send(packet(0x10, connect("")[2:-2])).expect_refused(MALFORMED)


@covers("MQTT-3.1.4-1")
def test_connect_cut_at_each_byte(env):
    """The packet says it is whole, but its fields are not."""
    body = connect("client", props={"receive_max": 10, "user_property": [("a", "b")]},
                   will=Will("w", "payload", props={"will_delay": 1}), user="u", password="p")[2:]
    for length in range(7, len(body)):
        with env.case("%d bytes of %d" % (length, len(body))):
            env.raw().send(packet(0x10, body[:length])).expect_refused(MALFORMED)


@covers("MQTT-3.1.4-1")
def test_bad_properties(env):
    def twice(name, value):
        return one_property(name, value) * 2
    rows = [
        ("receive maximum 0", {"receive_max": 0}), ("maximum packet size 0", {"maximum_packet_size": 0}),
        ("request problem information 2", {"request_problem_info": 2}),
        ("request response information 2", {"request_response_info": 2}),
        ("authentication data without method", {"auth_data": b"x"}),
        ("session expiry twice", twice("session_expiry", 1)), ("receive maximum twice", twice("receive_max", 5)),
        ("maximum packet size twice", twice("maximum_packet_size", 500)),
        ("topic alias maximum twice", twice("topic_alias_max", 5)),
        ("request problem information twice", twice("request_problem_info", 1)),
        ("request response information twice", twice("request_response_info", 1)),
        ("authentication method twice", twice("auth_method", "m")),
        ("payload format, which is not of CONNECT", {"payload_format": 1}),
        ("topic alias, which is not of CONNECT", {"topic_alias": 1}),
        ("will delay, which is of the will", {"will_delay": 1}),
        ("server keep alive, which is of CONNACK", {"server_keep_alive": 1}),
        ("unknown identifier 0x7f", b"\x7f\x00"), ("unknown identifier 0", b"\x00\x00"),
        ("identifier of two bytes", b"\x91\x01\x00\x00\x00\x00"), ("value cut short", b"\x11\x00\x00"),
    ]
    for name, props in rows:
        with env.case(name):
            env.raw().send(connect("x", props=props)).expect_refused(MALFORMED)


@covers("MQTT-3.1.3-5")
def test_plain_client_ids(env):
    alphabet = letters.digits + letters.ascii_letters
    for client_id in ("q", alphabet[:23], alphabet[23:46], alphabet[39:], "0" * 23):
        with env.case(client_id):
            env.client(client_id)


@covers("MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-16")
def test_assigned_client_ids(env):
    given = set()
    for clean in (True, False) * 8:
        c = env.client("", clean=clean, props={"session_expiry": 5}, session_present=False)
        name = c.connack.props.get("assigned_client_id")
        check(name, "CONNACK without Assigned Client Identifier")
        check(name not in given, "the same identifier for two sessions")
        given.add(name)
    for name in list(given)[:3]:
        again = env.client(name, clean=False, props={"session_expiry": 0}, session_present=True)
        check("assigned_client_id" not in again.connack.props, "an identifier assigned to who brought one")


@covers("MQTT-3.1.3-2")
def test_client_ids_are_told_apart(env):
    base = env.client_id("id")
    names = [base, base.upper(), base + " ", base + "\u00e9", base + "/", base + "1"]
    for name in names:
        env.client(name, clean=False, props={"session_expiry": 10}, session_present=False).subscribe(
            env.topic(name.encode().hex()), qos=1)
    pub = env.client()
    for name in names:
        with env.case(name):
            pub.publish(env.topic(name.encode().hex()), name, qos=1)
    for c, name in zip(env.clients[:len(names)], names):
        with env.case("delivery to %r" % name):
            c.expect_publish(env.topic(name.encode().hex()), name)
            c.expect_nothing(0)


@covers("MQTT-3.1.3-8", "MQTT-3.1.4-2", "MQTT-3.2.2-7")
@settings({"mqtt.max_client_id_size": 40})
def test_client_id_limit(env):
    env.client("i" * 40)
    env.raw().send(connect("i" * 41)).expect_refused(0x85)


@covers("MQTT-3.1.4-3", "MQTT-3.1.2-8")
def test_takeover(env):
    for number in range(8):
        name = env.client_id("taken")
        old = env.client(name)
        new = env.client(name)
        with env.case("client %d" % number):
            old.expect_closed(0x8E)
            new.ping()


@covers("MQTT-3.1.4-3", "MQTT-3.1.2-5")
def test_takeover_moves_the_session(env):
    name, pub = env.client_id("moved"), env.client()
    old = env.client(name, clean=False, props={"session_expiry": 60})
    old.subscribe(env.topic("#"), qos=2)
    for round_number in range(5):
        pub.publish(env.topic("t"), b"open%d" % round_number, qos=1)
        pid = old.expect_publish(env.topic("t"), b"open%d" % round_number, qos=1, dup=False, ack=False).pid
        new = env.client(name, clean=False, props={"session_expiry": 60}, session_present=True)
        old.expect_closed(0x8E)
        p = new.expect_publish(env.topic("t"), b"open%d" % round_number, qos=1, dup=True)
        check_equal(p.pid, pid, "packet identifier")
        old = new


@covers("MQTT-3.1.4-4", "MQTT-3.1.2-4")
def test_takeover_with_clean_start(env):
    name, pub = env.client_id("clean"), env.client()
    old = env.client(name, props={"session_expiry": 60})
    old.subscribe(env.topic("#"), qos=1)
    new = env.client(name, clean=True, session_present=False)
    old.expect_closed(0x8E)
    pub.publish(env.topic("t"), "x", qos=1)
    new.expect_nothing()


@covers("MQTT-3.1.4-5", "MQTT-3.2.0-1", "MQTT-3.1.4-6")
def test_packets_that_follow_at_once(env):
    """A client need not wait for CONNACK; what it sends is answered after it."""
    c = env.raw()
    c.send(connect(c.client_id) + subscribe(1, [(env.topic("t"), 1)]) + publish(env.topic("t"), b"x", 1, pid=2)
           + pingreq())
    c.expect(CONNACK, reason=0)
    c.expect(SUBACK, pid=1)
    c.expect_later(PUBLISH, topic=env.topic("t"), payload=b"x")
    c.expect_later(PUBACK, pid=2)
    c.expect_later(PINGRESP)


@covers("MQTT-3.1.4-6")
def test_nothing_after_a_refused_connect_is_processed(env):
    sub = env.client()
    sub.subscribe(env.topic("#"), qos=1)
    c = env.raw()
    c.send(connect("x", will=Will(env.topic("w"), "will"), props={"receive_max": 0})
           + publish(env.topic("t"), b"x", retain=True) + connect("y"))
    c.expect_refused(MALFORMED)
    sub.expect_nothing()
    late = env.client()
    late.subscribe(env.topic("#"))
    late.expect_nothing()


@covers("MQTT-3.1.2-22", "MQTT-3.2.2-22")
def test_keep_alive_timeout(env):
    c = env.client(keep_alive=1)
    start = time.monotonic()
    c.expect_closed(0x8D, timeout=4)
    check(1.4 <= time.monotonic() - start <= 2.8, "closed after %.2f s" % (time.monotonic() - start))


@covers("MQTT-3.1.2-22")
def test_keep_alive_is_renewed(env):
    """Each packet counts, whatever its type."""
    topic = env.topic("t")
    c = env.client(keep_alive=1)
    for data, answer in ((pingreq(), PINGRESP), (publish(topic, b"x", 1, pid=1), PUBACK),
                         (subscribe(2, [(topic, 0)]), SUBACK), (publish(env.topic("n"), b"x"), None),
                         (unsubscribe(3, [topic]), UNSUBACK)):
        time.sleep(1)
        c.send(data)
        if answer:
            c.expect(answer)
    time.sleep(1)
    c.ping()


@covers("MQTT-3.1.2-22")
def test_keep_alive_counts_what_comes_not_what_goes(env):
    """Messages to the client do not keep it alive, and half a packet does not either."""
    sub, pub = env.client(keep_alive=1), env.client()
    sub.subscribe(env.topic("#"))
    start = time.monotonic()
    half = env.client(keep_alive=1)
    half.send(publish(env.topic("t"), b"x" * 50)[:20])
    while time.monotonic() - start < 2.6:
        pub.publish(env.topic("t"), "x")
        time.sleep(0.2)
    half.expect_closed(0x8D)
    while True:
        p = sub.receive()
        if p is None or p.type != PUBLISH:
            break
    check(p is not None and p.type == DISCONNECT and p.reason == 0x8D, "wanted DISCONNECT 0x8d, got %r" % p)


@covers("MQTT-3.1.2-22")
def test_keep_alive_zero(env):
    c = env.client(keep_alive=0)
    time.sleep(2)
    c.ping()


@covers("MQTT-3.1.2-28")
@settings({"mqtt.response_information": "reply/to"})
def test_response_information(env):
    def told(props):
        return env.client(props=props).connack.props.get("response_info")
    check_equal(told({"request_response_info": 0}), None, "response information not asked for")
    check_equal(told(None), None, "response information by default")
    check_equal(told({"request_response_info": 1}), "reply/to", "response information")


@covers("MQTT-3.1.2-29")
def test_no_problem_information(env):
    """Answers that would carry a reason: none does on request."""
    c = env.client(props={"request_problem_info": 0})
    answers = [
        c.publish(env.topic("nobody"), "x", qos=1), c.publish(env.topic("nobody"), "x", qos=2),
        c.unsubscribe([env.topic("none")], reasons=[0x11]), c.send(ack(PUBREL, 77)).expect(PUBCOMP),
        c.send(ack(PUBREC, 78)).expect(PUBREL),
    ]
    c.send(subscribe(9, [("a/#/b", 0)]))
    last = c.receive()
    if last.type == SUBACK:  # else DISCONNECT, which may say why
        answers.append(last)
    for p in answers:
        check("reason_string" not in p.props and "user_property" not in p.props, "%r explains itself" % p)


@covers("MQTT-4.12.0-6")
def test_no_authentication_method_in_connack(env):
    check("auth_method" not in env.client().connack.props, "an authentication method nobody asked for")
