"""The site of most tests with a server: its engines are loaded by the first question that needs them, and
passwords are hashed once.

A server loads both a moment after its start, and hashes a million times, at the cost of seconds on a machine
that runs tests.
"""

from config.asgi import application

# isort: split
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from config import lifespan

PBKDF2PasswordHasher.iterations = 1
lifespan.WARM_UP_AFTER = 3600.0

__all__ = ["application"]
