"""The dashboard in a real browser: dashboard_run.js looks at the page of a real node, as a viewer and as an operator."""

import hashlib
import os
import shutil
import urllib.error
import urllib.request

from kit import HERE, Skip, check, check_equal
from lib.broker import free_port
from lib.mqtt import Client
from mqttjs import install

HOSTILE = '<img src=x onerror="document.title=1"><script>alert(1)</script>'
PASSED = ["login is asked for", "a wrong token is refused", "a viewer sees the node", "a client is found with its reason",
          "hostile text is text", "a viewer cannot disconnect", "the keyboard reaches everything",
          "an operator disconnects", "the live view shows a message", "it fits a phone", "the console is empty"]


def fetch(port, path, headers=None):
    """(status, header fields, body) of one request."""
    try:
        request = urllib.request.Request("http://127.0.0.1:%d%s" % (port, path), headers=headers or {})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read()


def node(ctx):
    tokens, port = os.path.join(ctx.directory, "tokens"), free_port()
    with open(tokens, "w", encoding="utf-8") as f:
        for name, role in (("anna", "viewer"), ("olga", "operator")):
            f.write("%s:%s:%s\n" % (name, role, hashlib.sha256(name.encode()).hexdigest()))
    broker = ctx.broker({"admin.listen": "127.0.0.1:%d" % port, "admin.tokens_file": tokens, "node.name": "north"})
    return broker, port


def test_page(ctx):
    """It needs no login, nothing from elsewhere, and is kept by the browser until it changes."""
    _, port = node(ctx)
    for path in ("/", "/tern.js", "/tern.css", "/uplot.js", "/uplot.css"):
        status, headers, body = fetch(port, path)
        check_equal(status, 200, path)
        check("default-src 'self'" in headers["Content-Security-Policy"], "policy of %s" % path)
        check(body and headers["Cache-Control"] == "no-cache", "%s: %r" % (path, headers))
        status, headers, body = fetch(port, path, {"If-None-Match": headers["ETag"]})
        check_equal((status, body), (304, b""), "%s again" % path)
    check_equal(fetch(port, "/api/v1/nodes")[0], 401, "what it shows")


def test_in_chromium(ctx):
    chromium = shutil.which("chromium")
    if not chromium:
        raise Skip("Chromium is not installed")
    modules = install(ctx)
    broker, port = node(ctx)
    hostile = Client(broker.port, client_id=HOSTILE).open()
    hostile.subscribe(HOSTILE)
    hostile.publish(HOSTILE, HOSTILE.encode(), qos=1, retain=True)
    idle = Client(broker.port, client_id="idle").open()
    out = ctx.run(["node", os.path.join(HERE, "dashboard_run.js"), chromium, "http://127.0.0.1:%d/" % port,
                   "mqtt://127.0.0.1:%d" % broker.port, HOSTILE], 300, env={**os.environ, "NODE_PATH": modules})
    check_equal(out.splitlines(), ["ok " + line for line in PASSED], "what the page did")
    idle.expect_closed(0x98)
