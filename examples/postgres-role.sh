#!/bin/sh
# Run by the image of PostgreSQL when it makes a new cluster: creates the role of all containers of the service. It owns
# the database hpo and is no superuser, and the superuser has no password, so it cannot log in over the network.
set -eu
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv password POSTGRES_PASSWORD
CREATE ROLE optuna LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
ALTER DATABASE hpo OWNER TO optuna;
REVOKE CONNECT, TEMPORARY ON DATABASE hpo FROM PUBLIC;
ALTER ROLE CURRENT_USER PASSWORD NULL;
SQL
