"""torch_memory.py NORM BATCH STEPS LAYOUT: prints the bytes by which training ResNet-20 raises this process's peak of resident memory."""

import re
import sys
from pathlib import Path

import torch

from torch_networks import resnet20


def status(field):
    return int(re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M).group(1)) * 1024


norm, batch, steps, layout = sys.argv[1:]
# The library is loaded and its threads run before the count begins.
(torch.randn(64, 64) @ torch.randn(64, 64)).sum().item()
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
name = {"frn": "filter-response"}.get(norm, norm)
step = resnet20({"norm": name, "batch": int(batch), "layout": layout})
for _ in range(int(steps)):
    step()
print(status("VmHWM") - before)
