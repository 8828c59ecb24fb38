"""The suites: which folder of `clients/`, what is installed, what is run, and for how long."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

_EXTRA = re.compile(r"\[.*?\]")
CLIENTS = Path(__file__).parent / "clients"


@dataclass(frozen=True, slots=True)
class Suite:
    """One client's tests.

    folder: below `clients/`, with the tests.
    what: what is run, for the page.
    pins: file of `clients/requirements/` that its environment is made from.
    tests: what pytest is given, relative to the folder, or to the source distribution.
    sdist: "name==version" whose own tests are unpacked from its source distribution.
    torch: version that pip installs first, since it finds a CPU build where one is offered.
    node: the tests are JavaScript, with a package-lock.json.
    """

    name: str
    folder: str
    what: str
    pins: str
    tests: tuple[str, ...] = (".",)
    limit_seconds: float = 600.0
    sdist: str = ""
    torch: str = ""
    node: bool = False

    @property
    def path(self) -> Path:
        """Its folder."""
        return CLIENTS / self.folder

    @property
    def pins_file(self) -> Path:
        """The file of its pins."""
        return CLIENTS / "requirements" / f"{self.pins}.txt"

    @property
    def versions(self) -> str:
        """The clients and their versions, as pinned above the line `# beside them`."""
        text, _, _ = self.pins_file.read_text(encoding="utf-8").partition("# beside them")
        pins = [line for line in text.splitlines() if line and not line.startswith("#")]
        if self.node:
            wanted = json.loads((self.path / "package.json").read_text(encoding="utf-8"))
            pins = [f"{name}=={version}" for name, version in wanted["dependencies"].items()]
        return ", ".join(_EXTRA.sub("", pin).replace("==", " ") for pin in pins) or "bare sockets"


_SDK_TESTS = (
    "tests/api_resources/chat",
    "tests/api_resources/test_completions.py",
    "tests/api_resources/test_embeddings.py",
    "tests/api_resources/test_models.py",
    "tests/api_resources/test_responses.py",
    "tests/api_resources/responses",
)
_SDK = (
    "the SDK's own tests of chat, completions, embeddings, models and responses, from its source "
    "distribution, with our model's name in place of theirs"
)
_USER = "what users do: chat, streams, async, tools, parsed answers, responses, error classes"

SUITES: tuple[Suite, ...] = (
    Suite("openai-3-sdk", "openai_sdk", _SDK, "openai3", _SDK_TESTS, 900, "openai==3.54.0"),
    Suite("openai-2-sdk", "openai_sdk", _SDK, "openai2", _SDK_TESTS, 900, "openai==2.54.0"),
    Suite("openai-3", "openai_user", _USER, "openai3"),
    Suite("openai-2", "openai_user", _USER, "openai2"),
    Suite(
        "langchain",
        "langchain",
        "langchain-tests' ChatModelIntegrationTests of ChatOpenAI, tools and structured output on",
        "langchain",
        limit_seconds=900,
    ),
    Suite(
        "vercel-ai",
        "vercel",
        "generateText, streamText, tools, generateObject and errors, through both providers",
        "vercel",
        node=True,
    ),
    Suite(
        "litellm",
        "litellm",
        "completion, streams, async, tools, parsed answers, and which exception each error becomes",
        "litellm",
    ),
    Suite(
        "schemathesis",
        "schemathesis",
        "requests made from our /openapi.json: no 5xx, no hang",
        "schemathesis",
        limit_seconds=1500,
    ),
    Suite(
        "llama-cpp",
        "llama_cpp",
        "the same requests to us and to llama.cpp's server with the same model: shapes compared",
        "llama-cpp",
    ),
    Suite("aiperf", "aiperf", "a small profile run to its end", "aiperf"),
    Suite("guidellm", "guidellm", "a small benchmark run to its end", "guidellm", torch="2.13.0"),
    Suite("abuse", "abuse", "malformed, mistyped, huge, deep and binary requests", "abuse"),
)


def suite_named(name: str) -> Suite | None:
    """The suite of this name."""
    return next((suite for suite in SUITES if suite.name == name), None)
