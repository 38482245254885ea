"""Let time pass for a lease without waiting: its own times move into the past."""

from django.db import connection

from leases.models import Lease

# As the statements write times. Django would leave out the milliseconds of a whole second, and SQLite
# compares times as texts.
_EARLIER = {
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', {column}, '-' || %(by)s || ' seconds')",
    "postgresql": "{column} - make_interval(secs => %(by)s)",
}


def let_pass(seconds: float, service: str = "lightweight-llm") -> None:
    columns = ("started_at", "last_activity_at", "expires_at")
    earlier = ", ".join(
        f"{column} = {_EARLIER[connection.vendor].format(column=column)}" for column in columns
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {Lease._meta.db_table} SET {earlier} WHERE service_id = %(service)s",  # noqa: S608 - names of ours
            {"by": seconds, "service": service},
        )
