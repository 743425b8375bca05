#!/usr/bin/env python3
"""A link of a given rate and delay: a proxy on the loopback interface in front of one address.

    link.py HOST:PORT BYTES_PER_SECOND DELAY_SECONDS

Prints its own address and serves until it is killed. What goes to the server is delayed once, so that a round trip
takes that long; both directions have the given rate, each shared by all connections.
"""
import asyncio
import sys

CHUNK = 128 << 10


class Rate:
    """When the next bytes may have passed, if all connections take turns."""

    def __init__(self, per_second):
        self.per_second, self.free_at = per_second, 0.0

    async def passed(self, count):
        loop = asyncio.get_running_loop()
        self.free_at = max(self.free_at, loop.time()) + count / self.per_second
        wait = self.free_at - loop.time()
        # What is due within a millisecond is sent now: no timer is finer.
        if wait > 0.001:
            await asyncio.sleep(wait)


async def pump(reader, writer, rate, delay):
    """Bytes in their order, each `delay` after it came and not faster than the rate."""
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue(64)

    async def fill():
        try:
            while data := await reader.read(CHUNK):
                await queue.put((loop.time() + delay, data))
        except OSError:
            pass
        await queue.put((0, b""))

    filling = asyncio.create_task(fill())
    try:
        while True:
            due, data = await queue.get()
            if not data:
                break
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await rate.passed(len(data))
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        filling.cancel()


async def main():
    target, per_second, delay = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    host, port = target.rsplit(":", 1)
    up, down = Rate(per_second), Rate(per_second)

    async def serve(reader, writer):
        try:
            server_reader, server_writer = await asyncio.open_connection(host, int(port), limit=4 * CHUNK)
        except OSError:
            writer.close()
            return
        # HTTP needs both directions: where one ends, the connection has ended.
        pumps = [asyncio.create_task(pump(reader, server_writer, up, delay)),
                 asyncio.create_task(pump(server_reader, writer, down, 0))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for one in pumps:
            one.cancel()
        for one in (server_writer, writer):
            one.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=4 * CHUNK)
    print(":".join(map(str, server.sockets[0].getsockname())), flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
