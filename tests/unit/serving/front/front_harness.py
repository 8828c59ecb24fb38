"""The real HAProxy with the configuration that Ray's own template makes, through our launcher."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from front_replica import Loop, Replica, free_port
from ray.serve._private import haproxy
from ray.serve.config import HTTPOptions


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


def launcher_script(folder: Path, environment: Mapping[str, str]) -> Path:
    """A command like the installed `rayserve-par-haproxy`, with settings of its own."""
    script = folder / "rayserve-par-haproxy"
    # A stand-in lives as long as who launched it, which is this process here.
    given = {"RAYSERVE_PAR_FRONT_STAND_IN": "0", **environment}
    exports = "".join(f"export {name}={value}\n" for name, value in given.items())
    module = "rayserve_par.serving.front.launcher"
    script.write_text(f'#!/bin/sh\n{exports}exec {sys.executable} -m {module} "$@"\n', "utf-8")
    script.chmod(0o755)
    return script


def backend(
    name: str, prefix: str, replicas: Sequence[Replica], proxy_port: int = 1
) -> haproxy.BackendConfig:
    return haproxy.BackendConfig(
        name=f"http-{name}",
        path_prefix=prefix,
        app_name=name,
        ingress_deployment_name="instance",
        servers=[
            haproxy.ServerConfig(name=f"{name}-{one.name}", host=one.host, port=one.port)
            for one in replicas
        ],
        fallback_server=haproxy.ServerConfig(name="proxy", host="127.0.0.1", port=proxy_port),
        health_check_inter="500ms",
    )


def serve_api(
    folder: Path, backends: Sequence[haproxy.BackendConfig], host: str = "0.0.0.0"
) -> haproxy.HAProxyApi:
    """Ray's HAProxyApi with all of its files in `folder`."""
    config = haproxy.HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        metrics_socket_path=str(folder / "metrics.sock"),
        stats_port=free_port(),
        metrics_port=free_port(),
        http_options=HTTPOptions(host=host, port=free_port()),
        is_head=True,
    )
    api = haproxy.HAProxyApi(config, {}, str(folder / "haproxy.cfg"))
    api.set_backend_configs({one.name: one for one in backends})
    return api


def rendered_config(folder: Path, backends: Sequence[haproxy.BackendConfig]) -> str:
    """Ray's configuration, uncorrected."""
    api = serve_api(folder, backends)
    api._generate_config_file_internal()  # the one entry that renders without starting
    return Path(api.config_file_path).read_text("utf-8")


@dataclass
class Front:
    """A running front; `apps` maps (name, prefix) to the replicas, `proxy` is Serve's own."""

    folder: Path
    loop: Loop
    apps: dict[tuple[str, str], list[Replica]]
    environment: dict[str, str] = field(default_factory=dict)
    proxy: Replica | None = None

    def __post_init__(self) -> None:
        for replica in self.replicas:
            self.loop.run(replica.start())
        self.api = serve_api(self.folder, self._backends())
        self.port = self.api.cfg.frontend_port
        script = launcher_script(self.folder, self.environment)
        haproxy.RAY_SERVE_HAPROXY_BINARY_PATH = str(script)
        self.loop.run(self.api.start())

    @property
    def replicas(self) -> list[Replica]:
        found = [one for replicas in self.apps.values() for one in replicas]
        return found if self.proxy is None else [*found, self.proxy]

    def _backends(self) -> list[haproxy.BackendConfig]:
        port = 1 if self.proxy is None else self.proxy.port
        return [backend(name, prefix, found, port) for (name, prefix), found in self.apps.items()]

    def reload(self) -> None:
        self.api.set_backend_configs({one.name: one for one in self._backends()})
        haproxy.RAY_SERVE_HAPROXY_BINARY_PATH = str(self.folder / "rayserve-par-haproxy")
        self.loop.run(self.api.reload())

    def stop(self) -> None:
        self.loop.run(self.api.stop())
        for replica in self.replicas:
            self.loop.run(replica.kill())

    def server_status(self, app: str, replica: str) -> str:
        stats = self.loop.run(self.api.get_all_stats())
        return str(stats[f"http-{app}"][f"{app}-{replica}"].status)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 15,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            given = {"content-type": "application/json"} if raw is not None else {}
            connection.request(method, path, raw, {**given, **(headers or {})})
            answer = connection.getresponse()
            return Reply(
                answer.status,
                {name.lower(): text for name, text in answer.getheaders()},
                answer.read(),
            )
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, headers=headers)

    def chat(self, body: Any, **headers: str) -> Reply:
        return self.request("POST", "/v1/chat/completions", body, headers)

    def chosen(self, body: Any, **headers: str) -> str:
        """Which replica answered."""
        reply = self.chat(body, **headers)
        assert reply.status == 200, reply
        return str(reply.json["replica"])
