"""The product on real GPUs: what the plan says, what is measured, what bare vLLM does.

One command, `python -m benchmarks.gpu --out DIR`, in parts of under 10 minutes; each leaves a JSON
file in DIR, so that a run that was stopped goes on where it was. `python -m benchmarks.gpu.report`
makes the tables and plots of docs/h200.md from such a folder.
"""
