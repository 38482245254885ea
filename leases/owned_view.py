"""The base of every view that serves somebody in particular."""

from typing import Any

from adrf.views import APIView as AsyncView
from django.db import connection
from rest_framework.request import Request

from leases.owners import owner_of


class OwnedView(AsyncView):
    """A DRF view, sync or async, that knows its caller: `self.owner`, None for a stranger.

    DRF runs `initial` in a thread, where the session may be read.
    """

    owner: str | None
    costly_methods: tuple[str, ...] = ()  # of which strangers may be allowed so many in so much time

    def check_throttles(self, request: Request) -> None:
        # DRF's own: adrf's goes to the event loop and back, for throttles that are not async.
        super(AsyncView, self).check_throttles(request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.owner = owner_of(request)
        connection.close()  # what comes next may take minutes: see leases.database
