# setup.sh - what tools/demo and tools/test share: packages that are missing, and a build with a line of dots.
# Sourced by bash. Names are Debian 12's; Ubuntu 24.04 has the same.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=$(sed -n 's/^project(llmd VERSION \([0-9]*\.[0-9]*\).*/\1/p' "$project/CMakeLists.txt")

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Each row: how to see that it is there, and the package that brings it. A thing installed by other means counts.
build_needs='
command:gcc                 gcc
header:stdio.h              libc6-dev
command:cmake               cmake
command:ninja               ninja-build
command:pkg-config          pkg-config
module:jansson              libjansson-dev
module:libpcre2-8           libpcre2-dev
module:libutf8proc          libutf8proc-dev
module:libsodium            libsodium-dev
module:liburing             liburing-dev
'
test_needs='
module:check                check
command:g++                 g++
command:clang-format-14     clang-format-14
command:clang-14            clang-14
command:spin                spin
fuzzer:clang-14             libclang-rt-14-dev
command:abidiff             abigail-tools
command:scdoc               scdoc
command:man                 man-db
command:strace              strace
'

fuzzer_probe='int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d && n > 1 ? 0 : 0; }'

have() { # have KIND:NAME
    case $1 in
    command:*) command -v "${1#*:}" >/dev/null ;;
    module:*) command -v pkg-config >/dev/null && pkg-config --exists "${1#*:}" ;;
    header:*) command -v gcc >/dev/null && echo "#include <${1#*:}>" | gcc -x c -E - >/dev/null 2>&1 ;;
    fuzzer:*) command -v "${1#*:}" >/dev/null && echo "$fuzzer_probe" |
        "${1#*:}" -x c - -fsanitize=fuzzer -o /dev/null 2>/dev/null ;;
    esac
}

# Run as root; 1 when neither root nor a password-less sudo is at hand.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# install_missing ROWS: install the packages of the rows that are not there; says nothing when all are.
install_missing() {
    local missing=() thing package log
    while read -r thing package; do
        [ -n "$thing" ] && ! have "$thing" && missing+=("$package")
    done <<<"$1"
    [ ${#missing[@]} -eq 0 ] && return 0
    command -v apt-get >/dev/null ||
        fail "these are missing, and there is no apt-get to install them: ${missing[*]}"
    as_root true ||
        fail "please install what is missing and start again:
  sudo apt-get install --no-install-recommends -y ${missing[*]}"
    printf 'installing %d packages: %s ' "${#missing[@]}" "${missing[*]}"
    log=$(mktemp)
    with_dots "$log" apt_install "${missing[@]}" || {
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install them; with a network this line does:
  sudo apt-get update && sudo apt-get install --no-install-recommends -y ${missing[*]}"
    }
    rm -f "$log"
}

apt_install() { # the package lists may be missing or too old: then fetch them and try once more
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install --no-install-recommends -y -q "$@")
    as_root "${install[@]}" || { as_root apt-get update -q && as_root "${install[@]}"; }
}

# with_dots LOG COMMAND...: run it with its output in LOG; a dot a second, then how long it took.
with_dots() {
    local log=$1 started=$SECONDS job rc=0
    shift
    "$@" >>"$log" 2>&1 </dev/null &
    job=$!
    while kill -0 $job 2>/dev/null; do
        printf .
        sleep 1
    done
    wait $job || rc=$?
    printf ' %d s\n' $((SECONDS - started))
    return $rc
}

# build_tree FOLDER LABEL [CMAKE OPTION...]: configure where needed, build, with one line on the terminal. Targets
# come from the array build_targets; empty means everything.
build_tree() {
    local folder=$1 label=$2 log
    shift 2
    mkdir -p "$folder"
    log=$folder/build.log
    printf '%s: building (%s cores) ' "$label" "$(nproc)"
    : >"$log"
    configure_and_build "$folder" "$@" || {
        grep -E -A 12 'FAILED:|error:|CMake Error' "$log" | head -n 40 >&2
        fail "the build failed; all of it is in $log"
    }
}

configure_and_build() {
    local folder=$1
    shift
    with_dots "$folder/build.log" bash -c '
        folder=$1; project=$2; targets=$3; shift 3
        cmake -S "$project" -B "$folder" -G Ninja "$@" && ninja -C "$folder" $targets' \
        build "$folder" "$project" "${build_targets[*]-}" "$@"
}
