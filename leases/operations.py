"""What operators do, each recorded with who did it, when and why.

What changed is recorded, not what was tried: a session that had ended by itself leaves no record.
"""

import logging

from django.db import transaction

from leases import mutex, owners
from leases.models import Deed, Lease, Operation, Service
from leases.status import public_id

logger = logging.getLogger(__name__)


def force_release(service_id: str, fencing_token: int, *, actor: str, reason: str) -> bool:
    """End the session that was granted under this token; False if it has ended already.

    A successor's session, which has another token, is never touched. Raises LeaseInTransaction.
    """
    held = Lease.objects.live().filter(service_id=service_id, fencing_token=fencing_token)
    session = held.values_list("session_id", "owner").first()
    if session is None or session[0] is None:
        return False
    if not mutex.force_release(service_id, session[0], by=actor, reason=reason):
        return False
    about = {"service": service_id, "session": public_id(session[0]), "fencing_token": fencing_token}
    logger.info("forced", extra={"about": {**about, "owner": owners.shown(session[1])}})
    _record(Deed.FORCE_RELEASE, service_id, actor=actor, reason=reason, subject=session[1])
    return True


def remove(ticket_id: int, *, actor: str, reason: str) -> bool:
    """Take somebody out of the queue; False if nobody waits there any more. Raises LeaseInTransaction."""
    removed = mutex.remove(ticket_id)
    if removed is None:
        return False
    service_id, owner = removed
    _record(Deed.REMOVE, service_id, actor=actor, reason=reason, subject=owner)
    return True


def disable(service_id: str, *, actor: str, note: str) -> bool:
    """Switch a service off: whoever comes or waits reads the note, whoever holds it may finish.

    False if it was off already; the note is then left as it was.
    """
    with transaction.atomic():
        service = Service.objects.filter(pk=service_id, enabled=True)
        if not service.update(enabled=False, disabled_message=note):
            return False
        _record(Deed.DISABLE, service_id, actor=actor, reason=note)
    return True


def enable(service_id: str, *, actor: str, reason: str) -> bool:
    """Switch a service on again; False if it was on."""
    with transaction.atomic():
        if not Service.objects.filter(pk=service_id, enabled=False).update(enabled=True):
            return False
        _record(Deed.ENABLE, service_id, actor=actor, reason=reason)
    return True


def _record(deed: Deed, service_id: str, *, actor: str, reason: str, subject: str = "") -> None:
    Operation.objects.create(deed=deed, service_id=service_id, actor=actor, reason=reason, subject=subject)
