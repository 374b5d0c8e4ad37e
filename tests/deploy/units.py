"""systemd's unit and its user."""

import os
import re

from kit import DEPLOY, TERN, check, grace_seconds, need, read, run, write

EXPOSURE_MOST = 20  # of systemd-analyze security, in tenths; a service without any hardening has 96


def unit(directory):
    """The unit, with the program where it has been built."""
    text = read("systemd", "tern.service")
    check("ExecStart=/usr/bin/tern " in text, "the unit starts /usr/bin/tern")
    return write(directory, "tern.service", text.replace("/usr/bin/tern", TERN))


def test_unit_is_valid(directory):
    need("systemd-analyze")
    status, said = run("systemd-analyze", "verify", "--man=no", unit(directory))
    check(status == 0 and "tern.service" not in said, said)


def test_unit_is_hardened(directory):
    need("systemd-analyze")
    status, said = run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=%d" % EXPOSURE_MOST,
                       unit(directory))
    check(status == 0, said[-400:])


def test_a_wrong_configuration_is_not_started_again(directory):
    """RestartPreventExitStatus names the status with which tern ends then."""
    status, said = run(TERN, "--config", write(directory, "bad.yaml", "lisners: []\n"))
    named = re.search(r"^RestartPreventExitStatus=(\d+)$", read("systemd", "tern.service"), re.MULTILINE)
    check(named and int(named.group(1)) == status, "tern ended with %d: %s" % (status, said))


def test_stopping_has_the_time_it_needs(_):
    given = re.search(r"^TimeoutStopSec=(\d+)s$", read("systemd", "tern.service"), re.MULTILINE)
    check(given and int(given.group(1)) > grace_seconds(), "TimeoutStopSec against drain.grace")


def test_user_is_valid(directory):
    need("systemd-sysusers")
    status, said = run("systemd-sysusers", "--dry-run", "--root=" + directory, os.path.join(DEPLOY, "systemd/tern.sysusers"))
    check(status == 0 and "tern" in said, said)
