-- What a cell knows of stock: which buckets it has, what may be sold from them, and who has each unit.
--
-- Orgs and sales have integer aliases here, because every row and every index entry of the hot path names them.
-- An index stands only where an invariant needs it. On the hot path its columns begin with the sale, whose alias no other
-- org has, then what tells rows apart, and the org last: every comparison on the way down costs.
--
-- A table's key begins with the plain sale, its other indexes with (sale + 0), which only a statement that says so can
-- use. Of a sale that it has not analysed yet Postgres believes that it has a row or two; it would then find an order by
-- walking all tickets of its bucket as gladly as by its key.

create table org (
    org int generated always as identity primary key,
    id  text not null unique
);

-- One row a sale, with the times that Postgres' clock decides by.
create table sale (
    org        int not null references org,
    sale       int generated always as identity,
    id         text not null unique,
    class      smallint not null,
    start_at   timestamptz not null,
    end_at     timestamptz not null,
    -- No new hold while it is stopped: paused or called off.
    stopped    boolean not null default false,
    cancelled boolean not null default false,
    -- What of the sale's record was last taken over, so that an old one changes nothing.
    update_ms  bigint not null,
    primary key (org, sale)
);

-- What an order was promised, by the sale's revision.
create table terms (
    org         int not null,
    sale        int not null,
    revision    int not null,
    price_minor bigint not null,
    currency    text not null,
    cap         int not null,
    hold_ttl_ms int not null,
    primary key (org, sale, revision),
    foreign key (org, sale) references sale
);

-- A share of a sale. Every transaction takes this row first, so whoever reads a bucket's seq reads a whole state.
-- The row changes with every batch and no index holds a column that changes, so every change stays in its page.
create table bucket (
    org          int not null,
    sale         int not null,
    bucket       int not null,
    -- Only rises. Whoever writes under an older one is refused (INV-8).
    epoch        bigint not null default 0,
    keeper       text,
    -- The ledger's head.
    seq          bigint not null default 0,
    head         bytea not null default decode(repeat('00', 32), 'hex'),
    at_us        bigint not null default 0,
    -- The last batch of each stage, so that a batch whose outcome was unknown can be sent again.
    hold_batch   bigint not null default 0,
    hold_at_us   bigint not null default 0,
    settle_batch bigint not null default 0,
    settle_at_us bigint not null default 0,
    -- granted = free + live + paid, where only free is not written down (INV-2).
    granted      int not null default 0,
    live         int not null default 0,
    paid         int not null default 0,
    -- Ranks below this were given out or will never be.
    ranks        bigint not null default 0,
    -- The gate: a ticket may reserve while tail <= rank < cursor.
    tail         bigint not null default 0,
    cursor       bigint not null default 0,
    -- Up to here the gate has used up its rate (INV-12).
    gate_us      bigint not null default 0,
    settled      boolean not null default false,
    primary key (org, sale, bucket),
    foreign key (org, sale) references sale,
    check (live >= 0 and paid >= 0 and live + paid <= granted),
    check (tail <= cursor and cursor <= ranks)
) with (fillfactor = 10);

-- Which units a bucket may sell: accepted here before they are sold from.
create table share (
    org        int not null,
    sale       int not null,
    first_unit int not null,
    units      int not null check (units > 0),
    bucket     int not null,
    primary key (org, sale, first_unit),
    foreign key (org, sale, bucket) references bucket
);

-- One buyer's units in one sale: also the memory of the request that made it. Rows are never deleted.
create table "order" (
    org      int not null,
    sale     int not null,
    id       uuid not null,
    buyer    uuid not null,
    bucket   int not null,
    quantity smallint not null,
    -- floodgate.storefront.v1.Order.State
    state    smallint not null,
    attempt  smallint not null default 0,
    revision int not null,
    ticket   bigint not null,
    deadline timestamptz not null,
    intent   text,
    primary key (sale, id, org)
-- Orders that were made together end together: with half of a page free, every one of them changes in its page.
) with (fillfactor = 50);

-- A ticket serves one order (INV-7); a take-over finds the spent tickets here.
create unique index order_ticket on "order" ((sale + 0), bucket, ticket, org);

-- One row for each unit that is not free. Ending an order deletes its rows; paying keeps them.
create table unit (
    org      int not null,
    sale     int not null,
    unit     int not null,
    bucket   int not null,
    buyer    uuid not null,
    id       uuid not null,
    slot     smallint not null,
    -- A unit is in one order (INV-1).
    constraint unit_once primary key (sale, unit, org)
);

-- A buyer's units take numbered slots below the cap (INV-4).
create unique index unit_slot on unit ((sale + 0), buyer, slot, org);

-- The processes of this cell, by their last sign of life. A hint for who should keep what: the epoch decides.
create table process (
    process text primary key,
    seen_at timestamptz not null
) with (fillfactor = 10);
