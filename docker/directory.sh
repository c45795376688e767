#!/bin/bash
# Starts slapd in the container `directory` of compose.yaml; the first time it is filled, over LDAP,
# so that memberOf is filled too.

set -euo pipefail

place=/var/lib/ldap/pgbridge

main() {
    local root_password
    umask 077
    root_password=$(openssl rand -hex 24)
    mkdir -p "$place"
    cp /made/directory/{ca.pem,server.pem,server.key} "$place/"
    sed -e "s|@DIR@|$place|" -e "s|@ROOT_PASSWORD@|$root_password|" \
        /seed/directory/slapd.conf.in >"$place/slapd.conf"
    if [ ! -d "$place/data" ]; then
        fill "$root_password"
    fi
    chown -R openldap:openldap "$place"
    exec slapd -u openldap -g openldap -f "$place/slapd.conf" -d stats -h 'ldaps:///'
}

# Seen by nobody until it is complete: on loopback, and in a directory that is renamed at the end.
fill() {
    local slapd tries filling="$place/filling"
    rm -rf "$filling"
    mkdir "$filling"
    sed -e "s|^directory .*|directory $filling|" "$place/slapd.conf" >"$place/filling.conf"
    slapd -f "$place/filling.conf" -d none -h 'ldap://127.0.0.1/' &
    slapd=$!
    for ((tries = 0; tries < 100; tries++)); do
        if (exec 3<>/dev/tcp/127.0.0.1/389) 2>/dev/null; then break; fi
        sleep 0.1
    done
    seed | ldapmodify -a -x -H ldap://127.0.0.1 -D cn=admin,dc=example,dc=test \
        -y <(printf '%s' "$1") >/dev/null
    kill "$slapd"
    wait "$slapd"
    rm "$place/filling.conf"
    mv "$filling" "$place/data"
}

seed() {
    local name edits=(-e "s|@SERVICE_PASSWORD@|$(cat /made/directory/service.password)|")
    for name in alice bob carol dave; do
        edits+=(-e "s|@${name^^}_PASSWORD@|$(cat "/made/directory/$name.password")|")
    done
    sed "${edits[@]}" /seed/directory/entries.ldif.in
    echo
    cat /seed/directory/groups.ldif
}

main
