//! libFuzzer's entry: the target is chosen by `FUZZ_TARGET`.

#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = coracle_fuzz::TARGETS
        .iter()
        .find(|(known, _)| *known == name);
    let (_, target) = found.unwrap_or_else(|| panic!("no target is called {name:?}"));
    *target
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*TARGET)(data));
