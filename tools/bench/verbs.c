/* The table of llm-bench's verbs. */
#include "tools/bench/bench.h"

const struct bench_verb bench_verbs[] = {
    {"ipc",
     "hand-overs between client and engine, beside bare ones",
     ipc_options,
     {.rounds = 5, .seconds = 0.1, .rest_us = 100},
     bench_ipc},
    {"throughput",
     "tokens, processor time and fairness with many clients",
     throughput_options,
     {.rounds = 5, .seconds = 1, .clients = 1, .streams = 64, .tokens = 2048, .prompt = 1},
     bench_throughput},
    {"connections",
     "attaching, memory and processor time of silent clients",
     connections_options,
     {.rounds = 3, .seconds = 10, .clients = 1024},
     bench_connections},
    {"ops",
     "the kernels' GB/s and GFLOP/s beside the machine's ceilings",
     ops_options,
     {.rounds = 3, .seconds = 0.05},
     bench_ops},
    {NULL, NULL, NULL, {0}, NULL},
};
