"""PyTorch's side of the benchmarks: reads one JSON request a line, times it, answers with one JSON line.

Requests: {"work": "resnet20", "norm": "batch" | "group" | "filter-response", "batch": 32, "layout": "NCHW" | "NHWC",
           "compile": false, "steps": 5}
          {"work": "convolution", "batch", "height", "width", "inChannels", "outChannels", "kernel", "stride", "groups",
           "layout", "steps", "inputGradient": true}
          {"work": "norm", "norm": ..., "shape": [n, h, w, c], "layout", "steps", "compile"}
Answer:   {"seconds": [one time a step]}  or {"error": "..."}

The first request for a piece of work also warms it up. Threads: the environment variable OMP_NUM_THREADS, or all.
"""

import json
import os
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

if os.environ.get("OMP_NUM_THREADS"):
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


class FilterResponseNorm(nn.Module):
    """Singh & Krishnan 2019: x / sqrt(mean(x^2) + eps), affine, thresholded linear unit."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.tau = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        normalized = x * torch.rsqrt(x.pow(2).mean((2, 3), keepdim=True) + 1e-6)
        return torch.max(self.gamma * normalized + self.beta, self.tau)


def norm_layer(name, channels, activation=True):
    """The norm and its activation, as a user of PyTorch writes them."""
    if name == "filter-response":
        return FilterResponseNorm(channels)
    if name == "batch":
        layer = nn.BatchNorm2d(channels)
    elif name == "group":
        layer = nn.GroupNorm(min(32, channels // 2), channels)
    elif name == "layer":
        layer = nn.GroupNorm(1, channels)
    else:
        raise ValueError(name)
    return nn.Sequential(layer, nn.ReLU(inplace=True)) if activation else layer


class Block(nn.Module):
    """A basic block of a CIFAR ResNet v1 with option A shortcuts: relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))."""

    def __init__(self, inputs, outputs, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = norm_layer(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = norm_layer(norm, outputs, activation=norm == "filter-response")
        self.stride, self.pad = stride, outputs - inputs
        self.relu = norm != "filter-response"

    def forward(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        if self.stride != 1 or self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad // 2, self.pad - self.pad // 2))
        return F.relu(x + y, inplace=True) if self.relu else x + y


class ResNet20(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = norm_layer(norm, 16)
        blocks, inputs = [], 16
        for outputs, stride in ((16, 1), (32, 2), (64, 2)):
            for index in range(3):
                blocks.append(Block(inputs, outputs, stride if index == 0 else 1, norm))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(self.blocks(self.norm(self.conv(x))).mean((2, 3)))


def layout_of(tensor, layout):
    return tensor.to(memory_format=torch.channels_last) if layout == "NHWC" else tensor


def resnet20(request):
    model = ResNet20(request["norm"])
    if request["layout"] == "NHWC":
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, weight_decay=1e-4)
    forward = torch.compile(model) if request.get("compile") else model
    x = layout_of(torch.randn(request["batch"], 3, 32, 32), request["layout"])
    labels = torch.randint(0, 10, (request["batch"],))

    def step():
        optimizer.zero_grad()
        F.cross_entropy(forward(x), labels).backward()
        optimizer.step()

    return step


def convolution(request):
    conv = nn.Conv2d(
        request["inChannels"],
        request["outChannels"],
        request["kernel"],
        request["stride"],
        request["kernel"] // 2,
        groups=request.get("groups", 1),
        bias=False,
    )
    if request["layout"] == "NHWC":
        conv = conv.to(memory_format=torch.channels_last)
    x = layout_of(torch.randn(request["batch"], request["inChannels"], request["height"], request["width"]), request["layout"])
    x.requires_grad_(request.get("inputGradient", True))
    gradient = torch.randn_like(conv(x))

    def step():
        x.grad = None
        conv.weight.grad = None
        conv(x).backward(gradient)

    return step


def norm(request):
    n, h, w, c = request["shape"]
    layer = norm_layer(request["norm"], c)
    if request.get("compile"):
        layer = torch.compile(layer)
    x = layout_of(torch.randn(n, c, h, w), request["layout"]).requires_grad_(True)
    gradient = torch.randn_like(x)

    def step():
        x.grad = None
        for parameter in layer.parameters():
            parameter.grad = None
        layer(x).backward(gradient)

    return step


WORK = {"resnet20": resnet20, "convolution": convolution, "norm": norm}
prepared = {}

for line in sys.stdin:
    request = json.loads(line)
    try:
        key = json.dumps({name: value for name, value in request.items() if name != "steps"}, sort_keys=True)
        if key not in prepared:
            torch.manual_seed(0)
            prepared[key] = WORK[request["work"]](request)
            for _ in range(3):
                prepared[key]()
        seconds = []
        for _ in range(request["steps"]):
            start = time.perf_counter()
            prepared[key]()
            seconds.append(time.perf_counter() - start)
        answer = {"seconds": seconds, "torch": torch.__version__, "threads": torch.get_num_threads()}
    except Exception as error:  # the caller shows it
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
