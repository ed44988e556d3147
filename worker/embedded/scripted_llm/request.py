"""One request to a model, as the rules of a script see it, whichever API it came through."""

from __future__ import annotations

from dataclasses import dataclass

CHARACTERS_PER_TOKEN = 4


def estimated_tokens(characters: int) -> int:
    """Estimate the tokens of a text from its length: plausible, never zero, and the same every time."""
    return max(1, -(-characters // CHARACTERS_PER_TOKEN))


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of one tool call, with the name of the tool that was called."""

    tool: str
    text: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model is asked, reduced to what a script can depend on."""

    model: str
    system: str
    user_texts: tuple[str, ...]
    """The texts of the user's messages, oldest first; messages that only carry tool results have none."""
    tools: frozenset[str]
    """The names of the tools offered."""
    tool_results: tuple[ToolResult, ...]
    """The results the request ends with; empty when the user or the assistant spoke last."""
    stream: bool
    include_usage: bool
    """Whether a stream reports usage: always with Anthropic, on request with OpenAI."""
    input_tokens: int
    """Estimated from the size of the request."""

    @property
    def user_text(self) -> str:
        """The last thing the user said, or an empty text."""
        return self.user_texts[-1] if self.user_texts else ""
