#include "daemon/model/model_config_gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY_BYTES     96
#define CONTEXT_MAX   (1u << 20)
#define NOTES_MAX     16 /* a file of nonsense fills no log */
#define CONTROL_TOKEN 3  /* in tokenizer.ggml.token_type */

static const char TOKENS[] = "tokenizer.ggml.tokens";

static const struct {
    const char *name;
    enum model_architecture architecture;
} architectures[] = {
    {"llama", MODEL_ARCHITECTURE_LLAMA}, /* Mistral as well: with a window it becomes that */
    {"qwen2", MODEL_ARCHITECTURE_QWEN2},
    {"qwen3", MODEL_ARCHITECTURE_QWEN3},
};

/* What reading works with; `family` is the keys' first part, "llama". */
struct keys {
    const struct gguf *gguf;
    const struct model_notes *notes;
    const char *family;
    const char *file;
};

struct key {
    char text[KEY_BYTES];
};

static struct key key_of(const struct keys *k, const char *rest)
{
    struct key key;
    snprintf(key.text, sizeof key.text, "%s.%s", k->family, rest);
    return key;
}

/* ---- one key at a time ---- */

static enum llm_status missing_is_invalid(enum llm_status status, struct llm_error *error)
{
    if (status == LLM_ERR_NOT_FOUND && error != NULL)
        error->status = LLM_ERR_INVALID;
    return status == LLM_ERR_NOT_FOUND ? LLM_ERR_INVALID : status;
}

static enum llm_status read_count(const struct keys *k, const char *rest, uint32_t max,
                                  uint32_t *out_count, struct llm_error *error)
{
    int64_t count = 0;
    enum llm_status status =
        gguf_get_integer(k->gguf, key_of(k, rest).text, 1, (int64_t)max, &count, error);
    if (status == LLM_OK)
        *out_count = (uint32_t)count;
    return missing_is_invalid(status, error);
}

static bool is_given(const struct keys *k, const char *rest)
{
    return gguf_find(k->gguf, key_of(k, rest).text) != NULL;
}

/* Leaves *out_count where the key is absent. */
static enum llm_status read_count_if_given(const struct keys *k, const char *rest, uint32_t max,
                                           uint32_t *out_count, struct llm_error *error)
{
    return is_given(k, rest) ? read_count(k, rest, max, out_count, error) : LLM_OK;
}

static enum llm_status read_real_if_given(const struct keys *k, const char *rest, double low,
                                          double high, double *out_real, struct llm_error *error)
{
    if (!is_given(k, rest))
        return LLM_OK;
    return gguf_get_real(k->gguf, key_of(k, rest).text, low, high, out_real, error);
}

static bool has_tensor(const struct keys *k, const char *name)
{
    return gguf_find_tensor(k->gguf, name) != NULL;
}

/* ---- sizes ---- */

/* The tokens' list and the embedding have a row per token; a key of its own may say how many. */
static enum llm_status read_vocab_size(const struct keys *k, struct model_config *c,
                                       struct llm_error *error)
{
    const uint32_t max = 1u << 24;
    const struct gguf_value *tokens = NULL;
    const struct gguf_tensor *table = gguf_find_tensor(k->gguf, "token_embd.weight");
    enum llm_status status = LLM_OK;
    if (gguf_find(k->gguf, TOKENS) != NULL)
        status = gguf_get_array(k->gguf, TOKENS, GGUF_ITEMS_TEXTS, &tokens, error);
    if (status != LLM_OK)
        return status;
    if (is_given(k, "vocab_size")) {
        status = read_count(k, "vocab_size", max, &c->vocab_size, error);
        if (status != LLM_OK)
            return status;
    } else {
        uint64_t rows = tokens != NULL                      ? tokens->count
                        : table != NULL && table->rank == 2 ? table->shape[0]
                                                            : 0;
        if (rows < 1 || rows > max)
            return llm_fail(error, LLM_ERR_INVALID,
                            "%s has a vocabulary of %" PRIu64 " tokens; it must be 1..%" PRIu32,
                            k->file, rows, max);
        c->vocab_size = (uint32_t)rows;
    }
    if (tokens != NULL && tokens->count > c->vocab_size)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: key \"%s\" has %" PRIu64 " items, the vocabulary %" PRIu32, k->file,
                        TOKENS, tokens->count, c->vocab_size);
    return LLM_OK;
}

static enum llm_status read_sizes(const struct keys *k, struct model_config *c,
                                  struct llm_error *error)
{
    enum llm_status status = read_count(k, "embedding_length", 1u << 17, &c->hidden_size, error);
    if (status == LLM_OK)
        status = read_count(k, "feed_forward_length", 1u << 20, &c->intermediate_size, error);
    if (status == LLM_OK)
        status = read_count(k, "block_count", 2048, &c->layer_count, error);
    if (status == LLM_OK)
        status = read_count(k, "attention.head_count", 4096, &c->head_count, error);
    if (status == LLM_OK)
        status = read_count(k, "context_length", CONTEXT_MAX, &c->context_max_tokens, error);
    if (status == LLM_OK)
        status = read_vocab_size(k, c, error);
    return status;
}

static enum llm_status check_head_dim(const struct keys *k, const struct model_config *c,
                                      struct llm_error *error)
{
    if (c->head_dim % 2 != 0 || c->head_dim > 1024)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: a head has %" PRIu32
                        " dimensions; it must be an even number up to 1024",
                        k->file, c->head_dim);
    uint32_t values = c->head_dim, turned = c->head_dim;
    enum llm_status status =
        read_count_if_given(k, "attention.value_length", 1u << 17, &values, error);
    if (status == LLM_OK)
        status = read_count_if_given(k, "rope.dimension_count", 1u << 17, &turned, error);
    if (status == LLM_OK && values != c->head_dim)
        status = llm_fail(error, LLM_ERR_UNSUPPORTED,
                          "%s: key \"%s\" is %" PRIu32 "; only heads whose keys and values have "
                          "the same size, %" PRIu32 ", are supported",
                          k->file, key_of(k, "attention.value_length").text, values, c->head_dim);
    if (status == LLM_OK && turned != c->head_dim)
        status = llm_fail(error, LLM_ERR_UNSUPPORTED,
                          "%s: key \"%s\" is %" PRIu32
                          "; only the rotation of whole heads, %" PRIu32 ", is supported",
                          k->file, key_of(k, "rope.dimension_count").text, turned, c->head_dim);
    return status;
}

static enum llm_status read_heads(const struct keys *k, struct model_config *c,
                                  struct llm_error *error)
{
    c->kv_head_count = c->head_count;
    enum llm_status status =
        read_count_if_given(k, "attention.head_count_kv", c->head_count, &c->kv_head_count, error);
    if (status != LLM_OK)
        return status;
    if (c->head_count % c->kv_head_count != 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: key \"%s\" is %" PRIu32
                        ", not a multiple of \"attention.head_count_kv\", %" PRIu32,
                        k->file, key_of(k, "attention.head_count").text, c->head_count,
                        c->kv_head_count);
    if (!is_given(k, "attention.key_length") && c->hidden_size % c->head_count != 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: key \"%s\" is %" PRIu32
                        ", not a multiple of \"attention.head_count\", %" PRIu32,
                        k->file, key_of(k, "embedding_length").text, c->hidden_size, c->head_count);
    c->head_dim = c->hidden_size / c->head_count;
    status = read_count_if_given(k, "attention.key_length", 1024, &c->head_dim, error);
    return status == LLM_OK ? check_head_dim(k, c, error) : status;
}

/* ---- what this build does not have ---- */

static enum llm_status find_architecture(struct keys *k, struct model_config *c,
                                         struct llm_error *error)
{
    struct gguf_text name;
    enum llm_status status = gguf_get_text(k->gguf, "general.architecture", &name, error);
    if (status != LLM_OK)
        return missing_is_invalid(status, error);
    char known[128] = "";
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++) {
        if (gguf_text_is(name, architectures[i].name)) {
            k->family = architectures[i].name;
            c->architecture = architectures[i].architecture;
            return LLM_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                 architectures[i].name);
    }
    return llm_fail(error, LLM_ERR_UNSUPPORTED,
                    "%s: architecture \"%s\" is not supported; this build runs %s", k->file,
                    gguf_text_show(name).text, known);
}

/* Keys that change what is computed; `neutral` is the value that changes nothing, as an integer or a real. */
static enum llm_status refuse_features(const struct keys *k, struct llm_error *error)
{
    static const struct {
        const char *rest;
        double neutral;
    } features[] = {
        {"expert_count", 0},
        {"attention.sliding_window_pattern", 0},
        {"attention.scale", 0},
        {"attention.clamp_kqv", 0},
        {"attention.max_alibi_bias", 0},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
        {"embedding_scale", 1},
        {"residual_scale", 1},
        {"logit_scale", 1},
    };
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
        struct key key = key_of(k, features[i].rest);
        int64_t integer = 0;
        double real = 0;
        if (gguf_find(k->gguf, key.text) == NULL)
            continue;
        if (gguf_get_integer(k->gguf, key.text, INT64_MIN, INT64_MAX, &integer, NULL) == LLM_OK)
            real = (double)integer;
        else if (gguf_get_real(k->gguf, key.text, -HUGE_VAL, HUGE_VAL, &real, NULL) != LLM_OK)
            return llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: key \"%s\" is not supported", k->file,
                            key.text);
        if (real < features[i].neutral || real > features[i].neutral)
            return llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: key \"%s\" is %g; not supported",
                            k->file, key.text, real);
    }
    return LLM_OK;
}

/* ---- rotary embeddings ---- */

/* The length a model reads with its scaled rotation, as config.json's is worked out. */
static void grow_context(struct model_config *c, double tokens)
{
    if (tokens > CONTEXT_MAX)
        tokens = CONTEXT_MAX;
    if (tokens > c->context_max_tokens)
        c->context_max_tokens = (uint32_t)tokens;
}

static enum llm_status read_yarn(const struct keys *k, struct model_config *c,
                                 struct llm_error *error)
{
    struct model_rope *r = &c->rope;
    double factor = 1.0, extrapolation = 1.0;
    r->kind = MODEL_ROPE_YARN;
    r->beta_fast = 32.0;
    r->beta_slow = 1.0;
    enum llm_status status = read_count(k, "rope.scaling.original_context_length", CONTEXT_MAX,
                                        &r->original_context_tokens, error);
    if (status == LLM_OK)
        status =
            read_real_if_given(k, "rope.scaling.yarn_beta_fast", 1e-6, 1e6, &r->beta_fast, error);
    if (status == LLM_OK)
        status =
            read_real_if_given(k, "rope.scaling.yarn_beta_slow", 1e-6, 1e6, &r->beta_slow, error);
    if (status == LLM_OK)
        status = read_real_if_given(k, "rope.scaling.attn_factor", 1e-6, 1e6, &factor, error);
    if (status == LLM_OK)
        status = read_real_if_given(k, "rope.scaling.yarn_attn_factor", 1e-6, 1e6, &factor, error);
    if (status == LLM_OK)
        status =
            read_real_if_given(k, "rope.scaling.yarn_ext_factor", 1.0, 1.0, &extrapolation, error);
    r->attention_factor = factor * (0.1 * log(r->factor) + 1.0);
    if (status == LLM_OK && !(c->rope_theta > 1.0))
        status = llm_fail(error, LLM_ERR_INVALID,
                          "%s: key \"%s\" is %g; with yarn it must be more than 1", k->file,
                          key_of(k, "rope.freq_base").text, c->rope_theta);
    if (status == LLM_OK)
        grow_context(c, r->original_context_tokens * r->factor);
    return status;
}

static enum llm_status read_rope_scaling(const struct keys *k, struct model_config *c,
                                         struct llm_error *error)
{
    struct key type_key = key_of(k, "rope.scaling.type");
    struct gguf_text type = {"none", 4};
    double old_factor = 0; /* the key that was before there were types */
    enum llm_status status =
        gguf_find(k->gguf, type_key.text) != NULL
            ? gguf_get_text(k->gguf, type_key.text, &type, error)
            : read_real_if_given(k, "rope.scale_linear", 1.0, 0x1p20, &old_factor, error);
    if (status != LLM_OK)
        return status;
    bool linear = gguf_text_is(type, "linear") || old_factor > 1.0;
    if (!linear && gguf_text_is(type, "none"))
        return LLM_OK;
    if (!linear && !gguf_text_is(type, "yarn"))
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "%s: key \"%s\" is \"%s\"; supported are none, linear and yarn", k->file,
                        type_key.text, gguf_text_show(type).text);
    c->rope.factor = old_factor;
    if (old_factor <= 1.0)
        status = missing_is_invalid(gguf_get_real(k->gguf, key_of(k, "rope.scaling.factor").text,
                                                  1.0, 0x1p20, &c->rope.factor, error),
                                    error);
    c->rope.kind = MODEL_ROPE_LINEAR;
    if (status == LLM_OK && linear)
        grow_context(c, c->context_max_tokens * c->rope.factor);
    return status == LLM_OK && !linear ? read_yarn(k, c, error) : status;
}

/* One f32 per frequency, each a number >= 1 in files that are well. */
static enum llm_status read_divisors(const struct keys *k, struct model_config *c,
                                     struct llm_error *error)
{
    static const char name[] = "rope_freqs.weight";
    const struct gguf_tensor *t = gguf_find_tensor(k->gguf, name);
    if (t == NULL)
        return LLM_OK;
    if (t->rank != 1 || t->shape[0] != c->head_dim / 2 || strcmp(t->type->name, "F32") != 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "tensor \"%s\" is %" PRIu64 " of type %s, the configuration says %" PRIu32
                        " of type F32",
                        name, t->rank == 1 ? t->shape[0] : 0, t->type->name, c->head_dim / 2);
    if (c->head_dim / 2 > MODEL_ROPE_DIVISORS_MAX)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "tensor \"%s\" is %" PRIu32 "; at most %d are supported", name,
                        c->head_dim / 2, MODEL_ROPE_DIVISORS_MAX);
    unsigned char bytes[4 * MODEL_ROPE_DIVISORS_MAX];
    enum llm_status status = gguf_read(k->gguf, t, 0, bytes, (size_t)t->bytes, error);
    for (uint32_t i = 0; i < c->head_dim / 2 && status == LLM_OK; i++) {
        memcpy(&c->rope.divisors[i], bytes + 4 * i, 4);
        if (!(c->rope.divisors[i] >= 0x1p-20f && c->rope.divisors[i] <= 0x1p20f))
            status = llm_fail(error, LLM_ERR_INVALID,
                              "number %" PRIu32 " of tensor \"%s\" is %g; it must be 2^-20..2^20",
                              i, name, (double)c->rope.divisors[i]);
    }
    c->rope.divisor_count = c->head_dim / 2;
    return status;
}

static enum llm_status read_rope(const struct keys *k, struct model_config *c,
                                 struct llm_error *error)
{
    c->rope_theta = 10000.0;
    enum llm_status status =
        read_real_if_given(k, "rope.freq_base", 1.0, 1e12, &c->rope_theta, error);
    if (status == LLM_OK)
        status = read_rope_scaling(k, c, error);
    if (status == LLM_OK)
        status = read_divisors(k, c, error);
    return status;
}

/* ---- tokens that begin and end ---- */

/* An id that the vocabulary does not have is a note: nothing is looked up by it. */
static enum llm_status read_id(const struct keys *k, const struct model_config *c, const char *key,
                               int32_t *out_id, struct llm_error *error)
{
    int64_t id = -1;
    enum llm_status status = LLM_OK;
    *out_id = -1;
    if (gguf_find(k->gguf, key) == NULL)
        return LLM_OK;
    status = gguf_get_integer(k->gguf, key, INT64_MIN, INT64_MAX, &id, error);
    if (status == LLM_OK && (id < 0 || id >= (int64_t)c->vocab_size))
        model_note(k->notes, "%s: key \"%s\" is %" PRId64 ", not an id in 0..%" PRIu32 ": ignored",
                   k->file, key, id, c->vocab_size - 1);
    *out_id = id < 0 || id >= (int64_t)c->vocab_size ? -1 : (int32_t)id;
    return status;
}

static void add_eos(const struct keys *k, struct model_config *c, int32_t id)
{
    for (uint32_t i = 0; i < c->eos_token_count; i++)
        if (c->eos_token_ids[i] == id)
            return;
    if (c->eos_token_count == MODEL_EOS_IDS_MAX)
        model_note(k->notes, "%s: more than %d tokens end an answer: %" PRId32 " is left out",
                   k->file, MODEL_EOS_IDS_MAX, id);
    else
        c->eos_token_ids[c->eos_token_count++] = id;
}

/* Control tokens that end an answer in one of the usual templates; llama.cpp (src/llama-vocab.cpp) finds them so. */
static void add_usual_ends(const struct keys *k, struct model_config *c)
{
    static const char *const usual[] = {
        "<|eot_id|>", "<|im_end|>", "<|end|>",           "<end_of_turn>", "<|endoftext|>",
        "<|eom_id|>", "<EOT>",      "<|end_of_text|>",   "<|return|>",    "<|call|>",
        "_<EOT>",     "<|eot|>",    "<end_of_utterance>"};
    const struct gguf_value *tokens, *types;
    if (gguf_get_array(k->gguf, TOKENS, GGUF_ITEMS_TEXTS, &tokens, NULL) != LLM_OK ||
        gguf_get_array(k->gguf, "tokenizer.ggml.token_type", GGUF_ITEMS_INTEGERS, &types, NULL) !=
            LLM_OK)
        return;
    struct gguf_texts walk = gguf_texts(tokens);
    struct gguf_text text;
    for (uint64_t id = 0; gguf_texts_next(&walk, &text) && id < types->count; id++) {
        if (gguf_array_integer(types, id) != CONTROL_TOKEN)
            continue;
        for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
            if (gguf_text_is(text, usual[i]))
                add_eos(k, c, (int32_t)id);
    }
}

static enum llm_status read_special_ids(const struct keys *k, struct model_config *c,
                                        struct llm_error *error)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    enum llm_status status = read_id(k, c, "tokenizer.ggml.bos_token_id", &c->bos_token_id, error);
    for (int i = 0; i < 3 && status == LLM_OK; i++) {
        int32_t id = -1;
        status = read_id(k, c, ends[i], &id, error);
        if (status == LLM_OK && id >= 0)
            add_eos(k, c, id);
    }
    if (status == LLM_OK)
        add_usual_ends(k, c);
    return status;
}

/* ---- what is known ---- */

/* Keys below the architecture's name; those that say nothing new about what is computed are known as well. */
static void note_strange_keys(const struct keys *k)
{
    static const char *const known[] = {
        "embedding_length",
        "feed_forward_length",
        "block_count",
        "context_length",
        "vocab_size",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "attention.layer_norm_epsilon",
        "attention.sliding_window",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scale_linear",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
        "rope.scaling.attn_factor",
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_ext_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "expert_count",
        "expert_used_count",
        "attention.sliding_window_pattern",
        "attention.scale",
        "attention.clamp_kqv",
        "attention.max_alibi_bias",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "embedding_scale",
        "residual_scale",
        "logit_scale",
    };
    size_t prefix = strlen(k->family) + 1, count = 0;
    for (size_t i = 0; i < k->gguf->value_count; i++) {
        struct gguf_text key = k->gguf->values[i].key;
        bool ours = key.length > prefix && memcmp(key.bytes, k->family, prefix - 1) == 0 &&
                    key.bytes[prefix - 1] == '.';
        struct gguf_text rest = {key.bytes + prefix, ours ? key.length - prefix : 0};
        for (size_t j = 0; ours && j < sizeof known / sizeof known[0]; j++)
            ours = !gguf_text_is(rest, known[j]);
        if (ours && count++ < NOTES_MAX)
            model_note(k->notes, "%s: key \"%s\" is not known: ignored", k->file,
                       gguf_text_show(key).text);
    }
    if (count > NOTES_MAX)
        model_note(k->notes, "%s: %zu more keys are not known", k->file, count - NOTES_MAX);
}

/* ---- the whole ---- */

static void look_for_tensors(const struct keys *k, struct model_config *c)
{
    c->tied_embeddings = !has_tensor(k, "output.weight");
    c->qk_norm = c->architecture == MODEL_ARCHITECTURE_QWEN3;
    c->qkv_bias = c->architecture == MODEL_ARCHITECTURE_QWEN2 || has_tensor(k, "blk.0.attn_q.bias");
    c->output_bias = has_tensor(k, "blk.0.attn_output.bias");
    c->mlp_bias = has_tensor(k, "blk.0.ffn_gate.bias");
}

/* 0 is no window, as where the key is absent. */
static enum llm_status read_window(const struct keys *k, struct model_config *c,
                                   struct llm_error *error)
{
    static const char rest[] = "attention.sliding_window";
    int64_t window = 0;
    enum llm_status status = LLM_OK;
    if (is_given(k, rest))
        status = gguf_get_integer(k->gguf, key_of(k, rest).text, 0, 1 << 30, &window, error);
    c->sliding_window = (uint32_t)window;
    if (window > 0 && c->architecture == MODEL_ARCHITECTURE_LLAMA)
        c->architecture = MODEL_ARCHITECTURE_MISTRAL;
    return status;
}

static enum llm_status read_all(const struct keys *k, struct model_config *c,
                                struct llm_error *error)
{
    enum llm_status status = refuse_features(k, error);
    if (status == LLM_OK)
        status = read_sizes(k, c, error);
    if (status == LLM_OK)
        status = read_heads(k, c, error);
    if (status == LLM_OK)
        status = missing_is_invalid(
            gguf_get_real(k->gguf, key_of(k, "attention.layer_norm_rms_epsilon").text, 1e-12, 0.1,
                          &c->rms_norm_eps, error),
            error);
    if (status == LLM_OK)
        status = read_rope(k, c, error);
    if (status == LLM_OK)
        status = read_window(k, c, error);
    if (status == LLM_OK)
        status = read_special_ids(k, c, error);
    return status;
}

enum llm_status model_config_from_gguf(const struct gguf *gguf, const struct model_notes *notes,
                                       struct model_config *out_config, struct llm_error *error)
{
    struct keys k = {.gguf = gguf, .notes = notes, .family = "", .file = gguf->files[0].name};
    struct model_config c = {.bos_token_id = -1};
    enum llm_status status = find_architecture(&k, &c, error);
    if (status == LLM_OK)
        status = read_all(&k, &c, error);
    if (status != LLM_OK)
        return status;
    look_for_tensors(&k, &c);
    note_strange_keys(&k);
    *out_config = c;
    return LLM_OK;
}
