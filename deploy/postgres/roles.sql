-- What a cell's Postgres needs before the first process of the cell starts: three roles and a database. Whoever runs the
-- server does this once, as a superuser: psql -f roles.sql postgres, and then gives the first two roles passwords (\password).
-- Statements are separated by empty lines, so that a server in single-user mode can read them, too.

-- Owns the schema and runs the migrations, and is used for nothing else: --postgres-owner of a cell's processes. Row
-- security is forced, so it binds this role as well: backups and repairs are made by a superuser.
create role floodgate login;

-- What a cell's processes work as: --postgres. It owns nothing and may do what the migrations grant it by name.
create role floodgate_cell login;

-- Nobody logs in as this one. It owns the few functions that look over all orgs, and may read what these return.
create role floodgate_finder;

-- Migrations hand those functions over.
grant floodgate_finder to floodgate;

create database floodgate owner floodgate;

revoke all on database floodgate from public;

grant connect on database floodgate to floodgate_cell;
