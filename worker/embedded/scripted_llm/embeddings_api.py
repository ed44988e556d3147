"""The OpenAI Embeddings API: vectors of which words, and parts of words, a text has. Texts that share some are near."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from worker.embedded.scripted_llm.errors import ApiError
from worker.embedded.scripted_llm.openai.api import OpenAIApi
from worker.embedded.scripted_llm.request import ModelRequest, estimated_tokens

if TYPE_CHECKING:
    from worker.embedded.scripted_llm.answer import Answer
    from worker.embedded.scripted_llm.script import Script

DIMENSIONS: Final = 256
_MAX_INPUTS: Final = 2048
_PART: Final = 3


class EmbeddingsApi(OpenAIApi):
    """`POST /v1/embeddings`. A script's rules can delay, hold and refuse it; what they reply with has no meaning here."""

    def check(self, body: object, script: Script) -> None:  # noqa: ARG002 - part of the protocol `Api`
        """Refuse a body the real API refuses."""
        if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
            raise ApiError(400, "you must provide a model parameter")
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ApiError(400, "Invalid type for 'input': expected a string or an array of strings.", param="input")
        if not 0 < len(texts) <= _MAX_INPUTS or not all(texts):
            raise ApiError(400, f"'input' must hold 1 to {_MAX_INPUTS} strings, none of which is empty.", param="input")
        if body.get("encoding_format", "float") not in {"float", "base64"}:
            raise ApiError(400, "Invalid value for 'encoding_format'.", param="encoding_format")

    def read(self, body: dict[str, Any], size: int) -> ModelRequest:
        """Reduce a checked body of `size` bytes to what a script can depend on: each text counts as said by the user."""
        texts = body["input"]
        return ModelRequest(
            model=body["model"],
            system=body.get("encoding_format", "float"),
            user_texts=(texts,) if isinstance(texts, str) else tuple(texts),
            tools=frozenset(),
            tool_results=(),
            stream=False,
            include_usage=True,
            input_tokens=estimated_tokens(size),
        )

    def reply(self, answer: Answer, request: ModelRequest) -> bytes:  # noqa: ARG002 - part of the protocol `Api`
        """Return the vectors."""
        vectors = [embedding(text) for text in request.user_texts]
        if request.system == "base64":
            written: list[Any] = [
                base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors
            ]
        else:
            written = list(vectors)
        data = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(written)]
        usage = {"prompt_tokens": request.input_tokens, "total_tokens": request.input_tokens}
        return json.dumps({"object": "list", "data": data, "model": request.model, "usage": usage}).encode()


def embedding(text: str) -> list[float]:
    """The vector of a text: of length 1, and the same wherever it is made."""
    vector = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        vector[crc32(word.encode()) % DIMENSIONS] += 1.0
        for start in range(len(word) - _PART + 1):
            vector[crc32(word[start : start + _PART].encode()) % DIMENSIONS] += 0.5
    vector[0] += 1e-3  # a text without words has a direction too
    length = math.hypot(*vector)
    return [value / length for value in vector]
