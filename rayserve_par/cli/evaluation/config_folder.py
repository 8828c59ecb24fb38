"""Finding the config that a row of evidence means, in a folder of configs.

A folder holds `ORG--NAME/config.json`, `NAME/config.json` or `ORG/NAME/config.json`, each perhaps
with hf_quant_config.json beside it. Names are compared by their base: small letters, without
organisation, what is in parentheses, `Meta-` and `NVIDIA-` in front, and endings that name a tuning
(-Instruct), a precision (-FP8, -NVFP4), a context (-8K), a release (-v0.1) or a date (-2507).

Of several configs with the same base:
    1. the maker's where it is stored narrower than the row's precision and the row's name says no
       format: nobody serves gpt-oss, which is MXFP4, at 8 bits, and the "fp8" of DeepSeek-V4 is
       that of its other weights
    2. one that is stored as the row says, by its precision or else by the name's ending; of those
       the one of the row's own name
    3. the maker's, stored anew at what is asked for (model.quantisation.recipes); "fp8" then means
       blocks of 128 where the maker publishes such, unless another made the checkpoint
The maker's is the widest without a quantised format in its name, else the widest. Where nothing is
asked for it is the one of the row's own name, else the maker's.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from rayserve_par.errors import RefusedError
from rayserve_par.model import ModelSpec, known_config, known_names, model_spec_from_config
from rayserve_par.model.quantisation import PRECISIONS, quantization_of, with_precision

_TUNINGS = "instruct|chat|it|base|thinking|exp|terminus|hf|preview|latest|text|code|qat"
_FORMATS = r"fp8|fp4|nvfp4|mxfp4|bf16|fp16|int4|int8|4bit|8bit|awq|gptq|(?:quantized\.)?w\d+a\d+"
_KINDS = r"static|dynamic|pertensor|block|kv|g\d+|bnb|unsloth"
_DATES = r"\d{4}|\d{6}|\d{8}|\d{4}-\d\d-\d\d"
_ENDING = re.compile(rf"[- ](?:{_TUNINGS}|(?:{_FORMATS})(?:-v\d)?|{_KINDS}|v0\.\d|\d+k|{_DATES})$")
_PREFIX = re.compile(r"^(?:meta-(?=llama)|nvidia-(?=nemotron))")
_FORMAT_IN_NAME = re.compile(rf"(?:^|[-_ (])({_FORMATS})(?![a-z0-9])")

# What a row's precision says, and what recipes call it; the first that is found counts.
_SAID = (
    (re.compile("mxfp4"), "mxfp4"),
    (re.compile("nvfp4"), "nvfp4"),
    (re.compile(r"int4|4bit|awq|gptq|w4a\d"), "int4"),
    (re.compile("fp4|float4"), "fp4"),
    (re.compile(r"fp8|float8|int8|8bit|w8a\d"), "fp8"),
    (re.compile("bf16|bfloat16"), "bf16"),
    (re.compile("fp16|float16|half"), "fp16"),
)
_NOT_SAID = ("", "any", "auto", "none", "unknown", "default")
_BITS = {"bf16": 16, "fp16": 16, "fp8": 8}
_BLOCK_MAKERS = ("deepseek", "qwen", "minimax", "glm")
_REQUANTISERS = ("nvidia/", "redhatai/", "neuralmagic/", "amd/")


def base_name(name: str) -> str:
    """What is left of a model's name: "nvidia/DeepSeek-V3-0324-NVFP4" -> "deepseek-v3"."""
    text = re.sub(r"\(.*?\)", "", name).strip().split("/")[-1].split("--")[-1].lower()
    text = re.sub(r"(?<=\d)_(?=\d)", ".", text)
    text = re.sub(r"[\s_]+", "-", text)
    while True:
        shorter = _PREFIX.sub("", _ENDING.sub("", text))
        if shorter == text:
            return text
        text = shorter


def precision_asked(name: str, precision: str) -> str | None:
    """One of `PRECISIONS` for what a row says, or else its model's name; None where neither does.

    Raises RefusedError for a precision that is not understood.
    """
    said = precision.strip().lower()
    if said in _NOT_SAID:
        in_name = _FORMAT_IN_NAME.search(name.lower())
        if in_name is None:
            return None
        said = in_name.group(1)
    for pattern, meant in _SAID:
        if pattern.search(said):
            return meant
    raise RefusedError(f"precision {said!r} is not known. Known: {', '.join(PRECISIONS)}.")


def _likely_the_makers(spec: ModelSpec) -> tuple[bool, float]:
    """Large for the config of the model's maker: no quantised format in its name, then width."""
    named = _FORMAT_IN_NAME.search(spec.name.lower())
    return named is None or named.group(1) in ("bf16", "fp16"), spec.weight_format.bits


@dataclass(slots=True)
class ConfigFolder:
    """The configs of a folder, read on demand and kept; the package's own come after them."""

    folder: Path
    _found: dict[str, list[tuple[str, Path | None]]] = field(default_factory=dict)
    _specs: dict[tuple[str, str], ModelSpec] = field(default_factory=dict)
    _read: dict[str, ModelSpec | RefusedError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise RefusedError(f"--configs {self.folder}: there is no such folder.")
        paths = [*self.folder.glob("*/config.json"), *self.folder.glob("*/*/config.json")]
        for path in sorted(paths):
            name = "--".join(path.parent.relative_to(self.folder).parts)
            self._found.setdefault(base_name(name), []).append((name, path))
        for name in known_names():
            self._found.setdefault(base_name(name), [(name, None)])

    def spec(self, name: str, precision: str = "") -> ModelSpec:
        """The model of this name stored at `precision` ("" as its name or its config says).

        Raises RefusedError where no config has the name's base, where none of those that have is
        understood, and for a precision that is not known.
        """
        key = (name, precision)
        if key not in self._specs:
            self._specs[key] = self._choose(name, precision)
        return self._specs[key]

    def _choose(self, name: str, precision: str) -> ModelSpec:
        asked = precision_asked(name, precision)
        specs = self._candidates(name)
        # Stable: of equals the one of the row's own name, then the folder's order.
        own = name.rsplit("/", maxsplit=1)[-1].lower()
        specs.sort(key=lambda spec: spec.name.split("/")[-1].lower() != own)
        made = max(specs, key=_likely_the_makers)
        if asked is None:
            return specs[0] if specs[0].name.lower().endswith(own) else made
        narrower = made.weight_format.bits < _BITS.get(asked, 4)
        is_the_makers, _ = _likely_the_makers(made)
        if narrower and is_the_makers and not _FORMAT_IN_NAME.search(name.lower()):
            return made
        for spec in specs:
            if spec.weight_format.name.startswith(PRECISIONS[asked]):
                return spec
        in_blocks = made.model_type.startswith(_BLOCK_MAKERS)
        if asked == "fp8" and in_blocks and not name.lower().startswith(_REQUANTISERS):
            asked = "fp8-block128"
        return with_precision(made, asked)

    def _candidates(self, name: str) -> list[ModelSpec]:
        found = self._found.get(base_name(name), [])
        if not found:
            raise RefusedError(f"no config for {name!r} (base name {base_name(name)!r})")
        read = [self._load(folder, path) for folder, path in found]
        specs = [one for one in read if isinstance(one, ModelSpec)]
        if not specs:
            raise next(one for one in read if isinstance(one, RefusedError))
        return specs

    def _load(self, folder: str, path: Path | None) -> ModelSpec | RefusedError:
        """The model, or why its config is not understood."""
        if folder not in self._read:
            try:
                self._read[folder] = _read(folder, path)
            except RefusedError as refusal:
                self._read[folder] = refusal
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                # One odd config must not cost the others of the same base name.
                said = f"{type(error).__name__}: {error}"
                self._read[folder] = RefusedError(f"config of {folder} is not understood: {said}")
        return self._read[folder]


def _read(name: str, path: Path | None) -> ModelSpec:
    called = name.replace("--", "/")
    if path is None:
        return model_spec_from_config(known_config(name) or {}, called)
    config = _json(path)
    beside = path.parent / "hf_quant_config.json"
    quant = quantization_of(config, _json(beside) if beside.is_file() else None)
    return model_spec_from_config(config, called, quantization=quant)


def _json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RefusedError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise RefusedError(f"{path} holds no JSON object.")
    return found
