#include "tests/attack/attack.h"

#include <check.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"

#define QUIET_MS_DEFAULT 400
#define NOBODY           65534
#define ANSWERS_LEAST    20 /* that a phase waits for, however long the machine is busy elsewhere */

static const struct attacker *attackers;

static unsigned quiet_ms(void)
{
    const char *text = getenv("LLM_ATTACK_MS");
    long ms = text ? strtol(text, NULL, 10) : 0;
    return ms > 0 && ms < 100000 ? (unsigned)ms : QUIET_MS_DEFAULT;
}

/* ---- The attacker ---------------------------------------------------------------------------------- */

static bool is_root(void)
{
    return geteuid() == 0;
}

static void become_another_user(void)
{
    if (is_root() && (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
        _exit(4);
}

static pid_t start_attacker(const struct attacker *attacker, const struct attack *attack)
{
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0); /* what it forks is killed with it */
        sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
        become_another_user();
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        attacker->run(attack);
        _exit(3);
    }
    ck_assert_int_gt(pid, 0);
    setpgid(pid, pid);
    return pid;
}

static void wait_for_acts(const struct attack *attack, uint64_t acts, pid_t pid)
{
    uint64_t deadline_ns = llm_deadline_ns(60 * LLM_NS_PER_S);
    while (atomic_load(attack->acts) < acts) {
        ck_assert_msg(waitpid(pid, NULL, WNOHANG) == 0, "the attacker ended by itself");
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0,
                      "the attacker did too little: %llu of %llu",
                      (unsigned long long)atomic_load(attack->acts), (unsigned long long)acts);
        test_sleep_ms(1);
    }
}

static void stop_attacker(pid_t pid)
{
    int status;
    kill(-pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "the attacker had ended already, with 0x%x", (unsigned)status);
}

/* ---- What it cost ---------------------------------------------------------------------------------- */

static void print_line(FILE *out, const char *name, struct bystander *bystander, uint64_t acts)
{
    static const char *const times[] = {"first", "done", "gap", "attach"};
    fprintf(out, "%-44s", name);
    for (enum bystander_time time = BYSTANDER_FIRST; time < BYSTANDER_TIMES; time++) {
        if (atomic_load(&bystander->shared->samples[BYSTANDER_ATTACKED][time].count) == 0)
            continue;
        double quiet_p50 = bystander_us(bystander, BYSTANDER_QUIET, time, 500);
        double quiet_p99 = bystander_us(bystander, BYSTANDER_QUIET, time, 990);
        double p50 = bystander_us(bystander, BYSTANDER_ATTACKED, time, 500);
        double p99 = bystander_us(bystander, BYSTANDER_ATTACKED, time, 990);
        fprintf(out, " | %s %5.0f/%6.0f %5.0f/%6.0f x%.2f/x%.2f", times[time], quiet_p50, quiet_p99,
                p50, p99, quiet_p50 > 0 ? p50 / quiet_p50 : 0, quiet_p99 > 0 ? p99 / quiet_p99 : 0);
    }
    fprintf(out, " | answers %u/%u acts %llu\n", bystander_answers(bystander, BYSTANDER_QUIET),
            bystander_answers(bystander, BYSTANDER_ATTACKED), (unsigned long long)acts);
}

void attack_report(const char *name, struct bystander *bystander, uint64_t acts)
{
    const char *path = getenv("LLM_ATTACK_TABLE");
    print_line(stdout, name, bystander, acts);
    fflush(stdout);
    FILE *table = path ? fopen(path, "ae") : NULL;
    if (!table)
        return;
    print_line(table, name, bystander, acts);
    fclose(table);
}

/* ---- The test -------------------------------------------------------------------------------------- */

static void start_daemon(struct test_daemon *daemon, const struct attacker *attacker)
{
    const char *arguments[16] = {"--set", "models.echo_step_us=500"};
    unsigned count = 2;
    for (unsigned i = 0; attacker->settings[i]; i++)
        arguments[count++] = attacker->settings[i];
    test_daemon_start(daemon, arguments);
    /* What an administrator does to let others in. */
    ck_assert_int_eq(chmod(daemon->directory, 0711), 0);
    ck_assert_int_eq(chmod(daemon->socket, 0666), 0);
}

/* At least so long, and until there are answers: a bystander who is kept out never has them. */
static void play(struct bystander *bystander, enum bystander_phase phase, unsigned ms)
{
    uint64_t deadline_ns = llm_deadline_ns(60 * LLM_NS_PER_S);
    bystander_enter(bystander, phase);
    test_sleep_ms(ms);
    while (bystander_answers(bystander, phase) < ANSWERS_LEAST) {
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "the bystander has %u answers in a minute",
                      bystander_answers(bystander, phase));
        test_sleep_ms(1);
    }
}

static void attack_test(const struct attacker *attacker)
{
    struct test_daemon daemon;
    struct bystander bystander;
    struct attack attack = {.daemon = &daemon};
    void *shared =
        mmap(NULL, sizeof *attack.acts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(shared != MAP_FAILED);
    attack.acts = shared;
    start_daemon(&daemon, attacker);
    bystander_start(&bystander, &daemon, is_root());
    play(&bystander, BYSTANDER_QUIET, quiet_ms());
    bystander_enter(&bystander, BYSTANDER_WARMING);
    pid_t pid = start_attacker(attacker, &attack);
    wait_for_acts(&attack, 1, pid);
    play(&bystander, BYSTANDER_ATTACKED, 2 * quiet_ms());
    wait_for_acts(&attack, attacker->acts_least, pid);
    bystander_enter(&bystander, BYSTANDER_WARMING);
    stop_attacker(pid);
    bystander_stop(&bystander);
    attack_report(attacker->name, &bystander, atomic_load(attack.acts));
    ck_assert_uint_eq(test_daemon_generation(&daemon), 1);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}

START_TEST(the_bystander_is_served_and_nothing_is_left)
{
    const char *only = getenv("LLM_ATTACK_ONLY");
    if (only && !strstr(attackers[_i].name, only))
        return;
    if (attackers[_i].needs_root && !is_root())
        printf("%-44s | skipped: needs root, to be two users\n", attackers[_i].name);
    else
        attack_test(&attackers[_i]);
}
END_TEST

int attack_main(const char *name, const struct attacker *table, int count)
{
    attackers = table;
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create("attack");
    tcase_set_timeout(tcase, 100);
    tcase_add_loop_test(tcase, the_bystander_is_served_and_nothing_is_left, 0, count);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    puts("us: quiet p50/p99, attacked p50/p99, ratios; submit to first token, submit to done, gap "
         "between tokens, attach");
    fflush(stdout);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
