# The main job of pgbridge from end to end, without a person: sourced by `demo`, which has started
# the servers. Each step says what it is about to show; the first that fails ends the demo.
# shellcheck shell=bash disable=SC2154

# Passwords of leases and tokens of sessions, to be looked for where they must not be.
secrets=()

check_everything() {
    export XDG_STATE_HOME="$work/state"
    export PGCONNECT_TIMEOUT=10
    unset PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGSERVICE PGSSLMODE PGSSLROOTCERT
    check_logins
    check_roles
    check_lease
    check_psql
    check_curl
    check_audit
    step "log out: the session is over"
    run logout
    refused whoami
    step "after all of it, no lease role is left"
    expect "$(superuser_psql -c "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pgb\\_%'")" 0
}

check_logins() {
    step "a wrong password, a locked person and an unknown one are refused"
    refused login --user alice --password-stdin <<<"wrong"
    refused login --user dave --password-stdin <<<"${password[dave]}"
    refused login --user nobody --password-stdin <<<"${password[alice]}"
    refused whoami
    step "alice logs in with the password of the directory"
    run login --user alice --password-stdin <<<"${password[alice]}"
    contains "$(run whoami)" alice
}

check_roles() {
    step "alice is offered orders_read, and only that"
    expect "$(run roles --json | jq -r '.roles[].role')" orders_read
    step "orders_write is refused to alice, and nothing is created for it"
    refused issue orders --role orders_write --reason "trying"
    expect "$(superuser_psql -c "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pgb\\_%'")" 0
}

# One lease from its issue to the proof that nothing is left of it.
check_lease() {
    local lease id role secret oid
    step "alice is issued a role"
    lease=$(run issue orders --ttl 15m --reason "demo" --format json)
    id=$(jq -er '.lease.id' <<<"$lease")
    role=$(jq -er '.lease.role_name' <<<"$lease")
    secret=$(jq -er '.password' <<<"$lease")
    secrets+=("$secret")
    oid=$(superuser_psql -c "SELECT oid FROM pg_roles WHERE rolname = '$role'")
    [ -n "$oid" ] || fail "$role is not in pg_roles"
    expect "$(catalogue_of "$oid" "$role")" "1 t f"

    step "psql reads with it, over TLS, and cannot write"
    expect "$(lease_psql "$role" "$secret" 'SELECT count(*) FROM sales.customer')" 3
    if lease_psql "$role" "$secret" 'DELETE FROM sales.purchase' 2>>"$work/check.log"; then
        fail "a reader could write"
    fi
    contains "$(run leases --json)" "$id"

    step "the lease is revoked: the login is refused and the catalogue knows nothing of it"
    run revoke "$id" >>"$work/check.log"
    if lease_psql "$role" "$secret" 'SELECT 1' 2>>"$work/check.log"; then
        fail "the revoked role can log in"
    fi
    expect "$(catalogue_of "$oid" "$role")" "0 f f"
}

# Roles with this OID or name; whether it is in any membership; whether it owns or was granted
# anything or has a session.
catalogue_of() {
    superuser_psql -F ' ' -c "
        SELECT (SELECT count(*) FROM pg_roles WHERE oid = $1 OR rolname = '$2'),
               EXISTS (SELECT FROM pg_auth_members WHERE $1 IN (roleid, member, grantor)),
               EXISTS (SELECT FROM pg_shdepend
                       WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1
                         AND classid <> 'pg_auth_members'::regclass)
               OR EXISTS (SELECT FROM pg_stat_activity WHERE usesysid = $1)"
}

lease_psql() {
    PGPASSWORD=$2 psql -X -q -A -t -w -c "$3" \
        "host=127.0.0.1 port=$pg_port dbname=orders user=$1 sslmode=verify-full sslrootcert=$work/ca.pem"
}

check_psql() {
    step "pgbridge psql: issues, runs psql, revokes"
    expect "$(run psql orders -- -X -A -t -c 'SELECT count(*) FROM sales.customer')" 3
    step "bob, who is in the group of the writers, may write"
    run login --user bob --password-stdin <<<"${password[bob]}"
    run psql orders --role orders_write --reason "demo" -- -X -q -v ON_ERROR_STOP=1 \
        -c 'BEGIN; DELETE FROM sales.purchase; ROLLBACK'
    refused issue orders --role reports_read
}

check_curl() {
    local lease id token
    step "one curl is enough: HTTP Basic on the issuing call"
    lease=$(api -K <(basic carol) "$PGBRIDGE_URL/v1/leases" \
        -d '{"cluster": "orders", "role": "reports_read", "ttl": "5m"}')
    id=$(jq -er '.lease.id' <<<"$lease")
    contains "$(jq -er '.uri' <<<"$lease")" "sslmode=verify-full"
    step "the same call is refused to a locked person"
    if api -K <(basic dave) "$PGBRIDGE_URL/v1/leases" \
        -d '{"cluster": "orders", "role": "orders_read"}'; then
        fail "dave is locked and got a lease"
    fi
    step "with a session of the API, carol ends her lease"
    token=$(password=${password[carol]} jq -n '{username: "carol", password: env.password}' |
        api "$PGBRIDGE_URL/v1/login" -d @- | jq -er .token)
    secrets+=("$token")
    lease=$(api -K <(bearer "$token") -X DELETE "$PGBRIDGE_URL/v1/leases/$id")
    expect "$(jq -er '.state' <<<"$lease")" revoked
}

api() {
    curl -fsS --max-time 30 --cacert "$PGBRIDGE_CA" -H 'Content-Type: application/json' "$@" \
        2>>"$work/check.log"
}

# Secrets go to curl in a file (-K): command lines can be read by everybody on the machine.
basic() { printf 'user = "%s:%s"\n' "$1" "${password[$1]}"; }
bearer() { printf 'header = "Authorization: Bearer %s"\n' "$1"; }

check_audit() {
    step "the audit record names every lease, and no log or record holds a password"
    "$pgbridge" audit export --config "$work/pgbridge.toml" >"$work/audit.log"
    jq -es 'length > 0' "$work/audit.log" >>"$work/check.log"
    contains "$(cat "$work/audit.log")" orders_read
    local secret
    for secret in "${password[@]}" "${secrets[@]}"; do
        if grep -l -F -e "$secret" "$work"/*.log; then
            fail "a log or the audit holds a secret"
        fi
    done
}

# --- words ---------------------------------------------------------------------------------------

step() {
    # shellcheck disable=SC2034 # for `demo`, which says it on failure
    stage=$1
    echo "  $1"
}

run() { "$pgbridge" "$@" 2>>"$work/check.log"; }

refused() {
    if "$pgbridge" "$@" >>"$work/check.log" 2>&1; then
        fail "pgbridge $1 ${2:-} succeeded and should not"
    fi
}

expect() { [ "$1" = "$2" ] || fail "got \`$1\`, not \`$2\`"; }

contains() { [[ $1 == *"$2"* ]] || fail "no \`$2\` in: $1"; }
