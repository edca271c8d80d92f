-- Refunds of paid orders, which the merchant asks for. A refund is written down before money moves (REFUNDING) and after
-- (REFUNDED), so that whoever dies in between is succeeded by somebody who knows. Both are one order's own transactions:
-- refunds are rare, and repeating one finds it done by the order's state, so they need no batch numbers.

-- Money is on its way back, and the order is PAID until it is there.
alter table "order" add column refunding boolean not null default false;
-- Whoever takes a bucket over finds here what was left undone. No update of a purchase changes the column.
create index order_refunding on "order" (sale, bucket, org) where refunding;

-- Begins the refund of a PAID order by its intent. Does nothing when it has begun or is done.
create function begin_refund(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_order uuid, p_intent text,
    p_entries bytea, p_root bytea
) returns void
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
        return;
    end if;
    v_head := append_ledger(b, v_at_us, p_entries, p_root);
    update "order" set refunding = true where org = p_org and sale = p_sale and id = p_order;
    update bucket set seq = b.seq + 1, head = v_head, at_us = v_at_us
    where org = p_org and sale = p_sale and bucket = p_bucket;
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
            where org = p_org and sale = p_sale and buyer = o.buyer order by slot
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
