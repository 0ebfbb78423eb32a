"""The contestants that use PyTorch, each with the settings that serve it best on a CPU."""

import contextlib
import functools
import os
import sys

import torch
from torch import nn
from torch.nn import functional

from benchmarks.race import serve
from jaxnn.lab import datasets

STEPS = 100
torch.set_num_threads(len(os.sched_getaffinity(0)))


class StepNet(nn.Module):
    """C3-32 SAME, avg pool, C3-64, avg pool, D256, D10."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.hidden, self.last = nn.Linear(3136, 256), nn.Linear(256, 10)

    def forward(self, x):
        """The logits."""
        for convolution in (self.first, self.second):
            x = functional.avg_pool2d(functional.relu(convolution(x)), 2)
        return self.last(functional.relu(self.hidden(x.flatten(1))))


class EpochNet(nn.Module):
    """C5-24 VALID, max pool, ReLU, C3-32 VALID, max pool, ReLU, D256, ReLU, D10."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 24, 5), nn.Conv2d(24, 32, 3)
        self.hidden, self.last = nn.Linear(800, 256), nn.Linear(256, 10)

    def forward(self, x):
        """The logits."""
        for convolution in (self.first, self.second):
            x = functional.relu(functional.max_pool2d(convolution(x), 2))
        return self.last(functional.relu(self.hidden(x.flatten(1))))


def to_tensors(batch, mean=0.0, sd=1.0):
    """Images as PyTorch has them, scaled once."""
    images = torch.tensor(batch.inputs).permute(0, 3, 1, 2).float() / 255
    return ((images - mean) / sd).contiguous(), torch.tensor(batch.targets).long()


def make_step(net, optimizer, *, channels_last, bfloat16, compiled):
    """One training step."""
    if channels_last:
        net.to(memory_format=torch.channels_last)
    forward = torch.compile(net) if compiled else net

    def step(images, labels):
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else contextlib.nullcontext():
            loss = functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def step(*, channels_last=True, bfloat16=False, compiled=False):
    """Training steps in a Python loop."""
    images, labels = to_tensors(datasets.mnist().train)
    torch.manual_seed(0)
    net = StepNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    take = make_step(net, optimizer, channels_last=channels_last, bfloat16=bfloat16, compiled=compiled)

    def block():
        order = torch.randperm(len(labels))
        for index in range(STEPS):
            batch = order[index * 128 : (index + 1) * 128]
            loss = take(images[batch], labels[batch])
        return {"loss": loss.item()}

    serve(block, units=STEPS)


def epoch(*, bfloat16=False, compiled=False):
    """One epoch of the published fast recipe, from the start, and its test accuracy."""
    data = datasets.mnist(num_validation=0)
    images, labels = to_tensors(data.train, 0.1307, 0.3081)
    test_images, test_labels = to_tensors(data.test, 0.1307, 0.3081)
    num_steps = 60_000 // 256
    net = EpochNet()
    make = functools.partial(make_step, channels_last=True, bfloat16=bfloat16, compiled=compiled)

    def block():
        for layer in net.children():
            layer.reset_parameters()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.7, 0.9))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, num_steps, cycle_momentum=False)
        take, order = make(net, optimizer), torch.randperm(len(labels))
        for index in range(num_steps):
            batch = order[index * 256 : (index + 1) * 256]
            take(images[batch], labels[batch])
            schedule.step()

    block()
    with torch.no_grad():
        accuracy = (net(test_images).argmax(1) == test_labels).float().mean().item()
    serve(lambda: block() or {"accuracy": accuracy}, units=1)


def matmul():
    """The machine's rate in PyTorch's hands."""
    size = 2048
    matrix = torch.ones(size, size)
    serve(lambda: (matrix @ matrix) is None or None, units=2 * size**3)


CONTESTANTS = {
    "step_eager": functools.partial(step, channels_last=False),
    "step_channels_last": step,
    "step_bfloat16": functools.partial(step, bfloat16=True),
    "step_compiled": functools.partial(step, compiled=True),
    "step_bfloat16_compiled": functools.partial(step, bfloat16=True, compiled=True),
    "epoch": epoch,
    "epoch_bfloat16": functools.partial(epoch, bfloat16=True),
    "matmul": matmul,
}

if __name__ == "__main__":
    CONTESTANTS[sys.argv[1]]()
