#!/bin/bash
# units.sh - systemd understands the units, every option in them, and finds the service's exposure as low as README says.
#
#   units.sh BUILD-FOLDER
set -u
build=$1
here=$(cd "$(dirname "$0")" && pwd)
packaging=$here/../../packaging
command -v systemd-analyze >/dev/null || {
    echo "skipped: needs systemd-analyze"
    exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
broken=0
mkdir "$work/user" "$work/runtime"
export XDG_RUNTIME_DIR=$work/runtime
sed "s|@CMAKE_INSTALL_FULL_BINDIR@|$build/bin|" "$packaging/systemd/llmd.service.in" >"$work/llmd.service"
sed "s|@CMAKE_INSTALL_FULL_BINDIR@|$build/bin|" "$packaging/systemd/llmd-user.service.in" >"$work/user/llmd.service"
cp "$packaging/systemd/llmd.socket" "$work"

verify() { # verify COMMAND...: says nothing and ends well
    local said
    said=$("$@" 2>&1) && [ -z "$said" ] && return
    echo "$*: ${said:-failed}"
    broken=1
}
verify systemd-analyze verify --man=no "$work/llmd.service" "$work/llmd.socket"
verify systemd-analyze --user verify --man=no "$work/user/llmd.service"

# In tenths: at most 1.0 of 10.
said=$(systemd-analyze security --no-pager --offline=true --threshold=10 "$work/llmd.service") || {
    grep '✗' <<<"$said"
    broken=1
}
tail -n 1 <<<"$said"

if command -v systemd-sysusers >/dev/null; then
    mkdir -p "$work/root/etc" "$work/root/usr/lib/sysusers.d"
    cp "$packaging/systemd/llmd.sysusers.conf" "$work/root/usr/lib/sysusers.d/llmd.conf"
    systemd-sysusers --root="$work/root" --dry-run llmd.conf 2>&1 | grep -qi "llmd" || {
        echo "systemd-sysusers would make no user llmd"
        broken=1
    }
fi
exit $broken
