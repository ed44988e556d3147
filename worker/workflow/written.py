"""What was written elsewhere, by hand or by an editor, as far as reading it is the same everywhere."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator


class Written(BaseModel):
    """A JSON object in which `null` means absent, and a key that nobody knows means nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, value: object) -> object:
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value
