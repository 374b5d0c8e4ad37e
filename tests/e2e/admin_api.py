"""The admin API, on one node and on three: every answer is held against the OpenAPI document that the broker itself
gives, and every path of that document is asked."""

import base64
import json
import os
import re
import signal
import urllib.error
import urllib.parse
import urllib.request

from kit import check, check_equal, eventually
from lib.broker import free_port
from lib.mqtt import Client

ADMINISTRATIVE_ACTION = 0x98


class Api:
    """One node's API. Each answer is validated; `asked` notes what was asked of which path."""

    asked, ran = set(), set()

    def __init__(self, port):
        self.base = "http://127.0.0.1:%d/api/v1" % port
        self.document = None
        self.document = self.get("/openapi.json")
        Api.asked.add(("GET", "/openapi.json"))

    def call(self, method, path, body=None, want=200):
        data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as e:
            status, text = e.code, e.read()
        check_equal(status, want, "%s %s: status of %.500r" % (method, path, text))
        value = json.loads(text) if text else None
        if self.document:
            self.validate(method, path.split("?")[0], status, value)
        return value

    def get(self, path, want=200):
        return self.call("GET", path, want=want)

    def trace(self, begun=1, **body):
        """A generator of events; so many nodes have begun when the first next() returns."""
        request = urllib.request.Request(self.base + "/trace", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"}, method="POST")
        schema = self.document["paths"]["/trace"]["post"]["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
        Api.asked.add(("POST", "/trace"))
        with urllib.request.urlopen(request, timeout=30) as answer:
            for line in answer:
                event = json.loads(line)
                self.match(schema, event, "an event")
                begun -= event["event"] == "begin"
                if event["event"] != "begin" or begun == 0:
                    yield event

    def validate(self, method, path, status, value):
        for pattern, operations in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", pattern), path) and method.lower() in operations \
                    and ("{" not in pattern or path not in self.document["paths"]):
                Api.asked.add((method, pattern))
                responses = operations[method.lower()]["responses"]
                response = responses.get(str(status)) or (responses["default"] if status >= 400 else None)
                check(response, "%s %s: status %d is not in the document" % (method, path, status))
                if "content" in response:
                    self.match(response["content"]["application/json"]["schema"], value, path)
                else:
                    check_equal(value, None, "%s: a body" % path)
                return
        check(status >= 400, "%s %s is not in the document" % (method, path))

    def match(self, schema, value, where):
        """As much of a schema as the document uses."""
        if "$ref" in schema:
            return self.match(self.document["components"]["schemas"][schema["$ref"].split("/")[-1]], value, where)
        if "oneOf" in schema:
            for one in schema["oneOf"]:
                try:
                    return self.match(one, value, where)
                except AssertionError:
                    pass
            raise AssertionError("%s: %.200r is none of those" % (where, value))
        if value is None:
            return check(schema.get("nullable"), "%s is null" % where)
        kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
        check(isinstance(value, kinds[schema["type"]]) and
              (schema["type"] == "boolean" or not isinstance(value, bool)), "%s: %.100r" % (where, value))
        if "enum" in schema:
            check(value in schema["enum"], "%s: %r is not in the list" % (where, value))
        if schema["type"] == "array":
            for i, item in enumerate(value):
                self.match(schema["items"], item, "%s[%d]" % (where, i))
        if schema["type"] == "object":
            for name in schema.get("required", ()):
                check(name in value, "%s has no %s" % (where, name))
            for name, item in value.items():
                known = schema.get("properties", {}).get(name, schema.get("additionalProperties", {"type": "object"}))
                check(known is not False, "%s.%s is not in the document" % (where, name))
                if name in schema.get("properties", {}) or "additionalProperties" in schema:
                    self.match(known, item, "%s.%s" % (where, name))


def node(ctx, **settings):
    port = free_port()
    broker = ctx.broker({"admin.listen": "127.0.0.1:%d" % port, **settings})
    return broker, Api(port)


def quote(text):
    return urllib.parse.quote(text, safe="")


def ids(answer):
    return [c["clientid"] for c in answer["data"]]


def stop(pid):
    """It is stopped, with all its threads, when this returns."""
    os.kill(pid, signal.SIGSTOP)
    tasks = "/proc/%d/task" % pid

    def state(task):
        with open("%s/%s/stat" % (tasks, task)) as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    eventually("all threads stopped", lambda: all(state(t) in "Tt" for t in os.listdir(tasks)))


def test_clients(ctx):
    """Lists by page, filter and order; one client and why it gets nothing; sending away."""
    broker, api = node(ctx)
    names = ["c%02d" % i for i in range(25)]
    clients = {n: Client(broker.port, client_id=n, version=5 if i % 2 else 4).open() for i, n in enumerate(names)}
    away = Client(broker.port, client_id="away/1", version=5).open(props={"session_expiry": 300})
    away.subscribe("jobs/+", qos=1)
    away.close()
    eventually("the client away", lambda: api.get("/clients?conn_state=disconnected")["meta"]["count"] == 1)
    clients["c00"].subscribe("jobs/1", qos=1)
    for _ in range(3):
        clients["c01"].publish("jobs/1", b"x", qos=1)
        clients["c00"].expect_publish("jobs/1", b"x", qos=1)

    check_equal(ids(api.get("/clients?limit=10")), ["away/1"] + names[:9], "the first page")
    check_equal(ids(api.get("/clients?limit=10&page=3")), names[19:], "the last page")
    check_equal(api.get("/clients?limit=10&page=2")["meta"],
                {"page": 2, "limit": 10, "count": 26, "hasnext": True, "missing": []}, "about the page")
    check_equal(ids(api.get("/clients?limit=2&order=desc")), ["c24", "c23"], "the last of all")
    check_equal(ids(api.get("/clients?sort=queue&order=desc&limit=1")), ["away/1"], "the longest queue")
    check_equal(ids(api.get("/clients?sort=received&order=desc&limit=1")), ["c01"], "the most talkative")
    check_equal(ids(api.get("/clients?sort=queue&order=desc&limit=1000&page=2")), [], "a page beyond the end")
    check_equal(len(ids(api.get("/clients?proto_ver=4"))), 13, "of version 4")
    check_equal(ids(api.get("/clients?like_clientid=way")), ["away/1"], "by a part of the name")
    check_equal(api.get("/clients?ip_address=192.0.2.1")["meta"]["count"], 0, "from an address that nobody has")
    check_equal(api.get("/clients?username=nobody")["meta"]["count"], 0, "of a user that nobody is")
    for bad in ("page=0", "limit=1001", "limit=x", "page=1000&limit=1000", "sort=colour", "order=up", "conn_state=on",
                "proto_ver=6", "username=%zz"):
        api.get("/clients?" + bad, want=400)
    api.get("/clients?node=nowhere", want=404)

    one = api.get("/clients/c00")
    check_equal((one["connected"], one["send_msg"], one["ip_address"], [s["topic"] for s in one["subscriptions"]]),
                (True, 3, "127.0.0.1", ["jobs/1"]), "a client")
    check(one["recv_msg"] == 0 and one["connected_at"] and one["why"] == [], "a healthy client: %r" % one)
    check_equal(api.get("/clients/c01")["recv_msg"], 3, "messages of a publisher")
    one = api.get("/clients/" + quote("away/1"))
    check_equal((one["connected"], one["mqueue_len"]), (False, 3), "a client that is away")
    check("it is not connected" in one["why"], "why it gets nothing: %r" % one["why"])
    check("it has no subscription" in api.get("/clients/c05")["why"], "why c05 gets nothing")
    api.get("/clients/nobody", want=404)

    api.call("DELETE", "/clients/c03", want=204)
    clients["c03"].expect_closed(ADMINISTRATIVE_ACTION)
    api.call("DELETE", "/clients/c03", want=404)
    api.call("DELETE", "/clients/" + quote("away/1"), want=409)
    api.call("DELETE", "/clients/" + quote("away/1") + "?session=delete", want=204)
    api.get("/clients/" + quote("away/1"), want=404)
    check_equal(api.call("POST", "/clients/kickout/bulk", ["c05", "c07", "nobody"]),
                {"kicked": 2, "missing": ["nobody"], "nodes_missing": []}, "many at one time")
    clients["c07"].expect_closed(ADMINISTRATIVE_ACTION)
    for bad in (b"[", {}, [1]):
        api.call("POST", "/clients/kickout/bulk", bad, want=400)
    check_equal(api.get("/clients")["meta"]["count"], 22, "who is left")
    Api.ran.add("clients")


def test_messages(ctx):
    """Subscriptions, topics, publishing, retained messages."""
    broker, api = node(ctx)
    a, b = (Client(broker.port, client_id=n, version=5).open() for n in "ab")
    a.subscribe("t/#", qos=1)
    b.subscribe(["t/1", "$share/g/t/2"], qos=2)
    a.subscribe("t/1", qos=0)

    rows = api.get("/subscriptions")["data"]
    check_equal([(r["clientid"], r["topic"], r["share"], r["qos"]) for r in rows],
                [("a", "t/#", None, 1), ("a", "t/1", None, 0), ("b", "t/2", "g", 2), ("b", "t/1", None, 2)],
                "all subscriptions")
    for query, count in (("match_topic=t/1", 3), ("topic=t/1", 2), ("share=g", 1), ("clientid=a", 2), ("qos=0", 1)):
        check_equal(api.get("/subscriptions?" + query)["meta"]["count"], count, query)
    check_equal(len(api.get("/clients/b/subscriptions")["data"]), 2, "those of b")
    check_equal([(r["topic"], r["share"], r["subscribers"]) for r in api.get("/topics")["data"]],
                [("t/2", "g", 1), ("t/#", None, 1), ("t/1", None, 2)], "the topics")
    check_equal(api.get("/routes?topic=t/1")["meta"]["count"], 1, "one topic")

    message = {"topic": "t/1", "payload": base64.b64encode(b"\0\xff").decode(), "payload_encoding": "base64", "qos": 1,
               "retain": True, "properties": {"content_type": "x/y", "message_expiry_interval": 600,
                                              "user_properties": {"k": "v"}}}
    check_equal(api.call("POST", "/publish", message)["reason_code"], 0, "published")
    got = b.expect_publish("t/1", b"\0\xff", qos=1)
    check_equal((got.props["content_type"], got.props["user_property"]), ("x/y", [("k", "v")]), "its properties")
    check_equal(api.call("POST", "/publish", {"topic": "nobody"})["reason_code"], 16, "published to nobody")
    many = api.call("POST", "/publish/bulk", [{"topic": "t/2", "payload": "m"}, {"topic": "#"}])
    check("id" in many[0] and many[1]["code"] == "BAD_REQUEST", "many at one time: %r" % many)
    b.expect_publish("t/2", b"m", qos=0)
    for bad in ({}, {"topic": "+"}, {"topic": "$SYS/x"}, {"topic": "t", "qos": 3}, {"topic": "t", "retain": 1},
                {"topic": "t", "payload": 1}, {"topic": "t", "payload": "!", "payload_encoding": "base64"}, [], b"{"):
        api.call("POST", "/publish", bad, want=400)

    for i in range(3):
        api.call("POST", "/publish", {"topic": "r/%d" % i, "payload": "p", "retain": True})
    check_equal([r["topic"] for r in api.get("/retained?topic=r/%2B&limit=2")["data"]], ["r/0", "r/1"], "retained")
    one = api.get("/retained/" + quote("t/1"))
    check_equal((one["payload"], one["content_type"], one["user_properties"]),
                (message["payload"], "x/y", {"k": "v"}), "a retained message")
    check(one["publish_at"] and one["expires_at"], "its times: %r" % one)
    api.call("DELETE", "/retained/" + quote("r/0"), want=204)
    eventually("it is gone", lambda: api.get("/retained?topic=r/%23")["meta"]["count"] == 2)
    api.call("DELETE", "/retained/" + quote("r/0"), want=404)
    api.get("/retained/" + quote("r/0"), want=404)
    api.get("/retained?topic=a%23", want=400)
    Api.ran.add("messages")


def test_trace(ctx):
    """A client is watched, then a topic; it ends by itself."""
    broker, api = node(ctx)
    watch = api.trace(clientid="w", payload="text")
    next(watch)
    client = Client(broker.port, client_id="w", version=5).open()
    client.subscribe("w/#", qos=1)
    client.publish("w/1", b"hello", qos=1)
    client.expect_publish("w/1", b"hello", qos=1)
    api.call("DELETE", "/clients/w", want=204)
    events = [next(watch) for _ in range(5)]
    check_equal([(e["event"], e.get("topic"), e.get("payload")) for e in events],
                [("connect", None, None), ("subscribe", "w/#", None), ("publish_in", "w/1", "hello"),
                 ("publish_out", "w/1", "hello"), ("disconnect", None, None)], "what the client does")
    check_equal(events[-1]["reason_code"], ADMINISTRATIVE_ACTION, "why it went")
    watch.close()

    watch = api.trace(topic="t/+")
    next(watch)
    api.call("POST", "/publish", {"topic": "u/1"})
    api.call("POST", "/publish", {"topic": "t/0"})
    event = next(watch)
    check_equal((event["event"], event["clientid"], event["topic"]), ("publish_in", "", "t/0"), "by an operator")
    other = Client(broker.port, client_id="o", version=5).open()
    other.publish("t/1", b"x")
    event = next(watch)
    check_equal((event["event"], event["clientid"]), ("publish_in", "o"), "what is published there")
    watch.close()
    check_equal([e["event"] for e in api.trace(clientid="nobody", duration=1)], ["begin"], "it ends by itself")
    for bad in ({}, {"topic": "a#"}, {"ip_address": "x"}, {"clientid": "x", "duration": 0},
                {"clientid": "x", "payload": "all"}):
        api.call("POST", "/trace", bad, want=400)
    Api.ran.add("trace")


def test_node(ctx):
    """What a node says of itself; bans, log, reload. Then every path of the document has been asked."""
    broker, api = node(ctx)
    client = Client(broker.port, client_id="x", version=5).open()
    check_equal(api.get("/status")["status"], "running", "the status")
    (one,) = api.get("/nodes")["data"]
    check_equal((one["role"], one["state"], one["connections"], one["shards"]), ("self", "alive", 1, 2), "the node")
    check(api.get("/nodes/" + quote(one["node"]))["metrics"]["tern_sessions"] == 1, "its metrics")
    api.get("/nodes/nowhere", want=404)
    check_equal(api.get("/cluster")["ready"], 1, "the cluster")
    check_equal(api.get("/metrics")["tern_sessions"], 1, "the metrics")
    check_equal(api.get("/stats")["sessions"], 1, "the counts")
    check_equal(api.get("/alarms")["data"], [], "alarms")
    (listener,) = api.get("/listeners")["data"]
    check_equal((listener["port"], listener["connections"]), (broker.port, 1), "the listener")

    api.call("POST", "/banned", {"as": "clientid", "who": "x", "reason": "noise"}, want=201)
    client.expect_closed()
    api.call("POST", "/banned", {"as": "ip_address", "who": "192.0.2.7", "until": "2099-01-01T00:00:00Z"}, want=201)
    check_equal(sorted((b["as"], b["who"]) for b in api.get("/banned")["data"]),
                [("clientid", "x"), ("ip_address", "192.0.2.7")], "the bans")
    api.call("DELETE", "/banned/clientid/x", want=204)
    api.call("DELETE", "/banned/clientid/x", want=404)
    for bad in ({"as": "colour", "who": "x"}, {"as": "ip_address", "who": "x"}, {"as": "clientid"},
                {"as": "clientid", "who": "x", "until": "tomorrow"}):
        api.call("POST", "/banned", bad, want=400)

    check_equal(api.call("PUT", "/log", {"level": "warn"})["level"], "warn", "the log's level")
    check_equal(api.get("/log")["level"], "warn", "the log's level")
    api.call("PUT", "/log", {"level": "loud"}, want=400)
    check_equal(api.call("POST", "/reload"), {"reloaded": True, "restart_needed": []}, "a reload")
    check_equal(api.get("/drain")["state"], "none", "draining")
    check_equal(api.call("POST", "/drain", {"wait_seconds": 3600, "rate": 7})["state"], "waiting", "draining")
    check_equal(api.get("/status", want=503)["status"], "draining", "the status")
    check_equal(api.call("DELETE", "/drain")["state"], "none", "draining")
    api.call("POST", "/drain", {"rate": -1}, want=400)

    documented = {(m.upper(), p) for p, ops in api.document["paths"].items() for m in ops}
    if {"clients", "messages", "trace"} <= Api.ran:
        check_equal(sorted(documented - Api.asked), [], "what no test has asked")


def test_cluster(ctx):
    """Any node answers for all; who does not answer is named, and holds nobody up for long."""
    ports, seeds, nodes = [free_port() for _ in range(3)], None, []
    seeds = "127.0.0.1:%d" % ports[0]
    for i, port in enumerate(ports):
        nodes.append(node(ctx, **{"node.name": "n%d" % i, "cluster.listen": "127.0.0.1:%d" % port,
                                  "cluster.seeds": seeds, "cluster.insecure": True}))
    for broker, _ in nodes:
        eventually("all routes", lambda b=broker: b.log().count("event=routes_complete") >= 2, 30)
    api = nodes[1][1]
    clients = [Client(nodes[i % 3][0].port, client_id="k%d" % i, version=5).open() for i in range(6)]
    clients[0].subscribe("all", qos=1)
    clients[1].subscribe("all", qos=1)

    check_equal([(c["clientid"], c["node"]) for c in api.get("/clients")["data"]],
                [("k%d" % i, "n%d" % (i % 3)) for i in range(6)], "clients of all nodes")
    check_equal(ids(api.get("/clients?limit=2&page=2")), ["k2", "k3"], "a page over nodes")
    check_equal(ids(api.get("/clients?node=n2")), ["k2", "k5"], "those of one node")
    (topic,) = api.get("/topics")["data"]
    check_equal((sorted(topic["nodes"]), topic["subscribers"]), (["n0", "n1"], 2), "a topic of two nodes")
    check_equal([(n["node"], n["role"], n["state"]) for n in api.get("/nodes")["data"]],
                [("n0", "peer", "alive"), ("n1", "self", "alive"), ("n2", "peer", "alive")], "the nodes")
    check_equal(api.get("/nodes/n2")["metrics"]["tern_clients_connected"], 2, "another node's metrics")
    cluster = api.get("/cluster")
    check_equal((cluster["nodes"], cluster["ready"], cluster["connections"]), (3, 3, 6), "the cluster")
    api.call("DELETE", "/clients/k2", want=204)
    clients[2].expect_closed(ADMINISTRATIVE_ACTION)
    check_equal(api.call("POST", "/clients/kickout/bulk", ["k3", "k4", "k2"]),
                {"kicked": 2, "missing": ["k2"], "nodes_missing": []}, "over nodes")
    check_equal(api.call("POST", "/banned", {"as": "clientid", "who": "k9"}, want=201)["nodes"], 3, "banned everywhere")

    watch = api.trace(topic="all", begun=3)
    next(watch)
    nodes[2][1].call("POST", "/publish", {"topic": "all", "qos": 1})
    for c in clients[:2]:
        c.expect_publish("all", qos=1)
    seen = sorted((e["node"], e["event"]) for e in (next(watch) for _ in range(3)))
    check_equal(seen, [("n0", "publish_out"), ("n1", "publish_out"), ("n2", "publish_in")], "watched over nodes")
    watch.close()

    stop(nodes[2][0].pid)
    try:
        answer = api.get("/clients")
        check_equal((ids(answer), answer["meta"]["missing"]), (["k0", "k1"], ["n2"]), "without a node that hangs")
    finally:
        os.kill(nodes[2][0].pid, signal.SIGCONT)
    eventually("the node answers again", lambda: api.get("/clients")["meta"]["missing"] == [], 30)
