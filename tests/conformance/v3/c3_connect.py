"""MQTT 3.1.1, chapters 3.1 and 3.2: CONNECT and CONNACK, without sessions and wills."""

import struct
import time

from kit import check, check_equal, covers, settings
from lib.mqtt import (
    CONNACK, PINGRESP, PUBLISH, SUBACK, Failure, Will, ack, connect, disconnect, packet, pingreq, publish, string,
    subscribe, unsubscribe)

V = 4
ALNUM = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def body(name="MQTT", level=4, flags=2, keep_alive=60, payload=string("x")):
    return packet(0x10, string(name) + bytes([level, flags]) + struct.pack(">H", keep_alive) + payload)


def read_to_end(c):
    """All bytes until the server closes."""
    got = b""
    while True:
        data = c.sock.recv(4096)
        if not data:
            return got
        got += data


@covers("MQTT311-3.1.0-1")
def test_the_first_packet_must_be_connect(env):
    topic = env.topic("early")
    watcher = env.client(version=V)
    watcher.subscribe(topic)
    rows = [("PUBLISH", publish(topic, b"x", version=V)), ("PUBLISH QoS 1", publish(topic, b"x", 1, pid=1, version=V)),
            ("SUBSCRIBE", subscribe(1, [(topic, 0)], version=V)), ("UNSUBSCRIBE", unsubscribe(1, [topic], version=V)),
            ("PINGREQ", pingreq()), ("DISCONNECT", disconnect()), ("PUBACK", ack(4, 1)), ("PUBREL", ack(6, 1)),
            ("CONNACK", b"\x20\x02\0\0"), ("text", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")]
    for name, data in rows:
        with env.case(name):
            c = env.raw(V)
            c.send(data)
            c.expect_closed()
    watcher.expect_nothing()


@covers("MQTT311-3.1.0-2")
def test_a_second_connect_ends_the_connection(env):
    watcher = env.client(version=V)
    watcher.subscribe(env.topic("#"))
    for name, client_id in [("the same client id", None), ("another client id", env.client_id("other"))]:
        with env.case(name):
            c = env.client(version=V, will=Will(env.topic("will"), b"violation"))
            c.send(connect(client_id or c.client_id, V))
            c.expect_closed()
            watcher.expect_publish(env.topic("will"), b"violation")


@covers("MQTT311-3.1.2-1")
def test_wrong_protocol_names(env):
    for name in ("MQTX", "mqtt", "Mqtt", "MQT", "MQTTT", "", "MQIsdp", "MQTT\u00e4", "HTTP"):
        with env.case(repr(name)):
            c = env.raw(V)
            c.send(body(name=name))
            c.expect_refused()


@covers("MQTT311-3.1.2-2", "MQTT311-3.2.2-4", "MQTT311-3.2.2-5")
def test_unsupported_protocol_levels(env):
    """Above 5 a server that knows 5.0 may say so in that version's words; no 3.1.1 client sends such a level."""
    for level in (0, 1, 2, 3, 6, 7, 127, 255):
        with env.case("level %d" % level):
            c = env.raw(V)
            c.send(body(level=level))
            got = read_to_end(c)
            words_of_5 = level > 5 and got[:1] == b"\x20" and got[2:4] == b"\0\x84"
            check(got == b"\x20\x02\x00\x01" or words_of_5, "the answer is %r" % got)


@covers("MQTT311-3.1.2-3", "MQTT311-3.1.4-1", "MQTT311-3.2.2-6")
def test_connects_that_do_not_conform(env):
    """Each ends the connection without a CONNACK."""
    rows = [
        ("reserved flag", body(flags=0x03)),
        ("reserved flag alone", body(flags=0x01)),
        ("nothing at all", packet(0x10, b"")),
        ("name only", packet(0x10, string("MQTT"))),
        ("name cut short", packet(0x10, b"\0\4MQ")),
        ("no flags", packet(0x10, string("MQTT") + b"\4")),
        ("no keep alive", packet(0x10, string("MQTT") + b"\4\2")),
        ("half a keep alive", packet(0x10, string("MQTT") + b"\4\2\0")),
        ("no client id", body(payload=b"")),
        ("client id cut short", body(payload=b"\0\5ab")),
        ("a byte too many", body(payload=string("x") + b"\0")),
    ]
    for name, data in rows:
        with env.case(name):
            c = env.raw(V)
            c.send(data)
            c.expect_closed()


@covers("MQTT311-3.1.2-9", "MQTT311-3.1.2-11", "MQTT311-3.1.2-13", "MQTT311-3.1.2-14", "MQTT311-3.1.2-15",
        "MQTT311-3.1.2-18", "MQTT311-3.1.2-19", "MQTT311-3.1.2-20", "MQTT311-3.1.2-21", "MQTT311-3.1.2-22",
        "MQTT311-3.1.3-3", "MQTT311-3.1.4-1")
def test_connect_flags_and_payload_must_agree(env):
    ident, will, user, pw = string("flagged"), string("w/t") + string("bye"), string("user"), string("secret")
    rows = [
        ("will QoS 1 without will flag", 0x0A, ident), ("will QoS 2 without will flag", 0x12, ident),
        ("will QoS 3 without will flag", 0x1A, ident), ("will retain without will flag", 0x22, ident),
        ("will QoS 3", 0x1E, ident + will), ("will flag without will", 0x06, ident),
        ("will flag without will message", 0x06, ident + string("w/t")),
        ("will without will flag", 0x02, ident + will),
        ("user name flag without user name", 0x82, ident), ("user name without flag", 0x02, ident + user),
        ("password flag without password", 0xC2, ident + user), ("password without flag", 0x82, ident + user + pw),
        ("password without user name", 0x42, ident + pw), ("user name cut short", 0x82, ident + b"\0\5ab"),
        ("all flags, no will", 0xC6, ident + user + pw),
        ("empty will topic", 0x06, ident + string("") + string("x")),
        ("will topic with #", 0x06, ident + string("a/#") + string("x")),
        ("will topic with +", 0x06, ident + string("+/a") + string("x")),
    ]
    for name, flags, payload in rows:
        with env.case(name):
            c = env.raw(V)
            c.send(body(flags=flags, payload=payload))
            c.expect_closed()


@covers("MQTT311-3.1.3-1", "MQTT311-3.1.2-9", "MQTT311-3.1.2-19", "MQTT311-3.1.2-21")
def test_connect_with_every_field(env):
    watcher = env.client(version=V)
    watcher.subscribe(env.topic("will"), qos=2)
    for qos in (0, 1, 2):
        with env.case("will QoS %d" % qos):
            c = env.raw(V)
            payload = string("full%d" % qos) + string(env.topic("will")) + string(b"\0\xff will") + string("u") + \
                string(b"\0\xff")
            c.send(body(flags=0xC6 | qos << 3, payload=payload))
            c.expect(CONNACK, reason=0, session_present=False)
            c.abort()
            watcher.expect_publish(env.topic("will"), b"\0\xff will", qos=qos)
    with env.case("empty user name, empty password, empty will message"):
        c = env.raw(V)
        c.send(body(flags=0xC6, payload=string("full") + string(env.topic("will")) + string("") * 3))
        c.expect(CONNACK, reason=0)
        c.abort()
        watcher.expect_publish(env.topic("will"), b"")


@covers("MQTT311-3.1.3-5", "MQTT311-3.1.4-4", "MQTT311-3.1.3-2")
def test_client_ids_that_must_be_allowed(env):
    for client_id in ["a", "0", ALNUM[:23], ALNUM[23:46], ALNUM[-23:], "Z" * 23]:
        with env.case(client_id):
            c = env.client(client_id, V)
            check_equal(c.connack.raw, b"\x20\x02\0\0", "the CONNACK")


@covers("MQTT311-3.1.3-2")
def test_longer_client_ids_and_other_characters(env):
    for client_id in ["x" * 24, "x" * 200, "a/b", "a b", "+#$", "\u65e5\u672c", "\U0001f426"]:
        with env.case(client_id):
            c = env.client(client_id, V, clean=False)
            c.reopen(session_present=True)
            c.reopen(clean=True, session_present=False)


@covers("MQTT311-3.1.3-6", "MQTT311-3.2.2-1")
def test_empty_client_ids_are_made_unique(env):
    clients = [env.client("", V) for _ in range(5)]
    for i, c in enumerate(clients):
        c.subscribe(env.topic(str(i)))
    pub = env.client(version=V)
    for i, c in enumerate(clients):
        pub.publish(env.topic(str(i)), b"%d" % i, qos=1)
        c.expect_publish(payload=b"%d" % i)
    for c in clients:
        c.expect_nothing()


@covers("MQTT311-3.1.3-7", "MQTT311-3.1.3-8", "MQTT311-3.1.3-9", "MQTT311-3.2.2-4", "MQTT311-3.2.2-5")
def test_an_empty_client_id_needs_clean_session(env):
    c = env.raw(V)
    c.send(connect("", V, clean=False))
    check_equal(c.expect_refused(2).raw, b"\x20\x02\x00\x02", "the CONNACK")


@covers("MQTT311-3.1.3-9")
@settings({"mqtt.max_client_id_size": "30"})
def test_a_client_id_above_the_limit_is_rejected(env):
    env.client("x" * 30, V)
    c = env.raw(V)
    c.send(connect("x" * 31, V))
    check_equal(c.expect_refused(2).raw, b"\x20\x02\x00\x02", "the CONNACK")


@covers("MQTT311-3.1.4-5")
def test_nothing_after_a_refused_connect_is_processed(env):
    watcher = env.client(version=V)
    watcher.subscribe(env.topic("#"))
    rows = [("unsupported level", body(level=2)), ("empty client id", connect("", V, clean=False)),
            ("does not conform", body(flags=0x03))]
    for name, data in rows:
        with env.case(name):
            c = env.raw(V)
            c.send(data + publish(env.topic("after"), b"x", version=V)
                   + publish(env.topic("after"), b"x", retain=True, version=V))
            c.expect_refused()
    watcher.expect_nothing()
    late = env.client(version=V)
    late.subscribe(env.topic("#"))
    late.expect_nothing()


@covers("MQTT311-3.2.0-1", "MQTT311-3.1.4-4")
def test_packets_may_follow_connect_at_once(env):
    topic = env.topic("t")
    holder = env.client(version=V)
    holder.publish(topic, b"kept", qos=1, retain=True)
    c = env.raw(V)
    c.send(connect(c.client_id, V) + subscribe(5, [(topic, 0)], version=V) + pingreq())
    c.expect(CONNACK, reason=0)
    c.expect_later(SUBACK, pid=5, reasons=[0])
    p = c.expect_later(PUBLISH, payload=b"kept", retain=True)
    check_equal(p.topic, topic, "the topic")
    c.expect_later(PINGRESP)


@covers("MQTT311-3.1.4-2", "MQTT311-3.1.2-8")
def test_a_client_that_connects_again_replaces_the_first(env):
    watcher = env.client(version=V)
    watcher.subscribe(env.topic("will"))
    for clean in (True, False):
        with env.case("clean session %d" % clean):
            client_id = env.client_id("twin")
            first = env.client(client_id, V, clean=clean, will=Will(env.topic("will"), b"replaced"))
            second = env.client(client_id, V, clean=clean)
            first.expect_closed()
            watcher.expect_publish(env.topic("will"), b"replaced")
            second.ping()
            third = env.client(client_id, V, clean=True)
            second.expect_closed()
            third.ping()


@covers("MQTT311-3.1.4-2")
def test_many_takeovers_leave_one_connection(env):
    client_id = env.client_id("fought")
    clients = [env.raw(V, client_id) for _ in range(20)]
    for c in clients:
        c.send(connect(client_id, V))
    alive = []
    for c in clients:
        try:
            p = c.receive()
            if p is not None:
                check_equal(p.type, CONNACK, "the first packet")
                c.expect_closed(timeout=0.5)
        except Failure as e:
            check("nothing came" in str(e), str(e))
            alive.append(c)
    check_equal(len(alive), 1, "connections left")
    alive[0].ping()


@covers("MQTT311-3.1.2-24")
def test_keep_alive_ends_a_silent_connection(env):
    watcher = env.client(version=V, keep_alive=0)
    watcher.subscribe(env.topic("will"))
    c = env.client(version=V, keep_alive=1, will=Will(env.topic("will"), b"silent"))
    start = time.monotonic()
    c.expect_closed(timeout=5)
    seconds = time.monotonic() - start
    check(1.3 <= seconds <= 3.5, "closed after %.2f s" % seconds)
    watcher.expect_publish(env.topic("will"), b"silent")


@covers("MQTT311-3.1.2-24")
def test_any_packet_keeps_a_connection_alive(env):
    c, sub = env.client(version=V, keep_alive=1), env.client(version=V, keep_alive=0)
    sub.subscribe(env.topic("t"))
    for i in range(6):
        time.sleep(0.8)
        if i % 2:
            c.ping()
        else:
            c.publish(env.topic("t"), b"x")
            sub.expect_publish(payload=b"x")
    c.ping()


@covers("MQTT311-3.1.2-24")
def test_what_is_sent_does_not_keep_a_connection_alive(env):
    """Only packets from the client count: a stream of deliveries to it must not hide its silence."""
    c, pub = env.client(version=V, keep_alive=1), env.client(version=V)
    c.subscribe(env.topic("t"))
    start = time.monotonic()
    while not c.eof and time.monotonic() - start < 6:
        pub.publish(env.topic("t"), b"x")
        time.sleep(0.05)
        try:
            c.receive_new(0.1)
        except Failure:
            pass
    seconds = time.monotonic() - start
    check(c.eof and seconds <= 4.5, "open after %.1f s" % seconds)


@covers("MQTT311-3.1.2-24")
def test_bytes_without_a_packet_do_not_keep_a_connection_alive(env):
    c = env.client(version=V, keep_alive=1)
    data = publish(env.topic("t"), b"x" * 100, version=V)
    start = time.monotonic()
    for i in range(len(data) - 1):
        c.send(data[i:i + 1])
        try:
            c.receive_new(0.1)
        except Failure:
            continue
        break
    seconds = time.monotonic() - start
    check(c.eof and 1.3 <= seconds <= 4.5, "open after %.1f s" % seconds)


@covers("MQTT311-3.1.2-24")
def test_keep_alive_zero_means_none(env):
    c = env.client(version=V, keep_alive=0)
    time.sleep(3)
    c.ping()
