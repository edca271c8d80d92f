-- Refunds of paid orders, which the merchant asks for. A refund is written down before money moves (REFUNDING) and after
-- (REFUNDED), so that whoever dies in between is succeeded by somebody who knows; or, where the provider refuses it for
-- good, that it ends so (REFUND_REFUSED). Each is one order's own transaction: refunds are rare, and repeating one finds it
-- done by the order's state, so they need no batch numbers.

-- Money is on its way back, and the order is PAID until it is there.
alter table "order" add column refunding boolean not null default false;
-- How often the provider has refused for good to give the order's money back.
alter table "order" add column refusals int not null default 0;
-- Whoever takes a bucket over finds here what was left undone. No update of a purchase changes the column.
create index order_refunding on "order" ((sale + 0), bucket, org) where refunding;

-- Begins the refund of a PAID order by its intent. Does nothing when it has begun or is done. Returns how often it was
-- refused before: the provider remembers what it was asked under one key, so each time anew it is asked under another.
create function begin_refund(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_order uuid, p_intent text,
    p_entries bytea, p_root bytea
) returns int
language plpgsql as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
    v_at_us bigint := now_us(b);
    v_head bytea;
    o record;
begin
    select * into o from "order"
    where org = p_org and sale = p_sale and id = p_order and bucket = p_bucket and intent = p_intent;
    if not found or o.state not in (3, 7) then
        raise exception 'the order is not paid' using errcode = 'FG003';
    elsif o.refunding or o.state = 7 then
        return o.refusals;
    end if;
    v_head := append_ledger(b, v_at_us, p_entries, p_root);
    update "order" set refunding = true where org = p_org and sale = p_sale and id = p_order;
    update bucket set seq = b.seq + 1, head = v_head, at_us = v_at_us
    where org = p_org and sale = p_sale and bucket = p_bucket;
    return o.refusals;
end $$;

-- Ends it where the provider refused for good: nothing went back, and the order is PAID and has its units. p_refusals is
-- what begin_refund returned, so that the end of an earlier refund does not end the present one. Does nothing when it has
-- ended.
create function refuse_refund(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_order uuid, p_refusals int,
    p_entries bytea, p_root bytea
) returns void
language plpgsql as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
    v_at_us bigint := now_us(b);
    v_head bytea;
begin
    update "order" set refunding = false, refusals = refusals + 1
    where org = p_org and sale = p_sale and id = p_order and bucket = p_bucket
      and state = 3 and refunding and refusals = p_refusals;
    if not found then
        return;
    end if;
    v_head := append_ledger(b, v_at_us, p_entries, p_root);
    update bucket set seq = b.seq + 1, head = v_head, at_us = v_at_us
    where org = p_org and sale = p_sale and bucket = p_bucket;
end $$;

-- Puts a bucket to rest when its sale is over, none of its orders is live and no refund is under way, whose units may yet
-- be free. Returns whether it is at rest, where it stays.
create function rest(p_org int, p_sale int, p_bucket int, p_epoch bigint) returns boolean
language plpgsql as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
begin
    if b.live > 0 or not exists (
        select 1 from sale s where s.org = p_org and s.sale = p_sale
          and (s.end_at <= clock_timestamp() or s.cancelled))
    then
        return false;
    elsif not b.settled and exists (
        select 1 from "order" o
        where o.sale + 0 = p_sale and o.bucket = p_bucket and o.org = p_org and o.refunding)
    then
        return false;
    end if;
    update bucket set settled = true where org = p_org and sale = p_sale and bucket = p_bucket;
    return true;
end $$;

-- Ends it: the order is REFUNDED, and the units p_units, which must be all that it has, are free. A bucket at rest has
-- counted what it sold, so there money moves only and p_units is empty. Does nothing when it is done.
--
-- The buyer's remaining units move down into the slots that become empty: the next hold of the buyer takes the slots from
-- the number of units that they have (INV-4).
create function end_refund(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_order uuid, p_units int[],
    p_entries bytea, p_root bytea
) returns void
language plpgsql as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
    v_at_us bigint := now_us(b);
    v_head bytea;
    v_freed int := 0;
    v_slot smallint := 0;
    o record;
    u record;
begin
    select * into o from "order"
    where org = p_org and sale = p_sale and id = p_order and bucket = p_bucket;
    if not found or o.state <> 7 and not o.refunding then
        raise exception 'no refund of the order has begun' using errcode = 'FG003';
    elsif o.state = 7 then
        return;
    end if;
    if not b.settled then
        delete from unit where org = p_org and sale = p_sale and buyer = o.buyer and id = p_order
            and unit = any (p_units);
        get diagnostics v_freed = row_count;
        for u in select * from unit
            where org = p_org and sale + 0 = p_sale and buyer = o.buyer order by slot
        loop
            update unit set slot = v_slot where org = p_org and sale = p_sale and unit = u.unit;
            v_slot := v_slot + 1;
        end loop;
    end if;
    if v_freed <> (case when b.settled then 0 else o.quantity end)
        or v_freed <> cardinality(p_units)
    then
        raise exception 'the units named are not those that the order has' using errcode = 'FG003';
    end if;
    v_head := append_ledger(b, v_at_us, p_entries, p_root);
    update "order" set state = 7, refunding = false
    where org = p_org and sale = p_sale and id = p_order;
    update bucket set seq = b.seq + 1, head = v_head, at_us = v_at_us, paid = b.paid - v_freed
    where org = p_org and sale = p_sale and bucket = p_bucket;
end $$;
