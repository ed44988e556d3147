"""A scripted LLM: an HTTP server that speaks the Anthropic and the OpenAI API and says what a script tells it to.

The real SDKs talk to it over real HTTP, so that demos and tests say exactly what the model does without
replacing any code. See README.md beside this file.
"""

from __future__ import annotations

from worker.embedded.scripted_llm.errors import InvalidScript, ScriptedLLMFailed
from worker.embedded.scripted_llm.recorder import RecordedRequest
from worker.embedded.scripted_llm.script import ErrorReply, Rule, Script, Text, Thinking, ToolCall, Usage, When
from worker.embedded.scripted_llm.server import ScriptedLLM

__all__ = [
    "ErrorReply",
    "InvalidScript",
    "RecordedRequest",
    "Rule",
    "Script",
    "ScriptedLLM",
    "ScriptedLLMFailed",
    "Text",
    "Thinking",
    "ToolCall",
    "Usage",
    "When",
]
