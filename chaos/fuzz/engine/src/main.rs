//! One target under libFuzzer: the one that `FLOODGATE_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use floodgate_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FLOODGATE_TARGET").unwrap_or_default();
    floodgate_fuzz::target(&name).unwrap_or_else(|| panic!("FLOODGATE_TARGET={name} is no target"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
