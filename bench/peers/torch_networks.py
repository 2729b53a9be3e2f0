"""The networks of the benchmarks as a user of PyTorch writes them, and their training steps."""

import torch
import torch.nn as nn
import torch.nn.functional as F


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


class ImageNetBlock(nn.Module):
    """A basic block of an ImageNet ResNet: projection shortcuts."""

    def __init__(self, inputs, outputs, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = norm_layer(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = norm_layer(norm, outputs, activation=False)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm_layer(norm, outputs, activation=False)
            )

    def forward(self, x):
        return F.relu(self.norm2(self.conv2(self.norm1(self.conv1(x)))) + self.shortcut(x), inplace=True)


class ResNet18(nn.Module):
    def __init__(self, norm, classes=1000):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), norm_layer(norm, 64), nn.MaxPool2d(3, 2, 1)
        )
        blocks, inputs = [], 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            for index in range(2):
                blocks.append(ImageNetBlock(inputs, outputs, stride if index == 0 else 1, norm))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(512, classes)

    def forward(self, x):
        return self.linear(self.blocks(self.stem(x)).mean((2, 3)))


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        channels = (3, 8, 8, 8)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, 1, 1, bias=False), norm_layer("batch", after))
                for before, after in zip(channels, channels[1:])
            )
        )
        self.linear = nn.Linear(8, 10)

    def forward(self, x):
        return self.linear(self.layers(x).mean((2, 3)))


def layout_of(tensor, layout):
    return tensor.to(memory_format=torch.channels_last) if layout == "NHWC" else tensor


def training_step(model, request, batch, size):
    """Forward, backward and SGD with momentum and weight decay."""
    if request["layout"] == "NHWC":
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, weight_decay=1e-4)
    forward = torch.compile(model) if request.get("compile") else model
    x = layout_of(torch.randn(batch, 3, size, size), request["layout"])
    labels = torch.randint(0, 10, (batch,))

    def step():
        optimizer.zero_grad()
        F.cross_entropy(forward(x), labels).backward()
        optimizer.step()

    return step


def resnet20(request):
    return training_step(ResNet20(request["norm"]), request, request["batch"], 32)


def resnet18(request):
    return training_step(ResNet18(request["norm"]), request, request["batch"], 224)


def tiny(request):
    return training_step(Tiny(), request, 1, 8)


def resnet18_inference(request):
    """One pass without gradients, with running statistics."""
    model = ResNet18(request["norm"]).eval()
    if request["layout"] == "NHWC":
        model = model.to(memory_format=torch.channels_last)
    forward = torch.compile(model) if request.get("compile") else model
    x = layout_of(torch.randn(request["batch"], 3, 224, 224), request["layout"])

    def step():
        with torch.inference_mode():
            forward(x)

    return step
