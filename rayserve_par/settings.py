"""Every environment variable that rayserve_par itself reads, in one typed place.

All carry the prefix `RAYSERVE_PAR_`. Nothing else in the package reads the environment at import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of one process, read from the environment when the object is made."""

    model_config = SettingsConfigDict(env_prefix="RAYSERVE_PAR_", frozen=True)

    cpu_ranks: bool = Field(
        default=False,
        description="Let vLLM run each rank as a CPU process that Ray counts as a GPU.",
    )
    cache_dir: Path = Field(
        default=Path.home() / ".cache" / "rayserve-par",
        description="Where prepared models and the state of local clusters are kept.",
    )
    front_host: str | None = Field(
        default=None,
        description="Address that HAProxy binds where Serve would bind every interface; 127.0.0.1 "
        "unless set. 0.0.0.0 makes the API reachable from other hosts.",
    )
    routing: Literal["prefix", "least-loaded", "power-of-two", "round-robin"] = Field(
        default="prefix",
        description="How HAProxy picks one of a model's instances.",
    )
    front_buffer_bytes: int | None = Field(
        default=None,
        ge=2**14,
        le=2**26,
        description="How much of a request HAProxy holds: it looks for `model` there, and can send "
        "a request that fits once more, to another instance. 1 MiB with several models, else "
        "256 KiB.",
    )
    front_max_body_bytes: int = Field(
        default=2**26,
        ge=2**10,
        description="Bodies that say they are longer are answered with 413.",
    )
    front_header_seconds: int = Field(
        default=10, ge=1, description="Time for a request's headers to arrive; then 408."
    )
    front_body_seconds: int = Field(
        default=30,
        ge=1,
        description="Time for a body to arrive, or to fill the buffer; then 408.",
    )
    front_hold: bool = Field(
        default=False,
        description="Hold requests of a model that has no instance, in Ray Serve's Python proxy, "
        "until one comes, in place of a 503 at once. Scaling to zero needs it, on the cluster.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of API keys, where the config names none.",
    )
    keys: str | None = Field(
        default=None,
        description="The text of such a file, where there is no file.",
    )
    open: bool = Field(
        default=False,
        description="Serve other hosts without API keys, as admission: {open: true}.",
    )
    session: str | None = Field(
        default=None,
        description="Set by a local cluster in all of its processes, so that it can find them.",
    )


def load_settings() -> Settings:
    """Read the settings of this process from its environment."""
    return Settings()
