"""What stands in front of the nodes' links: a proxy for each, that is slow, stands still, or breaks connections.

Why: the kernels of test machines have no netem. Datagrams pass as they are, or every fault of a link would be taken for
a machine's. All proxies run in one thread, an asyncio loop."""

import asyncio
import socket
import struct
import threading

from kit import check
from lib.hosts import HERE

LINKS = 7000  # where nodes listen for each other
BREAK_SECONDS = 0.01  # after the last bytes


class Line:
    """In front of one node's links: what comes to `port` here goes on to the node, later by `delay` seconds. Datagrams
    pass as they are."""

    def __init__(self, port, ip, loop):
        self.port, self.to, self.loop = port, (ip, LINKS), loop
        self.delay, self.going, self.whole, self.cut_after = 0.0, asyncio.Event(), set(), None
        self.cuts = 0
        self.going.set()

    async def open(self):
        self.server = await asyncio.start_server(self.accept, HERE, self.port)
        self.datagrams, _ = await self.loop.create_datagram_endpoint(lambda: Datagrams(self),
                                                                     local_addr=(HERE, self.port))

    async def accept(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.to)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, far_writer)
        for w in both:
            w.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.whole.add(both)
        try:
            await asyncio.gather(self.pump(reader, far_writer, both), self.pump(far_reader, writer, both))
        finally:
            self.whole.discard(both)
            for w in both:
                w.transport.abort()

    async def pump(self, reader, writer, both):
        """Bytes one way, each as late as the others; a time and the bytes wait in a queue."""
        queue = asyncio.Queue(256)
        sender = asyncio.ensure_future(self.send(queue, writer, both))
        try:
            while data := await reader.read(65536):
                await queue.put((self.loop.time() + self.delay, data))
        except OSError:
            pass
        await queue.put((self.loop.time() + self.delay, None))
        await sender

    async def send(self, queue, writer, both):
        data = b""
        while data is not None:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - self.loop.time()))
            await self.going.wait()
            if data is None or both not in self.whole or writer.transport.is_closing():
                self.loop.call_later(BREAK_SECONDS, writer.transport.abort)
                continue  # what else is read has nowhere to go
            if self.cut_after is not None:
                self.cut_after -= len(data)
                if self.cut_after < 0:
                    writer.write(data[:self.cut_after])
                    self.break_off(both)
                    continue  # nothing more: the rest of a frame must be missing, not its middle
            writer.write(data)

    def break_off(self, both):
        """With a reset to both sides, when what has been written so far may have gone out."""
        self.cut_after, self.cuts = None, self.cuts + 1
        self.whole.discard(both)
        for w in both:
            if not w.transport.is_closing():
                w.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.loop.call_later(BREAK_SECONDS, w.transport.abort)


class Datagrams(asyncio.DatagramProtocol):
    """Each sender gets a socket of its own, so that answers find back."""

    def __init__(self, line, back=None):
        self.line, self.back, self.ends = line, back, {}

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        if self.back:
            self.back(data)
        elif address in self.ends:
            self.ends[address].sendto(data)
        else:
            self.line.loop.create_task(self.begin(data, address))

    async def begin(self, data, address):
        self.ends[address], _ = await self.line.loop.create_datagram_endpoint(
            lambda: Datagrams(self.line, lambda answer: self.transport.sendto(answer, address)), remote_addr=self.line.to)
        self.ends[address].sendto(data)


class Lines:
    def __init__(self, lab, count):
        self.loop, self.errors = asyncio.new_event_loop(), []
        self.loop.set_exception_handler(lambda loop, context: self.errors.append("%s" % context))
        self.lines = [Line(LINKS + i, lab.address(11 + i), self.loop) for i in range(count)]
        for line in self.lines:
            self.loop.run_until_complete(line.open())
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        lab.loads.append(self)

    def addresses(self):
        return ["%s:%d" % (HERE, line.port) for line in self.lines]

    def each(self, do):
        """Do this to each line, in their thread, and wait."""
        done = threading.Event()

        def work():
            for line in self.lines:
                do(line)
            done.set()
        self.loop.call_soon_threadsafe(work)
        check(done.wait(30), "the proxy stands still")

    async def end(self):
        self.loop.set_exception_handler(lambda loop, context: None)  # that tasks are cancelled
        for line in self.lines:
            line.server.close()
            line.datagrams.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.loop.stop()

    def stop(self):
        asyncio.run_coroutine_threadsafe(self.end(), self.loop)
        self.thread.join(30)
        self.loop.close()
