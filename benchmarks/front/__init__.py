"""Our front against a bare vLLM server, and a peer's against it, on one machine in one run."""
