#!/bin/bash
# sandbox.sh - llmd and its engine work under what packaging/systemd/llmd.service asks: every system call outside its
# SystemCallFilter= refused, no new privileges, no capability, no writable and executable memory, AF_UNIX alone, a file system that is
# read-only but for /run/llmd, /tmp and /dev/shm, no network, devices or homes, /proc with the own processes alone, another user.
#
# systemd itself is not needed: unshare, setpriv and `confine` apply the same to the kernel. Not covered: RestrictRealtime=,
# RestrictSUIDSGID=, LockPersonality=, ProtectClock= and ProtectHostname= beyond the list of system calls.
#
#   sandbox.sh BUILD-FOLDER COMPILER CONFINE
set -u
build=$1 compiler=$2 confine=$3
here=$(cd "$(dirname "$0")" && pwd)
unit=$here/../../packaging/systemd/llmd.service.in
skip() {
    echo "skipped: $*"
    exit 77
}
[ "$(id -u)" -eq 0 ] || skip "needs root"
for tool in systemd-analyze unshare setpriv; do command -v $tool >/dev/null || skip "needs $tool"; done
unshare --mount --net true 2>/dev/null || skip "no new namespaces here"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# ---- The unit's list of system calls, as numbers of this machine --------------------------------------

expand() { # expand SET-OR-CALL...: names of calls
    local word
    for word in "$@"; do
        case $word in
        @*) expand $(systemd-analyze syscall-filter --no-pager "$word" 2>/dev/null | sed -n 's/^    \([@a-z0-9_-]*\)$/\1/p') ;;
        *) echo "$word" ;;
        esac
    done
}
: >"$work/allowed"
while read -r words; do
    case $words in
    '~'*)
        expand ${words#\~} | sort -u >"$work/taken"
        grep -vxFf "$work/taken" "$work/allowed" >"$work/left"
        mv "$work/left" "$work/allowed"
        ;;
    *) expand $words >>"$work/allowed" ;;
    esac
done < <(sed -n 's/^SystemCallFilter=//p' "$unit")
expand @default >>"$work/allowed" # systemd adds it
printf '#include <sys/syscall.h>\n' | "$compiler" -E -dM - | sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$/\1 \2/p' | sort >"$work/numbers"
sort -u "$work/allowed" | join - "$work/numbers" | cut -d' ' -f2 >"$work/filter"
count=$(wc -l <"$work/filter")
[ "$count" -gt 100 ] || {
    echo "only $count system calls in the unit's list: it was not understood"
    exit 1
}
grep -qx "$(sed -n 's/^mount //p' "$work/numbers")" "$work/filter" && {
    echo "mount is in the list: @privileged was not taken away"
    exit 1
}

# ---- The installed programs, in namespaces of their own -----------------------------------------------

cmake --install "$build" --prefix "$work/prefix" >/dev/null || exit 1
cp "$confine" "$work/confine"
name=sandbox-$$
cat >"$work/inside" <<'INSIDE'
set -eu
work=$1 name=$2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/prefix /run/llmd /run/shm /run/null /run/tools
mount --bind "$work/prefix" /run/prefix
cp "$work/confine" "$work/filter" /run/tools
chmod 755 /run/tools && chmod 644 /run/tools/filter
touch /run/notify.log /run/llmd.log
chown 65534:65534 /run/llmd
mount --bind /dev/shm /run/shm
# PrivateDevices=, ProtectHome=, ProtectProc=, ProcSubset=, PrivateTmp=
cp -a /dev/null /dev/zero /dev/urandom /run/null
mount -t tmpfs -o mode=755 tmpfs /dev
cp -a /run/null/* /dev
mkdir /dev/shm && mount --bind /run/shm /dev/shm
for folder in /home /root; do mount -t tmpfs -o mode=000 tmpfs $folder; done
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t proc -o subset=pid,hidepid=invisible proc /proc
# ProtectSystem=strict
mount -o remount,bind,ro /
export LLMD_SOCKET=/run/llmd/llmd.sock LD_LIBRARY_PATH=/run/prefix/lib
unset XDG_RUNTIME_DIR XDG_CONFIG_HOME HOME
as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"; }
confined() { as_user /run/tools/confine /run/tools/filter /run/llmd/notify "$@"; }

# The walls stand: without them this test would prove nothing.
confined /bin/sh -c ': >/etc/llmd-was-here' 2>/dev/null && { echo "the file system is writable"; exit 1; }
confined /bin/sh -c 'exec unshare --user true' 2>/dev/null && { echo "a new namespace was given"; exit 1; }
confined /bin/sh -c 'exec chroot / true' 2>/dev/null && { echo "chroot was allowed"; exit 1; }

confined /run/prefix/bin/llmd --foreground --socket=/run/llmd/llmd.sock --instance="$name" --idle-exit=120 \
    --set kv.pool_bytes=32MiB >/run/notify.log 2>/run/llmd.log &
manager=$!
say() { echo "$*"; cat /run/notify.log /run/llmd.log; exit 1; }
for try in $(seq 600); do
    grep -q '^READY=1\|notify: READY=1' /run/notify.log && break
    kill -0 $manager 2>/dev/null || say "llmd ended:"
    sleep 0.1
done
grep -q 'READY=1' /run/notify.log || say "llmd did not say READY=1:"
ctl() { as_user timeout 60 /run/prefix/bin/llmctl "$@" || say "llmctl $* failed:"; }
first=$(ctl generate --max-tokens 24 "Once upon a time")
[ -n "$first" ] || say "no answer:"
ctl engine restart
second=$(ctl generate --max-tokens 24 "Once upon a time")
[ "$first" = "$second" ] || say "another answer after the restart:"
ctl check
ctl status | grep -v '^clients'
ctl stop
wait $manager || say "llmd ended with an error:"
grep -q 'STOPPING=1' /run/notify.log || say "llmd did not say STOPPING=1:"
grep -iE 'level=(warn|error)|not permitted' /run/llmd.log || true
INSIDE
timeout 240 unshare --mount --net bash "$work/inside" "$work" "$name"
rc=$?
[ $rc -eq 0 ] && echo "llmd works under llmd.service: $count system calls allowed"
exit $rc
