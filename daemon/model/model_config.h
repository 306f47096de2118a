/*
 * model_config.h - what a model directory's config.json says, checked.
 *
 * Idea     Every later size is a product of these numbers, so this is the one place where a number is
 *          believed: each field has a type and a range, and the ranges are such that every product the
 *          runtime forms fits in 63 bits. A key that we do not know is ignored; one that we need and that
 *          is missing, of another type or out of range is named, and so is one that asks for what this build
 *          does not have (an unknown architecture, kind of scaling or activation, quantised weights).
 * Parts    model_config_key reads one key, model_config_rope the rotary embeddings, model_config_window the
 *          windows of layers; what belongs to one architecture stands in its file (llama.c, ...; family.h).
 * Owner    A plain value; nothing to close.
 * Trust    The file is hostile: at most 1 MiB of it is read.
 * See      https://huggingface.co/docs/transformers/model_doc/llama (LlamaConfig), docs/MODELS.md,
 *          tests/daemon/test_model_config.c.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_CONFIG_H
#define LLM_DAEMON_MODEL_MODEL_CONFIG_H

#include "daemon/model/model_files.h"
#include "shm/layout.h"
#include "shm/status.h"

#include <stdbool.h>
#include <stdint.h>

#define MODEL_EOS_IDS_MAX       16
#define MODEL_ROPE_DIVISORS_MAX 128

enum model_architecture {
    MODEL_ARCHITECTURE_LLAMA,   /* "LlamaForCausalLM": RMSNorm, RoPE, GQA, SwiGLU */
    MODEL_ARCHITECTURE_MISTRAL, /* "MistralForCausalLM": the same with a window */
    MODEL_ARCHITECTURE_QWEN2,   /* "Qwen2ForCausalLM": Q, K and V have biases */
    MODEL_ARCHITECTURE_QWEN3,   /* "Qwen3ForCausalLM": heads of Q and K are normalised */
};

/* How positions beyond the trained ones turn (kernels.h, kernel_rope_frequencies()); sources beside each. */
enum model_rope_kind {
    MODEL_ROPE_DEFAULT, /* theta^(-2 i / D) */
    MODEL_ROPE_LINEAR,  /* ... divided by `factor`: Chen et al. 2023, arXiv:2306.15595 */
    MODEL_ROPE_LLAMA3,  /* by bands of wavelengths: Llama 3.1, arXiv:2407.21783 */
    MODEL_ROPE_YARN,    /* by bands, with a temperature: Peng et al. 2023, arXiv:2309.00071 */
};

struct model_rope {
    enum model_rope_kind kind;
    double factor;               /* LINEAR, LLAMA3, YARN: [1, 2^20] */
    double low_freq_factor;      /* LLAMA3: > 0 */
    double high_freq_factor;     /* LLAMA3: > low_freq_factor */
    double beta_fast, beta_slow; /* YARN: > 0; 32 and 1 unless the file says */
    double
        attention_factor; /* YARN: of cosines and sines; 0.1 ln(factor) + 1 unless the file says */
    uint32_t original_context_tokens; /* LLAMA3, YARN: what the model was first trained for */
    bool between_dimensions; /* YARN: bands need not end at whole dimensions ("truncate": false) */
    uint32_t divisor_count; /* 0, or head_dim / 2: frequency i is divided by divisors[i] besides; */
    float divisors[MODEL_ROPE_DIVISORS_MAX]; /* GGUF files of Llama 3.1 have its bands so */
};

struct model_config {
    enum model_architecture architecture;
    /* Shape letters as in kernels.h: D hidden, H query heads, G key/value heads, K head_dim, V vocabulary. */
    uint32_t hidden_size;       /* D, 1..2^17 */
    uint32_t intermediate_size; /* F, 1..2^20 */
    uint32_t layer_count;       /* 1..2048 */
    uint32_t head_count;        /* H, 1..4096 */
    uint32_t kv_head_count;     /* G, divides H */
    uint32_t head_dim;   /* K, even, 2..1024; hidden_size / head_count unless the file says */
    uint32_t vocab_size; /* V, 1..2^24 */
    uint32_t context_max_tokens;    /* max_position_embeddings, 1..2^20 */
    double rms_norm_eps;            /* [1e-12, 0.1] */
    double rope_theta;              /* [1, 1e12]; 10000 unless the file says */
    struct model_rope rope;         /* of the other kinds' numbers all are zero */
    uint32_t sliding_window;        /* tokens a token sees, itself included; 0: all before it */
    uint32_t full_attention_layers; /* so many first layers see everything in spite of the window */
    bool qkv_bias;                  /* the Q, K and V projections have bias vectors, */
    bool output_bias;               /* the attention's output projection, */
    bool mlp_bias;                  /* the gate, up and down projections */
    bool qk_norm;                   /* RMSNorm over each head of Q and K before they turn */
    bool tied_embeddings;           /* the output projection is the embedding table */
    int32_t bos_token_id;           /* -1: none */
    int32_t eos_token_ids[MODEL_EOS_IDS_MAX]; /* ids that end an answer, from config.json and */
    uint32_t eos_token_count;                 /* generation_config.json together; may be none */
    struct llm_in_force
        defaults; /* for choosing tokens (generation_config.h); all zero: nothing is said */
};

/*
 * Read config.json, and generation_config.json where there is one.
 *
 *   returns   LLM_OK
 *             LLM_ERR_NOT_FOUND     no config.json
 *             LLM_ERR_INVALID       a key is missing, ill-typed or out of range; the sentence names it
 *             LLM_ERR_UNSUPPORTED   well-formed, but an architecture or feature this build does not have
 */
LLM_MUST_CHECK enum llm_status model_config_read(const struct model_files *files,
                                                 struct model_config *out_config,
                                                 struct llm_error *error);

/* The name of an architecture as config.json spells it; never NULL. */
const char *model_architecture_name(enum model_architecture architecture);

#endif
