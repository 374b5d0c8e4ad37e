"""A real browser: MQTT.js in a page of Chromium, over WebSocket with and without TLS."""

import os
import shutil

from kit import HERE, Skip, check_equal
from lib.broker import Broker, Options
from mqttjs import install

PASSED = ["ok connect", "ok 1000 each way", "ok qos 2", "ok will", "ok reconnect", "ok end"]


def run_page(ctx, transport):
    ctx.need_tern("mosquitto is not configured for WebSocket here")
    chromium = shutil.which("chromium")
    if not chromium:
        raise Skip("Chromium is not installed")
    modules = install(ctx)
    opts = Options(ctx.opts.tern, ctx.opts.backend, ctx.opts.shards, transport=transport)
    broker = ctx.start(Broker(opts))
    library = os.path.join(modules, "mqtt", "dist", "mqtt.min.js")
    out = ctx.run(["node", os.path.join(HERE, "browser_run.js"), chromium, library, os.path.join(HERE, "browser_page.js"),
                   "%s://127.0.0.1:%d/mqtt" % (transport, broker.port)], 300, env={**os.environ, "NODE_PATH": modules})
    check_equal(out.splitlines(), PASSED, "what the page did")


def test_over_websocket(ctx):
    run_page(ctx, "ws")


def test_over_websocket_and_tls(ctx):
    run_page(ctx, "wss")
