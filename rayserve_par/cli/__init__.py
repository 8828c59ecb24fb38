"""The `rayserve-par` command: thin commands over the layers to the left."""
