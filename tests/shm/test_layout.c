/*
 * test_layout.c - the bytes that processes share are those that docs/PROTOCOL.md lists.
 * How: the document's tables are read line by line and compared with what the compiler says: every struct's size,
 * every field's offset and size (which must tile the struct), every number of every list. What the compiler knows
 * and the document does not is a failure, too.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/channel.h"
#include "shm/layout.h"
#include "shm/models.h"
#include "shm/status_file.h"
#include "shm/tables.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- What the compiler says ----------------------------------------------------------------------- */

#define S(name)                    \
    {                              \
#name, sizeof(struct name) \
    }
static const struct {
    const char *name;
    size_t bytes;
} structs[] = {
    S(llm_geometry),
    S(llm_ctl),
    S(llm_up_header),
    S(llm_submission),
    S(llm_request_body),
    S(llm_down_header),
    S(llm_stream_record),
    S(llm_keeper_request),
    S(llm_keeper_reply),
    S(llm_table_header),
    S(llm_conntab_record),
    S(llm_reqtab_record),
    S(llm_kvhdr_record),
    S(llm_ctxtab_record),
    S(llm_status_keeper),
    S(llm_status_engine),
    S(llm_status_connection),
    S(llm_status_usage),
    S(llm_status_request),
    S(llm_status_step),
    S(llm_status_error),
    S(llm_status_event),
    S(llm_status_file),
    S(channel_connection),
    S(channel_message),
    S(llm_context_body),
    S(llm_context_record),
    S(llm_probe_span),
    S(llm_block_view),
    S(llm_ledger_row),
    S(llm_ctx_version),
    S(llm_ctxrow_record),
    S(llm_steering),
    S(llm_bias),
    S(llm_top),
    S(llm_in_force),
    S(llm_steering_record),
    S(llm_models_image),
    S(llm_model_record),
    S(llm_model_alias),
    S(llm_status_model),
    S(channel_model),
    S(channel_names),
};

#define F(structure, field)                                    \
    {                                                          \
#structure, #field, offsetof(struct structure, field), \
            sizeof(((struct structure *)0)->field)             \
    }
static const struct {
    const char *structure, *field;
    size_t offset, bytes;
} fields[] = {
    F(llm_geometry, queue_entries),
    F(llm_geometry, event_entries),
    F(llm_geometry, stream_slots),
    F(llm_geometry, log_words),
    F(llm_geometry, arena_bytes),
    F(llm_geometry, reserved),
    F(llm_ctl, magic),
    F(llm_ctl, abi_major),
    F(llm_ctl, abi_minor),
    F(llm_ctl, keeper_pid),
    F(llm_ctl, boot_id),
    F(llm_ctl, reserved0),
    F(llm_ctl, engine_generation),
    F(llm_ctl, daemon_state),
    F(llm_ctl, reserved1),
    F(llm_ctl, ready_generation),
    F(llm_ctl, reserved2),
    F(llm_up_header, queue_tail),
    F(llm_up_header, sleepers),
    F(llm_up_header, bell_arms),
    F(llm_up_header, cancel_bell),
    F(llm_submission, stamp),
    F(llm_submission, operation),
    F(llm_submission, reserved0),
    F(llm_submission, reserved1),
    F(llm_submission, stream_slot),
    F(llm_submission, stream_epoch),
    F(llm_submission, log_offset),
    F(llm_submission, log_words),
    F(llm_submission, body_offset),
    F(llm_submission, body_bytes),
    F(llm_submission, reserved2),
    F(llm_submission, deadline_ns),
    F(llm_submission, argument),
    F(llm_submission, reserved3),
    F(llm_request_body, model),
    F(llm_request_body, prompt_tokens),
    F(llm_request_body, max_tokens),
    F(llm_request_body, temperature),
    F(llm_request_body, top_p),
    F(llm_request_body, min_p),
    F(llm_request_body, top_k),
    F(llm_request_body, seed),
    F(llm_request_body, flags),
    F(llm_request_body, stop_id_count),
    F(llm_request_body, stop_string_count),
    F(llm_request_body, stop_string_bytes),
    F(llm_request_body, branch),
    F(llm_request_body, score_from),
    F(llm_request_body, priority),
    F(llm_request_body, defaults),
    F(llm_steering, typical_p),
    F(llm_steering, repetition_penalty),
    F(llm_steering, presence_penalty),
    F(llm_steering, frequency_penalty),
    F(llm_steering, min_tokens),
    F(llm_steering, top_logprobs),
    F(llm_steering, bias_count),
    F(llm_steering, banned_id_count),
    F(llm_steering, allowed_id_count),
    F(llm_steering, reserved),
    F(llm_bias, token),
    F(llm_bias, bias),
    F(llm_top, token),
    F(llm_top, logprob),
    F(llm_in_force, temperature),
    F(llm_in_force, top_k),
    F(llm_in_force, top_p),
    F(llm_in_force, min_p),
    F(llm_in_force, typical_p),
    F(llm_in_force, repetition_penalty),
    F(llm_in_force, reserved),
    F(llm_steering_record, steering),
    F(llm_steering_record, biases),
    F(llm_steering_record, banned_ids),
    F(llm_steering_record, allowed_ids),
    F(llm_context_body, verb),
    F(llm_context_body, length),
    F(llm_context_body, id),
    F(llm_context_body, other),
    F(llm_context_body, count),
    F(llm_context_body, mode),
    F(llm_context_body, gid),
    F(llm_context_body, lease_ms),
    F(llm_context_body, name),
    F(llm_context_body, reserved),
    F(llm_context_record, id),
    F(llm_context_record, parent_id),
    F(llm_context_record, request_id),
    F(llm_context_record, slot),
    F(llm_context_record, length),
    F(llm_context_record, shared_tokens),
    F(llm_context_record, pinned_blocks),
    F(llm_context_record, uid),
    F(llm_context_record, gid),
    F(llm_context_record, mode),
    F(llm_context_record, flags),
    F(llm_context_record, lease_ms),
    F(llm_context_record, idle_ms),
    F(llm_context_record, block_tokens),
    F(llm_context_record, reserved0),
    F(llm_context_record, name),
    F(llm_context_record, model),
    F(llm_context_record, reserved),
    F(llm_probe_span, kind),
    F(llm_probe_span, from),
    F(llm_probe_span, to),
    F(llm_probe_span, cached_token),
    F(llm_probe_span, domain),
    F(llm_probe_span, context_id),
    F(llm_block_view, block),
    F(llm_block_view, state),
    F(llm_block_view, model),
    F(llm_block_view, tokens),
    F(llm_block_view, references),
    F(llm_block_view, parent),
    F(llm_block_view, depth),
    F(llm_block_view, reserved),
    F(llm_block_view, domain),
    F(llm_ledger_row, part),
    F(llm_ledger_row, state),
    F(llm_ledger_row, owner),
    F(llm_ledger_row, bytes),
    F(llm_ledger_row, pinned_bytes),
    F(llm_ledger_row, name),
    F(llm_down_header, queue_head),
    F(llm_down_header, engine_asleep),
    F(llm_down_header, event_tail),
    F(llm_down_header, event_word),
    F(llm_stream_record, commit),
    F(llm_stream_record, status),
    F(llm_stream_record, finish),
    F(llm_stream_record, prompt_tokens),
    F(llm_stream_record, cached_tokens),
    F(llm_stream_record, seed),
    F(llm_stream_record, request_id),
    F(llm_stream_record, admitted_ns),
    F(llm_stream_record, first_token_us),
    F(llm_stream_record, last_token_us),
    F(llm_stream_record, engine_generation),
    F(llm_stream_record, reserved),
    F(llm_keeper_request, magic),
    F(llm_keeper_request, abi_major),
    F(llm_keeper_request, abi_minor),
    F(llm_keeper_request, verb),
    F(llm_keeper_request, reserved0),
    F(llm_keeper_request, name),
    F(llm_keeper_request, argument),
    F(llm_keeper_reply, magic),
    F(llm_keeper_reply, abi_major),
    F(llm_keeper_reply, abi_minor),
    F(llm_keeper_reply, status),
    F(llm_keeper_reply, descriptor_count),
    F(llm_keeper_reply, boot_id),
    F(llm_keeper_reply, connection_id),
    F(llm_keeper_reply, memory_bytes),
    F(llm_keeper_reply, geometry),
    F(llm_keeper_reply, status_name),
    F(llm_keeper_reply, message),
    F(llm_keeper_reply, model_id),
    F(llm_keeper_reply, names_number),
    F(llm_keeper_reply, reserved),
    F(llm_table_header, magic),
    F(llm_table_header, abi_major),
    F(llm_table_header, record_bytes),
    F(llm_table_header, record_count),
    F(llm_table_header, layout_check),
    F(llm_table_header, complete),
    F(llm_conntab_record, word),
    F(llm_conntab_record, connection_id),
    F(llm_conntab_record, queue_head),
    F(llm_conntab_record, reserved),
    F(llm_reqtab_record, word),
    F(llm_reqtab_record, published),
    F(llm_reqtab_record, deaths),
    F(llm_reqtab_record, request_id),
    F(llm_reqtab_record, connection_id),
    F(llm_reqtab_record, queue_position),
    F(llm_reqtab_record, connection_slot),
    F(llm_reqtab_record, stream_slot),
    F(llm_reqtab_record, stream_epoch),
    F(llm_reqtab_record, log_offset),
    F(llm_reqtab_record, log_words),
    F(llm_reqtab_record, status),
    F(llm_reqtab_record, finish),
    F(llm_reqtab_record, cached_tokens),
    F(llm_reqtab_record, admitted_ns),
    F(llm_reqtab_record, deadline_ns),
    F(llm_reqtab_record, first_token_us),
    F(llm_reqtab_record, last_token_us),
    F(llm_reqtab_record, uid),
    F(llm_reqtab_record, gid),
    F(llm_reqtab_record, context_id),
    F(llm_reqtab_record, leader_id),
    F(llm_reqtab_record, model_id),
    F(llm_reqtab_record, body),
    F(llm_reqtab_record, stop_ids),
    F(llm_reqtab_record, stop_string_length),
    F(llm_reqtab_record, stop_strings),
    F(llm_reqtab_record, note),
    F(llm_reqtab_record, reserved1),
    F(llm_kvhdr_record, word),
    F(llm_kvhdr_record, chain),
    F(llm_kvhdr_record, parent),
    F(llm_kvhdr_record, tokens),
    F(llm_kvhdr_record, depth),
    F(llm_kvhdr_record, domain),
    F(llm_kvhdr_record, model),
    F(llm_kvhdr_record, data_check),
    F(llm_kvhdr_record, header_check),
    F(llm_ctxtab_record, word),
    F(llm_ctxtab_record, reserved),
    F(llm_ctxtab_record, versions),
    F(llm_ctx_version, context_id),
    F(llm_ctx_version, parent_id),
    F(llm_ctx_version, request_id),
    F(llm_ctx_version, connection_id),
    F(llm_ctx_version, lease_until_ns),
    F(llm_ctx_version, used_ns),
    F(llm_ctx_version, by_connection_id),
    F(llm_ctx_version, by_position),
    F(llm_ctx_version, row),
    F(llm_ctx_version, length),
    F(llm_ctx_version, uid),
    F(llm_ctx_version, gid),
    F(llm_ctx_version, mode),
    F(llm_ctx_version, pinned_tokens),
    F(llm_ctx_version, model),
    F(llm_ctx_version, model_check),
    F(llm_ctx_version, name),
    F(llm_ctx_version, share_domains),
    F(llm_ctx_version, share_tokens),
    F(llm_ctxrow_record, word),
    F(llm_ctxrow_record, parent),
    F(llm_ctxrow_record, start),
    F(llm_ctxrow_record, end),
    F(llm_ctxrow_record, uid),
    F(llm_ctxrow_record, reserved),
    F(llm_status_keeper, magic),
    F(llm_status_keeper, abi_major),
    F(llm_status_keeper, file_bytes),
    F(llm_status_keeper, boot_id),
    F(llm_status_keeper, keeper_pid),
    F(llm_status_keeper, keeper_uid),
    F(llm_status_keeper, started_ns),
    F(llm_status_keeper, started_wall_ns),
    F(llm_status_keeper, version),
    F(llm_status_keeper, socket_path),
    F(llm_status_keeper, geometry),
    F(llm_status_keeper, engine_pid),
    F(llm_status_keeper, daemon_state),
    F(llm_status_keeper, engine_generation),
    F(llm_status_keeper, engine_died_ns),
    F(llm_status_keeper, descriptors_held),
    F(llm_status_keeper, descriptors_baseline),
    F(llm_status_keeper, connections_open),
    F(llm_status_keeper, reserved),
    F(llm_status_engine, ready_generation),
    F(llm_status_engine, heartbeat_ns),
    F(llm_status_engine, model_name),
    F(llm_status_engine, model_text),
    F(llm_status_engine, backend_text),
    F(llm_status_engine, block_tokens),
    F(llm_status_engine, block_bytes),
    F(llm_status_engine, blocks_total),
    F(llm_status_engine, blocks_held),
    F(llm_status_engine, blocks_cached),
    F(llm_status_engine, blocks_free),
    F(llm_status_engine, requests_running),
    F(llm_status_engine, requests_queued),
    F(llm_status_engine, weights_bytes),
    F(llm_status_engine, workspace_bytes),
    F(llm_status_engine, recovery_ns),
    F(llm_status_engine, names_settled),
    F(llm_status_engine, counters),
    F(llm_status_connection, connection_id),
    F(llm_status_connection, pid),
    F(llm_status_connection, uid),
    F(llm_status_connection, gid),
    F(llm_status_connection, reserved),
    F(llm_status_connection, attached_ns),
    F(llm_status_connection, name),
    F(llm_status_usage, streams_live),
    F(llm_status_usage, reserved),
    F(llm_status_usage, requests),
    F(llm_status_usage, tokens_in),
    F(llm_status_usage, tokens_out),
    F(llm_status_request, request_id),
    F(llm_status_request, connection_slot),
    F(llm_status_request, phase),
    F(llm_status_request, prompt_tokens),
    F(llm_status_request, cached_tokens),
    F(llm_status_request, produced_tokens),
    F(llm_status_request, max_tokens),
    F(llm_status_request, blocks),
    F(llm_status_request, deaths),
    F(llm_status_request, admitted_ns),
    F(llm_status_step, step),
    F(llm_status_step, started_ns),
    F(llm_status_step, duration_us),
    F(llm_status_step, prefill_tokens),
    F(llm_status_step, decode_tokens),
    F(llm_status_step, sequences),
    F(llm_status_step, blocks_held),
    F(llm_status_step, blocks_cached),
    F(llm_status_step, requests_queued),
    F(llm_status_step, engine_generation),
    F(llm_status_event, number),
    F(llm_status_event, at_ns),
    F(llm_status_event, request_id),
    F(llm_status_event, kind),
    F(llm_status_event, value),
    F(llm_status_error, count),
    F(llm_status_error, first_ns),
    F(llm_status_error, last_ns),
    F(llm_status_error, text),
    F(llm_status_file, keeper),
    F(llm_status_file, engine),
    F(llm_status_file, connections),
    F(llm_status_file, usage),
    F(llm_status_file, requests),
    F(llm_status_file, steps),
    F(llm_status_file, keeper_errors),
    F(llm_status_file, engine_errors),
    F(llm_status_file, events),
    F(llm_status_file, models),
    F(channel_connection, id),
    F(channel_connection, slot),
    F(channel_connection, pid),
    F(channel_connection, uid),
    F(channel_connection, gid),
    F(channel_connection, administrator),
    F(channel_connection, group_count),
    F(channel_connection, geometry),
    F(channel_connection, groups),
    F(llm_models_image, magic),
    F(llm_models_image, model_count),
    F(llm_models_image, alias_count),
    F(llm_models_image, names_number),
    F(llm_models_image, names_settled),
    F(llm_models_image, models),
    F(llm_models_image, aliases),
    F(llm_models_image, reserved),
    F(llm_model_record, id),
    F(llm_model_record, slot),
    F(llm_model_record, version),
    F(llm_model_record, state),
    F(llm_model_record, flags),
    F(llm_model_record, context_tokens),
    F(llm_model_record, requests_live),
    F(llm_model_record, requests),
    F(llm_model_record, weights_bytes),
    F(llm_model_record, loaded_bytes),
    F(llm_model_record, workspace_bytes),
    F(llm_model_record, load_ns),
    F(llm_model_record, idle_ns),
    F(llm_model_record, name),
    F(llm_model_record, text),
    F(llm_model_record, path),
    F(llm_model_record, reason),
    F(llm_model_record, reserved),
    F(llm_model_alias, name),
    F(llm_model_alias, model_id),
    F(llm_status_model, model_id),
    F(llm_status_model, state),
    F(llm_status_model, version),
    F(llm_status_model, name),
    F(llm_status_model, counted_id),
    F(llm_status_model, context_tokens),
    F(llm_status_model, requests_live),
    F(llm_status_model, requests),
    F(llm_status_model, weights_bytes),
    F(llm_status_model, workspace_bytes),
    F(llm_status_model, used_ns),
    F(llm_status_model, text),
    F(channel_model, id),
    F(channel_model, slot),
    F(channel_model, version),
    F(channel_model, flags),
    F(channel_model, reserved),
    F(channel_names, number),
    F(channel_names, default_id),
    F(channel_names, draining_slots),
    F(channel_names, alias_count),
    F(channel_names, aliases),
    F(channel_message, magic),
    F(channel_message, kind),
    F(channel_message, ticket),
    F(channel_message, bytes),
    F(channel_message, generation),
    F(channel_message, flags),
    F(channel_message, status),
    F(channel_message, connection),
    F(channel_message, name),
    F(channel_message, path),
    F(channel_message, text),
    F(channel_message, model),
    F(channel_message, names),
};

#define N(name)                 \
    {                           \
#name, (uint64_t)(name) \
    }
static const struct {
    const char *name;
    uint64_t number;
} numbers[] = {
    N(LLM_MODEL_FREE),
    N(LLM_MODEL_LOADING),
    N(LLM_MODEL_LOADED),
    N(LLM_MODEL_READY),
    N(LLM_MODEL_DRAINING),
    N(LLM_MODEL_FAILED),
    N(LLM_VERB_ATTACH),
    N(LLM_VERB_MEMORY),
    N(LLM_VERB_STOP),
    N(LLM_VERB_RESTART_ENGINE),
    N(LLM_VERB_DRAIN),
    N(LLM_VERB_DRAIN_STOP),
    N(LLM_VERB_RESUME),
    N(LLM_VERB_MODEL_LOAD),
    N(LLM_VERB_MODEL_UNLOAD),
    N(LLM_VERB_MODEL_ALIAS),
    N(LLM_VERB_MODEL_DEFAULT),
    N(LLM_FD_CTL),
    N(LLM_FD_UP),
    N(LLM_FD_DOWN),
    N(LLM_FD_TO_ENGINE),
    N(LLM_FD_TO_CLIENT),
    N(LLM_DAEMON_STARTING),
    N(LLM_DAEMON_RUNNING),
    N(LLM_DAEMON_RECOVERING),
    N(LLM_DAEMON_STOPPING),
    N(LLM_DAEMON_FAILED),
    N(LLM_DAEMON_DRAINING),
    N(LLM_DAEMON_DRAINED),
    N(LLM_OP_NOP),
    N(LLM_OP_GENERATE),
    N(LLM_OP_CANCEL),
    N(LLM_OP_CHECK),
    N(LLM_OP_CONTEXT),
    N(LLM_REQUEST_HAS_SEED),
    N(LLM_REQUEST_LOGPROBS),
    N(LLM_REQUEST_STEERED),
    N(LLM_REQUEST_DEFAULT_TEMPERATURE),
    N(LLM_REQUEST_DEFAULT_TOP_K),
    N(LLM_REQUEST_DEFAULT_TOP_P),
    N(LLM_REQUEST_DEFAULT_MIN_P),
    N(LLM_REQUEST_DEFAULT_TYPICAL_P),
    N(LLM_REQUEST_DEFAULT_REPETITION),
    N(LLM_REQUEST_IGNORE_EOS),
    N(LLM_REQUEST_ON_CONTEXT),
    N(LLM_REQUEST_BRANCH),
    N(LLM_REQUEST_SCORE),
    N(LLM_REQUEST_COMPUTE),
    N(LLM_REQUEST_PIN),
    N(LLM_PRIORITY_NORMAL),
    N(LLM_PRIORITY_INTERACTIVE),
    N(LLM_PRIORITY_BATCH),
    N(LLM_CONTEXT_CREATE),
    N(LLM_CONTEXT_OPEN),
    N(LLM_CONTEXT_FORK),
    N(LLM_CONTEXT_APPEND),
    N(LLM_CONTEXT_REWIND),
    N(LLM_CONTEXT_KEEP),
    N(LLM_CONTEXT_PUBLISH),
    N(LLM_CONTEXT_MODE),
    N(LLM_CONTEXT_UNPIN),
    N(LLM_CONTEXT_LEASE),
    N(LLM_CONTEXT_ADOPT),
    N(LLM_CONTEXT_CLOSE),
    N(LLM_CONTEXT_REMOVE),
    N(LLM_CONTEXT_READ),
    N(LLM_CONTEXT_LIST),
    N(LLM_CONTEXT_FOLLOW),
    N(LLM_CONTEXT_PROBE),
    N(LLM_CONTEXT_BLOCKS),
    N(LLM_CONTEXT_LEDGER),
    N(LLM_CONTEXT_NAMED),
    N(LLM_CONTEXT_PINNED),
    N(LLM_CONTEXT_LEASED),
    N(LLM_CONTEXT_GENERATING),
    N(LLM_CONTEXT_WRITABLE),
    N(LLM_PROBE_HIT),
    N(LLM_PROBE_COPY),
    N(LLM_PROBE_BEING_MADE),
    N(LLM_PROBE_MISS),
    N(LLM_PROBE_FOREIGN),
    N(LLM_LEDGER_WEIGHTS),
    N(LLM_LEDGER_WORKSPACE),
    N(LLM_LEDGER_POOL),
    N(LLM_LEDGER_TABLES),
    N(LLM_LEDGER_CLIENTS),
    N(LLM_DOMAIN_PRIVATE),
    N(LLM_DOMAIN_GROUP),
    N(LLM_DOMAIN_PUBLIC),
    N(LLM_FINISH_NONE),
    N(LLM_FINISH_STOP_ID),
    N(LLM_FINISH_STOP_STRING),
    N(LLM_FINISH_LENGTH),
    N(LLM_FINISH_CONTEXT),
    N(LLM_FINISH_CANCELLED),
    N(LLM_FINISH_FAILED),
    N(LLM_FINISH_ANSWERED),
    N(LLM_CONN_FREE),
    N(LLM_CONN_ATTACHED),
    N(LLM_REQ_FREE),
    N(LLM_REQ_LIVE),
    N(LLM_REQ_ANSWERED),
    N(LLM_BLOCK_FREE),
    N(LLM_BLOCK_WRITING),
    N(LLM_BLOCK_SEALED),
    N(LLM_BLOCK_SPILLING),
    N(LLM_BLOCK_QUARANTINED),
    N(LLM_CTX_FREE),
    N(LLM_CTX_LIVE),
    N(LLM_CTXROW_FREE),
    N(LLM_CTXROW_LIVE),
    N(LLM_COUNTER_REQUESTS_ADMITTED),
    N(LLM_COUNTER_REQUESTS_SERVED),
    N(LLM_COUNTER_REQUESTS_CANCELLED),
    N(LLM_COUNTER_REQUESTS_FAILED),
    N(LLM_COUNTER_REQUESTS_REFUSED),
    N(LLM_COUNTER_TOKENS_IN),
    N(LLM_COUNTER_TOKENS_CACHED),
    N(LLM_COUNTER_TOKENS_COMPUTED),
    N(LLM_COUNTER_TOKENS_OUT),
    N(LLM_COUNTER_STEPS),
    N(LLM_COUNTER_PREEMPTIONS),
    N(LLM_COUNTER_EVICTIONS),
    N(LLM_COUNTER_WAKES),
    N(LLM_COUNTER_PARKS),
    N(LLM_COUNTER_CLIENTS_DETACHED),
    N(LLM_COUNTER_DOORBELLS_MUTED),
    N(LLM_EVENT_ADMITTED),
    N(LLM_EVENT_STARTED),
    N(LLM_EVENT_FIRST_TOKEN),
    N(LLM_EVENT_PREEMPTED),
    N(LLM_EVENT_FINISHED),
    N(LLM_EVENT_RECOVERED),
    N(CHANNEL_KEPT),
    N(CHANNEL_ATTACH),
    N(CHANNEL_DETACH),
    N(CHANNEL_SERVE),
    N(CHANNEL_ANSWER),
    N(CHANNEL_STOP),
    N(CHANNEL_DRAIN),
    N(CHANNEL_RESUME),
    N(CHANNEL_BEAT),
    N(CHANNEL_MODEL),
    N(CHANNEL_NAMES),
    N(CHANNEL_ALLOC),
    N(CHANNEL_OPEN),
    N(CHANNEL_DEPOSIT),
    N(CHANNEL_DROP),
    N(CHANNEL_DETACHED),
    N(CHANNEL_BAD_CLIENT),
    N(CHANNEL_READY),
    N(CHANNEL_FAILED),
    N(CHANNEL_DRAINED),
    N(CHANNEL_MODEL_IDLE),
    N(CHANNEL_MODEL_FAILED),
    N(LLM_OK),
    N(LLM_ERR_INVALID),
    N(LLM_ERR_NOT_FOUND),
    N(LLM_ERR_PERMISSION),
    N(LLM_ERR_BUSY),
    N(LLM_ERR_LIMIT),
    N(LLM_ERR_TIMEOUT),
    N(LLM_ERR_CANCELLED),
    N(LLM_ERR_PEER),
    N(LLM_ERR_FORKED),
    N(LLM_ERR_SYSTEM),
    N(LLM_ERR_MEMORY),
    N(LLM_ERR_UNSUPPORTED),
    N(LLM_ERR_VERSION),
    N(LLM_ERR_CORRUPT),
    N(LLM_ERR_POISON),
    N(LLM_ERR_EXISTS),
    N(LLM_ABI_MAJOR),
    N(LLM_ABI_MINOR),
    N(LLM_CONTEXT_NAME_BYTES),
    N(LLM_CONTEXT_RECORD_WORDS),
    N(LLM_ROW_NONE),
    N(LLM_CTL_MAGIC),
    N(LLM_MESSAGE_MAGIC),
    N(LLM_TABLE_MAGIC),
    N(LLM_STATUS_MAGIC),
    N(LLM_MODELS_MAGIC),
    N(CHANNEL_MAGIC),
};

/* The lists above are whole: these fail when one of them grew. */
static_assert(LLM_VERB_COUNT == LLM_VERB_MODEL_DEFAULT + 1, "list the new verb");
static_assert(LLM_ATTACH_FDS == LLM_FD_TO_CLIENT + 1, "list the new descriptor");
static_assert(LLM_OP_COUNT == LLM_OP_CONTEXT + 1, "list the new operation");
static_assert(LLM_CONTEXT_VERB_COUNT == LLM_CONTEXT_LEDGER + 1, "list the new context verb");
static_assert(LLM_PRIORITY_COUNT == LLM_PRIORITY_BATCH + 1, "list the new priority");
static_assert(LLM_STATUS_COUNT == LLM_ERR_EXISTS + 1, "list the new status");
static_assert(LLM_COUNTER_COUNT == LLM_COUNTER_DOORBELLS_MUTED + 1, "list the new counter");
static_assert(LLM_REQUEST_FLAGS_KNOWN ==
                  (LLM_REQUEST_HAS_SEED | LLM_REQUEST_LOGPROBS | LLM_REQUEST_IGNORE_EOS |
                   LLM_REQUEST_ON_CONTEXT | LLM_REQUEST_BRANCH | LLM_REQUEST_SCORE |
                   LLM_REQUEST_COMPUTE | LLM_REQUEST_PIN | LLM_REQUEST_STEERED),
              "list the new flag");

/* ---- What the document says ----------------------------------------------------------------------- */

static unsigned char struct_seen[COUNT(structs)], field_seen[COUNT(fields)],
    number_seen[COUNT(numbers)];
static char current[64]; /* the struct whose table is being read; "" between tables */
static size_t current_bytes, tiled;
static int line_number;

static void end_struct(void)
{
    ck_assert_msg(!current[0] || tiled == current_bytes,
                  "line %d: the fields of %s end at %zu of %zu", line_number, current, tiled,
                  current_bytes);
    current[0] = '\0';
}

static void begin_struct(const char *name, size_t bytes)
{
    for (size_t i = 0; i < COUNT(structs); i++) {
        if (strcmp(structs[i].name, name) != 0)
            continue;
        ck_assert_msg(structs[i].bytes == bytes, "line %d: %s has %zu bytes, not %zu", line_number,
                      name, structs[i].bytes, bytes);
        ck_assert_msg(struct_seen[i]++ == 0, "line %d: %s a second time", line_number, name);
        snprintf(current, sizeof current, "%s", name);
        current_bytes = bytes;
        tiled = 0;
        return;
    }
    ck_abort_msg("line %d: there is no struct %s", line_number, name);
}

static void check_field(size_t offset, size_t bytes, const char *name)
{
    ck_assert_msg(offset == tiled, "line %d: %s of %s is at %zu, but %zu follows", line_number,
                  name, current, offset, tiled);
    tiled += bytes;
    for (size_t i = 0; i < COUNT(fields); i++) {
        if (strcmp(fields[i].structure, current) != 0)
            continue;
        bool same = strcmp(fields[i].field, name) == 0;
        bool overlaps =
            fields[i].offset < offset + bytes && offset < fields[i].offset + fields[i].bytes;
        ck_assert_msg(same == overlaps, "line %d: %zu bytes at %zu of %s are not \"%s\" but \"%s\"",
                      line_number, bytes, offset, current, name, fields[i].field);
        if (!same)
            continue;
        ck_assert_msg(fields[i].offset == offset && fields[i].bytes == bytes,
                      "line %d: %s.%s is %zu bytes at %zu", line_number, current, name,
                      fields[i].bytes, fields[i].offset);
        field_seen[i]++;
    }
}

static void check_number(uint64_t number, const char *name)
{
    for (size_t i = 0; i < COUNT(numbers); i++) {
        if (strcmp(numbers[i].name, name) != 0)
            continue;
        ck_assert_msg(numbers[i].number == number, "line %d: %s is %#lx", line_number, name,
                      numbers[i].number);
        number_seen[i]++;
        return;
    }
    ck_abort_msg("line %d: there is no number %s", line_number, name);
}

static void read_line(const char *line)
{
    char name[64], number[32];
    size_t offset, bytes;
    line_number++;
    if (line[0] == '#')
        end_struct();
    if (sscanf(line, "### `struct %63[a-z_]`: %zu bytes", name, &bytes) == 2)
        begin_struct(name, bytes);
    else if (current[0] &&
             sscanf(line, "| %zu | %zu | `%63[a-z0-9_]` |", &offset, &bytes, name) == 3)
        check_field(offset, bytes, name);
    else if (current[0] &&
             sscanf(line, "| %zu | %zu | - | %7[nothing]", &offset, &bytes, name) == 3)
        check_field(offset, bytes, "nothing");
    else if (sscanf(line, "| %31[0-9a-fx] | `%63[A-Z_]` |", number, name) == 2)
        check_number(strtoull(number, NULL, 0), name);
}

START_TEST(the_document_and_the_compiler_agree)
{
    FILE *document = fopen(LLM_SOURCE_DIR "/docs/PROTOCOL.md", "r");
    ck_assert_ptr_nonnull(document);
    char line[1024];
    while (fgets(line, sizeof line, document))
        read_line(line);
    fclose(document);
    end_struct();
    for (size_t i = 0; i < COUNT(structs); i++)
        ck_assert_msg(struct_seen[i] == 1, "struct %s is not documented", structs[i].name);
    for (size_t i = 0; i < COUNT(fields); i++)
        ck_assert_msg(field_seen[i] == 1, "%s.%s is documented %d times", fields[i].structure,
                      fields[i].field, field_seen[i]);
    for (size_t i = 0; i < COUNT(numbers); i++)
        ck_assert_msg(number_seen[i] == 1, "%s is documented %d times", numbers[i].name,
                      number_seen[i]);
}
END_TEST

/* ---- What follows from a geometry ----------------------------------------------------------------- */

START_TEST(geometries_at_their_limits_are_valid_and_beyond_them_are_not)
{
    static const struct {
        struct llm_geometry geometry;
        bool valid;
    } rows[] = {
        {{8, 8, 1, 1024, 4096, 0}, true},
        {{4096, 65536, 4096, 1u << 28, 1u << 30, 0}, true},
        {{256, 1024, 64, 1000003, 1u << 20, 0}, true},
        {{4, 8, 1, 1024, 4096, 0}, false},
        {{8192, 8, 1, 1024, 4096, 0}, false},
        {{9, 8, 1, 1024, 4096, 0}, false},
        {{0, 8, 1, 1024, 4096, 0}, false},
        {{8, 12, 1, 1024, 4096, 0}, false},
        {{8, 131072, 1, 1024, 4096, 0}, false},
        {{8, 8, 0, 1024, 4096, 0}, false},
        {{8, 8, 4097, 1024, 4096, 0}, false},
        {{8, 8, 1, 1023, 4096, 0}, false},
        {{8, 8, 1, (1u << 28) + 1, 4096, 0}, false},
        {{8, 8, 1, 1024, 0, 0}, false},
        {{8, 8, 1, 1024, 4097, 0}, false},
        {{8, 8, 1, 1024, (1u << 30) + 4096, 0}, false},
        {{8, 8, 1, 1024, 4096, 1}, false},
        {{UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0}, false},
    };
    ck_assert_int_eq(llm_geometry_valid(&rows[_i].geometry), rows[_i].valid);
}
END_TEST

START_TEST(the_parts_of_a_memory_follow_each_other_without_touching)
{
    static const struct llm_geometry rows[] = {
        {8, 8, 1, 1024, 4096, 0},
        {4096, 65536, 4096, 1u << 28, 1u << 30, 0},
        {256, 1024, 63, 1000003, 1u << 20, 0},
    };
    const struct llm_geometry *g = &rows[_i];
    struct llm_up_map up = llm_up_map(g);
    ck_assert_uint_eq(up.queue_offset, LLM_PAGE_BYTES);
    ck_assert_uint_eq(up.cancel_offset, up.queue_offset + (size_t)g->queue_entries * 64);
    ck_assert_uint_ge(up.arena_offset, up.cancel_offset + (size_t)g->stream_slots * 4);
    ck_assert_uint_eq(up.arena_offset % LLM_PAGE_BYTES, 0);
    ck_assert_uint_eq(up.total_bytes, up.arena_offset + g->arena_bytes);
    struct llm_down_map down = llm_down_map(g);
    ck_assert_uint_eq(down.stream_offset, LLM_PAGE_BYTES);
    ck_assert_uint_eq(down.note_offset, down.stream_offset + (size_t)g->stream_slots * 64);
    ck_assert_uint_ge(down.event_offset, down.note_offset + (size_t)g->stream_slots * 192);
    ck_assert_uint_eq(down.event_offset % 64, 0);
    ck_assert_uint_ge(down.log_offset, down.event_offset + (size_t)g->event_entries * 8);
    ck_assert_uint_eq(down.log_offset % LLM_PAGE_BYTES, 0);
    ck_assert_uint_ge(down.total_bytes, down.log_offset + (size_t)g->log_words * 4);
    ck_assert_uint_eq(down.total_bytes % LLM_PAGE_BYTES, 0);
}
END_TEST

START_TEST(a_commit_word_unpacks_to_what_was_packed)
{
    static const struct {
        uint32_t epoch, count;
        bool done;
    } rows[] = {{0, 0, false},
                {1, 0, true},
                {UINT32_MAX, LLM_COMMIT_COUNT_MAX, true},
                {UINT32_MAX, LLM_COMMIT_COUNT_MAX, false},
                {7, 4096, false}};
    uint64_t word = llm_commit_pack(rows[_i].epoch, rows[_i].done, rows[_i].count);
    ck_assert_uint_eq(llm_commit_epoch(word), rows[_i].epoch);
    ck_assert_uint_eq(llm_commit_count(word), rows[_i].count);
    ck_assert_int_eq(llm_commit_done(word), rows[_i].done);
    uint64_t table_word = llm_word_pack(rows[_i].epoch, 3);
    ck_assert_uint_eq(llm_word_generation(table_word), rows[_i].epoch);
    ck_assert_uint_eq(llm_word_state(table_word), 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/layout");
    TCase *tc = tcase_create("layout");
    tcase_add_test(tc, the_document_and_the_compiler_agree);
    tcase_add_loop_test(tc, geometries_at_their_limits_are_valid_and_beyond_them_are_not, 0, 18);
    tcase_add_loop_test(tc, the_parts_of_a_memory_follow_each_other_without_touching, 0, 3);
    tcase_add_loop_test(tc, a_commit_word_unpacks_to_what_was_packed, 0, 5);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
