"""What can go wrong with a lease. Messages are sentences for the person who waits."""


class LeaseError(Exception):
    """The root of everything that this app raises."""


class ServiceBusy(LeaseError):  # noqa: N818 - the field's word for a refusal, not an error
    """The service cannot be had now.

    `reason` is "busy", "disabled", "queue_full" or "wait_timeout", `retry_after` whole seconds,
    `service` the service's id, `queue_length` how many wait for it.
    """

    def __init__(
        self, message: str, *, service: str, reason: str, retry_after: int, queue_length: int = 0
    ) -> None:
        super().__init__(message)
        self.service = service
        self.reason = reason
        self.retry_after = retry_after
        self.queue_length = queue_length


class LeaseLost(LeaseError):  # noqa: N818
    """The session ended while its holder still worked; nothing more may be written under it.

    `outcome` is how it ended: "expired", "lost", "forced", or "released" by another hand of its owner.
    """

    SENTENCES = {
        "released": "Your session was given back before it was done. Please try again.",
        "expired": "Your session expired because nothing happened for too long. Please try again.",
        "lost": "Your session was lost because the server could not keep it alive. Please try again.",
        "forced": "Your session was ended by an administrator. Please try again later.",
    }

    def __init__(self, service: str, outcome: str) -> None:
        super().__init__(self.SENTENCES[outcome])
        self.service = service
        self.outcome = outcome


class LeaseInTransaction(LeaseError):  # noqa: N818
    """A lease verb was called inside an open transaction, which could hide it or roll it back."""

    def __init__(self) -> None:
        super().__init__(
            "Leases cannot be taken, renewed or given back inside an open transaction: a rollback would "
            "undo what others already rely on. Commit first, then call."
        )


class UnknownService(LeaseError):  # noqa: N818
    """No service has this id."""

    def __init__(self, service: str) -> None:
        super().__init__(f"There is no service called {service!r}. The admin lists the services that exist.")
        self.service = service
