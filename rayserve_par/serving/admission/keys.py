"""API keys: high-entropy secrets of which only SHA-256 hashes are kept.

A key is `rsp-` and 32 random bytes in base64url: 256 bits. A slow or salted hash defends secrets
that people chose, by making each guess dear and each table single-use; 2^256 guesses are out of
reach at any price, so plain SHA-256 (about 1 us, on every request) loses nothing. Hence only keys
that `rayserve-par keys new` made, or secrets of like entropy, belong into the file.

Text (YAML, hence JSON too):

    keys:
    - name: alice
      sha256: 64 hex digits of the key's hash
      limits: {requests_per_minute: 60, tokens_per_minute: 10000, concurrency: 4}
      priority: 0         # lower is served earlier, as in vLLM
      models: [llama]     # without it every model
      expires: 2027-01-01T00:00:00Z

`keys: []` is a valid list: it lets nobody in.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from rayserve_par.errors import RefusedError
from rayserve_par.serving.admission.args import LimitArgs
from rayserve_par.serving.strict_model import StrictModel

KEY_PREFIX = "rsp-"
_KEY_BYTES = 32


class KeyEntry(StrictModel):
    """One key as the file has it."""

    _subject: ClassVar[str] = "a key"
    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    limits: LimitArgs = LimitArgs()
    priority: int = 0
    models: tuple[str, ...] | None = None
    expires: datetime | None = None

    @field_validator("expires")
    @classmethod
    def _without_a_zone_it_is_utc(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value

    def may_use(self, model: str, names: Iterable[str]) -> bool:
        """Whether this key may use `model`, one of `names` of the instance or an adapter's."""
        if self.models is None or model in self.models:
            return True
        names = tuple(names)
        return model in names and any(name in self.models for name in names)

    def expired(self, unix_seconds: float) -> bool:
        """Whether the key's time is over."""
        return self.expires is not None and unix_seconds >= self.expires.timestamp()


class KeyFile(StrictModel):
    """The whole text."""

    _subject: ClassVar[str] = "the keys"
    keys: tuple[KeyEntry, ...]

    @model_validator(mode="after")
    def _entries_differ(self) -> Self:
        for field in ("name", "sha256"):
            values = [getattr(entry, field) for entry in self.keys]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"two keys have the same {field}: {', '.join(twice)}")
        return self


class KeySet:
    """The keys of one moment, for lookups."""

    __slots__ = ("_digests", "entries")

    def __init__(self, entries: Iterable[KeyEntry]) -> None:
        self.entries = tuple(entries)
        self._digests = [(bytes.fromhex(entry.sha256), entry) for entry in self.entries]

    def find(self, secret: bytes) -> KeyEntry | None:
        """The entry of `secret`; every entry is compared, in constant time, found or not."""
        digest, found = hashlib.sha256(secret).digest(), None
        for known, entry in self._digests:
            if hmac.compare_digest(known, digest):
                found = entry
        return found


def parse_keys(text: str, where: str) -> KeySet:
    """Read the keys' text.

    Raises:
        RefusedError: it is not valid; one line for each problem, without any hash in it.
    """
    try:
        data: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        raise RefusedError(
            f"{where} is neither YAML nor JSON{place}. It needs `keys:` with a list; "
            "`rayserve-par keys new NAME` writes such an entry."
        ) from error
    if not isinstance(data, dict) or "keys" not in data:
        raise RefusedError(
            f"{where} has no `keys:`. Write `keys: []` to let nobody in, or add a key with "
            "`rayserve-par keys new NAME --file FILE`."
        )
    try:
        return KeySet(KeyFile.model_validate(data).keys)
    except ValidationError as error:
        lines = [
            f"- {'.'.join(map(str, problem['loc'])) or 'keys'}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False)
        ]
        raise RefusedError(f"The keys of {where} are not valid:\n" + "\n".join(lines)) from error


def new_secret() -> str:
    """A new key: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_of(secret: str) -> str:
    """What is kept of a key: the hex digits of its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()
