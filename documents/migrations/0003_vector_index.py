"""PostgreSQL: an index of the vectors of 384 dimensions (the built-in model's), and rows narrow enough for many matches.

The chunk's text and vector leave the row for the table beside it, so that looking at thousands of rows which hold
a word reads a tenth of the pages. That holds for rows written from now on. Nothing here blocks a running site.
"""

from django.db import migrations

FORWARDS = [
    "ALTER TABLE documents_chunk SET (toast_tuple_target = 128)",
    "DROP INDEX CONCURRENTLY IF EXISTS chunk_nearest",  # what an interrupted attempt has left
    """
    CREATE INDEX CONCURRENTLY chunk_nearest ON documents_chunk
    USING hnsw ((vector::vector(384)) vector_cosine_ops) WHERE vector_dims(vector) = 384
    """,
]
BACKWARDS = [
    "DROP INDEX CONCURRENTLY IF EXISTS chunk_nearest",
    "ALTER TABLE documents_chunk RESET (toast_tuple_target)",
]


def create(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for statement in FORWARDS:
            schema_editor.execute(statement, None)


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for statement in BACKWARDS:
            schema_editor.execute(statement, None)


class Migration(migrations.Migration):
    atomic = False  # an index cannot be made concurrently inside a transaction

    dependencies = [("documents", "0002_keyword_index")]

    operations = [migrations.RunPython(create, drop)]
