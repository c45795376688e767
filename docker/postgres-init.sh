#!/bin/bash
# Run once by the image postgres:16, as user postgres, before it listens on the network: the seed, and
# a pg_hba.conf that lets nobody in over the network without TLS and a SCRAM password.

set -euo pipefail

psql -X -q -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres \
    -v broker_password_file=/made/postgres/orders.password -f /seed/postgres/seed.sql

cat >"$PGDATA/pg_hba.conf" <<'RULES'
local   all all     peer
hostssl all all all scram-sha-256
RULES
