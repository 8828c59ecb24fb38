"""A Ray cluster of several nodes on this machine, for `rayserve-par serve` and the tests."""
