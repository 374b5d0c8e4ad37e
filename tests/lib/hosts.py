"""Hosts for real processes on one machine: network namespaces on a bridge, with cables that can be cut by nftables.

Why: partitions, one-way losses, vanished machines and changed addresses need more than loopback. The whole laboratory
lives in namespaces of its own (network, processes, mounts), which enter() makes by starting the program again under
unshare(1): nothing has a name outside, so runs beside each other do not meet, and when the program ends, in whatever
way, the kernel ends what it started and takes the rest with it, temporary files included.

    lo, br0 10.213.0.1      where the test itself, its clients and its proxies are
     +-- Host 10.213.1.11   a namespace whose one other end is on br0
     +-- Host 10.213.1.12
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

from lib.broker import Broker

HERE = "10.213.0.1"
INSIDE = "HOSTS_INSIDE"  # not TERN_: such ones are the settings of the broker
SCRATCH = "/mnt"  # a file system in memory is mounted over it, seen by nobody outside
UNSHARE = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
PROBE = "mount -t tmpfs tmpfs %s && ip link add br0 type bridge && ip link add v0 type veth peer name v1 && nft list ruleset" % SCRATCH


def forbidden():
    """Why this machine gives us no such namespaces, or None."""
    for tool in ("unshare", "nsenter", "ip", "nft"):
        if not shutil.which(tool, path=environment()["PATH"]):
            return "there is no %s" % tool
    done = subprocess.run(UNSHARE + ["sh", "-c", PROBE], capture_output=True, text=True, check=False, env=environment())
    return None if done.returncode == 0 else "namespaces are forbidden here: " + done.stderr.strip()[-200:]


def environment():
    return {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


def enter():
    """Start this program again inside a laboratory, unless it is there already. Returns inside only."""
    if INSIDE not in os.environ:
        sys.stdout.flush()
        os.execvpe(UNSHARE[0], UNSHARE + [sys.executable] + sys.argv, {**environment(), INSIDE: "1"})
    run("mount", "-t", "tmpfs", "tmpfs", SCRATCH)
    tempfile.tempdir = SCRATCH
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "addr", "add", HERE + "/16", "dev", "br0")
    run("ip", "link", "set", "br0", "up")


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError("%s: %s" % (" ".join(command), done.stderr.strip()))
    return done.stdout


class Host:
    """One machine: a namespace with one cable to the bridge. It is there as long as its holder runs."""

    count = 0

    def __init__(self, ip):
        Host.count += 1
        self.cable, self.ip = "v%d" % Host.count, ip
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
                                       stdout=subprocess.PIPE)
        self.holder.stdout.readline()  # it is in its own namespace now
        run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        run("ip", "link", "set", self.cable, "master", "br0", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "addr", "add", ip + "/16", "dev", "eth0")

    def inside(self):
        """What stands before a command to run it on this host; the process id stays that of the command."""
        return [shutil.which("nsenter"), "--target", str(self.holder.pid), "--net", "--"]

    def run(self, *command, text=None):
        return run(*self.inside(), *command, text=text)

    def deaf_to(self, *ips):
        """Drop all that comes from these, until heal(). What goes to them still goes."""
        rules = "".join("add rule inet cut input ip saddr %s drop\n" % ip for ip in ips)
        self.run("nft", "-f", "-", text="add table inet cut\nadd chain inet cut input "
                 "{ type filter hook input priority 0; }\n" + rules)

    def heal(self):
        self.run("nft", "flush", "ruleset")

    def unplug(self, unplugged=True):
        """The cable: nothing comes, nothing goes, and nobody is told."""
        run("ip", "link", "set", self.cable, "down" if unplugged else "up")

    def move(self, ip):
        """Another address, as a pod gets when it starts again."""
        self.run("ip", "addr", "flush", "dev", "eth0")
        self.run("ip", "addr", "add", ip + "/16", "dev", "eth0")
        self.ip = ip

    def close(self):
        run("ip", "link", "del", self.cable)  # a namespace lives on for a while, and would answer for its address
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


class HostBroker(Broker):
    """A broker on a host: port 1883 for everybody, 1884 behind a balancer that says whose connection it is."""

    def __init__(self, opts, host, settings):
        super().__init__(opts, settings, host=host.ip)
        self.at, self.port = host, 1883

    def address(self):
        return "tcp://%s:%d?allow_anonymous=true" % (self.host, self.port)

    def command(self):
        return self.at.inside() + super().command() + [
            "--listen", "tcp://%s:1884?allow_anonymous=true&proxy_protocol=true&trusted_proxies=10.213.0.0/16" % self.host]

    def signal(self, number):
        self.process.send_signal(number)

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def cpu_seconds(self):
        with open("/proc/%d/stat" % self.pid, encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
