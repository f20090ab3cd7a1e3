//! A server that says random things of itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smtp_oauth_fuzz::discovery::check(input));
