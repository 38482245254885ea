"""Services, the one lease that guards each, the queue in front of it, and the history of who held it.

Only `leases.mutex` writes leases and tickets; a database trigger writes a `Hold` whenever a session
leaves its lease, so that no way of ending one can forget its history.
"""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

SECONDS_MOST = 999_999_999
"""Of a timeout: about thirty years, a time that every database can add to its own."""


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
        validators=[MinValueValidator(0.1), MaxValueValidator(SECONDS_MOST)],
        help_text="Seconds that a lease outlives its holder's last heartbeat. Empty: LEASE_TTL.",
    )
    idle_timeout = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.1), MaxValueValidator(SECONDS_MOST)],
        help_text="Seconds without activity after which a session ends. Empty: LEASE_IDLE_TIMEOUT.",
    )
    queue_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="How many may wait at once. Empty: LEASE_QUEUE_LIMIT."
    )

    class Meta:
        ordering = ("id",)
        permissions = [
            ("disable_service", "Can switch a service off"),
            ("enable_service", "Can switch a service on"),
        ]

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
    process takes the grant up, and `waiter` the request that did. `enqueued_at` is when the holder began
    to wait, null for one who did not have to.
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
    enqueued_at = models.DateTimeField(null=True, editable=False)
    ended_as = models.CharField(max_length=10, choices=Outcome, default=Outcome.RELEASED, editable=False)
    ended_by = models.CharField(max_length=150, default="", editable=False)
    ended_reason = models.CharField(max_length=300, default="", editable=False)

    objects = LeaseQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        permissions = [("force_release", "Can end a session by force")]
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
    def for_owner(self, owner: str | None) -> "TicketQuerySet":
        """What this owner may see."""
        return self.none() if owner is None else self.filter(owner=owner)

    def live(self) -> "TicketQuerySet":
        """Tickets whose callers wait at this moment, by the database's clock."""
        return self.filter(expires_at__gt=Now()).exclude(process="")


class Ticket(models.Model):
    """A place in the queue of one service; the lower `id` is served first.

    `waiter` is the one request that waits on it, in the server process `process`, which keeps the ticket
    alive by heartbeats. A caller whose connection drops leaves the ticket without a process: nobody
    waits for it, and until it expires the caller may come back to the same place. A ticket that an
    operator removed stands for one TTL, without a process, so that its request learns what happened.
    """

    service = models.ForeignKey(Service, on_delete=models.PROTECT)
    owner = models.CharField(max_length=80)
    process = models.CharField(max_length=32)
    waiter = models.CharField(max_length=32, unique=True)
    enqueued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True, editable=False)

    objects = TicketQuerySet.as_manager()

    class Meta:
        ordering = ("id",)
        default_permissions = ("view",)
        permissions = [("remove_from_queue", "Can take somebody out of the queue")]
        indexes = [models.Index(fields=["service", "id"], name="ticket_order")]
        constraints = [models.UniqueConstraint(fields=["service", "owner"], name="ticket_once")]

    def __str__(self) -> str:
        return f"{self.owner} waits for {self.service_id}"


class HoldQuerySet(models.QuerySet["Hold"]):
    def for_owner(self, owner: str | None) -> "HoldQuerySet":
        """What this owner may see."""
        return self.none() if owner is None else self.filter(owner=owner)


class Hold(models.Model):
    """One ended session: who held which service, when, and how it ended."""

    service = models.ForeignKey(Service, on_delete=models.PROTECT)
    session_id = models.CharField(max_length=32, unique=True)
    owner = models.CharField(max_length=80)
    fencing_token = models.BigIntegerField()
    enqueued_at = models.DateTimeField(null=True, help_text="When its owner began to wait; empty: no wait.")
    started_at = models.DateTimeField()
    last_activity_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    outcome = models.CharField(max_length=10, choices=Outcome)
    ended_by = models.CharField(max_length=150, blank=True, help_text="The operator who ended it by force.")
    reason = models.CharField(max_length=300, blank=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        permissions = [("export_hold", "Can download the history")]
        indexes = [
            models.Index(fields=["service", "-ended_at"], name="hold_recent"),
            models.Index(fields=["owner", "-id"], name="hold_of_owner"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["service", "fencing_token"], name="hold_token_once"),
        ]

    def __str__(self) -> str:
        return f"{self.service_id} held by {self.owner}, {self.outcome}"


class Tally(models.Model):
    """All sessions of a service that ended in one way, ever: what is left when `Hold` rows are pruned.

    The trigger that writes the history keeps it. Times are seconds; sessions that nobody took up count
    as sessions only.
    """

    service = models.ForeignKey(Service, on_delete=models.PROTECT)
    outcome = models.CharField(max_length=10, choices=Outcome)
    sessions = models.BigIntegerField()
    held_seconds = models.FloatField()
    waited_seconds = models.FloatField()

    class Meta:
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(fields=["service", "outcome"], name="tally_once")]

    def __str__(self) -> str:
        return f"{self.sessions} sessions of {self.service_id} {self.outcome}"


class Deed(models.TextChoices):
    """What an operator can do to a service."""

    FORCE_RELEASE = "force_release", "ended a session by force"
    REMOVE = "remove", "took somebody out of the queue"
    DISABLE = "disable", "switched the service off"
    ENABLE = "enable", "switched the service on"


class Operation(models.Model):
    """Something that an operator did: who, when, to which service and whose session or place, and why.

    `actor` is a user's name, or "shell:NAME" for the command line.
    """

    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=150)
    deed = models.CharField(max_length=20, choices=Deed)
    service = models.ForeignKey(Service, on_delete=models.PROTECT)
    subject = models.CharField(max_length=80, blank=True, help_text="Whose session or place it was.")
    reason = models.CharField(max_length=300)

    class Meta:
        ordering = ("-id",)
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(name="operation_has_reason", condition=~models.Q(reason="")),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.get_deed_display()}: {self.service_id}"
