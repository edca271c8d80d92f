//! Every bound of the system (INV-11), with its unit last in the name and its reason.
//!
//! A bound that no code reads does not stand here.

/// Calls in one frame of the link, and entries in one batch of a keeper: a Redis call of 256 takes half a millisecond,
/// and everyone waits for it.
pub const BATCH_CALLS_MAX: usize = 256;
/// Bytes of one frame's calls.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one call on the link: a ticket or a probe's payload, and names.
pub const CALL_BYTES_MAX: usize = 2 * 1024;
/// Bytes of one message on the link: a frame's calls and what frames them.
pub const LINK_MESSAGE_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;
/// Bytes of one request of a buyer, merchant or operator.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one call's headers together.
pub const METADATA_BYTES_MAX: u32 = 8 * 1024;
/// Bytes of a path with its query: a ticket fits, and many more parameters than any call has.
pub const PATH_BYTES_MAX: usize = 2 * 1024;
/// Bytes of a request as JSON, which needs more than the message that it makes.
pub const JSON_BYTES_MAX: usize = 2 * REQUEST_BYTES_MAX;
/// How long the body of a request as JSON or gRPC-Web may take to come.
pub const JSON_BODY_MS: u64 = 4_500;
/// Bytes of a message that is answered as JSON: a page of sales.
pub const JSON_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long a connection of a storefront lasts, in seconds, give or take a tenth: so that peers find routers that are new.
pub const CONNECTION_AGE_S: u32 = 300;
/// How often a stream of events says that it lives while nothing else happens.
pub const EVENTS_ALIVE_MS: u64 = 15_000;
/// States of sales that a router keeps as events, for all who watch.
pub const EVENTS_WRITTEN_MAX: usize = 1_024;
/// When a client whose stream of events broke comes again, in milliseconds.
pub const EVENTS_AGAIN_MS: std::ops::Range<u64> = 1_000..5_000;
/// Bytes of a probe's payload.
pub const PROBE_BYTES_MAX: usize = 1024;
/// Bytes of a caller's token.
pub const TOKEN_BYTES_MAX: usize = 2048;
/// Bytes of a ticket.
pub const TICKET_BYTES_MAX: usize = 512;
/// Bytes of a signed head of a ledger.
pub const HEAD_BYTES_MAX: usize = 1024;
/// Bytes of a receipt: 64 entries of an order, each with two paths of 40 hashes.
pub const RECEIPT_BYTES_MAX: usize = 512 * 1024;
/// Bytes of a payment method's name.
pub const PAYMENT_METHOD_BYTES_MAX: usize = 128;
/// Bytes of a token's own id (`jti`).
pub const TOKEN_ID_BYTES_MAX: usize = 64;
/// Tokens of one org that are withdrawn at a time; each is forgotten when it has expired.
pub const ORG_TOKENS_REVOKED_MAX: usize = 1_000;
/// How long before its expiry a token may be withdrawn.
pub const TOKEN_REVOKED_MS_MAX: u64 = 400 * 24 * 3_600_000;
/// How much later than its `exp` a token still counts, and how much earlier than its `nbf`: clocks differ.
pub const TOKEN_LEEWAY_MS: u64 = 2_000;
/// Verified tokens that a router remembers.
pub const TOKENS_REMEMBERED_MAX: usize = 524_288;

/// Calls that wait on one stream of the link, in a router; beyond it a cell refuses them.
pub const LINK_CALLS_WAITING_MAX: usize = 16_384;
/// Calls of one stream that a cell has open, refusals included: a router with more does not read its answers.
pub const LINK_CALLS_OPEN_MAX: usize = 2 * LINK_CALLS_WAITING_MAX;
/// An org may have so many times as many places as are left: calls under way on a stream, payments in a pool. Alone it gets
/// eight ninths of the room, and each of three who want all of it eight twenty-fifths.
pub const ORG_ROOM_TIMES: usize = 8;
/// Calls of one class that a router has under way at one process of a cell: never refused below the first, begun with the
/// second, never more than the third, which is what a stage lets wait.
pub const LINK_UNDER_WAY: (u32, u32, u32) = (32, 4_096, 8_192);
/// Payments and refunds of one class under way at one process: its pool, and those who wait for it.
pub const LINK_PAYMENTS_UNDER_WAY_MAX: u32 = 4_160;
/// How often it is looked whether there are too many calls under way.
pub const LINK_WINDOW_MS: u64 = 100;
/// A round trip is fine up to the first, whatever its least was, and slow beyond the second: full batches take a
/// multiple of what a lonely call takes, and are what a cell does most with.
pub const LINK_ROUND_TRIP_MS: (u64, u64) = (100, 1_000);
/// Between those, a round trip is fine up to so many times the least that was seen.
pub const LINK_ROUND_TRIP_TIMES: u64 = 2;
/// How much of its own lateness a router takes off a round trip at most, at each end of it.
pub const LINK_LATE_MS_MAX: u64 = 500;
/// For how long the least round trip is remembered at least.
pub const LINK_LEAST_MS: u64 = 10_000;
/// Calls that are repeated after their link was lost, in a thousand of those asked, beyond ...
pub const REPEATS_PERMILLE: u64 = 100;
/// ... so many a second of one process, ...
pub const REPEATS_PER_S: u64 = 10;
/// ... and never more at once.
pub const REPEATS_AT_ONCE_MAX: u64 = 1_000;
/// How long a call whose link was lost waits for somebody to ask again.
pub const REPEAT_WAIT_MS_MAX: u64 = 3_000;
/// When a buyer may ask again whose bucket's cell cannot be reached: after as long as it has lasted, within these bounds.
pub const BUCKET_AWAY_RETRY_MS: (u32, u32) = (250, 10_000);
/// How long a router that starts waits for word of the processes that it knows, before it says that it is ready: some may
/// be dead.
pub const LINKS_MET_MS: u64 = 2_000;
/// How long a call must have waited in vain to speak against the process that it waited for: callers with less patience
/// do not.
pub const EJECT_PATIENCE_MS: u64 = 1_000;
/// A process is asked no more when so many calls failed in one window, and more than were answered or none for as long as
/// [`EJECT_PATIENCE_MS`].
pub const EJECT_FAILURES_MIN: u32 = 5;
/// See [`EJECT_FAILURES_MIN`].
pub const EJECT_WINDOW_MS: u64 = 5_000;
/// How long it is asked no more the first time, and at most: it doubles while probes or calls fail.
pub const EJECT_MS: (u64, u64) = (1_000, 30_000);
/// Never more of a cell's processes than this part of them: when most seem to fail it is rather us.
pub const EJECTED_PERMILLE_MAX: usize = 500;
/// How long a probe may take that brings a process back.
pub const EJECT_PROBE_MS_MAX: u64 = 1_000;
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
/// Buckets at rest of unsettled sales whose reports a process looks after in one round.
pub const RESTED_REPORTS_MAX: usize = 64;
/// Times that a keeper repeats a batch whose outcome is unknown before it takes the bucket over anew.
pub const BATCH_TRIES_MAX: u32 = 3;
/// Batches of a keeper that are committed and that Redis has yet to hear of, behind the one that it is told of.
pub const FOLLOWS_WAITING_MAX: usize = 1;
/// Holds that one batch of the sweep ends while it is in time: who buys meanwhile waits for the bucket's row no longer than for other holds.
pub const SWEEP_MOVES_MAX: usize = 192;
/// Buckets of one class that sweep at the same time in one process.
pub const SWEEPS_AT_ONCE_MAX: usize = 1;
/// The sweep rests between its batches, so that others get on; less when it is nearly so late. From here on it does not rest
/// at all and takes whole batches.
pub const SWEEP_LATE_MS: u64 = 1_800;
/// From how long a commit has been under way on new holds are refused instead of queued behind it.
pub const WRITER_SLOW_MS: u64 = 1_000;
/// When a buyer may ask again who was refused because of that.
pub const WRITER_SLOW_RETRY_MS: u32 = 1_000;
/// From how long a bucket has had no open keeper on calls are refused instead of queued.
pub const BUCKET_CLOSED_MS: u64 = 300;
/// When a buyer may ask again who was refused because of that: after as long as it has lasted, within these bounds.
pub const BUCKET_CLOSED_RETRY_MS: (u32, u32) = (100, 1_000);
/// By how much Postgres' clock may step, or differ from a process's own, before nothing expires any more.
pub const CLOCK_STEP_MS_MAX: u64 = 5_000;
/// For how long clocks that parted must agree before holds expire again.
pub const CLOCK_AGREE_MS: u64 = 60_000;
/// Units and buyers that one slice of a take-over loads into Redis: 500 take it a millisecond and a quarter, in which
/// everyone waits.
pub const LOAD_SLICE_ENTRIES: usize = 500;
/// Buckets of one class that one process takes over at the same time: the others' batches need connections too.
pub const TAKE_OVERS_AT_ONCE_MAX: usize = 3;
/// The first and the longest pause between two tries to take a bucket over, in milliseconds: it doubles with every try
/// that has raised the epoch in vain.
pub const TAKE_OVER_PAUSE_MS: (u64, u64) = (50, 3_200);
/// Buckets that a process hands over in one round of its claims, three rounds a second.
pub const HAND_OVERS_A_ROUND_MAX: usize = 8;
/// For how long a cell's processes must have been the same before buckets are handed over to spread them.
pub const PROCESSES_STEADY_MS: u64 = 3_000;
/// How long a bucket with payments under way is kept although it is another's turn.
pub const HAND_OVER_PATIENCE_MS: u64 = 10_000;
/// How long a process to which a bucket was handed in vain is not given it again.
pub const HAND_OVER_AGAIN_MS: u64 = 60_000;
/// Units that one transfer moves: a call into Redis that takes so many out takes less than a millisecond.
pub const TRANSFER_UNITS_MAX: u32 = 65_536;
/// Transfers that a process still has to tell etcd of.
pub const TRANSFERS_WAITING_MAX: usize = 4_096;
/// How many later tickets of its bucket a ticket of a STANDARD sale outlives: a take-over reads as many, however long the
/// sale has gone on.
pub const STANDARD_TICKETS_KEPT: u64 = 65_536;
/// Local indices of one bucket under one epoch, at 16 bytes each, of which many may have left: then it is taken over anew.
pub const LOCAL_INDICES_MAX: u32 = 2 * SALE_UNITS_MAX;
/// Ranks that a keeper commits at a time before it gives them out.
pub const RANK_BLOCK: u64 = 512;

/// Rows of a ledger that one step of the audit reads, and as many that it reads once more.
pub const AUDIT_ROWS_MAX: u32 = 64;
/// Units that one step of the audit compares with Postgres, and with Redis.
pub const AUDIT_UNITS_MAX: u32 = 512;
/// Orders that one step of the audit compares with Postgres, or one part in 256 of a bucket's when those are more.
pub const AUDIT_ORDERS_MAX: u64 = 512;
/// Returned units that the audit has Redis list at a time, the others another time: a call of that many takes less than a millisecond.
pub const AUDIT_RETURNED_MAX: usize = 2_048;
/// Units of one bucket that the audit watches because they may be stranded.
pub const AUDIT_WATCHED_MAX: usize = 64;
/// Differences of one bucket that the audit tells.
pub const AUDIT_DIFFERENCES_MAX: usize = 64;
/// Buckets at rest that the audit looks after at a time.
pub const AUDIT_RESTING_MAX: usize = 64;

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
/// The first and the longest pause between two tries to finish a refund that was begun, in milliseconds: it doubles while
/// the provider does not say what came of it.
pub const REFUND_PAUSE_MS: (u64, u64) = (2_000, 300_000);

/// Calls a second of one buyer, and how many at once, at one router.
pub const BUYER_CALLS_PER_S: u32 = 10;
/// See [`BUYER_CALLS_PER_S`].
pub const BUYER_CALLS_BURST: u32 = 20;
/// Buyers whose rate a router remembers; as many addresses, and as many sales.
pub const SUBJECTS_REMEMBERED_MAX: usize = 262_144;
/// How often those that have used up nothing are looked for, when there is no room for another one.
pub const SUBJECTS_SWEEP_MS: u64 = 1_000;
/// Calls a second from one address, or one IPv6 network of 64 bits, at one router. A merchant's server calls for all of
/// its buyers.
pub const ADDRESS_CALLS_PER_S: u32 = 100_000;
/// The same at one instance of the control plane, and as many at once: each call there costs a signature and a read of etcd.
pub const CONTROL_ADDRESS_CALLS_PER_S: u32 = 2_000;
/// As many calls as a token counts for that nobody's key has signed: to find that out costs as much.
pub const ADDRESS_BAD_TOKEN_CALLS: u32 = 100;
/// Calls a second of one org at one router, unless its record says otherwise.
pub const ORG_CALLS_PER_S: u32 = 100_000;
/// Calls a second at one router.
pub const ROUTER_CALLS_PER_S: u32 = 250_000;
/// Calls that are under way at one router at a time.
pub const CALLS_UNDER_WAY_MAX: usize = 65_536;
/// How far ahead of its rate an address, a sale, an org or a router may run.
pub const QUOTA_BURST_MS: u64 = 250;
/// When a caller may ask again at the earliest who was refused because of what others have used up too.
pub const QUOTA_SHARED_RETRY_MS: u32 = 1_000;
/// By how much more than it says the time is spread after which a refused caller may ask again: half of it, at most this.
pub const RETRY_SPREAD_MS_MAX: u32 = 1_000;
/// Calls a second of one sale that one router passes on.
pub const SALE_CALLS_PER_S: u32 = 50_000;
/// For how long a bucket's joins must have been refused, but for fewer than were answered, before buyers stand in a line
/// before its line: longer than a change of keeper.
pub const LINE_AFTER_MS: u64 = 2_000;
/// Answers to joins are looked at in windows of so long.
pub const LINE_LOOK_MS: u64 = 1_000;
/// After so long without a refusal nothing is held against a bucket.
pub const LINE_FORGET_MS: u64 = 10_000;
/// How often more of a line are let in.
pub const LINE_STEP_EVERY_MS: u64 = 250;
/// How many more at a time: the fewest, and the most.
pub const LINE_STEP: (u32, u32) = (16, 4_096);
/// When nobody has come for so long who was let in, they are taken for gone, and more are let in at a time.
pub const LINE_SILENT_MS: u64 = 2_000;
/// How long a line ticket is good.
pub const LINE_TICKET_MS_MAX: u64 = 3_600_000;
/// Lines before buckets' lines that one process, or one router, knows.
pub const LINES_MAX: usize = 4_096;
/// Numbers of all lines of one process that were given and not let in: 64 bytes each.
pub const LINE_WAITING_MAX: u64 = 1_048_576;
/// The same of one org's lines, so that orgs share an overflow cell.
pub const LINE_ORG_WAITING_MAX: u64 = 262_144;
/// When a buyer may ask again for whom there was no room in a line.
pub const LINE_FULL_RETRY_MS: u32 = 5_000;
/// How long an overflow cell may take to be told of a window.
pub const LINE_TELL_MS_MAX: u64 = 1_000;
/// Watchers of sales at one router: one copy of a state serves all, but each has its stream and most have a socket.
pub const WATCHERS_MAX: usize = 100_000;
/// Watchers on one connection: more than any page needs, and places for calls are left.
pub const WATCHERS_PER_CONNECTION_MAX: u32 = 100;
/// Watchers from one address, or one IPv6 network of 64 bits: who takes a fifth of a router is one server, and polls.
pub const WATCHERS_PER_ADDRESS_MAX: u32 = 20_000;
/// Watchers that are woken at a time; then whatever else is due has its turn: a call waits for so many writes. More than
/// fit into a worker's queue would push calls out of it, behind all of them.
pub const WATCHERS_SLICE_MAX: usize = 64;
/// How long watchers hear nothing while nothing changes; then they are told the state again.
pub const WATCH_ALIVE_MS: u64 = 12_000;
/// When a watcher who was refused may try again; they poll meanwhile.
pub const WATCH_AGAIN_MS: u32 = 5_000;
/// Bytes of one stream's states that wait in memory for a watcher who reads slowly, besides the newest.
pub const WATCH_UNSENT_BYTES_MAX: usize = 16 * 1024;
/// Times a second that a bucket's state is told.
pub const STATES_PER_S: u32 = 4;
/// After this long without news a bucket's state is shown as old.
pub const STATE_STALE_MS: u64 = 1_000;

const _: () = {
    assert!(LINK_MESSAGE_BYTES_MAX > FRAME_BYTES_MAX + BATCH_CALLS_MAX * 32);
    assert!(TICKET_BYTES_MAX + 256 < REQUEST_BYTES_MAX);
    assert!(TICKET_BYTES_MAX + PAYMENT_METHOD_BYTES_MAX + 512 < CALL_BYTES_MAX);
    assert!(PROBE_BYTES_MAX + 512 < CALL_BYTES_MAX);
    assert!(CALL_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(LINK_UNDER_WAY.0 <= LINK_UNDER_WAY.1 && LINK_UNDER_WAY.1 <= LINK_UNDER_WAY.2);
    assert!(LINK_UNDER_WAY.2 as usize <= STAGE_CALLS_WAITING_MAX);
    assert!(LINK_PAYMENTS_UNDER_WAY_MAX as usize == PAYMENTS_UNDER_WAY_MAX + PAYMENTS_WAITING_MAX);
    assert!((LINK_UNDER_WAY.2 + LINK_PAYMENTS_UNDER_WAY_MAX) as usize <= LINK_CALLS_WAITING_MAX);
    assert!(TICKET_BYTES_MAX + 256 < PATH_BYTES_MAX);
    assert!(BATCH_CALLS_MAX <= STAGE_CALLS_WAITING_MAX);
    assert!((PRICE_MINOR_MAX as i128) * (CAP_MAX as i128) < i64::MAX as i128 / 1_000);
    assert!(CALL_MS_DEFAULT <= CALL_MS_MAX);
    // A watcher's connection has time for a last word when it has come of age.
    assert!(WATCH_ALIVE_MS * 2 < CALL_MS_MAX as u64);
    // States come before a stream of events would have to say by itself that it lives.
    assert!(WATCH_ALIVE_MS + 2_000 < EVENTS_ALIVE_MS);
    assert!(WATCHERS_PER_ADDRESS_MAX as usize <= WATCHERS_MAX);
    assert!(LINE_ORG_WAITING_MAX <= LINE_WAITING_MAX && LINE_AFTER_MS < LINE_FORGET_MS);
    assert!(SWEEP_MOVES_MAX <= BATCH_CALLS_MAX);
    assert!(WRITER_SLOW_MS * 2 < CALL_MS_DEFAULT as u64);
    assert!(TRANSFER_UNITS_MAX <= SALE_UNITS_MAX);
};
