"""A ``top10.json`` of random architectures, without a search."""

import json

import numpy as np

from nasperc.search.components import build_space


def write_top10(folder, recipe, *, stage, task, classes, widths, rewards):
    """Write it into the run ``folder``, one random architecture a reward; the file."""
    space, rng = build_space(recipe), np.random.default_rng(0)
    entries = []
    for rank, reward in enumerate(rewards, start=1):
        architecture = space.architecture({part: space.sample(part, rng) for part in space.parts})
        entries.append(
            {
                "rank": rank,
                "id": rank,
                "stage": stage,
                "architecture": architecture.to_dict(),
                "hash": space.hash(architecture),
                "widths": widths,
                "seed": 1,
                "reward": reward,
                "metrics": {},
                "cost": {},
                "seconds": 1.0,
                "status": "completed",
            }
        )
    content = {
        "format": "nasperc-top10/1",
        "space": {"name": space.name, "version": space.version, "variant": space.variant},
        "stage": stage,
        "task": task,
        "recipe": recipe.to_dict(),
        "data": {"classes": list(classes), "normalisation": "imagenet"},
        "weights": {},
        "search_cost_hours": 0.5,
        "entries": entries,
    }
    folder.mkdir(parents=True)
    path = folder / "top10.json"
    path.write_text(json.dumps(content))
    return path
