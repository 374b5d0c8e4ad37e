"""A small MQTT broker for 3.1.1 and 5.0 that does everything right, for the tests of the load tool.

Why: what the tool says about a broker can only be checked against a broker of which every step is known. This one is
written from the specification on `tests/lib/wire.py`, shares no code with Tern, and keeps a record of what it saw:
connections, publications, reads. `fake_broker.py` derives from it and goes wrong where a plan says so; methods marked
as hooks are those that it replaces.

It runs on a thread with an event loop of its own, so that one test may have several and each may stand still alone. Its
record may be read by the test once the tool has ended. It has wildcards, shares, retained messages, sessions that
outlive connections, QoS 0 to 2 both ways, Receive Maximum, keep alive. It has no wills, message expiry, topic aliases
and assigned client ids, which the tool does not use. Queues are not bounded: a test is short, and a bound would lose
messages.
"""

import asyncio
import collections
import os
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import wire  # noqa: E402  (tests/ is no package)

PROTOCOL_ERROR, NOT_AUTHORIZED = 0x82, 0x87
KEEP_ALIVE_SLACK = 1.5  # [MQTT-3.1.2-22]
SETTLE_S = 20

Connected = collections.namedtuple("Connected", "at client_id address version clean expiry keep_alive user password")
Published = collections.namedtuple("Published", "at client_id topic size qos retain")


class Message:
    """What was published, properties and all."""

    __slots__ = ("topic", "payload", "qos", "retain", "properties", "publisher")

    def __init__(self, topic, payload, qos, retain, properties, publisher):
        self.topic, self.payload, self.qos, self.retain = topic, payload, qos, retain
        self.properties, self.publisher = properties, publisher  # publisher: the client id

    def copy(self, **changes):
        fields = {name: changes.get(name, getattr(self, name)) for name in self.__slots__}
        return Message(**fields)


class Subscription:
    """One filter of one session, or one membership in a share."""

    __slots__ = ("session", "group", "levels", "qos", "no_local", "as_published", "identifier")

    def __init__(self, session, topic_filter, options, identifier):
        self.session, self.group, self.identifier = session, None, identifier
        self.qos, self.no_local, self.as_published = options & 3, bool(options & 4), bool(options & 8)
        if topic_filter.startswith(b"$share/"):
            _, self.group, topic_filter = topic_filter.split(b"/", 2)
        self.levels = topic_filter.split(b"/")

    def covers(self, topic):
        """Whether a retained message of this topic is meant."""
        levels = topic.split(b"/")
        if topic.startswith(b"$") and self.levels[0] in (b"+", b"#"):
            return False
        for i, level in enumerate(self.levels):
            if level == b"#":
                return True
            if i >= len(levels) or level not in (b"+", levels[i]):
                return False
        return len(levels) == len(self.levels)


class Tree:
    """Subscriptions by the levels of their filters, with the matches of recent topics kept."""

    CACHE_MAX = 200000

    def __init__(self):
        self.root, self.cache = ({}, []), {}

    def add(self, subscription):
        node = self.root
        for level in subscription.levels:
            node = node[0].setdefault(level, ({}, []))
        node[1].append(subscription)
        self.cache.clear()

    def remove(self, subscription):
        node = self.root
        for level in subscription.levels:
            node = node[0][level]
        node[1].remove(subscription)
        self.cache.clear()

    def match(self, topic):
        found = self.cache.get(topic)
        if found is None:
            found = []
            levels = topic.split(b"/")
            self._walk(self.root, levels, 0, found, wild=not topic.startswith(b"$"))
            if len(self.cache) < self.CACHE_MAX:
                self.cache[topic] = found
        return found

    def _walk(self, node, levels, at, found, wild=True):
        children = node[0]
        if wild and b"#" in children:
            found += children[b"#"][1]
        if at == len(levels):
            found += node[1]
            return
        if levels[at] in children:
            self._walk(children[levels[at]], levels, at + 1, found)
        if wild and b"+" in children:
            self._walk(children[b"+"], levels, at + 1, found)


class Session:
    """What is kept of a client: its subscriptions, and the messages on their way to it."""

    def __init__(self, client_id):
        self.client_id, self.connection, self.kept = client_id, None, False
        self.subscriptions = {}             # filter: Subscription
        self.waiting = collections.deque()  # of (Message, qos, retain, identifiers)
        self.open = {}                      # packet identifier: packet to be sent again on resumption, in order
        self.received = set()               # packet identifiers of QoS 2 messages that have no PUBREL yet
        self.next_id = 0

    def send(self, message, qos, retain=False, identifiers=()):
        """Send now, or when there is a connection and room in its Receive Maximum."""
        connection = self.connection
        if qos == 0:
            if connection:
                connection.send(self.encode(message, 0, retain, identifiers, 0))
        elif connection is None or self.waiting or len(self.open) >= connection.receive_max:
            self.waiting.append((message, qos, retain, identifiers))
        else:
            self.send_open(message, qos, retain, identifiers)

    def send_open(self, message, qos, retain, identifiers):
        while True:
            self.next_id = self.next_id % 65535 + 1
            if self.next_id not in self.open:
                break
        packet = self.encode(message, qos, retain, identifiers, self.next_id)
        self.open[self.next_id] = packet
        self.connection.send(packet)

    def encode(self, message, qos, retain, identifiers, packet_id):
        body = struct.pack(">H", len(message.topic)) + message.topic
        if qos:
            body += struct.pack(">H", packet_id)
        if self.connection.version == 5:
            more = b"".join(wire.one_property("subscription_id", i) for i in identifiers if i)
            body += wire.varint(len(message.properties) + len(more)) + message.properties + more
        return wire.packet(wire.PUBLISH << 4 | qos << 1 | bool(retain), body + message.payload)

    def acknowledged(self, kind, packet_id):
        """PUBACK, PUBREC or PUBCOMP came."""
        if kind == wire.PUBREC:
            release = wire.ack(wire.PUBREL, packet_id)
            self.open[packet_id] = release
            self.connection.send(release)
            return
        self.open.pop(packet_id, None)
        self.send_waiting()

    def send_waiting(self):
        while self.waiting and len(self.open) < self.connection.receive_max:
            self.send_open(*self.waiting.popleft())

    def resume(self):
        for packet in self.open.values():
            again = packet[0] | 8 if packet[0] >> 4 == wire.PUBLISH else packet[0]
            self.connection.send(bytes([again]) + packet[1:])
        self.send_waiting()


class Connection(asyncio.Protocol):
    """One connection: packets out of bytes, answers gathered into one write a turn."""

    def __init__(self, broker):
        self.broker, self.transport, self.session = broker, None, None
        self.incoming, self.out, self.flushing = bytearray(), [], False
        self.version, self.receive_max, self.keep_alive = 4, 65535, 0
        self.heard_at = time.monotonic()
        self.publishes = 0  # messages so far
        self.number = None  # place in the order of the publishers, from 1

    def connection_made(self, transport):
        self.transport = transport
        self.broker.connections.add(self)

    def connection_lost(self, exc):
        self.broker.connections.discard(self)
        self.broker.gone(self)

    def send(self, data):
        self.out.append(data)
        if not self.flushing:
            self.flushing = True
            self.broker.loop.call_soon(self.flush)

    def flush(self):
        self.flushing = False
        if self.out and not self.transport.is_closing():
            self.transport.write(b"".join(self.out))
        self.out.clear()

    def close(self):
        self.flush()
        self.transport.close()

    def data_received(self, data):
        self.heard_at = time.monotonic()
        self.incoming += data
        before, at = self.publishes, 0
        while True:
            cut = self.cut(at)
            if cut is None or self.transport.is_closing():
                break
            body_at, end = cut
            self.broker.packet(self, self.incoming[at], bytes(self.incoming[body_at:end]))
            at = end
        del self.incoming[:at]
        if self.publishes > before:
            self.broker.reads.append(self.publishes - before)

    def cut(self, at):
        """Where the body of the packet at `at` begins and ends; None when it is not whole."""
        length, shift, i, size = 0, 0, at + 1, len(self.incoming)
        while i < size:
            byte = self.incoming[i]
            length |= (byte & 0x7F) << shift
            shift += 7
            i += 1
            if byte < 0x80:
                return (i, i + length) if i + length <= size else None
        return None

    def watch(self):
        """Close when the client has been silent for too long."""
        left = self.heard_at + self.keep_alive * KEEP_ALIVE_SLACK - time.monotonic()
        if left <= 0:
            self.broker.timeouts += 1
            self.close()
        elif not self.transport.is_closing():
            self.broker.loop.call_later(left, self.watch)


class GoodBroker:
    """Everything that connections share. `with GoodBroker() as broker:` runs it; broker.port is where."""

    def __init__(self, port=0, host="127.0.0.1", receive_max=0):
        self.receive_max = receive_max  # told to 5.0 clients unless 0; whether they keep to it is for the test to see
        self.host, self.port, self.loop, self.server = host, port, None, None
        self.connections, self.sessions, self.tree = set(), {}, Tree()
        self.retained, self.turns = {}, {}
        self.publishers = 0
        self.failure = None  # an exception that must not be: the test fails
        # the record
        self.connected, self.published, self.subscribed, self.reads = [], [], [], []
        self.pings = self.timeouts = self.disconnects = 0

    # ---- running -----------------------------------------------------------------------------------------------------

    def __enter__(self):
        started = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(started.set,), daemon=True)
        self.thread.start()
        started.wait()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def settle(self, left):
        """Wait until only so many connections are left: what ended clients left in the buffers has then been read."""
        deadline = time.monotonic() + SETTLE_S
        while len(self.connections) > left and time.monotonic() < deadline:
            time.sleep(0.005)

    def run(self, started):
        """Serve until the loop is stopped; call started() when there is a port."""
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self.wrong)
        self.server = self.loop.run_until_complete(
            self.loop.create_server(lambda: Connection(self), self.host, self.port, backlog=1024))
        self.port = self.server.sockets[0].getsockname()[1]
        started()
        try:
            self.loop.run_forever()
        finally:
            self.server.close()
            for connection in list(self.connections):
                connection.transport.abort()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()

    def wrong(self, _loop, context):
        """An exception in a callback: a mistake of the tool that we cannot read, or one of ours."""
        self.failure = self.failure or context.get("exception") or context["message"]

    # ---- packets -----------------------------------------------------------------------------------------------------

    def packet(self, connection, first, body):
        kind = first >> 4
        if connection.session is None and kind != wire.CONNECT:
            if not connection.transport.is_closing() and not self.awaiting(connection):
                raise wire.Malformed("%s before CONNECT" % wire.TYPE_NAMES[kind])
            return
        if kind == wire.PUBLISH:
            self.publish(connection, first, body)
        elif kind in (wire.PUBACK, wire.PUBREC, wire.PUBCOMP):
            connection.session.acknowledged(kind, struct.unpack_from(">H", body)[0])
        elif kind == wire.PUBREL:
            packet_id = struct.unpack_from(">H", body)[0]
            connection.session.received.discard(packet_id)
            self.complete(connection, packet_id)
        elif kind == wire.CONNECT:
            self.connect(connection, body)
        elif kind == wire.SUBSCRIBE:
            self.subscribe(connection, body)
        elif kind == wire.UNSUBSCRIBE:
            self.unsubscribe(connection, body)
        elif kind == wire.PINGREQ:
            self.pings += 1
            connection.send(wire.packet(wire.PINGRESP << 4, b""))
        elif kind == wire.DISCONNECT:
            self.disconnects += 1
            connection.close()
        else:
            raise wire.Malformed("a client must not send %s" % wire.TYPE_NAMES[kind])

    def awaiting(self, connection):
        """Whether the answer to a CONNECT is still to come, so that a client may be ahead of it. Hook."""
        return False

    def connect(self, connection, body):
        c = wire.Cursor(body)
        if c.string() not in ("MQTT", "MQIsdp"):
            raise wire.Malformed("CONNECT names another protocol")
        connection.version, flags, connection.keep_alive = c.byte(), c.byte(), c.u16()
        props = wire.read_properties(c, wire.CONNECT) if connection.version == 5 else {}
        client_id = c.string() or "auto-%d" % len(self.connected)
        if flags & 4:
            raise wire.Malformed("wills are not known here")
        user = c.string() if flags & 0x80 else None
        password = c.binary() if flags & 0x40 else None
        if c.left():
            raise wire.Malformed("CONNECT goes on after its end")
        connection.receive_max = props.get("receive_max", 65535)
        clean, expiry = bool(flags & 2), props.get("session_expiry", 0)
        kept = expiry > 0 if connection.version == 5 else not clean
        self.connected.append(Connected(time.monotonic(), client_id, connection.transport.get_extra_info("peername"),
                                        connection.version, clean, expiry, connection.keep_alive, user, password))
        self.accept(connection, client_id, clean, kept)

    def accept(self, connection, client_id, clean, kept):
        """The CONNECT is in order. Hook."""
        session = self.sessions.get(client_id)
        if session and session.connection:
            taken, session.connection = session.connection, None
            taken.close()
        present = session is not None and not clean
        if not present:
            if session:
                self.forget(session)
            session = self.sessions[client_id] = Session(client_id)
        session.kept, session.connection, connection.session = kept, connection, session
        self.connack(connection, 0, present)
        if connection.keep_alive:
            connection.watch()
        if present:
            self.resume(session)

    def connack(self, connection, reason, present=False):
        props = {"receive_max": self.receive_max} if self.receive_max else {}
        more = wire.properties(props) if connection.version == 5 else b""
        connection.send(wire.packet(wire.CONNACK << 4, bytes([present, reason]) + more))

    def resume(self, session):
        """Send what a session still has to get. Hook."""
        session.resume()

    def gone(self, connection):
        session = connection.session
        if session and session.connection is connection:
            session.connection = None
            if not session.kept:
                self.forget(session)

    def forget(self, session):
        for subscription in session.subscriptions.values():
            self.tree.remove(subscription)
        self.sessions.pop(session.client_id, None)

    # ---- subscriptions -----------------------------------------------------------------------------------------------

    def subscribe(self, connection, body):
        c = wire.Cursor(body)
        packet_id = c.u16()
        props = wire.read_properties(c, wire.SUBSCRIBE) if connection.version == 5 else {}
        identifier = (props.get("subscription_id") or 0)
        codes, retained = [], []
        while c.left():
            topic_filter, options = c.string().encode(), c.byte()
            codes.append(self.grant(connection, topic_filter, options))
            if codes[-1] < 0x80:
                self.subscribed.append((connection.session.client_id, topic_filter.decode()))
                made = self.subscription(connection.session, topic_filter, options, identifier)
                retained.append((*made, options >> 4 & 3))
        more = b"\0" if connection.version == 5 else b""
        connection.send(wire.packet(wire.SUBACK << 4, struct.pack(">H", packet_id) + more + bytes(codes)))
        for subscription, is_new, handling in retained:
            if subscription.group is None and (handling == 0 or (handling == 1 and is_new)):
                self.send_retained(subscription)

    def grant(self, connection, topic_filter, options):
        """The code of the SUBACK. Hook."""
        return options & 3

    def subscription(self, session, topic_filter, options, identifier):
        old = session.subscriptions.get(topic_filter)
        if old:
            self.tree.remove(old)
        new = session.subscriptions[topic_filter] = Subscription(session, topic_filter, options, identifier)
        self.tree.add(new)
        return new, old is None

    def unsubscribe(self, connection, body):
        c = wire.Cursor(body)
        packet_id = c.u16()
        codes = b""
        if connection.version == 5:
            wire.read_properties(c, wire.UNSUBSCRIBE)
        while c.left():
            old = connection.session.subscriptions.pop(c.string().encode(), None)
            codes += bytes([0x00 if old else 0x11])
            if old:
                self.tree.remove(old)
        more = b"\0" + codes if connection.version == 5 else b""
        connection.send(wire.packet(wire.UNSUBACK << 4, struct.pack(">H", packet_id) + more))

    def send_retained(self, subscription):
        for message in self.retained_for(subscription):
            subscription.session.send(message, min(message.qos, subscription.qos), True, (subscription.identifier,))

    def retained_for(self, subscription):
        """Hook."""
        if b"+" in subscription.levels or b"#" in subscription.levels:
            return [m for m in self.retained.values() if subscription.covers(m.topic)]
        message = self.retained.get(b"/".join(subscription.levels))
        return [message] if message else []

    # ---- messages ----------------------------------------------------------------------------------------------------

    def publish(self, connection, first, body):
        size = struct.unpack_from(">H", body)[0]
        topic, at, qos, packet_id, properties = body[2:2 + size], 2 + size, first >> 1 & 3, 0, b""
        if qos:
            packet_id = struct.unpack_from(">H", body, at)[0]
            at += 2
        if connection.version == 5:
            c = wire.Cursor(body[at:at + 4])
            length = c.varint()
            properties = body[at + c.at:at + c.at + length]
            at += c.at + length
        if not topic or b"+" in topic or b"#" in topic or qos == 3 or (qos and not packet_id):
            raise wire.Malformed("PUBLISH that must not be: %s" % body[:60].hex())
        message = Message(topic, body[at:], qos, bool(first & 1), properties, connection.session.client_id)
        if qos == 2 and packet_id in connection.session.received:
            self.answer(connection, wire.PUBREC, packet_id)
            return
        if qos == 2:
            connection.session.received.add(packet_id)
        if connection.publishes == 0:
            self.publishers += 1
            connection.number = self.publishers
        connection.publishes += 1
        self.published.append(Published(time.monotonic(), message.publisher, topic.decode(), len(message.payload), qos,
                                        message.retain))
        self.take(connection, message, packet_id)

    def take(self, connection, message, packet_id):
        """A message that was not here before. Hook."""
        if message.qos:
            self.answer(connection, wire.PUBACK if message.qos == 1 else wire.PUBREC, packet_id)
        self.keep(message)
        self.deliver(message)

    def answer(self, connection, kind, packet_id):
        connection.send(wire.ack(kind, packet_id))

    def complete(self, connection, packet_id):
        """PUBREL came. Hook."""
        self.answer(connection, wire.PUBCOMP, packet_id)

    def keep(self, message):
        if message.retain and message.payload:
            self.retained[message.topic] = message
        elif message.retain:
            self.retained.pop(message.topic, None)

    def deliver(self, message):
        for target in self.targets(message):
            self.send(message, *target)

    def send(self, message, session, qos, retain, identifiers):
        session.send(message, min(qos, message.qos), retain, identifiers)

    def targets(self, message):
        """[(session, qos, retain, identifiers)], each session once."""
        plain, shares = {}, {}
        for s in self.tree.match(message.topic):
            if s.group is not None:
                shares.setdefault((s.group, b"/".join(s.levels)), []).append(s)
            elif not (s.no_local and s.session.client_id == message.publisher):
                old = plain.get(s.session)
                qos, identifiers = (max(s.qos, old[1]), old[3]) if old else (s.qos, ())
                plain[s.session] = (s.session, qos, s.as_published and message.retain, identifiers + (s.identifier,))
        found = list(plain.values())
        for key, members in shares.items():
            found += [(s.session, s.qos, False, (s.identifier,)) for s in self.pick(key, members)]
        return found

    def pick(self, key, members):
        """The member of a share whose turn it is. Hook."""
        present = [m for m in members if m.session.connection] or members
        self.turns[key] = turn = self.turns.get(key, -1) + 1
        return [present[turn % len(present)]]
