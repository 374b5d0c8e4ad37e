"""Wrong arguments: exit status 2 and one sentence on standard error that names the option. Nothing is connected."""

import socket

from fake_broker import FakeBroker
from tool import Case, want, want_sentence, want_status

# Arguments behind the scenario, what the sentence must name.
PAIR = [
    ("--nonsense", "--nonsense"), ("-Z", "-Z"), ("more", "more"), ("-c 5 more", "more"), ("-c", "-c"),
    ("--count", "--count"), ("--duration", "--duration"), ("--expect", "--expect"), ("-c 0", "--count"),
    ("-c -1", "--count"), ("-c x", "--count"), ("-c 5x", "--count"), ("-c 1.5", "--count"),
    ("-c 99999999999", "--count"), ("-c nan", "--count"), ("-p 0", "--port"), ("-p 65536", "--port"),
    ("-p mqtt", "--port"), ("-h 127.0.0.1:0", "--host"), ("-h 127.0.0.1:99999", "--host"),
    ("-h 127.0.0.1:x", "--host"), ("-h 127.0.0.1:", "--host"), ("-h no-such-host.invalid", "--host"),
    ("-h ,", "--host"), ("-h [::1", "--host"), ("-V 2", "--version"), ("-V 6", "--version"), ("-V five", "--version"),
    ("-q 3", "--qos"), ("-q -1", "--qos"), ("-q x", "--qos"), ("-s 15", "--size"), ("-s 0", "--size"),
    ("-s -5", "--size"), ("-s x", "--size"), ("-s 100-50", "--size"), ("-s 16-", "--size"), ("-s 20-40-60", "--size"),
    ("-s exp:", "--size"), ("-s exp:5", "--size"), ("-s 999999999", "--size"), ("-F 0", "--inflight"),
    ("-F 40000", "--inflight"), ("-F x", "--inflight"), ("--batch 0", "--batch"), ("--batch x", "--batch"),
    ("--batch 20 -F 10 -q 1", "--batch"), ("-L -1", "--limit"), ("-L x", "--limit"), ("-r 0", "--rate"),
    ("-r -5", "--rate"), ("-r x", "--rate"), ("-r 5G", "--rate"), ("-r 5kk", "--rate"), ("-r inf", "--rate"),
    ("-r 100 -I 10", "--rate"), ("-I 0", "--pubinterval"), ("-I x", "--pubinterval"), ("-R -1", "--connrate"),
    ("-R x", "--connrate"), ("-i x", "--interval"), ("-i -5", "--interval"), ("-k -1", "--keepalive"),
    ("-k 65536", "--keepalive"), ("-C maybe", "--clean"), ("-x -1", "--session-expiry"), ("-n -1", "--startnumber"),
    ("--threads 0", "--threads"), ("--threads 1000", "--threads"), ("--threads x", "--threads"),
    ("--io kqueue", "--io"), ("--ramp x", "--ramp"), ("--ramp -1", "--ramp"), ("--ramp 1", "--ramp"),
    ("--warmup x", "--warmup"), ("--warmup -1", "--warmup"), ("-d 0", "--duration"), ("-d x", "--duration"),
    ("-d -1", "--duration"), ("--timeout 0", "--timeout"), ("--timeout x", "--timeout"), ("--slow x", "--slow"),
    ("--slow 6 -c 5", "--slow"), ("--storms 2", "--storms"), ("--storms x", "--storms"), ("--pid x", "--pid"),
    ("--pid 0", "--pid"), ("--pid -1", "--pid"), ("--ifaddr x.invalid", "--ifaddr"), ("--ifaddr ,", "--ifaddr"),
    ("-t a/#", "--topic"), ("-t a/+/b", "--topic"), ("-t $share/g/a", "--topic"), ("--expect p98<5ms", "--expect"),
    ("--expect p99", "--expect"), ("--expect p99<", "--expect"), ("--expect <5", "--expect"),
    ("--expect p99<5miles", "--expect"), ("--expect lost=0,,", "--expect"), ("--expect p99<x", "--expect"),
]

# Whole command lines.
OTHERS = [
    ("nonsense", ["nonsense"]), ("nonsense -c 5", ["nonsense"]),
    ("conn --rate 5", ["--rate"]), ("sub --rate 5", ["--rate"]), ("retain --rate 5", ["--rate"]),
    ("conn -I 5", ["--pubinterval"]),
    ("session -q 0", ["--qos"]), ("session -C true", ["--clean"]),
    ("wildcard --subscriptions 10 --topics 11", ["--topics"]), ("wildcard --subscriptions 0", ["--subscriptions"]),
    ("report", []), ("report /nonexistent.json", ["/nonexistent.json"]),
    ("compare", ["--scenarios", "--brokers"]), ("compare --scenarios /nonexistent.yaml", ["--brokers"]),
    ("compare --scenarios /nonexistent.yaml --brokers /nonexistent.yaml", ["/nonexistent.yaml"]),
    ("compare --nonsense", ["--nonsense"]),
]

OPTIONS = """--host --port --version --count --publishers --connrate --interval --pubinterval --rate --topic --size
    --qos --inflight --batch --limit --keepalive --clean --session-expiry --username --password --startnumber --prefix
    --ifaddr --threads --io --ramp --warmup --duration --timeout --slow --storms --pid --expect --json --label
    --quiet"""


def check_wrong(tool, words, parts):
    with FakeBroker() as broker:
        run = tool.run(words.replace("PORT", str(broker.port)))
    want_status(run, 2)
    want_sentence(run, *parts)
    want(not run.out, "%s: says %r on standard output", run, run.out[:200])
    want(not broker.connected, "%s: connected all the same", run)


def check_empty(tool):
    """Strings that cannot stand in a table split at spaces."""
    for words, name in (("-h", "--host"), ("-c", "--count"), ("-s", "--size"), ("--ifaddr", "--ifaddr"),
                        ("-t", "--topic"), ("--expect", "--expect"), ("--pid", "--pid")):
        run = tool.run("pair -d 0.1 " + words, "")
        want_status(run, 2)
        want_sentence(run, name)


def check_nothing(tool):
    run = tool.run("")
    want_status(run, 2)
    want(run.err and not run.out, "%s: says %r", run, run.out[:100])


def check_help(tool):
    """Every scenario and every option of the brief stands in the help, which goes to standard output."""
    run = tool.run("--help")
    want_status(run, 0)
    for name in "conn pub sub pair fanin fanout wildcard share retain session mix report compare".split():
        want(name in run.out, "%s: does not name %s", run, name)
        run_one = tool.run(name + " --help")
        want_status(run_one, 0)
        want(run_one.out and not run_one.err, "%s: says %r", run_one, run_one.err[:100])
    run = tool.run("pair --help")
    for option in OPTIONS.split():
        want(option in run.out, "%s: does not tell of %s", run, option)


def check_no_pid(tool):
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as limit:
        run = tool.run("pair --pid %d" % (int(limit.read()) - 1))
    want(run.status in (2, 3), "%s: exit status %d", run, run.status)
    want_sentence(run, "--pid")


def check_no_listener(tool):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        port = taken.getsockname()[1]
        for scenario in ("conn", "pair", "pub", "session", "retain"):
            run = tool.run("%s -c 3 -d 0.1 --timeout 1 --quiet -p %d" % (scenario, port))
            want_status(run, 3)
            want("refused" in run.err, "%s: does not say that it was refused: %r", run, run.err[-200:])


def check_not_mqtt(tool):
    """Something listens, but says nothing."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(64)
        run = tool.run("pair -c 2 -d 0.1 --timeout 1 --quiet -p %d" % mute.getsockname()[1])
    want_status(run, 3)
    want(run.err.strip(), "%s: says nothing", run)


def cases():
    rows = [("pair -p PORT -d 0.1 " + words, [name]) for words, name in PAIR] + OTHERS
    return [Case("arguments: " + words.replace("-p PORT -d 0.1 ", ""),
                 lambda tool, words=words, parts=parts: check_wrong(tool, words, parts)) for words, parts in rows] + [
        Case("arguments: empty strings", check_empty),
        Case("arguments: none at all", check_nothing),
        Case("arguments: --help tells all", check_help),
        Case("arguments: a process that does not exist", check_no_pid),
        Case("arguments: nobody listens", check_no_listener),
        Case("arguments: who listens says nothing", check_not_mqtt),
    ]
