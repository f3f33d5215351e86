"""The token layer that reads characters: its values, its cost, and a language model with it."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bilm import ELMo
from bilm.checkpoints.model_format import Pretrained
from bilm.config import BiLMConfig, CharCNNConfig
from bilm.modules.char_cnn import BLOCK, CharCNN
from bilm.modules.language_model import BiLM
from bilm.modules.token_layer import EMBEDDING_STD, TokenLayer
from bilm.text.batching import Batch, collate
from bilm.text.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Lexicon, Vocabulary, characters_of
from bilm.training.optimizer import build_optimizer

CNN = CharCNNConfig(dim=3, filters=((1, 2), (3, 4), (4, 5)), highways=2, activation="relu", max_characters=9)


def test_a_word_is_its_bytes_between_marks():
    bow, eow, pad = 259, 260, 261
    words = [*SPECIALS, "Bä", "", "abcdefg", "abcdefgh", "日本語", "\ud800a"]
    assert characters_of(np.arange(10), words, 9).tolist() == [
        [0] * 9,
        [bow, *(b + 1 for b in b"<unk>"), eow, pad, pad],
        [bow, 257, eow, *[pad] * 6],
        [bow, 258, eow, *[pad] * 6],
        [bow, 67, 196, 165, eow, *[pad] * 4],
        [bow, eow, *[pad] * 7],
        [bow, *(b + 1 for b in b"abcdefg"), eow],
        [bow, *(b + 1 for b in b"abcdefg"), eow],
        [bow, *(b + 1 for b in "日本語".encode()[:7]), eow],
        [bow, 98, eow, *[pad] * 6],
    ]


def spelled_out(words: list[str]) -> torch.Tensor:
    """Characters of words other than the special tokens."""
    return torch.from_numpy(characters_of(np.arange(len(words)) + len(SPECIALS), words, 9))


def test_each_word_is_spelled_once(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "bilm.text.vocabulary.characters_of",
        lambda ids, words, length: seen.append(list(words)) or characters_of(ids, words, length),
    )
    lexicon = Lexicon([*SPECIALS, "a", "b", "c"])
    everything = characters_of(np.arange(7), lexicon.words, 9)
    for ids in ([6, 2, 0], [6, 4], [0, 5, 6]):
        assert lexicon.characters_of(torch.tensor(ids), 9).tolist() == everything[ids].tolist()
    assert seen == [["c", "<s>", "<pad>"], ["a"], ["b"]]
    assert lexicon.characters_of(torch.tensor([4]), 5).shape == (1, 5)


@pytest.fixture
def cnn() -> CharCNN:
    model = CharCNN(CNN, 6).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.embedding.weight.data[PAD] = 0.0
    return model


def plainly(cnn: CharCNN, characters: torch.Tensor) -> torch.Tensor:
    """The same, computed with nn.Conv1d at every position of every word."""
    x = F.embedding(characters.int(), cnn.embedding.weight, padding_idx=PAD).transpose(1, 2)
    x = torch.cat([convolution(x).amax(2).relu() for convolution in cnn.convolutions], dim=1)
    for highway in cnn.highways:
        gate = highway.gate(x).sigmoid()
        x = gate * highway.transform(x).relu() + (1 - gate) * x
    return cnn.projection(x)


@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
def test_values_and_gradients_are_those_of_plain_convolutions(cnn, count):
    """Words of all lengths up to and beyond `max_characters`, in full blocks and in partly filled ones."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdé"), n)) for n in random.integers(0, 12, count)]
    characters = spelled_out(words)
    upstream = torch.randn(count, 6, dtype=torch.float64)
    expected, result = plainly(cnn, characters), cnn(characters)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad((expected * upstream).sum(), cnn.parameters())
    result = torch.autograd.grad((result * upstream).sum(), cnn.parameters())
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_windows_that_see_padding_alone_count_once_for_each_word(cnn):
    """As in the original, where all words are padded to one length: here in a batch of short words only."""
    characters = spelled_out(["a", "b"])
    with torch.no_grad():
        for convolution in cnn.convolutions:
            convolution.bias.fill_(50.0)  # no word's own window would be above padding otherwise
            convolution.weight[:, :, 0].fill_(-9.0)
        torch.testing.assert_close(cnn(characters), plainly(cnn, characters), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [7, 256])
def test_words_begin_centred_and_apart(width):
    layer = TokenLayer("char", 4, width, CharCNNConfig())
    layer.reset_parameters()
    words = [f"{a}{b}{c}" for a in "strong" for b in "aeiou" for c in ("nd", "ter", "s", "lling")]
    with torch.no_grad():
        x = layer(torch.arange(4, 4 + len(words)), Lexicon([*SPECIALS, *words]))
    assert x.mean(0).abs().mean() < EMBEDDING_STD / 2 < x.std(0).mean() < 2 * EMBEDDING_STD


# --- words in the vocabulary, new words, and repeated words ----------------------------------------------------------

WORDS = [*SPECIALS, "stocks", "fell", "moon"]
LEXICON = Lexicon([*WORDS, "stocksy", "zzz"])
IDS = torch.tensor([[BOS, 4, 5, 7, 8, EOS], [BOS, 6, 4, 4, EOS, PAD]])


def layer_of(kind: str, seed: int = 0) -> TokenLayer:
    torch.manual_seed(seed)
    layer = TokenLayer(kind, len(WORDS), 6, CNN)
    layer.reset_parameters()
    return layer.eval()


@pytest.mark.parametrize("kind", ["char", "word+char"])
def test_known_and_new_words_are_the_sum_of_their_parts(kind):
    layer = layer_of(kind)
    with torch.no_grad():
        result = layer(IDS, LEXICON)
        expected = layer.characters(torch.from_numpy(characters_of(np.arange(len(LEXICON)), LEXICON.words, 9)))[IDS]
        if kind == "word+char":
            expected = expected + layer.word.weight[IDS.where(len(WORDS) > IDS, UNK)]
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)
    assert (result[0, 3] - result[0, 4]).abs().max() > 0.01, "two new words are not one"


def test_a_table_of_words_needs_no_lexicon():
    layer = layer_of("word")
    ids = IDS.where(len(WORDS) > IDS, UNK)
    assert torch.equal(layer(ids, None), layer.word.weight[ids])
    with pytest.raises(ValueError, match="needs the words"):
        layer_of("char")(ids, None)


@pytest.fixture
def convolved(monkeypatch) -> list[int]:
    """The number of words that were convolved in each call."""
    counted = []
    plain = CharCNN.forward

    def forward(self, characters):
        counted.append(len(characters))
        return plain(self, characters)

    monkeypatch.setattr(CharCNN, "forward", forward)
    return counted


def test_training_pays_for_each_distinct_word_of_the_batch(convolved):
    layer = layer_of("word+char").train()
    del convolved[:]
    for _ in range(2):
        layer(IDS, LEXICON).sum().backward()
    assert convolved == [8, 8]


@pytest.mark.parametrize("kind", ["char", "word+char"])
def test_weights_that_stay_pay_for_each_word_once(kind, convolved):
    layer = layer_of(kind)
    with torch.no_grad():
        expected = layer.train()(IDS, LEXICON)
        layer.eval()
        del convolved[:]
        first, rest = layer(IDS[:1], LEXICON), layer(IDS, LEXICON)
        torch.testing.assert_close(rest, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(first, expected[:1], rtol=1e-5, atol=1e-6)
        layer(IDS, LEXICON)
        assert convolved == [6, 2]
        # The same ids are other words in other texts.
        other = layer(IDS, Lexicon([*WORDS, "other", "words"]))
        assert (other[0, 3] - expected[0, 3]).abs().max() > 0.01 and convolved == [6, 2, 8]


def changed_by_the_optimizer(layer: TokenLayer) -> None:
    optimizer = build_optimizer([(layer, 0.1)], 0.0)
    layer(IDS, LEXICON).square().sum().backward()
    optimizer.step()


def changed_by_loading(layer: TokenLayer) -> None:
    layer.load_state_dict(layer_of("word+char", seed=1).state_dict())


@pytest.mark.parametrize("change", [changed_by_the_optimizer, changed_by_loading])
def test_weights_that_changed_give_new_vectors(change):
    layer = layer_of("word+char")
    with torch.no_grad():
        before = layer(IDS, LEXICON)
    change(layer)
    with torch.no_grad():
        after, expected = layer(IDS, LEXICON), layer.train()(IDS, LEXICON)
    assert (after - before).abs().max() > 0.01
    torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-6)


def test_precision_is_not_carried_over():
    layer = layer_of("char")
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(IDS, LEXICON).dtype == torch.bfloat16
        exact = layer(IDS, LEXICON)
    assert exact.dtype == torch.float32
    torch.testing.assert_close(exact, layer_of("char").train()(IDS, LEXICON), rtol=1e-5, atol=1e-6)


# --- the language model on it ----------------------------------------------------------------------------------------


@pytest.fixture
def open_ended(vocabulary) -> Vocabulary:
    """A vocabulary as if learned from the first two texts."""
    return Vocabulary(vocabulary.words[:12], vocabulary.tokenizer, open_ended=True)


@pytest.fixture(params=["char", "word+char"])
def bilm(request, open_ended) -> BiLM:
    config = BiLMConfig(request.param, width=7, dropout=0.5, softmax="full", characters=CNN)
    return BiLM(config, len(open_ended)).eval()


def test_words_that_the_vocabulary_lacks_are_numbered_behind_it(open_ended, texts):
    encoded = open_ended.encode(texts)
    assert encoded.lexicon.words[:12] == open_ended.words and len(set(encoded.lexicon.words)) == len(encoded.lexicon)
    for i, text in enumerate(texts):
        ids = encoded.ids[encoded.offsets[i] + 1 : encoded.offsets[i + 1] - 1]
        assert [encoded.lexicon.words[j] for j in ids] == open_ended.tokenizer(text)
    assert (encoded.ids >= 12).any() and len(open_ended) == 12


def test_what_the_softmax_lacks_is_predicted_as_unknown(bilm, open_ended, texts):
    closed = Vocabulary(open_ended.words, open_ended.tokenizer)
    rows = np.arange(5)
    result = bilm.lm_targets(collate(open_ended.encode(texts), rows))
    expected = bilm.lm_targets(collate(closed.encode(texts), rows))
    for direction, query in result.items():
        assert torch.equal(query.targets, expected[direction].targets) and (query.targets == UNK).any()
        assert (query.states - expected[direction].states).abs().max() > 1e-3, "the input knows which word it was"


@pytest.mark.parametrize("position", [1, 4, 7])
def test_states_have_not_seen_what_they_predict(bilm, position):
    lexicon = Lexicon([*bilm_words(bilm), "new", "newer"])
    ids = [BOS, 5, 9, 6, 11, 8, 7, 12, EOS]
    layers = []
    for word in (ids[position], 13):
        row = [*ids[:position], word, *ids[position + 1 :]]
        with torch.no_grad():
            layers.append(bilm.encode(Batch(torch.tensor([row]), torch.tensor([9]), lexicon=lexicon))[1:])
    for before, after in zip(*layers, strict=True):
        moved = ((before - after)[0].abs() > 1e-7).view(9, 2, 7).any(-1)
        assert moved[:, 0].tolist() == [t >= position for t in range(9)], "forward"
        assert moved[:, 1].tolist() == [t <= position for t in range(9)], "backward"


def bilm_words(bilm: BiLM) -> list[str]:
    return [*SPECIALS, *(f"word{i}" for i in range(bilm.vocabulary_size - len(SPECIALS)))]


def test_a_text_has_the_same_vectors_in_any_company(bilm, open_ended, texts):
    """Also when the other texts of the batch add words to the lexicon."""
    encoded = open_ended.encode(texts)
    with torch.no_grad():
        together = bilm.encode(collate(encoded, np.arange(5)))
        for row, text in enumerate(texts):
            alone = bilm.encode(collate(open_ended.encode([text]), np.array([0])))
            for a, b in zip(alone, together, strict=True):
                torch.testing.assert_close(a[0], b[row, : a.shape[1]], rtol=0, atol=1e-5)


def test_e0_is_the_token_twice(bilm, open_ended, texts):
    batch = collate(open_ended.encode(texts), np.arange(5))
    with torch.no_grad():
        e0 = bilm.encode(batch)[0]
        torch.testing.assert_close(e0, bilm.tokens(batch.ids, batch.lexicon).repeat(1, 1, 2), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(e0, bilm.embed(batch, torch.float32), rtol=1e-5, atol=1e-6)


def test_characters_learn_at_a_fifth_of_the_rate(bilm):
    rate = {p: g["peak"] for g in build_optimizer(bilm.learning_rates(0.5), 0.1).param_groups for p in g["params"]}
    assert set(rate) == set(bilm.parameters())
    assert all(rate[p] == pytest.approx(0.1) for p in bilm.tokens.characters.parameters())
    slow = set(bilm.tokens.characters.parameters())
    assert all(rate[p] == 0.5 for p in bilm.parameters() if p not in slow)


def test_threads_do_not_see_the_words_of_each_other(bilm, open_ended):
    """Each of them asks for the vectors of its own words, as a server does for its callers."""
    pretrained = Pretrained(bilm, open_ended, {}, "")
    elmo, texts = ELMo(pretrained), [[f"w{i}{j}" for j in range(3 + i)] for i in range(8)]
    expected = [elmo.sentence_vectors([text]) for text in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: elmo.sentence_vectors([texts[i % 8]]), range(160)))
    finally:
        sys.setswitchinterval(interval)
    for i, vectors in enumerate(found):
        np.testing.assert_allclose(vectors, expected[i % 8], rtol=1e-5, atol=1e-6)


def test_nothing_of_a_text_stays_in_the_model(bilm, open_ended):
    elmo = ELMo(Pretrained(bilm, open_ended, {}, ""))
    size = len(pickle.dumps(elmo.model))
    elmo.sentence_vectors(["a secret word"])
    assert len(pickle.dumps(elmo.model)) == size and b"secret" not in pickle.dumps(elmo.model)


def test_a_batch_can_be_pickled(open_ended, texts):
    """For a DataLoader with worker processes."""
    batch = collate(open_ended.encode(texts), np.arange(2))
    layer = layer_of("char").eval()
    with torch.no_grad():
        expected = layer(batch.ids, batch.lexicon)
        copy = pickle.loads(pickle.dumps(batch))  # noqa: S301
        torch.testing.assert_close(layer(copy.ids, copy.lexicon), expected)
