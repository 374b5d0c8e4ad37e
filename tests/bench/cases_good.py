"""A broker that does everything right is called right, in every scenario, version and QoS."""

from fake_broker import FakeBroker
from tool import Case, want, want_clean

MESSAGES = "-L 60 -d 20 --warmup 0"

# Scenario, arguments, QoS levels, whether messages are published by the tool.
SCENARIOS = [
    ("conn", "-c 20 -d 0.2", [0], False),
    ("sub", "-c 20 -d 0.2", [0, 1, 2], False),
    ("pub", "-c 5 " + MESSAGES, [0, 1, 2], True),
    ("pair", "-c 5 " + MESSAGES, [0, 1, 2], True),
    ("fanin", "-b 12 -c 2 " + MESSAGES, [0, 1, 2], True),
    ("fanout", "-c 12 -b 2 " + MESSAGES, [0, 1, 2], True),
    ("wildcard", "-c 6 -b 3 --subscriptions 120 " + MESSAGES, [0, 1, 2], True),
    ("share", "-c 4 -b 3 " + MESSAGES, [0, 1, 2], True),
    ("retain", "-c 5 -b 3 --topics 40 -d 0.5", [0, 1, 2], True),
    ("session", "-c 4 -b 2 -L 20 -d 0.5", [1, 2], True),
    ("mix", "-c 10 -b 4 -d 0.5", [0, 1, 2], True),
]

# More of what must be clean: name, arguments.
MORE = [
    ("open loop", "pair -c 3 -q 1 --rate 600 -d 0.6 --warmup 0.1"),
    ("open loop, QoS 2, 5.0", "pair -c 3 -q 2 -V 5 --rate 300 -d 0.6"),
    ("two threads", "pair -c 4 -q 1 --threads 2 " + MESSAGES),
    ("epoll", "pair -c 2 -q 1 --io epoll " + MESSAGES),
    ("a window of one", "pair -c 2 -q 2 -F 1 --batch 1 " + MESSAGES),
    ("a large window", "pair -c 2 -q 1 -F 2000 -L 3000 -d 20 --warmup 0"),
    ("ramp and warm-up", "pair -c 2 --rate 200 --ramp 0.2 --warmup 0.2 -d 0.3"),
    ("slow subscribers", "fanout -c 6 --slow 2 -s 1000 -L 200 -d 3"),
    ("slow subscribers, QoS 1", "fanout -c 6 --slow 3 -q 1 -L 200 -d 3"),
    ("a clean flag of false", "pair -c 2 -q 1 -C false -L 60 -d 20 --warmup 0"),
    ("a session expiry", "pair -c 2 -q 1 -V 5 -C false -x 30 -L 60 -d 20 --warmup 0"),
    ("an empty run", "pair -c 2 --rate 1 -d 0.1 --warmup 0"),
]


def check_scenario(tool, words, publishes):
    with FakeBroker() as broker:
        run = tool.load(broker, words)
    want_clean(run, publishes)
    want(broker.connected, "%s: nobody connected", run)
    asked = 5 if "-V 5" in words else 4
    want({c.version for c in broker.connected} == {asked}, "%s: other versions than %d", run, asked)
    if publishes:
        seen, sent = sum(p.size > 0 for p in broker.published), run.result["check"]["sent"]  # empty: retained no more
        want(seen == sent, "%s: the broker saw %d messages, the tool says %d", run, seen, sent)


def check_clean(tool, words):
    with FakeBroker() as broker:
        run = tool.load(broker, words)
    want_clean(run, messages=False)


def cases():
    found = []
    for scenario, words, levels, publishes in SCENARIOS:
        for version in (4, 5):
            for qos in levels:
                text = "%s %s -V %d -q %d" % (scenario, words, version, qos)
                found.append(Case("good: %s, QoS %d, version %d" % (scenario, qos, version),
                                  lambda tool, text=text, publishes=publishes: check_scenario(tool, text, publishes)))
    return found + [Case("good: " + name, lambda tool, words=words: check_clean(tool, words)) for name, words in MORE]
