//! A whole session with a server that says random things to messages that overlap.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smtp_oauth_fuzz::session::check_overlap(input));
