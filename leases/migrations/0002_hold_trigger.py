"""A trigger writes the history: whenever a session leaves its lease, one Hold row is inserted.

Django rebuilds a table on SQLite for many changes of its columns, and a rebuilt table has lost its
triggers: a later migration that alters leases_lease must run `create` again. The tests of the history
fail on SQLite when one forgets.
"""

from django.db import migrations

COLUMNS = """
    (service_id, session_id, owner, fencing_token, started_at, last_activity_at,
     ended_at, outcome, ended_by, reason)
"""
VALUES = """
    OLD.service_id, OLD.session_id, OLD.owner, OLD.fencing_token, OLD.started_at, OLD.last_activity_at,
    CASE WHEN OLD.expires_at < {now} THEN OLD.expires_at ELSE {now} END,
    NEW.ended_as, NEW.ended_by, NEW.ended_reason
"""

SQLITE = f"""
CREATE TRIGGER leases_hold_written AFTER UPDATE OF session_id ON leases_lease
WHEN OLD.session_id IS NOT NULL AND NEW.session_id IS NOT OLD.session_id
BEGIN
    INSERT INTO leases_hold {COLUMNS}
    VALUES ({VALUES.format(now="strftime('%Y-%m-%d %H:%M:%f', 'now')")});
END
"""

POSTGRESQL = f"""
CREATE FUNCTION leases_write_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO leases_hold {COLUMNS}
    VALUES ({VALUES.format(now="statement_timestamp()")});
    RETURN NULL;
END
$$;
CREATE TRIGGER leases_hold_written AFTER UPDATE OF session_id ON leases_lease
FOR EACH ROW WHEN (OLD.session_id IS NOT NULL AND NEW.session_id IS DISTINCT FROM OLD.session_id)
EXECUTE FUNCTION leases_write_hold();
"""


def create(apps, schema_editor):
    schema_editor.execute(SQLITE if schema_editor.connection.vendor == "sqlite" else POSTGRESQL, None)


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER IF EXISTS leases_hold_written", None)
    else:
        schema_editor.execute("DROP TRIGGER IF EXISTS leases_hold_written ON leases_lease", None)
        schema_editor.execute("DROP FUNCTION IF EXISTS leases_write_hold()", None)


class Migration(migrations.Migration):
    dependencies = [("leases", "0001_initial")]

    operations = [migrations.RunPython(create, drop, elidable=False)]
