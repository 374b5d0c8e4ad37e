"""Large payloads to several subscribers who read slowly: the broker may keep one copy for all of them, and send it in
parts."""

import socket
import time

from kit import check_equal, covers, settings
from lib.mqtt import *  # noqa: F403

LARGE = {"mqtt.max_packet_size": "2MiB", "limits.max_outbox_bytes": "16MiB"}
MESSAGES = 6


def payloads(size):
    """Different ones, a small one between each two, so that a byte from the wrong place shows."""
    for number in range(MESSAGES):
        seed = b"%d:" % number
        yield (seed + bytes((n * 7 + number) % 251 for n in range(997)) * (size // 997 + 1))[:size]
        yield b"small %d" % number


def slow(env, version, qos):
    """A subscriber whose system takes little at a time."""
    c = env.new(version=version).dial()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    c.open()
    c.subscribe(env.topic("t/#"), qos=qos)
    return c


def sip(c, times, size):
    """Read a little now and then, inside packets, if there is something."""
    c.sock.settimeout(0.1)
    for _ in range(times):
        try:
            c.buffer += c.sock.recv(size)
        except socket.timeout:
            return
        time.sleep(0.002)


def publish_all(pub, topic, size, qos):
    for payload in payloads(size):
        pub.publish(topic, payload, qos=qos, ack=False)


@covers("MQTT-4.3.1-1", "MQTT-4.3.2-1", "MQTT-4.5.0-1", "MQTT-4.6.0-6")
@settings(LARGE)
def test_fan_out_to_slow_readers(env):
    for size in (2047, 2048, 65536, 1 << 20):
        for qos in (0, 1):
            with env.case("%d bytes QoS %d" % (size, qos)):
                topic = env.topic("t", "%d-%d" % (size, qos))
                subs = [slow(env, (5, 4)[n % 2], qos) for n in range(5)]
                pub = env.client()
                publish_all(pub, topic, size, qos)
                for number, sub in enumerate(subs):
                    sip(sub, 3 * number, 100 + 777 * number)
                for payload in payloads(size):
                    for sub in subs:
                        sub.expect_publish(topic, payload, qos=qos)
                for sub in subs:
                    sub.ping()
                    sub.disconnect()


@covers("MQTT-4.3.2-1", "MQTT-4.4.0-1")
@settings(LARGE)
def test_readers_that_leave(env):
    """In the middle of a payload: the others are not touched, and the session gets it again from its beginning."""
    for qos in (0, 1):
        with env.case("QoS %d" % qos):
            topic = env.topic("t", "leave%d" % qos)
            leaving = [slow(env, 5, qos) for _ in range(3)]
            again = env.client(clean=False, props={"session_expiry": 60})
            again.subscribe(env.topic("t/#"), qos=1)
            stays, pub = slow(env, 5, qos), env.client()
            publish_all(pub, topic, 1 << 20, qos)
            for number, c in enumerate(leaving):
                sip(c, number, 5000)
                c.abort()
            sip(again, 3, 5000)
            again.abort()
            for payload in payloads(1 << 20):
                stays.expect_publish(topic, payload, qos=qos)
            if qos == 1:
                again.open(clean=False, props={"session_expiry": 60}, session_present=True)
                for payload in payloads(1 << 20):
                    p = again.expect_publish(topic, payload, qos=1)
                    check_equal(p.payload, payload, "what came again")
            for _ in range(10):
                pub.ping() if qos == 0 else pub.expect(PUBACK)


@covers("MQTT-4.3.1-1")
@settings({**LARGE, "limits.max_outbox_bytes": "256KiB"})
def test_outbox_bound_counts_large_payloads(env):
    """Who does not read loses QoS 0 messages above the bound, whole ones; who reads gets all."""
    topic = env.topic("t", "bound")
    lazy, eager, pub = slow(env, 5, 0), env.client(), env.client()
    eager.subscribe(topic)
    for number in range(400):
        pub.publish(topic, b"%06d" % number + b"x" * 65530)
        eager.expect_publish(topic, b"%06d" % number + b"x" * 65530)
    got = []
    while True:
        try:
            p = lazy.receive(0.5)
        except Failure:
            break
        got.append(int(p.payload[:6]))
        check_equal(len(p.payload), 65536, "length")
    check_equal(got, sorted(set(got)), "order")
    check_equal(got[0], 0, "the first")
    if len(got) > 200:
        raise Failure("%d of 400 messages were kept for a client that does not read" % len(got))


@covers("MQTT-4.3.1-1", "MQTT-4.6.0-6")
@settings({"limits.max_outbox_bytes": "64MiB"})
def test_small_and_large_ones_keep_their_order(env):
    """Small messages of QoS 0 may travel together inside the broker, large ones alone; to subscribers everywhere, more at once
    than fit on one way."""
    sizes = (8, 900, 1100, 20, 3000, 60, 1024, 5)
    subs = [env.client() for _ in range(6)]
    for sub in subs:
        sub.subscribe(env.topic("t"), qos=0)
    pub = env.client()
    count = 3000
    pub.send(b"".join(publish(env.topic("t"), (b"%05d" % n).ljust(sizes[n % len(sizes)], b"."), 0) for n in range(count)))
    for sub in subs:
        got = [int(sub.receive(timeout=20).payload[:5]) for _ in range(count)]
        check_equal(got, list(range(count)), "order")
