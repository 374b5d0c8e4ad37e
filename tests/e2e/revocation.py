"""Rights that are taken away while they are in use: each event that may befall a client, in each state it may be in.

The client is bob, who publishes, reads and shares t/x and ok/x; the event takes t/x away from him, or all of it. Alice,
who may do everything, sees what comes of it. A cell of the table is one test, test_STATE_EVENT; what a state must come
to is said once, for events that end the connection and for those that only narrow what may be done.

    event         what happens                                       bob afterwards
    ------------  -------------------------------------------------  ------------------------------------------
    deleted       his line is taken out of the password file         is sent away, cannot come back
    password      he has another password there                      is sent away, comes back with the new one
    certificate   his certificate is in the revocation list          is sent away, comes back with another one
    token         his token expires                                  is sent away, comes back with another one
    banned        his address fails to log in too often              is sent away, comes back from elsewhere
    rules         the rule that let him at t/x is gone               stays, without t/x
    partly        a rule before it denies t/x, t/# is still his      stays, without t/x
    role          he has lost the role that let him at t/x           stays, without t/x

Cells that one node does not reach, or that are elsewhere:
- a tenant that is disabled: there are no tenants yet, only mount points, and a listener cannot be closed by a reload
- a decision cached on another node (A12), bridges and administration (A13), a node cut off (A14): they need a second
  node, or parts that are not there. What this node has cached is what every cell here would trip over; resumed TLS
  sessions are tls.py's.
- a client id that is banned for flapping: flapping is taking over one's own connection again and again, so that no state
  but the last connection's is left to be revoked; see test_banned_client_id. Users are banned by hand only, and there is
  no hand yet.
- an expired certificate: certificates of a few seconds' life cannot be made; expiry itself is the token's code.
- a QoS 2 message that is accepted and not yet at its subscribers (A5): they have it before the PUBREC here, so that
  nothing is left to be released. What is left is the packet identifier, and that is tested.
"""

import json
import time

from guarded import SECONDS, gone, guarded, quiet
from kit import check, check_equal, eventually
from lib.certificates import Authority
from lib.mqtt import (AUTH, CONNACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Failure, Will, ack, auth, connect, publish)
from lib.sockets import tls_context
from lib.tokens import Key

NOT_AUTHORIZED, ADMINISTRATIVE, BAD_ID, BANNED = 0x87, 0x98, 0x85, 0x8A
OK = (0x00, 0x10)
KEPT = {"session_expiry": 600}
RULES = '- {allow: all, topic: ["#", "$SYS/#"], user: alice}\n- {allow: all, topic: ok/#}\n'
T_RULE = "- {allow: all, topic: t/#, user: [bob, carl]}\n"


class Event:
    """ends: whether it ends the connection, with `code`. will: whether a will of bob's on t/x is still published.
    returns: whether there is a proof by which he comes back."""

    ends, code, will, returns = True, NOT_AUTHORIZED, False, True
    rules, roles, settings, listeners = RULES + T_RULE, None, {}, '  - "tcp://AT"'
    speaks_3x = True

    def __init__(self, ctx):
        self.ctx = ctx
        self.house = guarded(ctx, users={"alice": "a", "bob": "b", "carl": "c"}, rules=self.rules, roles=self.roles,
                             settings=self.settings_of(), listeners=self.listeners, start=False)
        self.before_start()
        self.house.start()
        self.alice = self.house.client("alice", keep_alive=0)

    def settings_of(self):
        return self.settings

    def before_start(self):
        """Files that the broker needs."""

    def bob(self, client_id="bob", version=5, **more):
        """Bob, connected by the proof that the event takes away."""
        return self.house.client("bob", client_id=client_id, version=version, **{**self.kept(version), **more})

    def kept(self, version=5):
        return {"clean": False, **({"props": KEPT} if version == 5 else {})}

    def doom(self, c):
        """The last of what bob does before the event, for those that must be told in advance."""

    def act(self):
        raise NotImplementedError

    def old_proof(self, c):
        """What the old proof is worth on a new connection: raises unless nothing."""
        self.house.refused(0x86, "bob", "b", client_id=c.client_id)

    def again(self, c, **more):
        """Bob comes back with a new proof, his session is there; before, the old proof is tried."""
        self.old_proof(c)
        c.close()
        self.come_back(c, {**self.kept(c.version), "session_present": True, **more})
        return c

    def come_back(self, c, more):
        c.open(**self.house.who("bob"), **more)


class Deleted(Event):
    returns = False

    def act(self):
        self.house.users({"alice": "a", "carl": "c"})
        self.house.reload()


class Password(Event):
    def act(self):
        self.house.users({"alice": "a", "bob": "new", "carl": "c"})
        self.house.reload()


class Certificate(Event):
    """Bob comes by TLS; the user names of the two listeners are the same. A certificate is judged while there is a
    connection; the will is judged by its user, as others of that name may still come."""

    will = True
    listeners = """\
  - "tcp://AT"
  - address: tls://127.0.0.2:PORT
    tls: {certificate: DIR/ca/server.pem, key: DIR/ca/server.key, client_ca: DIR/ca/ca.pem, crl: DIR/ca/crl.pem,
          client_certificate: required}"""

    def before_start(self):
        self.ca = Authority(self.house.file("ca"))
        self.ca.server("server", ["localhost"])
        for name in ("bob", "new"):
            self.ca.client(name, subject="/CN=bob")
        self.ca.crl()

    def new(self, c, name):
        c.host, c.transport = "127.0.0.2", "tls"
        path = self.ca.path
        c.how = {"context": tls_context(path("ca.pem"), path(name + ".pem"), path(name + ".key"))}
        return c

    def bob(self, client_id="bob", version=5, **more):
        return self.new(self.house.new("bob", client_id, version), "bob").open(**{**self.kept(version), **more})

    def act(self):
        self.ca.revoke("bob")
        self.ca.crl()
        self.house.reload()

    def old_proof(self, c):
        old = self.new(self.house.new("bob", c.client_id), "bob").dial()
        old.send(connect(c.client_id))
        check(old.receive(SECONDS) is None, "the revoked certificate is taken")

    def come_back(self, c, more):
        self.new(c, "new").open(**more)


class Token(Event):
    """Bob comes by a token that lasts, and renews it to one that does not when all is prepared; 3.x cannot."""

    will = True  # his right was good when he set it, and nobody has taken it away
    speaks_3x = False

    def settings_of(self):
        self.key = Key("HS256", self.ctx.directory)
        with open(self.ctx.directory + "/keys", "w", encoding="utf-8") as f:
            f.write(json.dumps(self.key.jwk()))
        return {"jwt.keys": self.ctx.directory + "/keys", "jwt.leeway": "0"}

    def proof(self, seconds):
        self.last, self.ends_at = self.key.token(sub="bob", exp=int(time.time()) + seconds), int(time.time()) + seconds
        return {"auth_method": "JWT", "auth_data": self.last.encode()}

    def bob(self, client_id="bob", version=5, **more):
        more = {**self.kept(), **more}
        return self.house.new("bob", client_id).open(**{**more, "props": {**more["props"], **self.proof(60)}})

    def doom(self, c):
        c.send(auth(0x19, self.proof(2)))
        c.expect_later(AUTH, reason=0)
        self.doomed, self.over_at = self.last, self.ends_at

    def act(self):
        eventually("the token's time is over", lambda: time.time() > self.over_at + 0.1, SECONDS)

    def old_proof(self, c):
        self.house.refused(NOT_AUTHORIZED, client_id=c.client_id,
                           props={"auth_method": "JWT", "auth_data": self.doomed.encode()})

    def come_back(self, c, more):
        c.open(**{**more, "props": {**more.get("props", KEPT), **self.proof(60)}})


class Banned(Event):
    """Bob has an address of his own. That others have failed from there says nothing against his will."""

    code, will = ADMINISTRATIVE, True
    settings = {"ban.auth_failures": "3"}

    def bob(self, client_id="bob", version=5, **more):
        c = self.house.new("bob", client_id, version)
        c.source = ("127.0.0.9", 0)
        return c.open(**self.house.who("bob"), **{**self.kept(version), **more})

    def act(self):
        for _ in range(3):
            c = self.house.new()
            c.source = ("127.0.0.9", 0)
            c.dial().send(connect(c.client_id, user="bob", password="wrong"))
            c.expect_refused()

    def old_proof(self, c):
        old = self.house.new("bob", c.client_id)
        old.source = ("127.0.0.9", 0)
        try:
            old.dial().send(connect(c.client_id, **self.house.who("bob")))
            check(old.receive(SECONDS) is None, "the banned address is served")
        except OSError:
            pass

    def come_back(self, c, more):
        c.source = None
        c.open(**self.house.who("bob"), **more)


class Rules(Event):
    ends = False
    after = RULES

    def act(self):
        self.house.rules(self.after)
        self.house.reload()

    def old_proof(self, c):
        pass


class Partly(Rules):
    after = "- {deny: all, topic: t/x, user: bob}\n" + RULES + T_RULE


class Role(Rules):
    rules, roles = RULES + "- {allow: all, topic: t/#, role: staff}\n", "staff: [bob, carl]"

    def act(self):
        self.house.rules(self.rules, "staff: [carl]")
        self.house.reload()


EVENTS = {"deleted": Deleted, "password": Password, "certificate": Certificate, "token": Token, "banned": Banned,
          "rules": Rules, "partly": Partly, "role": Role}


def watcher(event, topics=("t/#", "ok/#")):
    c = event.house.client("alice", keep_alive=0)
    c.subscribe(list(topics), qos=2)
    return c


def said(c):
    return [(t, p) for t, p in quiet(c, 0.1)]


# ---- the states ----


def a1_publishing(event):
    """Sent away, or each PUBLISH to t/x is refused from then on."""
    sub, c = watcher(event), event.bob()
    c.publish("t/x", b"before", qos=1)
    sub.expect_publish("t/x", b"before")
    event.doom(c)
    event.act()
    if event.ends:
        gone(c, event.code)
        check_equal(said(sub), [], "what is published afterwards")
        return

    def refused():
        return c.publish("t/x", b"after", qos=1, reason=OK + (NOT_AUTHORIZED,)).reason == NOT_AUTHORIZED
    eventually("PUBLISH is refused", refused, SECONDS)
    said(sub)
    for qos in (0, 1, 2):
        c.publish("t/x", b"after", qos=qos, reason=NOT_AUTHORIZED)
        c.publish("ok/x", b"fine", qos=qos)
    check_equal(said(sub), [("ok/x", "fine")] * 3, "what is published afterwards")


def a1_publishing_3x(event):
    """The same of a 3.1.1 client."""
    sub, c = watcher(event), event.bob(version=4)
    c.publish("t/x", b"before", qos=1)
    sub.expect_publish("t/x", b"before")
    event.act()
    if event.ends:
        gone(c)
        check_equal(said(sub), [], "what is published afterwards")
        return

    def refused():
        c.publish("t/x", b"after", qos=1)
        return not said(sub)
    eventually("PUBLISH is dropped", refused, SECONDS)
    for qos in (0, 1, 2):
        c.publish("t/x", b"after", qos=qos)
        c.publish("ok/x", b"fine", qos=qos)
    check_equal(said(sub), [("ok/x", "fine")] * 3, "what is published afterwards")


def a2_receiving(event):
    """Nothing of t/x is delivered any more, at any QoS; what is still allowed goes on."""
    c = event.bob()
    c.subscribe(["t/#", "ok/#"], qos=2)
    event.alice.publish("t/x", b"before", qos=1)
    c.expect_publish("t/x", b"before")
    event.doom(c)
    event.act()
    if event.ends:
        gone(c, event.code)
        return
    eventually("t/x is not delivered any more", lambda: deaf(event, c), SECONDS)
    for qos in (0, 1, 2):
        event.alice.publish("t/x", b"after", qos=qos)
        event.alice.publish("ok/x", b"fine", qos=qos)
    check_equal(said(c), [("ok/x", "fine")] * 3, "what is delivered afterwards")


def deaf(event, c):
    event.alice.publish("t/x", b"is it over?", qos=1)
    return not said(c)


def in_flight(c):
    """Four messages that bob has not acknowledged, and one that waits for his PUBCOMP: [PUBLISH, ...], PUBREL."""
    packets = [c.expect_publish(ack=False) for _ in range(5)]
    first = [p for p in packets if p.payload == b"released"][0]
    c.send(ack(PUBREC, first.pid))
    return [p for p in packets if p is not first], c.expect(PUBREL, pid=first.pid)


def a3_in_flight(event):
    """What may no longer be read is not sent again, and its place is free; what had been released still completes."""
    c = event.bob(props={**KEPT, "receive_max": 5})
    c.subscribe(["t/#", "ok/#"], qos=2)
    event.alice.publish("t/x", b"released", qos=2)
    for topic in ("t/x", "ok/x"):
        for qos in (1, 2):
            event.alice.publish(topic, b"%s %d" % (topic.encode(), qos), qos=qos)
    sent, released = in_flight(c)
    event.doom(c)
    event.act()
    if event.ends:
        gone(c, event.code)
        if not event.returns:
            event.old_proof(c)
            return
    event.again(c, props={**KEPT, "receive_max": 5})
    wanted = [(p.payload, p.pid) for p in sent if not (p.topic == "t/x" and not event.ends)]
    got = [c.receive() for _ in range(1 + len(wanted))]
    check_equal([(p.type, p.pid) for p in got if p.type == PUBREL], [(PUBREL, released.pid)], "what was released")
    check_equal([(p.payload, p.pid) for p in got if p.type == PUBLISH], wanted, "what is sent again")
    check(all(p.dup for p in got if p.type == PUBLISH), "without DUP")
    c.send(ack(PUBCOMP, released.pid))
    for n in range(len(sent) - len(wanted)):
        event.alice.publish("ok/x", b"new", qos=1)
        c.expect_publish("ok/x", b"new", ack=False)
    for p in got:
        if p.type == PUBLISH:
            c.acknowledge(p)
    c.ping()


def a4_queued(event):
    """What waits is judged when it is sent."""
    c = event.bob()
    c.subscribe(["t/#", "ok/#"], qos=1)
    event.doom(c)
    c.close()
    for n in range(5):
        event.alice.publish("t/x", b"%d" % n, qos=1)
        event.alice.publish("ok/x", b"%d" % n, qos=1)
    event.act()
    if not event.returns:
        event.old_proof(c)
        return
    event.again(c)
    check_equal(said(c), [(t, str(n)) for n in range(5) for t in ("t/x", "ok/x") if t == "ok/x" or event.ends],
                "what is left of the queue")
    event.again(c)
    c.expect_nothing()


def a5_qos2(event):
    """What the broker has taken is taken: PUBREL completes it, and its repetition is no second message. A repetition
    that is refused leaves the packet identifier free for the next message."""
    sub, c = watcher(event), event.bob()
    for pid in (5, 6):
        c.send(publish("t/x", b"taken %d" % pid, 2, pid=pid))
        c.expect(PUBREC, pid=pid, reason=0)
        sub.expect_publish("t/x", b"taken %d" % pid)
    event.doom(c)
    event.act()
    if event.ends:
        gone(c, event.code)
        if not event.returns:
            event.old_proof(c)
            check_equal(said(sub), [], "what is published afterwards")
            return
    event.again(c)
    c.release(5)
    c.send(publish("t/x", b"taken 6", 2, dup=True, pid=6))
    p = c.expect(PUBREC, pid=6)
    check(p.reason == 0 or (p.reason == NOT_AUTHORIZED and not event.ends), "got %r" % p)
    if p.reason == 0:
        c.release(6)
    check_equal(said(sub), [], "what is published a second time")
    c.send(publish("ok/x", b"next", 2, pid=6))
    c.expect(PUBREC, pid=6, reason=0)
    c.release(6)
    sub.expect_publish("ok/x", b"next")


def wills_denied(event):
    return len(event.house.lines("access_denied", "action=will"))


def judge_wills(event, sub, clients, narrow):
    """Of the wills on t/x and ok/x those come that the event has left."""
    for c in clients:
        if narrow:
            c.abort()
    wanted = [] if event.ends and not event.will else ["ok/x", "t/x"] if event.will else ["ok/x"]
    got = sorted(sub.expect_publish(timeout=SECONDS).topic for _ in wanted)
    check_equal(got, wanted, "wills that are published")
    eventually("%d wills are refused" % (2 - len(wanted)), lambda: wills_denied(event) == 2 - len(wanted), SECONDS)
    check_equal(said(sub), [], "wills that are published beside")


def a6_will(event):
    """The right is asked for when the will is published."""
    sub = watcher(event)
    clients = [event.bob(client_id=t[0], will=Will(t, b"will")) for t in ("t/x", "ok/x")]
    for c in clients:
        event.doom(c)
    event.act()
    if event.ends:
        for c in clients:
            gone(c, event.code)
    judge_wills(event, sub, clients, not event.ends)


def a7_delayed_will(event):
    """The same of a client that is gone already."""
    sub = watcher(event)
    clients = [event.bob(client_id=t[0], will=Will(t, b"will", props={"will_delay": 4})) for t in ("t/x", "ok/x")]
    for c in clients:
        event.doom(c)
        c.abort()
    event.act()
    judge_wills(event, sub, clients, False)


def a8_retained(event):
    """Who reads is asked, who has written is not: bob's messages stay for others, and bob does not read them again."""
    c = event.bob()
    for topic in ("t/x", "ok/x"):
        c.publish(topic, b"kept", qos=1, retain=True)
    event.doom(c)
    event.act()
    if event.ends:
        gone(c, event.code)
    sub = watcher(event)
    check_equal(sorted(said(sub)), [("ok/x", "kept"), ("t/x", "kept")], "what alice reads")
    if event.ends:
        return
    event.again(c)
    c.subscribe(["t/#", "t/x", "ok/#"], reasons=[0 if isinstance(event, Partly) else NOT_AUTHORIZED, NOT_AUTHORIZED, 0])
    check_equal(said(c), [("ok/x", "kept")], "what bob reads")


def a9_resumed(event):
    """The session is there, as CONNACK says; what may no longer be subscribed to is not."""
    c = event.bob()
    c.subscribe(["t/#", "ok/#"], qos=1)
    event.doom(c)
    c.close()
    event.act()
    if not event.returns:
        event.old_proof(c)
        return
    event.again(c)
    for topic in ("t/x", "ok/x"):
        event.alice.publish(topic, b"after", qos=1)
    check_equal(said(c), [("t/x", "after"), ("ok/x", "after")] if event.ends else [("ok/x", "after")],
                "what is delivered afterwards")


def a10_foreign(event):
    """Whatever becomes of bob, carl never gets his session."""
    c = event.bob()
    c.subscribe(["t/#", "ok/#"], qos=1)
    event.doom(c)
    event.act()
    if event.ends:
        gone(c, event.code)
    else:
        c.close()
    event.alice.publish("t/x", b"bob's", qos=1)
    for clean in (True, False):
        event.house.refused(BAD_ID, "carl", "c", client_id=c.client_id, clean=clean)
    event.house.client("carl", client_id="carl").subscribe("ok/#")
    if event.returns:
        event.again(c)


def a11_sharing(event):
    """Out of the group; what bob has not acknowledged goes to another member."""
    c = event.bob()
    c.subscribe(["$share/g/t/#", "$share/g/ok/#"], qos=1)
    for n in range(3):
        event.alice.publish("t/x", b"%d" % n, qos=1)
        c.expect_publish("t/x", b"%d" % n, ack=False)
    other = event.house.client("alice", keep_alive=0)
    other.subscribe("$share/g/t/#", qos=1)
    event.doom(c)
    event.act()
    if event.ends:
        gone(c, event.code)
    elif isinstance(event, Partly):  # still a member: what he has is his until he goes
        c.close()
    check_equal(sorted(p.payload.decode() for p in (other.expect_publish("t/x", timeout=SECONDS) for _ in range(3))),
                ["0", "1", "2"], "what goes to the other member")
    if isinstance(event, Partly):
        event.again(c)
    for n in range(6):
        event.alice.publish("t/x", b"new %d" % n, qos=1)
    check_equal(sorted(said(other)), [("t/x", "new %d" % n) for n in range(6)], "what the other member gets")
    if not event.ends:
        event.alice.publish("ok/x", b"ok", qos=1)
        check_equal(said(c), [("ok/x", "ok")], "what bob gets")


STATES = (a1_publishing, a1_publishing_3x, a2_receiving, a3_in_flight, a4_queued, a5_qos2, a6_will, a7_delayed_will,
          a8_retained, a9_resumed, a10_foreign, a11_sharing)


def cell(state, event_class):
    def test(ctx):
        state(event_class(ctx))
    test.__doc__ = state.__doc__
    return test


for _state in STATES:
    for _name, _event in EVENTS.items():
        if _state is not a1_publishing_3x or _event.speaks_3x:
            globals()["test_%s_%s" % (_state.__name__, _name)] = cell(_state, _event)


def test_banned_client_id(ctx):
    """Flapping: the last connection is ended, nobody else gets the client id, and the session is there afterwards."""
    house = guarded(ctx, users={"alice": "a", "bob": "b"}, settings={"ban.flaps": "4", "ban.flap_time": "4s"})
    kept = {"clean": False, "props": KEPT}
    c = house.client("bob", client_id="flappy", **kept)
    c.subscribe("q", qos=1)
    for _ in range(2):
        c.reopen(session_present=True, **house.who("bob"))
    c.close()
    c.dial().send(connect("flappy", clean=False, props=KEPT, **house.who("bob")))
    c.expect(CONNACK, reason=0)
    gone(c, ADMINISTRATIVE)
    house.client("alice").publish("q", b"meanwhile", qos=1)
    house.refused(BANNED, "bob", "b", client_id="flappy")
    house.client("bob", client_id="steady").ping()
    eventually("the ban is over", lambda: comes_back(house, c), SECONDS)
    c.expect_publish("q", b"meanwhile", qos=1)


def comes_back(house, c):
    """Whether the client is let in and finds its session."""
    try:
        c.close()
        c.open(clean=False, session_present=True, props=KEPT, **house.who("bob"))
        return True
    except Failure:
        return False
