"""SVG elements as text, every attribute and every text escaped."""

from __future__ import annotations

from markupsafe import Markup, escape


def element(tag: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """`<tag attribute="...">children</tag>`; an attribute of None is left out.

    Underscores in attribute names stand for hyphens, one at the end for nothing (`class_`).
    """
    named = Markup("").join(
        Markup(' {}="{}"').format(_name(name), _text(value))
        for name, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), named, inner)


def _name(name: str) -> Markup:
    return Markup(name.removesuffix("_").replace("_", "-"))


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def picture(width: float, height: float, label: str, *children: Markup) -> Markup:
    """A whole picture that scales with the page; `label` says what it shows."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )


def text(content: str, x: float, y: float, *, class_: str = "", anchor: str = "start") -> Markup:
    """One line of text whose baseline is at `y`."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def box(x: float, y: float, width: float, height: float, class_: str, *inside: Markup) -> Markup:
    """A rectangle with corners a little round."""
    return element(
        "rect", *inside, x=x, y=y, width=max(0.0, width), height=height, rx=3, class_=class_
    )
