#!/usr/bin/env python3
"""Proves that tern-bench notices what a broker does wrong: a small broker that misbehaves once, on purpose.

Why: a checker that never says no looks exactly like a perfect broker. Each case plants one fault in a run of one or two
pairs, and compares the exit status and every count with what that fault must cause.

usage: bench/faults.py [build/release/tern-bench]
"""

import asyncio
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COUNTS = ("lost", "duplicated", "reordered", "misdelivered", "refused", "misacknowledged", "disconnected")
FAULT_AT = 500  # the message, counted over all publishers, that is treated badly
RUN_SECONDS = 20

# Name, fault, arguments, exit status, the counts that are not 0 (None: any number above 0).
CASES = [
    ("a good broker, QoS 0", None, "-q 0", 0, {}),
    ("a good broker, QoS 1", None, "-q 1", 0, {}),
    ("a good broker, QoS 1, 5.0", None, "-q 1 -V 5", 0, {}),
    ("a good broker, two pairs", None, "-n 2", 0, {}),
    ("one message is lost", "lose", "-q 0", 1, {"lost": 1}),
    ("one message is lost, though acknowledged", "lose", "-q 1", 1, {"lost": 1}),
    ("one message comes twice", "repeat", "-q 0", 1, {"duplicated": 1}),
    ("one message comes twice, QoS 1, 5.0", "repeat", "-q 1 -V 5", 1, {"duplicated": 1}),
    ("one message comes behind its successor", "swap", "-q 0", 1, {"reordered": 1}),
    ("one message goes to the wrong client", "misroute", "-n 2", 1, {"lost": 1, "misdelivered": 1}),
    ("one payload is cut", "cut", "-q 0", 1, {"lost": 1, "misdelivered": 1}),
    ("two acknowledgements change places", "swap acks", "-q 1", 1, {"misacknowledged": 2}),
    ("one message is refused", "refuse", "-q 1 -V 5", 1, {"refused": 1}),
    ("a subscriber is thrown out", "hang up", "-q 0", 1, {"disconnected": 1, "lost": None}),
    ("acknowledgements end, deliveries go on", "no acks", "-q 1", 1, {"unacknowledged": None}),
    ("the subscription is refused", "suback", "-q 0", 3, {}),
    ("the connection is refused", "connack", "-q 0", 3, {"disconnected": None}),
]


class Broker:
    """One run's broker: exact topics only, no state beyond the connections."""

    def __init__(self, fault, version):
        self.fault, self.v5 = fault, version == 5
        self.subscribers, self.count, self.held, self.held_ack = {}, 0, None, None

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readexactly(1)
                length, shift, more = 0, 0, True
                while more:
                    byte = (await reader.readexactly(1))[0]
                    length, shift, more = length | (byte & 0x7F) << shift, shift + 7, byte >= 0x80
                self.packet(head[0], await reader.readexactly(length), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def packet(self, head, body, writer):
        kind = head >> 4
        if kind == 1:
            code = 5 if self.fault == "connack" else 0
            writer.write(bytes([0x20, 3, 0, code, 0]) if self.v5 else bytes([0x20, 2, 0, code]))
        elif kind == 8:
            at = 3 if self.v5 else 2
            size = int.from_bytes(body[at:at + 2], "big")
            self.subscribers[body[at + 2:at + 2 + size]] = writer
            code = 0x80 if self.fault == "suback" else body[-1] & 3
            rest = (b"\0" if self.v5 else b"") + bytes([code])
            writer.write(bytes([0x90, 2 + len(rest)]) + body[:2] + rest)
        elif kind == 3:
            self.publish(head, body, writer)

    def publish(self, head, body, writer):
        self.count += 1
        now = self.count == FAULT_AT
        size = int.from_bytes(body[:2], "big")
        topic, fault = body[2:2 + size], self.fault
        if head & 6:
            self.acknowledge(body[2 + size:4 + size], writer, now)
        target = self.subscribers[topic]
        whole = bytes([head, len(body)]) + body
        if now and fault == "lose":
            return
        if now and fault == "cut":
            whole = bytes([head, len(body) - 1]) + body[:-1]
        if now and fault == "misroute":
            target = next(other for other in self.subscribers.values() if other is not target)
        if now and fault == "hang up":
            target.close()
            return
        if now and fault == "swap":
            self.held = whole
            return
        target.write(whole * (2 if now and fault == "repeat" else 1))
        if self.held:
            target.write(self.held)
            self.held = None

    def acknowledge(self, packet_id, writer, now):
        if self.fault == "no acks" and self.count >= FAULT_AT:
            return
        if now and self.fault == "refuse":
            writer.write(b"\x40\x03" + packet_id + b"\x97")
            return
        if now and self.fault == "swap acks":
            self.held_ack = packet_id
            return
        writer.write(b"\x40\x02" + packet_id)
        if self.held_ack:
            writer.write(b"\x40\x02" + self.held_ack)
            self.held_ack = None


async def run(program, fault, words):
    """Exit status and the JSON object of one run."""
    broker = Broker(fault, 5 if "-V 5" in words else 4)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # --count stands first, for a case may give another one.
    arguments = ("pair --count 1 --batch 1 --window 16 --warmup 0.05 --seconds 0.4 --stall 0.5 --json --port %d %s" %
                 (port, words)).split()
    process = await asyncio.create_subprocess_exec(program, *arguments, stdout=asyncio.subprocess.PIPE,
                                                   stderr=asyncio.subprocess.DEVNULL)
    try:
        out, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        return -1, {}
    finally:
        server.close()
    return process.returncode, json.loads(out or "{}")


def judge(name, status, result, want_status, want_counts):
    """What is wrong with a run, or None."""
    if status != want_status:
        return "exit status %d, not %d" % (status, want_status)
    for count in COUNTS + ("unacknowledged",):
        want, got = want_counts.get(count, 0), result.get(count)
        if got is None or (got == 0 if want is None else got != want):
            return "%s is %s, not %s" % (count, got, "above 0" if want is None else want)
    if status < 3 and result["sent_total"] < FAULT_AT:
        return "only %d messages, fewer than it takes for the fault" % result["sent_total"]
    return None


def main():
    program = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(ROOT, "build/release/tern-bench")
    failed = 0
    for name, fault, words, want_status, want_counts in CASES:
        status, result = asyncio.run(run(program, fault, words))
        wrong = judge(name, status, result, want_status, want_counts)
        failed += wrong is not None
        print("%-45s %s" % (name, wrong or "ok"))
    print("%d passed, %d failed, 0 skipped" % (len(CASES) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
