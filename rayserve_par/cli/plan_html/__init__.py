"""A page of plans: one HTML file that needs nothing else, with hand-made SVG.

Text of any origin is escaped: by jinja2's autoescaping in the page, by `svg.element` in pictures.
"""

from rayserve_par.cli.plan_html.page import PagePlan, page

__all__ = ["PagePlan", "page"]
