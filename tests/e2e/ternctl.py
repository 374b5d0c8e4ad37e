"""ternctl: what it makes is judged by others -- openssl, mosquitto and its tools, and the broker itself."""

import hashlib
import os
import pty
import re
import shutil
import stat
import subprocess
import termios

from kit import Skip, check, check_equal, eventually
from lib.broker import free_port
from lib.mqtt import SUBACK, Client, options, subscribe

EXAMPLES = "/usr/share/doc/mosquitto/examples"


def ternctl(ctx, *arguments, stdin="", status=0):
    """Run it in the test's folder; returns (standard output, standard error)."""
    ctx.need_tern("it is about our own command line tool")
    program = os.path.join(os.path.dirname(ctx.opts.tern), "ternctl")
    done = subprocess.run([program] + list(arguments), input=stdin, capture_output=True, text=True, timeout=60,
                          check=False, cwd=ctx.directory)
    check_equal(done.returncode, status, "exit status of ternctl %s (%s)" % (" ".join(arguments), done.stderr))
    if status:
        check_equal(len(done.stderr.strip().splitlines()), 1, "lines of %r" % done.stderr)
        check(done.stderr.startswith("ternctl"), "it says %r" % done.stderr)
    return done.stdout, done.stderr


def path_of(ctx, name):
    return os.path.join(ctx.directory, name)


def write(ctx, name, text):
    os.makedirs(os.path.dirname(path_of(ctx, name)), exist_ok=True)
    with open(path_of(ctx, name), "w", encoding="utf-8") as f:
        f.write(text)
    return path_of(ctx, name)


def read(ctx, name):
    with open(path_of(ctx, name), encoding="utf-8") as f:
        return f.read()


def mode_of(ctx, name):
    return stat.S_IMODE(os.stat(path_of(ctx, name)).st_mode)


def openssl(ctx, *arguments):
    return ctx.run(["openssl"] + list(arguments), cwd=ctx.directory)


def mosquitto(ctx, conf):
    """Debian's mosquitto with this configuration; ended with the test."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
    if not program:
        raise Skip("mosquitto is not installed")
    broker = ctx.spawn([program, "-c", write(ctx, "judge.conf", "user root\n" + conf)])
    eventually("mosquitto runs", lambda: any("running" in line for line in broker.lines))
    return broker


# ---- the command itself ----


def test_help_and_mistakes(ctx):
    out, _ = ternctl(ctx, "--help")
    for word in ("certs", "passwd", "import"):
        check(word in out, "%s is not in --help" % word)
        check("usage: ternctl %s" % word in ternctl(ctx, word, "--help")[0], "no help of %s" % word)
    check(re.match(r"^ternctl \d+\.\d+\.\d+", ternctl(ctx, "--version")[0]), "no version")
    for wrong in (["nothing"], ["certs", "--days", "0"], ["certs", "--days", "x"], ["certs", "--bogus"],
                  ["certs", "a", "b"], ["certs", "--host", "a,b"], ["certs", "--client", "../x"],
                  ["certs", "--client", "ca"], ["certs", "--client", "a", "--client", "a"], ["passwd", "x"],
                  ["passwd", "x", "a:b"], ["passwd", "x", "a", "--kind", "md5"], ["passwd", "x", "a", "--iterations"],
                  ["passwd", "x", "a", "--delete", "--check"], ["import"], ["import", "a", "b"], ["import", "--out"]):
        ternctl(ctx, *wrong, status=2)
    check_equal(os.listdir(ctx.directory), [], "what mistakes have left")


def test_completion(ctx):
    """bash itself says what it would offer."""
    with open(path_of(ctx, "completion"), "w", encoding="utf-8") as f:
        f.write(ternctl(ctx, "completion", "bash")[0])
    for typed, offered in (("cl", "clients cluster"), ("clients ", "kick list show"),
                           ("clients list --to", "--top --token-file"), ("clients list --top q", "queue"),
                           ("--url u sub list --qos ", "0 1 2"),
                           ("passwd --kind a", "argon2id"), ("store v", "verify")):
        words = " ".join("'%s'" % word for word in typed.split(" "))
        out = ctx.run(["bash", "-c", ". ./completion; COMP_WORDS=(ternctl %s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1));"
                       "_ternctl; echo ${COMPREPLY[*]}" % words], cwd=ctx.directory)
        check_equal(out.strip(), offered, "what follows ternctl %s" % typed)


# ---- the admin port: who may come; what can be asked is in ternctl_admin.py ----


def test_no_node_answers(ctx):
    url = "http://127.0.0.1:%d" % free_port()
    _, err = ternctl(ctx, "clients", "list", "--url", url, status=3)
    check(url in err, err)
    for wrong in (["clients"], ["clients", "nothing"], ["clients", "show"], ["clients", "list", "x"],
                  ["--json", "certs"], ["clients", "list", "--top", "x"], ["clients", "list", "--limit", "x"],
                  ["publish", "t"], ["trace", "start"], ["trace", "start", "--topic", "a", "--duration", "2h"],
                  ["bans", "add", "x", "y"], ["--user", "a", "status"], ["--url", "ftp://x", "status"], ["--url"]):
        ternctl(ctx, *wrong, status=2)
    for far in ("192.0.2.1", "127.example", "localhost@192.0.2.1", "localhost.example"):
        _, err = ternctl(ctx, "status", "--url", "http://" + far, "--token-file", write(ctx, "token", "t\n"), status=1)
        check("https" in err, err)


def test_token(ctx):
    token = ternctl(ctx, "token", "ci", "viewer", "--file", "tokens")[0].strip()
    line = "ci:viewer:" + hashlib.sha256(token.encode()).hexdigest() + "\n"
    check_equal(read(ctx, "tokens"), line, "the file")
    check_equal(mode_of(ctx, "tokens"), 0o600, "its mode")
    out = ternctl(ctx, "token", "ops", "operator")[0].splitlines()
    check_equal(out[1], "ops:operator:" + hashlib.sha256(out[0].encode()).hexdigest(), "the line")
    ternctl(ctx, "token", "ci", "operator", "--file", "tokens", status=1)
    ternctl(ctx, "token", "c", "operator", "--file", "tokens")
    check_equal(read(ctx, "tokens").splitlines()[0] + "\n", line, "the first line")
    for wrong in (["a:b", "viewer"], ["a", "root"], ["a"], ["", "viewer"]):
        ternctl(ctx, "token", *wrong, status=2)


def test_passwd_with_roles(ctx):
    def passwd(*arguments, password="secret", status=0):
        ternctl(ctx, "passwd", "users", *arguments, "--kind", "pbkdf2", "--iterations", "1000", stdin=password + "\n",
                status=status)

    passwd("alice", "--role", "operator")
    passwd("bob", "--role", "viewer")
    check_equal([line.split(":")[:2] for line in read(ctx, "users").splitlines()],
                [["alice", "operator"], ["bob", "viewer"]], "users and roles")
    passwd("alice", password="another")  # the role stays
    passwd("bob", "--role", "operator")
    check_equal([line.split(":")[:2] for line in read(ctx, "users").splitlines()],
                [["alice", "operator"], ["bob", "operator"]], "users and roles")
    passwd("alice", "--check", password="another")
    passwd("alice", "--check", password="secret", status=1)
    passwd("carol", status=1)  # without a role among users that have one
    ternctl(ctx, "passwd", "users", "alice", "--delete")
    ternctl(ctx, "passwd", "plain", "x", stdin="y\n")
    ternctl(ctx, "passwd", "plain", "y", "--role", "viewer", stdin="y\n", status=1)
    ternctl(ctx, "passwd", "users", "y", "--role", "root", stdin="y\n", status=2)


# ---- certs ----


def verify(ctx, directory, leaf, purpose):
    out = openssl(ctx, "verify", "-x509_strict", "-CAfile", directory + "/ca.crt", "-purpose", purpose,
                  "%s/%s.crt" % (directory, leaf))
    check(out.strip().endswith("OK"), out)


def same_key(ctx, directory, name):
    check_equal(openssl(ctx, "x509", "-in", "%s/%s.crt" % (directory, name), "-noout", "-pubkey"),
                openssl(ctx, "pkey", "-in", "%s/%s.key" % (directory, name), "-pubout"), "public key of " + name)


def check_certs(ctx, directory):
    verify(ctx, directory, "server", "sslserver")
    verify(ctx, directory, "client1", "sslclient")
    for name in ("ca", "server", "client1"):
        same_key(ctx, directory, name)
        check_equal(mode_of(ctx, "%s/%s.key" % (directory, name)), 0o600, "mode of the key of " + name)
    text = openssl(ctx, "x509", "-in", directory + "/server.crt", "-noout", "-text")
    for word in ("TLS Web Server Authentication", "CA:FALSE", "DNS:localhost", "IP Address:127.0.0.1",
                 "IP Address:0:0:0:0:0:0:0:1", "DNS:broker.example", "IP Address:10.0.0.7"):
        check(word in text, "%s is not in the server's certificate" % word)
    check("Web Client" not in text, "the server's certificate is good for clients")


def test_certs(ctx):
    for kind, key in (([], "prime256v1"), (["--rsa"], "2048 bit")):
        directory = "certs" + "".join(kind)
        out, _ = ternctl(ctx, "certs", directory, "--host", "broker.example", "--host", "10.0.0.7", "--days", "30",
                         *kind)
        check_equal(len(re.findall(r"^\d+\. ", out, re.M)), 8, "steps")
        check_certs(ctx, directory)
        text = openssl(ctx, "x509", "-in", directory + "/ca.crt", "-noout", "-text")
        for word in ("CA:TRUE", "Certificate Sign, CRL Sign", "Subject Key Identifier", "Authority Key Identifier",
                     key):
            check(word in text, "%s is not in the authority's certificate" % word)
        text = openssl(ctx, "x509", "-in", directory + "/client1.crt", "-noout", "-text")
        check("CN = client1" in text and "TLS Web Client Authentication" in text, "the client's certificate: " + text)
        for name in ("ca", "server", "client1"):
            serial = openssl(ctx, "x509", "-in", "%s/%s.crt" % (directory, name), "-noout", "-serial")
            check_equal(len(serial.strip().split("=")[1]), 32, "digits of the serial number of " + name)
        openssl(ctx, "x509", "-in", directory + "/server.crt", "-noout", "-checkend", str(29 * 86400))
        ctx.run(["openssl", "x509", "-in", directory + "/server.crt", "-noout", "-checkend", str(31 * 86400)], status=1,
                cwd=ctx.directory)


def test_certs_for_nodes(ctx):
    """Good at both ends of a link, made out to cluster and node, by an authority that signs nobody else."""
    out, _ = ternctl(ctx, "certs", "links", "--node", "n1", "--node", "n2", "--cluster", "plant")
    for name in ("n1", "n2"):
        for purpose in ("sslserver", "sslclient"):
            verify(ctx, "links", name, purpose)
        same_key(ctx, "links", name)
        text = openssl(ctx, "x509", "-in", "links/%s.crt" % name, "-noout", "-ext", "subjectAltName")
        check("DNS:plant, DNS:" + name in text, text)
    check(re.fullmatch(r"[0-9a-f]{64}\n", read(ctx, "links/gossip.keys")), "the key of the gossip")
    check_equal(mode_of(ctx, "links/gossip.keys"), 0o600, "its mode")
    authority, gossip = read(ctx, "links/ca.crt"), read(ctx, "links/gossip.keys")
    ternctl(ctx, "certs", "links", "--node", "n3")
    check_equal((read(ctx, "links/ca.crt"), read(ctx, "links/gossip.keys")), (authority, gossip), "what stays")
    ternctl(ctx, "certs", "links", status=1)
    ternctl(ctx, "certs", "mixed")
    ternctl(ctx, "certs", "mixed", "--node", "n1", status=1)
    ternctl(ctx, "certs", "more", "--node", "n1", "--client", "c", status=2)
    for command in re.findall(r"^   # (openssl .*)$", out, re.M):
        os.makedirs(path_of(ctx, "typed-nodes"), exist_ok=True)
        ctx.run(["sh", "-c", command], cwd=path_of(ctx, "typed-nodes"))
    check_equal(sorted(os.listdir(path_of(ctx, "typed-nodes")) + ["n3.crt", "n3.csr", "n3.key"]),
                sorted(os.listdir(path_of(ctx, "links"))), "files")


def test_certs_by_hand(ctx):
    """The commands that are shown do the same."""
    out, _ = ternctl(ctx, "certs", "made", "--host", "broker.example", "--host", "10.0.0.7")
    commands = re.findall(r"^   # (openssl .*)$", out, re.M)
    check_equal(len(commands), 8, "commands")
    os.mkdir(path_of(ctx, "typed"))
    for command in commands:
        ctx.run(["sh", "-c", command], cwd=path_of(ctx, "typed"))
    check_equal(sorted(os.listdir(path_of(ctx, "typed"))), sorted(os.listdir(path_of(ctx, "made"))), "files")
    for leaf, purpose in (("server", "sslserver"), ("client1", "sslclient")):
        check(openssl(ctx, "verify", "-CAfile", "typed/ca.crt", "-purpose", purpose, "typed/%s.crt" % leaf), leaf)


def test_certs_stay(ctx):
    ternctl(ctx, "certs", "c")
    before = {name: read(ctx, "c/" + name) for name in os.listdir(path_of(ctx, "c"))}
    _, err = ternctl(ctx, "certs", "c", status=1)
    check("client1.key" in err and "--force" in err, err)
    _, err = ternctl(ctx, "certs", "c", "--host", "other.example", "--client", "new", status=1)
    check("server.key" in err, err)
    check_equal({name: read(ctx, "c/" + name) for name in os.listdir(path_of(ctx, "c"))}, before, "the files")
    ternctl(ctx, "certs", "c", "--client", "sensor-7", "--client", "sensor-8")
    for name, text in before.items():
        check_equal(read(ctx, "c/" + name), text, name)
    verify(ctx, "c", "sensor-8", "sslclient")
    ternctl(ctx, "certs", "c", "--force")
    check(read(ctx, "c/server.key") != before["server.key"], "--force replaces the server's key")
    check_equal(read(ctx, "c/ca.key"), before["ca.key"], "the authority's key after --force")
    verify(ctx, "c", "server", "sslserver")
    verify(ctx, "c", "sensor-7", "sslclient")


def test_certs_leaves_nothing(ctx):
    write(ctx, "half/ca.crt", "no certificate")
    _, err = ternctl(ctx, "certs", "half", status=1)
    check("ca.key" in err, err)
    write(ctx, "half/ca.key", "no key")
    ternctl(ctx, "certs", "half", status=1)
    write(ctx, "last/client1.crt", "here already")
    ternctl(ctx, "certs", "last", status=1)
    check_equal(os.listdir(path_of(ctx, "last")), ["client1.crt"], "files after a failure")
    ternctl(ctx, "certs", "no/such/place", status=1)
    write(ctx, "file", "")
    ternctl(ctx, "certs", "file", status=1)


def publish(ctx, line, port):
    """Run a command line that ternctl has shown, with another port."""
    check("-p 8883" in line, line)
    ctx.run(["sh", "-c", line.replace("-p 8883", "-p %d" % port)], cwd=ctx.directory)


def refused(ctx, line, port):
    done = subprocess.run(["sh", "-c", line.replace("-p 8883", "-p %d" % port)], capture_output=True, timeout=20,
                          check=False, cwd=ctx.directory)
    check(done.returncode != 0, "a client without a certificate came in")


def test_certs_in_tern(ctx):
    """The lines for tern.yaml and the clients' command lines, as they are shown."""
    out, _ = ternctl(ctx, "certs", "tls files")
    yaml = out[out.index("listeners:"):out.index("For every client")]
    lines = [line for line in out.splitlines() if line.startswith("mosquitto_pub ")]
    check_equal(len(lines), 2, "command lines")
    broker = ctx.configured("data: %(data)s\n" + yaml.replace("8883", "%(port)d"))
    for line in lines:
        publish(ctx, line, broker.port)
    broker.stop()
    broker = ctx.configured("data: %(data)s\n" + yaml.replace("8883", "%(port)d").replace("optional", "required"))
    publish(ctx, lines[1], broker.port)
    refused(ctx, lines[0], broker.port)


def test_certs_in_mosquitto(ctx):
    out, _ = ternctl(ctx, "certs", "m")
    lines = [line for line in out.splitlines() if line.startswith("mosquitto_pub ")]
    port, d = free_port(), path_of(ctx, "m")
    mosquitto(ctx, "listener %d 127.0.0.1\ncafile %s/ca.crt\ncertfile %s/server.crt\nkeyfile %s/server.key\n"
                   "require_certificate true\nuse_identity_as_username true\n" % (port, d, d, d))
    publish(ctx, lines[1], port)
    refused(ctx, lines[0], port)


# ---- passwd ----

KINDS = [("argon2id", "$argon2id$v=19$"), ("pbkdf2", "$7$"), ("scram", "SCRAM-SHA-256$")]


def test_passwd_round_trip(ctx):
    for kind, beginning in KINDS:
        password = "sécret of " + kind
        ternctl(ctx, "passwd", "users", kind, "--kind", kind, "--password-stdin", stdin=password + "\n")
        check(("\n" + read(ctx, "users")).count("\n%s:%s" % (kind, beginning)) == 1, read(ctx, "users"))
        ternctl(ctx, "passwd", "users", kind, "--check", stdin=password)
        for wrong in (password + "x", password[:-1], password.upper()):
            _, err = ternctl(ctx, "passwd", "users", kind, "--check", stdin=wrong + "\n", status=1)
            check(kind in err and wrong not in err, err)
    check_equal(mode_of(ctx, "users"), 0o600, "mode of a new file")
    ternctl(ctx, "passwd", "users", "few", "--kind", "pbkdf2", "--iterations", "1000", stdin="x\n")
    check("few:$7$1000$" in read(ctx, "users"), read(ctx, "users"))
    ternctl(ctx, "passwd", "users", "default", stdin="x\n")
    check("default:$argon2id$" in read(ctx, "users"), read(ctx, "users"))


def test_passwd_keeps_the_rest(ctx):
    for name in ("a", "b", "c"):
        ternctl(ctx, "passwd", "users", name, "--kind", "pbkdf2", "--iterations", "100", stdin=name + "\n")
    a, b, c = read(ctx, "users").splitlines()
    write(ctx, "users", "# first\n\n%s\n# of b\n%s\n%s" % (a, b, c))
    os.chmod(path_of(ctx, "users"), 0o640)
    os.symlink("users", path_of(ctx, "link"))
    ternctl(ctx, "passwd", "link", "b", stdin="new\n")
    lines = read(ctx, "users").splitlines()
    check_equal(lines[:4] + lines[5:], ["# first", "", a, "# of b", c], "the other lines")
    check(lines[4].startswith("b:$argon2id$"), lines[4])
    ternctl(ctx, "passwd", "users", "b", "--check", stdin="new\n")
    ternctl(ctx, "passwd", "users", "b", "--check", stdin="b\n", status=1)
    ternctl(ctx, "passwd", "users", "a", "--delete")
    check_equal(read(ctx, "users").splitlines(), ["# first", "", "# of b", lines[4], c], "after --delete")
    ternctl(ctx, "passwd", "users", "a", "--delete", status=1)
    ternctl(ctx, "passwd", "users", "a", "--check", stdin="a\n", status=1)
    check_equal(mode_of(ctx, "users"), 0o640, "the mode")
    check(os.path.islink(path_of(ctx, "link")), "the link has become a file")
    check_equal(sorted(os.listdir(ctx.directory)), ["link", "users"], "files left")


def test_passwd_refuses(ctx):
    write(ctx, "users", "# good\na:$7$100$bad\n")
    for arguments in (["users", "z"], ["users", "a", "--check"], ["users", "a", "--delete"]):
        _, err = ternctl(ctx, "passwd", *arguments, stdin="" if "--delete" in arguments else "x\n", status=1)
        check("users:2: " in err, err)
    check_equal(read(ctx, "users"), "# good\na:$7$100$bad\n", "the file")
    for text in ("", "\n", "x" * 2000 + "\n"):
        ternctl(ctx, "passwd", "other", "z", stdin=text, status=1)
    ternctl(ctx, "passwd", "other", "z", "--delete", status=1)
    ternctl(ctx, "passwd", "no/such/place", "z", stdin="x\n", status=1)
    check_equal(os.listdir(ctx.directory), ["users"], "files left")


def test_passwd_at_once(ctx):
    """Several of them at a time lose nobody."""
    ctx.need_tern("it is about our own command line tool")
    program = os.path.join(os.path.dirname(ctx.opts.tern), "ternctl")
    running = []
    for i in range(12):
        p = subprocess.Popen([program, "passwd", "users", "u%d" % i, "--kind", "pbkdf2", "--iterations", "1000"],
                             stdin=subprocess.PIPE, cwd=ctx.directory)
        p.stdin.write(b"x\n")
        p.stdin.close()
        running.append(p)
    check_equal([p.wait(30) for p in running], [0] * 12, "exit statuses")
    check_equal(sorted(line.split(":")[0] for line in read(ctx, "users").splitlines()),
                sorted("u%d" % i for i in range(12)), "users")


def on_terminal(ctx, answers, *arguments):
    """Run it on a terminal of its own; returns (exit status, what was shown)."""
    ctx.need_tern("it is about our own command line tool")
    program = os.path.join(os.path.dirname(ctx.opts.tern), "ternctl")
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(ctx.directory)
        os.execv(program, [program] + list(arguments))
    shown = b""
    for answer in list(answers) + [None]:
        asked = shown.count(b"assword: ") + 1
        while shown.count(b"assword: ") < asked:
            try:
                data = os.read(fd, 4096)
            except OSError:
                data = b""
            if not data:
                break
            shown += data
        if answer is not None:  # what is typed before the prompt's echo is off would be shown, as anywhere
            eventually("the echo is off", lambda: not termios.tcgetattr(fd)[3] & termios.ECHO)
            os.write(fd, answer.encode() + b"\n")
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_passwd_on_a_terminal(ctx):
    status, shown = on_terminal(ctx, ["hidden", "hidden"], "passwd", "users", "a")
    check_equal(status, 0, "exit status (%s)" % shown)
    check("hidden" not in shown, "the password was shown: %r" % shown)
    ternctl(ctx, "passwd", "users", "a", "--check", stdin="hidden\n")
    status, shown = on_terminal(ctx, ["hidden"], "passwd", "users", "a", "--check")
    check_equal(status, 0, "exit status of --check (%s)" % shown)
    before = read(ctx, "users")
    status, shown = on_terminal(ctx, ["one", "two"], "passwd", "users", "a")
    check_equal(status, 1, "exit status with two passwords (%s)" % shown)
    check_equal(read(ctx, "users"), before, "the file")


def test_passwd_and_mosquitto(ctx):
    """A file that ternctl wrote lets its users into mosquitto, and one of mosquitto_passwd is read here."""
    ternctl(ctx, "passwd", "users", "ann", "--kind", "pbkdf2", stdin="ann's word\n")
    ternctl(ctx, "passwd", "users", "bob", "--kind", "pbkdf2", "--iterations", "101", stdin="b\n")
    if not shutil.which("mosquitto_passwd"):
        raise Skip("mosquitto_passwd is not installed")
    ctx.run(["mosquitto_passwd", "-b", path_of(ctx, "users"), "eve", "e"])
    ternctl(ctx, "passwd", "users", "eve", "--check", stdin="e\n")
    ternctl(ctx, "passwd", "users", "ann", "--check", stdin="ann's word\n")
    port = free_port()
    mosquitto(ctx, "listener %d 127.0.0.1\npassword_file %s\n" % (port, path_of(ctx, "users")))
    for user, password, good in (("ann", "ann's word", True), ("bob", "b", True), ("eve", "e", True),
                                 ("ann", "b", False), ("zoe", "b", False)):
        done = subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-u", user, "-P", password,
                               "-t", "t", "-m", "m"], capture_output=True, timeout=20, check=False)
        check_equal(done.returncode == 0, good, "%s with %r gets in" % (user, password))


# ---- import ----

CONFS = {  # name: (configuration, what tern.yaml must hold, numbers of the notes)
    "empty": ("", ["tcp://127.0.0.1:1883", "tcp://[::1]:1883"], (0, 0)),
    "open": ("listener 1883\nallow_anonymous true\n", ["tcp://[::]:1883", "allow_anonymous: true"], (0, 0)),
    "closed": ("listener 1883\n", ["tcp://127.0.0.1:1883", "allow_anonymous: false"], (1, 0)),
    "ordinary": ("per_listener_settings false\npersistence true\npersistence_location /var/lib/mosquitto/\n"
                 "log_dest file /var/log/mosquitto/mosquitto.log\nallow_anonymous false\npassword_file users\n"
                 "acl_file acl\nlistener 1883 127.0.0.1\nlistener 8883\ncertfile c.pem\nkeyfile k.pem\n"
                 "tls_version tlsv1.2\nlistener 9001\nprotocol websockets\nmax_inflight_messages 50\n"
                 "max_queued_messages 5000\nmax_packet_size 200000\n",
                 ["tls://[::]:8883", "ws://[::]:9001", "password_file: \"users\"", "acl.yaml", "max_inflight: 50",
                  "max_queued_messages: 5000", "max_packet_size: 200000"], (3, 2)),
    "certificates": ("listener 8883\ncafile ca.pem\ncertfile c.pem\nkeyfile k.pem\nrequire_certificate true\n"
                     "use_identity_as_username true\ncrlfile r.pem\n",
                     ["client_certificate: required", "user_name_from: cn", "authentication: certificate"], (0, 0)),
    "keys": ("listener 8883\npsk_hint tern\npsk_file keys\nuse_identity_as_username true\n",
             ["psk_file: \"keys\"", "authentication: psk"], (0, 0)),
    "each": ("per_listener_settings true\nlistener 1883\nallow_anonymous true\nacl_file acl\nlistener 1884\n"
             "password_file users\nlistener 0 /run/m.sock\nallow_anonymous true\nmax_connections 5\nmount_point m/\n",
             ["listener1", "listener3", "unix:///run/m.sock", "mount_point: \"m/\""], (0, 3)),
    "bridge": ("connection b\naddress test.example:1883\ntopic # both 0\nremote_password hush\n",
               ["not taken over"], (4, 0)),
    "limits": ("max_keepalive 0\nmax_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\n"
               "max_packet_size 0\nsys_interval 0\npersistent_client_expiration 1y\nretain_available false\nmax_qos 0\n"
               "log_type all\n",
               ["max_session_expiry: 8760h", "retain_available: false", "level: debug"], (0, 0)),
}


def test_import(ctx):
    write(ctx, "acl", "topic read $SYS/#\nuser ann\ntopic a/#\ntopic deny a/b\npattern readwrite u/%u/%c/#\n")
    for name, (conf, wanted, counts) in CONFS.items():
        write(ctx, name + ".conf", conf)
        out, err = ternctl(ctx, "import", name + ".conf", "--out", name)
        text = read(ctx, name + "/tern.yaml")
        for word in wanted:
            check(word in text, "%s: %s is not in\n%s" % (name, word, text))
        check("hush" not in text + err + out, "%s: a password is shown" % name)
        check_equal((err.count("not taken over: "), len(re.findall("^note: ", err, re.M))), counts,
                    "%s: notes\n%s" % (name, err))
        check("%d not taken over, %d with a difference" % counts in out, out)
        for line in err.splitlines():
            check("# %s\n" % line in text, "%s: %s is not in the result" % (name, line))
        ctx.run([ctx.opts.tern, "--config", path_of(ctx, name + "/tern.yaml"), "--test-config"], cwd=ctx.directory)
    check_equal(os.path.exists(path_of(ctx, "open/acl.yaml")), False, "rules without an acl_file")


def test_import_of_the_examples(ctx):
    if not os.path.exists(EXAMPLES + "/mosquitto.conf"):
        raise Skip("mosquitto's examples are not installed")
    with open(EXAMPLES + "/mosquitto.conf", encoding="utf-8") as f:
        conf = f.read()
    conf += "\nlistener 1883\nallow_anonymous true\nacl_file %s/aclfile.example\n" % EXAMPLES
    write(ctx, "m.conf", conf)
    ternctl(ctx, "import", "m.conf", "--out", "out")
    check("user: \"roger\"" in read(ctx, "out/acl.yaml"), read(ctx, "out/acl.yaml"))
    ctx.run([ctx.opts.tern, "--config", path_of(ctx, "out/tern.yaml"), "--test-config"], cwd=ctx.directory)
    # Everything that the example explains, switched on: each key is taken over or named.
    on = re.sub(r"(?m)^#([a-z_]+ \S.*)$", r"\1", re.sub(r"(?m)^# .*$", "", conf.split("# Bridges")[0]))
    on = "\n".join(line for line in on.splitlines() if not re.match("(listener|port|bind_address|acl_file) *", line))
    write(ctx, "all.conf", on)
    _, err = ternctl(ctx, "import", "all.conf", "--out", "all")
    check(": unknown" not in err, err)
    ctx.run([ctx.opts.tern, "--config", path_of(ctx, "all/tern.yaml"), "--test-config"], cwd=ctx.directory)


def test_import_includes(ctx):
    write(ctx, "d/b.conf", "sys_interval 30\n")
    write(ctx, "d/A.conf", "sys_interval 20\nlistener 1884\nallow_anonymous true\n")
    write(ctx, "d/c.txt", "sys_interval 40\n")
    write(ctx, "m.conf", "sys_interval 10\ninclude_dir d\n")
    _, err = ternctl(ctx, "import", "m.conf", "--out", "out")
    check("sys_interval: 30s" in read(ctx, "out/tern.yaml") and ":1884" in read(ctx, "out/tern.yaml"), "not in order")
    check("d/A.conf:1: " in err and "d/b.conf:1: " in err, err)


def test_import_refuses(ctx):
    write(ctx, "good.conf", "sys_interval 10\n")
    ternctl(ctx, "import", "good.conf", "--out", "out")
    before = read(ctx, "out/tern.yaml")
    write(ctx, "good.conf", "sys_interval 20\n")
    _, err = ternctl(ctx, "import", "good.conf", "--out", "out", status=1)
    check("tern.yaml" in err and "--force" in err, err)
    check_equal(read(ctx, "out/tern.yaml"), before, "the file")
    ternctl(ctx, "import", "good.conf", "--out", "out", "--force")
    check("sys_interval: 20s" in read(ctx, "out/tern.yaml"), "--force replaces it")
    write(ctx, "acl", "topic a\nuser u\ntopic maybe a b\n")
    for name, conf, word in (("gone.conf", None, "gone.conf"), ("key.conf", "\nlistener x\n", "key.conf:2: "),
                             ("acl.conf", "acl_file acl\n", "acl:3: "),
                             ("noacl.conf", "acl_file none\n", "noacl.conf:1: "),
                             ("dir.conf", "include_dir none\n", "none")):
        if conf:
            write(ctx, name, conf)
        _, err = ternctl(ctx, "import", name, "--out", "new", status=1)
        check(word in err, "%s: %s" % (name, err))
        check(not os.path.exists(path_of(ctx, "new")), "%s: a folder is left" % name)


# ---- the same rules in both brokers ----

RULES = """\
topic public/#
topic deny public/secret
topic write drop
user judge
topic readwrite #
user ann
topic readwrite a/#
topic deny a/secret/#
topic write only/write
topic read only/read
topic read lit/%u/100%
user bob
topic deny home/bob/attic
topic home/ann/letters
pattern readwrite home/%u/#
pattern deny home/%u/cellar
pattern write clients/%c
pattern deny news/old
pattern read news/#
pattern read fence
user ann
topic read home/ann/cellar
"""

TOPICS = ["public/a", "public/secret", "drop", "a", "a/b", "a/secret", "a/secret/x", "only/write", "only/read",
          "lit/%u/100%", "lit/ann/100%", "home/ann/letters", "home/ann/cellar", "home/bob/attic", "home/bob/cellar",
          "home/bob/x", "clients/c7", "clients/c8", "news/old", "news/new", "nothing", "home", "home/"]


def collect(c):
    """The topics of the messages up to the one that says that all others have come."""
    topics = set()
    while True:
        topic = c.expect_publish().topic
        if topic == "fence":
            return sorted(topics)
        topics.add(topic)


def decisions(port):
    """What each user's messages reach, and which reach him: {(user, "writes" or "reads"): topics}."""
    result = {}
    judge = Client(port, "judge", 4).open(user="judge", password=b"j")
    judge.subscribe("#", qos=1)
    for user, client in ((None, "c7"), ("ann", "c7"), ("bob", "c8"), ("carol", "c9")):
        c = Client(port, client, 4).open(user=user, password=user and user.encode())
        for topic in TOPICS:
            c.publish(topic, b"x", qos=1)
        judge.publish("fence", qos=1)
        result[user, "writes"] = collect(judge)
        for topic in TOPICS + ["fence"]:
            pid = c.new_pid()
            c.send(subscribe(pid, [(topic, options(1, False, False, 0))], None, 4))
            c.expect_later(SUBACK, pid=pid)  # granted or not
        for topic in TOPICS:
            judge.publish(topic, b"x", qos=1)
        judge.publish("fence", qos=1)
        result[user, "reads"] = collect(c)
        collect(judge)
        c.disconnect()
    judge.disconnect()
    return result


def test_import_decides_as_mosquitto(ctx):
    for user in ("judge", "ann", "bob", "carol"):
        ternctl(ctx, "passwd", "users", user, "--kind", "pbkdf2", "--iterations", "101",
                stdin="%s\n" % (user if user != "judge" else "j"))
    port = free_port()
    conf = ("listener %d 127.0.0.1\nallow_anonymous true\npassword_file %s\nacl_file %s\n"
            % (port, path_of(ctx, "users"), write(ctx, "acl", RULES)))
    theirs = mosquitto(ctx, conf)
    wanted = decisions(port)
    theirs.kill()
    check(wanted["ann", "reads"] and wanted["bob", "writes"], "mosquitto allows nothing: %r" % wanted)
    ternctl(ctx, "import", "judge.conf", "--out", "out")
    broker = ctx.configured(read(ctx, "out/tern.yaml").replace("%", "%%").replace(":%d" % port, ":%(port)d")
                            + "data: %(data)s\n")
    got = decisions(broker.port)
    for key, topics in wanted.items():
        check_equal(got[key], topics, "what %s %s" % key)
