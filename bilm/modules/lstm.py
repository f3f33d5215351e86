"""Stacks of LSTMs, one per direction: (B, T, D) -> one (B, T, D) per layer, bottom first.

LSTMStack is what this project trains. ProjectedLSTMStack is that of the original ELMo: cells wider than what they give,
clipped inside the recurrence, which nn.LSTM cannot do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bilm.config import BiLMConfig, ProjectedLSTMConfig
from bilm.modules.layers import Dropout

State = tuple[Tensor, Tensor]


class LSTMStack(nn.Module):
    """`layers` LSTMs of width D, left to right, with a residual connection around every layer but the first.

    The first has none: its input, the token, stays at hand as e0.
    """

    def __init__(self, width: int, layers: int, dropout: float):
        super().__init__()
        self.lstms = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(layers))
        self.dropout = Dropout(dropout)

    def reset_parameters(self) -> None:
        """Forget gates that start open (bias 1), so that memory reaches back from the start."""
        for lstm in self.lstms:
            width = lstm.hidden_size
            lstm.bias_ih_l0.data.zero_()  # type: ignore[operator]
            lstm.bias_hh_l0.data.zero_()  # type: ignore[operator]
            lstm.bias_ih_l0.data[width : 2 * width] = 1.0  # type: ignore[operator]

    def forward(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """What stands behind a text has no part in it, so that `lengths` are not needed."""
        outputs: list[Tensor] = []
        for lstm in self.lstms:
            y = _run_lstm(lstm, self.dropout(x))
            x = y + x if outputs else y
            outputs.append(x)
        return outputs


def _run_lstm(lstm: nn.Module, x: Tensor) -> Tensor:
    if x.is_cuda:
        # Autocast runs cuDNN's LSTMs in fp16, whatever type was asked for, and without a loss scaler small gradients
        # vanish in it: TF32 instead.
        with torch.autocast("cuda", enabled=False):
            return lstm(x.float())[0]
    return lstm(x)[0]


class ProjectedLSTM(nn.Module):
    """Sak et al. 2014: an LSTM of `cell` units whose output is projected to D; cell and output are clipped.

        i, f, g, o = W_ih x_t + W_hh h_{t-1} + b          each of `cell` rows, in PyTorch's order
        c_t = clip(sigmoid(f) c_{t-1} + sigmoid(i) tanh(g))
        h_t = clip(W_hr (sigmoid(o) tanh(c_t)))           not projected where `cell` is D

    In fp32 whatever the autocast (TF32 on a GPU beside bf16): rounding errors would add up over the text.
    """

    def __init__(self, width: int, config: ProjectedLSTMConfig):
        super().__init__()
        self.config = config
        self.weight_ih = nn.Parameter(torch.empty(4 * config.cell, width))
        self.weight_hh = nn.Parameter(torch.empty(4 * config.cell, width))
        self.bias = nn.Parameter(torch.empty(4 * config.cell))
        self.weight_hr = nn.Parameter(torch.empty(width, config.cell)) if config.cell != width else None

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(self.config.cell**-0.5), self.config.cell**-0.5)

    def forward(self, x: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """x (B, T, D), and (h (B, D), c (B, cell)) -> outputs (B, T, D), and the state at the end of each text."""
        with torch.autocast(x.device.type, enabled=False):
            return self._run(x.float(), lengths.to(x.device), state)

    def _run(self, x: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        outputs = []
        for t, from_input in enumerate((x @ self.weight_ih.t() + self.bias).unbind(1)):
            i, f, g, o = (from_input + h @ self.weight_hh.t()).chunk(4, dim=1)
            new_c = _clip(f.sigmoid() * c + i.sigmoid() * g.tanh(), self.config.cell_clip)
            new_h = o.sigmoid() * new_c.tanh()
            if self.weight_hr is not None:
                new_h = _clip(new_h @ self.weight_hr.t(), self.config.projection_clip)
            outputs.append(new_h)
            inside = (t < lengths)[:, None]
            h, c = torch.where(inside, new_h, h), torch.where(inside, new_c, c)
        return torch.stack(outputs, dim=1), (h, c)


def _clip(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


class ProjectedLSTMStack(nn.Module):
    """Layers of ProjectedLSTM; with skip connections, the input of every layer but the first is added to its output.

    stateful: text b of a batch goes on from the state in which text b of the batch before ended, as in the original
    program. A text's vectors then depend on what was read before it.
    """

    def __init__(self, width: int, layers: int, dropout: float, config: ProjectedLSTMConfig):
        super().__init__()
        self.width = width
        self.skip_connections = config.skip_connections
        self.lstms = nn.ModuleList(ProjectedLSTM(width, config) for _ in range(layers))
        self.dropout = Dropout(dropout)
        self.stateful = False
        self.forget()

    def forget(self) -> None:
        """Let the next texts start from a zero state."""
        self._carried: list[State | None] = [None] * len(self.lstms)

    def reset_parameters(self) -> None:
        for lstm in self.lstms:
            lstm.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        for i, lstm in enumerate(self.lstms):
            y, end = lstm(self.dropout(x), lengths, self._begin(i, x))
            if self.stateful:
                self._carried[i] = self._carry(self._carried[i], end)
            x = y + x if outputs and self.skip_connections else y
            outputs.append(x)
        return outputs

    def _begin(self, layer: int, x: Tensor) -> State:
        """(h, c) of the rows of `x`: carried where there is one to carry, else zero."""
        config: ProjectedLSTMConfig = self.lstms[layer].config  # type: ignore[assignment]
        sizes, carried = (self.width, config.cell), self._carried[layer]
        begin = [torch.zeros(len(x), size, device=x.device) for size in sizes]
        if carried is not None:
            for zero, old in zip(begin, carried, strict=True):
                zero[: len(old)] = old[: len(x)]
        return begin[0], begin[1]

    @staticmethod
    def _carry(old: State | None, new: Sequence[Tensor]) -> State:
        """A smaller batch leaves the states of the rows that it has not as they were."""
        if old is not None:
            new = [torch.cat([n.detach(), o[len(n) :].to(n.device)]) for n, o in zip(new, old, strict=True)]
        return new[0].detach(), new[1].detach()


def build_stack(config: BiLMConfig) -> LSTMStack | ProjectedLSTMStack:
    """That of one direction."""
    if config.recurrence is None:
        return LSTMStack(config.width, config.layers, config.dropout)
    return ProjectedLSTMStack(config.width, config.layers, config.dropout, config.recurrence)
