#!/usr/bin/env python3
"""Keeps broker/admin/METRICS.md equal to what /metrics says.

    metrics_reference.py --write http://127.0.0.1:18083/metrics      writes the table anew

The table is made from the HELP and TYPE lines of a node's own page; the end-to-end tests compare the two.
"""

import os
import re
import sys
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = os.path.join(ROOT, "broker/admin/METRICS.md")
BEGIN, END = "<!-- metrics begin -->\n", "<!-- metrics end -->\n"
# What a page may lack: the kernel does not tell before Linux 6.2; there is no store without --data.
OPTIONAL = {"process_open_fds", "tern_store_bytes", "tern_store_free_bytes"}


def rows(page):
    """{name: the row of the table} for each metric of the page."""
    kinds, helps = {}, {}
    for line in page.splitlines():
        word = line.split(" ", 3)
        if line.startswith("# TYPE "):
            kinds[word[2]] = word[3]
        elif line.startswith("# HELP "):
            helps[word[2]] = word[3]
    return {name: "| `%s` | %s | %s |" % (name, kinds[name], helps[name]) for name in kinds}


def written():
    """{name: row} of the table that is there."""
    with open(PATH, encoding="utf-8") as f:
        table = f.read().split(BEGIN)[1].split(END)[0]
    return {re.match(r"\| `([a-z_]+)`", line).group(1): line for line in table.splitlines() if line.startswith("| `")}


def main():
    if len(sys.argv) != 3 or sys.argv[1] != "--write":
        sys.exit(__doc__)
    with urllib.request.urlopen(sys.argv[2], timeout=10) as answer:
        found = rows(answer.read().decode())
    found = {**{name: row for name, row in written().items() if name in OPTIONAL}, **found}
    with open(PATH, encoding="utf-8") as f:
        text = f.read()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    table = "| Name | Type | Meaning |\n|---|---|---|\n" + "".join(found[name] + "\n" for name in sorted(found))
    with open(PATH, "w", encoding="utf-8") as f:
        f.write(before + BEGIN + table + END + after)


if __name__ == "__main__":
    main()
