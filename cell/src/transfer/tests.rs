//! What a transfer waits for, and what follows from each outcome, as tables.

use super::*;

fn share(first_unit: u32, units: u32) -> Share {
    Share { first_unit, units }
}

fn record(state: State, units: &[(u32, u32)]) -> TransferRecord {
    TransferRecord {
        sale: "s01".into(),
        transfer: vec![7; 16],
        from: Some(0),
        to: Some(1),
        wanted: 9,
        units: units.iter().map(|&(first, units)| UnitRange { first, units }).collect(),
        state: state.into(),
        create_ms: 1,
    }
}

#[test]
fn a_record_waits_for_the_giver_and_then_for_the_receiver() {
    let waits = |record: &TransferRecord| [0, 1, 2].map(|bucket| part(record, bucket));
    let some = [(10, 3)];
    for (state, units, waiting) in [
        (State::Asked, &[][..], [Some(Part::Give), None, None]),
        (State::Given, &some[..], [None, Some(Part::Accept), None]),
        (State::Given, &[][..], [None; 3]),
        (State::Accepted, &some[..], [None; 3]),
        (State::Unspecified, &some[..], [None; 3]),
        (State::Given, &[(10, 0)][..], [None; 3]),
        (State::Given, &[(i32::MAX.cast_unsigned(), 1)][..], [None; 3]),
        (State::Given, &[(u32::MAX, 2)][..], [None; 3]),
    ] {
        assert_eq!(waits(&record(state, units)), waiting, "{state:?} {units:?}");
    }
    let added = TransferRecord { from: None, ..record(State::Given, &some) };
    assert_eq!(waits(&added), [None, Some(Part::Accept), None], "the merchant adds");
    let back = TransferRecord { to: None, ..record(State::Given, &some) };
    assert_eq!(waits(&back), [None; 3], "the merchant has them");
}

#[test]
fn what_is_written_is_told_and_never_done_again() {
    let asked = record(State::Asked, &[]);
    assert_eq!(next(&asked, Part::Give, None), Step::GiveUp { most: 9 });
    let Step::Tell(given) = next(&asked, Part::Give, Some(&[share(10, 3), share(20, 1)])) else {
        panic!("it was given up before");
    };
    assert_eq!(given, record(State::Given, &[(10, 3), (20, 1)]));
    let Step::Tell(nothing) = next(&asked, Part::Give, Some(&[])) else {
        panic!("it was refused before");
    };
    assert_eq!(nothing, record(State::Given, &[]));
    assert_eq!(
        next(&given, Part::Accept, None),
        Step::Accept { units: vec![share(10, 3), share(20, 1)] }
    );
    let Step::Tell(accepted) = next(&given, Part::Accept, Some(&[share(10, 3), share(20, 1)]))
    else {
        panic!("it was accepted before");
    };
    assert_eq!(accepted, record(State::Accepted, &[(10, 3), (20, 1)]));
    let many = TransferRecord { wanted: u32::MAX, ..asked };
    assert_eq!(next(&many, Part::Give, None), Step::GiveUp { most: TRANSFER_UNITS_MAX });
}

#[test]
fn only_what_is_written_as_asked_is_followed() {
    let units = [share(10, 3)];
    let other = Outcome::Written(vec![share(10, 2)]);
    for (part, outcome, follows) in [
        (Part::Give, Outcome::Written(units.to_vec()), After::Follow),
        (Part::Give, other.clone(), After::TakeOver),
        (Part::Give, Outcome::Refused, After::Again),
        (Part::Give, Outcome::Contradicted, After::TakeOver),
        (Part::Give, Outcome::Unknown, After::TakeOver),
        (Part::Accept, Outcome::Written(units.to_vec()), After::Follow),
        (Part::Accept, other, After::TakeOver),
        (Part::Accept, Outcome::Refused, After::Again),
        (Part::Accept, Outcome::Contradicted, After::Leave),
        (Part::Accept, Outcome::Unknown, After::TakeOver),
    ] {
        assert_eq!(after(part, &units, &outcome), follows, "{part:?} {outcome:?}");
    }
}

#[test]
fn neighbours_are_one_range() {
    assert_eq!(ranges(vec![]), []);
    assert_eq!(ranges(vec![7, 5, 6, 1, 9]), [share(1, 1), share(5, 3), share(9, 1)]);
    let given = record(State::Given, &[(20, 5), (10, 10), (40, 1)]);
    assert_eq!(units(&given).unwrap(), [share(10, 15), share(40, 1)]);
}
