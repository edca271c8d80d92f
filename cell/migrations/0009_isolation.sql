-- Isolation: a row of one org is never seen or written by a transaction of another (INV-9), and the ledger only grows.
--
-- A transaction is of the org that enter_org has set for it, or it sees an error instead of rows. The policies bind the
-- tables' owner as well. They ask current_org() in a sub-select, so that it is called once a statement and not once a row.
--
-- What this holds against is a statement that forgets its org or names a wrong one. A process that was taken over by a
-- stranger may enter any org: the cell is the limit there.
--
-- The roles are made by deploy/postgres/roles.sql. A migration that comes after this one and makes a table with an org does
-- the same for it; whatever made one before finds its grants here.

-- The org of this transaction. An error outside of one, and where none was entered.
create function current_org() returns int
language plpgsql stable parallel safe as $$
declare
    v_org text := current_setting('floodgate.org', true);
begin
    if coalesce(v_org, '') = '' then
        raise exception 'this transaction is of no org'
            using errcode = 'FG004', hint = 'call enter_org first, in the same transaction';
    end if;
    return v_org::int;
end $$;

-- Every table with an org, whichever migration made it.
do $$
declare
    t regclass;
begin
    for t in
        select c.oid from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'org' and not a.attisdropped
        where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
    loop
        execute format('alter table %s enable row level security', t);
        execute format('alter table %s force row level security', t);
        execute format('create policy of_org on %s using (org = (select current_org()))', t);
    end loop;
end $$;

-- What a cell's processes may do. Nothing else is granted, to them or to anybody.
revoke all on all tables in schema public from public;
revoke all on all functions in schema public from public;
grant usage on schema public to floodgate_cell;
grant execute on all functions in schema public to floodgate_cell;

-- What an org is called in this cell, of the org that a transaction is of. The name of an alias is nobody else's business,
-- and the alias of a name is told by org_alias.
grant select on org to floodgate_cell;
grant select, insert, update (start_at, end_at, stopped, cancelled, update_ms) on sale to floodgate_cell;
-- A revision's terms stand.
grant select, insert on terms to floodgate_cell;
grant select, insert, delete on share to floodgate_cell;
-- What was given up or accepted under an id stands.
grant select, insert on transfer to floodgate_cell;
-- So does what went back.
grant select, insert on given_back to floodgate_cell;
-- An order's buyer, units, price and ticket stand, and the order stays.
grant select, insert, update (state, attempt, intent, refunding, refusals) on "order" to floodgate_cell;
-- A unit of one order never becomes another's but by way of nobody's.
grant select, insert, update (slot), delete on unit to floodgate_cell;
-- What happened, happened.
grant select, insert on ledger to floodgate_cell;
-- A newer head takes the place of an older one.
grant select, insert, update (seq, head) on head to floodgate_cell;
-- Processes are of no org.
grant select, insert, update, delete on process to floodgate_cell;

-- A bucket's row changes in all but its key, and stays.
do $$
declare
    v_columns text;
begin
    select string_agg(quote_ident(attname), ', ') into v_columns from pg_attribute
    where attrelid = 'bucket'::regclass and attnum > 0 and not attisdropped
      and attname not in ('org', 'sale', 'bucket');
    execute format('grant select, insert, update (%s) on bucket to floodgate_cell', v_columns);
    -- Where migrations are counted, a process that may not run them waits until they are there.
    if to_regclass('_sqlx_migrations') is not null then
        grant select on _sqlx_migrations to floodgate_cell;
    end if;
end $$;

-- What must look over all orgs: which buckets there are, who keeps them, and what an org is called. Its role sees nothing
-- of buyers, and nobody works as it: its functions are its only use.
create policy finder on bucket for select to floodgate_finder using (true);
create policy finder on sale for select to floodgate_finder using (true);
create policy finder on org to floodgate_finder using (true);
create policy finder on head for select to floodgate_finder using (true);
grant usage on schema public to floodgate_finder;
grant select (org, sale, bucket, epoch, keeper, seq, settled) on bucket to floodgate_finder;
grant select (org, sale, id) on sale to floodgate_finder;
grant select (org, sale, bucket, seq) on head to floodgate_finder;
grant select, insert (id) on org to floodgate_finder;

-- The buckets that are not at rest, at most p_most.
create function buckets_to_keep(p_most bigint)
returns table (org int, sale int, bucket int, sale_id text, epoch bigint, keeper text)
language sql stable security definer set search_path = public, pg_temp as $$
    select b.org, b.sale, b.bucket, s.id, b.epoch, b.keeper
    from bucket b join sale s on s.org = b.org and s.sale = b.sale
    where not b.settled and b.seq > 0
    order by b.org, b.sale, b.bucket limit p_most
$$;

-- The buckets that are at rest, the newest sales first, at most p_most.
create function buckets_at_rest(p_most bigint)
returns table (org int, sale int, bucket int, sale_id text)
language sql stable security definer set search_path = public, pg_temp as $$
    select b.org, b.sale, b.bucket, s.id
    from bucket b join sale s on s.org = b.org and s.sale = b.sale
    where b.settled order by b.sale desc limit p_most
$$;

-- At most p_most buckets at rest of whose ledgers the newest head does not cover all.
create function unsigned_at_rest(p_most int)
returns table (org int, sale int, bucket int, org_id text, sale_id text)
language sql stable security definer set search_path = public, pg_temp as $$
    select b.org, b.sale, b.bucket, o.id, s.id
    from bucket b
    join org o on o.org = b.org
    join sale s on s.org = b.org and s.sale = b.sale
    left join head h on h.org = b.org and h.sale = b.sale and h.bucket = b.bucket
    where b.settled and b.seq > coalesce(h.seq, 0)
    order by b.sale, b.bucket limit p_most
$$;

-- What an org is called in this cell; it gets a name when it has none.
create function org_alias(p_id text) returns int
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_org int;
begin
    select org into v_org from org where id = p_id;
    if not found then
        insert into org (id) values (p_id) on conflict do nothing;
        select org into strict v_org from org where id = p_id;
    end if;
    return v_org;
end $$;

-- A function can only be given to a role that may make functions here.
grant create on schema public to floodgate_finder;
alter function buckets_to_keep(bigint) owner to floodgate_finder;
alter function buckets_at_rest(bigint) owner to floodgate_finder;
alter function unsigned_at_rest(int) owner to floodgate_finder;
alter function org_alias(text) owner to floodgate_finder;
revoke create on schema public from floodgate_finder;
revoke all on function buckets_to_keep(bigint), buckets_at_rest(bigint), unsigned_at_rest(int),
    org_alias(text) from public;
grant execute on function buckets_to_keep(bigint), buckets_at_rest(bigint), unsigned_at_rest(int),
    org_alias(text) to floodgate_cell;
