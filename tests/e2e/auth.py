"""Who may connect: password files, listeners that ask for nothing, tokens, client ids that belong to somebody, bans."""

import os
import subprocess
import time

from guarded import SECONDS, gone, guarded, service
from kit import check, check_equal, eventually
from lib.broker import free_port
from lib.mqtt import AUTH, CONNACK, auth, connect
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


def test_more_logins_than_can_wait(ctx):
    """Beyond auth.max_waiting the answer is to come again, at once; those who wait are served."""
    ternctl = os.path.join(os.path.dirname(ctx.opts.tern), "ternctl")
    house = guarded(ctx, users={}, start=False, settings={"auth.workers": "1", "auth.max_waiting": "2"})
    tool(ctx, ternctl, "passwd", house.file("users"), "slow", "--kind", "pbkdf2", "--iterations", "400000",
         "--password-stdin", text="p\n")
    house.start()
    crowd = [house.new() for _ in range(20)]
    for c in crowd:
        c.dial()
    for c in crowd:
        c.send(connect(c.client_id, user="slow", password="p"))
    codes = [c.receive(60).reason for c in crowd]
    check_equal(set(codes), {0, 0x89}, "answers")
    check(codes.count(0) >= 2, "%d came in" % codes.count(0))
    check(house.comes_in("slow", "p"), "nobody comes in afterwards")


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
    house = guarded(ctx, users={"alice": "secret"}, start=False, settings={"jwt.keys": ctx.directory + "/keys"},
                    listeners="""\
  - {address: "tcp://AT", authentication: [password]}
  - {address: "tcp://127.0.0.2:PORT", authentication: [jwt]}
  - {address: "tcp://127.0.0.3:PORT", authentication: [scram]}""")
    with open(ctx.directory + "/keys", "w", encoding="utf-8") as f:
        f.write(jwk_set([key]))
    house.start()
    token = key.token(sub="alice")
    for host, password, comes in (("127.0.0.1", "secret", True), ("127.0.0.1", token, False),
                                  ("127.0.0.2", token, True), ("127.0.0.2", "secret", False),
                                  ("127.0.0.3", "secret", False), ("127.0.0.3", token, False)):
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
        text = "listeners:\n  - tcp://127.0.0.1:%d\n  - %s\n" % (free_port(), listener % free_port())
        said = start_that_fails(ctx, text)
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
    for change, comes in (({}, True), ({"aud": "tern"}, True), ({"nbf": now - 5}, True),
                          ({"iss": "https://issuer/"}, False), ({"iss": None}, False),
                          ({"aud": "ter"}, False), ({"aud": []}, False), ({"aud": None}, False),
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
