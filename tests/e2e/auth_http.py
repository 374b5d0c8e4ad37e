"""The HTTP service of the operator's: asked who may connect and what a client may do, slow, failing or away."""

import threading
import time

from auth import BAD_ID, BAD_LOGIN, NOT_AUTHORIZED, VERSIONS
from guarded import SECONDS, gone, guarded, service
from kit import check, check_equal, eventually
from lib.mqtt import CONNACK, PUBACK, Will, connect, publish, subscribe


def connects(web):
    return [r.json for r in list(web.requests) if r.path == "/connect"]


def http_house(ctx, answer, settings=None, **more):
    web = service(ctx, answer)
    settings = {"http.connect_url": web.url("/connect"), "http.timeout": "2s", **(settings or {})}
    return web, guarded(ctx, settings=settings, **more)


def test_the_http_service_is_asked(ctx):
    """What it is told, and each of its answers."""
    said = {"alice": (200, {"result": "allow"}), "bob": (204, ""), "carol": (200, {"result": "deny"}),
            "dan": (401, ""), "eve": (403, {"result": "allow"}), "fay": (200, {"result": "ignore"}),
            "gus": (200, {"result": "allow", "user": "gustav", "client_id": "g1", "roles": ["r"],
                          "rules": [{"allow": "publish", "topic": "g/#"}]}),
            "hal": (200, {"result": "allow", "expires_in": 2}),
            "odd1": (200, {"result": "perhaps"}), "odd2": (200, "allow"), "odd3": (200, []), "odd4": (404, ""),
            "odd5": (200, {"result": "allow", "roles": "r"}), "odd6": (200, {"result": "allow", "rules": [{"x": 1}]}),
            "odd7": (302, ""), "odd8": None, "odd9": (200, {"result": True}), "odd0": (200, "")}
    web, house = http_house(ctx, lambda r: said[r.json["user_name"]], {"http.breaker_failures": "0"},
                            listeners='  - {address: "tcp://AT", name: door}')
    hal = house.new().open(user="hal", password="p")
    for user in ("alice", "bob"):
        for version in (3, 4, 5):
            c = house.new(version=version, client_id="id-%d" % version).open(user=user, password="p\u00e4")
            check_equal(connects(web)[-1], {"client_id": "id-%d" % version, "user_name": user, "password": "p\u00e4",
                                            "address": "127.0.0.1", "listener": "door",
                                            "version": {3: "3.1", 4: "3.1.1", 5: "5.0"}[version]}, "the question")
            c.disconnect()
    for user in ("carol", "dan", "eve", "fay"):
        for version, no in VERSIONS:
            house.refused((no, NOT_AUTHORIZED), user, "p", version)
    for user in sorted(said):
        if user.startswith("odd"):
            check(not house.comes_in(user, "p"), "%s comes in by %r" % (user, said[user]))
    gus = house.new(client_id="g1").open(user="gus", password="p")
    gus.publish("g/x", b"", qos=1, reason=(0, 0x10))
    gus.publish("h/x", b"", qos=1, reason=0x87)
    check(house.lines("client_connected", "client=g1", "user=gustav"), "no line of gustav")
    house.refused(BAD_ID, "gus", "p", client_id="g2")
    check_equal(gone(hal), NOT_AUTHORIZED, "told to whose time was 2 s")
    binary = house.new().dial()
    binary.send(connect("b", user="alice", password=b"\xff\x00\xfe"))
    binary.expect(CONNACK, reason=0)
    check_equal(connects(web)[-1].get("password_base64"), "/wD+", "a password that is no text")


def test_the_http_service_comes_last(ctx):
    """It is not asked about who is in the password file; ignore leaves it to anonymous."""
    web, house = http_house(ctx, lambda r: (200, {"result": "ignore"}), users={"alice": "secret"},
                            listeners='  - {address: "tcp://AT", allow_anonymous: true}')
    house.client("alice").disconnect()
    house.refused(BAD_LOGIN, "alice", "wrong")
    check_equal(web.count(), 0, "questions about alice")
    house.client().disconnect()
    check_equal(("user_name" in connects(web)[0], "password" in connects(web)[0]), (False, False), "fields of nobody")
    house.refused(BAD_LOGIN, "stranger", "x")
    check_equal(web.count(), 2, "questions")


def test_a_slow_http_service(ctx):
    """Nobody is let in while it thinks, others are served, and at the deadline the answer is no."""
    let_go = threading.Event()

    def answer(request):
        if request.json["user_name"] == "slow":
            let_go.wait(30)
        return 200, {"result": "allow"}
    web, house = http_house(ctx, answer, {"http.timeout": "1s"})
    sub = house.new().open(user="quick", password="p")
    sub.subscribe("t/#")
    waiting = house.new().dial()
    waiting.send(connect("w", user="slow", password="p") + publish("t/early", b"x"))
    eventually("it is asked", lambda: web.count() >= 2)
    for _ in range(10):
        house.new().open(user="quick", password="p").disconnect()
    waiting.expect_refused(0x88, timeout=SECONDS)
    let_go.set()
    sub.expect_nothing()
    left = house.new().dial()
    left.send(connect("l", user="slow", password="p"))
    left.abort()  # whoever leaves while the question is under way


def test_an_http_service_that_fails(ctx):
    """A storm of 500s opens the breaker: it is left in peace, and never is the answer yes. Later it is tried again."""
    said = [(500, {"result": "allow"})]
    web, house = http_house(ctx, lambda r: said[0], {"http.breaker_failures": "3", "http.breaker_pause": "3s"})
    for _ in range(20):
        house.refused(0x88, "alice", "p")
    check(3 <= web.count() <= 6, "%d questions reached it" % web.count())
    said[0] = 200, {"result": "allow"}
    eventually("it is asked again", lambda: house.comes_in("alice", "p"), SECONDS)
    web.stop()
    for _ in range(10):
        house.refused(0x88, "alice", "p")
        house.refused(3, "alice", "p", version=4)


def test_cached_answers_of_the_http_service(ctx):
    """Kept as Cache-Control says, for the same question alone, and not beyond a reload."""
    headers, result = [{"Cache-Control": "max-age=60"}], ["allow"]
    web, house = http_house(ctx, lambda r: (200, {"result": result[0]}, headers[0]))

    def asked(user="alice", password="p", client_id="one", comes=True):
        before = web.count()
        check_equal(house.comes_in(user, password, client_id=client_id), comes, "%s comes in" % user)
        return web.count() - before
    check_equal([asked(), asked(), asked()], [1, 0, 0], "questions with max-age=60")
    result[0] = "deny"
    check_equal(asked(), 0, "questions while the answer is kept")
    check_equal([asked(password="q", comes=False), asked(user="bob", comes=False), asked(client_id="two", comes=False)],
                [1, 1, 1], "other questions")
    check_equal(asked(password="q", comes=False), 0, "questions while the no is kept")
    house.reload()
    check_equal(asked(comes=False), 1, "questions after a reload")
    for headers[0] in ({"Cache-Control": "no-store"}, {"Cache-Control": "max-age=0"}, {}):
        house.reload()
        check_equal([asked(comes=False), asked(comes=False)], [1, 1], "questions with %r" % headers)
    headers[0] = {"Cache-Control": "max-age=1"}
    house.reload()
    asked(comes=False)
    eventually("the answer has grown old", lambda: asked(comes=False) == 1, SECONDS)


def test_rules_by_http(ctx):
    """Asked for what no rule of the file decides, once for each action while the answer is good."""
    headers, failing = [{"Cache-Control": "max-age=60"}], [False]

    def answer(request):
        if failing[0]:
            return 500, {"result": "allow"}
        return 200, {"result": "allow" if request.json["topic"].startswith(("yes", "both/" + request.json["action"]))
                     else "deny"}, headers[0]
    web = service(ctx, answer)
    house = guarded(ctx, users={"alice": "secret"}, settings={"http.rule_url": web.url("/rule"), "http.timeout": "2s"},
                    rules="- {allow: all, topic: file/#}\n- {deny: all, topic: yes/secret}")
    c = house.client("alice", client_id="a1")
    c.publish("file/x", b"", qos=1)
    c.publish("yes/secret", b"", qos=1, reason=0x87)
    c.subscribe(["file/x", "yes/secret"], reasons=[0, 0x87])
    check_equal(web.count(), 0, "questions about what the file decides")
    c.publish("yes/1", b"", qos=1)
    check_equal(web.requests[-1].json, {"user": "alice", "client_id": "a1", "address": "127.0.0.1",
                                        "listener": "tcp://127.0.0.1:%d" % house.port, "action": "publish",
                                        "topic": "yes/1", "qos": 1, "retain": False}, "the question")
    for _ in range(5):
        c.publish("yes/1", b"", qos=1)
    check_equal(web.count(), 1, "questions about one topic")
    c.publish("no/1", b"", qos=1, reason=0x87)
    c.publish("no/1", b"", qos=0)
    c.subscribe(["yes/+", "no/#", "both/subscribe", "both/publish"], reasons=[0, 0x87, 0, 0x87])
    c.publish("yes/2", b"two", qos=1, ack=False)
    c.expect_publish("yes/2", b"two")
    c.expect(PUBACK, reason=0)
    order = [publish("yes/%d" % n, b"%d" % n, 1, pid=1000 + n) for n in range(10, 40)]
    c.send(b"".join(order))
    got = [c.receive() for _ in range(60)]
    check_equal([p.payload for p in got if p.payload is not None], [b"%d" % n for n in range(10, 40)],
                "messages, in order, while each is asked about")
    failing[0] = True
    v4 = house.client("alice", version=4)
    v4.subscribe("new/filter", reasons=0x80)
    c.publish("yes/new", b"", qos=1, reason=(0x87, 0x80, 0x97, 0x83))
    web.stop()
    c.publish("yes/newer", b"", qos=1, reason=(0x87, 0x80, 0x97, 0x83))
    c.publish("file/x", b"", qos=1)


def test_wills_by_http(ctx):
    """A will is an action like others: the service is asked about it where no rule decides."""
    web = service(ctx, lambda r: (200, {"result": "allow" if r.json["topic"].startswith("yes/") else "deny"}))
    house = guarded(ctx, users={"alice": "secret"}, settings={"http.rule_url": web.url("/rule")})
    sub = house.client("alice")
    sub.subscribe("yes/#")
    house.refused(NOT_AUTHORIZED, "alice", "secret", will=Will("no/will", b"w"))
    c = house.client("alice", will=Will("yes/will", b"w"))
    check_equal([r.json["action"] for r in web.requests if r.json["topic"] == "yes/will"], ["publish"], "questions")
    c.abort()
    sub.expect_publish("yes/will", b"w", timeout=SECONDS)


def test_questions_under_way(ctx):
    """A reload, the client's end, a takeover, the broker's own end while a service has not answered: nothing breaks, and
    nobody comes in."""
    let_go = threading.Event()

    def answer(request):
        if request.json.get("user_name") == "slow" or request.json.get("topic", "").startswith("slow"):
            let_go.wait(30)
        return 200, {"result": "allow"}
    web = service(ctx, answer)
    urls = {"http.connect_url": web.url("/connect"), "http.rule_url": web.url("/rule"), "http.timeout": "20s"}
    house = guarded(ctx, settings=urls, rules="- {allow: publish, topic: gone}")

    def waiting(count, *packets, user="slow", client_id=None, **more):
        c = house.new(client_id=client_id).dial()
        before = web.count()
        c.send(connect(c.client_id, user=user, password="p", **more) + b"".join(packets))
        eventually("it is asked", lambda: web.count() >= before + count)
        return c
    sub = house.new().open(user="quick", password="p")
    sub.subscribe("#")
    asks = {"publish": (2, publish("slow/x", b"x", 1, pid=1)),
            "subscribe": (3, subscribe(1, [("quick/#", 1), ("slow/#", 1)]))}  # each filter is asked about
    for count, data in asks.values():
        waiting(count, data, user="quick").abort()
        waiting(count, data, publish("after", b"x", 1, pid=2), user="quick", client_id="taken",
                props={"session_expiry": 60}, will=Will("gone", b""))
        house.new(client_id="taken").open(clean=False, user="quick", password="p", session_present=True)
        sub.expect_publish("gone", timeout=SECONDS)
    waiting(1).abort()
    guests = [waiting(1) for _ in range(3)]
    asking = [waiting(count, data, user="quick") for count, data in asks.values()]
    house.configure({**urls, "http.timeout": "19s"})
    house.reload()
    for c in guests:
        c.expect_refused((0x88, 0x87), timeout=SECONDS)
    for c in asking:
        c.expect(CONNACK, reason=0)
        p = c.receive(SECONDS)
        check(p is not None and (p.reason if p.type == PUBACK else p.reasons[1]) >= 0x80, "got %r" % p)
    sub.expect_nothing()
    last = [waiting(1), waiting(*asks["publish"], user="quick")]
    start = time.monotonic()
    check_equal(house.stop(), [], "the end of the broker")
    check(time.monotonic() - start < 8, "the broker waited for the service")
    ctx.brokers.remove(house)
    house.remove()
    let_go.set()
    check(len(last) == 2, "two were waiting")
