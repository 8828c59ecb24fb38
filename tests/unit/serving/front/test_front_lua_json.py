"""The Lua part's JSON, run by the real HAProxy's Lua."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rayserve_par.serving.front.front_settings import LUA_FOLDER
from rayserve_par.serving.front.launcher import real_haproxy
from rayserve_par.serving.front.lua_table import lua_literal

_NAMES = st.text(max_size=20)
_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | _NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


def lua(folder: Path, script: str) -> str:
    """What `script` prints when HAProxy loads it."""
    (folder / "script.lua").write_text(f'local json = require("rayserve_par.json")\n{script}')
    (folder / "haproxy.cfg").write_text(
        f'global\n  lua-prepend-path "{LUA_FOLDER}/?.lua"\n  lua-load "{folder}/script.lua"\n'
    )
    command = [real_haproxy(), "-c", "-f", str(folder / "haproxy.cfg")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lua")


@hypothesis_settings(max_examples=10)
@given(
    documents=st.lists(st.dictionaries(_NAMES, _VALUES, max_size=5), min_size=1, max_size=20),
    ascii_only=st.booleans(),
)
def test_documents_are_read_as_python_reads_them(
    folder: Path, documents: list[dict[str, object]], ascii_only: bool
) -> None:
    """Decoded in Lua and written out again by a small printer, then compared."""
    texts = [json.dumps(one, ensure_ascii=ascii_only, indent=1) for one in documents]
    printed = lua(
        folder,
        """
local function show(found)
    if type(found) == "table" then
        local parts = {}
        for key, item in pairs(found) do
            parts[#parts + 1] = json.quote(tostring(key)) .. ":" .. show(item)
        end
        return "{" .. table.concat(parts, ",") .. "}"
    end
    return type(found) == "string" and json.quote(found) or tostring(found)
end
for _, text in ipairs("""
        + lua_literal(texts)
        + """) do print("=" .. show(json.decode(text))) end""",
    )
    shown = [json.loads(line[1:]) for line in printed.split("\n") if line.startswith("=")]
    assert shown == [_as_lua(one) for one in documents]


def _as_lua(value: object) -> object:
    """Lists are tables with numbers for keys."""
    if isinstance(value, list):
        return {str(number): _as_lua(one) for number, one in enumerate(value, start=1)}
    if isinstance(value, dict):
        return {key: _as_lua(one) for key, one in value.items()}
    return value


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a"}', '{"a":1,}', "[1 2]", '"open', "nul", "[" * 100, '{"a":"\\', "\x00", "}"],
)
def test_what_is_no_json_is_nil(folder: Path, text: str) -> None:
    assert "[nil]" in lua(
        folder, f'print("[" .. tostring(json.decode({lua_literal(text)})) .. "]")'
    )


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (r'"\\u0041"', r"\u0041"),
        (r'"\ud83d\ude00\u00e4\/"', "\U0001f600\u00e4/"),
        (r'"\ud83d"', "?"),
        ("1.5e3", "1500.0"),
        (" true ", "true"),
        ("null", "nil"),
    ],
)
def test_escapes_and_words(folder: Path, text: str, read: str) -> None:
    assert lua(folder, f"print(json.decode({lua_literal(text)}))").splitlines()[0] == read


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ('{"object":"list","data":[{"a":1},{"b":"}]"}]}', ['{"a":1}', '{"b":"}]"}']),
        ('{ "data" : [ { "a" : [ { } ] } ] , "x" : [] }', ['{ "a" : [ { } ] }']),
        ('{"data":[]}', []),
        ('{"data":[{"a":1}', ['{"a":1}']),
        ('{"data":[{"a":', []),
        ('{"error":{"message":"no"}}', []),
        ("", []),
    ],
)
def test_the_objects_of_a_list_are_cut_out_unchanged(
    folder: Path, text: str, raw: list[str]
) -> None:
    script = f"for _, one in ipairs(json.raw_data({lua_literal(text)})) do print('=' .. one) end"
    assert [line[1:] for line in lua(folder, script).split("\n") if line[:1] == "="] == raw


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r'{"model":"org\/name"}', "org/name"),
        (r'{"model":"\u4e2d\u00e8"}', "\u4e2d\u00e8"),
        (r'{"mod\u0065l":"m"}', "m"),
        (' { "a" : [ "]" , {"model":"x"} ] , "model" : "m" } ', "m"),
        ('{"a":' + "[{" * 500 + '"b":1' + "}]" * 500 + ',"model":"m"}', "m"),
        ('{"a":' + "[" * 5000 + "]" * 5000 + ',"model":"m"}', "m"),
        (r'{"a":"\\","b":"\"model\":\"x\"","c":-1.5e3,"d":null,"model":"m"}', "m"),
        ('{"model":"m","messages":[{"content":"cut o', "m"),
        ('{"model":7,"a":1}', None),
        ('{"model":null}', None),
        ('{"a":{"model":"x"}}', None),
        ('{"a":"model","b":"x"}', None),
        ('{"a":1,"model":"cut o', None),
        ('[{"model":"x"}]', None),
        ('{"a":[', None),
        ('{"a":"\\', None),
        ('{"a" "model":"x"}', None),
        ("{}", None),
        ("{", None),
        ("", None),
        ("[" * 100000, None),
    ],
)
def test_a_string_at_the_top_is_found(folder: Path, text: str, found: str | None) -> None:
    script = f'print("=" .. tostring(json.find_text({lua_literal(text)}, "model")))'
    assert f"={found or 'nil'}" in lua(folder, script).split("\n")


@hypothesis_settings(max_examples=10)
@given(
    documents=st.lists(
        st.dictionaries(_NAMES, _VALUES, max_size=4).flatmap(
            lambda one: _NAMES.map(lambda model: {**one, "model": f"={model}"})
        ),
        min_size=1,
        max_size=20,
    ),
    ascii_only=st.booleans(),
)
def test_what_is_found_is_what_python_reads(
    folder: Path, documents: list[dict[str, object]], ascii_only: bool
) -> None:
    texts = [json.dumps(one, ensure_ascii=ascii_only) for one in documents]
    script = f'for _, text in ipairs({lua_literal(texts)}) do print("=" .. json.quote('
    printed = lua(folder, script + 'json.find_text(text, "model"))) end')
    found = [json.loads(line[1:]) for line in printed.split("\n") if line.startswith("=")]
    assert found == [one["model"] for one in documents]
