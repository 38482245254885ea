"""Services, the one lease that guards each, the queue in front of it, and the history of who held it.

Only `leases.mutex` writes leases and tickets; a database trigger writes a `Hold` whenever a session
leaves its lease, so that no way of ending one can forget its history.
"""

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Now


class Service(models.Model):
    """A scarce Python service that one caller at a time may use."""

    id = models.SlugField(
        primary_key=True, help_text="The name that programs use, for example lightweight-llm."
    )
    status_key = models.CharField(max_length=50, unique=True, help_text="Its key in /api/services/status.")
    name = models.CharField(max_length=100)
    busy_message = models.CharField(
        max_length=300, help_text="What people read while somebody else uses it. Say what to do next."
    )
    own_busy_message = models.CharField(
        max_length=300, help_text="What people read when they are themselves the ones who use it."
    )
    enabled = models.BooleanField(default=True, help_text="A disabled service refuses new sessions.")
    disabled_message = models.CharField(
        max_length=300,
        default="This service is switched off at the moment. Please try again later.",
        help_text="What people read while the service is disabled.",
    )
    ttl = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.1)],
        help_text="Seconds that a lease outlives its holder's last heartbeat. Empty: LEASE_TTL.",
    )
    idle_timeout = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.1)],
        help_text="Seconds without activity after which a session ends. Empty: LEASE_IDLE_TIMEOUT.",
    )
    queue_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="How many may wait at once. Empty: LEASE_QUEUE_LIMIT."
    )

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name


class Outcome(models.TextChoices):
    """How a session ended."""

    RELEASED = "released", "released by its holder"
    EXPIRED = "expired", "expired: no activity for the idle timeout"
    LOST = "lost", "lost: no heartbeat for the TTL"
    FORCED = "forced", "ended by an operator"
    UNCLAIMED = "unclaimed", "not taken up by the waiting caller whose turn it was"


class LeaseQuerySet(models.QuerySet["Lease"]):
    def live(self) -> "LeaseQuerySet":
        """Leases that somebody holds at this moment, by the database's clock."""
        return self.filter(session_id__isnull=False, expires_at__gt=Now())


class Lease(models.Model):
    """The mutex of one service: free when `session_id` is null or `expires_at` has passed.

    `expires_at` is the earlier of the last heartbeat plus the TTL and the last activity plus the idle
    timeout, both in seconds as they were when the lease was granted. `fencing_token` rises by one at
    every grant and never falls. The `ended_…` columns say how the latest session to end did so; the
    statement that ends a session sets them for the trigger.

    A release grants the lease to the first in the queue: `offered_to` is that ticket's id until its
    process takes the grant up, and `waiter` the request that did.
    """

    service = models.OneToOneField(Service, on_delete=models.PROTECT, primary_key=True)
    session_id = models.CharField(max_length=32, null=True, editable=False)  # noqa: DJ001 - null is "free"
    owner = models.CharField(max_length=80, editable=False, default="")
    fencing_token = models.BigIntegerField(default=0, editable=False)
    ttl = models.FloatField(default=0, editable=False)
    idle_timeout = models.FloatField(default=0, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    last_activity_at = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(null=True, editable=False)
    offered_to = models.BigIntegerField(null=True, editable=False)
    waiter = models.CharField(max_length=32, null=True, editable=False)  # noqa: DJ001 - null is "nobody waited"
    ended_as = models.CharField(max_length=10, choices=Outcome, default=Outcome.RELEASED, editable=False)
    ended_by = models.CharField(max_length=150, default="", editable=False)
    ended_reason = models.CharField(max_length=300, default="", editable=False)

    objects = LeaseQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="lease_held_has_times",
                condition=models.Q(session_id__isnull=True)
                | models.Q(
                    started_at__isnull=False, last_activity_at__isnull=False, expires_at__isnull=False
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"lease of {self.service_id}"


class TicketQuerySet(models.QuerySet["Ticket"]):
    def live(self) -> "TicketQuerySet":
        """Tickets whose callers wait at this moment, by the database's clock."""
        return self.filter(expires_at__gt=Now()).exclude(process="")


class Ticket(models.Model):
    """A place in the queue of one service; the lower `id` is served first.

    `waiter` is the one request that waits on it, in the server process `process`, which keeps the ticket
    alive by heartbeats. A caller whose connection drops leaves the ticket without a process: nobody
    waits for it, and until it expires the caller may come back to the same place.
    """

    service = models.ForeignKey(Service, on_delete=models.PROTECT)
    owner = models.CharField(max_length=80)
    process = models.CharField(max_length=32)
    waiter = models.CharField(max_length=32, unique=True)
    enqueued_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    objects = TicketQuerySet.as_manager()

    class Meta:
        ordering = ("id",)
        indexes = [models.Index(fields=["service", "id"], name="ticket_order")]
        constraints = [models.UniqueConstraint(fields=["service", "owner"], name="ticket_once")]

    def __str__(self) -> str:
        return f"{self.owner} waits for {self.service_id}"


class Hold(models.Model):
    """One ended session: who held which service, when, and how it ended."""

    service = models.ForeignKey(Service, on_delete=models.PROTECT)
    session_id = models.CharField(max_length=32, unique=True)
    owner = models.CharField(max_length=80)
    fencing_token = models.BigIntegerField()
    started_at = models.DateTimeField()
    last_activity_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    outcome = models.CharField(max_length=10, choices=Outcome)
    ended_by = models.CharField(max_length=150, blank=True, help_text="The operator who ended it by force.")
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [models.Index(fields=["service", "-ended_at"], name="hold_recent")]
        constraints = [
            models.UniqueConstraint(fields=["service", "fencing_token"], name="hold_token_once"),
        ]

    def __str__(self) -> str:
        return f"{self.service_id} held by {self.owner}, {self.outcome}"
