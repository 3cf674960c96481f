from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasperc.data.voc import read_voc, voc_classes, voc_splits
from nasperc.errors import InputError


def voc_object(name, *corners, extra=""):
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def write_voc(
    root: Path, annotations: dict[str, str], split="train", size=(20, 30), suffix=".png", stated=None
) -> Path:
    """A VOC data set of black images; ``annotations``: objects (or a whole file) by stem."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    height, width = stated or size
    for stem, text in annotations.items():
        if not text.startswith("<?"):
            text = (
                f"<annotation><size><width>{width}</width><height>{height}</height></size>{text}</annotation>"
            )
        (root / "Annotations" / f"{stem}.xml").write_text(text)
        Image.new("RGB", size[::-1]).save(root / "JPEGImages" / f"{stem}{suffix}")
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(annotations) + "\n")
    return root


def test_box_of_the_first_pixel(tmp_path):
    root = write_voc(tmp_path, {"a": voc_object("cat", 1, 1, 2, 3) + voc_object("dog", 11, 6, 30, 20)})
    data = read_voc(root, "train", ("cat", "dog"))
    record = data.records[0]
    assert record.boxes.tolist() == [[0, 0, 2, 3], [10, 5, 30, 20]]
    assert record.boxes.dtype == np.float32
    assert record.labels.tolist() == [0, 1]
    assert record.areas.tolist() == [6, 300]
    assert record.size == (20, 30)
    assert data.report.lines() == []


def test_difficult_counts_as_crowd(tmp_path):
    difficult = voc_object("cat", 1, 1, 5, 5, extra="<difficult>1</difficult>")
    easy = voc_object("cat", 1, 1, 5, 5, extra="<difficult>0</difficult>")
    root = write_voc(tmp_path, {"a": difficult + easy + voc_object("cat", 2, 2, 5, 5)})
    assert read_voc(root, "train", ("cat",)).records[0].crowd.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("written", "difficult"),
    [
        *((written, False) for written in ("0", "False", "false", "", " 0 ")),
        *((written, True) for written in ("1", "True", "TRUE", "\n1\n")),
    ],
)
def test_difficult_is_read_for_what_it_says(tmp_path, written, difficult):
    extra = f"<difficult>{written}</difficult>"
    root = write_voc(tmp_path, {"a": voc_object("cat", 1, 1, 5, 5, extra=extra)})
    data = read_voc(root, "train", ("cat",))
    assert data.records[0].crowd.tolist() == [difficult]
    assert data.difficult


def test_names_and_numbers_may_have_blanks_around_them(tmp_path):
    root = write_voc(tmp_path, {"a": voc_object(" cat\n", " 1 ", "1.0", "\n5", "5e0")})
    assert voc_classes(root, "train") == ("cat",)
    # The second spelling is that of a checkpoint from before names were stripped.
    for name in ("cat", "cat "):
        assert read_voc(root, "train", (name,)).records[0].boxes.tolist() == [[0, 0, 5, 5]]


def test_parts_of_an_object_are_not_objects(tmp_path):
    part = voc_object("head", 9, 9, 10, 10).replace("object>", "part>")
    root = write_voc(tmp_path, {"a": voc_object("person", 1, 1, 20, 20, extra=part)})
    assert voc_classes(root, "train") == ("person",)
    assert read_voc(root, "train", ("person",)).records[0].boxes.tolist() == [[0, 0, 20, 20]]


def test_image_without_objects_is_fine(tmp_path):
    data = read_voc(write_voc(tmp_path, {"a": "", "b": voc_object("cat", 1, 1, 5, 5)}), "train", ("cat",))
    assert [record.boxes.shape for record in data.records] == [(0, 4), (1, 4)]
    assert data[0].boxes.shape == (0, 4)
    assert data[0].crowd.shape == (0,)


@pytest.mark.parametrize("corners", [(5, 5, 5, 9), (5, 5, 9, 5), (7, 5, 6, 9), (5, 9, 9, 8)])
def test_degenerate_box_as_written_is_dropped_and_counted(tmp_path, corners):
    # xmin = xmax would still be one pixel wide after the conversion; it counts as written.
    root = write_voc(tmp_path, {"a": voc_object("cat", *corners) + voc_object("cat", 1, 1, 5, 5), "b": ""})
    data = read_voc(root, "train", ("cat",))
    assert len(data.records[0].boxes) == 1
    assert data.report.dropped == 1
    assert data.report.lines() == [f"1 degenerate box dropped (first: {root / 'Annotations' / 'a.xml'})"]
    with pytest.raises(InputError, match=r"xmax > xmin and ymax > ymin.*a\.xml"):
        read_voc(root, "train", ("cat",), strict=True)


def test_box_outside_is_clipped_and_counted(tmp_path):
    outside = voc_object("cat", 0, 1, 35, 10) + voc_object("cat", 5, 5, 9, 21)
    root = write_voc(tmp_path, {"a": voc_object("cat", 1, 1, 30, 20), "b": outside})
    data = read_voc(root, "train", ("cat",))
    assert data.records[1].boxes.tolist() == [[0, 0, 30, 10], [4, 4, 9, 20]]
    assert data.report.lines() == [
        f"2 boxes reaching outside the image clipped (first: {root / 'Annotations' / 'b.xml'})"
    ]
    with pytest.raises(InputError, match=r"inside its image.*b\.xml"):
        read_voc(root, "train", ("cat",), strict=True)


def test_box_wholly_outside_is_dropped(tmp_path):
    data = read_voc(write_voc(tmp_path, {"a": voc_object("cat", 40, 1, 45, 10)}), "train", ("cat",))
    assert (len(data.records[0].boxes), data.report.dropped, data.report.clipped) == (0, 1, 0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".JPG"])
def test_images_are_found_by_stem(tmp_path, suffix):
    data = read_voc(
        write_voc(tmp_path, {"a.b": voc_object("cat", 1, 1, 2, 2)}, suffix=suffix), "train", ("cat",)
    )
    assert data[0].image.shape == (3, 20, 30)


def test_size_that_the_annotation_leaves_open_comes_from_the_image(tmp_path):
    root = write_voc(tmp_path, {"a": voc_object("cat", 1, 1, 99, 99)}, stated=(0, 0))
    assert read_voc(root, "train", ("cat",)).records[0].boxes.tolist() == [[0, 0, 30, 20]]


def test_lists_of_one_class_are_no_splits(tmp_path):
    write_voc(tmp_path, {"a": ""})
    write_voc(tmp_path, {"b": ""}, split="val")
    write_voc(tmp_path, {"b": ""}, split="cat_val")
    assert voc_splits(tmp_path) == ("train", "val")


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><annotation>&y;</annotation>'
EXTERNAL = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<object>", "well-formed XML"),
        (BOMB, "well-formed XML without entities"),
        (EXTERNAL, "well-formed XML without entities"),
        ('<?xml version="1.0"?><html></html>', "root element"),
        ('<?xml version="1.0" encoding="x-none"?><annotation/>', "well-formed XML"),
        ("<object><bndbox/></object>", "must have a <name>"),
        ("<object><name>cat</name></object>", "must have a bndbox"),
        (voc_object("cat", 1, 1, "x", 5), "<xmax> must be a finite number"),
        (voc_object("cat", 1, "nan", 4, 5), "<ymin> must be a finite number"),
        (voc_object("cat", 1, "", 4, 5), "must have a <ymin>"),
        (voc_object("horse", 1, 1, 4, 5), "class must be one of cat, dog, but got 'horse'"),
        (voc_object("  ", 1, 1, 4, 5), "must have a <name>"),
        (voc_object("cat", 1, 1, "1_0", 5), "<xmax> must be a finite number, but got '1_0'"),
        (voc_object("cat", 1, 1, "٣", 5), "<xmax> must be a finite number"),
        (voc_object("cat", 1, 1, "1e400", 5), "<xmax> must be a finite number"),
        (voc_object("cat", 1, 1, 4, 5, extra="<difficult>2</difficult>"), "<difficult> of the object 'cat'"),
        (
            voc_object("cat", 1, 1, 4, 5, extra="<difficult>maybe</difficult>"),
            "must be 0 or 1, but got 'maybe'",
        ),
    ],
)
def test_bad_annotation_is_one_clear_error(tmp_path, text, message):
    root = write_voc(tmp_path, {"good": voc_object("cat", 1, 1, 2, 2), "bad": text})
    with pytest.raises(InputError, match=message) as error:
        read_voc(root, "train", ("cat", "dog"))
    assert error.value.where == str(root / "Annotations" / "bad.xml")


def test_missing_and_doubled_files_are_errors(tmp_path):
    root = write_voc(tmp_path, {"a": "", "b": ""})
    (root / "JPEGImages" / "b.png").unlink()
    with pytest.raises(InputError, match="stem 'b'"):
        read_voc(root, "train", ("cat",))
    (root / "Annotations" / "a.xml").unlink()
    with pytest.raises(InputError, match=r"must have an annotation.*a\.xml"):
        read_voc(root, "train", ("cat",))
    with pytest.raises(InputError, match="Splits found: train"):
        read_voc(root, "test", ("cat",))
    (root / "ImageSets/Main/train.txt").write_text("a\na\n")
    with pytest.raises(InputError, match="'a' twice"):
        read_voc(root, "train", ("cat",))
    (root / "ImageSets/Main/train.txt").write_text("\n")
    with pytest.raises(InputError, match="must list images"):
        read_voc(root, "train", ("cat",))


@pytest.mark.parametrize("stem", ["../../a", "/etc/passwd", "..\\a", "a\0b"])
def test_a_stem_leads_nowhere_else(tmp_path, stem):
    root = write_voc(tmp_path, {"a": ""})
    (root / "ImageSets/Main/train.txt").write_text(f"a\n{stem}\n")
    with pytest.raises(InputError, match="stems, which are no paths"):
        voc_classes(root, "train")


@pytest.mark.parametrize("stated", [(10**9, 30), (20.5, 30), (-20, 30), (20, -1)])
def test_a_size_that_no_image_has(tmp_path, stated):
    root = write_voc(tmp_path, {"a": ""}, stated=stated)
    with pytest.raises(InputError, match="whole numbers of at most 65535"):
        read_voc(root, "train", ("cat",))
