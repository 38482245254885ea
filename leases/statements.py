"""The SQL of the mutex and of the queue, one text for SQLite and PostgreSQL wherever they agree.

Each statement is a rule: its WHERE clause decides, the row that it returns is the verdict. Where the
two databases spell time, locks or chained writes differently, `Dialect` holds the spelling.
"""

from dataclasses import dataclass

from leases.models import Outcome


@dataclass(frozen=True)
class Dialect:
    """How one database spells the moment of the statement, arithmetic with seconds, and locks."""

    now: str
    midnight: str
    shifted: str  # {time} moved by {seconds}
    elapsed: str  # seconds from {start} to {end}
    milliseconds: str  # {time} since the epoch
    least: str
    greatest: str
    materialized: str
    locked: str
    skip_locked: str
    listed: str  # the numbers or strings of a JSON array
    heartbeats: str  # the rows of a JSON array: grants, and for how long each was idle
    head: str  # joins the first row that {condition} picks of a service's tickets, locked, as `head`
    notice: str  # a column of a hand-over: tells the waiting process
    unhurried: str  # a column: this statement's commit does not wait for the disk

    def shift(self, time: str, seconds: str) -> str:
        return self.shifted.format(time=time, seconds=seconds)

    def until(self, time: str) -> str:
        """Seconds from now to then."""
        return self.elapsed.format(start=self.now, end=time)


SQLITE = Dialect(
    now="strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')",
    midnight="date('now')",
    shifted="strftime('%%Y-%%m-%%d %%H:%%M:%%f', {time}, printf('%%+.3f seconds', {seconds}))",
    elapsed="(julianday({end}) - julianday({start})) * 86400.0",
    milliseconds="CAST(round((julianday({time}) - 2440587.5) * 86400000.0) AS integer)",
    least="min",
    greatest="max",
    materialized="",
    locked="",  # a transaction here is IMMEDIATE: nobody else writes until it ends
    skip_locked="",
    listed="(SELECT value FROM json_each(%(listed)s))",
    heartbeats="""(SELECT json_extract(value, '$.service_id') AS service_id,
                json_extract(value, '$.session_id') AS session_id, json_extract(value, '$.owner') AS owner,
                json_extract(value, '$.fencing_token') AS fencing_token,
                json_extract(value, '$.idle_for') AS idle_for
            FROM json_each(%(heartbeats)s)) AS beat""",
    head="""LEFT JOIN leases_ticket AS head ON head.id = (
                SELECT min(ticket.id) FROM leases_ticket AS ticket WHERE {condition})""",
    notice="",
    unhurried="",
)
POSTGRESQL = Dialect(
    now="statement_timestamp()",
    midnight="date_trunc('day', statement_timestamp())",
    shifted="({time} + make_interval(secs => {seconds}))",
    elapsed="CAST(EXTRACT(EPOCH FROM {end} - {start}) AS double precision)",
    milliseconds="CAST(round(EXTRACT(EPOCH FROM {time}) * 1000) AS bigint)",
    least="least",
    greatest="greatest",
    materialized="MATERIALIZED",
    locked="FOR NO KEY UPDATE",
    skip_locked="FOR UPDATE SKIP LOCKED",
    listed="(SELECT value FROM json_array_elements_text(CAST(%(listed)s AS json)))",
    heartbeats="""json_to_recordset(CAST(%(heartbeats)s AS json)) AS beat(service_id text,
                session_id text, owner text, fencing_token bigint, idle_for double precision)""",
    head="""LEFT JOIN LATERAL (
                SELECT ticket.* FROM leases_ticket AS ticket WHERE {condition}
                ORDER BY ticket.id LIMIT 1 FOR UPDATE) AS head ON TRUE""",
    notice=""", CASE WHEN head.process <> %(process)s
                THEN CAST(pg_notify('leases_' || head.process, CAST(head.id AS text)) AS text) END""",
    unhurried=", set_config('synchronous_commit', 'off', TRUE)",
)

RECENT_HOLDS = 20
STATE_COLUMNS = 15  # of `states`: the fields of `leases.status.State`


class Statements:
    """The SQL of every verb in one dialect. Lock order on PostgreSQL: the lease, then a ticket.

    Without indentation: psycopg remembers what it made of a statement up to 4096 characters only.
    """

    # Only the holder of exactly this grant: the session, whose it is, and the token it was given.
    HOLDER = """service_id = %(service_id)s AND session_id = %(session_id)s
        AND owner = %(owner)s AND fencing_token = %(fencing_token)s"""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        now, shift = dialect.now, dialect.shift
        until, milliseconds = dialect.until, dialect.milliseconds.format
        # A ticket whose caller waits. One that a caller left behind keeps its place and holds nobody up.
        live = f"ticket.expires_at > {now} AND ticket.process <> ''"
        # A session that nobody ended: by which of its two deadlines did it go, if it ever began?
        self._lapsed = lapsed = f"""CASE WHEN lease.offered_to IS NOT NULL THEN '{Outcome.UNCLAIMED}'
            WHEN {shift("lease.last_activity_at", "lease.idle_timeout")} <= lease.expires_at
            THEN '{Outcome.EXPIRED}' ELSE '{Outcome.LOST}' END"""
        self._live = live
        begun = f"""started_at = {now}, last_activity_at = {now},
                expires_at = {shift(now, f"{dialect.least}({{ttl}}, {{idle_timeout}})")}"""
        activity = f"{dialect.greatest}(last_activity_at, {shift(now, '-{idle_for}')})"
        free = f"(lease.session_id IS NULL OR lease.expires_at <= {now})"

        self.sweep = f"""
            UPDATE leases_lease AS lease
            SET session_id = NULL, waiter = NULL, ended_as = {lapsed}, ended_by = '', ended_reason = ''
            WHERE service_id IN (
                SELECT service_id FROM leases_lease
                WHERE session_id IS NOT NULL AND offered_to IS NULL AND expires_at <= {now}
                    AND service_id <> %(service_id)s
                {dialect.skip_locked}
            )"""
        # The same session again is the same grant: whoever lost the answer may ask once more.
        self.acquire = f"""
            UPDATE leases_lease AS lease SET
                session_id = %(session_id)s, owner = %(owner)s, offered_to = NULL, waiter = NULL,
                enqueued_at = NULL, fencing_token = lease.fencing_token
                    + CASE WHEN lease.session_id = %(session_id)s THEN 0 ELSE 1 END,
                ttl = its_ttl, idle_timeout = its_idle_timeout,
                {begun.format(ttl="its_ttl", idle_timeout="its_idle_timeout")},
                ended_as = {lapsed}, ended_by = '', ended_reason = ''
            FROM (
                SELECT id, coalesce(ttl, %(ttl)s) AS its_ttl,
                    coalesce(idle_timeout, %(idle_timeout)s) AS its_idle_timeout
                FROM leases_service WHERE enabled
            ) AS service
            WHERE lease.service_id = %(service_id)s AND service.id = lease.service_id AND (
                {free} AND NOT EXISTS (
                    SELECT 1 FROM leases_ticket AS ticket WHERE ticket.service_id = %(service_id)s AND {live})
                OR lease.session_id = %(session_id)s)
            RETURNING fencing_token, ttl, idle_timeout"""
        # A heartbeat that waited for its row must not take back what was granted meanwhile: hence greatest.
        renewed = f"{dialect.least}({shift(now, 'ttl')}, {shift(activity, 'idle_timeout')})"
        renewing = f"""
            last_activity_at = {activity}, expires_at = {dialect.greatest}(expires_at, {renewed})"""
        self.renew = f"""
            UPDATE leases_lease SET {renewing.format(idle_for="%(idle_for)s")}
            WHERE {self.HOLDER} AND expires_at > {now}
            RETURNING {until("expires_at")}, {milliseconds(time="expires_at")}"""
        # A lease that is being written under is left alone: the others' heartbeats do not wait for it.
        self.renew_all = f"""
            UPDATE leases_lease AS lease SET {renewing.format(idle_for="held.idle_for")}
            FROM (
                SELECT its.service_id AS id, beat.idle_for
                FROM leases_lease AS its JOIN {dialect.heartbeats}
                    ON beat.service_id = its.service_id AND beat.session_id = its.session_id
                    AND beat.owner = its.owner AND beat.fencing_token = its.fencing_token
                WHERE its.expires_at > {now}
                {dialect.skip_locked}
            ) AS held
            WHERE lease.service_id = held.id
            RETURNING session_id, {until("expires_at")}"""
        # Only in the transaction that has confirmed the lease and still has its row locked.
        self.prolong = f"""
            UPDATE leases_lease SET
                last_activity_at = {now}, expires_at = {shift(now, f"{dialect.least}(ttl, idle_timeout)")}
            WHERE {self.HOLDER}"""
        self.confirm = f"""
            SELECT expires_at FROM leases_lease
            WHERE {self.HOLDER} AND expires_at > {now} {dialect.locked}"""
        self.fate = f"""
            SELECT outcome FROM leases_hold WHERE {self.HOLDER}
            UNION ALL
            SELECT {lapsed} FROM leases_lease AS lease
            WHERE {self.HOLDER} AND expires_at <= {now}"""

        # A release that a crash of the database undoes only prolongs the lease to its expiry: whoever was
        # handed it takes it up first, with a commit that waits for the disk, and for the release with it.
        release = self._hand_over(
            self.HOLDER,
            ended_as=f"CASE WHEN lease.expires_at > {now} THEN %(ended_as)s ELSE {lapsed} END",
        )
        self.release = release + dialect.unhurried
        self.force_release = self._hand_over(
            f"service_id = %(service_id)s AND session_id = %(session_id)s AND expires_at > {now}",
            ended_as=f"'{Outcome.FORCED}'",
            ended_by="%(ended_by)s",
            ended_reason="%(reason)s",
        )
        # Whoever did not take up a grant in time has lost the place, or would be offered the next one too.
        self.pass_over = f"""
            DELETE FROM leases_ticket WHERE id = (
                SELECT offered_to FROM leases_lease
                WHERE service_id = %(service_id)s AND expires_at <= {now})"""
        # A free lease in front of a queue, or one that lapsed: whoever looks first hands it over.
        self.advance = self._hand_over(f"service_id = %(service_id)s AND {free}", ended_as=lapsed)
        # The grant was for a caller who has gone, and whose owner's next request is not there in their place.
        self.pass_on = self._hand_over(
            """service_id = %(service_id)s AND offered_to = %(ticket_id)s AND NOT EXISTS (
                SELECT 1 FROM leases_ticket WHERE id = %(ticket_id)s AND process <> '')""",
            ended_as=lapsed,
        )

        self.lock_queue = f"SELECT 1 FROM leases_service WHERE id = %(service_id)s {dialect.locked}"
        # What nobody has come back to; a place is not kept for a caller who comes back too late, or who
        # was taken out of it.
        forgotten = shift(now, "-%(ttl)s")
        self.forget = f"""
            DELETE FROM leases_ticket WHERE id IN (
                SELECT id FROM leases_ticket
                WHERE service_id = %(service_id)s AND (
                    owner = %(owner)s AND removed_at IS NOT NULL
                    OR expires_at <= {now}
                        AND (owner = %(owner)s OR process = '' OR expires_at <= {forgotten}))
                {dialect.skip_locked})"""
        self.enqueue = f"""
            INSERT INTO leases_ticket (service_id, owner, process, waiter, enqueued_at, expires_at)
            SELECT id, CAST(%(owner)s AS text), %(process)s, %(waiter)s, {now},
                {shift(now, "coalesce(service.ttl, %(ttl)s)")}
            FROM leases_service AS service
            WHERE id = %(service_id)s AND enabled AND (
                (SELECT count(*) FROM leases_ticket AS ticket WHERE service_id = %(service_id)s AND {live})
                    < coalesce(queue_limit, %(queue_limit)s)
                OR EXISTS (SELECT 1 FROM leases_ticket
                    WHERE service_id = %(service_id)s AND owner = %(owner)s))
            ON CONFLICT (service_id, owner) DO UPDATE SET
                process = excluded.process, waiter = excluded.waiter, expires_at = excluded.expires_at
            RETURNING id, {until("expires_at")}"""
        self.claim = f"""
            UPDATE leases_lease AS lease SET
                offered_to = NULL, waiter = %(waiter)s, {begun.format(ttl="ttl", idle_timeout="idle_timeout")}
            WHERE service_id = %(service_id)s AND expires_at > {now} AND (
                waiter = %(waiter)s
                OR offered_to = (
                    SELECT id FROM leases_ticket WHERE waiter = %(waiter)s AND removed_at IS NULL))
            RETURNING service_id, session_id, owner, fencing_token, ttl, idle_timeout"""
        # A ticket that is being handed over or passed over is left alone: waiting for it with others in hand
        # could be waiting for each other. It is still there, and lives long enough for the next heartbeat.
        present = f"FROM leases_ticket WHERE removed_at IS NULL AND waiter IN {dialect.listed}"
        self.keep = f"""
            UPDATE leases_ticket AS ticket
            SET expires_at = {shift(now, "coalesce(service.ttl, %(ttl)s)")}
            FROM leases_service AS service
            WHERE service.id = ticket.service_id AND ticket.id IN (
                SELECT id {present}
                {dialect.skip_locked})
            RETURNING waiter"""
        self.there = f"SELECT waiter {present}"
        self.use_up = "DELETE FROM leases_ticket WHERE waiter = %(waiter)s AND EXISTS (SELECT 1 FROM taken)"
        self.unqueue = "DELETE FROM leases_ticket WHERE waiter = %(waiter)s"
        self.step_aside = "UPDATE leases_ticket SET process = '' WHERE waiter = %(waiter)s"
        self.remove = f"""
            UPDATE leases_ticket AS ticket SET process = '', removed_at = {now}
            WHERE id = %(ticket_id)s AND {live}
            RETURNING service_id, owner"""
        self.offers = "SELECT offered_to FROM leases_lease WHERE offered_to IS NOT NULL"
        self.places = f"""
            SELECT waiter, place, offered FROM (
                SELECT ticket.waiter, coalesce(lease.offered_to, 0) = ticket.id AS offered,
                    row_number() OVER (PARTITION BY ticket.service_id ORDER BY ticket.id) AS place
                FROM leases_ticket AS ticket
                JOIN leases_lease AS lease ON lease.service_id = ticket.service_id
                WHERE {live}
            ) AS queue
            WHERE waiter IN {dialect.listed}"""
        span = dialect.elapsed.format(start="started_at", end="ended_at")
        self.states = f"""
            SELECT service.id, service.status_key, service.name, service.enabled, service.busy_message,
                service.own_busy_message, service.disabled_message, lease.session_id, lease.owner,
                {milliseconds(time="lease.started_at")}, {milliseconds(time="lease.last_activity_at")},
                {until("lease.expires_at")}, {milliseconds(time=now)},
                (SELECT count(*) FROM leases_ticket AS ticket
                    WHERE ticket.service_id = service.id AND {live}),
                (SELECT span FROM (
                    SELECT span, row_number() OVER (ORDER BY span) AS place, count(*) OVER () AS spans
                    FROM (
                        SELECT {span} AS span FROM leases_hold
                        WHERE service_id = service.id AND outcome <> '{Outcome.UNCLAIMED}'
                        ORDER BY ended_at DESC LIMIT {RECENT_HOLDS}
                    ) AS recent
                ) AS ordered WHERE place = (spans + 1) / 2)
            FROM leases_service AS service
            LEFT JOIN leases_lease AS lease ON lease.service_id = service.id
                AND lease.session_id IS NOT NULL AND lease.expires_at > {now}
            ORDER BY service.id"""

        # What was taken or, if nothing was, the state of the service: a refusal needs no second statement.
        nothing = ", ".join(["NULL"] * STATE_COLUMNS)
        self.taken_or_state = f"""
            SELECT CAST(NULL AS bigint) AS token, CAST(NULL AS double precision) AS ttl,
                CAST(NULL AS double precision) AS idle_timeout, state.*
            FROM ({self.states}) AS state
            WHERE id = %(service_id)s AND NOT EXISTS (SELECT 1 FROM taken)
            UNION ALL
            SELECT taken.*, {nothing} FROM taken"""

        wait = f"coalesce({dialect.elapsed.format(start='enqueued_at', end='started_at')}, 0)"
        self.today = f"""
            SELECT service_id, max(holds), max(CASE WHEN by_span = (holds + 1) / 2 THEN span END), max(span),
                max(CASE WHEN by_wait = (holds + 1) / 2 THEN wait END), max(wait)
            FROM (
                SELECT service_id, span, wait,
                    count(*) OVER (PARTITION BY service_id) AS holds,
                    row_number() OVER (PARTITION BY service_id ORDER BY span) AS by_span,
                    row_number() OVER (PARTITION BY service_id ORDER BY wait) AS by_wait
                FROM (
                    SELECT service_id, {span} AS span, {wait} AS wait FROM leases_hold
                    WHERE ended_at >= {dialect.midnight} AND outcome <> '{Outcome.UNCLAIMED}'
                ) AS held
            ) AS ordered
            GROUP BY service_id"""

        for name, text in vars(self).items():
            if isinstance(text, str):
                setattr(self, name, "\n".join(line.strip() for line in text.strip().splitlines()))

    def _hand_over(
        self, ending: str, *, ended_as: str, ended_by: str = "''", ended_reason: str = "''"
    ) -> str:
        """End the session that `ending` picks and grant the lease to the first in the queue, if there is one.

        One statement, so that nobody comes in between. The granted session is `next_session`; it has
        `offer` seconds to be taken up, and no longer than its ticket lives. The lease is locked before
        the ticket; a ticket that is just leaving is waited for, and then is not there.
        """
        dialect = self._dialect
        now, shift = dialect.now, dialect.shift
        first = dialect.head.format(
            condition=f"""ticket.service_id = ending.service_id AND service.enabled AND {self._live}
                    AND (ending.passed IS NULL OR ticket.id <> ending.passed)"""
        )
        return f"""
            WITH ending AS {dialect.materialized} (
                SELECT service_id, offered_to AS passed FROM leases_lease AS lease
                WHERE {ending} {dialect.locked}
            )
            UPDATE leases_lease AS lease SET
                session_id = CASE WHEN head.id IS NULL THEN NULL ELSE %(next_session)s END,
                owner = coalesce(head.owner, lease.owner),
                offered_to = head.id, waiter = NULL, enqueued_at = head.enqueued_at,
                fencing_token = lease.fencing_token + CASE WHEN head.id IS NULL THEN 0 ELSE 1 END,
                ttl = coalesce(service.ttl, %(ttl)s),
                idle_timeout = coalesce(service.idle_timeout, %(idle_timeout)s),
                started_at = {now}, last_activity_at = {now},
                expires_at = {dialect.least}({shift(now, "%(offer)s")}, coalesce(head.expires_at, {now})),
                ended_as = {ended_as}, ended_by = {ended_by}, ended_reason = {ended_reason}
            FROM ending JOIN leases_service AS service ON service.id = ending.service_id
                {first}
            WHERE lease.service_id = ending.service_id
                AND (lease.session_id IS NOT NULL OR head.id IS NOT NULL)
            RETURNING ended_as, offered_to{dialect.notice}"""


STATEMENTS = {"sqlite": Statements(SQLITE), "postgresql": Statements(POSTGRESQL)}
