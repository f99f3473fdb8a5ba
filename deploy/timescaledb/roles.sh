#!/bin/sh
# What an administrator makes once, in an empty database server: the owner of the tables, the
# login of mds serve, and the database. mds migrate gives the login its rights.
set -eu
psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv owner OWNER_PASSWORD
\getenv service SERVICE_PASSWORD
CREATE ROLE mds_owner LOGIN PASSWORD :'owner';
CREATE ROLE mds LOGIN PASSWORD :'service';
CREATE DATABASE market OWNER mds_owner;
\connect market
SELECT 'CREATE EXTENSION IF NOT EXISTS timescaledb' FROM pg_available_extensions WHERE name = 'timescaledb' \gexec
SQL
