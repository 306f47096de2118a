#!/usr/bin/env python3
"""Hashes of dequantised blocks, for the table in tests/kernels/test_quant.c.

Blocks of random bytes (splitmix64; the scales' f16 are kept below 2, so that none is infinite or NaN) go through the
dequantisation of the gguf package, whose authors publish the formats; printed is FNV-1a over the bits of the results.

Made with: Python 3.11, gguf 0.19.0, numpy 2.4.6 (PyPI).   Run: python3 tests/vectors/quant_goldens.py
"""
import numpy
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

BLOCKS = 512
MASK = (1 << 64) - 1
# type, bytes of a block, where its f16 are
FORMATS = [
    (Type.Q8_0, 34, [0]),
    (Type.Q4_0, 18, [0]),
    (Type.Q4_K, 144, [0, 2]),
    (Type.Q6_K, 210, [208]),
]


def splitmix64(seed):
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


for kind, size, halves in FORMATS:
    random = splitmix64(int(kind))
    blocks = bytearray(next(random) & 0xFF for _ in range(BLOCKS * size))
    for block in range(BLOCKS):
        for at in halves:
            blocks[block * size + at + 1] &= 0xBF
    values = dequantize(numpy.frombuffer(bytes(blocks), numpy.uint8), kind)
    assert values.dtype == numpy.float32
    print(f"{{KERNEL_{kind.name}, {int(kind)}, UINT64_C(0x{fnv1a(values.tobytes()):016x})}},")
