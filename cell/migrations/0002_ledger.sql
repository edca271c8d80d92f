-- Every event of a bucket, once: one row a batch, chained by its hash. Rows are only ever appended.
create table ledger (
    org     int not null,
    sale    int not null,
    bucket  int not null,
    seq     bigint not null,
    epoch   bigint not null,
    -- Microseconds since 1970, by this server's clock.
    at_us   bigint not null,
    -- floodgate.events.v1.LedgerBatch
    entries bytea not null,
    -- RFC 6962 Merkle root of the entries.
    root    bytea not null,
    -- SHA-256(hash of the row before, seq, epoch, at_us, root).
    hash    bytea not null,
    primary key (org, sale, bucket, seq),
    foreign key (org, sale, bucket) references bucket
);

alter table ledger alter column entries set storage external;
