"""The one place where text that files bring (names, descriptions, paths) is made harmless for whoever shows it.

Names of classes, columns, recipes and folders are anybody's: a terminal would obey the escape sequences in them, rich
its markup, a spreadsheet a formula, and an XML file with a control character in it is none. (nasperc writes no HTML;
:mod:`nasperc.plain_console` is the console that applies this to everything that is printed.)
"""

from __future__ import annotations

import unicodedata
from xml.sax.saxutils import escape

_FORMULA = ("=", "+", "-", "@")
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*[]|"})


def printable(text: str, keep: str = "") -> str:
    """One line in which nothing is obeyed: control and formatting characters (those that reverse the direction of
    writing among them), line breaks, and bytes of paths that are no text become escapes such as ``\\x1b``.

    Args:
        text: anything.
        keep: characters that stay as they are, such as a line break that is meant.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or _is_shown(c) else _escaped(c) for c in text)


def for_xml(text: str) -> str:
    """Text of an element of XML, SVG or HTML, or of an attribute in quotes."""
    # Of what is left, XML knows no two last code points of the first plane.
    return escape(printable(text).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff"), {'"': "&quot;"})


def for_markdown(text: str) -> str:
    """A cell of a table, or part of a line, that is neither emphasised nor a link, nor HTML."""
    return for_xml(text).replace("&quot;", '"').translate(_MARKDOWN)


def for_csv(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) and not _is_number(shown) else shown


def for_plot(text: str) -> str:
    """A label of matplotlib's, which would set what stands between dollars as mathematics (and fail where it is none),
    and leave a label that begins with an underscore out of the legend."""
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _is_shown(character: str) -> bool:
    # str.isprintable has no spaces but the common one: those of other scripts are harmless.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
