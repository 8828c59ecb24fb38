"""From a replica's settings to vLLM's parsed server arguments.

The pass-through arguments of `engine:` become a command line, so vLLM's own parser types and
checks them; what the layout owns is set afterwards on the result.
"""

from __future__ import annotations

import contextlib
import io
import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.serving.replica_spec import ReplicaSpec
from rayserve_par.serving.vllm_bridge.names import find_vllm_name

# vLLM's parser takes these as one JSON list, other lists as several words.
_JSON_LISTS = ("allowed_origins", "allowed_methods", "allowed_headers")


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def command_line(engine: Mapping[str, Any]) -> Iterator[str]:
    """Spell `engine:` as vLLM's command line, e.g. {"max_model_len": 512} -> --max-model-len 512.

    True becomes `--flag`, False `--no-flag`, a mapping JSON, a list several values, None nothing.
    """
    for key, value in engine.items():
        flag = key.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif isinstance(value, Mapping) or key in _JSON_LISTS:
            yield from (f"--{flag}", json.dumps(value))
        elif key == "middleware":
            for each in value:
                yield from (f"--{flag}", str(each))
        elif isinstance(value, list | tuple):
            yield from (f"--{flag}", *map(_word, value))
        else:
            yield from (f"--{flag}", str(value))


def parse_server_args(spec: ReplicaSpec) -> Namespace:
    """Parse the arguments of one replica with vLLM's own parser.

    Raises:
        RefusedError: vLLM's parser refuses an argument; the message carries its words.
    """
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = find_vllm_name("make_arg_parser")(FlexibleArgumentParser())
    words = ["--model", spec.model_path, "--served-model-name"]
    words += [spec.served_model_name, *spec.aliases]
    words += list(command_line(spec.engine))
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal):
            args: Namespace = parser.parse_args(words)
    except SystemExit as error:
        text = refusal.getvalue().strip().splitlines()
        raise RefusedError(
            f"vLLM refuses the engine arguments {dict(spec.engine)}: {text[-1] if text else error}"
        ) from error
    layout = spec.plan.layout
    args.tensor_parallel_size = layout.tp
    args.pipeline_parallel_size = layout.pp
    args.data_parallel_size = layout.dp
    args.enable_expert_parallel = layout.ep > 1
    find_vllm_name("validate_parsed_serve_args")(args)
    return args
