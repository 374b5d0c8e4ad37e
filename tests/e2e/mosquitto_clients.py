"""mosquitto_pub, mosquitto_sub and mosquitto_rr, the clients that most people try a broker with first."""

import os
import shutil
import signal
import subprocess
import time

from kit import Skip, check, check_equal, eventually

VERSIONS = ("mqttv31", "mqttv311", "mqttv5")


def command(tool, broker, version, *arguments):
    if not shutil.which(tool):
        raise Skip("%s is not installed" % tool)
    return [tool, "-h", "127.0.0.1", "-p", str(broker.port), "-V", version] + [str(a) for a in arguments]


def publish(ctx, broker, version, *arguments, **more):
    return ctx.run(command("mosquitto_pub", broker, version, *arguments), **more)


def subscriber(ctx, broker, version, *arguments):
    """A mosquitto_sub that has its SUBACK: it subscribes to a retained message besides, which tells us by coming."""
    ready = "ready/%d" % len(ctx.programs)
    publish(ctx, broker, "mqttv311", "-t", ready, "-m", "ready", "-r", "-q", 1)
    sub = ctx.spawn(command("mosquitto_sub", broker, version, "-t", ready, *arguments))
    check("ready" in sub.wait_lines(1)[0], "the first line is %r" % sub.lines)
    return sub


def test_every_qos(ctx):
    broker = ctx.broker()
    for version in VERSIONS:
        for granted in (0, 1, 2):
            sub = subscriber(ctx, broker, version, "-t", "a/+", "-q", granted, "-F", "%q %r %t %p", "-C", 4)
            for qos in (0, 1, 2):
                publish(ctx, broker, version, "-t", "a/%d" % qos, "-m", "payload %d" % qos, "-q", qos)
                sub.wait_lines(2 + qos)
            status, lines = sub.finish()
            check_equal(status, 0, "mosquitto_sub's status")
            check_equal(lines[1:], ["%d 0 a/%d payload %d" % (min(q, granted), q, q) for q in (0, 1, 2)],
                        "%s, granted %d" % (version, granted))


def test_all_versions_hear_each_other(ctx):
    broker = ctx.broker()
    subs = [subscriber(ctx, broker, v, "-t", "mix", "-q", 1, "-F", "%p") for v in VERSIONS]
    for version in VERSIONS:
        publish(ctx, broker, version, "-t", "mix", "-m", version, "-q", 1)
        for sub in subs:
            eventually("%s at all" % version, lambda s=sub, v=version: v in s.lines)
    for sub in subs:
        check_equal(sub.lines[1:], list(VERSIONS), "the lines")


def test_retained(ctx):
    broker = ctx.broker()
    for version in VERSIONS:
        publish(ctx, broker, version, "-t", "r/t", "-m", "kept", "-r", "-q", 1)
        got = ctx.run(command("mosquitto_sub", broker, version, "-t", "r/#", "-q", 1, "-C", 1, "-W", 10,
                              "-F", "%r %t %p"))
        check_equal(got, "1 r/t kept\n", version)
        publish(ctx, broker, version, "-t", "r/t", "-n", "-r", "-q", 1)
        got = ctx.run(command("mosquitto_sub", broker, version, "-t", "r/#", "-C", 1, "-W", 1), status=27)
        check_equal(got.replace("Timed out\n", ""), "", "%s after the removal" % version)


def test_will_when_the_client_is_killed(ctx):
    """On SIGTERM mosquitto_sub disconnects: without its will in 3.x, with reason code 0x04 and its will in 5.0."""
    broker = ctx.broker()
    for version in VERSIONS:
        watcher = subscriber(ctx, broker, version, "-t", "will", "-q", 2, "-F", "%q %r %p")
        will = ["--will-topic", "will", "--will-payload", "gone", "--will-qos", 2]
        want = []
        for kill, published in ((signal.SIGTERM, version == "mqttv5"), (signal.SIGKILL, True)):
            doomed = subscriber(ctx, broker, version, *will)
            doomed.process.send_signal(kill)
            doomed.finish()
            if published:
                want.append("2 0 gone")
                watcher.wait_lines(1 + len(want))
            else:
                time.sleep(0.3)  # a will that must not come gives no sign of itself
            check_equal(watcher.lines[1:], want, "%s, the client killed with %d" % (version, kill))


def test_retained_will(ctx):
    broker = ctx.broker()
    doomed = subscriber(ctx, broker, "mqttv5", "--will-topic", "state", "--will-payload", "off", "--will-retain",
                        "-D", "will", "user-property", "why", "killed")
    doomed.kill()
    fmt = ["-F", "%r %p %P"]
    got = ctx.run(command("mosquitto_sub", broker, "mqttv5", "-t", "state", "-C", 1, "-W", 10, *fmt))
    check(got in ("1 off why:killed\n", "0 off why:killed\n"), "the will is %r" % got)
    got = ctx.run(command("mosquitto_sub", broker, "mqttv5", "-t", "state", "-C", 1, "-W", 10, *fmt))
    check_equal(got, "1 off why:killed\n", "the will as a retained message")


def test_mqtt_5_properties(ctx):
    broker = ctx.broker()
    sub = subscriber(ctx, broker, "mqttv5", "-t", "p/t", "-q", 1, "-D", "subscribe", "subscription-identifier", 4711,
                     "-F", "C=%C D=%D E=%E F=%F P=%P R=%R S=%S p=%p")
    publish(ctx, broker, "mqttv5", "-t", "p/t", "-m", "body", "-q", 1,
            "-D", "publish", "content-type", "text/plain", "-D", "publish", "correlation-data", "corr",
            "-D", "publish", "message-expiry-interval", 1000, "-D", "publish", "payload-format-indicator", 1,
            "-D", "publish", "user-property", "key", "value", "-D", "publish", "response-topic", "answer/here")
    line = sub.wait_lines(2)[1]
    check(line in ["C=text/plain D=corr E=%d F=1 P=key:value R=answer/here S=4711 p=body" % e for e in (999, 1000)],
          "the properties are %r" % line)


def test_topic_alias_from_the_client(ctx):
    broker = ctx.broker()
    sub = subscriber(ctx, broker, "mqttv311", "-t", "alias/#", "-F", "%t %p")
    publish(ctx, broker, "mqttv5", "-t", "alias/t", "-D", "publish", "topic-alias", 3, "--repeat", 3, "-m", "again",
            "-q", 1)
    check_equal(sub.wait_lines(4)[1:], ["alias/t again"] * 3, "the messages")


def test_shared_subscription(ctx):
    broker = ctx.broker()
    for version in ("mqttv311", "mqttv5"):
        topic = "jobs/" + version
        members = [subscriber(ctx, broker, version, "-t", "$share/workers/" + topic, "-q", 1, "-F", "%p")
                   for _ in range(3)]
        publish(ctx, broker, version, "-t", topic, "-q", 1, "-l", stdin=b"".join(b"job %d\n" % i for i in range(300)))
        jobs = ["job %d" % i for i in range(300)]
        eventually("300 jobs", lambda m=members: sum(len(s.lines) - 1 for s in m) >= 300)
        got = [line for s in members for line in s.lines[1:]]
        check_equal(sorted(got), sorted(jobs), "%s, the jobs done" % version)
        check(all(len(s.lines) > 1 for s in members), "a member got nothing: %r" % [len(s.lines) for s in members])


def test_a_session_keeps_messages(ctx):
    broker = ctx.broker()
    for version in VERSIONS:
        kept = ["-i", "keeper-" + version, "-c", "-q", 1, "-t", "keep/" + version]
        kept += ["-x", 1000] if version == "mqttv5" else []
        ctx.run(command("mosquitto_sub", broker, version, "-E", *kept))
        publish(ctx, broker, version, "-t", "keep/" + version, "-q", 1, "-l", stdin=b"".join(
            b"%d\n" % i for i in range(100)))
        got = ctx.run(command("mosquitto_sub", broker, version, "-C", 100, "-W", 10, *kept))
        check_equal(got.split(), [str(i) for i in range(100)], version)


def test_unsubscribe(ctx):
    broker = ctx.broker()
    for version in VERSIONS:
        sub = subscriber(ctx, broker, version, "-t", "u/a", "-t", "u/b", "-U", "u/a", "-q", 1, "-F", "%t")
        time.sleep(0.3)  # mosquitto_sub does not tell when its UNSUBACK came
        for level in ("a", "b"):
            publish(ctx, broker, version, "-t", "u/" + level, "-m", "x", "-q", 1)
        sub.wait_lines(2)
        check_equal(sub.lines[1:], ["u/b"], version)


def test_payloads(ctx):
    broker = ctx.broker()
    path = os.path.join(ctx.directory, "payload")
    for size in (0, 1, 127, 128, 65536, 900000):
        data = bytes((i * 31 + size) & 0xFF for i in range(size))
        with open(path, "wb") as f:
            f.write(data)
        for version in ("mqttv311", "mqttv5"):
            publish(ctx, broker, version, "-t", "file/%d" % size, "-f", path, "-q", 2, "-r")
            if not size:
                continue
            fetch = command("mosquitto_sub", broker, version, "-t", "file/%d" % size, "-C", 1, "-W", 10, "-N")
            got = subprocess.run(fetch, stdout=subprocess.PIPE, timeout=20, check=True).stdout
            check(got == data, "%d bytes by %s: got %d bytes" % (size, version, len(got)))


def test_request_and_response(ctx):
    broker = ctx.broker()
    responder = subscriber(ctx, broker, "mqttv5", "-t", "ask", "-q", 1, "-F", "%R %p")
    asker = ctx.spawn(command("mosquitto_rr", broker, "mqttv5", "-t", "ask", "-e", "answers/1", "-m", "how much?",
                              "-q", 1, "-W", 10))
    check_equal(responder.wait_lines(2)[1], "answers/1 how much?", "the response topic")
    publish(ctx, broker, "mqttv5", "-t", "answers/1", "-m", "42", "-q", 1)
    status, lines = asker.finish()
    check_equal((status, lines), (0, ["42"]), "the answer")


def test_many_messages_in_order(ctx):
    broker = ctx.broker()
    lines = [str(i) for i in range(5000)]
    for version in ("mqttv311", "mqttv5"):
        for qos in (0, 1, 2):
            sub = subscriber(ctx, broker, version, "-t", "bulk", "-q", qos, "-F", "%p", "-C", 1 + len(lines))
            publish(ctx, broker, version, "-t", "bulk", "-q", qos, "-l", stdin="\n".join(lines).encode() + b"\n")
            try:
                sub.finish(30)
            except AssertionError:
                lost = sorted(set(map(int, lines)) - {int(x) for x in sub.lines[1:] if x.isdigit()})
                raise AssertionError("%s QoS %d: %d of %d messages came; the first that did not: %r" % (
                    version, qos, len(sub.lines) - 1, len(lines), lost[:10])) from None
            check(sub.lines[1:] == lines, "%s QoS %d: the messages came in another order" % (version, qos))


def test_refused_client_id(ctx):
    ctx.need_tern("mosquitto has no limit on client identifiers")
    broker = ctx.broker({"mqtt.max_client_id_size": "40"})
    for version, word in (("mqttv311", "identifier rejected"), ("mqttv5", "lient")):
        out = publish(ctx, broker, version, "-i", "x" * 41, "-t", "a", "-m", "b", status=None)
        check(word in out, "%s: mosquitto_pub said %r" % (version, out))
