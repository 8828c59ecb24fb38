"""A reader for every `quant_method`: config in, rules out.

| method              | what it covers                                                             |
|---------------------|----------------------------------------------------------------------------|
| fp8                 | linear layers; per tensor or by `weight_block_size`; DeepSeek-V4's experts |
|                     | in MXFP4 (`expert_dtype`) or NVFP4 (`moe_quant_algo`)                      |
| fbgemm_fp8          | linear layers, per output row                                              |
| mxfp4               | routed experts only                                                        |
| mxfp8               | linear layers                                                              |
| modelopt            | linear layers by `quant_algo`; MIXED_PRECISION: what `quantized_layers`    |
|                     | names; neither lists nor a producer: what `_hybrid` says                   |
| compressed-tensors  | `config_groups`: "Linear", names or regexes, each group its own format     |
| awq, gptq           | linear layers; gptq's `dynamic` regexes change or leave out modules        |
| quark               | linear layers by `global_quant_config`, others by `layer_quant_config`     |
| bitsandbytes        | linear layers, 4 bit (nf4 by 64) or 8 bit                                  |

Source: vllm/model_executor/layers/quantization, release 0.32.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.quantisation import formats
from rayserve_par.model.quantisation.kv_cache import kv_cache_bits
from rayserve_par.model.quantisation.patterns import NamePatterns
from rayserve_par.model.quantisation.rules import EXPERTS, LINEAR, ModuleGroup, QuantisationRules
from rayserve_par.model.weight_format import FP8, MXFP4, NVFP4, WeightFormat

_LATER_EXPERT = re.compile(r"\bexperts\.[1-9]")

Quant = Mapping[str, Any]
Groups = tuple[ModuleGroup, ...]

_IGNORE_KEYS = (
    "ignore",
    "ignored_layers",
    "modules_to_not_convert",
    "exclude_modules",
    "exclude",
    "llm_int8_skip_modules",
)


def _fp8(name: str, quant: Quant) -> Groups:
    block = quant.get("weight_block_size")
    experts = quant.get("expert_dtype")
    # Scales are one byte only in checkpoints with FP4 experts; others round them and keep float32.
    scales = quant.get("scale_fmt") if experts == "fp4" else None
    dense = formats.blocks(name, block, scales) if block else FP8
    found: Groups = (ModuleGroup(dense, LINEAR),)
    if experts == "fp4":
        found = (ModuleGroup(MXFP4, EXPERTS), *found)
    if str(quant.get("moe_quant_algo")).upper() == "NVFP4":
        named = _by_name(name, quant.get("quantized_layers") or {})
        found = (*(named or (ModuleGroup(NVFP4, EXPERTS),)), *found)
    return found


def _by_name(name: str, layers: Mapping[str, Mapping[str, Any]]) -> Groups:
    """The groups of modelopt's `quantized_layers`: module -> algorithm."""
    modules: dict[str, list[str]] = {}
    for module, entry in layers.items():
        # Tens of thousands of entries name every expert; the first stands for all.
        if _LATER_EXPERT.search(module):
            continue
        modules.setdefault(str(entry.get("quant_algo")), []).append(module)
    return tuple(
        ModuleGroup(formats.modelopt(name, algorithm), names=NamePatterns.of(listed, name))
        for algorithm, listed in modules.items()
    )


def _modelopt(name: str, quant: Quant) -> Groups:
    algorithm = quant.get("quant_algo")
    if algorithm is None and quant.get("config_groups"):
        return _compressed_tensors(name, quant)
    if str(algorithm).upper() != "MIXED_PRECISION":
        one = formats.modelopt(name, algorithm)
        return (ModuleGroup(one, LINEAR),) if _says_what(quant) else _hybrid(one)
    found = _by_name(name, quant.get("quantized_layers") or {})
    if not found:
        raise RefusedError(
            f"{name}: quant_algo MIXED_PRECISION without quantized_layers says not which layers "
            "are quantised. Put hf_quant_config.json beside config.json."
        )
    return found


def _says_what(quant: Quant) -> bool:
    """Whether modelopt wrote the config itself, and so lists what it left out."""
    return any(key in quant for key in (*_IGNORE_KEYS, "producer", "config_groups"))


def _hybrid(main: WeightFormat) -> Groups:
    """The layers meant by a bare summary, which NVIDIA publishes with Nemotron-3 Super and Ultra.

    Routed experts and MLPs in the named format, shared experts and Mamba in FP8, attention not.
    Source: docs.nvidia.com/nemotron, "Precision Settings" of super3 and ultra3.
    """
    return (
        ModuleGroup(main, frozenset({Component.ROUTED_EXPERTS, Component.DENSE_MLP})),
        ModuleGroup(FP8, frozenset({Component.SHARED_EXPERTS, Component.RECURRENT})),
    )


def _compressed_tensors(name: str, quant: Quant) -> Groups:
    found = []
    for group in (quant.get("config_groups") or {}).values():
        if not group.get("weights"):
            continue
        made = formats.scheme(name, group["weights"], group.get("input_activations"))
        targets = group.get("targets") or ["Linear"]
        # Names of torch classes: one word with a capital, "Linear" or "FusedMoE".
        classes = [one for one in targets if one.isidentifier() and one[0].isupper()]
        names = NamePatterns.of([one for one in targets if one not in classes], name)
        parts = LINEAR if "Linear" in classes else EXPERTS if classes else frozenset()
        found.append(ModuleGroup(made, parts, names))
    if not found:
        raise RefusedError(
            f"{name}: the quantisation config's config_groups name no weights. Check config.json."
        )
    # A group that names modules goes before one that takes a whole class.
    return tuple(sorted(found, key=lambda group: bool(group.components)))


def _awq(name: str, quant: Quant) -> Groups:
    del name
    bits = int(quant.get("bits") or quant.get("w_bit") or 4)
    group = int(quant.get("group_size") or quant.get("q_group_size") or 128)
    symmetric = quant.get("zero_point", True) is False
    return (ModuleGroup(formats.integer(bits, group, symmetric=symmetric), LINEAR),)


def _gptq(name: str, quant: Quant) -> Groups:
    def made(entry: Quant) -> WeightFormat:
        bits, group = (
            entry.get(key, quant.get(key, default))
            for key, default in (("bits", 4), ("group_size", 128))
        )
        # Zero points are in the file whether the scheme is symmetric or not.
        return formats.integer(int(bits), int(group), symmetric=False)

    named = []
    for pattern, entry in (quant.get("dynamic") or {}).items():
        if not pattern.startswith("-:"):
            names = NamePatterns.of([f"re:{pattern.removeprefix('+:')}"], name)
            named.append(ModuleGroup(made(entry), names=names))
    if quant.get("lm_head"):
        named.append(ModuleGroup(made({}), names=NamePatterns.of(["lm_head"], name)))
    return (*named, ModuleGroup(made({}), LINEAR))


def _quark(name: str, quant: Quant) -> Groups:
    kinds = {"fp4": ("float", 4), "fp8_e4m3": ("float", 8), "int4": ("int", 4), "int8": ("int", 8)}

    def made(entry: Quant) -> WeightFormat:
        weight = entry.get("weight") or {}
        if isinstance(weight, list):
            weight = weight[0]
        dtype, layout = str(weight.get("dtype")), str(weight.get("qscheme"))
        kind, bits = kinds.get(dtype, (dtype, 0))
        words = {
            "type": kind,
            "num_bits": bits,
            "strategy": layout.removeprefix("per_"),
            "group_size": weight.get("group_size"),
            "symmetric": weight.get("symmetric"),
        }
        return formats.scheme(name, words, entry.get("input_tensors"))

    named = tuple(
        ModuleGroup(made(entry), names=NamePatterns.of([pattern], name))
        for pattern, entry in (quant.get("layer_quant_config") or {}).items()
        if entry.get("weight")
    )
    return (*named, ModuleGroup(made(quant.get("global_quant_config") or {}), LINEAR))


def _bitsandbytes(name: str, quant: Quant) -> Groups:
    del name
    if quant.get("load_in_8bit"):
        return (ModuleGroup(formats.integer(8, None), LINEAR),)
    # QLoRA's double quantisation stores the scales of 64 values in 8 bits, else in 32.
    scale = 8.0 if quant.get("bnb_4bit_use_double_quant") else 32.0
    return (ModuleGroup(WeightFormat("bnb4", 4.0, 1, 64, scale), LINEAR),)


def _always(group: ModuleGroup) -> Callable[[str, Quant], Groups]:
    """The reader of a method that leaves nothing to choose."""

    def read(name: str, quant: Quant) -> Groups:
        del name, quant
        return (group,)

    return read


METHODS: dict[str, Callable[[str, Quant], Groups]] = {
    "fp8": _fp8,
    "deepseek_v4_fp8": _fp8,
    "fbgemm_fp8": _always(ModuleGroup(formats.FP8_CHANNEL, LINEAR)),
    "mxfp4": _always(ModuleGroup(MXFP4, EXPERTS)),
    "gpt_oss_mxfp4": _always(ModuleGroup(MXFP4, EXPERTS)),
    "mxfp8": _always(ModuleGroup(formats.MXFP8, LINEAR)),
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "modelopt_mxfp8": _modelopt,
    "modelopt_mixed": _modelopt,
    "compressed-tensors": _compressed_tensors,
    "awq": _awq,
    "auto_awq": _awq,
    "awq_marlin": _awq,
    "gptq": _gptq,
    "auto_gptq": _gptq,
    "gptq_marlin": _gptq,
    "quark": _quark,
    "bitsandbytes": _bitsandbytes,
}


def _ignored(quant: Quant) -> Iterable[str]:
    if quant.get("moe_quant_algo"):
        # The list then says which modules are not NVFP4, and those are FP8.
        return
    for key in _IGNORE_KEYS:
        yield from quant.get(key) or []
    for pattern in quant.get("dynamic") or {}:
        if pattern.startswith("-:"):
            yield f"re:{pattern[2:]}"


def rules_from_config(quant: Quant | None, *, name: str, base: WeightFormat) -> QuantisationRules:
    """The rules of a checkpoint.

    `quant` is what `quantization_of` gives: None where the checkpoint is not quantised. `base` is
    how everything that is not quantised is stored.
    Raises RefusedError for a method or a format that is not known.
    """
    if not quant:
        return QuantisationRules(base.name, base)
    # hf_quant_config.json, which modelopt writes beside config.json, nests one level deeper.
    inner = {**quant, **(quant.get("quantization") or {})}
    method = inner.get("quant_method") or ("modelopt" if "quant_algo" in inner else None)
    reader = METHODS.get(str(method))
    if reader is None:
        raise RefusedError(
            f"{name}: quantisation method {method!r} is not known. Known: {', '.join(METHODS)}."
        )
    groups = reader(name, inner)
    return QuantisationRules(
        name="+".join(dict.fromkeys(group.format.name for group in groups)),
        base=base,
        groups=groups,
        ignored=NamePatterns.of(_ignored(inner), name),
        kv_cache_bits=kv_cache_bits(str(method), inner),
    )
