-- Moves of units: a bucket gives free units up, and another one, here or in another cell, accepts them; or the merchant
-- takes them back, or adds some. Between the two nobody may sell them. Each side writes down what it did under the
-- transfer's id, in the transaction in which it did it, so that it does it once, however often it is asked, and whatever
-- it believes that the other side has done. SQLSTATEs as in the transitions before; of 23505 the constraint is
--   share_once     the units are not this bucket's to give, or a bucket of this cell may sell them already
--   unit_once      an order has one of them
--   transfer_once  another bucket has done this part of the transfer

-- What buckets of this cell did about transfers. Rows are never deleted: news of a transfer may come late.
create table transfer (
    org      int not null,
    sale     int not null,
    transfer uuid not null,
    -- Whether the units were accepted here; otherwise they were given up.
    accepted boolean not null,
    bucket   int not null,
    -- The bucket at the other end; null where that is the merchant.
    peer     int,
    -- Ranges by their first units and how many there are. None, where a bucket that was asked had nothing to give: it is
    -- not to give later what nobody waits for any more.
    first_units int[] not null,
    counts      int[] not null,
    constraint transfer_once primary key (org, sale, transfer, accepted),
    foreign key (org, sale, bucket) references bucket
);

-- The unit numbers p_first_units[i] and the p_counts[i] - 1 that follow.
create function unit_ranges(p_first_units int[], p_counts int[]) returns int4multirange
language sql immutable as $$
    select coalesce(range_agg(int4range(r.first_unit, r.first_unit + r.units)), '{}')
    from unnest(p_first_units, p_counts) as r (first_unit, units)
$$;

-- How many numbers they are, and the same as two arrays.
create function count_units(
    p_units int4multirange, out v_count int, out v_first_units int[], out v_counts int[]
)
language sql immutable as $$
    select coalesce(sum(upper(r) - lower(r)), 0)::int,
           coalesce(array_agg(lower(r) order by r), '{}'),
           coalesce(array_agg(upper(r) - lower(r) order by r), '{}')
    from unnest(p_units) r
$$;

-- What this cell has done of the transfer's one part: v_first_units and v_counts, or nulls when nothing was done.
create function find_transfer(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_transfer uuid, p_accepted boolean,
    out v_first_units int[], out v_counts int[]
)
language plpgsql as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
    t transfer;
begin
    select * into t from transfer x
    where x.org = p_org and x.sale = p_sale and x.transfer = p_transfer and x.accepted = p_accepted;
    if not found then
        return;
    elsif t.bucket <> b.bucket then
        raise exception 'transfer % is about bucket %', p_transfer, t.bucket
            using errcode = '23505', constraint = 'transfer_once';
    end if;
    v_first_units := t.first_units;
    v_counts := t.counts;
end $$;

-- Gives up units that are free: from here on this bucket does not sell them, and may never accept them back but by
-- another transfer. Returns what was given up under this id, now or before. No units at all are remembered, and make no
-- row in the ledger. Keeps INV-1 and INV-2: what an order has stays, and what is not this bucket's cannot be given.
create function give_up(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_transfer uuid, p_peer int,
    p_first_units int[], p_counts int[], p_entries bytea, p_root bytea,
    out v_first_units int[], out v_counts int[]
)
language plpgsql as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
    v_units int4multirange := unit_ranges(p_first_units, p_counts);
    v_at_us bigint := now_us(b);
    v_shares int4multirange;
    v_count int;
    v_head bytea;
begin
    select f.v_first_units, f.v_counts into v_first_units, v_counts
    from find_transfer(p_org, p_sale, p_bucket, p_epoch, p_transfer, false) f;
    if v_counts is not null then
        return;
    end if;
    select c.v_count, c.v_first_units, c.v_counts into v_count, v_first_units, v_counts
    from count_units(v_units) c;
    insert into transfer (org, sale, transfer, accepted, bucket, peer, first_units, counts)
    values (p_org, p_sale, p_transfer, false, p_bucket, p_peer, v_first_units, v_counts);
    if v_count = 0 then
        return;
    end if;

    select coalesce(range_agg(int4range(s.first_unit, s.first_unit + s.units)), '{}') into v_shares
    from share s
    where s.org = p_org and s.sale = p_sale and s.bucket = p_bucket
      and int4range(s.first_unit, s.first_unit + s.units) && v_units;
    if not v_units <@ v_shares then
        raise exception 'bucket % of sale % does not have all of %', p_bucket, p_sale, v_units
            using errcode = '23505', constraint = 'share_once';
    end if;
    if exists (
        select 1 from unnest(v_units) r
        join unit u on u.sale = p_sale and u.unit >= lower(r) and u.unit < upper(r) and u.org = p_org)
    then
        raise exception 'an order has one of %', v_units
            using errcode = '23505', constraint = 'unit_once';
    end if;

    delete from share s
    where s.org = p_org and s.sale = p_sale and s.bucket = p_bucket
      and int4range(s.first_unit, s.first_unit + s.units) && v_units;
    insert into share (org, sale, first_unit, units, bucket)
    select p_org, p_sale, lower(r), upper(r) - lower(r), p_bucket
    from unnest(v_shares - v_units) r;
    v_head := append_ledger(b, v_at_us, p_entries, p_root);
    update bucket
    set seq = b.seq + 1, head = v_head, at_us = v_at_us, granted = b.granted - v_count
    where org = p_org and sale = p_sale and bucket = p_bucket;
end $$;

-- Accepts units that were given up elsewhere, or that the merchant adds: from here on this bucket may sell them. A bucket
-- at rest accepts too, under its last epoch; its units are then free for good. Returns what was accepted under this id,
-- now or before. Keeps INV-1 and INV-2: what a bucket of this cell may sell nobody accepts here.
create function accept_units(
    p_org int, p_sale int, p_bucket int, p_epoch bigint, p_transfer uuid, p_peer int,
    p_first_units int[], p_counts int[], p_entries bytea, p_root bytea,
    out v_first_units int[], out v_counts int[]
)
language plpgsql as $$
declare
    b bucket := lock_bucket(p_org, p_sale, p_bucket, p_epoch);
    v_units int4multirange := unit_ranges(p_first_units, p_counts);
    v_at_us bigint := now_us(b);
    v_count int;
    v_head bytea;
begin
    select f.v_first_units, f.v_counts into v_first_units, v_counts
    from find_transfer(p_org, p_sale, p_bucket, p_epoch, p_transfer, true) f;
    if v_counts is not null then
        return;
    end if;
    select c.v_count, c.v_first_units, c.v_counts into v_count, v_first_units, v_counts
    from count_units(v_units) c;
    insert into transfer (org, sale, transfer, accepted, bucket, peer, first_units, counts)
    values (p_org, p_sale, p_transfer, true, p_bucket, p_peer, v_first_units, v_counts);
    if v_count = 0 then
        return;
    end if;

    -- No two buckets of this sale look for overlaps at once: each would miss the other's.
    perform 1 from sale s where s.org = p_org and s.sale = p_sale for no key update;
    if exists (
        select 1 from share s
        where s.org = p_org and s.sale = p_sale
          and int4range(s.first_unit, s.first_unit + s.units) && v_units)
    then
        raise exception 'a bucket of sale % has one of % already', p_sale, v_units
            using errcode = '23505', constraint = 'share_once';
    end if;

    insert into share (org, sale, first_unit, units, bucket)
    select p_org, p_sale, lower(r), upper(r) - lower(r), p_bucket from unnest(v_units) r;
    v_head := append_ledger(b, v_at_us, p_entries, p_root);
    update bucket
    set seq = b.seq + 1, head = v_head, at_us = v_at_us, granted = b.granted + v_count
    where org = p_org and sale = p_sale and bucket = p_bucket;
end $$;
