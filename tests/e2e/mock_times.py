"""The mock engine of the controller's tests: small, so that a few requests a second fill it."""

SMALL_ENGINE = {
    "step_seconds_per_sequence": 0.001,
    "prefill_tokens_per_second": 2000,
    "max_num_seqs": 16,
    "max_num_batched_tokens": 256,
    "max_model_len": 512,
    "kv_blocks": 512,
    "enable_prefix_caching": False,
}
