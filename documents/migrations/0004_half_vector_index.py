"""PostgreSQL: the index of vectors in half precision, which finds as much in half the time.

It is half as large, and built and written to twice as fast; the vectors themselves stay as they are. Nothing here
blocks a running site, and until the new index is there the old one is.
"""

from django.db import migrations

FORWARDS = [
    "DROP INDEX CONCURRENTLY IF EXISTS chunk_nearest_half",  # what an interrupted attempt has left
    """
    CREATE INDEX CONCURRENTLY chunk_nearest_half ON documents_chunk
    USING hnsw ((vector::halfvec(384)) halfvec_cosine_ops) WHERE vector_dims(vector) = 384
    """,
    "DROP INDEX CONCURRENTLY IF EXISTS chunk_nearest",
]
BACKWARDS = [
    "DROP INDEX CONCURRENTLY IF EXISTS chunk_nearest",
    """
    CREATE INDEX CONCURRENTLY chunk_nearest ON documents_chunk
    USING hnsw ((vector::vector(384)) vector_cosine_ops) WHERE vector_dims(vector) = 384
    """,
    "DROP INDEX CONCURRENTLY IF EXISTS chunk_nearest_half",
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

    dependencies = [("documents", "0003_vector_index")]

    operations = [migrations.RunPython(create, drop)]
