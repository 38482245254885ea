"""What operators see and do in the Django admin."""

from leases.admin import holds, leases, operations, services, tickets

__all__ = ["holds", "leases", "operations", "services", "tickets"]
