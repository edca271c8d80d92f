-- One function a transition. Each takes the bucket's row first, refuses an older epoch, and is safe to repeat: a batch
-- that was applied is not applied again. Each does all of its batch or, by an exception, nothing; the caller then sends
-- the batch's entries one by one. The conditions that a caller must tell apart have SQLSTATEs of their own:
--   FG001  stale: the bucket has a newer epoch, or another keeper's batches
--   FG002  the sale is not selling at this moment
--   FG003  an order is not in the state, or not at the time, that the transition needs
--   FG004  the transaction is of no org, or of another org or bucket than is asked for: a defect of the caller
--   23505  a unique key of the tables says no; the constraint's name says which

-- Makes this transaction one of an org, for 0009_isolation.sql to hold it to. It cannot become another's. Keeps INV-9.
create function enter_org(p_org int) returns void
language plpgsql as $$
declare
    v_org text := current_setting('floodgate.org', true);
begin
    if coalesce(v_org, '') = '' then
        perform set_config('floodgate.org', p_org::text, true);
    elsif v_org <> p_org::text then
        raise exception 'this transaction is of org %, not of org %', v_org, p_org
            using errcode = 'FG004';
    end if;
end $$;

-- Makes this transaction one of a bucket, and of its org. It cannot become another's.
create function enter_bucket(p_org int, p_sale int, p_bucket int) returns void
language plpgsql as $$
declare
    v_asked text := format('%s/%s/%s', p_org, p_sale, p_bucket);
    v_bucket text := current_setting('floodgate.bucket', true);
begin
    if coalesce(v_bucket, '') = '' then
        perform enter_org(p_org);
        perform set_config('floodgate.bucket', v_asked, true);
    elsif v_bucket <> v_asked then
        raise exception 'this transaction is of bucket %, not of %', v_bucket, v_asked
            using errcode = 'FG004';
    end if;
end $$;

-- Takes the bucket's row, which makes this transaction one of that bucket. Every function that writes to a bucket calls
-- it first. Keeps INV-8.
create function lock_bucket(p_org int, p_sale int, p_bucket int, p_epoch bigint) returns bucket
language plpgsql as $$
declare
    b bucket;
begin
    perform enter_bucket(p_org, p_sale, p_bucket);
    select * into b from bucket
    where org = p_org and sale = p_sale and bucket = p_bucket
    for no key update;
    if not found or b.epoch <> p_epoch then
        raise exception 'bucket % of sale % has epoch %, not %', p_bucket, p_sale, b.epoch, p_epoch
            using errcode = 'FG001';
    end if;
    return b;
end $$;

-- Appends one row to the ledger behind the locked row b, at the time p_at_us. Returns the new head.
create function append_ledger(b bucket, p_at_us bigint, p_entries bytea, p_root bytea) returns bytea
language plpgsql as $$
declare
    v_hash bytea := sha256(
        b.head || int8send(b.seq + 1) || int8send(b.epoch) || int8send(p_at_us) || p_root);
begin
    insert into ledger (org, sale, bucket, seq, epoch, at_us, entries, root, hash)
    values (b.org, b.sale, b.bucket, b.seq + 1, b.epoch, p_at_us, p_entries, p_root, v_hash);
    return v_hash;
end $$;

-- This server's clock in microseconds since 1970. It decides openings, deadlines and ends, and may be set back.
create function clock_us() returns bigint
language sql as $$
    select (extract(epoch from clock_timestamp()) * 1000000)::bigint
$$;

-- What the ledger writes for now: never before what the bucket has written. Where a clock went ahead and was set right
-- again, these times stand until it has caught up; nothing is decided by them.
create function now_us(b bucket) returns bigint
language sql as $$
    select greatest(clock_us(), b.at_us)
$$;

-- Holds units: orders p_orders[i] of buyers p_buyers[i]; units p_units[j] go to order p_unit_orders[j] in the buyer's
-- slot p_slots[j]. Returns the time of the hold, from which deadlines count.
create function hold(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_batch bigint, p_revision int,
    p_orders uuid[], p_buyers uuid[], p_quantities smallint[], p_tickets bigint[],
    p_unit_orders uuid[], p_unit_buyers uuid[], p_units int[], p_slots smallint[],
    p_entries bytea, p_root bytea
) returns bigint
language plpgsql as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
    t terms;
    v_now_us bigint := clock_us();
    v_now timestamptz := to_timestamp(v_now_us / 1000000.0);
    v_at_us bigint := greatest(v_now_us, b.at_us);
    v_head bytea;
begin
    if b.hold_batch = p_batch then
        return b.hold_at_us;
    elsif b.hold_batch <> p_batch - 1 then
        raise exception 'hold batch % follows %', p_batch, b.hold_batch using errcode = 'FG001';
    end if;
    perform 1 from sale s
    where s.org = p_org and s.sale = p_sale
      and not s.stopped and s.start_at <= v_now and v_now < s.end_at;
    if not found then
        raise exception 'the sale is not selling' using errcode = 'FG002';
    end if;
    select * into strict t from terms
    where org = p_org and sale = p_sale and revision = p_revision;
    if exists (select 1 from unnest(p_slots) slot where slot >= t.cap or slot < 0) then
        raise exception 'a slot is not below the cap'
            using errcode = '23505', constraint = 'unit_slot';
    end if;
    v_head := append_ledger(b, v_at_us, p_entries, p_root);
    insert into "order" (org, sale, id, buyer, bucket, quantity, state, revision, ticket, deadline)
    select p_org, p_sale, o.id, o.buyer, p_bucket, o.quantity, 1, p_revision, o.ticket,
           v_now + t.hold_ttl_ms * interval '1 millisecond'
    from unnest(p_orders, p_buyers, p_quantities, p_tickets) as o (id, buyer, quantity, ticket);
    insert into unit (org, sale, unit, bucket, buyer, id, slot)
    select p_org, p_sale, u.unit, p_bucket, u.buyer, u.id, u.slot
    from unnest(p_units, p_unit_buyers, p_unit_orders, p_slots) as u (unit, buyer, id, slot);
    update bucket
    set seq = b.seq + 1, head = v_head, at_us = v_at_us,
        hold_batch = p_batch, hold_at_us = v_now_us,
        live = b.live + cardinality(p_units)
    where org = p_org and sale = p_sale and bucket = p_bucket;
    return v_now_us;
end $$;

-- Moves orders on: p_kinds[i] (floodgate.events.v1.LedgerEntry.Kind) happens to order p_orders[i]. p_units[j] with
-- p_unit_orders[j] name the units that become free: exactly those that the orders hold.
--   3 EXPIRED    HELD, or PAYING or REVIEW in this attempt, once its time is over; its units are free
--   4 CANCELLED  HELD; its units are free
--   5 PAYING     HELD, while its time lasts; the next attempt and the provider's intent are written down
--   6 DECLINED   PAYING in this attempt, while its time lasts; it is HELD again
--   7 PAID       PAYING or REVIEW in this attempt
--   8 REVIEW     PAYING in this attempt
--   9 REFUNDED   not PAID by this intent: a capture that the order does not claim went back; the order stays as it is
-- What becomes of an attempt ends that attempt alone: whoever comes late with the end of an earlier one is refused.
-- Returns the time by which it was decided.
create function settle(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_batch bigint,
    p_orders uuid[], p_kinds smallint[], p_attempts smallint[], p_intents text[],
    p_unit_orders uuid[], p_units int[],
    p_entries bytea, p_root bytea
) returns bigint
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
    v_now_us bigint := clock_us();
    v_now timestamptz := to_timestamp(v_now_us / 1000000.0);
    v_at_us bigint := greatest(v_now_us, b.at_us);
    v_head bytea;
    v_moved int;
    v_ended uuid[];
    v_ending int;
    v_freed int := 0;
    v_paid int;
begin
    if b.settle_batch = p_batch then
        return b.settle_at_us;
    elsif b.settle_batch <> p_batch - 1 then
        raise exception 'settle batch % follows %', p_batch, b.settle_batch using errcode = 'FG001';
    end if;

    -- Each order is found by its key and changed where it was found. Nothing else is left to the planner: what it knows of
    -- a table that fills in seconds is old, and one plan that walks the sale's orders costs a second a batch.
    with found as (
        select e.*, o.ctid as at
        from unnest(p_orders, p_kinds, p_attempts, p_intents) as e (id, kind, attempt, intent)
        cross join lateral (
            select o.ctid from "order" o
            where o.sale = p_sale and o.id = e.id and o.org = p_org and o.bucket = p_bucket
              and case e.kind
              when 3 then o.deadline <= v_now
                          and (o.state = 1 or o.state in (2, 6) and e.attempt = o.attempt)
              when 4 then o.state = 1
              when 5 then o.state = 1 and o.deadline > v_now and e.attempt = o.attempt + 1
              when 6 then o.state = 2 and o.deadline > v_now and e.attempt = o.attempt
              when 7 then o.state in (2, 6) and e.attempt = o.attempt
              when 8 then o.state = 2 and e.attempt = o.attempt
              when 9 then o.state <> 3 or o.intent is distinct from e.intent
              else false end
            offset 0) o
    ), moved as (
        update "order" o
        set state = case f.kind when 3 then 4 when 4 then 5 when 5 then 2 when 6 then 1 when 7 then 3
                                when 8 then 6 else o.state end,
            attempt = case f.kind when 5 then f.attempt else o.attempt end,
            intent = case f.kind when 5 then f.intent else o.intent end
        from found f
        where o.ctid = f.at
        returning o.id, o.quantity, f.kind
    )
    select count(*), array_agg(id) filter (where kind in (3, 4)),
           coalesce(sum(quantity) filter (where kind in (3, 4)), 0),
           coalesce(sum(quantity) filter (where kind = 7), 0)
    into v_moved, v_ended, v_ending, v_paid
    from moved;
    if v_moved <> cardinality(p_orders) then
        raise exception '% of % orders cannot move as asked', cardinality(p_orders) - v_moved,
            cardinality(p_orders) using errcode = 'FG003';
    end if;

    if 9 = any (p_kinds) then
        insert into given_back (org, sale, bucket, intent)
        select p_org, p_sale, p_bucket, e.intent
        from unnest(p_kinds, p_intents) as e (kind, intent)
        where e.kind = 9 and e.intent is not null
        on conflict do nothing;
    end if;

    if cardinality(p_units) > 0 then
        delete from unit u
        using (
            select h.at
            from unnest(p_unit_orders, p_units) as f (id, unit)
            cross join lateral (
                select u.ctid as at from unit u
                where u.sale = p_sale and u.unit = f.unit and u.org = p_org and u.id = f.id
                offset 0) h
        ) f
        where u.ctid = f.at;
        get diagnostics v_freed = row_count;
    end if;
    -- An order has as many units as it was held with, so the right number from these orders is all of theirs.
    if v_freed <> v_ending or v_freed <> cardinality(p_units) or exists (
        select 1 from unnest(p_unit_orders) as f (id)
        where f.id not in (select e.id from unnest(v_ended) as e (id)))
    then
        raise exception 'the units named are not those that the orders hold' using errcode = 'FG003';
    end if;

    v_head := append_ledger(b, v_at_us, p_entries, p_root);
    update bucket
    set seq = b.seq + 1, head = v_head, at_us = v_at_us,
        settle_batch = p_batch, settle_at_us = v_now_us,
        live = b.live - v_freed - v_paid, paid = b.paid + v_paid
    where org = p_org and sale = p_sale and bucket = p_bucket;
    return v_now_us;
end $$;

-- Raises the bucket's epoch and names its keeper: from here on nobody else writes. Waits for commits under way.
-- Does nothing, and returns no row, when somebody else was faster. Keeps INV-8.
create function take_over(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_keeper text
) returns setof bucket
language plpgsql as $$
begin
    perform enter_bucket(p_org, p_sale, p_bucket);
    return query
        update bucket set epoch = epoch + 1, keeper = p_keeper
        where org = p_org and sale = p_sale and bucket = p_bucket and epoch = p_epoch and not settled
        returning *;
end $$;

-- Writes down ranks and gate before they are used. Both only rise (INV-12).
create function set_gate(
    p_org int, p_sale int, p_bucket int, p_epoch bigint,
    p_ranks bigint, p_tail bigint, p_cursor bigint, p_gate_us bigint
) returns void
language plpgsql as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
begin
    update bucket
    set ranks = greatest(b.ranks, p_ranks), tail = greatest(b.tail, p_tail),
        cursor = greatest(b.cursor, p_cursor), gate_us = greatest(b.gate_us, p_gate_us)
    where org = p_org and sale = p_sale and bucket = p_bucket;
end $$;

-- Accepts a bucket's first share of a sale, once. Returns the aliases of org and sale.
create function accept(
    p_org_id text, p_sale_id text, p_class smallint, p_bucket int, p_first_unit int, p_units int,
    p_entries bytea, p_root bytea, out v_org int, out v_sale int
)
language plpgsql as $$
declare
    b bucket;
    v_at_us bigint;
    v_head bytea;
begin
    v_org := org_alias(p_org_id);
    perform enter_org(v_org);
    -- Closed until the sale's record is written over it.
    insert into sale (org, id, class, start_at, end_at, stopped, cancelled, update_ms)
    values (v_org, p_sale_id, p_class, 'infinity', 'infinity', true, false, 0) on conflict do nothing;
    select sale into strict v_sale from sale where org = v_org and id = p_sale_id;
    perform enter_bucket(v_org, v_sale, p_bucket);
    insert into bucket (org, sale, bucket) values (v_org, v_sale, p_bucket) on conflict do nothing;
    select * into strict b from bucket
    where org = v_org and sale = v_sale and bucket = p_bucket for no key update;
    if b.seq > 0 then
        return;
    end if;
    insert into share (org, sale, first_unit, units, bucket)
    values (v_org, v_sale, p_first_unit, p_units, p_bucket);
    v_at_us := now_us(b);
    v_head := append_ledger(b, v_at_us, p_entries, p_root);
    update bucket set seq = 1, head = v_head, at_us = v_at_us, granted = p_units
    where org = v_org and sale = v_sale and bucket = p_bucket;
end $$;

-- Takes over what the control plane has decided about a sale, unless something newer is known.
create function set_sale(
    p_org int, p_sale int, p_update_ms bigint,
    p_start_at timestamptz, p_end_at timestamptz, p_stopped boolean, p_cancelled boolean,
    p_revision int, p_price_minor bigint, p_currency text, p_cap int, p_hold_ttl_ms int
) returns void
language plpgsql as $$
begin
    perform enter_org(p_org);
    insert into terms (org, sale, revision, price_minor, currency, cap, hold_ttl_ms)
    values (p_org, p_sale, p_revision, p_price_minor, p_currency, p_cap, p_hold_ttl_ms)
    on conflict do nothing;
    update sale
    set start_at = p_start_at, end_at = p_end_at, stopped = p_stopped or p_cancelled,
        cancelled = p_cancelled, update_ms = p_update_ms
    where org = p_org and sale = p_sale and update_ms < p_update_ms;
end $$;

-- Those of the orders p_orders that a bucket has, in no order: as they are, what they cost, and the units that they have.
create function find_orders(p_org int, p_sale int, p_bucket int, p_orders uuid[])
returns table (
    id uuid, buyer uuid, state smallint, quantity smallint, intent text,
    currency text, amount_minor bigint, units int[]
)
language plpgsql as $$
begin
    perform enter_org(p_org);
    -- A buyer's units are found by their slots, which are indexed.
    return query
        select o.id, o.buyer, o.state, o.quantity, o.intent, t.currency, t.price_minor * o.quantity,
               array(select u.unit from unit u
                     where u.org = o.org and u.sale + 0 = o.sale and u.buyer = o.buyer and u.id = o.id
                     order by u.unit)
        from "order" o
        join terms t on t.org = o.org and t.sale = o.sale and t.revision = o.revision
        where o.org = p_org and o.sale = p_sale and o.id = any (p_orders) and o.bucket = p_bucket;
end $$;
