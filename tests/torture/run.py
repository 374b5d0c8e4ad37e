#!/usr/bin/env python3
"""Makes each allocation of the running broker fail, one after the other, in every flow that a client can start.

Why: a broker that runs out of memory may refuse, and may part with the client it was serving; it must not crash, hang,
disturb anybody else, say yes to what it then loses, or keep what nobody owns. The broker runs with failing_malloc
preloaded. For n = 1, 2, 3 ... the n-th allocation from the start of a flow fails, until a flow gets by without
reaching it. After each step the clients that took no part must be served as before, and in the end the tables must be
where they were and a fresh client must be able to do everything.
"""

import argparse
import mmap
import os
import struct
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
os.environ.setdefault("MQTT_TEST_TIMEOUT", "4")

from flows import BAD_TIMES, FLOWS, Lost  # noqa: E402
from lib.broker import Broker, Options  # noqa: E402
from lib.mqtt import Client, Failure, Malformed  # noqa: E402
from sys_topics import SysTopics  # noqa: E402

CALM = 3  # a sweep ends after so many flows in a row that did not reach their failure: ids decide who works where
COUNTED = ("clients/total", "clients/connected", "subscriptions/count", "shared_subscriptions/count",
           "retained messages/count", "store/messages/count")


class Memory:
    """The switch of failing_malloc, see there."""

    def __init__(self, path):
        with open(path, "wb") as f:
            f.write(bytes(32))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 32)

    def arm(self, fail_in, period=0):
        self.map[8:24] = struct.pack("<qq", period, 0)
        self.map[0:8] = struct.pack("<q", fail_in)

    def disarm(self):
        """How many have failed since arm()."""
        self.map[0:16] = bytes(16)
        return struct.unpack("<Q", self.map[16:24])[0]


class Bystanders:
    """Clients that take no part: a publisher and two subscribers, one of them from a share."""

    def __init__(self, port):
        self.port, self.rounds = port, 0
        self.publisher = Client(port, name="bystander-p").open(keep_alive=0)
        self.plain = Client(port, version=4, name="bystander-1").open(keep_alive=0)
        self.plain.subscribe("bystander/+", qos=1)
        self.share = Client(port, name="bystander-2").open(keep_alive=0)
        self.share.subscribe("$share/by/bystander/#", qos=2)

    def check(self):
        self.rounds += 1
        text = b"%d" % self.rounds
        self.publisher.publish("bystander/%d" % (self.rounds % 7), text, qos=1)
        self.plain.expect_publish(payload=text, qos=1)
        self.share.expect_publish(payload=text, qos=1)
        for client in (self.publisher, self.plain, self.share):
            client.log.clear()


class Scene:
    """What a flow gets: clients that are ended behind it, and the moment from which memory fails."""

    def __init__(self, port, memory, serial, fail_in, period=0):
        self.port, self.memory, self.serial = port, memory, serial
        self.fail_in, self.period, self.clients, self.failed, self.armed, self.log = fail_in, period, [], 0, False, []

    def client(self, version=5, name="c"):
        c = Client(self.port, "t%d-%s" % (self.serial, name), version, log=self.log)
        self.clients.append(c)
        return c

    def topic(self, name):
        return "torture/%d/%s" % (self.serial, name)

    def memory_fails(self):
        self.memory.arm(self.fail_in, self.period)
        self.armed = True

    def memory_is_back(self):
        if self.armed:
            self.failed, self.armed = self.memory.disarm(), False

    def answered_now(self):
        """While every third allocation fails LMDB cannot commit, and what waits for the disk waits on: is it answered,
        or sent away, now that memory is back? One failure alone is no excuse."""
        for c in self.clients if self.period else []:
            try:
                if c.sock:
                    c.receive()
                    return True
            except (Failure, ConnectionError):
                continue
        return False

    def end(self):
        """Nothing of the flow's clients may stay: end each session by a clean one that ends too."""
        self.memory_is_back()
        for c in self.clients:
            c.close()
        for client_id, version in {(c.client_id, c.version) for c in self.clients}:
            Client(self.port, client_id, version).open(clean=True).disconnect()


def play(flow, scene):
    """One flow with one failure. Whether memory failed; raises what must not happen."""
    try:
        flow(scene)
    except Lost:
        raise
    except Malformed as e:
        raise AssertionError("not MQTT: %s" % e) from e
    except (Failure, ConnectionError) as e:
        scene.memory_is_back()
        if not scene.failed:
            raise AssertionError("no allocation failed, and yet: %s" % e) from e
        if "nothing came" in str(e) and not scene.answered_now():
            raise AssertionError("neither answered nor sent away: %s" % e) from e
    finally:
        scene.memory_is_back()
    return scene.failed > 0


class Torture:
    flows, scene = FLOWS, Scene

    def __init__(self, opts, library, quick):
        self.quick, self.serial, self.passed, self.failures = quick, 0, 0, 0
        self.broker = Broker(opts, {"sys_interval": "1s", "log.level": "warn", **self.settings(opts)})
        path = os.path.join(self.broker.directory, "memory")
        self.memory = Memory(path)
        os.environ["FAILING_MALLOC"] = path
        os.environ["LD_PRELOAD"] = library
        try:
            self.broker.start()
        finally:
            del os.environ["LD_PRELOAD"]
        self.bystanders = Bystanders(self.broker.port)
        self.sys = SysTopics(self.broker.port)
        self.baseline = self.counts()

    def settings(self, opts):
        """More than a lone broker has."""
        return {}

    def stop(self):
        """What was wrong."""
        problems = self.broker.stop()
        self.broker.remove()
        return problems

    def counts(self):
        self.sys.close()  # a failure may have hit this very connection, or a figure on its way to it
        self.sys = SysTopics(self.broker.port)
        self.sys.fresh()
        return {name: self.sys.number(name) for name in COUNTED}

    def step(self, flow, fail_in, period=0):
        """Returns whether the failure was reached, or None when something was wrong."""
        self.serial += 1
        scene = self.scene(self.broker.port, self.memory, self.serial, fail_in, period)
        try:
            reached = play(flow, scene)
            scene.end()
            self.bystanders.check()
            self.broker.check()
            return reached
        except Exception as e:
            self.memory.disarm()
            self.failures += 1
            print("FAILED %s, allocation %d%s: %s" % (flow.__name__, fail_in, " and each %d-th" % period if period
                                                      else "", e))
            print("\n".join("    " + line for line in scene.log[-25:]))
            if not isinstance(e, AssertionError):
                traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            self.broker.check()
            scene.end()
            return None

    def sweep(self, flow):
        calm, n, most, steps = 0, 0, getattr(flow, "most", 400), 0
        if self.quick:
            most = min(most, getattr(flow, "quick_most", 400))
        while calm < CALM and n < most:
            n += 1
            reached = self.step(flow, n)
            steps += 1
            self.passed += reached is not None
            calm = 0 if reached else calm + 1
        print("%-34s %3d allocations" % (flow.__name__, n))
        sys.stdout.flush()

    def bad_times(self):
        """Not one failure but many: each k-th allocation of a flow."""
        for period in BAD_TIMES[::2] if self.quick else BAD_TIMES:
            for flow in self.flows:
                if not hasattr(flow, "most"):
                    self.passed += self.step(flow, 1 + period // 2, period) is not None

    def after(self):
        """The tables are where they were, and everything works without a failure."""
        deadline = time.monotonic() + 15
        now = self.counts()
        while now != self.baseline and time.monotonic() < deadline:
            now = self.counts()
        if now != self.baseline:
            self.failures += 1
            print("FAILED: left behind: %s" % ", ".join("%s %d, was %d" % (name, now[name], self.baseline[name])
                                                       for name in COUNTED if now[name] != self.baseline[name]))
        self.passed += now == self.baseline
        for flow in self.flows:
            self.passed += self.step(flow, 0) is False

    def run(self):
        for flow in self.flows:
            self.sweep(flow)
        self.bad_times()
        self.after()


def main(torture_class=Torture):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    Options.add_arguments(parser)
    parser.add_argument("--library", help="failing_malloc.so (default: beside the broker)")
    parser.add_argument("--quick", action="store_true", help="fewer steps where a step takes seconds")
    args = parser.parse_args()
    opts = Options.of_arguments(args)
    library = os.path.abspath(args.library or os.path.join(os.path.dirname(opts.tern), "failing_malloc.so"))
    if args.mosquitto or not os.path.exists(library):
        print("no %s" % library if not args.mosquitto else "only for our own broker")
        print("0 passed, 1 failed, 0 skipped")
        return 1
    torture = torture_class(opts, library, args.quick)
    died = False
    try:
        torture.run()
    except Exception as e:  # the broker is gone, or cannot even be asked: the sweep cannot go on
        died = True
        print("FAILED: the sweep ended: %s" % e)
        if not isinstance(e, AssertionError):
            traceback.print_exc(file=sys.stdout)
    for problem in torture.stop():
        print("FAILED: %s" % problem)
        died = True
    failed = torture.failures + died
    print("%d passed, %d failed, 0 skipped" % (torture.passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
