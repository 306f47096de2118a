#!/usr/bin/env python3
"""Goldens of every family and kind of rotation, by Hugging Face transformers.

Each case below is a tiny configuration. Its weights come from the counter-based generator that
tests/daemon/counter_weights.c also has, so only the configuration and what transformers makes of it are
kept: families/<case>.json, read by tests/daemon/test_families.c.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -r tests/vectors/requirements.txt
    /tmp/venv/bin/python tests/vectors/families.py [case ...]

The model runs in float64 (transformers itself keeps norms, softmax and angles in float32). Greedy ids are taken
without a cache: every step computes the whole sequence anew. A case that would prove nothing stops the script:
every step's margin must be wide enough to compare, and a case must differ from the same weights without its
feature by much more than the tolerance of the test.
"""
import json
import math
import pathlib
import sys

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

PROMPT_TOKENS, STEPS = 40, 64
MARGIN_MIN = 2e-3       # the test compares ids down to 1e-3
DIFFERENCE_MIN = 2e-2   # of the largest logit; the test's tolerance is 2e-4
MASK = (1 << 64) - 1

# ---- the generator: a 64-bit hash of the tensor's name and seed, then splitmix64 of a counter ----


def tensor_key(name, seed):
    key = 0xCBF29CE484222325  # FNV-1a
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 & MASK
    return (key + seed * 0x9E3779B97F4A7C15) & MASK


def uniform(name, seed, count):
    """count numbers k / 2^23 with k in -2^23..2^23-1, exact in float32."""
    with np.errstate(over="ignore"):
        z = np.uint64(tensor_key(name, seed)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) - 2.0**23) / 2.0**23


def center_and_spread(name, shape):
    """By the tensor's role: gains around 1, biases large enough to matter, queries and keys that attend sharply."""
    if name.endswith("norm.weight"):
        return (2.0 if "q_norm" in name or "k_norm" in name else 1.0), 0.25
    if name.endswith(".bias"):
        return 0.0, 0.5
    if name.endswith("embed_tokens.weight"):
        return 0.0, 1.0
    sharp = any(part in name for part in ("q_proj", "k_proj", "lm_head"))
    return 0.0, math.sqrt(3.0 / shape[1]) * (2.0 if sharp else 1.0)


def weights(name, shape, seed):
    center, spread = center_and_spread(name, shape)
    count = int(np.prod(shape))
    return (center + uniform(name, seed, count) * spread).astype(np.float32).reshape(shape)


# ---- the cases: the keys of config.json as files spell them ----

BASE = {
    "hidden_act": "silu", "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 20}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # so that a pair of each case lies between the bands
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
PLAIN = {"rope_theta": 10000.0, "rope_scaling": None}
FULL = {"sliding_window": None}

# name: (family, other keys, the same without the feature or None where it is the plain model)
CASES = {
    # Llama 2 has as many keys as queries; 3.1 and 3.2 scale by bands, and 3.2 ties its embeddings
    "llama-default": (LLAMA, {"num_key_value_heads": 4, **PLAIN}, None),
    "llama-linear": (LLAMA, {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}, PLAIN),
    "llama-llama3": (LLAMA, {"rope_theta": 500000.0, "rope_scaling": LLAMA3, "tie_word_embeddings": True,
                             "head_dim": 16}, {"rope_scaling": None}),
    "llama-yarn": (LLAMA, {"rope_parameters": {**YARN, "rope_theta": 10000.0, "mscale": 0.707,
                                               "mscale_all_dim": 1.0}},
                   {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    "llama-bias": (LLAMA, {**PLAIN, "attention_bias": True, "mlp_bias": True, "head_dim": 24}, "bias"),
    "mistral-default": (MISTRAL, {**PLAIN, "sliding_window": 24, "head_dim": 32}, FULL),
    "mistral-linear": (MISTRAL, {**FULL, "rope_parameters": {"rope_type": "linear", "factor": 2.0,
                                                             "rope_theta": 10000.0}},
                       {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    "mistral-llama3": (MISTRAL, {"sliding_window": 70, "rope_parameters": {**LLAMA3, "rope_theta": 20000.0}},
                       {"rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}}),
    "mistral-yarn": (MISTRAL, {**FULL, "rope_theta": 1000.0,
                               "rope_scaling": {**YARN, "beta_fast": 4.0, "beta_slow": 0.5, "truncate": False}},
                     {"rope_scaling": None}),
    "qwen2-default": (QWEN2, {**PLAIN, "use_sliding_window": False, "sliding_window": 8, "max_window_layers": 3},
                      "bias"),
    "qwen2-linear": (QWEN2, {"rope_theta": 1000000.0, "rope_scaling": {"rope_type": "linear", "factor": 3.0}},
                     {"rope_scaling": None}),
    "qwen2-llama3": (QWEN2, {"rope_theta": 1000000.0, "rope_scaling": LLAMA3}, {"rope_scaling": None}),
    "qwen2-yarn": (QWEN2, {"rope_theta": 10000.0, "tie_word_embeddings": True,
                           "rope_scaling": {"type": "yarn", "factor": 4.0,
                                            "original_max_position_embeddings": 32}}, {"rope_scaling": None}),
    "qwen2-window": (QWEN2, {**PLAIN, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
                     {"use_sliding_window": False}),
    "qwen3-default": (QWEN3, {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, "q_norm"),
    "qwen3-linear": (QWEN3, {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}, PLAIN),
    "qwen3-llama3": (QWEN3, {"rope_parameters": {**LLAMA3, "rope_theta": 10000.0}},
                     {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    "qwen3-yarn": (QWEN3, {"rope_parameters": {**YARN, "rope_theta": 10000.0, "attention_factor": 1.3}},
                   {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    "qwen3-window": (QWEN3, {**PLAIN, "attention_bias": True, "use_sliding_window": True, "sliding_window": 33,
                             "layer_types": ["full_attention", "full_attention", "sliding_attention"]},
                     {"use_sliding_window": False, "layer_types": None}),
}

# ---- running ----


def build(config, seed, flatten=""):
    """The model of a configuration with the generator's weights; `flatten` neutralises tensors of that name."""
    keys = {key: value for key, value in config.items() if key != "model_type"}
    hf = AutoConfig.for_model(config["model_type"], **json.loads(json.dumps(keys)))
    model = AutoModelForCausalLM.from_config(hf, attn_implementation="eager").eval().double()
    state = {}
    for name, tensor in model.state_dict().items():
        values = weights(name, tuple(tensor.shape), seed)
        if flatten and flatten in name:
            values = np.full_like(values, 0.0 if name.endswith(".bias") else 1.0)
        state[name] = torch.from_numpy(values).double()
    if config["tie_word_embeddings"]:
        state.pop("lm_head.weight", None)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    shapes = {name: list(model.state_dict()[name].shape) for name in state}
    return model, shapes


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def greedy(model, prompt):
    ids, margins = list(prompt), []
    for _ in range(STEPS):
        last = logits_of(model, ids)[-1]
        order = np.argsort(last)
        margins.append(float(last[order[-1]] - last[order[-2]]))
        ids.append(int(order[-1]))
    return ids, margins


def first_layer_only(shapes, layers):
    """All layers have the same tensors, so one is enough to say which."""
    kept = {name: shape for name, shape in shapes.items() if not name.startswith("model.layers.")}
    first = {name: shape for name, shape in shapes.items() if name.startswith("model.layers.0.")}
    for name, shape in first.items():
        for layer in range(layers):
            assert shapes[name.replace("layers.0.", f"layers.{layer}.")] == shape
    assert len(shapes) == len(kept) + layers * len(first)
    return {**kept, **first}


def difference(model, config, without, seed, ids):
    """Largest difference of a logit from the same weights without the feature, of the largest logit."""
    if isinstance(without, str):
        other, _ = build(config, seed, flatten=without)
    else:
        other, _ = build({**config, **without}, seed)
    want, got = logits_of(model, ids), logits_of(other, ids)
    return float(np.abs(want - got).max() / np.abs(want).max())


def make(name, seed):
    family, keys, without = CASES[name]
    config = {**BASE, **family, **keys}
    model, shapes = build(config, seed)
    prompt = [3 + int((u + 1) / 2 * 93) for u in uniform("prompt of " + name, seed, PROMPT_TOKENS)]
    ids, margins = greedy(model, prompt)
    if min(margins) < MARGIN_MIN:
        return None
    differs = difference(model, config, without, seed, ids) if without is not None else None
    assert differs is None or differs > DIFFERENCE_MIN, (name, differs)
    logits = logits_of(model, ids)
    rows = [PROMPT_TOKENS - 1, PROMPT_TOKENS + STEPS // 2, len(ids) - 1]
    return {
        "made_by": f"tests/vectors/families.py: transformers {transformers.__version__}, "
                   f"torch {torch.__version__.split('+')[0]}, numpy {np.__version__}",
        "seed": seed,
        "config": config,
        "tensors": first_layer_only(shapes, config["num_hidden_layers"]),
        "prompt_ids": prompt,
        "greedy_ids": ids[PROMPT_TOKENS:],
        "margins": [float(f"{m:.4g}") for m in margins],
        "without_feature": differs and float(f"{differs:.3g}"),
        "logits": [{"after_token": row, "values": [float(f"{v:.7g}") for v in logits[row]]} for row in rows],
    }


def one_line_lists(text):
    """Lists of numbers on one line each, so that a file is short to read."""
    out, depth = [], 0
    for line in text.split("\n"):
        if depth and line.strip() in ("]", "],"):
            out[-1] += line.strip()
            depth = 0
        elif depth:
            out[-1] += line.strip() + (" " if line.endswith(",") else "")
        else:
            out.append(line)
            depth = 1 if line.endswith("[") and '"logits"' not in line else 0
    return "\n".join(out)


def main():
    torch.set_num_threads(1)  # a row of 48 numbers is not worth waking anyone
    folder = pathlib.Path(__file__).with_name("families")
    folder.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        golden = next(g for g in (make(name, seed) for seed in range(1, 50)) if g is not None)
        text = one_line_lists(json.dumps(golden, indent=1))
        assert json.loads(text) == golden
        folder.joinpath(name + ".json").write_text(text + "\n")
        print(f"{name}: seed {golden['seed']}, least margin {min(golden['margins'])}, "
              f"{len(set(golden['greedy_ids']))} different ids, differs by {golden['without_feature']}")


if __name__ == "__main__":
    main()
