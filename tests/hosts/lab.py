"""What the stories are made of: a cluster on hosts of its own, and loads that verify every message while it suffers."""

import itertools
import os
import signal
import socket
import threading
import time

from kit import Context, check, eventually
from line import LINKS
from lib.hosts import Host, HostBroker
from lib.mqtt import CONNACK, PUBACK, PUBLISH, SUBACK, Client, ack, connect, decode, publish, subscribe

PATIENCE = 60
serial, stories = itertools.count(1), itertools.count(1)


class Lab(Context):
    """A test's context with hosts, nodes and loads."""

    def __init__(self, opts):
        super().__init__(opts)
        self.hosts, self.loads, self.said = [], [], []  # what a story measured
        # Nothing of the story before, a datagram or what a kernel remembers of an address, must be of any meaning.
        self.number = next(stories)
        self.name = "lab%d" % self.number

    def address(self, n):
        return "10.213.%d.%d" % (self.number % 250 + 1, n)

    def host(self, ip):
        self.hosts.append(Host(ip))
        return self.hosts[-1]

    def node(self, i, seeds, here=lambda ip: {}, **more):
        """here: settings that depend on the address."""
        host = self.host(self.address(11 + i))
        settings = {"node.name": "n%d" % i, "cluster.listen": "%s:%d" % (host.ip, LINKS), "cluster.seeds": seeds,
                    "cluster.name": self.name, "cluster.insecure": True, "cluster.bootstrap_expect": 3,
                    "sys_interval": "1s", **here(host.ip), **more}
        return self.start(HostBroker(self.opts, host, settings))

    def cluster(self, count=3, addresses=None, **more):
        """So many nodes that are one broker. addresses: where each is reached by the others, if not by its own."""
        seeds = ",".join(addresses or ("%s:%d" % (self.address(11 + i), LINKS) for i in range(count)))
        nodes = [self.node(i, seeds, **({"cluster.advertise": addresses[i]} if addresses else {}), **more)
                 for i in range(count)]
        together(nodes)
        return nodes

    def bench(self, *nodes, pairs=9, rate=500):
        """tern-bench with publishers and subscribers on different ones of these nodes, QoS 1, until ended() is asked."""
        assert len(nodes) == 1 or pairs % len(nodes), "each subscriber would be on its publisher's node"
        command = [os.path.join(os.path.dirname(self.opts.tern), "tern-bench"), "pair", "--host",
                   ",".join("%s:1883" % b.host for b in nodes), "-c", str(pairs), "-q", "1", "--rate", str(rate),
                   "--duration", "600", "--warmup", "0", "--timeout", "30", "--threads", "1", "--prefix", "b%d" % next(serial),
                   "--topic", "bench/%d/%%i" % next(serial)]
        load = self.spawn(command)
        load.wait_lines(1, 30)
        return load

    def ledger(self, name, publishers, subscribers, **more):
        self.loads.append(Ledger(name, publishers, subscribers, **more))
        return self.loads[-1]

    def end(self):
        for load in self.loads:
            load.stop()
        try:
            super().end()
        finally:
            for host in self.hosts:
                host.close()


def at(broker):
    """Where its clients go."""
    return (broker.host, broker.port)


def bench_is_right(load):
    """tern-bench ends its publishing, waits for what is on its way, and has found nothing lost, repeated or out of order."""
    check(load.process.poll() is None, "tern-bench ended by itself:\n" + "\n".join(load.lines[-30:]))
    load.process.send_signal(signal.SIGINT)
    status, lines = load.finish(PATIENCE)
    check(status == 0, "tern-bench ended with %d:\n%s" % (status, "\n".join(lines[-30:])))


def sys_topic(broker, name):
    """The next value of a topic below $SYS/broker."""
    c = Client(broker.port, host=broker.host).open()
    try:
        c.subscribe("$SYS/broker/" + name)
        return c.expect_publish("$SYS/broker/" + name, timeout=PATIENCE).payload.decode()
    finally:
        c.close()


class Watch:
    """What nodes say of the cluster, read until it is what is asked for."""

    def __init__(self, broker):
        self.c = Client(broker.port, host=broker.host).open()
        self.said = {}
        self.c.subscribe(["$SYS/broker/cluster/members", "$SYS/broker/cluster/ready"])

    def until(self, what, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition(self.said):
            check(time.monotonic() < deadline, "not within %d s: %s; %s" % (PATIENCE, what, self.said))
            p = self.c.expect_publish(timeout=PATIENCE)
            self.said[p.topic.rpartition("/")[2]] = p.payload.decode()

    def close(self):
        self.c.close()


def members(broker, **states):
    """Wait until this node says of those that they are so: n2="dead" or n2="alive"."""
    w = Watch(broker)
    try:
        w.until("%s at %s" % (states, broker.settings["node.name"]), lambda said: states.items() <= dict(
            m.rsplit(" ", 1) for m in said.get("members", "").split("; ") if m).items())
    finally:
        w.close()


def together(nodes):
    """Wait until all these are ready, alive to each other, and deliver to each other."""
    for b in nodes:
        w = Watch(b)
        try:
            w.until("%s is ready with all others" % b.settings["node.name"],
                    lambda said: said.get("ready") == "1" and said.get("members", "").count("alive") >= len(nodes))
        finally:
            w.close()
    reach_each_other(nodes)


def reach_each_other(nodes):
    """Wait until what is published on each node comes to all, by new subscriptions."""
    ends = [Client(b.port, host=b.host).open() for b in nodes]
    topic = "reach/%d" % next(serial)
    for c in ends:
        c.subscribe(topic, qos=1)
    for i, c in enumerate(ends):
        missing = set(range(len(nodes)))

        def heard():
            word = b"%d/%d" % (i, next(serial))
            c.publish(topic, word, qos=1)
            for k in list(missing):
                if drained(ends[k], b"%d/" % i):
                    missing.discard(k)
            return not missing
        eventually("what is said on %s comes to all; missing %s" % (nodes[i].settings["node.name"], missing), heard, PATIENCE)
    for c in ends:
        c.close()


def drained(c, prefix):
    """Read what has come; whether a message beginning so was among it."""
    found = False
    while True:
        try:
            p = c.expect_publish(timeout=0.05)
        except AssertionError:
            return found
        found = found or p.payload.startswith(prefix)


# ---- loads whose clients may be thrown out -----------------------------------------------------------------------------


class Stay:
    """One connection of a subscriber: when its SUBACK came, when it ended, whether we ended it, and what came on it."""

    def __init__(self, at):
        self.at, self.since, self.until, self.last, self.got = at, time.monotonic(), None, False, []


class Ledger:
    """Publishers and subscribers of one topic at QoS 1, each a thread, each coming back when it is thrown out. Numbers
    every message, and notes when it was first sent, when acknowledged, and what each connection received.

    publishers, subscribers: the (host, port) of each. name: of the topic."""

    def __init__(self, name, publishers, subscribers, pause=0.02):
        self.topic, self.pause, self.stopping = "ledger/%s" % name, pause, threading.Event()
        self.numbers = itertools.count()
        self.sent, self.whose, self.acked, self.resent = {}, {}, {}, set()
        self.stays, self.errors = [], []
        self.publishing = threading.Event()
        self.publishing.set()
        subs = [threading.Thread(target=self.guard, args=(self.subscriber, at), daemon=True) for at in subscribers]
        for t in subs:
            t.start()
        eventually("all subscribers of %s" % name, lambda: len(self.stays) >= len(subs), PATIENCE)
        pubs = [threading.Thread(target=self.guard, args=(self.publisher, at), daemon=True) for at in publishers]
        for t in pubs:
            t.start()
        self.publishers, self.subscribers = pubs, subs

    def guard(self, work, at):
        try:
            work(at)
        except Exception as e:  # a thread's failure is the test's
            self.errors.append("%s at %s: %r" % (work.__name__, at, e))
            raise

    def dial(self, at):
        """A connected client, or None when that is not to be had now."""
        s = None
        try:
            s = socket.create_connection(at, 2)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.settimeout(2)
            line = Wire(s)
            line.send(connect("l%d-%d" % (os.getpid(), next(serial)), 5, True, 60))
            p = line.next()
            if p is not None and p.type == CONNACK and p.reason == 0:
                return line
        except OSError:
            pass
        if s:
            s.close()
        self.stopping.wait(0.05)
        return None

    def publisher(self, at):
        """One message at a time; what was not acknowledged when the connection went is sent again on the next."""
        line, number = None, None
        while not self.stopping.is_set() or (number is not None and self.publishing.is_set()):
            line = line or self.dial(at)
            if not line:
                continue
            if number is None:
                number = next(self.numbers)
                self.whose[number], self.sent[number] = threading.get_ident(), time.monotonic()
            try:
                line.send(publish(self.topic, b"%d" % number, 1, False, False, number % 65535 + 1, None, 5))
                p = line.wait_for(PUBACK, PATIENCE)
            except OSError:
                p = None
            if p is None:
                line.close()
                line = None
                self.resent.add(number)
                continue
            if p.reason < 0x80:
                self.acked[number] = time.monotonic()
            number = None
            self.stopping.wait(self.pause)
        if line:
            line.close()

    def subscriber(self, at):
        while not self.publishing_over():
            line = self.dial(at)
            if not line:
                continue
            stay = None
            try:
                line.send(subscribe(1, [(self.topic, 1)], None, 5))
                if not line.wait_for(SUBACK, 10):
                    continue
                stay = Stay(at)
                self.stays.append(stay)
                self.read(line, stay)
            except OSError:
                pass
            finally:
                if stay:
                    stay.until, stay.last = time.monotonic(), self.publishing_over()
                line.close()

    def read(self, line, stay):
        while not self.publishing_over():
            try:
                p = line.next(0.2)
            except socket.timeout:
                continue
            if p is None:
                return
            if p.type == PUBLISH:
                stay.got.append((int(p.payload), time.monotonic()))
                line.send(ack(PUBACK, p.pid))

    def publishing_over(self):
        return not self.publishing.is_set()

    def acknowledged(self, more):
        """Wait until so many more are acknowledged."""
        goal = len(self.acked) + more
        eventually("%d more acknowledged of %s (%s)" % (more, self.topic, self.errors), lambda: len(self.acked) >= goal,
                   PATIENCE)

    def here(self, at):
        """The present stay of the one subscriber there, as a list of one."""
        return [s for s in self.stays if s.at == at and s.until is None]

    def received_since(self, at, moment):
        """Wait until a message first sent after this moment has come to the subscriber there."""
        def came():
            return any(self.sent[n] > moment for s in self.stays if s.at == at and s.until is None
                       for n, _ in s.got[-20:])
        eventually("a message to %s (%s)" % (at, self.errors), came, PATIENCE)

    def finish(self, since=0.0):
        """End publishing, and let all that was sent after `since` and is on its way come."""
        self.stopping.set()
        for t in self.publishers:
            t.join(PATIENCE)
            check(not t.is_alive(), "a publisher of %s waits for ever" % self.topic)
        last = [s for s in self.stays if s.until is None]

        def settled():
            return all(not self.missing(s, max(since, s.since), float("inf")) for s in last)
        try:
            eventually("everything has come", settled, 30)
        except AssertionError:
            pass  # verify() says what is missing
        self.stop()
        check(not self.errors, "%s" % self.errors)

    def stop(self):
        self.stopping.set()
        self.publishing.clear()
        for t in self.publishers + self.subscribers:
            t.join(10)

    def missing(self, stay, since, until):
        """Acknowledged before `until`, first sent after `since`, and not come."""
        got = {n for n, _ in list(stay.got)}
        return sorted(n for n, at in list(self.acked.items()) if at < until and self.sent[n] > since and n not in got)

    def verify(self, stay, since=0, until=float("inf")):
        """Nothing acknowledged is missing in this part of the stay; nothing twice but what was sent twice; in order."""
        missing = self.missing(stay, max(since, stay.since), until)
        check(not missing, "%s: %d acknowledged messages are missing at %s: %s" % (
            self.topic, len(missing), stay.at, missing[:20]))
        got = [n for n, _ in stay.got]
        twice = sorted({n for n in got if got.count(n) > 1} - self.resent) if len(set(got)) != len(got) else []
        check(not twice, "%s: came twice at %s: %s" % (self.topic, stay.at, twice[:20]))
        for publisher in set(self.whose.values()):
            own = [n for n in got if self.whose[n] == publisher and n not in self.resent]
            check(own == sorted(own), "%s: out of order at %s: %s" % (self.topic, stay.at, own))


class Wire:
    """A socket, packets in and out, and nothing else."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, bytearray()

    def send(self, data):
        self.sock.sendall(data)

    def next(self, seconds=10):
        """The next packet, None when the other side has closed; raises socket.timeout."""
        while True:
            p = decode(self.buffer, 5) if len(self.buffer) >= 2 else None
            if p:
                return p
            self.sock.settimeout(seconds)
            data = self.sock.recv(65536)
            if not data:
                return None
            self.buffer += data

    def wait_for(self, kind, seconds):
        while True:
            p = self.next(seconds)
            if p is None or p.type == kind:
                return p

    def close(self):
        self.sock.close()
