//! The address a browser comes back with.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| smtp_oauth_fuzz::callback::check(input));
