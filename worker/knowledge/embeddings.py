"""Vectors of texts, from any service that speaks OpenAI's embeddings protocol."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Self

import openai

from worker.errors import TurnWorkerError
from worker.telemetry.masking import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.settings import Settings

_TIMEOUT_SECONDS: Final = 30.0
_SDK_RETRIES: Final = 3
_NO_KEY: Final = "none"
_TRANSIENT: Final = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)


class EmbeddingsFailed(TurnWorkerError):
    """The embeddings service gave no vectors."""

    code = "embeddings_failed"

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(model, reason)
        self.model = model
        self.reason = reason

    def __str__(self) -> str:
        return f"The embeddings service gave no vectors of the model {self.model!r}: {self.reason.rstrip('.')}."


class EmbeddingsUnavailable(EmbeddingsFailed):
    """The embeddings service gave no vectors now; it may later."""

    code = "embeddings_unavailable"
    retryable = True


class Embedder:
    """Makes vectors of length 1, one per text. The SDK tries again what may pass, and honours `retry-after`."""

    def __init__(self, client: openai.AsyncOpenAI, model: str) -> None:
        self._client = client
        self.model = model

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The one that the operator configured; None for none."""
        model = settings.embeddings_model
        if model is None:
            return None
        base_url, key = settings.embeddings_base_url, settings.embeddings_api_key
        if base_url is None:
            # Without an address of its own it is the operator's OpenAI; its key never goes anywhere else.
            base_url, key = settings.openai_base_url, key or settings.openai_api_key
        client = openai.AsyncOpenAI(
            api_key=key.get_secret_value() if key else _NO_KEY,
            base_url=base_url,
            timeout=_TIMEOUT_SECONDS,
            max_retries=_SDK_RETRIES,
        )
        return cls(client, model)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of these texts, in their order.

        Raises:
            EmbeddingsUnavailable: when the service cannot be reached or is overloaded.
            EmbeddingsFailed: when it refuses, or answers with something else.
        """
        try:
            response = await self._client.embeddings.create(
                model=self.model, input=list(texts), encoding_format="float"
            )
            vectors = [item.embedding for item in sorted(response.data, key=lambda item: item.index)]
            return self._checked(vectors, len(texts))
        except _TRANSIENT as error:
            raise EmbeddingsUnavailable(self.model, mask_secrets(str(error))) from error
        except (openai.OpenAIError, TypeError, AttributeError, ValueError) as error:
            raise EmbeddingsFailed(self.model, mask_secrets(str(error))) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _checked(self, vectors: list[list[float]], count: int) -> list[list[float]]:
        if len(vectors) != count:
            raise ValueError(f"it answered {count} texts with {len(vectors)} vectors")
        if len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
            raise ValueError("its vectors are of different lengths, or empty")
        return [_of_length_one(vector) for vector in vectors]


def _of_length_one(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0:
        raise ValueError("one of its vectors has no direction")
    return [value / length for value in vector]
