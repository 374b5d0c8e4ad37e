"""HAProxy's configuration."""

import re

from kit import check, need, read, run, write


def test_haproxy_takes_its_configuration(directory):
    need("haproxy")
    text, count = re.subn(r"tern-\d:", "127.0.0.1:", read("haproxy", "haproxy.cfg"))
    check(count == 6, "three nodes, with TLS and without")
    status, said = run("haproxy", "-c", "-f", write(directory, "haproxy.cfg", text))
    check(status == 0 and "warning" not in said.lower(), said)
