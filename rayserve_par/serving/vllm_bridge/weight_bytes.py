"""What a rank's model holds in memory, asked of vLLM's workers by `collective_rpc`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

EXTENSION = f"{__name__}.WeightBytesExtension"
QUESTION = "rank_weight_bytes"


class WeightBytesExtension:
    """Mixed into vLLM's worker class (`worker_extension_cls`), whose `get_model` it calls."""

    get_model: Any

    def rank_weight_bytes(self) -> int:
        """Bytes of this rank's parameters and buffers, each storage once."""
        return stored_bytes(self.get_model())


def stored_bytes(model: torch.nn.Module) -> int:
    """Bytes behind all parameters and buffers of `model`; tied ones share a storage."""
    storages = {}
    for tensor in _tensors(model):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = int(storage.nbytes())
    return sum(storages.values())


def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()
