"""The site of most tests with a server: its engines are loaded by the first question that needs them.

A server loads both a moment after its start, at the cost of seconds on a machine that runs tests.
"""

from config.asgi import application

# isort: split
from config import lifespan

lifespan.WARM_UP_AFTER = 3600.0

__all__ = ["application"]
