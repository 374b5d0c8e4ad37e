"""Who has no business at the link port of a cluster, or has lost his mind: he costs nothing, and is named once."""

import os
import socket
import ssl
import struct
import time

from cluster import client, nodes
from kit import check, check_equal, eventually
from lib.broker import free_port
from lib.certificates import Authority
from start_and_stop import expect_one_sentence, run_tern

CROWD = 1000  # 256 are listened to; those that made room for others are closed a turn later, at most a backlog at once
MEMORY = 64 << 20  # what the crowd may cost at the most, all of it together


def secure(ctx):
    """Three nodes under TLS and a gossip key, and the authority of their certificates."""
    ca = Authority(os.path.join(ctx.directory, "ca"))
    ca.node("node", ["tern"])
    ca.node("stranger", ["another"])
    keys = os.path.join(ctx.directory, "keys")
    with open(keys, "w", encoding="ascii") as f:
        f.write("11" * 32 + "\n")
    brokers = nodes(ctx, 3, **{"cluster.insecure": False, "cluster.key_file": keys, "cluster.ca": ca.path("ca.pem"),
                               "cluster.certificate": ca.path("node.pem"), "cluster.key": ca.path("node.key")})
    return ca, brokers


def link_address(broker):
    host, port = broker.settings["cluster.listen"].rsplit(":", 1)
    return host, int(port)


def field(number, kind, value):
    return bytes([number << 3 | kind]) + value


def hello(cluster=b"tern", node=b"\x77" * 16):
    """A frame beside the lanes with a HELLO that is right but for these."""
    body = (field(1, 0, b"\x01") + field(2, 0, b"\x01") + field(4, 2, bytes([len(cluster)]) + cluster) +
            field(6, 2, b"\x10" + node) + field(7, 0, b"\x01") + field(9, 0, b"\x01"))
    return struct.pack(">IBBHI", len(body), 4, 1, 0, 0) + body


def is_ended(connection, seconds=20):
    """Whether the node ends it; what it says before is thrown away."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
        return True
    except (ConnectionError, ssl.SSLError):
        return True
    except socket.timeout:
        return False


def under_tls(address, certificate=None):
    """A connection with TLS; certificate: its PEM and key, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(*certificate)
    return context.wrap_socket(socket.create_connection(address, 10))


def descriptors(broker):
    return len(os.listdir("/proc/%d/fd" % broker.pid))


def memory(broker):
    with open("/proc/%d/statm" % broker.pid, encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Service:
    """A publisher at the node that is visited and a subscriber at another: the cluster goes on."""

    def __init__(self, here, there):
        self.publisher, self.subscriber, self.count = client(here, "p"), client(there, "s"), 0
        self.subscriber.subscribe("t", qos=1)

    def check(self):
        self.count += 1
        self.publisher.publish("t", b"%d" % self.count, qos=1)
        self.subscriber.expect_publish("t", b"%d" % self.count, qos=1)

    def close(self):
        self.publisher.close()
        self.subscriber.close()


def test_strangers_are_named_once(ctx):
    """No certificate, another authority's, another cluster's, another name, 4 GB, no TLS at all: each ten times."""
    ca, (a, b, _) = secure(ctx)
    other = Authority(os.path.join(ctx.directory, "other"))
    other.node("node", ["tern"])
    address, service = link_address(a), Service(a, b)

    def files(authority, name):
        return authority.path(name + ".pem"), authority.path(name + ".key")

    def says(certificate, first):
        connection = under_tls(address, certificate)
        try:
            connection.sendall(first)
        except (ConnectionError, ssl.SSLError):
            pass  # it was refused before
        return connection

    def plain(first):
        connection = socket.create_connection(address, 10)
        connection.sendall(first)
        return connection

    huge = struct.pack(">IBBHI", 0xffffffff, 4, 1, 0, 0) + b"x" * 4000
    strangers = [
        ("no certificate", "did not return a certificate", lambda: says(None, hello())),
        ("another authority", "local issuer certificate", lambda: says(files(other, "node"), hello())),
        ("of another cluster", "not made out to this cluster", lambda: says(files(ca, "stranger"), hello())),
        ("another name", "the cluster has another name", lambda: says(files(ca, "node"), hello(b"else"))),
        ("4 GB", "it does not say HELLO", lambda: says(files(ca, "node"), huge)),
        ("no TLS", "http request", lambda: plain(b"GET / HTTP/1.1\r\n\r\n")),
    ]
    for name, words, come in strangers:
        for _ in range(10):
            with come() as connection:
                check(is_ended(connection), "%s: the connection stays" % name)
            service.check()
        named = [line for line in a.log().splitlines() if words in line]
        check_equal(len(named), 1, "%s: lines of the log %r" % (name, named))
    with says(files(ca, "node"), hello()) as connection:  # right in all, but no member: he is told to come again
        check(is_ended(connection), "who is no member stays")
    check_equal(a.log().count("event=routes_complete"), 2, "nodes that have told their filters")
    check_equal(a.log().count("event=node_gone"), 0, "nodes that are gone")
    service.close()


def test_a_crowd(ctx):
    """A thousand connections that say nothing, or half a word of TLS: memory and descriptors are bounded, a node that
    is started meanwhile gets in, and all is as before when they have gone."""
    _, (a, b, c) = secure(ctx)
    service = Service(a, b)
    service.check()
    before, memory_before = descriptors(a), memory(a)
    crowd, most = [], 0
    for i in range(CROWD):
        try:
            connection = socket.create_connection(link_address(a), 10)
            connection.setblocking(False)
            if i % 2:
                connection.send(b"\x16\x03\x01\x02\x00")
            crowd.append(connection)
        except OSError:
            pass  # its backlog is full: also a bound
        if i % 100 == 50:
            most = max(most, descriptors(a))
            service.check()
    most = max(most, descriptors(a))
    check(most <= before + CROWD * 6 // 10, "%d descriptors, %d before" % (most, before))
    check(memory(a) <= memory_before + MEMORY, "%d MiB for a crowd" % ((memory(a) - memory_before) >> 20))
    joined = a.log().count("event=routes_complete")
    c.restart(kill=True)
    eventually("a node comes in between", lambda: a.log().count("event=routes_complete") > joined, 60)
    service.check()
    for connection in crowd:
        connection.close()
    eventually("their descriptors are given back", lambda: descriptors(a) <= before + 4, 30)
    named = [line for line in a.log().splitlines() if "event=peer_lost" in line and "side=accepted" in line]
    check(len(named) < 20, "%d lines for a crowd:\n%s" % (len(named), "\n".join(named[:20])))
    service.close()


def test_silence_and_trickle(ctx):
    """Who never sends a byte, or one now and then, is sent away after a deadline."""
    _, (a, b, _) = secure(ctx)
    service = Service(a, b)
    before = descriptors(a)
    silent = [socket.create_connection(link_address(a), 10) for _ in range(20)]
    slow = socket.create_connection(link_address(a), 10)
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00":
        try:
            slow.send(bytes([byte]))
        except OSError:
            break
        time.sleep(0.5)
    check(all(is_ended(s) for s in silent + [slow]), "a silent one stays")
    for s in silent + [slow]:
        s.close()
    eventually("their descriptors are given back", lambda: descriptors(a) <= before, 30)
    check(a.log().count("no HELLO in time") <= 1, "each silent one is named")
    service.check()
    service.close()


def test_wrong_settings(ctx):
    """One sentence and the status of other wrong settings, at a start and for --test-config."""
    listen = "cluster.listen=127.0.0.1:%d" % free_port()
    cases = [
        ("cluster.listen: nowhere is not ADDRESS:PORT", ["cluster.listen=nowhere", "cluster.insecure=true"]),
        ("cluster.listen: 127.0.0.1:70000 is not", ["cluster.listen=127.0.0.1:70000", "cluster.insecure=true"]),
        ("cluster.key_file is needed", [listen]),
        ("cluster.certificate, cluster.key and cluster.ca are needed", [listen, "cluster.key_file=/x"]),
        ("cluster.seeds: nobody is not HOST:PORT", [listen, "cluster.insecure=true", "cluster.seeds=nobody"]),
        ("cluster.seeds needs cluster.listen", ["cluster.seeds=127.0.0.1:1"]),
    ]
    for words, settings in cases:
        for more in (["--test-config"], []):
            arguments = ["--listen", "tcp://127.0.0.1:%d" % free_port(), "--data", ctx.directory + "/data", *more]
            for setting in settings:
                arguments += ["--set", setting]
            status, _, err = run_tern(ctx, *arguments)
            check_equal(status, 2, "%s: status (%r)" % (settings, err))
            expect_one_sentence(err, words)


def test_files_that_are_not_there(ctx):
    """What a file holds is found out at the start: status 1, and one line of the log that names the file."""
    ca = Authority(os.path.join(ctx.directory, "ca"))
    ca.node("node", ["tern"])
    keys, bad = os.path.join(ctx.directory, "keys"), os.path.join(ctx.directory, "bad")
    with open(keys, "w", encoding="ascii") as f:
        f.write("11" * 32 + "\n")
    with open(bad, "w", encoding="ascii") as f:
        f.write("neither a key nor a certificate\n")
    good = {"cluster.key_file": keys, "cluster.ca": ca.path("ca.pem"), "cluster.certificate": ca.path("node.pem"),
            "cluster.key": ca.path("node.key")}
    for key in good:
        for path in (bad, "/nonexistent"):
            arguments = ["--listen", "tcp://127.0.0.1:%d" % free_port(), "--data", ctx.directory + "/data", "--set",
                         "cluster.listen=127.0.0.1:%d" % free_port(), "--set", "io_backend=%s" % ctx.opts.backend]
            for name, value in {**good, key: path}.items():
                arguments += ["--set", "%s=%s" % (name, value)]
            status, out, err = run_tern(ctx, *arguments)
            check_equal(status, 1, "%s=%s: status (%r)" % (key, path, out + err))
            errors = [line for line in (out + err).splitlines() if "level=error" in line]
            check_equal(len(errors), 1, "%s=%s: lines %r" % (key, path, errors))
            check("event=cluster_failed" in errors[0] and path in errors[0], "%s=%s: it says %r" % (key, path, errors))


def test_its_own_address_as_the_only_seed(ctx):
    """As a first node has it: it starts, is alone, and says nothing of strangers."""
    a = nodes(ctx, 1)[0]
    c = client(a, "c")
    c.subscribe("t", qos=1)
    c.publish("t", b"1", qos=1)
    c.expect_publish("t", b"1", qos=1)
    time.sleep(1)
    for word in ("peer_lost", "peer_refused", "node_conflict", "node_joined"):
        check(word not in a.log(), "%s of itself" % word)
    c.close()
