"""All contact with vLLM's insides. Nothing outside this folder imports `vllm`.

Written against vLLM 0.25 to 0.32; `versions.py` says so plainly when it meets another.
"""
