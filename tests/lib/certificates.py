"""Certificates for tests, made by the openssl command: an authority, servers, clients, revocations.

    ca = Authority(directory)
    ca.server("server", ["localhost", "127.0.0.1"])      # ca.path("server.pem"), ca.path("server.key")
    ca.client("device-1")
    ca.revoke("device-1"); ca.crl()                      # ca.path("crl.pem")
    ca.ocsp("server")                                    # ca.path("server.ocsp"), to be stapled
"""

import os
import subprocess

CONFIG = """
[ca]
default_ca = this
[this]
dir = %(directory)s
database = %(directory)s/index.txt
crlnumber = %(directory)s/crlnumber
default_md = sha256
default_crl_days = 30
unique_subject = no
"""


def run(*command, text=None):
    done = subprocess.run(["openssl", *command], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError("openssl %s: %s" % (" ".join(command), done.stderr))
    return done.stdout


class Authority:
    """A CA in a directory of its own; everything it signs lies beside it as NAME.pem and NAME.key."""

    def __init__(self, directory, name="Test CA"):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        with open(self.path("ca.cnf"), "w", encoding="utf-8") as f:
            f.write(CONFIG % {"directory": directory})
        open(self.path("index.txt"), "w", encoding="utf-8").close()
        with open(self.path("crlnumber"), "w", encoding="utf-8") as f:
            f.write("01\n")
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj",
            "/CN=" + name, "-keyout", self.path("ca.key"), "-out", self.path("ca.pem"), "-addext",
            "keyUsage=critical,keyCertSign,cRLSign")

    def path(self, name):
        return os.path.join(self.directory, name)

    def sign(self, name, subject, extensions, days=365, rsa=False):
        """days may be negative: the certificate has expired then."""
        key = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        run("req", "-newkey", *key, "-nodes", "-subj", subject, "-keyout", self.path(name + ".key"), "-out",
            self.path(name + ".csr"))
        with open(self.path(name + ".ext"), "w", encoding="utf-8") as f:
            f.write("\n".join(extensions) + "\n")
        run("x509", "-req", "-in", self.path(name + ".csr"), "-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"),
            "-CAcreateserial", "-days", str(days), "-extfile", self.path(name + ".ext"), "-out",
            self.path(name + ".pem"))
        return self.path(name + ".pem"), self.path(name + ".key")

    def server(self, name, hosts, days=365, rsa=False):
        sans = ",".join(("IP:" if h.replace(".", "").isdigit() or ":" in h else "DNS:") + h for h in hosts)
        return self.sign(name, "/CN=" + hosts[0], ["subjectAltName=" + sans, "extendedKeyUsage=serverAuth"], days, rsa)

    def node(self, name, clusters, days=365):
        """For a node of a cluster, which dials and is dialled."""
        return self.sign(name, "/CN=" + name, ["subjectAltName=" + ",".join("DNS:" + c for c in clusters),
                                               "extendedKeyUsage=serverAuth,clientAuth"], days)

    def client(self, name, days=365, sans=None, subject=None):
        return self.sign(name, subject or "/CN=" + name, ["extendedKeyUsage=clientAuth"] +
                         (["subjectAltName=" + sans] if sans else []), days)

    def ocsp(self, name):
        """The authority's word that this certificate is good, in DER."""
        serial = run("x509", "-in", self.path(name + ".pem"), "-noout", "-serial").strip().split("=")[1]
        with open(self.path(name + ".index"), "w", encoding="utf-8") as f:
            f.write("V\t491231235959Z\t\t%s\tunknown\t/CN=%s\n" % (serial, name))
        run("ocsp", "-index", self.path(name + ".index"), "-CA", self.path("ca.pem"), "-rsigner", self.path("ca.pem"),
            "-rkey", self.path("ca.key"), "-issuer", self.path("ca.pem"), "-cert", self.path(name + ".pem"), "-ndays",
            "7", "-respout", self.path(name + ".ocsp"))
        return self.path(name + ".ocsp")

    def revoke(self, name):
        run("ca", "-config", self.path("ca.cnf"), "-cert", self.path("ca.pem"), "-keyfile", self.path("ca.key"),
            "-revoke", self.path(name + ".pem"))

    def crl(self):
        run("ca", "-config", self.path("ca.cnf"), "-cert", self.path("ca.pem"), "-keyfile", self.path("ca.key"),
            "-gencrl", "-out", self.path("crl.pem"))
        return self.path("crl.pem")
