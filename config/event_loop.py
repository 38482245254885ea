"""asyncio's event loop for server processes whose listening socket another process has made.

With several workers uvicorn makes the socket without naming its protocol. asyncio then does not know the
connections for TCP's and leaves Nagle's algorithm on: an answer on a connection that is kept waits 40 ms for
the other side's delayed acknowledgement (https://github.com/Kludex/uvicorn/issues/3149).
"""

import asyncio
import socket
from typing import Any


class EventLoop(asyncio.SelectorEventLoop):
    """For uvicorn's `--loop`."""

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> asyncio.Server:
        """As asyncio's; what is accepted from a TCP socket `sock` sends at once."""
        listening: socket.socket | None = options.get("sock")
        if listening is not None and listening.family in (socket.AF_INET, socket.AF_INET6):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        server: asyncio.Server = await super().create_server(protocol_factory, *args, **options)
        return server
