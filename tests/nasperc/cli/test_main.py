"""The commands as a person types them: exit codes, one-line errors, what they write. Heavy work is tested elsewhere."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typed_command import nasperc

from nasperc.cli import cache as cache_module
from nasperc.cli.console import print_json
from nasperc.data.formats import LAYOUTS
from nasperc.data.synthetic import write_synthetic


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Small enough for a test, and still every step of the real way.
TINY = [
    "--executor=local", "--budget=2", "--set=data.synthetic={train: 6, val: 2, test: 2, size: [96, 96]}",
    "--set=proxy={short_side: 96, crop: 64, views: 1, iterations: 2, batch_size: 2, bn_batches: 1}",
    "--set=proxy.finetune_training={iterations: 1, batch_size: 2, short_sides: [96], test_short_side: 96}",
    "--set=fulltrain={iterations: 2, batch_size: 2, short_sides: [96], test_short_side: 96, checkpoint_every: 1}",
]  # fmt: skip


def test_the_three_commands_one_after_another_in_an_empty_folder(empty_folder, monkeypatch, capsys):
    code, out, err = nasperc(monkeypatch, capsys, "search", "--space", "fcos_decoder", *TINY)
    assert code == 0, err
    assert "nasperc fulltrain --arch" in out
    top10 = empty_folder / "runs" / "search-001" / "top10.json"
    assert len(json.loads(top10.read_text())["entries"]) == 2

    code, out, err = nasperc(monkeypatch, capsys, "fulltrain", "--arch", "top10.json", "--top", "1")
    assert code == 0, err
    assert "latest run" in out
    assert "nasperc export architecture" in out

    code, out, err = nasperc(
        monkeypatch, capsys, "export", "architecture", "--to", "json", "--to", "svg", "--to", "txt"
    )
    assert code == 0, err
    assert {file.suffix for file in (empty_folder / "export").iterdir()} == {".json", ".svg", ".txt"}

    checkpoint = next(top10.parent.glob("fulltrain/rank01*/checkpoint.pt"))
    data = write_synthetic(
        empty_folder / "data", images={"train": 6, "test": 2}, size=(96, 96), formats=("voc",)
    )
    code, out, err = nasperc(monkeypatch, capsys, "evaluate", checkpoint, "--data", data, "--json")
    assert code == 0, err
    assert "ap50" in json.loads(out)

    for file in (data / "Annotations").iterdir():
        file.write_text(file.read_text().replace("<difficult>0<", "<difficult>1<"))
    code, out, err = nasperc(monkeypatch, capsys, "evaluate", checkpoint, "--data", data, "--json")
    assert json.loads(out)["ap"] is None
    code, out, err = nasperc(monkeypatch, capsys, "evaluate", checkpoint, "--data", data)
    assert out.count("undefined") == 12

    image = next((data / "JPEGImages").iterdir())
    broken = empty_folder / "broken.jpg"
    broken.write_bytes(b"no image")
    code, out, err = nasperc(monkeypatch, capsys, "predict", checkpoint, image, broken)
    assert code == 2
    assert "broken.jpg" in err
    assert (empty_folder / "predictions" / "detections.json").is_file()

    code, out, _ = nasperc(monkeypatch, capsys, "runs")
    assert code == 0
    assert "search-001" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--space", "fcos"], "fcos_decoder"),
        (["search", "--set", "proxy.iteration=3"], "iterations"),
        (["search", "--set", "search.budget=x"], "a budget is"),
        (["search", "--data", "nowhere"], "nowhere"),
        (["search", "--recipe", "no_such"], "demo"),
        (["search", "--resume", "nowhere"], "nowhere"),
        (
            ["search", "--weights", "nowhere.pth", "--normalisation", "tf", "--executor", "local"],
            "nowhere.pth",
        ),
        (["search", "--max-flops", "-3"], "search.limits.flops"),
        (["search", "--max-params", "many"], "search.limits.params"),
        (["search", "--cost-weight", "0.2"], "both --cost-weight and --cost-target"),
        (["search", "--cost", "params"], "both --cost-weight and --cost-target"),
        (["search", "--cost-weight", "-1", "--cost-target", "2G"], "search.cost_target.weight"),
        (["search", "--warm-start", "nowhere"], "nowhere"),
        (["fulltrain", "--arch", "nowhere.json"], "nowhere.json"),
        (["fulltrain"], "nasperc search"),
        (["export", "architecture"], "nasperc search"),
        (["export", "architecture", "--to", "pdf"], "json"),
        (["export", "architecture", "--arch", "nowhere.json"], "nowhere.json"),
        (["evaluate", "nowhere.pt", "--data", "."], "nowhere.pt"),
        (["predict", "nowhere.pt", "x.jpg"], "nowhere.pt"),
        (["cache", "verify", "nowhere.h5"], "nowhere.h5"),
        (["cost", "--table", "7.1"], "7.2"),
        (["cost", "--size", "big"], "HxW"),
        (["no_such_command"], "no_such_command"),
        (["search", "--workers", "many"], "--workers"),
    ],
)
def test_bad_input_is_one_clear_error_and_exit_code_2(empty_folder, monkeypatch, capsys, arguments, message):
    code, _, err = nasperc(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["search", "evaluate"])
def test_help_names_every_format(monkeypatch, capsys, command):
    code, out, _ = nasperc(monkeypatch, capsys, command, "--help")
    assert code == 0
    words = set(re.findall(r"\w+", out))
    assert LAYOUTS.keys() <= words
    assert {"VOC", "COCO", "CamVid", "Cityscapes"} <= words


def test_the_installed_command_starts(empty_folder):
    command = Path(sys.executable).with_name("nasperc")
    done = subprocess.run([command, "spaces"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "fcos_decoder" in done.stdout


def test_any_controller_searches_a_table(empty_folder, monkeypatch, capsys):
    rows = [f"{a}{b}{c},{a + 2 * b - c}" for a in range(3) for b in range(3) for c in range(3)]
    (empty_folder / "scores.csv").write_text("\n".join(["tokens,score", *rows]))
    for name in ("random", "evolution", "surrogate"):
        code, out, err = nasperc(
            monkeypatch, capsys, "search", "--space", "table:scores.csv", "--controller", name, "--budget", "25",
            "--name", name,
        )  # fmt: skip
        assert code == 0, err
        assert "scores.csv" in out
        top10 = json.loads((empty_folder / "runs" / name / "top10.json").read_text())
        # 25 of 27: at most two better ones are missing.
        assert top10["entries"][0]["reward"] >= 5.0
        assert top10["task"] == "table"


def test_limits_and_warm_starts_of_a_table(empty_folder, monkeypatch, capsys):
    rows = [f"{a}{b},{a + 2 * b}" for a in range(4) for b in range(4)]
    (empty_folder / "scores.csv").write_text("\n".join(["tokens,score", *rows]))
    table = [
        "search",
        "--space",
        "table:scores.csv",
        "--executor=local",
        "--controller=evolution",
        "--budget=6",
    ]
    code, _, err = nasperc(monkeypatch, capsys, *table, "--max-flops", "2G")
    assert code == 2
    assert "the proxy task table knows (it knows none)" in err
    assert not (empty_folder / "runs").exists()
    code, _, err = nasperc(monkeypatch, capsys, *table)
    assert code == 0, err
    code, out, err = nasperc(monkeypatch, capsys, *table, "--seed", "5", "--warm-start", "search-001")
    assert code == 0, err
    assert "6 evaluations of other runs learnt from" in out
    assert (
        "warm_start:\n  - " + str(empty_folder)
        in (empty_folder / "runs" / "search-002" / "recipe.yaml").read_text()
    )
    # Of another table nothing can be learnt.
    (empty_folder / "scores.csv").write_text("\n".join(["tokens,score", *rows, "40,9"]))
    code, _, err = nasperc(monkeypatch, capsys, *table, "--warm-start", "search-001")
    assert code == 2
    assert "a warm start must have the space of this run" in err
    code, _, err = nasperc(
        monkeypatch, capsys, "search", "--resume", "search-002", "--warm-start", "search-001"
    )
    assert code == 2
    assert "a resumed run keeps its recipe" in err


def test_a_bad_table_is_one_line(empty_folder, monkeypatch, capsys):
    (empty_folder / "scores.csv").write_text("tokens,score\n01,1\n01,2\n")
    code, _, err = nasperc(monkeypatch, capsys, "search", "--space", "table:scores.csv")
    assert code == 2
    assert "one row only" in err
    assert "Traceback" not in err


def test_a_missing_library_is_told_before_the_search(empty_folder, monkeypatch, capsys):
    (empty_folder / "scores.csv").write_text("tokens,score\n01,1\n02,2\n")
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = nasperc(
        monkeypatch, capsys, "search", "--space", "table:scores.csv", "--controller", "tpe"
    )  # fmt: skip
    assert code == 2
    assert "nasperc[tpe]" in err
    assert not (empty_folder / "runs").exists()


LAUGHS = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(3)) + "c: *c\n"
HOSTILE = {
    "a.json": (["export", "architecture", "--arch"], b'{"space": NaN}'),
    "deep.json": (["export", "architecture", "--arch"], b"[" * 100_000),
    "r.yaml": (["search", "--recipe"], LAUGHS.encode()),
    "date.yaml": (["search", "--recipe"], b"seed: 2001-02-31"),
    "top10.json": (["fulltrain", "--arch"], b'{"entries": [{"reward": ' + b"9" * 5000 + b"}]}"),
    "c.pt": (["predict"], b"PK\x03\x04"),
    "w.pkl": (["convert"], b"cos\nsystem\n(S'touch was-run'\ntR."),
    "c.h5": (["cache", "verify"], b"\x89HDF\r\n\x1a\n" + b"\xff" * 500),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line_and_exit_code_2(empty_folder, monkeypatch, capsys, name):
    command, content = HOSTILE[name]
    (empty_folder / name).write_bytes(content)
    code, _, err = nasperc(monkeypatch, capsys, *command, name, *(["x.jpg"] if name == "c.pt" else []))
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.strip().isprintable()
    assert sorted(file.name for file in empty_folder.iterdir()) == [name]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_machine_too_small_is_one_line(empty_folder, monkeypatch, capsys, error):
    def refused(_):
        raise error

    monkeypatch.setattr(cache_module, "verify", refused)
    code, _, err = nasperc(monkeypatch, capsys, "cache", "verify", "c.h5")
    assert code == 2
    assert err.startswith("error: there must be memory")
    assert err.count("\n") == 1


def test_a_name_of_a_million_characters_is_one_line(empty_folder, monkeypatch, capsys):
    code, _, err = nasperc(monkeypatch, capsys, "search", "--name", "x" * 1_000_000)
    assert code == 2
    assert "the name of a run may have 200 characters at most, but got 1000000" in err
    assert err.count("\n") == 1


def test_names_from_files_are_shown_as_text(empty_folder, monkeypatch, capsys):
    """A terminal would obey the sequence, rich the brackets, and XML has no such characters."""
    title, terms = "\x1b]0;title\x07", ["--controller=random", "--executor=local", "--budget=2"]
    Path("t.csv").write_text(f"a\x01$[b],{title}score\nx\x01[red]y,1\nz,2\n")
    Path("r.yaml").write_text(
        'base: table\ndescription: "\\e]0;title\\a [red]one\\ntwo"\nspace: {name: table, file: t.csv}\n'
        "proxy: {name: table}\n"
    )
    code, out, err = nasperc(monkeypatch, capsys, "search", "--recipe=r.yaml", "--name=$[red]_$", *terms)
    assert code == 0, err
    assert "Recipe r.yaml: \\x1b]0;title\\x07 [red]one two\n" in out
    assert "runs/$[red]_$" in out

    for arguments in (["report", "$[red]_$"], ["runs"], ["export", "architecture"]):
        code, shown, err = nasperc(monkeypatch, capsys, *arguments)
        assert code == 0, err
        assert "$[red]_$" in shown
        out += shown + err
    assert not set(out) & {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0))} - {"\n"}
    svg = next(Path("export").glob("*.svg")).read_text()
    assert "a\\x01$[b] = " in svg
    ElementTree.fromstring(svg)
    assert next(Path("export").glob("*.txt")).read_text().replace("\n", "").isprintable()


def test_json_on_the_screen_is_ascii_and_means_the_same(capsys):
    value = {"cl\x7f\x85\u202e\x1b]0;t\x07[red]": [0.5, "é"]}
    print_json(value)
    out = capsys.readouterr().out
    assert out.isascii()
    assert out.replace("\n", "").isprintable()
    assert json.loads(out) == value
