#!/usr/bin/env python3
"""Compares the manual pages with what the programs say of themselves: check_man.py BUILD PAGES.

Why: a page is written by hand, and an option that is missing there is found by nobody. Every option and command that a
program names must be in its page, and no other; mandoc looks at the rest.
"""

import os
import re
import subprocess
import sys

OPTION = re.compile(r"--([a-z][a-z-]+)")


def said(program, *arguments):
    return subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def options_in(text):
    return set(OPTION.findall(text))


def ternctl(program):
    """The completion holds every command with all its options."""
    lines = said(program, "completion", "bash").split("'")[1].splitlines()
    commands = dict(line.split("|", 1) for line in lines if line)
    words = {name for name in commands if name != "store"}
    words |= {"store " + word for word in commands["store"].split() if not word.startswith("--")}
    return words, options_in(" ".join(commands.values())) | {"version"}


def tern(program):
    return set(), options_in(said(program, "--help"))


def tern_bench(program):
    overview = said(program, "--help")
    scenarios = set(re.findall(r"^  (\w+) {2,}", overview, re.M))
    texts = [said(program, name, "--help") for name in sorted(scenarios) + ["compare"]]
    return scenarios, options_in(" ".join(texts)) - {"help"} | {"html", "title"}


def page(path):
    """What it says: commands, and options behind two dashes."""
    with open(path, encoding="ascii") as f:
        text = f.read().replace("\\-", "-").replace("\\&", "")
    items = re.findall(r"^\.It Cm (\S+)(?: (?:Cm )?([a-z]+\b))?", text, re.M)
    names = {name for pair in items for name in (pair[0], " ".join(pair).strip())}
    return names, set(re.findall(r"Fl -([a-z-]+)", text))


def main():
    build, pages = sys.argv[1:]
    faults = 0
    for name, ask in (("tern.8", tern), ("ternctl.1", ternctl), ("tern-bench.1", tern_bench)):
        path = os.path.join(pages, name)
        commands, options = ask(os.path.join(build, name.split(".")[0]))
        known_commands, known_options = page(path)
        lines = ["%s is missing" % what for what in sorted(commands - known_commands)]
        lines += ["--%s is missing" % what for what in sorted(options - known_options)]
        lines += ["--%s is no option of the program" % what for what in sorted(known_options - options - {"help"})]
        lint = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], stdout=subprocess.PIPE, text=True, check=False)
        lines += lint.stdout.splitlines()
        for line in lines:
            print("%s: %s" % (path, line))
        faults += len(lines)
    if faults == 0:
        print("check-man: the manual pages have every command and option")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
