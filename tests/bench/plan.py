"""What a fake broker does wrong, and when: a plan is a list of faults.

In text, as a program's argument: `KIND[,NAME=NUMBER...]`, for instance `lose,at=500,count=3` or `stall,at=900,ms=400`.

    at, count    from the at-th thing on, count of them; 0: all that follow
    every        each every-th thing, instead of at
    publisher    only messages of this publisher are counted; the first to publish is number 1
    receivers    only so many receivers of the message are treated badly; without it all of them

What is counted depends on the kind:

    messages        lose, repeat, late (places), misroute, cut (byte), flip (byte), refuse, forbid, stall (ms),
                    hang-up, hang-up-all, share-both
    acknowledgements, by message    ack-never, ack-twice, ack-swap, ack-wrong; the same with `comp-` for PUBCOMP
    CONNECTs        connect-refuse, connect-slow (ms), connect-silent
    SUBSCRIBEs      subscribe-refuse, subscribe-lower
    retained messages that are to be sent          retain-lose, retain-repeat
    messages that waited in a resumed session      resume-lose, resume-repeat
"""

import dataclasses

MESSAGE = ("lose", "repeat", "late", "misroute", "cut", "flip", "refuse", "forbid", "stall", "hang-up", "hang-up-all",
           "share-both", "ack-never", "ack-twice", "ack-swap", "ack-wrong", "comp-never", "comp-twice", "comp-wrong")
CONNECT = ("connect-refuse", "connect-slow", "connect-silent")
SUBSCRIBE = ("subscribe-refuse", "subscribe-lower")
RETAINED = ("retain-lose", "retain-repeat")
RESUMED = ("resume-lose", "resume-repeat")
KINDS = MESSAGE + CONNECT + SUBSCRIBE + RETAINED + RESUMED


@dataclasses.dataclass
class Fault:
    kind: str
    at: int = 1
    count: int = 1
    every: int = 0
    publisher: int = 0
    receivers: int = 0
    places: int = 1
    byte: int = 0
    ms: int = 0
    seen: int = 0  # how many things it has struck

    def strikes(self, number):
        if self.every:
            hit = number % self.every == 0
        else:
            hit = number >= self.at and (self.count == 0 or number < self.at + self.count)
        self.seen += hit
        return hit


def parse(text):
    """A fault from its text. Raises ValueError."""
    kind, *pairs = text.split(",")
    if kind not in KINDS:
        raise ValueError("unknown fault: %s" % kind)
    values = dict(pair.split("=", 1) for pair in pairs)
    return Fault(kind, **{name: int(value) for name, value in values.items()})


class Plan:
    """Faults, and counters of the things they strike."""

    def __init__(self, *texts):
        self.faults = [parse(text) for text in texts]
        self.counts = {}

    def strike(self, kinds):
        """The next thing of a sort comes: {kind: fault} of those that strike it."""
        number = self.counts[kinds] = self.counts.get(kinds, 0) + 1
        return {f.kind: f for f in self.faults if f.kind in kinds and f.strikes(number)}

    def strike_message(self, publisher, own_number):
        """The next message comes, which is the own_number-th of this publisher."""
        total = self.counts[MESSAGE] = self.counts.get(MESSAGE, 0) + 1
        return {f.kind: f for f in self.faults if f.kind in MESSAGE and f.publisher in (0, publisher)
                and f.strikes(own_number if f.publisher else total)}

    def idle(self):
        """The faults that never struck: the run was not what the test believes."""
        return [f for f in self.faults if f.seen == 0]
