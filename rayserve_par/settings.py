"""Every environment variable that rayserve_par itself reads, in one typed place.

All carry the prefix `RAYSERVE_PAR_`. Nothing else in the package reads the environment at import.
"""

from __future__ import annotations

from pathlib import Path

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
        description="Address that HAProxy binds; Serve's own choice is every interface.",
    )
    session: str | None = Field(
        default=None,
        description="Set by a local cluster in all of its processes, so that it can find them.",
    )


def load_settings() -> Settings:
    """Read the settings of this process from its environment."""
    return Settings()
