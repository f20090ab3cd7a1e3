//! A token endpoint that answers random things.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smtp_oauth_fuzz::token_endpoint::check(input));
