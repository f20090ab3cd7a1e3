//! Any message to any address.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smtp_oauth_fuzz::message::check(input));
