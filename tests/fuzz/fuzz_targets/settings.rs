//! Settings with random values of random types.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smtp_oauth_fuzz::settings::check(input));
