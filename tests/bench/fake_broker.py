#!/usr/bin/env python3
"""A broker that misbehaves by a plan, and otherwise does everything right: for the tests of the load tool.

Why: a checker that never says no looks exactly like a perfect broker. See `plan.py` for what can be planned, and
`good_broker.py` for the rest. As a program it serves until it is ended:

    tests/bench/fake_broker.py --port 1883 [--fault lose,at=500] ...
"""

import argparse
import time

from good_broker import GoodBroker, NOT_AUTHORIZED, wire
from plan import CONNECT, RESUMED, RETAINED, SUBSCRIBE, Plan

QUOTA_EXCEEDED = 0x97


class FakeBroker(GoodBroker):
    def __init__(self, *faults, port=0, host="127.0.0.1", receive_max=0):
        super().__init__(port, host, receive_max)
        self.plan = Plan(*faults)
        self.late = {}       # topic: [messages still to pass, message, target], which wait their turn
        self.held_acks = {}  # connection: packet identifier of an answer that comes behind the next
        self.wrong_comp = {}  # (connection, packet identifier): the fault that strikes its PUBCOMP
        self.slow = set()    # connections whose CONNECT has no answer yet

    # ---- connections -------------------------------------------------------------------------------------------------

    def awaiting(self, connection):
        return connection in self.slow

    def accept(self, connection, client_id, clean, kept):
        faults = self.plan.strike(CONNECT)
        if "connect-refuse" in faults:
            self.connack(connection, NOT_AUTHORIZED if connection.version == 5 else 5)
            connection.close()
        elif "connect-silent" in faults:
            self.slow.add(connection)
        elif "connect-slow" in faults:
            self.slow.add(connection)
            self.loop.call_later(faults["connect-slow"].ms / 1000, self.accept_late, connection, client_id, clean, kept)
        else:
            super().accept(connection, client_id, clean, kept)

    def accept_late(self, connection, client_id, clean, kept):
        self.slow.discard(connection)
        if not connection.transport.is_closing():
            super().accept(connection, client_id, clean, kept)

    def resume(self, session):
        kept = type(session.waiting)()
        for item in session.waiting:
            faults = self.plan.strike(RESUMED)
            times = 0 if "resume-lose" in faults else 2 if "resume-repeat" in faults else 1
            kept.extend([item] * times)
        session.waiting = kept
        super().resume(session)

    def grant(self, connection, topic_filter, options):
        faults = self.plan.strike(SUBSCRIBE)
        if "subscribe-refuse" in faults:
            return 0x87 if connection.version == 5 else 0x80
        return max((options & 3) - 1, 0) if "subscribe-lower" in faults else options & 3

    def retained_for(self, subscription):
        found = []
        for message in super().retained_for(subscription):
            faults = self.plan.strike(RETAINED)
            found += [message] * (0 if "retain-lose" in faults else 2 if "retain-repeat" in faults else 1)
        return found

    # ---- messages ----------------------------------------------------------------------------------------------------

    def take(self, connection, message, packet_id):
        faults = self.plan.strike_message(connection.number, connection.publishes)
        if "stall" in faults:
            time.sleep(faults["stall"].ms / 1000)  # the whole loop stands still: nothing is read or written
        if message.qos:
            self.take_answer(connection, message, packet_id, faults)
        self.keep(message)
        if "refuse" not in faults:
            self.take_delivery(message, faults)

    def take_answer(self, connection, message, packet_id, faults):
        kind = wire.PUBACK if message.qos == 1 else wire.PUBREC
        for comp in ("comp-never", "comp-twice", "comp-wrong"):
            if comp in faults:
                self.wrong_comp[connection, packet_id] = comp
        if "refuse" in faults or "forbid" in faults:
            connection.session.received.discard(packet_id)
            connection.send(wire.ack(kind, packet_id, QUOTA_EXCEEDED))
        elif "ack-swap" in faults:
            self.held_acks[connection] = packet_id
        elif "ack-never" not in faults:
            self.answer(connection, kind, packet_id + 1000 if "ack-wrong" in faults else packet_id)
            if "ack-twice" in faults:
                self.answer(connection, kind, packet_id)
            if connection in self.held_acks:
                self.answer(connection, kind, self.held_acks.pop(connection))

    def complete(self, connection, packet_id):
        comp = self.wrong_comp.pop((connection, packet_id), None)
        if comp != "comp-never":
            self.answer(connection, wire.PUBCOMP, packet_id + 1000 if comp == "comp-wrong" else packet_id)
        if comp == "comp-twice":
            self.answer(connection, wire.PUBCOMP, packet_id)

    def take_delivery(self, message, faults):
        targets = self.targets(message)
        if "share-both" in faults:
            targets = [(s.session, s.qos, False, ()) for s in self.tree.match(message.topic)]
        for i, target in enumerate(targets):
            mine = {kind: f for kind, f in faults.items() if f.receivers == 0 or i < f.receivers}
            self.deliver_one(message, target, mine)
        self.deliver_late(message.topic, skip="late" in faults)
        if "hang-up-all" in faults:
            for connection in list(self.connections):
                connection.close()

    def deliver_one(self, message, target, faults):
        session = target[0]
        if "lose" in faults:
            return
        if "hang-up" in faults and session.connection:
            session.connection.close()
            return
        if "late" in faults:
            self.late.setdefault(message.topic, []).append([faults["late"].places, message, target])
            return
        if "cut" in faults:
            at = faults["cut"].byte % len(message.payload)
            message = message.copy(payload=message.payload[:at] + message.payload[at + 1:])
        if "flip" in faults:
            message = message.copy(payload=flipped(message.payload, faults["flip"].byte))
        if "misroute" in faults:
            others = [s for s in self.sessions.values() if s is not session and s.subscriptions]
            target = (others[0],) + target[1:]
        for _ in range(2 if "repeat" in faults else 1):
            self.send(message, *target)

    def deliver_late(self, topic, skip):
        """A message of this topic has passed those that wait."""
        if skip or topic not in self.late:
            return
        still = []
        for entry in self.late[topic]:
            entry[0] -= 1
            if entry[0] > 0:
                still.append(entry)
            else:
                self.send(entry[1], *entry[2])
        self.late[topic] = still


def flipped(payload, at):
    at %= len(payload)
    return payload[:at] + bytes([payload[at] ^ 0xFF]) + payload[at + 1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--say-port", action="store_true", help="print the port, which is any free one with --port 0")
    parser.add_argument("--fault", action="append", default=[], help="see plan.py; may be repeated")
    args = parser.parse_args()
    broker = FakeBroker(*args.fault, port=args.port, host=args.host)
    try:
        broker.run(lambda: args.say_port and print(broker.port, flush=True))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
