#!/bin/sh
# Fuzzes one target or all of them for some seconds each, from the corpus on:
#
#   sh fuzz.sh TARGET|all SECONDS [keep]
#
# What breaks a promise ends it; the input then lies in a file whose name is printed. With `keep`, what was found is
# merged into the corpus, as little of it as reaches everything. A nightly toolchain is installed when there is none.
set -eu

cd "$(dirname "$0")/../.."
what=$1
seconds=$2
keep=${3:-}
folder=${CARGO_TARGET_DIR:-target}/fuzz
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal
host=$(rustc -vV | sed -n 's/^host: //p')

# What cargo-fuzz would pass. A target is named, so that build scripts are built without it.
RUSTFLAGS="-Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
    cargo +nightly build --locked --release --manifest-path chaos/fuzz/engine/Cargo.toml \
    --bins --target "$host" --target-dir "$folder/build"
programs=$folder/build/$host/release

"$programs/corpus" names | while read -r target bytes; do
    [ "$what" = all ] || [ "$what" = "$target" ] || continue
    here=$folder/$target
    rm -rf "$here"
    mkdir -p "$here/found" "$here/least"
    "$programs/corpus" unpack "$target" "$here/kept"
    export FLOODGATE_TARGET="$target"
    echo "== $target, for $seconds s"
    # A second is a hundred times as long as any input should take; the limits of memory are those of libFuzzer itself.
    "$programs/fuzz" "$here/found" "$here/kept" -max_total_time="$seconds" -max_len="$bytes" \
        -timeout=1 -rss_limit_mb=2048 -malloc_limit_mb=256 -print_final_stats=1 -verbosity=1 \
        -artifact_prefix="$here/broken-" 2>"$here/log" || {
        tail -60 "$here/log" >&2
        exit 1
    }
    grep -E 'cov: ' "$here/log" | tail -1
    grep -E 'stat::(number_of_executed|average_exec|peak_rss)' "$here/log"
    if [ -n "$keep" ]; then
        "$programs/fuzz" "$here/least" "$here/kept" "$here/found" -set_cover_merge=1 -max_len="$bytes" \
            -verbosity=0 2>>"$here/log"
        "$programs/corpus" pack "$target" "$here/least"
        echo "kept: $(wc -l <"chaos/fuzz/corpus/$target.corpus") inputs"
    fi
done
