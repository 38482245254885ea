"""Database work for those who watch: a database that hangs must not make them wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from leases.database import returning

T = TypeVar("T")

PATIENCE = 2.0  # seconds

# So many of them may hang at once; a watcher who comes then waits its two seconds for nothing.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="monitoring")


async def asked(question: Callable[[], T]) -> T:
    """What the database answers. Raises TimeoutError, and what the question raises."""
    asking = asyncio.get_running_loop().run_in_executor(_threads, returning, question)
    return await asyncio.wait_for(asking, PATIENCE)
