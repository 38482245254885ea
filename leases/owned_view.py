"""The base of every view that serves somebody in particular."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponseBase
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from leases.owners import brings_nothing, owner_of


class OwnedView(APIView):
    """A DRF view, sync or async, that knows its caller: `self.owner`, None for a stranger.

    An async one goes to a thread where the database may be asked, and for nothing else: a caller who brings
    nothing to be known by needs none.
    """

    owner: str | None
    costly_methods: tuple[str, ...] = ()  # of which strangers may be allowed so many in so much time
    _async: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._async = bool(cls.view_is_async)  # looks at every method each time

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.owner = owner_of(request)
        if not brings_nothing(request):
            connection.close()  # what comes next may take minutes: see leases.database

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if self._async:
            return self._dispatch_async(request, *args, **kwargs)
        return super().dispatch(request, *args, **kwargs)

    async def _dispatch_async(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.args, self.kwargs = args, kwargs
        self.headers = self.default_response_headers
        self.request = self.initialize_request(request, *args, **kwargs)
        try:
            if brings_nothing(request):
                self.initial(self.request, *args, **kwargs)
            else:
                await sync_to_async(self.initial)(self.request, *args, **kwargs)
            handler = self._handler()
            if iscoroutinefunction(handler):
                response = await handler(self.request, *args, **kwargs)
            else:
                response = await sync_to_async(handler)(self.request, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as DRF does: what it does not know comes out again
            response = self.handle_exception(error)
        final = self.finalize_response(self.request, response, *args, **kwargs)
        if isinstance(final, Response) and isinstance(final.accepted_renderer, JSONRenderer):
            final.render()
            final.render = None  # type: ignore[method-assign, assignment]  # Django would do it in a thread
        self.response = final
        return final

    def _handler(self) -> Callable[..., Any]:
        method = (self.request.method or "").lower()
        named = method if method in self.http_method_names else ""
        handler: Callable[..., Any] = getattr(self, named, self.http_method_not_allowed)
        return handler
