from nasperc.fulltrain.loss_log import LossLog


def test_a_continued_training_overwrites_what_it_does_again(tmp_path):
    path = tmp_path / "log.csv"
    with LossLog(path, window=2) as log:
        for step in (1, 2, 3):
            log.write(step, {"box": step * 1.0, "centerness": 0.5})
        assert log.mean() == 3.0
    with LossLog(path) as log:
        log.write(3, {"box": 9.0, "centerness": 0.25})
    assert path.read_text().split() == ["iteration,box,centerness", "1,1,0.5", "2,2,0.5", "3,9,0.25"]


def test_iterations_done_again_within_one_log(tmp_path):
    path = tmp_path / "log.csv"
    with LossLog(path) as log:
        for step, value in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 7.0), (3, 8.0)):
            log.write(step, {"box": value})
    assert path.read_text().split() == ["iteration,box", "1,1", "2,7", "3,8"]


def test_nothing_is_touched_without_a_line(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("kept")
    with LossLog(path):
        pass
    assert path.read_text() == "kept"


def test_damaged_lines_are_left_out(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"iteration,box\n1,1\n\xff\xfe\n\xc2\xb2,7\n" + b"9" * 5000 + b",1\n2,2\n\n")
    with LossLog(path) as log:
        log.write(3, {"box": 9.0})
    assert path.read_text().split() == ["iteration,box", "1,1", "2,2", "3,9"]
