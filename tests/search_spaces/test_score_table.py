import gzip

import pytest

from nasperc.errors import InputError
from search_spaces.score_table import read_score_table

COLUMNS = "op,width,score,test\nconv,16,0.5,0.25\nskip,8,1,2\nconv,128,-3,4\n"


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_reads_decision_columns(tmp_path, name):
    table = read_score_table(write(tmp_path / name, COLUMNS))
    assert table.decisions == ("op", "width")
    # Numbers in order of their value.
    assert table.choices == (("conv", "skip"), ("8", "16", "128"))
    assert table.columns == ("score", "test")
    assert table.scores == {(0, 1): (0.5, 0.25), (1, 0): (1.0, 2.0), (0, 2): (-3.0, 4.0)}


def test_reads_tokens_in_one_column(tmp_path):
    table = read_score_table(write(tmp_path / "t.csv", "tokens,accuracy,test\n402,1.5,9\n312,2,8\n"))
    assert table.decisions == ("tokens.0", "tokens.1", "tokens.2")
    assert table.choices == (("3", "4"), ("0", "1"), ("2",))
    assert table.columns == ("accuracy", "test")
    assert table.scores == {(1, 0, 0): (1.5, 9.0), (0, 1, 0): (2.0, 8.0)}


def test_blanks_around_a_cell_do_not_count(tmp_path):
    plain = read_score_table(write(tmp_path / "plain.csv", COLUMNS))
    assert read_score_table(write(tmp_path / "t.csv", COLUMNS.replace(",", " , "))) == plain
    tokens = read_score_table(write(tmp_path / "tokens.csv", "tokens,accuracy\n12 ,1\n 21,2\n"))
    assert tokens.choices == (("1", "2"), ("1", "2"))


@pytest.mark.parametrize(
    ("text", "score", "columns"),
    [
        ("a,b,c\n1,2,3\n", None, ("c",)),
        ("a,score,c\n1,2,3\n", None, ("score", "c")),
        ("a,b,c\n1,2,3\n", "b", ("b", "c")),
        ("tokens,b,c\n1,2,3\n", "c", ("c",)),
    ],
)
def test_which_column_is_the_score(tmp_path, text, score, columns):
    assert read_score_table(write(tmp_path / "t.csv", text), score).columns == columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header"),
        ("a,score\n", "at least one row"),
        ("score\n1\n", "right of the decisions"),
        ("a,a,score\n1,1,1\n", "each its own"),
        ("a,b,score\n1,2,3\n1,2\n", "row 3"),
        ("a,score\n1,high\n", "finite.*high"),
        ("a,score\n1,nan\n", "finite"),
        ("a,score\n1,\n", "finite"),
        ("a,score\n1,2\n1,3\n", "one row only.*row 3"),
        ("tokens,score\n12,1\n1,2\n", "2 characters"),
        ("tokens,score\n,1\n", "at least one decision"),
        ("a,b,score\n1, ,3\n", "must name a choice.*row 2"),
        ("a,score\n1,2\n 1,3\n", "one row only.*row 3"),
        ('a,score\n"1,2\n', "readable"),
    ],
)
def test_bad_tables_are_told_apart(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_score_table(write(tmp_path / "t.csv", text))


def test_an_unknown_score_lists_the_columns(tmp_path):
    with pytest.raises(InputError, match="op, width, score, test"):
        read_score_table(write(tmp_path / "t.csv", COLUMNS), "acc")


@pytest.mark.parametrize(
    "content", [None, b"\xff\xfe\x00a", gzip.compress(COLUMNS.encode(), mtime=0)[:-9], b"no gzip"]
)
def test_unreadable_files_are_told(tmp_path, content):
    path = tmp_path / ("t.csv" if content and content[0] == 0xFF else "t.csv.gz")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="readable"):
        read_score_table(path)


def test_a_table_is_unpacked_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("search_spaces.score_table.MOST_BYTES", 100)
    with pytest.raises(InputError, match="more than 100 bytes"):
        read_score_table(write(tmp_path / "bomb.csv.gz", COLUMNS + "\n" * 1_000_000))
    assert read_score_table(write(tmp_path / "t.csv.gz", COLUMNS)).decisions == ("op", "width")


def test_a_table_has_so_many_columns_at_most(tmp_path):
    names = [f"c{n}" for n in range(1001)]
    with pytest.raises(InputError, match="at most 1000 columns"):
        read_score_table(write(tmp_path / "t.csv", ",".join(names)))
