"""Other people's clients, run as tests against a server of ours: `make compat`.

One server (`serve.yaml`: SmolLM2 with a chat template that knows tools, and a tiny random model)
serves every suite. A suite is a folder of `clients/` and is run in an environment of its own, made
from its pinned requirements; what it found is read from a JUnit file. `page` writes what a whole
run found to docs/compatibility.md.

Outcomes of one test: passed; failed; refused (the client asks for what this server does not do, and
must get exactly the stated error: an xfail that is strict); skipped, with a reason.
"""
