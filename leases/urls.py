from django.urls import re_path

from leases.views import holds, leases, services, sessions, status, tickets

SERVICE = r"(?P<service_id>[-\w]{1,50})"

urlpatterns = [
    re_path(r"^services/status/?$", status.status, name="services-status"),
    re_path(r"^services/?$", services.ServiceList.as_view(), name="services"),
    re_path(rf"^services/{SERVICE}/?$", services.ServiceDetail.as_view(), name="service"),
    re_path(rf"^services/{SERVICE}/disable/?$", services.Disabling.as_view(), name="service-disable"),
    re_path(rf"^services/{SERVICE}/enable/?$", services.Enabling.as_view(), name="service-enable"),
    re_path(r"^leases/?$", leases.LeaseList.as_view(), name="leases"),
    re_path(rf"^leases/{SERVICE}/?$", leases.LeaseDetail.as_view(), name="lease"),
    re_path(rf"^leases/{SERVICE}/force-release/?$", leases.ForceRelease.as_view(), name="force-release"),
    re_path(rf"^leases/{SERVICE}/acquire/?$", sessions.Acquiring.as_view(), name="session-acquire"),
    re_path(rf"^leases/{SERVICE}/renew/?$", sessions.Renewing.as_view(), name="session-renew"),
    re_path(rf"^leases/{SERVICE}/release/?$", sessions.Releasing.as_view(), name="session-release"),
    re_path(r"^tickets/?$", tickets.TicketList.as_view(), name="tickets"),
    re_path(
        r"^tickets/(?P<ticket_id>[0-9]{1,18})/remove/?$", tickets.Removal.as_view(), name="ticket-remove"
    ),
    re_path(r"^holds/?$", holds.HoldList.as_view(), name="holds"),
]
