"""What a client may do: rules asked at PUBLISH, SUBSCRIBE, delivery, for wills and retained messages, by each of their
conditions.

Most tests have two users: alice may do everything, bob what the test's rules say. A client that is denied something must
be denied it in each version and with each QoS, so the loops go over these."""

from guarded import SECONDS, guarded, quiet
from kit import check, check_equal, eventually
from lib.mqtt import AUTH, PUBACK, SUBACK, Will, auth, connect, options, publish, subscribe
from lib.tokens import Key, jwk_set

USERS = {"alice": "a", "bob": "b"}
ALICE = '- {allow: all, topic: ["#", "$SYS/#"], user: alice}\n'
DENIED, FAILURE = 0x87, 0x80  # in 5.0, in a 3.1.1 SUBACK
OK = (0x00, 0x10)


def house_of(ctx, rules, **more):
    return guarded(ctx, **{"users": USERS, "rules": ALICE + rules, **more})


def watch(house, topics="#", qos=2):
    """Alice, who sees everything."""
    c = house.client("alice", client_id="watch")
    c.subscribe(topics, qos=qos)
    return c


# ---- publish ----


def test_denied_publish(ctx):
    """5.0 is told 0x87 and goes on; 3.x is acknowledged as if nothing were."""
    house = house_of(ctx, "- {deny: publish, topic: no/#}\n- {allow: publish, topic: yes/#}")
    sub = watch(house)
    for version in (3, 4, 5):
        c = house.client("bob", version=version)
        for qos in (0, 1, 2):
            for topic in ("no/x", "elsewhere", "no", "yes2/x"):
                for retain in (False, True):
                    c.publish(topic, b"denied", qos=qos, retain=retain, reason=DENIED if version == 5 else 0)
            c.publish("yes/x", b"allowed", qos=qos, reason=OK)
            sub.expect_publish("yes/x", b"allowed", qos=qos)
        c.ping()
    sub.expect_nothing()
    late = watch(house)  # takes over: what was denied must not have been retained either
    late.expect_nothing()


def test_denied_publish_that_closes(ctx):
    house = house_of(ctx, "- {allow: publish, topic: yes/#}", settings={"auth.denied_publish": "close"})
    sub = watch(house)
    for qos in (0, 1, 2):
        for version in (3, 4):
            c = house.client("bob", version=version, will=Will("yes/will", b"will"))
            c.publish("no/x", b"denied", qos=qos, ack=False)
            check(c.receive() is None, "an answer before the end")
            sub.expect_publish("yes/will", b"will")
        c = house.client("bob")
        c.publish("no/x", b"denied", qos=qos, reason=DENIED)
        c.ping()
    sub.expect_nothing()


def test_denied_publish_among_good_ones(ctx):
    """Acknowledged in their order, each with its own answer, and by alias as by name."""
    house = house_of(ctx, "- {allow: publish, topic: yes}")
    sub = watch(house)
    c = house.client("bob")
    c.publish("no", b"0", qos=1, props={"topic_alias": 1}, reason=DENIED)
    c.publish("yes", b"0", qos=1, props={"topic_alias": 2})
    c.send(b"".join(publish("", b"%d" % n, 1, pid=100 + n, props={"topic_alias": 1 + n % 2}) for n in range(40)))
    for n in range(40):
        p = c.expect(PUBACK, pid=100 + n)
        check(p.reason in (OK if n % 2 else (DENIED,)), "%d: %r" % (n, p))
    sub.expect_publish("yes", b"0")
    for n in range(1, 40, 2):
        sub.expect_publish("yes", b"%d" % n)
    sub.expect_nothing()


# ---- subscribe ----


def test_denied_subscribe(ctx):
    """An allow rule must cover the whole filter; what is denied leaves no subscription."""
    house = house_of(ctx, "- {deny: subscribe, topic: yes/no}\n- {allow: subscribe, topic: [yes/#, \"one/+/x\"]}")
    alice = house.client("alice")
    rows = [("yes", 0), ("yes/#", 0), ("yes/a/b", 0), ("yes/+", 0), ("one/+/x", 0), ("one/1/x", 0), ("yes/no", DENIED),
            ("#", DENIED), ("+/#", DENIED), ("one/#", DENIED), ("one/+/+", DENIED), ("other", DENIED), ("+", DENIED),
            ("$share/g/yes/a", 0), ("$share/g/other", DENIED), ("$share/yes/#", DENIED), ("$SYS/#", DENIED)]
    for version in (4, 5):
        c = house.client("bob", version=version)
        codes = [code if version == 5 or code == 0 else FAILURE for _, code in rows]
        c.subscribe([f for f, _ in rows], qos=0, reasons=codes)
        alice.publish("other", b"x", qos=1)
        alice.publish("one/x/y", b"x", qos=1)
        alice.publish("yes/no", b"x", qos=1)
        c.expect_nothing()
        c.unsubscribe("other", reasons=0x11)
        c.disconnect()
    old = house.client("bob", version=3)
    old.subscribe(["other", "yes"], reasons=[0, 0])  # 3.1 has no code for it
    alice.publish("other", b"x", qos=1)
    old.expect_nothing()


# ---- delivery ----


PARTIAL = '- {deny: all, topic: "+/secret/#"}\n- {allow: all, topic: "#"}'


def test_partly_denied_filters(ctx):
    """A filter is granted, what a deny rule takes out of it is not delivered: at any QoS, by any filter."""
    house = house_of(ctx, PARTIAL)
    alice = house.client("alice")
    for version in (4, 5):
        for filters in (["#"], ["a/#"], ["+/+"], ["+/+/#", "a/secret/+"]):
            for qos in (0, 1, 2):
                c = house.client("bob", version=version)
                c.subscribe(filters, qos=qos, reasons=[qos] + [DENIED if version == 5 else FAILURE] * (len(filters) - 1))
                for topic in ("a/secret", "a/b", "b/secret", "a/secret/x", "a/b"):
                    alice.publish(topic, topic.encode(), qos=qos)
                check_equal({t for t, _ in quiet(c, 0.1)}, {"a/b"}, "%s at QoS %d" % (filters, qos))
                c.disconnect()


def test_receive_rules(ctx):
    """What may be subscribed to and not received; and subscribe includes receive."""
    house = house_of(ctx, "- {deny: receive, topic: t/hidden}\n- {allow: [subscribe, publish], topic: t/#}")
    c = house.client("bob")
    c.subscribe(["t/#", "t/hidden"], qos=1)
    c.publish("t/hidden", b"x", qos=1, reason=OK)
    c.publish("t/shown", b"x", qos=1, ack=False)
    c.expect_later(PUBACK)
    check_equal({t for t, _ in quiet(c)}, {"t/shown"}, "what is received")


def test_retained_messages_are_replayed_as_rules_allow(ctx):
    house = house_of(ctx, PARTIAL)
    alice = house.client("alice")
    for topic in ("a/secret", "a/open", "b/secret/x", "b/open"):
        alice.publish(topic, topic.encode(), qos=1, retain=True)
    for version in (4, 5):
        for filters in ("#", "+/+", "a/+"):
            c = house.client("bob", version=version)
            c.subscribe(filters, qos=1)
            got = {t for t, _ in quiet(c, 0.1)}
            check_equal(got, {"a/open"} if filters == "a/+" else {"a/open", "b/open"}, "retained for " + filters)
            c.disconnect()


def test_resumed_sessions(ctx):
    """What was queued is judged when it is sent, not when it was put there."""
    house = house_of(ctx, '- {allow: all, topic: "#"}')
    alice = house.client("alice")
    c = house.client("bob", clean=False, props={"session_expiry": 600})
    c.subscribe("q/#", qos=1)
    c.close()
    for n in range(10):
        alice.publish("q/secret" if n % 2 else "q/open", b"%d" % n, qos=1)
    house.rules(ALICE + PARTIAL)
    house.reload()
    c.open(clean=False, session_present=True, props={"session_expiry": 600}, **house.who("bob"))
    check_equal([p for _, p in quiet(c)], ["0", "2", "4", "6", "8"], "what is left of the queue")
    c.reopen(session_present=True, **house.who("bob"))
    c.expect_nothing()


def test_shared_subscriptions(ctx):
    """A message goes to a member that may receive it, whoever's turn it is; when there is none, to nobody."""
    for strategy in ("least_inflight", "round_robin", "sticky", "hash_topic", "random"):
        house = guarded(ctx, users=USERS, settings={"mqtt.share_strategy": strategy}, rules=
                        '- {deny: receive, topic: job/nobody}\n- {deny: receive, topic: "job/secret/#", user: bob}\n'
                        '- {allow: all, topic: "#"}')
        bobs = [house.client("bob") for _ in range(12)]
        alices = [house.client("alice") for _ in range(2)]
        for c in bobs + alices:
            c.subscribe("$share/g/job/#", qos=2)
        pub = house.client("alice")
        for n in range(30):
            pub.publish("job/secret/%d" % n, b"%d" % n, qos=n % 3)
            pub.publish("job/nobody", b"", qos=n % 3)
        got = [m for c in alices for m in quiet(c, 0.1)]
        check_equal(sorted(int(p) for _, p in got), list(range(30)), "%s: what the allowed members got" % strategy)
        check_equal({t for t, _ in got}, {"job/secret/%d" % n for n in range(30)}, strategy)
        for c in bobs:
            c.expect_nothing()
        pub.publish("job/open", b"x", qos=1)
        check_equal(sum(len(quiet(c, 0.05)) for c in bobs + alices), 1, "%s: copies of what all may have" % strategy)
        ctx.brokers.remove(house)
        check_equal(house.stop(), [], strategy)
        house.remove()


# ---- wills ----


def test_wills_at_connect(ctx):
    house = house_of(ctx, "- {allow: publish, topic: yes/#, qos: [0, 1], retain: false}")
    sub = watch(house)
    for version, no in ((3, 5), (4, 5), (5, DENIED)):
        for topic, qos, retain, comes in (("yes/w", 1, False, True), ("no/w", 0, False, False),
                                          ("yes/w", 2, False, False), ("yes/w", 0, True, False)):
            c = house.new("bob", version=version).dial()
            c.send(connect(c.client_id, version, will=Will(topic, b"w", qos, retain), **house.who("bob")))
            if comes:
                c.expect(2, reason=0)
                c.abort()
                sub.expect_publish(topic, b"w", timeout=SECONDS)
            else:
                c.expect_refused(no)
    sub.expect_nothing()


def test_a_refused_will_changes_nothing(ctx):
    """Neither is the earlier connection sent away, nor its session touched."""
    house = house_of(ctx, "- {allow: all, topic: yes/#}")
    c = house.client("bob", client_id="one", clean=False, props={"session_expiry": 60})
    c.subscribe("yes/1", qos=1)
    house.refused(DENIED, "bob", "b", client_id="one", will=Will("no/w", b"w"))
    c.publish("yes/1", b"still here", qos=1, ack=False)
    c.expect_later(PUBACK)
    c.expect_publish("yes/1", b"still here")


def test_wills_when_they_are_published(ctx):
    """The right is asked for again then: of a will at once, of a delayed one, of one whose user is gone."""
    house = house_of(ctx, '- {allow: all, topic: "#"}')
    sub = watch(house, ["w/#", "ok/#"])
    wills = [(Will("w/now", b"w"), False), (Will("w/delayed", b"w", props={"will_delay": 3}), True),
             (Will("ok/delayed", b"w", props={"will_delay": 3}), True), (Will("ok/now", b"w"), False)]
    clients = [house.client("bob", client_id="w%d" % n, props={"session_expiry": 60}, will=w)
               for n, (w, _) in enumerate(wills)]
    for c, (_, delayed) in zip(clients, wills):
        if delayed:
            c.abort()
    eventually("they are gone", lambda: all(house.lines("client_disconnected", "client=w%d " % n) for n in (1, 2)))
    house.rules(ALICE + "- {allow: all, topic: ok/#}")
    house.reload()
    for c, (_, delayed) in zip(clients, wills):
        if not delayed:
            c.abort()
    got = sorted(sub.expect_publish(timeout=SECONDS).topic for _ in range(2))
    check_equal(got, ["ok/delayed", "ok/now"], "wills that are published")
    eventually("the others are refused", lambda: len(house.lines("access_denied", "action=will")) == 2, SECONDS)
    sub.expect_nothing()


# ---- $SYS, %c and %u, conditions ----


def test_sys_topics(ctx):
    """Without rules readable and not writable; with rules only by a rule that names them."""
    house = guarded(ctx)
    c = house.client()
    c.subscribe("$SYS/#")
    c.expect_publish(timeout=SECONDS)
    for qos in (1, 2):
        house.client().publish("$SYS/broker/uptime", b"x", qos=qos, retain=True, reason=DENIED)
    house.refused(DENIED, will=Will("$SYS/x", b"x"))
    house = house_of(ctx, '- {allow: all, topic: "#"}')
    c = house.client("bob")
    c.subscribe(["$SYS/#", "$SYS/broker/uptime", "#", "$share/g/$SYS/#"], reasons=[DENIED, DENIED, 0, DENIED])
    c.publish("$SYS/broker/x", b"x", qos=1, reason=DENIED)
    alice = house.client("alice")
    alice.subscribe("$SYS/broker/uptime")
    alice.expect_publish("$SYS/broker/uptime", timeout=SECONDS)
    alice.publish("$SYS/broker/uptime", b"x", qos=1, reason=DENIED)  # though a rule allows all of $SYS
    c.expect_nothing()


TAME = ["%c", "%u", "%25", " ", "..", "a\u00e4", "'", "\"", "*", "a$"]
HOSTILE = ["+", "#", "a/b", "a/#", "/", "a+", "a#b", "$share/g/a"]


def test_client_ids_and_user_names_in_rules(ctx):
    """A value stands for itself, never for a wildcard or for more than a level: who has another one fits no allow rule,
    and each deny rule. A name that begins with # cannot stand in a password file."""
    house = guarded(ctx, users={"alice": "a", **{u: "p" for u in TAME + HOSTILE if u[0] != "#"}}, rules=ALICE +
                    '- {deny: publish, topic: "not/%c"}\n- {allow: publish, topic: "not/+"}\n'
                    '- {allow: all, topic: ["c/%c", "u/%u", "in/%c/x", "part/x-%u-y"]}')
    sub = watch(house, ["c/#", "u/#", "in/#", "part/#", "not/#"])
    for name in TAME + [h for h in HOSTILE if h[0] != "#"]:
        tame = name in TAME
        c = house.client(name, client_id=name)
        for topic in ("c/" + name, "u/" + name, "in/%s/x" % name, "part/x-%s-y" % name):
            if tame:
                c.subscribe(topic)
                c.unsubscribe(topic)
                c.publish(topic, b"own", qos=1)
                sub.expect_publish(topic, b"own")
            else:
                c.send(subscribe(7, [(topic, 0)]))
                check(c.expect(SUBACK).reasons[0] in (DENIED, 0x8F), "%s has subscribed to %s" % (name, topic))
        c.subscribe(["c/+", "c/#", "u/#", "#", "c/victim", "in/+/x", "part/+", "u/+"], reasons=[DENIED] * 8)
        for topic in ("c/victim", "u/victim", "in/victim/x", "c/victim/x", "c", "c/", "part/x--y"):
            c.publish(topic, b"x", qos=1, reason=DENIED)
        c.publish("not/other", b"x", qos=1, reason=OK if tame else DENIED)
        if tame:
            sub.expect_publish("not/other")
            c.publish("not/" + name, b"x", qos=1, reason=DENIED)
        c.disconnect()
    sub.expect_nothing()


def test_conditions(ctx):
    """Each alone decides between two clients that differ in nothing else."""
    rows = [("user", "user: bob", {"user": "bob"}, {"user": "carl"}),
            ("any user that has a name", 'user: "*"', {"user": "bob"}, {"user": None}),
            ("role", "role: staff", {"user": "bob"}, {"user": "carl"}),
            ("client id", "client_id: sensor-7", {"client_id": "sensor-7"}, {"client_id": "sensor-77"}),
            ("client ids", 'client_id: "sensor-*"', {"client_id": "sensor-8"}, {"client_id": "xsensor-8"}),
            ("address", "address: 127.0.0.5/32", {"source": "127.0.0.5"}, {"source": "127.0.0.6"}),
            ("network", "address: [10.0.0.0/8, 127.0.1.0/24]", {"source": "127.0.1.9"}, {"source": "127.0.2.9"}),
            ("listener", "listener: side", {"host": "127.0.0.2"}, {"host": "127.0.0.1"})]
    rules = "\n".join('- {allow: all, topic: "t%d/#", %s}' % (n, row[1]) for n, row in enumerate(rows))
    house = guarded(ctx, users={"bob": "b", "carl": "c"}, rules=rules, roles="staff: [bob, dan]", listeners=
                    '  - {address: "tcp://AT", allow_anonymous: true}\n'
                    '  - {address: "tcp://127.0.0.2:PORT", name: side, allow_anonymous: true}')
    for n, (name, _, allowed, denied) in enumerate(rows):
        for who, good in ((allowed, True), (denied, False)):
            for version in (4, 5):
                user = who.get("user", "carl")
                c = house.new(user, who.get("client_id"), version, who.get("host", "127.0.0.1"))
                c.source = (who["source"], 0) if "source" in who else None
                c.open(**house.who(user))
                c.subscribe("t%d/x" % n, qos=1, reasons=1 if good else DENIED if version == 5 else FAILURE)
                c.publish("t%d/x" % n, b"x", qos=1, ack=False)
                p = c.expect_later(PUBACK)
                if version == 5:
                    check(p.reason in (OK if good else (DENIED,)), "%s: %r" % (name, p))
                check_equal(len(quiet(c, 0.05)), 1 if good else 0, "%s: messages" % name)
                c.disconnect()


def test_conditions_qos_and_retain(ctx):
    house = house_of(ctx, "- {allow: publish, topic: low, qos: [0, 1]}\n"
                     "- {allow: publish, topic: fresh, retain: false}\n"
                     "- {allow: publish, topic: kept, retain: true}\n- {deny: publish, topic: open, qos: 2}\n"
                     "- {allow: publish, topic: open}\n- {allow: subscribe, topic: sub, qos: 0}")
    sub = watch(house)
    c = house.client("bob")
    for topic, qos, retain, good in (("low", 1, False, True), ("low", 2, False, False), ("low", 1, True, True),
                                     ("fresh", 1, False, True), ("fresh", 1, True, False), ("kept", 1, True, True),
                                     ("kept", 1, False, False), ("open", 1, False, True), ("open", 2, False, False)):
        c.publish(topic, b"x", qos=qos, retain=retain, reason=OK if good else DENIED)
        if good:
            sub.expect_publish(topic, b"x", qos=qos)
    c.subscribe([("sub", options(0)), ("sub", options(1)), ("sub", options(2))], reasons=[0, DENIED, DENIED])
    sub.expect_nothing()


def test_the_first_rule_decides(ctx):
    house = house_of(ctx, "- {allow: publish, topic: a/b}\n- {deny: publish, topic: a/#}\n- {allow: all, topic: \"#\"}")
    c = house.client("bob")
    for topic, code in (("a/b", OK), ("a/c", DENIED), ("a", DENIED), ("b", OK)):
        c.publish(topic, b"", qos=1, reason=code)


def test_rules_see_topics_behind_their_mount_point(ctx):
    """One file of rules for all tenants: topics stand in it as they are, mount point and all."""
    house = guarded(ctx, users=USERS, rules="- {allow: all, topic: one/a/#, user: bob}\n" + ALICE,
                    listeners='  - "tcp://AT"\n  - {address: "tcp://127.0.0.2:PORT", mount_point: one/}')
    sub = watch(house)
    c = house.client("bob", host="127.0.0.2")
    c.publish("a/x", b"x", qos=1)
    sub.expect_publish("one/a/x", b"x")
    c.publish("b/x", b"x", qos=1, reason=DENIED)
    c.subscribe(["a/#", "#", "one/a/#"], reasons=[0, DENIED, DENIED])
    sub.publish("one/a/y", b"y", qos=1, ack=False)
    c.expect_publish("a/y", b"y")
    house.client("bob").subscribe(["a/#", "one/a/#"], reasons=[DENIED, 0])


def test_roles_of_tokens(ctx):
    """A role is the file's or the token's."""
    key = Key("HS256", ctx.directory)
    with open(ctx.directory + "/keys", "w", encoding="utf-8") as f:
        f.write(jwk_set([key]))
    house = guarded(ctx, settings={"jwt.keys": ctx.directory + "/keys"}, roles="staff: [fay]",
                    rules="- {allow: all, topic: t, role: staff}")
    for claims, good in (({"sub": "fay"}, True), ({"sub": "gus"}, False),
                         ({"sub": "gus", "roles": ["x", "staff"]}, True),
                         ({"sub": "gus", "roles": "x staff"}, True), ({"sub": "gus", "roles": ["staff "]}, False)):
        c = house.new().open(user="x", password=key.token(**claims))
        c.publish("t", b"", qos=1, reason=OK if good else DENIED)


def test_a_token_that_says_less(ctx):
    """On resuming, and on renewal by AUTH, the newer token counts: for subscriptions, for what waits, for PUBLISH."""
    key, kept = Key("HS256", ctx.directory), {"session_expiry": 600}
    with open(ctx.directory + "/keys", "w", encoding="utf-8") as f:
        f.write(jwk_set([key]))
    house = guarded(ctx, users=USERS, settings={"jwt.keys": ctx.directory + "/keys"}, rules=ALICE +
                    "- {allow: all, topic: t/#, role: staff}\n- {allow: all, topic: ok/#}")
    alice = house.client("alice")

    def proof(*roles):
        return {**kept, "auth_method": "JWT", "auth_data": key.token(sub="fay", roles=list(roles)).encode()}
    c = house.new(client_id="fay").open(props=proof("staff"))
    c.subscribe(["t/#", "ok/#"], qos=1)
    c.close()
    for topic in ("t/x", "ok/x"):
        alice.publish(topic, b"waits", qos=1)
    c.open(clean=False, props=proof(), session_present=True)
    check_equal(quiet(c), [("ok/x", "waits")], "what is left of the queue")
    c.subscribe("t/#", reasons=DENIED)
    for roles, good in ((("staff",), True), ((), False)):
        c.send(auth(0x19, {k: v for k, v in proof(*roles).items() if k.startswith("auth")}))
        c.expect(AUTH, reason=0)
        c.publish("t/y", b"", qos=1, reason=OK if good else DENIED)
        if good:
            c.subscribe("t/#", qos=1)
        alice.publish("t/x", b"live", qos=1)
        check_equal(quiet(c), [("t/x", "live")] if good else [], "what comes then")


# ---- files, the log ----


def test_mistakes_in_a_file_of_rules(ctx):
    """Named with their place, and the rules in force stay."""
    house = house_of(ctx, "- {allow: publish, topic: yes}")
    c = house.client("bob")
    for bad in ("- {allow: publish}", "- {allow: write, topic: a}", "- {topic: a}", "- {allow: all, topic: a/#/b}",
                "- {allow: all, topic: a, usr: bob}", "- {allow: all, topic: a, address: 10.0.0.0/40}",
                "- {allow: all, topic: a, qos: 3}", "- {allow: all, deny: all, topic: a}", "- allow",
                "- {allow: all, topic: \"%x\"}", "- {allow: all, topic: a, user: }"):
        house.rules(bad)
        house.reload(ok=False)
        check("rules.yaml:" in house.lines("reload_failed")[-1], "%s: %s" % (bad, house.lines("reload_failed")[-1]))
        c.publish("yes", b"", qos=1)
        c.publish("no", b"", qos=1, reason=DENIED)


def test_an_empty_file_of_rules_denies_everything(ctx):
    house = guarded(ctx, users=USERS, rules="")
    c = house.client("bob")
    c.publish("a", b"", qos=1, reason=DENIED)
    c.subscribe("#", reasons=DENIED)
    house.rules(None)
    house.configure()
    house.reload()
    c.publish("a", b"", qos=1, reason=OK)
    c.subscribe("#")


def test_refusals_in_the_log(ctx):
    """One line a client and minute, with what was refused to whom; anonymous clients are clients like others."""
    house = guarded(ctx, users=USERS, rules="- {allow: publish, topic: yes}",
                    listeners='  - {address: "tcp://AT", allow_anonymous: true}')
    for user in ("bob", "bob", "alice", None):
        c = house.client(user)
        before = len(house.lines("access_denied"))
        for n in range(50):
            c.publish("no/%d" % n, b"", qos=1, reason=DENIED)
        c.subscribe(["x", "y"], reasons=[DENIED, DENIED])
        rows = house.lines("access_denied")[before:]
        check_equal(len(rows), 1, "lines for 52 refusals of %s" % user)
        for word in ("client=" + c.client_id, "action=publish", "topic=no/0", "user=" + (user or "")):
            check(word in rows[0], "%s is not in %s" % (word, rows[0]))
