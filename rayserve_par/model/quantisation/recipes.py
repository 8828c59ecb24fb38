"""The same model as a usual checkpoint of another precision stores it.

    bf16, fp16      everything
    fp8             linear layers, one scale per tensor          (NVIDIA, Red Hat)
    fp8-block128    linear layers, one scale per 128 x 128       (DeepSeek, Qwen, MiniMax, GLM)
    mxfp4           routed experts; in a dense model all linear layers      (OpenAI, AMD)
    int4            linear layers, groups of 128 with zero points           (GPTQ, AWQ)
    nvfp4           what NVIDIA's checkpoint of that model type quantises, see NVFP4_PRACTICE;
                    multi-token-prediction layers not at all
    fp4             the 4-bit floats the model already has, else nvfp4

Linear layers are those of `rules.LINEAR`: no router, embedding, head, vision tower or norm. A model
that is stored that way already is given back as it is, so "fp8" of DeepSeek-V3 stays fp8-block128.
Only weights change: the bits of the KV cache stay what they are.
Left out: that checkpoints of one precision differ between publishers and releases.
Source: quantization_config and hf_quant_config.json of the named publishers' checkpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.layer import Layer
from rayserve_par.model.matrix import Matrix
from rayserve_par.model.quantisation import formats
from rayserve_par.model.quantisation.patterns import NamePatterns
from rayserve_par.model.quantisation.rules import EXPERTS, LINEAR, ModuleGroup, QuantisationRules
from rayserve_par.model.spec import ModelSpec
from rayserve_par.model.weight_format import (
    BF16,
    FP8,
    FP16,
    MXFP4,
    NVFP4,
    WeightFormat,
    fp8_block,
)

MIXERS = frozenset({Component.ATTENTION, Component.RECURRENT})
MLPS = LINEAR - MIXERS
# A few rows per head that feed gates and decays: left alone in every quantised hybrid.
_SMALL = ("in_proj_a", "in_proj_b", "in_proj_ba")
_MLA_INPUTS = ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "indexer")


@dataclass(frozen=True, slots=True)
class Practice:
    """What a publisher quantises to 4 bits, to 8 bits beside it, and what of both it leaves out.

    `keeps_rest`: all else stays as the model's own checkpoint has it, not in 16 bits.
    """

    four_bit: frozenset[Component] = LINEAR
    eight_bit: frozenset[Component] = frozenset()
    eight_bit_format: WeightFormat = FP8
    left_out: tuple[str, ...] = ()
    keeps_rest: bool = False


_DEEPSEEK = Practice(left_out=_MLA_INPUTS)

# By model_type, from NVIDIA's NVFP4 checkpoints: DeepSeek-V3.1 and -V3.2, DeepSeek-V4-Flash and
# -Pro, Qwen3-235B-A22B, Qwen3.5-122B and -397B, Qwen3.6-27B, MiniMax-M2.5 to -M3, Gemma-4-26B and
# -31B, Nemotron-3-Super and -Ultra.
NVFP4_PRACTICE = {
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "deepseek_v32": _DEEPSEEK,
    "deepseek_v4": Practice(EXPERTS, keeps_rest=True),
    "qwen3_moe": Practice(),
    "qwen3_5_moe": Practice(EXPERTS),
    "qwen3_5": Practice(frozenset({Component.DENSE_MLP, Component.HEAD}), eight_bit=MIXERS),
    "minimax_m3": Practice(EXPERTS, eight_bit=LINEAR - EXPERTS, eight_bit_format=formats.MXFP8),
    "minimax_m3_vl": Practice(EXPERTS, eight_bit=LINEAR - EXPERTS, eight_bit_format=formats.MXFP8),
    "nemotron_h": Practice(
        frozenset({Component.ROUTED_EXPERTS, Component.DENSE_MLP}),
        eight_bit=frozenset({Component.SHARED_EXPERTS, Component.RECURRENT}),
    ),
}


def _nvfp4_practice(model: ModelSpec) -> Practice:
    """The practice of the model's type, or of models like it."""
    kind = model.model_type.removesuffix("_text")
    if kind in NVFP4_PRACTICE:
        return NVFP4_PRACTICE[kind]
    if kind.startswith("gemma4"):
        return Practice(EXPERTS if model.is_moe else frozenset({Component.DENSE_MLP}))
    if not model.is_moe:
        # Llama and Qwen3: everything.
        return Practice()
    if any(mixer.kind == "mla" for mixer in model.mixers):
        # GLM-5.1 and later, Kimi-K2.6 and later: experts alone.
        return Practice(EXPERTS)
    # MiniMax-M2: everything but attention.
    return Practice(MLPS)


def _practice(model: ModelSpec, precision: str) -> tuple[WeightFormat, Practice]:
    """The 4-bit format of a quantised precision, and what it is used for."""
    match precision:
        case "fp8" | "fp8-block128":
            eight = FP8 if precision == "fp8" else fp8_block(128, 128)
            return NVFP4, Practice(frozenset(), eight_bit=LINEAR, eight_bit_format=eight)
        case "int4":
            return formats.integer(4, 128, symmetric=False), Practice()
        case "mxfp4":
            return MXFP4, Practice(EXPERTS if model.is_moe else LINEAR)
        case _:
            return NVFP4, _nvfp4_practice(model)


@dataclass(frozen=True, slots=True)
class _Store:
    """Stores matrices by rules; with `keeps_rest` only those that the rules quantise."""

    rules: QuantisationRules
    keeps_rest: bool = False

    def matrix(self, matrix: Matrix) -> Matrix:
        # Wider than 16 bits: the reader says that this part is kept so in every checkpoint.
        plain = matrix.stored_as(BF16) if matrix.format.bits <= BF16.bits else matrix
        found = self.rules.format_of(matrix.name, plain)
        if self.keeps_rest and not found.is_quantised:
            return matrix
        return matrix.stored_as(found)

    def matrices(self, matrices: Sequence[Matrix]) -> tuple[Matrix, ...]:
        return tuple(map(self.matrix, matrices))

    def layers(self, layers: Sequence[Layer]) -> tuple[Layer, ...]:
        """Each different layer once; equal ones as one object."""
        by_id: dict[int, Layer] = {}
        interned: dict[Layer, Layer] = {}
        for layer in layers:
            if id(layer) not in by_id:
                new = replace(layer, matrices=self.matrices(layer.matrices))
                by_id[id(layer)] = interned.setdefault(new, new)
        return tuple(by_id[id(layer)] for layer in layers)


# A precision and the formats that are it already, by the start of their names.
PRECISIONS = {
    "bf16": ("bf16",),
    "fp16": ("fp16",),
    "fp8": ("fp8",),
    "fp8-block128": ("fp8-block128",),
    "nvfp4": ("nvfp4",),
    "mxfp4": ("mxfp4",),
    "fp4": ("nvfp4", "mxfp4"),
    "int4": ("int4",),
}


def with_precision(model: ModelSpec, precision: str) -> ModelSpec:
    """The model as a usual checkpoint of `precision` stores it.

    Equal layers stay one object, as `ModelSpec.layer_counts` needs.
    Raises RefusedError for a precision that is not in PRECISIONS.
    """
    own = PRECISIONS.get(precision)
    if own is None:
        raise RefusedError(
            f"{model.name}: precision {precision!r} is not known. Known: {', '.join(PRECISIONS)}."
        )
    if model.weight_format.name.startswith(own):
        return model
    plain = _Store(QuantisationRules(precision, FP16 if precision == "fp16" else BF16))
    store = mtp = plain
    if precision not in ("bf16", "fp16"):
        four_bit, practice = _practice(model, precision)
        groups = (
            ModuleGroup(four_bit, practice.four_bit),
            ModuleGroup(practice.eight_bit_format, practice.eight_bit),
        )
        left_out = NamePatterns.of((*_SMALL, *practice.left_out), model.name)
        keeps_rest = practice.keeps_rest
        store = _Store(QuantisationRules(precision, BF16, groups, left_out), keeps_rest)
        mtp = _Store(plain.rules, keeps_rest) if four_bit == NVFP4 and practice.four_bit else store
    return replace(
        model,
        layers=store.layers(model.layers),
        mtp_layers=mtp.layers(model.mtp_layers),
        embedding=store.matrix(model.embedding),
        head=store.matrices(model.head),
        vision=store.matrices(model.vision),
    )
