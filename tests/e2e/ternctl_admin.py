"""ternctl over the admin port of real nodes: what it shows is what is there, what it does happens, who may not is told."""

import base64
import json
import os
import signal

from cluster import client, complete, settings
from kit import check, check_equal, eventually
from lib.broker import free_port
from ternctl import path_of, ternctl, write


def url_of(port, scheme="http"):
    return "%s://127.0.0.1:%d" % (scheme, port)


def rows(ctx, *arguments):
    """Of all nodes: one that is too busy to answer in time is asked again."""
    answer = {}

    def whole():
        answer.update(json.loads(ternctl(ctx, *arguments, "--json")[0]))
        return not answer["meta"]["missing"]

    eventually("all nodes answer", whole, 30)
    return answer["data"]


def test_a_cluster(ctx):
    """Everything is asked at one node and lives at the other."""
    ports = [free_port(), free_port()]
    links = [free_port(), free_port()]
    a, b = [ctx.broker(settings("127.0.0.1:%d" % links[0], links[i], "n%d" % i,
                                **{"admin.listen": "127.0.0.1:%d" % ports[i]})) for i in range(2)]
    for node in (a, b):
        complete(node, 1)
    os.environ["TERNCTL_URL"] = url_of(ports[0])
    try:
        subscriber = client(b, "meter/1")
        subscriber.subscribe("t/+", qos=1)
        look(ctx)
        act(ctx, subscriber)
        b.kill()
        eventually("the other node is not alive", lambda: any(
            row["node"] == "n1" and row["state"] != "alive"
            for row in json.loads(ternctl(ctx, "nodes", "list", "--json")[0])["data"]), 30)
        check(a.alive(), "the node that is asked")
    finally:
        del os.environ["TERNCTL_URL"]


def look(ctx):
    check_equal([row["node"] for row in rows(ctx, "clients", "list")], ["n1"], "where the client is")
    out = ternctl(ctx, "clients", "list", "--top", "queue")[0].splitlines()
    check(out[0].startswith("CLIENT") and out[1].startswith("meter/1 ") and " n1 " in out[1], out)
    check_equal(rows(ctx, "clients", "list", "--node", "n0"), [], "clients of the first node")
    check("t/+" in ternctl(ctx, "clients", "show", "meter/1")[0], "its subscription")
    check_equal([(row["clientid"], row["topic"]) for row in rows(ctx, "sub", "list", "--match-topic", "t/x")],
                [("meter/1", "t/+")], "who gets t/x")
    check("t/+" in ternctl(ctx, "topics", "list")[0], "the filter")
    check_equal(sorted(line.split()[0] for line in ternctl(ctx, "nodes", "list")[0].splitlines()),
                ["NODE", "n0", "n1"], "nodes")
    check("n1" in ternctl(ctx, "cluster", "status")[0], "the cluster")
    check("tern_publish_received_total" in ternctl(ctx, "nodes", "show", "n1")[0], "a metric of the other node")
    check(ternctl(ctx, "metrics", "tern_publish_rec")[0].startswith("tern_publish_received_total"), "a metric")
    check("running" in ternctl(ctx, "status")[0], "the status")
    check("tcp" in ternctl(ctx, "listeners", "list")[0], "the listeners")
    check("tern-bench" in ternctl(ctx, "bench")[0], "how to load it")
    check(ternctl(ctx, "alarms")[0].startswith("SEVERITY"), "alarms")
    for unknown in (["clients", "show", "none"], ["nodes", "show", "none"], ["retained", "get", "none"]):
        ternctl(ctx, *unknown, status=1)


def trace(ctx, subscriber):
    """What comes to the client at the other node, as it comes; Ctrl-C is how it ends."""
    program = os.path.join(os.path.dirname(ctx.opts.tern), "ternctl")
    watch = ctx.spawn([program, "trace", "start", "--clientid", "meter/1", "--payload", "text", "--duration", "10m"])

    def seen():
        ternctl(ctx, "publish", "t/traced", "see me")
        subscriber.expect_publish("t/traced", b"see me")
        return any("t/traced" in line and "see me" in line and " n1 " in line for line in watch.lines)

    eventually("the trace tells of the message", seen, 30)
    watch.process.send_signal(signal.SIGINT)
    check_equal(watch.finish(30)[0], 0, "exit status of a trace that is ended")
    ternctl(ctx, "trace", "start", "--topic", "none", "--duration", "1s")


def act(ctx, subscriber):
    ternctl(ctx, "publish", "t/x", "hello", "--qos", "1", "--user-property", "k=v")
    check_equal(subscriber.expect_publish("t/x", b"hello", qos=1).props["user_property"], [("k", "v")], "a property")
    for i in range(3):
        ternctl(ctx, "publish", "r/%d" % i, "--file", "-", "--retain", stdin="\0kept")
    check_equal([row["topic"] for row in rows(ctx, "retained", "list", "--limit", "1", "--all")],
                ["r/0", "r/1", "r/2"], "retained messages, page after page")
    _, err = ternctl(ctx, "retained", "list", "--limit", "1")
    check("--all" in err, "that there is more: %r" % err)
    check_equal(ternctl(ctx, "retained", "get", "r/1", "--raw")[0], "\0kept", "a payload")
    ternctl(ctx, "retained", "delete", "r/1")
    ternctl(ctx, "retained", "get", "r/1", status=1)
    trace(ctx, subscriber)
    ternctl(ctx, "bans", "add", "clientid", "a/b", "--for", "1h", "--reason", "noise")
    check_equal(sorted((row["node"], row["who"], row["reason"]) for row in rows(ctx, "bans", "list")),
                [("n0", "a/b", "noise"), ("n1", "a/b", "noise")], "bans")
    ternctl(ctx, "bans", "remove", "clientid", "a/b")
    check_equal(rows(ctx, "bans", "list"), [], "bans")
    ternctl(ctx, "log", "level", "debug", "--node", "n1")
    check_equal(ternctl(ctx, "log", "level", "--node", "n1")[0], "debug\n", "the level of the other node's log")
    ternctl(ctx, "drain", "start", "--node", "n1", "--wait", "10m", "--rate", "5")
    check("waiting" in ternctl(ctx, "drain", "status", "--node", "n1")[0], "that the other node drains")
    check("none" in ternctl(ctx, "drain", "stop", "--node", "n1")[0], "that it does no more")
    ternctl(ctx, "reload")
    _, err = ternctl(ctx, "clients", "kick", "meter/1", "none", status=1)
    check("none" in err, err)
    subscriber.expect_closed(0x98)


def test_who_may(ctx):
    """Users and tokens that ternctl made, over TLS with a certificate that it made."""
    port = free_port()
    token = ternctl(ctx, "token", "watch", "viewer", "--file", "tokens")[0]
    ternctl(ctx, "passwd", "users", "ops", "--role", "operator", "--kind", "pbkdf2", "--iterations", "1000",
            stdin="secret\n")
    ternctl(ctx, "certs")
    ctx.broker({"admin.listen": "127.0.0.1:%d" % port, "admin.users_file": path_of(ctx, "users"),
                "admin.tokens_file": path_of(ctx, "tokens"), "admin.certificate": path_of(ctx, "certs/server.crt"),
                "admin.key": path_of(ctx, "certs/server.key")})
    to = ["--url", url_of(port, "https"), "--cacert", "certs/ca.crt"]
    viewer = to + ["--token-file", write(ctx, "token", token)]
    operator = to + ["--user", "ops", "--password-file", write(ctx, "password", "secret\n")]
    ternctl(ctx, *viewer, "clients", "list")
    ternctl(ctx, *viewer, "retained", "delete", "none", status=1)
    ternctl(ctx, *operator, "publish", "t", "x")
    _, err = ternctl(ctx, *viewer, "publish", "t", "x", status=1)
    check("may not" in err, err)
    for nobody in (to, to + ["--token-file", write(ctx, "wrong", token[:-2] + "\n")],
                   to + ["--user", "ops", "--password-file", write(ctx, "wrong", "wrong\n")]):
        _, err = ternctl(ctx, *nobody, "clients", "list", status=1)
        check("wants to know who asks" in err, err)
    _, err = ternctl(ctx, "--url", url_of(port, "https"), "clients", "list", status=3)
    check("certificate" in err, err)
