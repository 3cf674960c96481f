import os
import zipfile

import pytest
import torch

from nasperc.errors import InputError
from nasperc.torch_files import load_torch_file


def load(path):
    return load_torch_file(path, rule="weights must be readable", repair="Get them again.")


class Hostile:
    def __reduce__(self):
        return os.system, ("touch was-run",)


class Unknown:
    pass


def test_tensors_and_plain_values(tmp_path):
    torch.save({"a": torch.ones(2), "step": 3, "names": ["x"]}, tmp_path / "w.pth")
    content = load(tmp_path / "w.pth")
    assert torch.equal(content.pop("a"), torch.ones(2))
    assert content == {"step": 3, "names": ["x"]}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("content", "named"), [(Hostile(), "system"), (Unknown(), "Unknown")])
def test_code_is_refused_and_nobody_advised_to_run_it(tmp_path, monkeypatch, zipped, content, named):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": content}, "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=f"but got (Trying to load unsupported|Unsupported).*{named}"
    ) as error:
        load(tmp_path / "w.pth")
    for advice in ("weights_only", "safe_globals", "trusted", "\n"):
        assert advice not in str(error.value)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n\x00\x00", b"PK\x03\x04"])
def test_no_torch_file_at_all(tmp_path, data):
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(
        InputError, match=r"weights must be readable, but got .+ \(in .*w\.pth\)\. Get them"
    ) as error:
        load(tmp_path / "w.pth")
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)


def test_an_archive_larger_than_its_file_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "w.pth")
    assert load(tmp_path / "w.pth")["a"].shape == (1 << 20,)
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as stored,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in stored.infolist():
            bomb.writestr(entry.filename, stored.read(entry))
    with pytest.raises(InputError, match="unpacks to more than it is"):
        load(tmp_path / "bomb.pth")


def test_lists_that_hold_one_another_are_refused(tmp_path):
    laughs = [0]
    for _ in range(50):
        laughs = [laughs, laughs]
    torch.save({"a": laughs}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="more than 1000000 values"):
        load(tmp_path / "w.pth")


def records(path):
    """Name, offset and length of each record's bytes."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            file.seek(entry.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            yield entry.filename, entry.header_offset + 30 + name + extra, entry.file_size


def test_a_flipped_bit_in_any_record_is_refused(tmp_path):
    torch.save({"a": torch.arange(5.0), "step": 3}, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    found = list(records(tmp_path / "w.pth"))
    assert len(found) > 3
    for name, offset, length in found:
        damaged = bytearray(whole)
        damaged[offset + length // 2] ^= 4
        (tmp_path / "w.pth").write_bytes(damaged)
        with pytest.raises(InputError, match=f"a record that was changed since it was written: {name}"):
            load(tmp_path / "w.pth")


def test_an_archive_without_checksums_is_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(5.0)}, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert load(tmp_path / "w.pth")["a"].tolist() == [0, 1, 2, 3, 4]


def test_a_tensor_larger_than_its_numbers_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="fewer numbers"):
        load(tmp_path / "w.pth")


def test_tied_and_cut_out_tensors_are_read(tmp_path):
    weight = torch.arange(12.0).view(3, 4)
    torch.save({"a": weight, "b": weight.t(), "c": weight[1:], "d": torch.zeros(0)}, tmp_path / "w.pth")
    content = load(tmp_path / "w.pth")
    assert torch.equal(content["b"], weight.t())
    assert torch.equal(content["c"], weight[1:])


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "weights.pt")
    with pytest.raises(InputError, match="no plain file"):
        load_torch_file(tmp_path / "weights.pt", rule="x", repair="y")
