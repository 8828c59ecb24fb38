"""What a plan is made from, read at the edge: cluster file, live cluster, profile, model, config.

Files are read here and live clusters asked here; everything after is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayserve_par.cli.plan_options import Asked, PlanOptions, asked_for, stated_cluster
from rayserve_par.errors import RefusedError

if TYPE_CHECKING:
    from rayserve_par.hardware.cluster import Cluster
    from rayserve_par.model.spec import ModelSpec
    from rayserve_par.planning.performance.constants import Constants
    from rayserve_par.planning.plan import Plan
    from rayserve_par.serving.config import AppArgs
    from rayserve_par.serving.model_store.locate import Model

_ANY_CLUSTER = "ray"


@dataclass(frozen=True, slots=True)
class PlanInput:
    """All that one application's plan follows from. `constants` None: those shipped."""

    asked: Asked
    model: Model
    cluster: Cluster
    constants: Constants | None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The application's name, or the model's."""
        return self.asked.name

    @property
    def args(self) -> AppArgs:
        """The application's args, options included."""
        return self.asked.args

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return self.model.spec

    def plan(self) -> Plan:
        """The plan. Raises RefusedError where nothing fits."""
        from rayserve_par.serving.app import plan_for

        return plan_for(self.args, self.model, self.cluster, self.constants)

    def on(self, cluster: Cluster) -> PlanInput:
        """The same on another cluster."""
        return replace(self, cluster=cluster)


def plan_inputs(config_or_model: str, options: PlanOptions) -> tuple[PlanInput, ...]:
    """What to plan, by application.

    Raises:
        RefusedError: hardware is named twice or not at all, a file or cluster cannot be read, or
            the model is unknown.
    """
    _one_source(options)
    asked = asked_for(config_or_model, options.overrides)
    given = None
    if options.cluster is not None:
        given = read_cluster(options.cluster)
    elif options.address is not None:
        given = _live_cluster(options.address)
    return tuple(_input(one, options, given) for one in asked)


def _one_source(options: PlanOptions) -> None:
    sources = {"--gpus": options.gpus, "--cluster": options.cluster, "--address": options.address}
    named = [name for name, value in sources.items() if value is not None]
    if len(named) > 1:
        raise RefusedError(f"{' and '.join(named)} each name the hardware; give one of them.")


def _input(asked: Asked, options: PlanOptions, given: Cluster | None) -> PlanInput:
    cluster = given or stated_cluster(asked.args, asked.where)
    model = _model(asked.args.model, options.manual_facts)
    if options.profile is None:
        return PlanInput(asked, model, cluster, None)
    constants, note = _calibrated(options.profile, cluster, model.spec)
    return PlanInput(asked, model, cluster, constants, (note,))


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise RefusedError(f"{option} {path} cannot be read: {reason}.") from error


def read_cluster(path: Path) -> Cluster:
    """The cluster that a YAML file describes. Raises RefusedError with the file's name."""
    import yaml

    from rayserve_par.hardware.cluster_mapping import cluster_from_mapping

    text = _read(path, "--cluster")
    try:
        return cluster_from_mapping(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise RefusedError(f"--cluster {path} is not valid YAML: {error}") from error
    except RefusedError as refusal:
        raise RefusedError(f"--cluster {path}: {refusal}") from refusal


def _live_cluster(address: str) -> Cluster:
    """The cluster that runs at `address`; none is started."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise RefusedError(
            "--address reads a Ray cluster, and Ray is not installed here. Install "
            "rayserve-par[gpu], or name the hardware: --gpus or --cluster."
        ) from error
    from rayserve_par.cli.connect import connect
    from rayserve_par.cli.local.session import read_sessions
    from rayserve_par.serving.cluster_view import live_cluster

    if address == _ANY_CLUSTER:
        connect(None if any(session.alive for session in read_sessions()) else "auto")
    else:
        connect(address)
    return live_cluster()


def _model(name: str, facts: Mapping[str, Any]) -> Model:
    from rayserve_par.serving.model_store.locate import Model, locate_model

    if "weights_gib" in facts:
        return Model(_manual(name, facts), name)
    if facts:
        given = ", ".join(f"--{_option(fact)}" for fact in facts)
        raise RefusedError(
            f"{given} describe a model of an unknown type; that takes --weights-gib as well."
        )
    return locate_model(name, prepare=False)


def _option(fact: str) -> str:
    names = {"num_heads": "heads", "max_context_tokens": "context"}
    return names.get(fact, fact).replace("_", "-")


def _manual(name: str, facts: Mapping[str, Any]) -> ModelSpec:
    from rayserve_par.model.manual import manual_spec

    lacking = [f"--{_option(fact)}" for fact in ("layers", "hidden_size") if fact not in facts]
    if lacking:
        raise RefusedError(f"{name}: --weights-gib takes {' and '.join(lacking)} as well.")
    facts = dict(facts)
    kv_bytes = facts.pop("kv_bytes_per_token", None)
    if kv_bytes is not None:
        facts["kv_bytes_per_token_per_layer"] = kv_bytes / facts["layers"]
    return manual_spec(name, **facts)


def _calibrated(path: Path, cluster: Cluster, spec: ModelSpec) -> tuple[Constants, str]:
    from rayserve_par.hardware.profile_json import profile_from_json
    from rayserve_par.planning.performance.calibrated import calibrated
    from rayserve_par.planning.performance.constants import shipped_constants

    text = _read(path, "--profile")
    try:
        profile = profile_from_json(text)
        constants = shipped_constants()
        models = _models_of({run.model for run in profile.engine_runs}, spec)
        # One profile corrects one kind of GPU: `calibrated` refuses every other.
        for gpu in {group.gpu.name: group.gpu for group in cluster.node_groups}.values():
            constants = calibrated(shipped_constants(), profile, gpu, models)
    except RefusedError as refusal:
        raise RefusedError(f"--profile {path}: {refusal}") from refusal
    used = sum(run.model in models for run in profile.engine_runs)
    return constants, (
        f"times corrected by {path}: {profile.gpu}, {profile.engine}, measured "
        f"{profile.measured_at} ({used} of {len(profile.engine_runs)} engine runs used)"
    )


def _models_of(names: set[str], planned: ModelSpec) -> dict[str, ModelSpec]:
    """The models of engine runs, as far as they are known here."""
    from rayserve_par.serving.model_store.locate import locate_model

    found = {}
    for name in sorted(names):
        try:
            found[name] = (
                planned if name == planned.name else locate_model(name, prepare=False).spec
            )
        except RefusedError:
            continue
    return found
