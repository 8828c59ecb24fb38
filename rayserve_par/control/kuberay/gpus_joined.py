"""The head pod's startup probe: exit code 0 once so many GPUs have joined this Ray cluster.

`python3 -m rayserve_par.control.kuberay.gpus_joined 16`
"""

from __future__ import annotations

import sys
from collections.abc import Mapping


def joined(resources: Mapping[str, float], wanted: int) -> bool:
    """Whether Ray's cluster resources hold `wanted` GPUs."""
    return resources.get("GPU", 0.0) >= wanted


def main() -> int:
    """Ask the cluster of this pod."""
    import logging

    import ray

    try:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        print(f"Ray does not answer: {error}", file=sys.stderr)
        return 1
    resources = ray.cluster_resources()
    print(f"{resources.get('GPU', 0.0):g} of {sys.argv[1]} GPUs have joined")
    return 0 if joined(resources, int(sys.argv[1])) else 1


if __name__ == "__main__":
    sys.exit(main())
