"""The SDK's own tests, out of its source distribution, adapted to what can be asked of a server.

They were written for a mock that answers anything that its specification allows. `ADAPTATIONS` is
everything that is changed in them; the page lists it.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path("tests") / "api_resources"


@dataclass(frozen=True, slots=True)
class Adaptation:
    """Every match of `pattern` becomes `text`, in which MODEL is our model's name."""

    pattern: str
    text: str
    why: str


ADAPTATIONS = (
    Adaptation(r'\bmodel="[^"]*"', 'model="MODEL"', "every model is ours"),
    Adaptation(
        r'(models(?:\.with_\w+)?\.retrieve\(\n\s+)"gpt[^"]*"',
        r'\1"MODEL"',
        "every model is ours",
    ),
    Adaptation(
        r"(responses(?:\.with_\w+)?\.create\()\)",
        r'\1input="string")',
        "a response without input gets one",
    ),
    Adaptation(
        r"(responses(?:\.with_\w+)?\.create\(\n)(\s+)(stream=True,\n\s+\))",
        r'\1\2input="string",\n\2\3',
        "a response without input gets one",
    ),
    Adaptation(
        r'logit_bias=\{"foo": 0\}', 'logit_bias={"5": 0}', "keys of logit_bias are token ids"
    ),
    Adaptation(
        r"(max_(?:completion_)?tokens)=0", r"\1=1", "a chat of 0 tokens becomes one of 1 token"
    ),
    Adaptation(
        r"stream=False,\n\s+stream_options=\{[^}]*\},",
        "stream=False,",
        "no stream_options where there is no stream",
    ),
    Adaptation(
        "echo=True",
        "echo=False",
        "no echo, whose first token has no logprob: null, which the SDK's types do not know",
    ),
    Adaptation(r'suffix="[^"]*"', "suffix=None", "no suffix, which vLLM does not do"),
    Adaptation(
        r"\n {12}prompt=\{\n(?:.*\n)*? {12}\},", "", "no stored prompt template, which vLLM refuses"
    ),
)


def unpack(archive: Path, into: Path, model: str) -> Path:
    """Unpack a source distribution into `into`, anew, and adapt its tests; its folder."""
    folder = into / archive.name.removesuffix(".tar.gz")
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as opened:
        opened.extractall(into, filter="data")
    for file in (folder / _FOLDER).rglob("*.py"):
        file.write_text(adapted(file.read_text(encoding="utf-8"), model), encoding="utf-8")
    return folder


def adapted(text: str, model: str) -> str:
    """A test's source with every adaptation."""
    for change in ADAPTATIONS:
        text = re.sub(change.pattern, change.text.replace("MODEL", model), text)
    return text


def adaptation_notes() -> tuple[str, ...]:
    """What is changed, each once."""
    return tuple(dict.fromkeys(change.why for change in ADAPTATIONS))
