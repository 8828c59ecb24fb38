"""The GPUs that are known by name, each value with its source.

The shipped ones are in catalogue.json, in the units of data sheets; a source there that begins
with a name of its table `sources` stands for that text. Marketed memory is from the makers' data
sheets; usable GiB is what torch reports as the total capacity (`torch.cuda.mem_get_info`), the
lower figure where several are seen in the field. `logical-cpu` is a process on a CPU that Ray
counts as a GPU; its memory is a share of the host's that the user grants, not a property of
hardware.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.gpu import Gpu
from rayserve_par.hardware.gpu_entry import gpu_from_entry

_AMBIGUOUS = dict.fromkeys(("a100", "a100-sxm4", "a100-pcie"), "A100-40 or A100-80")


def lookup_key(name: str) -> str:
    """A GPU's name as compared: small letters, hyphens, without the maker NVIDIA."""
    return re.sub(r"[\s_]+", "-", name.strip().lower()).removeprefix("nvidia-")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """GPUs, and the other names (`lookup_key` and the GPU's own name) by which they are asked."""

    gpus: tuple[Gpu, ...]
    aliases: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the GPUs."""
        return tuple(gpu.name for gpu in self.gpus)

    def _by_key(self) -> dict[str, Gpu]:
        by_key = {lookup_key(gpu.name): gpu for gpu in self.gpus}
        for alias, target in self.aliases:
            by_key.setdefault(alias, by_key[lookup_key(target)])
        return by_key

    def find(self, name: str) -> Gpu | None:
        """The GPU of this name, in any case; Ray's and drivers' names are understood too.

        None when it is not known; RefusedError when "A100" leaves open whether 40 or 80 GB are
        meant.
        """
        key = lookup_key(name)
        found = self._by_key().get(key)
        if found is None and key in _AMBIGUOUS:
            raise RefusedError(
                f"GPU {name!r} is made with 40 GB and with 80 GB. Write {_AMBIGUOUS[key]}."
            )
        return found

    def gpu(self, name: str) -> Gpu:
        """As `find`, but RefusedError with the nearest names when it is not known."""
        found = self.find(name)
        if found is not None:
            return found
        by_key = self._by_key()
        near = get_close_matches(lookup_key(name), by_key, n=3, cutoff=0.4)
        nearest = dict.fromkeys(by_key[match].name for match in near)
        hint = f"Nearest: {', '.join(nearest)}. " if nearest else ""
        raise RefusedError(f"GPU {name!r} is not known. {hint}Known: {', '.join(self.names)}.")

    def with_gpu(self, gpu: Gpu) -> "Catalogue":
        """This catalogue with `gpu` in the place of the one of its name, or added."""
        key = lookup_key(gpu.name)
        kept = tuple(gpu if lookup_key(old.name) == key else old for old in self.gpus)
        return replace(self, gpus=kept if gpu in kept else (*kept, gpu))


def _spelled_out(found: Any, texts: Mapping[str, str]) -> Any:
    """A value whose source is written in full: "key" or "key: what was done with the figure"."""
    if not isinstance(found, dict):
        return found
    key, _, note = found["source"].partition(": ")
    if key not in texts:
        return found
    return found | {"source": f"{texts[key]}; {note}" if note else texts[key]}


@cache
def shipped_catalogue() -> Catalogue:
    """The catalogue that is shipped; read at the first call."""
    text = files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    gpus: list[Gpu] = []
    aliases: list[tuple[str, str]] = []
    for name, entry in data["gpus"].items():
        facts = {key: _spelled_out(found, data["sources"]) for key, found in entry["facts"].items()}
        gpus.append(gpu_from_entry(name, facts, source=entry["source"]))
        aliases += [(alias, name) for alias in entry["also"]]
    return Catalogue(tuple(gpus), tuple(aliases))


def gpu_names() -> tuple[str, ...]:
    """The names in the shipped catalogue."""
    return shipped_catalogue().names


def gpu_by_name(name: str) -> Gpu:
    """The shipped GPU of this name; see `Catalogue.gpu`."""
    return shipped_catalogue().gpu(name)
