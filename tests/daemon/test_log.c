/*
 * test_log.c - daemon/log: what a line looks like, that no value can break out of it, and that there is an end.
 * How: standard error is a file of the test's. Lines of values that want to be fields, lines or escape sequences
 * are read back by an independent reader (a small logfmt one here, jansson for JSON) and must be the values again.
 */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"

static int own_stderr = -1;
static FILE *captured;
static char text[1 << 20];

static void setup(void)
{
    own_stderr = dup(STDERR_FILENO);
    captured = tmpfile();
    ck_assert_ptr_nonnull(captured);
    dup2(fileno(captured), STDERR_FILENO);
    unsetenv("JOURNAL_STREAM");
    log_set_generation(0);
    log_open(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT, 0, "llmd");
}

static void teardown(void)
{
    dup2(own_stderr, STDERR_FILENO);
    close(own_stderr);
    fclose(captured);
}

/* What was written since setup(); returns the number of lines. */
static unsigned lines(void)
{
    ssize_t bytes = pread(fileno(captured), text, sizeof text - 1, 0);
    unsigned count = 0;
    text[bytes > 0 ? bytes : 0] = '\0';
    for (const char *c = text; *c; c++)
        count += *c == '\n';
    return count;
}

/* The value of `key` in the logfmt line `line`, unescaped; NULL: no such key. Knows nothing of log.c. */
static const char *field(const char *line, const char *key)
{
    static char value[4096];
    while (*line && *line != '\n') {
        size_t key_bytes = strcspn(line, "=");
        bool wanted = strlen(key) == key_bytes && memcmp(line, key, key_bytes) == 0;
        size_t used = 0;
        line += key_bytes + 1;
        bool quoted = *line == '"';
        for (line += quoted; *line && *line != '\n' && *line != (quoted ? '"' : ' '); line++) {
            char c = *line;
            if (c == '\\' && *++line == 'x') {
                c = (char)strtol((char[]){line[1], line[2], 0}, NULL, 16);
                line += 2;
            } else if (c == '\\') {
                c = *line == 'n' ? '\n' : *line == 't' ? '\t' : *line == 'r' ? '\r' : *line;
            }
            value[used++] = c;
        }
        value[used] = '\0';
        if (wanted)
            return value;
        line += quoted;
        line += *line == ' ';
    }
    return NULL;
}

START_TEST(a_line_says_when_who_and_what)
{
    log_set_generation(3);
    log_event(LOG_LEVEL_WARN, "client left", log_count("connection", 7),
              log_text("reason", "its process is gone"));
    ck_assert_uint_eq(lines(), 1);
    unsigned year, month, day, hour, minute, second, us, pid;
    ck_assert_msg(sscanf(text,
                         "time=%4u-%2u-%2uT%2u:%2u:%2u.%6uZ level=warn process=llmd pid=%u "
                         "generation=3 msg=\"client left\" connection=7 reason=\"its process is",
                         &year, &month, &day, &hour, &minute, &second, &us, &pid) == 8,
                  "%s", text);
    ck_assert_uint_eq(pid, (unsigned)getpid());
    ck_assert_str_eq(field(text, "reason"), "its process is gone");
}
END_TEST

START_TEST(lines_above_the_level_are_not_written)
{
    log_line(LOG_LEVEL_DEBUG, "nobody %s", "asked");
    ck_assert_uint_eq(lines(), 0);
    log_line(LOG_LEVEL_ERROR, "somebody %s", "asked");
    ck_assert_uint_eq(lines(), 1);
    ck_assert_str_eq(field(text, "msg"), "somebody asked");
}
END_TEST

/* Names that a client could send. */
static const char *const hostile[] = {
    "x\" uid=0 name=\"root",
    "x\nlevel=error msg=\"the daemon is broken\"",
    "x\r\n<0>kernel panic",
    "\\",
    "\\\"",
    "\x1b[2J\x1b]0;owned\x07",
    "x\", \"uid\": 0, \"y\": \"",
    "",
    " ",
    "a=b",
    "\x7f\x01\x02\t",
    "gr\xc3\xbc\xc3\x9f",
    "<script>",
};

START_TEST(no_value_breaks_out_of_logfmt)
{
    log_event(LOG_LEVEL_INFO, "client attached", log_text("name", hostile[_i]),
              log_count("uid", 1000));
    ck_assert_msg(lines() == 1, "%s", text);
    ck_assert_str_eq(field(text, "name"), hostile[_i]);
    ck_assert_str_eq(field(text, "uid"), "1000");
    ck_assert_str_eq(field(text, "level"), "info");
    for (const char *c = text; c[1]; c++)
        ck_assert_msg((unsigned char)*c >= 0x20 && *c != 0x7f, "a control character in %s", text);
}
END_TEST

START_TEST(no_value_breaks_out_of_json)
{
    log_open(LOG_LEVEL_INFO, LOG_FORMAT_JSON, 0, "llmd");
    log_event(LOG_LEVEL_INFO, "client attached", log_text("name", hostile[_i]),
              log_count("uid", 1000));
    ck_assert_uint_eq(lines(), 1);
    json_error_t error;
    json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(line != NULL, "%s in %s", error.text, text);
    ck_assert_str_eq(json_string_value(json_object_get(line, "name")), hostile[_i]);
    ck_assert_int_eq(json_integer_value(json_object_get(line, "uid")), 1000);
    ck_assert_uint_eq(json_object_size(line), 7);
    json_decref(line);
}
END_TEST

START_TEST(bytes_that_are_no_characters_are_escaped)
{
    static const char *const broken[] = {
        "\xff",         "\xc3",         "\xe2\x82", "\xc2\x9bZ",
        "\xed\xa0\x80", "\xe2\x80\xa8", "\xc0\x80", "\xf4\x90\x80\x80"};
    for (int format = 0; format < LOG_FORMAT_COUNT; format++)
        for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
            log_open(LOG_LEVEL_INFO, (enum log_format)format, 0, "llmd");
            log_event(LOG_LEVEL_INFO, "m", log_text("name", broken[i]));
        }
    lines();
    for (const char *c = text; *c; c++)
        ck_assert_msg((unsigned char)*c < 0x80, "byte 0x%02x", (unsigned char)*c);
}
END_TEST

START_TEST(a_long_value_is_cut_and_the_line_still_ends_well)
{
    static char lots[100000];
    memset(lots, '\x01', sizeof lots - 1); /* each becomes several bytes */
    for (int format = 0; format < LOG_FORMAT_COUNT; format++) {
        log_open(LOG_LEVEL_INFO, (enum log_format)format, 0, "llmd");
        log_event(LOG_LEVEL_INFO, lots, log_text("a", lots), log_text("b", lots),
                  log_text("c", lots), log_text("d", lots), log_text("e", lots),
                  log_text("f", lots), log_text("g", lots), log_text("h", lots));
    }
    ck_assert_uint_eq(lines(), LOG_FORMAT_COUNT);
    ck_assert_uint_lt(strlen(text), LOG_FORMAT_COUNT * 8192);
    char *json_line = strchr(text, '\n') + 1;
    *strchr(json_line, '\n') = '\0';
    json_t *line = json_loads(json_line, 0, NULL);
    ck_assert_ptr_nonnull(line);
    json_decref(line);
}
END_TEST

START_TEST(text_for_a_terminal_reads_like_a_sentence)
{
    log_open(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, 0, "llmd-engine");
    log_event(LOG_LEVEL_INFO, "client\nattached", log_text("name", "a b"), log_count("uid", 5));
    ck_assert_uint_eq(lines(), 1);
    ck_assert_msg(strstr(text, "Z info llmd-engine: client\\nattached name=\"a b\" uid=5\n"), "%s",
                  text);
}
END_TEST

START_TEST(the_journal_gets_priorities_and_the_monotonic_clock)
{
    struct stat here;
    char stream[64];
    ck_assert_int_eq(fstat(STDERR_FILENO, &here), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)here.st_dev, (uintmax_t)here.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    for (int format = 0; format < LOG_FORMAT_COUNT; format++) {
        log_open(LOG_LEVEL_DEBUG, (enum log_format)format, 0, "llmd");
        log_line(LOG_LEVEL_ERROR, "e");
        log_line(LOG_LEVEL_DEBUG, "d");
    }
    ck_assert_uint_eq(lines(), 6);
    ck_assert_int_eq(strncmp(text, "<3>mono=", 8), 0);
    ck_assert_ptr_nonnull(strstr(text, "\n<7>mono="));
    ck_assert_ptr_nonnull(strstr(text, "\n<3>{\"mono\": \""));
    ck_assert_ptr_nonnull(strstr(text, "\n<3>error llmd: e\n"));
    ck_assert_ptr_null(strstr(text, "time="));
    setenv("JOURNAL_STREAM", "1:1", 1); /* somebody else's */
    log_open(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT, 0, "llmd");
    log_line(LOG_LEVEL_ERROR, "e");
    lines();
    ck_assert_ptr_nonnull(strstr(text, "\ntime="));
}
END_TEST

static void storm(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        log_event(LOG_LEVEL_INFO, "storm", log_count("i", i));
}

START_TEST(a_place_that_writes_too_much_is_silenced_and_says_how_much_was_lost)
{
    log_open(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT, 60, "llmd"); /* one a second, after a burst of 60 */
    storm(10000);
    unsigned written = lines();
    ck_assert_msg(written >= 60 && written <= 70, "%u lines of 10000", written);
    log_line(LOG_LEVEL_INFO, "another place is not silenced");
    ck_assert_uint_eq(lines(), written + 1);
    usleep(1100000);
    storm(1);
    ck_assert_uint_ge(lines(), written + 2);
    const char *told = strstr(text, "suppressed=");
    ck_assert_msg(told != NULL, "%s", text);
    ck_assert_int_ge(atoi(told + strlen("suppressed=")), 9900);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/log");
    TCase *tcase = tcase_create("log");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_line_says_when_who_and_what);
    tcase_add_test(tcase, lines_above_the_level_are_not_written);
    tcase_add_loop_test(tcase, no_value_breaks_out_of_logfmt, 0,
                        sizeof hostile / sizeof hostile[0]);
    tcase_add_loop_test(tcase, no_value_breaks_out_of_json, 0, sizeof hostile / sizeof hostile[0]);
    tcase_add_test(tcase, bytes_that_are_no_characters_are_escaped);
    tcase_add_test(tcase, a_long_value_is_cut_and_the_line_still_ends_well);
    tcase_add_test(tcase, text_for_a_terminal_reads_like_a_sentence);
    tcase_add_test(tcase, the_journal_gets_priorities_and_the_monotonic_clock);
    tcase_add_test(tcase, a_place_that_writes_too_much_is_silenced_and_says_how_much_was_lost);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
