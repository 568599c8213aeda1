"""Matplotlib's SVG made fit for the report: no style attributes, theme colors, text as text.

The report's content security policy forbids style attributes, so their declarations become
presentation attributes. The figure is drawn in placeholder colors, which become the custom
properties of the page's theme. Only elements and attributes that a chart needs survive, so
nothing but shapes and escaped text can come out of here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["themed"]

_ELEMENTS = {"svg", "g", "path", "rect", "text", "tspan"}
_ATTRIBUTES = {"d", "x", "y", "width", "height", "transform", "viewBox"}
_PRESENTATION = {
    "fill",
    "fill-opacity",
    "fill-rule",
    "opacity",
    "stroke",
    "stroke-dasharray",
    "stroke-dashoffset",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-opacity",
    "stroke-width",
    "text-anchor",
    "font-size",
    "font-weight",
}
_FONT = re.compile(r"(?:(?P<weight>bold|\d00)\s+)?(?P<size>[\d.]+)px")


def themed(source: str, *, label: str, colors: Mapping[str, str]) -> str:
    """Return the SVG as markup to be put in a page, any number of times.

    Args:
        source: What matplotlib wrote, with `svg.fonttype` "none".
        label: What a screen reader says of the figure.
        colors: Placeholder color "#rrggbb" to what takes its place, such as "var(--ink)".

    Raises:
        ValueError: If it is no SVG.
    """
    root = ET.fromstring(source)  # noqa: S314 - written by matplotlib in this process just now
    shapes = {f"#{e.get('id')}": e for e in root.iter() if e.get("id")}
    clean = _clean(root, shapes, colors)
    if clean is None:
        raise ValueError("matplotlib wrote no SVG")
    for attribute in ("width", "height"):
        clean.attrib.pop(attribute, None)  # the page decides the size
    clean.set("role", "img")
    clean.set("aria-label", label)
    return ET.tostring(clean, encoding="unicode")


def _clean(
    element: ET.Element, shapes: Mapping[str, ET.Element], colors: Mapping[str, str]
) -> ET.Element | None:
    tag = _bare(element.tag)
    if tag == "use":
        return _copied(element, shapes, colors)
    if tag not in _ELEMENTS:
        return None
    clean = ET.Element(tag)
    clean.text = element.text if tag in {"text", "tspan"} else None
    _copy_attributes(element, clean, colors)
    for child in element:
        kept = _clean(child, shapes, colors)
        if kept is not None:
            clean.append(kept)
    if tag == "g" and not len(clean):
        return None
    if tag == "g" and len(clean) == 1 and not clean.attrib:
        return clean[0]
    return clean


def _copied(
    use: ET.Element, shapes: Mapping[str, ET.Element], colors: Mapping[str, str]
) -> ET.Element | None:
    """Return the shape that is used, in its place: ids would have to be unique on the page."""
    href = next((v for k, v in use.attrib.items() if _bare(k) == "href"), "")
    if href not in shapes:
        return None
    clean = ET.Element("path", {"d": shapes[href].get("d", "")})
    _copy_attributes(use, clean, colors)
    x, y = clean.attrib.pop("x", "0"), clean.attrib.pop("y", "0")
    clean.set("transform", f"translate({x} {y})")
    return clean


def _copy_attributes(element: ET.Element, clean: ET.Element, colors: Mapping[str, str]) -> None:
    for key, value in element.attrib.items():
        attribute = _bare(key)
        if attribute == "style":
            _present(value, clean, colors)
        elif attribute in _PRESENTATION:
            clean.set(attribute, colors.get(value.lower(), value))
        elif attribute in _ATTRIBUTES:
            clean.set(attribute, " ".join(value.split()))


def _present(style: str, element: ET.Element, colors: Mapping[str, str]) -> None:
    for declaration in style.split(";"):
        prop, _, value = (part.strip() for part in declaration.partition(":"))
        if prop == "font":
            font = _FONT.search(value)
            if font:
                element.set("font-size", font["size"])
                if font["weight"]:
                    element.set("font-weight", font["weight"])
        elif prop in _PRESENTATION:
            element.set(prop, colors.get(value.lower(), value))


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]
