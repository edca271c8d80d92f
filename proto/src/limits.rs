//! Every bound of the system (INV-11), with its unit last in the name and its reason.
//!
//! A bound that no code reads does not stand here.

/// Calls in one frame of the link, and entries in one batch of a keeper: a Redis call of 256 takes half a millisecond,
/// and everyone waits for it.
pub const BATCH_CALLS_MAX: usize = 256;
/// Bytes of one frame's calls.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one message on the link: a frame's calls and what frames them.
pub const LINK_MESSAGE_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;
/// Bytes of one request of a buyer, merchant or operator.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one call's headers together.
pub const METADATA_BYTES_MAX: u32 = 8 * 1024;
/// Bytes of a probe's payload.
pub const PROBE_BYTES_MAX: usize = 1024;
/// Bytes of a caller's token.
pub const TOKEN_BYTES_MAX: usize = 2048;
/// Bytes of a ticket.
pub const TICKET_BYTES_MAX: usize = 512;
/// Bytes of a payment method's name.
pub const PAYMENT_METHOD_BYTES_MAX: usize = 128;
/// How much later than its `exp` a token still counts: clocks differ.
pub const TOKEN_LEEWAY_MS: u64 = 2_000;
/// Verified tokens that a router remembers.
pub const TOKENS_REMEMBERED_MAX: usize = 524_288;

/// Calls that wait on one stream of the link, in a router.
pub const LINK_CALLS_WAITING_MAX: usize = 16_384;
/// Frames that lie between a stream's reader or writer and the transport.
pub const LINK_FRAMES_MAX: usize = 4;
/// How long a call may take when the caller set no deadline.
pub const CALL_MS_DEFAULT: u32 = 5_000;
/// How long a call may take at all.
pub const CALL_MS_MAX: u32 = 30_000;
/// How long a `Checkout` waits for the provider before it answers PAYING.
pub const CHECKOUT_ANSWER_MS: u64 = 10_000;

/// Calls that wait for one stage of one keeper.
pub const STAGE_CALLS_WAITING_MAX: usize = 8_192;
/// Buckets that one process keeps.
pub const BUCKETS_KEPT_MAX: usize = 4_096;
/// Buckets at rest whose orders a process can show.
pub const ARCHIVE_BUCKETS_MAX: usize = 65_536;
/// Times that a keeper repeats a batch whose outcome is unknown before it takes the bucket over anew.
pub const BATCH_TRIES_MAX: u32 = 3;
/// Units and buyers that one slice of a take-over loads into Redis.
pub const LOAD_SLICE_ENTRIES: usize = 1_000;
/// Ranks that a keeper commits at a time before it gives them out.
pub const RANK_BLOCK: u64 = 512;

/// Units of one sale.
pub const SALE_UNITS_MAX: u32 = 10_000_000;
/// Buckets of one sale in one cell: each is a keeper, a line and a chain of its own.
pub const CELL_BUCKETS_MAX: u32 = 8;
/// Times that the stock of one sale may be changed once it is promised: each is remembered as long as the sale.
pub const SALE_STOCK_CHANGES_MAX: usize = 1_000;
/// Transfers that one decision writes: etcd takes 128 writes in one transaction.
pub const TRANSFERS_AT_ONCE_MAX: usize = 100;
/// Sales whose buckets' reports are read again every few seconds, whatever the watch has told.
pub const SALES_HEEDED_MAX: usize = 48;
/// Units of one buyer in one sale, and of one order.
pub const CAP_MAX: u32 = 100;
/// Sales of one org that are not settled.
pub const ORG_SALES_MAX: usize = 1_000;
/// The shortest and longest hold and keeping time.
pub const HOLD_TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;
/// The slowest and fastest admission of one sale.
pub const ADMISSION_RATE: std::ops::RangeInclusive<u32> = 1..=100_000;
/// How far ahead of its rate a gate may run, in milliseconds of that rate (INV-12).
pub const ADMISSION_BURST_MS: u64 = 1_000;
/// The longest time between a sale's start and its end.
pub const SALE_MS_MAX: u64 = 400 * 24 * 3_600_000;
/// The largest price of one unit, in the currency's minor unit: with the largest cap it stays far from overflow.
pub const PRICE_MINOR_MAX: i64 = 1_000_000_000_000;
/// Entries on one page of a list.
pub const PAGE_MAX: usize = 200;
/// Keys of one org that are live at a time.
pub const ORG_KEYS_MAX: usize = 2;

/// Payments of one class that a cell process has under way.
pub const PAYMENTS_UNDER_WAY_MAX: usize = 64;
/// Payments of one class that wait for one of those places.
pub const PAYMENTS_WAITING_MAX: usize = 4_096;
/// Confirmations that one order may try.
pub const ATTEMPTS_MAX: u32 = 5;
/// How long one request to the provider may take.
pub const PROVIDER_CALL_MS: u64 = 5_000;
/// How often one request to the provider is sent.
pub const PROVIDER_TRIES_MAX: u32 = 3;
/// How long after an unknown outcome the provider is asked first.
pub const UNKNOWN_ASK_AFTER_MS: u64 = 1_000;
/// How long an unknown outcome is asked for before people must look (REVIEW).
pub const UNKNOWN_ASK_FOR_MS: u64 = 60_000;

/// Calls a second of one buyer, and how many at once, at one router.
pub const BUYER_CALLS_PER_S: u32 = 10;
/// See [`BUYER_CALLS_PER_S`].
pub const BUYER_CALLS_BURST: u32 = 20;
/// Buyers whose rate a router remembers.
pub const BUYERS_REMEMBERED_MAX: usize = 262_144;
/// Calls a second of one sale that one router passes on.
pub const SALE_CALLS_PER_S: u32 = 50_000;
/// Watchers of sales at one router.
pub const WATCHERS_MAX: usize = 100_000;
/// Times a second that a bucket's state is told.
pub const STATES_PER_S: u32 = 4;
/// After this long without news a bucket's state is shown as old.
pub const STATE_STALE_MS: u64 = 1_000;

const _: () = {
    assert!(LINK_MESSAGE_BYTES_MAX > FRAME_BYTES_MAX + BATCH_CALLS_MAX * 32);
    assert!(TICKET_BYTES_MAX + 256 < REQUEST_BYTES_MAX);
    assert!(BATCH_CALLS_MAX <= STAGE_CALLS_WAITING_MAX);
    assert!((PRICE_MINOR_MAX as i128) * (CAP_MAX as i128) < i64::MAX as i128 / 1_000);
    assert!(CALL_MS_DEFAULT <= CALL_MS_MAX);
};
