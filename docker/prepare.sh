#!/bin/bash
# Makes what the containers of compose.yaml share, once, in the volume /made: an authority, one
# certificate, passwords, and the configuration of pgbridge. Each part is given to the user that
# reads it. The passwords of the people are printed: `docker compose logs prepare`.

set -euo pipefail

main() {
    if [ -e /made/finished ]; then
        exit 0
    fi
    umask 077
    chmod 755 /made
    cd /made
    mkdir -p postgres directory pgbridge
    make_certificates
    make_passwords
    make_config
    # The users of the images: postgres:16, Debian's slapd, docker/Dockerfile.
    chown -R 999:999 postgres
    chown -R openldap:openldap directory
    chown -R 10432:10432 pgbridge
    touch finished
}

make_certificates() {
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes) place
    openssl req -x509 "${key[@]}" -keyout ca.key -out ca.pem -days 365 -subj "/CN=pgbridge compose"
    openssl req "${key[@]}" -keyout server.key -out server.csr -subj "/CN=localhost"
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' \
        DNS:localhost,DNS:postgres,DNS:directory,DNS:pgbridge,IP:127.0.0.1 >names
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 \
        -extfile names -out server.pem
    for place in postgres directory pgbridge; do
        cp ca.pem server.pem server.key "$place/"
    done
    rm ca.key server.key server.csr names
}

make_passwords() {
    local name
    openssl rand -hex 24 >postgres/superuser.password
    openssl rand -hex 24 | tee postgres/orders.password >pgbridge/orders.password
    openssl rand -hex 24 | tee directory/service.password >pgbridge/corp.password
    for name in alice bob carol dave; do
        echo "$name-$(openssl rand -hex 4)" >"directory/$name.password"
        echo "$name logs in with $(cat "directory/$name.password")"
    done
}

# What clients are told is meant for this machine, where the ports are published on loopback.
make_config() {
    sed -e 's|@LISTEN@|0.0.0.0:8432|' \
        -e 's|@PUBLIC_URL@|https://localhost:8432|' \
        -e 's|@STATE@|/var/lib/pgbridge|' \
        -e 's|@LDAP_HOST@|directory|' \
        -e 's|@LDAP_PORT@|636|' \
        -e 's|@PG_HOST@|postgres|' \
        -e 's|@PG_PORT@|5432|' \
        -e 's|@CLIENT_HOST@|localhost|' \
        -e 's|@CLIENT_PORT@|5432|' \
        -e 's|@CLIENT_CA@|/tmp/pgbridge-ca.pem|' \
        /seed/pgbridge/pgbridge.toml.in >pgbridge/pgbridge.toml
    cp /seed/pgbridge/pg_ident.conf pgbridge/
}

main
