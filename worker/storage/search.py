"""Search in the chunks of given documents: by words, and by vectors. Each gives its own ranking; nothing is compared here.

Both look only at documents that are ready, belong to the organization, and are among those asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from worker.storage.documents import SIMPLE
from worker.storage.search_text import searchable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class FoundChunk:
    """A chunk that was found.

    Attributes:
        document: The name of the document it is from.
    """

    document_id: UUID
    ordinal: int
    document: str
    text: str


_SEARCHED: Final = """
    documents.organization_id = :organization_id
    AND documents.id = ANY(CAST(:document_ids AS uuid[]))
    AND documents.status = 'ready'
"""

# A question is no list of words that must all occur, so every word counts for itself: the more, the fewer chunks have it.
# That is what makes the common words of any language count for nothing. Where no language's rules bring the forms of a word
# together, longer words are also looked for by how they begin.
_BY_WORDS = text(f"""
    WITH searched AS (
        SELECT id, name, language, chunks_total FROM documents WHERE {_SEARCHED}
    ), asked AS (
        SELECT languages.language, words.lexeme, char_length(words.lexeme) AS length
        FROM (SELECT DISTINCT language FROM searched) AS languages
        CROSS JOIN unnest(
            to_tsvector(
                CAST(languages.language AS regconfig),
                CASE languages.language WHEN '{SIMPLE}' THEN :folded ELSE :query END
            )
        ) AS words
    ), terms AS (
        SELECT language, lexeme, '' AS option FROM asked
        UNION
        SELECT language, left(lexeme, greatest(4, length - 2)), ':*' FROM asked
        WHERE language = '{SIMPLE}' AND length >= 4 AND lexeme !~ '[0-9]'
    ), queries AS (
        SELECT
            language,
            CAST(concat('''', replace(replace(lexeme, '\\', '\\\\'), '''', ''''''), '''', option) AS tsquery) AS query
        FROM terms
    ), hits AS (
        SELECT
            chunks.document_id,
            chunks.ordinal,
            ts_rank(chunks.words, queries.query) AS weight,
            count(*) OVER (PARTITION BY queries.query, queries.language) AS frequency
        FROM queries
        JOIN searched ON searched.language = queries.language
        JOIN chunks
            ON chunks.document_id = searched.id
            AND chunks.organization_id = :organization_id
            AND chunks.words @@ queries.query
    ), ranked AS (
        SELECT
            document_id,
            ordinal,
            sum(weight * ln(1 + (size.chunks - frequency + 0.5) / (frequency + 0.5))) AS score
        FROM hits CROSS JOIN (SELECT sum(chunks_total) AS chunks FROM searched) AS size
        GROUP BY document_id, ordinal
        ORDER BY score DESC, document_id, ordinal
        LIMIT :limit
    )
    SELECT chunks.document_id, chunks.ordinal, searched.name AS document, chunks.text
    FROM ranked
    JOIN chunks USING (document_id, ordinal)
    JOIN searched ON searched.id = chunks.document_id
    WHERE chunks.organization_id = :organization_id
    ORDER BY ranked.score DESC, document_id, ordinal
""")

# Vectors have length 1, so the inner product is the cosine. Both forms look at every vector: the result is exact.
_PRODUCTS: Final = {
    True: "-(CAST(chunks.embedding AS vector) <#> CAST(CAST(:embedding AS real[]) AS vector))",
    False: "(SELECT sum(one * other) FROM unnest(chunks.embedding, CAST(:embedding AS real[])) AS pairs (one, other))",
}
_BY_VECTORS = {
    extension: text(f"""
        SELECT chunks.document_id, chunks.ordinal, documents.name AS document, chunks.text
        FROM chunks JOIN documents ON documents.id = chunks.document_id
        WHERE {_SEARCHED}
          AND chunks.organization_id = :organization_id
          AND chunks.embedding_model = :embedding_model
          AND cardinality(chunks.embedding) = cardinality(CAST(:embedding AS real[]))
        ORDER BY {product} DESC, chunks.document_id, chunks.ordinal
        LIMIT :limit
    """)
    for extension, product in _PRODUCTS.items()
}
_HAS_VECTOR = text("SELECT to_regtype('vector') IS NOT NULL AND to_regoperator('<#>(vector,vector)') IS NOT NULL")


async def has_vector_extension(connection: AsyncConnection) -> bool:
    """Whether the database can compare vectors by itself (pgvector)."""
    return bool(await connection.scalar(_HAS_VECTOR))


async def search_by_words(
    connection: AsyncConnection, *, organization_id: UUID, document_ids: Sequence[UUID], query: str, limit: int
) -> list[FoundChunk]:
    """The chunks that share words with the query, best first."""
    return await _search(
        connection,
        _BY_WORDS,
        organization_id,
        document_ids,
        query=searchable(query, ""),
        folded=searchable(query, SIMPLE),
        limit=limit,
    )


async def search_by_vectors(
    connection: AsyncConnection,
    *,
    organization_id: UUID,
    document_ids: Sequence[UUID],
    embedding: Sequence[float],
    embedding_model: str,
    limit: int,
    extension: bool,
) -> list[FoundChunk]:
    """The chunks whose embeddings of the same model and length are nearest to this one, best first.

    Args:
        embedding: a vector of length 1.
        extension: what `has_vector_extension` said. Without it the search is as exact, and slower.
    """
    return await _search(
        connection,
        _BY_VECTORS[extension],
        organization_id,
        document_ids,
        embedding=list(embedding),
        embedding_model=embedding_model,
        limit=limit,
    )


async def _search(
    connection: AsyncConnection,
    statement: Any,
    organization_id: UUID,
    document_ids: Sequence[UUID],
    **values: object,
) -> list[FoundChunk]:
    rows = await connection.execute(
        statement, {"organization_id": organization_id, "document_ids": list(document_ids), **values}
    )
    return [FoundChunk(*row) for row in rows]
