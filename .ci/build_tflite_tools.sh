#!/usr/bin/env bash
# Builds TensorFlow Lite's official benchmark_model for x86-64 Linux, with XNNPACK and the OpenCL GPU delegate on PoCL,
# from Debian's source package "tensorflow". Its parts: .ci/build_tflite_tools/. More: docs/building-tools.md.
#
#   build_tflite_tools.sh OUTPUT_FOLDER [--jobs N] [--self-test MODEL.tflite]
#
# makes OUTPUT_FOLDER/tflite-2.14.1/. OUTPUT_FOLDER/build/ holds what a second run need not do again; it may be removed.
# Wants root, Debian and 3 GB of disk. Debian's mirror is the one that this machine's own apt uses.
set -euo pipefail

readonly upstream_version=2.14.1
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg
readonly libraries=/usr/lib/x86_64-linux-gnu
readonly programs=(benchmark_model benchmark_model_verbose)
# Only sid has the source package, so what it is built with comes from sid too: in a root folder of its own.
readonly suite=sid
readonly root_packages=(
    g++ cmake ninja-build patchelf
    libtensorflow-lite-dev libxnnpack-dev libruy-dev libeigen3-dev libfarmhash-dev libfft2d-dev libflatbuffers-dev
    libfp16-dev libgemmlowp-dev libneon-2-sse-dev libpthreadpool-dev libcpuinfo-dev libabsl-dev
    opencl-c-headers libvulkan-dev libegl-dev libgles-dev  # headers alone: there is no OpenGL backend
    ocl-icd-libopencl1 pocl-opencl-icd
)
parts=$(cd "$(dirname "${BASH_SOURCE[0]}")/build_tflite_tools" && pwd)
readonly parts

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

main() {
    local output="" self_test_model="" jobs
    jobs=$(nproc)
    while [ $# -gt 0 ]; do
        case $1 in
            --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
            --self-test) self_test_model=$(realpath -e "${2:?--self-test needs a file}"); shift 2 ;;
            -*) fail "unknown option $1; usage: ${0##*/} OUTPUT_FOLDER [--jobs N] [--self-test MODEL.tflite]" ;;
            *) output=$1; shift ;;
        esac
    done
    [ -n "$output" ] || fail "usage: ${0##*/} OUTPUT_FOLDER [--jobs N] [--self-test MODEL.tflite]"
    [ "$(id -u)" = 0 ] || fail "wants root: it makes a Debian root folder and calls chroot"
    [ "$(dpkg --print-architecture)" = amd64 ] || fail "builds on amd64 only"
    mkdir -p "$output/build"
    output=$(realpath "$output")
    cd "$output/build"

    install_host_packages
    fetch_source
    make_root
    unpack_source
    compile "$jobs"
    assemble "$output/tflite-$upstream_version"
    [ -z "$self_test_model" ] || self_test "$output/tflite-$upstream_version" "$self_test_model"
    say "done: $output/tflite-$upstream_version"
    (cd "$output/tflite-$upstream_version" && sha256sum -- *.bin phone/benchmark_model*)
}

install_host_packages() {
    command -v mmdebstrap >/dev/null && command -v xz >/dev/null && return
    say "installing mmdebstrap and xz-utils on this machine"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends mmdebstrap xz-utils debian-archive-keyring >/dev/null
}

# The Debian mirror of this machine's own apt sources, in either of their two formats.
mirror() {
    local found
    found=$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        awk '!found && $1 == "URIs:" {found = $2}
             !found && $1 == "deb" {for (i = 2; !found && i <= NF; i++) if ($i ~ /:\//) found = $i}
             END {print found}') || true  # not all of these files exist
    [ -n "$found" ] || fail "found no Debian mirror in /etc/apt"
    echo "$found"
}

# apt with lists of its own: this machine's package state is neither read nor changed.
own_apt() {
    local command=$1
    shift
    "$command" -o Dir::Etc::sourcelist="$PWD/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$PWD/apt/lists" -o Dir::State::status="$PWD/apt/status" -o Dir::Cache="$PWD/apt/cache" \
        -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root "$@"
}

# Fetches upstream's tarball. Not `apt-get source`: it needs the .dsc too, which mirrors of sid may lack.
# The tarball's SHA-256 comes from the Sources index, whose signature apt checks.
# Debian's patches are left out: they touch nothing that is compiled here.
fetch_source() {
    [ ! -f tensorflow.tar ] || return 0
    say "fetching the source of TensorFlow $upstream_version"
    mkdir -p apt/lists/partial apt/cache/archives/partial
    : >apt/status
    echo "deb-src [signed-by=$keyring] $(mirror) $suite main" >apt/sources.list
    own_apt apt-get -qq update

    local version address name hash
    version=$(own_apt apt-cache showsrc --only-source tensorflow |
        awk -v wanted="$upstream_version+" '$1 == "Version:" && index($2, wanted) == 1 {found = $2} END {print found}')
    [ -n "$version" ] || fail "Debian $suite has no source package of TensorFlow $upstream_version any more"
    read -r address name hash < <(own_apt apt-get -qq --print-uris --only-source source "tensorflow=$version" |
        awk '$2 ~ /\.orig\.tar\./ {gsub("\047", "", $1); print $1, $2, $4}')
    [[ ${hash:-} == SHA256:* ]] || fail "the Sources index gives no SHA-256 for TensorFlow's tarball"
    own_apt /usr/lib/apt/apt-helper -qq download-file "$address" "$PWD/apt/$name" "$hash"
    sha256sum --check --quiet <<<"${hash#SHA256:}  apt/$name"
    mv "apt/$name" tensorflow.tar
}

# A minimal Debian in root/ with the compiler and the libraries; made anew when the list of packages is another one.
make_root() {
    [ "$(cat root/packages 2>/dev/null)" != "${root_packages[*]}" ] || return 0
    say "making a Debian $suite root"
    rm -rf root root.part
    local include
    include=$(IFS=,; echo "${root_packages[*]}")
    # sid's index in a mirror may be weeks old: its date is not checked, its signature is.
    mmdebstrap --quiet --variant=minbase --mode=root --aptopt='Acquire::Check-Valid-Until "false"' \
        --include="$include" "$suite" root.part "deb [signed-by=$keyring] $(mirror) $suite main"
    echo "${root_packages[*]}" >root.part/packages
    mv root.part root
}

# Only what is compiled: a quarter of the source.
unpack_source() {
    [ ! -d root/work/tensorflow ] || return 0
    mkdir -p root/work/tensorflow.part
    tar -xf tensorflow.tar -C root/work/tensorflow.part --strip-components=1 --wildcards \
        '*/tensorflow/lite' '*/tensorflow/tsl' '*/tensorflow/core/util' '*/third_party/eigen3' '*/LICENSE'
    mv root/work/tensorflow.part root/work/tensorflow
}

in_root() { chroot root /usr/bin/env -i PATH=/usr/bin:/usr/sbin LC_ALL=C.UTF-8 "$@"; }

compile() {
    say "compiling with $1 job(s)"
    mkdir -p root/work/parts
    cp -a "$parts/." root/work/parts/
    in_root cmake -S /work/parts -B /work/out -G Ninja -DTENSORFLOW=/work/tensorflow -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_CXX_FLAGS_RELEASE="-O2 -DNDEBUG" -DCMAKE_C_FLAGS_RELEASE="-O2 -DNDEBUG" >cmake.log 2>&1 ||
        { tail -n 30 cmake.log >&2; fail "CMake failed: $PWD/cmake.log"; }
    in_root ninja -C /work/out -j"$1" >ninja.log 2>&1 ||
        { grep -E -m 20 'error|FAILED' ninja.log >&2; fail "the compiler failed: $PWD/ninja.log"; }
}

# What a file of the root needs at run time, loader included.
shared_libraries_of() {
    in_root ldd "$@" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\/.*ld-linux/ {print $1}' | sort -u
}

# A folder that runs on any x86-64 Linux and, as a virtual phone's /vendor/tflite, serves the programs in phone/.
assemble() {
    say "putting the bundle together"
    local bundle=$1 part=$1.part
    rm -rf "$part"
    mkdir -p "$part"/{bin,licences,phone} "$part/lib/dev" "$part/gpu$libraries" "$part/gpu/usr/share"
    cp "$parts/hwloc.xml" "$part/phone/"  # stands in for the phone's /sys, which describes another phone's processor
    add_programs "$part"
    add_gpu_driver "$part"
    add_linker "$part"
    add_libraries "$part"
    add_licences "$part"
    rm -rf "$bundle"
    mv "$part" "$bundle"
}

add_programs() {
    local bundle=$1 program
    for program in "${programs[@]}"; do
        install -m 755 "$parts/run_on_host.sh" "$bundle/$program"
        in_root strip -o "/work/$program" "/work/out/$program"
        install -m 755 "root/work/$program" "$bundle/$program.bin"
        # A phone gets this one file. RPATH, not RUNPATH: the libraries' own dependencies are found through it too.
        in_root patchelf --set-interpreter /vendor/tflite/lib/ld-linux-x86-64.so.2 --force-rpath \
            --set-rpath "/vendor/tflite/lib:/vendor/tflite/gpu$libraries" "/work/$program"
        install -m 755 "root/work/$program" "$bundle/phone/$program"
    done
}

add_gpu_driver() {
    cp -L "root$libraries/libOpenCL.so.1" root/work/out/libOpenCL.so "$1/lib/"
    cp -L "root$libraries/libpocl.so.2" "$1/gpu$libraries/"
    cp -r "root$libraries/pocl" "$1/gpu$libraries/"
    cp -r root/usr/share/pocl "$1/gpu/usr/share/"
}

# PoCL links each kernel as a shared library: a linker, and what the compiler adds to every such library.
add_linker() {
    local compiler_library name
    compiler_library=$(in_root gcc -print-libgcc-file-name)
    install -m 755 "$parts/ld.sh" "$1/bin/ld"
    install -m 755 "root$(in_root readlink -f /usr/bin/ld.bfd)" "$1/bin/ld.bfd"
    cp "root$libraries/crti.o" "root$libraries/crtn.o" "root$compiler_library" "$1/lib/dev/"
    for name in libc.so.6 libm.so.6 libgcc_s.so.1; do ln -s "../$name" "$1/lib/dev/${name%.*}"; done
}

add_libraries() {
    local library driver_parts=("root$libraries"/pocl/*.so)
    for library in $(shared_libraries_of "${programs[@]/#//work/out/}" /usr/bin/ld.bfd "${driver_parts[@]#root}" \
        "$libraries"/{libpocl.so.2,libOpenCL.so.1}); do
        case $library in *libpocl*) ;; *) cp -L "root$library" "$1/lib/" ;; esac
    done
}

# The bundle holds other people's work: each package's version and its copyright file, as Debian has it.
add_licences() {
    local bundle=$1 files package
    cp root/work/tensorflow/LICENSE "$bundle/licences/tensorflow.LICENSE"
    mapfile -t files < <(find "$bundle/lib" "$bundle/bin" "$bundle/gpu" -type f -printf '*/%f\n')
    {
        in_root dpkg-query -S "${files[@]}" 2>/dev/null | sed '/^diversion/d; s/:.*//' || true  # the shim is in no package
        printf '%s\n' "${root_packages[@]}" | grep -e '-dev$'  # their headers are compiled in
    } | sort -u | while read -r package; do
        cp "root/usr/share/doc/$package/copyright" "$bundle/licences/$package.copyright"
        in_root dpkg-query -W "$package"
    done >"$bundle/licences/packages.txt"
}

# The model, whose outputs must be float32, on XNNPACK and on the GPU: both take part of it, and their outputs are equal.
# (The tool's random inputs come from a generator with a fixed seed: they are the same in both runs.)
self_test() {
    local bundle=$1 model=$2 folder delegate difference
    say "self-test with $model"
    folder=$(mktemp -d "$PWD/self-test.XXXXXX")
    for delegate in xnnpack gpu; do
        POCL_CACHE_DIR=$folder/pocl "$bundle/benchmark_model" --graph="$model" "--use_$delegate=true" --num_runs=5 \
            --max_secs=5 --output_filepath="$folder/$delegate.raw" >"$folder/$delegate.log" 2>&1 ||
            { tail -n 20 "$folder/$delegate.log" >&2; fail "self-test: the tool failed with --use_$delegate=true"; }
        grep -E '(completely|partially) executed by the delegate' "$folder/$delegate.log" ||
            fail "self-test: the delegate $delegate took no part of the model"
        grep 'Inference timings' "$folder/$delegate.log"
    done
    difference=$(paste <(od -An -v -w4 -tf4 "$folder/xnnpack.raw") <(od -An -v -w4 -tf4 "$folder/gpu.raw") |
        awk 'NF != 2 || /nan|inf/ {bad = 1}
             {d = $1 - $2; if (d < 0) d = -d; if (d > max) max = d}
             END {print NR && !bad ? max + 0 : "unknown"}')
    awk -v d="$difference" 'BEGIN {exit !(d != "unknown" && d < 1e-3)}' ||
        fail "self-test: the outputs of GPU and CPU differ ($difference)"
    say "self-test passed: GPU and CPU differ by at most $difference"
    rm -rf "$folder"
}

main "$@"
