"""Dropout whose masks cost a CPU little: a random byte for each value, where PyTorch draws a random number."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BYTE = 256


class Dropout(nn.Module):
    """nn.Dropout; on a CPU `p` is rounded to the next 1/256 (0.2 to 0.199, 0.3 to 0.301), and the scale fits that."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        dropped = round(self.p * _BYTE)
        if not self.training or not 0 < dropped < _BYTE or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        random = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        # Compared in place as floats, which hold 0 to 255 exactly: to turn bools into floats is slow.
        kept = random.view(torch.uint8)[: x.numel()].view(x.shape).to(x.dtype).ge_(dropped)
        return x * kept.mul_(_BYTE / (_BYTE - dropped))
