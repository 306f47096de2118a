/*
 * test_model_config.c - daemon/model/model_config: what config.json may say, and the sentence when it may not.
 * How: a good configuration is edited one key at a time; each edit has the sentence that must come out.
 */
#include "daemon/model/model_config.h"

#include "tests/daemon/memory_files.h"
#include "tests/daemon/tiny_model.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char GOOD[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_act\": \"silu\", \"hidden_size\": 64,"
    " \"intermediate_size\": 172, \"num_hidden_layers\": 5, \"num_attention_heads\": 8,"
    " \"num_key_value_heads\": 4, \"vocab_size\": 512, \"max_position_embeddings\": 2048,"
    " \"rms_norm_eps\": 1e-06, \"rope_theta\": 500000.0, \"rope_scaling\": null,"
    " \"attention_bias\": false, \"mlp_bias\": false, \"tie_word_embeddings\": true,"
    " \"bos_token_id\": 1, \"eos_token_id\": 2, \"torch_dtype\": \"float32\","
    " \"transformers_version\": \"4.44.0\", \"something_new\": [1, {\"x\": null}]}";

static const char GOOD_QWEN3[] =
    "{\"architectures\": [\"Qwen3ForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 96,"
    " \"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
    " \"head_dim\": 32, \"vocab_size\": 384, \"max_position_embeddings\": 512,"
    " \"rms_norm_eps\": 1e-06, \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4.0,"
    " \"original_max_position_embeddings\": 128, \"rope_theta\": 1000000, \"truncate\": false},"
    " \"use_sliding_window\": true, \"sliding_window\": 32, \"layer_types\":"
    " [\"full_attention\", \"sliding_attention\", \"sliding_attention\"]}";

#define MISTRAL "{\"architectures\": [\"MistralForCausalLM\"]"
#define QWEN2   "{\"architectures\": [\"Qwen2ForCausalLM\"]"
#define QWEN3   "{\"architectures\": [\"Qwen3ForCausalLM\"]"

static enum llm_status read_texts(const char *config, const char *generation,
                                  struct model_config *out_config, struct llm_error *error)
{
    struct memory_files files = {0};
    if (config != NULL) {
        files.files[0].name = "config.json";
        files.files[0].bytes = config;
        files.files[0].byte_count = strlen(config);
    }
    if (generation != NULL) {
        files.files[1].name = "generation_config.json";
        files.files[1].bytes = generation;
        files.files[1].byte_count = strlen(generation);
    }
    struct model_files access = memory_files_open(&files);
    return model_config_read(&access, out_config, error);
}

/* GOOD with the keys of `edit` put in, and those whose value is the string "REMOVE" taken out. */
static enum llm_status read_edited(const char *edit, struct model_config *out_config,
                                   struct llm_error *error)
{
    json_t *root = json_loads(GOOD, 0, NULL), *changes = json_loads(edit, 0, NULL);
    ck_assert_msg(root != NULL && changes != NULL, "the test's own JSON: %s", edit);
    const char *key;
    json_t *value;
    json_object_foreach(changes, key, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), "REMOVE") == 0)
            json_object_del(root, key);
        else
            json_object_set(root, key, value);
    }
    char *text = json_dumps(root, 0);
    enum llm_status status = read_texts(text, NULL, out_config, error);
    free(text);
    json_decref(root);
    json_decref(changes);
    return status;
}

START_TEST(every_field_arrives)
{
    struct model_config c;
    struct llm_error error;
    ck_assert_int_eq(read_texts(GOOD, NULL, &c, &error), LLM_OK);
    ck_assert_int_eq(c.architecture, MODEL_ARCHITECTURE_LLAMA);
    ck_assert_uint_eq(c.hidden_size, 64);
    ck_assert_uint_eq(c.intermediate_size, 172);
    ck_assert_uint_eq(c.layer_count, 5);
    ck_assert_uint_eq(c.head_count, 8);
    ck_assert_uint_eq(c.kv_head_count, 4);
    ck_assert_uint_eq(c.head_dim, 8);
    ck_assert_uint_eq(c.vocab_size, 512);
    ck_assert_uint_eq(c.context_max_tokens, 2048);
    ck_assert_double_eq(c.rms_norm_eps, 1e-6);
    ck_assert_double_eq(c.rope_theta, 500000);
    ck_assert(c.tied_embeddings);
    ck_assert_int_eq(c.bos_token_id, 1);
    ck_assert_uint_eq(c.eos_token_count, 1);
    ck_assert_int_eq(c.eos_token_ids[0], 2);
}
END_TEST

START_TEST(absent_keys_have_their_usual_meaning)
{
    struct model_config c;
    struct llm_error error = {0};
    enum llm_status status =
        read_edited("{\"num_key_value_heads\": \"REMOVE\", \"rope_theta\": \"REMOVE\","
                    " \"rope_scaling\": \"REMOVE\", \"tie_word_embeddings\": \"REMOVE\","
                    " \"bos_token_id\": null, \"eos_token_id\": \"REMOVE\", \"head_dim\": 24,"
                    " \"attention_bias\": \"REMOVE\", \"mlp_bias\": \"REMOVE\","
                    " \"hidden_act\": \"REMOVE\", \"torch_dtype\": null}",
                    &c, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    ck_assert_uint_eq(c.kv_head_count, 8);
    ck_assert_uint_eq(c.head_dim, 24);
    ck_assert_double_eq(c.rope_theta, 10000);
    ck_assert(!c.tied_embeddings);
    ck_assert_int_eq(c.bos_token_id, -1);
    ck_assert_uint_eq(c.eos_token_count, 0);
}
END_TEST

START_TEST(rope_parameters_of_newer_files_are_read)
{
    struct model_config c;
    struct llm_error error = {0};
    enum llm_status status = read_edited("{\"rope_theta\": \"REMOVE\", \"rope_parameters\": "
                                         "{\"rope_type\": \"default\", \"rope_theta\": 123.5}}",
                                         &c, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    ck_assert_double_eq(c.rope_theta, 123.5);
}
END_TEST

/* GOOD with an edit that must be accepted. */
static struct model_config accepted(const char *edit)
{
    struct model_config c;
    struct llm_error error = {0};
    enum llm_status status = read_edited(edit, &c, &error);
    ck_assert_msg(status == LLM_OK, "%s: %s", edit, error.message);
    return c;
}

START_TEST(biases_and_norms_are_each_familys_own)
{
    struct model_config c = accepted("{\"attention_bias\": true, \"mlp_bias\": true}");
    ck_assert(c.qkv_bias && c.output_bias && c.mlp_bias && !c.qk_norm);
    c = accepted("{\"sliding_window\": 4096, \"use_sliding_window\": true}");
    ck_assert(!c.qkv_bias && !c.output_bias && !c.mlp_bias);
    ck_assert_uint_eq(c.sliding_window, 0); /* Llama has no windows, whatever the file says */
    c = accepted(QWEN2 ", \"attention_bias\": \"REMOVE\"}");
    ck_assert_int_eq(c.architecture, MODEL_ARCHITECTURE_QWEN2);
    ck_assert(c.qkv_bias && !c.output_bias && !c.mlp_bias && !c.qk_norm);
    c = accepted(QWEN3 "}");
    ck_assert_int_eq(c.architecture, MODEL_ARCHITECTURE_QWEN3);
    ck_assert(!c.qkv_bias && !c.output_bias && c.qk_norm);
    ck_assert_uint_eq(c.head_dim, 128);
    c = accepted(QWEN3 ", \"attention_bias\": true, \"head_dim\": 64}");
    ck_assert(c.qkv_bias && c.output_bias && !c.mlp_bias && c.qk_norm);
    ck_assert_uint_eq(c.head_dim, 64);
}
END_TEST

START_TEST(windows_are_read_as_each_family_has_them)
{
    struct model_config c = accepted(MISTRAL "}");
    ck_assert_int_eq(c.architecture, MODEL_ARCHITECTURE_MISTRAL);
    ck_assert_uint_eq(c.sliding_window, 4096);
    ck_assert_uint_eq(c.full_attention_layers, 0);
    c = accepted(MISTRAL ", \"sliding_window\": 17}");
    ck_assert_uint_eq(c.sliding_window, 17);
    c = accepted(MISTRAL ", \"sliding_window\": null}");
    ck_assert_uint_eq(c.sliding_window, 0);

    c = accepted(QWEN2 ", \"use_sliding_window\": false, \"sliding_window\": 8}");
    ck_assert_uint_eq(c.sliding_window, 0);
    c = accepted(QWEN2 ", \"use_sliding_window\": true, \"sliding_window\": null}");
    ck_assert_uint_eq(c.sliding_window, 0);
    c = accepted(QWEN2 ", \"use_sliding_window\": true, \"sliding_window\": 8,"
                       " \"max_window_layers\": 3}");
    ck_assert_uint_eq(c.sliding_window, 8);
    ck_assert_uint_eq(c.full_attention_layers, 3);
    c = accepted(QWEN2 ", \"use_sliding_window\": true, \"sliding_window\": 8,"
                       " \"max_window_layers\": 0}");
    ck_assert_uint_eq(c.sliding_window, 8);
    ck_assert_uint_eq(c.full_attention_layers, 0);
    c = accepted(QWEN2 ", \"use_sliding_window\": true, \"sliding_window\": 8,"
                       " \"max_window_layers\": 28}");
    ck_assert_uint_eq(c.sliding_window, 0);
    c = accepted(QWEN3 ", \"use_sliding_window\": true, \"sliding_window\": 8,"
                       " \"num_hidden_layers\": 3, \"max_window_layers\": 0, \"layer_types\":"
                       " [\"full_attention\", \"sliding_attention\", \"sliding_attention\"]}");
    ck_assert_uint_eq(c.sliding_window, 8);
    ck_assert_uint_eq(c.full_attention_layers, 1); /* the list wins */
}
END_TEST

START_TEST(scaled_rotations_of_both_spellings_are_read)
{
    struct model_config c = accepted("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4,"
                                     " \"original_max_position_embeddings\": 77}}");
    ck_assert_int_eq(c.rope.kind, MODEL_ROPE_LINEAR);
    ck_assert_double_eq(c.rope.factor, 4);
    ck_assert_double_eq(c.rope_theta, 500000);
    ck_assert_uint_eq(c.context_max_tokens, 4 * 2048);

    c = accepted("{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 32.0,"
                 " \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0,"
                 " \"original_max_position_embeddings\": 8192}}");
    ck_assert_int_eq(c.rope.kind, MODEL_ROPE_LLAMA3);
    ck_assert_double_eq(c.rope.factor, 32);
    ck_assert_double_eq(c.rope.low_freq_factor, 1);
    ck_assert_double_eq(c.rope.high_freq_factor, 4);
    ck_assert_uint_eq(c.rope.original_context_tokens, 8192);
    ck_assert_uint_eq(c.context_max_tokens, 2048);

    c = accepted("{\"rope_theta\": 7, \"rope_parameters\": {\"rope_type\": \"yarn\","
                 " \"rope_theta\": 9, \"factor\": 4.0, \"unknown\": null,"
                 " \"original_max_position_embeddings\": 1024}}");
    ck_assert_int_eq(c.rope.kind, MODEL_ROPE_YARN);
    ck_assert_double_eq(c.rope_theta, 9);
    ck_assert_double_eq(c.rope.beta_fast, 32);
    ck_assert_double_eq(c.rope.beta_slow, 1);
    ck_assert(!c.rope.between_dimensions);
    ck_assert_double_eq_tol(c.rope.attention_factor, 0.1 * log(4) + 1, 1e-15);
    ck_assert_uint_eq(c.rope.original_context_tokens, 1024);
    ck_assert_uint_eq(c.context_max_tokens, 4096);
}
END_TEST

START_TEST(what_yarn_leaves_out_is_derived)
{
    struct model_config c = accepted("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}}");
    ck_assert_uint_eq(c.rope.original_context_tokens, 2048); /* the file's length */
    ck_assert_uint_eq(c.context_max_tokens, 2048);
    c = accepted("{\"rope_scaling\": {\"type\": \"yarn\","
                 " \"original_max_position_embeddings\": 256}}");
    ck_assert_double_eq(c.rope.factor, 8);
    c = accepted("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2},"
                 " \"original_max_position_embeddings\": 512}");
    ck_assert_uint_eq(c.rope.original_context_tokens, 512);
    c = accepted("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 0.707,"
                 " \"mscale_all_dim\": 1.0, \"truncate\": false}}");
    ck_assert_double_eq_tol(c.rope.attention_factor, (0.0707 * log(40) + 1) / (0.1 * log(40) + 1),
                            1e-15);
    ck_assert(c.rope.between_dimensions);
    c = accepted("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 0.707,"
                 " \"mscale_all_dim\": 1.0, \"attention_factor\": 1.25}}");
    ck_assert_double_eq(c.rope.attention_factor, 1.25);
    c = accepted("{\"max_position_embeddings\": 1000000, \"rope_scaling\": {\"type\": \"linear\","
                 " \"factor\": 1000}}");
    ck_assert_uint_eq(c.context_max_tokens, 1u << 20); /* the limit of this build */
}
END_TEST

START_TEST(ids_that_end_an_answer_come_from_both_files)
{
    struct model_config c;
    struct llm_error error;
    ck_assert_int_eq(read_texts(GOOD, "{\"eos_token_id\": [511, 2, 7]}", &c, &error), LLM_OK);
    ck_assert_uint_eq(c.eos_token_count, 3);
    ck_assert_int_eq(c.eos_token_ids[0], 2);
    ck_assert_int_eq(c.eos_token_ids[1], 511);
    ck_assert_int_eq(c.eos_token_ids[2], 7);
}
END_TEST

static const struct {
    const char *edit;
    enum llm_status status;
    const char *sentence;
} edits[] = {
    {"{\"hidden_size\": \"REMOVE\"}", LLM_ERR_INVALID, "config.json has no \"hidden_size\""},
    {"{\"hidden_size\": \"64\"}", LLM_ERR_INVALID,
     "config.json: \"hidden_size\" is not an integer"},
    {"{\"hidden_size\": 64.0}", LLM_ERR_INVALID, "config.json: \"hidden_size\" is not an integer"},
    {"{\"hidden_size\": 0}", LLM_ERR_INVALID,
     "config.json: \"hidden_size\" is 0; it must be 1..131072"},
    {"{\"hidden_size\": -16}", LLM_ERR_INVALID,
     "config.json: \"hidden_size\" is -16; it must be 1..131072"},
    {"{\"num_hidden_layers\": 2147483648}", LLM_ERR_INVALID,
     "config.json: \"num_hidden_layers\" is 2147483648; it must be 1..2048"},
    {"{\"vocab_size\": 9223372036854775807}", LLM_ERR_INVALID,
     "config.json: \"vocab_size\" is 9223372036854775807; it must be 1..16777216"},
    {"{\"num_attention_heads\": 0}", LLM_ERR_INVALID,
     "config.json: \"num_attention_heads\" is 0; it must be 1..4096"},
    {"{\"num_key_value_heads\": 3}", LLM_ERR_INVALID,
     "config.json: \"num_attention_heads\" is 8, not a multiple of \"num_key_value_heads\", 3"},
    {"{\"num_key_value_heads\": 16}", LLM_ERR_INVALID,
     "config.json: \"num_key_value_heads\" is 16; it must be 1..8"},
    {"{\"hidden_size\": 65}", LLM_ERR_INVALID,
     "config.json: \"hidden_size\" is 65, not a multiple of \"num_attention_heads\", 8"},
    {"{\"head_dim\": 7}", LLM_ERR_INVALID,
     "config.json: a head has 7 dimensions; it must be an even number up to 1024"},
    {"{\"hidden_size\": 65536}", LLM_ERR_INVALID,
     "config.json: a head has 8192 dimensions; it must be an even number up to 1024"},
    {"{\"max_position_embeddings\": 1048577}", LLM_ERR_INVALID,
     "config.json: \"max_position_embeddings\" is 1048577; it must be 1..1048576"},
    {"{\"rms_norm_eps\": 0}", LLM_ERR_INVALID,
     "config.json: \"rms_norm_eps\" is 0; it must be 1e-12..0.1"},
    {"{\"rms_norm_eps\": \"1e-5\"}", LLM_ERR_INVALID,
     "config.json: \"rms_norm_eps\" is missing or not a number"},
    {"{\"rope_theta\": 0.5}", LLM_ERR_INVALID,
     "config.json: \"rope_theta\" is 0.5; it must be 1..1e+12"},
    {"{\"tie_word_embeddings\": 1}", LLM_ERR_INVALID,
     "config.json: \"tie_word_embeddings\" is neither true nor false"},
    {"{\"eos_token_id\": 512}", LLM_ERR_INVALID,
     "config.json: \"eos_token_id\" is not an id in 0..511"},
    {"{\"eos_token_id\": [2, \"x\"]}", LLM_ERR_INVALID,
     "config.json: \"eos_token_id\" is not an id in 0..511"},
    {"{\"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", LLM_ERR_LIMIT,
     "config.json: more than 16 ids in \"eos_token_id\""},
    {"{\"bos_token_id\": -1}", LLM_ERR_INVALID,
     "config.json: \"bos_token_id\" is not an id in 0..511"},
    {"{\"architectures\": \"REMOVE\"}", LLM_ERR_INVALID,
     "config.json: \"architectures\" is missing or not a list of names"},
    {"{\"architectures\": []}", LLM_ERR_INVALID,
     "config.json: \"architectures\" is missing or not a list of names"},
    {"{\"architectures\": [\"GPT2LMHeadModel\"]}", LLM_ERR_UNSUPPORTED,
     "config.json: architecture \"GPT2LMHeadModel\" is not supported; this build runs "
     "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM"},
    {"{\"architectures\": [\"Evil\\n\\u001b[2J\"]}", LLM_ERR_UNSUPPORTED,
     "config.json: architecture \"Evil??[2J\" is not supported; this build runs "
     "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM"},
    {"{\"attention_bias\": 1}", LLM_ERR_INVALID,
     "config.json: \"attention_bias\" is neither true nor false"},
    {MISTRAL ", \"attention_bias\": true}", LLM_ERR_UNSUPPORTED,
     "config.json: \"attention_bias\" is true; MistralForCausalLM has no such thing"},
    {MISTRAL ", \"mlp_bias\": true}", LLM_ERR_UNSUPPORTED,
     "config.json: \"mlp_bias\" is true; MistralForCausalLM has no such thing"},
    {QWEN2 ", \"mlp_bias\": true}", LLM_ERR_UNSUPPORTED,
     "config.json: \"mlp_bias\" is true; Qwen2ForCausalLM has no such thing"},
    {QWEN3 ", \"mlp_bias\": true}", LLM_ERR_UNSUPPORTED,
     "config.json: \"mlp_bias\" is true; Qwen3ForCausalLM has no such thing"},
    {MISTRAL ", \"sliding_window\": 0}", LLM_ERR_INVALID,
     "config.json: \"sliding_window\" is 0; it must be 1..1073741824"},
    {MISTRAL ", \"sliding_window\": true}", LLM_ERR_INVALID,
     "config.json: \"sliding_window\" is not an integer"},
    {MISTRAL ", \"layer_types\": [\"full_attention\"]}", LLM_ERR_UNSUPPORTED,
     "config.json has \"layer_types\"; the layers of MistralForCausalLM are all alike"},
    {QWEN2 ", \"use_sliding_window\": \"yes\"}", LLM_ERR_INVALID,
     "config.json: \"use_sliding_window\" is neither true nor false"},
    {QWEN2 ", \"use_sliding_window\": true, \"sliding_window\": -1}", LLM_ERR_INVALID,
     "config.json: \"sliding_window\" is -1; it must be 1..1073741824"},
    {QWEN2 ", \"use_sliding_window\": true, \"sliding_window\": 8}", LLM_ERR_INVALID,
     "config.json has no \"max_window_layers\""},
    {QWEN2 ", \"layer_types\": [\"full_attention\"]}", LLM_ERR_INVALID,
     "config.json: \"layer_types\" is not a list of 5 names, one per layer"},
    {QWEN3 ", \"num_hidden_layers\": 1, \"layer_types\": [\"linear_attention\"]}",
     LLM_ERR_UNSUPPORTED,
     "config.json: layer 0 is of the type \"linear_attention\" in \"layer_types\"; this build has "
     "full_attention and sliding_attention"},
    {QWEN3 ", \"num_hidden_layers\": 1, \"layer_types\": [\"sliding_attention\"]}", LLM_ERR_INVALID,
     "config.json: \"layer_types\" has sliding_attention, but there is no \"sliding_window\" with "
     "\"use_sliding_window\""},
    {QWEN3 ", \"num_hidden_layers\": 2, \"use_sliding_window\": true, \"sliding_window\": 8,"
           " \"layer_types\": [\"sliding_attention\", \"full_attention\"]}",
     LLM_ERR_UNSUPPORTED,
     "config.json: in \"layer_types\" layer 1 is full_attention after a layer that is not; this "
     "build wants all full layers first"},
    {"{\"rope_scaling\": 4}", LLM_ERR_INVALID, "config.json: \"rope_scaling\" is not an object"},
    {"{\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 8.0}}", LLM_ERR_UNSUPPORTED,
     "config.json: \"rope_scaling.rope_type\" is \"dynamic\"; this build has default, linear, "
     "llama3 and yarn"},
    {"{\"rope_scaling\": {\"type\": \"longrope\", \"factor\": 8.0}}", LLM_ERR_UNSUPPORTED,
     "config.json: \"rope_scaling.type\" is \"longrope\"; this build has default, linear, "
     "llama3 and yarn"},
    {"{\"rope_parameters\": {\"factor\": 8.0}}", LLM_ERR_INVALID,
     "config.json: \"rope_parameters.rope_type\" is missing or not a name"},
    {"{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}",
     LLM_ERR_UNSUPPORTED,
     "config.json: \"rope_parameters.full_attention\" is not a key that this build knows"},
    {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2},"
     " \"rope_parameters\": {\"type\": \"linear\", \"factor\": 3}}",
     LLM_ERR_INVALID,
     "config.json has both \"rope_scaling\" and \"rope_parameters\", and they differ"},
    {"{\"partial_rotary_factor\": 0.5}", LLM_ERR_UNSUPPORTED,
     "config.json: \"partial_rotary_factor\" is 0.5; this build turns whole heads"},
    {"{\"rope_parameters\": {\"partial_rotary_factor\": 0.25}}", LLM_ERR_UNSUPPORTED,
     "config.json: \"rope_parameters.partial_rotary_factor\" is 0.25; this build turns whole "
     "heads"},
    {"{\"rope_scaling\": {\"type\": \"linear\"}}", LLM_ERR_INVALID,
     "config.json: \"rope_scaling.factor\" is missing or not a number"},
    {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}}", LLM_ERR_INVALID,
     "config.json: \"rope_scaling.factor\" is 0.5; it must be 1..1.04858e+06"},
    {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0}}", LLM_ERR_INVALID,
     "config.json: \"rope_scaling.low_freq_factor\" is missing or not a number"},
    {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 4,"
     " \"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}}",
     LLM_ERR_INVALID,
     "config.json: \"rope_scaling.high_freq_factor\" is 4; it must be more than "
     "\"low_freq_factor\", 4"},
    {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1,"
     " \"high_freq_factor\": 4, \"original_max_position_embeddings\": 0}}",
     LLM_ERR_INVALID,
     "config.json: \"rope_scaling.original_max_position_embeddings\" is 0; it must be 1..1048576"},
    {"{\"rope_scaling\": {\"rope_type\": \"yarn\"}}", LLM_ERR_INVALID,
     "config.json: \"rope_scaling.factor\" is missing or not a number"},
    {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"beta_slow\": 0}}",
     LLM_ERR_INVALID, "config.json: \"rope_scaling.beta_slow\" is 0; it must be 1e-06..1e+06"},
    {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"truncate\": 1}}",
     LLM_ERR_INVALID, "config.json: \"rope_scaling.truncate\" is neither true nor false"},
    {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"attention_factor\": -1}}",
     LLM_ERR_INVALID,
     "config.json: \"rope_scaling.attention_factor\" is -1; it must be 0.001..1000"},
    {"{\"rope_theta\": 1, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}",
     LLM_ERR_INVALID, "config.json: \"rope_theta\" is 1; with \"yarn\" it must be more than 1"},
    {"{\"hidden_act\": \"gelu\"}", LLM_ERR_UNSUPPORTED,
     "config.json: \"hidden_act\" is \"gelu\", which is not supported"},
    {"{\"torch_dtype\": \"int8\"}", LLM_ERR_UNSUPPORTED,
     "config.json: \"torch_dtype\" is \"int8\", which is not supported"},
    {"{\"torch_dtype\": 5}", LLM_ERR_INVALID, "config.json: \"torch_dtype\" is not a string"},
    {"{\"quantization_config\": {\"bits\": 4}}", LLM_ERR_UNSUPPORTED,
     "config.json has a \"quantization_config\"; quantised weights are not supported"},
};
#define EDITS ((int)(sizeof edits / sizeof edits[0]))

START_TEST(each_bad_key_has_its_own_sentence)
{
    struct model_config c = {.hidden_size = 4242};
    struct llm_error error = {0};
    enum llm_status status = read_edited(edits[_i].edit, &c, &error);
    ck_assert_str_eq(error.message, edits[_i].sentence);
    ck_assert_int_eq(status, edits[_i].status);
    ck_assert_uint_eq(c.hidden_size, 4242); /* out-parameters survive a failure */
}
END_TEST

static const struct {
    const char *config;
    enum llm_status status;
} texts[] = {
    {NULL, LLM_ERR_NOT_FOUND},
    {"", LLM_ERR_INVALID},
    {"[]", LLM_ERR_INVALID},
    {"{\"hidden_size\": 1, \"hidden_size\": 2}", LLM_ERR_INVALID},
    {"{\"hidden_size\": 99999999999999999999}", LLM_ERR_INVALID},
    {"{} trailing", LLM_ERR_INVALID},
};

START_TEST(what_is_not_an_object_of_json_is_refused)
{
    struct model_config c;
    struct llm_error error = {0};
    ck_assert_int_eq(read_texts(texts[_i].config, NULL, &c, &error), texts[_i].status);
    ck_assert_ptr_nonnull(strstr(error.message, "config.json"));
}
END_TEST

START_TEST(a_bad_generation_config_is_named)
{
    struct model_config c;
    struct llm_error error;
    ck_assert_int_eq(read_texts(GOOD, "{\"eos_token_id\": 600}", &c, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message,
                     "generation_config.json: \"eos_token_id\" is not an id in 0..511");
    ck_assert_int_eq(read_texts(GOOD, "{", &c, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "generation_config.json"));
}
END_TEST

static void assert_possible(const struct model_config *c)
{
    ck_assert_uint_eq(c->head_count % c->kv_head_count, 0);
    ck_assert_uint_eq(c->head_dim % 2, 0);
    ck_assert(c->hidden_size >= 1 && c->hidden_size <= 1u << 17);
    ck_assert(c->layer_count >= 1 && c->layer_count <= 2048);
    ck_assert(c->vocab_size >= 1 && c->vocab_size <= 1u << 24);
    ck_assert_uint_le(c->eos_token_count, MODEL_EOS_IDS_MAX);
    for (uint32_t i = 0; i < c->eos_token_count; i++)
        ck_assert(c->eos_token_ids[i] >= 0 && (uint32_t)c->eos_token_ids[i] < c->vocab_size);
    ck_assert(isfinite(c->rope_theta) && isfinite(c->rms_norm_eps) && c->rms_norm_eps > 0);
    ck_assert(c->context_max_tokens >= 1 && c->context_max_tokens <= 1u << 20);
    if (c->rope.kind == MODEL_ROPE_YARN)
        ck_assert(c->rope.factor >= 1 && c->rope.original_context_tokens >= 1);
}

START_TEST(random_damage_gives_a_sentence_or_a_possible_model)
{
    const char *given = getenv("LLM_TEST_SEED");
    uint64_t state = given != NULL ? strtoull(given, NULL, 0) : 5;
    int accepted = 0;
    for (int round = 0; round < 3000; round++) {
        const char *good = round % 2 == 0 ? GOOD : GOOD_QWEN3;
        char text[sizeof GOOD + sizeof GOOD_QWEN3];
        strcpy(text, good);
        for (uint64_t i = tiny_random(&state) % 4; i < 4; i++)
            text[tiny_random(&state) % strlen(good)] =
                "0123456789eE.-+[]{}\":, tfn"[tiny_random(&state) % 27];
        struct model_config c;
        struct llm_error error = {0};
        if (read_texts(text, NULL, &c, &error) == LLM_OK) {
            assert_possible(&c);
            accepted++;
        } else {
            ck_assert_msg(strlen(error.message) > 10, "round %d: no sentence for %s", round, text);
        }
    }
    ck_assert_int_gt(accepted, 0);
}
END_TEST

START_TEST(a_huge_config_is_refused_unread)
{
    size_t bytes = ((size_t)1 << 20) + 1;
    char *spaces = malloc(bytes + 1);
    ck_assert_ptr_nonnull(spaces);
    memset(spaces, ' ', bytes);
    spaces[bytes] = '\0';
    struct model_config c;
    struct llm_error error;
    ck_assert_int_eq(read_texts(spaces, NULL, &c, &error), LLM_ERR_LIMIT);
    free(spaces);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/model_config");
    TCase *tc = tcase_create("config");
    tcase_add_test(tc, every_field_arrives);
    tcase_add_test(tc, absent_keys_have_their_usual_meaning);
    tcase_add_test(tc, rope_parameters_of_newer_files_are_read);
    tcase_add_test(tc, biases_and_norms_are_each_familys_own);
    tcase_add_test(tc, windows_are_read_as_each_family_has_them);
    tcase_add_test(tc, scaled_rotations_of_both_spellings_are_read);
    tcase_add_test(tc, what_yarn_leaves_out_is_derived);
    tcase_add_test(tc, ids_that_end_an_answer_come_from_both_files);
    tcase_add_loop_test(tc, each_bad_key_has_its_own_sentence, 0, EDITS);
    tcase_add_loop_test(tc, what_is_not_an_object_of_json_is_refused, 0,
                        (int)(sizeof texts / sizeof texts[0]));
    tcase_add_test(tc, a_bad_generation_config_is_named);
    tcase_add_test(tc, random_damage_gives_a_sentence_or_a_possible_model);
    tcase_add_test(tc, a_huge_config_is_refused_unread);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
