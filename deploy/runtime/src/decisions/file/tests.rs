//! The file holds exactly what was written, or nothing.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn all() -> Vec<Range> {
    vec![Range { from: b"/a/".to_vec(), to: b"/a0".to_vec() }]
}

fn snapshot() -> Snapshot {
    let entry = |value: &'static [u8], mod_revision| Entry {
        value: Bytes::from_static(value),
        mod_revision,
    };
    let entries = [("/a/1", entry(b"one", 5)), ("/a/2", entry(b"", 7)), ("/b/1", entry(b"x", 8))];
    let entries = entries.into_iter().map(|(key, entry)| (Arc::from(key), entry));
    Snapshot::new(entries.collect(), 9, 42)
}

#[test]
fn the_checksum_is_the_one_of_the_standard() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}

#[test]
fn what_was_written_is_read_within_the_ranges() {
    let kept = decode(&encode(&snapshot(), 1_234), &all()).unwrap();
    assert_eq!(kept.contact_ms, Some(1_234));
    assert_eq!((kept.snapshot.revision(), kept.snapshot.cluster()), (9, 42));
    let keys: Vec<_> = kept.snapshot.prefix("").collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], ("/a/1", &Entry { value: Bytes::from_static(b"one"), mod_revision: 5 }));
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let whole = encode(&snapshot(), 1_234);
    for length in 0..whole.len() {
        assert!(decode(&whole[..length], &all()).is_err(), "cut to {length}");
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped, &all()).is_err(), "flipped bit {bit}");
    }
    let mut longer = whole;
    longer.push(0);
    assert_eq!(decode(&longer, &all()), Err(Damaged::Checksum));
}

#[test]
fn lengths_that_lie_are_noticed_behind_a_right_checksum() {
    let mut lying = MAGIC.to_vec();
    [0_u64, 0, 0, 1, u64::MAX].iter().for_each(|word| lying.extend(word.to_le_bytes()));
    lying.extend(crc32(&lying).to_le_bytes());
    assert_eq!(decode(&lying, &all()), Err(Damaged::Content));
}

#[test]
fn the_file_is_replaced_whole_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions");
    let left_by_a_crash = folder.path().join("decisions.new");
    fs::write(&left_by_a_crash, b"half").unwrap();
    replace(&path, b"first").unwrap();
    replace(&path, b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!left_by_a_crash.exists());
}

#[tokio::test]
async fn the_last_word_says_how_old_all_of_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions");
    let counters = Counters::new(&crate::metric::Metrics::new("test", "0").unwrap());
    let (decisions, end) = (Decisions::fixed([("/a/1", "one")]), CancellationToken::new());
    let keeping = keep(path.clone(), decisions.clone(), counters.clone(), end.clone());
    let keeping = tokio::spawn(keeping);
    let contact_ms = async || load(&path, &all(), &counters).await?.contact_ms;
    let first_ms = loop {
        if let Some(first_ms) = contact_ms().await {
            break first_ms;
        }
        tokio::task::yield_now().await;
    };
    // Etcd says for a while that nothing has changed.
    let clock = crate::clock::Clock::system();
    while clock.now_ms() <= first_ms + 1 {
        tokio::task::yield_now().await;
    }
    decisions.touch();
    end.cancel();
    keeping.await.unwrap();
    assert!(contact_ms().await > Some(first_ms));
}
