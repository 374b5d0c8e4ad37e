"""MQTT over WebSocket, for both chapters 6: a listener of its own, and frames that a test cuts itself."""

import contextlib

from kit import Skip, check, check_equal
from lib.broker import Broker, Options
from lib.mqtt import CONNACK, PINGRESP, PUBLISH, SUBACK, Client, connect, decode, pingreq, publish, subscribe
from lib.sockets import dial, frame

TEXT, CONTINUATION, PING, CLOSE = 1, 0, 9, 8


@contextlib.contextmanager
def listener(env):
    """The port of a broker that speaks WebSocket."""
    opts = env.broker.opts
    if opts.mosquitto:
        raise Skip("mosquitto is not configured for WebSocket here")
    with Broker(Options(opts.tern, opts.backend, opts.shards, transport="ws")) as broker:
        yield broker.port


def client(env, port, version):
    c = Client(port, env.client_id("ws"), version, log=env.log)
    c.transport = "ws"
    return c


def expect_cut_off(env, port, version, name, data, code):
    """After these bytes on an open connection: a Close with this code, and the end."""
    with env.case(name):
        c = client(env, port, version).open()
        c.sock.sock.sendall(data)
        c.expect_closed()
        check_equal(c.sock.close_code, code, "the code of the Close")
        c.close()


def only_binary_frames(env, version):
    """The client's other data frames end the connection; the server sends none."""
    with listener(env) as port:
        for name, data in [("text", frame(pingreq(), TEXT)), ("empty text", frame(b"", TEXT)),
                           ("the first of text fragments", frame(pingreq()[:1], TEXT, fin=False)),
                           ("text that would be UTF-8", frame(publish("t", b"abc", version=version), TEXT))]:
            expect_cut_off(env, port, version, name, data, 1003)
        c = client(env, port, version).open()
        c.subscribe("all/#", qos=2)
        for qos in (0, 1, 2):
            c.publish("all/%d" % qos, b"\xff\xfe" * 1000, qos=qos)
            c.expect_later(PUBLISH)
        check_equal(c.sock.control, [], "frames that came and are not binary")
        c.close()


def packets(c, version, count):
    """So many packets, whatever frames they come in."""
    got, buffer = [], bytearray()
    while len(got) < count:
        data = c.recv(65536)
        check(data, "closed after %r" % got)
        buffer += data
        while len(buffer) >= 2 and (p := decode(buffer, version)) is not None:
            got.append(p.type)
    check(not buffer, "more than a whole packet")
    return got


def frames_are_no_packets(env, version):
    """Packets need not begin or end where frames do."""
    with listener(env) as port:
        whole = (connect("cut", version) + subscribe(1, [("w/#", 0)], version=version) +
                 publish("w/a", b"x" * 300, version=version) + pingreq())
        rows = {"several packets in one frame": frame(whole),
                "a byte a frame": b"".join(frame(bytes([b])) for b in whole),
                "cut inside packets": frame(whole[:5]) + frame(whole[5:60]) + frame(b"") + frame(whole[60:]),
                "fragments": frame(whole[:30], fin=False) + frame(whole[30:90], CONTINUATION, fin=False) +
                frame(b"", CONTINUATION, fin=False) + frame(whole[90:], CONTINUATION),
                "fragments with Ping between": frame(whole[:31], fin=False) + frame(b"?", PING) +
                frame(whole[31:], CONTINUATION)}
        for name, data in rows.items():
            with env.case(name):
                c = dial("ws", "127.0.0.1", port, 5)
                c.sock.sendall(data)
                check_equal(sorted(packets(c, version, 4)), sorted([CONNACK, SUBACK, PUBLISH, PINGRESP]), "what came")
                c.sock.close()


def subprotocol(env):
    """The one that the server picks and returns is "mqtt"; who does not offer it is not served."""
    with listener(env) as port:
        for offered in ("mqtt", "chat, mqtt", "mqtt, chat", "chat , mqtt,x"):
            with env.case(offered):
                c = dial("ws", "127.0.0.1", port, 5, protocol=offered)
                lines = [line for line in c.head.split("\r\n") if line.lower().startswith("sec-websocket-protocol:")]
                check_equal([line.split(":", 1)[1].strip() for line in lines], ["mqtt"], "the subprotocol returned")
                c.sock.close()
        for offered in (None, "chat", "MQTT", "mqttx", "mqt"):
            with env.case("offered: %s" % offered):
                try:
                    dial("ws", "127.0.0.1", port, 5, protocol=offered).sock.close()
                except ConnectionRefusedError as e:
                    check(" 400 " in str(e).splitlines()[0], "refused with %s" % e)
                else:
                    check(False, "was let in")
