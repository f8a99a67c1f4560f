"""The optimiser of both training scripts: Muon for the projections, AdamW for everything else."""

from collections import defaultdict

import torch
from torch import Tensor, nn

# A quintic iteration that drives all singular values towards 1; five steps reach about 0.7 to 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(g: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrix to each matrix of g [k, rows, columns], roughly."""
    a, b, c = NEWTON_SCHULZ
    tall = g.shape[1] > g.shape[2]
    x = (g.mT if tall else g).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).to(g.dtype)


class Muon:
    """Momentum, then an orthogonalised update: every direction of a matrix learns equally fast."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        self.lr, self.weight_decay = lr, weight_decay
        by_shape = defaultdict(list)
        for parameter in parameters:
            by_shape[parameter.shape].append(parameter)
        # Equal shapes (one for each layer) share their matrix products.
        self.groups = list(by_shape.values())
        self.momenta = [torch.zeros_like(torch.stack(list(group))) for group in self.groups]

    @torch.no_grad()
    def step(self, factor: float) -> None:
        for group, momentum in zip(self.groups, self.momenta):
            gradient = torch.stack([p.grad for p in group])
            momentum.lerp_(gradient, 0.05)
            update = orthogonalise(gradient.lerp(momentum, 0.95))
            rows, columns = update.shape[1:]
            lr = self.lr * factor
            torch._foreach_mul_(group, 1 - lr * self.weight_decay)
            scale = max(1.0, rows / columns) ** 0.5
            torch._foreach_add_(group, list(update.unbind()), alpha=-lr * scale)


class Optimizer:
    """`step(factor)` scales both learning rates by the schedule's factor and clips gradients."""

    def __init__(self, model: nn.Module, lr: float, muon_lr: float, weight_decay: float) -> None:
        self.parameters = list(model.parameters())
        self.lr = lr
        projections = [p for n, p in model.named_parameters() if n.endswith("_proj.weight")]
        rest = [p for n, p in model.named_parameters() if not n.endswith("_proj.weight")]
        self.muon = Muon(projections, muon_lr, weight_decay)
        self.adamw = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0,
                                       fused=rest[0].is_cuda)

    def step(self, factor: float) -> None:
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.adamw.param_groups:
            group["lr"] = self.lr * factor
        self.muon.step(factor)
        self.adamw.step()
        for parameter in self.parameters:
            parameter.grad = None


def schedule(progress: float, warmup: float = 0.01, decay: float = 0.6) -> float:
    """Learning-rate factor at a progress of 0..1: linear warm-up, constant, linear decay to 0."""
    return max(0.0, min(1.0, progress / warmup, (1.0 - progress) / decay))
