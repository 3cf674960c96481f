"""A console of rich's that prints text as text: no markup, and nothing in it that the terminal would obey."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from nasperc.shown_text import printable

# What the layout itself needs; text from a file that is to be one line is made one by whoever prints it.
_LAYOUT = "\n\t"


class PlainConsole(Console):
    """Styles come from arguments (``style=``) and styled objects only.

    Strings, cells and titles of tables included, are escaped before they are laid out, so that widths are right; what
    reaches the output in another way, such as a :class:`rich.text.Text`, is escaped there.

    Args:
        file: to write to; by default standard output.
        stderr: write to standard error.
        width: in columns, by default the terminal's.
        soft_wrap: leave long lines to the terminal.
        force_terminal: treat the output as a terminal.
    """

    def __init__(
        self,
        file: IO[str] | None = None,
        *,
        stderr: bool = False,
        width: int | None = None,
        soft_wrap: bool = False,
        force_terminal: bool | None = None,
    ) -> None:
        super().__init__(
            file=file,
            stderr=stderr,
            width=width,
            soft_wrap=soft_wrap,
            force_terminal=force_terminal,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, keep=_LAYOUT), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            # Control segments are rich's own: the cursor of a live display.
            yield Segment(text if control else printable(text, keep=_LAYOUT), style, control)


def plain(text: str, style: str | Style = "") -> Text:
    """Text for a table or a panel that any console of rich's prints as it is, with nothing to obey in it."""
    return Text(printable(text, keep="\n"), style)
