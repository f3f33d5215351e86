"""Stacks of LSTMs, one per direction: (B, T, D) -> one (B, T, D) per layer, bottom first.

LSTMStack is the one that this project trains. ProjectedLSTMStack is that of the original ELMo: its cells are wider than
their outputs, and both are clipped inside the recurrence, which nn.LSTM cannot do.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bilm.config import BiLMConfig, ProjectedLSTMConfig
from bilm.modules.layers import Dropout


class LSTMStack(nn.Module):
    """LSTMs, left to right, with a residual connection around every layer but the first.

    As in section 3.4 of Peters et al. 2018. The first layer needs none: its input, the token, is available as e0. Where
    the LSTMs have more units than D, a linear layer projects their outputs to D; the recurrence itself is not projected
    (nn.LSTM's proj_size would project that, too, and oneDNN cannot compute it).
    """

    def __init__(self, config: BiLMConfig):
        super().__init__()
        width, units, layers = config.width, config.units, range(config.layers)
        self.lstms = nn.ModuleList(nn.LSTM(width, units, batch_first=True) for _ in layers)
        is_projected = units != width
        self.projections = nn.ModuleList(nn.Linear(units, width) if is_projected else nn.Identity() for _ in layers)
        self.dropout = Dropout(config.dropout)

    def reset_parameters(self) -> None:
        """Set the biases to 0, and those of the forget gates to 1, so that gradients reach far back."""
        for lstm in self.lstms:
            lstm.bias_ih_l0.data.zero_()  # type: ignore[operator]
            lstm.bias_hh_l0.data.zero_()  # type: ignore[operator]
            lstm.bias_ih_l0.data.chunk(4)[1].fill_(1.0)  # type: ignore[operator]

    def forward(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """`lengths` are not used: padding follows the text, and the LSTMs run left to right."""
        outputs: list[Tensor] = []
        for lstm, projection in zip(self.lstms, self.projections, strict=True):
            y = projection(_run_lstm(lstm, self.dropout(x)))
            x = y + x if outputs else y
            outputs.append(x)
        return outputs


def _run_lstm(lstm: nn.Module, x: Tensor) -> Tensor:
    if not (x.is_cuda and torch.is_autocast_enabled("cuda")):
        return lstm(x)[0]
    # Autocast itself runs cuDNN's LSTMs in fp16, even if its type is bf16, and in fp16 small gradients vanish.
    dtype = torch.get_autocast_dtype("cuda")
    with torch.autocast("cuda", enabled=False):
        return _run_converted(lstm, x, dtype)


def _run_converted(lstm: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Run an LSTM of one layer on x (B, T, D) with its weights converted to `dtype`."""
    weights = list(lstm.parameters())
    # In one piece, as cuDNN requires: it would copy them otherwise.
    pieces = torch.cat([weight.flatten() for weight in weights]).to(dtype).split([w.numel() for w in weights])
    converted = [piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True)]
    start = x.new_zeros(1, len(x), weights[1].shape[1], dtype=dtype)
    # What nn.LSTM calls with its own weights: biases, one layer, no dropout, one direction, batches first.
    return torch.lstm(x.to(dtype), (start, start), converted, True, 1, 0.0, lstm.training, False, True)[0]


class ProjectedLSTM(nn.Module):
    """Sak et al. 2014: an LSTM of `cell` units whose output is projected to D; both are clipped.

        i, f, g, o = W_ih x_t + W_hh h_{t-1} + b          each of `cell` rows, in PyTorch's order
        c_t = clip(sigmoid(f) c_{t-1} + sigmoid(i) tanh(g))
        h_t = clip(W_hr (sigmoid(o) tanh(c_t)))           not projected where `cell` is D

    In fp32 also under autocast (TF32 on a GPU that trains in bf16): rounding errors would add up over the text.
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

    def forward(self, x: Tensor, lengths: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (B, T, D), h (B, D), c (B, cell) -> outputs (B, T, D), and (h, c) at the end of each text."""
        lengths, outputs = lengths.to(x.device), []
        with torch.autocast(x.device.type, enabled=False):
            for t, from_input in enumerate((x.float() @ self.weight_ih.t() + self.bias).unbind(1)):
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

    stateful: text b of a batch starts from the state in which text b of the previous batch ended, as in the original
    program, so that its vectors depend on the texts read before it.
    """

    def __init__(self, width: int, layers: int, dropout: float, config: ProjectedLSTMConfig):
        super().__init__()
        self.skip_connections = config.skip_connections
        self.lstms = nn.ModuleList(ProjectedLSTM(width, config) for _ in range(layers))
        self.dropout = Dropout(dropout)
        self.stateful = False
        self._no_texts = [torch.empty(0, size, device="cpu") for size in (width, config.cell)]
        self.forget()

    def forget(self) -> None:
        """Let the next texts start from a zero state."""
        # [h, c] of each layer, with a row per text; missing rows stand for zeros.
        self._states = [self._no_texts] * len(self.lstms)

    def reset_parameters(self) -> None:
        for lstm in self.lstms:
            lstm.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        for i, lstm in enumerate(self.lstms):
            y, end = lstm(self.dropout(x), lengths, *(_resize(s.to(x.device), len(x)) for s in self._states[i]))
            if self.stateful:
                # A batch with fewer texts leaves the states of the others as they were.
                pairs = zip(end, self._states[i], strict=True)
                self._states[i] = [torch.cat([new.detach(), old[len(x) :].to(x.device)]) for new, old in pairs]
            x = y + x if outputs and self.skip_connections else y
            outputs.append(x)
        return outputs


def _resize(state: Tensor, rows: int) -> Tensor:
    """The first `rows` rows, followed by zeros where there are fewer."""
    return F.pad(state[:rows], (0, 0, 0, max(0, rows - len(state))))


def build_stack(config: BiLMConfig) -> LSTMStack | ProjectedLSTMStack:
    """Build the stack of one direction."""
    if config.recurrence is None:
        return LSTMStack(config)
    return ProjectedLSTMStack(config.width, config.layers, config.dropout, config.recurrence)
