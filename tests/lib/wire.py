"""MQTT packets to bytes and back, written from the specification and not from the broker's codec.

Why: a test that used the broker's own codec would repeat its mistakes. The encoders build what they are told, right
or wrong, so that tests can send what no client library would. The decoder is the opposite: it is the judge of what
a *server* sends and raises Malformed for each thing the specification forbids in it (reserved flags, properties that
do not belong, reason codes of other packets, lengths that are not minimal, bytes left over).

Versions are 3 (3.1), 4 (3.1.1) and 5. Properties are a dict of the names in PROPERTIES; the two that may repeat are
lists: user_property of (name, value) pairs, subscription_id of numbers.
"""

import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, \
    PINGRESP, DISCONNECT, AUTH = range(1, 16)
WILL = 0  # not a packet: the set of properties that a will may have

TYPE_NAMES = ["RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
              "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"]

# name: identifier, kind on the wire, packets that may carry it
PROPERTIES = {
    "payload_format": (0x01, "byte", {PUBLISH, WILL}),
    "message_expiry": (0x02, "u32", {PUBLISH, WILL}),
    "content_type": (0x03, "string", {PUBLISH, WILL}),
    "response_topic": (0x08, "string", {PUBLISH, WILL}),
    "correlation_data": (0x09, "binary", {PUBLISH, WILL}),
    "subscription_id": (0x0B, "varint", {PUBLISH, SUBSCRIBE}),
    "session_expiry": (0x11, "u32", {CONNECT, CONNACK, DISCONNECT}),
    "assigned_client_id": (0x12, "string", {CONNACK}),
    "server_keep_alive": (0x13, "u16", {CONNACK}),
    "auth_method": (0x15, "string", {CONNECT, CONNACK, AUTH}),
    "auth_data": (0x16, "binary", {CONNECT, CONNACK, AUTH}),
    "request_problem_info": (0x17, "byte", {CONNECT}),
    "will_delay": (0x18, "u32", {WILL}),
    "request_response_info": (0x19, "byte", {CONNECT}),
    "response_info": (0x1A, "string", {CONNACK}),
    "server_reference": (0x1C, "string", {CONNACK, DISCONNECT}),
    "reason_string": (0x1F, "string", {CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}),
    "receive_max": (0x21, "u16", {CONNECT, CONNACK}),
    "topic_alias_max": (0x22, "u16", {CONNECT, CONNACK}),
    "topic_alias": (0x23, "u16", {PUBLISH}),
    "maximum_qos": (0x24, "byte", {CONNACK}),
    "retain_available": (0x25, "byte", {CONNACK}),
    "user_property": (0x26, "pair", set(range(16)) - {PINGREQ, PINGRESP}),
    "maximum_packet_size": (0x27, "u32", {CONNECT, CONNACK}),
    "wildcard_available": (0x28, "byte", {CONNACK}),
    "subscription_id_available": (0x29, "byte", {CONNACK}),
    "shared_available": (0x2A, "byte", {CONNACK}),
}
PROPERTY_BY_ID = {row[0]: (name, row[1], row[2]) for name, row in PROPERTIES.items()}
FLAG_PROPERTIES = {"payload_format", "request_problem_info", "request_response_info", "maximum_qos",
                   "retain_available", "wildcard_available", "subscription_id_available", "shared_available"}
NONZERO_PROPERTIES = {"subscription_id", "receive_max", "topic_alias", "maximum_packet_size"}

# Reason codes that a server may put into each packet (5.0, the tables of chapters 3.2 to 3.15).
SERVER_REASONS = {
    CONNACK: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
              0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0x00, 0x92},
    PUBCOMP: {0x00, 0x92},
    SUBACK: {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
                 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
    AUTH: {0x00, 0x18},
}


class Malformed(AssertionError):
    """The server sent what the specification forbids."""


# ---- encoding --------------------------------------------------------------------------------------------------------

def text(value):
    """A string as bytes; bytes stay as they are, so that tests can send ill-formed ones."""
    return value.encode("utf-8") if isinstance(value, str) else bytes(value)


def varint(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def string(value):
    value = text(value)
    return struct.pack(">H", len(value)) + value


def one_property(name, value):
    """Identifier and value of one property, value unchecked."""
    ident, kind, _ = PROPERTIES[name]
    if kind == "byte":
        body = struct.pack(">B", value)
    elif kind == "u16":
        body = struct.pack(">H", value)
    elif kind == "u32":
        body = struct.pack(">I", value)
    elif kind == "varint":
        body = varint(value)
    elif kind == "pair":
        body = string(value[0]) + string(value[1])
    else:
        body = string(value)
    return bytes([ident]) + body


def properties(props):
    """The property length and the properties. Takes a dict, or ready-made bytes without the length in front."""
    if isinstance(props, (bytes, bytearray)):
        return varint(len(props)) + props
    body = b""
    for name, value in (props or {}).items():
        for each in value if isinstance(value, list) else [value]:
            body += one_property(name, each)
    return varint(len(body)) + body


def packet(first_byte, body):
    return bytes([first_byte]) + varint(len(body)) + body


class Will:
    """What a CONNECT says about the will."""

    def __init__(self, topic, payload=b"", qos=0, retain=False, props=None):
        self.topic, self.payload, self.qos, self.retain, self.props = topic, text(payload), qos, retain, props


def connect(client_id="", version=5, clean=True, keep_alive=60, props=None, will=None, user=None, password=None,
            flags=None, name=None, level=None):
    """flags, name and level, where given, replace what would follow from the rest."""
    if flags is None:
        flags = (0x02 if clean else 0) | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
        if will:
            flags |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
    if name is None:
        name = "MQIsdp" if version == 3 else "MQTT"
    body = string(name) + bytes([version if level is None else level, flags]) + struct.pack(">H", keep_alive)
    if version == 5:
        body += properties(props)
    body += string(client_id)
    if will:
        body += (properties(will.props) if version == 5 else b"") + string(will.topic) + string(will.payload)
    if user is not None:
        body += string(user)
    if password is not None:
        body += string(password)
    return packet(CONNECT << 4, body)


def publish(topic, payload=b"", qos=0, retain=False, dup=False, pid=None, props=None, version=5):
    """pid is written with QoS 1 to 3 when given, and never with QoS 0."""
    first = PUBLISH << 4 | (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    body = string(topic)
    if qos and pid is not None:
        body += struct.pack(">H", pid)
    if version == 5:
        body += properties(props)
    return packet(first, body + text(payload))


def ack(ptype, pid, reason=None, props=None, flags=None):
    """PUBACK, PUBREC, PUBREL or PUBCOMP; reason and properties only when given."""
    body = struct.pack(">H", pid)
    if reason is not None or props is not None:
        body += bytes([reason or 0])
    if props is not None:
        body += properties(props)
    return packet(ptype << 4 | ((2 if ptype == PUBREL else 0) if flags is None else flags), body)


def options(qos=0, no_local=False, retain_as_published=False, retain_handling=0):
    return qos | (4 if no_local else 0) | (8 if retain_as_published else 0) | retain_handling << 4


def subscribe(pid, pairs, props=None, version=5, flags=2):
    """pairs: (filter, options byte)."""
    body = struct.pack(">H", pid) + (properties(props) if version == 5 else b"")
    for topic_filter, opts in pairs:
        body += string(topic_filter) + bytes([opts])
    return packet(SUBSCRIBE << 4 | flags, body)


def unsubscribe(pid, filters, props=None, version=5, flags=2):
    body = struct.pack(">H", pid) + (properties(props) if version == 5 else b"")
    return packet(UNSUBSCRIBE << 4 | flags, body + b"".join(string(f) for f in filters))


def pingreq(flags=0, body=b""):
    return packet(PINGREQ << 4 | flags, body)


def disconnect(reason=None, props=None, flags=0):
    """Empty body unless a reason or properties are given; 3.x has neither."""
    body = b"" if reason is None and props is None else bytes([reason or 0])
    if props is not None:
        body += properties(props)
    return packet(DISCONNECT << 4 | flags, body)


def auth(reason=None, props=None, flags=0):
    body = b"" if reason is None and props is None else bytes([reason or 0])
    if props is not None:
        body += properties(props)
    return packet(AUTH << 4 | flags, body)


# ---- decoding --------------------------------------------------------------------------------------------------------

class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Malformed("packet ends too early: %s" % self.data.hex())
        self.at += count
        return self.data[self.at - count:self.at]

    def byte(self):
        return self.take(1)[0]

    def u16(self):
        return struct.unpack(">H", self.take(2))[0]

    def u32(self):
        return struct.unpack(">I", self.take(4))[0]

    def varint(self):
        value, start = 0, self.at
        for shift in (0, 7, 14, 21):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                if varint(value) != self.data[start:self.at]:
                    raise Malformed("variable byte integer is not minimal [MQTT-1.5.5-1]")
                return value
        raise Malformed("variable byte integer of five bytes")

    def binary(self):
        return self.take(self.u16())

    def string(self):
        raw = self.binary()
        try:
            value = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("string is not UTF-8 [MQTT-1.5.4-1]: %s" % raw.hex()) from None
        if "\0" in value:
            raise Malformed("string holds U+0000 [MQTT-1.5.4-2]")
        return value

    def rest(self):
        return self.take(len(self.data) - self.at)

    def left(self):
        return len(self.data) - self.at


def read_property(c, props, ptype):
    ident = c.varint()
    if ident not in PROPERTY_BY_ID:
        raise Malformed("unknown property 0x%02x" % ident)
    name, kind, packets = PROPERTY_BY_ID[ident]
    if ptype not in packets or (ptype == DISCONNECT and name == "session_expiry"):
        raise Malformed("%s must not carry %s" % (TYPE_NAMES[ptype], name))
    value = {"byte": c.byte, "u16": c.u16, "u32": c.u32, "varint": c.varint, "string": c.string, "binary": c.binary,
             "pair": lambda: (c.string(), c.string())}[kind]()
    if name in FLAG_PROPERTIES and value not in (0, 1):
        raise Malformed("%s is %r" % (name, value))
    if name in NONZERO_PROPERTIES and value == 0:
        raise Malformed("%s is 0" % name)
    if name == "user_property" or (name == "subscription_id" and ptype == PUBLISH):
        props.setdefault(name, []).append(value)
    elif name in props:
        raise Malformed("%s given twice" % name)
    else:
        props[name] = value


def read_properties(c, ptype):
    inner = Cursor(c.take(c.varint()))
    props = {}
    while inner.left():
        read_property(inner, props, ptype)
    if "auth_data" in props and "auth_method" not in props:
        raise Malformed("Authentication Data without Authentication Method")
    return props


class Packet:
    """One packet as received: `type`, `flags`, `size`, `raw`, and by type: session_present, reason, reasons, props,
    topic, qos, retain, dup, pid, payload. A field that the type has not is None."""

    FIELDS = ("session_present", "reason", "reasons", "topic", "qos", "retain", "dup", "pid", "payload", "props")

    def __init__(self, ptype, flags, raw):
        self.type, self.flags, self.raw, self.size = ptype, flags, raw, len(raw)
        for field in self.FIELDS:
            setattr(self, field, None)
        self.props = {}

    def __repr__(self):
        parts = [TYPE_NAMES[self.type]]
        for field in self.FIELDS:
            value = getattr(self, field)
            if value is None or value == {} or (field in ("retain", "dup") and not value):
                continue
            if field == "reason":
                value = "0x%02x" % value
            shown = value if isinstance(value, str) and field == "reason" else repr(value)
            parts.append("%s=%s" % (field, shown if len(shown) < 160 else "%s...(%d)" % (shown[:120], len(shown))))
        return " ".join(parts)


def read_connack(p, c, version):
    flags = c.byte()
    if flags & 0xFE or (version == 3 and flags):
        raise Malformed("reserved CONNACK flags set [MQTT-3.2.2-1]")
    p.session_present, p.reason = bool(flags), c.byte()
    if version == 5:
        p.props = read_properties(c, CONNACK)
    if p.reason and p.session_present:
        raise Malformed("Session Present in a refusal [MQTT-3.2.2-6]")
    if version < 5 and p.reason > 5:
        raise Malformed("CONNACK return code %d" % p.reason)


def read_publish(p, c, version):
    p.dup, p.qos, p.retain = bool(p.flags & 8), p.flags >> 1 & 3, bool(p.flags & 1)
    if p.qos == 3 or (p.dup and p.qos == 0):
        raise Malformed("PUBLISH flags %x" % p.flags)
    p.topic = c.string()
    if p.qos:
        p.pid = c.u16()
        if p.pid == 0:
            raise Malformed("PUBLISH with packet identifier 0 [MQTT-2.2.1-4]")
    if version == 5:
        p.props = read_properties(c, PUBLISH)
    if not p.topic and "topic_alias" not in p.props:
        raise Malformed("PUBLISH without topic and alias")
    if "+" in p.topic or "#" in p.topic:
        raise Malformed("PUBLISH to a wildcard")
    p.payload = c.rest()


def read_ack(p, c, version):
    p.pid, p.reason = c.u16(), 0
    if version == 5 and c.left():
        p.reason = c.byte()
        if c.left():
            p.props = read_properties(c, p.type)


def read_suback(p, c, version):
    p.pid = c.u16()
    if version == 5:
        p.props = read_properties(c, p.type)
    p.reasons = list(c.rest())
    if version < 5 and p.type == SUBACK and any(r not in (0, 1, 2, 0x80) for r in p.reasons):
        raise Malformed("SUBACK return codes %r" % p.reasons)
    if version < 5 and p.type == UNSUBACK and p.reasons:
        raise Malformed("UNSUBACK with a payload")


def read_last(p, c, version):
    """DISCONNECT and AUTH, which only 5.0 servers send."""
    if version < 5:
        raise Malformed("a 3.x server must not send %s" % TYPE_NAMES[p.type])
    p.reason = c.byte() if c.left() else 0
    if c.left():
        p.props = read_properties(c, p.type)


READERS = {CONNACK: read_connack, PUBLISH: read_publish, PUBACK: read_ack, PUBREC: read_ack, PUBREL: read_ack,
           PUBCOMP: read_ack, SUBACK: read_suback, UNSUBACK: read_suback, DISCONNECT: read_last, AUTH: read_last,
           PINGRESP: lambda p, c, version: None}


def decode(buffer, version):
    """Cut the first packet off the front of a bytearray and check it. None when it is not whole yet."""
    at, length, shift = 1, 0, 0
    while True:
        if at >= len(buffer):
            return None
        byte = buffer[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
        if shift == 28:
            raise Malformed("remaining length of five bytes")
    if varint(length) != bytes(buffer[1:at]):
        raise Malformed("remaining length is not minimal [MQTT-1.5.5-1]")
    if len(buffer) < at + length:
        return None
    raw = bytes(buffer[:at + length])
    del buffer[:at + length]

    p = Packet(raw[0] >> 4, raw[0] & 15, raw)
    if p.type not in READERS:
        raise Malformed("a server must not send %s" % TYPE_NAMES[p.type])
    if p.type != PUBLISH and p.flags != (2 if p.type == PUBREL else 0):
        raise Malformed("reserved flags %x in %s [MQTT-2.1.3-1]" % (p.flags, TYPE_NAMES[p.type]))
    c = Cursor(raw[at:])
    READERS[p.type](p, c, version)
    if c.left():
        raise Malformed("%d bytes left over in %r" % (c.left(), p))
    if version == 5 and p.type in SERVER_REASONS:
        for reason in p.reasons if p.reasons is not None else [p.reason]:
            if reason not in SERVER_REASONS[p.type]:
                raise Malformed("%s must not carry reason code 0x%02x" % (TYPE_NAMES[p.type], reason))
    return p
