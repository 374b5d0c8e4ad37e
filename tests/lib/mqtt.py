"""A scripted MQTT client: sends exactly what it is told, expects exactly what it is told.

Why: conformance tests need a client without a will of its own. Nothing is read, acknowledged or resent unless the
test says so. Each wait has a timeout and each failure raises Failure with the packets seen. The names of lib.wire are
here too, so a test imports this module alone.

    c = Client(port, client_id="a").open()       # CONNECT, CONNACK 0x00
    c.subscribe("t/#", qos=1)                    # SUBACK checked
    c.publish("t/1", b"x", qos=2)                # the whole handshake
    c.expect_publish("t/1", b"x", qos=1)         # acknowledged too, unless ack=False
"""

import itertools
import os
import socket
import struct
import time

from lib import sockets
from lib.wire import (  # noqa: F401  (re-exported)
    CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ,
    PINGRESP, DISCONNECT, AUTH, TYPE_NAMES, PROPERTIES, Malformed, Packet, Will, ack, auth, connect, decode,
    disconnect, one_property, options, packet, pingreq, properties, publish, string, subscribe, text, unsubscribe,
    varint)

TIMEOUT = float(os.environ.get("MQTT_TEST_TIMEOUT", "5"))  # seconds that an expected packet may take
QUIET = 0.05  # seconds of silence asked for beside a PINGREQ fence before we say "nothing came"

serial = itertools.count(1)


class Failure(AssertionError):
    """What came is not what the test expects."""


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


class Client:
    """One connection. client_id None makes a unique one; "" asks the server for one. log: list that gets a line for
    each packet, shared by all clients of a test."""

    transport = "tcp"  # of every client that is not told otherwise: one of lib.sockets.TRANSPORTS
    lenient = False  # True: a server may close without the CONNACK or DISCONNECT that would say why, as 5.0 allows

    def __init__(self, port, client_id=None, version=5, host="127.0.0.1", log=None, name=None):
        self.client_id = "c%d-%d" % (os.getpid() % 10000, next(serial)) if client_id is None else client_id
        self.port, self.host, self.version = port, host, version
        self.log = log if log is not None else []
        self.name = name or self.client_id or "?"
        self.sock, self.buffer, self.backlog, self.eof = None, bytearray(), [], False
        self.source = None  # (address, 0) to come from
        self.how = {}  # more for sockets.dial: a TLS context, the path of a Unix socket, what a WebSocket asks for
        self.next_pid, self.connack, self.connect_props = 0, None, None
        self.aliases = {}  # topic aliases that the server set up on this connection
        self.unreleased = []  # packet identifiers of QoS 2 messages received whose PUBREL has not come

    # ---- bytes -------------------------------------------------------------------------------------------------------

    def note(self, what):
        self.log.append("%8.3f %-12s %s" % (time.monotonic() % 1000, self.name, what))

    def dial(self):
        """Open the connection only: no packet is sent."""
        connect = sockets.dial if self.transport == "tcp" else sockets.dial_or_ended
        self.sock = connect(self.transport, self.host, self.port, TIMEOUT, source=self.source, **self.how)
        self.buffer, self.backlog, self.eof = bytearray(), [], False
        self.aliases, self.unreleased = {}, []
        self.note("-- connected to port %d" % self.port)
        return self

    def send(self, data, what=None):
        """Send these bytes. A connection that the server has closed is noticed by the next expectation."""
        shown = what or "%s %s" % (TYPE_NAMES[data[0] >> 4] if data else "", data[:48].hex())
        self.note("-> %s%s" % (shown, " ..(%d bytes)" % len(data) if len(data) > 48 else ""))
        try:
            self.sock.settimeout(TIMEOUT)
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.note("-- send failed: closed by the server")
        return self

    def receive(self, timeout=None):
        """The next packet, or None when the server closed. Raises Failure when nothing comes in time."""
        if self.backlog:
            return self.backlog.pop(0)
        return self.receive_new(timeout)

    def receive_new(self, timeout=None):
        deadline = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        while True:
            try:
                p = decode(self.buffer, self.version) if len(self.buffer) >= 2 else None
            except Malformed as e:
                self.note("<- malformed: %s" % e)
                raise
            if p:
                self.note("<- %r" % p)
                return p
            if self.eof:
                return None
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failure("%s: nothing came" % self.name)
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(1 << 16)
            except socket.timeout:
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                self.eof = True
                self.note("<- closed%s" % (" inside a packet" if self.buffer else ""))
            self.buffer += data

    def close(self):
        """Close the socket in the ordinary way, without DISCONNECT, and wait until the broker has noticed and closed too:
        what another client publishes next must not be sent to this one."""
        if self.sock:
            try:
                self.sock.shutdown(socket.SHUT_WR)
                self.sock.settimeout(2)
                while self.sock.recv(65536):
                    pass
            except OSError:
                pass
            self.sock.close()
            self.sock = None
            self.note("-- closed")

    def abort(self):
        """Close with a TCP reset, as when the client's machine vanished."""
        if self.sock:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
            self.sock = None
            self.note("-- reset")

    # ---- expectations ------------------------------------------------------------------------------------------------

    def check(self, p, fields):
        for field, want in fields.items():
            got = getattr(p, field)
            if got != want:
                raise Failure("%s: %s is %s, wanted %s, in %r" % (self.name, field, short(got), short(want), p))
        return p

    def expect(self, ptype, timeout=None, **fields):
        """The next packet must be of this type and its fields equal to those given."""
        p = self.receive(timeout)
        if p is None:
            raise Failure("%s: closed, wanted %s" % (self.name, TYPE_NAMES[ptype]))
        if p.type != ptype:
            raise Failure("%s: got %r, wanted %s %s" % (self.name, p, TYPE_NAMES[ptype], fields or ""))
        return self.check(p, fields)

    def expect_later(self, ptype, timeout=None, **fields):
        """Like expect, but packets of other types may come before; they stay queued for the next expectations."""
        for i, p in enumerate(self.backlog):
            if p.type == ptype:
                return self.check(self.backlog.pop(i), fields)
        while True:
            p = self.receive_new(timeout)
            if p is None:
                raise Failure("%s: closed, wanted %s" % (self.name, TYPE_NAMES[ptype]))
            if p.type == ptype:
                return self.check(p, fields)
            self.backlog.append(p)

    def expect_publish(self, topic=None, payload=None, qos=None, retain=None, dup=None, ack=True, timeout=None,
                       props=None):
        """The next packet is this PUBLISH; acknowledge it fully if ack. props: those that must be there, with these
        values; a value None says that the property must be absent. The returned packet's topic is the alias's."""
        p = self.expect(PUBLISH, timeout)
        alias = p.props.get("topic_alias")
        if alias and p.topic:
            self.aliases[alias] = p.topic
        elif alias:
            if alias not in self.aliases:
                raise Failure("%s: unknown topic alias in %r" % (self.name, p))
            p.topic = self.aliases[alias]
        wanted = {"topic": topic, "payload": None if payload is None else text(payload), "qos": qos, "retain": retain,
                  "dup": dup}
        self.check(p, {k: v for k, v in wanted.items() if v is not None})
        for name, want in (props or {}).items():
            if p.props.get(name) != want:
                raise Failure("%s: %s is %s, wanted %s" % (self.name, name, short(p.props.get(name)), short(want)))
        if ack:
            self.acknowledge(p)
        return p

    def acknowledge(self, p):
        """Send PUBACK, or PUBREC and wait for PUBREL and send PUBCOMP."""
        if p.qos == 1:
            self.send(ack(PUBACK, p.pid))
        elif p.qos == 2:
            self.send(ack(PUBREC, p.pid))
            self.expect_later(PUBREL, pid=p.pid, reason=0)
            self.send(ack(PUBCOMP, p.pid))

    def expect_closed(self, reason=None, timeout=None):
        """The server closes. reason: the code (or codes) that must stand in a DISCONNECT before, with 5.0; None:
        a DISCONNECT may come or not. Returns the DISCONNECT or None."""
        p, before = None, self.receive(timeout)
        if before is not None:
            if before.type != DISCONNECT:
                raise Failure("%s: got %r, wanted the end of the connection" % (self.name, before))
            p = before
            if self.receive(timeout) is not None:
                raise Failure("%s: a packet after DISCONNECT [MQTT-3.14.4-1]" % self.name)
        if self.buffer:
            raise Failure("%s: the connection ended inside a packet" % self.name)
        if reason is not None and self.version == 5:
            if p is None and self.lenient:
                return None
            if p is None:
                raise Failure("%s: closed without DISCONNECT, wanted %s" % (self.name, hexes(reason)))
            if p.reason not in as_list(reason):
                raise Failure("%s: DISCONNECT 0x%02x, wanted %s" % (self.name, p.reason, hexes(reason)))
        return p

    def expect_refused(self, reason=None, timeout=None):
        """Instead of an accepting CONNACK: CONNACK with one of these codes and the end. reason None: the end with or
        without a refusing CONNACK. Returns the CONNACK or None."""
        p = self.receive(timeout)
        if p is None:
            if reason is not None and not self.lenient:
                raise Failure("%s: closed without CONNACK, wanted %s" % (self.name, hexes(reason)))
            return None
        if p.type != CONNACK or p.reason == 0:
            raise Failure("%s: got %r, wanted a refusal" % (self.name, p))
        if reason is not None and p.reason not in as_list(reason):
            raise Failure("%s: CONNACK 0x%02x, wanted %s" % (self.name, p.reason, hexes(reason)))
        if self.receive(timeout) is not None:
            raise Failure("%s: a packet after a refusing CONNACK" % self.name)
        return p

    def expect_nothing(self, wait=QUIET):
        """Nothing comes for a moment, nor before the answer to a PINGREQ."""
        if wait:
            try:
                p = self.receive(wait)
            except Failure:
                p = None
                if not self.eof:
                    self.ping()
                    return
            raise Failure("%s: got %s, wanted nothing" % (self.name, p or "the end of the connection"))
        self.ping()

    def ping(self):
        """PINGREQ; PINGRESP must be the next packet. All that the server sent before has then been seen."""
        self.send(pingreq())
        self.expect(PINGRESP)

    # ---- whole exchanges ---------------------------------------------------------------------------------------------

    def open(self, clean=True, keep_alive=60, props=None, will=None, user=None, password=None, session_present=None):
        """Dial if need be, CONNECT, and an accepting CONNACK. Returns self; the CONNACK is in self.connack."""
        if not self.sock:
            self.dial()
        self.connect_props = props
        self.send(connect(self.client_id, self.version, clean, keep_alive, props, will, user, password))
        self.connack = self.expect(CONNACK, reason=0)
        if session_present is not None:
            self.check(self.connack, {"session_present": session_present})
        return self

    def reopen(self, clean=False, **more):
        """A new connection of the same client id, by default resuming, with the properties of the last CONNECT."""
        self.close()
        return self.open(clean=clean, **{"props": self.connect_props, **more})

    def new_pid(self):
        self.next_pid = self.next_pid % 65535 + 1
        return self.next_pid

    def subscribe(self, filters, qos=0, no_local=False, retain_as_published=False, retain_handling=0, props=None,
                  reasons=None):
        """filters: one, a list, or a list of (filter, options byte). Codes must be the QoS asked for, or `reasons`."""
        opts = options(qos, no_local, retain_as_published, retain_handling)
        filters = filters if isinstance(filters, list) else [filters]
        pairs = [f if isinstance(f, tuple) else (f, opts) for f in filters]
        pid = self.new_pid()
        self.send(subscribe(pid, pairs, props, self.version), "SUBSCRIBE %d %s %s" % (pid, short(pairs), props or ""))
        wanted = [o & 3 for _, o in pairs] if reasons is None else as_list(reasons)
        return self.expect_later(SUBACK, pid=pid, reasons=wanted)

    def unsubscribe(self, filters, props=None, reasons=None):
        """Codes must be 0, or `reasons`."""
        filters, pid = as_list(filters), self.new_pid()
        self.send(unsubscribe(pid, filters, props, self.version), "UNSUBSCRIBE %d %s" % (pid, short(filters)))
        wanted = ([0] * len(filters) if reasons is None else as_list(reasons)) if self.version == 5 else []
        return self.expect_later(UNSUBACK, pid=pid, reasons=wanted)

    def publish(self, topic, payload=b"", qos=0, retain=False, dup=False, pid=None, props=None, ack=True, reason=None):
        """Send a PUBLISH and, if ack, go through the handshake. The first answer's code must be `reason`, or, when
        None, less than 0x80. Returns the PUBACK or PUBREC; without ack the packet identifier."""
        if qos and pid is None:
            pid = self.new_pid()
        self.send(publish(topic, payload, qos, retain, dup, pid, props, self.version),
                  "PUBLISH %s pid=%s qos=%d retain=%d dup=%d %d bytes %s" % (
                      short(topic), pid, qos, retain, dup, len(payload), props or ""))
        if not qos or not ack:
            return pid
        p = self.expect_later(PUBACK if qos == 1 else PUBREC, pid=pid)
        if p.reason not in as_list(reason) if reason is not None else p.reason >= 0x80:
            raise Failure("%s: got %r, wanted %s" % (self.name, p, hexes(reason) if reason is not None else "success"))
        if qos == 2 and p.reason < 0x80:
            self.release(pid)
        return p

    def release(self, pid):
        """The second half of QoS 2: PUBREL, PUBCOMP."""
        self.send(ack(PUBREL, pid))
        return self.expect_later(PUBCOMP, pid=pid, reason=0)

    def disconnect(self, reason=None, props=None):
        """DISCONNECT, then wait until the server closed."""
        self.send(disconnect(reason, props))
        while self.receive() is not None:
            pass
        self.close()


def short(value):
    shown = repr(value)
    return shown if len(shown) <= 200 else "%s...(%d)" % (shown[:160], len(shown))


def hexes(reasons):
    return " or ".join("0x%02x" % r for r in as_list(reasons))
