"""Who may connect: password files, listeners that ask for nothing, tokens, the HTTP service, client ids that belong to
somebody, bans, rates, and the doors of tenants."""

import json
import os
import socket
import subprocess
import threading
import time

from guarded import SECONDS, gone, guarded, quiet, service
from kit import Skip, check, check_equal, eventually
from lib.broker import free_port
from lib.mqtt import (AUTH, CONNACK, PUBACK, SUBACK, Client, Failure, Will, auth, connect, options, publish, subscribe)
from lib.tokens import Key, jwk_set

BAD_LOGIN, NOT_AUTHORIZED, BAD_ID, BANNED, ADMINISTRATIVE = 0x86, 0x87, 0x85, 0x8A, 0x98
VERSIONS = ((3, 4), (4, 4), (5, BAD_LOGIN))  # and how each is told that its password is wrong


def tool(ctx, *command, text=None):
    return ctx.run(list(command), stdin=None if text is None else text.encode(), cwd=ctx.directory)


# ---- password files ----


def test_password_files(ctx):
    """Lines by mosquitto_passwd and by ternctl, one of each kind, in one file."""
    ternctl = os.path.join(os.path.dirname(ctx.opts.tern), "ternctl")
    house = guarded(ctx, users={}, start=False)
    path = house.file("users")
    tool(ctx, "mosquitto_passwd", "-H", "sha512", "-b", path, "old", "p-old")
    tool(ctx, "mosquitto_passwd", "-b", path, "new", "p-new")
    for kind in ("argon2id", "pbkdf2", "scram"):
        tool(ctx, ternctl, "passwd", path, kind, "--kind", kind, "--password-stdin", text="p-%s\n" % kind)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    users = ("old", "new", "argon2id", "pbkdf2", "scram")
    for user, mark in zip(users, ("$6$", "$7$", "$argon2id$", "$7$", "SCRAM-SHA-256$")):
        check("\n%s:%s" % (user, mark) in "\n" + text, "no line %s:%s in %s" % (user, mark, text))
    house.start()
    for user in users:
        for version, no in VERSIONS:
            house.new(user, version=version).open(user=user, password="p-" + user).disconnect()
            house.refused(no, user, "p-" + user + "x", version)
        house.refused(BAD_LOGIN, user, "p-new" if user != "new" else "p-old")


def test_wrong_names_and_passwords(ctx):
    house = guarded(ctx, users={"alice": "secret", "\u00e4nne": "\u00fcber", "spaced name": "a b"})
    for user, password in (("alice", "secret"), ("\u00e4nne", "\u00fcber"), ("spaced name", "a b")):
        house.client(user).disconnect()
    rows = [("alice", "wrong"), ("alice", ""), ("alice", None), ("alice", "secret "),
            ("alice", "SECRET"), ("alice", b"\xff\xfe\x00"), ("alice", "x" * 65535), ("Alice", "secret"),
            ("nobody", "secret"), ("nobody", ""), ("nobody", None), ("alice ", "secret"), ("alic", "secret"),
            ("a" * 65535, "secret"), ("users", "alice")]
    for user, password in rows:
        for version, no in VERSIONS:
            answer = house.refused((no, NOT_AUTHORIZED, 5), user, password, version)
            check(answer is not None, "%r %r: no answer" % (user, password))
    for version, no in ((3, 5), (4, 5), (5, NOT_AUTHORIZED)):
        house.refused(no, version=version)  # anonymous
        house.refused((no, 4, BAD_LOGIN), "", "", version)
    house.refused((NOT_AUTHORIZED, BAD_LOGIN), None, "secret", 5)  # a password without a name
    check_equal(house.lines("secret"), [], "lines of the log with a password")


def test_mistakes_in_a_password_file(ctx):
    """At the start they are an error with a place; at a reload all stays as it is."""
    house = guarded(ctx, users={"alice": "secret"})
    with open(house.file("users"), encoding="utf-8") as f:
        good = f.read()
    for bad in ("alice:secret\n", "alice\n", ":$7$\n", good + good, good + "bob:$1$abc$def\n"):
        house.file("users", bad)
        house.reload(ok=False)
        check("users:" in house.lines("reload_failed")[-1], house.lines("reload_failed")[-1])
        house.client("alice").disconnect()
        house.refused(BAD_LOGIN, "bob", "x")
    os.remove(house.file("users"))
    house.reload(ok=False)
    house.client("alice").disconnect()


# ---- anonymous clients ----


def test_anonymous_beside_users(ctx):
    """allow_anonymous lets in who shows nothing; who gives a name has to prove it."""
    house = guarded(ctx, users={"alice": "secret"}, listeners="  - {address: \"tcp://AT\", allow_anonymous: true}")
    for version, no in VERSIONS:
        house.client(version=version).disconnect()
        house.client("alice", version=version).disconnect()
        house.refused(no, "alice", "wrong", version)
        house.refused((no, 5, NOT_AUTHORIZED), "stranger", "x", version)
        house.refused((no, 5, NOT_AUTHORIZED), "stranger", None, version)


def test_methods_of_a_listener(ctx):
    """authentication: says which proofs count here."""
    key = Key("HS256", ctx.directory)
    house = guarded(ctx, users={"alice": "secret"}, start=False, settings={"jwt.keys": ctx.directory + "/keys"}, listeners="""\
  - {address: "tcp://AT", authentication: [password]}
  - {address: "tcp://127.0.0.2:PORT", authentication: [jwt]}
  - {address: "tcp://127.0.0.3:PORT", authentication: [scram]}""")
    with open(ctx.directory + "/keys", "w", encoding="utf-8") as f:
        f.write(jwk_set([key]))
    house.start()
    token = key.token(sub="alice")
    for host, password, comes in (("127.0.0.1", "secret", True), ("127.0.0.1", token, False), ("127.0.0.2", token, True),
                                  ("127.0.0.2", "secret", False), ("127.0.0.3", "secret", False),
                                  ("127.0.0.3", token, False)):
        check_equal(house.comes_in("alice", password, host=host), comes, "%.10s at %s" % (password, host))
    for host, comes in (("127.0.0.1", False), ("127.0.0.2", False), ("127.0.0.3", True)):
        c = house.new(host=host).dial()
        c.send(connect("x", props={"auth_method": "SCRAM-SHA-256", "auth_data": b"n,,n=alice,r=abcdef"}))
        check_equal(c.receive().type, AUTH if comes else CONNACK, "SCRAM at " + host)


def start_that_fails(ctx, text):
    """Start with this configuration, see that it ends with 2 and one sentence, and return that."""
    ctx.need_tern("it is about our own configuration")
    path = os.path.join(ctx.directory, "bad.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    done = subprocess.run([ctx.opts.tern, "--config", path, "--data", ctx.directory + "/data"], capture_output=True,
                          text=True, timeout=20, check=False)
    check_equal(done.returncode, 2, "exit status (%s)" % done.stderr)
    check_equal(len(done.stderr.strip().splitlines()), 1, "lines of %r" % done.stderr)
    return done.stderr


def test_public_listeners_need_a_door(ctx):
    """What would let in everybody from everywhere is refused with a sentence that says what to write."""
    for listener in ('"tcp://0.0.0.0:%d"', '{address: "tcp://0.0.0.0:%d", allow_anonymous: false}', '"tcp://[::]:%d"',
                     '"ws://0.0.0.0:%d"'):
        said = start_that_fails(ctx, "listeners:\n  - tcp://127.0.0.1:%d\n  - %s\n" % (free_port(), listener % free_port()))
        for word in ("allow_anonymous", "auth.password_file"):
            check(word in said, "%s: %s" % (listener, said))
    house = guarded(ctx, users={"alice": "secret"}, listeners='  - "tcp://0.0.0.0:PORT"')
    house.client("alice").disconnect()
    house.refused(NOT_AUTHORIZED)


# ---- tokens ----


def token_house(ctx, keys, settings=None, **more):
    path = os.path.join(ctx.directory, "keys")
    with open(path, "w", encoding="utf-8") as f:
        f.write(keys)
    return guarded(ctx, settings={"jwt.keys": path, "jwt.leeway": "0", **(settings or {})}, **more)


def test_tokens_of_each_algorithm(ctx):
    """By a key set and by PEM; a token is taken with its own key alone."""
    keys = {a: Key(a, ctx.directory, kid="k-" + a) for a in ("RS256", "ES256", "EdDSA")}
    strangers = {a: Key(a, ctx.directory, kid="k-" + a) for a in keys}
    for text in (jwk_set(keys.values()), "".join(k.pem() for k in keys.values())):
        house = token_house(ctx, text)
        for algorithm, key in keys.items():
            good = key.token(sub="alice")
            for version, no in VERSIONS:
                house.new(version=version).open(user="whoever", password=good).disconnect()
                house.refused(no, "alice", strangers[algorithm].token(sub="alice"), version)
            head, body, signature = good.split(".")
            house.refused(BAD_LOGIN, "alice", ".".join((head, body[:-4] + body[-1:-5:-1], signature)))
            for other in keys.values():
                if other is not key:
                    house.refused(BAD_LOGIN, "alice", other.token({"alg": algorithm, "kid": key.kid}, sub="alice"))
            secret = Key("HS256", ctx.directory)
            secret.secret = key.pem().encode()  # the oldest trick: the public key as an HMAC secret
            house.refused(BAD_LOGIN, "alice", secret.token({"alg": "HS256", "kid": key.kid}, sub="alice"))
        ctx.brokers.remove(house)
        check_equal(house.stop(), [], "the end of the broker")
        house.remove()


def test_what_a_token_must_say(ctx):
    key, now = Key("HS256", ctx.directory), int(time.time())
    house = token_house(ctx, jwk_set([key]), {"jwt.issuer": "https://issuer", "jwt.audience": "tern",
                                              "jwt.user_claim": "who.name", "jwt.client_id_claim": "device"})
    good = {"who": {"name": "alice"}, "iss": "https://issuer", "aud": ["x", "tern"], "device": "d1"}
    for change, comes in (({}, True), ({"aud": "tern"}, True), ({"nbf": now - 5}, True), ({"iss": "https://issuer/"}, False),
                          ({"iss": None}, False), ({"aud": "ter"}, False), ({"aud": []}, False), ({"aud": None}, False),
                          ({"who": "alice"}, False), ({"who": {"name": ""}}, False), ({"who": {"name": 7}}, False),
                          ({"exp": now - 1}, False), ({"exp": "soon"}, False), ({"nbf": now + 60}, False)):
        check_equal(house.comes_in("x", key.token(**{**good, **change}), client_id="d1"), comes, "with %r" % change)
    house.refused(BAD_ID, "x", key.token(**good), client_id="d2")
    c = house.new(client_id="").open(user="x", password=key.token(**good))
    check_equal(c.connack.props.get("assigned_client_id"), "d1", "the client id that the token gives")
    check_equal(len(house.lines("client_connected", "user=alice")) > 0, True, "lines of alice")


def test_a_token_as_user_name(ctx):
    key = Key("HS256", ctx.directory)
    house = token_house(ctx, jwk_set([key]), {"jwt.token_in": "username"})
    check(house.comes_in(key.token(sub="a"), None), "not by user name")
    check(not house.comes_in("a", key.token(sub="a")), "by password")


def test_the_end_of_a_token_ends_the_connection(ctx):
    """And AUTH with a newer one puts it off."""
    key = Key("HS256", ctx.directory)
    house = token_house(ctx, jwk_set([key]))
    old = house.new(version=4).open(user="x", password=key.token(sub="a", exp=time.time() + 2))
    new = house.new().open(user="x", password=key.token(sub="a", exp=time.time() + 2))
    method = {"auth_method": "JWT"}
    renewed = house.new().open(props={**method, "auth_data": key.token(sub="a", exp=time.time() + 2).encode()})
    twice = house.new().open(props={**method, "auth_data": key.token(sub="a", exp=time.time() + 60).encode()})
    for c, seconds in ((renewed, 60), (twice, 2)):
        c.send(auth(0x19, {**method, "auth_data": key.token(sub="a", exp=time.time() + seconds).encode()}))
        c.expect(AUTH, reason=0)
    check_equal(gone(new), NOT_AUTHORIZED, "told to a 5.0 client")
    gone(old)
    check_equal(gone(twice), NOT_AUTHORIZED, "told to who has renewed to less")
    renewed.ping()
    check_equal(len(house.lines("has expired")), 3, "lines of the log")


def test_roles_and_rules_of_a_token(ctx):
    """The file's rules come first; the token's are asked for what those leave open."""
    key = Key("HS256", ctx.directory)
    house = token_house(ctx, jwk_set([key]), rules="- {deny: all, topic: secret/#}\n"
                        "- {allow: publish, topic: role/#, role: writer}")
    claims = [{"allow": "all", "topic": ["mine/%u/#", "secret/x"]}]
    c = house.new().open(user="x", password=key.token(sub="ann", roles=["writer"], acl=claims))
    for topic, code in (("role/x", 0), ("mine/ann/x", 0), ("mine/bob/x", 0x87), ("secret/x", 0x87), ("other", 0x87)):
        c.publish(topic, b"", qos=1, reason=(code, 0x10) if code == 0 else code)
    c.subscribe(["mine/ann/#", "secret/x", "role/x"], reasons=[0, 0x87, 0x87])
    plain = house.new().open(user="x", password=key.token(sub="ann"))
    plain.publish("role/x", b"", qos=1, reason=0x87)
    plain.publish("mine/ann/x", b"", qos=1, reason=0x87)
    house.refused(BAD_LOGIN, "x", key.token(sub="ann", acl="all"))
    house.refused(BAD_LOGIN, "x", key.token(sub="ann", acl=[{"allow": "everything", "topic": "#"}]))


def test_a_key_set_behind_a_url(ctx):
    """Fetched at the start; a key that appears later is found; while the server is down the keys stay."""
    first, second = (Key(a, ctx.directory, kid=k) for a, k in (("ES256", "one"), ("EdDSA", "two")))
    shown = [jwk_set([first])]
    web = service(ctx, lambda request: (200, shown[0]) if shown[0] else (500, ""))
    house = guarded(ctx, settings={"jwt.jwks_url": web.url("/keys"), "jwt.jwks_refresh": "1h"})
    eventually("the key set is known", lambda: house.comes_in("x", first.token(sub="a")), SECONDS)
    check(not house.comes_in("x", second.token(sub="a")), "a key that is not in the set is taken")
    shown[0] = jwk_set([first, second])
    eventually("the new key is known", lambda: house.comes_in("x", second.token(sub="a")), 40)
    shown[0] = None
    house.comes_in("x", Key("ES256", ctx.directory, kid="three").token(sub="a"))
    for key in (first, second):
        check(house.comes_in("x", key.token(sub="a")), "%s is not taken while the server fails" % key.kid)
    web.stop()
    for key in (first, second):
        check(house.comes_in("x", key.token(sub="a")), "%s is not taken while the server is down" % key.kid)
    house.reload()
    for key in (first, second):
        check(house.comes_in("x", key.token(sub="a")), "%s is not taken after a reload" % key.kid)
    secret = Key("HS256", ctx.directory, kid="four")
    check(not house.comes_in("x", secret.token(sub="a")), "an unknown secret is taken")


def test_a_key_set_that_is_never_there(ctx):
    """No keys, no entry: and who comes is told to come again rather than that the token is bad."""
    key = Key("ES256", ctx.directory, kid="one")
    web = service(ctx, lambda request: (404, ""))
    house = guarded(ctx, settings={"jwt.jwks_url": web.url("/keys")})
    house.refused(0x88, "x", key.token(sub="a"))
    house.refused(3, "x", key.token(sub="a"), version=4)


def test_renewal_while_the_key_set_cannot_be_had(ctx):
    """The connection ends with a code that a DISCONNECT may carry, and the broker lives."""
    key, unknown = Key("ES256", ctx.directory, kid="one"), Key("ES256", ctx.directory, kid="two")
    web = service(ctx, lambda request: (404, ""))
    house = token_house(ctx, jwk_set([key]), {"jwt.jwks_url": web.url("/keys")})
    method = {"auth_method": "JWT"}
    c = house.new().open(props={**method, "auth_data": key.token(sub="a").encode()})
    c.send(auth(0x19, {**method, "auth_data": key.token(sub="a").encode()})).expect(AUTH, reason=0)
    c.send(auth(0x19, {**method, "auth_data": unknown.token(sub="a").encode()}))
    gone(c, (NOT_AUTHORIZED, 0x89))
    check(house.comes_in("x", key.token(sub="a")), "nobody comes in any more")


# ---- the HTTP service ----


def connects(web):
    return [r.json for r in list(web.requests) if r.path == "/connect"]


def http_house(ctx, answer, settings=None, **more):
    web = service(ctx, answer)
    return web, guarded(ctx, settings={"http.connect_url": web.url("/connect"), "http.timeout": "2s", **(settings or {})},
                        **more)


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
    """A storm of 500s opens the breaker: then it is left in peace, and never is the answer yes. Later it is tried again."""
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


# ---- whose client id ----


def test_a_session_belongs_to_its_user(ctx):
    """auth.client_id_binding: refused, replaced, or shared as ever; connected or not."""
    for binding in ("refuse", "replace", "off"):
        for connected in (True, False):
            house = guarded(ctx, users={"alice": "a", "bob": "b"}, settings={"auth.client_id_binding": binding})
            name = "%s, %s" % (binding, "connected" if connected else "gone")
            alice = house.client("alice", client_id="one", clean=False, props={"session_expiry": 600})
            alice.subscribe("t/#", qos=1)
            if not connected:
                alice.close()
                house.client("bob").publish("t/1", b"for alice", qos=1)
            if binding == "refuse":
                house.refused(BAD_ID, "bob", "b", client_id="one")
                house.refused(BAD_ID, "bob", "b", client_id="one", clean=False)
                house.refused(2, "bob", "b", client_id="one", version=4)
                if connected:
                    alice.ping()
                else:
                    alice.open(clean=False, session_present=True, **house.who("alice"))
                    alice.expect_publish("t/1", b"for alice")
            else:
                bob = house.client("bob", client_id="one", clean=False, session_present=binding == "off")
                if connected:
                    check_equal(gone(alice), 0x8E, name + ": told to alice")
                    house.client("alice").publish("t/1", b"x", qos=1)
                if binding == "off":
                    bob.expect_publish("t/1")
                else:
                    bob.expect_nothing()
            same = house.client("alice", client_id="own", props={"session_expiry": 60})
            house.client("alice", client_id="own", clean=False, session_present=True)
            check_equal(gone(same), 0x8E, name + ": a takeover by the same user")
            ctx.brokers.remove(house)
            check_equal(house.stop(), [], name)
            house.remove()


# ---- bans and rates of connections ----


def test_an_address_that_fails_over_and_over(ctx):
    house = guarded(ctx, users={"alice": "secret"}, settings={"ban.auth_failures": "3", "ban.time": "3s"})
    inside = house.client("alice")
    other = house.new()
    other.source = ("127.0.0.7", 0)
    for _ in range(3):
        house.comes_in("alice", "wrong")
    eventually("the address is kept out", lambda: not house.comes_in("alice", "secret"), SECONDS)
    check(house.lines("event=banned", "127.0.0.1"), "no line of the ban")
    other.open(**house.who("alice")).ping()
    check_equal(gone(inside), ADMINISTRATIVE, "told to who was there")
    eventually("the ban ends", lambda: house.comes_in("alice", "secret"), SECONDS)
    for _ in range(2):
        house.comes_in("alice", "wrong")
    check(house.comes_in("alice", "secret"), "two failures have banned")


def test_a_client_that_flaps(ctx):
    house = guarded(ctx, users={"alice": "secret"}, settings={"ban.flaps": "5", "ban.flap_time": "3s"})
    count = 0
    while count < 20 and house.comes_in("alice", "secret", client_id="flappy"):
        count += 1
    check(4 <= count <= 6, "banned after %d connections" % count)
    house.refused(BANNED, "alice", "secret", client_id="flappy")
    check(house.lines("event=banned", "flappy"), "no line of the ban")
    house.client("alice", client_id="calm").ping()
    eventually("the ban ends", lambda: house.comes_in("alice", "secret", client_id="flappy"), SECONDS)


def test_the_rate_of_connections(ctx):
    """Of one address; others are not held up, and nobody who is there."""
    house = guarded(ctx, users={"alice": "secret"}, settings={"limits.max_connection_rate_per_address": "5"})
    time.sleep(1.1)  # the broker's start has taken one
    inside = house.client("alice")
    results = []
    for _ in range(40):
        results.append(house.comes_in("alice", "secret"))
    check(results.count(False) > 0, "40 connections at once came in")
    check(results.count(True) >= 4, "%d of 40 came in" % results.count(True))
    other = house.new()
    other.source = ("127.0.0.8", 0)
    other.open(**house.who("alice")).ping()
    inside.ping()
    eventually("there is room again", lambda: house.comes_in("alice", "secret"), SECONDS)
    check(house.lines("connection_refused", "too many connections a second"), "no line")


# ---- rates of messages ----


def sent_all(house, pubs, sub, count, size=10):
    """Send count messages from each publisher as fast as the socket takes them; they must all arrive. Returns seconds."""
    start = time.monotonic()
    for c in pubs:
        c.send(b"".join(publish("t/" + c.client_id, b"%05d" % n + b"x" * (size - 5), 1, pid=n + 1) for n in range(count)),
               "a burst")
    got = {}
    for _ in range(count * len(pubs)):
        p = sub.expect_publish(timeout=60)
        got.setdefault(p.topic, []).append(int(p.payload[:5]))
    check_equal(got, {"t/" + c.client_id: list(range(count)) for c in pubs}, "what arrived")
    seconds = time.monotonic() - start
    for c in pubs:
        for n in range(count):
            c.expect(PUBACK, pid=n + 1, reason=0, timeout=60)
        c.ping()
    return seconds


def test_rates_of_messages(ctx):
    """Reading pauses, nothing is lost: 120 messages take a second at the least where 60 a second are allowed, of which the
    first sixty go at once. Who is not limited is not held up."""
    rows = [("of a client", {"limits.max_publish_rate": 60}, "", 1, 10),
            ("of a client, in bytes", {"limits.max_publish_byte_rate": "60KB"}, "", 1, 1000),
            ("of a user", {"limits.max_user_publish_rate": 60}, "", 2, 10),
            ("of a user, in bytes", {"limits.max_user_publish_byte_rate": "60KB"}, "", 2, 1000),
            ("of a listener", {}, ", max_publish_rate: 60", 2, 10),
            ("of a listener, in bytes", {}, ", max_publish_byte_rate: 60KB", 2, 1000)]
    for name, settings, more, publishers, size in rows:
        house = guarded(ctx, users={"alice": "a", "bob": "b"}, settings=settings,
                        listeners='  - {address: "tcp://AT"%s}\n  - {address: "tcp://127.0.0.2:PORT"}' % more)
        sub = house.client("bob", host="127.0.0.2", keep_alive=0)
        sub.subscribe("t/#", qos=1)
        free = house.client("bob", host="127.0.0.2", keep_alive=0)
        pubs = [house.client("alice", keep_alive=0) for _ in range(publishers)]
        seconds = sent_all(house, pubs, sub, 120 // publishers, size)
        check(seconds >= 0.7, "%s: 120 messages took %.2f s" % (name, seconds))
        if "of a client" not in name:
            sent_all(house, [free], sub, 120, size)
        ctx.brokers.remove(house)
        check_equal(house.stop(), [], name)
        house.remove()


def test_a_paused_client_is_not_taken_for_dead(ctx):
    """While its messages are not read its keep alive does not run out; and its will is not published."""
    house = guarded(ctx, users={"alice": "a"}, settings={"limits.max_publish_rate": 10})
    sub = house.client("alice")
    sub.subscribe(["t", "will"], qos=0)
    c = house.client("alice", keep_alive=1, will=Will("will", b"dead"))
    c.send(b"".join(publish("t", b"%d" % n) for n in range(45)))
    for n in range(45):
        sub.expect_publish("t", b"%d" % n, timeout=SECONDS)
    c.ping()


# ---- what else a listener may be ----


def test_versions_of_a_listener(ctx):
    house = guarded(ctx, listeners="""\
  - {address: "tcp://AT"}
  - {address: "tcp://127.0.0.2:PORT", versions: [5.0]}
  - {address: "tcp://127.0.0.3:PORT", versions: ["3.1", "3.1.1"]}
  - {address: "tcp://127.0.0.4:PORT", versions: ["3.1.1"]}""")
    for host, spoken in (("127.0.0.1", {3, 4, 5}), ("127.0.0.2", {5}), ("127.0.0.3", {3, 4}), ("127.0.0.4", {4})):
        for version, code in ((3, 1), (4, 1), (5, 0x84)):
            if version in spoken:
                house.client(version=version, host=host).disconnect()
            else:
                house.refused(code, version=version, host=host)


TENANTS = """\
  - {address: "tcp://AT"}
  - {address: "tcp://127.0.0.2:PORT", mount_point: one/}
  - {address: "tcp://127.0.0.3:PORT", mount_point: two/}"""
BOTH = ("127.0.0.2", "127.0.0.3")


def test_mount_points(ctx):
    """Two tenants with the same topics see nothing of one another; who stands outside sees both."""
    house = guarded(ctx, listeners=TENANTS)
    outside = house.client()
    outside.subscribe(["one/#", "two/#"], qos=1)
    one, two = (house.client(host=h) for h in BOTH)
    for c in (one, two):
        c.subscribe(["#", "a/+"], qos=2)
    for version in (3, 4, 5):
        pub = house.client(host=BOTH[0], version=version)
        for qos in (0, 1, 2):
            pub.publish("a/b", b"m", qos=qos)
            p = one.expect_publish(payload=b"m", qos=qos)
            check_equal(p.topic, "a/b", "topic that the tenant sees")
            outside.expect_publish("one/a/b", b"m", qos=min(qos, 1))
    two.expect_nothing()
    outside.publish("one/from/outside", b"o", qos=1)
    one.expect_publish("from/outside", b"o")
    outside.expect_publish("one/from/outside", b"o")
    outside.publish("from/outside", b"o", qos=1)
    one.publish("$SYS/broker/uptime", b"forged", qos=1, reason=(0, 0x10))  # below its own point it is a topic like others
    two.publish("/", b"slash", qos=1)
    two.expect_publish("/", b"slash")
    outside.expect_later(3, topic="one/$SYS/broker/uptime")
    outside.expect_publish("two//", b"slash")
    one.publish("x" * 65533, b"", qos=0)
    check_equal(gone(one), 0x90, "a topic that is too long with its mount point")


def test_mount_points_retained_wills_and_unsubscribe(ctx):
    house = guarded(ctx, listeners=TENANTS)
    outside = house.client()
    pubs = [house.client(host=h) for h in BOTH]
    for c, payload in zip(pubs, (b"1", b"2")):
        c.publish("kept", payload, qos=1, retain=True)
    for h, payload in zip(BOTH, (b"1", b"2")):
        late = house.client(host=h)
        late.subscribe("#", qos=1)
        late.expect_publish("kept", payload, retain=True)
        late.expect_nothing()
        late.disconnect()
    outside.subscribe("+/kept")
    check_equal({outside.expect_publish(retain=True).topic for _ in BOTH}, {"one/kept", "two/kept"}, "retained topics")
    pubs[0].publish("kept", b"", qos=1, retain=True)
    check_equal(house.client().subscribe("one/kept") is not None, True, "subscribed")
    subs = [house.client(host=h) for h in BOTH]
    for c in subs:
        c.subscribe(["w", "u"])
    house.client(host=BOTH[0], will=Will("w", b"gone")).abort()
    subs[0].expect_publish("w", b"gone", timeout=SECONDS)
    subs[1].expect_nothing()
    subs[0].unsubscribe(["u", "w", "never"], reasons=[0, 0, 0x11])
    for c in pubs:
        c.publish("u", b"u", qos=1)
    subs[1].expect_publish("u", b"u")
    subs[0].expect_nothing()


def test_mount_points_shared_subscriptions_and_sessions(ctx):
    house = guarded(ctx, listeners=TENANTS)
    members = [house.client(host=h, clean=False, props={"session_expiry": 60}) for h in BOTH + BOTH]
    for c in members:
        c.subscribe("$share/g/job/#", qos=1)
    pubs = [house.client(host=h) for h in BOTH]
    for n in range(10):
        pubs[0].publish("job/%d" % n, b"one", qos=1)
    got = [quiet(c) for c in members]
    check_equal(sorted(t for t, _ in got[0] + got[2]), sorted("job/%d" % n for n in range(10)), "jobs of tenant one")
    check_equal(got[1] + got[3], [], "jobs of tenant one that went to tenant two")
    for c in (members[0], members[2]):
        c.close()
    pubs[0].publish("job/later", b"kept", qos=1)
    back = [c.open(clean=False, session_present=True, props={"session_expiry": 60}) for c in (members[0], members[2])]
    check_equal([m for c in back for m in quiet(c)], [("job/later", "kept")], "what was kept for tenant one")
    for c in back:
        c.unsubscribe("$share/g/job/#")
    pubs[0].publish("job/none", b"", qos=1)
    for c in back + [members[1], members[3]]:
        c.expect_nothing()


def test_connections_of_a_listener(ctx):
    house = guarded(ctx, listeners='  - {address: "tcp://AT"}\n  - {address: "tcp://127.0.0.2:PORT", max_connections: 3}')
    inside = [house.client(host="127.0.0.2") for _ in range(3)]
    check(not house.comes_in(host="127.0.0.2"), "a fourth comes in")
    house.client().ping()
    check(house.lines("connection_refused", "too many connections of this listener"), "no line")
    inside.pop().disconnect()
    eventually("there is room again", lambda: house.comes_in(host="127.0.0.2"), SECONDS)
    for c in inside:
        c.ping()
