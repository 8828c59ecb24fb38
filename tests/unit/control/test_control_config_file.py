"""Reading Serve config files."""

from pathlib import Path

import pytest

from rayserve_par.control.config_file import conflicts_with_deployed, read_config
from rayserve_par.errors import RefusedError

OURS = "import_path: rayserve_par:build_app"


def write(folder: Path, text: str) -> Path:
    file = folder / "some.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_our_applications_are_found_among_others(tmp_path: Path) -> None:
    config = read_config(
        write(
            tmp_path,
            "http_options: {port: 9000}\n"
            "applications:\n"
            "  - {name: other, route_prefix: /o, import_path: 'elsewhere:app', args: {a: 1}}\n"
            f"  - {{name: chat, route_prefix: /c, {OURS}, args: {{model: a/b, hardware: B200}}}}\n"
            f"  - {{{OURS}, args: {{model: tiny-moe}}, runtime_env: {{env_vars: {{A: '1'}}}}}}\n",
        )
    )
    assert [(app.name, app.route_prefix) for app in config.apps] == [
        ("chat", "/c"),
        ("default", "/"),
    ]
    assert config.apps[0].args.hardware == "B200"
    assert config.apps[1].runtime_env == {"env_vars": {"A": "1"}}
    assert config.document["http_options"] == {"port": 9000}
    assert len(config.document["applications"]) == 3


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("applications: [unclosed", ("is not valid YAML", "some.yaml")),
        ("", ("lists no applications",)),
        ("- a\n- b\n", ("lists no applications",)),
        ("applications: []\n", ("lists no applications",)),
        ("applications: {name: x}\n", ("lists no applications",)),
        (
            "applications:\n  - {name: x, import_path: 'elsewhere:app'}\n",
            ("no application with import_path: rayserve_par:build_app",),
        ),
        (
            f"applications:\n  - {{name: chat, {OURS}, args: {{modle: a/b}}}}\n",
            ("chat in", "unknown key 'modle'", "did you mean 'model'?"),
        ),
        (
            f"applications:\n  - {{name: one, {OURS}, args: {{model: tiny-moe}}}}\n"
            f"  - {{name: two, {OURS}, args: {{model: tiny-llama, aliases: [tiny-moe]}}}}\n",
            ("one and two both serve a model called 'tiny-moe'",),
        ),
        (f"applications:\n  - {{name: chat, {OURS}}}\n", ("chat in", "model: Field required")),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(RefusedError) as refusal:
        read_config(write(tmp_path, text))
    for part in parts:
        assert part in str(refusal.value)


def two_apps(one: str, other: str, prefixes: tuple[str, str] = ("/a", "/b")) -> str:
    return (
        f"applications:\n  - {{name: a, route_prefix: {prefixes[0]}, {OURS}, args: {{{one}}}}}\n"
        f"  - {{name: b, route_prefix: {prefixes[1]}, {OURS}, args: {{{other}}}}}\n"
    )


def test_applications_of_one_name_on_node_groups_of_their_own_are_read(tmp_path: Path) -> None:
    text = two_apps(
        "model: x/chat, aliases: [gpt], node_group: H100",
        "model: x/chat-fp8, served_model_name: gpt, aliases: [chat], node_group: H200",
    )
    assert [app.args.node_group for app in read_config(write(tmp_path, text)).apps] == [
        "H100",
        "H200",
    ]


@pytest.mark.parametrize(
    ("one", "other", "prefixes", "parts"),
    [
        (
            "model: m, node_group: H100",
            "model: m",
            ("/a", "/b"),
            ("a and b both serve a model called 'm'", "give each a node_group of its own"),
        ),
        (
            "model: m, node_group: H100",
            "model: m, node_group: NVIDIA-h100-80gb-hbm3",
            ("/a", "/b"),
            ("on the node group H100", "one application with more replicas"),
        ),
        (
            "model: m, node_group: H100, aliases: [x]",
            "model: m, node_group: H200",
            ("/a", "/b"),
            ("must be the same", "a has m, x, b has m"),
        ),
        (
            "model: m, node_group: H100",
            "model: m, node_group: H200",
            ("/", "/b"),
            ("a has the route_prefix /", "such as /a"),
        ),
    ],
)
def test_applications_of_one_name_that_are_no_pool_are_refused(
    tmp_path: Path, one: str, other: str, prefixes: tuple[str, str], parts: tuple[str, ...]
) -> None:
    with pytest.raises(RefusedError) as refusal:
        read_config(write(tmp_path, two_apps(one, other, prefixes)))
    for part in parts:
        assert part in str(refusal.value)


def test_what_is_deployed_beside_and_no_pool_with_it_is_told(tmp_path: Path) -> None:
    text = two_apps("model: m, node_group: H100", "model: n")
    apps = read_config(write(tmp_path, text)).apps
    args = {"model": "m", "node_group": "H200"}
    build = {"import_path": "rayserve_par:build_app"}
    deployed = {
        "a": {**build, "name": "a", "args": {"model": "m"}},  # replaced by ours
        "pooled": {**build, "name": "pooled", "route_prefix": "/p", "args": args},
        "same": {**build, "name": "same", "route_prefix": "/s", "args": {"model": "n"}},
        "later": {**build, "name": "later", "args": {"model": "n", "key_of_tomorrow": 1}},
        "other": {"import_path": "elsewhere:app", "name": "other", "args": {"model": "n"}},
    }
    [found] = conflicts_with_deployed(apps, deployed)
    assert "the applications same and b both serve a model called 'n'" in found
    assert "node_group of its own" in found


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(RefusedError, match="There is no config file"):
            read_config(path)
