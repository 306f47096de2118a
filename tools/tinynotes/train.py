#!/usr/bin/env python3
"""Train the built-in model "tinynotes" on text that llm-corpus writes, and export it as a Hugging Face folder.

    gcc -O2 -std=c11 -I. -o build/llm-corpus tools/tinynotes/corpus.c tools/tinynotes/corpus_main.c
    tools/tinynotes/train.py --corpus build/llm-corpus --out train-tinynotes --minutes 120

The run may be stopped at any time (SIGTERM saves first); --resume goes on from the last checkpoint. The learning rate is constant and
falls to zero in the last part of the time, so a run can also be ended early: `touch train-tinynotes/finish`
starts the fall, --decay-minutes long. Needs torch, numpy, tokenizers and safetensors; nothing else in llmd does.
"""
import argparse, datetime, json, math, os, pathlib, random, signal, subprocess, sys, time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a waiting thread leaves its core to others

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SEED = 20260
CONFIG = dict(vocab_size=2048, hidden_size=256, intermediate_size=320, num_hidden_layers=4, num_attention_heads=8,
              num_key_value_heads=4, max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=100000.0)
PAD, BOS, EOS = 0, 1, 2
SPECIALS = ["<pad>", "<s>", "</s>"]
BATCH_TOKENS = 4096
PEAK_ADAM, PEAK_MUON = 2e-3, 0.008
# An answer's token weighs 1. Nobody can foretell a note's facts, and Muon makes every step equally long, so the
# noise of those tokens would drown the answers once these are mostly right: few are learnt, and lightly.
STORY_WEIGHT, NOTE_WEIGHT, NOTE_SHARE = 0.4, 0.05, 0.1
COPY_WEIGHT = 0.2
SHORT_UNTIL = 1_200_000  # tokens seen while notes are short: looking back is found sooner among few facts
JUMPS_AFTER = 1_900_000  # tokens seen before positions start to jump
LONG_AFTER = 2_400_000  # tokens seen before long documents join

# ---- Text -----------------------------------------------------------------------------------------------------


def corpus(args, **options):
    words = [args.corpus]
    for key, value in options.items():
        words += [f"--{key}", str(value)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()


def train_tokenizer(args):
    """Byte-level BPE. Name syllables weigh most, so that every name, seen or unseen, is its two syllables."""
    names = set(corpus(args, kind="names", split="train") + corpus(args, kind="names", split="test"))
    text = []
    for line in corpus(args, kind="words"):
        kind, word = line.split(" ")
        if kind == "b":
            text += [" " + word] * 4000 + [word] * 4000
        elif kind == "e":
            text += [word] * 8000
        else:
            text += [" " + word] * 400 + [word, word.capitalize(), " " + word.capitalize()] * 40
    documents = corpus(args, kind="stories", count=600) + corpus(args, kind="notes", count=300, seed=1)
    for line in documents:
        doc = json.loads(line)
        parts = [doc["text"]] + [f"\nQ: {q}\nA: {a}" for q, a in doc.get("qa", [])]
        for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("".join(parts)):
            piece = piece.replace("Ġ", " ").replace("Ċ", "\n")
            if piece.strip() not in names:
                text.append(piece)
    fill = ["st", "tr", "ch", "sh", "th", "b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "w"]
    for onset in fill:  # fill the vocabulary with everyday syllables, so that other English stays short too
        for vowel in "aeiou":
            for coda in ["ng", "nd", "st", "ck", "n", "r", "t", "l", "s", "d", "m", "p"]:
                text += [" " + onset + vowel + coda] * 2 + [onset + vowel + coda]
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"], min_frequency=1, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tok = syllables_first(tok)
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)])
    odd = [n for n in names for form in (n, " " + n) if len(tok.encode(form, add_special_tokens=False).ids) != 2]
    words = {line.split(" ")[1] for line in corpus(args, kind="words") if line[0] == "w"}
    split = [w for w in words if len(tok.encode(" " + w, add_special_tokens=False).ids) != 1]
    print(f"tokenizer: {tok.get_vocab_size()} tokens; names not of two tokens: {len(odd)} {odd[:8]}; "
          f"words not of one token: {len(split)} {split[:8]}", flush=True)
    return tok


def syllables_first(tok):
    """"Mara" is "Ma" + "ra", but "ar" is a more common pair than "ra" and would be joined first. So "ra" moves before
    it, and "library", the one word that was built over "ar", is built in another way."""
    data = json.loads(tok.to_str())
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    merges.remove(["r", "a"])
    merges.insert(merges.index(["a", "r"]), ["r", "a"])
    vocab["bra"] = vocab.pop("brar")
    merges[merges.index(["b", "rar"])] = ["b", "ra"]
    merges[merges.index(["brar", "y"])] = ["bra", "ry"]
    return Tokenizer.from_str(json.dumps(data))


class Documents:
    """Batches of token ids, positions and weights, chunk by chunk; a chunk is decided by its number."""

    def __init__(self, args, tok):
        self.args, self.tok = args, tok

    def ids(self, texts):
        return [e.ids for e in self.tok.encode_batch(texts, add_special_tokens=False)]

    def twins(self):
        """Pairs of tokens (" Ma", "Ma") for each beginning of a name."""
        beginnings = [line[2:] for line in corpus(self.args, kind="words") if line[0] == "b"]
        pairs = zip(self.ids([" " + b for b in beginnings]), self.ids(beginnings))
        return [(a[0], b[0]) for a, b in pairs if len(a) == len(b) == 1]

    def notes(self, split, seed, count, facts):
        lines = [json.loads(x) for x in corpus(self.args, split=split, seed=seed, count=count, facts=facts)]
        flat = []
        for doc in lines:
            flat.append(doc["text"])
            for q, a in doc["qa"]:
                flat += [f"\nQ: {q}\nA:", f" {a}"]
        flat = iter(self.ids(flat))
        return [(next(flat), [(next(flat), next(flat)) for _ in doc["qa"]]) for doc in lines]

    def stories(self, split, seed, count):
        return self.ids([json.loads(x)["text"] for x in
                         corpus(self.args, kind="stories", split=split, seed=seed, count=count)])

    def document(self, rng, note, qa, before, after, jump):
        """One training document: ids, positions, weights (of predicting that token), is-answer."""
        nl = self.newline
        parts = []  # (ids, weight, is answer)
        if rng.random() < 0.8:
            parts.append(([BOS], 0, 0))
        for story in before:
            parts.append((story + nl, STORY_WEIGHT * 0.5, 0))
        parts.append((note, -1, 0))
        for story in after:
            parts.append((nl + story, STORY_WEIGHT * 0.5, 0))
        head = len(parts)
        for question, answer in qa:
            parts.append((question, -1, 0))
            parts.append((answer + nl[:1], 1, 1))
            # the next question's own newline is the one that ends this answer
        ids, weight, is_answer, cut = [], [], [], 0
        for i, (piece, w, a) in enumerate(parts):
            if i > head and parts[i - 1][2]:
                piece = piece[1:]  # "\n" already written
            if i == head:
                cut = len(ids)
            ids += piece
            is_answer += [a] * len(piece)
            weight += [w] * len(piece) if w >= 0 else \
                [NOTE_WEIGHT if rng.random() < NOTE_SHARE else 0 for _ in piece]
        ids.append(EOS), weight.append(STORY_WEIGHT), is_answer.append(0)
        positions = np.arange(len(ids), dtype=np.int64)
        if jump:
            room = CONFIG["max_position_embeddings"] - len(ids)
            first, gap = (int(room * rng.random() ** 2 * 0.5) for _ in range(2))
            positions += first
            positions[cut:] += gap
        return ids, positions, weight, is_answer

    def chunk(self, number, tokens_seen):
        rng = random.Random(SEED * 1000 + number)
        seed = number * 1_000_000
        self.newline = self.ids(["\n"])[0]
        facts = "2..10" if tokens_seen < SHORT_UNTIL else "4..20"
        notes = self.notes("train", seed, 400, facts)
        notes += self.notes("train", seed + 700_000, 300, "1..2")  # many first words of a text, at little cost
        stories = self.stories("train", seed, 300)
        story = iter(stories)
        docs = []
        for note, qa in notes:
            if rng.random() < 0.1:
                qa = qa + rng.sample(qa, len(qa))
            if rng.random() < 0.15:
                qa = qa[:rng.randint(1, len(qa))]
            before = after = []
            if tokens_seen > JUMPS_AFTER and rng.random() < 0.12:
                before = [next(story) for _ in range(rng.randint(0, 1))]
                after = [next(story)]
            jump = tokens_seen > JUMPS_AFTER and rng.random() < 0.3
            docs.append(self.document(rng, note, qa, before, after, jump))
        if tokens_seen > LONG_AFTER:
            for note, qa in self.notes("train", seed + 500_000, 10, facts="8..20"):
                spare = [next(story) for _ in range(rng.randint(3, 9))]
                k = rng.randint(0, len(spare))
                docs.append(self.document(rng, note, qa, spare[:k], spare[k:], rng.random() < 0.2))
        for ids in story:
            ids = ([BOS] if rng.random() < 0.8 else []) + ids + [EOS]
            positions = np.arange(len(ids)) + (rng.randint(0, 7000) if rng.random() < 0.2 else 0)
            docs.append((ids, positions, [STORY_WEIGHT] * len(ids), [0] * len(ids)))
        return batches(rng, docs)

    def copies(self, rng):
        """Pure looking back, with the language's own tokens. Even rows: a random sequence, then itself again.
        Odd rows: pairs, then the pairs in another order; the second half of a pair follows from the first."""
        if not hasattr(self, "lexicon"):
            words = [line.split(" ") for line in corpus(self.args, kind="words")]
            self.lexicon = {kind: [ids[0] for ids in self.ids(
                [("" if kind == "e" else " ") + word for k, word in words if k == kind])] for kind in "bew"}
        length = 2 * rng.randint(4, 24)
        rows = BATCH_TOKENS // (2 * length)
        ids, weight = np.zeros((rows, 2 * length), np.int64), np.zeros((rows, 2 * length), np.float32)
        everything = sum(self.lexicon.values(), [])
        for row in range(rows):
            if row % 2 == 0:
                sequence = [rng.choice(everything) for _ in range(length)]
                ids[row] = sequence + sequence
                weight[row, length + 1:] = 1
            else:
                firsts = rng.sample(self.lexicon["b" if row % 4 == 1 else "w"], length // 2)
                pairs = [(first, rng.choice(self.lexicon["e" if row % 4 == 1 else "w"])) for first in firsts]
                again = rng.sample(pairs, len(pairs))
                ids[row] = [token for pair in pairs + again for token in pair]
                weight[row, length + 1::2] = 1
        positions = np.tile(np.arange(2 * length), (rows, 1))
        return tuple(torch.from_numpy(a) for a in (ids, positions, weight, np.zeros_like(ids)))


def batches(rng, docs):
    """Documents of like length, padded at the right; padding has weight zero."""
    docs.sort(key=lambda d: len(d[0]) + rng.random() * 40)
    out, start = [], 0
    while start < len(docs):
        end, longest = start, 0
        while end < len(docs) and (end == start or max(longest, len(docs[end][0])) * (end + 1 - start) <= BATCH_TOKENS):
            longest = max(longest, len(docs[end][0]))
            end += 1
        shape = (end - start, longest)
        ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        weight, is_answer = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
        for row, doc in enumerate(docs[start:end]):
            for array, values in zip((ids, positions, weight, is_answer), doc):
                array[row, :len(values)] = values
        out.append(tuple(torch.from_numpy(a) for a in (ids, positions, weight, is_answer)))
        start = end
    rng.shuffle(out)
    return out


# ---- Model: LlamaForCausalLM, names of the parameters as in Hugging Face ---------------------------------------


class Norm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, CONFIG["rms_norm_eps"])


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.head_dim = c["hidden_size"] // self.heads
        self.q_proj = linear(c["hidden_size"], self.heads * self.head_dim)
        self.k_proj = linear(c["hidden_size"], self.kv_heads * self.head_dim)
        self.v_proj = linear(c["hidden_size"], self.kv_heads * self.head_dim)
        self.o_proj = linear(self.heads * self.head_dim, c["hidden_size"])

    def forward(self, x, cos, sin):
        B, T, _ = x.shape
        q = rotate(self.q_proj(x).view(B, T, self.heads, self.head_dim).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)
        group = self.heads // self.kv_heads
        y = F.scaled_dot_product_attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = linear(c["hidden_size"], c["intermediate_size"])
        self.up_proj = linear(c["hidden_size"], c["intermediate_size"])
        self.down_proj = linear(c["intermediate_size"], c["hidden_size"])

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(c["hidden_size"]), Norm(c["hidden_size"])
        self.self_attn, self.mlp = Attention(c), Mlp(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList([Layer(c) for _ in range(c["num_hidden_layers"])])
        self.norm = Norm(c["hidden_size"])
        half = c["hidden_size"] // c["num_attention_heads"] // 2
        angle = torch.arange(c["max_position_embeddings"]).double()[:, None] * \
            c["rope_theta"] ** (-torch.arange(half).double() / half)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)

    def forward(self, ids, positions):
        cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


class Tinynotes(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.model = Body(c)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = math.sqrt(2 * c["num_hidden_layers"]) if "o_proj" in name or "down_proj" in name else 1
                nn.init.normal_(p, std=0.02 / deep)
        self.start_with_circuits(c)

    @torch.no_grad()
    def start_with_circuits(self, c):
        """Attention that already looks back, so that training only has to learn when to trust it.

        Random attention needs tens of millions of tokens until it finds "the token after the last time I saw this",
        the heart of answering from a note. Here the first weights say it, and training is free to change them:
        dimension 0    the same for every token: something for positions to hold on to
        1..127         which token this is (random codes)
        128 + 20 * j   which token stood j + 1 places before, written by head j of layer 0 for j = 0..5
        Layer 0 looks a fixed distance back: its keys are constant, and RoPE turns the query by that distance.
        Layers 1 and 2 compare a token at one distance from the asking place with a token at another distance from
        the looked-at place, in the slow dimensions of RoPE, and copy what stands there.
        """
        d, dim, half, code, block = c["hidden_size"], 32, 16, 128, 20
        slow = list(range(7, 16)) + list(range(23, 32))  # pairs that turn less than 0.01 per position
        n = len(slow)
        embed = self.model.embed_tokens.weight
        embed.zero_()
        embed[:, 1:code].normal_()
        embed[:, 1:code] *= 3.4 / embed[:, 1:code].norm(dim=1, keepdim=True)
        embed[:, 0] = 1.4
        self.model.norm.weight.fill_(0.25)
        read = torch.randn(dim, code - 1) * 0.068  # a short code of the token itself
        angle = c["rope_theta"] ** (-torch.arange(half).float() / half)
        # How loudly each of RoPE's fastest pairs speaks, so that the sum of their cosines has one clear peak.
        loud = (5.3 * torch.tensor([0.43, 0.09, 0.12, 0.15, 0.1, 0.08, 0.03])).sqrt()
        fast = len(loud)
        first = self.model.layers[0].self_attn
        for kv in range(4):
            k = first.k_proj.weight[kv * dim:(kv + 1) * dim]
            k.zero_()
            k[:fast, 0] = loud
            first.v_proj.weight[kv * dim:(kv + 1) * dim, 1:code] = read
        for head in range(6):
            q = first.q_proj.weight[head * dim:(head + 1) * dim]
            q.zero_()
            q[:fast, 0] = loud * torch.cos((head + 1) * angle[:fast])
            q[half:half + fast, 0] = -loud * torch.sin((head + 1) * angle[:fast])
            o = first.o_proj.weight[:, head * dim:(head + 1) * dim]
            o.zero_()
            start = code + block * head
            o[start:start + block, :block] = 0.2 * torch.eye(block)

        def look(distance):  # [n, d]: the short code of the token `distance` places back
            w = torch.zeros(n, d)
            if distance == 0:
                w[:, 1:code] = 2.3 * read[:n]
            else:
                start = code + block * (distance - 1)
                w[:, start:start + n] = 2.6 * torch.eye(n)
            return w

        # layer, kv head: distance at the looked-at place, distances at the asking place, what is copied
        table = [(1, 0, 0, (4, 5), 5), (1, 1, 1, (0,), 0), (1, 2, 2, (1,), 0), (1, 3, 4, (3,), 0),
                 (2, 0, 3, (2,), 0), (2, 1, 1, (0,), 0), (2, 2, 0, (4,), 4), (2, 3, 5, (4,), 0)]
        for layer, kv, there, here, copied in table:
            a = self.model.layers[layer].self_attn
            a.k_proj.weight[[kv * dim + i for i in slow]] += look(there)
            v = a.v_proj.weight[kv * dim:(kv + 1) * dim]
            if copied == 0:
                decode = torch.linalg.qr(torch.randn(code - 1, dim))[0]  # [code-1, dim]
                v[:, 1:code] += decode.t()
            else:
                decode = torch.zeros(code - 1, dim)
                decode[:, :block] = torch.linalg.pinv(read[:block]) / 8
                start = code + block * (copied - 1)
                v[:block, start:start + block] += torch.eye(block)
            for j, distance in enumerate(here):
                head = 2 * kv + j
                a.q_proj.weight[[head * dim + i for i in slow]] += look(distance)
                a.o_proj.weight[1:code, head * dim:(head + 1) * dim] += 0.3 * decode

    @torch.no_grad()
    def make_twins_alike(self, twins):
        """The first word of a text has no space before it, so "Mara" starts with another token there than " Mara".
        Give the two tokens like codes, and one free dimension that tells them apart. Few texts would have to teach it."""
        embed = self.model.embed_tokens.weight
        for with_space, without in twins:
            embed[without] = 0.7 * embed[with_space] + 0.7 * embed[without]
            embed[without, 0] = embed[with_space, 0]
            embed[without, 250] = -1

    def forward(self, ids, positions):
        return self.model(ids, positions)

    def logits(self, hidden):
        return hidden @ self.model.embed_tokens.weight.t()


# ---- Optimizer: Muon (Jordan 2024) for the matrices, AdamW for embeddings and gains -----------------------------


class Muon:
    """Momentum, then the nearest orthogonal matrix. Matrices of one shape are handled as one stack."""

    def __init__(self, parameters):
        self.groups = {}
        for p in parameters:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.momentum = {shape: torch.zeros(len(ps), *shape) for shape, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, lr, beta=0.95, decay=0.01):
        for shape, ps in self.groups.items():
            grad = torch.stack([p.grad for p in ps])
            m = self.momentum[shape].lerp_(grad, 1 - beta)
            x = grad.lerp(m, beta)
            wide = shape[0] <= shape[1]
            x = x if wide else x.transpose(1, 2)
            x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for a, b, c in [(3.4445, -4.7750, 2.0315)] * 5:
                g = x @ x.transpose(1, 2)
                x = a * x + (b * g + c * (g @ g)) @ x
            x = x if wide else x.transpose(1, 2)
            scale = lr * max(1, shape[0] / shape[1]) ** 0.5
            for p, update in zip(ps, x):
                p.mul_(1 - lr * decay).add_(update, alpha=-scale)


# ---- Score, export, checkpoints --------------------------------------------------------------------------------


@torch.no_grad()
def score(model, documents, note_count, facts, seed=0, offset=0, gap=0, split="test"):
    """Share of questions, each asked alone after its note, whose whole answer is the model's first choice."""
    right = asked = 0
    nl = documents.ids(["\n"])[0]
    for note, qa in documents.notes(split, seed, note_count, facts):
        rows = [([BOS] + note + q + a + nl, len(note) + 1, len(q), len(a) + 1) for q, a in qa]
        longest = max(len(r[0]) for r in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        positions = (torch.arange(longest) + offset).repeat(len(rows), 1)
        positions[:, rows[0][1]:] += gap
        for i, r in enumerate(rows):
            ids[i, :len(r[0])] = torch.tensor(r[0])
        hidden = model(ids[:, :-1], positions[:, :-1])
        for i, (_, n, q, a) in enumerate(rows):
            guess = model.logits(hidden[i, n + q - 1:n + q + a - 1]).argmax(-1)
            right += bool((guess == ids[i, n + q:n + q + a]).all())
            asked += 1
    return right / asked, asked


@torch.no_grad()
def tell(model, documents, prompt, tokens=120):
    ids = [BOS] + documents.ids([prompt])[0]
    for _ in range(tokens):
        hidden = model(torch.tensor([ids]), torch.arange(len(ids))[None])
        ids.append(int(model.logits(hidden[0, -1]).argmax()))
        if ids[-1] == EOS:
            break
    return documents.tok.decode(ids)


def export(model, tok, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def write(name, text):
        (folder / (name + ".new")).write_text(text, encoding="utf-8")
        os.replace(folder / (name + ".new"), folder / name)

    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", **CONFIG,
                  head_dim=CONFIG["hidden_size"] // CONFIG["num_attention_heads"], rope_scaling=None,
                  attention_bias=False, attention_dropout=0.0, mlp_bias=False, tie_word_embeddings=True,
                  bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, initializer_range=0.02, pretraining_tp=1,
                  use_cache=True, torch_dtype="bfloat16", transformers_version="4.44.0")
    write("config.json", json.dumps(config, indent=2) + "\n")
    write("generation_config.json", json.dumps(dict(
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, do_sample=False, transformers_version="4.44.0"),
        indent=2) + "\n")
    write("tokenizer_config.json", json.dumps(dict(
        add_bos_token=True, add_eos_token=False, add_prefix_space=False, bos_token="<s>", eos_token="</s>",
        pad_token="<pad>", clean_up_tokenization_spaces=False,
        model_max_length=CONFIG["max_position_embeddings"], tokenizer_class="PreTrainedTokenizerFast"),
        indent=2) + "\n")
    write("tokenizer.json", tok.to_str(pretty=True) + "\n")
    tensors = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors.new", metadata={"format": "pt"})
    os.chmod(folder / "model.safetensors.new", 0o644)
    os.replace(folder / "model.safetensors.new", folder / "model.safetensors")


def save_checkpoint(path, **state):
    torch.save(state, str(path) + ".new")
    os.replace(str(path) + ".new", path)


# ---- Training ---------------------------------------------------------------------------------------------------


def seconds_left(args, spent):
    if args.until:
        now = datetime.datetime.now()
        end = now.replace(hour=int(args.until[:2]), minute=int(args.until[3:]), second=0)
        return (end - now).total_seconds()
    return args.minutes * 60 - spent


class Pace:
    """Two threads wait for each other at every operation, so on a busy machine one thread alone can be faster.
    Four steps in twenty-four measure both; the others take the better."""

    def __init__(self, threads):
        self.threads, self.rate, self.now = threads, {1: 0.0, threads: 1.0}, threads

    def choose(self, step):
        turn = step % 24
        self.now = self.threads if turn < 2 else 1 if turn < 4 else max(self.rate, key=self.rate.get)
        torch.set_num_threads(self.now)

    def note(self, tokens, seconds):
        self.rate[self.now] = 0.5 * self.rate[self.now] + 0.5 * tokens / seconds


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--corpus", default="build/llm-corpus", help="the generator's program")
    p.add_argument("--out", default="train-tinynotes", help="checkpoints, curve.jsonl and the tokenizer")
    p.add_argument("--tokenizer", help="take this tokenizer.json instead of training one")
    p.add_argument("--export", help="Hugging Face folder to write every --export-minutes and at the end")
    p.add_argument("--export-minutes", type=float, default=20)
    p.add_argument("--minutes", type=float, default=120, help="training time of all runs together")
    p.add_argument("--until", help="HH:MM instead of --minutes")
    p.add_argument("--decay-minutes", type=float, default=30)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=1 << 60, help="stop after so many steps, for a quick look")
    p.add_argument("--score", type=int, help="only score the checkpoint on so many test notes")
    args = p.parse_args()
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    if (out / "tokenizer.json").exists():
        tok = Tokenizer.from_file(str(out / "tokenizer.json"))
    else:
        tok = Tokenizer.from_file(args.tokenizer) if args.tokenizer else train_tokenizer(args)
        tok.save(str(out / "tokenizer.json"))
    documents = Documents(args, tok)
    model = Tinynotes(CONFIG)
    matrices = [q for n, q in model.named_parameters() if q.dim() == 2 and "embed" not in n]
    others = [q for n, q in model.named_parameters() if q.dim() != 2 or "embed" in n]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=PEAK_ADAM, betas=(0.9, 0.98), weight_decay=0.0)
    step = tokens = chunk = 0
    spent, end_by = 0.0, None
    if args.resume or args.score:
        state = torch.load(out / "checkpoint.pt", weights_only=False)
        model.load_state_dict(state["model"])
        muon.momentum = state["muon"]
        adam.load_state_dict(state["adam"])
        step, tokens, chunk, spent = state["step"], state["tokens"], state["chunk"] + 1, state["spent"]
    else:
        model.make_twins_alike(documents.twins())
    if args.score:
        for what in (dict(facts="8..20"), dict(facts="8..20", offset=3000, gap=2000)):
            exact, asked = score(model, documents, args.score, **what)
            print(f"{what}: exact {exact:.4f} of {asked}", flush=True)
        return
    print(f"{sum(q.numel() for q in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    curve = open(out / "curve.jsonl", "a", buffering=1)
    rng, pace = random.Random(SEED + step), Pace(args.threads)
    answer_loss = other_loss = copy_loss = None
    begin = last = saved = exported = scored = time.time()
    logged_tokens, done, stop = tokens, False, []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    while not done:
        queue = documents.chunk(chunk, tokens)
        for batch in queue:
            copying = rng.random() < (0.1 if step < 400 else 0.03)
            if copying:
                batch = documents.copies(rng)
            now = time.time()
            left = seconds_left(args, spent + now - begin)
            if end_by is None and (out / "finish").exists():
                end_by = now + args.decay_minutes * 60
            if end_by is not None:
                left = min(left, end_by - now)
            scale = min(1, (step + 1) / 60) * max(0.0, min(1, left / (args.decay_minutes * 60)))
            if scale <= 0 or step >= args.steps or stop:
                done = True
                break
            pace.choose(step)
            ids, positions, weight, is_answer = batch
            hidden = model(ids[:, :-1], positions[:, :-1])
            w = weight[:, 1:].reshape(-1)
            pick = w.nonzero().squeeze(1)
            w, target, ans = w[pick], ids[:, 1:].reshape(-1)[pick], is_answer[:, 1:].reshape(-1)[pick].float()
            losses = F.cross_entropy(model.logits(hidden.reshape(-1, hidden.shape[-1])[pick]), target, reduction="none")
            loss = (losses * w).sum() / w.sum()
            (loss * (COPY_WEIGHT if copying else 1)).backward()
            torch.nn.utils.clip_grad_norm_(others, 1.0)
            for group in adam.param_groups:
                group["lr"] = PEAK_ADAM * scale
            adam.step()
            muon.step(PEAK_MUON * scale)
            model.zero_grad(set_to_none=True)
            step += 1
            tokens += ids.numel()
            pace.note(ids.numel(), time.time() - now)
            with torch.no_grad():
                if copying:
                    copy_loss = loss.item()
                elif ans.sum() > 0:
                    a = ((losses * ans).sum() / ans.sum()).item()
                    answer_loss = a if answer_loss is None else 0.95 * answer_loss + 0.05 * a
                else:
                    other_loss = loss.item() if other_loss is None else 0.9 * other_loss + 0.1 * loss.item()
            if step % 50 == 0:
                now = time.time()
                row = dict(step=step, tokens=tokens, seconds=round(spent + now - begin), answer_loss=answer_loss,
                           story_loss=other_loss, copy_loss=copy_loss, rate=round(scale, 3),
                           tokens_per_s=round((tokens - logged_tokens) / (now - last)), threads=pace.now)
                last, logged_tokens = now, tokens
                row = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
                curve.write(json.dumps(row) + "\n")
                print(row, flush=True)
            if time.time() - saved > 180:
                saved = time.time()
                save_checkpoint(out / "checkpoint.pt", model=model.state_dict(), muon=muon.momentum,
                                adam=adam.state_dict(), step=step, tokens=tokens, chunk=chunk, spent=spent + saved - begin)
            if time.time() - scored > 600:
                exact, asked = score(model, documents, 20, "8..20")
                curve.write(json.dumps(dict(step=step, tokens=tokens, exact=round(exact, 4), asked=asked)) + "\n")
                print(f"step {step}: exact {exact:.3f} of {asked}", flush=True)
                scored = time.time()
            if args.export and time.time() - exported > args.export_minutes * 60:
                exported = time.time()
                export(model, tok, args.export)
        chunk += 1
    save_checkpoint(out / "checkpoint.pt", model=model.state_dict(), muon=muon.momentum, adam=adam.state_dict(),
                    step=step, tokens=tokens, chunk=chunk, spent=spent + time.time() - begin)
    if stop:
        return
    if args.export:
        export(model, tok, args.export)
    exact, asked = score(model, documents, 40, "8..20")
    curve.write(json.dumps(dict(step=step, tokens=tokens, exact=round(exact, 4), asked=asked)) + "\n")
    print(f"end: step {step}, {tokens / 1e6:.1f} M tokens, exact {exact:.3f} of {asked}")
    print(tell(model, documents, "Once upon a time"))


if __name__ == "__main__":
    sys.exit(main())
