"""What runs where: nodes, instances and their ranks, applications, and what is missing.

Everything comes from Ray's own tables at the moment of the call, and from what the instances wrote
about themselves; records of instances that Ray no longer calls alive are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rayserve_par.control.config_file import IMPORT_PATH
from rayserve_par.control.serve_client import AppState, ServeClient
from rayserve_par.errors import RefusedError
from rayserve_par.placement.fit import NodeState
from rayserve_par.placement.picture import Cells, NodeView, draw
from rayserve_par.placement.verify import rank_cell
from rayserve_par.planning.layout import Layout
from rayserve_par.serving.app import plan_for, replica_spec, wanted_replicas
from rayserve_par.serving.cluster_view import live_cluster, live_nodes
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.model_store.locate import locate_model
from rayserve_par.serving.rank_table import InstanceRecord, RankRecord, read_instances, read_ranks
from rayserve_par.serving.room import check_room
from rayserve_par.serving.verification import actor_nodes


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One living instance, its layout and its living ranks."""

    record: InstanceRecord
    layout: Layout
    ranks: tuple[RankRecord, ...]


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the cluster; `missing` says, by application, why an instance cannot start."""

    nodes: tuple[NodeState, ...]
    apps: tuple[AppState, ...]
    instances: tuple[InstanceView, ...]
    missing: Mapping[str, str]

    @property
    def names(self) -> Mapping[str, str]:
        """The picture's name of every instance, by its replica."""
        return {
            view.record.replica_id: f"{view.record.app}#{number}"
            for number, view in enumerate(self.instances)
        }

    @property
    def cells(self) -> Cells:
        """What runs on each GPU that is in use."""
        names = self.names
        return {
            (rank.node_id, rank.gpu): rank_cell(
                view.layout, rank.dp_rank, rank.rank, names[view.record.replica_id]
            )
            for view in self.instances
            for rank in view.ranks
        }

    @property
    def node_views(self) -> tuple[NodeView, ...]:
        """The nodes that have GPUs."""
        views = (NodeView(n.name, n.node_id, int(n.gpus_total)) for n in self.nodes)
        return tuple(view for view in views if view.gpus)

    @property
    def picture(self) -> str:
        """Nodes x GPUs with the instance, stage or DP rank, and rank on each."""
        return draw(self.node_views, self.cells)


def observe(client: ServeClient, missing: Mapping[str, str] | None = None) -> Observation:
    """Look at the cluster that this process is connected to.

    What is missing is found by planning anew, which takes most of a look's time; who looks often
    may give what an earlier look found.
    """
    apps = client.apps()
    return Observation(
        nodes=tuple(live_nodes()),
        apps=apps,
        instances=living_instances(),
        missing=_missing(apps) if missing is None else missing,
    )


def living_instances() -> tuple[InstanceView, ...]:
    """Every instance whose replica and ranks Ray calls alive."""
    alive = actor_nodes()
    return tuple(
        InstanceView(
            record=record,
            layout=Layout(tp=record.tp, pp=record.pp, dp=record.dp, ep=record.ep),
            ranks=tuple(rank for rank in read_ranks(record.group_id) if rank.actor_id in alive),
        )
        for record in read_instances()
        if record.actor_id in alive
    )


def _missing(apps: tuple[AppState, ...]) -> dict[str, str]:
    """For each application of ours that does not run: what the cluster lacks, if anything."""
    reasons = {}
    for app in apps:
        if app.running or app.config.get("import_path") != IMPORT_PATH:
            continue
        try:
            args = parse_args(app.config.get("args") or {}, app.name)
            model = locate_model(args.model)
            made = plan_for(args, model, live_cluster())
            spec = replica_spec(args, model, made)
            check_room(spec.placement, made, wanted_replicas(args, made), args.public_name)
        except RefusedError as refusal:
            reasons[app.name] = str(refusal)
    return reasons
