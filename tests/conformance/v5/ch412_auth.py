"""5.0, chapters 3.15 and 4.12: AUTH and enhanced authentication, by SCRAM-SHA-256 and by tokens.

The broker of these tests has a password file with two users, and a key for tokens; both lie in a folder that is made
when this module is read. Who names no method comes in by user name and password, to have something to compare with."""

import atexit
import json
import os
import shutil
import tempfile
import time

from kit import check, check_equal, covers, settings
from lib.mqtt import *  # noqa: F403
from lib.scram import Scram, Wrong, verifier
from lib.tokens import Key

MALFORMED = (0x81, 0x82)
NOT_AUTHORIZED = (0x86, 0x87)
SCRAM, JWT = "SCRAM-SHA-256", "JWT"
FOLDER = tempfile.mkdtemp(prefix="tern-auth-")
atexit.register(shutil.rmtree, FOLDER, True)
KEY = Key("HS256", FOLDER, kid="k")


def write(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


SETTINGS = {"auth.password_file": write("users", verifier("alice", "secret") + verifier("bob=,", "p\u00e4ss")),
            "jwt.keys": write("keys", json.dumps(KEY.jwk())), "jwt.leeway": "0"}
PASSWORD = {"user": "alice", "password": "secret"}


def again(scram, **more):
    """Authentication Method and, given, Data."""
    return {"auth_method": SCRAM if scram else JWT, **{"auth_" + k: v for k, v in more.items()}}


def go_on(c, data, reason=0x18):
    """The client's AUTH."""
    return c.send(auth(reason, again(True, data=data)))


def begin(env, user="alice", password="secret", props=None, client_id=None, **scram):
    """CONNECT with client-first, and the server's AUTH to it. Returns (client, exchange, AUTH packet)."""
    c, s = env.raw(client_id=client_id), Scram(user, password, **scram)
    c.send(connect(c.client_id, props={**again(True, data=s.first()), **(props or {})}))
    return c, s, c.expect(AUTH, reason=0x18)


def scram(env, user="alice", password="secret", **more):
    """A client that has come in by SCRAM."""
    c, s, first = begin(env, user, password, **more)
    go_on(c, s.final(first.props["auth_data"]))
    c.connack = c.expect(CONNACK, reason=0)
    s.check(c.connack.props.get("auth_data"))
    return c


@settings(SETTINGS)
@covers("MQTT-4.12.0-2", "MQTT-4.12.0-5", "MQTT-3.15.2-1", "MQTT-3.15.1-1")
def test_scram(env):
    """AUTH and CONNACK name the method; the codec of these tests refuses flags and other reason codes in AUTH."""
    for user, password in (("alice", "secret"), ("bob=,", "p\u00e4ss")):
        with env.case(user):
            c, s, first = begin(env, user, password)
            check_equal(first.props["auth_method"], SCRAM, "method in AUTH")
            go_on(c, s.final(first.props["auth_data"]))
            connack = c.expect(CONNACK, reason=0)
            check_equal(connack.props.get("auth_method"), SCRAM, "method in CONNACK")
            s.check(connack.props.get("auth_data"))
            c.subscribe(env.topic("t"), qos=1)
            c.publish(env.topic("t"), b"x", qos=1, ack=False)
            c.expect_later(PUBACK)
            c.expect_publish(env.topic("t"), b"x")


@settings(SETTINGS)
@covers("MQTT-4.12.0-2", "MQTT-4.12.0-5")
def test_method_jwt(env):
    """With the token in CONNECT there is nothing to ask for; without it AUTH asks for it."""
    with env.case("token in CONNECT"):
        c = env.client(props=again(False, data=KEY.token(sub="carol").encode()))
        check_equal(c.connack.props.get("auth_method"), JWT, "method in CONNACK")
        c.ping()
    with env.case("token in AUTH"):
        c = env.raw()
        c.send(connect(c.client_id, props=again(False)))
        first = c.expect(AUTH, reason=0x18)
        check_equal(first.props.get("auth_method"), JWT, "method in AUTH")
        c.send(auth(0x18, again(False, data=KEY.token(sub="carol").encode())))
        check_equal(c.expect(CONNACK, reason=0).props.get("auth_method"), JWT, "method in CONNACK")
        c.ping()


@settings(SETTINGS)
@covers("MQTT-4.12.0-1", "MQTT-4.12.0-4")
def test_methods_that_are_none(env):
    for method in ("none-such", "", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256", "SCRAM-SHA-256\u00e4", "jwt"):
        with env.case(method):
            env.raw().send(connect("x", props={"auth_method": method, "auth_data": b"n,,n=alice,r=abc"},
                                   **PASSWORD)).expect_refused((0x8C, 0x87))


FINALS = [  # name, user, password, what becomes of client-final
    ("wrong password", "alice", "wrong", None), ("unknown user", "nobody", "secret", None),
    ("empty password", "alice", "", None),
    ("no proof", "alice", "secret", lambda t: t.split(",p=")[0]),
    ("empty proof", "alice", "secret", lambda t: t.split(",p=")[0] + ",p="),
    ("proof cut short", "alice", "secret", lambda t: t[:-5]),
    ("proof of zeros", "alice", "secret", lambda t: t.split(",p=")[0] + ",p=" + "A" * 43 + "="),
    ("another nonce", "alice", "secret", lambda t: t.replace("r=", "r=x", 1)),
    ("another header", "alice", "secret", lambda t: t.replace("c=biws", "c=eSws", 1)),
    ("something behind", "alice", "secret", lambda t: t + ",x=1"),
    ("nothing", "alice", "secret", lambda t: ""), ("noise", "alice", "secret", lambda t: "\x00\x01 ,,,=="),
]


@settings(SETTINGS)
@covers("MQTT-4.12.0-4")
def test_scram_refused_at_the_end(env):
    for name, user, password, change in FINALS:
        with env.case(name):
            c, s, first = begin(env, user, password, change={"final": change} if change else None)
            go_on(c, s.final(first.props["auth_data"]))
            c.expect_refused(NOT_AUTHORIZED)


@settings(SETTINGS)
@covers("MQTT-4.12.0-4")
def test_scram_refused_at_the_start(env):
    for data in (b"", b"n", b"n,,", b"n,,n=alice", b"n,,n=,r=abc", b"n,,r=abc,n=alice", b"n,,m=x,n=alice,r=abc",
                 b"p=tls-unique,,n=alice,r=abc", b"n,a=bob,n=alice,r=abc", b"n,,n=al=ice,r=abc", b"n,,n=alice,r=",
                 b"n,,n=alice,r=a\x00b", b"n,,n=\xff\xfe,r=abc", b"q,,n=alice,r=abc", b"n,,n=alice,r=" + b"a" * 9000):
        with env.case(repr(data[:40])):
            env.raw().send(connect("x", props=again(True, data=data))).expect_refused(NOT_AUTHORIZED)
    with env.case("no data at all"):
        env.raw().send(connect("x", props=again(True))).expect_refused(NOT_AUTHORIZED)


@settings(SETTINGS)
@covers("MQTT-4.12.0-4")
def test_one_guess_for_each_exchange(env):
    """Neither a second guess nor what was right yesterday."""
    with env.case("a second guess in the same connection"):
        c, s, first = begin(env, password="wrong")
        data = s.final(first.props["auth_data"])
        c.send(auth(0x18, again(True, data=data)) * 2).expect_refused(NOT_AUTHORIZED)
    with env.case("replayed"):
        c, s, first = begin(env)
        data = s.final(first.props["auth_data"])
        go_on(c, data)
        c.expect(CONNACK, reason=0)
        other = env.raw()
        other.send(connect(other.client_id, props=again(True, data=("n,," + s.bare).encode())))
        second = other.expect(AUTH, reason=0x18)
        check(second.props["auth_data"] != first.props["auth_data"], "the same server-first twice")
        go_on(other, data)
        other.expect_refused(NOT_AUTHORIZED)
    with env.case("an unknown user's salt stays the same"):
        salts = {begin(env, "stranger")[2].props["auth_data"].split(b",s=")[1] for _ in range(3)}
        check_equal(len(salts), 1, "number of salts")


@settings(SETTINGS)
@covers("MQTT-3.1.2-30")
def test_other_packets_in_the_midst(env):
    """Before the CONNACK only AUTH and DISCONNECT may come; nothing else has an effect."""
    sub = env.client(**PASSWORD)
    sub.subscribe(env.topic("#"))
    rows = [("PUBLISH", publish(env.topic("t"), b"x")), ("SUBSCRIBE", subscribe(1, [("#", 0)])), ("PINGREQ", pingreq()),
            ("PUBREL", ack(PUBREL, 1)), ("CONNECT", connect("second", **PASSWORD)),
            ("UNSUBSCRIBE", unsubscribe(1, ["a"]))]
    for name, data in rows:
        with env.case(name):
            c, s, first = begin(env)
            c.send(data + auth(0x18, again(True, data=s.final(first.props["auth_data"]))))
            p = c.receive()
            check(p is None or (p.type == CONNACK and p.reason >= 0x80), "got %r" % p)
            check(p is None or c.receive() is None, "the connection goes on")
    with env.case("PUBLISH behind CONNECT in one segment"):
        c, s = env.raw(), Scram("alice", "secret")
        c.send(connect(c.client_id, props=again(True, data=s.first())) + publish(env.topic("t"), b"x"))
        while c.receive() is not None:
            pass
    with env.case("DISCONNECT"):
        check(begin(env)[0].send(disconnect()).receive() is None, "an answer to DISCONNECT")
    sub.expect_nothing()


@settings(SETTINGS)
@covers("MQTT-3.15.2-1", "MQTT-3.15.1-1", "MQTT-4.12.0-5")
def test_wrong_auth_in_the_midst(env):
    rows = [("success", lambda d: auth(0x00, again(True, data=d))), ("no body", lambda d: auth()),
            ("re-authenticate", lambda d: auth(0x19, again(True, data=d))),
            ("unknown reason", lambda d: auth(0x01, again(True, data=d))),
            ("another method", lambda d: auth(0x18, again(False, data=d))),
            ("no method", lambda d: auth(0x18, {"auth_data": d})),
            ("flags", lambda d: auth(0x18, again(True, data=d), flags=1)),
            ("data twice", lambda d: auth(0x18, properties_of(d) + one_property("auth_data", d))),
            ("property of PUBLISH", lambda d: auth(0x18, {**again(True, data=d), "topic_alias": 1}))]
    for name, make in rows:
        with env.case(name):
            c, s, first = begin(env)
            c.send(make(s.final(first.props["auth_data"])))
            c.expect_refused()


def properties_of(data):
    return b"".join(one_property(k, v) for k, v in again(True, data=data).items())


@settings(SETTINGS)
@covers("MQTT-4.12.0-6", "MQTT-4.12.0-7")
def test_no_method_no_auth(env):
    """Neither AUTH nor a method in the CONNACK for who named none; AUTH from such a client is an error."""
    c = env.client(**PASSWORD)
    check("auth_method" not in c.connack.props and "auth_data" not in c.connack.props, "%r" % c.connack)
    c.ping()
    for reason in (0x18, 0x19, 0x00):
        with env.case("0x%02x" % reason):
            env.client(**PASSWORD).send(auth(reason, again(True, data=b"n,,n=alice,r=abc"))).expect_closed(0x82)
    with env.case("data without a method in CONNECT"):
        env.raw().send(connect("x", props={"auth_data": b"d"}, **PASSWORD)).expect_refused(MALFORMED)


@settings(SETTINGS)
@covers("MQTT-4.12.0-5", "MQTT-4.12.0-2")
def test_reauthentication(env):
    """As often as the client likes, in the midst of its traffic."""
    c = scram(env)
    c.subscribe(env.topic("t"), qos=1)
    for _ in range(3):
        s = Scram("alice", "secret")
        c.send(auth(0x19, again(True, data=s.first())))
        first = c.expect(AUTH, reason=0x18)
        check_equal(first.props["auth_method"], SCRAM, "method in AUTH")
        c.publish(env.topic("t"), b"x", qos=1, ack=False)
        go_on(c, s.final(first.props["auth_data"]))
        last = c.expect_later(AUTH, reason=0x00)
        check_equal(last.props["auth_method"], SCRAM, "method in the last AUTH")
        s.check(last.props.get("auth_data"))
        c.expect_later(PUBACK)
        c.expect_publish(env.topic("t"), b"x")
    with env.case("by a token"):
        c = env.client(props=again(False, data=KEY.token(sub="carol").encode()))
        c.send(auth(0x19, again(False, data=KEY.token(sub="carol").encode())))
        check_equal(c.expect(AUTH, reason=0).props["auth_method"], JWT, "method in AUTH")
        c.ping()


@settings(SETTINGS)
@covers("MQTT-4.12.1-2", "MQTT-4.12.0-5")
def test_reauthentication_that_fails(env):
    """DISCONNECT and the end: a wrong password, another user, another method, a step left out."""
    for name, user, password in (("wrong password", "alice", "wrong"), ("another user", "bob=,", "p\u00e4ss")):
        with env.case(name):
            c, s = scram(env), Scram(user, password)
            c.send(auth(0x19, again(True, data=s.first())))
            go_on(c, s.final(c.expect(AUTH, reason=0x18).props["auth_data"]))
            c.expect_closed(NOT_AUTHORIZED)
    rows = [("noise", auth(0x19, again(True, data=b"noise")), NOT_AUTHORIZED),
            ("another method", auth(0x19, again(False, data=KEY.token(sub="alice").encode())), (0x82, 0x8C)),
            ("continue nothing", auth(0x18, again(True, data=b"x")), (0x82,)),
            ("success", auth(0x00, again(True)), (0x82,)), ("no body", auth(), (0x82,)),
            ("no method", auth(0x19, {"auth_data": b"x"}), (0x82,)),
            ("flags", auth(0x19, again(True, data=b"x"), flags=2), MALFORMED)]
    for name, data, codes in rows:
        with env.case(name):
            scram(env).send(data).expect_closed(codes)
    with env.case("a second one in the midst"):
        c = scram(env)
        data = auth(0x19, again(True, data=Scram("alice", "secret").first()))
        c.send(data).expect(AUTH, reason=0x18)
        c.send(data).expect_closed(0x82)
    with env.case("another token's user"):
        c = env.client(props=again(False, data=KEY.token(sub="carol").encode()))
        c.send(auth(0x19, again(False, data=KEY.token(sub="alice").encode()))).expect_closed(NOT_AUTHORIZED)


@settings(SETTINGS)
@covers("MQTT-4.12.1-2", "MQTT-4.12.0-4")
def test_tokens_refused(env):
    """By CONNECT, by AUTH before the CONNACK, and on a connection that a good one has opened."""
    good, now = KEY.token(sub="carol"), int(time.time())
    head, body, signature = good.split(".")
    other = Key("HS256", FOLDER, kid="k")
    rows = [("expired", KEY.token(sub="carol", exp=now - 5)), ("not yet", KEY.token(sub="carol", nbf=now + 100)),
            ("no exp", KEY.token(sub="carol", exp=None)), ("no sub", KEY.token()), ("sub is a number", KEY.token(sub=1)),
            ("no signature", "%s.%s." % (head, body)),
            ("signature of another", "%s.%s.%s" % (head, body, signature[::-1])),
            ("another key", other.token(sub="carol")), ("alg none", KEY.token({"alg": "none"}, sub="carol")),
            ("crit", KEY.token({"alg": "HS256", "crit": ["exp"]}, sub="carol")), ("noise", "noise"), ("dots", ".."),
            ("unknown kid", KEY.token({"alg": "HS256", "kid": "x"}, sub="carol"))]
    for name, token in rows:
        data = again(False, data=token.encode())
        with env.case(name + " in CONNECT"):
            env.raw().send(connect("x", props=data)).expect_refused(NOT_AUTHORIZED)
        with env.case(name + " in AUTH"):
            c = env.raw().send(connect("x", props=again(False)))
            c.expect(AUTH, reason=0x18)
            c.send(auth(0x18, data)).expect_refused(NOT_AUTHORIZED)
        with env.case(name + " in re-authentication"):
            c = env.client(props=again(False, data=good.encode()))
            c.send(auth(0x19, data)).expect_closed(NOT_AUTHORIZED)
    with env.case("nothing in AUTH"):
        c = env.raw().send(connect("x", props=again(False)))
        c.expect(AUTH, reason=0x18)
        c.send(auth(0x18, again(False))).expect_refused(NOT_AUTHORIZED)


@settings(SETTINGS)
@covers("MQTT-3.15.2-2", "MQTT-3.15.2-3", "MQTT-3.1.2-24")
def test_auth_within_the_maximum_packet_size(env):
    """AUTH never carries what could be left away; and one that the client does not take is not sent."""
    for limit in (1000, 200, 60, 30):
        with env.case("%d bytes" % limit):
            c, s = env.raw(), Scram("alice", "secret")
            c.send(connect(c.client_id, props={**again(True, data=s.first()), "maximum_packet_size": limit}))
            p = c.receive()
            while p is not None:
                check(p.size <= limit, "%d bytes: %r" % (p.size, p))
                check("reason_string" not in p.props and "user_property" not in p.props, "%r" % p)
                if p.type != AUTH:
                    break
                go_on(c, s.final(p.props["auth_data"]))
                p = c.receive()
            if limit >= 200:
                check(p is not None and p.type == CONNACK and p.reason == 0, "got %r" % p)
            else:
                check(p is None or (p.type == CONNACK and p.reason >= 0x80), "got %r" % p)


@settings(SETTINGS)
@covers("MQTT-4.12.0-2", "MQTT-3.1.3-6")
def test_sessions_of_scram_clients(env):
    """The CONNECT that is answered late is the one that was sent: client id, session, will and all."""
    with env.case("the session is resumed"):
        c = scram(env, props={"session_expiry": 60}, client_id=env.client_id("kept"))
        c.subscribe(env.topic("q"), qos=1)
        c.close()
        env.client(**PASSWORD).publish(env.topic("q"), b"late", qos=1)
        s = Scram("alice", "secret")
        c.dial().send(connect(c.client_id, clean=False, props={**again(True, data=s.first()), "session_expiry": 60}))
        go_on(c, s.final(c.expect(AUTH, reason=0x18).props["auth_data"]))
        c.expect(CONNACK, reason=0, session_present=True)
        c.expect_publish(env.topic("q"), b"late", qos=1)
    with env.case("an assigned client id"):
        c, s = env.raw(client_id=""), Scram("alice", "secret")
        c.send(connect("", props=again(True, data=s.first())))
        go_on(c, s.final(c.expect(AUTH, reason=0x18).props["auth_data"]))
        check(c.expect(CONNACK, reason=0).props.get("assigned_client_id"), "no client id")
    with env.case("a will"):
        sub, c, s = env.client(**PASSWORD), env.raw(), Scram("alice", "secret")
        sub.subscribe(env.topic("w"))
        c.send(connect(c.client_id, props=again(True, data=s.first()), will=Will(env.topic("w"), "gone")))
        go_on(c, s.final(c.expect(AUTH, reason=0x18).props["auth_data"]))
        c.expect(CONNACK, reason=0)
        c.close()
        sub.expect_publish(env.topic("w"), b"gone")
    with env.case("the server's proof is one"):
        c, s, first = begin(env)
        go_on(c, s.final(first.props["auth_data"]))
        data = c.expect(CONNACK, reason=0).props["auth_data"]
        try:
            s.check(data[:-3] + b"AA=")
            check(False, "any proof would do")
        except Wrong:
            pass
