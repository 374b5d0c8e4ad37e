"""A client that listens to the $SYS topics; shared by the tests of statistics and the storms."""

from kit import eventually
from lib.mqtt import PUBLISH, Client, Failure

PREFIX = "$SYS/broker/"


class SysTopics:
    """values: what each topic below $SYS/broker/ said last, as text. fresh() waits for a whole new round."""

    def __init__(self, port):
        self.client, self.values, self.rounds = Client(port, version=4, name="sys"), {}, 0
        self.client.open(keep_alive=0)
        self.client.subscribe("$SYS/#")

    def read(self, seconds=0.05):
        """Take in what has come."""
        try:
            while True:
                p = self.client.receive(seconds)
                if p is None:
                    raise AssertionError("the connection that reads $SYS was closed")
                if p.type == PUBLISH and p.topic.startswith(PREFIX):
                    self.values[p.topic[len(PREFIX):]] = p.payload.decode()
                    self.rounds += p.topic == PREFIX + "uptime"
        except Failure as e:
            if "nothing came" not in str(e):
                raise
        self.client.log.clear()

    def fresh(self, rounds=2, seconds=20):
        """Wait for so many new rounds, the last of them whole, and return the values."""
        want = self.rounds + rounds

        def done():
            self.read()
            return self.rounds >= want
        eventually("a new round of $SYS", done, seconds)
        self.read(0.2)
        return self.values

    def number(self, name):
        return int(float(self.values[name]))

    def until(self, what, condition, seconds=20):
        """Wait until condition(self) holds."""
        def done():
            self.read()
            return condition(self)
        try:
            eventually(what, done, seconds)
        except AssertionError as e:
            raise AssertionError("%s; $SYS says %r" % (e, {k: v for k, v in sorted(self.values.items())
                                                         if not k.startswith("load/")})) from None

    def close(self):
        self.client.close()
