"""The map of sessions to instances, run by the real HAProxy's Lua."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rayserve_par.serving.front.front_settings import LUA_FOLDER
from rayserve_par.serving.front.launcher import real_haproxy

GENERATION = 32768

# A session that is used all the time, one that is not, and four generations of others.
SCRIPT = """
local map = require("rayserve_par.session_map").new()
local function size()
    local count = 0
    for _, generation in ipairs({ map.young, map.old }) do
        for _ in pairs(generation) do count = count + 1 end
    end
    return count
end
map:record(-1, 3)
map:record(-2, 4)
local largest = 0
for n = 1, 4 * GENERATION do
    map:record(n, 1)
    if n % 1000 == 0 then
        map:home(-1)
        largest = math.max(largest, size())
    end
end
print("=" .. tostring(map:home(-1)), tostring(map:home(-2)), tostring(map:home(4 * GENERATION)))
print("=" .. tostring(map:home(3 * GENERATION + 5)), largest)
map:record(-1, 2)
print("=" .. map:home(-1))
"""


def test_used_sessions_stay_and_their_number_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "script.lua").write_text(SCRIPT.replace("GENERATION", str(GENERATION)))
    (tmp_path / "haproxy.cfg").write_text(
        f'global\n  lua-prepend-path "{LUA_FOLDER}/?.lua"\n  lua-load "{tmp_path}/script.lua"\n'
    )
    command = [real_haproxy(), "-c", "-f", str(tmp_path / "haproxy.cfg")]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    kept, recent, moved = (line[1:].split() for line in output.split("\n") if line[:1] == "=")
    assert kept == ["3", "nil", "1"]
    assert recent[0] == "1"
    assert GENERATION < int(recent[1]) <= 2 * GENERATION
    assert moved == ["2"]
