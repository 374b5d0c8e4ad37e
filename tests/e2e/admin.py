"""The admin port: health, metrics, who may come, and that whoever misuses it harms no MQTT client."""

import base64
import hashlib
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request

from kit import check, check_equal, eventually
from lib import metrics_reference
from lib.broker import free_port
from lib.certificates import Authority
from lib.mqtt import Client

TIMEOUT = 30


def start(ctx, **settings):
    """A broker with an admin port, and that port."""
    ctx.need_tern("it is about our own admin port")
    port = free_port()
    keys = {"admin." + name: value for name, value in settings.items()}
    return ctx.broker({"admin.listen": "127.0.0.1:%d" % port, **keys}), port


def fetch(port, path, headers=None, method=None, scheme="http", context=None):
    """(status, body) of one request."""
    request = urllib.request.Request("%s://127.0.0.1:%d%s" % (scheme, port, path), headers=headers or {},
                                     method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def value(page, name):
    return float(re.search(r"^%s (\S+)$" % re.escape(name), page, re.MULTILINE).group(1))


def test_health_and_metrics(ctx):
    broker, port = start(ctx)
    check_equal(fetch(port, "/livez"), (200, "ok\n"), "/livez")
    eventually("the node is ready", lambda: fetch(port, "/readyz")[0] == 200, TIMEOUT)
    status, text = fetch(port, "/readyz?verbose")
    check(status == 200 and "[+]" in text and "[-]" not in text, "/readyz?verbose: %r" % text)
    client = Client(broker.port, client_id="secret-client")
    client.open()
    client.subscribe("secret/topic", qos=1)
    client.publish("secret/topic", b"x", qos=1)
    client.expect_publish(payload=b"x")
    status, page = fetch(port, "/metrics")
    check_equal(status, 200, "/metrics")
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=TIMEOUT,
                          check=False)
    check(done.returncode == 0 and not done.stdout + done.stderr, "promtool: %s%s" % (done.stdout, done.stderr))
    check("secret" not in page, "a client id or topic stands in the page")
    check_equal(value(page, 'tern_publish_received_total{qos="1"}'), 1, "PUBLISH of QoS 1")
    check_equal(value(page, 'tern_connects_total{version="5.0"}'), 1, "CONNECT of 5.0")
    check_equal(value(page, 'tern_packets_sent_total{packet="suback"}'), 1, "SUBACK")
    check_equal(value(page, "tern_route_propagation_seconds_count"), 1, "SUBSCRIBE timed")
    check_equal(value(page, 'tern_listener_connections{listener="%s"}' % broker.address()), 1, "of the listener")
    classes = [int(n) for n in re.findall(r"^tern_memory_bytes\{.*\} (\d+)$", page, re.MULTILINE)]
    check_equal(sum(classes), value(page, "process_resident_memory_bytes"), "the classes of memory")
    said, written = metrics_reference.rows(page), metrics_reference.written()
    for name in metrics_reference.OPTIONAL:
        said.setdefault(name, written.get(name))
    check_equal(said, written, "broker/admin/METRICS.md (tests/lib/metrics_reference.py --write)")
    client.disconnect()
    eventually("the disconnection is counted", lambda: value(
        fetch(port, "/metrics")[1], 'tern_disconnects_total{reason="normal"}') == 1, TIMEOUT)


def user_line(name, role, password):
    salt = b"twelve bytes"
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 1000)
    return "%s:%s:$7$1000$%s$%s\n" % (name, role, base64.b64encode(salt).decode(), base64.b64encode(digest).decode())


def token_line(name, role, token):
    return "%s:%s:%s\n" % (name, role, hashlib.sha256(token.encode()).hexdigest())


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()}


def bearer(token):
    return {"Authorization": "Bearer " + token}


def test_who_may_come(ctx):
    ctx.need_tern("it is about our own admin port")
    users, tokens = os.path.join(ctx.directory, "users"), os.path.join(ctx.directory, "tokens")
    with open(users, "w", encoding="utf-8") as f:
        f.write("# who looks on\n" + user_line("anna", "viewer", "right"))
    with open(tokens, "w", encoding="utf-8") as f:
        f.write(token_line("prometheus", "viewer", "abc"))
    authority = os.path.join(ctx.directory, "ca")
    Authority(authority).server("server", ["localhost", "127.0.0.1"])
    broker, port = start(ctx, users_file=users, tokens_file=tokens, metrics_open=False,
                         certificate=authority + "/server.pem", key=authority + "/server.key")
    context = ssl.create_default_context(cafile=authority + "/ca.pem")

    def status(headers, path="/metrics"):
        return fetch(port, path, headers, scheme="https", context=context)[0]

    check_equal(status({}, "/livez"), 200, "/livez without login")
    check_equal(status({}), 401, "without login")
    for _ in range(2):
        check_equal(status(basic("anna", "right")), 200, "the right password")
    check_equal(status(basic("anna", "wrong")), 401, "a wrong password")
    check_equal(status(basic("nobody", "right")), 401, "no such user")
    check_equal(status({"Authorization": "Basic %%"}), 401, "no base64")
    check_equal(status(bearer("abc")), 200, "a token")
    check_equal(status(bearer("abd")), 401, "another token")
    with open(tokens, "w", encoding="utf-8") as f:
        f.write(token_line("prometheus", "viewer", "abd"))
    broker.process.send_signal(signal.SIGHUP)
    eventually("the new token is good", lambda: status(bearer("abd")) == 200, TIMEOUT)
    check_equal(status(bearer("abc")), 401, "the old token")


def test_what_is_refused_at_the_start(ctx):
    ctx.need_tern("it is about our own configuration")
    bad = os.path.join(ctx.directory, "bad")
    with open(bad, "w", encoding="utf-8") as f:
        f.write("# one\nanna:admin:$7$1$YQ==$YQ==\n")
    for settings, status, sentence in (
            (["admin.listen=0.0.0.0:0"], 2, "admin.listen: 0.0.0.0:0 can be reached from elsewhere"),
            (["admin.listen=nowhere"], 2, "admin.listen: nowhere is not ADDRESS:PORT"),
            (["admin.certificate=x"], 2, "admin.certificate and admin.key belong together"),
            (["admin.listen=127.0.0.1:0", "admin.users_file=" + bad], 1, bad + ":2: the role is")):
        command = [ctx.opts.tern, "--listen", "tcp://127.0.0.1:0"]
        for setting in settings:
            command += ["--set", setting]
        output = ctx.run(command, status=status)
        check(sentence in output, "%s: %s" % (settings, output))


def send(port, data):
    s = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    s.sendall(data)
    return s


def test_misuse_harms_no_client(ctx):
    broker, port = start(ctx)
    client = Client(broker.port)
    client.open()
    client.subscribe("a/b", qos=1)
    over, rounds, problems = threading.Event(), [0], []

    def work():
        try:
            while not over.is_set():
                client.publish("a/b", b"%d" % rounds[0], qos=1)
                client.expect_publish(payload=b"%d" % rounds[0])
                rounds[0] += 1
        except Exception as e:  # told below, on the test's own thread
            problems.append(e)

    worker = threading.Thread(target=work)
    worker.start()
    host = b"Host: localhost\r\n"
    held = [send(port, b"GET /livez HTTP/1.1\r\nHost: loc") for _ in range(80)]  # more than there is room for
    held.append(send(port, b"POST /livez HTTP/1.1\r\n" + host + b"Content-Length: 1000000\r\n\r\n" + b"x" * 500000))
    greedy = send(port, (b"GET /metrics HTTP/1.1\r\n" + host + b"\r\n") * 1000)  # and never reads
    held.append(greedy)
    for junk, answer in ((b"GET / HTTP/1.1\r\nX: " + b"y" * 20000 + b"\r\n\r\n", b" 431 "), (b"\x16\x03\x01" * 100, b" 400 "),
                         (b"GET /livez HTTP/9\r\n\r\n", b" 400 ")):
        s = send(port, junk)
        got = s.recv(4096)
        check(answer in got, "%r: %r" % (junk[:20], got))
        s.close()
    check_equal(fetch(port, "/livez"), (200, "ok\n"), "/livez meanwhile")
    check_equal(fetch(port, "/metrics", method="DELETE")[0], 405, "another method")
    done = rounds[0]
    eventually("the client is served meanwhile", lambda: rounds[0] >= done + 20 or problems, TIMEOUT)
    over.set()
    worker.join(TIMEOUT)
    check(not problems, "the client: %s" % problems)
    for s in held:
        s.close()
    client.disconnect()
