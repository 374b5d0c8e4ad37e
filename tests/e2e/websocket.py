"""WebSocket listeners, frame by frame: what may be cut where, what is refused with which code, whose address counts.

The statements of MQTT about WebSocket are proved in tests/conformance; here is what RFC 6455 and our settings add.
"""

import base64
import hashlib
import socket
import struct
import time

from doors import SteadyPublisher, authority, doors, ended, field
from kit import check, check_equal
from lib import sockets
from lib.mqtt import CONNACK, DISCONNECT, PINGRESP, Will, connect, decode, disconnect, pingreq, publish, subscribe
from lib.sockets import frame, tls_context, upgrade
from sys_topics import SysTopics

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Raw:
    """A WebSocket whose frames a test writes itself, and of which it reads frames."""

    def __init__(self, house, door="web", **how):
        self.ws = sockets.dial("ws", "127.0.0.1", house.ports[door], 10, **how)

    def send(self, payload, opcode=BINARY, **more):
        return self.send_bytes(frame(payload, opcode, **more))

    def send_bytes(self, data):
        self.ws.sock.sendall(data)
        return self

    def frame(self):
        """The next frame, (opcode, payload); None at the end of the connection."""
        while True:
            got = self.ws.take_frame()
            if got is not None:
                return got
            try:
                data = self.ws.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.ws.buffer += data

    def packet(self, ptype):
        """The next frame holds one packet, of this type."""
        got = self.frame()
        check(got is not None and got[0] == BINARY, "got %r, wanted a packet" % (got,))
        data = bytearray(got[1])
        p = decode(data, 5)
        check(p is not None and not data and p.type == ptype, "got %r, wanted a packet of type %d" % (got, ptype))
        return p

    def came_in(self, client_id="raw"):
        self.send(connect(client_id))
        self.packet(CONNACK)
        return self

    def closes_with(self, code, name):
        """What comes last is a Close with this code, then the end of the connection."""
        last = None
        while (got := self.frame()) is not None:
            check(last is None or last[0] != CLOSE, "%s: a frame after the Close: %r" % (name, got))
            last = got
        check(last is not None and last[0] == CLOSE, "%s: ended with %r" % (name, last))
        check_equal(struct.unpack(">H", last[1][:2])[0] if last[1] else None, code, name + ": the code of the Close")


def web_house(ctx, more="", settings="", scheme="ws"):
    return doors(ctx, {"web": (scheme, more)}, settings)


def ask(house, request, door="web"):
    """What the server answers to these bytes before it closes, or the answer's head."""
    sock = house.raw(door)
    try:
        sock.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got:
            data = sock.recv(65536)
            if not data:
                break
            got += data
        if b" 101 " not in got.split(b"\r\n")[0]:
            got += ended(sock)
        return got.decode("latin-1")
    finally:
        sock.close()


# ---- the opening handshake -------------------------------------------------------------------------------------------


def test_handshake(ctx):
    house = web_house(ctx)
    key = base64.b64encode(b"0123456789abcdef").decode()
    want = base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode()
    for offered, taken in [("mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1"), ("chat, mqtt", "mqtt"),
                           ("mqttv3.1,mqtt", "mqttv3.1")]:
        head = ask(house, upgrade(protocol=offered, key=key))
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        check_equal(head.split("\r\n")[0], "HTTP/1.1 101 Switching Protocols", offered)
        check_equal((fields["upgrade"], fields["connection"], fields["sec-websocket-accept"]),
                    ("websocket", "upgrade", want.lower()), offered + ": upgrade, connection, accept")
        check_equal(fields["sec-websocket-protocol"], taken, offered + ": the subprotocol")
        check("sec-websocket-extensions" not in fields, "an extension nobody knows")
    whole = upgrade(extra=["Cookie: a=b", "User-Agent: x", "Sec-WebSocket-Extensions: permessage-deflate"])
    sock = house.raw("web")
    for i in range(len(whole)):
        sock.sendall(whole[i:i + 1])
    check(b" 101 " in sock.recv(4096), "a request byte by byte is not answered")
    sock.close()


def test_refused_requests(ctx):
    house = web_house(ctx, "websocket: {origins: [https://app.example, https://other.example]}")
    good = upgrade().decode()
    steady = SteadyPublisher(house.client())
    rows = [("no subprotocol", upgrade(protocol=None), 400), ("another subprotocol", upgrade(protocol="chat"), 400),
            ("a subprotocol that only begins so", upgrade(protocol="mqttx"), 400),
            ("another path", upgrade("/"), 404), ("a longer path", upgrade("/mqtt/"), 404),
            ("no upgrade", good.replace("Upgrade: websocket\r\n", ""), 400),
            ("no Connection", good.replace("Connection: Upgrade\r\n", ""), 400),
            ("another method", good.replace("GET", "POST"), 405),
            ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 400),
            ("no Host", good.replace("Host: localhost\r\n", ""), 400),
            ("an older version", good.replace("Version: 13", "Version: 8"), 426),
            ("no version", good.replace("Sec-WebSocket-Version: 13\r\n", ""), 400),
            ("a short key", upgrade(key="YWJj"), 400), ("a key that is no base64", upgrade(key="*" * 22 + "=="), 400),
            ("another origin", upgrade(extra=["Origin: https://evil.example"]), 403),
            ("an origin in disguise", upgrade(extra=["Origin: https://app.example.evil"]), 403),
            ("the origin null", upgrade(extra=["Origin: null"]), 403),
            ("two origins", upgrade(extra=["Origin: https://app.example", "Origin: https://evil.example"]), 403),
            ("an allowed origin", upgrade(extra=["Origin: https://app.example"]), 101),
            ("the other allowed one", upgrade(extra=["Origin: https://other.example"]), 101), ("no origin", good, 101),
            ("a header that is too large", upgrade(extra=["X-Large: " + "x" * 40000]), 431),
            ("too many fields", upgrade(extra=["X-%d: y" % i for i in range(2000)]), 431),
            ("MQTT", connect("plain"), 400), ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
            ("a folded line", good[:-2] + " folded: x\r\n\r\n", 400), ("a bare line feed", b"\n\n", 400)]
    for name, request, status in rows:
        failed = len(house.lines("event=handshake_failed", "layer=websocket"))
        got = ask(house, request if isinstance(request, bytes) else request.encode())
        check_equal(got.split("\r\n")[0].split(" ")[:2], ["HTTP/1.1", str(status)], name)
        check(status == 101 or "\r\nConnection: close\r\n" in got, "%s: %r does not say that it ends" % (name, got))
        if status != 101:
            house.told(name, failed, "event=handshake_failed", "layer=websocket")
    steady.end()


def test_a_path_of_its_own(ctx):
    house = doors(ctx, {"web": ("ws", "websocket: {path: /a/b}")})
    check(" 101 " in ask(house, upgrade("/a/b")), "the path that was set")
    check(" 101 " in ask(house, upgrade("/a/b?token=x")), "with a query")
    check(" 404 " in ask(house, upgrade("/mqtt")), "the path that is no more")


# ---- frames ----------------------------------------------------------------------------------------------------------


def test_frames_and_packets_are_not_the_same(ctx):
    house = web_house(ctx)
    whole = connect("cut") + subscribe(1, [("w/#", 0)]) + publish("w/a", b"x" * 300) + pingreq()
    cuts = {"all in one frame": [whole], "a byte a frame": [whole[i:i + 1] for i in range(len(whole))],
            "cut inside packets": [whole[:7], whole[7:50], b"", whole[50:]]}
    for name, parts in cuts.items():
        raw, got = Raw(house), bytearray()
        raw.send_bytes(b"".join(frame(p) for p in parts))
        types = []
        while PINGRESP not in types:
            opcode, payload = raw.frame()
            check_equal(opcode, BINARY, name + ": the frame's kind")
            got += payload
            while len(got) >= 2 and (p := decode(got, 5)) is not None:
                types.append(p.type)
        check_equal(sorted(types), [2, 3, 9, 13], name + ": the packets that came")
        raw.send(disconnect()).closes_with(1000, name)


def test_the_bytes_of_frames_one_by_one(ctx):
    house = web_house(ctx)
    raw = Raw(house)
    for data in (frame(connect("drip")), frame(b"p" * 20, PING), frame(pingreq())):
        for byte in data:
            raw.send_bytes(bytes([byte]))
        if data[0] & 15 == PING:
            check_equal(raw.frame(), (PONG, b"p" * 20), "the answer to Ping")
        else:
            raw.packet(CONNACK if len(data) > 8 else PINGRESP)


def test_a_fragmented_message_with_pings_between(ctx):
    house = web_house(ctx)
    raw, packet = Raw(house), connect("fragments") + publish("f", b"y" * 200000, 1, pid=7)
    raw.send(packet[:10], fin=False)
    raw.send(b"one", PING)
    check_equal(raw.frame(), (PONG, b"one"), "a Ping within a message")
    for at in range(10, len(packet), 50000):
        raw.send(packet[at:at + 50000], 0, fin=at + 50000 >= len(packet))
        raw.send(b"nobody asked", PONG)
    types = bytearray()
    while len(types) < 2:
        got = bytearray(raw.frame()[1])
        while len(got) >= 2:
            types.append(decode(got, 5).type)
    check_equal(list(types), [2, 4], "CONNACK and PUBACK")


def test_broken_rules_and_their_codes(ctx):
    house = web_house(ctx)
    steady = SteadyPublisher(house.client("web"))
    ping = pingreq()
    rows = [("a text frame", frame(ping, TEXT), 1003), ("an empty text frame", frame(b"", TEXT), 1003),
            ("an unmasked frame", frame(ping, mask=None), 1002),
            ("an unmasked Ping", frame(b"", PING, mask=None), 1002),
            ("a reserved bit", frame(ping, reserved=4), 1002), ("reserved opcode 3", frame(ping, 3), 1002),
            ("reserved opcode 11", frame(b"", 11), 1002), ("a fragmented Ping", frame(b"", PING, fin=False), 1002),
            ("a Ping of 126 bytes", frame(b"x" * 126, PING), 1002), ("a continuation of nothing", frame(ping, 0), 1002),
            ("a message within a message", frame(ping[:1], fin=False) + frame(ping), 1002),
            ("a text frame within a message", frame(ping[:1], fin=False) + frame(b"", TEXT), 1003),
            ("a length above 2^63", b"\x82\xff" + b"\xff" * 8 + b"abcd", 1002),
            ("16 bits for a short length", b"\x82\xfe\x00\x02abcd" + bytes(2), 1002),
            ("64 bits for a short length", b"\x82\xff" + struct.pack(">Q", 2) + b"abcd" + bytes(2), 1002),
            ("a Close of one byte", frame(b"\x03", CLOSE), 1002),
            ("a Close with 1005", frame(b"\x03\xed", CLOSE), 1002),
            ("a Close with 1006", frame(b"\x03\xee", CLOSE), 1002),
            ("a Close with 99", frame(b"\x00\x63", CLOSE), 1002),
            ("a Close whose reason is not UTF-8", frame(b"\x03\xe8\xff\xfe", CLOSE), 1007)]
    for name, data, code in rows:
        broken = len(house.lines("event=handshake_failed", "layer=websocket"))
        raw = Raw(house).came_in()
        raw.send_bytes(data).closes_with(code, name)
        house.told(name, broken, "event=handshake_failed", "layer=websocket")
    steady.end(at_least=20)


def test_a_frame_of_two_to_the_63(ctx):
    """The largest length that may be: its payload is taken as it comes, and nothing is set aside for it."""
    house = web_house(ctx)
    raw = Raw(house)
    raw.send_bytes(b"\x82\xff" + struct.pack(">Q", (1 << 63) - 1) + bytes(4))
    raw.send_bytes(connect("endless"))
    raw.packet(CONNACK)
    for _ in range(3):
        raw.send_bytes(pingreq())
        raw.packet(PINGRESP)


def test_closing(ctx):
    house = web_house(ctx, settings="log: {level: debug}\n")
    for name, payload, answer in [("1000", b"\x03\xe8", 1000), ("1001 with a reason", b"\x03\xe9going", 1001),
                                  ("4321", struct.pack(">H", 4321), 4321), ("without a code", b"", None)]:
        Raw(house).came_in().send(payload, CLOSE).closes_with(answer, "a client's Close: " + name)
    Raw(house).came_in().send(disconnect()).closes_with(1000, "after the client's DISCONNECT")
    both = frame(publish("t", b"x", 1, pid=1) + disconnect()) + frame(b"\x03\xe8", CLOSE)
    Raw(house).came_in().send_bytes(both).closes_with(1000, "DISCONNECT and Close in one segment")
    raw = Raw(house).came_in("taken-over")
    house.client("web", "taken-over")
    p = raw.packet(DISCONNECT)
    check_equal(p.reason, 0x8E, "the reason in DISCONNECT")
    raw.closes_with(1000, "after the broker's DISCONNECT")
    wait = Raw(house).came_in("at-the-end")
    check_equal(house.stop(), [], "the broker's end")
    check_equal(wait.packet(DISCONNECT).reason, 0x8B, "the reason when the broker ends")
    wait.closes_with(1000, "when the broker ends")


def test_wills_know_a_close_from_a_disconnect(ctx):
    """A Close without DISCONNECT is a lost connection: the will is sent."""
    house = web_house(ctx)
    watcher = house.client()
    watcher.subscribe("will/#")
    for name, last, sent in [("close", frame(b"\x03\xe8", CLOSE), True), ("bye", frame(disconnect()), False)]:
        c = house.client("web", will=Will("will/" + name, b"gone"))
        c.sock.sock.sendall(last)
        c.expect_closed()
        if sent:
            watcher.expect_publish("will/" + name, b"gone")
        watcher.expect_nothing()


def test_a_flood_of_pings_is_bounded(ctx):
    """Who asks and asks and does not read is cut off, and nothing is left of it."""
    house = web_house(ctx)
    steady = SteadyPublisher(house.client("web"))
    sys_topics = SysTopics(house.port)
    sys_topics.fresh()
    heap = sys_topics.number("heap/current")
    raw = Raw(house).came_in("flood")
    sock = raw.ws.sock
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(5)
    flood, sent, end = frame(b"z" * 125, PING) * 400, 0, time.monotonic() + 30
    try:
        while time.monotonic() < end and sent < 200 << 20:
            sent += sock.send(flood)
    except (socket.timeout, ConnectionError):
        pass
    check(sent < 50 << 20, "%d bytes of Ping were taken without an answer being read" % sent)
    sys_topics.fresh()
    grown = sys_topics.number("heap/current") - heap
    check(grown < 8 << 20, "the heap has grown by %d bytes" % grown)
    sock.close()
    steady.end(at_least=20)


# ---- whose address ---------------------------------------------------------------------------------------------------


def test_forwarded_for_is_believed_of_who_is_trusted(ctx):
    trusting = "allow_anonymous: true, trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]"
    house = doors(ctx, {"trusting": ("ws", trusting), "not": ("ws", "")},
                  "limits: {max_connections_per_address: 3}\n")
    for door, list_of, peer in [("trusting", ["203.0.113.7"], "203.0.113.7"), ("not", ["203.0.113.7"], "127.0.0.1"),
                                ("trusting", ["198.51.100.1, 203.0.113.8"], "203.0.113.8"),
                                ("trusting", ["198.51.100.1, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
                                ("trusting", ["198.51.100.1", "203.0.113.10"], "203.0.113.10"),
                                ("trusting", ["2001:db8::7"], "[2001:db8::7]"), ("trusting", ["unknown"], "127.0.0.1"),
                                ("trusting", ["203.0.113.11, nonsense"], "127.0.0.1"), ("trusting", [], "127.0.0.1")]:
        c = house.client(door, how={"extra": ["X-Forwarded-For: " + f for f in list_of]})
        check_equal(field(house.came_in(c), "peer").rsplit(":", 1)[0], peer, "%s: the peer by %s" % (door, list_of))
        c.disconnect()
    from_one = {"extra": ["X-Forwarded-For: 203.0.113.99"]}
    for _ in range(3):
        house.client("trusting", how=from_one)
    try:
        one_more = house.new("trusting", **from_one).dial()
        one_more.send(connect("one-more"))
        check(one_more.receive(5) is None, "a fourth connection from one address was let in")
    finally:
        house.line("event=connection_refused", "peer=203.0.113.99:", "too many connections")
    house.client("trusting", how={"extra": ["X-Forwarded-For: 203.0.113.98"]}).ping()


def test_over_tls(ctx):
    """The same over TLS: records, frames and packets are cut each in their own way."""
    ca = authority(ctx)
    house = doors(ctx, {"web": ("wss", "tls: {certificate: CA/server.pem, key: CA/server.key}")})
    c = house.client("web", how={"context": tls_context(ca.path("ca.pem"))})
    tls = c.sock.sock
    packet = publish("s", b"q" * 50000, 1, pid=9)
    c.subscribe("s")
    data = frame(packet[:20000], fin=False) + frame(b"ping", PING) + frame(packet[20000:] + pingreq(), 0)
    for at in range(0, len(data), 777):
        tls.sendall(data[at:at + 777])
    seen = sorted(c.receive().type for _ in range(3))
    check_equal(seen, [3, 4, 13], "the packets that came")
    check((PONG, b"ping") in c.sock.control, "no Pong: %r" % c.sock.control)
    tls.sendall(frame(b"\x03\xe8", CLOSE))
    c.expect_closed()
    check_equal(c.sock.close_code, 1000, "the code of the answer")
