"""JSON Web Tokens for tests: keys of each kind, tokens signed with them, and the JWK Set that the broker is given.

RS256, ES256 and EdDSA are signed by the openssl command, HS256 by hmac: nothing here is the broker's code, nor a
library's that would refuse to make the wrong tokens that tests need.

    keys = [Key("RS256", directory, kid="one")]
    write(path, jwk_set(keys))
    keys[0].token(sub="alice", exp=time.time() + 60)
"""

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import time

MAKE = {"RS256": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        "ES256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "EdDSA": ["-algorithm", "ED25519"]}


def b64url(data):
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def openssl(*command, data=None):
    return subprocess.run(["openssl", *command], input=data, capture_output=True, check=True).stdout


def raw_signature(der):
    """r and s of an ECDSA signature in DER, as 64 bytes (RFC 7518, 3.4)."""
    def number(at):
        size = der[at + 1]
        return der[at + 2:at + 2 + size].lstrip(b"\0").rjust(32, b"\0"), at + 2 + size
    r, at = number(2)
    return r + number(at)[0]


class Key:
    """One key. A file in `directory` keeps the private part; HS256 has a secret instead."""

    serial = 0

    def __init__(self, algorithm, directory, kid=None):
        Key.serial += 1
        self.algorithm, self.kid = algorithm, kid
        self.path = os.path.join(directory, "token-%d.pem" % Key.serial)
        self.secret = os.urandom(32)
        if algorithm != "HS256":
            openssl("genpkey", *MAKE[algorithm], "-out", self.path)

    def pem(self):
        """The public key, as a configuration file may hold it."""
        return openssl("pkey", "-in", self.path, "-pubout").decode()

    def jwk(self, **more):
        if self.algorithm == "HS256":
            fields = {"kty": "oct", "k": b64url(self.secret)}
        elif self.algorithm == "RS256":
            text = openssl("rsa", "-in", self.path, "-noout", "-modulus").decode()
            modulus = bytes.fromhex(re.search("Modulus=([0-9A-F]+)", text).group(1))
            fields = {"kty": "RSA", "n": b64url(modulus), "e": "AQAB"}
        else:
            der = openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")
            fields = {"kty": "OKP", "crv": "Ed25519", "x": b64url(der[-32:])}
            if self.algorithm == "ES256":
                fields = {"kty": "EC", "crv": "P-256", "x": b64url(der[-64:-32]), "y": b64url(der[-32:])}
        fields.update({"alg": self.algorithm, "use": "sig"}, **({"kid": self.kid} if self.kid else {}))
        return {**fields, **more}

    def sign(self, text):
        data = text.encode()
        if self.algorithm == "HS256":
            return hmac.new(self.secret, data, hashlib.sha256).digest()
        if self.algorithm == "RS256":
            return openssl("dgst", "-sha256", "-sign", self.path, data=data)
        if self.algorithm == "ES256":
            return raw_signature(openssl("dgst", "-sha256", "-sign", self.path, data=data))
        with open(self.path + ".text", "wb") as f:  # Ed25519 is signed in one piece, from a file
            f.write(data)
        return openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.path, "-in", self.path + ".text")

    def token(self, header=None, **claims):
        """Claims without exp end in a minute; None takes one out. header: replaces what would stand there."""
        claims = {"exp": int(time.time()) + 60, **claims}
        head = {"typ": "JWT", "alg": self.algorithm, **({"kid": self.kid} if self.kid else {})}
        text = "%s.%s" % (b64url(json.dumps(head if header is None else header)),
                          b64url(json.dumps({k: v for k, v in claims.items() if v is not None})))
        return "%s.%s" % (text, b64url(self.sign(text)))


def jwk_set(keys):
    return json.dumps({"keys": [k if isinstance(k, dict) else k.jwk() for k in keys]})
