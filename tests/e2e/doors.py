"""A broker with several listeners, and those who knock there: for the tests of TLS, WebSocket, PROXY and Unix sockets.

    house = doors(ctx, {"secure": ("tls", "tls: {certificate: CA/server.pem, key: CA/server.key}")})
    c = house.client("secure", context=tls_context(ca.path("ca.pem")))
    house.line("client_connected", "listener=secure")

A plain listener is always there besides; a SteadyPublisher shows that nobody is disturbed by what happens next door.
"""

import os
import re
import signal
import socket
import threading
import time

from kit import ConfiguredBroker, Skip, check, eventually
from lib import sockets
from lib.broker import free_port
from lib.certificates import Authority
from lib.mqtt import PUBACK, Client, Failure, publish

HEAD = """\
data: %(data)s
sys_interval: 1s
listeners:
  - {address: "tcp://127.0.0.1:%(port)d", name: plain}
"""
SECONDS = 15  # for what a reload or a timer brings about: generous, since machines are slow
HOSTS = ["localhost", "127.0.0.1"]


def authority(ctx, name="ca", server=True):
    """A CA in the test's directory, with a server's certificate: CA/ in what doors() takes."""
    made = Authority(os.path.join(ctx.directory, name), "Test " + name)
    if server:
        made.server("server", HOSTS)
    return made


def field(line, name):
    """The value of one field of a line of the log."""
    found = re.search(r'(?:^| )%s=("(?:[^"\\]|\\.)*"|\S*)' % name, line)
    check(found, "no %s in %r" % (name, line))
    return found.group(1).strip('"')


class Doors(ConfiguredBroker):
    """listeners: {name: (scheme, more)}, where `more` is YAML to stand in the listener's mapping, and DIR and CA are
    replaced; settings: YAML text. ports and paths (of Unix sockets) go by the listeners' names."""

    def __init__(self, opts, directory, listeners, settings):
        self.listeners, self.more, self.place = listeners, settings, directory
        self.paths = {name: os.path.join(directory, name + ".sock") for name in listeners}
        self.clients = []
        super().__init__(opts, "")
        self.ports, taken = {}, {self.port}
        for name in listeners:
            self.ports[name] = next(p for p in iter(free_port, 0) if p not in taken)
            taken.add(self.ports[name])
        self.configure()

    def configure(self):
        text = HEAD
        for name, (scheme, more) in self.listeners.items():
            at = self.paths[name] if scheme == "unix" else "127.0.0.1:%d" % self.ports[name]
            text += '  - {address: "%s://%s", name: %s%s}\n' % (scheme, at, name, ", " + more if more else "")
        text = (text + self.more).replace("DIR", self.place).replace("CA/", os.path.join(self.place, "ca", ""))
        self.write(text)

    def reload(self, ok=True):
        """SIGHUP, and wait until the broker says that it has read everything."""
        words = ("event=reloaded", "event=reload_failed")
        before = [self.log().count(w) for w in words]
        self.process.send_signal(signal.SIGHUP)
        eventually("the broker has read its files", lambda: [self.log().count(w) for w in words] != before, SECONDS)
        check((self.log().count(words[0]) > before[0]) == ok, "reload: %s" % self.log_tail(3))

    # ---- clients -----------------------------------------------------------------------------------------------------

    def new(self, door="plain", client_id=None, version=5, **how):
        """A client of this door that has not dialled; `how` goes to sockets.dial."""
        c = Client(self.port if door == "plain" else self.ports[door], client_id, version)
        c.transport, c.how = self.listeners[door][0] if door != "plain" else "tcp", how
        if c.transport == "unix":
            c.how = {"path": self.paths[door], **how}
        self.clients.append(c)
        return c

    def client(self, door="plain", client_id=None, version=5, how=None, **connect):
        """A client that has come in."""
        return self.new(door, client_id, version, **(how or {})).open(**connect)

    def raw(self, door):
        """A TCP connection to it."""
        sock = socket.create_connection(("127.0.0.1", self.port if door == "plain" else self.ports[door]), 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def stop(self):
        for c in self.clients:
            c.abort()
        return super().stop()

    # ---- the log -----------------------------------------------------------------------------------------------------

    def lines(self, *words):
        """Lines of the log that have all these words."""
        return [line for line in self.log().splitlines() if all(w in line for w in words)]

    def line(self, *words):
        """The last such line, as soon as there is one."""
        return eventually("a line of the log with %r" % (words,), lambda: self.lines(*words), SECONDS)[-1]

    def told(self, name, before, *words):
        """There are more lines with these words than `before`. A pause follows, since the log takes no more than twenty
        of a kind in a second."""
        eventually(name + ": a line in the log", lambda: len(self.lines(*words)) > before, SECONDS)
        time.sleep(0.06)

    def came_in(self, c):
        """What the log says of this client's connection."""
        return self.line("event=client_connected", "client=%s " % c.client_id)


def doors(ctx, listeners, settings="", start=True):
    if ctx.opts.mosquitto:
        raise Skip("mosquitto's listeners are configured otherwise")
    house = Doors(ctx.opts, ctx.directory, listeners, settings)
    if start:
        return ctx.start(house)
    ctx.brokers.append(house)
    return house


class SteadyPublisher:
    """A client that publishes with QoS 1, one message after the other, until end() says how it went: nothing may be
    left unanswered, nor wait longer than `patience` seconds."""

    def __init__(self, client, patience=3.0, pause=0.01):
        self.client, self.patience, self.pause = client, patience, pause
        self.count, self.longest, self.error, self.over = 0, 0.0, None, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.over.wait(self.pause):
                start, pid = time.monotonic(), self.client.new_pid()
                self.client.send(publish("steady", b"x", 1, pid=pid, version=self.client.version))
                self.client.expect(PUBACK, timeout=self.patience, pid=pid)
                self.client.log.clear()
                self.count, self.longest = self.count + 1, max(self.longest, time.monotonic() - start)
        except Exception as e:  # told by end()
            self.error = e

    def end(self, at_least=1):
        """Some messages more, then what was wrong. Returns the longest time that one has waited."""
        at_least = max(at_least, self.count + 3)
        eventually("the steady publisher goes on", lambda: self.count >= at_least or self.error, SECONDS)
        self.over.set()
        self.thread.join(self.patience + 5)
        check(not self.error, "the steady publisher: %s" % self.error)
        return self.longest


def ended(sock, seconds=10.0):
    """All bytes until the other side has closed."""
    sock.settimeout(seconds)
    got = b""
    try:
        while True:
            data = sock.recv(65536)
            if not data:
                return got
            got += data
    except ConnectionResetError:
        return got
    except socket.timeout:
        raise AssertionError("not closed within %g s; it sent %r" % (seconds, got)) from None


def refused(house, door, client_id=None, **how):
    """This client does not come in: it is cut off in the handshake, or in place of an answer to CONNECT. Returns what
    Python says; with TLS 1.3 the client has nothing to complain about before it reads."""
    c = house.new(door, client_id, **how)
    try:
        c.sock = sockets.dial(c.transport, c.host, c.port, 5, **c.how)
        c.open()
    except (Failure, OSError) as e:
        check("nothing came" not in str(e), "%s: not answered at all" % door)
        return str(e)
    finally:
        c.close()
    raise AssertionError("%s: was let in" % door)
