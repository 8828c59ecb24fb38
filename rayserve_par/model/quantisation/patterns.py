"""Which modules a list of names, globs and regexes covers.

Publishers name the same module differently ("model.layers.3.mlp", "language_model.model.layers.3
.block_sparse_moe", "layers.3.ffn") and name whole trees, fused projections ("qkv_proj") or every
expert. So both sides are brought to one spelling, and an entry covers a module when it is

    a name      one of the module's ancestors or itself, counted from the root where the entry
                gives a layer's number, from anywhere where it does not ("gate", "mlp.gate")
    a glob      "path*" and "path.*" as vLLM reads them: the tree under path; "*.tail.*" likewise
    a regex     "re:..." matched from the start of any of the usual spellings

Expert 0 stands for all experts: entries for other experts are passed over.
Left out: shards of a fused projection that are stored differently (vLLM refuses those).
Source: `is_layer_skipped` and `ModelOptQuantConfigBase` in vllm/model_executor/layers/quantization,
`should_ignore_layer` in its compressed_tensors/utils.py.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from rayserve_par.errors import RefusedError

_ROOTS = frozenset({"model", "language_model", "text_model", "backbone", "transformer", "module"})
_SPELLINGS = ("", "model.", "language_model.model.", "model.language_model.", "backbone.")
_ALIASES = {
    "block_sparse_moe": "mlp",
    "ffn": "mlp",
    "feed_forward": "mlp",
    "attn": "self_attn",
    "attention": "self_attn",
    "w1": "gate_proj",
    "w2": "down_proj",
    "w3": "up_proj",
    "shared_expert": "shared_experts",
    "share_expert": "shared_experts",
    "router": "gate",
    "head": "lm_head",
    "embed": "embed_tokens",
    "embeddings": "embed_tokens",
}
_FUSED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "fused_qkv_a_proj": ("q_a_proj", "kv_a_proj_with_mqa"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
}
_WHOLE = {part: fused for fused, parts in _FUSED.items() for part in parts}
# Hybrids call every kind of token mixer, and the experts, by this one name.
_MIXER = ("mixer", "self_attn", "mlp", "linear_attn", "mamba")


def canonical(module: str) -> str:
    """The one spelling of a module's name: "layers.3.mlp.experts.0.down_proj"."""
    tokens = module.split(".")
    while len(tokens) > 1 and tokens[0] in _ROOTS:
        tokens.pop(0)
    return ".".join([_ALIASES.get(token, token) for token in tokens])


def _trees(entry: str) -> Iterator[str]:
    """Canonical names of the trees that a plain entry covers; without a layer number unrooted."""
    tokens = canonical(entry).split(".")
    if tokens[0] == "layers" and len(tokens) > 2 and tokens[1] == "*":
        tokens = tokens[2:]
    if "experts" in tokens[:-1]:
        after = tokens.index("experts") + 1
        if tokens[after] == "*":
            tokens[after] = "0"
        elif not tokens[after].isdigit():
            tokens.insert(after, "0")
        elif tokens[after] != "0":
            return
    leaf = tokens[-1]
    leaves = (leaf, *_FUSED.get(leaf, ()), *((_WHOLE[leaf],) if leaf in _WHOLE else ()))
    for mixer in _MIXER if "mixer" in tokens[:-1] else ("",):
        stem = [mixer if token == "mixer" else token for token in tokens[:-1]]
        for last in leaves:
            yield ".".join([*stem, last])


def _plain(entry: str) -> str | None:
    """The entry without the stars that mean "the tree of"; None where it is a true glob."""
    name = entry.removeprefix("*.").rstrip(".")
    name = name.removesuffix(".*") if name.endswith(".*") else name.removesuffix("*")
    if not name or name.startswith("*"):
        return None
    inner = [token for token in name.split(".") if "*" in token]
    if any(token != "*" for token in inner) or any(mark in name for mark in "?["):
        return None
    starred = canonical(name).split(".")
    at = [i for i, token in enumerate(starred) if token == "*"]
    return name if all(i and starred[i - 1] in ("layers", "experts") for i in at) else None


@dataclass(frozen=True, slots=True)
class NamePatterns:
    """A list of entries, ready to be asked often.

    `rooted` are trees counted from the root, `floating` trees that may start anywhere. `anywhere`
    is tried on one spelling, `anchored` on all of them.
    """

    rooted: frozenset[str] = frozenset()
    floating: frozenset[str] = frozenset()
    anywhere: re.Pattern[str] | None = None
    anchored: re.Pattern[str] | None = None

    @classmethod
    def of(cls, entries: Iterable[str], name: str) -> "NamePatterns":
        """Sort entries; `name` is the model's, for the message of a broken regex."""
        rooted: set[str] = set()
        floating: set[str] = set()
        anywhere: list[str] = []
        anchored: list[str] = []
        for entry in entries:
            if entry.startswith("re:"):
                pattern = entry[3:]
                (anywhere if pattern.startswith(".*") else anchored).append(pattern)
            elif (plain := _plain(entry)) is None:
                pattern = translate(entry)
                (anywhere if entry.startswith("*") else anchored).append(pattern)
            else:
                for tree in _trees(plain):
                    (rooted if tree.startswith("layers.") else floating).add(tree)
        return cls(
            frozenset(rooted), frozenset(floating), _joined(anywhere, name), _joined(anchored, name)
        )

    def match(self, module: str) -> bool:
        """Whether any entry covers the module."""
        spelled = canonical(module)
        if self.rooted and any(head in self.rooted for head in _heads(spelled)):
            return True
        if self.floating and not self.floating.isdisjoint(_runs(_without_layer(spelled))):
            return True
        if self.anywhere and (self.anywhere.match(module) or self.anywhere.match(spelled)):
            return True
        if self.anchored is None:
            return False
        spellings = (module, *(prefix + spelled for prefix in _SPELLINGS))
        return any(self.anchored.match(one) for one in spellings)


NO_NAMES = NamePatterns()


def _joined(patterns: list[str], name: str) -> re.Pattern[str] | None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise RefusedError(
                f"{name}: the quantisation config's pattern {pattern!r} is no regex: {error}."
            ) from None
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None


def _heads(module: str) -> Iterator[str]:
    """The module and all its ancestors."""
    while True:
        yield module
        if "." not in module:
            return
        module = module.rpartition(".")[0]


def _without_layer(module: str) -> str:
    head, _, tail = module.partition(".")
    number, _, rest = tail.partition(".")
    return rest if head == "layers" and number.isdigit() and rest else module


@lru_cache(maxsize=4096)
def _runs(module: str) -> frozenset[str]:
    """Every run of consecutive parts of a name."""
    tokens = module.split(".")
    ends = range(1, len(tokens) + 1)
    return frozenset(".".join(tokens[start:end]) for end in ends for start in range(end))
