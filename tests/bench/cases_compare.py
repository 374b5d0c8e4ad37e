"""`tern-bench report` and `tern-bench compare`, from end to end."""

import json
import os
import re
import sys
import tempfile

from fake_broker import FakeBroker
from tool import Case, want, want_clean, want_sentence, want_status

HERE = os.path.dirname(os.path.abspath(__file__))
COMMAND = "%s %s --port {port}" % (sys.executable, os.path.join(HERE, "fake_broker.py"))
EVIL = "<script>alert('x')</script> \"&\" | ü"
SHORT = "--warmup 0 -d 0.2 --timeout 2"


def result_of(tool, directory, name, words, *more):
    path = os.path.join(directory, name)
    with FakeBroker() as broker:
        run = tool.load(broker, words, *more)
    want_clean(run, messages=False)
    with open(path, "w", encoding="utf-8") as file:
        file.write(run.out)
    return path


def files_in(directory):
    return {name for name in os.listdir(directory)}


def check_report(tool):
    """One page that needs nothing from elsewhere, and a table; a label is text wherever it stands."""
    with tempfile.TemporaryDirectory() as directory:
        one = result_of(tool, directory, "one.json", "pair -c 2 -q 1 --rate 200 -d 1.2 --label", EVIL)
        other = result_of(tool, directory, "other.json", "conn -c 3 -d 0.1")
        before = files_in(directory)
        run = tool.run("report %s %s --html page.html" % (one, other), cwd=directory)
        want_status(run, 0)
        made = files_in(directory) - before
        pages = [name for name in made if name.endswith(".html")]
        want(len(pages) == 1, "%s: made %s", run, sorted(made))
        with open(os.path.join(directory, pages[0]), encoding="utf-8") as file:
            page = file.read()
    want("<script>alert" not in page, "%s: a label became a script", run)
    want("alert(" in page and "pair" in page and "conn" in page, "%s: label or scenario is not in the page", run)
    want(page.lstrip().lower().startswith("<!doctype html"), "%s: no HTML: %r", run, page[:80])
    loads = re.findall(r"(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//[^\s\"'>]*|@import|url\(\s*[\"']?http", page)
    want(not loads, "%s: the page loads %s", run, loads)
    rows = [line for line in run.out.splitlines() if line.startswith("|")]
    want(len(rows) == 4, "%s: no table of two rows: %r", run, run.out)
    cells = {len(re.split(r"(?<!\\)\|", row)) for row in rows}
    want(len(cells) == 1, "%s: rows of different lengths: %s", run, rows)


def check_report_wrong(tool):
    """What is no result is told by its name."""
    with tempfile.TemporaryDirectory() as directory:
        good = result_of(tool, directory, "good.json", "conn -c 1 -d 0.1")
        for name, text in (("empty.json", ""), ("half.json", '{"tool":'), ("list.json", "[]")):
            path = os.path.join(directory, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            run = tool.run("report %s %s" % (good, path), cwd=directory)
            want_status(run, 2)
            want_sentence(run, name)
        run = tool.run("report %s" % directory, cwd=directory)
        want_status(run, 2)


def compare(tool, directory, scenarios, brokers, words=""):
    for name, text in (("s.yaml", scenarios), ("b.yaml", brokers)):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
    return tool.run("compare --scenarios s.yaml --brokers b.yaml " + words, cwd=directory)


def yaml_brokers(*rows):
    return "".join("- name: %s\n  command: %s\n" % row for row in rows)


def yaml_scenarios(*rows):
    return "".join("- name: %s\n  run: %s\n%s" % row for row in rows)


def check_compare(tool):
    with tempfile.TemporaryDirectory() as directory:
        run = compare(tool, directory,
                      yaml_scenarios(("pairs", "pair -c 2 -q 1 " + SHORT, ""),
                                     ("connections", "conn -c 20 " + SHORT, "")),
                      yaml_brokers(("first", COMMAND), ("second", COMMAND)), "--rounds 2")
    want_status(run, 0)
    rows = [line for line in run.out.splitlines() if line.startswith("|")]
    want(len(rows) == 4, "%s: no table of two rows: %r", run, run.out)
    for part in ("first", "second", "pairs", "connections"):
        want(any(part in row for row in rows), "%s: %s is not in the table: %s", run, part, rows)


def check_compare_loss(tool):
    """A broker that loses a message makes 1, and is named with the scenario and the round."""
    with tempfile.TemporaryDirectory() as directory:
        run = compare(tool, directory, yaml_scenarios(("pairs", "pair -c 1 -q 1 " + SHORT, "")),
                      yaml_brokers(("first", COMMAND), ("second", COMMAND + " --fault lose,at=20")), "--rounds 1")
    want_status(run, 1)
    told = run.out + run.err
    want("second" in told and "lost" in told and "pairs" in told, "%s: does not tell of the loss: %s", run, told)


def check_compare_bounds(tool):
    """A bound that is missed makes 1; one that is kept does not."""
    for most, status in ((1e9, 0), (1e-9, 1)):
        bounds = "  bounds:\n  - limit: %g\n    brokers: [second]\n" % most
        with tempfile.TemporaryDirectory() as directory:
            run = compare(tool, directory, yaml_scenarios(("pairs", "pair -c 1 -q 1 " + SHORT, bounds)),
                          yaml_brokers(("first", COMMAND), ("second", COMMAND)), "--rounds 1 --strict")
        want_status(run, status)


def check_compare_dead(tool):
    """A broker that does not start, and one that ends at once."""
    for command in ("/nonexistent/broker", "%s -c 'raise SystemExit(\"broken\")'" % sys.executable):
        with tempfile.TemporaryDirectory() as directory:
            brokers = yaml_brokers(("first", COMMAND)) + "- name: dead\n  command: %s\n" % json.dumps(command)
            run = compare(tool, directory, yaml_scenarios(("pairs", "pair -c 1 " + SHORT, "")), brokers, "--rounds 1")
        want(run.status in (2, 3), "%s: exit status %d", run, run.status)
        want("dead" in run.err, "%s: does not name the broker: %r", run, run.err)


def check_compare_wrong(tool):
    """Mistakes in the files: the file, the line, one sentence."""
    good_s, good_b = yaml_scenarios(("pairs", "pair -c 1", "")), yaml_brokers(("first", COMMAND))
    for scenarios, brokers, parts in (
            (good_s + "- name: more\n  runs: pair\n", good_b, ("s.yaml:4", "runs")),
            ("- name: [\n", good_b, ("s.yaml",)), ("", good_b, ("s.yaml",)),
            ("- name: more\n", good_b, ("s.yaml:1",)), (good_s, "- name: x\n", ("b.yaml:1",)),
            (good_s + good_s, good_b, ("s.yaml:3", "pairs")), (good_s, "brokers: none\n", ("b.yaml",))):
        with tempfile.TemporaryDirectory() as directory:
            run = compare(tool, directory, scenarios, brokers)
        want_status(run, 2)
        want_sentence(run, *parts)


def cases():
    checks = (check_report, check_report_wrong, check_compare, check_compare_loss, check_compare_bounds,
              check_compare_dead, check_compare_wrong)
    return [Case("figures: " + c.__name__[len("check_"):].replace("_", " "), c) for c in checks]
