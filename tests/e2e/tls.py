"""TLS listeners: what is agreed, who is let in by which certificate or key, reloads, and what strangers may do."""

import os
import socket
import ssl
import struct
import subprocess
import threading
import time

from doors import SECONDS, SteadyPublisher, authority, doors, ended, field, refused
from kit import Skip, check, check_equal, eventually
from lib.broker import free_port
from lib.mqtt import DISCONNECT, connect, disconnect, publish
from lib.sockets import tls_context
from sys_topics import SysTopics

SERVER = "certificate: CA/server.pem, key: CA/server.key"
OPEN = "allow_anonymous: true, "
PSK = "000102030405060708090a0b0c0d0e0f"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def tls(more="", server=SERVER):
    """The listener's `tls` section."""
    return "tls: {%s%s}" % (server, ", " + more if server and more else more)


def client_context(ca, name=None, **more):
    """The context of a client that trusts this CA and shows this certificate of it."""
    if name:
        more.update(certificate=ca.path(name + ".pem"), key=ca.path(name + ".key"))
    return tls_context(ca.path("ca.pem"), **more)


def certificate_of(path):
    with open(path, encoding="ascii") as f:
        return ssl.PEM_cert_to_DER_cert(f.read())


def shown(house, door, context, server_name="localhost"):
    """The certificate that the server shows, in DER."""
    c = house.client(door, how={"context": context, "server_name": server_name})
    shown_now = c.sock.getpeercert(True)
    c.close()
    return shown_now


# ---- what is agreed --------------------------------------------------------------------------------------------------


def test_versions(ctx):
    ca = authority(ctx)
    house = doors(ctx, {"both": ("tls", tls()), "new": ("tls", tls('min_version: "1.3"'))})
    for door, version, name in [("both", V12, "TLSv1.2"), ("both", V13, "TLSv1.3"), ("new", V13, "TLSv1.3")]:
        c = house.client(door, how={"context": client_context(ca, version=version)})
        check_equal(c.sock.version(), name, "the version on " + door)
    old = client_context(ca)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    for door, context in [("both", old), ("new", client_context(ca, version=V12))]:
        check("VERSION" in refused(house, door, context=context).upper(), "%s: the alert names no version" % door)
        house.line("event=handshake_failed", "listener=" + door, "layer=tls")


def test_server_name_picks_the_certificate(ctx):
    ca = authority(ctx)
    for name in ("a.example", "b.example"):
        ca.server(name, [name], rsa=name[0] == "b")
    ca.server("wild", ["*.c.example"])
    names = ("a.example", "b.example", "wild")
    house = doors(ctx, {"secure": ("tls", tls(server="certificate: [%s], key: [%s]" % (
        ", ".join("CA/%s.pem" % n for n in names), ", ".join("CA/%s.key" % n for n in names))))})
    for version in (V12, V13):
        context = client_context(ca, version=version)
        for asked, file in [("a.example", "a.example"), ("b.example", "b.example"), ("x.c.example", "wild"),
                            ("B.Example", "b.example"), ("other.example", "a.example"), (None, "a.example")]:
            check_equal(shown(house, "secure", context, asked), certificate_of(ca.path(file + ".pem")),
                        "%s: the certificate for %s" % (version, asked))


def test_alpn(ctx):
    ca = authority(ctx)
    house = doors(ctx, {"secure": ("tls", tls()), "browser": ("wss", tls())})
    for door, offered, taken in [("secure", ["mqtt"], "mqtt"), ("secure", ["h2", "mqtt"], "mqtt"),
                                 ("secure", None, None), ("browser", ["http/1.1"], "http/1.1"),
                                 ("browser", ["h2", "http/1.1"], "http/1.1"), ("browser", None, None)]:
        c = house.client(door, how={"context": client_context(ca, alpn=offered)})
        wire = c.sock.sock if door == "browser" else c.sock
        check_equal(wire.selected_alpn_protocol(), taken, "%s: what is taken of %s" % (door, offered))
    for door, offered in [("secure", ["h2", "http/1.1"]), ("browser", ["mqtt"])]:
        why = refused(house, door, context=client_context(ca, alpn=offered))
        check("no application protocol" in why, "%s: refused with %s" % (door, why))


def test_stapled_ocsp_response(ctx):
    ca = authority(ctx)
    ca.ocsp("server")
    ca.server("other", ["other.example"])
    house = doors(ctx, {"secure": ("tls", tls(server="certificate: [CA/server.pem, CA/other.pem], "
                                                      "key: [CA/server.key, CA/other.key], "
                                                      "ocsp_response: [CA/server.ocsp, \"-\"]"))})
    for version in ("-tls1_2", "-tls1_3"):
        for name, want in [("localhost", True), ("other.example", False)]:
            out = s_client(ctx, house.ports["secure"], "-status", "-servername", name, version)
            check_equal("OCSP Response Status: successful" in out and "Cert Status: good" in out, want,
                        "%s %s: whether a response is stapled" % (version, name))
            check_equal("OCSP response: no response sent" in out, not want, "%s %s: nothing stapled" % (version, name))


def s_client(ctx, port, *arguments, stdin=b""):
    return ctx.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, *arguments], 20, None, stdin)


def test_pre_shared_keys(ctx):
    """By openssl in both versions, by mosquitto in the one it knows."""
    with open(os.path.join(ctx.directory, "psk"), "w", encoding="utf-8") as f:
        f.write("# devices\nsensor-1:%s\nsensor-2:%s\n" % (PSK, "aa" * 32))
    house = doors(ctx, {"keys": ("tls", "authentication: [psk], " + tls("psk_file: DIR/psk, psk_hint: pick", ""))})
    for i, (version, identity, key, fits) in enumerate([
            ("-tls1_2", "sensor-1", PSK, True), ("-tls1_3", "sensor-1", PSK, True),
            ("-tls1_3", "sensor-2", "aa" * 32, True), ("-tls1_2", "sensor-1", "aa" * 32, False),
            ("-tls1_3", "sensor-1", "aa" * 32, False), ("-tls1_2", "sensor-3", PSK, False),
            ("-tls1_3", "sensor-3", PSK, False)]):
        client_id, name = "k%d" % i, "%s %s" % (version, identity)
        out = s_client(ctx, house.ports["keys"], "-quiet", version, "-psk_identity", identity, "-psk", key,
                       stdin=connect(client_id) + disconnect())
        if fits:
            check_equal(field(house.line("event=client_connected", "client=%s " % client_id), "user"), identity, name)
        else:
            check("alert" in out, "%s: got in? %s" % (name, out))
            check(not house.lines("event=client_connected", "client=%s " % client_id), name + ": was let in")
    ctx.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(house.ports["keys"]), "--psk", PSK, "--psk-identity",
             "sensor-1", "-i", "mosquitto", "-t", "a", "-m", "b", "-q", "1"])
    check_equal(field(house.line("event=client_connected", "client=mosquitto "), "user"), "sensor-1", "its name")


# ---- client certificates ---------------------------------------------------------------------------------------------


def client_house(ctx, more="", **doors_more):
    """A CA with the clients "good", "expired" and "revoked", another that nobody trusts; doors that want them."""
    ca, other = authority(ctx), authority(ctx, "other", server=False)
    ca.client("good")
    ca.client("expired", days=-1)
    ca.client("revoked")
    ca.revoke("revoked")
    ca.crl()
    other.client("stranger")
    wanted = "client_ca: CA/ca.pem, crl: CA/crl.pem" + more
    house = doors(ctx, {"required": ("tls", tls(wanted + ", client_certificate: required")),
                        "optional": ("tls", OPEN + tls(wanted + ", client_certificate: optional"))}, **doors_more)
    return ca, other, house


def test_client_certificates(ctx):
    ca, other, house = client_house(ctx)
    for version in (V12, V13):
        for door in ("required", "optional"):
            c = house.client(door, how={"context": client_context(ca, "good", version=version)})
            check_equal(field(house.came_in(c), "user"), "good", "%s: the name" % door)
            for name, why in [("expired", "certificate has expired"), ("revoked", "certificate revoked"),
                              ("stranger", "unable to get local issuer certificate")]:
                context = client_context(ca, version=version)
                holder = other if name == "stranger" else ca
                context.load_cert_chain(holder.path(name + ".pem"), holder.path(name + ".key"))
                before = len(house.lines("event=handshake_failed", "listener=" + door))
                refused(house, door, context=context)
                house.told(name, before, "event=handshake_failed", "listener=" + door)
                line = house.lines("event=handshake_failed", "listener=" + door)[-1]
                check(why in line, "%s, %s: %s" % (door, name, line))
        refused(house, "required", context=client_context(ca, version=version))
        house.line("event=handshake_failed", "listener=required", "peer did not return a certificate")
        nobody = house.client("optional", how={"context": client_context(ca, version=version)})
        check_equal(field(house.came_in(nobody), "user"), "", "who shows none")


def test_names_from_certificates(ctx):
    ca = authority(ctx)
    ca.client("device", subject="/O=Works/CN=device-7",
              sans="DNS:seven.example,email:seven@works.example,URI:urn:dev:7")
    ca.client("bare")
    fields = {"cn": "device-7", "dn": "CN=device-7,O=Works", "san_dns": "seven.example",
              "san_email": "seven@works.example", "san_uri": "urn:dev:7"}
    required = "client_ca: CA/ca.pem, client_certificate: required, "
    house = doors(ctx, {**{what: ("tls", tls(required + "user_name_from: " + what)) for what in fields},
                        "bound": ("tls", tls(required + "client_id_from: cn")),
                        "none": ("tls", OPEN + tls(required + "user_name_from: none"))})
    context = client_context(ca, "device")
    for what, name in fields.items():
        c = house.client(what, how={"context": context})
        check_equal(field(house.came_in(c), "user"), name, "the name out of " + what)
    c = house.client("none", how={"context": context})
    check_equal(field(house.came_in(c), "user"), "", "the name out of nothing")
    refusal = house.new("san_dns", context=client_context(ca, "bare")).dial()
    refusal.send(connect(refusal.client_id))
    refusal.expect_refused((0x86, 0x87))
    house.client("bound", "device-7", how={"context": context})
    stranger = house.new("bound", "device-8", context=context).dial()
    stranger.send(connect("device-8"))
    stranger.expect_refused(0x85)


# ---- resumption ------------------------------------------------------------------------------------------------------


def ticket_of(house, door, context, **how):
    """Come in and leave with a ticket."""
    c = house.client(door, how={"context": context, **how})
    c.ping()  # with TLS 1.3 the ticket has come by now
    session = c.sock.session
    c.disconnect()
    return session


def resumes(house, door, context, session):
    c = house.client(door, how={"context": context, "session": session})
    reused = c.sock.session_reused
    line = house.came_in(c)
    c.close()
    return reused, field(line, "user")


def test_tickets(ctx):
    ca = authority(ctx)
    ca.client("device")
    wanted = "client_ca: CA/ca.pem, client_certificate: required"
    house = doors(ctx, {"plain_tls": ("tls", tls()), "named": ("tls", tls(wanted)),
                        "never": ("tls", tls("tickets: false"))})
    for version in (V12, V13):
        for door, want in [("plain_tls", (True, "")), ("named", (True, "device")), ("never", (False, ""))]:
            context = client_context(ca, "device" if door == "named" else None, version=version)
            session = ticket_of(house, door, context)
            check_equal(resumes(house, door, context, session), want, "%s %s: resumed, by whom" % (version, door))
    context = client_context(ca, version=V13)
    session = ticket_of(house, "plain_tls", context)
    house.reload()
    check_equal(resumes(house, "plain_tls", context, session)[0], False, "a ticket from before the reload is taken")


def test_a_ticket_of_one_door_opens_no_other(ctx):
    """Who came in where no certificate is asked for has no ticket for where one is."""
    ca = authority(ctx)
    house = doors(ctx, {"free": ("tls", tls()),
                        "named": ("tls", tls("client_ca: CA/ca.pem, client_certificate: required"))})
    for version in (V12, V13):
        context = client_context(ca, version=version)
        session = ticket_of(house, "free", context)
        refused(house, "named", context=context, session=session)


# ---- other people's clients ------------------------------------------------------------------------------------------


def test_mosquitto_clients(ctx):
    ca, _, house = client_house(ctx, settings="log: {level: debug}\n")
    common = ["-h", "127.0.0.1", "-p", str(house.ports["required"]), "--cafile", ca.path("ca.pem"), "--cert",
              ca.path("good.pem"), "--key", ca.path("good.key"), "-q", "2"]
    for version, number in [("tlsv1.2", "mqttv311"), ("tlsv1.3", "mqttv5")]:
        sub = ctx.spawn(["mosquitto_sub", *common, "--tls-version", version, "-V", number, "-t", "t/#", "-i",
                         "sub" + number, "-C", "2", "-v"])
        house.line("event=subscribed", "client=sub" + number)
        big = os.path.join(ctx.directory, "big")
        with open(big, "w", encoding="ascii") as f:
            f.write("0123456789" * 20000)
        ctx.run(["mosquitto_pub", *common, "--tls-version", version, "-V", number, "-t", "t/1", "-m", "hello"])
        ctx.run(["mosquitto_pub", *common, "--tls-version", version, "-V", number, "-t", "t/2", "-f", big])
        status, lines = sub.finish()
        check_equal((status, lines), (0, ["t/1 hello", "t/2 " + "0123456789" * 20000]), "what mosquitto_sub got")
    out = ctx.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(house.ports["required"]), "--cafile",
                   ca.path("ca.pem"), "-t", "t", "-m", "x", "-q", "1"], status=None)
    check("rror" in out, "mosquitto_pub without a certificate says %r" % out)


def test_paho(ctx):
    try:
        from paho.mqtt import client as paho
    except ImportError:
        raise Skip("Paho is not installed") from None
    ca, _, house = client_house(ctx)
    got, ready = [], threading.Event()
    c = paho.Client("paho", protocol=paho.MQTTv5)
    c.tls_set(ca.path("ca.pem"), ca.path("good.pem"), ca.path("good.key"))
    c.on_connect = lambda *_: c.subscribe("p/#", 2)
    c.on_subscribe = lambda *_: ready.set()
    c.on_message = lambda _client, _data, m: got.append(m.payload)
    c.connect("127.0.0.1", house.ports["required"])
    c.loop_start()
    check(ready.wait(10), "Paho did not come to subscribe")
    for i in range(200):
        c.publish("p/%d" % i, b"%d" % i * 500, 2)
    eventually("Paho has all messages", lambda: len(got) == 200)
    check_equal(sorted(got), sorted(b"%d" % i * 500 for i in range(200)), "what it got")
    c.disconnect()
    c.loop_stop()
    check_equal(field(house.line("event=client_connected", "client=paho "), "user"), "good", "its name")


# ---- reload ----------------------------------------------------------------------------------------------------------


def test_a_new_certificate_is_served_and_old_connections_go_on(ctx):
    ca = authority(ctx)
    house = doors(ctx, {"secure": ("tls", tls())})
    context = client_context(ca)
    first = shown(house, "secure", context)
    steady = SteadyPublisher(house.client("secure", how={"context": context}))
    ca.server("server", ["localhost", "127.0.0.1"])
    check_equal(shown(house, "secure", context), first, "what is shown before the reload")
    house.reload()
    check_equal(shown(house, "secure", context), certificate_of(ca.path("server.pem")), "what is shown after it")

    os.rename(ca.path("server.key"), ca.path("good.key"))
    good = certificate_of(ca.path("server.pem"))
    ca.server("spare", ["localhost"])
    os.rename(ca.path("spare.key"), ca.path("server.key"))
    house.reload(ok=False)
    check("server.key: is not the key of" in house.line("event=reload_failed"), "the log: " + house.log_tail(2))
    check_equal(shown(house, "secure", context), good, "what is shown after a reload with a key that does not fit")
    os.rename(ca.path("good.key"), ca.path("server.key"))
    house.reload()
    check_equal(shown(house, "secure", context), good, "what is shown when the key is back")
    steady.end(at_least=20)


def test_who_is_revoked_is_sent_away_and_does_not_resume(ctx):
    ca, _, house = client_house(ctx)
    ca.client("bad")
    for version in (V12, V13):
        name = "bad%d" % version
        ca.client(name)
        good = house.client("required", how={"context": client_context(ca, "good", version=version)})
        bad_context = client_context(ca, name, version=version)
        session = ticket_of(house, "required", bad_context)
        bad = house.client("required", how={"context": bad_context})
        ca.revoke(name)
        ca.crl()
        bad.ping()
        house.reload()
        p = bad.receive(SECONDS)
        check(p is not None and p.type == DISCONNECT and p.reason in (0x87, 0x98), "the revoked client got %r" % p)
        bad.expect_closed()
        good.ping()
        refused(house, "required", context=bad_context)
        refused(house, "required", context=bad_context, session=session)


def test_expiry_is_told_in_the_log(ctx):
    ca = authority(ctx)
    ca.server("soon", ["soon"], days=10)
    ca.server("over", ["over"], days=-1)
    house = doors(ctx, {name: ("tls", tls(server="certificate: CA/%s.pem, key: CA/%s.key" % (name, name)))
                        for name in ("server", "soon", "over")})
    for line, days in [(house.line("event=certificate_expires", "listener=soon"), (9, 10)),
                       (house.line("event=certificate_expired", "listener=over"), (-1, -2))]:
        check(int(field(line, "days")) in days and ".pem" in field(line, "file"), "the warning: " + line)
    check(not house.lines("event=certificate_exp", "listener=server"), "a warning about a certificate that is good")


# ---- mistakes --------------------------------------------------------------------------------------------------------


def test_wrong_files_at_the_start(ctx):
    ctx.need_tern("it is about our own listeners")
    ca = authority(ctx)
    ca.server("other", ["other"])
    texts = {"garbage": "this is no PEM\n", "badpsk": "sensor:xyz\n", "twice": "a:%s\na:%s\n" % (PSK, PSK), "empty": ""}
    for name, text in texts.items():
        with open(ca.path(name), "w", encoding="utf-8") as f:
            f.write(text)
    subprocess.run(["openssl", "ec", "-in", ca.path("server.key"), "-aes128", "-passout", "pass:secret", "-out",
                    ca.path("locked.key")], check=True, capture_output=True)
    pair = "tls.certificate=CA/server.pem&tls.key=CA/server.key"
    rows = [("", "tls.certificate"), ("tls.certificate=CA/server.pem", "tls.key"),
            ("tls.certificate=CA/none.pem&tls.key=CA/server.key", "none.pem"),
            ("tls.certificate=CA/server.pem&tls.key=CA/none.key", "none.key"),
            ("tls.certificate=CA/server.pem&tls.key=CA/other.key", "other.key"),
            ("tls.certificate=CA/garbage&tls.key=CA/server.key", "garbage"),
            ("tls.certificate=CA/server.pem&tls.key=CA/garbage", "garbage"),
            ("tls.certificate=CA/server.pem&tls.key=CA/locked.key", "locked.key"),
            (pair + "&tls.client_certificate=required", "tls.client_ca"),
            (pair + "&tls.client_ca=CA/none.pem&tls.client_certificate=required", "none.pem"),
            (pair + "&tls.client_ca=CA/garbage&tls.client_certificate=required", "garbage"),
            (pair + "&tls.client_ca=CA/ca.pem&tls.client_certificate=required&tls.crl=CA/ca.pem", "ca.pem"),
            (pair + "&tls.client_ca=CA/ca.pem&tls.client_certificate=required&tls.crl=CA/none.crl", "none.crl"),
            (pair + "&tls.ocsp_response=CA/none.der", "none.der"), (pair + "&tls.ocsp_response=CA/garbage", "garbage"),
            (pair + "&tls.ciphers=NO-SUCH", "NO-SUCH"), (pair + "&tls.ciphersuites=NO-SUCH", "NO-SUCH"),
            (pair + "&tls.groups=NO-SUCH", "NO-SUCH"), (pair + "&tls.min_version=1.1", "1.1"),
            ("tls.psk_file=CA/badpsk", "badpsk"), ("tls.psk_file=CA/twice", "twice"),
            ("tls.psk_file=CA/empty", "empty")]
    for query, word in rows:
        address = "tls://127.0.0.1:%d%s" % (free_port(), query and "?" + query.replace("CA/", ca.directory + "/"))
        done = subprocess.run([ctx.opts.tern, "--listen", address, "--data", ctx.directory + "/data"], timeout=20,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        check(done.returncode in (1, 2), "%s: exit status %d: %s" % (query, done.returncode, done.stderr))
        said = [line for line in done.stderr.splitlines() if "level=error" in line or not line.startswith("ts=")]
        said = [line for line in said if "event=start_failed" not in line]
        check_equal(len(said), 1, "%s: sentences in %s" % (query, done.stderr))
        check(word in said[0], "%s: does not name %s: %s" % (query, word, said[0]))


# ---- strangers -------------------------------------------------------------------------------------------------------


def client_hello(context):
    """The first flight of a client, as bytes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody is over")


def test_strangers_disturb_nobody(ctx):
    """Half a handshake, garbage, MQTT on the TLS port, TLS on the plain one: closed, told, nothing left of it."""
    ca = authority(ctx)
    house = doors(ctx, {"secure": ("tls", tls())}, "limits: {connect_timeout: 2s}\n")
    context = client_context(ca)
    hello = client_hello(context)
    steady = SteadyPublisher(house.client("secure", how={"context": context}))
    friend = house.client("secure", how={"context": context})
    sys_topics = SysTopics(house.port)
    sys_topics.fresh()
    before = sys_topics.number("connections/socket/count")

    for name, door, data in [("garbage", "secure", os.urandom(300)), ("zeros", "secure", bytes(5000)),
                             ("MQTT on the TLS port", "secure", connect("lost")),
                             ("HTTP on the TLS port", "secure", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
                             ("a hello that is none", "secure", hello[:5] + bytes([hello[5] ^ 255]) + hello[6:]),
                             ("an alert", "secure", b"\x15\x03\x03\x00\x02\x02\x28"),
                             ("TLS on the plain port", "plain", hello)]:
        failed = len(house.lines("event=handshake_failed"))
        sock = house.raw(door)
        sock.sendall(data)
        got = ended(sock)
        sock.close()
        check(b"\x20\x03" not in got, "%s: a CONNACK came: %r" % (name, got))
        if door == "secure":
            house.told(name, failed, "event=handshake_failed")
    halves = [house.raw("secure") for _ in range(20)]
    for i, sock in enumerate(halves):
        sock.sendall(hello if i % 2 else hello[:100])
    for sock in halves[:10]:
        sock.close()
    for sock in halves[10:]:
        ended(sock)
        sock.close()
    check(len(house.lines("event=connect_timeout")) >= 5, "who stopped in the midst of the handshake is not told")
    friend.ping()
    sys_topics.until("all sockets are gone again",
                     lambda s: s.number("connections/socket/count") == before)
    steady.end(at_least=50)


def test_a_slow_hello_ends_by_the_deadline(ctx):
    ca = authority(ctx)
    house = doors(ctx, {"secure": ("tls", tls())}, "limits: {connect_timeout: 3s}\n")
    hello = client_hello(client_context(ca))
    sock, start = house.raw("secure"), time.monotonic()
    sock.settimeout(1)
    for i in range(20):
        try:
            sock.sendall(hello[i:i + 1])
            if sock.recv(100) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    took = time.monotonic() - start
    sock.close()
    check(2.5 < took < 6, "closed after %.1f s, the deadline is 3 s" % took)
    house.line("event=connect_timeout")


def test_a_crowd_of_handshakes_makes_nobody_wait(ctx):
    """300 at once come in, all of them, while somebody who is in goes on publishing."""
    ca = authority(ctx)
    house = doors(ctx, {"secure": ("tls", tls())}, "limits: {connect_timeout: 60s}\n")
    context, together, failed = client_context(ca), threading.Barrier(301), []
    steady = SteadyPublisher(house.client("plain"))
    crowd = [house.new("secure", context=context) for _ in range(300)]

    def come_in(c):
        together.wait(30)
        try:
            c.open(keep_alive=0)
        except (AssertionError, OSError) as e:
            failed.append(e)
    threads = [threading.Thread(target=come_in, args=(c,), daemon=True) for c in crowd]
    for t in threads:
        t.start()
    together.wait(30)
    for t in threads:
        t.join(60)
    check(not failed and not any(t.is_alive() for t in threads), "%d did not come in: %s" % (len(failed), failed[:3]))
    for c in crowd:
        c.ping()
    steady.end(at_least=20)


# ---- the ends of connections -----------------------------------------------------------------------------------------


def test_all_in_one_breath(ctx):
    """CONNECT, messages, DISCONNECT and the end, written before anything has been answered: every message arrives."""
    ca = authority(ctx)
    house = doors(ctx, {"tls": ("tls", tls()), "ws": ("ws", ""), "wss": ("wss", tls())})
    watcher = house.client()
    watcher.subscribe("breath/#", qos=1)
    for door in ("tls", "ws", "wss"):
        for i in range(8):  # client ids of several shards
            topic, client_id = "breath/%s/%d" % (door, i), "%s-%d" % (door, i)
            c = house.new(door, client_id, **({} if door == "ws" else {"context": client_context(ca)})).dial()
            data = connect(client_id) + b"".join(publish(topic, b"%d" % n * 1000, 1, pid=n + 1) for n in range(50))
            c.send(data + disconnect())
            if i % 2:
                c.sock.shutdown(socket.SHUT_WR)
            for n in range(50):
                watcher.expect_publish(topic, b"%d" % n * 1000, qos=1)


def test_who_does_not_read_makes_nobody_wait(ctx):
    """The outbox of an encrypted connection is bounded as any other, and it may catch up or go."""
    ca = authority(ctx)
    house = doors(ctx, {"tls": ("tls", tls()), "ws": ("ws", ""), "wss": ("wss", tls())},
                  "limits: {max_outbox_bytes: 64KiB}\n")
    publisher = house.client()
    for door in ("tls", "ws", "wss"):
        slow = house.client(door, how={} if door == "ws" else {"context": client_context(ca)})
        slow.subscribe("much/" + door)
        for _ in range(3000):
            publisher.publish("much/" + door, b"m" * 10000)
        publisher.ping()
        got = 0
        while True:
            try:
                slow.expect_publish("much/" + door, b"m" * 10000, timeout=1)
                got += 1
            except AssertionError as e:
                check("nothing came" in str(e), "%s: %s" % (door, e))
                break
        slow.log.clear()
        slow.ping()
        check(10 < got < 3000, "%s: %d of 3000 messages came" % (door, got))


def test_many_handshakes_that_are_given_up(ctx):
    """Clients vanish at every step of a handshake, by FIN and by RST: all sockets are gone again; and the broker
    ends in good order among them."""
    ca = authority(ctx)
    house = doors(ctx, {"tls": ("tls", tls()), "wss": ("wss", tls())}, "limits: {connect_timeout: 5s}\n")
    hello, sys_topics = client_hello(client_context(ca)), SysTopics(house.port)
    sys_topics.fresh()
    before = sys_topics.number("connections/socket/count")
    for i in range(400):
        sock = house.raw("tls" if i % 2 else "wss")
        sock.sendall(hello[:i * 3 % (len(hello) + 100)])
        if i % 3 == 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    sys_topics.until("all sockets are gone again", lambda s: s.number("connections/socket/count") == before)
    left = [house.raw("tls") for _ in range(50)]
    for sock in left:
        sock.sendall(hello)
    start = time.monotonic()
    check_equal(house.stop(), [], "the broker's end among handshakes")
    check(time.monotonic() - start < 4, "it took %.1f s to end" % (time.monotonic() - start))


def test_renegotiation_is_refused(ctx):
    authority(ctx)
    house = doors(ctx, {"secure": ("tls", tls())})
    out = s_client(ctx, house.ports["secure"], "-tls1_2", stdin=b"R\n")
    check("no renegotiation" in out, "renegotiated: " + out[-300:])
    house.client("secure").ping()
