#!/usr/bin/env python3
"""Keeps what is written about the configuration equal to what the broker knows.

    config_reference.py TERN README.md EXAMPLE...     fails when a table or an example is out of date
    config_reference.py --write TERN README.md        writes the table anew

The table stands in the README between two marks and is made from `tern --print-config`, which prints the schema.
"""

import os
import re
import subprocess
import sys

BEGIN, END = "<!-- configuration: begin -->", "<!-- configuration: end -->"
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


def table(tern):
    text = subprocess.run([tern, "--print-config"], check=True, capture_output=True, text=True, env=environment()).stdout
    lines = ["| key | takes | default | on change | meaning |", "|---|---|---|---|---|"]
    lines += ["| `%s` | %s | `%s` | %s | %s |" % (key, what, default, change, description.replace("|", "\\|"))
              for key, what, default, change, description in rows(text)]
    return "\n".join(lines)


def split(readme):
    """The text up to the table, the table, and what follows."""
    with open(readme, encoding="utf-8") as source:
        text = source.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit("%s: the two marks around the configuration table are missing" % readme)
    before, rest = text.split(BEGIN)
    present, after = rest.split(END)
    return before, present.strip(), after


def main(arguments):
    write = arguments[0] == "--write"
    tern, readme, *examples = arguments[1:] if write else arguments
    wanted = table(tern)
    before, present, after = split(readme)
    if write:
        with open(readme, "w", encoding="utf-8") as out:
            out.write("%s%s\n%s\n%s%s" % (before, BEGIN, wanted, END, after))
        return 0
    status = 0
    if present != wanted:
        print("%s: the configuration table is out of date; make it anew with\n"
              "    tests/lib/config_reference.py --write %s %s" % (readme, tern, readme))
        status = 1
    for example in examples:
        if subprocess.run([tern, "--test-config", "--config", example], env=environment(), check=False).returncode:
            status = 1
    if status == 0:
        print("check-readme: %d keys, and the examples, are as the broker has them" % (wanted.count("\n") - 1))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
