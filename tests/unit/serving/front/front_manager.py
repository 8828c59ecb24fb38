"""A manager of its own process, as Serve's is: launches HAProxy and does what stdin says.

Run: python front_manager.py LAUNCHER CONFIG. Commands, one a line: `reload` (take over from the
last), `stop` (kill HAProxy as Serve's shutdown does). It prints the pid of each HAProxy it starts.
"""

from __future__ import annotations

import subprocess
import sys


def main() -> None:
    launcher, config, *extra = sys.argv[1:]
    started = subprocess.Popen([launcher, "-db", "-f", config, *extra])
    print(started.pid, flush=True)
    for line in sys.stdin:
        if line.strip() == "reload":
            words = [launcher, "-db", "-f", config, "-sf", str(started.pid)]
            started = subprocess.Popen(words)
            print(started.pid, flush=True)
        elif line.strip() == "stop":
            started.kill()
            started.wait()
            print("stopped", flush=True)


if __name__ == "__main__":
    main()
