#!/usr/bin/env bash
# Builds the kernel driver with AddressSanitizer and UBSan and runs it on every instruction set of this machine.
# libgomp's pool is not instrumented, so threads come from std::thread here, as for ThreadSanitizer, which follows: with
# the baseline only, for all instruction sets share the code that threads meet in.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
for sanitizer in address,undefined thread; do
  build="build/sanitize-${sanitizer%%,*}"
  baseline=$([ "$sanitizer" = thread ] && echo ON || echo OFF)
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCAROUSEL_OPENMP=OFF -DCAROUSEL_WERROR=ON \
    -DCAROUSEL_BASELINE="$baseline" -DCAROUSEL_SANITIZE="$sanitizer" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
  cmake --build "$build" >>"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
  for isa in avx512 avx2 sse4 neon; do
    if CAROUSEL_ISA=$isa "$build/kernel_driver" "$([ "$baseline" = ON ] && echo 20 || echo 120)" 2>"$build.err"; then
      continue
    fi
    grep -q "not available" "$build.err" || { cat "$build.err"; exit 1; }
  done
done
