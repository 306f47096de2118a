/*
 * sim.c - llm-bench sim: request traces on machines that are not there.
 *
 * Idea     The simulator is llmd-sim (daemon/sim), a program of its own: the tools see nothing of the daemon's inside. It
 *          is run with the verb's options and its CSV becomes the report. A line that begins with its name is the
 *          sentence why it failed.
 * Figures  They are a counted clock's and say nothing of this machine; columns: daemon/sim/README.md.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/check.h"
#include "tools/bench/bench.h"
#include "tools/bench/machine.h"
#include "tools/bench/report.h"

#define FIELD(name)   offsetof(struct bench_options, name)
#define ARGUMENTS_MAX (2 * SIM_OPTIONS + 8)
#define LINE_BYTES    1024

/* Texts are the simulator's to understand. */
#define PASSED(i, name, value, sentence)                        \
    {                                                           \
        name, value, OPTION_TEXT, FIELD(sim[i]), 0, 0, sentence \
    }
const struct option_row sim_options[] = {
    PASSED(0, "trace", "FILE", "who asks what, and when: Mooncake's .jsonl, Azure's .csv"),
    PASSED(1, "requests", "N", "only its first N requests"),
    PASSED(2, "pools", "N,N", "with so many KV blocks, in turns; 0: more than are ever used"),
    PASSED(3, "block-tokens", "N", "rows of a block; default 512, with prompt_ids 16"),
    PASSED(4, "device", "NAME", "h200 or cpu"),
    PASSED(5, "shape", "NAME", "the model: 8b, 1b or 260k"),
    PASSED(6, "step-tokens", "N", "rows in one step; default 8192"),
    PASSED(7, "running", "N", "requests in one step; default 256"),
    PASSED(8, "user-running", "N", "of those by one user; default eight in nine"),
    PASSED(9, "slots", "N", "requests that the engine knows at once; default 1024"),
    PASSED(10, "user-slots", "N", "waiting ones by one user; default seven in eight"),
    PASSED(11, "clients", "N", "so many requests at a time, instead of by the trace's clock"),
    PASSED(12, "hurry", "X", "arrivals X times as fast"),
    PASSED(13, "answers", "N", "no answer has more tokens"),
    PASSED(14, "users", "N", "who share the trace's sessions; default 1"),
    PASSED(15, "scan", "P", "behind this part of the requests a one-shot prompt"),
    PASSED(16, "scan-tokens", "N", "its length on average; default 30000"),
    PASSED(17, "flood", "X", "one user more, who sends X times what the others do on average"),
    PASSED(18, "die", "P", "this part of the clients die, within --die-s"),
    PASSED(19, "die-s", "S", "seconds; default 10"),
    PASSED(20, "slow", "P", "this part of the clients read late, by up to --slow-s"),
    PASSED(21, "slow-s", "S", "seconds; default 10"),
    PASSED(22, "deaths-s", "S", "an engine dies every S seconds"),
    PASSED(23, "restart-s", "S", "until the next one plans; default 2"),
    PASSED(24, "seed", "N", "of everything that is drawn; default 1"),
    {"private", NULL, OPTION_FLAG, FIELD(sim_private), 0, 0,
     "a user finds only what that user cached"},
    {"each-user", NULL, OPTION_FLAG, FIELD(sim_each_user), 0, 0, "a row for each user"},
    {NULL, NULL, OPTION_FLAG, 0, 0, 0, NULL},
};
static_assert(SIM_OPTIONS == 25, "as many texts as rows");

/* As in daemon/sim/figures.c. */
static const struct report_column columns[] = {
    {"who", "who", "", REPORT_TEXT},
    {"blocks", "blocks", "", REPORT_COUNT},
    {"requests", "requests", "", REPORT_COUNT},
    {"answered", NULL, "", REPORT_COUNT},
    {"cancelled", NULL, "", REPORT_COUNT},
    {"refused", NULL, "", REPORT_COUNT},
    {"prompt_tokens", NULL, "", REPORT_COUNT},
    {"hit_tokens", NULL, "", REPORT_COUNT},
    {"hit_percent", "hits", "%", REPORT_REAL},
    {"lru_percent", "LRU", "%", REPORT_REAL},
    {"ideal_percent", "ideal", "%", REPORT_REAL},
    {"answer_tokens", NULL, "", REPORT_COUNT},
    {"tokens_per_s", "tokens", "1/s", REPORT_REAL},
    {"rows_per_s", NULL, "1/s", REPORT_REAL},
    {"first_p50_ms", "first p50", "ms", REPORT_REAL},
    {"first_p99_ms", "p99", "ms", REPORT_REAL},
    {"token_p50_ms", "token p50", "ms", REPORT_REAL},
    {"token_p99_ms", "p99", "ms", REPORT_REAL},
    {"alone", "alone", "", REPORT_REAL},
    {"jain", "jain", "", REPORT_REAL},
    {"preemptions", "preempted", "", REPORT_COUNT},
    {"evictions", "evicted", "", REPORT_COUNT},
    {"deaths", "deaths", "", REPORT_COUNT},
    {"steps", NULL, "", REPORT_COUNT},
    {"longest_step_ms", "longest step", "ms", REPORT_REAL},
    {"seconds", NULL, "s", REPORT_REAL},
};
#define COLUMNS (sizeof columns / sizeof columns[0])

/* ---- The program ------------------------------------------------------------------------------------ */

/* Beside this program, as in the build tree; or where it is installed, since it is nobody's command. */
static enum llm_status find_program(char out_path[PATH_MAX], struct llm_error *error)
{
    static const char *const places[] = {"llmd-sim", LLMD_SIM_FROM_BIN};
    char own[PATH_MAX];
    ssize_t bytes = readlink("/proc/self/exe", own, sizeof own - 1);
    own[bytes > 0 ? bytes : 0] = '\0';
    char *slash = strrchr(own, '/');
    if (!slash)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "cannot read /proc/self/exe");
    slash[1] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (snprintf(out_path, PATH_MAX, "%s%s", own, places[i]) < PATH_MAX &&
            access(out_path, X_OK) == 0)
            return LLM_OK;
    return llm_fail(error, LLM_ERR_NOT_FOUND, "llmd-sim is neither beside llm-bench nor at %.150s",
                    LLMD_SIM_FROM_BIN);
}

struct arguments {
    const char *list[ARGUMENTS_MAX];
    char names[SIM_OPTIONS][32];
    unsigned count;
};

static void add_argument(struct arguments *arguments, const char *text)
{
    CHECK(arguments->count + 1 < ARGUMENTS_MAX);
    arguments->list[arguments->count++] = text;
    arguments->list[arguments->count] = NULL;
}

static void fill_arguments(const struct bench_options *options, struct arguments *arguments)
{
    arguments->count = 0;
    add_argument(arguments, "llmd-sim");
    for (unsigned i = 0; i < SIM_OPTIONS; i++) {
        if (!options->sim[i])
            continue;
        snprintf(arguments->names[i], sizeof arguments->names[i], "--%s", sim_options[i].name);
        add_argument(arguments, arguments->names[i]);
        add_argument(arguments, options->sim[i]);
    }
    if (options->quick && !options->sim[1]) {
        add_argument(arguments, "--requests");
        add_argument(arguments, "200");
    }
    if (options->sim_private)
        add_argument(arguments, "--private");
    if (options->sim_each_user)
        add_argument(arguments, "--each-user");
}

/* Its output and its sentence come through one pipe. */
static enum llm_status start(const char *program, const struct arguments *arguments, pid_t *out_pid,
                             FILE **out_file, struct llm_error *error)
{
    int ends[2];
    if (pipe(ends) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot make a pipe");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        bench_child_begins();
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        execv(program, (char *const *)(uintptr_t)arguments->list);
        _exit(127);
    }
    close(ends[1]);
    FILE *file = pid > 0 ? fdopen(ends[0], "r") : NULL;
    if (!file) {
        close(ends[0]);
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot start %.150s", program);
    }
    *out_pid = pid;
    *out_file = file;
    return LLM_OK;
}

/* ---- Its lines --------------------------------------------------------------------------------------- */

static bool is_head(const char *line)
{
    for (size_t i = 0; i < COLUMNS; i++) {
        size_t bytes = strlen(columns[i].key);
        if (strncmp(line, columns[i].key, bytes) != 0 ||
            line[bytes] != (i + 1 < COLUMNS ? ',' : '\0'))
            return false;
        line += bytes + 1;
    }
    return true;
}

static bool add_row(struct report *report, char *line)
{
    char *fields[COLUMNS];
    size_t count = 0;
    for (char *at = line; at; count++) {
        char *comma = strchr(at, ',');
        if (count == COLUMNS)
            return false;
        fields[count] = at;
        if (comma)
            *comma = '\0';
        at = comma ? comma + 1 : NULL;
    }
    if (count != COLUMNS)
        return false;
    for (size_t i = 0; i < COLUMNS; i++) {
        double number = fields[i][0] ? strtod(fields[i], NULL) : (double)NAN;
        if (columns[i].kind == REPORT_TEXT)
            report_text(report, fields[i]);
        else if (columns[i].kind == REPORT_REAL)
            report_real(report, number);
        else
            report_count(report, number > 0 ? (uint64_t)number : 0);
    }
    return true;
}

static enum llm_status read_lines(struct report *report, FILE *file, struct llm_error *error)
{
    static const char name[] = "llmd-sim: ";
    char line[LINE_BYTES];
    bool head = false;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = '\0';
        if (strncmp(line, name, sizeof name - 1) == 0)
            return llm_fail(error, LLM_ERR_SYSTEM, "%s", line + sizeof name - 1);
        bool good = head ? add_row(report, line) : is_head(line);
        head = true;
        if (!good)
            return llm_fail(error, LLM_ERR_VERSION,
                            "llmd-sim is not of this version of llm-bench: \"%.100s\"", line);
    }
    return LLM_OK;
}

static enum llm_status simulate(const struct bench_options *options, struct report *report,
                                struct llm_error *error)
{
    char program[PATH_MAX];
    struct arguments arguments;
    pid_t pid = 0;
    FILE *file = NULL;
    enum llm_status status = find_program(program, error);
    if (status != LLM_OK)
        return status;
    fill_arguments(options, &arguments);
    status = start(program, &arguments, &pid, &file, error);
    if (status != LLM_OK)
        return status;
    status = read_lines(report, file, error);
    fclose(file);
    int code = 0;
    while (waitpid(pid, &code, 0) < 0 && errno == EINTR)
        ;
    if (status == LLM_ERR_SYSTEM && WIFEXITED(code) && WEXITSTATUS(code) == 2)
        return error->status = LLM_ERR_INVALID; /* its sentence names an option or a line */
    if (status == LLM_OK && (!WIFEXITED(code) || WEXITSTATUS(code) != 0))
        return llm_fail(error, LLM_ERR_PEER, "%.150s ended early", program);
    return status;
}

enum llm_status bench_sim(const struct bench_options *options, struct llm_error *error)
{
    struct machine machine;
    struct report report;
    enum llm_status status = machine_open(&machine, options->cpus, options->fifo, error);
    if (status != LLM_OK)
        return status;
    report_init(&report, "sim", columns, COLUMNS);
    for (unsigned i = 0; i < SIM_OPTIONS && report.setting_count < REPORT_SETTINGS_MAX; i++)
        if (options->sim[i])
            report_set_text(&report, sim_options[i].name, options->sim[i]);
    status = simulate(options, &report, error);
    if (status == LLM_OK)
        report_note(&report, "Simulated: the figures are a counted clock's, not this machine's.");
    if (status == LLM_OK)
        report_write(&report, &machine, options, stdout);
    report_close(&report);
    return status;
}
