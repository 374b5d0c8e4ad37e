"""SCRAM-SHA-256 (RFC 5802, RFC 7677) from the client's side, and the verifiers that a password file holds of it.

Why: written from the RFC and not from the broker's code, as lib.wire is; and it can be made to say what a good client
would not: `change` gets each message just before it is sent.

    s = Scram("alice", "secret")
    s.first()             # Authentication Data of CONNECT
    s.final(server_first) # of the client's AUTH
    s.check(server_final) # of the CONNACK: raises unless the server knows the password, too
"""

import base64
import hashlib
import hmac
import os


def b64(data):
    return base64.b64encode(data).decode()


def digest(key, text):
    return hmac.new(key, text.encode() if isinstance(text, str) else text, hashlib.sha256).digest()


def keys(password, salt, iterations):
    """ClientKey, StoredKey, ServerKey."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = digest(salted, "Client Key")
    return client, hashlib.sha256(client).digest(), digest(salted, "Server Key")


def verifier(user, password, iterations=256):
    """A line of the password file: good for SCRAM and for a plain password. Few iterations: tests log in often."""
    salt = os.urandom(16)
    _, stored, server = keys(password, salt, iterations)
    return "%s:SCRAM-SHA-256$%d:%s$%s:%s\n" % (user, iterations, b64(salt), b64(stored), b64(server))


class Wrong(AssertionError):
    """The server's side of the exchange is not what the RFC says."""


class Scram:
    """One exchange. header: of GS2 (n,, unless told otherwise). change: {"first" or "final": function of the text}."""

    def __init__(self, user, password, header="n,,", change=None):
        self.user, self.password, self.header, self.change = user, password, header, change or {}
        self.nonce, self.bare, self.signed, self.server_key = b64(os.urandom(18)), None, None, None

    def changed(self, which, text):
        return self.change.get(which, lambda t: t)(text).encode()

    def first(self):
        name = self.user.replace("=", "=3D").replace(",", "=2C")
        self.bare = "n=%s,r=%s" % (name, self.nonce)
        return self.changed("first", self.header + self.bare)

    def final(self, server_first):
        text = server_first.decode()
        fields = dict(part.split("=", 1) for part in text.split(","))
        if not fields.get("r", "").startswith(self.nonce) or len(fields["r"]) <= len(self.nonce):
            raise Wrong("the server's nonce does not go on from ours: %r" % text)
        client_key, stored, self.server_key = keys(self.password, base64.b64decode(fields["s"], validate=True),
                                                   int(fields["i"]))
        bare = "c=%s,r=%s" % (b64(self.header.encode()), fields["r"])
        self.signed = ",".join((self.bare, text, bare))
        proof = bytes(a ^ b for a, b in zip(client_key, digest(stored, self.signed)))
        return self.changed("final", "%s,p=%s" % (bare, b64(proof)))

    def check(self, server_final):
        want = "v=" + b64(digest(self.server_key, self.signed))
        if server_final is None or server_final.decode() != want:
            raise Wrong("server-final is %r, wanted %s" % (server_final, want))
