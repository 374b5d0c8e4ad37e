"""Running tern-bench, and saying what is wrong with what it did.

Why: a case is then a sentence. `run` gives exit status, result and standard error; the `want_...` functions raise Wrong
with what was got and what was wanted.
"""

import dataclasses
import json
import subprocess
import time
from typing import Callable

COUNTS = ("lost", "duplicate", "reordered", "misdelivered", "unacknowledged", "misacknowledged", "refused",
          "disconnected")
RUN_SECONDS = 60  # a run that has not ended then hangs; no run is that slow on a slow machine
SOME = "some"     # a wanted count: any number above 0; None: any at all


class Wrong(AssertionError):
    """The tool did not do what it must."""


@dataclasses.dataclass
class Run:
    words: list
    status: int
    out: str
    err: str
    result: dict  # the JSON object; empty when there was none
    began: float  # time.monotonic() before it was started

    def __str__(self):
        return "`tern-bench %s`" % " ".join(self.words)


@dataclasses.dataclass
class Case:
    name: str
    check: Callable[["Tool"], None]  # raises Wrong, or Skip
    alone: bool = False              # it measures time: nothing may run beside it


class Skip(Exception):
    """The machine cannot do this; the text says why."""


class Tool:
    def __init__(self, path):
        self.path = path

    def start(self, words, **more):
        return subprocess.Popen([self.path] + words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **more)

    def run(self, text, *more, cwd=None):
        """text: the arguments, split at spaces; more: arguments that may hold spaces."""
        words = text.split() + list(more)
        began = time.monotonic()
        process = self.start(words, cwd=cwd)
        try:
            out, err = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Wrong("`tern-bench %s` has not ended after %d s" % (" ".join(words), RUN_SECONDS)) from None
        result = {}
        if "--json" in words and out.strip():
            try:
                result = json.loads(out)
            except ValueError as error:
                raise Wrong("`tern-bench %s`: no JSON: %s in %r" % (" ".join(words), error, out[:200])) from None
        return Run(words, process.returncode, out, err, result, began)

    def load(self, broker, text, *more, cwd=None):
        """A run against this broker, with its result. Afterwards the broker has read all that was sent."""
        scenario, _, rest = text.partition(" ")
        others = len(broker.connections)
        run = self.run("%s -p %d --json --quiet %s" % (scenario, broker.port, rest), *more, cwd=cwd)
        broker.settle(others)
        if broker.failure:
            raise Wrong("%s: the fake broker failed: %r" % (run, broker.failure))
        return run


def want(condition, text, *values):
    if not condition:
        raise Wrong(text % values)


def want_status(run, status):
    want(run.status == status, "%s: exit status %d, not %d: %s %s", run, run.status, status, run.err.strip()[-300:],
         checked(run))


def checked(run):
    """The counts that are not 0, for messages."""
    check = run.result.get("check", {})
    why = run.result.get("why")
    return " ".join("%s=%s" % pair for pair in check.items() if pair[1]) + (" (%s)" % why if why else "")


def want_counts(run, **counts):
    """Exactly these in "check", and every other 0."""
    check = run.result.get("check")
    want(check is not None, "%s: no \"check\": %s", run, run.err.strip()[-300:])
    for name in COUNTS:
        wanted, got = counts.get(name, 0), check.get(name)
        fine = wanted is None or (bool(got) if wanted == SOME else got == wanted)
        want(fine, "%s: %s is %s, not %s; %s", run, name, got, wanted, checked(run))


def want_clean(run, messages=True):
    want_status(run, 0)
    want_counts(run)
    check = run.result["check"]
    want(check["received"] == check["expected"], "%s: received is not expected: %s", run, checked(run))
    want(check["sent"] > 0 or not messages, "%s: nothing was sent", run)


def want_sentence(run, *parts):
    """One sentence on standard error that holds each of these."""
    lines = run.err.strip().splitlines()
    want(len(lines) == 1, "%s: not one sentence but %r", run, run.err)
    for part in parts:
        want(part in lines[0], "%s: says %r, without %r", run, lines[0], part)
