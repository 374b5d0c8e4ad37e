"""Where a fuzz target begins: inputs that reach what bytes by chance hardly do.

Most targets read packets, and begin with the golden ones of tests/vectors. Each of the others has a list here, in the
shape that the head of its file tells.
"""

import glob
import os
import random
import re
import ssl

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEX = re.compile(r"^[0-9A-Fa-f ]+$")


def packets():
    """The bytes of every golden packet. Such a line has fields between bars; the packet is the longest hex field."""
    for path in sorted(glob.glob(os.path.join(ROOT, "tests/vectors/**/*.txt"), recursive=True)):
        with open(path, encoding="utf-8") as vectors:
            for line in vectors:
                fields = [f.strip() for f in line.split("|")] if not line.startswith("#") else []
                found = [f for f in fields[1:] if HEX.match(f) and len(f.replace(" ", "")) % 2 == 0]
                if found:
                    yield bytes.fromhex(max(found, key=len).replace(" ", ""))


UPGRADE = (b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
           b"Origin: http://a\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           b"Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n")


def frame(opcode, payload, masked, fin=True):
    """Masks are zero, so the payload is legible."""
    return bytes([opcode | fin << 7, len(payload) | masked << 7]) + bytes(4 * masked) + payload


def websocket():
    """How to cut, four bytes, and where to begin: 0 before the request, 2 a server that is open, 3 a client."""
    yield bytes([0, 0, 0, 0, 0]) + UPGRADE + frame(2, b"\x10\x00", True)
    for start, masked in ((2, True), (3, False)):
        yield bytes([1, 2, 3, 0, start]) + b"".join([
            frame(2, b"\xc0", masked, fin=False), frame(9, b"ping", masked), frame(0, b"\x00", masked),
            frame(10, b"", masked), frame(8, b"\x03\xe8bye", masked)])


PROXY_V2 = b"\x21\x11\x00\x16\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x07\x5b\x01\x00\x04mqtt\x04\x00\x00"
PROXY_V2_TLS = (b"\x21\x11\x00\x1c\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x07\x5b"
                b"\x20\x00\x0d\x07\x00\x00\x00\x00\x22\x00\x05alice")

SALT, KEY32 = b"c2FsdA==", b"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
KEY64 = b"mOZ5i4+ZVKJATMxxnIoPwPy40ewgAR+lo7UqXOC3uXNLH9y+bSkw6sAR+Qk/YOvdsxnTMZDB7B0WdT/iteKJAA=="
USERS = [
    b"u:$6$" + SALT + b"$" + KEY64 + b"\n",
    b"# one\n\nu:$7$101$" + SALT + b"$" + KEY64 + b"\r\n",
    b"u:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n",
    b"u:SCRAM-SHA-256$4096:" + SALT + b"$" + KEY32 + b":" + KEY32 + b"\n",
]

RULES = (b"rules:\n- allow: [publish, subscribe]\n  topic: [a/%u/#, b]\n  user: [alice, '*']\n  role: x\n"
         b"  client_id: s-*\n  address: 10.0.0.0/8\n  listener: l\n  qos: [0, 1]\n"
         b"  retain: false\n- {deny: all, topic: '#'}\n"
         b"roles:\n  x: alice\n  y: [b, c]\n")
CLAIM = b'[{"allow":"publish","topic":"a/#"},{"deny":["receive"],"topic":["$SYS/#"],"qos":2}]'


def tokens():
    """The first byte: another's token, changes to one of ours, a payload, a header, keys."""
    yield b"\x00eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIiwiZXhwIjoxOTAwMDAwNjAwfQ.AAAA"
    yield b"\x01\x00\x00\x05A"
    yield b'\x02{"sub":"a","exp":1900000600,"nbf":1,"iss":"i","aud":["x"],"a":{"roles":["r"]},"acl":' + CLAIM + b"}"
    yield b'\x03{"alg":"HS256","typ":"JWT","kid":"x"}'
    yield b'\x04{"keys":[{"kty":"oct","kid":"a","alg":"HS256","k":"' + b"A" * 43 + b'"}]}'


def answers():
    """The first byte is the status: 0 is 200, 1 is 204."""
    yield b'\x00{"result":"allow","user":"u","roles":["r"],"acl":' + CLAIM + b',"expires_at":1900000600}'
    yield b'\x00{"result":"deny"}'
    yield b"\x01"


def hello():
    """What a TLS client says first."""
    out = ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="s").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def tls():
    """An even byte and operations of two bytes, or an odd one, the size of a piece, and what a client may say."""
    shake = b"\x09\xff\x08\xff" * 3
    yield b"\x00" + shake + b"\x01\x10\x00\x20\x03\xff\x02\xff\x05\x03\x04\x07\x0b\x00\x0a\x00\x09\xff\x08\xff"
    yield b"\x00" + b"\x07\x08\x06\x04" * 20 + shake + b"\x01\x05\x0d\x00\x09\xff\x00\x05\x0c\x00\x08\xff"
    yield b"\x01\xff" + hello()
    yield b"\x01\x07" + hello() + bytes.fromhex("140303000101 15030300020100")


def written(*kinds):
    """(kind, bytes) of the golden rows of what the store keeps."""
    with open(os.path.join(ROOT, "tests/vectors/written.hex"), encoding="utf-8") as rows:
        for line in rows:
            kind = line.split(" ")[0]
            if kind in kinds:
                yield kind, bytes.fromhex(line.split(" | ")[1])


def batches():
    """Each alone, all as one, and each as entries with lengths of one byte behind a 1."""
    found = [batch for _, batch in written("batch")]
    yield b"\0" + found[0][:9] + b"".join(batch[9:] for batch in found)
    for batch in found:
        yield b"\0" + batch
        short, at = b"\1", 9
        while at < len(batch):
            size = int.from_bytes(batch[at + 1:at + 5], "big")
            short += bytes([batch[at], min(size, 255)]) + batch[at + 5:at + 5 + min(size, 255)]
            at += 5 + size
        yield short


def rows():
    """The letter of its key before each."""
    letters = {"session": b"s", "entry": b"q", "retained": b"r", "applied": b"a"}
    return [letters[kind] + row for kind, row in written(*letters)]


def peer_messages():
    """HELLO, its answer, members, routes (packed hashes, a wildcard), their answer, claims; and a forwarded message."""
    return [
        b"\x00\x08\x01\x10\x01\x22\x04tern\x32\x10" + bytes(16) + b"\x38\x03\x52\x03\x00\x01\x02",
        b"\x01\x0a\x02no\x10\x01\x38\x01\x42\x03\x00\x00\x00",
        b"\x02\x0a\x03abc\x10\x01",
        b"\x03\x08\x01\x1a\x10" + bytes(range(16)) + b"\x2a\x0e\x12\x03a/+\x19" + bytes(8) + b"\x20\x01",
        b"\x04\x09" + bytes(8) + b"\x10\x01",
        b"\x05\x0a\x0c\x0a\x01c\x11" + bytes(8),
        bytes(25) + b"\x00\x03\x09a/b\x05\x26\x00\x00\x00\x00payload",
    ]


def links():
    """What fuzz_link.c reads: frames of each kind behind a subscription and a publish; gossip; a greeting."""
    messages = peer_messages()
    kinds = ((6, 4, 0), (3, 2, 0), (4, 3, 1), (5, 5, 0))  # of peer_messages; the type, the link
    acts = b"".join(bytes([0, act]) for act in (0x40, 0x42, 0x43, 0xc7, 0x80, 0x41))

    def one(link, lane, kind, body):
        return bytes([3, link, lane, kind]) + len(body).to_bytes(2, "big") + body

    forward = messages[6][:26].replace(bytes(25), bytes(16) + b"\xff" * 8 + b"\x00") + messages[6][26:]
    for flags, lane in ((0, 3), (9, 2), (10, 2), (73, 2)):
        body = bytes(16) + b"\xff" * 8 + b"\x00\x01" + bytes([flags]) + b"a\x00x"
        yield b"\x00" + acts + one(0, lane, 0, body) * 3 + b"\x02\x00\x02\x01\x01\x20"
    yield b"\x00" + one(0, 2, 0, forward)
    for index, kind, link in kinds:
        yield b"\x00" + acts + one(link, 0, kind - 1 if kind != 4 else 2, messages[index][1:]) + acts
    for reason in (0, 0x10, 0x83, 0xfd, 0xfe):
        done = bytes(8) + b"\x00\x00\x00\x01" + bytes([reason])
        changes = b"\x02\x01\x02\x02\x02\x03"  # a reset, death, and back
        yield b"\x00" + one(0, 0, 2, b"\x08\x01\x10\x01") + acts + one(1, 2, 1, done) + changes + acts
    yield b"\x00" + acts + one(1, 0, 3, b"\x09\x01" + bytes(7)) + one(0, 0, 6, b"\x0a\x0b\x09" + bytes(8) + b"\x10\x01")
    found = one(0, 0, 9, b"\x09\x01" + bytes(7) + b"\x18\x01")
    yield b"\x00" + acts + one(0, 0, 8, b"\x09" + bytes(8) + b"\x1a\x01a") + found
    connect = b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01r"
    relay = (b"\x11\x07" + bytes(7) + b"\x1a" + bytes([len(connect)]) + connect + b"\x22\x01r\x32\x10" + bytes(16) +
             b"\x38\x01\x40\x01")
    for number in range(3):
        head = b"\x00\x00" + number.to_bytes(8, "big") + bytes(4)
        yield (b"\x00" + one(0, 1, 10, relay) + acts + one(0, 1, 11, b"\x01" + head + b"\xc0\x00") +
               one(0, 1, 11, b"\x01" + head + b"\x30\x04\x00\x01ax") + one(0, 1, 11, b"\x03" + head) + acts)
    for kind in range(8):
        yield b"\x01\x00\x20" + bytes([1, kind]) + bytes(range(30))
    greeting = b"\x08\x01\x10\x01\x22\x04test\x32\x10" + b"\x02" * 16 + b"\x38\x01\x48\x07\x52\x03\x00\x00\x00"
    hello = len(greeting).to_bytes(4, "big") + b"\x04\x01" + bytes(6) + greeting
    behind = b"\x00\x00\x00\x02\x00\x22" + bytes(6) + b"\x08\x01" + b"\x00\x00\x00\x0c\x04\x03" + bytes(18)
    yield b"\x02" + bytes([len(hello)]) + hello + bytes([len(behind)]) + behind
    yield b"\x02" + bytes([5]) + hello[:5] + bytes([len(hello) - 5]) + hello[5:]


SEEDS = {
    "fuzz_acl": lambda: [RULES, CLAIM, bytes(range(64))],
    "fuzz_auth_answer": answers,
    "fuzz_conn": lambda: [random.Random(i).randbytes(50 + 8 * i) for i in range(80)],  # operations: any bytes are some
    "fuzz_http1": lambda: [UPGRADE, b"GET / HTTP/1.0\n\n"],
    "fuzz_jwt": tokens,
    "fuzz_link": links,
    "fuzz_passwd": lambda: USERS + [b"".join(u.replace(b"u:", b"u%d:" % i) for i, u in enumerate(USERS))],
    "fuzz_proxy": lambda: [b"\x00PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883\r\n", b"\x01UNKNOWN\r\n",
                           b"\x024 192.0.2.7 192.0.2.8 1 2\r\n", b"\x01TCP6 2001:db8::1 ::2 4 1883\r\n",
                           b"\x03" + PROXY_V2, b"\x03" + PROXY_V2_TLS, b"\x03\x20\x00\x00\x00"],
    "fuzz_record": batches,
    "fuzz_scram": lambda: [b"\x01\x0an,,n=u,r=a", b"\x01\x0an,,n=u,r=a\x00\x00",
                           b"\x00\x0an,,n=u,r=ac=biws,r=a,p=AAAA"],
    "fuzz_snapshot": rows,
    # Where to cut, and the version of the CONNECT before.
    "fuzz_split": lambda: [bytes([3, 0, 1, 9, 0, 2, 5, 0, i % 4]) + p for i, p in enumerate(packets())],
    "fuzz_swim": lambda: [random.Random(i).randbytes(50 + 8 * i) for i in range(40)],  # operations again
    "fuzz_tls": tls,
    "fuzz_wire": peer_messages,
    "fuzz_ws": websocket,
}


def seeds(name):
    if name == "fuzz_config":
        with open(os.path.join(ROOT, "deploy/tern.yaml"), "rb") as example:
            return [example.read()]
    return list(SEEDS.get(name, packets)())
