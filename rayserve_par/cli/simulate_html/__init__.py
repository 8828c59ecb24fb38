"""The page of `simulate --html`: one file that needs nothing else, with hand-made SVG."""

from rayserve_par.cli.simulate_html.page import page

__all__ = ["page"]
