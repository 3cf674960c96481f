import json

import numpy as np
import pytest
from fcos_networks import FcosNetworks
from random_architectures import Tally, main, report
from raw_networks import Comparison, Examination


def test_the_script_goes_on_where_it_ended(tmp_path, capsys):
    options = ["--out", str(tmp_path), "--only", "fcos_decoder-thesis"]
    assert main([*options, "--count", "1"]) == 0
    assert "| fcos_decoder, thesis | 1 |" in capsys.readouterr().out
    (file,) = tmp_path.iterdir()
    # What is known is not examined again, and a finding is not forgotten.
    known = json.loads(file.read_text()) | {"findings": [{"index": 0, "what": "a finding"}]}
    file.write_text(json.dumps(known))
    assert main([*options, "--count", "2"]) == 1
    printed = capsys.readouterr().out
    assert "| fcos_decoder, thesis | 2 |" in printed
    assert "a finding" in printed
    before = file.read_text()
    assert main([*options, "--count", "2"]) == main([*options, "--count", "9", "--report"]) == 1
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("pair", "change", "alike", "found"),
    [
        (1e-13, 0.1, 0.0, []),
        (1e-13, 0.1, 1e-3, ["one canonical form is 1.0e-03 off"]),
        (1e-3, 0.1, 0.0, ["the same network is 1.0e-03 off"]),
        (float("nan"), 0.1, 0.0, ["the same network is nan off"]),
        (1e-13, 1e-12, 0.0, ["another network is 1.0e-12 off"]),
        (1e-13, float("nan"), 0.0, ["another network is nan off"]),
    ],
)
def test_what_should_not_be_is_kept(monkeypatch, pair, change, alike, found):
    networks = FcosNetworks("nas_fcos")
    one, other, changed = (networks.draw(np.random.default_rng(seed)) for seed in range(3))
    examination = Examination(one, Comparison(other, pair, changed, change, 3, 2, alike))
    monkeypatch.setattr(networks, "examine", lambda seed, index, compare: examination)
    tally = Tally()
    tally.add(networks, seed=0)
    assert [finding["what"] for finding in tally.findings] == found
    assert (tally.done, tally.compared, tally.pairs, tally.redrawn, tally.kept) == (1, 1, 1, 1, 2)
    assert Tally(**json.loads(json.dumps(vars(tally)))).findings == json.loads(json.dumps(tally.findings))


def test_a_crash_is_counted_and_the_others_go_on(monkeypatch):
    networks = FcosNetworks("nas_fcos")

    def crash(seed, index, compare):
        raise RuntimeError("view size is not compatible")

    monkeypatch.setattr(networks, "examine", crash)
    tally = Tally()
    for _ in range(2):
        tally.add(networks, seed=0)
    assert [finding["index"] for finding in tally.findings] == [0, 1]
    assert "RuntimeError: view size" in report({"space-variant": tally})
