"""Each fault that a broker may have, once: the counts must be exactly those planned, and all others 0."""

from fake_broker import FakeBroker
from tool import SOME, Case, Wrong, want, want_counts, want_status

# One pair of 600 messages, few at a time, so that what is planned for message 500 meets a run in full flow.
PAIR = "pair -c 1 -L 600 -d 2 -F 16 --batch 1 --warmup 0 --timeout 1"
FANOUT = "fanout -c 5 -b 1 -L 300 -d 2 -F 4 --warmup 0 --timeout 1"
SHARE = "share -c 3 -b 2 -L 200 -d 2 --warmup 0 --timeout 1 -q 1"
RETAIN = "retain -c 4 -b 2 --topics 20 --timeout 1 -q 1"
SESSION = "session -c 3 -L 20 --timeout 1"
REFUSED = {"refused": None, "disconnected": None}  # which of the two is a matter of taste

# Name, arguments, faults, exit status, counts.
TABLE = [
    ("one is lost", PAIR + " -q 0", ["lose,at=500"], 1, {"lost": 1}),
    ("one is lost though acknowledged", PAIR + " -q 1", ["lose,at=500"], 1, {"lost": 1}),
    ("one is lost though released, 5.0", PAIR + " -q 2 -V 5", ["lose,at=500"], 1, {"lost": 1}),
    ("the first is lost", PAIR + " -q 1", ["lose,at=1"], 1, {"lost": 1}),
    ("the last is lost", PAIR + " -q 0", ["lose,at=600"], 1, {"lost": 1}),
    ("the last seven are lost", PAIR + " -q 1", ["lose,at=594,count=7"], 1, {"lost": 7}),
    ("37 in a row are lost", PAIR + " -q 0 -F 64", ["lose,at=300,count=37"], 1, {"lost": 37}),
    ("every hundredth is lost", PAIR + " -q 1", ["lose,every=100"], 1, {"lost": 6}),
    ("all are lost", PAIR + " -q 1 -L 40 -d 4 --timeout 0.5", ["lose,count=0"], 1, {"lost": 40}),
    ("one of the second publisher is lost", PAIR + " -c 3 -q 1", ["lose,publisher=2,at=400"], 1, {"lost": 1}),
    ("one comes twice", PAIR + " -q 0", ["repeat,at=500"], 1, {"duplicate": 1}),
    ("one comes twice, QoS 1, 5.0", PAIR + " -q 1 -V 5", ["repeat,at=500"], 1, {"duplicate": 1}),
    ("one comes twice, QoS 2", PAIR + " -q 2", ["repeat,at=500"], 1, {"duplicate": 1}),
    ("the last comes twice", PAIR + " -q 1", ["repeat,at=600"], 1, {"duplicate": 1}),
    ("ten come twice", PAIR + " -q 0", ["repeat,at=100,count=10"], 1, {"duplicate": 10}),
    ("one lost, another twice", PAIR + " -q 0", ["lose,at=200", "repeat,at=201"], 1, {"lost": 1, "duplicate": 1}),
    ("one changes places with its successor", PAIR + " -q 0", ["late,at=500"], 1, {"reordered": 1}),
    ("one changes places, QoS 2, 5.0", PAIR + " -q 2 -V 5", ["late,at=500"], 1, {"reordered": 1}),
    ("one comes nine places late", PAIR + " -q 1", ["late,at=300,places=9"], 1, {"reordered": 1}),
    ("two come late", PAIR + " -q 0", ["late,at=100,places=3", "late,at=200,places=5"], 1, {"reordered": 2}),
    ("one late, one twice, two lost", PAIR + " -q 0",
     ["late,at=100,places=3", "repeat,at=200", "lose,at=300,count=2"], 1, {"reordered": 1, "duplicate": 1, "lost": 2}),
    ("one goes to the wrong client", PAIR + " -c 2 -q 0", ["misroute,at=500"], 1, {"lost": 1, "misdelivered": 1}),
    ("one goes to the wrong client, QoS 1", PAIR + " -c 2 -q 1", ["misroute,at=500"], 1,
     {"lost": 1, "misdelivered": 1}),
    ("one is cut", PAIR + " -q 0 -s 16", ["cut,at=500,byte=-1"], 1, {"lost": 1, "misdelivered": 1}),
    ("one of different sizes is cut", PAIR + " -q 0 -s 30-200", ["cut,at=500,byte=-1"], 1,
     {"lost": 1, "misdelivered": 1}),
    ("one lacks a byte in the middle", PAIR + " -q 0 -s 64", ["cut,at=500,byte=30"], 1,
     {"lost": 1, "misdelivered": 1}),
    ("one has another last byte", PAIR + " -q 1 -s 100", ["flip,at=500,byte=-1"], 1, {"lost": 1, "misdelivered": 1}),
    ("one has another first byte", PAIR + " -q 1", ["flip,at=500"], 1, {"lost": 1, "misdelivered": 1}),
    ("one has another stream", PAIR + " -q 1 -V 5", ["flip,at=500,byte=2"], 1, {"lost": 1, "misdelivered": 1}),
    ("one is of another run", PAIR + " -q 1 -V 5", ["flip,at=500,byte=1"], 1, {"lost": 1, "misdelivered": 1}),

    ("a PUBACK never comes", PAIR + " -q 1", ["ack-never,at=500"], 1, {"unacknowledged": 1}),
    ("a PUBREC never comes", PAIR + " -q 2", ["ack-never,at=500"], 1, {"unacknowledged": 1}),
    ("a PUBCOMP never comes", PAIR + " -q 2", ["comp-never,at=500"], 1, {"unacknowledged": 1}),
    ("no more PUBACK from one on", PAIR + " -q 1 -L 330 -d 4", ["ack-never,at=300,count=0"], 1,
     {"unacknowledged": 31}),
    ("a PUBACK comes twice", PAIR + " -q 1", ["ack-twice,at=500"], 1, {"misacknowledged": 1}),
    ("a PUBCOMP comes twice", PAIR + " -q 2", ["comp-twice,at=500"], 1, {"misacknowledged": 1}),
    ("two PUBACK change places", PAIR + " -q 1", ["ack-swap,at=500"], 1, {"misacknowledged": 1}),
    ("two PUBREC change places", PAIR + " -q 2 -V 5", ["ack-swap,at=500"], 1, {"misacknowledged": 1}),
    ("a PUBACK for a message never sent", PAIR + " -q 1", ["ack-wrong,at=500"], 1,
     {"misacknowledged": 1, "unacknowledged": 1}),
    ("a PUBCOMP for a message never sent", PAIR + " -q 2", ["comp-wrong,at=500"], 1,
     {"misacknowledged": 1, "unacknowledged": 1}),
    ("one is refused, and thus not delivered", PAIR + " -q 1 -V 5", ["refuse,at=500"], 1, {"refused": 1, "lost": 1}),
    ("one is refused, QoS 2", PAIR + " -q 2 -V 5", ["refuse,at=500"], 1, {"refused": 1, "lost": 1}),
    ("one is refused and delivered all the same", PAIR + " -q 1 -V 5", ["forbid,at=500"], 1, {"refused": 1}),

    ("one of five subscribers misses one", FANOUT + " -q 0", ["lose,at=200,receivers=1"], 1, {"lost": 1}),
    ("all five miss one", FANOUT + " -q 1", ["lose,at=200"], 1, {"lost": 5}),
    ("two of five get one twice", FANOUT + " -q 1 -V 5", ["repeat,at=200,receivers=2"], 1, {"duplicate": 2}),
    ("three of five get one late", FANOUT + " -q 0", ["late,at=200,receivers=3"], 1, {"reordered": 3}),
    ("fanin: one of ten publishers loses three", "fanin -b 10 -c 1 -L 100 -d 2 --warmup 0 --timeout 1 -q 1",
     ["lose,publisher=7,at=50,count=3"], 1, {"lost": 3}),
    ("wildcard: one lost, one twice", "wildcard -c 5 -b 2 --subscriptions 50 -L 300 -d 2 --warmup 0 --timeout 1 -q 0",
     ["lose,at=200", "repeat,at=300"], 1, {"lost": 1, "duplicate": 1}),

    ("a subscriber is thrown out", PAIR + " -q 0", ["hang-up,at=500"], 1, {"disconnected": 1, "lost": SOME}),
    ("everybody is thrown out", PAIR + " -c 2 -q 0", ["hang-up-all,at=500"], 1, {"disconnected": 4, "lost": None}),
    ("everybody is thrown out, QoS 1", PAIR + " -c 2 -q 1", ["hang-up-all,at=500"], 1,
     {"disconnected": 4, "lost": None, "unacknowledged": None}),

    ("each third connection is refused", "conn -c 9 -d 0.2", ["connect-refuse,every=3"], 1, {"refused": 3}),
    ("a connection is refused, 5.0", "conn -c 9 -d 0.2 -V 5", ["connect-refuse,at=4"], 1, {"refused": 1}),
    ("a connection is never answered", "conn -c 9 -d 0.2 --timeout 1", ["connect-silent,at=4"], 3, REFUSED),
    ("a publisher is refused", PAIR, ["connect-refuse,at=2"], 3, REFUSED),
    ("a subscription is refused", "sub -c 9 -d 0.2", ["subscribe-refuse,every=4"], 3, REFUSED),
    ("a subscription is refused, 5.0", "sub -c 9 -d 0.2 -V 5", ["subscribe-refuse,at=9"], 3, REFUSED),
    ("a subscription is given a lower QoS", PAIR + " -q 2", ["subscribe-lower"], 3, REFUSED),

    ("share: two members get one", SHARE, ["share-both,at=150"], 1,
     {"duplicate": 2}),
    ("share: no member gets one", SHARE, ["lose,at=150"], 1,
     {"lost": 1}),
    ("retain: one is not delivered", RETAIN + " -q 0", ["retain-lose,at=7"], 1, {"lost": 1}),
    ("retain: three are not delivered, 5.0", RETAIN + " -V 5", ["retain-lose,at=7,count=3"], 1,
     {"lost": 3}),
    ("retain: one comes twice", RETAIN, ["retain-repeat,at=9"], 1, {"duplicate": 1}),
    ("session: one that waited is lost", SESSION + " -q 1", ["resume-lose,at=5"], 1, {"lost": 1}),
    ("session: one that waited is lost, 5.0", SESSION + " -q 2 -V 5", ["resume-lose,at=5"], 1, {"lost": 1}),
    ("session: one that waited comes twice", SESSION + " -q 1", ["resume-repeat,at=5"], 1,
     {"duplicate": 1}),
]

SLOW = [
    ("a CONNACK after a second is waited for", "conn -c 5 -d 0.2", ["connect-slow,at=3,ms=1000"], 0, {}),
    ("so it is by a pair", PAIR + " -q 1 --timeout 5", ["connect-slow,at=2,ms=1000"], 0, {}),
    ("a stall loses nothing", PAIR + " -q 1 --timeout 5", ["stall,at=300,ms=300"], 0, {}),
    ("nor does it at QoS 0", PAIR + " -q 0 -V 5 --timeout 5", ["stall,at=300,ms=300"], 0, {}),
]


def judge(tool, words, faults, status, counts):
    with FakeBroker(*faults) as broker:
        run = tool.load(broker, words)
    if broker.plan.idle():
        raise Wrong("%s: %s never happened: %d messages" % (run, broker.plan.idle()[0], len(broker.published)))
    want_status(run, status)
    want_counts(run, **counts)
    if counts.get("disconnected") or status == 3:
        want(run.result.get("why"), "%s: nothing stands in \"why\"", run)


def cases():
    return [Case("fault: " + name, lambda tool, row=row: judge(tool, *row)) for name, *row in TABLE + SLOW]
