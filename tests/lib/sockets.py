"""What a scripted client may dial: TCP, TLS, WebSocket, WebSocket over TLS, a Unix socket -- each with the few methods of a
socket that lib.mqtt.Client uses, so that one test can run over all of them.

WebSocket is written out here (RFC 6455): a test's client needs to break the rules, and a library would not.
"""

import base64
import os
import socket
import ssl
import struct

TRANSPORTS = ("tcp", "tls", "ws", "wss", "unix")


def tls_context(ca=None, certificate=None, key=None, alpn=None, version=None):
    """A client's context; without a CA the server may be anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE
    if ca:
        context.load_verify_locations(ca)
    if certificate:
        context.load_cert_chain(certificate, key)
    if alpn:
        context.set_alpn_protocols(alpn)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class TlsSocket:
    """An SSLSocket that ends as a socket does."""

    def __init__(self, sock, context, host, session=None):
        self.tls = context.wrap_socket(sock, server_hostname=host, suppress_ragged_eofs=True, session=session)

    def __getattr__(self, name):
        return getattr(self.tls, name)

    def recv(self, size):
        try:
            return self.tls.recv(size)
        except ssl.SSLWantReadError as e:
            raise socket.timeout() from e
        except ssl.SSLError as e:
            if "timed out" in str(e):
                raise socket.timeout() from e
            return b""

    def sendall(self, data):
        try:
            self.tls.sendall(data)
        except (ssl.SSLError, OSError) as e:
            if isinstance(e, (BrokenPipeError, ConnectionResetError)):
                raise
            raise BrokenPipeError(str(e)) from e

    def shutdown(self, how):
        socket.socket.shutdown(self.tls, how)


def frame(payload, opcode=2, fin=True, mask=b"abcd", reserved=0):
    """One frame of a client. mask None: not masked, against the rules."""
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    bit = 0x80 if mask is not None else 0
    size = len(payload)
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if mask is None:
        return head + payload
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def upgrade(path="/mqtt", protocol="mqtt", host="localhost", extra=(), key=None):
    lines = ["GET %s HTTP/1.1" % path, "Host: " + host, "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Key: " + (key or base64.b64encode(os.urandom(16)).decode()), "Sec-WebSocket-Version: 13"]
    if protocol is not None:
        lines.append("Sec-WebSocket-Protocol: " + protocol)
    return ("\r\n".join(lines + list(extra)) + "\r\n\r\n").encode()


class WebSocket:
    """A WebSocket over a socket. recv gives the payload of binary frames; what else came is in `control`."""

    def __init__(self, sock, path="/mqtt", protocol="mqtt", extra=()):
        self.sock, self.buffer, self.control, self.close_code = sock, b"", [], None
        sock.sendall(upgrade(path, protocol, extra=extra))
        while b"\r\n\r\n" not in self.buffer:
            data = sock.recv(4096)
            if not data:
                raise ConnectionRefusedError("closed in the handshake: %r" % self.buffer)
            self.buffer += data
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        self.head = head.decode()
        if " 101 " not in self.head.splitlines()[0]:
            raise ConnectionRefusedError(self.head)

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def sendall(self, data):
        self.sock.sendall(frame(bytes(data)))

    def take_frame(self):
        """(opcode, payload) of the first whole frame, or None."""
        b = self.buffer
        if len(b) < 2:
            return None
        size, at = b[1] & 127, 2
        if b[1] & 0x80:
            raise AssertionError("the server masks its frames")
        if size == 126 and len(b) >= 4:
            size, at = struct.unpack(">H", b[2:4])[0], 4
        elif size == 127 and len(b) >= 10:
            size, at = struct.unpack(">Q", b[2:10])[0], 10
        elif size >= 126:
            return None
        if len(b) < at + size:
            return None
        self.buffer = b[at + size:]
        return b[0] & 15, b[at:at + size]

    def recv(self, size):
        """Bytes of MQTT; b"" when the server has closed, by a Close frame or the connection."""
        while True:
            got = self.take_frame()
            if got is None:
                data = self.sock.recv(size)
                if not data:
                    return b""
                self.buffer += data
                continue
            opcode, payload = got
            if opcode == 2 and payload:
                return payload
            if opcode == 8:
                self.close_code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else 1005
                return b""
            if opcode != 2:
                self.control.append((opcode, payload))


class Ended:
    """Of a connection that the server closed in the midst of a handshake: as it looks over TCP, where there is none."""

    def recv(self, size):
        return b""

    def sendall(self, data):
        raise BrokenPipeError("closed in the handshake")

    def __getattr__(self, name):
        return lambda *_: None


def dial_or_ended(*args, **kwargs):
    try:
        return dial(*args, **kwargs)
    except (ConnectionRefusedError, ConnectionResetError, ssl.SSLError):
        return Ended()


def dial(transport, host, port, timeout, context=None, path=None, source=None, server_name="localhost", session=None,
         first=b"", **websocket):
    """A connected socket of this kind. path: of a Unix socket, or what a WebSocket asks for. server_name (or None),
    session: for TLS. first: sent before all else, as a load balancer does."""
    if transport == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(path)
        return sock
    sock = socket.create_connection((host, port), timeout, source)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.sendall(first)
        if transport in ("tls", "wss"):
            sock = TlsSocket(sock, context or tls_context(), server_name, session)
        if transport in ("ws", "wss"):
            sock = WebSocket(sock, path or "/mqtt", **websocket)
    except BaseException:
        sock.close()
        raise
    return sock
