"""The trigger also writes how long the holder had waited, and adds each ended session to its tally."""

from importlib import import_module

from django.db import migrations

first = import_module("leases.migrations.0002_hold_trigger")

COLUMNS = """
    (service_id, session_id, owner, fencing_token, enqueued_at, started_at, last_activity_at,
     ended_at, outcome, ended_by, reason)
"""
VALUES = """
    OLD.service_id, OLD.session_id, OLD.owner, OLD.fencing_token, OLD.enqueued_at, OLD.started_at,
    OLD.last_activity_at, {ended}, NEW.ended_as, NEW.ended_by, NEW.ended_reason
"""
# A session that nobody took up neither held nor waited to any purpose.
TALLY = """
    INSERT INTO leases_tally (service_id, outcome, sessions, held_seconds, waited_seconds)
    VALUES (OLD.service_id, NEW.ended_as, 1,
        CASE WHEN OLD.offered_to IS NULL THEN {held} ELSE 0 END,
        CASE WHEN OLD.offered_to IS NULL THEN coalesce({waited}, 0) ELSE 0 END)
    ON CONFLICT (service_id, outcome) DO UPDATE SET
        sessions = leases_tally.sessions + 1,
        held_seconds = leases_tally.held_seconds + excluded.held_seconds,
        waited_seconds = leases_tally.waited_seconds + excluded.waited_seconds
"""

SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
SQLITE_ENDED = f"CASE WHEN OLD.expires_at < {SQLITE_NOW} THEN OLD.expires_at ELSE {SQLITE_NOW} END"
SQLITE_SPAN = "(julianday({end}) - julianday({start})) * 86400.0"
SQLITE_TALLY = TALLY.format(
    held=SQLITE_SPAN.format(start="OLD.started_at", end=SQLITE_ENDED),
    waited=SQLITE_SPAN.format(start="OLD.enqueued_at", end="OLD.started_at"),
)
SQLITE = f"""
CREATE TRIGGER leases_hold_written AFTER UPDATE OF session_id ON leases_lease
WHEN OLD.session_id IS NOT NULL AND NEW.session_id IS NOT OLD.session_id
BEGIN
    INSERT INTO leases_hold {COLUMNS} VALUES ({VALUES.format(ended=SQLITE_ENDED)});
    {SQLITE_TALLY};
END
"""

POSTGRESQL_SPAN = "CAST(EXTRACT(EPOCH FROM {end} - {start}) AS double precision)"
POSTGRESQL_TALLY = TALLY.format(
    held=POSTGRESQL_SPAN.format(start="OLD.started_at", end="ended"),
    waited=POSTGRESQL_SPAN.format(start="OLD.enqueued_at", end="OLD.started_at"),
)
POSTGRESQL = f"""
CREATE OR REPLACE FUNCTION leases_write_hold() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ended timestamptz := least(OLD.expires_at, statement_timestamp());
BEGIN
    INSERT INTO leases_hold {COLUMNS} VALUES ({VALUES.format(ended="ended")});
    {POSTGRESQL_TALLY};
    RETURN NULL;
END
$$;
"""

FILL = """
INSERT INTO leases_tally (service_id, outcome, sessions, held_seconds, waited_seconds)
SELECT service_id, outcome, count(*),
    coalesce(sum(CASE WHEN outcome <> 'unclaimed' THEN {held} END), 0), 0
FROM leases_hold GROUP BY service_id, outcome
"""


def create(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER IF EXISTS leases_hold_written", None)
        schema_editor.execute(SQLITE, None)
        span = SQLITE_SPAN
    else:  # replacing the function leaves the trigger in force, so that no session slips through
        schema_editor.execute(POSTGRESQL, None)
        span = POSTGRESQL_SPAN
    schema_editor.execute(FILL.format(held=span.format(start="started_at", end="ended_at")), None)


def take_back(apps, schema_editor):
    first.drop(apps, schema_editor)
    first.create(apps, schema_editor)
    schema_editor.execute("DELETE FROM leases_tally", None)


class Migration(migrations.Migration):
    dependencies = [("leases", "0005_operators")]

    operations = [migrations.RunPython(create, take_back, elidable=False)]
