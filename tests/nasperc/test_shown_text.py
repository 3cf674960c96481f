"""Text of anybody's in each place that shows it, judged by the parsers of those places."""

from __future__ import annotations

import csv
import io
import xml.dom.minidom

import pytest
from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from nasperc.plain_console import PlainConsole, plain
from nasperc.shown_text import for_csv, for_markdown, for_plot, for_xml, printable

# Every character of the first plane, and some of the others.
ALL = "".join(map(chr, [*range(0x10000), 0x1F600, 0xE0001, 0x10FFFF]))
TITLE = "\x1b]0;title\x07"
HARMLESS = (
    "cat",
    "chat noir",
    "犬",
    "собака",
    "خط",
    "a\u3000b",
    "a\u00a0b",
    "🐈",
    "100 % [red] $x$ <b> & \\",
)


def obeyed(text: str) -> list[str]:
    """What a terminal acts on, or writes in another direction: C0, DEL, C1, line separators, bidirectional marks."""
    bad = {
        *range(0x20),
        *range(0x7F, 0xA0),
        0x61C,
        0x200E,
        0x200F,
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
    }
    return [character for character in text if ord(character) in bad]


def printed(*renderables: object, terminal: bool = False) -> str:
    file = io.StringIO()
    PlainConsole(file=file, width=200, force_terminal=terminal).print(*renderables)
    return file.getvalue()


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert printed(text) == text + "\n"


def test_nothing_is_obeyed_of_all_characters() -> None:
    shown = printable(ALL)
    assert obeyed(shown) == []
    # Bytes of a path that are no text, too: nothing fails in writing them.
    shown.encode("utf-8")
    assert printable("a\x1b[2J\n\u202eb\udcff") == "a\\x1b[2J\\n\\u202eb\\udcff"


def test_the_console_prints_no_control_character_and_obeys_no_markup() -> None:
    name = f"[red]{TITLE}:cat:[/red][link=http://x]"
    shown = "[red]\\x1b]0;title\\x07:cat:[/red][link=http://x]"
    table = Table(name, title=name, caption=name)
    table.add_row(name)
    out = printed(name, table, Panel(name))
    assert obeyed(out.replace("\n", "")) == []
    # Rich itself drops the bell from what is text already.
    assert out.count(shown) == 6
    assert obeyed(printed(Text(name), Text.from_ansi(TITLE)).replace("\n", "")) == []
    assert obeyed(printed(ALL.replace("\n", "").replace("\t", "")).replace("\n", "")) == []


def test_a_table_is_as_wide_as_what_it_shows() -> None:
    table = Table()
    table.add_row(TITLE, "x")
    lines = printed(table).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_styles_and_the_cursor_of_a_live_display_still_work() -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, width=80, force_terminal=True)
    console.print("error:", style="bold red")
    with Progress(TextColumn("{task.description}", markup=False), console=console) as progress:
        progress.add_task(f"[red]{TITLE}", total=1)
    out = file.getvalue()
    assert "\x1b[1;31merror:" in out
    assert "\x1b[?25l" in out
    assert "\x1b]0;" not in out
    assert "[red]" in out


def test_text_for_any_console() -> None:
    file = io.StringIO()
    table = Table("name")
    table.add_row(plain(f"[red]{TITLE}"))
    Console(file=file, width=80).print(table)
    assert "[red]\\x1b]0;title\\x07" in file.getvalue()


def test_xml_is_well_formed_and_says_the_same() -> None:
    document = xml.dom.minidom.parseString(f'<a b="{for_xml(ALL)}">{for_xml(ALL)}</a>'.encode())
    assert document.documentElement.firstChild.data.count("<") == 1
    text = 'a<b>&"c"\x01'
    element = xml.dom.minidom.parseString(f'<a b="{for_xml(text)}">{for_xml(text)}</a>').documentElement
    assert element.firstChild.data == element.getAttribute("b") == 'a<b>&"c"\\x01'


def test_no_cell_is_a_formula_and_numbers_stay_numbers() -> None:
    for cell in ("=1+1", "+x", "-x", "@x", "\t=1", '=HYPERLINK("x")'):
        line = io.StringIO()
        csv.writer(line).writerow([for_csv(cell)])
        (read,) = next(csv.reader(io.StringIO(line.getvalue())))
        assert read[0] in "'\\"
    assert [for_csv(cell) for cell in ("-0.25", "+1e5", "loss", "-inf")] == ["-0.25", "+1e5", "loss", "-inf"]


def test_a_cell_of_markdown_is_one_cell_without_html_or_links() -> None:
    assert for_markdown("a|b") == r"a\|b"
    assert for_markdown("[x](http://y) <script> `c`\n") == r"\[x\](http://y) &lt;script&gt; \`c\`\\n"
    assert for_markdown("deform-fpn-fcos 12.5") == "deform-fpn-fcos 12.5"


def test_labels_of_plots_are_never_mathematics() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots()
    for name in ("$\\frac{$", "_hidden", "$a$", TITLE, "a_b"):
        axis.plot([0, 1], label=for_plot(name))
    axis.set_title(for_plot("$x^$"))
    legend = axis.legend()
    figure.savefig(io.BytesIO())
    pyplot.close(figure)
    assert [text.get_text() for text in legend.get_texts()][1].strip() == "_hidden"
    assert len(legend.get_texts()) == 5
