"""Where the keys come from, and their reload.

First that is set: the config's keys_file, RAYSERVE_PAR_KEYS_FILE, RAYSERVE_PAR_KEYS (the text
itself). The file is looked at once a second, in a thread, by its identity (device, inode, size,
mtime: a Kubernetes secret changes by a swapped link). A text that is not valid at the start is
refused; later the last good keys stay and the log says so, once for each new text.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from rayserve_par.errors import RefusedError
from rayserve_par.serving.admission.keys import KeySet, parse_keys
from rayserve_par.settings import Settings, load_settings

logger = logging.getLogger("ray.serve")

_Identity = tuple[int, int, int, int]


@dataclass(slots=True)
class KeySource:
    """Keys and the file that they came from; `path` is None for keys of the environment."""

    keys: KeySet
    path: Path | None = None
    _seen: _Identity | None = None
    _complaint: str = field(default="", init=False)

    def reload(self) -> bool:
        """Read the file again if it changed; True if the keys are new. Blocking."""
        if self.path is None:
            return False
        try:
            seen = _identity(self.path)
            if seen == self._seen:
                return False
            keys = _read(self.path)
        except (RefusedError, OSError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.error("The last good API keys stay: %s", error)
            return False
        self._seen, self.keys, self._complaint = seen, keys, ""
        logger.info("Read %d API keys from %s.", len(keys.entries), self.path)
        return True


def open_key_source(keys_file: str | None, settings: Settings | None = None) -> KeySource | None:
    """The configured keys, or None where none are configured.

    Raises:
        RefusedError: the file cannot be read or its keys are not valid.
    """
    settings = settings or load_settings()
    path = Path(keys_file) if keys_file is not None else settings.keys_file
    if path is not None:
        try:
            seen = _identity(path)
            return KeySource(_read(path), path, seen)
        except OSError as error:
            raise RefusedError(
                f"The file of API keys {path} cannot be read ({error.strerror}). It must be there "
                "on every node that serves; `rayserve-par keys new NAME --file FILE` makes one."
            ) from error
    if settings.keys is not None:
        return KeySource(parse_keys(settings.keys, "RAYSERVE_PAR_KEYS"))
    return None


def has_keys(keys_file: str | None, settings: Settings | None = None) -> bool:
    """Whether keys are configured here; they are not read."""
    settings = settings or load_settings()
    return keys_file is not None or settings.keys_file is not None or settings.keys is not None


def _identity(path: Path) -> _Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path) -> KeySet:
    try:
        return parse_keys(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path} is not UTF-8 text; it must be YAML or JSON.") from error
