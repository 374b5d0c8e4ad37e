"""A broker that knows its users, for the tests of users and rules: its files lie beside its configuration, can be
written anew, and are read when reload() says so.

    house = guarded(ctx, users={"alice": "secret"}, rules="- {allow: all, topic: a/#}")
    alice = house.client("alice")
    house.rules("- {deny: all, topic: a/#}"); house.reload()
"""

import json
import os
import signal

from kit import ConfiguredBroker, Skip, check, eventually
from lib import broker as lib_broker
from lib.http_service import Service
from lib.mqtt import Client, Failure, connect
from lib.scram import verifier

HEAD = "data: %(data)s\nsys_interval: 1s\n"
SECONDS = 15  # for what a reload or a timer brings about: generous, since machines are slow


class Guarded(ConfiguredBroker):
    """listeners: YAML list of listeners, where PORT, AT (127.0.0.1:PORT) and DIR are replaced."""

    def __init__(self, opts, users, rules, roles, settings, listeners):
        self.listeners, self.has_users, self.has_rules = listeners, users is not None, False
        self.passwords, self.clients = {}, []
        super().__init__(opts, HEAD)
        self.users(users or {})
        self.rules(rules, roles)
        self.configure(settings)

    # ---- files -------------------------------------------------------------------------------------------------------

    def file(self, name, text=None):
        """A path in the broker's folder; given a text, the file is written."""
        path = os.path.join(self.directory, name)
        if text is not None:
            with open(path + ".new", "w", encoding="utf-8") as f:
                f.write(text)
            os.rename(path + ".new", path)
        return path

    def users(self, users):
        """The password file, anew: names and passwords. Who keeps its password keeps its line."""
        self.passwords = {u: self.passwords[u] if self.passwords.get(u, ("",))[0] == p else (p, verifier(u, p))
                          for u, p in users.items()}
        self.file("users", "".join(line for _, line in self.passwords.values()))

    def rules(self, rules, roles=""):
        """The file of rules, anew: the YAML list below `rules:`, and the mapping below `roles:`. None: no such file."""
        self.has_rules = rules is not None
        if rules is not None:
            text = "\n".join("  " + line for line in rules.strip().splitlines())
            names = "\n".join("  " + line for line in (roles or "").strip().splitlines())
            self.file("rules.yaml", "roles:%s\nrules:%s\n" % ("\n" + names if names else " {}",
                                                            "\n" + text if text else " []"))

    def configure(self, settings=None):
        """The configuration file, anew. settings: {"auth.denied_publish": "close", ...}."""
        lines = self.listeners.replace("AT", "127.0.0.1:PORT").replace("PORT", "%(port)d").replace("DIR", self.directory)
        sections = {}
        if self.has_users:
            sections.setdefault("auth", []).append("password_file: " + self.file("users"))
        if self.has_rules:
            sections.setdefault("auth", []).append("acl_file: " + self.file("rules.yaml"))
        for key, value in (settings or {}).items():
            section, name = key.split(".")
            sections.setdefault(section, []).append("%s: %s" % (name, json.dumps(str(value))))
        text = "".join("%s:\n%s" % (s, "".join("  %s\n" % row for row in rows)) for s, rows in sections.items())
        self.write(HEAD + "listeners:\n" + lines + "\n" + text.replace("%", "%%"))

    def reload(self, ok=True):
        """SIGHUP, and wait until the broker says that it has read everything."""
        words = ("event=reloaded", "event=reload_failed")
        before = [self.log().count(w) for w in words]
        self.process.send_signal(signal.SIGHUP)
        eventually("the broker has read its files", lambda: [self.log().count(w) for w in words] != before, SECONDS)
        check((self.log().count(words[0]) > before[0]) == ok, "reload: %s" % self.log_tail(3))

    # ---- clients -----------------------------------------------------------------------------------------------------

    def new(self, user=None, client_id=None, version=5, host="127.0.0.1"):
        c = Client(self.port, client_id=client_id, version=version, host=host, name=client_id or user)
        self.clients.append(c)
        return c

    def client(self, user=None, client_id=None, version=5, host="127.0.0.1", password=None, **connect_more):
        """A client that has come in, by default with the right password."""
        c = self.new(user, client_id, version, host)
        return c.open(**self.who(user, password), **connect_more)

    def who(self, user, password=None):
        if user is None:
            return {}
        return {"user": user, "password": password if password is not None else self.passwords.get(user, (None,))[0]}

    def refused(self, reason, user=None, password=None, version=5, client_id=None, host="127.0.0.1", **more):
        """A CONNECT is answered with this code; returns the client's CONNACK."""
        c = self.new(user, client_id, version, host).dial()
        c.send(connect(c.client_id, version, user=user, password=password, **more))
        answer = c.expect_refused(reason, timeout=SECONDS)
        c.close()
        return answer

    def comes_in(self, user=None, password=None, version=5, client_id=None, host="127.0.0.1", **more):
        """Whether it does, without a word about why not."""
        c = self.new(user, client_id, version, host)
        try:
            c.dial().send(connect(c.client_id, version, user=user, password=password, **more))
            p = c.receive(SECONDS)
            return p is not None and p.reason == 0
        except (Failure, OSError):
            return False
        finally:
            c.close()

    def lines(self, *words):
        """Lines of the log that have all these words."""
        return [line for line in self.log().splitlines() if all(w in line for w in words)]

    def stop(self):
        for c in self.clients:
            c.abort()
        return super().stop()


def guarded(ctx, users=None, rules=None, roles=None, settings=None, listeners='  - "tcp://AT"', start=True):
    if ctx.opts.mosquitto:
        raise Skip("mosquitto has other files of users and rules")
    house = Guarded(ctx.opts, users, rules, roles, settings or {}, listeners)
    if start:
        return ctx.start(house)
    ctx.brokers.append(house)
    return house


def service(ctx, answer):
    """An HTTP service that ends with the test."""
    made = Service(answer, (lib_broker.free_port() for _ in range(50)))
    ctx.programs.append(made)
    made.kill = made.stop
    return made


def gone(c, reason=None, seconds=SECONDS):
    """The client is sent away: what comes before is passed over. Returns the DISCONNECT's code, None without one."""
    last = None
    while True:
        p = c.receive(seconds)
        if p is None:
            break
        last = p
    code = last.reason if last is not None and last.type == 14 else None
    if c.version == 5 and reason is not None:
        check(code in (reason if isinstance(reason, tuple) else (reason,)), "%s: ended with %r" % (c.name, last))
    return code


def quiet(c, seconds=0.3):
    """All PUBLISH packets that come until nothing more does for a moment, acknowledged; [(topic, payload)]."""
    got = []
    while True:
        try:
            p = c.receive(seconds)
        except Failure:
            c.ping()
            return got
        check(p is not None and p.type == 3, "%s: got %r" % (c.name, p))
        c.acknowledge(p)
        got.append((p.topic, p.payload.decode()))
