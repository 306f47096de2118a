/*
 * config_text.h - the table of settings for people and programs.
 *
 * Idea     Whoever shows settings walks the one table (config.h), so that help, man page, a printed file and
 *          what llmctl shows can never disagree with what is read.
 * See      `llmd --help`, `llmd --print-config[=FORMAT]`, `llmctl config show`, tests/daemon/test_config.c.
 */
#ifndef LLMD_DAEMON_CONFIG_TEXT_H
#define LLMD_DAEMON_CONFIG_TEXT_H

#include <stdio.h>

#include "daemon/config.h"

/* What a value may be: "1..1024", "a power of two, 8..4096", "\"auto\", \"cpu\" or \"reference\" ...". */
void config_key_range(const struct config_key *key, char *out_text, size_t bytes);

/* As a file that config_read() takes, with sentence, range and origin above each key. */
void config_print(const struct config *config, FILE *out);
/* One line a key, for programs: key, value, origin, default, type, range, sentence, separated by tabs. */
void config_print_list(const struct config *config, FILE *out);
/* For --help: by tables, at most 79 columns. */
void config_print_help(FILE *out);
/* For the man page: scdoc(5), a heading for each table. */
void config_print_man(FILE *out);

#endif
