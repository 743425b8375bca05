# Prepares a Rust compiler for wasm32-unknown-unknown in DIRECTORY, from Debian's packages and without root:
#   bash guest-toolchain.sh DIRECTORY
# Afterwards DIRECTORY/rustc is the compiler and DIRECTORY/linker its linker. Debian has no package with the standard
# library for this target and a compiler that is new enough, so it is built here, once.
set -euo pipefail

directory=$1
parts=$directory.part
rm -rf "$parts"
mkdir -p "$parts/debs" "$parts/std/src"
trap 'rm -rf "$parts"' EXIT

# The packages that a package needs whose names match a pattern.
needs() {
    apt-cache depends "$1" | sed -n 's/^ *Depends: \([^<].*\)/\1/p' | grep -E "$2" || true
}
library=$(needs libstd-rust-web-dev '^libstd-rust-web-[0-9]')
if [ -z "$library" ]; then
    echo "the package rustc-web is not known here; Debian has it since bookworm-security and trixie" >&2
    exit 1
fi
llvm=$(needs "$library" '^libllvm')
(cd "$parts/debs" && apt-get download rustc-web "$library" libstd-rust-web-dev rust-web-src $llvm)
for package in "$parts"/debs/*.deb; do
    dpkg -x "$package" "$parts/root"
done
rm -rf "$parts/debs"

# The linker: that of the installed compiler, or LLVM's.
linker=
for candidate in "$(rustc --print sysroot 2>/dev/null)"/lib/rustlib/*/bin/rust-lld "$(command -v wasm-ld || true)"; do
    if [ -x "$candidate" ]; then
        linker=$candidate
        break
    fi
done
if [ -z "$linker" ]; then
    echo "there is no linker for WebAssembly: apt-get install lld" >&2
    exit 1
fi
ln -s "$linker" "$parts/linker"

# The compiler finds its libraries wherever the directory is moved to.
cat >"$parts/rustc" <<'SCRIPT'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
for libraries in "$here"/root/usr/lib/*-linux-gnu*; do
    LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$here/root/usr/bin/rustc" "$@"
SCRIPT
chmod +x "$parts/rustc"

printf '[package]\nname = "std-only"\nversion = "0.0.0"\nedition = "2021"\n[profile.release]\npanic = "abort"\n[workspace]\n' \
    >"$parts/std/Cargo.toml"
: >"$parts/std/src/lib.rs"
# Bitcode, so that functions can be linked with optimisation across crates; and names for the places of the sources, which get
# into functions, so that the same compiler makes the same bytes wherever it lies.
(
    cd "$parts/std"
    export RUSTC=$parts/rustc CARGO_TARGET_DIR=$parts/target RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$parts/linker
    sources=$("$RUSTC" --print sysroot)/lib/rustlib/src/rust
    cargo fetch --locked --manifest-path "$sources/library/Cargo.toml" --target wasm32-unknown-unknown
    flags=-Cembed-bitcode=yes
    for place in "$sources=/rust" "$(readlink -f "$sources")=/rust"; do
        flags+=$'\x1f'--remap-path-prefix=$place
    done
    for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=$'\x1f'--remap-path-prefix=$registry=/crates
    done
    export CARGO_ENCODED_RUSTFLAGS=$flags
    cargo build --release -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown
)
installed=$parts/root/usr/lib/rustlib/wasm32-unknown-unknown/lib
mkdir -p "$installed"
for built in "$parts"/target/wasm32-unknown-unknown/release/deps/*.rlib; do
    case $built in
    */libstd_only*) ;;
    *) cp "$built" "$installed/" ;;
    esac
done
rm -rf "$parts/target" "$parts/std" "$parts/root/usr/src"

rm -rf "$directory"
mv "$parts" "$directory"
trap - EXIT
