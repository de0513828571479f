#!/bin/sh
# What Stepwire needs of a Postgres server before its first start: run once, by a superuser.
#
#     PGHOST=… PGUSER=postgres PGPASSWORD=… STEPWIRE_POSTGRES_PASSWORD=… deploy/postgres/prepare.sh
#
# In the official Postgres image it runs by itself, from /docker-entrypoint-initdb.d. It may be
# run again. Stepwire itself makes its schemas and tables, as the role made here.
set -eu
: "${STEPWIRE_POSTGRES_PASSWORD:?password of the role stepwire}"
role=${STEPWIRE_POSTGRES_USER:-stepwire}
database=${STEPWIRE_POSTGRES_DATABASE:-stepwire}
superuser=${PGUSER:-${POSTGRES_USER:-postgres}}

run() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$superuser" \
        --set "role=$role" --set "database=$database" --dbname "$1"
}

# CREATEROLE: vector_svc makes a role for each tenant (docs/adr/0010-a-role-per-tenant.md).
# Neither SUPERUSER nor BYPASSRLS: those would see through what keeps tenants apart.
run postgres <<'SQL'
\getenv password STEPWIRE_POSTGRES_PASSWORD
SELECT format('CREATE ROLE %I', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" LOGIN NOSUPERUSER NOBYPASSRLS CREATEROLE PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'role')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
SQL
# Only a superuser may: pgvector is not a trusted extension.
run "$database" <<'SQL'
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
SQL
