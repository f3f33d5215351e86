"""Clusters of tokens: which tokens have one, which is the nearest, what it is learned from."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_info, threadpool_limits

from bilm.modules.token_clusters import TokenClusters
from bilm.runtime.errors import UserError
from bilm.text.batching import collate
from bilm.training.token_clusters import learn_clusters

CPU = torch.device("cpu")


def test_each_word_has_the_cluster_nearest_to_its_direction_at_each_resolution():
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(3, 6, 8, generator=generator) for _ in range(3)]
    clusters = TokenClusters((5, 4), 8)
    state = {f"centroids.{r}": torch.randn(k, 8, generator=generator) for r, k in enumerate(clusters.sizes)}
    clusters.load_state_dict(state)
    lengths = [6, 2, 4]
    found = clusters(layers, lengths)
    for text, length in enumerate(lengths):
        expected = []
        for resolution in (0, 1):
            words = [layers[1][text, t] for t in range(1, length - 1)]
            nearest = [int((w / w.norm() - state[f"centroids.{resolution}"]).norm(dim=1).argmin()) for w in words]
            expected += ["<s>", *(f"{resolution}.{k}" for k in nearest)]
        assert found[text] == expected


def test_equal_texts_have_equal_clusters_and_a_run_is_repeatable(bilm, vocabulary):
    texts = vocabulary.encode(["The coach resigned today", "rain", "", "The coach resigned today"])
    first, second = (learn_clusters(bilm, texts, np.arange(4), CPU, nullcontext, seed=3) for _ in range(2))
    for name, centroids in first.state_dict().items():
        assert torch.equal(centroids, second.state_dict()[name])
    batch = collate(texts, np.arange(4))
    names = first(bilm.encode(batch), batch.lengths.tolist())
    assert first.sizes == (9, 9), "of nine words there are at most nine clusters"
    assert [len(text) for text in names] == [2 * (n + 1) for n in (4, 1, 0, 4)]
    assert names[0] == names[3] and len(set(names[0][1:5])) > 1


def test_words_that_differ_most_are_in_different_clusters(bilm, vocabulary):
    """Each centroid is near the tokens that it stands for: closer than the mean of all."""
    texts = vocabulary.encode([f"the {noun} resigned" for noun in ("coach", "club", "moon", "rain", "water")] * 30)
    clusters = learn_clusters(bilm, texts, np.arange(len(texts)), CPU, nullcontext, seed=0)
    batch = collate(texts, np.arange(len(texts)))
    words = torch.nn.functional.normalize(bilm.encode(batch)[1][:, 1:4], dim=-1).flatten(0, 1)
    distance = torch.cdist(words, clusters.centroids[0]).min(1).values.mean()
    assert distance < 0.1 * torch.cdist(words, words.mean(0, keepdim=True)).mean()


def test_only_the_rows_that_are_named_are_read(bilm, vocabulary):
    texts = vocabulary.encode(["rain rain", "The coach resigned today"])
    clusters = learn_clusters(bilm, texts, np.array([0]), CPU, nullcontext, seed=0)
    assert clusters.sizes == (2, 2)


def test_texts_without_words_are_an_error(bilm, vocabulary):
    with pytest.raises(UserError, match="none of them has a word"):
        learn_clusters(bilm, vocabulary.encode(["", ""]), np.arange(2), CPU, nullcontext, seed=0)


def test_clusters_are_learned_on_one_thread(bilm, vocabulary, monkeypatch):
    """More would wait for each other in busy loops while another program runs."""
    threads = set()
    fit = MiniBatchKMeans.fit

    def recorded(self, points):
        threads.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp")
        return fit(self, points)

    monkeypatch.setattr(MiniBatchKMeans, "fit", recorded)
    texts = vocabulary.encode(["The coach resigned today"])
    with threadpool_limits(2):
        learn_clusters(bilm, texts, np.arange(1), CPU, nullcontext, seed=0)
    assert threads == {1}
