"""libmosquitto and Eclipse Paho C: the programs beside this file, compiled into build/e2e and run once a version."""

from kit import build_c, check_equal

SCENARIOS = ["ok every QoS", "ok retained", "ok will", "ok session"]


def run_client(ctx, source, library):
    program, broker = build_c(source, [library]), ctx.broker()
    for version in (3, 4, 5):
        out = ctx.run([program, str(broker.port), str(version)], 120)
        check_equal(out.splitlines(), SCENARIOS + (["ok properties"] if version == 5 else []), "version %d" % version)
        broker.restart()  # what is retained and which sessions exist must not reach the next round


def test_libmosquitto(ctx):
    run_client(ctx, "libmosquitto_client.c", "mosquitto")


def test_paho_c(ctx):
    run_client(ctx, "paho_c_client.c", "paho-mqtt3c")
