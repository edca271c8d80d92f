-- Heads that this cell has signed of its ledgers, the newest of each bucket, and what the audit reads. Every function is
-- about one bucket of one org; who reads has entered the org before.

-- A head is a compact JWS; whoever has an older one can show that the ledger was changed behind it.
create table head (
    org    int not null,
    sale   int not null,
    bucket int not null,
    -- The last row that it covers.
    seq    bigint not null,
    head   text not null,
    primary key (org, sale, bucket),
    foreign key (org, sale, bucket) references bucket
) with (fillfactor = 50);

-- Keeps the newest head of a bucket: an older one changes nothing.
create function put_head(p_org int, p_sale int, p_bucket int, p_seq bigint, p_head text) returns void
language plpgsql as $$
begin
    perform enter_org(p_org);
    insert into head (org, sale, bucket, seq, head) values (p_org, p_sale, p_bucket, p_seq, p_head)
    on conflict (org, sale, bucket) do update set seq = excluded.seq, head = excluded.head
    where head.seq < excluded.seq;
end $$;

-- The newest head of a bucket, or no row.
create function newest_head(p_org int, p_sale int, p_bucket int) returns setof head
language sql stable as $$
    select * from head where org = p_org and sale = p_sale and bucket = p_bucket
$$;

-- A bucket's row.
create function bucket_now(p_org int, p_sale int, p_bucket int) returns setof bucket
language sql stable as $$
    select * from bucket where org = p_org and sale = p_sale and bucket = p_bucket
$$;

-- At most p_most rows of a bucket's ledger behind row p_after, in their order.
create function ledger_after(p_org int, p_sale int, p_bucket int, p_after bigint, p_most int)
returns setof ledger
language sql stable as $$
    select * from ledger
    where org = p_org and sale = p_sale and bucket = p_bucket and seq > p_after
    order by seq limit p_most
$$;

-- At most p_most of a bucket's units that are not free, from unit p_from on, in their order.
create function units_from(p_org int, p_sale int, p_bucket int, p_from int, p_most int)
returns setof unit
language sql stable as $$
    select * from unit
    where sale = p_sale and org = p_org and bucket = p_bucket and unit >= p_from
    order by unit limit p_most
$$;

-- A bucket's orders whose ids lie between the two.
create function orders_between(p_org int, p_sale int, p_bucket int, p_first uuid, p_last uuid)
returns setof "order"
language sql stable as $$
    select * from "order"
    where sale = p_sale and org = p_org and bucket = p_bucket and id between p_first and p_last
$$;
