"""Grafana dashboards of a rayserve_par cluster, and the code that makes and reads them."""
