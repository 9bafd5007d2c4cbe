"""Figures in a page of two themes: matplotlib's SVG inlined, with the colours of the page."""

import html as markup
import math
import re

from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb

from bsglib.figures.show import WHITE
from bsglib.figures.style import BELOW, GREY, INK, PAPER

INKS = {
    INK: "currentColor",
    "#000000": "currentColor",
    GREY: "var(--ink-2)",
    "#ffffff": "var(--page)",
    PAPER.lower(): "var(--vermillion)",
}
LETTERS = r"color-mix(in oklab, \2 50%, var(--ink))"  # a line's label: its hue, dark enough to read
BATCH_COLOURS = {*map(to_hex, colormaps["viridis"].colors), *BELOW.values()}


def inline_svg(svg: str, prefix: str, alt: str) -> str:
    """Return matplotlib's SVG ready to stand in a page beside others.

    Ids get a prefix, because matplotlib reuses them between figures; neutral inks become the page's
    and the batch-size colours become variables, which `dark_colours` defines for the dark theme.

    Args:
        svg: a drawing's text, as `show.figure` keeps it.
        prefix: what the ids start with, unique in the page.
        alt: the text for those who do not see the figure.

    Returns:
        one <svg> element.
    """
    svg = svg[svg.index("<svg") :].replace(f' style="{WHITE}"', "", 1)
    svg = re.sub(
        r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.S
    )
    prefix = re.sub(r"\W", "-", prefix)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}--\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{prefix}--", svg)
    svg = re.sub(r"(?<![(\w])#[0-9a-fA-F]{6}\b(?!-)", page_colour, svg)
    svg = re.sub(r"(<text[^>]*fill: )(var\(--[bv][^)]*\))", rf"\1{LETTERS}", svg)
    width = re.search(r'width="([\d.]+pt)"', svg)
    natural = f' style="--natural:{width[1]}"' if width else ""
    label = markup.escape(alt)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"{natural}', 1)


def page_colour(match: re.Match) -> str:
    """Return a matched colour as the page's ink or variable, any other one as it is."""
    colour = match[0].lower()
    if colour in BATCH_COLOURS:
        return f"var(--b-{colour[1:]}, {colour})"
    return INKS.get(colour, match[0])


def dark_colours(html: str) -> dict[str, str]:
    """Return the dark theme's value of each batch-size colour that the page uses.

    Args:
        html: the page, or a part of it.

    Returns:
        the colour of each variable, lifted off the dark background.
    """
    used = sorted(set(re.findall(r"var\((--b[^,]+), (#[0-9a-f]{6})\)", html)))
    return {name: lifted(colour) for name, colour in used}


def lifted(colour: str) -> str:
    """Return a batch-size colour for the dark theme: the same hue, lighter, in the same order.

    OKLCh lightness (Ottosson 2020) goes from viridis's own range to .525-.94, which keeps the order
    and has contrast 3 on the dark page at its darkest; chroma is at least .11, where sRGB has it.

    Args:
        colour: an sRGB colour as "#rrggbb".

    Returns:
        an sRGB colour as "#rrggbb".
    """
    light, a, b = _oklab(to_rgb(colour))
    hue, chroma = math.atan2(b, a), max(math.hypot(a, b), 0.11)
    light = 0.525 + 0.75 * (light - _oklab(to_rgb("#440154"))[0])
    while True:
        rgb = _srgb(light, chroma * math.cos(hue), chroma * math.sin(hue))
        if min(rgb) >= 0 and max(rgb) <= 1:
            return to_hex(rgb)
        chroma *= 0.98


def _oklab(rgb) -> tuple[float, float, float]:
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    l_ = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    m_ = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    s_ = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return (
        0.2104542553 * l_ + 0.7936177850 * m_ - 0.0040720468 * s_,
        1.9779984951 * l_ - 2.4285922050 * m_ + 0.4505937099 * s_,
        0.0259040371 * l_ + 0.7827717662 * m_ - 0.8086757660 * s_,
    )


def _srgb(light: float, a: float, b: float) -> list[float]:
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return [12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in linear]
