# SPDX-License-Identifier: Apache-2.0
"""
Convolutions and upsampling for inference on a CPU: in one type, with the ReLU in the same pass.

In float32, results lie in memory that is kept from frame to frame: fresh memory of such a size
comes from the system page by page, which took a seventh of the network's time; those of half the
size stay with the allocator. So what a call returns holds until the next call of the same layer.
"""

from functools import cache

import torch
from torch import nn
import torch.nn.functional as F


@cache
def has_fused_convolution():
    """Tell whether this torch has a convolution that adds to what is there, and it works."""
    one = torch.ones(1, 1, 1, 1)
    try:
        fresh = _convolve(one, -one, None, 1, 0, True)
        added = _convolve_into(torch.full((1, 1, 1, 1), 2.0), one, -one, None, 1, 0, True)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return fresh.item() == 0.0 and added.item() == 1.0


def _convolve(x, weight, bias, stride, padding, has_relu):
    """Convolve, then the ReLU; the operation that torch's compiler uses."""
    then = 'relu' if has_relu else 'none'
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [padding] * 2, [stride] * 2, [1, 1], 1, then, [], ''
    )


def _convolve_into(out, x, weight, bias, stride, padding, has_relu):
    """Add a convolution to `out`, then the ReLU."""
    shape = [padding] * 2, [stride] * 2, [1, 1], 1
    then = ('relu', [], '') if has_relu else (None, [], None)
    return torch.ops.mkldnn._convolution_pointwise_.binary(
        out, x, weight, bias, *shape, 'add', 1.0, *then
    )


def _packed(weight, shape, stride, padding):
    """Return the weights as the processor wants them for such an input, where torch can do it."""
    try:
        return torch.ops.mkldnn._reorder_convolution_weight(
            weight, [padding] * 2, [stride] * 2, [1, 1], 1, list(shape)
        )
    except (AttributeError, RuntimeError, NotImplementedError):
        return weight


class Kept:
    """Memory of one result, channels last; made anew where the shape is another one."""

    def __init__(self):
        self.memory = None

    def like(self, shape, dtype):
        """Return the memory (B, C, Y, X), with whatever is in it."""
        if self.memory is None or self.memory.shape != shape or self.memory.dtype != dtype:
            self.memory = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
        return self.memory


class SwiftConv:
    """A convolution of a folded network, and the ReLU after it; channels last in memory."""

    def __init__(self, conv, dtype, has_relu=False):
        weight = conv.weight.detach().to(dtype)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        self.stride, self.padding, self.has_relu = conv.stride[0], conv.padding[0], has_relu
        self.kept, self.packed = Kept(), None

    def __call__(self, x):
        x = x.to(self.weight.dtype)
        if not has_fused_convolution():
            x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
            return x.relu_() if self.has_relu else x
        if self.packed is None:  # else each call would put them in order again
            self.packed = _packed(self.weight, x.shape, self.stride, self.padding)
        settings = self.packed, self.bias, self.stride, self.padding, self.has_relu
        if x.dtype != torch.float32:
            return _convolve(x, *settings)
        number, _, kernel, _ = self.weight.shape
        Y, X = ((n + 2 * self.padding - kernel) // self.stride + 1 for n in x.shape[2:])
        return _convolve_into(
            self.kept.like((len(x), number, Y, X), x.dtype).zero_(), x, *settings
        )


class Grow:
    """Doubles rows and columns, bilinear, and adds a finer map; neither input is changed."""

    def __init__(self):
        self.kept, self.wide = Kept(), Kept()

    def __call__(self, features, finer):
        out = self.kept.like(finer.shape, finer.dtype)
        if features.dtype == torch.float32:
            torch.ops.aten.upsample_bilinear2d.out(
                features, list(finer.shape[2:]), False, None, None, out=out
            )
        else:  # torch's own takes twice the time in bfloat16
            B, C, Y, X = features.shape
            wide = self.wide.like((B, C, Y, 2 * X), features.dtype)
            _double(features.permute(0, 2, 3, 1), wide.permute(0, 2, 3, 1).view(B, Y, X, 2, C), 2)
            rows = wide.permute(0, 2, 3, 1)  # (B, Y, 2 X, C)
            _double(rows, out.permute(0, 2, 3, 1).view(B, Y, 2, 2 * X, C), 1)
        return out.add_(finer)


def _double(source, target, axis):
    """Fill both halves (..., 2, ...) behind `axis`: three quarters of a place, one beyond it."""
    number = source.shape[axis]
    first, last = (source.narrow(axis, n, number - 1) for n in (0, 1))
    before, after = target.unbind(axis + 1)
    torch.lerp(last, first, 0.25, out=before.narrow(axis, 1, number - 1))
    torch.lerp(first, last, 0.25, out=after.narrow(axis, 0, number - 1))
    for half, end in ((before, 0), (after, number - 1)):
        half.narrow(axis, end, 1).copy_(source.narrow(axis, end, 1))


def chain(block, dtype):
    """Return the convolutions of (nested) sequences of `blocks.conv_block`, folded, in order."""
    convs = [SwiftConv(conv, dtype, has_relu) for conv, has_relu in _convolutions(block)]
    # What a layer gives is needed by the next alone: every second one has the memory of the same.
    for before, conv in zip(convs, convs[2:], strict=False):
        if before.stride == conv.stride == 1 and before.weight.shape[0] == conv.weight.shape[0]:
            conv.kept = before.kept
    return convs


def run_chain(layers, features):
    """Return what the last of some layers makes of what the ones before it made."""
    for layer in layers:
        features = layer(features)
    return features


def _convolutions(block):
    """Yield each convolution, and whether a ReLU follows."""
    if isinstance(block, nn.Conv2d):
        yield block, False
    elif [type(layer) for layer in block] == [nn.Conv2d, nn.Identity, nn.ReLU]:
        yield block[0], True
    else:
        for part in block:
            yield from _convolutions(part)
