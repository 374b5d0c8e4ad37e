"""The Debian package that `make deb` builds."""

import glob
import os
import subprocess

from kit import ROOT, TERN, check, need, read, run


def package():
    """Where it is, built anew."""
    need("dh")
    status, said = run("make", "-C", ROOT, "deb")
    check(status == 0, said[-2000:])
    found = glob.glob(os.path.join(ROOT, "build/deb/tern_*.deb"))
    check(len(found) == 1, "one package: %s" % found)
    return found[0]


def control(path, name):
    return subprocess.run(["dpkg-deb", "--info", path, name], check=True, stdout=subprocess.PIPE).stdout.decode()


def test_package(directory):
    """It has the programs, their pages, the service, its user and a configuration that an upgrade leaves alone; what it
    has works from where it is unpacked, and lintian has nothing to warn of."""
    path = package()
    version = run(TERN, "--version")[1].split()[1]
    check("Version: %s\n" % version in control(path, "control"), "the package's version is the program's, %s" % version)
    check(control(path, "conffiles").split() == ["/etc/tern/tern.yaml"], "what an upgrade asks about")
    check("systemd-sysusers" in control(path, "postinst"), "the user is made when it is installed")
    check("tern.service" in control(path, "postinst") and "tern.service" in control(path, "prerm"), "the service is started and stopped")
    subprocess.run(["dpkg-deb", "--extract", path, directory], check=True)
    for name in ("lib/systemd/system/tern.service", "usr/lib/sysusers.d/tern.conf", "usr/share/man/man8/tern.8.gz",
                 "usr/share/man/man1/ternctl.1.gz", "usr/share/man/man1/tern-bench.1.gz",
                 "usr/share/bash-completion/completions/ternctl", "usr/share/doc/tern/copyright"):
        check(os.path.isfile(os.path.join(directory, name)), name)
    for program in ("tern", "ternctl", "tern-bench"):
        status, said = run(os.path.join(directory, "usr/bin", program), "--version")
        check(status == 0 and version in said, "%s --version: %s" % (program, said))
    check(read("tern.yaml") == open(os.path.join(directory, "etc/tern/tern.yaml"), encoding="utf-8").read(), "the configuration")
    need("lintian")
    status, said = run("lintian", "--allow-root", "--fail-on", "error,warning", path)
    check(status == 0, said)
