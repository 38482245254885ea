"""An index of the chunks' words: FTS5 on SQLite, kept true by triggers, and GIN on PostgreSQL.

A later migration that makes Django rebuild documents_chunk on SQLite must run `create` again,
since the rebuilt table has lost its triggers. The tests of keyword search fail when one forgets.
"""

from django.db import migrations

SQLITE = [
    """
    CREATE VIRTUAL TABLE documents_chunk_words USING fts5(
        text, content='documents_chunk', content_rowid='id', tokenize='porter unicode61'
    )
    """,
    """
    CREATE TRIGGER documents_chunk_words_insert AFTER INSERT ON documents_chunk BEGIN
        INSERT INTO documents_chunk_words (rowid, text) VALUES (NEW.id, NEW.text);
    END
    """,
    """
    CREATE TRIGGER documents_chunk_words_delete AFTER DELETE ON documents_chunk BEGIN
        INSERT INTO documents_chunk_words (documents_chunk_words, rowid, text) VALUES ('delete', OLD.id, OLD.text);
    END
    """,
    """
    CREATE TRIGGER documents_chunk_words_update AFTER UPDATE OF text ON documents_chunk BEGIN
        INSERT INTO documents_chunk_words (documents_chunk_words, rowid, text) VALUES ('delete', OLD.id, OLD.text);
        INSERT INTO documents_chunk_words (rowid, text) VALUES (NEW.id, NEW.text);
    END
    """,
]
SQLITE_BACK = [
    "DROP TRIGGER IF EXISTS documents_chunk_words_insert",
    "DROP TRIGGER IF EXISTS documents_chunk_words_delete",
    "DROP TRIGGER IF EXISTS documents_chunk_words_update",
    "DROP TABLE IF EXISTS documents_chunk_words",
]
# The same expression as django.contrib.postgres writes for SearchVector("text", config="english").
POSTGRESQL = [
    "CREATE INDEX chunk_words ON documents_chunk USING gin (to_tsvector('english'::regconfig, COALESCE(text, '')))"
]
POSTGRESQL_BACK = ["DROP INDEX IF EXISTS chunk_words"]


def create(apps, schema_editor):
    for statement in SQLITE if schema_editor.connection.vendor == "sqlite" else POSTGRESQL:
        schema_editor.execute(statement, None)


def drop(apps, schema_editor):
    for statement in SQLITE_BACK if schema_editor.connection.vendor == "sqlite" else POSTGRESQL_BACK:
        schema_editor.execute(statement, None)


class Migration(migrations.Migration):
    dependencies = [("documents", "0001_initial")]

    operations = [migrations.RunPython(create, drop)]
