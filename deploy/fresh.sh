#!/bin/sh
# Shows that a new machine needs nothing but this repository: makes a Debian of its own in a temporary folder, with git,
# make, gcc, libc6-dev and ca-certificates and nothing else, clones the last commit into it, and runs there what a
# newcomer runs:
#
#   sh deploy/fresh.sh                 make demo, then make test
#   sh deploy/fresh.sh lint            make lint, or whatever targets are named
#
# Of this machine it sees the Rust toolchain (read-only), names and addresses, CA certificates, how apt and pip reach
# their mirrors, and crates that were downloaded before. It needs root. Its mounts and processes live in namespaces that
# end with it, so nothing stays mounted or running however it ends; the folder is removed, unless KEEP is set.
#
# MIRROR  Debian's mirror; http://deb.debian.org/debian
# TMPDIR  where the folder is made; it takes some 10 GB
set -eu

packages=git,make,gcc,libc6-dev,ca-certificates
suite=bookworm
mirror=${MIRROR:-http://deb.debian.org/debian}
home=/root

# What a process of the new machine is told of this one: how the network is reached, and what a run is to be.
passed_on='http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY
    SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE GIT_SSL_CAINFO CARGO_HTTP_CAINFO CARGO_HTTP_PROXY
    REQUESTS_CA_BUNDLE PIP_CERT PIP_INDEX_URL
    CI SEED DRILL FLOODGATE_SEED TERM'

main() {
    [ "$(id -u)" = 0 ] || exec sudo -n -E env PATH="$PATH" sh "$0" "$@"
    repository=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
    [ -z "$(git -C "$repository" status --porcelain)" ] || say 'what is not committed is not tried'

    folder=$(mktemp -d "${TMPDIR:-/tmp}/floodgate-fresh-XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    chmod 755 "$folder"
    root=$folder/debian

    timed 'a new Debian' debian
    like_here
    git clone -q --no-hardlinks "$repository" "$root/floodgate"
    [ $# -gt 0 ] || set -- demo test
    for target in "$@"; do
        timed "make $target" inside make "$target"
    done
    say "green: $*"
}

# Here, outside of the namespaces, nothing is mounted below the folder.
clean_up() {
    if [ -n "${running:-}" ]; then
        # With it everything dies that it started.
        kill -KILL "$running" 2>/dev/null || true
        wait "$running" 2>/dev/null || true
    fi
    [ -n "${KEEP:-}" ] || rm -rf --one-file-system "$folder" || { sleep 2; rm -rf --one-file-system "$folder"; }
}

# A Debian with the packages above. What was downloaded is kept for the next time.
debian() {
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/floodgate/debian-$suite
    mkdir -p "$cache"
    debootstrap --variant=minbase --include="$packages" --cache-dir="$cache" "$suite" "$root" "$mirror" \
        >"$folder/log" 2>&1 || { cat "$folder/log" >&2; return 1; }
}

# Names, certificates, mirrors and downloaded crates as they are here.
like_here() {
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    for conf in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
        # How packages are reached, not what is done with them.
        ! grep -qs '^Acquire' "$conf" || cp "$conf" "$root/etc/apt/apt.conf.d/"
    done
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
    for certificate in /usr/local/share/ca-certificates/*.crt; do
        [ ! -e "$certificate" ] || cp "$certificate" "$root/usr/local/share/ca-certificates/"
    done
    chroot "$root" update-ca-certificates >/dev/null 2>&1
    # A bundle that was put here by other means may know more.
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] ||
        cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    mkdir -p "$root$home/.cargo/registry" "$root/rust"
    for known in config.toml registry/index registry/cache; do
        [ ! -e "$cargo_home/$known" ] || cp -r "$cargo_home/$known" "$root$home/.cargo/$known"
    done
}

# Runs the rest of the arguments in the clone, in namespaces whose mounts and processes end with them.
inside() {
    told=
    for name in $passed_on; do
        eval "value=\${$name:-}"
        # shellcheck disable=SC2154 # eval sets it
        [ -z "$value" ] || told="$told $name=$(quoted "$value")"
    done
    command=
    for word in "$@"; do command="$command $(quoted "$word")"; done
    unshare --mount --pid --fork --kill-child --propagation private -- sh -eu -c '
        mount --rbind /dev "$1/dev"
        mount -t proc proc "$1/proc"
        mount --bind "$2" "$1/rust"
        mount -o remount,bind,ro "$1/rust"
        exec chroot "$1" /usr/bin/env -i sh -c "$3"' \
        sh "$root" "$(rustc --print sysroot)" \
        "export HOME=$home LANG=C.UTF-8 PATH=/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin$told; cd /floodgate; exec $command" \
        </dev/null &
    # Waited for like this, so that a signal is not left until its end.
    running=$!
    result=0
    wait "$running" || result=$?
    running=
    return "$result"
}

quoted() {
    printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"
}

# Runs the rest of the arguments, and says how long that took.
timed() {
    what=$1
    shift
    began=$(date +%s)
    "$@" || { say "$what: failed"; exit 1; }
    say "$what: $(($(date +%s) - began)) s"
}

say() { echo "fresh: $*" >&2; }

main "$@"
