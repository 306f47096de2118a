/*
 * spm_file.h - tokenizer.model, SentencePiece's file, as pieces and settings.
 *
 * Idea     The file is one protocol-buffer message, ModelProto: the pieces in the order of their ids, what the
 *          trainer was told, and how text is normalised. A message is a list of (field, wire type, value); a
 *          field that occurs again counts anew, an unknown one is skipped. Only the few fields that decide
 *          about ids are kept.
 * Owner    Slices point into the file's bytes, which stay the caller's; spm_file_close() frees the rest.
 * Trust    The bytes are hostile: each length is checked against what is left of its message, numbers against
 *          their range, the pieces are counted before memory is taken for them.
 * See      https://protobuf.dev/programming-guides/encoding/,
 *          https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto;
 *          vocab_spm.c, tests/daemon/test_vocab_spm.c, tests/fuzz/fuzz_spm.c.
 */
#ifndef LLM_DAEMON_MODEL_SPM_FILE_H
#define LLM_DAEMON_MODEL_SPM_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/model/vocab_names.h"

#define SPM_FILE_BYTES_MAX ((size_t)256 << 20) /* real ones are 0.5..5 MB */

enum spm_piece_type { /* ModelProto.SentencePiece.Type; GGUF uses the same numbers */
    SPM_PIECE_NORMAL = 1,
    SPM_PIECE_UNKNOWN = 2,
    SPM_PIECE_CONTROL = 3,
    SPM_PIECE_USER_DEFINED = 4,
    SPM_PIECE_UNUSED = 5,
    SPM_PIECE_BYTE = 6,
};

enum spm_model_type { /* TrainerSpec.ModelType */
    SPM_MODEL_UNIGRAM = 1,
    SPM_MODEL_BPE = 2,
    SPM_MODEL_WORD = 3,
    SPM_MODEL_CHAR = 4,
};

struct spm_file {
    struct vocab_name *names; /* [piece_count], UTF-8 that has not been looked at */
    float *scores;            /* [piece_count] */
    uint8_t *types;           /* [piece_count], enum spm_piece_type */
    uint32_t piece_count;

    uint32_t model_type; /* enum spm_model_type */
    bool byte_fallback;
    bool space_as_suffix; /* treat_whitespace_as_suffix */
    struct vocab_name bos_piece, eos_piece;

    bool add_dummy_prefix;
    bool remove_extra_whitespaces;
    bool escape_whitespaces;
    struct vocab_name charsmap;        /* precompiled_charsmap, or empty */
    struct vocab_name decode_charsmap; /* denormalizer_spec's */
};

/*
 * Read a file's bytes.
 *
 *   name      as it should appear in a sentence: "tokenizer.model"
 *   returns   LLM_OK; *out_file borrows `bytes`
 *             LLM_ERR_INVALID  not such a message; the sentence names the part and the place
 *             LLM_ERR_LIMIT    more pieces than LLM_VOCAB_TOKENS_MAX, or longer ones than a token can be
 *             LLM_ERR_MEMORY
 */
LLM_MUST_CHECK enum llm_status spm_file_open(struct spm_file *out_file, const void *bytes,
                                             size_t byte_count, const char *name,
                                             struct llm_error *error);
/* Accepts a file that is closed or all zero. */
void spm_file_close(struct spm_file *file);

#endif
