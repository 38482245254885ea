"""The keyword half of a search: the chunks that hold the asked words, as the database's index finds them."""

from collections.abc import Sequence

from django.db import connection, transaction
from django.db.models import QuerySet

from documents.models import Document
from documents.statements import chosen

COUNTED = 10_000  # chunks: how much rarer a word is among still more matters little
PER_WORD = 1_000  # chunks looked at, so that a frequent word costs no more than that

# Every word by itself, and all together as if they were one more word. A chunk's rank is the sum of what
# its words weigh: the rarer, the more, as in BM25. The index knows which chunks hold a word but not how
# often, and reading their texts for that would take a hundred times as long: of equals, the shorter one is
# first. OFFSET 0 and the setting keep to the index: the planner does not know how long reading a text takes.
# IS TRUE keeps the searched documents in one hash table instead of joining them anew for each word.
_TO_THE_INDEX = "SET LOCAL enable_seqscan = off"
_POSTGRESQL = """
WITH single AS MATERIALIZED (
    SELECT DISTINCT plainto_tsquery('english', asked)::text AS word FROM unnest(%s::text[]) AS asked
    WHERE numnode(plainto_tsquery('english', asked)) > 0
), searched AS MATERIALIZED (
    {documents}
), size AS MATERIALIZED (
    SELECT count(*) AS chunks FROM (
        SELECT FROM searched
        CROSS JOIN LATERAL (SELECT FROM documents_chunk WHERE document_id = searched.id OFFSET 0) AS chunk
        LIMIT %s
    ) AS counted
)
SELECT chunk.id
FROM (SELECT word FROM single UNION SELECT string_agg(word, ' & ') FROM single) AS words
CROSS JOIN LATERAL (
    SELECT id, length, CAST(count(*) OVER () AS double precision) AS holding FROM (
        SELECT id, length FROM (
            SELECT id, document_id, octet_length(text) AS length FROM documents_chunk
            WHERE to_tsvector('english'::regconfig, COALESCE(text, '')) @@ word::tsquery
            OFFSET 0
        ) AS anywhere
        WHERE (document_id IN (SELECT id FROM searched)) IS TRUE LIMIT %s
    ) AS looked_at
) AS chunk
GROUP BY chunk.id
ORDER BY sum(ln(1 + (greatest((SELECT chunks FROM size) - holding, 0) + 0.5) / (holding + 0.5))) DESC,
    min(length), chunk.id
LIMIT %s
"""
# The order of a CROSS JOIN is kept: from the words to the chunks, never a search for words in each chunk.
_SQLITE = """
SELECT words.rowid FROM documents_chunk_words AS words
CROSS JOIN documents_chunk AS chunk ON chunk.id = words.rowid
WHERE documents_chunk_words MATCH %s AND chunk.document_id IN ({documents}) ORDER BY words.rank LIMIT %s
"""


def matching(documents: QuerySet[Document], words: Sequence[str], count: int) -> list[int]:
    """The ids of at most `count` chunks of the documents, those that hold the most of the words."""
    searched = chosen(documents)
    if not words or searched is None:
        return []
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            asked = " OR ".join(f'"{word}"' for word in words)
            cursor.execute(_SQLITE.format(documents=searched.sql), [asked, *searched.params, count])
        else:
            cursor.execute(_TO_THE_INDEX)
            arguments = [list(words), *searched.params, COUNTED, PER_WORD, count]
            cursor.execute(_POSTGRESQL.format(documents=searched.sql), arguments)
        return [row[0] for row in cursor.fetchall()]
