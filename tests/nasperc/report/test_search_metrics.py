from nasperc.report.search_metrics import metric_curves, plot_metric_curves


def completion(reward, **metrics):
    return {"event": "completion", "stage": "cell", "reward": reward, "metrics": metrics}


def test_metrics_and_reward_in_the_order_of_completion(tmp_path):
    events = [
        completion(0.5, miou=0.4, macc=0.5, fwiou=0.6, gacc=0.7),
        {"event": "stop", "stage": "cell", "halfway": 0.1, "metrics": {}},
        completion(0.6, miou=0.5, macc=0.6, fwiou=0.7, gacc=0.8),
    ]
    curves = metric_curves(events)
    assert curves == {
        "cell": {"mIoU": [0.4, 0.5], "fwIoU": [0.6, 0.7], "mAcc": [0.5, 0.6], "reward": [0.5, 0.6]}
    }
    plot_metric_curves(curves, tmp_path / "metrics.png")
    assert (tmp_path / "metrics.png").read_bytes()[1:4] == b"PNG"


def test_other_tasks_have_other_metrics():
    assert metric_curves([completion(-1.0, ap=0.3)]) == {}
    assert metric_curves([completion(0.5, miou=0.4, macc=None, fwiou=0.6)]) == {}
    assert metric_curves([]) == {}
