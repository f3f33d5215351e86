"""Embedding tables are trained by Adagrad: steps, sparse gradients, clipping, and what a resumed run has of it."""

import copy

import pytest
import torch
from torch import nn

from bilm.training.optimizer import TABLE_RATE, build_optimizer, clip_gradients

RATE = 0.01
BATCHES = [torch.tensor([1, 1, 3]), torch.tensor([3, 0, 7]), torch.tensor([7, 7, 7]), torch.tensor([2, 1, 0])]


@pytest.fixture
def model() -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList([nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 2)])


def backward(model: nn.ModuleList, ids: torch.Tensor) -> None:
    model[1](model[0](ids)).square().sum().backward()


def train(model: nn.ModuleList, optimizers: list, batches: list, limit: float = 1e9) -> None:
    for ids in batches:
        backward(model, ids)
        clip_gradients([*model.parameters()], limit)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def references(model: nn.ModuleList) -> list[torch.optim.Optimizer]:
    decay = [{"params": [model[1].weight], "weight_decay": 0.1}, {"params": [model[1].bias], "weight_decay": 0.0}]
    table = torch.optim.Adagrad([model[0].weight], lr=TABLE_RATE * RATE, eps=1e-10)
    return [table, torch.optim.AdamW(decay, lr=RATE)]


@pytest.mark.parametrize("limit", [1e9, 0.1])
@pytest.mark.parametrize("sparse", [True, False])
def test_steps_are_those_of_torchs_adagrad_and_adamw(model, sparse, limit):
    reference = copy.deepcopy(model)
    optimizer = build_optimizer([(model, RATE)], 0.1, [model[0]])
    assert model[0].sparse
    model[0].sparse = sparse  # as on a GPU
    train(model, [optimizer], BATCHES, limit)
    train(reference, references(reference), BATCHES, limit)
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_rows_without_a_gradient_stay_as_they_are(model):
    before = model[0].weight.detach().clone()
    train(model, [build_optimizer([(model, RATE)], 0.1, [model[0]])], BATCHES)
    changed = (model[0].weight != before).any(1)
    assert changed.nonzero().squeeze(1).tolist() == [1, 2, 3, 7]


@pytest.mark.parametrize("sparse", [True, False])
def test_a_step_that_is_left_out_changes_nothing(model, sparse):
    optimizer = build_optimizer([(model, RATE)], 0.1, [model[0]])
    model[0].sparse = sparse
    train(model, [optimizer], BATCHES[:1])
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    optimizer.found_inf = torch.tensor(1.0)
    backward(model, BATCHES[1])
    for parameter in model.parameters():
        parameter.grad = parameter.grad * float("nan")
    optimizer.step()
    torch.testing.assert_close(model.state_dict(), weights)
    torch.testing.assert_close(
        optimizer.state_dict()["state"][2]["sum"], state[2]["sum"]
    )  # the table is the last of the three parameters


def test_the_norm_counts_a_row_once_though_its_word_occurs_twice(model):
    dense = copy.deepcopy(model)
    model[0].sparse = True
    for one in (model, dense):
        backward(one, torch.tensor([1, 1, 5]))
    norm = clip_gradients([*model.parameters()], 0.5)
    assert float(norm) == pytest.approx(float(nn.utils.clip_grad_norm_(dense.parameters(), 0.5)))
    for one, other in zip(model.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(one.grad.to_dense(), other.grad)


def test_a_loaded_state_continues_the_same_steps(model):
    optimizer = build_optimizer([(model, RATE)], 0.1, [model[0]])
    train(model, [optimizer], BATCHES[:2])
    other = copy.deepcopy(model)
    resumed = build_optimizer([(other, RATE)], 0.1, [other[0]])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, [optimizer], BATCHES[2:])
    train(other, [resumed], BATCHES[2:])
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)


def test_a_checkpoint_of_an_earlier_version_has_groups_without_a_table(model):
    optimizer = build_optimizer([(model, RATE)], 0.1)
    train(model, [optimizer], BATCHES[:1])
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        del group["table"]
    optimizer.load_state_dict(state)
    train(model, [optimizer], BATCHES[1:])


def test_gradients_are_sparse_on_a_cpu_only():
    table = nn.Embedding(3, 2, device="meta")
    build_optimizer([(table, RATE)], 0.0, [table])
    assert not table.sparse


def test_a_table_learns_at_a_multiple_of_the_rate_of_its_module_without_decay(model):
    groups = build_optimizer([(model, RATE)], 0.1, [model[0]]).param_groups
    (table,) = [group for group in groups if group["table"]]
    assert table["params"] == [model[0].weight]
    assert table["lr"] == table["peak"] == TABLE_RATE * RATE and table["weight_decay"] == 0
