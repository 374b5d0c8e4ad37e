"""What a conformance test is made of: the decorators that say what it proves and on which broker, and the Env it gets.

A test is a function `test_...(env)` with @covers naming the normative statements that it would catch a broker
breaking. @settings asks for a broker with other settings than the defaults, @alone for one that no other test uses,
before or at the same time. Tests of one module otherwise share a broker and run several at once, so each keeps to
topics made by env.topic() and to client ids made for it.
"""

import contextlib
import itertools
import time

from lib.mqtt import PUBLISH, Client, Failure, TIMEOUT, string

serial = itertools.count(1)


def covers(*statements):
    """Names the statements that the test proves, as "MQTT-3.1.0-1" (5.0) or "MQTT311-3.1.0-1" (3.1.1)."""
    def mark(function):
        function.covers = getattr(function, "covers", ()) + statements
        return function
    return mark


def settings(values):
    """The test runs on a broker of its own kind: {"mqtt.max_keep_alive": "1s"}. Tests with equal settings share it."""
    def mark(function):
        function.settings = dict(values)
        return function
    return mark


def alone(function):
    """The test needs a broker of its own, fresh."""
    function.alone = True
    return function


class Skip(Exception):
    """The test cannot say anything on this broker; the text is why."""


class Env:
    """One test's view of its broker. Everything it opened is closed when the test ends."""

    def __init__(self, broker, name):
        self.broker, self.name, self.root = broker, name, "%s/%d" % (name, next(serial))
        self.log, self.clients, self.failures = [], [], []

    @property
    def port(self):
        return self.broker.port

    def topic(self, *levels):
        """A topic of this test's own."""
        return "/".join((self.root,) + levels)

    def client_id(self, hint="x"):
        return "%s-%s-%d" % (self.name[-12:], hint, next(serial))

    def new(self, client_id=None, version=5, name=None):
        """A client that has not dialled yet."""
        c = Client(self.port, client_id, version, log=self.log, name=name)
        self.clients.append(c)
        return c

    def raw(self, version=5, client_id=None):
        """A client with a TCP connection and no CONNECT sent."""
        return self.new(client_id, version).dial()

    def client(self, client_id=None, version=5, **connect):
        """A connected client; `connect` goes to Client.open."""
        return self.new(client_id, version).open(**connect)

    def many(self, count, **connect):
        """Connected clients with different ids: their sessions lie on different shards."""
        return [self.client(**connect) for _ in range(count)]

    def pair(self, topic_filter=None, qos=2, **connect):
        """A subscriber to everything below env.topic() (or the filter), and a publisher."""
        sub = self.client(**connect)
        sub.subscribe(topic_filter or self.topic("#"), qos=qos)
        return sub, self.client()

    @contextlib.contextmanager
    def case(self, name):
        """One row of a table: a failure is kept under the row's name and the other rows still run."""
        try:
            yield
        except AssertionError as e:
            self.log.append("   !! case %s: %s" % (name, e))
            self.failures.append("%s: %s" % (name, e))

    def eventually(self, what, condition, seconds=None):
        """Wait until the condition holds; for effects that no packet tells us of."""
        deadline = time.monotonic() + (seconds or TIMEOUT)
        while not condition():
            if time.monotonic() > deadline:
                raise Failure("not in time: %s" % what)
            time.sleep(0.02)

    def end(self):
        for c in self.clients:
            c.close()


def drain(c, quiet=0.3):
    """All PUBLISH packets until none comes for a moment, acknowledged. For what may come in any order and number."""
    got = []
    while True:
        try:
            p = c.receive(quiet)
        except Failure:
            c.ping()
            return got
        check(p is not None and p.type == PUBLISH, "got %r" % p)
        c.acknowledge(p)
        got.append(p)


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_equal(got, want, what=""):
    if got != want:
        raise Failure("%s is %.300r, wanted %.300r" % (what or "it", got, want))


def user_property(name, value):
    """A User Property as raw bytes, for strings that are not UTF-8."""
    return bytes([0x26]) + string(name) + string(value)
