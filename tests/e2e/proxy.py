"""The PROXY protocol: headers written by hand, and Debian's HAProxy in front of the broker."""

import os
import socket
import struct
import time

from doors import SteadyPublisher, authority, doors, ended, field
from kit import Skip, check, check_equal, eventually
from lib.broker import free_port
from lib.mqtt import CONNACK, Client, connect
from lib.sockets import tls_context

HAPROXY = "/usr/sbin/haproxy"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TRUSTED = "proxy_protocol: true, trusted_proxies: [127.0.0.0/8], allow_anonymous: true"
BY_NAME = "proxy_protocol: true, trusted_proxies: [127.0.0.0/8], authentication: [certificate], allow_anonymous: false"
TCP4, TCP6, UNIX, UDP4 = 0x11, 0x21, 0x31, 0x12


def v1(source="203.0.113.7", port=4711, family="TCP4", to="192.0.2.1"):
    return ("PROXY %s %s %s %d 1883\r\n" % (family, source, to, port)).encode()


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def ssl_tlv(common_name, client=7, verify=0):
    """PP2_TYPE_SSL with the CN of a client certificate."""
    return tlv(0x20, struct.pack(">BI", client, verify) + tlv(0x21, b"TLSv1.3") + tlv(0x22, common_name))


def v2(source="203.0.113.7", port=4711, kind=TCP4, command=1, more=b"", size=None):
    if kind in (TCP4, UDP4):
        body = socket.inet_aton(source) + socket.inet_aton("192.0.2.1") + struct.pack(">HH", port, 1883)
    elif kind == TCP6:
        body = socket.inet_pton(socket.AF_INET6, source) + bytes(15) + b"\1" + struct.pack(">HH", port, 1883)
    else:
        body = bytes(216) if kind == UNIX else b""
    body += more
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, kind, len(body) if size is None else size) + body


def proxied(house, header, door="front", client_id=None):
    """A client that a balancer announces so, not yet in."""
    return house.new(door, client_id, first=header).dial()


# ---- headers written by hand -----------------------------------------------------------------------------------------


def test_the_address_of_the_header_is_the_clients(ctx):
    house = doors(ctx, {"front": ("tcp", TRUSTED)})
    rows = [("v1", v1(), "203.0.113.7:4711"),
            ("v1, IPv6", v1("2001:db8::5", 1, "TCP6", "2001:db8::1"), "[2001:db8::5]:1"),
            ("v2", v2(), "203.0.113.7:4711"), ("v2, IPv6", v2("2001:db8::5", 65535, TCP6), "[2001:db8::5]:65535"),
            ("v2 with fields", v2(more=tlv(4, bytes(20)) + tlv(0xEA, b"x") + tlv(1, b"h2")), "203.0.113.7:4711")]
    for name, header, peer in rows:
        c = proxied(house, header).open()
        check_equal(field(house.came_in(c), "peer"), peer, name)
        c.ping()
        drip = proxied(house, b"")
        for byte in header:
            drip.sock.sendall(bytes([byte]))
        drip.open()
        check_equal(field(house.came_in(drip), "peer"), peer, name + ", byte by byte")
        together = proxied(house, header + connect("with-" + name.replace(" ", "-").replace(",", "")))
        together.expect(CONNACK, reason=0)
        together.ping()


def test_health_checks_and_unknown_peers(ctx):
    """LOCAL, UNKNOWN and families without a TCP client's address: the balancer's own address stands."""
    house = doors(ctx, {"front": ("tcp", TRUSTED)})
    for name, header in [("LOCAL", v2(command=0)), ("LOCAL without addresses", v2(kind=0, command=0)),
                         ("LOCAL with nonsense", v2(kind=0x77, command=0, more=b"\xff" * 50)),
                         ("UNKNOWN", b"PROXY UNKNOWN\r\n"), ("UNKNOWN with a tail", b"PROXY UNKNOWN ffff::1 x 1 2\r\n"),
                         ("unspecified", v2(kind=0)), ("a Unix socket", v2(kind=UNIX)), ("UDP", v2(kind=UDP4))]:
        c = proxied(house, header).open()
        check(field(house.came_in(c), "peer").startswith("127.0.0.1:"), "%s: %s" % (name, house.came_in(c)))
        c.disconnect()
        sock = house.raw("front")
        sock.sendall(header)
        sock.close()
    for _ in range(100):  # who only looks whether the door is open has often gone before it is looked at
        sock = house.raw("front")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    proxied(house, v2()).open().ping()
    check(not house.lines("event=handshake_failed"), "a health check is told as a failure")
    check(not house.lines("event=connection_refused"), "a health check is told as a stranger")


def test_headers_that_are_none(ctx):
    house = doors(ctx, {"front": ("tcp", TRUSTED)}, "limits: {connect_timeout: 2s}\n")
    steady = SteadyPublisher(house.client())
    rows = [("MQTT", connect("bare")), ("TLS", b"\x16\x03\x01\x00\x05hello"), ("garbage", bytes(range(128, 256))),
            ("a line that never ends", b"PROXY TCP4 " + b"1" * 5000),
            ("a bare line feed", v1().replace(b"\r\n", b"\n")),
            ("two spaces", v1().replace(b"TCP4 ", b"TCP4  ")), ("no ports", b"PROXY TCP4 1.2.3.4 1.2.3.4\r\n"),
            ("a port too large", v1(port=65536)), ("an address too large", v1("203.0.113.256")),
            ("IPv6 as TCP4", v1("::1")), ("another family", v1(family="TCP5")), ("lower case", v1().lower()),
            ("another version", v2()[:12] + b"\x11" + v2()[13:]), ("another command", v2(command=2)),
            ("another family, v2", v2(kind=0x41)), ("no room for the addresses", v2(kind=TCP4)[:16 - 2] + b"\0\4abcd"),
            ("a field that is cut", v2(more=b"\4\0\x20x")), ("as long as can be", v2(size=65535) + bytes(65536)),
            ("a CN that is not UTF-8", v2(more=ssl_tlv(b"\xff\xfe"))), ("a CN with a NUL", v2(more=ssl_tlv(b"a\0b")))]
    for name, data in rows:
        failed = len(house.lines("event=handshake_failed", "layer=proxy"))
        sock = house.raw("front")
        try:
            sock.sendall(data)
            check_equal(ended(sock), b"", name + ": the answer")
        except (BrokenPipeError, ConnectionResetError):
            pass
        sock.close()
        house.told(name, failed, "event=handshake_failed", "layer=proxy")
    halves, start = [house.raw("front") for _ in range(4)], time.monotonic()
    for sock, data in zip(halves, (b"", b"PROX", SIGNATURE, v2()[:20])):
        sock.sendall(data)
    for sock in halves:
        ended(sock)
        check(1.5 < time.monotonic() - start < 6, "half a header: closed after %.1f s" % (time.monotonic() - start))
        sock.close()
    check(not house.lines("event=client_connected", "listener=front"), "somebody came in")
    steady.end(at_least=20)


def test_who_may_not_say_so_is_refused(ctx):
    """Of a source that is not trusted no header is taken; and where none is expected a header is not MQTT."""
    house = doors(ctx, {"front": ("tcp", TRUSTED.replace("127.0.0.0/8", "127.0.0.1, 10.0.0.0/8"))})
    spoof = house.new("front", first=v1())
    spoof.source = ("127.0.0.2", 0)
    spoof.dial().send(connect("spoof"))
    spoof.expect_closed()
    line = house.line("event=connection_refused", "peer=127.0.0.2:", "listener=front")
    check("trusted_proxies" in line, "the reason: " + line)
    proxied(house, v1()).open().ping()
    sock = house.raw("plain")
    sock.sendall(v1() + connect("late"))
    check_equal(ended(sock), b"", "the answer to a header on a plain listener")
    check(not house.lines("event=client_connected", "client=spoof") and
          not house.lines("event=client_connected", "client=late"), "they came in")


def test_limits_go_by_the_true_address(ctx):
    house = doors(ctx, {"front": ("tcp", TRUSTED)}, "limits: {max_connections_per_address: 2}\n")
    for last in range(5):
        for _ in range(2):
            proxied(house, v2("203.0.113.%d" % last)).open()
    for last in range(5):
        c = proxied(house, v2("203.0.113.%d" % last))
        c.send(connect(c.client_id))
        check(c.receive(5) is None, "a third connection of 203.0.113.%d came in" % last)
        house.line("event=connection_refused", "peer=203.0.113.%d:" % last, "too many connections")
    house.clients[0].disconnect()
    eventually("there is room again", lambda: try_in(house, v2("203.0.113.0")))


def try_in(house, header):
    c = proxied(house, header)
    c.send(connect(c.client_id))
    return c.receive(5) is not None


def test_a_name_from_the_balancers_tls(ctx):
    house = doors(ctx, {"front": ("tcp", BY_NAME)})
    for name, header, user in [("CN", v2(more=ssl_tlv(b"device-9")), "device-9"),
                               ("UTF-8", v2(more=ssl_tlv("größe".encode())), "größe"),
                               ("a certificate of the session", v2(more=ssl_tlv(b"device-9", client=5)), "device-9")]:
        c = proxied(house, header).open()
        check_equal(field(house.came_in(c), "user"), user, name)
    for name, header in [("no TLS", v2()), ("TLS without a certificate", v2(more=ssl_tlv(b"x", client=1))),
                         ("a certificate that was not verified", v2(more=ssl_tlv(b"x", verify=1))),
                         ("not by TLS", v2(more=ssl_tlv(b"x", client=6))), ("an empty CN", v2(more=ssl_tlv(b""))),
                         ("v1", v1()), ("a health check", v2(command=0, more=ssl_tlv(b"x")))]:
        c = proxied(house, header)
        c.send(connect(c.client_id))
        c.expect_refused((0x86, 0x87))
        check(not house.lines("event=client_connected", "client=%s " % c.client_id), name + ": came in")


def test_a_header_before_tls_and_websocket(ctx):
    """The header stands outermost: TLS, then WebSocket follow."""
    ca = authority(ctx)
    files = "tls: {certificate: CA/server.pem, key: CA/server.key}"
    house = doors(ctx, {"tls": ("tls", TRUSTED + ", " + files), "ws": ("ws", TRUSTED),
                        "wss": ("wss", TRUSTED + ", " + files)})
    context = tls_context(ca.path("ca.pem"))
    for door in ("tls", "ws", "wss"):
        for header in (v1(), v2()):
            c = house.client(door, how={"first": header, **({"context": context} if door != "ws" else {})})
            check_equal(field(house.came_in(c), "peer"), "203.0.113.7:4711", "the peer on " + door)
            c.publish("behind", b"x" * 30000, qos=1)
    far = house.client("ws", how={"first": v2("127.0.0.9"), "extra": ["X-Forwarded-For: 198.51.100.3"]})
    check(field(house.came_in(far), "peer").startswith("198.51.100.3"), "X-Forwarded-For behind PROXY")
    near = house.client("ws", how={"first": v2("203.0.113.4"), "extra": ["X-Forwarded-For: 198.51.100.3"]})
    check(field(house.came_in(near), "peer").startswith("203.0.113.4"), "X-Forwarded-For of who is not trusted")


# ---- HAProxy ---------------------------------------------------------------------------------------------------------


class HaProxy:
    """HAProxy in the foreground with a configuration of the test's own; it ends with the test."""

    def __init__(self, ctx, text):
        if not os.path.exists(HAPROXY):
            raise Skip("haproxy is not installed")
        path = os.path.join(ctx.directory, "haproxy.cfg")
        with open(path, "w", encoding="utf-8") as f:
            f.write("global\n  maxconn 500\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n"
                    "  timeout server 60s\n" + text)
        self.program = ctx.spawn([HAPROXY, "-db", "-q", "-f", path])

    def wait(self, port):
        def accepts():
            check(self.program.process.poll() is None, "haproxy ended: %s" % self.program.lines[-5:])
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False
        eventually("haproxy accepts", accepts)


def behind(house, port, client_id, transport="tcp", version=5, **how):
    """A client that comes in through HAProxy; returns it and its own address as HAProxy sees it."""
    c = Client(port, client_id, version)
    c.transport, c.how = transport, how
    house.clients.append(c)
    c.open()
    own = c.sock.getsockname()
    return c, "%s:%d" % own[:2]


def exchange(c):
    c.subscribe("through/#", qos=1)
    for size in (10, 200000):
        c.publish("through/haproxy", b"h" * size, ack=False)
        c.expect_publish("through/haproxy", b"h" * size)


def test_haproxy_hands_on_tcp(ctx):
    house = doors(ctx, {"front": ("tcp", TRUSTED)})
    ports = {"send-proxy": free_port(), "send-proxy-v2": free_port()}
    proxy = HaProxy(ctx, "".join("listen %s\n  bind 127.0.0.1:%d\n  server tern 127.0.0.1:%d %s check\n" % (
        way, port, house.ports["front"], way) for way, port in ports.items()))
    for way, port in ports.items():
        proxy.wait(port)
        for version in (4, 5):
            c, own = behind(house, port, "%s-%d" % (way, version), version=version)
            check_equal(field(house.came_in(c), "peer"), own, way + ": the peer")
            exchange(c)
            c.disconnect()
    time.sleep(2.5)  # HAProxy's checks come every two seconds
    check(not house.lines("event=handshake_failed"), "a health check failed")


def test_haproxy_passes_tls_through(ctx):
    ca = authority(ctx)
    ca.client("device")
    house = doors(ctx, {"front": ("tls", TRUSTED + ", tls: {certificate: CA/server.pem, key: CA/server.key, "
                                                   "client_ca: CA/ca.pem, client_certificate: required}")})
    port = free_port()
    HaProxy(ctx, "listen tls\n  bind 127.0.0.1:%d\n  server tern 127.0.0.1:%d send-proxy-v2\n" % (
        port, house.ports["front"])).wait(port)
    context = tls_context(ca.path("ca.pem"), ca.path("device.pem"), ca.path("device.key"))
    c, own = behind(house, port, "passed-through", "tls", context=context)
    line = house.came_in(c)
    check_equal((field(line, "peer"), field(line, "user")), (own, "device"), "the peer and its name")
    exchange(c)


def test_haproxy_ends_tls_and_tells_the_name(ctx):
    ca = authority(ctx)
    ca.client("device")
    ca.client("expired", days=-1)
    with open(ca.path("both.pem"), "w", encoding="ascii") as out:
        for name in ("server.pem", "server.key"):
            with open(ca.path(name), encoding="ascii") as f:
                out.write(f.read())
    house = doors(ctx, {"front": ("tcp", BY_NAME)})
    port = free_port()
    HaProxy(ctx, "listen tls\n  bind 127.0.0.1:%d ssl crt %s ca-file %s verify optional crt-ignore-err all\n"
                 "  server tern 127.0.0.1:%d send-proxy-v2-ssl-cn\n" % (
                     port, ca.path("both.pem"), ca.path("ca.pem"), house.ports["front"])).wait(port)
    context = tls_context(ca.path("ca.pem"), ca.path("device.pem"), ca.path("device.key"))
    c, own = behind(house, port, "ended", "tls", context=context)
    line = house.came_in(c)
    check_equal((field(line, "peer"), field(line, "user")), (own, "device"), "the peer and its name")
    exchange(c)
    for name in (None, "expired"):
        more = (ca.path(name + ".pem"), ca.path(name + ".key")) if name else ()
        c = Client(port, "nameless")
        c.transport, c.how = "tls", {"context": tls_context(ca.path("ca.pem"), *more)}
        house.clients.append(c)
        c.dial().send(connect("nameless"))
        c.expect_refused((0x86, 0x87))
