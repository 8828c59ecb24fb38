"""From a Hugging Face `config.json` to a `ModelSpec`.

    text config   the whole, or its `text_config` (`llm_config`) with the outer quantisation
    skeleton      what the type's reader finds (families/)
    formats       what the quantisation rules say of every matrix (quantisation/)
    layers        equal ones are one object

Weights in float32 are counted at 16 bits, as vLLM's dtype "auto" loads them, unless
dtype="float32" is asked for.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.families import READERS, known_model_types
from rayserve_par.model.families.defaults import DEFAULTS
from rayserve_par.model.families.family import Config, LayerShape
from rayserve_par.model.families.fields import integer
from rayserve_par.model.layer import Layer
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.quantisation import QuantisationRules, quantization_of, rules_from_config
from rayserve_par.model.spec import ModelSpec
from rayserve_par.model.vision import vision_matrices
from rayserve_par.model.weight_format import BF16, FP16, FP32, WeightFormat

_INNER = ("text_config", "llm_config", "language_config")
_OUTER = ("architectures", "torch_dtype", "dtype", "tie_word_embeddings")


def model_spec_from_config(
    config: Config,
    name: str,
    *,
    dtype: str | None = None,
    quantization: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """Read a config.

    Args:
        config: the parsed config.json.
        name: what the model is called, in messages too.
        dtype: "float32" counts weights that are not quantised at 32 bits.
        quantization: a `quantization_config` that counts instead of the config's own.

    Raises:
        RefusedError: a model type, a quantisation or a field that is not understood.
    """
    text = _text_config(config, name)
    model_type = str(text["model_type"])
    skeleton = READERS[model_type](text, name)
    prefix = skeleton.layer_prefix
    quant = quantization if quantization is not None else quantization_of(config)
    rules = rules_from_config(quant, name=name, base=_base(text, dtype))
    hidden = integer(text, name, "hidden_size")
    layers = _layers(skeleton.layers, hidden, rules, prefix, first=0)
    mtp = _layers(skeleton.mtp_layers, hidden, rules, prefix, first=len(layers))
    vocabulary = integer(text, name, "vocab_size")
    tied = bool(text.get("tie_word_embeddings", False))
    stem = prefix.removesuffix(".layers")
    embedding = _table(f"{stem}.embed_tokens", Component.EMBEDDING, vocabulary, hidden)
    head = [vector("norm", Component.NORMS, hidden, Split.WHOLE)]
    if not tied:
        head.append(_table("lm_head", Component.HEAD, vocabulary, hidden))
    return ModelSpec(
        name=name,
        model_type=model_type,
        architecture=str((text.get("architectures") or (model_type,))[0]),
        hidden_size=hidden,
        vocab_size=vocabulary,
        max_context_tokens=integer(text, name, "max_position_embeddings", "seq_length"),
        layers=layers,
        embedding=_stored((embedding,), rules)[0],
        head=_stored(head, rules),
        tied_embeddings=tied,
        vision=_stored(vision_matrices(config, name), rules),
        mtp_layers=mtp,
        kv_cache_bits=skeleton.kv_cache_bits or rules.kv_cache_bits,
    )


def _text_config(config: Config, name: str) -> Config:
    """The language model's own config, with what only the wrapper says."""
    own = config.get("model_type")
    inner = next((config[f] for f in _INNER if isinstance(config.get(f), Mapping)), None)
    if inner is None:
        if own in READERS:
            return _with_defaults(config)
        raise RefusedError(_unknown(name, own, None))
    outer = {key: config[key] for key in _OUTER if key in config}
    for kind in (inner.get("model_type"), own):
        if kind in READERS:
            return _with_defaults({**outer, **inner, "model_type": kind})
    raise RefusedError(_unknown(name, own, inner.get("model_type")))


def _unknown(name: str, own: object, inner: object) -> str:
    inside = f" (with {inner!r} inside)" if inner else ""
    return (
        f"{name}: model type {own!r}{inside} is not known. Known: "
        f"{', '.join(known_model_types())}. Another model can be sized by --weights-gib and its "
        "KV facts."
    )


def _with_defaults(config: Config) -> Config:
    return {**DEFAULTS.get(str(config["model_type"]), {}), **config}


def _base(config: Config, dtype: str | None) -> WeightFormat:
    """Storage of what is not quantised."""
    if dtype in ("float32", "float"):
        return FP32
    half = str(dtype or config.get("torch_dtype") or config.get("dtype"))
    return FP16 if half.removeprefix("torch.") in ("float16", "half") else BF16


def _layers(
    shapes: Iterable[LayerShape], hidden: int, rules: QuantisationRules, prefix: str, *, first: int
) -> tuple[Layer, ...]:
    matrices: dict[LayerShape, tuple[Matrix, ...]] = {}
    known: dict[tuple[int, tuple[WeightFormat, ...]], Layer] = {}
    found = []
    for number, shape in enumerate(shapes, first):
        if shape not in matrices:
            matrices[shape] = shape.matrices(hidden)
        plain = matrices[shape]
        formats = tuple(rules.format_of(f"{prefix}.{number}.{m.name}", m) for m in plain)
        key = (id(plain), formats)
        if key not in known:
            stored = map(_in_format, plain, formats)
            known[key] = Layer(shape.mixer, shape.ffn, tuple(stored))
        found.append(known[key])
    return tuple(found)


def _table(name: str, component: Component, vocabulary: int, hidden: int) -> Matrix:
    return Matrix(name, component, vocabulary, hidden, Split.VOCABULARY)


def _stored(matrices: Iterable[Matrix], rules: QuantisationRules) -> tuple[Matrix, ...]:
    return tuple(_in_format(m, rules.format_of(m.name, m)) for m in matrices)


def _in_format(matrix: Matrix, stored: WeightFormat) -> Matrix:
    return matrix if matrix.format is stored else matrix.stored_as(stored)
