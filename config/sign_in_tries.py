"""How many passwords somebody may try."""

import hashlib
import time
import unicodedata
from math import ceil

from django.conf import settings
from django.core.cache import caches
from django.http import HttpRequest
from rest_framework.request import Request

from config.addresses import network_of

FOR_ALL_NAMES = 5  # times as many tries from one address, where a whole office may sit


class Tries:
    """The tries of one address, with one name and with any.

    Each try takes one of as many places, and the place is free again after the rate's period. A place is
    a row that only one process can add, so the count holds across them all.
    """

    def __init__(self, request: HttpRequest | Request, name: str) -> None:
        self.address = network_of(request)
        self.name = unicodedata.normalize("NFKC", name).casefold()

    def take(self) -> int:
        """Count one more. The seconds to wait before it may be made, 0 for none."""
        if settings.SIGN_IN_RATE is None:
            return 0
        count, seconds = settings.SIGN_IN_RATE
        return _take(self._places(count), seconds) or _take(
            _places(count * FOR_ALL_NAMES, self.address), seconds
        )

    def forgive(self) -> None:
        """Free the name's places: it was them."""
        if settings.SIGN_IN_RATE is not None:
            caches["sign-in"].delete_many(self._places(settings.SIGN_IN_RATE[0]))

    def _places(self, count: int) -> list[str]:
        return _places(count, self.address, self.name)


def _places(count: int, *of: str) -> list[str]:
    key = hashlib.sha256("\0".join(of).encode(errors="surrogatepass")).hexdigest()
    return [f"{key}:{number}" for number in range(count)]


def _take(places: list[str], seconds: int) -> int:
    cache = caches["sign-in"]
    taken = cache.get_many(places)
    for place in places:
        if place not in taken and cache.add(place, time.time() + seconds, seconds):
            return 0
    ends = cache.get_many(places).values()
    return max(ceil(min(ends, default=0) - time.time()), 1)
