#!/bin/sh
# Installs the Debian packages given as arguments, those that are missing only:
#
#   sh packages.sh redis-server etcd-server postgresql
#   sh packages.sh --missing redis-server ...    names the missing ones, installs nothing
#
# As root it asks apt; otherwise it tries sudo without a password; otherwise it prints the one line to
# run, last, and exits with 3. A package counts as there when the file it is wanted for is there, however that
# came to the machine. Services of the new packages are neither started nor enabled.
set -eu

# The whole list: what Floodgate is built, run, tested and measured with, and the file each package is wanted for.
wanted_for() {
    case "$1" in
    protobuf-compiler) echo protoc ;;
    libprotobuf-dev) echo /usr/include/google/protobuf/timestamp.proto ;;
    redis-server) echo redis-server ;;
    redis-tools) echo redis-cli ;;
    etcd-server) echo etcd ;;
    etcd-client) echo etcdctl ;;
    postgresql) echo '/usr/lib/postgresql/*/bin/initdb' ;;
    util-linux) echo setpriv ;;
    strace) echo strace ;;
    faketime) echo '/usr/lib/*/faketime/libfaketime.so.1' ;;
    haproxy) echo haproxy ;;
    nginx-light) echo nginx ;;
    nghttp2-client) echo h2load ;;
    g++) echo c++ ;;
    debootstrap) echo debootstrap ;;
    curl) echo curl ;;
    chromium) echo chromium ;;
    python3) echo python3 ;;
    python3-venv) echo '/usr/lib/python3*/ensurepip/__init__.py' ;;
    *)
        echo "packages.sh: $1 is not on the list of packages Floodgate uses" >&2
        exit 64
        ;;
    esac
}

is_there() {
    file=$(wanted_for "$1") || exit 64
    case "$file" in
    /*) for match in $file; do [ -e "$match" ] && return 0; done ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$file" >/dev/null 2>&1 && return 0 ;;
    esac
    return 1
}

only_name=no
if [ "${1:-}" = --missing ]; then
    only_name=yes
    shift
fi

missing=
for package in "$@"; do
    is_there "$package" || missing="$missing $package"
done
missing=${missing# }
if [ "$only_name" = yes ]; then
    echo "$missing"
    exit 0
fi
[ -n "$missing" ] || exit 0

give_up() {
    echo "packages.sh: $missing missing: $2; run:" >&2
    echo "sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends $missing'" >&2
    exit "$1"
}

command -v apt-get >/dev/null 2>&1 || give_up 3 "this machine has no apt-get; on Debian or Ubuntu"
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null 2>&1 && sudo -n true </dev/null 2>/dev/null; then
    sudo='sudo -n'
else
    give_up 3 "this is neither root nor sudo without a password"
fi

# Debian starts what it installs unless this file forbids it. One that is there already stays as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$sudo rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
fi

apt() {
    # Waits for another apt instead of failing. Its talk is no output of ours, and it must not read our
    # input, which may be this script.
    $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}
# shellcheck disable=SC2086 # a list of names
{ apt update && apt install -y --no-install-recommends $missing; } || give_up 1 "apt-get failed"

if command -v systemctl >/dev/null 2>&1; then
    for package in $missing; do
        case "$package" in
        redis-server | postgresql | haproxy) $sudo systemctl disable "$package" </dev/null >/dev/null 2>&1 || true ;;
        etcd-server) $sudo systemctl disable etcd </dev/null >/dev/null 2>&1 || true ;;
        nginx-light) $sudo systemctl disable nginx </dev/null >/dev/null 2>&1 || true ;;
        esac
    done
fi

for package in $missing; do
    is_there "$package" || {
        echo "packages.sh: $package was installed, yet $(wanted_for "$package") is not there" >&2
        exit 1
    }
done
