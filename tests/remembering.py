"""The site of most tests with a server, and an address that tells how many statements a thread remembers."""

from tests.patient import application  # sets Django up, which comes before what follows

# isort: split
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from config import urls
from leases.models import Service

__all__ = ["application"]


@login_not_required
def remembered(request: HttpRequest) -> HttpResponse:
    assert Service.objects.count()
    return HttpResponse(str(len(connection.queries_log)))


urls.urlpatterns[:0] = [path("remembered", remembered)]
