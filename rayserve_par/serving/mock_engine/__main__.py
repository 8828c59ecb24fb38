"""One mock engine as a server of its own.

Run: python -m rayserve_par.serving.mock_engine --port 9001 --model mock \
        --engine '{"prefill_tokens_per_second": 6000, "kv_blocks": 2048}'
"""

from __future__ import annotations

import argparse
import json
import sys

from rayserve_par.errors import RefusedError
from rayserve_par.serving.mock_engine.api import MockApi
from rayserve_par.serving.mock_engine.engine import MockEngine
from rayserve_par.serving.mock_engine.standalone import StandaloneApp
from rayserve_par.serving.mock_engine.times import EngineTimes


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="mock")
    parser.add_argument("--alias", action="append", default=[])
    parser.add_argument("--engine", type=json.loads, default={}, help="JSON, see EngineTimes")
    args = parser.parse_args()
    try:
        times = EngineTimes.from_mapping(args.engine)
    except RefusedError as refusal:
        sys.exit(str(refusal))
    import uvicorn

    app = StandaloneApp(MockApi(MockEngine(times), (args.model, *args.alias)))
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
