"""MQTT 3.1.1, chapters 3.1.2.5 to 3.1.2.7: the will."""

from kit import covers
from lib.mqtt import Will, disconnect, publish

V = 4


def watched(env, qos=2):
    watcher = env.client(version=V)
    watcher.subscribe(env.topic("will"), qos=qos)
    return watcher


@covers("MQTT311-3.1.2-8")
def test_the_will_is_published_when_the_connection_ends(env):
    watcher = watched(env)
    ways = [("closed without DISCONNECT", lambda c: c.close()), ("reset", lambda c: c.abort()),
            ("protocol violation", lambda c: c.send(b"\xf0\0")),
            ("half a packet, then closed", lambda c: (c.send(b"\x30\x10\0"), c.close())),
            ("wildcard published", lambda c: c.send(publish("#", b"x", version=V)))]
    for name, end in ways:
        for clean in (True, False):
            with env.case("%s, clean session %d" % (name, clean)):
                c = env.client(version=V, clean=clean, will=Will(env.topic("will"), name, qos=1))
                end(c)
                watcher.expect_publish(env.topic("will"), name, qos=1, retain=False)


@covers("MQTT311-3.1.2-10", "MQTT311-3.14.4-3")
def test_disconnect_discards_the_will(env):
    watcher = watched(env)
    for clean in (True, False):
        c = env.client(env.client_id(), V, clean=clean, will=Will(env.topic("will"), b"never"))
        c.disconnect()
        watcher.expect_nothing(0.3)
        c.open(clean=clean)
        c.abort()
        watcher.expect_nothing(0.3)


@covers("MQTT311-3.1.2-10")
def test_the_will_is_published_once(env):
    watcher, client_id = watched(env), env.client_id()
    c = env.client(client_id, V, clean=False, will=Will(env.topic("will"), b"once"))
    c.abort()
    watcher.expect_publish(payload=b"once")
    c.open(clean=False)
    c.abort()
    watcher.expect_nothing(0.3)


@covers("MQTT311-3.1.2-12")
def test_no_will_without_the_flag(env):
    watcher = env.client(version=V)
    watcher.subscribe(env.topic("#"))
    env.client(version=V).abort()
    watcher.expect_nothing(0.3)


@covers("MQTT311-3.1.2-14", "MQTT311-3.1.2-16")
def test_the_will_has_its_qos_and_is_not_retained(env):
    watcher = watched(env)
    for qos in (0, 1, 2):
        with env.case("QoS %d" % qos):
            env.client(version=V, will=Will(env.topic("will"), b"%d" % qos, qos=qos)).abort()
            watcher.expect_publish(env.topic("will"), b"%d" % qos, qos=qos, retain=False)
    late = watched(env)
    late.expect_nothing()


@covers("MQTT311-3.1.2-17")
def test_a_retained_will(env):
    watcher = watched(env)
    env.client(version=V, will=Will(env.topic("will"), b"kept", qos=1, retain=True)).abort()
    watcher.expect_publish(env.topic("will"), b"kept", retain=False)
    late = watched(env)
    late.expect_publish(env.topic("will"), b"kept", qos=1, retain=True)
    env.client(version=V, will=Will(env.topic("will"), b"", retain=True)).abort()
    watcher.expect_publish(payload=b"")
    later = watched(env)
    later.expect_nothing()


@covers("MQTT311-3.1.2-8")
def test_the_will_reaches_a_session_that_is_away(env):
    away = env.client(env.client_id(), V, clean=False)
    away.subscribe(env.topic("will"), qos=1)
    away.disconnect()
    env.client(version=V, will=Will(env.topic("will"), b"missed", qos=1)).abort()
    watcher = watched(env)
    env.client(version=V, will=Will(env.topic("will"), b"later", qos=1)).abort()
    watcher.expect_publish()
    away.open(clean=False, session_present=True)
    env.log.append("   both wills must be there, in whichever order the ends were seen")
    got = {away.expect_publish(qos=1).payload for _ in range(2)}
    if got != {b"missed", b"later"}:
        raise AssertionError("got %r" % got)


@covers("MQTT311-3.1.2-8")
def test_the_will_of_each_connection_is_its_own(env):
    watcher, client_id = watched(env), env.client_id()
    c = env.client(client_id, V, will=Will(env.topic("will"), b"first"))
    c.send(disconnect())
    c.expect_closed()
    c.close()
    c.open(will=Will(env.topic("will"), b"second"))
    c.abort()
    watcher.expect_publish(payload=b"second")
    watcher.expect_nothing()
