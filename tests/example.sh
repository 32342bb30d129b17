#!/bin/sh
# The example compiles without warnings as C and as C++ against the public header and the built library, and tells a story.
set -eu
lib=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags="-Wall -Wextra -Werror -Iinclude"
archives="$lib/libtandem.a $(ls "$lib"/src/kernel/*.a)"
libraries="$(pkg-config --libs libcjson libpcre2-8 libutf8proc libsodium ucx libmicrohttpd) -lpthread -lm"
sanitize=${TD_EXAMPLE_FLAGS:-}
[ "$(wc -l < examples/story.c)" -lt 60 ] || { echo "examples/story.c: expected under 60 lines" >&2; exit 1; }
gcc -std=c11 $flags $sanitize examples/story.c -Wl,--start-group $archives -Wl,--end-group $libraries -o "$out/c"
"$out/c" models/nano "Once upon a time" | grep -q "tokens,"
if command -v g++ >/dev/null; then
    g++ -std=c++11 $flags -fsyntax-only -x c++ examples/story.c
else
    gcc -std=c11 -Wc++-compat $flags -fsyntax-only examples/story.c
    echo "SKIPPED: no g++ here, so the C++ compilation of the example was not tried (-Wc++-compat was)"
fi
