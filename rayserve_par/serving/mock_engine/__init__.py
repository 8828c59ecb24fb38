"""An engine with set times in place of a GPU: what routing and scaling are measured on."""
