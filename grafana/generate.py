"""Writes the dashboards. Run: python -m grafana.generate

Needs the package grafana-foundation-sdk. Each dashboard has a module in `grafana/dashboards`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.dashboards.fleet import fleet
from grafana.dashboards.model_slo import model_slo
from grafana.dashboards.planner_accuracy import planner_accuracy
from grafana.dashboards.topology import topology
from grafana.expressions import FOLDER

DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "fleet": fleet,
    "model_slo": model_slo,
    "topology": topology,
    "planner_accuracy": planner_accuracy,
}


def text_of(name: str) -> str:
    """The file of one dashboard as it should be."""
    built = json.dumps(DASHBOARDS[name]().build(), cls=JSONEncoder, indent=2, sort_keys=True)
    return f"{built}\n"


def main() -> None:
    """Write all files."""
    for name in DASHBOARDS:
        file = FOLDER / f"{name}.json"
        file.write_text(text_of(name), encoding="utf-8")
        print(f"wrote {file}")


if __name__ == "__main__":
    main()
