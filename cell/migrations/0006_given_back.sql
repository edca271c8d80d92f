-- Captures that no order claimed and that went back to their buyers, by the provider's id: whoever finds such a capture
-- asks here whether its refund is in the ledger. The transition that appends it writes the row (settle, REFUNDED), in
-- the same transaction. Rows are never deleted. Keeps INV-5: what went back is written down once.
create table given_back (
    org    int not null,
    sale   int not null,
    bucket int not null,
    intent text not null,
    constraint given_back_once primary key (sale, intent, org),
    foreign key (org, sale, bucket) references bucket
);
