"""tern-bench over every transport, against the broker that it comes with."""

import json
import os

from kit import check, check_equal
from lib.broker import ROOT, Broker, Options

TOOL = os.path.join(ROOT, "build/release/tern-bench")
WAYS = {"tcp": [], "tls": ["--ssl"], "ws": ["--ws"], "wss": ["--ssl", "--ws"]}


def opened(ctx, transport):
    ctx.need_tern("mosquitto is not configured for TLS and WebSocket here")
    return ctx.start(Broker(Options(ctx.opts.tern, ctx.opts.backend, ctx.opts.shards, transport=transport)))


def bench(ctx, broker, *arguments, status=0):
    return ctx.run([TOOL, *arguments, "-h", "localhost:%d" % broker.port, "--quiet"], 60, status)


def test_messages_over_each_transport(ctx):
    """QoS 2 both ways, none lost, doubled or out of order; a few bytes and a hundred thousand."""
    for transport, flags in WAYS.items():
        broker = opened(ctx, transport)
        for size in ("16", "100000"):
            out = bench(ctx, broker, "pair", "-c", "5", "-q", "2", "-L", "20", "--batch", "4", "--inflight", "8", "-s",
                        size, "--json", *flags)
            result = json.loads(out)
            check_equal((result["sent"], result["received"], result["check"]["lost"]), (100, 100, 0),
                        "%s, %s bytes" % (transport, size))


def test_storms_over_tls(ctx):
    broker = opened(ctx, "wss")
    result = json.loads(bench(ctx, broker, "conn", "-c", "50", "--storms", "2", "-d", "0.2", "--json", "--ssl", "--ws"))
    check(result["latency_us"]["connect"]["count"] >= 150, "every storm is connected again: %r" % result["latency_us"])


def test_whose_certificate_it_is(ctx):
    broker = opened(ctx, "tls")
    ca = os.path.join(broker.directory, "ca", "ca.pem")
    bench(ctx, broker, "conn", "-c", "3", "-d", "0.1", "--ssl", "--cacertfile", ca)
    other = os.path.join(broker.directory, "ca", "server.pem")
    out = bench(ctx, broker, "conn", "-c", "1", "-d", "0.1", "--ssl", "--cacertfile", other, status=None)
    check("certificate" in out, "a wrong authority is told: %r" % out)


def test_wrong_doors(ctx):
    plain, web = opened(ctx, "tcp"), opened(ctx, "ws")
    for broker, flags in ((plain, ["--ssl"]), (plain, ["--ws"]), (web, []), (web, ["--ws", "--path", "/elsewhere"])):
        bench(ctx, broker, "conn", "-c", "1", "-d", "0.1", "--timeout", "1", *flags, status=3)
    out = ctx.run([TOOL, "conn", "--certfile", "a.pem"], status=2)
    check("certificates are for --ssl" in out, out)
    out = ctx.run([TOOL, "conn", "--ssl", "--certfile", "a.pem"], status=2)
    check("belong together" in out, out)
    out = ctx.run([TOOL, "conn", "--ssl", "--cacertfile", "/nowhere.pem"], status=2)
    check("/nowhere.pem" in out, out)
