#!/usr/bin/env python3
"""Keeps what is written about the configuration equal to what the broker knows.

    config_reference.py TERN README.md EXAMPLE...     fails when a table or an example is out of date
    config_reference.py --write TERN README.md        writes the tables anew

The tables, one of the configuration and one of a listener's keys, stand in the README between marks and are made from
`tern --print-config`, which prints the schema.
"""

import os
import re
import subprocess
import sys

TABLES = ("configuration", "listener")
LISTENER = ("  #   ", "  # - ")  # how lines of the entry begin that explains a listener's keys
KEY = re.compile(r"^(\s*)([a-z_]+):(.*)$")
FACTS = re.compile(r"^(.*); default (.*); (reload|restart)$")


def environment():
    """Ours without settings for a broker, which would show up as if they were defaults."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TERN_")}


def rows(text):
    """(key, facts, default, reload or restart, description) for each key of a printed configuration."""
    section, comments = "", []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            comments = []
        elif stripped.startswith("#"):
            comments.append(stripped[2:])
        elif KEY.match(line):
            indent, name, value = KEY.match(line).groups()
            if not indent:
                section = ""
            if not value and not comments:
                section = name + "."
                continue
            description, facts = comments[-2:]
            what, default, change = FACTS.match(facts).groups()
            yield section + name, what, default, change, description
            comments = []


def table(text):
    lines = ["| key | takes | default | on change | meaning |", "|---|---|---|---|---|"]
    lines += ["| `%s` | %s | `%s` | %s | %s |" % (key, what, default, change, description.replace("|", "\\|"))
              for key, what, default, change, description in rows(text)]
    return "\n".join(lines)


def tables(tern):
    """Name -> table."""
    text = subprocess.run([tern, "--print-config"], check=True, capture_output=True, text=True, env=environment()).stdout
    lines = text.splitlines()
    listener = "\n".join(line[6:] for line in lines if line.startswith(LISTENER))
    rest = "\n".join(line for line in lines if not line.startswith(LISTENER))
    return {"configuration": table(rest), "listener": table(listener)}


def split(readme, text, name):
    """The text up to the table of that name, the table, and what follows."""
    begin, end = "<!-- %s: begin -->" % name, "<!-- %s: end -->" % name
    if text.count(begin) != 1 or text.count(end) != 1:
        sys.exit("%s: the two marks around the table `%s` are missing" % (readme, name))
    before, rest = text.split(begin)
    present, after = rest.split(end)
    return before + begin + "\n", present.strip(), "\n" + end + after


def main(arguments):
    write = arguments[0] == "--write"
    tern, readme, *examples = arguments[1:] if write else arguments
    wanted = tables(tern)
    with open(readme, encoding="utf-8") as source:
        text = source.read()
    outdated = []
    for name in TABLES:
        before, present, after = split(readme, text, name)
        text = before + wanted[name] + after
        if present != wanted[name]:
            outdated.append(name)
    if write:
        with open(readme, "w", encoding="utf-8") as out:
            out.write(text)
        return 0
    status = 0
    if outdated:
        print("%s: out of date: %s; make the tables anew with\n"
              "    tests/lib/config_reference.py --write %s %s" % (readme, ", ".join(outdated), tern, readme))
        status = 1
    for example in examples:
        if subprocess.run([tern, "--test-config", "--config", example], env=environment(), check=False).returncode:
            status = 1
    if status == 0:
        print("check-readme: %d keys, and the examples, are as the broker has them" % sum(one.count("\n") - 1 for one in wanted.values()))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
