"""Base of every block that a config may have: frozen, and strict about its keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class StrictModel(BaseModel):
    """Frozen model that refuses unknown keys with the nearest valid name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    _subject: ClassVar[str] = "args"

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    near = difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0.4)
                    hint = f"did you mean {near[0]!r}? " if near else ""
                    raise ValueError(
                        f"unknown key {key!r} in {cls._subject}; {hint}"
                        f"valid keys: {', '.join(cls.model_fields)}"
                    )
        return data
