#!/bin/sh
# make.sh PAGE.scd BIN-FOLDER HEADER-FOLDER VERSION: one manual page, from scdoc(5) with two kinds of lines of our own:
#
#   %include COMMAND...   becomes what the command prints: programs of BIN-FOLDER are first on PATH, $HEADERS is the
#                         folder of the public headers, $MAN is this one
#   @VERSION@             anywhere: the version
#
# So every list of verbs, options, keys and functions comes from the table or header that has it, and cannot drift.
set -eu
page=$1 bin=$(cd "$2" && pwd) HEADERS=$3 version=$4
MAN=$(cd "$(dirname "$0")" && pwd)
PATH=$bin:$PATH
# A program's help must not depend on who builds: no settings of this user, no line breaks.
ARGP_HELP_FMT=rmargin=9999 LC_ALL=C.UTF-8
export PATH HEADERS MAN ARGP_HELP_FMT LC_ALL
unset XDG_CONFIG_HOME LLMD_SOCKET
[ -n "${SOURCE_DATE_EPOCH-}" ] || unset SOURCE_DATE_EPOCH
text=$(mktemp) part=$(mktemp)
trap 'rm -f "$text" "$part"' EXIT
while IFS= read -r line; do
    case $line in
    '%include '*)
        sh -c "${line#%include }" >"$part" </dev/null || {
            echo "$page: \"${line#%include }\" failed" >&2
            exit 1
        }
        [ -s "$part" ] || {
            echo "$page: \"${line#%include }\" printed nothing" >&2
            exit 1
        }
        cat "$part" >>"$text"
        ;;
    *) printf '%s\n' "$line" | sed "s/@VERSION@/$version/g" >>"$text" ;;
    esac
done <"$page"
scdoc <"$text"
