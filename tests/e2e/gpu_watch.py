"""What a cluster's placement groups ask for, sampled all the while, each time from one table."""

from __future__ import annotations

import threading

import ray

_SAMPLE_SECONDS = 0.2
_OVER = "REMOVED"


def gpus_asked() -> float:
    """GPUs of every placement group that is not over, whether it has them or waits for them."""
    return sum(
        bundle.get("GPU", 0.0)
        for group in ray.util.placement_group_table().values()
        if group["state"] != _OVER
        for bundle in group["bundles"].values()
    )


class GpuWatch:
    """The most GPUs that were asked for at one moment while the block ran; `samples` of them."""

    def __init__(self) -> None:
        self.most = 0.0
        self.samples = 0
        self.error: Exception | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        try:
            while not self._over.wait(_SAMPLE_SECONDS):
                self.most = max(self.most, gpus_asked())
                self.samples += 1
        except Exception as error:
            self.error = error

    def __enter__(self) -> GpuWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self.error is not None:
            raise self.error
