import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

from controllers.mlp_ensemble import MLPEnsemble

TRAINING = {"steps": 150, "batch": 32, "learning_rate": 1e-2, "weight_decay": 1e-2}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_member_is_a_perceptron_of_its_own():
    ensemble = MLPEnsemble(3, 5, 8, generator())
    features = torch.rand(4, 5, generator=generator(1))
    together = ensemble(features)
    assert together.shape == (3, 4)
    for member in range(3):
        x = features
        for layer, (weight, bias) in enumerate(zip(ensemble.weights, ensemble.biases, strict=True)):
            x = F.linear(x, weight[member].T, bias[member, 0])
            x = x.relu() if layer < 2 else x
        torch.testing.assert_close(together[member], x[:, 0])
    own = torch.rand(3, 4, 5, generator=generator(2))
    expected = torch.stack([ensemble(own[member])[member] for member in range(3)])
    torch.testing.assert_close(ensemble(own), expected)


def test_ranks_what_it_has_not_seen():
    """Additive with one interaction, as rewards over decisions are."""
    rng = np.random.default_rng(0)
    tokens = torch.tensor(rng.integers(3, size=(260, 6)))
    features = F.one_hot(tokens, 3).flatten(1).float()
    effects, pair = torch.tensor(rng.normal(size=(6, 3))), torch.tensor(rng.normal(size=(3, 3)))
    targets = effects[torch.arange(6), tokens].sum(dim=1) + pair[tokens[:, 0], tokens[:, 3]]
    ensemble = MLPEnsemble(4, 18, 32, generator())
    ensemble.fit(features[:60], targets[:60].float(), **TRAINING, generator=generator(1))
    predicted = ensemble.predict(features[60:])
    assert spearmanr(predicted.mean(dim=0), targets[60:]).statistic > 0.85
    # Its members have not become one.
    assert predicted.std(dim=0).mean() > 0.02


def test_the_same_generator_gives_the_same_ensemble():
    features = torch.rand(10, 5, generator=generator(1))
    predictions = []
    for _ in range(2):
        shared = generator(3)
        ensemble = MLPEnsemble(2, 5, 8, shared)
        ensemble.fit(features, features.sum(dim=1), **TRAINING, generator=shared)
        predictions.append(ensemble.predict(features))
    assert torch.equal(*predictions)
