"""What a Hugging Face config says of a model."""

from rayserve_par.model.hf_config import model_spec_from_config
from rayserve_par.model.known import known_config, known_model, known_names
from rayserve_par.model.spec import ModelSpec

__all__ = ["ModelSpec", "known_config", "known_model", "known_names", "model_spec_from_config"]
