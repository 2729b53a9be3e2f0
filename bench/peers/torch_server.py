"""PyTorch's side of the benchmarks: reads one JSON request a line, times it, answers with one JSON line.

Requests: {"work": "resnet20", "norm": "batch" | "group" | "filter-response", "batch": 32, "layout": "NCHW" | "NHWC",
           "compile": false, "steps": 5}
          {"work": "convolution", "batch", "height", "width", "inChannels", "outChannels", "kernel", "stride", "groups",
           "layout", "steps", "inputGradient": true}
          {"work": "resnet18", "norm", "batch", "layout", "compile", "steps"}     at 224 x 224
          {"work": "resnet18-inference", as resnet18}
          {"work": "tiny", "layout", "compile", "steps"}     three convolutions of eight channels, batch 1
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

from torch_networks import layout_of, norm_layer, resnet18, resnet18_inference, resnet20, tiny

if os.environ.get("OMP_NUM_THREADS"):
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


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


WORK = {
    "resnet20": resnet20,
    "resnet18": resnet18,
    "resnet18-inference": resnet18_inference,
    "tiny": tiny,
    "convolution": convolution,
    "norm": norm,
}
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
