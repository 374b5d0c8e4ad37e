"""Storms: a crowd that comes, quarrels and vanishes; readers that do not read; connections that never become clients.

What must hold: afterwards descriptors, clients, subscriptions and memory are where they were, and who behaves loses
nothing through those who do not. The crowd is as large as the limit on open files allows, 10,000 at most; source
addresses are spread over 127.1.0.0/16, as a real crowd's would be.
"""

import os
import resource
import socket
import struct
import time

from kit import Skip, check, check_equal, eventually
from lib.mqtt import PUBLISH, Client, Failure, ack, connect, decode, pingreq, publish, subscribe
from sys_topics import SysTopics

CROWD_MAX = 10000
RSS_MARGIN = 0.10  # of what the first round left, and this much besides for the allocator's habits:
RSS_MARGIN_BYTES = 2 << 20
MIB = 1 << 20


def crowd_size():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    size = min(CROWD_MAX, hard // 2 - 500 if hard != resource.RLIM_INFINITY else CROWD_MAX)
    if size < 100:
        raise Skip("at most %d open files are allowed here" % hard)
    return size


def descriptors(broker):
    return len(os.listdir("/proc/%d/fd" % broker.pid))


def rss_bytes(broker):
    """Anonymous memory that is resident."""
    with open("/proc/%d/status" % broker.pid, encoding="ascii") as f:
        for line in f:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise Skip("this kernel does not tell RssAnon")


def memory_tells(ctx):
    """A sanitizer keeps freed memory for a while, so that its size says nothing about ours."""
    if ctx.opts.mosquitto:
        return True
    with open(ctx.opts.tern, "rb") as f:
        binary = f.read()
    return b"__asan_init" not in binary and b"__tsan_init" not in binary


def dial(port, number):
    """A connection from one of many source addresses."""
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect()
    s.bind(("127.1.%d.%d" % (number // 250 % 250, 1 + number % 250), 0))
    s.settimeout(10)
    s.connect(("127.0.0.1", port))
    return s


def read_packets(s, count, version):
    """So many packets from a plain socket."""
    buffer, got = bytearray(), []
    while len(got) < count:
        data = s.recv(4096)
        check(data, "closed after %r" % got)
        buffer += data
        while len(buffer) >= 2:
            p = decode(buffer, version)
            if p is None:
                break
            got.append(p)
    return got


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def version_of(number):
    return 5 if number % 2 else 4


def crowd_arrives(port, count, first=0):
    """Connect in batches, so that CONNECT packets meet each other; each client has one subscription."""
    crowd = []
    for start in range(0, count, 500):
        batch = [(i, dial(port, i)) for i in range(start, min(start + 500, count))]
        for i, s in batch:
            name = "crowd-%d" % (first + i)
            s.sendall(connect(name, version_of(i), keep_alive=0)
                      + subscribe(1, [("crowd/%d" % i, 0)], version=version_of(i)))
        for i, s in batch:
            connack, suback = read_packets(s, 2, version_of(i))
            check(connack.reason == 0 and suback.reasons == [0], "client %d: %r %r" % (i, connack, suback))
        crowd += [s for _, s in batch]
    return crowd


def crowd_is_replaced(port, crowd, count):
    """Other connections take over the client ids of the first `count`; the old ones must be closed by the broker."""
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        fresh = [(i, dial(port, i)) for i in numbers]
        for i, s in fresh:
            s.sendall(connect("crowd-%d" % i, version_of(i), keep_alive=0))
        for i, s in fresh:
            connack = read_packets(s, 1, version_of(i))[0]
            check_equal(connack.reason, 0, "CONNACK of the second client %d" % i)
        for i, s in fresh:
            last = b""
            try:
                while True:
                    data = crowd[i].recv(4096)
                    if not data:
                        break
                    last += data
            except ConnectionResetError:
                pass
            check(version_of(i) == 4 or last[:3] == b"\xe0\x02\x8e" or last[2:3] == b"\x8e",
                  "client %d was told %r, wanted DISCONNECT 0x8E" % (i, last))
            crowd[i].close()
            crowd[i] = s


def crowd_pings(crowd):
    for s in crowd:
        s.sendall(pingreq())
    for s in crowd:
        check_equal(s.recv(2), b"\xd0\0", "PINGRESP")


def crowd_vanishes(crowd):
    """Without DISCONNECT: half by reset, half by closing."""
    for i, s in enumerate(crowd):
        if i % 2:
            s.close()
        else:
            reset(s)


def test_a_crowd(ctx):
    count = crowd_size()
    broker = ctx.broker({"sys_interval": "1s", "log.level": "error"})
    topics = SysTopics(broker.port)
    topics.until("the first statistics", lambda t: "subscriptions/count" in t.values)
    topics.fresh(2)
    subscriptions, clients = topics.number("subscriptions/count"), topics.number("clients/connected")
    descriptors_before, rss = descriptors(broker), []
    for _ in range(3):
        crowd = crowd_arrives(broker.port, count)
        topics.until("the crowd is counted", lambda t: t.number("clients/connected") == clients + count
                     and t.number("subscriptions/count") == subscriptions + count)
        crowd_is_replaced(broker.port, crowd, count // 5)
        crowd_pings(crowd)
        topics.until("the crowd is counted after the takeovers",
                     lambda t: t.number("clients/connected") == clients + count
                     and t.number("subscriptions/count") == subscriptions + count - count // 5)
        crowd_vanishes(crowd)
        topics.until("the crowd is gone", lambda t: t.number("clients/connected") == clients
                     and t.number("subscriptions/count") == subscriptions, 30)
        eventually("descriptors are as before (%d, now %d)" % (descriptors_before, descriptors(broker)),
                   lambda: descriptors(broker) == descriptors_before, 15)
        time.sleep(1)  # the last memory goes back in the turn after the last descriptor
        rss.append(rss_bytes(broker))
    bound = rss[0] * (1 + RSS_MARGIN) + RSS_MARGIN_BYTES
    check(max(rss[1:]) <= bound or not memory_tells(ctx),
          "resident memory after each round: %r MiB" % [r // MIB for r in rss])
    topics.close()


def test_one_client_id_fought_over(ctx):
    """Hundreds of connections with one client id at once: one is left, and only one session."""
    broker = ctx.broker({"sys_interval": "1s", "log.level": "error"})
    topics = SysTopics(broker.port)
    topics.fresh(2)
    clients = topics.number("clients/connected")
    for _ in range(3):
        crowd = [dial(broker.port, i) for i in range(300)]
        for i, s in enumerate(crowd):
            s.sendall(connect("fought-over", version_of(i), clean=False, keep_alive=0))
        topics.until("one is left", lambda t: t.number("clients/connected") == clients + 1)
        alive = 0
        for s in crowd:
            s.settimeout(2)
            try:
                s.sendall(pingreq())
                data = b"x"
                while data and not data.endswith(b"\xd0\0"):
                    data = s.recv(4096)
                alive += bool(data)
            except (ConnectionResetError, BrokenPipeError):
                pass
            s.close()
        check_equal(alive, 1, "connections that answered")
        topics.until("nobody is left", lambda t: t.number("clients/connected") == clients)
    topics.close()


def stalled_subscriber(port, qos):
    """Subscribes to everything of the test and then reads no more; its receive buffer is small."""
    c = Client(port, version=4)
    c.sock = socket.socket()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.sock.settimeout(10)
    c.sock.connect(("127.0.0.1", port))
    c.open(keep_alive=0)
    c.subscribe("flood/#", qos=qos)
    return c


def flood(broker, qos, count, size, check_rss):
    """Publish in lock step with a good subscriber, at most 20 messages ahead: it must get all of them in order."""
    good, pub = Client(broker.port, version=4).open(keep_alive=0), Client(broker.port, version=4).open(keep_alive=0)
    good.subscribe("flood/#", qos=qos)
    sent = 0
    for i in range(count):
        while sent < count and sent < i + 20:
            payload = b"%d " % sent + b"x" * size
            pub.sock.sendall(publish("flood/t", payload, qos, pid=sent % 60000 + 1, version=4))
            sent += 1
        p = good.expect(PUBLISH, timeout=30)
        if int(p.payload.split(b" ", 1)[0]) != i or p.dup:
            raise AssertionError("message %d came as %.40r" % (i, p.payload))
        if qos:
            good.sock.sendall(ack(4, p.pid))
        if i % 500 == 0:
            good.log.clear()
            check_rss()
    if qos:
        for i in range(count):
            pub.expect(4, timeout=30, pid=i % 60000 + 1)
    good.close()
    pub.close()


def drain(c, qos):
    """Read on at last, acknowledging; returns how many different messages came."""
    got = set()
    while True:
        try:
            p = c.receive(2)
        except Failure:
            return len(got)
        if p is None:
            return len(got)
        if p.type == PUBLISH:
            check(p.qos == qos, "QoS %d" % p.qos)
            got.add(int(p.payload.split(b" ", 1)[0]))
            if qos:
                c.sock.sendall(ack(4, p.pid))
        c.log.clear()


def stall(ctx, qos, count, size, rss_bound):
    broker = ctx.broker({"sys_interval": "1s", "limits.backpressure": "50ms"})
    topics = SysTopics(broker.port)
    topics.fresh(2)
    dropped = topics.number("publish/messages/dropped")
    slow = [stalled_subscriber(broker.port, qos) for _ in range(2)]
    start, bounded = rss_bytes(broker), memory_tells(ctx)

    def check_rss():
        grown = rss_bytes(broker) - start
        check(grown <= rss_bound or not bounded, "memory grew by %d MiB" % (grown // MIB))
    flood(broker, qos, count, size, check_rss)
    check_rss()
    got = [drain(c, qos) for c in slow]
    lost = sum(count - n for n in got)
    check(lost > 0, "nothing was dropped: the flood is too small to say anything")
    topics.until("%d drops counted" % lost, lambda t: t.number("publish/messages/dropped") - dropped == lost)
    for c in slow:
        c.ping()
        c.close()
    topics.close()


def test_a_stalled_subscriber_with_qos_0(ctx):
    """Two outboxes of 1 MiB, and what the kernel takes, are all that it may cost."""
    ctx.need_tern("the bounds are our own")
    stall(ctx, 0, 20000, 4000, 12 * MIB)


def test_a_stalled_subscriber_with_qos_1(ctx):
    """1,024 messages in flight and 1,000 queued, shared by both; the rest is dropped and counted."""
    ctx.need_tern("the bounds are our own")
    stall(ctx, 1, 6000, 4000, 24 * MIB)


def closed_after(s, feed=None, limit=10.0):
    """Seconds until the broker closed the connection; feed: bytes that are dripped meanwhile, one each 50 ms."""
    start, s_feed = time.monotonic(), iter(feed or b"")
    s.settimeout(0.05)
    while time.monotonic() - start < limit:
        try:
            if not s.recv(100):
                return time.monotonic() - start
        except socket.timeout:
            pass
        except ConnectionResetError:
            return time.monotonic() - start
        byte = next(s_feed, None)
        if byte is not None:
            try:
                s.sendall(bytes([byte]))
            except OSError:
                pass
    raise AssertionError("still open after %g s" % limit)


def test_a_dripped_connect_has_a_deadline(ctx):
    ctx.need_tern("mosquitto has no such setting")
    broker = ctx.broker({"limits.connect_timeout": "1s"})
    whole = connect("c" * 500, 4)
    for name, feed in [("silence", b""), ("one byte", whole[:1]), ("a byte each 50 ms", whole),
                       ("a long one of 5.0", connect("d" * 500, 5))]:
        seconds = closed_after(dial(broker.port, 1), feed)
        check(0.8 <= seconds <= 3, "%s: closed after %.2f s" % (name, seconds))
    before = descriptors(broker)
    idlers = [dial(broker.port, i) for i in range(1000)]
    good = Client(broker.port, version=4).open()
    good.publish("t", b"x", qos=1)
    eventually("1,000 silent connections are closed", lambda: descriptors(broker) <= before + 1, 6)
    good.ping()
    good.close()
    for s in idlers:
        s.close()


def test_connections_that_come_and_go(ctx):
    """Thousands of connections that end at every stage of CONNECT leave nothing behind."""
    broker = ctx.broker({"sys_interval": "1s", "log.level": "error"})
    topics = SysTopics(broker.port)
    topics.fresh(2)
    clients, before = topics.number("clients/connected"), descriptors(broker)
    data = connect("fleeting", 5, keep_alive=0) + subscribe(1, [("a", 0)]) + publish("b", b"x", 1, pid=2)
    for i in range(3000):
        s = dial(broker.port, i)
        s.sendall(data[:i % (len(data) + 1)])
        if i % 3:
            s.close()
        else:
            reset(s)
    topics.until("nobody is left", lambda t: t.number("clients/connected") == clients)
    eventually("descriptors are as before", lambda: descriptors(broker) == before, 15)
    topics.close()
