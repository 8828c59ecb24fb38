"""Reads the headers of a folder's safetensors files: a few kilobytes each, no weights.

A file starts with the header's length (8 bytes, little endian), then the header in JSON. Where an
index names the files, only those count (a folder may hold a second copy in another layout).
Source: https://github.com/huggingface/safetensors.
"""

import json
import struct
from pathlib import Path
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.safetensors_header import Tensor, tensors_from_header

INDEX = "model.safetensors.index.json"
_LENGTH_BYTES = 8
_LONGEST_HEADER_BYTES = 100_000_000


def read_tensors(folder: Path) -> tuple[Tensor, ...]:
    """Every tensor of the folder's checkpoint; none where its files are absent or incomplete.

    Raises:
        RefusedError: a file is no safetensors file.
    """
    files = _files(folder)
    if not all(file.is_file() for file in files):
        return ()
    return tuple(tensor for file in files for tensor in tensors_from_header(_header(file)))


def _files(folder: Path) -> tuple[Path, ...]:
    index = folder / INDEX
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise RefusedError(f"{index} is no safetensors index: {error!r}") from error
        return tuple(folder / name for name in sorted(names))
    found = sorted(folder.glob("*.safetensors"))
    return tuple(file for file in found if not file.name.startswith("consolidated"))


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        start = stream.read(_LENGTH_BYTES)
        length = struct.unpack("<Q", start)[0] if len(start) == _LENGTH_BYTES else 0
        if not 0 < length <= _LONGEST_HEADER_BYTES:
            raise RefusedError(
                f"{file} is no safetensors file: its header would be {length} bytes. Download it "
                "again (a Git LFS pointer looks like this)."
            )
        text = stream.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise RefusedError(f"{file} has a broken safetensors header: {error}") from error
    return header
