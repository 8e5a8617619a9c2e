"""Makes teacher.pt: a tiny TorchScript teacher for two classes, by the contract of compress/src/train/teacher.rs.

python make.py, with torch 2.11.0.
"""

import torch
from torch import nn


class Teacher(nn.Module):
    """Brightness decides: class 0 where it is bright, boxes of one stride around the corner of each cell."""

    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(3, 4, 3, stride=8, padding=1)

    def places(self, x):
        logits, boxes = [], []
        for stride in (8, 16, 32):
            mean = nn.functional.avg_pool2d(x, stride, ceil_mode=True).mean(1, keepdim=True)
            height, width = mean.shape[2], mean.shape[3]
            logits.append(torch.cat([mean * 12 - 6, -mean * 12], 1).flatten(2))
            rows = torch.arange(height, device=x.device).view(-1, 1).expand(height, width).flatten() * float(stride)
            columns = torch.arange(width, device=x.device).view(1, -1).expand(height, width).flatten() * float(stride)
            box = torch.stack([columns, rows, columns + stride, rows + stride])
            boxes.append(box.unsqueeze(0).expand(x.shape[0], 4, height * width))
        return torch.cat(logits, 2), torch.cat(boxes, 2)

    def forward(self, x):
        return self.places(x)

    @torch.jit.export
    def features(self, x):
        logits, boxes = self.places(x)
        return logits, boxes, self.map(x)


torch.manual_seed(0)
torch.jit.script(Teacher().eval()).save("teacher.pt")


class NoPair(nn.Module):
    """Breaks the contract: one tensor instead of a pair."""

    def forward(self, x):
        return x


torch.jit.script(NoPair().eval()).save("no-pair.pt")
