# Shared by the scripts of this folder: source it, do not run it.
# shellcheck shell=bash

set -euo pipefail

# The root of the checkout, whatever directory the caller is in.
# shellcheck disable=SC2034 # for those who source this
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

am_root() { [ "$(id -u)" = 0 ]; }

# Where what Debian does not package is kept between runs. As root the servers run as service users,
# who may enter no home directory: hence /var/cache.
cache_directory() {
    if am_root; then
        echo /var/cache/pgbridge
    else
        echo "${XDG_CACHE_HOME:-$HOME/.cache}/pgbridge"
    fi
}

# The `bin` directory of PostgreSQL MAJOR, or failure: the same places as tests/support/postgres.rs.
postgres_programs() {
    local major=$1 named place
    named="PGBRIDGE_POSTGRES_$major"
    for place in "${!named:-}" "/usr/lib/postgresql/$major/bin" \
        "$(cache_directory)/postgresql-$major/native/bin"; do
        if [ -x "$place/postgres" ]; then
            echo "$place"
            return
        fi
    done
    return 1
}
