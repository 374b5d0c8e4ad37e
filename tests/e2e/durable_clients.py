"""Clients that never lose their own memory: what the broker has acknowledged to them can be held against it.

A Sender publishes numbered messages and remembers which were acknowledged; a Listener has a durable session and
remembers what came. Both go on over any number of broken connections, each on a thread of its own."""

import random
import socket
import threading
import time

from lib import wire
from lib.wire import (CONNACK, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK)

WINDOW = 16


class Link(threading.Thread):
    """One client: dials until it is stopped."""

    def __init__(self, port, client_id, version):
        super().__init__(daemon=True)
        self.port, self.client_id, self.version = port, client_id, version
        self.problems, self.stopping = [], threading.Event()
        self.sock, self.buffer, self.sessions = None, bytearray(), 0

    def connect(self, clean=False):
        props = {"session_expiry": 3600} if self.version == 5 else None
        self.sock = socket.create_connection(("127.0.0.1", self.port), 2)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.send(wire.connect(self.client_id, self.version, clean=clean, props=props))
        p = self.next(10)
        if p.type != CONNACK or p.reason != 0:
            raise OSError("refused: %r" % p)
        if self.sessions and not p.session_present:
            self.problems.append("%s: the session is gone" % self.client_id)
        self.sessions += 1

    def send(self, data):
        self.sock.sendall(data)

    def next(self, timeout):
        """The next packet, or None."""
        deadline = time.monotonic() + timeout
        while True:
            packet = wire.decode(self.buffer, self.version)
            if packet:
                return packet
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except socket.timeout:
                return None
            if not data:
                raise OSError("closed")
            self.buffer += data

    def run(self):
        while not self.stopping.is_set():
            try:
                self.connect()
                self.serve()
            except OSError:
                time.sleep(0.02)
            finally:
                if self.sock:
                    self.sock.close()
            if self.done():
                return

    def done(self):
        return False


class Sender(Link):
    """Publishes name/0, name/1, ... alternating QoS 1 and 2, with at most WINDOW unacknowledged."""

    def __init__(self, port, client_id, version, topic):
        super().__init__(port, client_id, version)
        self.topic, self.number, self.acknowledged = topic, 0, []
        self.open = {}  # pid -> [number, qos, whether PUBREC came], in the order of sending
        self.pid, self.quiet = 0, threading.Event()

    def payload(self, number):
        return b"%s/%d" % (self.client_id.encode(), number)

    def publish(self, pid, again):
        number, qos, received = self.open[pid]
        if received:
            self.send(wire.ack(PUBREL, pid))
        else:
            self.send(wire.publish(self.topic, self.payload(number), qos, dup=again, pid=pid, version=self.version))

    def serve(self):
        for pid in list(self.open):
            self.publish(pid, True)
        while not self.stopping.is_set():
            while len(self.open) < WINDOW and not self.quiet.is_set():
                self.pid = self.pid % 65535 + 1
                if self.pid in self.open:
                    continue
                self.open[self.pid] = [self.number, 1 + self.number % 2, False]
                self.number += 1
                self.publish(self.pid, False)
            time.sleep(0.002)  # what is published must also be read, by a listener in Python
            if self.done():
                return
            p = self.next(0.2)
            if p:
                self.take(p)

    def take(self, p):
        entry = self.open.get(p.pid)
        if entry is None:
            return
        if p.type in (PUBACK, PUBREC) and (p.reason or 0) >= 0x80:
            del self.open[p.pid]  # refused: nothing was promised
        elif p.type == PUBREC:
            if not entry[2]:
                entry[2] = True
                self.acknowledged.append(entry[0])
            self.send(wire.ack(PUBREL, p.pid))
        elif p.type == PUBACK:
            self.acknowledged.append(entry[0])
            del self.open[p.pid]
        elif p.type == PUBCOMP:
            del self.open[p.pid]

    def done(self):
        return self.quiet.is_set() and not self.open


class Listener(Link):
    """Subscribes once, then takes what comes; acknowledges now and then late, or not before the connection is gone."""

    def __init__(self, port, client_id, version, topic, qos, seed):
        super().__init__(port, client_id, version)
        self.topic, self.qos, self.random = topic, qos, random.Random(seed)
        self.subscribed, self.got, self.held = threading.Event(), {}, set()  # held: QoS 2 identifiers before PUBREL

    def serve(self):
        if not self.subscribed.is_set():
            self.send(wire.subscribe(1, [(self.topic, self.qos)], version=self.version))
        while not self.stopping.is_set():
            p = self.next(0.2)
            if p is None:
                continue
            if p.type == SUBACK:
                self.subscribed.set()
            elif p.type == PUBLISH:
                self.take(p)
            elif p.type == PUBREL:
                self.held.discard(p.pid)
                self.send(wire.ack(PUBCOMP, p.pid))

    def take(self, p):
        known = p.qos == 2 and p.pid in self.held
        if known and not p.dup:
            self.problems.append("%s: identifier %d came again without DUP" % (self.client_id, p.pid))
        if not known:
            self.got.setdefault(p.payload, []).append((p.qos, p.dup))
        if p.qos == 2:
            self.held.add(p.pid)
            self.send(wire.ack(PUBREC, p.pid))
        elif p.qos == 1 and self.random.random() < 0.998:
            self.send(wire.ack(PUBACK, p.pid))
        elif p.qos == 1:
            self.sock.close()  # without an answer: it has to come again
            raise OSError("closed by us")


def audit(senders, listeners):
    """What the acknowledgements promised, held against what came. Returns a list of sentences."""
    problems = [p for link in senders + listeners for p in link.problems]
    for sender in senders:
        for listener in listeners:
            for number in sender.acknowledged:
                came = listener.got.get(sender.payload(number), [])
                qos = min(1 + number % 2, listener.qos)
                if not came:
                    problems.append("%s never got %s/%d, QoS %d" % (listener.client_id, sender.client_id, number, qos))
                elif qos == 2 and len(came) > 1:
                    problems.append("%s got %s/%d, QoS 2, %d times" % (
                        listener.client_id, sender.client_id, number, len(came)))
    return problems
