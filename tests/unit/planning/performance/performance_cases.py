"""Models, layouts and constants that the performance model's tests share.

The constants are drawn around the shipped ones, so that what is tested is the model, not its fit.
"""

from dataclasses import fields, replace
from typing import Any

from hypothesis import strategies as st

from rayserve_par.hardware import gpu_by_name, gpu_names
from rayserve_par.model import ModelSpec, known_config, known_names, model_spec_from_config
from rayserve_par.planning import Layout
from rayserve_par.planning.performance import Constants, Predictor, predictor, shipped_constants

MODELS: dict[str, ModelSpec] = {
    name: model_spec_from_config(known_config(name) or {}, name) for name in known_names()
}
SHARES = ("efficiency", "share", "interference")


def drawn(draw: st.DrawFn, name: str, value: float) -> float:
    if name == "roofline_power":
        return draw(st.floats(1.2, 6))
    found = value * draw(st.floats(0.5, 2))
    return min(1.0, found) if name.endswith(SHARES) else found


@st.composite
def constants(draw: st.DrawFn) -> Constants:
    """Every constant between half and twice the shipped one; shares at most 1."""
    shipped = shipped_constants()

    def moved(record: Any) -> dict[str, float]:
        names = [one.name for one in fields(record) if one.name != "engines"]
        return {name: drawn(draw, name, getattr(record, name)) for name in names}

    engines = {name: replace(one, **moved(one)) for name, one in shipped.engines.items()}
    return replace(shipped, **moved(shipped), engines=engines)


@st.composite
def layouts(draw: st.DrawFn, model: ModelSpec) -> Layout:
    """TP that divides all that is to be divided, PP, and for an MoE DP with EP over all ranks."""
    tp = draw(st.sampled_from([n for n in (1, 2, 4, 8) if model.num_attention_heads % n == 0]))
    pp = draw(st.sampled_from([1, 2, 4]))
    if not model.is_moe:
        return Layout(tp=tp, pp=pp)
    dp = draw(st.sampled_from([1, 2, 4]))
    return Layout(tp=tp, pp=pp, dp=dp, ep=tp * dp if dp > 1 or draw(st.booleans()) else 1)


models = st.sampled_from(sorted(MODELS)).map(MODELS.__getitem__)
gpus = st.sampled_from(gpu_names()).map(gpu_by_name)
engines = st.sampled_from(["vllm", "sglang", "trtllm"])


@st.composite
def predictors(draw: st.DrawFn) -> Predictor:
    """An instance of any model on any GPU, with any layout, engine and constants."""
    model = draw(models)
    return predictor(
        model,
        draw(gpus),
        draw(layouts(model)),
        engine=draw(engines),
        constants=draw(constants()),
        stages_share_a_node=draw(st.booleans()),
        nodes_per_stage=draw(st.sampled_from([1, 1, 2, 4])),
    )
