"""The LSTM of the original ELMo against the equations of Sak et al. 2014, and what LSTM stacks start from."""

import numpy as np
import pytest
import torch
from conftest import sigmoid

from bilm.config import BiLMConfig, ProjectedLSTMConfig
from bilm.modules.lstm import LSTMStack, ProjectedLSTM, ProjectedLSTMStack, build_stack

WIDTH, CELL = 3, 5
CLIPPED = ProjectedLSTMConfig(cell=CELL, cell_clip=0.6, projection_clip=0.4, skip_connections=True)
FREE = ProjectedLSTMConfig(cell=CELL, cell_clip=None, projection_clip=None, skip_connections=True)


def clip(x: np.ndarray, limit: float | None) -> np.ndarray:
    return x if limit is None else np.clip(x, -limit, limit)


def numpy_run(lstm: ProjectedLSTM, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, ...]:
    """Outputs (T, D) of one text x (T, D), and the last h and c."""
    weights = {name: p.detach().double().numpy() for name, p in lstm.named_parameters()}
    outputs = []
    for x_t in x:
        i, f, g, o = (weights["weight_ih"] @ x_t + weights["weight_hh"] @ h + weights["bias"]).reshape(4, -1)
        c = clip(sigmoid(f) * c + sigmoid(i) * np.tanh(g), lstm.config.cell_clip)
        h = sigmoid(o) * np.tanh(c)
        if "weight_hr" in weights:
            h = clip(weights["weight_hr"] @ h, lstm.config.projection_clip)
        outputs.append(h)
    return np.array(outputs), h, c


def with_large_weights(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize("config", [CLIPPED, FREE, ProjectedLSTMConfig(WIDTH, 0.6, 0.4, True)])
def test_outputs_and_the_state_at_the_end_of_each_text(config):
    """From a state that is not zero; where the cell is as wide as the output, nothing is projected."""
    lstm, x, lengths = with_large_weights(ProjectedLSTM(WIDTH, config)), torch.randn(3, 6, WIDTH), [6, 2, 4]
    h, c = torch.randn(3, WIDTH), torch.randn(3, config.cell)
    with torch.no_grad():
        outputs, (h_end, c_end) = lstm(x, torch.tensor(lengths), h, c)
    assert outputs.shape == x.shape
    for row, length in enumerate(lengths):
        expected, *ends = numpy_run(lstm, x[row, :length].numpy(), h[row].numpy(), c[row].numpy())
        np.testing.assert_allclose(outputs[row, :length].numpy(), expected, atol=1e-5)
        for result, end in zip((h_end, c_end), ends, strict=True):
            np.testing.assert_allclose(result[row].numpy(), end, atol=1e-5)


def test_each_clip_has_an_effect():
    """Else the test above would not see it."""
    x, start = np.random.default_rng(0).normal(size=(6, WIDTH)), (np.zeros(WIDTH), np.zeros(CELL))
    lstm = with_large_weights(ProjectedLSTM(WIDTH, CLIPPED))
    both = numpy_run(lstm, x, *start)[0]
    for change in (ProjectedLSTMConfig(CELL, None, 0.4, True), ProjectedLSTMConfig(CELL, 0.6, None, True)):
        lstm.config = change
        assert np.abs(numpy_run(lstm, x, *start)[0] - both).max() > 0.05


def test_precision_is_fp32_under_autocast():
    lstm, x = with_large_weights(ProjectedLSTM(WIDTH, CLIPPED)), torch.randn(2, 6, WIDTH)
    start = torch.zeros(2, WIDTH), torch.zeros(2, CELL)
    with torch.no_grad():
        exact, _ = lstm(x, torch.tensor([6, 6]), *start)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result, _ = lstm(x, torch.tensor([6, 6]), *start)
    assert result.dtype == torch.float32 and torch.equal(result, exact)


def test_initial_weights_are_uniform_within_one_over_the_root_of_the_cell():
    lstm = ProjectedLSTM(40, ProjectedLSTMConfig(100, None, None, False))
    lstm.reset_parameters()
    for parameter in lstm.parameters():
        assert -0.1 <= parameter.min() < -0.09 and 0.09 < parameter.max() <= 0.1
        assert parameter.mean().abs() < 0.02


@pytest.mark.parametrize("skip", [True, False])
def test_layers_of_a_stack(skip):
    config = ProjectedLSTMConfig(CELL, 0.6, 0.4, skip)
    stack = with_large_weights(ProjectedLSTMStack(WIDTH, 3, 0.5, config)).eval()
    x = torch.randn(2, 4, WIDTH)
    with torch.no_grad():
        layers = stack(x, torch.tensor([4, 4]))
    assert len(layers) == 3
    for row in range(2):
        below = x[row].numpy()
        for number, (lstm, layer) in enumerate(zip(stack.lstms, layers, strict=True)):
            expected = numpy_run(lstm, below, np.zeros(WIDTH), np.zeros(CELL))[0]
            below = expected + below if skip and number > 0 else expected
            np.testing.assert_allclose(layer[row].numpy(), below, atol=1e-5)


def test_a_stateful_stack_goes_on_where_each_row_ended():
    """Batches of three, one and three texts: a row that a batch lacks keeps its state. forget() begins anew."""
    stack = with_large_weights(ProjectedLSTMStack(WIDTH, 2, 0.0, CLIPPED)).eval()
    batches = [torch.randn(size, 4, WIDTH) for size in (3, 1, 3)]
    lengths = [torch.tensor([4, 2, 3]), torch.tensor([3]), torch.tensor([4, 4, 1])]
    stack.stateful = True
    with torch.no_grad():
        results = [stack(x, n)[1] for x, n in zip(batches, lengths, strict=True)]
    for row in range(3):
        joined = [x[row, : n[row]] for x, n in zip(batches, lengths, strict=True) if row < len(x)]
        stack.stateful = False
        stack.forget()
        with torch.no_grad():
            expected = stack(torch.cat(joined)[None], torch.tensor([sum(map(len, joined))]))[1][0]
        result = torch.cat([y[row, : n[row]] for y, n in zip(results, lengths, strict=True) if row < len(y)])
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_a_stack_without_state_starts_each_batch_from_zero():
    stack, x = with_large_weights(ProjectedLSTMStack(WIDTH, 2, 0.0, CLIPPED)).eval(), torch.randn(2, 4, WIDTH)
    with torch.no_grad():
        first, second = (stack(x, torch.tensor([4, 4]))[1] for _ in range(2))
    assert torch.equal(first, second)


def test_a_carried_state_has_no_gradient():
    stack, x = ProjectedLSTMStack(WIDTH, 1, 0.0, CLIPPED), torch.randn(2, 4, WIDTH)
    stack.reset_parameters()
    stack.stateful = True
    for _ in range(3):
        stack(x, torch.tensor([4, 3]))[0].sum().backward()


def test_forget_gates_start_open_and_all_other_biases_at_zero():
    """PyTorch keeps the gates in the order i, f, g, o."""
    stack = LSTMStack(BiLMConfig(width=4))
    stack.reset_parameters()
    for lstm in stack.lstms:
        assert lstm.bias_ih_l0.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
        assert lstm.bias_hh_l0.tolist() == [0.0] * 16


@pytest.mark.parametrize("dropout", [0.0, 0.9])
def test_the_input_of_every_layer_is_dropped_out_in_training(dropout):
    for recurrence, kind in ((None, LSTMStack), (FREE, ProjectedLSTMStack)):
        stack = build_stack(BiLMConfig(width=WIDTH, layers=2, dropout=dropout, recurrence=recurrence))
        assert type(stack) is kind and len(stack.lstms) == 2
        stack.reset_parameters()
        x, lengths = torch.randn(2, 4, WIDTH), torch.tensor([4, 4])
        one, other = (stack.train()(x, lengths) for _ in range(2))
        assert [torch.equal(a, b) for a, b in zip(one, other, strict=True)] == [dropout == 0.0] * 2
        assert torch.equal(stack.eval()(x, lengths)[0], stack(x, lengths)[0])
